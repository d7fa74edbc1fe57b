//! Root documents: which keys speak for which role. The root of trust, changed only by its own holders.

use crate::envelope::Envelope;
use crate::error::VerifyError;
use crate::fields::{Fields, Header, header_json};
use crate::json::Json;
use crate::key::{KeyError, PublicKey};
use crate::legacy::Spelling;
use crate::limits::{Limits, MAX_EPOCH};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// The four roles of TUF that every root names.
pub const TOP_LEVEL_ROLES: [&str; 4] = ["root", "snapshot", "targets", "timestamp"];

/// The keys of one role and how many of them must sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleKeys {
    /// Ids of the role's keys.
    pub keyids: BTreeSet<String>,
    /// Signatures needed, one at least.
    pub threshold: u32,
}

impl RoleKeys {
    /// The role of these keys.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a PublicKey>, threshold: u32) -> Self {
        Self { keyids: keys.into_iter().map(|key| key.keyid().to_owned()).collect(), threshold }
    }

    pub(crate) fn read(fields: &Fields<'_>, limits: &Limits) -> Result<Self, VerifyError> {
        let keyids = fields.names("keyids", limits.keys)?;
        let threshold = fields.positive("threshold")?;
        match u32::try_from(threshold) {
            Ok(threshold) => Ok(Self { keyids, threshold }),
            Err(_) => fields.refuse("threshold", "a number of signatures", &threshold.to_string()),
        }
    }

    pub(crate) fn to_members(&self) -> BTreeMap<String, Json> {
        BTreeMap::from([
            ("keyids".to_owned(), Json::texts(&self.keyids)),
            ("threshold".to_owned(), u64::from(self.threshold).into()),
        ])
    }

    /// The materials of the role's keys that are known.
    pub(crate) fn materials(&self, keys: &BTreeMap<String, PublicKey>) -> BTreeSet<Vec<u8>> {
        self.keyids.iter().filter_map(|keyid| keys.get(keyid)).map(PublicKey::material).collect()
    }
}

/// The signed part of a root document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootMetadata {
    /// Counts up by one with every change.
    pub version: u64,
    /// When clients stop trusting it. Only the newest root's expiry matters.
    pub expires: Timestamp,
    /// Whether file names carry versions and digests. Ours always do.
    pub consistent_snapshot: bool,
    /// Every key that a role names, by id.
    pub keys: BTreeMap<String, PublicKey>,
    /// The roles; the four of TUF at least.
    pub roles: BTreeMap<String, RoleKeys>,
    /// `custom.repo_id`: tells documents of two repositories apart that share online keys.
    pub repo_id: Option<String>,
    /// `custom.entitlement`: the key of entitlement certificates, in a director root. It stands in `custom` because
    /// the reference client refuses a root with a role beyond the four.
    pub entitlement: Option<RoleKeys>,
    /// `custom.epoch`: the signing epoch, 1 when absent. A verifier reads no root of an epoch that it does not know.
    pub epoch: u64,
}

impl RootMetadata {
    /// Reads the signed part of a root document.
    pub fn from_json(signed: &Json, limits: &Limits) -> Result<Self, VerifyError> {
        let fields = Fields::of("root", "", signed)?;
        let header = Header::read(&fields, "root")?;
        let keys = read_keys(&fields.object("keys")?, limits)?;
        let role_fields = fields.object("roles")?;
        role_fields.count("", role_fields.members().len(), limits.delegations)?;
        let mut roles = BTreeMap::new();
        for name in role_fields.members().keys() {
            roles.insert(name.clone(), RoleKeys::read(&role_fields.object(name)?, limits)?);
        }
        for name in TOP_LEVEL_ROLES {
            if !roles.contains_key(name) {
                return role_fields.refuse(name, "keys and threshold of this role", "nothing");
            }
        }
        let entitlement = match fields.opt_object("custom")? {
            Some(custom) => match custom.opt_object("entitlement")? {
                Some(entitlement) => Some(RoleKeys::read(&entitlement, limits)?),
                None => None,
            },
            None => None,
        };
        Ok(Self {
            version: header.version,
            expires: header.expires,
            consistent_snapshot: fields.opt("consistent_snapshot").is_some() && fields.flag("consistent_snapshot")?,
            keys,
            roles,
            repo_id: header.repo_id,
            entitlement,
            epoch: epoch_of(signed)?,
        })
    }

