//! Erasure of what is known of a device's owner, on the wire.

use serde::{Deserialize, Serialize};

use crate::text::{ProductName, Serial};

/// What an erased device is called from now on: the same however often it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Erased {
    /// The product.
    pub product: ProductName,
    /// The pseudonym that stands in the place of its serial.
    pub serial: Serial,
}
