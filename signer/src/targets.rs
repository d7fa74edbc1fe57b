//! Targets documents: images with their signed facts, and delegations to product roles.

use crate::digest::{Sha256Digest, sha256};
use crate::error::VerifyError;
use crate::fields::{Fields, Header, header_json};
use crate::json::Json;
use crate::key::PublicKey;
use crate::limits::{Limits, MAX_PATH_BYTES};
use crate::path::{is_role_name, is_target_path, matches};
use crate::release::ReleaseCustom;
use crate::roles::insert_repo_id;
use crate::root::{RoleKeys, keys_json, read_keys};
use crate::time;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// One target as an offline role signed it. Its identity is the raw image; compressed downloads and patches are
/// encodings of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryTarget {
    /// Target path.
    pub path: String,
    /// Length of the raw image in bytes. It bounds every decoder.
    pub length: u64,
    /// SHA-256 of the raw image.
    pub sha256: Sha256Digest,
    /// The `custom` block as signed. Images have one; release notes and the like have none.
    pub custom: Option<Json>,
}

impl RepositoryTarget {
    /// Makes the target of an image.
    pub fn image(path: String, length: u64, sha256: Sha256Digest, custom: &ReleaseCustom) -> Self {
        Self { path, length, sha256, custom: Some(custom.to_json()) }
    }

    /// The typed `custom` block, `None` for a target that is no image.
    pub fn release(&self, role: &str, limits: &Limits) -> Result<Option<ReleaseCustom>, VerifyError> {
        self.custom.as_ref().map(|custom| ReleaseCustom::from_json(role, &self.path, custom, limits)).transpose()
    }

    fn read(role: &str, path: &str, fields: &Fields<'_>) -> Result<Self, VerifyError> {
        if !is_target_path(path) {
            return Err(VerifyError::field(role, "targets", "relative ASCII target paths", path));
        }
        Ok(Self {
            path: path.to_owned(),
            length: fields.uint("length")?,
            sha256: fields.object("hashes")?.digest("sha256")?,
            custom: fields.opt("custom").cloned(),
        })
    }

    fn to_json(&self) -> Json {
        let mut members = BTreeMap::from([
            ("length".to_owned(), Json::from(self.length)),
            ("hashes".to_owned(), Json::object([("sha256", hex::encode(self.sha256).into())])),
        ]);
        if let Some(custom) = &self.custom {
            members.insert("custom".to_owned(), custom.clone());
        }
        Json::Object(members)
    }
}

/// The target paths that a role may speak for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paths {
    /// Path patterns, each segment of its own: `acme-cam/*/*`.
    Patterns(BTreeSet<String>),
    /// First digits of the SHA-256 of the path, in hexadecimal: how large repositories spread targets over bins.
    HashPrefixes(BTreeSet<String>),
}

impl Paths {
    /// One pattern.
    pub fn pattern(pattern: impl Into<String>) -> Self {
        Self::Patterns(BTreeSet::from([pattern.into()]))
    }

    fn field(&self) -> &'static str {
        match self {
            Self::Patterns(_) => "paths",
            Self::HashPrefixes(_) => "path_hash_prefixes",
        }
    }

    /// Whether a path is among them.
    pub fn cover(&self, path: &str) -> bool {
        match self {
            Self::Patterns(patterns) => patterns.iter().any(|pattern| matches(pattern, path)),
            Self::HashPrefixes(prefixes) => {
                let hash = hex::encode(sha256(path.as_bytes()));
                prefixes.iter().any(|prefix| hash.starts_with(prefix.as_str()))
            }
        }
    }

    /// The patterns or prefixes.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let (Self::Patterns(set) | Self::HashPrefixes(set)) = self;
        set.iter().map(String::as_str)
    }

    fn read(entry: &Fields<'_>, limits: &Limits) -> Result<Self, VerifyError> {
        if entry.opt("path_hash_prefixes").is_none() {
            let fits = |text: &str| text.len() <= MAX_PATH_BYTES && is_target_path(text);
            return Ok(Self::Patterns(read_set(entry, "paths", limits.paths, "relative ASCII path patterns", fits)?));
        }
        if entry.opt("paths").is_some() {
            return entry.refuse("paths", "absent beside path_hash_prefixes", "both");
        }
        let fits = |text: &str| {
            (1..=64).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let expected = "1 to 64 lower-case hexadecimal digits";
        Ok(Self::HashPrefixes(read_set(entry, "path_hash_prefixes", limits.hash_prefixes, expected, fits)?))
    }
}

fn read_set(
    entry: &Fields<'_>,
    name: &str,
    limit: usize,
    expected: &'static str,
    fits: impl Fn(&str) -> bool,
) -> Result<BTreeSet<String>, VerifyError> {
    let mut set = BTreeSet::new();
    for item in entry.list(name, limit)? {
        match item.as_str() {
            Some(text) if fits(text) => set.insert(text.to_owned()),
            _ => return entry.refuse(name, expected, &item.to_string()),
        };
    }
    Ok(set)
}

