//! Snapshots of what can be chosen from. Each noun has a generation row, raised in the transaction of its changes; a noun
//! whose generation differs is read anew and swapped in whole, so a poll sees one consistent state and no lock.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use sluice_catalog::decide::{Encodings, ProductView, ReleaseView};
use sluice_catalog::id::{ProductId, ReleaseId};
use sluice_catalog::patch::{Full, Patch};
use sluice_catalog::product::{Product, Visibility};
use sluice_catalog::rollout::Rollout;
use sluice_catalog::{Digest, Time};
use sluice_signer::{Envelope, Limits, NamedKeys, RootMetadata, TargetsMetadata, embargo};

use crate::store::{BranchDocument, Document, Repository, Result, Store, StoreError};

/// A replica whose snapshots were not confirmed for so long makes no new offers: it may have missed a stop.
pub const STALE_AFTER_MS: i64 = 30_000;

/// Products with their releases and rollouts.
#[derive(Debug, Default)]
pub struct Products {
    views: HashMap<ProductId, Arc<ProductView>>,
    names: HashMap<String, ProductId>,
    pids: HashMap<String, ProductId>,
}

impl Products {
    /// Every product.
    pub fn all(&self) -> impl Iterator<Item = &Arc<ProductView>> {
        self.views.values()
    }

    /// A product by id.
    pub fn get(&self, id: ProductId) -> Option<&Arc<ProductView>> {
        self.views.get(&id)
    }

    /// A product by name.
    pub fn by_name(&self, name: &str) -> Option<&Arc<ProductView>> {
        self.views.get(self.names.get(name)?)
    }

    /// A product by the id that Lens-style clients use.
    pub fn by_pid(&self, pid: &str) -> Option<&Arc<ProductView>> {
        self.views.get(self.pids.get(pid)?)
    }

    /// A release of any product.
    pub fn release(&self, id: ReleaseId) -> Option<(&Arc<ProductView>, &ReleaseView)> {
        self.views.values().find_map(|product| {
            product.releases().iter().find(|view| view.release.id == id).map(|view| (product, view))
        })
    }

    /// Whether anyone may read what belongs to this product. What belongs to none (`targets`, `root`) is public.
    pub fn is_gated(&self, name: &str) -> bool {
        self.by_name(name).is_some_and(|product| product.product.visibility == Visibility::Gated)
    }
}

/// Patches and full encodings, by the image they make.
#[derive(Debug, Default)]
pub struct EncodingSet {
    patches: HashMap<Digest, Vec<Patch>>,
    fulls: HashMap<Digest, Vec<Full>>,
}

impl EncodingSet {
    /// What is at hand for an image.
    pub fn of(&self, image: Digest) -> Encodings<'_> {
        Encodings {
            patches: self.patches.get(&image).map_or(&[], Vec::as_slice),
            fulls: self.fulls.get(&image).map_or(&[], Vec::as_slice),
        }
    }
}

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

/// What was read, noun by noun.
#[derive(Debug, Default)]
struct Parts {
    generations: HashMap<String, i64>,
    products: Vec<Product>,
    releases: HashMap<ProductId, Vec<ReleaseView>>,
    rollouts: Vec<Rollout>,
}

/// The snapshots.
#[derive(Debug, Default)]
pub struct Live {
    products: ArcSwap<Products>,
    encodings: ArcSwap<EncodingSet>,
    documents: ArcSwap<Documents>,
    confirmed_at: AtomicI64,
    // Held while reading anew, so that two refreshes never swap in the older state last.
    parts: tokio::sync::Mutex<Parts>,
}

impl Live {
    /// Products with their releases and rollouts.
    pub fn products(&self) -> arc_swap::Guard<Arc<Products>> {
        self.products.load()
    }

    /// Patches and full encodings.
    pub fn encodings(&self) -> arc_swap::Guard<Arc<EncodingSet>> {
        self.encodings.load()
    }

    /// Signed documents.
    pub fn documents(&self) -> arc_swap::Guard<Arc<Documents>> {
        self.documents.load()
    }

