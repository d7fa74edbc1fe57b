//! Rollouts as they go, told with every change. However many watch one, it is looked at once: one task for each rollout that somebody
//! watches, which ends with the last of them. Whoever comes is told nothing from before it asked.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sluice_catalog::id::RolloutId;
use sluice_catalog::principal::Permission;
use sluice_catalog::rollout::{Rollout, RolloutState, completes_at, gate_view, waits};
use sluice_catalog::text::Slug;
use sluice_catalog::wire::live::{HEARTBEAT_S, Reached, RolloutLive};
use sluice_catalog::wire::rollout::StopAll;
use sluice_catalog::{Digest, Kind, Time};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::super::{Actor, App};
use super::executor::pause_ms;
use super::figures::Figures;
use crate::error::{Error, Result};

/// Streams that are open at once on one server: each holds a connection for as long as somebody looks.
pub const MAX_STREAMS: usize = 256;
/// Events that wait for one client. Each is the whole state: who is so far behind reads nothing, and asks again.
const QUEUE: usize = 4;
/// How often a rollout that is watched is looked at; less often where that takes long.
const LOOK: Duration = Duration::from_secs(1);
/// What the executor counted is as good for so long.
const COUNTED_LASTS_MS: i64 = 3000;
/// How often it is asked whether those who watch still may.
const ASKED_AGAIN_MS: i64 = 15_000;
/// Streams of a rollout that could not be looked at for so long after it was due end: who asks again is told why.
const UNSEEN_MS: i64 = 30_000;
/// A stream ends after so long: a client that is gone without a sign holds nothing for ever.
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
    /// The stream is open.
    Alive,
}

/// Who watches which rollout.
#[derive(Debug)]
pub struct Lives {
    slots: Arc<Semaphore>,
    watched: Mutex<HashMap<RolloutId, Arc<Watched>>>,
    ended: watch::Sender<bool>,
}

/// What a look has found.
#[derive(Clone, Debug)]
struct Shown {
    /// Which look it was, from 1.
    look: u64,
    id: Arc<str>,
    json: Arc<str>,
    /// Tokens that open nothing any more.
    refused: Arc<HashSet<Digest>>,
}

#[derive(Debug)]
struct Watched {
    shown: watch::Sender<Option<Shown>>,
    /// Looks that have begun.
    looks: AtomicU64,
    /// Somebody came and waits for a look.
    wanted: Notify,
    /// When the last of those came, as the server's time: what was counted before is nothing to them.
    asked_ms: AtomicI64,
    /// The tokens of those who watch; one stands as often as it watches.
    tokens: Arc<Mutex<Vec<Digest>>>,
    /// What the executor counted last, and of what.
    counted: Mutex<Option<(Rollout, Time, Figures)>>,
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
    pub(super) fn counted(&self, rollout: &Rollout, figures: &Figures, now: Time) {
        if let Some(watched) = locked(&self.watched).get(&rollout.id) {
            *locked(&watched.counted) = Some((rollout.clone(), now, figures.clone()));
        }
    }

    /// Joins those who watch a rollout. The first one starts the looking.
    fn join(&self, app: &Arc<App>, id: RolloutId, seen: Option<Arc<str>>, token: Option<Digest>) -> Watcher {
        let mut all = locked(&self.watched);
        let watched = all.entry(id).or_insert_with(|| {
            let watched = Arc::new(Watched {
                shown: watch::Sender::new(None),
                looks: AtomicU64::new(0),
                wanted: Notify::new(),
                asked_ms: AtomicI64::new(app.now().as_ms()),
                tokens: Arc::default(),
                counted: Mutex::default(),
            });
            app.runtime.spawn(look(Arc::clone(app), id, Arc::clone(&watched)));
            watched
        });
        let mut shown = watched.shown.subscribe();
        shown.mark_changed();
        // What was found before it came may be what it has already, or older than what it has seen elsewhere.
        let has_it = shown.borrow().as_ref().is_some_and(|shown| Some(&shown.id) == seen.as_ref());
        let from = if has_it { 0 } else { watched.looks.load(Ordering::Acquire) + 1 };
        if !has_it {
            watched.asked_ms.store(app.now().as_ms(), Ordering::Release);
            watched.wanted.notify_one();
        }
        if let Some(token) = token {
            locked(&watched.tokens).push(token);
        }
        Watcher { shown, from, seen, token, tokens: Arc::clone(&watched.tokens) }
    }