    /// Writes the signed part.
    pub fn to_json(&self) -> Json {
        let mut members = header_json("root", self.version, self.expires);
        members.insert("consistent_snapshot".to_owned(), Json::Bool(self.consistent_snapshot));
        members.insert("keys".to_owned(), keys_json(&self.keys));
        let roles = self.roles.iter().map(|(name, role)| (name.clone(), Json::Object(role.to_members()))).collect();
        members.insert("roles".to_owned(), Json::Object(roles));
        let mut custom = BTreeMap::new();
        if let Some(repo_id) = &self.repo_id {
            custom.insert("repo_id".to_owned(), repo_id.clone().into());
        }
        if let Some(entitlement) = &self.entitlement {
            custom.insert("entitlement".to_owned(), Json::Object(entitlement.to_members()));
        }
        if self.epoch != 1 {
            custom.insert("epoch".to_owned(), self.epoch.into());
        }
        if !custom.is_empty() {
            members.insert("custom".to_owned(), Json::Object(custom));
        }
        Json::Object(members)
    }

    /// The keys of one role.
    pub fn role(&self, name: &str) -> Result<&RoleKeys, VerifyError> {
        self.roles
            .get(name)
            .ok_or_else(|| VerifyError::NotDelegated { role: name.to_owned(), parent: "root".to_owned() })
    }

    /// The public keys of one role, in the order of their ids.
    pub fn role_keys(&self, name: &str) -> Vec<&PublicKey> {
        self.roles
            .get(name)
            .map_or_else(Vec::new, |role| role.keyids.iter().filter_map(|keyid| self.keys.get(keyid)).collect())
    }

    /// The key that signs entitlement certificates, in a director root.
    pub fn entitlement_keys(&self) -> Vec<&PublicKey> {
        self.entitlement
            .as_ref()
            .map_or_else(Vec::new, |role| role.keyids.iter().filter_map(|keyid| self.keys.get(keyid)).collect())
    }

    /// Whether a role has other keys or another threshold in `newer`.
    fn rotates(&self, newer: &Self, role: &str) -> bool {
        let state = |root: &Self| root.roles.get(role).map(|keys| (keys.materials(&root.keys), keys.threshold));
        state(self) != state(newer)
    }
}

/// The epoch that a root states. Of a root of a later epoch nothing else may be readable.
fn epoch_of(signed: &Json) -> Result<u64, VerifyError> {
    let fields = Fields::of("root", "", signed)?;
    let Some(custom) = fields.opt_object("custom")?.filter(|custom| custom.opt("epoch").is_some()) else {
        return Ok(1);
    };
    match custom.positive("epoch")? {
        epoch @ 1..=MAX_EPOCH => Ok(epoch),
        epoch => custom.refuse("epoch", "an integer from 1 to 1000", &epoch.to_string()),
    }
}

pub(crate) fn read_keys(fields: &Fields<'_>, limits: &Limits) -> Result<BTreeMap<String, PublicKey>, VerifyError> {
    fields.count("", fields.members().len(), limits.keys)?;
    let mut keys = BTreeMap::new();
    for (keyid, object) in fields.members() {
        match PublicKey::from_json(object) {
            Ok(key) => drop(keys.insert(keyid.clone(), key)),
            // A key of another kind counts for no threshold, and does not make those beside it useless.
            Err(KeyError::Unsupported { .. }) => {}
            Err(error) => {
                return fields.refuse(&crate::error::quote(keyid), "a valid public key", &error.to_string());
            }
        }
    }
    Ok(keys)
}

pub(crate) fn keys_json(keys: &BTreeMap<String, PublicKey>) -> Json {
    Json::Object(keys.iter().map(|(keyid, key)| (keyid.clone(), key.to_json().clone())).collect())
}

/// What a root update changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootUpdate {
    /// The version now trusted.
    pub version: u64,
    /// Roles whose keys or threshold changed. What was remembered of them (versions, attested time) is void: that is
    /// how a repository recovers from a stolen online key that signed versions far in the future.
    pub rotated: BTreeSet<String>,
}

/// The newest trusted root with its bytes: the walk from version to version of TUF, section 5.3.
#[derive(Debug, Clone)]
pub(crate) struct RootChain {
    pub root: RootMetadata,
    pub bytes: Vec<u8>,
    pub spelling: Spelling,
    rotations: u32,
}

