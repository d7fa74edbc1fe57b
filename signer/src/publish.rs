//! What a server does when documents are published: the checks of a device, and the lints of a careful publisher.

use crate::envelope::Envelope;
use crate::error::VerifyError;
use crate::json::Json;
use crate::limits::Limits;
use crate::lint::{self, Lints};
use crate::online::OnlineKeys;
use crate::overrides::Overrides;
use crate::release::ReleaseCustom;
use crate::repository::TrustedRepository;
use crate::roles::FileMeta;
use crate::root::RootMetadata;
use crate::targets::RepositoryTarget;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

mod ingest;
mod roles;
use ingest::{Ingest, read_published};
use roles::Roles;

/// Documents in one publication: each costs signature checks before it can be refused.
pub const MAX_DOCUMENTS: usize = 64;
/// Bytes of documents in one publication that [`batches`] makes: a server reads more, Base64 and names around them included.
pub const MAX_BATCH_BYTES: usize = 16 << 20;

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
    /// Documents of embargo roles that nobody may be shown yet, by role. They stand beside those in `roles`, which are shown.
    pub held: BTreeMap<String, Vec<u8>>,
}

/// Whether a published thing was new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Taken.
    Published,
    /// Known already, byte for byte.
    Unchanged,
    /// Taken, to be shown at its moment and not before.
    Held,
}

/// One document of a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedDocument {
    /// Its repository.
    pub repository: Repository,
    /// Its role.
    pub role: String,
    /// The product whose images the role may sign, of a delegated role.
    pub product: Option<String>,
    /// Its version.
    pub version: u64,
    /// Whether it was new.
    pub outcome: Outcome,
    /// Lints that its signers overrode, with their reasons.
    pub overrides: Overrides,
    /// The moment of a document that is held.
    pub held_until: Option<Timestamp>,
}

/// One image of the documents in a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedTarget {
    /// The role that signed it.
    pub role: String,
    /// The product whose images the role may sign, as its delegation says.
    pub product: String,
    /// The target.
    pub target: RepositoryTarget,
    /// Its release, `None` for release notes and the like.
    pub release: Option<ReleaseCustom>,
    /// Whether it was new.
    pub outcome: Outcome,
}

/// What a publication brings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accepted {
    /// All documents as they stand afterwards.
    pub documents_after: ImageDocuments,
    /// The documents of this publication.
    pub documents: Vec<AcceptedDocument>,
    /// Every target of the delegated roles in this publication that may be shown.
    pub targets: Vec<AcceptedTarget>,
    /// Every target of the documents in this publication that are held.
    pub held: Vec<AcceptedTarget>,
    /// What the roles of each product sign afterwards and may be shown: by product, the paths of its targets.
    pub signed: BTreeMap<String, BTreeSet<String>>,
}

