//! Moves rollouts that move by themselves. The planner says what is next; here it is carried out once, whatever the number of
//! replicas: a transition is kept only when the rollout still is what the planner looked at.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use sluice_catalog::principal::Permission;
use sluice_catalog::rollout::{Cause, Rollout, RolloutState, Stats, StopRules, plan};
use sluice_catalog::wire::admin::MAX_TITLE_LEN;
use sluice_catalog::wire::rollout::StopAll;
use sluice_catalog::{Kind, Period, Time};

use super::super::{Actor, App};
use crate::error::{Error, Result};
use crate::store::{Because, Tx};

/// The lease of who looks. It only saves work: two that look at once move nothing twice.
const LEASE: &str = "rollouts";
/// How long a replica that looks is waited for.
const LEASE_LASTS: Period = Period::seconds(30);
/// A rollout that is done is watched for so long: late failures must stop what late devices would get.
const WATCHED_AFTER_DONE: Period = Period::days(14);
/// Silent attempts from which on it is worth counting the controls: a stop rule needs as many.
const WORTH_CONTROLS: u64 = sluice_catalog::rollout::MIN_STOP;
/// A longer time between two looks is one in which the server, or its database, was away.
const AWAY: Period = Period::minutes(1);
/// Moves of one rollout in one look: its stages, and each hardware id that may be taken out.
const MAX_MOVES: usize = 64;

/// Since when rollouts are looked at without a break.
#[derive(Debug, Default)]
pub struct Watch {
    /// The first and the last look.
    looks: Mutex<Option<(Time, Time)>>,
}

impl Watch {
    /// Notes a look; since when there was no break.
    fn looked(&self, now: Time) -> Time {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let since = looks.filter(|(_, last)| now <= last.plus(AWAY)).map_or(now, |(since, _)| since);
        *looks = Some((since, now));
        since
    }
}

impl App {
    /// Looks at every rollout that may move by itself, on one replica at a time. How many moves were made.
    pub async fn rollouts_tick(self: &Arc<Self>) -> Result<usize> {
        let now = self.now();
        let mut moves = 0;
        // Who cannot read the database has not looked. What is in memory may be half a second old: a move from what a rollout no longer
        // is does nothing.
        if !self.live.is_fresh(now) {
            return Ok(0);
        }
        let looked_since = self.watch.looked(now);
        let products = self.live.products_full();
        let going = products.all().filter(|product| !product.stopped).flat_map(|product| &product.rollouts);
        let watched: Vec<Rollout> = going.filter(|rollout| may_move(rollout, now)).cloned().collect();
        if watched.is_empty()
            || !self.store.lease_take(LEASE, self.publisher.replica.as_str(), now, now.plus(LEASE_LASTS)).await?
        {
            return Ok(0);
        }
        for rollout in watched {
            // What is wrong with one rollout must not keep the others from being stopped.
            match self.rollout_step(rollout.clone(), looked_since).await {
                Ok(made) => moves += made,
                Err(error) => {
                    let name = &rollout.name;
                    tracing::error!(rollout = %name, error = %error, cause = ?error.cause, "rollout {name} could not be looked at: {error}");
                }
            }
        }
        if moves > 0 {
            self.refresh().await?;
        }
        Ok(moves)
    }

    /// Lets another replica look at once.
    pub async fn rollouts_stop(&self) -> Result<()> {
        Ok(self.store.lease_give(LEASE, &self.publisher.replica).await?)
    }

    /// Makes every move of a rollout that is due.
    async fn rollout_step(&self, mut rollout: Rollout, looked_since: Time) -> Result<usize> {
        for made in 0..MAX_MOVES {
            let now = self.now();
            let stats = self.rollout_stats(&rollout, now).await?;
            let mut judged = rollout.clone();
            if now < looked_since.plus(rollout.rules.mature) {
                // The server was away, and nobody could be heard: that is not the devices' silence.
                judged.rules.stop.silent = None;
            }
            let Some(transition) = plan(&judged, &stats, now) else { return Ok(made) };
            let moved = rollout.after(&transition, now);
            let (cause, digest) = (transition.sentence(), transition.digest(&rollout, "server", now));
            let mut tx = self.store.begin().await?;
            let because = Because { actor: "server", cause: &cause, evidence: Some((&transition, digest)) };
            if !tx.rollout_move(&rollout, &moved, now, because).await? {
                // Somebody was faster; the next look is at what they made of it.
                return Ok(made);
            }
            tx.generation_raise("rollouts").await?;
            let action = match (&transition.cause, transition.exclude.is_some()) {
                (Cause::Start, _) => "rollout.open",
                (Cause::Gate, _) => "rollout.gate",
                (Cause::Stop { .. }, false) => "rollout.stop",
                (Cause::Stop { .. }, true) => "rollout.exclude",
            };
            let detail = json!({
                "from": rollout.state, "to": moved.state, "stage": moved.stage, "cause": cause, "exclude": transition.exclude,
                "figures": transition.figures, "digest": digest,
            });
            tx.audit_add(now, "server", action, &format!("rollout:{}", rollout.name), &detail).await?;
            tx.commit().await?;
            tracing::info!(rollout = %rollout.name, state = moved.state.as_str(), stage = moved.stage, "rollout {}: {cause}", rollout.name);
            rollout = moved;
        }
        Ok(MAX_MOVES)
    }

