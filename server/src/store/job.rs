//! The job queue: a table with leases. A job is enqueued in the transaction of the change that needs it, claimed in one
//! statement, and finished in the transaction of its result; no transaction stays open while it runs.

use sluice_catalog::Time;
use sluice_catalog::id::JobId;
use sluice_catalog::job::{Job, JobState};

use super::{Result, Sql, Store, Tx};

const COLUMNS: &str = "id, kind, key, payload, state, priority, attempts, run_at, lease_until, last_error, created_at";

/// A job to enqueue.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Made by the program.
    pub id: JobId,
    /// What to do.
    pub kind: &'static str,
    /// Names the work.
    pub key: String,
    /// What the work needs.
    pub payload: serde_json::Value,
    /// Higher first.
    pub priority: i64,
    /// Not before.
    pub run_at: Time,
}

impl Store {
    /// Claims the next job that is due, or whose worker let its lease lapse.
    pub async fn job_claim(&self, worker: &str, now: Time, lease_until: Time) -> Result<Option<Job>> {
        // Looking costs a reader; only a job that is there is worth the writer's lock.
        let due: Option<(String,)> = Sql::new(
            "SELECT key FROM job WHERE (state = 'waiting' AND run_at <= $1) OR (state = 'running' AND lease_until < $1) LIMIT 1",
        )
        .bind(now)
        .optional(self)
        .await?;
        if due.is_none() {
            return Ok(None);
        }
        let text = format!(
            "UPDATE job SET state = 'running', worker = $1, lease_until = $2
             WHERE id = (SELECT j.id FROM job j
                         WHERE (j.state = 'waiting' AND j.run_at <= $3) OR (j.state = 'running' AND j.lease_until < $3)
                         ORDER BY j.priority DESC, j.run_at, j.id LIMIT 1{})
             RETURNING {COLUMNS}",
            self.skip_locked()
        );
        let mut tx = self.begin().await?;
        let job = Sql::built(text).bind(worker).bind(lease_until).bind(now).optional(&mut tx).await?;
        tx.commit().await?;
        Ok(job)
    }

    /// Extends a lease; false when the job is no longer this worker's.
    pub async fn job_beat(&self, id: JobId, worker: &str, lease_until: Time) -> Result<bool> {
        let mut tx = self.begin().await?;
        let rows = Sql::new("UPDATE job SET lease_until = $1 WHERE id = $2 AND worker = $3 AND state = 'running'")
            .bind(lease_until)
            .bind(id)
            .bind(worker)
            .execute(&mut tx)
            .await?;
        tx.commit().await?;
        Ok(rows == 1)
    }

    /// Jobs in a state (or all) after an id, in the order they were enqueued.
    pub async fn job_list(&self, state: Option<JobState>, after: Option<JobId>, limit: u32) -> Result<Vec<Job>> {
        let after = after.unwrap_or(JobId(uuid::Uuid::nil()));
        match state {
            None => {
                Sql::built(format!("SELECT {COLUMNS} FROM job WHERE id > $1 ORDER BY id LIMIT $2"))
                    .bind(after)
                    .bind(i64::from(limit))
                    .all(self)
                    .await
            }
            Some(state) => {
                Sql::built(format!("SELECT {COLUMNS} FROM job WHERE id > $1 AND state = $2 ORDER BY id LIMIT $3"))
                    .bind(after)
                    .bind(state)
                    .bind(i64::from(limit))
                    .all(self)
                    .await
            }
        }
    }

    /// Jobs whose key starts so, counted by state: those that wait, run or are parked.
    pub async fn job_counts(&self, key_prefix: &str) -> Result<Vec<(JobState, i64)>> {
        // The range is exact because keys are ASCII and compared by bytes on both engines.
        Sql::new(
            "SELECT state, CAST(COUNT(*) AS BIGINT) FROM job
             WHERE key >= $1 AND key < $2 AND state <> 'done' GROUP BY state",
        )
        .bind(key_prefix)
        .bind(format!("{key_prefix}~"))
        .all(self)
        .await
    }
}

impl Tx {
    /// Enqueues a job, unless one with its key waits or runs already.
    pub async fn job_add(&mut self, job: &NewJob) -> Result<()> {
        Sql::new(
            "INSERT INTO job (id, kind, key, payload, state, priority, attempts, run_at, created_at)
             VALUES ($1, $2, $3, $4, 'waiting', $5, $6, $7, $7)
             ON CONFLICT (key) WHERE state IN ('waiting', 'running') DO NOTHING",
        )
        .bind(job.id)
        .bind(job.kind)
        .bind(&job.key)
        .bind(job.payload.to_string())
        .bind(job.priority)
        .bind(0i32)
        .bind(job.run_at)
        .execute(self)
        .await
        .map(|_| ())
    }

    /// Whether a job of this key failed for good.
    pub async fn job_parked(&mut self, key: &str) -> Result<bool> {
        let row: Option<(String,)> = Sql::new("SELECT state FROM job WHERE key = $1 AND state = 'parked' LIMIT 1")
            .bind(key)
            .optional(self)
            .await?;
        Ok(row.is_some())
    }

    /// Ends a job that a worker holds: `Done`, `Waiting` again at a later time, or `Parked`. False when the worker had
    /// lost it, in which case its result must not count.
    pub async fn job_end(
        &mut self,
        id: JobId,
        worker: &str,
        state: JobState,
        run_at: Time,
        failures: i32,
        error: Option<&str>,
    ) -> Result<bool> {
        let rows = Sql::new(
            "UPDATE job SET state = $1, run_at = $2, attempts = attempts + $3, last_error = $4, lease_until = $5, worker = $6
             WHERE id = $7 AND worker = $8 AND state = 'running'",
        )
        .bind(state)
        .bind(run_at)
        .bind(failures)
        .bind(error)
        .bind(None::<i64>)
        .bind(None::<String>)
        .bind(id)
        .bind(worker)
        .execute(self)
        .await?;
        Ok(rows == 1)
    }
}
