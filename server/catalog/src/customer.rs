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
}