    /// What is known of a rollout's attempts.
    pub(super) async fn rollout_stats(&self, rollout: &Rollout, now: Time) -> Result<Stats> {
        let mature_before = rollout.mature_before(now);
        let mut stats = self.store.attempt_stats(rollout, mature_before).await?;
        let silent = stats.total(&rollout.excluded).begun.unheard();
        if rollout.rules.stop.silent.is_some() && silent >= WORTH_CONTROLS {
            let products = self.live.products_full();
            if let Some((product, _)) = products.release(rollout.release_id) {
                let product = product.product.id;
                self.store.attempt_controls(&mut stats, rollout.id, product, mature_before).await?;
            }
        }
        Ok(stats)
    }

    /// The switch that stops every rollout.
    pub async fn stop_all_get(&self, actor: &Actor) -> Result<StopAll> {
        actor.need(Permission::Read)?;
        Ok(self.store.stop_all().await?)
    }

    /// Turns the switch. Honoured at the next poll of every device; a replica that cannot read it makes no offers after 30 s.
    pub async fn stop_all_set(&self, actor: &Actor, request: &StopAll) -> Result<StopAll> {
        actor.need(Permission::Rollouts)?;
        if request.reason.len() > MAX_TITLE_LEN {
            return Err(Error::invalid("reason", format!("at most {MAX_TITLE_LEN} bytes")));
        }
        if request.stopped && request.reason.trim().is_empty() {
            return Err(Error::new(Kind::Invalid, "reason: say why everything stops, for whoever finds it so"));
        }
        let now = self.now();
        let mut tx = self.store.begin().await?;
        let before = tx.stop_all().await?;
        if before.stopped == request.stopped {
            return Ok(before);
        }
        let set = StopAll {
            stopped: request.stopped,
            reason: request.reason.clone(),
            by: actor.name().to_owned(),
            at: Some(now),
        };
        tx.stop_all_put(&set).await?;
        if !set.stopped {
            self.go_on(&mut tx, before.at.unwrap_or(now), actor, now).await?;
        }
        tx.generation_raise("rollouts").await?;
        let action = if set.stopped { "rollouts.stop_all" } else { "rollouts.go_on" };
        tx.audit_add(now, actor.name(), action, "rollouts", &json!({"reason": set.reason})).await?;
        tx.commit().await?;
        self.refresh().await?;
        Ok(set)
    }
}

impl App {
    /// Lets every rollout go on from what it had reached when everything was stopped: time has stood still for it.
    async fn go_on(&self, tx: &mut Tx, stopped_at: Time, actor: &Actor, now: Time) -> Result<()> {
        for rollout in tx.rollout_all().await? {
            if rollout.state.makes_offers() {
                let reached = i32::from(rollout.reach(stopped_at)).max(rollout.reached);
                let moved = Rollout { reached, stage_since: now, ..rollout.clone() };
                let cause = format!("goes on: everything was stopped at {stopped_at}");
                let because = Because { actor: actor.name(), cause: &cause, evidence: None };
                if !tx.rollout_move(&rollout, &moved, now, because).await? {
                    return Err(super::moved_meanwhile(&rollout.name));
                }
            }
        }
        Ok(())
    }
}

/// Whether the planner could move it at some time.
fn may_move(rollout: &Rollout, now: Time) -> bool {
    let stops = rollout.rules.stop != StopRules::default();
    match rollout.state {
        RolloutState::Scheduled => true,
        RolloutState::Running => stops || rollout.stages.gate(rollout.stage).is_some(),
        RolloutState::Done => stops && now < rollout.stage_since.plus(WATCHED_AFTER_DONE),
        _ => false,
    }
}
