//! The server's own roles: snapshot and timestamp of the image repository, and the public keys that the offline roots
//! name for it. These keys can create no software; they only say which signed documents are current.

use crate::envelope::Envelope;
use crate::error::VerifyError;
use crate::json::{Json, JsonError};
use crate::key::{KeyError, PublicKey, SigningKey};
use crate::limits::Limits;
use crate::publish::Repository;
use crate::roles::{FileMeta, SnapshotMetadata, TimestampMetadata};
use crate::root::{RoleKeys, RootMetadata};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// How long a snapshot lives.
pub const SNAPSHOT_LIFETIME: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How long a timestamp lives; it is signed again every hour.
pub const TIMESTAMP_LIFETIME: SignedDuration = SignedDuration::from_hours(24);
/// Bytes of an exported key list.
const MAX_ONLINE_KEYS_BYTES: u64 = 16 * 1024;

/// What one of the server's keys is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OnlineRole {
    /// S: role `snapshot` of both roots.
    Snapshot,
    /// T: role `timestamp` of both roots.
    Timestamp,
    /// D: role `targets` of the director root.
    Director,
    /// E: entitlement certificates, in `custom.entitlement` of the director root.
    Entitlement,
}

impl OnlineRole {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Snapshot, Self::Timestamp, Self::Director, Self::Entitlement];

    /// Its name in key lists and file names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
            Self::Director => "director",
            Self::Entitlement => "entitlement",
        }
    }

    /// The repository whose root decides which key it is. The director root names S and T, too, but nothing of the director
    /// is signed with them.
    pub const fn repository(self) -> Repository {
        match self {
            Self::Snapshot | Self::Timestamp => Repository::Image,
            Self::Director | Self::Entitlement => Repository::Director,
        }
    }

    /// The role in a root of one of the repositories; `None` where that root does not name it.
    pub fn in_root(self, root: &RootMetadata, repository: Repository) -> Option<&RoleKeys> {
        match (self, repository) {
            (Self::Snapshot | Self::Timestamp, _) => root.roles.get(self.name()),
            (Self::Director, Repository::Director) => root.roles.get("targets"),
            (Self::Entitlement, Repository::Director) => root.entitlement.as_ref(),
            (Self::Director | Self::Entitlement, Repository::Image) => None,
        }
    }
}

impl std::str::FromStr for OnlineRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|role| role.name() == text);
        known.ok_or_else(|| "one of snapshot, timestamp, director, entitlement".to_owned())
    }
}

/// Which online keys the published roots name: from this, and from nothing else, follows which key signs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NamedKeys {
    /// Key ids that the newest roots name.
    pub now: BTreeMap<OnlineRole, String>,
    /// Key ids that any root named for an online role. Those that are not named now are never used again.
    pub ever: BTreeSet<String>,
    /// The epoch of the newest image root; 0 when there is none.
    pub epoch: u64,
    /// What the last roots of earlier epochs name: the keys that go on signing for devices of that epoch.
    pub branches: BTreeMap<u64, BranchKeys>,
}

/// The online keys of an epoch that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchKeys {
    /// Key ids that its last roots name.
    pub keys: BTreeMap<OnlineRole, String>,
    /// When the first of its last two roots expires: from then on no device takes anything of it.
    pub until: Timestamp,
}

impl NamedKeys {
    /// Reads the chains of roots, each from the first on.
    pub fn of(image: &[Vec<u8>], director: &[Vec<u8>], limits: &Limits) -> Result<Self, VerifyError> {
        let mut named = Self::default();
        for (repository, chain) in [(Repository::Image, image), (Repository::Director, director)] {
            let mut before: Option<RootMetadata> = None;
            for bytes in chain {
                let envelope = Envelope::parse("root", bytes, limits.root_bytes, limits)?;
                let root = RootMetadata::from_json(envelope.signed(), limits)?;
                if let Some(last) = before.filter(|last| last.epoch < root.epoch) {
                    named.end_epoch(repository, &last);
                }
                if repository == Repository::Image {
                    named.epoch = root.epoch;
                }
                // What the director root says of S and T decides nothing: it may be published before the image root.
                for role in OnlineRole::ALL.into_iter().filter(|role| role.repository() == repository) {
                    let keyids = role.in_root(&root, repository).map(|role| &role.keyids);
                    named.ever.extend(keyids.into_iter().flatten().cloned());
                    if let Some(keyid) = keyids.and_then(|keyids| keyids.first()) {
                        named.now.insert(role, keyid.clone());
                    }
                }
                before = Some(root);
            }
        }
        Ok(named)
    }

    fn end_epoch(&mut self, repository: Repository, last: &RootMetadata) {
        let branch = self
            .branches
            .entry(last.epoch)
            .or_insert_with(|| BranchKeys { keys: BTreeMap::new(), until: last.expires });
        branch.until = branch.until.min(last.expires);
        for role in OnlineRole::ALL.into_iter().filter(|role| role.repository() == repository) {
            let keyid = role.in_root(last, repository).and_then(|role| role.keyids.first());
            branch.keys.extend(keyid.map(|keyid| (role, keyid.clone())));
        }
    }

    /// The keys that sign for devices of an epoch: those of its branch, or for the newest epoch those that are named now. `None`
    /// when the epoch is over.
    pub fn of_epoch(&self, epoch: u64) -> Option<Self> {
        if epoch >= self.epoch {
            return Some(self.clone());
        }
        let now = self.branches.get(&epoch)?.keys.clone();
        Some(Self { now, ever: self.ever.clone(), epoch, branches: BTreeMap::new() })
    }

