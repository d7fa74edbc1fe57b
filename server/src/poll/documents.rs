//! The signed documents in memory: the newest of every role, every root, and what stands of signing epochs that have ended.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use sluice_catalog::{Digest, Time};
use sluice_signer::{Envelope, Limits, NamedKeys, RootMetadata, TargetsMetadata, embargo};

use crate::store::{BranchDocument, Document, Repository, Result, Store, StoreError};

/// The newest signed documents, and every root.
#[derive(Debug, Default)]
pub struct Documents {
    files: HashMap<(Repository, String, i64), Bytes>,
    latest: HashMap<(Repository, String), i64>,
    targets: HashMap<String, (Digest, u64)>,
    director_repo_id: Option<String>,
    roles: Vec<RoleDocument>,
    named: NamedKeys,
    embargo: HashMap<String, String>,
    next_moment: Option<Time>,
    branches: BTreeMap<u32, Branch>,
}

/// The documents of a signing epoch that has ended.
#[derive(Debug)]
pub struct Branch {
    /// Versions of its last roots and of the targets documents as they stood.
    roles: HashMap<(Repository, String), i64>,
    /// Its embargo roles with their products, by its own top document.
    embargo: HashMap<String, String>,
    /// Its snapshot and its timestamp.
    signed: HashMap<String, (i64, Bytes)>,
    /// From then on no device takes anything of it.
    pub until: Time,
}

impl Branch {
    /// The version of a role in it: nothing newer was ever part of it.
    pub fn version(&self, repository: Repository, role: &str) -> Option<i64> {
        self.roles.get(&(repository, role.to_owned())).copied()
    }

    /// The product to which the documents of a role belong. `None` of an embargo role that was nobody's any more.
    pub fn product_of<'a>(&'a self, role: &'a str) -> Option<&'a str> {
        product_of(&self.embargo, role)
    }

    /// Its newest snapshot or timestamp.
    pub fn signed(&self, role: &str) -> Option<(i64, Bytes)> {
        self.signed.get(role).cloned()
    }
}

/// The newest document of a role that devices still look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleDocument {
    /// Its repository.
    pub repository: Repository,
    /// Its role.
    pub role: String,
    /// Its version.
    pub version: i64,
    /// From then on devices refuse it.
    pub expires: Time,
    /// The signing epoch, when it has ended.
    pub branch: Option<u32>,
}

impl Documents {
    /// A document by role and version.
    pub fn get(&self, repository: Repository, role: &str, version: i64) -> Option<Bytes> {
        self.files.get(&(repository, role.to_owned(), version)).cloned()
    }

    /// The newest document of a role.
    pub fn latest(&self, repository: Repository, role: &str) -> Option<(i64, Bytes)> {
        let version = *self.latest.get(&(repository, role.to_owned()))?;
        Some((version, self.get(repository, role, version)?))
    }

    /// The repository id that the newest director root states, which per-device documents repeat.
    pub fn director_repo_id(&self) -> Option<String> {
        self.director_repo_id.clone()
    }

    /// Which online keys the roots name.
    pub const fn named(&self) -> &NamedKeys {
        &self.named
    }

    /// The documents of an epoch that has ended.
    pub fn branch(&self, epoch: u32) -> Option<&Branch> {
        self.branches.get(&epoch)
    }

    /// Branches by the epoch that has ended.
    pub const fn branches(&self) -> &BTreeMap<u32, Branch> {
        &self.branches
    }

    /// The newest document of every role; a product that nobody delegates to any more is none.
    pub fn roles(&self) -> &[RoleDocument] {
        &self.roles
    }

    /// The product to which the documents of a role belong. `None` of an embargo role that is nobody's any more.
    pub fn product_of<'a>(&'a self, role: &'a str) -> Option<&'a str> {
        product_of(&self.embargo, role)
    }

    /// When the next document that is held must be published.
    pub const fn next_moment(&self) -> Option<Time> {
        self.next_moment
    }

    /// Digest and length of a target that a newest document lists.
    pub fn target(&self, path: &str) -> Option<(Digest, u64)> {
        self.targets.get(path).copied()
    }
}

/// The expiry that a signed document states.
pub fn expiry(document: &[u8]) -> Result<Time, serde_json::Error> {
    #[derive(serde::Deserialize)]
    struct Signed {
        signed: Expires,
    }
    #[derive(serde::Deserialize)]
    struct Expires {
        expires: Time,
    }
    serde_json::from_slice::<Signed>(document).map(|document| document.signed.expires)
}

/// The embargo roles of a top document, with their products.
fn embargo_roles(top: &TargetsMetadata) -> HashMap<String, String> {
    let roles = top.delegations.iter().filter_map(|one| Some((one.name.clone(), embargo::product_of(one)?.to_owned())));
    roles.collect()
}

