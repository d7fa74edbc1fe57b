//! Rollouts: plans, moved by hand. `approvals` holds who signed a plan, `audience` counts whom it is for, `executor` moves what moves
//! by itself.

mod approvals;
mod audience;
mod executor;
mod failures;
mod live;
mod series;

pub use executor::Watch;
pub use live::{LiveEvent, Lives, MAX_STREAMS};
pub use series::Series;

use serde_json::json;
use sluice_catalog::Kind;
use sluice_catalog::decide::{ProductView, ReleaseView};
use sluice_catalog::id::RolloutId;
use sluice_catalog::job::JobState;
use sluice_catalog::patch::PatchState;
use sluice_catalog::principal::Permission;
use sluice_catalog::release::Artifact;
use sluice_catalog::rollout::{Rollout, RolloutState, Rules, Selector, completes_at, gate_view, waits};
use sluice_catalog::text::Slug;
use sluice_catalog::wire::admin::MAX_TITLE_LEN;
use sluice_catalog::wire::rollout::{PatchProgress, RolloutAction, RolloutCreate, RolloutDetail, RolloutMove};

use super::{Actor, App, Made};
use crate::error::{Error, Result};
use crate::jobs;
use crate::store::Because;

/// Most entries in one list of a selector.
const MAX_SELECTOR: usize = 1000;

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
        let patches = self.patch_progress(rollout.release_id).await?;
        let (product, version) = self.rollout_release(&rollout)?;
        let stats = self.rollout_stats(&rollout, now).await?;
        let digest = rollout.plan_digest(&product, &version);
        let counts = stats.total(&rollout.excluded);
        let running = rollout.state == RolloutState::Running;
        Ok(RolloutDetail {
            digest,
            approvals: self.approvals(&rollout, digest).await?,
            waits: waits(&rollout, &stats, now),
            gate: gate_view(&rollout, &counts, now).filter(|_| running),
            completes_at: completes_at(&rollout, &stats, now),
            counts,
            product,
            version,
            rollout,
            transitions,
            attempts,
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

    /// Makes a rollout as a draft.
    pub async fn rollout_create(&self, actor: &Actor, request: &RolloutCreate) -> Result<Made<RolloutDetail>> {
        let mut rollout = self.rollout_planned(actor, request)?;
        let now = rollout.created_at;
        let mut tx = self.store.begin().await?;
        if let Some(there) = tx.rollout_by_name(&request.name).await? {
            drop(tx);
            if same_plan(&there, &rollout) {
                return Ok(Made::Same(self.rollout_get(actor, &request.name).await?));
            }
            return Err(Error::conflict(format!("there is another rollout `{}`", request.name)));
        }
        rollout.salt = hex::encode(self.dice.bytes::<8>());
        tx.rollout_put(&rollout).await?;
        let because = Because { actor: actor.name(), cause: "created", evidence: None };
        tx.rollout_transition_add(&rollout, now, because).await?;
        tx.generation_raise("rollouts").await?;
        let subject = format!("rollout:{}", rollout.name);
        tx.audit_add(now, actor.name(), "rollout.create", &subject, &plan_detail(&rollout, request)).await?;
        tx.commit().await?;
        self.refresh().await?;
        Ok(Made::New(self.rollout_get(actor, &request.name).await?))
    }

    /// Writes another plan over one that has not started. Whoever edits it is its author from then on, and approvals of the plan
    /// before count no more.
    pub async fn rollout_edit(&self, actor: &Actor, name: &Slug, request: &RolloutCreate) -> Result<RolloutDetail> {
        if *name != request.name {
            return Err(Error::invalid("name", format!("the plan is of `{}`, not of `{name}`", request.name)));
        }
        let planned = self.rollout_planned(actor, request)?;
        let now = self.now();
        let mut tx = self.store.begin().await?;
        let there = tx.rollout_by_name(name).await?.ok_or_else(|| Error::not_found("rollout", name))?;
        if !matches!(there.state, RolloutState::Draft | RolloutState::Review | RolloutState::Approved) {
            return Err(Error::new(
                Kind::WrongState,
                format!(
                    "rollout {name} is {}: a plan that has started is not edited; halt it and make another",
                    there.state.as_str()
                ),
            ));
        }
        if same_plan(&there, &planned) {
            drop(tx);
            return self.rollout_get(actor, name).await;
        }
        let edited = Rollout { id: there.id, salt: there.salt.clone(), created_at: there.created_at, ..planned };
        tx.rollout_put(&edited).await?;
        let draft = Rollout { state: RolloutState::Draft, ..edited };
        let because = Because { actor: actor.name(), cause: "edited: approvals count no more", evidence: None };
        if !tx.rollout_move(&there, &draft, now, because).await? {
            return Err(moved_meanwhile(name));
        }
        tx.generation_raise("rollouts").await?;
        let detail = plan_detail(&draft, request);
        tx.audit_add(now, actor.name(), "rollout.edit", &format!("rollout:{name}"), &detail).await?;
        tx.commit().await?;
        self.refresh().await?;
        self.rollout_get(actor, name).await
    }

    /// The rollout that a plan asks for, checked, as a draft.
    fn rollout_planned(&self, actor: &Actor, request: &RolloutCreate) -> Result<Rollout> {
        actor.need(Permission::Rollouts)?;
        let (stages, rules) = request.resolve().map_err(|error| Error::new(Kind::Invalid, error.to_string()))?;
        self.enough_approvals(&rules)?;
        if !(-1000..=1000).contains(&request.weight) {
            return Err(Error::invalid("weight", "-1000 to 1000"));
        }
        check_selector(&request.selector)?;
        let now = self.now();
        rules
            .schedule
            .opens_after(rules.start_at.map_or(now, |at| at.max(now)))
            .map_err(|error| Error::new(Kind::Invalid, error.to_string()))?;
        let product = self.product_view(&request.product)?;
        let release = product
            .release_of_version(&request.version)
            .ok_or_else(|| Error::not_found("version", format!("{} {}", request.product, request.version)))?;
        if release.release.withdrawn_at.is_some() {
            return Err(Error::new(Kind::WrongState, format!("{} was withdrawn", request.version)));
        }
        audience::check_versions(&product, &request.selector)?;
        leads_on(&product, release, &rules)?;
        Ok(Rollout {
            id: RolloutId::new(now, self.dice.id()),
            release_id: release.release.id,
            name: request.name.clone(),
            author: actor.name().to_owned(),
            state: RolloutState::Draft,
            salt: String::new(),
            weight: request.weight,
            stages,
            stage: 0,
            opened_at: now,
            stage_since: now,
            reached: 0,
            ran_ms: 0,
            judged_at: None,
            excluded: sluice_catalog::TextSet::default(),
            rules,
            selector: request.selector.clone(),
            created_at: now,
        })
    }

    /// Refuses a plan that asks for fewer approvals than the installation does.
    fn enough_approvals(&self, rules: &Rules) -> Result<()> {
        let least = self.rules.min_approvals;
        if rules.approvals >= least {
            return Ok(());
        }
        Err(Error::invalid(
            "rules.approvals",
            format!(
                "{}; this installation asks for {least} at least (min_approvals): write it in the plan",
                rules.approvals
            ),
        ))
    }

    /// Moves a rollout and shows it with all its figures.
    pub async fn rollout_move(&self, actor: &Actor, name: &Slug, request: &RolloutMove) -> Result<RolloutDetail> {
        self.rollout_set(actor, name, request).await?;
        self.rollout_get(actor, name).await
    }

    /// Moves a rollout: one commit, whatever the size of the fleet.
    pub async fn rollout_set(&self, actor: &Actor, name: &Slug, request: &RolloutMove) -> Result<()> {
        actor.need(Permission::Rollouts)?;
        if request.cause.len() > MAX_TITLE_LEN {
            return Err(Error::invalid("cause", format!("at most {MAX_TITLE_LEN} bytes")));
        }
        let begins = matches!(request.action, RolloutAction::Submit | RolloutAction::Start);
        if begins
            && !request.allow_empty
            && let Some(draft) = self.store.rollout_by_name(name).await?
            && draft.state == RolloutState::Draft
        {
            self.refuse_empty(&draft).await?;
        }
        let now = self.now();
        let mut tx = self.store.begin().await?;
        let rollout = tx.rollout_by_name(name).await?.ok_or_else(|| Error::not_found("rollout", name))?;
        if let Some(seen) = request.from_stage
            && seen != rollout.stage
        {
            return Err(Error::conflict(format!("rollout {name} is at stage {}, not {seen}", rollout.stage)));
        }
        let before = match rollout.state {
            RolloutState::Paused => tx.rollout_before_pause(rollout.id).await?,
            _ => None,
        };
        let (state, stage) = next(&rollout, before, request.action)?;
        if (state, stage) == (rollout.state, rollout.stage) {
            return Ok(());
        }
        if matches!(request.action, RolloutAction::Submit | RolloutAction::Start) {
            // Also of a plan that was written before so many were asked for.
            self.enough_approvals(&rollout.rules)?;
        }
        if request.action == RolloutAction::Start {
            self.approved(&mut tx, &rollout).await?;
        }
        let cause = if request.cause.is_empty() { done(request.action) } else { request.cause.as_str() };
        let moved = rollout.moved(state, stage, now);
        let because = Because { actor: actor.name(), cause, evidence: None };
        if !tx.rollout_move(&rollout, &moved, now, because).await? {
            return Err(moved_meanwhile(name));
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
        self.refresh().await
    }
}

fn moved_meanwhile(name: &Slug) -> Error {
    Error::conflict(format!("rollout {name} was moved by someone else meanwhile; look again"))
}

fn check_selector(selector: &Selector) -> Result<()> {
    let lists = [
        ("serials", &selector.serials),
        ("customers", &selector.customers),
        ("sites", &selector.sites),
        ("tags", &selector.tags),
        ("hw_ids", &selector.hw_ids),
    ];
    match lists.into_iter().find(|(_, set)| set.0.len() > MAX_SELECTOR) {
        Some((field, _)) => Err(Error::invalid(&format!("selector.{field}"), format!("at most {MAX_SELECTOR}"))),
        None => Ok(()),
    }
}

/// Going back leads forward: to a version that installs over the release on each of its hardware.
fn leads_on(product: &ProductView, release: &ReleaseView, rules: &Rules) -> Result<()> {
    let Some(version) = &rules.rollback_to else { return Ok(()) };
    let field = "rules.rollback_to";
    let to = product
        .release_of_version(version)
        .ok_or_else(|| Error::not_found(field, format!("{} {version}", product.product.name)))?;
    if to.release.order <= release.release.order {
        return Err(Error::invalid(
            field,
            format!(
                "{version} is older than {}, and devices install nothing older: publish what was good before under a new version",
                release.release.version
            ),
        ));
    }
    for image in &release.artifacts {
        for hardware in image.hw_ids.iter() {
            let fits = |other: &&Artifact| other.component == image.component && other.hw_ids.contains(hardware);
            let Some(over) = to.artifacts.iter().find(fits) else {
                let text = format!("{version} has no image for {} on {hardware}", image.component);
                return Err(Error::invalid(field, text));
            };
            if over.security_counter < image.security_counter
                || over.min_installed_order.is_some_and(|floor| release.release.order < floor)
            {
                return Err(Error::invalid(
                    field,
                    format!(
                        "{version} does not install over {} on {hardware}: its counter or its floor forbids it",
                        release.release.version
                    ),
                ));
            }
        }
    }
    Ok(())
}

fn same_plan(one: &Rollout, other: &Rollout) -> bool {
    one.release_id == other.release_id
        && one.stages == other.stages
        && one.rules == other.rules
        && one.selector == other.selector
        && one.weight == other.weight
}

fn plan_detail(rollout: &Rollout, request: &RolloutCreate) -> serde_json::Value {
    json!({
        "product": request.product, "version": request.version, "stages": rollout.stages,
        "selector": rollout.selector, "weight": rollout.weight, "salt": rollout.salt, "rules": rollout.rules,
    })
}

const fn action_name(action: RolloutAction) -> &'static str {
    match action {
        RolloutAction::Submit => "rollout.submit",
        RolloutAction::Start => "rollout.start",
        RolloutAction::Advance => "rollout.advance",
        RolloutAction::Pause => "rollout.pause",
        RolloutAction::Resume => "rollout.resume",
        RolloutAction::Halt => "rollout.halt",
        RolloutAction::RollBack => "rollout.roll_back",
    }
}

const fn verb(action: RolloutAction) -> &'static str {
    match action {
        RolloutAction::Submit => "submit",
        RolloutAction::Start => "start",
        RolloutAction::Advance => "advance",
        RolloutAction::Pause => "pause",
        RolloutAction::Resume => "resume",
        RolloutAction::Halt => "halt",
        RolloutAction::RollBack => "roll back",
    }
}

