//! Rollouts that are moved by hand: one commit each, whatever the size of the fleet.

use serde_json::json;
use sluice_catalog::Kind;
use sluice_catalog::principal::Permission;
use sluice_catalog::rollout::{Rollout, RolloutState};
use sluice_catalog::text::Slug;
use sluice_catalog::wire::admin::MAX_TITLE_LEN;
use sluice_catalog::wire::rollout::{RolloutAction, RolloutDetail, RolloutMove};

use super::super::{Actor, App};
use super::moved_meanwhile;
use crate::error::{Error, Result};
use crate::jobs;
use crate::store::Because;

impl App {
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
        // While everything is stopped time stands still for it, whoever moves it.
        let stop = tx.stop_all().await?;
        let stood = stop.at.filter(|_| stop.stopped && rollout.state.makes_offers());
        let moved = stood.map_or_else(|| rollout.clone(), |at| rollout.stood_still(at, now)).moved(state, stage, now);
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