/// Why a publication is refused. Nothing of it is taken then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// A device would refuse a document.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The documents are valid and yet a mistake.
    #[error(transparent)]
    Lints(#[from] Lints),
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

/// Checks a publication as every device will, and lints it. Nothing is taken unless everything holds.
pub fn publish_check(
    current: &ImageDocuments,
    new: &[NewDocument],
    context: &PublishContext<'_>,
) -> Result<Accepted, PublishError> {
    check_part(current, new, BTreeSet::new(), context)
}

/// The same of a part, after which the chains of roots of some repositories go on.
fn check_part(
    current: &ImageDocuments,
    new: &[NewDocument],
    goes_on: BTreeSet<Repository>,
    context: &PublishContext<'_>,
) -> Result<Accepted, PublishError> {
    check_shape(new)?;
    let mut ingest = Ingest {
        context,
        goes_on,
        new,
        after: current.clone(),
        documents: Vec::new(),
        lints: Vec::new(),
        overrides: BTreeMap::new(),
    };
    let image_root = ingest.roots(Repository::Image)?;
    let director_root = ingest.roots(Repository::Director)?;
    ingest.lints.extend(lint::lint_epochs(&ingest.after.roots, &ingest.after.director_roots, context.limits)?);
    let top = ingest.top_targets(image_root.as_ref())?;
    let Roles { targets, held, signed } = ingest.roles(image_root.as_ref(), top.as_ref())?;
    ingest.lints.extend(lint::lint_shared_keys(image_root.as_ref(), director_root.as_ref(), top.as_ref()));
    Lints(ingest.lints).into_result()?;
    for document in ingest.documents.iter_mut().filter(|document| document.outcome != Outcome::Unchanged) {
        let key = (document.repository, document.role.clone(), document.version);
        document.overrides = ingest.overrides.remove(&key).unwrap_or_default();
    }
    Ok(Accepted { documents_after: ingest.after, documents: ingest.documents, targets, held, signed })
}

/// Documents in the order of trust, cut into as many publications as they need. Both repositories rise to the next signing epoch in
/// one publication, so the roots of an epoch come before those of the next, and the first of both are not parted.
pub fn batches(documents: Vec<NewDocument>) -> Vec<Vec<NewDocument>> {
    let (roots, others): (Vec<_>, Vec<_>) = documents.into_iter().partition(|document| document.role == "root");
    let mut epochs: BTreeMap<u64, [Vec<NewDocument>; 2]> = BTreeMap::new();
    for root in roots {
        // What cannot be read is refused when it is checked.
        let epoch = stated_epoch(&root.bytes).unwrap_or(1);
        let [image, director] = epochs.entry(epoch).or_default();
        if root.repository == Repository::Image { image } else { director }.push(root);
    }
    let mut parts: Vec<Vec<NewDocument>> = Vec::new();
    for chains in epochs.into_values() {
        let (mut first, mut rest) = (Vec::new(), Vec::new());
        for mut chain in chains {
            chain.sort_by_key(|root| root.version);
            let mut chain = chain.into_iter();
            first.extend(chain.next());
            rest.extend(chain.map(|root| vec![root]));
        }
        parts.push(first);
        parts.extend(rest);
    }
    parts.extend(others.into_iter().map(|document| vec![document]));

    let mut batches: Vec<Vec<NewDocument>> = Vec::new();
    let mut bytes = 0;
    for part in parts {
        let length: usize = part.iter().map(|document| document.bytes.len()).sum();
        bytes += length;
        match batches.last_mut() {
            Some(batch) if batch.len() + part.len() <= MAX_DOCUMENTS && bytes <= MAX_BATCH_BYTES => batch.extend(part),
            _ => {
                bytes = length;
                batches.push(part);
            }
        }
    }
    batches
}

/// The signing epoch that a root states, of whatever form the rest is.
fn stated_epoch(bytes: &[u8]) -> Option<u64> {
    let root = Json::parse(bytes, Limits::default().root_bytes).ok()?;
    match root.get("signed")?.get("custom")?.get("epoch")? {
        Json::Int(epoch) => u64::try_from(*epoch).ok(),
        _ => None,
    }
}

/// Checks documents of any number, as if they were published one batch after the other on an empty server.
pub fn check_all(documents: Vec<NewDocument>, context: &PublishContext<'_>) -> Result<Accepted, PublishError> {
    let mut all = Accepted::default();
    let batches = batches(documents);
    for (position, batch) in batches.iter().enumerate() {
        let later = batches.iter().skip(position + 1).flatten().filter(|document| document.role == "root");
        let goes_on = later.map(|root| root.repository).collect();
        let accepted = check_part(&all.documents_after, batch, goes_on, context)?;
        all.documents_after = accepted.documents_after;
        all.documents.extend(accepted.documents);
        all.targets.extend(accepted.targets);
        all.held.extend(accepted.held);
        all.signed = accepted.signed;
    }
    Ok(all)
}

fn check_shape(new: &[NewDocument]) -> Result<(), PublishError> {
    if new.len() > MAX_DOCUMENTS {
        return Err(PublishError::TooManyDocuments { count: new.len(), limit: MAX_DOCUMENTS });
    }
    let mut seen = BTreeSet::new();
    for document in new {
        let NewDocument { repository, role, version, .. } = document;
        if *repository == Repository::Director && role != "root" {
            return Err(PublishError::DirectorRole { role: crate::error::quote(role) });
        }
        // Roots come as a chain; of every other role only the newest document counts.
        let twice = if role == "root" { Some(*version) } else { None };
        if !seen.insert((*repository, role, twice)) {
            return Err(PublishError::Twice { role: crate::error::quote(role), version: *version });
        }
    }
    Ok(())
}

impl ImageDocuments {
    /// What the next snapshot must list: every targets document with version, length and digest.
    pub fn snapshot_files(&self, limits: &Limits) -> Result<BTreeMap<String, FileMeta>, VerifyError> {
        let top = self.targets.iter().map(|bytes| ("targets", bytes));
        let roles = self.roles.iter().map(|(role, bytes)| (role.as_str(), bytes));
        top.chain(roles)
            .map(|(role, bytes)| {
                Ok((role.to_owned(), FileMeta::of(read_published(role, bytes, limits)?.version, bytes)))
            })
            .collect()
    }

    /// Roles that stand and to which the top targets document does not delegate any more. They stay in the snapshot, as clients
    /// want it, and sign nothing.
    pub fn undelegated(&self, limits: &Limits) -> Result<Vec<String>, VerifyError> {
        let Some(bytes) = &self.targets else { return Ok(Vec::new()) };
        let top = read_published("targets", bytes, limits)?;
        Ok(self.roles.keys().filter(|role| top.delegation(role).is_none()).cloned().collect())
    }

    /// The documents as devices see them that know epochs to this one.
    pub fn to_epoch(&self, epoch: u64, limits: &Limits) -> Result<Self, VerifyError> {
        let mut older = self.clone();
        for roots in [&mut older.roots, &mut older.director_roots] {
            let mut kept = Vec::with_capacity(roots.len());
            for bytes in roots.drain(..) {
                let envelope = Envelope::parse("root", &bytes, limits.root_bytes, limits)?;
                if RootMetadata::from_json(envelope.signed(), limits)?.epoch <= epoch {
                    kept.push(bytes);
                }
            }
            *roots = kept;
        }
        Ok(older)
    }

    /// The repository id that the newest image root states; snapshot and timestamp carry it too.
    pub fn repo_id(&self, limits: &Limits) -> Result<Option<String>, VerifyError> {
        let Some(bytes) = self.roots.last() else { return Ok(None) };
        let envelope = Envelope::parse("root", bytes, limits.root_bytes, limits)?;
        Ok(RootMetadata::from_json(envelope.signed(), limits)?.repo_id)
    }

    /// Goes through everything as a device from a warehouse would: from the first root to every role. The server does
    /// this before it shows a new snapshot to anyone.
    pub fn verify_as_device(
        &self,
        snapshot: &[u8],
        timestamp: &[u8],
        now: Timestamp,
        limits: &Limits,
    ) -> Result<TrustedRepository, VerifyError> {
        let needs =
            |role: &str, needs: &str| VerifyError::OutOfOrder { role: role.to_owned(), needs: needs.to_owned() };
        let mut roots = self.roots.iter();
        let first = roots.next().ok_or_else(|| needs("timestamp", "root"))?;
        let mut repository = TrustedRepository::from_root(first, limits)?;
        for root in roots {
            repository.update_root(root)?;
        }
        repository.check_root_expiry(now)?;
        repository.update_timestamp(timestamp, now)?;
        repository.update_snapshot(snapshot, now)?;
        let top = self.targets.as_ref().ok_or_else(|| needs("snapshot", "targets"))?;
        repository.update_targets("targets", "root", top, now)?;
        for (role, bytes) in &self.roles {
            if repository.targets("targets").is_some_and(|top| top.delegation(role).is_some()) {
                repository.update_targets(role, "targets", bytes, now)?;
            }
        }
        Ok(repository)
    }
}
