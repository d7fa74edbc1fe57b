//! Attempts: each device's tries at releases, and how a rollout's stand.

use sluice_catalog::Time;
use sluice_catalog::decide::ProductView;
use sluice_catalog::id::{DeviceId, ReleaseId, RolloutId};
use sluice_catalog::rollout::{Attempt, AttemptState, Counts, Failure, Observed, Rollout, Stats};
use sluice_catalog::wire::failure::{FailureKey, RolloutFailure};

use super::audience::Condition;
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

/// Attempts of one kind: hardware, state, failure, 1 when matured, 1 when not heard of, 1 when it began
/// since the failures were judged, 1 since the stage opened, how many.
type Group = (String, AttemptState, Option<Failure>, i64, i64, i64, i64, i64);

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
             WHERE a.rollout_id = $1 AND a.state IN ('failed', 'rolled_back') AND ($2 IS NULL OR a.failure = $2)
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

    /// A rollout's attempts at its own release (not at stepping stones to it) that began, counted by hardware and class; of each
    /// device the last that ended, or else the last. What began until `mature_before` is matured, and who was not heard of since then is silent.
    pub async fn attempt_stats(&self, rollout: &Rollout, mature_before: Time) -> Result<Stats> {
        // A device that failed and tries again has failed until that ends; one that flaps is one device.
        let ended =
            |of: &str| format!("CASE WHEN {of}.state IN ('healthy', 'failed', 'rolled_back') THEN 1 ELSE 0 END");
        let (this, other) = (ended("a"), ended("b"));
        let groups: Vec<Group> = Sql::built(format!(
            "SELECT d.hw_id, a.state, a.failure,
                    CAST(CASE WHEN a.began_at <= $1 THEN 1 ELSE 0 END AS BIGINT) AS matured,
                    CAST(CASE WHEN COALESCE(d.last_seen_at, 0) < $1 AND a.changed_at < $1 THEN 1 ELSE 0 END AS BIGINT) AS unheard,
                    CAST(CASE WHEN a.began_at >= $3 THEN 1 ELSE 0 END AS BIGINT) AS fresh,
                    CAST(CASE WHEN a.began_at >= $4 THEN 1 ELSE 0 END AS BIGINT) AS of_stage,
                    CAST(COUNT(*) AS BIGINT) AS count
             FROM attempt a JOIN device d ON d.id = a.device_id
             WHERE a.rollout_id = $2 AND a.release_id = $5 AND a.began_at IS NOT NULL AND a.state <> 'superseded'
               AND NOT EXISTS (
                 SELECT 1 FROM attempt b
                 WHERE b.rollout_id = a.rollout_id AND b.release_id = a.release_id AND b.device_id = a.device_id AND b.began_at IS NOT NULL
                   AND b.state <> 'superseded'
                   AND ({other} > {this} OR ({other} = {this} AND b.seq > a.seq)))
             GROUP BY d.hw_id, a.state, a.failure, matured, unheard, fresh, of_stage"
        ))
        .bind(mature_before)
        .bind(rollout.id)
        .bind(rollout.judged_at.unwrap_or(Time::FOREVER))
        .bind(rollout.opened_at)
        .bind(rollout.release_id)
        .all(self)
        .await?;
        let mut stats = Stats::default();
        for (hardware, state, failure, matured, unheard, fresh, of_stage, count) in groups {
            let at = |before: i64| if before == 1 { mature_before.plus_ms(-1) } else { mature_before.plus_ms(1) };
            let observed = Observed { state, failure, began_at: at(matured), last_seen: at(unheard) };
            let Some(class) = observed.class(mature_before) else { continue };
            let count = u64::try_from(count).unwrap_or(0);
            let add = |counts: &mut Counts| counts.count(class, count, matured == 1, of_stage == 1);
            if fresh == 1 {
                add(stats.fresh.entry(hardware.clone()).or_default());
            }
            add(stats.hardware.entry(hardware).or_default());
        }
        Ok(stats)
    }

    /// Adds the controls: devices of the rollout's audience that did not begin anything of it and were heard of since it started,
    /// and how many of them are not heard of now.
    pub async fn attempt_controls(
        &self,
        stats: &mut Stats,
        rollout: &Rollout,
        product: &ProductView,
        mature_before: Time,
    ) -> Result<()> {
        let audience = Condition::new(&rollout.selector, product, 4);
        let rows: Vec<(String, i64, i64)> = Sql::built(format!(
            "SELECT d.hw_id, CAST(COUNT(*) AS BIGINT),
                    CAST(SUM(CASE WHEN d.last_seen_at < $1 THEN 1 ELSE 0 END) AS BIGINT)
             FROM device d LEFT JOIN customer c ON c.id = d.customer_id
             WHERE d.product_id = $2 AND d.state IN ('active', 'rma_pending') AND {}
               AND d.last_seen_at >= (SELECT COALESCE(MIN(at), 0) FROM rollout_transition
                                      WHERE rollout_id = $3 AND state = 'running')
               AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.device_id = d.id AND a.rollout_id = $3
                                                         AND a.began_at IS NOT NULL)
             GROUP BY d.hw_id",
            audience.text
        ))
        .bind(mature_before)
        .bind(product.product.id)
        .bind(rollout.id)
        .bind_all(audience.values)
        .all(self)
        .await?;
        for (hardware, controls, silent) in rows {
            let counts = stats.hardware.entry(hardware).or_default();
            counts.controls = u64::try_from(controls).unwrap_or(0);
            counts.controls_silent = u64::try_from(silent).unwrap_or(0);
        }
        Ok(())
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