    /// Signed documents, to hold for longer than a moment.
    pub fn documents_full(&self) -> Arc<Documents> {
        self.documents.load_full()
    }

    /// Whether the snapshots were confirmed recently enough to make new offers.
    pub fn is_fresh(&self, now: Time) -> bool {
        now.as_ms() - self.confirmed_at.load(Ordering::Acquire) <= STALE_AFTER_MS
    }

    /// Reads anew what has changed; whether many devices changed at once, so that no copy of one is to be trusted. `asked` is the moment before the question was put.
    pub async fn refresh(&self, store: &Store, asked: Time) -> Result<bool> {
        let mut parts = self.parts.lock().await;
        let generations: HashMap<String, i64> = store.generations().await?.into_iter().collect();
        let changed = |noun: &str| parts.generations.get(noun) != generations.get(noun);
        let (releases, rollouts, patches, documents) =
            (changed("releases"), changed("rollouts"), changed("patches"), changed("documents"));
        let devices = changed("devices");
        // Nothing is noted as read before it was: a failure half-way is read again at the next call.
        if releases {
            parts.products = store.product_all().await?;
            parts.releases = release_views(store).await?;
        }
        if rollouts {
            parts.rollouts = store.rollout_all().await?;
        }
        if releases || rollouts {
            self.products.store(Arc::new(combine(&parts)));
        }
        if patches {
            self.encodings.store(Arc::new(encodings(store).await?));
        }
        if documents {
            self.documents.store(Arc::new(read_documents(store).await?));
        }
        parts.generations = generations;
        self.confirmed_at.fetch_max(asked.as_ms(), Ordering::AcqRel);
        Ok(devices)
    }
}

async fn release_views(store: &Store) -> Result<HashMap<ProductId, Vec<ReleaseView>>> {
    let trains: HashMap<(ProductId, String), Time> = store
        .train_all()
        .await?
        .into_iter()
        .map(|train| ((train.product_id, String::from(train.name)), train.ga_at))
        .collect();
    let mut artifacts: HashMap<ReleaseId, Vec<_>> = HashMap::new();
    for artifact in store.artifact_all().await? {
        artifacts.entry(artifact.release_id).or_default().push(artifact);
    }
    let mut facts: HashMap<ReleaseId, Vec<_>> = HashMap::new();
    for row in store.release_facts(false).await? {
        facts.entry(row.release_id).or_default().push(row.known()?.fact);
    }
    let mut views: HashMap<ProductId, Vec<ReleaseView>> = HashMap::new();
    for release in store.release_all().await? {
        let train_ga = *trains
            .get(&(release.product_id, release.train.to_string()))
            .ok_or_else(|| StoreError::Corrupt(format!("release {} has no train", release.id)))?;
        let artifacts = artifacts.remove(&release.id).unwrap_or_default();
        let mut view = ReleaseView::new(release, artifacts, train_ga);
        for fact in facts.remove(&view.release.id).unwrap_or_default() {
            view.say(fact);
        }
        views.entry(view.release.product_id).or_default().push(view);
    }
    Ok(views)
}

fn combine(parts: &Parts) -> Products {
    let mut products = Products::default();
    for product in &parts.products {
        let releases = parts.releases.get(&product.id).cloned().unwrap_or_default();
        let rollouts = parts
            .rollouts
            .iter()
            .filter(|rollout| releases.iter().any(|release| release.release.id == rollout.release_id))
            .cloned()
            .collect();
        products.names.insert(product.name.to_string(), product.id);
        if let Some(pid) = &product.pid {
            products.pids.insert(pid.to_string(), product.id);
        }
        let view = ProductView::new(product.clone(), releases, rollouts);
        products.views.insert(product.id, Arc::new(view));
    }
    products
}

async fn encodings(store: &Store) -> Result<EncodingSet> {
    let mut set = EncodingSet::default();
    for patch in store.patch_ready().await? {
        set.patches.entry(patch.to_sha256).or_default().push(patch);
    }
    for full in store.full_all().await? {
        set.fulls.entry(full.of_sha256).or_default().push(full);
    }
    Ok(set)
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

async fn read_documents(store: &Store) -> Result<Documents> {
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
