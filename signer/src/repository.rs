//! The trusted set of image repository documents that a device (and the server on ingest) keeps: TUF specification,
//! section 5, without IO. The caller fetches what [`TrustedRepository::wanted_snapshot`], [`Lookup::NeedsRole`] and
//! their like ask for, and hands in the bytes.
//!
//! [`Refresh`](crate::refresh::Refresh) gives the order in which they are asked for. A document that is refused changes
//! nothing.

use crate::error::VerifyError;
use crate::legacy::Spelling;
use crate::limits::Limits;
use crate::path::quoted;
use crate::roles::{FileMeta, SnapshotMetadata, TimestampMetadata};
use crate::root::{RootChain, RootMetadata, RootUpdate, TOP_LEVEL_ROLES, check_expiry};
use crate::targets::{RepositoryTarget, TargetsMetadata};
use documents::{Loaded, LoadedRole};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

mod documents;
mod products;

pub(crate) use documents::read_targets;

/// The documents of a trusted set as they were fetched, for keeping across restarts. Rollback checks survive because
/// the versions are in them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RepositoryState {
    /// The newest root.
    pub root: String,
    /// The newest timestamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    /// The newest snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// Targets documents by role.
    #[serde(default)]
    pub roles: BTreeMap<String, RoleState>,
}

/// A kept targets document and the role that delegated to it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RoleState {
    /// `root` for the top targets document.
    pub parent: String,
    /// The document.
    pub document: String,
}

/// A document that the caller should fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// File name under the metadata URL, for example `7.snapshot.json`.
    pub file: String,
    /// Its version.
    pub version: u64,
    /// Bytes to read at most.
    pub limit: u64,
}

/// A target with the role that signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The role whose document lists the target.
    pub role: String,
    /// The target.
    pub target: RepositoryTarget,
    /// The product for which the role signs in advance, when the top targets document makes it an embargo role.
    pub embargo_of: Option<String>,
}

/// Where the search for a target stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Found, and everything that vouches for it is loaded and in date.
    Found(Box<Found>),
    /// This role's document must be fetched and given to [`TrustedRepository::update_targets`]; then search again.
    NeedsRole {
        /// The role.
        role: String,
        /// The role that delegates to it.
        parent: String,
        /// The document.
        wanted: Wanted,
    },
    /// No role that may speak for the path lists it.
    NotFound,
}

/// The trusted documents of one image repository.
#[derive(Debug, Clone)]
pub struct TrustedRepository {
    limits: Limits,
    chain: RootChain,
    timestamp: Option<Loaded<TimestampMetadata>>,
    snapshot: Option<Loaded<SnapshotMetadata>>,
    roles: BTreeMap<String, LoadedRole>,
}

impl TrustedRepository {
    /// Starts from a root that is trusted because it was provisioned.
    pub fn from_root(bytes: &[u8], limits: &Limits) -> Result<Self, VerifyError> {
        Self::start(bytes, Spelling::Tuf, limits)
    }

    pub(crate) fn start(bytes: &[u8], spelling: Spelling, limits: &Limits) -> Result<Self, VerifyError> {
        Ok(Self {
            limits: limits.clone(),
            chain: RootChain::start_as(spelling, bytes, limits)?,
            timestamp: None,
            snapshot: None,
            roles: BTreeMap::new(),
        })
    }

    /// Reloads a kept state. Signatures are checked again, expiry is not: an expired timestamp still guards against
    /// rollback, and every use checks expiry.
    pub fn from_state(state: &RepositoryState, limits: &Limits) -> Result<Self, VerifyError> {
        let mut repository = Self::from_root(state.root.as_bytes(), limits)?;
        if let Some(bytes) = &state.timestamp {
            repository.timestamp = Some(repository.read_timestamp(bytes.as_bytes())?);
        }
        if let Some(bytes) = &state.snapshot {
            repository.snapshot = Some(repository.read_snapshot(bytes.as_bytes())?);
        }
        // Parents first; a role whose parent is not kept is of no use.
        let mut parents = vec!["root".to_owned()];
        while let Some(parent) = parents.pop() {
            for (role, kept) in state.roles.iter().filter(|(_, kept)| kept.parent == parent) {
                if !repository.roles.contains_key(role) {
                    let loaded = repository.read_role(role, &parent, kept.document.as_bytes())?;
                    repository.roles.insert(role.clone(), loaded);
                    parents.push(role.clone());
                }
            }
        }
        Ok(repository)
    }

