//! Publishing signed documents: what `sluice-sign publish` sends and the server answers. Blobs go first, each by
//! `PUT /api/v1/blobs/{sha256}`; then all documents in one `POST /api/v1/publish`, which takes all or nothing and may
//! be repeated.

use serde::{Deserialize, Serialize};

use crate::Time;

/// Which of the two repositories a document belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum PublishRepository {
    /// Images and their roles.
    Image,
    /// The director, of which only roots are published.
    Director,
}

/// One signed document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PublishDocument {
    /// Its repository.
    pub repository: PublishRepository,
    /// `root`, `targets` or the name of a product role.
    pub role: String,
    /// Its version, as in the document.
    pub version: u64,
    /// The exact bytes of the file in standard base64 with padding.
    pub body: String,
}

/// Body of `POST /api/v1/publish`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PublishRequest {
    /// The documents; roots in ascending order of version.
    pub documents: Vec<PublishDocument>,
}

/// Whether something was new to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum PublishOutcome {
    /// Taken now.
    Published,
    /// Known already, byte for byte.
    Unchanged,
    /// Taken and shown to nobody until its moment.
    Held,
}

/// What became of one document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PublishedDocument {
    /// Its repository.
    pub repository: PublishRepository,
    /// Its role.
    pub role: String,
    /// Its version.
    pub version: u64,
    /// Whether it was new.
    pub outcome: PublishOutcome,
    /// The moment of a document that is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_until: Option<Time>,
}

/// What became of one release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PublishedRelease {
    /// Product line.
    pub product: String,
    /// Version text.
    pub version: String,
    /// The server's id of the release, for rollouts and queries; empty while it is held.
    pub release_id: String,
    /// Whether it was new.
    pub outcome: PublishOutcome,
}

/// Answer of `POST /api/v1/publish`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PublishResponse {
    /// Every release of the product roles in the request.
    pub releases: Vec<PublishedRelease>,
    /// Every document of the request.
    pub documents: Vec<PublishedDocument>,
}

/// A document of an embargo role that waits for its moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Held {
    /// Its role.
    pub role: String,
    /// Its version.
    pub version: i64,
    /// The product for which the role signs in advance.
    pub product: String,
    /// The moment that is signed in it: it is published then, and not before.
    pub not_before: Time,
    /// Versions of the releases in it, the oldest first.
    pub releases: Vec<String>,
    /// When it was given to the server.
    pub held_at: Time,
    /// By whom.
    pub held_by: String,
    /// Why it was not published when its moment had come. It is not tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}
