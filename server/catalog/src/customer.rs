//! Customers: who owns devices and holds contracts. A Lens-style client calls one a tenant.

use serde::{Deserialize, Serialize};

use crate::Time;
use crate::id::CustomerId;
use crate::text::Slug;

/// A customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "sql", derive(sqlx::FromRow))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Customer {
    /// Made by the server.
    pub id: CustomerId,
    /// Unique short name.
    pub name: Slug,
    /// What people read.
    pub title: String,
    /// When it was entered.
    pub created_at: Time,
    /// The customer that it stands beneath, whose people read what is its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Slug>,
}

/// One customer acts for another: its people read, and with their role change, what is the other's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "sql", derive(sqlx::FromRow))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Partner {
    /// For whom.
    pub customer: Slug,
    /// Who acts.
    pub partner: Slug,
    /// From this moment on.
    #[cfg_attr(feature = "sql", sqlx(rename = "from_at"))]
    pub from: Time,
    /// The first moment at which it does not any more.
    #[cfg_attr(feature = "sql", sqlx(rename = "to_at"))]
    pub until: Time,
}
