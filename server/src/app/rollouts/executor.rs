//! Moves rollouts that move by themselves. The planner says what is next; here it is carried out once, whatever the number of
//! replicas: a transition is kept only when the rollout still is what the planner looked at.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use sluice_catalog::id::RolloutId;
use sluice_catalog::principal::Permission;
use sluice_catalog::rollout::{Cause, Rollout, RolloutState, StopRules, plan};
use sluice_catalog::wire::admin::MAX_TITLE_LEN;
use sluice_catalog::wire::rollout::StopAll;
use sluice_catalog::{Kind, Period, Time};

use super::super::{Actor, App};
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::store::{Because, Tx};

/// The lease of who looks. It only saves work: two that look at once move nothing twice.
pub(super) const LEASE: &str = "rollouts";
/// How long a replica that looks is waited for; until then nobody watches what a dead one watched.
pub(super) const LEASE_LASTS: Period = Period::seconds(10);
/// Counting a rollout's attempts may take this part of the time, so that a million of them do not keep the database busy…
const COUNTING_SHARE: i64 = 10;
/// …but a rollout is looked at again within this time, however long that takes.
const LONGEST_PAUSE: Period = Period::minutes(1);
/// A rollout that is done is watched for so long: late failures must stop what late devices would get.
const WATCHED_AFTER_DONE: Period = Period::days(14);
/// A longer time between two looks is one in which the server, or its database, was away.
const AWAY: Period = Period::minutes(1);
/// Moves of one rollout in one look: its stages, and each hardware id that may be taken out.
const MAX_MOVES: usize = 64;

/// Since when rollouts are looked at without a break.
#[derive(Debug, Default)]
pub struct Watch {
    /// The first and the last look.
    looks: Mutex<Option<(Time, Time)>>,
    /// From when on each rollout is to be looked at again; those that took a while to count.
    rests: Mutex<BTreeMap<RolloutId, Time>>,
}

impl Watch {
    /// Notes a look; since when there was no break.
    fn looked(&self, now: Time) -> Time {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that ran ahead and came back must not make silence unheard until it is there again.
        let goes_on = |(since, last): &(Time, Time)| *since <= now && now <= last.plus(AWAY);
        let since = looks.filter(goes_on).map_or(now, |(since, _)| since);
        *looks = Some((since, now));
        since
    }

    /// Notes that a look is over. However long it took, the database answered: that is no break.
    fn answered(&self, now: Time) {
        if let Some((_, last)) = &mut *self.looks.lock().unwrap_or_else(PoisonError::into_inner) {
            *last = now.max(*last);
        }
    }

    /// Lets a rollout rest that took from `began` to `ended` to look at.
    fn rest(&self, rollout: RolloutId, began: Time, ended: Time) {
        let pause = pause_ms(ended.as_ms().saturating_sub(began.as_ms()));
        let mut rests = self.rests.lock().unwrap_or_else(PoisonError::into_inner);
        if pause > 0 {
            rests.insert(rollout, ended.plus_ms(pause));
        } else {
            rests.remove(&rollout);
        }
    }

    /// Whether a rollout rests. One whose rest would be longer than any can be has seen the clock go back.
    fn rests(&self, rollout: RolloutId, now: Time) -> bool {
        let rests = self.rests.lock().unwrap_or_else(PoisonError::into_inner);
        rests.get(&rollout).is_some_and(|until| now < *until && *until <= now.plus(LONGEST_PAUSE))
    }

    /// Forgets rollouts that nobody watches any more.
    fn keep(&self, watched: &[Rollout]) {
        let mut rests = self.rests.lock().unwrap_or_else(PoisonError::into_inner);
        rests.retain(|rollout, _| watched.iter().any(|one| one.id == *rollout));
    }
}

/// How long a rollout is left alone that took so long to look at.
pub(super) fn pause_ms(took_ms: i64) -> i64 {
    took_ms.saturating_mul(COUNTING_SHARE - 1).clamp(0, LONGEST_PAUSE.as_ms())
}

impl App {
    /// Looks at every rollout that may move by itself, on one replica at a time, at most for [`COUNTING_SHARE`] of the time.
    /// How many moves were made.
    pub async fn rollouts_tick(self: &Arc<Self>) -> Result<usize> {
        self.rollouts_look_at(|rollout, now| !self.watch.rests(rollout, now)).await
    }

    /// The same at once, without rest.
    pub async fn rollouts_look(self: &Arc<Self>) -> Result<usize> {
        self.rollouts_look_at(|_, _| true).await
    }

