//! Rollouts: one release to an audience through ordered stages. Membership is computed, never stored.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::id::{CohortId, ReleaseId, RolloutId};
use crate::text::Slug;
use crate::{Period, TextSet, Time};

mod approval;
mod attempt;
pub mod filter;
mod log;
mod planner;
mod progress;
mod rules;
mod schedule;
pub mod simulate;
mod stages;
mod stats;

pub use approval::approval_message;
pub use attempt::{Attempt, AttemptState, Failure};
pub use filter::{Filter, FilterError};
pub use log::{MAX_LOG_LEN, clean_log};
pub use planner::{Cause, Figures, MIN_STOP, StopClass, Transition, Waits, plan, waits};
pub use progress::{GateView, completes_at, gate_view};
pub use rules::{
    MAX_APPROVALS, Prepare, Preset, Rates, Rules, RulesError, StageGate, StopAction, StopLimit, StopRules,
};
pub use schedule::{Blackout, Clock, Day, Schedule, WeeklyWindow};
pub use stages::{MAX_STAGES, Stage, Stages, StagesError};
pub use stats::{Class, Counts, Observed, Stats, Tally, wilson_lower, wilson_upper};

/// Buckets a fleet is spread over: one is a hundredth of a percent.
pub const BUCKETS: u64 = 10_000;

/// Where a rollout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "sql", derive(sqlx::Type), sqlx(type_name = "text", rename_all = "snake_case"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RolloutState {
    /// Being written.
    Draft,
    /// Waiting for approvals; an edit sends it back to draft.
    Review,
    /// Approved by enough people, and not started.
    Approved,
    /// Patches for the versions in the field are being built.
    Preparing,
    /// Waiting for its start.
    Scheduled,
    /// Making offers.
    Running,
    /// Making no new offers; attempts under way go on.
    Paused,
    /// Ended before its time: makes no new offers, never resumes.
    Halted,
    /// Ended before its time: those who run its release are offered the version that its rules name.
    RollingBack,
    /// Complete: it goes on making offers to its whole audience.
    Done,
}

impl RolloutState {
    /// The stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Review => "review",
            Self::Approved => "approved",
            Self::Preparing => "preparing",
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Halted => "halted",
            Self::RollingBack => "rolling_back",
            Self::Done => "done",
        }
    }

    /// Whether a device in stage may be offered the release.
    pub const fn makes_offers(self) -> bool {
        matches!(self, Self::Running | Self::Done)
    }
}

/// Which devices a rollout is for. Every given list must hold the device; an absent or empty one admits all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Selector {
    /// Serials.
    pub serials: TextSet,
    /// Customers by name.
    pub customers: TextSet,
    /// Sites.
    pub sites: TextSet,
    /// Tags: one of them is enough.
    pub tags: TextSet,
    /// Hardware ids.
    pub hw_ids: TextSet,
    /// What else must hold, such as `version < "2.0" and not tag = "lab"`: the language stands in `docs/rollouts.md`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub filter: Option<Filter>,
}

impl TryFrom<String> for Selector {
    type Error = serde_json::Error;

    fn try_from(json: String) -> Result<Self, serde_json::Error> {
        serde_json::from_str(&json)
    }
}

/// A rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "sql", derive(sqlx::FromRow))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rollout {
    /// Made by the server.
    pub id: RolloutId,
    /// What it brings.
    pub release_id: ReleaseId,
    /// Unique short name.
    pub name: Slug,
    /// Who wrote it, and cannot approve it.
    #[serde(default)]
    pub author: String,
    /// Where it stands.
    pub state: RolloutState,
    /// Random text that spreads the fleet differently for each rollout.
    pub salt: String,
    /// Among several rollouts for one device the highest weight wins, then the newest version.
    pub weight: i32,
    /// The stages.
    #[cfg_attr(feature = "sql", sqlx(try_from = "String"))]
    pub stages: Stages,
    /// The current stage, counted from 0.
    pub stage: i32,
    /// When that stage opened. What began since then is its evidence, pauses or not.
    #[serde(default = "epoch")]
    pub opened_at: Time,
    /// Since when that stage is open, or since when it goes on after a pause: what soak time and ramp count from.
    #[serde(default = "epoch")]
    pub stage_since: Time,
    /// Buckets that were reached then: what a ramp starts from.
    #[serde(default)]
    pub reached: i32,
    /// Milliseconds for which it made offers before then, pauses left out: what rates at sites count from.
    #[serde(default)]
    pub ran_ms: i64,
    /// When somebody last let it go on after a pause: failures before that are judged, and stop it no more.
    #[serde(default)]
    pub judged_at: Option<Time>,
    /// Hardware ids that a stop rule took out.
    #[cfg_attr(feature = "sql", sqlx(try_from = "String"))]
    #[serde(default)]
    pub excluded: TextSet,
    /// What it is held to.
    #[cfg_attr(feature = "sql", sqlx(try_from = "String"))]
    #[serde(default)]
    pub rules: Rules,
    /// Its audience.
    #[cfg_attr(feature = "sql", sqlx(try_from = "String"))]
    pub selector: Selector,
    /// When it was made.
    pub created_at: Time,
}

