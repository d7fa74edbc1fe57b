//! Why a document is refused. Every variant names the role it is about, the rule, and the value that broke it.

use crate::json::JsonError;
use crate::limits::MAX_QUOTED_BYTES;
use jiff::Timestamp;

/// A document, or a step in the chain of documents, that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The bytes are not a strict JSON document within its size limit.
    #[error("{role}: {source}")]
    Json {
        /// The role whose document it is.
        role: String,
        /// What is wrong with the bytes.
        source: JsonError,
    },
    /// A field is missing or has the wrong shape.
    #[error("{role}: field {field} must be {expected}, found {found}")]
    Field {
        /// The role whose document it is.
        role: String,
        /// The path of the field, with dots.
        field: String,
        /// What the format asks for.
        expected: &'static str,
        /// What stands there, shortened.
        found: String,
    },
    /// A list or map has more entries than its limit.
    #[error("{role}: {count} entries in {field} are over the limit of {limit}")]
    TooMany {
        /// The role whose document it is.
        role: String,
        /// The list or map.
        field: String,
        /// Entries found.
        count: usize,
        /// Entries allowed.
        limit: usize,
    },
    /// `_type` names another kind of document (role confusion).
    #[error("{role}: expected a document of type {expected:?}, found {found:?}")]
    WrongType {
        /// The role whose document was expected.
        role: String,
        /// The type that this role has.
        expected: &'static str,
        /// The type found, shortened.
        found: String,
    },
    /// A specification version other than 1.x.
    #[error("{role}: specification version {found:?} is not 1.x")]
    SpecVersion {
        /// The role.
        role: String,
        /// The version found, shortened.
        found: String,
    },
    /// Too few different keys of the role signed the document.
    #[error("{role}: {valid} of {needed} required signatures by keys of {signers}")]
    Threshold {
        /// The role whose document it is.
        role: String,
        /// Whose keys must sign, for example `root version 3`.
        signers: String,
        /// Signatures needed.
        needed: u32,
        /// Valid signatures by different keys.
        valid: u32,
    },
    /// The document's time is over (freeze attack, or a forgotten re-signing).
    #[error("{role}: expired at {expires}, now is {now}")]
    Expired {
        /// The role.
        role: String,
        /// When it ended.
        expires: Timestamp,
        /// The time given by the caller.
        now: Timestamp,
    },
    /// The version is not exactly the one announced or next in line.
    #[error("{role}: expected version {expected}, found {found}")]
    Version {
        /// The role.
        role: String,
        /// The version that must come.
        expected: u64,
        /// The version found.
        found: u64,
    },
    /// An older version than the one already trusted.
    #[error("{role}: version {found} is older than the trusted version {trusted}")]
    Rollback {
        /// The role.
        role: String,
        /// The version already trusted.
        trusted: u64,
        /// The version found.
        found: u64,
    },
    /// Two different documents with one version: somebody equivocates.
    #[error("{role}: version {version} was seen before with different content")]
    Equivocation {
        /// The role.
        role: String,
        /// The version of both.
        version: u64,
    },
    /// The length differs from the signed one (mix-and-match, truncation, endless data).
    #[error("{role}: length {found} differs from the signed length {expected}")]
    Length {
        /// The role.
        role: String,
        /// The signed length in bytes.
        expected: u64,
        /// The length found in bytes.
        found: u64,
    },
    /// The SHA-256 differs from the signed one (mix-and-match).
    #[error("{role}: SHA-256 {found} differs from the signed {expected}")]
    Hash {
        /// The role.
        role: String,
        /// The signed digest in hexadecimal.
        expected: String,
        /// The digest found in hexadecimal.
        found: String,
    },
    /// A document is used before the one that vouches for it was loaded.
    #[error("{role}: {needs} must be loaded first")]
    OutOfOrder {
        /// The role.
        role: String,
        /// The role that must come first.
        needs: String,
    },
    /// The repository does not have a document that it must have.
    #[error("{role}: the repository has no {file}")]
    Missing {
        /// The role.
        role: String,
        /// Its file.
        file: String,
    },
    /// The snapshot does not list the role.
    #[error("{role}: not listed in the snapshot")]
    NotInSnapshot {
        /// The role.
        role: String,
    },
    /// A role that an earlier snapshot listed is gone.
    #[error("snapshot: role {role} disappeared from version {version}")]
    RemovedFromSnapshot {
        /// The role that is gone.
        role: String,
        /// The version of the new snapshot.
        version: u64,
    },
    /// The parent does not delegate to this role.
    #[error("{role}: {parent} does not delegate to it")]
    NotDelegated {
        /// The role.
        role: String,
        /// The role that was said to delegate.
        parent: String,
    },
    /// The search for a target went through more roles than the limit.
    #[error("{path}: search visited more than {limit} roles")]
    SearchTooWide {
        /// The target path.
        path: String,
        /// Roles allowed.
        limit: usize,
    },
    /// More root rotations than the limit.
    #[error("root: more than {limit} rotations in a row")]
    TooManyRotations {
        /// Rotations allowed.
        limit: u32,
    },
    /// The next root is of a signing epoch that this verifier does not know. Its old holders have signed it, so it is no forgery.
    #[error(
        "root: version {version} is of signing epoch {found}, this verifier knows epochs to {known}; it goes on with the documents \
         of epoch {known} (epoch-{known}/ beside the others), which bring a release with a newer verifier; where they have ended, \
         install that release by hand"
    )]
    LaterEpoch {
        /// Its version, 0 when it states none that can be read.
        version: u64,
        /// Its epoch.
        found: u64,
        /// The newest epoch that the verifier knows.
        known: u64,
    },
    /// A root whose epoch is neither that of the root before it nor the next one.
    #[error("root: signing epoch {found} cannot follow epoch {trusted}; it stays, or rises by one")]
    EpochOrder {
        /// The epoch of the root before it.
        trusted: u64,
        /// Its epoch.
        found: u64,
    },
    /// The document belongs to another repository whose online keys are the same.
    #[error("{role}: made for repository {found:?}, this one is {expected:?}")]
    WrongRepository {
        /// The role.
        role: String,
        /// The repository of the trusted root.
        expected: String,
        /// The repository named in the document, shortened.
        found: String,
    },
    /// A director document for another device.
    #[error("director: made for device {found:?}, this is {expected:?}")]
    WrongDevice {
        /// This device.
        expected: String,
        /// The device named in the document, shortened.
        found: String,
    },
    /// The director's answer does not carry the nonce just sent: an old answer is being replayed.
    #[error("director: nonce {found:?} is not the one sent, {expected:?}")]
    WrongNonce {
        /// The nonce sent.
        expected: String,
        /// The nonce found, shortened; empty when there is none.
        found: String,
    },
    /// A certificate of another device.
    #[error("entitlement: made for a device with {field} {found:?}, this one has {expected:?}")]
    WrongHolder {
        /// What differs: `product`, `serial` or `key`.
        field: &'static str,
        /// This device's.
        expected: String,
        /// The one in the certificate, shortened.
        found: String,
    },
    /// A certificate from before the device was revoked.
    #[error("entitlement: of device epoch {found}, one of epoch {kept} is kept already: it was revoked since")]
    OldDeviceEpoch {
        /// The epoch of the certificate that is kept.
        kept: u64,
        /// The epoch found.
        found: u64,
    },
    /// A certificate of another signing epoch than the root that is trusted.
    #[error("entitlement: of signing epoch {found}, the trusted director root is of epoch {trusted}")]
    CertificateEpoch {
        /// The epoch of the trusted root.
        trusted: u64,
        /// The epoch of the certificate.
        found: u64,
    },
    /// A certificate that lives longer than any may.
    #[error("entitlement: lives {found_s} s from its issue, at most {limit_s} s are allowed")]
    CertificateLifetime {
        /// Seconds from issue to expiry.
        found_s: i64,
        /// Seconds allowed.
        limit_s: i64,
    },
    /// A director document that lives longer than its kind may.
    #[error("director: lives {found_s} s from its server time, at most {limit_s} s are allowed")]
    DirectorLifetime {
        /// Seconds from server time to expiry.
        found_s: i64,
        /// Seconds allowed.
        limit_s: i64,
    },
}

impl VerifyError {
    pub(crate) fn field(role: &str, field: impl Into<String>, expected: &'static str, found: &str) -> Self {
        Self::Field { role: role.to_owned(), field: field.into(), expected, found: quote(found) }
    }
}

/// Shortens a foreign text for a message, and shows control characters as escapes.
pub(crate) fn quote(text: &str) -> String {
    let mut short = String::new();
    for character in text.chars().flat_map(char::escape_default) {
        if short.len() + character.len_utf8() > MAX_QUOTED_BYTES {
            short.push_str("...");
            break;
        }
        short.push(character);
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_flood_or_forge_a_log_line() {
        assert_eq!(quote("plain"), "plain");
        assert_eq!(quote("a\nERROR forged"), "a\\nERROR forged");
        assert!(quote(&"x".repeat(10_000)).len() <= MAX_QUOTED_BYTES + 3);
    }
}
