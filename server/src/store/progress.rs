//! How far each device of a rollout is, for who watches it.

use sluice_catalog::Time;
use sluice_catalog::rollout::{AttemptState, Class, Failure, Observed, Rollout};

use super::{Result, Sql, Store};

/// Devices of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reaching {
    /// Their hardware id.
    pub hardware: String,
    /// The stage, from 0, in which they were offered the release.
    pub stage: i32,
    /// How far they are.
    pub state: AttemptState,
    /// How they count, those that began.
    pub class: Option<Class>,
    /// How many.
    pub count: u64,
}

/// Attempts of one kind: hardware, stage, state, failure, 1 when matured, 1 when not heard of, how many.
type Group = (String, i64, AttemptState, Option<Failure>, i64, i64, i64);

/// Bytes that devices of one hardware took in one encoding: hardware id, encoding, attempts, bytes.
pub type Taken = (String, Option<String>, i64, i64);

impl Store {
    /// Devices of a rollout by hardware, stage and how far each is; of each the last try that ended, or else the last.
    pub async fn attempt_progress(&self, rollout: &Rollout, mature_before: Time) -> Result<Vec<Reaching>> {
        let opened: Vec<(i32, Time)> = Sql::new(
            "SELECT stage, MIN(at) FROM rollout_transition
             WHERE rollout_id = $1 AND state IN ('running', 'done') GROUP BY stage ORDER BY stage DESC",
        )
        .bind(rollout.id)
        .all(self)
        .await?;
        // Numbers of our own: nothing that anybody sent.
        let since = opened.iter().filter(|(number, _)| *number > 0);
        let since =
            since.map(|(number, at)| format!(" WHEN a.offered_at >= {} THEN {number}", at.as_ms())).collect::<Vec<_>>();
        let stage = if since.is_empty() { "0".to_owned() } else { format!("CASE{} ELSE 0 END", since.concat()) };
        let ended =
            |of: &str| format!("CASE WHEN {of}.state IN ('healthy', 'failed', 'rolled_back') THEN 1 ELSE 0 END");
        let (this, other) = (ended("a"), ended("b"));
        let rows: Vec<Group> = Sql::built(format!(
            "SELECT d.hw_id, CAST({stage} AS BIGINT) AS stage, a.state, a.failure,
                    CAST(CASE WHEN COALESCE(a.began_at, $1) <= $1 THEN 1 ELSE 0 END AS BIGINT) AS matured,
                    CAST(CASE WHEN COALESCE(d.last_seen_at, 0) < $1 AND a.changed_at < $1 THEN 1 ELSE 0 END AS BIGINT) AS unheard,
                    CAST(COUNT(*) AS BIGINT) AS count
             FROM attempt a JOIN device d ON d.id = a.device_id
             WHERE a.rollout_id = $2 AND a.release_id = $3 AND a.state <> 'superseded'
               AND NOT EXISTS (
                 SELECT 1 FROM attempt b
                 WHERE b.rollout_id = a.rollout_id AND b.release_id = a.release_id AND b.device_id = a.device_id
                   AND b.state <> 'superseded'
                   AND ({other} > {this} OR ({other} = {this} AND b.seq > a.seq)))
             GROUP BY d.hw_id, stage, a.state, a.failure, matured, unheard"
        ))
        .bind(mature_before)
        .bind(rollout.id)
        .bind(rollout.release_id)
        .all(self)
        .await?;
        let reaching = rows.into_iter().map(|(hardware, stage, state, failure, matured, unheard, count)| {
            let at = |before: i64| if before == 1 { mature_before.plus_ms(-1) } else { mature_before.plus_ms(1) };
            let observed = Observed { state, failure, began_at: at(matured), last_seen: at(unheard) };
            Reaching {
                hardware,
                stage: i32::try_from(stage).unwrap_or(0),
                state,
                class: observed.class(mature_before),
                count: u64::try_from(count).unwrap_or(0),
            }
        });
        Ok(reaching.collect())
    }

    /// Bytes that a rollout's downloads took, by hardware and encoding, as devices reported them.
    pub async fn attempt_bytes(&self, rollout: &Rollout) -> Result<Vec<Taken>> {
        Sql::new(
            "SELECT d.hw_id, a.encoding, CAST(COUNT(*) AS BIGINT), CAST(SUM(a.bytes) AS BIGINT)
             FROM attempt a JOIN device d ON d.id = a.device_id
             WHERE a.rollout_id = $1 AND a.release_id = $2 AND a.bytes IS NOT NULL GROUP BY d.hw_id, a.encoding",
        )
        .bind(rollout.id)
        .bind(rollout.release_id)
        .all(self)
        .await
    }
}
