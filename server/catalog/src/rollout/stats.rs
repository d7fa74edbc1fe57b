//! What is known of a rollout's attempts at a moment: counted by class, all that began and those that are matured, whole and by
//! hardware. Beside them stand the controls: devices of the same audience that were not offered anything.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{AttemptState, Failure};
use crate::Time;

/// Two-sided 95 % normal quantile.
const Z: f64 = 1.959_963_984_540_054;

/// How an attempt counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Class {
    /// Under way, and not yet matured.
    Pending,
    /// Polled on the new version, called itself healthy, and is heard of.
    Healthy,
    /// Was healthy and then no more heard of.
    Lost,
    /// Refused by the device: metadata or its own policy.
    Rejected,
    /// Could not be downloaded or written.
    Failed,
    /// Went back to what it ran before.
    RolledBack,
    /// Began and not heard of again.
    Silent,
    /// Matured without an end, though the device is heard of: no success, and no silence.
    Late,
}

impl Class {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Healthy => "healthy",
            Self::Lost => "lost",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::RolledBack => "rolled_back",
            Self::Silent => "silent",
            Self::Late => "late",
        }
    }
}

/// What is known of one attempt that began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// How far it came.
    pub state: AttemptState,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// When it began.
    pub began_at: Time,
    /// When its device was last heard of.
    pub last_seen: Time,
}

impl Observed {
    /// Whether it is by now a success or a failure.
    pub const fn is_matured(&self, mature_before: Time) -> bool {
        self.began_at.as_ms() <= mature_before.as_ms()
    }

    /// How it counts; nothing when a newer offer took its place, or it never began. `mature_before` is now less the time that
    /// rules give an attempt: what began until then is matured, and who was last heard of before then is silent.
    pub fn class(&self, mature_before: Time) -> Option<Class> {
        let unheard = self.last_seen < mature_before;
        Some(match (self.state, self.failure) {
            (AttemptState::Superseded | AttemptState::Offered, _) => return None,
            (AttemptState::Healthy, _) if unheard => Class::Lost,
            (AttemptState::Healthy, _) => Class::Healthy,
            (AttemptState::RolledBack, _) => Class::RolledBack,
            (AttemptState::Failed, Some(failure)) if failure.is_unhealthy() => Class::RolledBack,
            (AttemptState::Failed, Some(Failure::MetadataRejected | Failure::PolicyRejected)) => Class::Rejected,
            (AttemptState::Failed, _) => Class::Failed,
            _ if !self.is_matured(mature_before) => Class::Pending,
            _ if unheard => Class::Silent,
            _ => Class::Late,
        })
    }
}

/// Attempts counted by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Tally {
    /// All of them.
    pub attempts: u64,
    /// Under way.
    pub pending: u64,
    /// Successes, and still heard of.
    pub healthy: u64,
    /// Successes that are no more heard of.
    pub lost: u64,
    /// Refused by the device.
    pub rejected: u64,
    /// Could not be downloaded or written.
    pub failed: u64,
    /// Went back.
    pub rolled_back: u64,
    /// Began and not heard of again.
    pub silent: u64,
    /// Without an end in time.
    pub late: u64,
}

impl Tally {
    /// Counts some more of a class.
    pub fn add(&mut self, class: Class, count: u64) {
        self.attempts += count;
        *match class {
            Class::Pending => &mut self.pending,
            Class::Healthy => &mut self.healthy,
            Class::Lost => &mut self.lost,
            Class::Rejected => &mut self.rejected,
            Class::Failed => &mut self.failed,
            Class::RolledBack => &mut self.rolled_back,
            Class::Silent => &mut self.silent,
            Class::Late => &mut self.late,
        } += count;
    }

    fn merge(&mut self, other: &Self) {
        let classes = [
            (Class::Pending, other.pending),
            (Class::Healthy, other.healthy),
            (Class::Lost, other.lost),
            (Class::Rejected, other.rejected),
            (Class::Failed, other.failed),
            (Class::RolledBack, other.rolled_back),
            (Class::Silent, other.silent),
            (Class::Late, other.late),
        ];
        for (class, count) in classes {
            self.add(class, count);
        }
    }

    /// Attempts that succeeded, whatever came after: losing a device later is what the rule of silence is for.
    pub const fn succeeded(&self) -> u64 {
        self.healthy + self.lost
    }

    /// Devices that are not heard of, before or after their success.
    pub const fn unheard(&self) -> u64 {
        self.silent + self.lost
    }
}

/// One part of an audience, or all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Counts {
    /// Every attempt that began.
    pub begun: Tally,
    /// Those that are matured.
    pub matured: Tally,
    /// Of the matured ones those that began since the present stage opened: what its gate rests on.
    #[serde(default)]
    pub of_stage: Tally,
    /// Devices of the audience without an attempt that were heard of since the rollout started.
    pub controls: u64,
    /// Those of them that are now silent.
    pub controls_silent: u64,
}

impl Counts {
    fn merge(&mut self, other: &Self) {
        self.begun.merge(&other.begun);
        self.matured.merge(&other.matured);
        self.of_stage.merge(&other.of_stage);
        self.controls += other.controls;
        self.controls_silent += other.controls_silent;
    }

    /// Takes in an attempt, in a stage that opened at a moment.
    pub fn observe(&mut self, observed: &Observed, mature_before: Time, opened_at: Time) {
        let Some(class) = observed.class(mature_before) else { return };
        let of_stage = observed.began_at >= opened_at;
        self.count(class, 1, observed.is_matured(mature_before), of_stage);
    }

    /// Counts some more attempts of a class.
    pub fn count(&mut self, class: Class, count: u64, matured: bool, of_stage: bool) {
        self.begun.add(class, count);
        if matured {
            self.matured.add(class, count);
            if of_stage {
                self.of_stage.add(class, count);
            }
        }
    }
}

