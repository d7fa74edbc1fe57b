//! Attempts: one device's tries at one release, and how each may end.

use serde::{Deserialize, Serialize};

use crate::Time;
use crate::id::{DeviceId, ReleaseId, RolloutId};

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
    /// All of them, in their order.
    pub const ALL: [Self; 9] = [
        Self::Offered,
        Self::Downloading,
        Self::Verified,
        Self::Applied,
        Self::Booted,
        Self::Healthy,
        Self::Failed,
        Self::RolledBack,
        Self::Superseded,
    ];

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
    /// The new image was not healthy, and nothing says it closer: what older devices report.
    Unhealthy,
    /// The new image did not come up, or restarted again and again: the boot loader went back, or the check was cut short each time.
    BootFailed,
    /// The check command said that the new image is not healthy.
    CheckFailed,
    /// The check command did not end in time.
    CheckTimeout,
    /// The check command is not there or could not be started.
    CheckMissing,
    /// No poll on the new image was answered.
    NoAnswer,
    /// Anything else.
    Other,
}

impl Failure {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::MetadataRejected,
        Self::PolicyRejected,
        Self::DownloadFailed,
        Self::DeltaMismatch,
        Self::DigestMismatch,
        Self::OutOfSpace,
        Self::Unhealthy,
        Self::BootFailed,
        Self::CheckFailed,
        Self::CheckTimeout,
        Self::CheckMissing,
        Self::NoAnswer,
        Self::Other,
    ];

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
            Self::BootFailed => "boot_failed",
            Self::CheckFailed => "check_failed",
            Self::CheckTimeout => "check_timeout",
            Self::CheckMissing => "check_missing",
            Self::NoAnswer => "no_answer",
            Self::Other => "other",
        }
    }

    /// Whether the new image is the cause, whatever the device saw of it.
    pub const fn is_unhealthy(self) -> bool {
        matches!(
            self,
            Self::Unhealthy
                | Self::BootFailed
                | Self::CheckFailed
                | Self::CheckTimeout
                | Self::CheckMissing
                | Self::NoAnswer
        )
    }

    /// The code by which servers and agents know it that have one word for all unhealthy images.
    #[must_use]
    pub const fn broad(self) -> Self {
        if self.is_unhealthy() { Self::Unhealthy } else { self }
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
    /// What happened, in the device's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "sql", sqlx(default))]
    pub detail: Option<String>,
    /// The end of what its check printed, or of the errors that led to the failure; lines end in LF, no other control character but
    /// the tab. Kept of a device's last 20 attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "sql", sqlx(default))]
    pub log: Option<String>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_failure_has_one_name_and_a_line_in_the_protocol() {
        let protocol = include_str!("../../../../docs/device-protocol.md");
        for failure in Failure::ALL {
            let name = failure.as_str();
            assert_eq!(serde_json::to_value(failure).unwrap(), name);
            assert!(protocol.contains(&format!("| `{name}` |")), "{name} is not in docs/device-protocol.md");
            assert!(!failure.broad().is_unhealthy() || failure.broad() == Failure::Unhealthy);
        }
        let listed = protocol.split("| failure | meaning |").nth(1).unwrap();
        let rows = listed.lines().skip(2).take_while(|line| line.starts_with("| `")).count();
        assert_eq!(rows, Failure::ALL.len(), "the protocol tells of a failure that is none");
    }

    proptest! {
        /// Reports in any order, repeated and late: no state is come to twice, and what has ended stays so.
        #[test]
        fn any_reports_only_move_forward(reports in prop::collection::vec(prop::sample::select(&AttemptState::ALL[..]), 0..40)) {
            let mut state = AttemptState::Offered;
            for next in reports {
                let before = state;
                if state.may_become(next) {
                    state = next;
                }
                prop_assert!(state >= before);
                prop_assert!(!before.is_final() || state == before);
                prop_assert!(!state.may_become(state), "a repeat moves nothing");
            }
        }
    }

    #[test]
    fn attempts_only_move_forward() {
        assert!(AttemptState::Offered.may_become(AttemptState::Applied));
        assert!(!AttemptState::Applied.may_become(AttemptState::Downloading));
        assert!(!AttemptState::Healthy.may_become(AttemptState::Failed));
    }
}