impl RootChain {
    /// Starts from a root that is trusted because it was provisioned. It must still be signed by its own threshold.
    pub fn start(bytes: &[u8], limits: &Limits) -> Result<Self, VerifyError> {
        Self::start_as(Spelling::Tuf, bytes, limits)
    }

    pub fn start_as(spelling: Spelling, bytes: &[u8], limits: &Limits) -> Result<Self, VerifyError> {
        let envelope = Envelope::parse_as(spelling, "root", bytes, limits.root_bytes, limits)?;
        check_known(&envelope, limits)?;
        let root = RootMetadata::from_json(envelope.signed(), limits)?;
        envelope.verify_threshold("root", &format!("root version {}", root.version), &root.keys, root.role("root")?)?;
        Ok(Self { root, bytes: bytes.to_vec(), spelling, rotations: 0 })
    }

    /// Goes to the next version: signed by the threshold of the trusted root *and* of the new one.
    pub fn advance(&mut self, bytes: &[u8], limits: &Limits) -> Result<RootUpdate, VerifyError> {
        if self.rotations >= limits.root_rotations {
            return Err(VerifyError::TooManyRotations { limit: limits.root_rotations });
        }
        let envelope = Envelope::parse_as(self.spelling, "root", bytes, limits.root_bytes, limits)?;
        let signed_by = |signers: &RootMetadata| {
            let name = format!("root version {}", signers.version);
            envelope.verify_threshold("root", &name, &signers.keys, signers.role("root")?)
        };
        // The trusted holders first: what they say of the epoch is known to be theirs before the rest has to be understood.
        signed_by(&self.root)?;
        check_known(&envelope, limits)?;
        let next = RootMetadata::from_json(envelope.signed(), limits)?;
        signed_by(&next)?;
        let expected = self.root.version.saturating_add(1);
        if next.version < expected && next.version < self.root.version {
            return Err(VerifyError::Rollback {
                role: "root".to_owned(),
                trusted: self.root.version,
                found: next.version,
            });
        }
        if next.version != expected {
            return Err(VerifyError::Version { role: "root".to_owned(), expected, found: next.version });
        }
        if let (Some(expected), found) = (&self.root.repo_id, &next.repo_id)
            && found.as_ref() != Some(expected)
        {
            return Err(VerifyError::WrongRepository {
                role: "root".to_owned(),
                expected: expected.clone(),
                found: found.clone().unwrap_or_default(),
            });
        }
        if next.epoch != self.root.epoch && next.epoch != self.root.epoch + 1 {
            return Err(VerifyError::EpochOrder { trusted: self.root.epoch, found: next.epoch });
        }
        let rotated = TOP_LEVEL_ROLES.iter().filter(|role| self.root.rotates(&next, role)).map(|&role| role.to_owned());
        let update = RootUpdate { version: next.version, rotated: rotated.collect() };
        *self = Self { root: next, bytes: bytes.to_vec(), rotations: self.rotations + 1, spelling: self.spelling };
        Ok(update)
    }

    pub fn check_expiry(&self, now: Timestamp) -> Result<(), VerifyError> {
        check_expiry("root", self.root.expires, now)
    }

    /// A document that names its repository must name this one.
    pub fn check_repository(&self, role: &str, repo_id: Option<&String>) -> Result<(), VerifyError> {
        match (&self.root.repo_id, repo_id) {
            (Some(expected), Some(found)) if expected != found => Err(VerifyError::WrongRepository {
                role: role.to_owned(),
                expected: expected.clone(),
                found: found.clone(),
            }),
            _ => Ok(()),
        }
    }
}

/// Refuses a root of an epoch that the verifier does not know.
fn check_known(envelope: &Envelope, limits: &Limits) -> Result<(), VerifyError> {
    let (found, known) = (epoch_of(envelope.signed())?, limits.newest_epoch);
    if found <= known {
        return Ok(());
    }
    let version = match envelope.signed().get("version") {
        Some(Json::Int(version)) => u64::try_from(*version).unwrap_or_default(),
        _ => 0,
    };
    Err(VerifyError::LaterEpoch { version, found, known })
}

/// A document is good until, and not at, the second of its expiry.
pub(crate) fn check_expiry(role: &str, expires: Timestamp, now: Timestamp) -> Result<(), VerifyError> {
    if expires <= now {
        return Err(VerifyError::Expired { role: role.to_owned(), expires, now });
    }
    Ok(())
}
