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
use crate::store::Tx;

/// The job's kind.
pub const KIND: &str = "prepare";
/// Longest time that patches may hold a rollout back.
const DEADLINE_MS: i64 = 30 * 60 * 1000;
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
    let mut tx = app.store.begin().await?;
    let found = tx.rollout_get(rollout).await?.filter(|rollout| rollout.state == RolloutState::Preparing);
    drop(tx);
    let Some(found) = found else {
        // Halted meanwhile: nothing to open.
        let mut tx = app.store.begin().await?;
        let ended = if claim.done(&mut tx, now).await? { Ended::Here } else { Ended::Lost };
        tx.commit().await?;
        return Ok(ended);
    };
    let progress = app.patch_progress(found.release_id).await?;
    let late = now.as_ms() - claim.job.created_at.as_ms() > DEADLINE_MS;
    if progress.pending > 0 && !late {
        return Ok(Ended::Again(AGAIN_MS));
    }
    let cause = format!(
        "{}: {} patches ready, {} not worth their bytes, {} pending, {} failed",
        if progress.pending > 0 { "patches took too long" } else { "patches stand" },
        progress.ready,
        progress.not_worth,
        progress.pending,
        progress.parked
    );
    let mut tx = app.store.begin().await?;
    if tx.rollout_move(&found, RolloutState::Running, found.stage, now, "server", &cause).await? {
        tx.generation_raise("rollouts").await?;
        let detail = json!({"from": found.state, "to": RolloutState::Running, "stage": found.stage, "cause": cause});
        tx.audit_add(now, "server", "rollout.open", &format!("rollout:{}", found.name), &detail).await?;
    }
    if !claim.done(&mut tx, now).await? {
        return Ok(Ended::Lost);
    }
    tx.commit().await?;
    app.refresh().await?;
    Ok(Ended::Here)
}
