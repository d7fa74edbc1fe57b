//! Rollouts, their transitions and approvals.

use sluice_catalog::id::RolloutId;
use sluice_catalog::rollout::{Rollout, RolloutState, RolloutTransition, Transition};
use sluice_catalog::text::Slug;
use sluice_catalog::wire::rollout::StopAll;
use sluice_catalog::{Digest, TextSet, Time};

use super::{On, Result, Sql, Store, StoreError, Tx};

const COLUMNS: &str = "id, release_id, name, author, state, salt, weight, stages, stage, opened_at, stage_since, reached, judged_at, excluded, rules, \
                       selector, created_at, ran_ms";

async fn by_name<'a>(on: impl Into<On<'a>>, name: &Slug) -> Result<Option<Rollout>> {
    Sql::built(format!("SELECT {COLUMNS} FROM rollout WHERE name = $1")).bind(name).optional(on).await
}

async fn by_id<'a>(on: impl Into<On<'a>>, id: RolloutId) -> Result<Option<Rollout>> {
    Sql::built(format!("SELECT {COLUMNS} FROM rollout WHERE id = $1")).bind(id).optional(on).await
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

    /// A rollout by id.
    pub async fn rollout_by_id(&self, id: RolloutId) -> Result<Option<Rollout>> {
        by_id(self, id).await
    }

    /// When each rollout moved last.
    pub async fn rollout_moved_at(&self) -> Result<Vec<(RolloutId, Time)>> {
        Sql::new("SELECT rollout_id, MAX(at) FROM rollout_transition GROUP BY rollout_id")
            .bind_nothing()
            .all(self)
            .await
    }

    /// A rollout's transitions, oldest first, at most 500.
    pub async fn rollout_transitions(&self, id: RolloutId) -> Result<Vec<RolloutTransition>> {
        let rows: Vec<TransitionRow> = Sql::new(
            "SELECT at, actor, state, stage, cause, evidence, digest FROM rollout_transition
             WHERE rollout_id = $1 ORDER BY seq LIMIT 500",
        )
        .bind(id)
        .all(self)
        .await?;
        rows.into_iter().map(TransitionRow::transition).collect()
    }

    /// A rollout as it stood at a moment: state, stage, since when, what it had reached, hardware that was out. Nothing before
    /// its first transition.
    pub async fn rollout_then(&self, rollout: &Rollout, at: Time) -> Result<Option<Rollout>> {
        let then: Option<(RolloutState, i32, Time, Time, i32, String, i64)> = Sql::new(
            "SELECT state, stage, opened_at, stage_since, reached, excluded, ran_ms FROM rollout_transition
             WHERE rollout_id = $1 AND at <= $2 ORDER BY seq DESC LIMIT 1",
        )
        .bind(rollout.id)
        .bind(at)
        .optional(self)
        .await?;
        let Some((state, stage, opened_at, stage_since, reached, excluded, ran_ms)) = then else { return Ok(None) };
        let excluded = TextSet::try_from(excluded).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        Ok(Some(Rollout { state, stage, opened_at, stage_since, reached, excluded, ran_ms, ..rollout.clone() }))
    }
}

/// A transition as stored.
#[derive(sqlx::FromRow)]
struct TransitionRow {
    at: Time,
    actor: String,
    state: RolloutState,
    stage: i32,
    cause: String,
    evidence: Option<String>,
    digest: Option<Vec<u8>>,
}

impl TransitionRow {
    fn transition(self) -> Result<RolloutTransition> {
        let evidence: Option<Transition> = self
            .evidence
            .map(|json| serde_json::from_str(&json))
            .transpose()
            .map_err(|error| StoreError::Corrupt(format!("evidence of a transition: {error}")))?;
        let Self { at, actor, state, stage, cause, .. } = self;
        let corrupt = |_| StoreError::Corrupt("digest of a transition".into());
        let digest = self.digest.map(Digest::try_from).transpose().map_err(corrupt)?;
        Ok(RolloutTransition { at, actor, state, stage, cause, evidence, digest })
    }
}

fn json(value: &impl serde::Serialize) -> String {
    // Texts and numbers alone: there is nothing that JSON cannot say.
    serde_json::to_string(value).unwrap_or_default()
}

/// Who moved a rollout, why, and on what evidence with which digest.
#[derive(Clone, Copy, Debug)]
pub struct Because<'a> {
    /// The principal, or `server`.
    pub actor: &'a str,
    /// In words.
    pub cause: &'a str,
    /// Of a move that the server made by itself.
    pub evidence: Option<(&'a Transition, Digest)>,
}

/// The setting that holds the switch which stops every rollout.
const STOP_ALL: &str = "stop_all";

async fn stop_all<'a>(on: impl Into<On<'a>>) -> Result<StopAll> {
    let row: Option<(String,)> = Sql::new("SELECT value FROM meta WHERE key = $1").bind(STOP_ALL).optional(on).await?;
    let read = row.map(|(json,)| serde_json::from_str(&json)).transpose();
    read.map(Option::unwrap_or_default).map_err(|error| StoreError::Corrupt(format!("setting {STOP_ALL}: {error}")))
}

impl Store {
    /// The switch that stops every rollout.
    pub async fn stop_all(&self) -> Result<StopAll> {
        stop_all(self).await
    }

    /// Whether every rollout was stopped at a moment, as far as that was noted.
    pub async fn stopped_at(&self, at: Time) -> Result<bool> {
        let turn: Option<(bool,)> =
            Sql::new("SELECT stopped FROM stop_all_turn WHERE at <= $1 ORDER BY at DESC LIMIT 1")
                .bind(at)
                .optional(self)
                .await?;
        match turn {
            Some((stopped,)) => Ok(stopped),
            // The last turn may be from before turns were noted.
            None => stop_all(self).await.map(|set| set.stopped && set.at.is_some_and(|since| since <= at)),
        }
    }
}