/// What is known of a rollout at a moment, by hardware id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Stats {
    /// By hardware id.
    pub hardware: BTreeMap<String, Counts>,
    /// The same of attempts that began since somebody let it go on after a pause: what the stop rules look at from then on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fresh: BTreeMap<String, Counts>,
}

impl Stats {
    /// All hardware but what was taken out.
    pub fn total(&self, excluded: &crate::TextSet) -> Counts {
        let mut total = Counts::default();
        for (hardware, counts) in &self.hardware {
            if !excluded.contains(hardware) {
                total.merge(counts);
            }
        }
        total
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact to 2^53 attempts")]
fn wilson(good: u64, all: u64, sign: f64) -> f64 {
    if all == 0 {
        return if sign < 0.0 { 0.0 } else { 1.0 };
    }
    let (n, p) = (all as f64, good.min(all) as f64 / all as f64);
    let z2 = Z * Z;
    let half = Z * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    ((p + z2 / (2.0 * n) + sign * half) / (1.0 + z2 / n)).clamp(0.0, 1.0)
}

/// The lower end of the 95 % interval of a share (Wilson, 1927); 0 when nothing was seen.
pub fn wilson_lower(good: u64, all: u64) -> f64 {
    wilson(good, all, -1.0)
}

/// The upper end; 1 when nothing was seen.
pub fn wilson_upper(good: u64, all: u64) -> f64 {
    wilson(good, all, 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn t(minute: i64) -> Time {
        Time::EPOCH.plus_s(60 * minute)
    }

    fn seen(state: AttemptState, failure: Option<Failure>, began: i64, last_seen: i64) -> Option<Class> {
        Observed { state, failure, began_at: t(began), last_seen: t(last_seen) }.class(t(100))
    }

    #[test]
    fn each_attempt_counts_once_and_silence_is_failure() {
        use AttemptState::{Applied, Downloading, Failed, Healthy, Offered, RolledBack, Superseded};
        assert_eq!(seen(Healthy, None, 50, 150), Some(Class::Healthy));
        assert_eq!(seen(Healthy, None, 50, 99), Some(Class::Lost), "healthy once, not heard of since");
        assert_eq!(seen(Healthy, None, 50, 100), Some(Class::Healthy), "just in time");
        assert_eq!(seen(Applied, None, 101, 101), Some(Class::Pending));
        assert_eq!(seen(Applied, None, 100, 150), Some(Class::Late), "still polls, and is on nothing new");
        assert_eq!(seen(Downloading, None, 50, 60), Some(Class::Silent));
        assert_eq!(seen(Failed, Some(Failure::PolicyRejected), 150, 150), Some(Class::Rejected));
        assert_eq!(seen(Failed, Some(Failure::Unhealthy), 150, 150), Some(Class::RolledBack));
        assert_eq!(seen(Failed, Some(Failure::OutOfSpace), 150, 150), Some(Class::Failed));
        assert_eq!(seen(Failed, None, 150, 150), Some(Class::Failed));
        assert_eq!(seen(RolledBack, None, 50, 50), Some(Class::RolledBack), "what is known to be bad is not silence");
        assert_eq!(seen(Superseded, None, 50, 50), None);
        assert_eq!(seen(Offered, None, 50, 50), None, "never tried");
    }

    #[test]
    fn bounds_are_those_of_the_textbook() {
        // Checked against statsmodels' proportion_confint(method="wilson").
        for (good, all, lower, upper) in
            [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (95, 100, 0.8882, 0.9785)]
        {
            assert!((wilson_lower(good, all) - lower).abs() < 1e-4, "{good} of {all}");
            assert!((wilson_upper(good, all) - upper).abs() < 1e-4, "{good} of {all}");
        }
        assert_eq!((wilson_lower(0, 0), wilson_upper(0, 0)), (0.0, 1.0), "nothing seen says nothing");
    }

    proptest! {
        #[test]
        fn bounds_hold_the_share_and_narrow(all in 1u64..100_000, good in 0u64..100_000) {
            let good = good.min(all);
            #[expect(clippy::cast_precision_loss, reason = "shares of counts far below 2^53")]
            let share = good as f64 / all as f64;
            let (lower, upper) = (wilson_lower(good, all), wilson_upper(good, all));
            prop_assert!((0.0..=1.0).contains(&lower) && lower <= share + 1e-12 && share <= upper + 1e-12 && upper <= 1.0);
            prop_assert!(wilson_lower(good * 2, all * 2) >= lower - 1e-12, "more of the same is surer");
        }

        #[test]
        fn matured_attempts_are_some_of_those_that_began(
            attempts in prop::collection::vec((0u8..9, 0i64..200, 0i64..200), 0..50),
        ) {
            use AttemptState::*;
            let states = [Offered, Downloading, Verified, Applied, Booted, Healthy, Failed, RolledBack, Superseded];
            let mut counts = Counts::default();
            for (state, began, last_seen) in attempts {
                let state = states[usize::from(state)];
                counts.observe(&Observed { state, failure: None, began_at: t(began), last_seen: t(last_seen) }, t(100), t(50));
            }
            let (begun, matured) = (counts.begun, counts.matured);
            prop_assert!(matured.attempts <= begun.attempts && matured.succeeded() <= begun.succeeded());
            prop_assert_eq!(matured.pending, 0, "matured is no more under way");
            prop_assert!(counts.of_stage.attempts <= matured.attempts);
            for tally in [begun, matured] {
                let parts = tally.pending + tally.healthy + tally.lost + tally.rejected + tally.failed + tally.rolled_back;
                prop_assert_eq!(parts + tally.silent + tally.late, tally.attempts);
            }
        }
    }
}
