//! What a server does when documents are published: the checks of a device, and the lints of a careful publisher.

use crate::error::VerifyError;
use crate::limits::Limits;
use crate::lint::Lint;
use crate::online::OnlineKeys;
use crate::release::ReleaseCustom;
use crate::targets::RepositoryTarget;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Documents in one publication: each costs signature checks before it can be refused.
pub const MAX_DOCUMENTS: usize = 64;

/// Which of the two repositories a document belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Repository {
    /// Images, signed offline.
    Image,
    /// Per-device answers; only its root is published.
    Director,
}

/// A document as it was uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDocument {
    /// Its repository.
    pub repository: Repository,
    /// `root`, `targets` or a delegated role.
    pub role: String,
    /// The version that the uploader says it has.
    pub version: u64,
    /// The exact bytes.
    pub bytes: Vec<u8>,
}

/// The offline documents of an installation as they stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageDocuments {
    /// Every image root from version 1 on.
    pub roots: Vec<Vec<u8>>,
    /// The top targets document.
    pub targets: Option<Vec<u8>>,
    /// The documents of the delegated roles.
    pub roles: BTreeMap<String, Vec<u8>>,
    /// Every director root from version 1 on.
    pub director_roots: Vec<Vec<u8>>,
}

/// Whether a published thing was new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Taken.
    Published,
    /// Known already, byte for byte.
    Unchanged,
}

/// One document of a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedDocument {
    /// Its repository.
    pub repository: Repository,
    /// Its role.
    pub role: String,
    /// Its version.
    pub version: u64,
    /// Whether it was new.
    pub outcome: Outcome,
}

/// One image of the documents in a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedTarget {
    /// The role that signed it.
    pub role: String,
    /// The target.
    pub target: RepositoryTarget,
    /// Its release, `None` for release notes and the like.
    pub release: Option<ReleaseCustom>,
    /// Whether it was new.
    pub outcome: Outcome,
}

/// What a publication brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// All documents as they stand afterwards.
    pub documents_after: ImageDocuments,
    /// The documents of this publication.
    pub documents: Vec<AcceptedDocument>,
    /// Every target of the delegated roles in this publication.
    pub targets: Vec<AcceptedTarget>,
}

/// Why a publication is refused. Nothing of it is taken then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// A device would refuse a document.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// A document is valid and yet a mistake.
    #[error(transparent)]
    Lint(#[from] Lint),
    /// More documents than one publication may bring.
    #[error("{count} documents are over the limit of {limit} in one publication")]
    TooManyDocuments {
        /// Documents given.
        count: usize,
        /// Documents allowed.
        limit: usize,
    },
    /// The same document twice.
    #[error("{role} version {version} is in the publication twice")]
    Twice {
        /// The role.
        role: String,
        /// The version.
        version: u64,
    },
    /// Another document of this version was published before.
    #[error("{role} version {version} was published before with different content")]
    Conflict {
        /// The role.
        role: String,
        /// The version.
        version: u64,
    },
    /// The version stated beside a document is not the one in it.
    #[error("{role}: stated version {stated}, the document has {found}")]
    StatedVersion {
        /// The role.
        role: String,
        /// The version stated.
        stated: u64,
        /// The version in the document.
        found: u64,
    },
    /// A document is needed that neither stands nor is in the publication.
    #[error("{role}: {needs} must be published first or together with it")]
    Missing {
        /// The role.
        role: String,
        /// What is missing.
        needs: String,
    },
    /// The director repository publishes roots only.
    #[error("director: role {role} is signed online and cannot be published")]
    DirectorRole {
        /// The role.
        role: String,
    },
}

/// What the server knows when it checks a publication.
#[derive(Debug, Clone, Copy)]
pub struct PublishContext<'a> {
    /// The server's own public keys, which both roots must name.
    pub online_keys: &'a OnlineKeys,
    /// The server's time.
    pub now: Timestamp,
    /// Limits on documents.
    pub limits: &'a Limits,
}

