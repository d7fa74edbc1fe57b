//! Timestamp and snapshot documents: the online roles that bind one consistent set of targets documents.

use crate::digest::{Sha256Digest, sha256};
use crate::error::VerifyError;
use crate::fields::{Fields, Header, header_json};
use crate::json::Json;
use crate::legacy::Spelling;
use crate::limits::Limits;
use crate::path::is_role_name;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// What a signed document says about another document's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMeta {
    /// Version of the document.
    pub version: u64,
    /// Length of the file in bytes; ours always say it.
    pub length: Option<u64>,
    /// SHA-256 of the file; ours always say it.
    pub sha256: Option<Sha256Digest>,
}

impl FileMeta {
    /// Describes a file.
    pub fn of(version: u64, bytes: &[u8]) -> Self {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Self { version, length: Some(length), sha256: Some(sha256(bytes)) }
    }

    fn read(fields: &Fields<'_>) -> Result<Self, VerifyError> {
        let length = if fields.opt("length").is_some() { Some(fields.uint("length")?) } else { None };
        let sha256 = match fields.opt_object("hashes")? {
            Some(hashes) => Some(hashes.digest("sha256")?),
            None => None,
        };
        Ok(Self { version: fields.positive("version")?, length, sha256 })
    }

    fn to_json(&self) -> Json {
        let mut members = BTreeMap::from([("version".to_owned(), Json::from(self.version))]);
        if let Some(length) = self.length {
            members.insert("length".to_owned(), length.into());
        }
        if let Some(sha256) = self.sha256 {
            members.insert("hashes".to_owned(), Json::object([("sha256", hex::encode(sha256).into())]));
        }
        Json::Object(members)
    }

    /// A file as signed metadata may describe it: by its bytes, and in the old spelling by its canonical form as well.
    pub(crate) fn forms(spelling: Spelling, version: u64, bytes: &[u8]) -> Vec<Self> {
        let mut forms = vec![Self::of(version, bytes)];
        let limit = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if spelling == Spelling::Legacy
            && let Ok(document) = Json::parse(bytes, limit)
        {
            forms.push(Self::of(version, &document.canonical()));
        }
        forms
    }

    /// Compares a file, described by [`FileMeta::forms`], with what was signed about it.
    pub(crate) fn check_file(&self, role: &str, forms: &[Self]) -> Result<(), VerifyError> {
        let Some(found) = forms.first() else { return Ok(()) };
        if let (Some(expected), Some(found)) = (self.length, found.length)
            && forms.iter().all(|form| form.length != Some(expected))
        {
            return Err(VerifyError::Length { role: role.to_owned(), expected, found });
        }
        if let (Some(expected), Some(found)) = (self.sha256, found.sha256)
            && forms.iter().all(|form| form.sha256 != Some(expected))
        {
            return Err(VerifyError::Hash {
                role: role.to_owned(),
                expected: hex::encode(expected),
                found: hex::encode(found),
            });
        }
        Ok(())
    }

    /// Whether a file, described by [`FileMeta::forms`], is the one signed here.
    pub(crate) fn names(&self, forms: &[Self]) -> bool {
        forms.first().is_some_and(|file| file.version == self.version) && self.check_file("", forms).is_ok()
    }

    pub(crate) fn check_version(&self, role: &str, found: u64) -> Result<(), VerifyError> {
        if self.version != found {
            return Err(VerifyError::Version { role: role.to_owned(), expected: self.version, found });
        }
        Ok(())
    }
}

/// The signed part of a timestamp document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimestampMetadata {
    /// Counts up.
    pub version: u64,
    /// Expiry, a day ahead at most in ours.
    pub expires: Timestamp,
    /// The current snapshot file.
    pub snapshot: FileMeta,
    /// `custom.repo_id`.
    pub repo_id: Option<String>,
}

impl TimestampMetadata {
    /// Reads the signed part.
    pub fn from_json(signed: &Json) -> Result<Self, VerifyError> {
        let fields = Fields::of("timestamp", "", signed)?;
        let header = Header::read(&fields, "timestamp")?;
        let snapshot = FileMeta::read(&fields.object("meta")?.object("snapshot.json")?)?;
        Ok(Self { version: header.version, expires: header.expires, snapshot, repo_id: header.repo_id })
    }

    /// Writes the signed part.
    pub fn to_json(&self) -> Json {
        let mut members = header_json("timestamp", self.version, self.expires);
        members.insert("meta".to_owned(), Json::object([("snapshot.json", self.snapshot.to_json())]));
        insert_repo_id(&mut members, self.repo_id.as_ref());
        Json::Object(members)
    }
}

/// The signed part of a snapshot document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotMetadata {
    /// Counts up.
    pub version: u64,
    /// Expiry, a week ahead at most in ours.
    pub expires: Timestamp,
    /// Every targets document by role name, without `.json`.
    pub roles: BTreeMap<String, FileMeta>,
    /// `custom.repo_id`.
    pub repo_id: Option<String>,
}

impl SnapshotMetadata {
    /// Reads the signed part.
    pub fn from_json(signed: &Json, limits: &Limits) -> Result<Self, VerifyError> {
        let fields = Fields::of("snapshot", "", signed)?;
        let header = Header::read(&fields, "snapshot")?;
        let meta = fields.object("meta")?;
        meta.count("", meta.members().len(), limits.snapshot_files)?;
        let mut roles = BTreeMap::new();
        for file in meta.members().keys() {
            match file.strip_suffix(".json") {
                Some(role) if role == "targets" || is_role_name(role) => {
                    roles.insert(role.to_owned(), FileMeta::read(&meta.object(file)?)?);
                }
                _ => return meta.refuse("", "names of targets documents", file),
            }
        }
        if !roles.contains_key("targets") {
            return meta.refuse("targets.json", "version of the top targets document", "nothing");
        }
        Ok(Self { version: header.version, expires: header.expires, roles, repo_id: header.repo_id })
    }

    /// Writes the signed part.
    pub fn to_json(&self) -> Json {
        let mut members = header_json("snapshot", self.version, self.expires);
        let meta = self.roles.iter().map(|(role, file)| (format!("{role}.json"), file.to_json())).collect();
        members.insert("meta".to_owned(), Json::Object(meta));
        insert_repo_id(&mut members, self.repo_id.as_ref());
        Json::Object(members)
    }
}

pub(crate) fn insert_repo_id(members: &mut BTreeMap<String, Json>, repo_id: Option<&String>) {
    if let Some(repo_id) = repo_id {
        members.insert("custom".to_owned(), Json::object([("repo_id", repo_id.clone().into())]));
    }
}
