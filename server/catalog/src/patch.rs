//! Patches and full encodings: ways to carry an image, never images themselves.

use serde::{Deserialize, Serialize};

use crate::device::DecoderProfile;
use crate::id::PatchId;
use crate::{Digest, Time};

/// What became of the patch between two images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "sql", derive(sqlx::Type), sqlx(type_name = "text", rename_all = "snake_case"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum PatchState {
    /// Built, applied once here with the right result, and worth its bytes.
    Ready,
    /// Built, but too near the size of the compressed full image to be offered.
    NotWorth,
    /// Withdrawn after it gave wrong images in the field.
    Quarantined,
}

impl PatchState {
    /// The stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::NotWorth => "not_worth",
            Self::Quarantined => "quarantined",
        }
    }
}

/// A patch from one image to another in the native container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "sql", derive(sqlx::FromRow))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Patch {
    /// Made by the server.
    pub id: PatchId,
    /// Digest of the image it starts from.
    #[cfg_attr(feature = "sql", sqlx(try_from = "Vec<u8>"))]
    pub from_sha256: Digest,
    /// Digest of the image it makes.
    #[cfg_attr(feature = "sql", sqlx(try_from = "Vec<u8>"))]
    pub to_sha256: Digest,
    /// What a device must be able to decode.
    pub profile: DecoderProfile,
    /// What became of it.
    pub state: PatchState,
    /// Digest of the patch itself, which names its blob.
    #[cfg_attr(feature = "sql", sqlx(try_from = "Vec<u8>"))]
    pub sha256: Digest,
    /// Length of the patch, bytes.
    pub length: i64,
    /// Length of header and segment table, bytes.
    pub head_length: i64,
    /// Digest of header and segment table: what the director signs, so that each segment is authenticated before it is
    /// decoded.
    #[cfg_attr(feature = "sql", sqlx(try_from = "Vec<u8>"))]
    pub head_sha256: Digest,
    /// Memory one applying thread needs, bytes.
    pub ram: i64,
    /// Scratch space, bytes.
    pub scratch: i64,
    /// When it was built.
    pub created_at: Time,
}

/// How a full image travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "sql", derive(sqlx::Type), sqlx(type_name = "text", rename_all = "snake_case"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum FullEncoding {
    /// As it is.
    Raw,
    /// One Zstandard frame (RFC 8878), window at most 8 MiB.
    Zstd,
}

impl FullEncoding {
    /// The stored and signed name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Zstd => "zstd",
        }
    }
}

/// A full encoding of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "sql", derive(sqlx::FromRow))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Full {
    /// Digest of the image.
    #[cfg_attr(feature = "sql", sqlx(try_from = "Vec<u8>"))]
    pub of_sha256: Digest,
    /// How it is encoded.
    pub encoding: FullEncoding,
    /// Digest of the encoded bytes, which names their blob.
    #[cfg_attr(feature = "sql", sqlx(try_from = "Vec<u8>"))]
    pub sha256: Digest,
    /// Their length, bytes.
    pub length: i64,
}
