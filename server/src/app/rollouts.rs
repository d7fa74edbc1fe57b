//! Rollouts as they stand. `plans` makes and edits them, `approvals` holds who signed a plan, `audience` counts whom it is for, `moves` moves
//! them by hand and `executor` what moves by itself; `figures` is what is known of their attempts, `live` and `series` show it.

mod approvals;
mod audience;
mod executor;
mod failures;
mod figures;
mod live;
mod moves;
mod plans;
mod series;

pub use executor::Watch;
pub use live::{LiveEvent, Lives, MAX_STREAMS};
pub use series::Series;

use sluice_catalog::job::JobState;
use sluice_catalog::patch::PatchState;
use sluice_catalog::principal::Permission;
use sluice_catalog::rollout::{Rollout, RolloutState, completes_at, gate_view, waits};
use sluice_catalog::text::Slug;
use sluice_catalog::wire::rollout::{PatchProgress, RolloutDetail};

use super::{Actor, App};
use crate::error::{Error, Result};
use crate::jobs;

impl App {
    /// Rollouts after a name.
    pub async fn rollout_list(&self, actor: &Actor, after: &str, limit: u32) -> Result<Vec<Rollout>> {
        actor.need(Permission::Read)?;
        Ok(self.store.rollout_list(after, limit).await?)
    }

    /// A rollout with its history, its figures and what it waits for.
    pub async fn rollout_get(&self, actor: &Actor, name: &Slug) -> Result<RolloutDetail> {
        actor.need(Permission::Read)?;
        let rollout = self.store.rollout_by_name(name).await?.ok_or_else(|| Error::not_found("rollout", name))?;
        let now = self.now();
        let transitions = self.store.rollout_transitions(rollout.id).await?;
        let attempts = self.store.attempt_counts(rollout.id).await?.into_iter().collect();
        let failures = self.store.attempt_codes(rollout.id).await?.into_iter().collect();
        let patches = self.patch_progress(rollout.release_id).await?;
        let (product, version) = self.rollout_release(&rollout)?;
        let stats = self.rollout_figures(&rollout, now).await?.stats;
        let digest = rollout.plan_digest(&product, &version);
        let counts = stats.total(&rollout.excluded);
        let stopped = self.store.stop_all().await?.stopped;
        let running = rollout.state == RolloutState::Running && !stopped;
        Ok(RolloutDetail {
            digest,
            approvals: self.approvals(&rollout, digest).await?,
            waits: waits(&rollout, &stats, now),
            gate: gate_view(&rollout, &counts, now).filter(|_| running),
            completes_at: completes_at(&rollout, &stats, now).filter(|_| !stopped),
            counts,
            product,
            version,
            rollout,
            transitions,
            attempts,
            failures,
            patches,
        })
    }

    /// How far the patches to a release's images are.
    pub async fn patch_progress(&self, release: sluice_catalog::id::ReleaseId) -> Result<PatchProgress> {
        let mut progress = PatchProgress::default();
        for (state, count) in self.store.patch_counts(release).await? {
            match state {
                PatchState::Ready => progress.ready = count,
                PatchState::NotWorth => progress.not_worth = count,
                PatchState::Quarantined => {}
            }
        }
        for image in self.store.release_images(release).await? {
            for (state, count) in self.store.job_counts(&jobs::patch::key_prefix(image)).await? {
                match state {
                    JobState::Waiting | JobState::Running => progress.pending += count,
                    JobState::Parked => progress.parked += count,
                    JobState::Done => {}
                }
            }
        }
        Ok(progress)
    }

    /// The product and the version that a rollout brings.
    pub(super) fn rollout_release(
        &self,
        rollout: &Rollout,
    ) -> Result<(sluice_catalog::text::ProductName, sluice_catalog::text::Version)> {
        let products = self.live.products();
        products
            .release(rollout.release_id)
            .map(|(product, release)| (product.product.name.clone(), release.release.version.clone()))
            .ok_or_else(|| Error::internal(anyhow::anyhow!("rollout {} has no release", rollout.name)))
    }
}

fn moved_meanwhile(name: &Slug) -> Error {
    Error::conflict(format!("rollout {name} was moved by someone else meanwhile; look again"))
}
