//! Rollouts: one release to an audience through ordered stages. Membership is computed, never stored.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::id::{CohortId, DeviceId, ReleaseId, RolloutId};
use crate::text::Slug;
use crate::{TextSet, Time};

/// Buckets a fleet is spread over: one is a hundredth of a percent.
pub const BUCKETS: u64 = 10_000;
/// Most stages a rollout may have.
pub const MAX_STAGES: usize = 32;

/// Where a rollout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "sql", derive(sqlx::Type), sqlx(type_name = "text", rename_all = "snake_case"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RolloutState {
    /// Being written.
    Draft,
    /// Patches for the versions in the field are being built.
    Preparing,
    /// Making offers.
    Running,
    /// Making no new offers; attempts under way go on.
    Paused,
    /// Ended before its time: makes no new offers, never resumes.
    Halted,
    /// Complete: it goes on making offers to its whole audience.
    Done,
}

impl RolloutState {
    /// The stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Preparing => "preparing",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Halted => "halted",
            Self::Done => "done",
        }
    }

    /// Whether a device in stage may be offered the release.
    pub const fn makes_offers(self) -> bool {
        matches!(self, Self::Running | Self::Done)
    }
}

/// One stage: the share of the audience it reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Stage {
    /// Percent of the audience, 1 to 100; never less than the stage before.
    pub percent: u8,
}

/// A rollout's stages, in order. In the database a JSON text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = Vec<Stage>))]
pub struct Stages(pub Vec<Stage>);

impl TryFrom<String> for Stages {
    type Error = serde_json::Error;

    fn try_from(json: String) -> Result<Self, serde_json::Error> {
        serde_json::from_str(&json)
    }
}

/// Stages that no rollout can have.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StagesError {
    /// None, or more than [`MAX_STAGES`].
    #[error("stages: {0} given, 1 to {MAX_STAGES} allowed")]
    Count(usize),
    /// A percentage outside 1 to 100.
    #[error("stages[{index}].percent: {percent}, 1 to 100 allowed")]
    Percent {
        /// Which stage, from 0.
        index: usize,
        /// What it says.
        percent: u8,
    },
    /// A stage that reaches fewer devices than the one before.
    #[error("stages[{index}].percent: {percent} after {before}: a stage never shrinks")]
    Shrinks {
        /// Which stage, from 0.
        index: usize,
        /// What it says.
        percent: u8,
        /// What the stage before says.
        before: u8,
    },
}

impl Stages {
    /// Checks count, range and order.
    pub fn check(&self) -> Result<(), StagesError> {
        if self.0.is_empty() || self.0.len() > MAX_STAGES {
            return Err(StagesError::Count(self.0.len()));
        }
        let mut before = 0;
        for (index, &Stage { percent }) in self.0.iter().enumerate() {
            if !(1..=100).contains(&percent) {
                return Err(StagesError::Percent { index, percent });
            }
            if percent < before {
                return Err(StagesError::Shrinks { index, percent, before });
            }
            before = percent;
        }
        Ok(())
    }

    /// The percentage at a stage, counted from 0; none past the end.
    pub fn percent(&self, stage: i32) -> u8 {
        usize::try_from(stage).ok().and_then(|i| self.0.get(i)).map_or(0, |s| s.percent)
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
    /// Its audience.
    #[cfg_attr(feature = "sql", sqlx(try_from = "String"))]
    pub selector: Selector,
    /// When it was made.
    pub created_at: Time,
}

/// A transition of a rollout: kept for ever, so that "which stage was it in then" stays answerable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "sql", derive(sqlx::FromRow))]
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

/// How far one device has come with one release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "sql", derive(sqlx::Type), sqlx(type_name = "text", rename_all = "snake_case"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum AttemptState {
    /// An offer was made; nothing has come back.
    Offered,
    /// It asked for a blob: the attempt has begun.
    Downloading,
    /// The image is in the inactive slot and its digest is right.
    Verified,
    /// The slot switched.
    Applied,
    /// It came up on the new image.
    Booted,
    /// It polled on the new version and calls itself healthy: success.
    Healthy,
    /// It refused or failed.
    Failed,
    /// It went back to the old slot.
    RolledBack,
    /// A newer offer took its place.
    Superseded,
}