    /// Whether nobody watches a rollout any more: then it is forgotten.
    fn is_left(&self, id: RolloutId, watched: &Arc<Watched>) -> bool {
        let mut all = locked(&self.watched);
        // Under the lock under which others join.
        let left = watched.shown.receiver_count() == 0;
        if left {
            forget(&mut all, id, watched);
        }
        left
    }
}

fn forget(all: &mut HashMap<RolloutId, Arc<Watched>>, id: RolloutId, watched: &Arc<Watched>) {
    if all.get(&id).is_some_and(|there| Arc::ptr_eq(there, watched)) {
        all.remove(&id);
    }
}

/// One who watches.
struct Watcher {
    shown: watch::Receiver<Option<Shown>>,
    /// The first look that it is told of.
    from: u64,
    /// What it has.
    seen: Option<Arc<str>>,
    token: Option<Digest>,
    tokens: Arc<Mutex<Vec<Digest>>>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut tokens = locked(&self.tokens);
        if let Some(at) = tokens.iter().position(|token| Some(*token) == self.token) {
            tokens.swap_remove(at);
        }
    }
}

/// The looking at one rollout. However it ends, the streams end with it and whoever comes next starts another.
struct Looking {
    app: Arc<App>,
    id: RolloutId,
    watched: Arc<Watched>,
}

impl Drop for Looking {
    fn drop(&mut self) {
        forget(&mut locked(&self.app.lives.watched), self.id, &self.watched);
    }
}

/// Looks at one rollout for all who watch it.
async fn look(app: Arc<App>, id: RolloutId, watched: Arc<Watched>) {
    let looking = Looking { app, id, watched };
    let mut ended = looking.app.lives.ended.subscribe();
    // Also out of a question that the database does not answer: a server that stops waits for it.
    tokio::select! {
        () = looking.go_on() => {}
        _ = ended.wait_for(|ended| *ended) => {}
    }
}

