//! Reason codes: why a device does or does not get a version. Closed, stable, documented in `docs/reasons.md`.

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $code:literal: $sentence:literal;)*) => {
        /// Why a gate let a release through or held it back.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub enum Reason {
            $($(#[$doc])* #[serde(rename = $code)] $variant,)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The stable code.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code),* }
            }

            /// One English sentence.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence),* }
            }
        }
    };
}

reasons! {
    /// Outcome.
    Offered = "OFFERED": "The device is offered this version.";
    /// Outcome.
    UpToDate = "UP_TO_DATE": "The device runs the newest version it can have.";
    /// Outcome.
    NoRelease = "NO_RELEASE": "The product has no release for this device's hardware and channel.";

    /// Identity gate.
    DevicePending = "DEVICE_PENDING": "The device waits to be accepted.";
    /// Identity gate.
    DeviceBlocked = "DEVICE_BLOCKED": "The device is blocked.";
    /// Identity gate.
    DeviceRetired = "DEVICE_RETIRED": "The device is retired.";
    /// Identity gate.
    DeviceReplaced = "DEVICE_REPLACED": "The device was replaced: only security fixes reach it.";

    /// Release gate.
    NotPublished = "NOT_PUBLISHED": "The version was not published at that moment.";
    /// Release gate.
    Withdrawn = "WITHDRAWN": "The version was withdrawn.";
    /// Release gate.
    Embargoed = "EMBARGOED": "The version is not out yet for this device.";
    /// Release gate.
    CountryBlocked = "COUNTRY_BLOCKED": "The version may not be delivered to the country where the device stands.";

    /// Path gate.
    HardwareMismatch = "HARDWARE_MISMATCH": "The version has no image for this hardware.";
    /// Path gate.
    ChannelNotFollowed = "CHANNEL_NOT_FOLLOWED": "The version is on a channel the device does not follow.";
    /// Path gate.
    NotNewer = "NOT_NEWER": "The device runs this version or a newer one.";
    /// Path gate.
    FloorNotMet = "FLOOR_NOT_MET": "The version can only be installed from a newer version than the running one.";
    /// Path gate.
    SecurityCounterLower = "SECURITY_COUNTER_LOWER": "The version's security counter is below the running one.";
    /// Path gate.
    EpochNotReached = "EPOCH_NOT_REACHED": "The version is of a signing epoch that the device's verifier does not know.";
    /// Path gate.
    EpochPath = "EPOCH_PATH": "A stepping stone to a version of a later signing epoch needs no cover of its own.";

    /// Security gate.
    SecurityFree = "SECURITY_FREE": "A security fix on a train the device owns or runs needs no cover.";
    /// Security gate.
    SecurityPath = "SECURITY_PATH": "A stepping stone to a security fix needs no cover.";
    /// Security gate: the device's claim to run a train is not enough.
    TrainUnproven = "TRAIN_UNPROVEN": "The device is not known to run this security fix's train.";

    /// Grant gate.
    NoCodeRequired = "NO_CODE_REQUIRED": "The version is free for every device.";
    /// Grant gate.
    NoContract = "NO_CONTRACT": "No contract covers the device.";
    /// Grant gate.
    CodeNotGranted = "CODE_NOT_GRANTED": "The device's plans do not grant a code the version requires.";
    /// Grant gate.
    ChannelCeiling = "CHANNEL_CEILING": "The device's plans do not reach the version's channel.";

    /// Cover gate.
    CoveredTrainGa = "COVERED_TRAIN_GA": "The train became generally available while the device was covered.";
    /// Cover gate.
    CoveredLive = "COVERED_LIVE": "The device is covered now.";
    /// Cover gate.
    CoveredReleaseDate = "COVERED_RELEASE_DATE": "The version was published while the device was covered.";
    /// Cover gate.
    CoveredFallback = "COVERED_FALLBACK": "The train was available for long enough while the device was covered: it stays.";
    /// Cover gate.
    CoveredOpen = "COVERED_OPEN": "The plan has no dates.";
    /// Cover gate.
    CoveredGrace = "COVERED_GRACE": "Cover has ended; its grace days still count.";
    /// Cover gate.
    CoverSourceStale = "COVER_SOURCE_STALE": "Cover has ended by what is known, but its source has not been heard of since: it counts on.";
    /// Cover gate.
    TrainGaNotCovered = "TRAIN_GA_NOT_COVERED": "The train became generally available while the device was not covered.";
    /// Cover gate.
    NotLive = "NOT_LIVE": "The device is not covered now.";
    /// Cover gate.
    ReleaseDateNotCovered = "RELEASE_DATE_NOT_COVERED": "The version was published while the device was not covered.";

    /// Cover gate.
    FallbackNotEarned = "FALLBACK_NOT_EARNED": "The device is not covered now, and was not for long enough while the train was available.";

    /// Policy gate.
    HeldByPolicy = "HELD_BY_POLICY": "The device's owner holds new versions back.";
    /// Policy gate.
    PinnedByPolicy = "PINNED_BY_POLICY": "The device's owner keeps the device at another version.";
    /// Policy gate.
    AllowedByPolicy = "ALLOWED_BY_POLICY": "The device's owner wants this version, or holds only others back.";

    /// Rollout gate.
    NoRollout = "NO_ROLLOUT": "No rollout brings this version.";
    /// Rollout gate.
    NotInAudience = "NOT_IN_AUDIENCE": "No rollout of this version is for this device.";
    /// Rollout gate.
    RolloutNotStarted = "ROLLOUT_NOT_STARTED": "The rollout has not started.";
    /// Rollout gate.
    RolloutPaused = "ROLLOUT_PAUSED": "The rollout is paused.";
    /// Rollout gate.
    RolloutHalted = "ROLLOUT_HALTED": "The rollout was halted.";
    /// Rollout gate.
    StageWait = "STAGE_WAIT": "The rollout's stage has not reached the device.";
    /// Rollout gate.
    HardwareStopped = "HARDWARE_STOPPED": "A stop rule took this hardware out of the rollout.";
    /// Rollout gate.
    WindowClosed = "WINDOW_CLOSED": "The rollout's window is closed where the device stands.";
    /// Rollout gate.
    StoppedAll = "STOPPED_ALL": "All rollouts are stopped.";
    /// Rollout gate.
    RollingBack = "ROLLING_BACK": "The rollout of what the device runs goes back, by way of this version.";
    /// Rollout gate.
    SiteRate = "SITE_RATE": "The rollout's rate at the device's site has not come to the device.";
    /// Rollout gate.
    UpdateNow = "UPDATE_NOW": "Somebody asked for this version now: stages, rates and windows do not hold it back.";
    /// Rollout gate.
    InStage = "IN_STAGE": "The rollout's stage has reached the device.";

    /// Attempt gate.
    AttemptFailed = "ATTEMPT_FAILED": "The device tried this version and failed; it is not offered again.";

    /// Encoding gate.
    PatchChosen = "PATCH_CHOSEN": "A patch from the running version is ready and is the smallest.";
    /// Encoding gate.
    FullNoPatch = "FULL_NO_PATCH": "No patch from the running version is ready: the full image is sent.";
    /// Encoding gate.
    FullPatchesOff = "FULL_PATCHES_OFF": "A patch gave this device a wrong image before: the full image is sent.";
    /// Encoding gate.
    FullProfile = "FULL_PROFILE": "The device cannot decode the patch: the full image is sent.";
    /// Encoding gate.
    FullOverBudget = "FULL_OVER_BUDGET": "The patch needs more memory than the device gives: the full image is sent.";
}

impl Reason {
    /// Whether it says that the device has no cover for a version: what a contract would change.
    pub const fn is_lack_of_cover(self) -> bool {
        matches!(
            self,
            Self::NoContract
                | Self::CodeNotGranted
                | Self::ChannelCeiling
                | Self::TrainGaNotCovered
                | Self::NotLive
                | Self::ReleaseDateNotCovered
                | Self::FallbackNotEarned
        )
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

impl std::str::FromStr for Reason {
    type Err = ();

    fn from_str(code: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_read_back() {
        for reason in Reason::ALL {
            assert_eq!(reason.code().parse(), Ok(*reason));
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.code());
            assert!(reason.sentence().ends_with('.'));
        }
    }
}