impl Rollout {
    /// Buckets reached at a moment: a device is in stage when its own is below. It never falls as long as the rollout runs.
    pub fn reach(&self, now: Time) -> u16 {
        let hundred = |percent: u8| i64::from(percent) * 100;
        let target = hundred(self.stages.percent(self.stage));
        let ramp_ms = self.stages.stage(self.stage).map_or(0, |stage| stage.ramp.as_ms());
        let reached = if ramp_ms == 0 {
            target
        } else {
            let before = hundred(self.stages.percent(self.stage - 1));
            let elapsed = (now.as_ms() - self.stage_since.as_ms()).clamp(0, ramp_ms);
            // After a pause it goes on from where it was, at the same pace.
            (i64::from(self.reached).max(before) + (target - before) * elapsed / ramp_ms).min(target)
        };
        // What was reached stays: stages may be edited while a rollout is paused, and a clock may be set back.
        let reached = reached.max(i64::from(self.reached));
        u16::try_from(reached).unwrap_or(0)
    }

    /// The rollout after a move at a moment: what it had reached then is what it goes on from. A new stage, going on after a pause and
    /// the end begin their time anew.
    #[must_use]
    pub fn moved(&self, state: RolloutState, stage: i32, now: Time) -> Self {
        let made_offers = self.state.makes_offers();
        let reached = if made_offers { i32::from(self.reach(now)).max(self.reached) } else { self.reached };
        let ends = state == RolloutState::Done && self.state != RolloutState::Done;
        let begins = stage != self.stage || ends || (state.makes_offers() && !made_offers);
        let stage_since = if begins { now } else { self.stage_since };
        let stops = made_offers && (begins || !state.makes_offers());
        let ran_ms = if stops { self.ran_ms_at(now) } else { self.ran_ms };
        let goes_on = self.state == RolloutState::Paused && state.makes_offers();
        let opened_at = if begins && (stage != self.stage || !goes_on) { now } else { self.opened_at };
        let judged_at = if goes_on { Some(now) } else { self.judged_at };
        Self { state, stage, opened_at, stage_since, reached, ran_ms, judged_at, ..self.clone() }
    }

    /// The rollout after a time in which nobody was offered anything: it goes on from what it had reached when that began.
    #[must_use]
    pub fn stood_still(&self, since: Time, now: Time) -> Self {
        let reached = i32::from(self.reach(since)).max(self.reached);
        Self { reached, ran_ms: self.ran_ms_at(since), stage_since: now, ..self.clone() }
    }

    /// Milliseconds for which it has made offers, pauses left out.
    pub fn ran_ms_at(&self, now: Time) -> i64 {
        let since = if self.state.makes_offers() { (now.as_ms() - self.stage_since.as_ms()).max(0) } else { 0 };
        self.ran_ms.saturating_add(since)
    }

    /// When its rate at a site comes to a bucket (asked for only where there is a rate), if it goes on as it does; none when nothing is limited there.
    pub fn rate_at(&self, site: Option<&Slug>, bucket: impl FnOnce() -> u16) -> Option<Time> {
        let period = self.rules.rates.at(site)?;
        let share = period.as_ms() * i64::from(bucket()) / 10_000;
        Some(self.stage_since.plus_ms(share - self.ran_ms))
    }

    /// The rollout after a transition.
    #[must_use]
    pub fn after(&self, transition: &Transition, now: Time) -> Self {
        let mut after = self.moved(transition.state, transition.stage, now);
        after.excluded = self.excluded.iter().chain(transition.exclude.as_deref()).collect();
        after
    }

    /// When the present stage's ramp comes to a bucket; none when it is there from the opening on, or not in this stage.
    pub fn reached_at(&self, bucket: u16) -> Option<Time> {
        let ramp = self.stages.stage(self.stage)?.ramp;
        let end = self.stage_since.plus(ramp);
        if ramp == Period::ZERO || bucket < self.reach(self.stage_since) || bucket >= self.reach(end) {
            return None;
        }
        // The reach only grows: halve the time until the second is found.
        let (mut before, mut at) = (self.stage_since.as_s(), end.as_s() + 1);
        while at - before > 1 {
            let middle = before + (at - before) / 2;
            if bucket < self.reach(Time::EPOCH.plus_s(middle)) { at = middle } else { before = middle }
        }
        Some(Time::EPOCH.plus_s(at))
    }
}

const fn epoch() -> Time {
    Time::EPOCH
}

