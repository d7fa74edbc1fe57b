//! Rollouts as they go, told with every change. However many watch one, it is looked at once: one task for each rollout that somebody
//! watches, which ends with the last of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sluice_catalog::id::RolloutId;
use sluice_catalog::principal::Permission;
use sluice_catalog::rollout::{Rollout, RolloutState, Stats, completes_at, gate_view, waits};
use sluice_catalog::text::Slug;
use sluice_catalog::wire::live::{Bytes, HEARTBEAT_S, Reached, RolloutLive};
use sluice_catalog::{Digest, Kind, Time};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::super::{Actor, App};
use crate::error::{Error, Result};

/// Streams that are open at once on one server: each holds a connection for as long as somebody looks.
pub const MAX_STREAMS: usize = 256;
/// Events that wait for one client. Each is the whole state: who is so far behind reads nothing, and asks again.
const QUEUE: usize = 4;
/// How often a rollout that is watched is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// What the executor counted is as good for so long.
const COUNTED_LASTS_MS: i64 = 3000;
/// A stream ends after so long, and its client asks again with its token: it may have been revoked.
const LASTS: Duration = Duration::from_mins(30);

/// One event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LiveEvent {
    /// The rollout as it stands now, as JSON, and what this state is called.
    State {
        /// A digest of it: the same on every replica.
        id: Arc<str>,
        /// A [`RolloutLive`].
        json: Arc<str>,
    },
    /// Nothing has changed.
    Alive,
}

/// Who watches which rollout.
#[derive(Debug)]
pub struct Lives {
    slots: Arc<Semaphore>,
    watched: Mutex<HashMap<RolloutId, Arc<Watched>>>,
    ended: watch::Sender<bool>,
}

#[derive(Debug)]
struct Watched {
    shown: watch::Sender<Option<(Arc<str>, Arc<str>)>>,
    /// What the executor counted last, and of what.
    counted: Mutex<Option<(Rollout, Time, Stats)>>,
}

