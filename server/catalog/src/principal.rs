//! Principals: named people and machines that administer. Devices are none; they have identities of their own.

use serde::{Deserialize, Serialize};

use crate::id::{CustomerId, PrincipalId, TokenId};
use crate::text::Slug;
use crate::{TextSet, Time};

/// A person or a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "sql", derive(sqlx::Type), sqlx(type_name = "text", rename_all = "snake_case"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum PrincipalKind {
    /// Someone who can be asked.
    Person,
    /// A pipeline or an integration.
    Machine,
}

impl PrincipalKind {
    /// The stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Machine => "machine",
        }
    }
}

/// One thing a principal may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Permission {
    /// Read everything but secrets.
    Read,
    /// Upload blobs and publish signed metadata; withdraw releases.
    Publish,
    /// Enter and change products.
    Products,
    /// Register, accept, block and retire devices; make enrolment tokens.
    Devices,
    /// Enter and change customers, plans and contracts.
    Contracts,
    /// Make and move rollouts.
    Rollouts,
    /// Make principals and tokens.
    Principals,
    /// See what is held until its moment, and drop it.
    Embargo,
}

impl Permission {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Read,
        Self::Publish,
        Self::Products,
        Self::Devices,
        Self::Contracts,
        Self::Rollouts,
        Self::Principals,
        Self::Embargo,
    ];

    /// The stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Publish => "publish",
            Self::Products => "products",
            Self::Devices => "devices",
            Self::Contracts => "contracts",
            Self::Rollouts => "rollouts",
            Self::Principals => "principals",
            Self::Embargo => "embargo",
        }
    }
}

impl std::str::FromStr for Permission {
    type Err = UnknownPermission;

    fn from_str(text: &str) -> Result<Self, UnknownPermission> {
        Self::ALL
            .into_iter()
            .find(|permission| permission.as_str() == text)
            .ok_or_else(|| UnknownPermission(text.chars().take(40).collect()))
    }
}

/// A permission name that is none of ours.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("permission `{0}`: one of read, publish, products, devices, contracts, rollouts, principals, embargo")]
pub struct UnknownPermission(pub String);

/// What a principal is for. Its permissions follow; a token may hold fewer, never more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "sql", derive(sqlx::Type), sqlx(type_name = "text", rename_all = "snake_case"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Role {
    /// Everything.
    Administrator,
    /// Publishes.
    ReleaseEngineer,
    /// Stages rollouts.
    RolloutAdmin,
    /// Contracts and devices.
    Support,
    /// Reads.
    Auditor,
}

impl Role {
    /// The stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Administrator => "administrator",
            Self::ReleaseEngineer => "release_engineer",
            Self::RolloutAdmin => "rollout_admin",
            Self::Support => "support",
            Self::Auditor => "auditor",
        }
    }

    /// Whether the role includes a permission.
    pub const fn grants(self, permission: Permission) -> bool {
        match self {
            Self::Administrator => true,
            Self::ReleaseEngineer => matches!(permission, Permission::Read | Permission::Publish),
            Self::RolloutAdmin => matches!(permission, Permission::Read | Permission::Rollouts),
            Self::Support => matches!(permission, Permission::Read | Permission::Devices | Permission::Contracts),
            Self::Auditor => matches!(permission, Permission::Read),
        }
    }
}

/// A named person or machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "sql", derive(sqlx::FromRow))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Principal {
    /// Made by the server.
    pub id: PrincipalId,
    /// Unique; what the audit log shows.
    pub name: Slug,
    /// Person or machine.
    pub kind: PrincipalKind,
    /// What it is for.
    pub role: Role,
    /// Binds it to one customer: it reads that customer's things and those within its reach, and is refused everything else.
    pub customer_id: Option<CustomerId>,
    /// That customer's name.
    #[serde(default)]
    pub customer: Option<Slug>,
    /// When it was made.
    pub created_at: Time,
    /// When it was disabled: every token of it is dead.
    pub disabled_at: Option<Time>,
}

/// A bearer token. The secret is shown once; only its SHA-256 is stored (the secret has 256 random bits, so a slow
/// hash would protect nothing and cost every request).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "sql", derive(sqlx::FromRow))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Token {
    /// Made by the server.
    pub id: TokenId,
    /// Whose it is.
    pub principal_id: PrincipalId,
    /// What people call it.
    pub label: String,
    /// Permissions it is limited to, by name; empty: all of its principal's role.
    #[cfg_attr(feature = "sql", sqlx(try_from = "String"))]
    pub scopes: TextSet,
    /// When it was made.
    pub created_at: Time,
    /// When it ends.
    pub expires_at: Option<Time>,
    /// When it was revoked.
    pub revoked_at: Option<Time>,
}
