//! The server's own roles: snapshot and timestamp of the image repository, and the public keys that the offline roots
//! name for it. These keys can create no software; they only say which signed documents are current.

use crate::envelope::Envelope;
use crate::json::{Json, JsonError};
use crate::key::{KeyError, PublicKey, SigningKey};
use crate::limits::Limits;
use crate::roles::{FileMeta, SnapshotMetadata, TimestampMetadata};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// How long a snapshot lives.
pub const SNAPSHOT_LIFETIME: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How long a timestamp lives; it is signed again every hour.
pub const TIMESTAMP_LIFETIME: SignedDuration = SignedDuration::from_hours(24);
/// Bytes of an exported key list.
const MAX_ONLINE_KEYS_BYTES: u64 = 16 * 1024;

/// The server's four public keys, each for one role only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnlineKeys {
    /// S: role `snapshot` of both roots.
    pub snapshot: PublicKey,
    /// T: role `timestamp` of both roots.
    pub timestamp: PublicKey,
    /// D: role `targets` of the director root.
    pub director: PublicKey,
    /// E: entitlement certificates, in `custom.entitlement` of the director root.
    pub entitlement: PublicKey,
}

/// Why an exported key list is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OnlineKeysError {
    /// Not strict JSON.
    #[error("online keys: {0}")]
    Json(#[from] JsonError),
    /// A key is missing.
    #[error("online keys: {name} is missing")]
    Missing {
        /// The key's name.
        name: &'static str,
    },
    /// A key is malformed.
    #[error("online keys: {name}: {source}")]
    Key {
        /// The key's name.
        name: &'static str,
        /// What is wrong with it.
        source: KeyError,
    },
    /// One key under two names: a document of one role could be taken for one of the other.
    #[error("online keys: {first} and {second} are the same key; each role needs its own")]
    Shared {
        /// The first name.
        first: &'static str,
        /// The second name.
        second: &'static str,
    },
}

impl OnlineKeys {
    /// Reads the server's export: an object of four TUF key objects.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, OnlineKeysError> {
        let value = Json::parse(bytes, MAX_ONLINE_KEYS_BYTES)?;
        let key = |name: &'static str| {
            let object = value.get(name).ok_or(OnlineKeysError::Missing { name })?;
            PublicKey::from_json(object).map_err(|source| OnlineKeysError::Key { name, source })
        };
        let keys = Self {
            snapshot: key("snapshot")?,
            timestamp: key("timestamp")?,
            director: key("director")?,
            entitlement: key("entitlement")?,
        };
        keys.check_distinct()?;
        Ok(keys)
    }

    /// Refuses one key in two roles.
    pub fn check_distinct(&self) -> Result<(), OnlineKeysError> {
        let mut seen: BTreeMap<Vec<u8>, &'static str> = BTreeMap::new();
        for (second, key) in self.named() {
            if let Some(first) = seen.insert(key.material(), second) {
                return Err(OnlineKeysError::Shared { first, second });
            }
        }
        Ok(())
    }

    fn named(&self) -> [(&'static str, &PublicKey); 4] {
        [
            ("snapshot", &self.snapshot),
            ("timestamp", &self.timestamp),
            ("director", &self.director),
            ("entitlement", &self.entitlement),
        ]
    }

    /// The export.
    pub fn to_json(&self) -> Json {
        Json::object(self.named().map(|(name, key)| (name, key.to_json().clone())))
    }
}

impl serde::Serialize for OnlineKeys {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

/// Signs a snapshot over every targets document (`targets` and the delegated roles).
pub fn sign_snapshot(
    version: u64,
    expires: Timestamp,
    roles: BTreeMap<String, FileMeta>,
    repo_id: Option<String>,
    key: &SigningKey,
) -> Vec<u8> {
    sign(SnapshotMetadata { version, expires, roles, repo_id }.to_json(), key)
}

/// Signs a timestamp over a snapshot file.
pub fn sign_timestamp(
    version: u64,
    expires: Timestamp,
    snapshot: FileMeta,
    repo_id: Option<String>,
    key: &SigningKey,
) -> Vec<u8> {
    sign(TimestampMetadata { version, expires, snapshot, repo_id }.to_json(), key)
}

fn sign(signed: Json, key: &SigningKey) -> Vec<u8> {
    let mut envelope = Envelope::new(signed);
    envelope.sign(key);
    envelope.to_bytes()
}

/// Version of a document as written, for a server that continues its own counting.
pub fn snapshot_version(bytes: &[u8], limits: &Limits) -> Result<u64, crate::VerifyError> {
    let envelope = Envelope::parse("snapshot", bytes, limits.snapshot_bytes, limits)?;
    Ok(SnapshotMetadata::from_json(envelope.signed(), limits)?.version)
}
