//! Rollouts: made, started, advanced by hand, paused, halted.

use serde_json::json;
use sluice_catalog::Kind;
use sluice_catalog::id::RolloutId;
use sluice_catalog::job::JobState;
use sluice_catalog::patch::PatchState;
use sluice_catalog::principal::Permission;
use sluice_catalog::rollout::{Rollout, RolloutState, Stages};
use sluice_catalog::text::Slug;
use sluice_catalog::wire::admin::{
    MAX_TITLE_LEN, PatchProgress, RolloutAction, RolloutCreate, RolloutDetail, RolloutMove,
};

use super::{Actor, App, Made};
use crate::error::{Error, Result};
use crate::jobs;

/// Most entries in one list of a selector.
const MAX_SELECTOR: usize = 1000;

impl App {
    /// Rollouts after a name.
    pub async fn rollout_list(&self, actor: &Actor, after: &str, limit: u32) -> Result<Vec<Rollout>> {
        actor.need(Permission::Read)?;
        Ok(self.store.rollout_list(after, limit).await?)
    }

    /// A rollout with its history and counts.
    pub async fn rollout_get(&self, actor: &Actor, name: &Slug) -> Result<RolloutDetail> {
        actor.need(Permission::Read)?;
        let rollout = self.store.rollout_by_name(name).await?.ok_or_else(|| Error::not_found("rollout", name))?;
        let transitions = self.store.rollout_transitions(rollout.id).await?;
        let attempts = self.store.attempt_counts(rollout.id).await?.into_iter().collect();
        let patches = self.patch_progress(rollout.release_id).await?;
        let (product, version) = self.rollout_release(&rollout)?;
        Ok(RolloutDetail { product, version, rollout, transitions, attempts, patches })
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

    fn rollout_release(
        &self,
        rollout: &Rollout,
    ) -> Result<(sluice_catalog::text::ProductName, sluice_catalog::text::Version)> {
        let products = self.live.products();
        products
            .release(rollout.release_id)
            .map(|(product, release)| (product.product.name.clone(), release.release.version.clone()))
            .ok_or_else(|| Error::internal(anyhow::anyhow!("rollout {} has no release", rollout.name)))
    }

    /// Makes a rollout as a draft.
    pub async fn rollout_create(&self, actor: &Actor, request: &RolloutCreate) -> Result<Made<RolloutDetail>> {
        actor.need(Permission::Rollouts)?;
        let stages = Stages(request.stages.clone());
        stages.check().map_err(|error| Error::new(Kind::Invalid, error.to_string()))?;
        if !(-1000..=1000).contains(&request.weight) {
            return Err(Error::invalid("weight", "-1000 to 1000"));
        }
        let s = &request.selector;
        for (field, set) in [
            ("serials", &s.serials),
            ("customers", &s.customers),
            ("sites", &s.sites),
            ("tags", &s.tags),
            ("hw_ids", &s.hw_ids),
        ] {
            if set.0.len() > MAX_SELECTOR {
                return Err(Error::invalid(&format!("selector.{field}"), format!("at most {MAX_SELECTOR}")));
            }
        }
        let product = self.product_view(&request.product)?;
        let release = product
            .releases()
            .iter()
            .find(|release| release.release.version == request.version)
            .ok_or_else(|| Error::not_found("version", format!("{} {}", request.product, request.version)))?;
        if release.release.withdrawn_at.is_some() {
            return Err(Error::new(Kind::WrongState, format!("{} was withdrawn", request.version)));
        }
        let now = self.now();
        let mut tx = self.store.begin().await?;
        if let Some(there) = tx.rollout_by_name(&request.name).await? {
            let same = there.release_id == release.release.id
                && there.stages == stages
                && there.selector == request.selector
                && there.weight == request.weight;
            drop(tx);
            if same {
                return Ok(Made::Same(self.rollout_get(actor, &request.name).await?));
            }
            return Err(Error::conflict(format!("there is another rollout `{}`", request.name)));
        }
        let rollout = Rollout {
            id: RolloutId::new(now, self.dice.id()),
            release_id: release.release.id,
            name: request.name.clone(),
            state: RolloutState::Draft,
            salt: hex::encode(self.dice.bytes::<8>()),
            weight: request.weight,
            stages,
            stage: 0,
            selector: request.selector.clone(),
            created_at: now,
        };
        tx.rollout_add(&rollout).await?;
        tx.rollout_transition_add(rollout.id, RolloutState::Draft, 0, now, actor.name(), "created").await?;
        tx.generation_raise("rollouts").await?;
        let detail = json!({
            "product": request.product, "version": request.version, "stages": rollout.stages,
            "selector": rollout.selector, "weight": rollout.weight, "salt": rollout.salt,
        });
        tx.audit_add(now, actor.name(), "rollout.create", &format!("rollout:{}", rollout.name), &detail).await?;
        tx.commit().await?;
        self.refresh().await?;
        Ok(Made::New(self.rollout_get(actor, &request.name).await?))
    }

    /// Moves a rollout.
    pub async fn rollout_move(&self, actor: &Actor, name: &Slug, request: &RolloutMove) -> Result<RolloutDetail> {
        actor.need(Permission::Rollouts)?;
        if request.cause.len() > MAX_TITLE_LEN {
            return Err(Error::invalid("cause", format!("at most {MAX_TITLE_LEN} bytes")));
        }
        let now = self.now();
        let mut tx = self.store.begin().await?;
        let rollout = tx.rollout_by_name(name).await?.ok_or_else(|| Error::not_found("rollout", name))?;
        if let Some(seen) = request.from_stage
            && seen != rollout.stage
        {
            return Err(Error::conflict(format!("rollout {name} is at stage {}, not {seen}", rollout.stage)));
        }
        let (state, stage) = next(&rollout, request.action)?;
        if (state, stage) == (rollout.state, rollout.stage) {
            drop(tx);
            return self.rollout_get(actor, name).await;
        }
        let cause = if request.cause.is_empty() { verb(request.action) } else { request.cause.as_str() };
        if !tx.rollout_move(&rollout, state, stage, now, actor.name(), cause).await? {
            return Err(Error::conflict(format!("rollout {name} was moved by someone else meanwhile; look again")));
        }
        if state == RolloutState::Preparing {
            let products = self.live.products();
            let (product, release) = products
                .release(rollout.release_id)
                .ok_or_else(|| Error::internal(anyhow::anyhow!("rollout {name} has no release")))?;
            jobs::patch::enqueue_to(self, &mut tx, product, release).await?;
            jobs::prepare::enqueue(self, &mut tx, rollout.id, now).await?;
        }
        tx.generation_raise("rollouts").await?;
        let detail = json!({"from": rollout.state, "to": state, "stage": stage, "cause": cause});
        tx.audit_add(now, actor.name(), action_name(request.action), &format!("rollout:{name}"), &detail).await?;
        tx.commit().await?;
        self.refresh().await?;
        self.rollout_get(actor, name).await
    }
}

const fn action_name(action: RolloutAction) -> &'static str {
    match action {
        RolloutAction::Start => "rollout.start",
        RolloutAction::Advance => "rollout.advance",
        RolloutAction::Pause => "rollout.pause",
        RolloutAction::Resume => "rollout.resume",
        RolloutAction::Halt => "rollout.halt",
    }
}