impl AttemptState {
    /// The stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Offered => "offered",
            Self::Downloading => "downloading",
            Self::Verified => "verified",
            Self::Applied => "applied",
            Self::Booted => "booted",
            Self::Healthy => "healthy",
            Self::Failed => "failed",
            Self::RolledBack => "rolled_back",
            Self::Superseded => "superseded",
        }
    }

    /// Whether nothing more can happen.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Healthy | Self::Failed | Self::RolledBack | Self::Superseded)
    }

    /// Whether a report may move an attempt from this state to that one. States only move forward; a repeated or late
    /// report is harmless. A patch failure goes back to downloading the full image within the same attempt, which is
    /// reported as `Downloading` again and changes nothing.
    pub fn may_become(self, next: Self) -> bool {
        !self.is_final() && next > self
    }
}

/// Why an attempt failed. Closed: stop rules count by class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "sql", derive(sqlx::Type), sqlx(type_name = "text", rename_all = "snake_case"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Failure {
    /// The metadata did not verify.
    MetadataRejected,
    /// The device's own policy refused: hardware, security counter, channel or floor.
    PolicyRejected,
    /// The download broke and did not resume.
    DownloadFailed,
    /// A patch was refused or gave a wrong image; the full image may still have succeeded.
    DeltaMismatch,
    /// The full image's digest was wrong.
    DigestMismatch,
    /// No room or memory.
    OutOfSpace,
    /// The new image did not come up or did not stay healthy.
    Unhealthy,
    /// Anything else.
    Other,
}

impl Failure {
    /// The stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MetadataRejected => "metadata_rejected",
            Self::PolicyRejected => "policy_rejected",
            Self::DownloadFailed => "download_failed",
            Self::DeltaMismatch => "delta_mismatch",
            Self::DigestMismatch => "digest_mismatch",
            Self::OutOfSpace => "out_of_space",
            Self::Unhealthy => "unhealthy",
            Self::Other => "other",
        }
    }
}

/// One device's try at one release. Its number is per device and fits an `i32` above zero: it is also the hawkBit DDI
/// action id, and device clients read that as a C `int`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "sql", derive(sqlx::FromRow))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Attempt {
    /// The device.
    pub device_id: DeviceId,
    /// 1, 2, 3 … for each device.
    pub seq: i32,
    /// The release offered.
    pub release_id: ReleaseId,
    /// The rollout that offered it.
    pub rollout_id: RolloutId,
    /// How far it came.
    pub state: AttemptState,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// `patch`, `zstd` or `raw`, as the device reported it.
    pub encoding: Option<String>,
    /// Bytes downloaded, as the device reported them.
    pub bytes: Option<i64>,
    /// When the offer was made.
    pub offered_at: Time,
    /// When it began: the first blob request or report.
    pub began_at: Option<Time>,
    /// When its state last changed.
    pub changed_at: Time,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

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

    #[test]
    fn stages_never_shrink_and_stay_in_range() {
        let stages = |list: &[u8]| Stages(list.iter().map(|&percent| Stage { percent }).collect());
        assert_eq!(stages(&[10, 50, 100]).check(), Ok(()));
        assert_eq!(stages(&[]).check(), Err(StagesError::Count(0)));
        assert_eq!(stages(&[0]).check(), Err(StagesError::Percent { index: 0, percent: 0 }));
        assert_eq!(stages(&[50, 40]).check(), Err(StagesError::Shrinks { index: 1, percent: 40, before: 50 }));
        assert_eq!(stages(&[10, 50]).percent(7), 0);
    }

    #[test]
    fn attempts_only_move_forward() {
        assert!(AttemptState::Offered.may_become(AttemptState::Applied));
        assert!(!AttemptState::Applied.may_become(AttemptState::Downloading));
        assert!(!AttemptState::Healthy.may_become(AttemptState::Failed));
    }

    proptest! {
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
