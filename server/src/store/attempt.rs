//! Attempts: each device's tries at releases.

use sluice_catalog::Time;
use sluice_catalog::id::{DeviceId, ReleaseId, RolloutId};
use sluice_catalog::rollout::{Attempt, AttemptState, Failure};
use sluice_catalog::wire::failure::{FailureKey, RolloutFailure};

use super::{Result, Sql, Store, Tx};

const ATTEMPT_COLUMNS: &str =
    "device_id, seq, release_id, rollout_id, state, failure, encoding, bytes, offered_at, began_at, changed_at";

/// Attempts of a device whose logs are kept: with their bound, 80 KiB a device.
const LOGS_KEPT: i32 = 20;

/// What a device said beside the state of an attempt. What it leaves out stays as it was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Said<'a> {
    /// What went wrong.
    pub failure: Option<Failure>,
    /// How the image was carried.
    pub encoding: Option<&'a str>,
    /// Bytes downloaded.
    pub bytes: Option<i64>,
    /// For a person to read.
    pub detail: Option<&'a str>,
    /// The end of its log, as [`clean_log`](sluice_catalog::rollout::clean_log) leaves it.
    pub log: Option<&'a str>,
}

impl Store {
    /// A rollout's attempts, counted by state.
    pub async fn attempt_counts(&self, id: RolloutId) -> Result<Vec<(String, i64)>> {
        Sql::new(
            "SELECT state, CAST(COUNT(*) AS BIGINT) FROM attempt WHERE rollout_id = $1 GROUP BY state ORDER BY state",
        )
        .bind(id)
        .all(self)
        .await
    }

    /// A rollout's attempts that ended badly, counted by code.
    pub async fn attempt_codes(&self, id: RolloutId) -> Result<Vec<(String, i64)>> {
        Sql::new(
            "SELECT COALESCE(failure, 'other') AS code, CAST(COUNT(*) AS BIGINT) FROM attempt
             WHERE rollout_id = $1 AND state IN ('failed', 'rolled_back') GROUP BY code ORDER BY code",
        )
        .bind(id)
        .all(self)
        .await
    }

    /// A device's last attempts, newest first, with what it said of them.
    pub async fn attempt_told(&self, device: DeviceId, limit: u32) -> Result<Vec<Attempt>> {
        Sql::built(format!(
            "SELECT {ATTEMPT_COLUMNS}, detail, log FROM attempt WHERE device_id = $1 ORDER BY seq DESC LIMIT $2"
        ))
        .bind(device)
        .bind(i64::from(limit))
        .all(self)
        .await
    }

    /// Attempts of a rollout that ended badly, newest first, after a place in that order.
    pub async fn attempt_failures(
        &self,
        rollout: RolloutId,
        failure: Option<Failure>,
        after: Option<FailureKey>,
        limit: u32,
    ) -> Result<Vec<RolloutFailure>> {
        let (at, device, seq) =
            after.map_or((Time::FOREVER, None, None), |key| (key.changed_at, Some(key.device_id), Some(key.seq)));
        Sql::new(
            "SELECT a.device_id, d.serial, d.hw_id, a.seq, a.state, a.failure, a.changed_at, a.detail, a.log
             FROM attempt a JOIN device d ON d.id = a.device_id
             WHERE a.rollout_id = $1 AND a.state IN ('failed', 'rolled_back') AND ($2 IS NULL OR COALESCE(a.failure, 'other') = $2)
               AND (a.changed_at < $3 OR (a.changed_at = $3 AND (a.device_id < $4 OR (a.device_id = $4 AND a.seq < $5))))
             ORDER BY a.changed_at DESC, a.device_id DESC, a.seq DESC LIMIT $6",
        )
        .bind(rollout)
        .bind(failure)
        .bind(at)
        .bind(device)
        .bind(seq)
        .bind(i64::from(limit))
        .all(self)
        .await
    }

    /// A device's last attempts, newest first.
    pub async fn attempt_list(&self, device: DeviceId, limit: u32) -> Result<Vec<Attempt>> {
        Sql::built(format!("SELECT {ATTEMPT_COLUMNS} FROM attempt WHERE device_id = $1 ORDER BY seq DESC LIMIT $2"))
            .bind(device)
            .bind(i64::from(limit))
            .all(self)
            .await
    }
}

