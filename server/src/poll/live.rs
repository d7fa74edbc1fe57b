//! Snapshots of what can be chosen from. Each noun has a generation row, raised in the transaction of its changes; a noun
//! whose generation differs is read anew and swapped in whole, so a poll sees one consistent state and no lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use sluice_catalog::decide::{Encodings, ProductView, ReleaseView};
use sluice_catalog::id::{ProductId, ReleaseId};
use sluice_catalog::patch::{Full, Patch};
use sluice_catalog::product::{Product, Train, Visibility};
use sluice_catalog::rollout::Rollout;
use sluice_catalog::{Digest, Time};

use super::documents::{Documents, read_documents};
use crate::store::{Result, Store, StoreError};

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

/// What was read, noun by noun.
#[derive(Debug, Default)]
struct Parts {
    generations: HashMap<String, i64>,
    products: Vec<Product>,
    releases: HashMap<ProductId, Vec<ReleaseView>>,
    rollouts: Vec<Rollout>,
    stopped: bool,
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

    /// Products, to hold for longer than a moment.
    pub fn products_full(&self) -> Arc<Products> {
        self.products.load_full()
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

    /// Whether the snapshots were confirmed recently enough to make new offers. What was confirmed by a clock that was then set back says
    /// nothing.
    pub fn is_fresh(&self, now: Time) -> bool {
        now.as_ms().saturating_sub(self.confirmed_at.load(Ordering::Acquire)).saturating_abs() <= STALE_AFTER_MS
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
            parts.stopped = store.stop_all().await?.stopped;
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
        // One after the other, and not the greatest: the clock may have been set back.
        self.confirmed_at.store(asked.as_ms(), Ordering::Release);
        Ok(devices)
    }
}

async fn release_views(store: &Store) -> Result<HashMap<ProductId, Vec<ReleaseView>>> {
    let trains: HashMap<(ProductId, String), Train> =
        store.train_all().await?.into_iter().map(|train| ((train.product_id, train.name.to_string()), train)).collect();
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
        let train = trains
            .get(&(release.product_id, release.train.to_string()))
            .ok_or_else(|| StoreError::Corrupt(format!("release {} has no train", release.id)))?;
        let artifacts = artifacts.remove(&release.id).unwrap_or_default();
        let mut view = ReleaseView::new(release, artifacts, train.ga_at);
        view.support_end = train.support_end;
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
        let mut view = ProductView::new(product.clone(), releases, rollouts);
        view.stopped = parts.stopped;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_makes_nothing_fresh() {
        let live = Live::default();
        let at = |s: i64| Time::EPOCH.plus_s(100_000 + s);
        live.confirmed_at.store(at(0).as_ms(), Ordering::Release);
        assert!(live.is_fresh(at(30)) && !live.is_fresh(at(31)));
        assert!(live.is_fresh(at(-30)), "clocks are set by a little now and then");
        assert!(!live.is_fresh(at(-3600)), "for an hour a stop would not be missed");
    }
}