    /// Takes a document that was kept in a file of its own: timestamp, snapshot, or `targets` of parent `root`. Its signatures
    /// are checked, its expiry is not, as in [`from_state`](Self::from_state).
    pub fn restore(&mut self, role: &str, bytes: &[u8]) -> Result<(), VerifyError> {
        match role {
            "timestamp" => self.timestamp = Some(self.read_timestamp(bytes)?),
            "snapshot" => self.snapshot = Some(self.read_snapshot(bytes)?),
            _ => drop(self.roles.insert(role.to_owned(), self.read_role(role, "root", bytes)?)),
        }
        Ok(())
    }

    /// The documents to keep.
    pub fn state(&self) -> RepositoryState {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        RepositoryState {
            root: text(&self.chain.bytes),
            timestamp: self.timestamp.as_ref().map(|loaded| text(&loaded.bytes)),
            snapshot: self.snapshot.as_ref().map(|loaded| text(&loaded.bytes)),
            roles: self
                .roles
                .iter()
                .map(|(role, loaded)| {
                    (role.clone(), RoleState { parent: loaded.parent.clone(), document: text(&loaded.bytes) })
                })
                .collect(),
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The trusted root.
    pub fn root(&self) -> &RootMetadata {
        &self.chain.root
    }

    /// Bytes of the trusted root.
    pub fn root_bytes(&self) -> &[u8] {
        &self.chain.bytes
    }

    /// Version of the trusted root; fetch `{version + 1}.root.json` next.
    pub fn root_version(&self) -> u64 {
        self.chain.root.version
    }

    /// Version of the trusted timestamp.
    pub fn timestamp_version(&self) -> Option<u64> {
        self.timestamp.as_ref().map(|loaded| loaded.metadata.version)
    }

    /// Version of the trusted snapshot.
    pub fn snapshot_version(&self) -> Option<u64> {
        self.snapshot.as_ref().map(|loaded| loaded.metadata.version)
    }

    /// The loaded document of a targets role, if any. It may be out of date; only [`target`](Self::target) says what
    /// is current.
    pub fn targets(&self, role: &str) -> Option<&TargetsMetadata> {
        self.roles.get(role).map(|loaded| &loaded.metadata)
    }

    /// Takes the next root. When the keys of timestamp or snapshot change, both documents are forgotten: that is the
    /// way back after a stolen online key signed a version far ahead.
    pub fn update_root(&mut self, bytes: &[u8]) -> Result<RootUpdate, VerifyError> {
        let update = self.chain.advance(bytes, &self.limits)?;
        if update.rotated.contains("timestamp") || update.rotated.contains("snapshot") {
            self.timestamp = None;
            self.snapshot = None;
        }
        if update.rotated.contains("targets") {
            self.roles.clear();
        }
        Ok(update)
    }

    /// From now on roots are taken to this epoch and no further. An image that has not proven itself goes no further than the one
    /// before it can follow.
    pub fn set_newest_epoch(&mut self, epoch: u64) {
        self.limits.newest_epoch = epoch;
    }

    /// Refuses an expired root. Call it after the last [`update_root`](Self::update_root): roots on the way there may
    /// have expired long ago.
    pub fn check_root_expiry(&self, now: Timestamp) -> Result<(), VerifyError> {
        self.chain.check_expiry(now)
    }

    /// Takes a timestamp. The same document again is fine; an older version is not, nor another of the same version.
    pub fn update_timestamp(&mut self, bytes: &[u8], now: Timestamp) -> Result<(), VerifyError> {
        self.chain.check_expiry(now)?;
        let new = self.read_timestamp(bytes)?;
        let role = || "timestamp".to_owned();
        if let Some(old) = &self.timestamp {
            let (trusted, found) = (old.metadata.version, new.metadata.version);
            if found < trusted {
                return Err(VerifyError::Rollback { role: role(), trusted, found });
            }
            if found == trusted && old.signed != new.signed && self.chain.spelling == Spelling::Tuf {
                return Err(VerifyError::Equivocation { role: role(), version: found });
            }
            let (trusted, found) = (old.metadata.snapshot.version, new.metadata.snapshot.version);
            if found < trusted {
                return Err(VerifyError::Rollback { role: "snapshot".to_owned(), trusted, found });
            }
        }
        check_expiry("timestamp", new.metadata.expires, now)?;
        self.timestamp = Some(new);
        Ok(())
    }

    /// The snapshot to fetch, when the trusted timestamp names another one than is loaded.
    pub fn wanted_snapshot(&self) -> Option<Wanted> {
        let meta = &self.timestamp.as_ref()?.metadata.snapshot;
        let current = self.snapshot.as_ref().is_some_and(|loaded| meta.names(&loaded.forms));
        (!current).then(|| self.wanted("snapshot", meta, self.limits.snapshot_bytes))
    }

    /// Takes the snapshot that the trusted timestamp names.
    pub fn update_snapshot(&mut self, bytes: &[u8], now: Timestamp) -> Result<(), VerifyError> {
        let meta = self.current_timestamp(now)?.snapshot.clone();
        meta.check_file("snapshot", &self.forms(meta.version, bytes))?;
        let new = self.read_snapshot(bytes)?;
        meta.check_version("snapshot", new.metadata.version)?;
        if let Some(old) = &self.snapshot {
            check_no_rollback(&old.metadata, &new.metadata)?;
        }
        check_expiry("snapshot", new.metadata.expires, now)?;
        self.snapshot = Some(new);
        Ok(())
    }

    /// The document of a targets role to fetch, when the trusted snapshot names another one than is loaded.
    pub fn wanted_role(&self, role: &str) -> Option<Wanted> {
        let meta = self.snapshot.as_ref()?.metadata.roles.get(role)?;
        // In the old spelling a version alone does not tell which of its documents it is.
        let telling = self.chain.spelling == Spelling::Tuf || meta.sha256.is_some();
        let current = telling && self.roles.get(role).is_some_and(|loaded| meta.names(&loaded.forms));
        (!current).then(|| self.wanted(role, meta, self.limits.targets_bytes))
    }

    /// Takes the document of a targets role: `targets` with parent `root`, or a delegated role with its parent.
    pub fn update_targets(
        &mut self,
        role: &str,
        parent: &str,
        bytes: &[u8],
        now: Timestamp,
    ) -> Result<(), VerifyError> {
        let snapshot = self.current_snapshot(now)?;
        let Some(meta) = snapshot.roles.get(role).cloned() else {
            return Err(VerifyError::NotInSnapshot { role: role.to_owned() });
        };
        meta.check_file(role, &self.forms(meta.version, bytes))?;
        let new = self.read_role(role, parent, bytes)?;
        meta.check_version(role, new.metadata.version)?;
        check_expiry(role, new.metadata.expires, now)?;
        self.roles.insert(role.to_owned(), new);
        self.forget_undelegated(role);
        Ok(())
    }

    /// Takes top targets that no snapshot vouches for: a director may have root and targets only. Their version must not go
    /// down, and one version has one content.
    pub fn update_lone_targets(&mut self, bytes: &[u8], now: Timestamp) -> Result<(), VerifyError> {
        self.chain.check_expiry(now)?;
        let new = self.read_role("targets", "root", bytes)?;
        if let Some(old) = self.roles.get("targets") {
            let (trusted, found) = (old.metadata.version, new.metadata.version);
            if found < trusted {
                return Err(VerifyError::Rollback { role: "targets".to_owned(), trusted, found });
            }
            let differs = old.envelope.signed() != new.envelope.signed();
            if found == trusted && differs && self.chain.spelling == Spelling::Tuf {
                return Err(VerifyError::Equivocation { role: "targets".to_owned(), version: found });
            }
        }
        check_expiry("targets", new.metadata.expires, now)?;
        self.roles.insert("targets".to_owned(), new);
        self.forget_undelegated("targets");
        Ok(())
    }

    /// Refuses a trusted set of which something is missing or out of date: a refresh that ends here has succeeded.
    pub fn check_current(&self, now: Timestamp) -> Result<(), VerifyError> {
        self.current_snapshot(now)?;
        match self.current_role("targets") {
            Some(loaded) => check_expiry("targets", loaded.metadata.expires, now),
            None => Err(VerifyError::OutOfOrder { role: "targets".to_owned(), needs: "snapshot".to_owned() }),
        }
    }

    /// After a delegating document changed, its children must be signed by the keys that it names now.
    fn forget_undelegated(&mut self, parent: &str) {
        let children: Vec<String> =
            self.roles.iter().filter(|(_, loaded)| loaded.parent == parent).map(|(role, _)| role.clone()).collect();
        for child in children {
            let holds = match (self.signers(&child, parent), self.roles.get(&child)) {
                (Ok((keys, role_keys)), Some(loaded)) => {
                    loaded.envelope.verify_threshold(&child, parent, keys, role_keys).is_ok()
                }
                _ => false,
            };
            if !holds {
                self.roles.remove(&child);
            }
        }
    }

    /// Searches a target: roles in the order of delegation, first match wins, a terminating delegation ends the
    /// search. Everything on the way is checked to be current and in date.
    pub fn target(&self, path: &str, now: Timestamp) -> Result<Lookup, VerifyError> {
        let snapshot = self.current_snapshot(now)?;
        let mut visited = BTreeSet::new();
        let mut to_visit = vec![("targets", "root")];
        while let Some((role, parent)) = to_visit.pop() {
            if !visited.insert(role) {
                continue;
            }
            if visited.len() > self.limits.visited_roles {
                return Err(VerifyError::SearchTooWide { path: path.to_owned(), limit: self.limits.visited_roles });
            }
            // A delegated role that is not published yet (an embargo) is not in the snapshot and says nothing.
            let Some(meta) = snapshot.roles.get(role) else { continue };
            let Some(loaded) = self.current_role(role) else {
                return Ok(Lookup::NeedsRole {
                    role: role.to_owned(),
                    parent: parent.to_owned(),
                    wanted: self.wanted(role, meta, self.limits.targets_bytes),
                });
            };
            // Every role that delegates says for itself whose signatures it wants.
            if loaded.parent != parent {
                let (keys, role_keys) = self.signers(role, parent)?;
                loaded.envelope.verify_threshold(role, parent, keys, role_keys)?;
            }
            check_expiry(role, loaded.metadata.expires, now)?;
            if let Some(target) = loaded.metadata.targets.get(path) {
                let embargo_of = self.embargo_of(role, parent).map(str::to_owned);
                let found = Found { role: role.to_owned(), target: target.clone(), embargo_of };
                return Ok(Lookup::Found(Box::new(found)));
            }
            let mut children = Vec::new();
            for delegation in loaded.metadata.delegations.iter().filter(|delegation| delegation.covers(path)) {
                children.push((delegation.name.as_str(), role));
                if delegation.terminating {
                    to_visit.clear();
                    break;
                }
            }
            to_visit.extend(children.into_iter().rev());
        }
        Ok(Lookup::NotFound)
    }

    fn wanted(&self, role: &str, meta: &FileMeta, limit: u64) -> Wanted {
        let name = quoted(role);
        let legacy = self.chain.spelling == Spelling::Legacy;
        Wanted {
            file: if self.chain.root.consistent_snapshot {
                format!("{}.{name}.json", meta.version)
            } else if legacy && !TOP_LEVEL_ROLES.contains(&role) {
                format!("delegations/{name}.json")
            } else {
                format!("{name}.json")
            },
            version: meta.version,
            // The old spelling may mean the length of another form than the file's.
            limit: meta.length.filter(|_| !legacy).map_or(limit, |length| length.min(limit)),
        }
    }

    fn current_timestamp(&self, now: Timestamp) -> Result<&TimestampMetadata, VerifyError> {
        self.chain.check_expiry(now)?;
        let Some(timestamp) = &self.timestamp else {
            return Err(VerifyError::OutOfOrder { role: "snapshot".to_owned(), needs: "timestamp".to_owned() });
        };
        check_expiry("timestamp", timestamp.metadata.expires, now)?;
        Ok(&timestamp.metadata)
    }

    fn current_snapshot(&self, now: Timestamp) -> Result<&SnapshotMetadata, VerifyError> {
        let meta = &self.current_timestamp(now)?.snapshot;
        match &self.snapshot {
            Some(loaded) if meta.names(&loaded.forms) => {
                check_expiry("snapshot", loaded.metadata.expires, now)?;
                Ok(&loaded.metadata)
            }
            _ => Err(VerifyError::OutOfOrder { role: "targets".to_owned(), needs: "snapshot".to_owned() }),
        }
    }

    /// The loaded document of a role, if it is the one that the snapshot names.
    fn current_role(&self, role: &str) -> Option<&LoadedRole> {
        let meta = self.snapshot.as_ref()?.metadata.roles.get(role)?;
        self.roles.get(role).filter(|loaded| meta.names(&loaded.forms))
    }
}

fn check_no_rollback(old: &SnapshotMetadata, new: &SnapshotMetadata) -> Result<(), VerifyError> {
    if new.version < old.version {
        return Err(VerifyError::Rollback { role: "snapshot".to_owned(), trusted: old.version, found: new.version });
    }
    for (role, file) in &old.roles {
        match new.roles.get(role) {
            None => return Err(VerifyError::RemovedFromSnapshot { role: role.clone(), version: new.version }),
            Some(newer) if newer.version < file.version => {
                return Err(VerifyError::Rollback { role: role.clone(), trusted: file.version, found: newer.version });
            }
            Some(_) => {}
        }
    }
    Ok(())
}