impl Tx {
    /// A device's last success, if nothing was offered after it.
    pub async fn attempt_succeeded(&mut self, device: DeviceId) -> Result<Option<Attempt>> {
        let last: Option<Attempt> =
            Sql::built(format!("SELECT {ATTEMPT_COLUMNS} FROM attempt WHERE device_id = $1 ORDER BY seq DESC LIMIT 1"))
                .bind(device)
                .optional(self)
                .await?;
        Ok(last.filter(|attempt| attempt.state == AttemptState::Healthy))
    }

    /// Opens a device's next attempt: closes any that is still open and takes the next number.
    pub async fn attempt_open(
        &mut self,
        device: DeviceId,
        release: ReleaseId,
        rollout: RolloutId,
        at: Time,
    ) -> Result<i32> {
        let (seq,): (i32,) = Sql::new(
            "UPDATE device SET attempt_seq = attempt_seq + 1, revision = revision + 1, changed_at = $1 WHERE id = $2
             RETURNING attempt_seq",
        )
        .bind(at)
        .bind(device)
        .one(&mut *self)
        .await?;
        Sql::new(
            "UPDATE attempt SET state = 'superseded', changed_at = $1
             WHERE device_id = $2 AND state NOT IN ('healthy', 'failed', 'rolled_back', 'superseded')",
        )
        .bind(at)
        .bind(device)
        .execute(&mut *self)
        .await?;
        Sql::new(
            "INSERT INTO attempt (device_id, seq, release_id, rollout_id, state, offered_at, changed_at)
             VALUES ($1, $2, $3, $4, 'offered', $5, $5)",
        )
        .bind(device)
        .bind(seq)
        .bind(release)
        .bind(rollout)
        .bind(at)
        .execute(self)
        .await?;
        Ok(seq)
    }

    /// The attempt that is open, if one is.
    pub async fn attempt_current(&mut self, device: DeviceId) -> Result<Option<Attempt>> {
        Sql::built(format!(
            "SELECT {ATTEMPT_COLUMNS} FROM attempt WHERE device_id = $1
             AND state NOT IN ('healthy', 'failed', 'rolled_back', 'superseded') ORDER BY seq DESC LIMIT 1"
        ))
        .bind(device)
        .optional(self)
        .await
    }

    /// An attempt by number.
    pub async fn attempt_get(&mut self, device: DeviceId, seq: i32) -> Result<Option<Attempt>> {
        Sql::built(format!("SELECT {ATTEMPT_COLUMNS} FROM attempt WHERE device_id = $1 AND seq = $2"))
            .bind(device)
            .bind(seq)
            .optional(self)
            .await
    }

    /// Moves an attempt and keeps what was reported with it.
    pub async fn attempt_move(
        &mut self,
        attempt: &Attempt,
        state: AttemptState,
        said: Said<'_>,
        at: Time,
    ) -> Result<()> {
        Sql::new(
            "UPDATE attempt SET state = $1, failure = COALESCE($2, failure), encoding = COALESCE($3, encoding),
                                bytes = COALESCE($4, bytes), detail = COALESCE($5, detail), log = COALESCE($6, log),
                                began_at = COALESCE(began_at, $7), changed_at = $7
             WHERE device_id = $8 AND seq = $9",
        )
        .bind(state)
        .bind(said.failure)
        .bind(said.encoding)
        .bind(said.bytes)
        .bind(said.detail)
        .bind(said.log)
        .bind(at)
        .bind(attempt.device_id)
        .bind(attempt.seq)
        .execute(&mut *self)
        .await?;
        if said.log.is_some() {
            // A device that fails at every version must not fill the database.
            Sql::new("UPDATE attempt SET log = NULL WHERE device_id = $1 AND seq <= $2 AND log IS NOT NULL")
                .bind(attempt.device_id)
                .bind(attempt.seq.saturating_sub(LOGS_KEPT))
                .execute(self)
                .await?;
        }
        Ok(())
    }

    /// How many devices reported a wrong image from a patch to this release.
    pub async fn mismatch_devices(&mut self, release: ReleaseId) -> Result<i64> {
        let (count,): (i64,) = Sql::new(
            "SELECT CAST(COUNT(DISTINCT device_id) AS BIGINT) FROM attempt
             WHERE release_id = $1 AND failure = 'delta_mismatch'",
        )
        .bind(release)
        .one(self)
        .await?;
        Ok(count)
    }

    /// Marks a device's copy in every cache as stale.
    pub async fn device_touch(&mut self, device: DeviceId, at: Time) -> Result<()> {
        Sql::new("UPDATE device SET revision = revision + 1, changed_at = $1 WHERE id = $2")
            .bind(at)
            .bind(device)
            .execute(self)
            .await
            .map(|_| ())
    }
}
