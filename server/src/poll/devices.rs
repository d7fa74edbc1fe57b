//! A bounded cache of devices with what they run, their cover and their open attempt. A miss costs one coalesced read,
//! however many requests wait for it; every change raises the device's revision, which drops stale copies everywhere.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use quick_cache::sync::Cache;
use sluice_catalog::Time;
use sluice_catalog::decide::DeviceView;
use sluice_catalog::id::DeviceId;
use sluice_catalog::rollout::Attempt;

use super::certificate::SignedCertificate;
use super::decided::Decided;
use super::live::Live;
use super::views;
use crate::store::{On, Result, Store};

/// Most last-seen times waiting to be written; beyond it they are dropped, which loses nothing that matters.
const MAX_SEEN: usize = 1_000_000;

/// Signed certificates kept in memory, a few kB each: they save a signature only where a device asks again and holds none.
const MAX_CERTIFICATES: usize = 10_000;

/// A device in memory.
#[derive(Debug)]
pub struct CachedDevice {
    /// What the decision looks at.
    pub view: DeviceView,
    /// The revision this copy was read at.
    pub revision: i64,
    /// The attempt that is open.
    pub attempt: Option<Attempt>,
    /// The version of the last director document made for it here; it outlives this copy.
    last_version: Arc<AtomicU64>,
}

impl CachedDevice {
    /// The version of the next director document: the Unix time, or one more than the last.
    pub fn next_version(&self, now: Time) -> u64 {
        let now = u64::try_from(now.as_s()).unwrap_or(0);
        let mut last = self.last_version.load(Ordering::Relaxed);
        loop {
            let next = now.max(last + 1);
            match self.last_version.compare_exchange_weak(last, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return next,
                Err(seen) => last = seen,
            }
        }
    }
}

/// The cache, and the last-seen times that wait to be written.
#[derive(Debug)]
pub struct Devices {
    cache: Cache<DeviceId, Arc<CachedDevice>>,
    // Apart from the copies, which every change drops: a device that polls twice in a second has a version ahead of the
    // time, and the next document must not be older.
    versions: Cache<DeviceId, Arc<AtomicU64>>,
    seen: Mutex<HashMap<DeviceId, Time>>,
    /// Certificates that were signed here.
    pub certificates: Cache<DeviceId, Arc<SignedCertificate>>,
    /// What devices were told.
    pub decided: Decided,
}

impl Devices {
    /// A cache of at most this many devices.
    pub fn new(capacity: usize) -> Self {
        Self {
            cache: Cache::new(capacity),
            versions: Cache::new(capacity),
            seen: Mutex::default(),
            certificates: Cache::new(capacity.min(MAX_CERTIFICATES)),
            decided: Decided::new(capacity),
        }
    }

    /// A device, if it is in memory.
    pub fn cached(&self, id: DeviceId) -> Option<Arc<CachedDevice>> {
        self.cache.get(&id)
    }

    /// A device from memory or, once for all who ask meanwhile, from the database.
    pub async fn get(&self, store: &Store, live: &Live, id: DeviceId) -> Result<Option<Arc<CachedDevice>>> {
        let read = async {
            let device = self.read(store, live, id).await?;
            device.map(Arc::new).ok_or(Missing::Unknown)
        };
        match self.cache.get_or_insert_async(&id, read).await {
            Ok(device) => Ok(Some(device)),
            Err(Missing::Unknown) => Ok(None),
            Err(Missing::Failed(error)) => Err(error),
        }
    }

    /// Reads a device anew after a change of its own, so that the answer that follows sees it.
    pub async fn reload(&self, store: &Store, live: &Live, id: DeviceId) -> Result<Option<Arc<CachedDevice>>> {
        let Some(device) = self.read(store, live, id).await? else { return Ok(None) };
        let device = Arc::new(device);
        self.cache.insert(id, Arc::clone(&device));
        Ok(Some(device))
    }

    /// Reads a device with everything that decides about it.
    async fn read(&self, store: &Store, live: &Live, id: DeviceId) -> Result<Option<CachedDevice>> {
        let Some(row) = store.device_get(id).await? else { return Ok(None) };
        let attempt = store.attempt_list(id, 1).await?.into_iter().find(|attempt| !attempt.state.is_final());
        let revision = row.revision;
        let view = views::of_rows(&mut On::from(store), live, vec![row]).await?.pop();
        let Some(mut view) = view else { return Ok(None) };
        // Copies are of devices that ask, now and as long as they are kept.
        view.last_seen = Some(Time::FOREVER);
        // One counter however many read at once.
        let fresh = || Ok::<_, std::convert::Infallible>(Arc::new(AtomicU64::new(0)));
        let Ok(last_version) = self.versions.get_or_insert_with(&id, fresh);
        Ok(Some(CachedDevice { view, revision, attempt, last_version }))
    }

    /// Drops a copy that a change made stale.
    pub fn forget(&self, id: DeviceId) {
        self.cache.remove(&id);
    }

    /// Drops every copy.
    pub fn forget_all(&self) {
        self.cache.clear();
    }

    /// Drops the copies that are at another revision than the database's.
    pub fn reconcile(&self, changes: &[(DeviceId, i64)]) {
        for (id, revision) in changes {
            if self.cache.peek(id).is_some_and(|copy| copy.revision != *revision) {
                self.cache.remove(id);
            }
        }
    }

    /// Notes that a device was seen.
    pub fn seen(&self, id: DeviceId, now: Time) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < MAX_SEEN || seen.contains_key(&id) {
            seen.insert(id, now);
        }
    }

    /// Takes the times noted since the last call, sorted, each device once.
    pub fn take_seen(&self) -> Vec<(DeviceId, Time)> {
        let mut seen: Vec<_> =
            std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner)).into_iter().collect();
        seen.sort_unstable_by_key(|(id, _)| *id);
        seen
    }
}

enum Missing {
    Unknown,
    Failed(crate::store::StoreError),
}

impl From<crate::store::StoreError> for Missing {
    fn from(error: crate::store::StoreError) -> Self {
        Self::Failed(error)
    }
}
