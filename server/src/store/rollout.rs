//! Rollouts, their transitions, and attempts.

use sluice_catalog::Time;
use sluice_catalog::id::{DeviceId, ReleaseId, RolloutId};
use sluice_catalog::rollout::{Attempt, AttemptState, Failure, Rollout, RolloutState, RolloutTransition};
use sluice_catalog::text::Slug;

use super::{On, Result, Sql, Store, Tx};

const COLUMNS: &str = "id, release_id, name, state, salt, weight, stages, stage, selector, created_at";
const ATTEMPT_COLUMNS: &str =
    "device_id, seq, release_id, rollout_id, state, failure, encoding, bytes, offered_at, began_at, changed_at";

async fn by_name<'a>(on: impl Into<On<'a>>, name: &Slug) -> Result<Option<Rollout>> {
    Sql::built(format!("SELECT {COLUMNS} FROM rollout WHERE name = $1")).bind(name).optional(on).await
}

impl Store {
    /// Every rollout that can still matter to a decision.
    pub async fn rollout_all(&self) -> Result<Vec<Rollout>> {
        Sql::built(format!("SELECT {COLUMNS} FROM rollout ORDER BY id")).all(self).await
    }

    /// Rollouts after a name, in the order of names.
    pub async fn rollout_list(&self, after: &str, limit: u32) -> Result<Vec<Rollout>> {
        Sql::built(format!("SELECT {COLUMNS} FROM rollout WHERE name > $1 ORDER BY name LIMIT $2"))
            .bind(after)
            .bind(i64::from(limit))
            .all(self)
            .await
    }

    /// A rollout by name.
    pub async fn rollout_by_name(&self, name: &Slug) -> Result<Option<Rollout>> {
        by_name(self, name).await
    }

    /// A rollout's transitions, oldest first, at most 500.
    pub async fn rollout_transitions(&self, id: RolloutId) -> Result<Vec<RolloutTransition>> {
        Sql::new(
            "SELECT at, actor, state, stage, cause FROM rollout_transition WHERE rollout_id = $1 ORDER BY seq LIMIT 500",
        )
        .bind(id)
        .all(self)
        .await
    }

    /// A rollout's attempts, counted by state.
    pub async fn attempt_counts(&self, id: RolloutId) -> Result<Vec<(String, i64)>> {
        Sql::new(
            "SELECT state, CAST(COUNT(*) AS BIGINT) FROM attempt WHERE rollout_id = $1 GROUP BY state ORDER BY state",
        )
        .bind(id)
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
    /// A rollout by name.
    pub async fn rollout_by_name(&mut self, name: &Slug) -> Result<Option<Rollout>> {
        by_name(self, name).await
    }

    /// A rollout by id.
    pub async fn rollout_get(&mut self, id: RolloutId) -> Result<Option<Rollout>> {
        Sql::built(format!("SELECT {COLUMNS} FROM rollout WHERE id = $1")).bind(id).optional(self).await
    }

    /// Makes a rollout.
    pub async fn rollout_add(&mut self, rollout: &Rollout) -> Result<()> {
        let json = |value: serde_json::Result<String>| value.unwrap_or_default();
        Sql::new(
            "INSERT INTO rollout (id, release_id, name, state, salt, weight, stages, stage, selector, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(rollout.id)
        .bind(rollout.release_id)
        .bind(&rollout.name)
        .bind(rollout.state)
        .bind(&rollout.salt)
        .bind(rollout.weight)
        .bind(json(serde_json::to_string(&rollout.stages)))
        .bind(rollout.stage)
        .bind(json(serde_json::to_string(&rollout.selector)))
        .bind(rollout.created_at)
        .execute(self)
        .await
        .map(|_| ())
    }

    /// Moves a rollout from the state and stage it was read in, and keeps the transition; false when someone else moved
    /// it meanwhile.
    pub async fn rollout_move(
        &mut self,
        rollout: &Rollout,
        state: RolloutState,
        stage: i32,
        at: Time,
        actor: &str,
        cause: &str,
    ) -> Result<bool> {
        let rows = Sql::new("UPDATE rollout SET state = $1, stage = $2 WHERE id = $3 AND state = $4 AND stage = $5")
            .bind(state)
            .bind(stage)
            .bind(rollout.id)
            .bind(rollout.state)
            .bind(rollout.stage)
            .execute(&mut *self)
            .await?;
        if rows != 1 {
            return Ok(false);
        }
        self.rollout_transition_add(rollout.id, state, stage, at, actor, cause).await?;
        Ok(true)
    }

    /// Keeps a transition.
    pub async fn rollout_transition_add(
        &mut self,
        id: RolloutId,
        state: RolloutState,
        stage: i32,
        at: Time,
        actor: &str,
        cause: &str,
    ) -> Result<()> {
        Sql::new(
            "INSERT INTO rollout_transition (rollout_id, seq, at, actor, state, stage, cause)
             SELECT $1, CAST(COALESCE(MAX(seq), 0) + 1 AS INTEGER), $2, $3, $4, $5, $6
             FROM rollout_transition WHERE rollout_id = $1",
        )
        .bind(id)
        .bind(at)
        .bind(actor)
        .bind(state)
        .bind(stage)
        .bind(cause)
        .execute(self)
        .await
        .map(|_| ())
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
    #[expect(clippy::too_many_arguments, reason = "one column each")]
    pub async fn attempt_move(
        &mut self,
        attempt: &Attempt,
        state: AttemptState,
        failure: Option<Failure>,
        encoding: Option<&str>,
        bytes: Option<i64>,
        detail: Option<&str>,
        at: Time,
    ) -> Result<()> {
        Sql::new(
            "UPDATE attempt SET state = $1, failure = COALESCE($2, failure), encoding = COALESCE($3, encoding),
                                bytes = COALESCE($4, bytes), detail = COALESCE($5, detail),
                                began_at = COALESCE(began_at, $6), changed_at = $6
             WHERE device_id = $7 AND seq = $8",
        )
        .bind(state)
        .bind(failure)
        .bind(encoding)
        .bind(bytes)
        .bind(detail)
        .bind(at)
        .bind(attempt.device_id)
        .bind(attempt.seq)
        .execute(self)
        .await
        .map(|_| ())
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