const fn verb(action: RolloutAction) -> &'static str {
    match action {
        RolloutAction::Start => "started",
        RolloutAction::Advance => "advanced by hand",
        RolloutAction::Pause => "paused",
        RolloutAction::Resume => "resumed",
        RolloutAction::Halt => "halted",
    }
}

/// Where an action leads. Doing again what was done is no error and leads nowhere.
fn next(rollout: &Rollout, action: RolloutAction) -> Result<(RolloutState, i32)> {
    use RolloutState::{Done, Draft, Halted, Paused, Preparing, Running};
    let last = i32::try_from(rollout.stages.0.len()).unwrap_or(i32::MAX) - 1;
    match (action, rollout.state) {
        (RolloutAction::Start, Draft) => Ok((Preparing, rollout.stage)),
        (RolloutAction::Advance, Running) if rollout.stage < last => Ok((Running, rollout.stage + 1)),
        (RolloutAction::Advance, Running) => Ok((Done, rollout.stage)),
        (RolloutAction::Pause, Running | Preparing | Done) => Ok((Paused, rollout.stage)),
        (RolloutAction::Resume, Paused) => Ok((Running, rollout.stage)),
        (RolloutAction::Halt, Draft | Preparing | Running | Paused | Done) => Ok((Halted, rollout.stage)),
        (RolloutAction::Start, Preparing | Running)
        | (RolloutAction::Pause, Paused)
        | (RolloutAction::Resume, Running)
        | (RolloutAction::Halt, Halted) => Ok((rollout.state, rollout.stage)),
        (action, state) => Err(Error::new(
            Kind::WrongState,
            format!(
                "rollout {} is {}: it cannot {}",
                rollout.name,
                state.as_str(),
                match action {
                    RolloutAction::Start => "start",
                    RolloutAction::Advance => "advance",
                    RolloutAction::Pause => "pause",
                    RolloutAction::Resume => "resume",
                    RolloutAction::Halt => "halt",
                }
            ),
        )),
    }
}