    /// Lets go of branches that no device takes any more.
    pub fn end_branches(&mut self, now: Timestamp) {
        self.branches.retain(|_, branch| now < branch.until);
    }

    /// Whether a key had its time: roots named it, and neither the newest do nor the last ones of an earlier epoch.
    pub fn is_retired(&self, keyid: &str) -> bool {
        let branches = self.branches.values().flat_map(|branch| branch.keys.values());
        self.ever.contains(keyid) && !self.now.values().chain(branches).any(|now| now == keyid)
    }
}

/// The server's four public keys, each for one role only, and those that will follow them.
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
    /// Keys that the next roots may name instead; the server signs with one as soon as a published root names it.
    pub next: BTreeMap<OnlineRole, PublicKey>,
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
    /// Reads the server's export: an object of four TUF key objects, and of successors in `next`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, OnlineKeysError> {
        let value = Json::parse(bytes, MAX_ONLINE_KEYS_BYTES)?;
        let key = |role: OnlineRole| {
            let name = role.name();
            let object = value.get(name).ok_or(OnlineKeysError::Missing { name })?;
            PublicKey::from_json(object).map_err(|source| OnlineKeysError::Key { name, source })
        };
        let mut next = BTreeMap::new();
        if let Some(list) = value.get("next") {
            for role in OnlineRole::ALL {
                let Some(object) = list.get(role.name()) else { continue };
                let key = PublicKey::from_json(object)
                    .map_err(|source| OnlineKeysError::Key { name: role.name(), source })?;
                next.insert(role, key);
            }
        }
        let keys = Self {
            snapshot: key(OnlineRole::Snapshot)?,
            timestamp: key(OnlineRole::Timestamp)?,
            director: key(OnlineRole::Director)?,
            entitlement: key(OnlineRole::Entitlement)?,
            next,
        };
        keys.check_distinct()?;
        Ok(keys)
    }

    /// Refuses one key in two roles, or as its own successor.
    pub fn check_distinct(&self) -> Result<(), OnlineKeysError> {
        let mut seen: BTreeMap<Vec<u8>, &'static str> = BTreeMap::new();
        let current = OnlineRole::ALL.map(|role| (role, self.current(role)));
        for (role, key) in current.into_iter().chain(self.next.iter().map(|(role, key)| (*role, key))) {
            if let Some(first) = seen.insert(key.material(), role.name()) {
                return Err(OnlineKeysError::Shared { first, second: role.name() });
            }
        }
        Ok(())
    }

    /// The key with which the server signs now.
    pub const fn current(&self, role: OnlineRole) -> &PublicKey {
        match role {
            OnlineRole::Snapshot => &self.snapshot,
            OnlineRole::Timestamp => &self.timestamp,
            OnlineRole::Director => &self.director,
            OnlineRole::Entitlement => &self.entitlement,
        }
    }

    /// The key that the next root should name: the successor, when there is one.
    pub fn wanted(&self, role: OnlineRole) -> &PublicKey {
        self.next.get(&role).unwrap_or_else(|| self.current(role))
    }

    /// The keys that a root may name.
    pub fn allowed(&self, role: OnlineRole) -> impl Iterator<Item = &PublicKey> {
        std::iter::once(self.current(role)).chain(self.next.get(&role))
    }

    /// The export. Readers that know no successors read the four.
    pub fn to_json(&self) -> Json {
        let one = |(role, key): (OnlineRole, &PublicKey)| (role.name().to_owned(), key.to_json().clone());
        let mut members: BTreeMap<String, Json> =
            OnlineRole::ALL.into_iter().map(|role| one((role, self.current(role)))).collect();
        if !self.next.is_empty() {
            let next = self.next.iter().map(|(role, key)| one((*role, key)));
            members.insert("next".to_owned(), Json::Object(next.collect()));
        }
        Json::Object(members)
    }
}

impl serde::Serialize for OnlineKeys {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

/// A snapshot over every targets document (`targets` and the delegated roles), to be signed.
pub fn snapshot(
    version: u64,
    expires: Timestamp,
    roles: BTreeMap<String, FileMeta>,
    repo_id: Option<String>,
) -> Envelope {
    Envelope::new(SnapshotMetadata { version, expires, roles, repo_id }.to_json())
}

/// A timestamp over a snapshot file, to be signed.
pub fn timestamp(version: u64, expires: Timestamp, snapshot: FileMeta, repo_id: Option<String>) -> Envelope {
    Envelope::new(TimestampMetadata { version, expires, snapshot, repo_id }.to_json())
}

/// Signs a [`snapshot`].
pub fn sign_snapshot(
    version: u64,
    expires: Timestamp,
    roles: BTreeMap<String, FileMeta>,
    repo_id: Option<String>,
    key: &SigningKey,
) -> Vec<u8> {
    snapshot(version, expires, roles, repo_id).signed_by(key)
}

/// Signs a [`timestamp`].
pub fn sign_timestamp(
    version: u64,
    expires: Timestamp,
    snapshot: FileMeta,
    repo_id: Option<String>,
    key: &SigningKey,
) -> Vec<u8> {
    timestamp(version, expires, snapshot, repo_id).signed_by(key)
}

/// Version of a document as written, for a server that continues its own counting.
pub fn snapshot_version(bytes: &[u8], limits: &Limits) -> Result<u64, crate::VerifyError> {
    let envelope = Envelope::parse("snapshot", bytes, limits.snapshot_bytes, limits)?;
    Ok(SnapshotMetadata::from_json(envelope.signed(), limits)?.version)
}
