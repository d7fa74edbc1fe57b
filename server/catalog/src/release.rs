//! Releases and their artifacts: what offline keys signed, as the server reads it. Nothing here can be altered by the
//! server but the moments of publication and withdrawal.

use serde::{Deserialize, Serialize};

use crate::id::{ArtifactId, ProductId, ReleaseId};
use crate::product::Channel;
use crate::text::{Component, TrainName, Version};
use crate::{Digest, TextSet, Time};

/// Why a release exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "sql", derive(sqlx::Type), sqlx(type_name = "text", rename_all = "snake_case"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ReleaseKind {
    /// Fixes a vulnerability. Never withheld for lack of cover from a device that owns or runs its train.
    Security,
    /// Fixes faults.
    Maintenance,
    /// Brings something new.
    Feature,
    /// Brings a broken device back.
    Recovery,
}

impl ReleaseKind {
    /// The stored and signed name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Security => "security",
            Self::Maintenance => "maintenance",
            Self::Feature => "feature",
            Self::Recovery => "recovery",
        }
    }
}

impl std::str::FromStr for ReleaseKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        match text {
            "security" => Ok(Self::Security),
            "maintenance" => Ok(Self::Maintenance),
            "feature" => Ok(Self::Feature),
            "recovery" => Ok(Self::Recovery),
            _ => Err(UnknownKind(text.chars().take(40).collect())),
        }
    }
}

/// A kind of release that is none of ours.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("kind `{0}`: one of security, maintenance, feature, recovery")]
pub struct UnknownKind(pub String);

/// One version of a product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "sql", derive(sqlx::FromRow))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Release {
    /// Made by the server.
    pub id: ReleaseId,
    /// The product.
    pub product_id: ProductId,
    /// As people know it.
    pub version: Version,
    /// Its place among the product's versions, fixed by the signer: greater is newer. At most 2^53 - 1.
    #[cfg_attr(feature = "sql", sqlx(rename = "ord"))]
    pub order: i64,
    /// Why it exists.
    pub kind: ReleaseKind,
    /// The train it belongs to.
    pub train: TrainName,
    /// Entitlement codes that a plan must grant, all of them. Empty: free for everyone.
    #[cfg_attr(feature = "sql", sqlx(try_from = "String"))]
    pub requires: TextSet,
    /// The least finished channel it is meant for.
    pub channel: Channel,
    /// Advisories it answers.
    #[cfg_attr(feature = "sql", sqlx(try_from = "String"))]
    pub advisories: TextSet,
    /// First line of the release notes.
    pub notes_header: String,
    /// The release notes (Markdown), at most 64 KiB.
    pub notes_body: String,
    /// When this server took it in.
    pub published_at: Time,
    /// When it was withdrawn, if it was.
    pub withdrawn_at: Option<Time>,
    /// The signing epoch of the documents that first listed it.
    pub signing_epoch: i32,
}

/// Who may have a release before others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Embargo {
    /// Codes, all of them, that a device must be covered for now to have it early. Empty: nobody has it early.
    pub codes: TextSet,
    /// From then on it is for everyone whom their contracts let have it.
    pub until: Time,
}

/// What this server says of a release, beside what offline keys signed: it can only hold back. Twice dated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ReleaseFact {
    /// It is for some before others.
    Embargo(Embargo),
    /// It is not delivered to these countries (ISO 3166-1, two capital letters).
    Blocked {
        /// The countries.
        countries: TextSet,
    },
}

impl ReleaseFact {
    /// The stored name of its kind: of each, one holds at a time.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Embargo(_) => "embargo",
            Self::Blocked { .. } => "blocked",
        }
    }
}

/// One image of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "sql", derive(sqlx::FromRow))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Artifact {
    /// Made by the server.
    pub id: ArtifactId,
    /// The release.
    pub release_id: ReleaseId,
    /// The part of the device it is for.
    pub component: Component,
    /// Hardware it runs on.
    #[cfg_attr(feature = "sql", sqlx(try_from = "String"))]
    pub hw_ids: TextSet,
    /// Codes that it requires besides those of the release, such as an add-on's.
    #[serde(default)]
    #[cfg_attr(feature = "sql", sqlx(try_from = "String"))]
    pub requires: TextSet,
    /// The TUF target path.
    pub path: String,
    /// SHA-256 of the raw, uncompressed image.
    #[cfg_attr(feature = "sql", sqlx(try_from = "Vec<u8>"))]
    pub sha256: Digest,
    /// Its length, bytes.
    pub length: i64,
    /// Never lowered on a device: an image with a smaller counter than the running one is refused by every agent.
    pub security_counter: i64,
    /// The oldest version it may be installed from.
    pub min_installed: Option<Version>,
    /// The order of that version.
    #[cfg_attr(feature = "sql", sqlx(rename = "min_installed_ord"))]
    pub min_installed_order: Option<i64>,
}