const fn done(action: RolloutAction) -> &'static str {
    match action {
        RolloutAction::Submit => "submitted for approval",
        RolloutAction::Start => "started",
        RolloutAction::Advance => "advanced by hand",
        RolloutAction::Pause => "paused",
        RolloutAction::Resume => "resumed",
        RolloutAction::Halt => "halted",
        RolloutAction::RollBack => "rolled back by hand",
    }
}

/// Where an action leads; `before` is what a rollout that is paused was. Doing again what was done is no error and leads nowhere.
fn next(rollout: &Rollout, before: Option<RolloutState>, action: RolloutAction) -> Result<(RolloutState, i32)> {
    use RolloutState::{Approved, Done, Draft, Halted, Paused, Preparing, Review, RollingBack, Running, Scheduled};
    let stage = rollout.stage;
    match (action, rollout.state) {
        (RolloutAction::Submit, Draft) if rollout.rules.approvals == 0 => Ok((Approved, stage)),
        (RolloutAction::Submit, Draft) => Ok((Review, stage)),
        (RolloutAction::Start, Approved) => Ok((Preparing, stage)),
        (RolloutAction::Start, Draft) if rollout.rules.approvals == 0 => Ok((Preparing, stage)),
        (RolloutAction::Start, Draft | Review) => Err(Error::new(
            Kind::WrongState,
            format!(
                "rollout {} needs {} approvals before it starts: `sluicectl rollout submit {0}`, then `rollout approve {0}` by \
                 others than {}",
                rollout.name, rollout.rules.approvals, rollout.author
            ),
        )),
        (RolloutAction::Advance, Running) if stage < rollout.stages.last() => Ok((Running, stage + 1)),
        (RolloutAction::Advance, Running) => Ok((Done, stage)),
        (RolloutAction::Pause, Preparing | Scheduled | Running | Done) => Ok((Paused, stage)),
        // What had opened nothing goes on preparing: its patches are looked at anew.
        (RolloutAction::Resume, Paused) if matches!(before, Some(Preparing | Scheduled)) => Ok((Preparing, stage)),
        (RolloutAction::Resume, Paused) => Ok((Running, stage)),
        (
            RolloutAction::Halt,
            Draft | Review | Approved | Preparing | Scheduled | Running | Paused | Done | RollingBack,
        ) => Ok((Halted, stage)),
        (RolloutAction::RollBack, Running | Paused | Done | Halted) if rollout.rules.rollback_to.is_some() => {
            Ok((RollingBack, stage))
        }
        (RolloutAction::RollBack, Running | Paused | Done | Halted) => Err(Error::new(
            Kind::WrongState,
            format!("rollout {} names no version to go back by: its plan has no rules.rollback_to", rollout.name),
        )),
        (RolloutAction::Submit, Review | Approved)
        | (RolloutAction::Start | RolloutAction::Resume, Preparing | Scheduled | Running)
        | (RolloutAction::Pause, Paused)
        | (RolloutAction::Halt, Halted)
        | (RolloutAction::RollBack, RollingBack) => Ok((rollout.state, stage)),
        (action, state) => Err(Error::new(
            Kind::WrongState,
            format!("rollout {} is {}: it cannot {}", rollout.name, state.as_str().replace('_', " "), verb(action)),
        )),
    }
}
