//! Figures of rollouts as time goes by. At the first look in each slot of five minutes a point is kept of every rollout of which something
//! has changed. The primary key makes it one, however many servers look.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_catalog::id::RolloutId;
use sluice_catalog::principal::Permission;
use sluice_catalog::rollout::{Rollout, RolloutState};
use sluice_catalog::text::Slug;
use sluice_catalog::time::DAY_MS;
use sluice_catalog::wire::live::SeriesPoint;
use sluice_catalog::wire::rollout::StopAll;
use sluice_catalog::{Period, Time};

use super::super::{Actor, App};
use super::executor::{LEASE, LEASE_LASTS};
use super::live::reach;
use crate::error::{Error, Result};

/// The length of a slot.
const SLOT_MS: i64 = 5 * 60 * 1000;
/// Points older than this are thinned out to one an hour.
const HOURLY_AFTER: Period = Period::days(2);
/// Points older than this go: with the hourly ones, 10,200 of a rollout at most.
const KEPT_DAYS: i64 = 400;
/// A rollout that has ended is looked at for so long: devices still report.
const AFTER_THE_END: Period = Period::days(14);
/// A point so much ahead is of another server's clock, and is waited for; one further ahead is of a clock that was wrong.
const AHEAD: Period = Period::hours(1);

/// What was done last.
#[derive(Debug, Default)]
pub struct Series(Mutex<Done>);

#[derive(Clone, Copy, Debug, Default)]
struct Done {
    /// The slot of which points were kept.
    slot: Option<Time>,
    /// When old points of every rollout were thinned out.
    thinned: Option<Time>,
}

impl Series {
    fn done(&self) -> MutexGuard<'_, Done> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// Keeps a point of each rollout, once in each slot. How many were kept.
    pub async fn series_tick(self: &Arc<Self>) -> Result<usize> {
        let now = self.now();
        let slot = Time::from_ms(now.as_ms().div_euclid(SLOT_MS) * SLOT_MS);
        let Done { slot: last, thinned } = *self.series.done();
        if last == Some(slot) {
            return Ok(0);
        }
        let products = self.live.products_full();
        let all: Vec<&Rollout> = products.all().flat_map(|product| &product.rollouts).collect();
        if all.is_empty() {
            return Ok(0);
        }
        if !self.series_lease().await? {
            return Ok(0);
        }
        let moved_at: HashMap<RolloutId, Time> = self.store.rollout_moved_at().await?.into_iter().collect();
        let stop = self.store.stop_all().await?;
        // So often old points are thinned out of rollouts of which no new ones come.
        let thins = thinned.is_none_or(|at| !(0..DAY_MS).contains(&(now.as_ms() - at.as_ms())));
        let mut kept = 0;
        for rollout in all {
            let goes_on = goes_on(rollout, moved_at.get(&rollout.id).copied(), now);
            if !goes_on && !thins {
                continue;
            }
            // Again for each: many long counts may take longer than the lease lasts.
            if !self.series_lease().await? {
                return Ok(kept);
            }
            // What is wrong with one rollout must not keep the others from being written.
            let done = async {
                let added = if goes_on { self.series_keep(rollout, &stop, slot, now).await? } else { false };
                if added || thins {
                    let mut tx = self.store.begin().await?;
                    tx.series_thin(rollout.id, now.minus(HOURLY_AFTER), now.plus_days(-KEPT_DAYS)).await?;
                    tx.commit().await?;
                }
                Ok::<_, Error>(added)
            };
            match done.await {
                Ok(added) => kept += usize::from(added),
                Err(error) => {
                    let name = &rollout.name;
                    tracing::warn!(rollout = %name, %error, cause = ?error.cause, "figures of {name} were not kept: {error}");
                }
            }
        }
        let mut done = self.series.done();
        done.slot = Some(slot);
        if thins {
            done.thinned = Some(now);
        }
        Ok(kept)
    }

    async fn series_lease(&self) -> Result<bool> {
        let now = self.now();
        Ok(self.store.lease_take(LEASE, self.publisher.replica.as_str(), now, now.plus(LEASE_LASTS)).await?)
    }

    /// Keeps a point of a rollout, if something is other than in the last one and nobody was faster.
    async fn series_keep(&self, rollout: &Rollout, stop: &StopAll, slot: Time, now: Time) -> Result<bool> {
        let last = self.store.series_last(rollout.id, slot.plus(AHEAD)).await?;
        // A clock that was set back does not write into what was just written.
        if last.as_ref().is_some_and(|last| last.at >= slot) {
            return Ok(false);
        }
        let devices = self.rollout_devices(rollout, now).await?;
        let bytes = self.rollout_bytes(rollout).await?;
        let (state, stage, reach) = (rollout.state, rollout.stage, reach(rollout, stop, now));
        let point = SeriesPoint { at: slot, state, stage, reach, devices, bytes };
        if last.is_some_and(|last| SeriesPoint { at: slot, ..last } == point) {
            return Ok(false);
        }
        let mut tx = self.store.begin().await?;
        let added = tx.series_add(rollout.id, &point).await?;
        tx.commit().await?;
        Ok(added)
    }

    /// A rollout's points between two moments, after one that was read.
    pub async fn rollout_series(
        &self,
        actor: &Actor,
        name: &Slug,
        (from, to): (Option<Time>, Option<Time>),
        after: Option<i64>,
        limit: u32,
    ) -> Result<Vec<SeriesPoint>> {
        actor.need(Permission::Read)?;
        let rollout = self.store.rollout_by_name(name).await?.ok_or_else(|| Error::not_found("rollout", name))?;
        let (from, to) = (from.unwrap_or(Time::EPOCH), to.unwrap_or(Time::FOREVER));
        if to <= from {
            return Err(Error::invalid("to", format!("{to} is not after {from}")));
        }
        let from = after.map_or(from, |after| from.max(Time::from_ms(after.saturating_add(1))));
        Ok(self.store.series_list(rollout.id, from, to, limit).await?)
    }
}

/// Whether something of a rollout that moved last then may still change.
fn goes_on(rollout: &Rollout, moved_at: Option<Time>, now: Time) -> bool {
    match rollout.state {
        RolloutState::Draft | RolloutState::Review | RolloutState::Approved => false,
        RolloutState::Done | RolloutState::Halted | RolloutState::RollingBack => {
            now < moved_at.unwrap_or(rollout.stage_since).plus(AFTER_THE_END)
        }
        _ => true,
    }
}