/// A transition of a rollout: kept for ever, so that "which stage was it in then" stays answerable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutTransition {
    /// When.
    pub at: Time,
    /// The principal, or `server`.
    pub actor: String,
    /// The new state.
    pub state: RolloutState,
    /// The new stage, from 0.
    pub stage: i32,
    /// Why, in words.
    pub cause: String,
    /// What the server rested it on, when it moved by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Transition>,
    /// A digest over all of that, with the state it left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<crate::Digest>,
}

/// A device's bucket in a rollout: the first eight bytes, big-endian, of `SHA-256(salt ‖ cohort id)` mod 10 000, where
/// the salt is its UTF-8 text and the cohort id its 16 bytes. Test vectors stand below and in
/// `docs/device-protocol.md`; they never change, or raising a percentage would reshuffle every running rollout.
pub fn bucket(salt: &str, cohort: CohortId) -> u16 {
    let hash = Sha256::new().chain_update(salt.as_bytes()).chain_update(cohort.0.as_bytes()).finalize();
    let first = hash.iter().take(8).fold(0u64, |acc, &byte| (acc << 8) | u64::from(byte));
    u16::try_from(first % BUCKETS).unwrap_or(0)
}

/// Whether a bucket is reached at a percentage: `bucket < percent · 100`.
pub const fn in_stage(bucket: u16, percent: u8) -> bool {
    (bucket as u32) < (percent as u32) * 100
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    /// A rollout that has just opened its first stage.
    pub(crate) fn sample(stages: Stages, rules: Rules) -> Rollout {
        Rollout {
            id: RolloutId(Uuid::from_u128(1)),
            release_id: ReleaseId(Uuid::from_u128(2)),
            name: "spring".parse().unwrap(),
            author: "ann".into(),
            state: RolloutState::Running,
            salt: "salt".into(),
            weight: 0,
            stages,
            stage: 0,
            opened_at: Time::EPOCH,
            stage_since: Time::EPOCH,
            reached: 0,
            ran_ms: 0,
            judged_at: None,
            excluded: TextSet::default(),
            rules,
            selector: Selector::default(),
            created_at: Time::EPOCH,
        }
    }

    fn cohort(text: &str) -> CohortId {
        text.parse().unwrap()
    }

    #[test]
    fn bucket_vectors_never_change() {
        // Made once with Python: int.from_bytes(sha256(salt.encode() + uuid.bytes).digest()[:8], "big") % 10000
        let vectors = include_str!("../tests/bucket-vectors.txt");
        let mut count = 0;
        for line in vectors.lines().filter(|line| !line.starts_with('#')) {
            let mut parts = line.split_whitespace();
            let (salt, id, want) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
            assert_eq!(bucket(salt, cohort(id)).to_string(), want, "{line}");
            count += 1;
        }
        assert_eq!(count, 8);
    }

    proptest! {
        #[test]
        fn a_ramp_only_grows_pauses_keep_it_and_it_ends_at_its_percentage(
            before in 0u8..=100, more in 0u8..=100, ramp in 1u32..600, looks in prop::collection::vec((0i64..120, any::<bool>()), 1..20),
        ) {
            let target = before.saturating_add(more).clamp(1, 100);
            let mut rollout = sample(Stages(vec![Stage::of(target)]), Rules::default());
            let first = Stage::of(before.clamp(1, target));
            rollout.stages = Stages(vec![first, Stage { percent: target, ramp: Period::minutes(ramp), gate: None }]);
            rollout.stage = 1;
            let mut now = rollout.stage_since;
            let mut reached = rollout.reach(now);
            prop_assert_eq!(u32::from(reached), u32::from(first.percent) * 100);
            for (minutes, pause) in looks {
                now = now.plus_s(60 * minutes);
                let next = rollout.reach(now);
                prop_assert!(next >= reached && u32::from(next) <= u32::from(target) * 100);
                reached = next;
                if pause {
                    (rollout.reached, rollout.stage_since) = (i32::from(reached), now.plus_s(3600));
                    now = now.plus_s(3600);
                    prop_assert_eq!(rollout.reach(now), reached, "it goes on from where it was");
                }
            }
            prop_assert_eq!(u32::from(rollout.reach(now.plus_s(60 * i64::from(ramp)))), u32::from(target) * 100);
        }

        #[test]
        fn raising_a_percentage_keeps_every_device(id: u128, salt in "[a-z0-9]{1,20}", low in 0u8..=100, more in 0u8..=100) {
            let bucket = bucket(&salt, CohortId(Uuid::from_u128(id)));
            prop_assert!(u64::from(bucket) < BUCKETS);
            let high = low.saturating_add(more).min(100);
            prop_assert!(!in_stage(bucket, low) || in_stage(bucket, high));
            prop_assert!(in_stage(bucket, 100));
            prop_assert!(!in_stage(bucket, 0));
        }
    }
}