/// A role to which a targets document delegates some paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegation {
    /// Name of the role.
    pub name: String,
    /// Its keys and threshold.
    pub keys: RoleKeys,
    /// What it may speak for.
    pub paths: Paths,
    /// Whether the search for a matching path ends here, found or not.
    pub terminating: bool,
}

impl Delegation {
    /// Whether the role may speak for the path.
    pub fn covers(&self, path: &str) -> bool {
        self.paths.cover(path)
    }
}

/// The signed part of a targets document, top-level or delegated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetsMetadata {
    /// Counts up by one.
    pub version: u64,
    /// Expiry.
    pub expires: Timestamp,
    /// Targets by path.
    pub targets: BTreeMap<String, RepositoryTarget>,
    /// Keys of the delegated roles.
    pub delegation_keys: BTreeMap<String, PublicKey>,
    /// Delegated roles, in the order of their priority.
    pub delegations: Vec<Delegation>,
    /// `custom.repo_id`.
    pub repo_id: Option<String>,
    /// `custom.not_before`, in documents of embargo roles: until then nobody shows it.
    pub not_before: Option<Timestamp>,
}

impl TargetsMetadata {
    /// An empty document.
    pub fn new(version: u64, expires: Timestamp, repo_id: Option<String>) -> Self {
        Self {
            version,
            expires,
            targets: BTreeMap::new(),
            delegation_keys: BTreeMap::new(),
            delegations: Vec::new(),
            repo_id,
            not_before: None,
        }
    }

    /// Reads the signed part of the document of `role`.
    pub fn from_json(role: &str, signed: &Json, limits: &Limits) -> Result<Self, VerifyError> {
        let fields = Fields::of(role, "", signed)?;
        let header = Header::read(&fields, "targets")?;
        let entries = fields.object("targets")?;
        entries.count("", entries.members().len(), limits.targets)?;
        let mut targets = BTreeMap::new();
        for path in entries.members().keys() {
            targets.insert(path.clone(), RepositoryTarget::read(role, path, &entries.object(path)?)?);
        }
        let (delegation_keys, delegations) = match fields.opt_object("delegations")? {
            Some(block) => {
                let keys = read_keys(&block.object("keys")?, limits)?;
                (keys, read_delegations(role, &block, limits)?)
            }
            None => (BTreeMap::new(), Vec::new()),
        };
        Ok(Self {
            version: header.version,
            expires: header.expires,
            targets,
            delegation_keys,
            delegations,
            repo_id: header.repo_id,
            not_before: match fields.opt_object("custom")? {
                Some(custom) if custom.opt("not_before").is_some() => Some(custom.time("not_before")?),
                _ => None,
            },
        })
    }

    /// Writes the signed part.
    pub fn to_json(&self) -> Json {
        let mut members = header_json("targets", self.version, self.expires);
        let targets = self.targets.iter().map(|(path, target)| (path.clone(), target.to_json())).collect();
        members.insert("targets".to_owned(), Json::Object(targets));
        if !self.delegations.is_empty() || !self.delegation_keys.is_empty() {
            let roles = self.delegations.iter().map(|role| {
                let mut entry = role.keys.to_members();
                entry.insert("name".to_owned(), role.name.clone().into());
                let (name, Paths::Patterns(set) | Paths::HashPrefixes(set)) = (role.paths.field(), &role.paths);
                entry.insert(name.to_owned(), Json::texts(set));
                entry.insert("terminating".to_owned(), Json::Bool(role.terminating));
                Json::Object(entry)
            });
            let block =
                Json::object([("keys", keys_json(&self.delegation_keys)), ("roles", Json::List(roles.collect()))]);
            members.insert("delegations".to_owned(), block);
        }
        insert_repo_id(&mut members, self.repo_id.as_ref());
        if let Some(moment) = self.not_before {
            let custom = members.entry("custom".to_owned()).or_insert_with(|| Json::Object(BTreeMap::new()));
            if let Json::Object(custom) = custom {
                custom.insert("not_before".to_owned(), time::format(moment).into());
            }
        }
        Json::Object(members)
    }

    /// The delegation to a role.
    pub fn delegation(&self, name: &str) -> Option<&Delegation> {
        self.delegations.iter().find(|delegation| delegation.name == name)
    }
}

fn read_delegations(role: &str, block: &Fields<'_>, limits: &Limits) -> Result<Vec<Delegation>, VerifyError> {
    let mut delegations: Vec<Delegation> = Vec::new();
    let mut names = BTreeSet::new();
    for entry in block.list("roles", limits.delegations)? {
        let entry = Fields::of(role, "delegations.roles", entry)?;
        let name = entry.name("name")?;
        if !is_role_name(&name) {
            return entry.refuse("name", "the name of no top-level role", &name);
        }
        if !names.insert(name.clone()) {
            return entry.refuse("name", "one entry for each delegated role", &name);
        }
        let paths = Paths::read(&entry, limits)?;
        let keys = RoleKeys::read(&entry, limits)?;
        delegations.push(Delegation { name, keys, paths, terminating: entry.flag("terminating")? });
    }
    Ok(delegations)
}