impl Tx {
    /// The switch that stops every rollout.
    pub async fn stop_all(&mut self) -> Result<StopAll> {
        stop_all(self).await
    }

    /// Turns it, and notes when.
    pub async fn stop_all_put(&mut self, set: &StopAll, at: Time) -> Result<()> {
        Sql::new(
            "INSERT INTO stop_all_turn (at, stopped) VALUES ($1, $2)
             ON CONFLICT (at) DO UPDATE SET stopped = excluded.stopped",
        )
        .bind(at)
        .bind(set.stopped)
        .execute(&mut *self)
        .await?;
        self.meta_put(STOP_ALL, &json(set)).await
    }

    /// A rollout by name.
    pub async fn rollout_by_name(&mut self, name: &Slug) -> Result<Option<Rollout>> {
        by_name(self, name).await
    }

    /// Every rollout.
    pub async fn rollout_all(&mut self) -> Result<Vec<Rollout>> {
        Sql::built(format!("SELECT {COLUMNS} FROM rollout ORDER BY id")).all(self).await
    }

    /// Waits until nobody else moves a rollout, and reads it then.
    pub async fn rollout_lock(&mut self, name: &Slug) -> Result<Option<Rollout>> {
        Sql::new("UPDATE rollout SET weight = weight WHERE name = $1").bind(name).execute(&mut *self).await?;
        self.rollout_by_name(name).await
    }

    /// What a rollout that is paused was before.
    pub async fn rollout_before_pause(&mut self, id: RolloutId) -> Result<Option<RolloutState>> {
        let row: Option<(RolloutState,)> = Sql::new(
            "SELECT state FROM rollout_transition WHERE rollout_id = $1 AND state <> 'paused' ORDER BY seq DESC LIMIT 1",
        )
        .bind(id)
        .optional(self)
        .await?;
        Ok(row.map(|(state,)| state))
    }

    /// The same by id.
    pub async fn rollout_lock_id(&mut self, id: RolloutId) -> Result<Option<Rollout>> {
        Sql::new("UPDATE rollout SET weight = weight WHERE id = $1").bind(id).execute(&mut *self).await?;
        by_id(self, id).await
    }

    /// Makes a rollout, or writes an edited plan over one with the same id.
    pub async fn rollout_put(&mut self, rollout: &Rollout) -> Result<()> {
        Sql::built(format!(
            "INSERT INTO rollout ({COLUMNS})
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
             ON CONFLICT (id) DO UPDATE SET release_id = excluded.release_id, author = excluded.author, weight = excluded.weight,
                 stages = excluded.stages, rules = excluded.rules, selector = excluded.selector"
        ))
        .bind(rollout.id)
        .bind(rollout.release_id)
        .bind(&rollout.name)
        .bind(&rollout.author)
        .bind(rollout.state)
        .bind(&rollout.salt)
        .bind(rollout.weight)
        .bind(json(&rollout.stages))
        .bind(rollout.stage)
        .bind(rollout.opened_at)
        .bind(rollout.stage_since)
        .bind(rollout.reached)
        .bind(rollout.judged_at)
        .bind(rollout.excluded.to_json())
        .bind(json(&rollout.rules))
        .bind(json(&rollout.selector))
        .bind(rollout.created_at)
        .bind(rollout.ran_ms)
        .execute(self)
        .await
        .map(|_| ())
    }

    /// Moves a rollout from what it was when it was read to what it is to be, and keeps the transition; false when someone else
    /// moved it meanwhile.
    pub async fn rollout_move(&mut self, was: &Rollout, is: &Rollout, at: Time, because: Because<'_>) -> Result<bool> {
        let rows = Sql::new(
            "UPDATE rollout SET state = $1, stage = $2, stage_since = $3, reached = $4, excluded = $5, judged_at = $11, opened_at = $12, ran_ms = $13
             WHERE id = $6 AND state = $7 AND stage = $8 AND stage_since = $9 AND excluded = $10",
        )
        .bind(is.state)
        .bind(is.stage)
        .bind(is.stage_since)
        .bind(is.reached)
        .bind(is.excluded.to_json())
        .bind(was.id)
        .bind(was.state)
        .bind(was.stage)
        .bind(was.stage_since)
        .bind(was.excluded.to_json())
        .bind(is.judged_at)
        .bind(is.opened_at)
        .bind(is.ran_ms)
        .execute(&mut *self)
        .await?;
        if rows != 1 {
            return Ok(false);
        }
        self.rollout_transition_add(is, at, because).await?;
        Ok(true)
    }

    /// Keeps a transition to what a rollout is now.
    pub async fn rollout_transition_add(&mut self, is: &Rollout, at: Time, because: Because<'_>) -> Result<()> {
        let evidence = because.evidence.map(|(transition, _)| json(transition));
        Sql::new(
            "INSERT INTO rollout_transition
                 (rollout_id, seq, at, actor, state, stage, opened_at, stage_since, reached, excluded, cause, evidence, digest, ran_ms)
             SELECT $1, CAST(COALESCE(MAX(seq), 0) + 1 AS INTEGER), $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, CAST($13 AS BIGINT)
             FROM rollout_transition WHERE rollout_id = $1",
        )
        .bind(is.id)
        .bind(at)
        .bind(because.actor)
        .bind(is.state)
        .bind(is.stage)
        .bind(is.opened_at)
        .bind(is.stage_since)
        .bind(is.reached)
        .bind(is.excluded.to_json())
        .bind(because.cause)
        .bind(evidence)
        .bind(because.evidence.map(|(_, digest)| digest))
        .bind(is.ran_ms)
        .execute(self)
        .await
        .map(|_| ())
    }
}
