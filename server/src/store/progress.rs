//! What is known of a rollout's attempts: read once, for gates, stop rules, who watches it and its time series alike.

use sluice_catalog::Time;
use sluice_catalog::rollout::{AttemptState, Class, Failure, Observed, Rollout};

use super::{Result, Sql, Store};

/// More bytes than any download has: what a device reports beyond is counted as this, so that no sum overflows.
const MAX_REPORTED: i64 = 1 << 40;

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
    /// Whether they are matured.
    pub matured: bool,
    /// Whether they began since somebody last let the rollout go on after a pause.
    pub fresh: bool,
    /// Whether they began since the present stage opened.
    pub of_stage: bool,
    /// How many.
    pub count: u64,
}

/// Bytes that devices of one hardware took in one encoding: hardware id, encoding, attempts, bytes.
pub type Taken = (String, Option<String>, i64, i64);

#[derive(sqlx::FromRow)]
struct Group {
    hardware: String,
    stage: i64,
    state: AttemptState,
    failure: Option<Failure>,
    matured: i64,
    unheard: i64,
    fresh: i64,
    of_stage: i64,
    count: i64,
}

impl Store {
    /// Devices of a rollout by hardware, stage and how far each is with its own release (not with stepping stones to it); of each the last
    /// try that ended, or else the last. What began until `mature_before` is matured, and who was not heard of since then is silent.
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
        // A device that failed and tries again has failed until that ends; one that flaps is one device.
        let ended =
            |of: &str| format!("CASE WHEN {of}.state IN ('healthy', 'failed', 'rolled_back') THEN 1 ELSE 0 END");
        let (this, other) = (ended("a"), ended("b"));
        // Most devices have one try, or their last one ended: no other is looked for.
        let groups: Vec<Group> = Sql::built(format!(
            "SELECT d.hw_id AS hardware, CAST({stage} AS BIGINT) AS stage, a.state, a.failure,
                    CAST(CASE WHEN COALESCE(a.began_at, $1) <= $1 THEN 1 ELSE 0 END AS BIGINT) AS matured,
                    CAST(CASE WHEN COALESCE(d.last_seen_at, 0) < $1 AND a.changed_at < $1 THEN 1 ELSE 0 END AS BIGINT) AS unheard,
                    CAST(CASE WHEN a.began_at >= $4 THEN 1 ELSE 0 END AS BIGINT) AS fresh,
                    CAST(CASE WHEN a.began_at >= $5 THEN 1 ELSE 0 END AS BIGINT) AS of_stage,
                    CAST(COUNT(*) AS BIGINT) AS count
             FROM attempt a JOIN device d ON d.id = a.device_id
             WHERE a.rollout_id = $2 AND a.release_id = $3 AND a.state <> 'superseded'
               AND (a.seq = 1 AND d.attempt_seq = 1 OR {this} = 1 AND a.seq = d.attempt_seq OR NOT EXISTS (
                 SELECT 1 FROM attempt b
                 WHERE b.rollout_id = a.rollout_id AND b.release_id = a.release_id AND b.device_id = a.device_id
                   AND b.state <> 'superseded'
                   AND ({other} > {this} OR ({other} = {this} AND b.seq > a.seq))))
             GROUP BY d.hw_id, stage, a.state, a.failure, matured, unheard, fresh, of_stage"
        ))
        .bind(mature_before)
        .bind(rollout.id)
        .bind(rollout.release_id)
        .bind(rollout.judged_at.unwrap_or(Time::FOREVER))
        .bind(rollout.opened_at)
        .all(self)
        .await?;
        let reaching = groups.into_iter().map(|group| {
            let at = |before: i64| if before == 1 { mature_before.plus_ms(-1) } else { mature_before.plus_ms(1) };
            let Group { hardware, state, failure, .. } = group;
            let observed = Observed { state, failure, began_at: at(group.matured), last_seen: at(group.unheard) };
            Reaching {
                hardware,
                stage: i32::try_from(group.stage).unwrap_or(0),
                state,
                class: observed.class(mature_before),
                matured: group.matured == 1,
                fresh: group.fresh == 1,
                of_stage: group.of_stage == 1,
                count: u64::try_from(group.count).unwrap_or(0),
            }
        });
        Ok(reaching.collect())
    }

    /// Bytes that a rollout's downloads took, by hardware and encoding, as devices reported them.
    pub async fn attempt_bytes(&self, rollout: &Rollout) -> Result<Vec<Taken>> {
        Sql::built(format!(
            "SELECT d.hw_id, a.encoding, CAST(COUNT(*) AS BIGINT),
                    CAST(SUM(CASE WHEN a.bytes > {MAX_REPORTED} THEN {MAX_REPORTED} ELSE a.bytes END) AS BIGINT)
             FROM attempt a JOIN device d ON d.id = a.device_id
             WHERE a.rollout_id = $1 AND a.release_id = $2 AND a.bytes IS NOT NULL GROUP BY d.hw_id, a.encoding"
        ))
        .bind(rollout.id)
        .bind(rollout.release_id)
        .all(self)
        .await
    }
}