    async fn rollouts_look_at(self: &Arc<Self>, wanted: impl Fn(RolloutId, Time) -> bool) -> Result<usize> {
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
        self.watch.keep(&watched);
        for rollout in watched {
            let began = self.now();
            if !wanted(rollout.id, began) {
                continue;
            }
            // Again for each: many long counts may take longer than the lease lasts.
            if !self.store.lease_take(LEASE, self.publisher.replica.as_str(), began, began.plus(LEASE_LASTS)).await? {
                break;
            }
            let id = rollout.id;
            // What is wrong with one rollout must not keep the others from being stopped.
            match self.rollout_step(rollout.clone(), looked_since).await {
                Ok(made) => {
                    moves += made;
                    self.watch.answered(self.now());
                }
                Err(error) => {
                    let name = &rollout.name;
                    tracing::error!(rollout = %name, error = %error, cause = ?error.cause, "rollout {name} could not be looked at: {error}");
                }
            }
            self.watch.rest(id, began, self.now());
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
            let figures = self.rollout_figures(&rollout, now).await?;
            self.lives.counted(&rollout, &figures, now);
            let mut judged = rollout.clone();
            if now < looked_since.plus(rollout.rules.mature) {
                // The server was away, and nobody could be heard: that is not the devices' silence.
                judged.rules.stop.silent = None;
            }
            let Some(transition) = plan(&judged, &figures.stats, now) else { return Ok(made) };
            let moved = rollout.after(&transition, now);
            let (cause, digest) = (transition.sentence(), transition.digest(&rollout, "server", now));
            let mut tx = self.store.begin().await?;
            let because = Because { actor: "server", cause: &cause, evidence: Some((&transition, digest)) };
            if !tx.rollout_move(&rollout, &moved, now, because).await? {
                // Somebody was faster; the next look is at what they made of it.
                return Ok(made);
            }
            tx.generation_raise("rollouts").await?;
            // Counting may have taken a while, and whoever stops everything holds the same row: it is seen here, or comes after this.
            if tx.stop_all().await?.stopped {
                return Ok(made);
            }
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
            failpoint("rollouts.before_commit");
            tx.commit().await?;
            failpoint("rollouts.after_commit");
            tracing::info!(rollout = %rollout.name, state = moved.state.as_str(), stage = moved.stage, "rollout {}: {cause}", rollout.name);
            rollout = moved;
        }
        Ok(MAX_MOVES)
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
        tx.stop_all_put(&set, now).await?;
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

    /// Lets every rollout go on from what it had reached when everything was stopped: time has stood still for it.
    async fn go_on(&self, tx: &mut Tx, stopped_at: Time, actor: &Actor, now: Time) -> Result<()> {
        for rollout in tx.rollout_all().await? {
            if rollout.state.makes_offers() {
                let moved = rollout.stood_still(stopped_at, now);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_that_takes_long_to_count_rests_nine_times_as_long_and_a_minute_at_most() {
        let watch = Watch::default();
        let id = |number: u8| RolloutId::new(Time::EPOCH, [number; 10]);
        let at = |s: i64| Time::EPOCH.plus_s(1000 + s);
        watch.rest(id(1), at(0), at(2));
        watch.rest(id(2), at(0), at(30));
        watch.rest(id(3), at(0), at(0));
        assert!(watch.rests(id(1), at(2)) && watch.rests(id(1), at(19)) && !watch.rests(id(1), at(20)));
        assert!(watch.rests(id(2), at(89)) && !watch.rests(id(2), at(90)));
        assert!(!watch.rests(id(3), at(0)) && !watch.rests(id(4), at(0)));
        assert!(!watch.rests(id(1), at(-100)), "a clock that went back does not keep it asleep");
        watch.rest(id(1), at(20), at(20));
        assert!(!watch.rests(id(1), at(19)), "it counts fast again");
        watch.keep(&[]);
        assert!(!watch.rests(id(2), at(89)), "who is not watched is forgotten");
    }

    #[test]
    fn a_look_that_takes_long_is_no_break_and_a_time_without_looks_is_one() {
        let watch = Watch::default();
        let at = |s: i64| Time::EPOCH.plus_s(1000 + s);
        assert_eq!(watch.looked(at(0)), at(0));
        assert_eq!(watch.looked(at(60)), at(0));
        // Counting a fleet takes two minutes, again and again.
        watch.answered(at(180));
        assert_eq!(watch.looked(at(182)), at(0), "silence is judged all the same");
        assert_eq!(watch.looked(at(243)), at(243), "nobody looked for more than a minute");
        watch.answered(at(100));
        assert_eq!(watch.looked(at(303)), at(243), "a clock that goes back for a moment is no break");
        let year_s = 365 * 24 * 3600;
        assert_eq!(watch.looked(at(year_s)), at(year_s));
        assert_eq!(watch.looked(at(310)), at(310), "nor is silence unheard for a year after one that ran ahead");
        assert_eq!(watch.looked(at(340)), at(310));
    }
}
