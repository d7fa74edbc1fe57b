//! Figures of rollouts as time goes by. At the first look in each slot of five minutes a point is kept of every rollout of which something
//! has changed. The primary key makes it one, however many servers look.

use std::sync::{Arc, Mutex, PoisonError};

use sluice_catalog::principal::Permission;
use sluice_catalog::rollout::{Rollout, RolloutState};
use sluice_catalog::text::Slug;
use sluice_catalog::wire::live::{Reached, SeriesPoint};
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

/// The slot of which points were kept last.
#[derive(Debug, Default)]
pub struct Series(Mutex<Option<Time>>);

impl Series {
    fn last(&self) -> Option<Time> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, slot: Time) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(slot);
    }
}

impl App {
    /// Keeps a point of each rollout, once in each slot. How many were kept.
    pub async fn series_tick(self: &Arc<Self>) -> Result<usize> {
        let now = self.now();
        let slot = Time::from_ms(now.as_ms().div_euclid(SLOT_MS) * SLOT_MS);
        if self.series.last() == Some(slot) {
            return Ok(0);
        }
        let products = self.live.products_full();
        let rollouts: Vec<Rollout> = products
            .all()
            .flat_map(|product| &product.rollouts)
            .filter(|rollout| goes_on(rollout, now))
            .cloned()
            .collect();
        if !rollouts.is_empty()
            && !self.store.lease_take(LEASE, self.publisher.replica.as_str(), now, now.plus(LEASE_LASTS)).await?
        {
            return Ok(0);
        }
        let mut kept = 0;
        for rollout in rollouts {
            let last = self.store.series_last(rollout.id).await?;
            // A clock that was set back does not write into what was.
            if last.as_ref().is_some_and(|last| last.at >= slot) {
                continue;
            }
            let point = self.series_point(&rollout, slot, now).await?;
            if last.is_some_and(|last| SeriesPoint { at: slot, ..last } == point) {
                continue;
            }
            let mut tx = self.store.begin().await?;
            kept += usize::from(tx.series_add(rollout.id, &point).await?);
            tx.series_thin(rollout.id, now.minus(HOURLY_AFTER), now.plus_days(-KEPT_DAYS)).await?;
            tx.commit().await?;
        }
        self.series.set(slot);
        Ok(kept)
    }

    async fn series_point(&self, rollout: &Rollout, at: Time, now: Time) -> Result<SeriesPoint> {
        let mut devices = Reached::default();
        for group in self.store.attempt_progress(rollout, rollout.mature_before(now)).await? {
            devices.add(group.state, group.class, group.count);
        }
        let bytes = self.rollout_bytes(rollout).await?;
        let (state, stage, reach) = (rollout.state, rollout.stage, reach(rollout, now));
        Ok(SeriesPoint { at, state, stage, reach, devices, bytes })
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

/// Whether something of a rollout may still change.
fn goes_on(rollout: &Rollout, now: Time) -> bool {
    match rollout.state {
        RolloutState::Draft | RolloutState::Review | RolloutState::Approved => false,
        RolloutState::Done | RolloutState::Halted | RolloutState::RollingBack => {
            now < rollout.stage_since.plus(AFTER_THE_END)
        }
        _ => true,
    }
}
