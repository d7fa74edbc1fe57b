//! Background work. Workers claim jobs with a lease, beat while they work, and end each job in the transaction of its
//! result: a worker that was thought dead and comes back finds that its result no longer counts.

pub mod full;
pub mod patch;
pub mod prepare;
pub mod recheck;

use std::sync::Arc;
use std::time::Duration;

use sluice_catalog::Time;
use sluice_catalog::job::{Job, JobState};
use tokio::sync::watch;

use crate::app::App;
use crate::error::{Error, Result};
use crate::store::{NewJob, Tx};

/// A worker that has not beaten for so long is dead.
const LEASE_MS: i64 = 60_000;
/// How often a worker beats.
const BEAT: Duration = Duration::from_secs(15);
/// How long an idle worker waits before it looks again.
const IDLE: Duration = Duration::from_millis(250);
/// Failures after which a job is parked for someone to look at; but for the opening of a rollout, which must not wait for anybody.
const MAX_ATTEMPTS: i32 = 5;
/// The wait after the first failure; each further one doubles it.
const BACKOFF_MS: i64 = 2_000;
/// The longest wait after a failure.
const MAX_BACKOFF_MS: i64 = 60_000;

/// How a handler ended its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It ended the job in the transaction of its result.
    Here,
    /// The job is to run again after so many milliseconds; no failure.
    Again(i64),
    /// The lease was lost: someone else has the job.
    Lost,
}

/// A claimed job and who holds it.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The job.
    pub job: Job,
    /// This worker.
    pub worker: String,
}

impl Claim {
    /// Ends the job as done inside the transaction of its result; false when the lease was lost.
    pub async fn done(&self, tx: &mut Tx, now: Time) -> Result<bool> {
        Ok(tx.job_end(self.job.id, &self.worker, JobState::Done, now, 0, None).await?)
    }

    /// What the job needs.
    pub fn payload<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.job.payload).map_err(Error::internal)
    }
}

/// Works until `stop` turns true. A job that runs then is finished first.
pub async fn work(app: Arc<App>, name: String, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        match step(&app, &name).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(worker = %name, error = %error, cause = ?error.cause, "no job could be claimed");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(IDLE) => {}
            _ = stop.changed() => {}
        }
    }
}

/// Runs the next job, if one is due.
pub async fn step(app: &Arc<App>, worker: &str) -> Result<bool> {
    let now = app.now();
    let Some(job) = app.store.job_claim(worker, now, now.plus_ms(LEASE_MS)).await? else { return Ok(false) };
    let claim = Claim { job, worker: worker.to_owned() };
    let (kind, key) = (claim.job.kind.clone(), claim.job.key.clone());
    let ended = {
        let work = dispatch(app, &claim);
        tokio::pin!(work);
        loop {
            tokio::select! {
                ended = &mut work => break ended,
                () = tokio::time::sleep(BEAT) => {
                    if !app.store.job_beat(claim.job.id, worker, app.now().plus_ms(LEASE_MS)).await? {
                        tracing::warn!(job = %key, "the lease of job {key} was lost");
                    }
                }
            }
        }
    };
    let now = app.now();
    match ended {
        Ok(Ended::Here) => {
            app.metrics.jobs(&kind, "done");
        }
        Ok(Ended::Lost) => {
            app.metrics.jobs(&kind, "lost");
        }
        Ok(Ended::Again(ms)) => {
            let mut tx = app.store.begin().await?;
            tx.job_end(claim.job.id, worker, JobState::Waiting, now.plus_ms(ms), 0, None).await?;
            tx.commit().await?;
        }
        Err(error) => {
            let failures = claim.job.attempts + 1;
            let parked = failures >= MAX_ATTEMPTS && kind != prepare::KIND;
            let wait = (BACKOFF_MS << (failures - 1).clamp(0, 10)).min(MAX_BACKOFF_MS);
            let (state, text) = (if parked { JobState::Parked } else { JobState::Waiting }, describe(&error));
            tracing::error!(job = %key, parked, error = %text, "job {key} failed: {text}");
            let mut tx = app.store.begin().await?;
            tx.job_end(claim.job.id, worker, state, now.plus_ms(wait), 1, Some(&text)).await?;
            tx.commit().await?;
            app.metrics.jobs(&kind, if parked { "parked" } else { "failed" });
        }
    }
    Ok(true)
}

async fn dispatch(app: &Arc<App>, claim: &Claim) -> Result<Ended> {
    match claim.job.kind.as_str() {
        full::KIND => full::run(app, claim).await,
        patch::KIND => patch::run(app, claim).await,
        prepare::KIND => prepare::run(app, claim).await,
        recheck::KIND => recheck::run(app, claim).await,
        other => Err(Error::internal(anyhow::anyhow!("job kind {other} is unknown to this version"))),
    }
}

/// An error with its causes, at most 500 characters, for `last_error`.
fn describe(error: &Error) -> String {
    let mut text = error.detail.clone();
    if let Some(cause) = &error.cause {
        text = format!("{text}: {cause:#}");
    }
    text.chars().take(500).collect()
}

/// Runs work that keeps a core busy off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
}

/// A job with an id of its own.
fn new_job(app: &App, kind: &'static str, key: String, payload: serde_json::Value, priority: i64, at: Time) -> NewJob {
    NewJob { id: sluice_catalog::id::JobId::new(at, app.dice.id()), kind, key, payload, priority, run_at: at }
}