/// The product of a role: by the embargo roles that there are, or its own name.
fn product_of<'a>(embargo_roles: &'a HashMap<String, String>, role: &'a str) -> Option<&'a str> {
    if embargo::is_role_name(role) { embargo_roles.get(role).map(String::as_str) } else { Some(role) }
}

/// Reads the newest document of every role.
pub(super) async fn read_documents(store: &Store) -> Result<Documents> {
    let mut documents = Documents::default();
    let limits = Limits::default();
    // Targets by the role that lists them: what is delegated to nobody any more is served no more.
    let mut listed = Vec::new();
    let mut delegated: HashSet<String> =
        ["root", "targets", "snapshot", "timestamp"].into_iter().map(str::to_owned).collect();
    for repository in [Repository::Image, Repository::Director] {
        for Document { role, version, body, .. } in store.document_latest(repository).await? {
            if repository == Repository::Image && !matches!(role.as_str(), "root" | "snapshot" | "timestamp") {
                // It was verified when it was taken in; here it is only indexed.
                let metadata = Envelope::parse(&role, &body, limits.targets_bytes, &limits)
                    .and_then(|envelope| TargetsMetadata::from_json(&role, envelope.signed(), &limits))
                    .map_err(|error| StoreError::Corrupt(format!("document {role} {version}: {error}")))?;
                if role == "targets" {
                    delegated.extend(metadata.delegations.iter().map(|delegation| delegation.name.clone()));
                    documents.embargo = embargo_roles(&metadata);
                }
                listed.push((role.clone(), metadata.targets));
            }
            if repository == Repository::Director && role == "root" {
                documents.director_repo_id = Envelope::parse(&role, &body, limits.root_bytes, &limits)
                    .and_then(|envelope| RootMetadata::from_json(envelope.signed(), &limits))
                    .map_err(|error| StoreError::Corrupt(format!("document {role} {version}: {error}")))?
                    .repo_id;
            }
            let expires =
                expiry(&body).map_err(|error| StoreError::Corrupt(format!("document {role} {version}: {error}")))?;
            documents.roles.push(RoleDocument { repository, role: role.clone(), version, expires, branch: None });
            documents.latest.insert((repository, role.clone()), version);
            documents.files.insert((repository, role, version), Bytes::from(body));
        }
    }
    for (path, target) in listed.into_iter().filter(|(role, _)| delegated.contains(role)).flat_map(|(_, all)| all) {
        documents.targets.insert(path, (Digest(target.sha256), target.length));
    }
    documents.next_moment = store.held_next().await?;
    // Of the roots that are shown, and no newer one: the keys that sign fit what devices can see here.
    let newest = |repository| documents.latest.get(&(repository, "root".to_owned())).copied().unwrap_or(0);
    let image = store.root_chain(Repository::Image, newest(Repository::Image)).await?;
    let director = store.root_chain(Repository::Director, newest(Repository::Director)).await?;
    documents.named =
        NamedKeys::of(&image, &director, &limits).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    documents.roles.retain(|document| delegated.contains(&document.role));
    read_branches(store, &mut documents).await?;
    documents.roles.sort_by_key(|document| document.expires);
    Ok(documents)
}

async fn read_branches(store: &Store, documents: &mut Documents) -> Result<()> {
    for BranchDocument { signing_epoch, document } in
        store.branch_roles().await?.into_iter().chain(store.branch_signed().await?)
    {
        let Document { repository, role, version, body } = document;
        let repository = if repository == "director" { Repository::Director } else { Repository::Image };
        let epoch = u32::try_from(signing_epoch).map_err(|_| StoreError::Corrupt(format!("epoch {signing_epoch}")))?;
        let expires = expiry(&body)
            .map_err(|error| StoreError::Corrupt(format!("epoch {epoch}, document {role} {version}: {error}")))?;
        let branch = documents.branches.entry(epoch).or_insert_with(|| Branch {
            roles: HashMap::new(),
            embargo: HashMap::new(),
            signed: HashMap::new(),
            until: expires,
        });
        documents.roles.push(RoleDocument { repository, role: role.clone(), version, expires, branch: Some(epoch) });
        match role.as_str() {
            "snapshot" | "timestamp" => drop(branch.signed.insert(role, (version, Bytes::from(body)))),
            _ => {
                // A product whose document has ended is no device's end but its own.
                if matches!(role.as_str(), "root" | "targets") {
                    branch.until = branch.until.min(expires);
                }
                if role == "targets" {
                    let limits = Limits::default();
                    let top = Envelope::parse(&role, &body, limits.targets_bytes, &limits)
                        .and_then(|envelope| TargetsMetadata::from_json(&role, envelope.signed(), &limits))
                        .map_err(|error| {
                            StoreError::Corrupt(format!("epoch {epoch}, document {role} {version}: {error}"))
                        })?;
                    branch.embargo = embargo_roles(&top);
                }
                branch.roles.insert((repository, role), version);
            }
        }
    }
    Ok(())
}
