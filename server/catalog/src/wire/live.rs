//! A rollout as it stands, whole, in one piece: what `GET /api/v1/rollouts/{name}/live` sends with every change. Fields are added, never
//! taken away, and what is absent reads as nothing: older and newer programs understand each other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::rollout::PatchProgress;
use crate::Time;
use crate::rollout::{AttemptState, Class, Counts, GateView, RolloutState, Stage, Waits};
use crate::text::{ProductName, Slug, Version};

/// Seconds after which a stream that has nothing to tell shows that it is alive.
pub const HEARTBEAT_S: u64 = 15;

/// Devices of a part of an audience by how far each is; of one that tries more than once the last try that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Reached {
    /// Offered, and nothing has come back.
    pub offered: u64,
    /// Began: all that follow.
    pub begun: u64,
    /// Asked for the first byte.
    pub downloading: u64,
    /// Have the image, and its digest is right.
    pub verified: u64,
    /// Switched to it.
    pub applied: u64,
    /// Came up on it.
    pub booted: u64,
    /// Polled on it, called themselves healthy, and are heard of.
    pub healthy: u64,
    /// Were healthy and are heard of no more.
    pub lost: u64,
    /// Refused it.
    pub rejected: u64,
    /// Could not download or write it.
    pub failed: u64,
    /// Went back.
    pub rolled_back: u64,
    /// Began and are heard of no more.
    pub silent: u64,
    /// Had their time and came to no end.
    pub late: u64,
}

impl Reached {
    /// Counts some more devices.
    pub fn add(&mut self, state: AttemptState, class: Option<Class>, count: u64) {
        let place = match (class, state) {
            (None, AttemptState::Offered) => {
                self.offered += count;
                return;
            }
            (None, _) => return,
            (Some(Class::Pending), AttemptState::Verified) => &mut self.verified,
            (Some(Class::Pending), AttemptState::Applied) => &mut self.applied,
            (Some(Class::Pending), AttemptState::Booted) => &mut self.booted,
            (Some(Class::Pending), _) => &mut self.downloading,
            (Some(Class::Healthy), _) => &mut self.healthy,
            (Some(Class::Lost), _) => &mut self.lost,
            (Some(Class::Rejected), _) => &mut self.rejected,
            (Some(Class::Failed), _) => &mut self.failed,
            (Some(Class::RolledBack), _) => &mut self.rolled_back,
            (Some(Class::Silent), _) => &mut self.silent,
            (Some(Class::Late), _) => &mut self.late,
        };
        *place += count;
        self.begun += count;
    }

    /// Devices that ended badly, or are not heard of.
    pub const fn bad(&self) -> u64 {
        self.rejected + self.failed + self.rolled_back + self.silent
    }
}

/// Bytes of downloads, as devices reported them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Bytes {
    /// Sent to devices.
    pub sent: u64,
    /// What full images would have taken more, where a patch was used.
    pub saved: u64,
}

/// A rollout as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutLive {
    /// When it was first seen to be so.
    pub at: Time,
    /// Its name.
    pub name: Slug,
    /// The product's name.
    pub product: ProductName,
    /// The version it brings.
    pub version: Version,
    /// Where it stands.
    pub state: RolloutState,
    /// The stage, from 0.
    pub stage: i32,
    /// All stages.
    #[serde(default)]
    pub stages: Vec<Stage>,
    /// The share of the audience that it reaches by now, in hundredths of a percent.
    #[serde(default)]
    pub reach: u16,
    /// Whether all rollouts are stopped.
    #[serde(default)]
    pub stopped_all: bool,
    /// All devices.
    #[serde(default)]
    pub devices: Reached,
    /// The same by the stage in which each was offered the release.
    #[serde(default)]
    pub by_stage: Vec<Reached>,
    /// The same by hardware id, those that were taken out included.
    #[serde(default)]
    pub by_hardware: BTreeMap<String, Reached>,
    /// Hardware ids that were taken out.
    #[serde(default)]
    pub excluded: Vec<String>,
    /// The figures that gates and stop rules look at.
    #[serde(default)]
    pub counts: Counts,
    /// What it waits for.
    #[serde(default = "nothing")]
    pub waits: Waits,
    /// The gate of its stage, while it runs and there is one.
    #[serde(default)]
    pub gate: Option<GateView>,
    /// When it will be done, by its plan and the pace so far; nothing where that cannot be told.
    #[serde(default)]
    pub completes_at: Option<Time>,
    /// Bytes of downloads.
    #[serde(default)]
    pub bytes: Bytes,
    /// Patches to its release.
    #[serde(default)]
    pub patches: PatchProgress,
}

/// A rollout's figures at a moment that is past.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SeriesPoint {
    /// The beginning of the five minutes in which it was written; until the next point nothing had changed.
    pub at: Time,
    /// Where the rollout stood.
    pub state: RolloutState,
    /// The stage, from 0.
    pub stage: i32,
    /// The share of the audience that it reached, in hundredths of a percent.
    pub reach: u16,
    /// Devices by how far they were.
    #[serde(default)]
    pub devices: Reached,
    /// Bytes of downloads.
    #[serde(default)]
    pub bytes: Bytes,
}

const fn nothing() -> Waits {
    Waits::Nothing
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rollout::Observed;

    #[test]
    fn what_an_older_server_does_not_send_reads_as_nothing() {
        let json = r#"{"at": "2027-01-01T00:00:00Z", "name": "spring", "product": "cam", "version": "2.4", "state": "running",
                       "stage": 1, "of_tomorrow": {"x": 1}}"#;
        let live: RolloutLive = serde_json::from_str(json).unwrap();
        assert_eq!((live.gate, live.completes_at, live.devices), (None, None, Reached::default()));
    }

    proptest! {
        #[test]
        fn each_device_that_began_is_in_one_place(
            attempts in prop::collection::vec((0u8..9, 0i64..200, 0i64..200), 0..50),
        ) {
            use AttemptState::*;
            let states = [Offered, Downloading, Verified, Applied, Booted, Healthy, Failed, RolledBack, Superseded];
            let t = |minute: i64| Time::EPOCH.plus_s(60 * minute);
            let (mut reached, mut counts) = (Reached::default(), Counts::default());
            for (state, began, last_seen) in attempts {
                let state = states[usize::from(state)];
                let observed = Observed { state, failure: None, began_at: t(began), last_seen: t(last_seen) };
                reached.add(state, observed.class(t(100)), 1);
                counts.observe(&observed, t(100), t(50));
            }
            let under_way = reached.downloading + reached.verified + reached.applied + reached.booted;
            prop_assert_eq!(under_way, counts.begun.pending);
            let ended = reached.healthy + reached.lost + reached.late + reached.bad();
            prop_assert_eq!(under_way + ended, reached.begun);
            prop_assert_eq!(reached.begun, counts.begun.attempts);
        }
    }
}
