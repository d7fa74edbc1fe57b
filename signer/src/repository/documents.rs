//! Reading one document of a trusted set: its signatures by the keys that its parent names, its fields, its repository. What
//! it may follow is the business of [`TrustedRepository`].

use super::TrustedRepository;
use crate::envelope::Envelope;
use crate::error::VerifyError;
use crate::json::Json;
use crate::key::PublicKey;
use crate::legacy::Spelling;
use crate::limits::Limits;
use crate::roles::{FileMeta, SnapshotMetadata, TimestampMetadata};
use crate::root::RoleKeys;
use crate::targets::TargetsMetadata;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
pub(super) struct Loaded<T> {
    pub(super) metadata: T,
    pub(super) signed: Json,
    pub(super) bytes: Vec<u8>,
    /// Version, length and digest of `bytes`, computed once.
    pub(super) forms: Vec<FileMeta>,
}

#[derive(Debug, Clone)]
pub(super) struct LoadedRole {
    pub(super) parent: String,
    pub(super) envelope: Envelope,
    pub(super) metadata: TargetsMetadata,
    pub(super) bytes: Vec<u8>,
    pub(super) forms: Vec<FileMeta>,
}

impl TrustedRepository {
    pub(super) fn forms(&self, version: u64, bytes: &[u8]) -> Vec<FileMeta> {
        FileMeta::forms(self.chain.spelling, version, bytes)
    }

    pub(super) fn read_timestamp(&self, bytes: &[u8]) -> Result<Loaded<TimestampMetadata>, VerifyError> {
        let envelope = self.read_online("timestamp", bytes, self.limits.timestamp_bytes)?;
        let metadata = TimestampMetadata::from_json(envelope.signed())?;
        self.chain.check_repository("timestamp", metadata.repo_id.as_ref())?;
        let forms = self.forms(metadata.version, bytes);
        Ok(Loaded { metadata, signed: envelope.signed().clone(), bytes: bytes.to_vec(), forms })
    }

    pub(super) fn read_snapshot(&self, bytes: &[u8]) -> Result<Loaded<SnapshotMetadata>, VerifyError> {
        let envelope = self.read_online("snapshot", bytes, self.limits.snapshot_bytes)?;
        let metadata = SnapshotMetadata::from_json(envelope.signed(), &self.limits)?;
        self.chain.check_repository("snapshot", metadata.repo_id.as_ref())?;
        let forms = self.forms(metadata.version, bytes);
        Ok(Loaded { metadata, signed: envelope.signed().clone(), bytes: bytes.to_vec(), forms })
    }

    fn read_online(&self, role: &str, bytes: &[u8], limit: u64) -> Result<Envelope, VerifyError> {
        let envelope = Envelope::parse_as(self.chain.spelling, role, bytes, limit, &self.limits)?;
        let (keys, role_keys) = (&self.chain.root.keys, self.chain.root.role(role)?);
        envelope.verify_threshold(role, &format!("root version {}", self.chain.root.version), keys, role_keys)?;
        Ok(envelope)
    }

    pub(super) fn read_role(&self, role: &str, parent: &str, bytes: &[u8]) -> Result<LoadedRole, VerifyError> {
        let (keys, role_keys) = self.signers(role, parent)?;
        let (envelope, metadata) =
            read_targets_as(self.chain.spelling, (role, parent), bytes, (keys, role_keys), &self.limits)?;
        self.chain.check_repository(role, metadata.repo_id.as_ref())?;
        let forms = self.forms(metadata.version, bytes);
        Ok(LoadedRole { parent: parent.to_owned(), envelope, metadata, bytes: bytes.to_vec(), forms })
    }

    /// The keys that may sign a targets role.
    pub(super) fn signers(
        &self,
        role: &str,
        parent: &str,
    ) -> Result<(&BTreeMap<String, PublicKey>, &RoleKeys), VerifyError> {
        let not_delegated = || VerifyError::NotDelegated { role: role.to_owned(), parent: parent.to_owned() };
        match (role, parent) {
            ("targets", "root") => Ok((&self.chain.root.keys, self.chain.root.role("targets")?)),
            ("targets", _) | (_, "root") => Err(not_delegated()),
            _ => {
                let Some(loaded) = self.roles.get(parent) else {
                    return Err(VerifyError::OutOfOrder { role: role.to_owned(), needs: parent.to_owned() });
                };
                let delegation = loaded.metadata.delegation(role).ok_or_else(not_delegated)?;
                Ok((&loaded.metadata.delegation_keys, &delegation.keys))
            }
        }
    }
}

/// Reads a targets document and checks its signatures by the keys of its delegation.
pub(crate) fn read_targets(
    role: &str,
    parent: &str,
    bytes: &[u8],
    keys: &BTreeMap<String, PublicKey>,
    role_keys: &RoleKeys,
    limits: &Limits,
) -> Result<(Envelope, TargetsMetadata), VerifyError> {
    read_targets_as(Spelling::Tuf, (role, parent), bytes, (keys, role_keys), limits)
}

fn read_targets_as(
    spelling: Spelling,
    (role, parent): (&str, &str),
    bytes: &[u8],
    (keys, role_keys): (&BTreeMap<String, PublicKey>, &RoleKeys),
    limits: &Limits,
) -> Result<(Envelope, TargetsMetadata), VerifyError> {
    let envelope = Envelope::parse_as(spelling, role, bytes, limits.targets_bytes, limits)?;
    envelope.verify_threshold(role, parent, keys, role_keys)?;
    let metadata = TargetsMetadata::from_json(role, envelope.signed(), limits)?;
    Ok((envelope, metadata))
}
