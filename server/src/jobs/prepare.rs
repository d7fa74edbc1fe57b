//! Opening stage one: a rollout that prepares starts running when the patches for the versions in the field stand, or
//! when they have taken too long. A device without a patch gets the full image; it never waits.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use sluice_catalog::Time;
use sluice_catalog::id::RolloutId;
use sluice_catalog::rollout::RolloutState;

use super::{Claim, Ended, new_job};
use crate::app::App;
use crate::error::Result;
use crate::store::{Because, Tx};

/// The job's kind.
pub const KIND: &str = "prepare";
/// How often it looks.
const AGAIN_MS: i64 = 500;

#[derive(Deserialize)]
struct Payload {
    rollout: RolloutId,
}

/// Enqueues the opening of a rollout.
pub async fn enqueue(app: &App, tx: &mut Tx, rollout: RolloutId, now: Time) -> Result<()> {
    let key = format!("prepare:{rollout}");
    // After the patch jobs themselves.
    Ok(tx.job_add(&new_job(app, KIND, key, json!({"rollout": rollout}), -1, now)).await?)
}

/// Opens the rollout when its patches stand.
pub async fn run(app: &Arc<App>, claim: &Claim) -> Result<Ended> {
    let Payload { rollout } = claim.payload()?;
    let now = app.now();
    // Under the lock under which it is paused and resumed: a job that ends because of a pause must not be the one that the resumed rollout
    // counts on.
    let mut tx = app.store.begin().await?;
    let found = tx.rollout_lock_id(rollout).await?.filter(|rollout| rollout.state == RolloutState::Preparing);
    let Some(found) = found else {
        // Halted or paused meanwhile: nothing to open.
        let ended = if claim.done(&mut tx, now).await? { Ended::Here } else { Ended::Lost };
        tx.commit().await?;
        return Ok(ended);
    };
    drop(tx);
    let progress = app.patch_progress(found.release_id).await?;
    let rules = found.rules.prepare;
    let late = now >= claim.job.created_at.plus(rules.deadline);
    let (settled, wanted) = (progress.ready + progress.not_worth + progress.parked, progress.pending);
    let enough = settled * 100 >= (settled + wanted) * i64::from(rules.percent);
    if !enough && !late {
        return Ok(Ended::Again(AGAIN_MS));
    }
    let cause = format!(
        "{}: {} patches ready, {} not worth their bytes, {} pending, {} failed",
        if enough { "patches stand" } else { "patches took too long" },
        progress.ready,
        progress.not_worth,
        progress.pending,
        progress.parked
    );
    let waits = found.rules.start_at.is_some_and(|at| at > now);
    let state = if waits { RolloutState::Scheduled } else { RolloutState::Running };
    let moved = found.moved(state, found.stage, now);
    let mut tx = app.store.begin().await?;
    if !tx.rollout_move(&found, &moved, now, Because { actor: "server", cause: &cause, evidence: None }).await? {
        // Somebody moved it while patches were counted; the next look is at what it is then.
        return Ok(Ended::Again(AGAIN_MS));
    }
    tx.generation_raise("rollouts").await?;
    let detail = json!({"from": found.state, "to": state, "stage": found.stage, "cause": cause});
    tx.audit_add(now, "server", "rollout.open", &format!("rollout:{}", found.name), &detail).await?;
    if !claim.done(&mut tx, now).await? {
        return Ok(Ended::Lost);
    }
    tx.commit().await?;
    app.refresh().await?;
    Ok(Ended::Here)
}