impl Default for Lives {
    fn default() -> Self {
        Self {
            slots: Arc::new(Semaphore::new(MAX_STREAMS)),
            watched: Mutex::default(),
            ended: watch::Sender::new(false),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lives {
    /// Ends every stream, and opens no more.
    pub fn close(&self) {
        self.ended.send_replace(true);
    }

    /// Streams that are open, and rollouts that are looked at for them.
    pub fn open(&self) -> (usize, usize) {
        (MAX_STREAMS - self.slots.available_permits(), locked(&self.watched).len())
    }

    /// Keeps what the executor has counted, where somebody watches.
    pub(super) fn counted(&self, rollout: &Rollout, stats: &Stats, now: Time) {
        if let Some(watched) = locked(&self.watched).get(&rollout.id) {
            *locked(&watched.counted) = Some((rollout.clone(), now, stats.clone()));
        }
    }

    /// Joins those who watch a rollout. The first one starts the looking.
    fn join(&self, app: &Arc<App>, id: RolloutId) -> watch::Receiver<Option<(Arc<str>, Arc<str>)>> {
        let mut all = locked(&self.watched);
        if let Some(watched) = all.get(&id) {
            let mut shown = watched.shown.subscribe();
            shown.mark_changed();
            return shown;
        }
        let (shown, receiver) = watch::channel(None);
        let watched = Arc::new(Watched { shown, counted: Mutex::default() });
        all.insert(id, Arc::clone(&watched));
        app.runtime.spawn(look(Arc::clone(app), id, watched));
        receiver
    }

    /// Whether nobody watches a rollout any more: then it is forgotten.
    fn is_left(&self, id: RolloutId, watched: &Watched, ends: bool) -> bool {
        let mut all = locked(&self.watched);
        // Under the lock under which others join.
        let left = ends || watched.shown.receiver_count() == 0;
        if left {
            all.remove(&id);
        }
        left
    }
}

/// Looks at one rollout for all who watch it.
async fn look(app: Arc<App>, id: RolloutId, watched: Arc<Watched>) {
    let mut ended = app.lives.ended.subscribe();
    let mut interval = tokio::time::interval(LOOK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let ends = tokio::select! {
            _ = interval.tick() => false,
            _ = ended.wait_for(|ended| *ended) => true,
        };
        if app.lives.is_left(id, &watched, ends) {
            return;
        }
        let counted = locked(&watched.counted).take();
        match app.live_state(id, counted).await {
            Ok(state) => {
                let (name, json) = named(&state, app.now());
                watched.shown.send_if_modified(|shown| {
                    let changed = shown.as_ref().is_none_or(|(was, _)| *was != name);
                    if changed {
                        *shown = Some((name, json));
                    }
                    changed
                });
            }
            // The next look may succeed; until then the streams only show that they are alive.
            Err(error) => {
                tracing::warn!(%error, cause = ?error.cause, "a rollout that is watched could not be looked at: {error}");
            }
        }
    }
}

/// What a rollout has reached by now.
pub(super) fn reach(rollout: &Rollout, now: Time) -> u16 {
    if rollout.state.makes_offers() { rollout.reach(now) } else { u16::try_from(rollout.reached).unwrap_or(0) }
}

/// What a state is called, and the state with the moment at which it was first seen.
fn named(state: &RolloutLive, now: Time) -> (Arc<str>, Arc<str>) {
    let json = |at: Time| serde_json::to_string(&RolloutLive { at, ..state.clone() }).unwrap_or_default();
    let digest = Digest::of(json(Time::EPOCH).as_bytes()).to_string();
    (digest.get(..16).unwrap_or(&digest).into(), json(now).into())
}

/// Brings what is new to one client. `seen` is what it has.
async fn forward(
    _slot: OwnedSemaphorePermit,
    mut shown: watch::Receiver<Option<(Arc<str>, Arc<str>)>>,
    sender: mpsc::Sender<LiveEvent>,
    mut seen: Option<Arc<str>>,
    mut ended: watch::Receiver<bool>,
) {
    let mut alive = tokio::time::interval(Duration::from_secs(HEARTBEAT_S));
    let end = tokio::time::sleep(LASTS);
    tokio::pin!(end);
    loop {
        let event = tokio::select! {
            _ = ended.wait_for(|ended| *ended) => return,
            () = &mut end => return,
            () = sender.closed() => return,
            changed = shown.changed() => {
                if changed.is_err() {
                    return;
                }
                let Some((id, json)) = shown.borrow_and_update().clone() else { continue };
                if seen.as_ref() == Some(&id) {
                    continue;
                }
                seen = Some(Arc::clone(&id));
                LiveEvent::State { id, json }
            }
            _ = alive.tick() => LiveEvent::Alive,
        };
        // Whoever does not read is left: what would be kept for it is old before it is read.
        if sender.try_send(event).is_err() {
            return;
        }
    }
}

impl App {
    /// A rollout as it stands, and then with every change. Whoever has seen a state is not told it again. Dropping it ends it.
    pub async fn rollout_live(
        self: &Arc<Self>,
        actor: &Actor,
        name: &Slug,
        seen: Option<&str>,
    ) -> Result<mpsc::Receiver<LiveEvent>> {
        actor.need(Permission::Read)?;
        let rollout = self.store.rollout_by_name(name).await?.ok_or_else(|| Error::not_found("rollout", name))?;
        let full = || {
            let detail = format!("{MAX_STREAMS} streams are open on this server, or it stops; try again later");
            Error::new(Kind::Unavailable, detail)
        };
        if *self.lives.ended.borrow() {
            return Err(full());
        }
        let slot = Arc::clone(&self.lives.slots).try_acquire_owned().map_err(|_| full())?;
        let shown = self.lives.join(self, rollout.id);
        let (sender, receiver) = mpsc::channel(QUEUE);
        let ended = self.lives.ended.subscribe();
        self.runtime.spawn(forward(slot, shown, sender, seen.map(Into::into), ended));
        Ok(receiver)
    }

    /// A rollout as it stands now, once.
    pub async fn rollout_live_once(&self, actor: &Actor, name: &Slug) -> Result<RolloutLive> {
        actor.need(Permission::Read)?;
        let rollout = self.store.rollout_by_name(name).await?.ok_or_else(|| Error::not_found("rollout", name))?;
        self.live_state(rollout.id, None).await
    }

    async fn live_state(&self, id: RolloutId, counted: Option<(Rollout, Time, Stats)>) -> Result<RolloutLive> {
        let now = self.now();
        let products = self.live.products_full();
        let found = products.all().find_map(|product| {
            product.rollouts.iter().find(|rollout| rollout.id == id).map(|rollout| (product, rollout.clone()))
        });
        let (product, rollout) = found.ok_or_else(|| Error::not_found("rollout", id))?;
        let stats = match counted {
            Some((of, at, stats)) if of == rollout && now.as_ms() - at.as_ms() <= COUNTED_LASTS_MS => stats,
            _ => self.rollout_stats(&rollout, now).await?,
        };
        let (product_name, version) = self.rollout_release(&rollout)?;
        let mut state = RolloutLive {
            at: now,
            name: rollout.name.clone(),
            product: product_name,
            version,
            state: rollout.state,
            stage: rollout.stage,
            stages: rollout.stages.0.clone(),
            reach: reach(&rollout, now),
            stopped_all: product.stopped,
            devices: Reached::default(),
            by_stage: vec![Reached::default(); rollout.stages.0.len()],
            by_hardware: stats.hardware.keys().map(|hardware| (hardware.clone(), Reached::default())).collect(),
            excluded: rollout.excluded.iter().map(str::to_owned).collect(),
            counts: stats.total(&rollout.excluded),
            waits: waits(&rollout, &stats, now),
            gate: None,
            completes_at: None,
            bytes: self.rollout_bytes(&rollout).await?,
            patches: self.patch_progress(rollout.release_id).await?,
        };
        if rollout.state == RolloutState::Running && !product.stopped {
            state.gate = gate_view(&rollout, &state.counts, now);
            state.completes_at = completes_at(&rollout, &stats, now);
        }
        for group in self.store.attempt_progress(&rollout, rollout.mature_before(now)).await? {
            state.devices.add(group.state, group.class, group.count);
            if let Some(stage) = usize::try_from(group.stage).ok().and_then(|stage| state.by_stage.get_mut(stage)) {
                stage.add(group.state, group.class, group.count);
            }
            state.by_hardware.entry(group.hardware).or_default().add(group.state, group.class, group.count);
        }
        Ok(state)
    }

    /// Bytes that a rollout's downloads took, and those that patches saved.
    pub(super) async fn rollout_bytes(&self, rollout: &Rollout) -> Result<Bytes> {
        let mut bytes = Bytes::default();
        let products = self.live.products_full();
        let Some((_, release)) = products.release(rollout.release_id) else { return Ok(bytes) };
        let encodings = self.live.encodings();
        for (hardware, encoding, attempts, taken) in self.store.attempt_bytes(rollout).await? {
            let taken = u64::try_from(taken).unwrap_or(0);
            bytes.sent += taken;
            if encoding.as_deref() == Some("patch") {
                let images = release.artifacts.iter().filter(|image| image.hw_ids.contains(&hardware));
                let full = images.map(|image| {
                    let smallest = encodings.of(image.sha256).fulls.iter().map(|full| full.length).min();
                    smallest.map_or(image.length, |length| length.min(image.length))
                });
                let full = u64::try_from(full.sum::<i64>()).unwrap_or(0);
                bytes.saved += full.saturating_mul(u64::try_from(attempts).unwrap_or(0)).saturating_sub(taken);
            }
        }
        Ok(bytes)
    }
}