impl Looking {
    async fn go_on(&self) {
        let Self { app, id, watched } = self;
        let (mut due_at, mut asked_at) = (app.now(), app.now());
        let mut refused = Arc::default();
        loop {
            if app.lives.is_left(*id, watched) {
                return;
            }
            let number = watched.looks.fetch_add(1, Ordering::AcqRel) + 1;
            let began = tokio::time::Instant::now();
            let now = app.now();
            // A clock that was set back must not put the question off.
            if (now.as_ms() - asked_at.as_ms()).abs() >= ASKED_AGAIN_MS {
                asked_at = now;
                let tokens: HashSet<Digest> = locked(&watched.tokens).iter().copied().collect();
                refused = Arc::new(app.refused_of(tokens).await);
            }
            let asked_ms = watched.asked_ms.load(Ordering::Acquire);
            let counted = locked(&watched.counted).take().filter(|(_, at, _)| at.as_ms() > asked_ms);
            let seen = app.live_state(*id, counted).await;
            let took_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
            let rest = Duration::from_millis(u64::try_from(pause_ms(took_ms)).unwrap_or(0)).max(LOOK);
            match seen {
                Ok(state) => {
                    due_at = app.now().plus_ms(i64::try_from(rest.as_millis()).unwrap_or(0));
                    let before = watched.shown.borrow().clone();
                    let (name, json) = named(&state, app.now(), before);
                    watched.shown.send_replace(Some(Shown {
                        look: number,
                        id: name,
                        json,
                        refused: Arc::clone(&refused),
                    }));
                }
                Err(error) => {
                    tracing::warn!(%error, cause = ?error.cause, "a rollout that is watched could not be looked at: {error}");
                    // The next look may succeed. Who went on showing signs of life for long would say that nothing changes.
                    if error.kind == Kind::NotFound || (app.now().as_ms() - due_at.as_ms()).abs() >= UNSEEN_MS {
                        return;
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
            tokio::select! {
                () = tokio::time::sleep(rest.saturating_sub(LOOK)) => {}
                () = watched.wanted.notified() => {}
            }
        }
    }
}

/// What a rollout has reached by now; while everything is stopped, what it had reached then.
pub(super) fn reach(rollout: &Rollout, stop: &StopAll, now: Time) -> u16 {
    let at = stop.at.filter(|_| stop.stopped).map_or(now, |at| at.min(now));
    if rollout.state.makes_offers() { rollout.reach(at) } else { u16::try_from(rollout.reached).unwrap_or(0) }
}

/// What a state is called, and the state with the moment at which it was first seen: when it is as it was before, that of then.
fn named(state: &RolloutLive, now: Time, before: Option<Shown>) -> (Arc<str>, Arc<str>) {
    let json = |at: Time| serde_json::to_string(&RolloutLive { at, ..state.clone() }).unwrap_or_default();
    let digest = Digest::of(json(Time::EPOCH).as_bytes()).to_string();
    let id = digest.get(..16).unwrap_or(&digest);
    match before {
        Some(before) if *before.id == *id => (before.id, before.json),
        _ => (id.into(), json(now).into()),
    }
}

/// Brings what is new to one client.
async fn forward(
    _slot: OwnedSemaphorePermit,
    mut watcher: Watcher,
    sender: mpsc::Sender<LiveEvent>,
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
            changed = watcher.shown.changed() => {
                if changed.is_err() {
                    return;
                }
                let Some(shown) = watcher.shown.borrow_and_update().clone() else { continue };
                if watcher.token.is_some_and(|token| shown.refused.contains(&token)) {
                    return;
                }
                if shown.look < watcher.from || watcher.seen.as_ref() == Some(&shown.id) {
                    continue;
                }
                watcher.seen = Some(Arc::clone(&shown.id));
                LiveEvent::State { id: shown.id, json: shown.json }
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
    /// A rollout as it stands, and then with every change. Whoever has seen a state is not told it again. It ends when the token with which
    /// it was asked for opens it no more. Dropping it ends it.
    pub async fn rollout_live(
        self: &Arc<Self>,
        actor: &Actor,
        token: Option<Digest>,
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
        let watcher = self.lives.join(self, rollout.id, seen.map(Into::into), token);
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.runtime.spawn(forward(slot, watcher, sender, self.lives.ended.subscribe()));
        Ok(receiver)
    }

    /// Those of the tokens with which nobody may watch any more. Of what cannot be read nothing is known.
    async fn refused_of(&self, tokens: HashSet<Digest>) -> HashSet<Digest> {
        let mut refused = HashSet::new();
        for token in tokens {
            let may = match self.authenticate_hash(token).await {
                Ok(actor) => actor.need(Permission::Read),
                Err(error) => Err(error),
            };
            if may.is_err_and(|error| matches!(error.kind, Kind::Unauthenticated | Kind::Forbidden)) {
                refused.insert(token);
            }
        }
        refused
    }

    /// A rollout as it stands now, once.
    pub async fn rollout_live_once(&self, actor: &Actor, name: &Slug) -> Result<RolloutLive> {
        actor.need(Permission::Read)?;
        let rollout = self.store.rollout_by_name(name).await?.ok_or_else(|| Error::not_found("rollout", name))?;
        self.live_state(rollout.id, None).await
    }

    async fn live_state(&self, id: RolloutId, counted: Option<(Rollout, Time, Figures)>) -> Result<RolloutLive> {
        // From the database and not from memory: another replica may have moved it in this moment.
        let rollout = self.store.rollout_by_id(id).await?.ok_or_else(|| Error::not_found("rollout", id))?;
        let stop = self.store.stop_all().await?;
        let now = self.now();
        let figures = match counted {
            Some((of, at, figures))
                if of == rollout && (0..=COUNTED_LASTS_MS).contains(&(now.as_ms() - at.as_ms())) =>
            {
                figures
            }
            _ => self.rollout_figures(&rollout, now).await?,
        };
        let (product, version) = self.rollout_release(&rollout)?;
        let stats = &figures.stats;
        let counts = stats.total(&rollout.excluded);
        let goes_on = rollout.state == RolloutState::Running && !stop.stopped;
        let mut state = RolloutLive {
            at: now,
            name: rollout.name.clone(),
            product,
            version,
            state: rollout.state,
            stage: rollout.stage,
            stages: rollout.stages.0.clone(),
            reach: reach(&rollout, &stop, now),
            stopped_all: stop.stopped,
            devices: figures.devices(),
            by_stage: vec![Reached::default(); rollout.stages.0.len()],
            by_hardware: std::collections::BTreeMap::new(),
            excluded: rollout.excluded.iter().map(str::to_owned).collect(),
            counts,
            waits: waits(&rollout, stats, now),
            gate: gate_view(&rollout, &counts, now).filter(|_| goes_on),
            completes_at: completes_at(&rollout, stats, now).filter(|_| goes_on),
            bytes: self.rollout_bytes(&rollout).await?,
            patches: self.patch_progress(rollout.release_id).await?,
        };
        for group in figures.reaching {
            if let Some(stage) = usize::try_from(group.stage).ok().and_then(|stage| state.by_stage.get_mut(stage)) {
                stage.add(group.state, group.class, group.count);
            }
            state.by_hardware.entry(group.hardware).or_default().add(group.state, group.class, group.count);
        }
        Ok(state)
    }
}
