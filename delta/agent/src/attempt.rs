//! An attempt at an update: its steps, and the state that they lead to. Pure: [`journal`](crate::journal) makes the steps
//! durable.

use serde::{Deserialize, Serialize};
use sluice_catalog::rollout::Failure;
use sluice_catalog::text::Component;

use crate::installed::SlotImage;
use crate::slot::Slot;

/// How an image was carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// A patch from the running image.
    Patch,
    /// The full image as one zstd frame.
    Zstd,
    /// The full image as it is.
    Raw,
}

impl Encoding {
    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Patch => "patch",
            Self::Zstd => "zstd",
            Self::Raw => "raw",
        }
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case", deny_unknown_fields)]
pub enum Record {
    /// An offer was accepted and its download begins.
    Begun {
        /// The number to report under; none when the server gave none.
        attempt: Option<i32>,
        /// The component.
        component: Component,
        /// The slot to be written.
        slot: Slot,
        /// What runs.
        from: SlotImage,
        /// What was offered, as offline keys signed it.
        to: SlotImage,
        /// Bytes of the full download, for the report.
        full_length: u64,
    },
    /// The same image is now offered under another number.
    Renumbered {
        /// The number.
        attempt: Option<i32>,
    },
    /// The patch was given up; the full image follows.
    Fallback {
        /// Why.
        detail: String,
        /// Bytes received since the last record of bytes.
        bytes: u64,
    },
    /// The download broke; the next start goes on.
    Interrupted {
        /// Bytes received since the last such record.
        bytes: u64,
    },
    /// The slot holds the image and its digest was read back.
    Verified {
        /// How it was carried; none when the slot held it already.
        encoding: Option<Encoding>,
        /// Bytes received since the last record of bytes.
        bytes: u64,
    },
    /// A fresh answer confirmed the offer; the pointer is about to be switched.
    Switching,
    /// The pointer names the new slot.
    Applied,
    /// The new image is being checked; counted, so that a check that kills the agent does not go on for ever.
    BootTried,
    /// The new image came up and passed its check.
    Booted,
    /// A poll on the new image got no answer.
    Unanswered,
    /// A poll on the new image was answered: success.
    Healthy,
    /// The new image is being left.
    RollingBack {
        /// Why.
        detail: String,
    },
    /// The pointer names the old slot again.
    RolledBack,
    /// The attempt failed before anything was switched.
    Failed {
        /// The class.
        failure: Failure,
        /// What happened.
        detail: String,
        /// Bytes received since the last record of bytes.
        bytes: u64,
    },
    /// The offer was taken back before the switch.
    Abandoned {
        /// Why.
        detail: String,
    },
    /// Everything that follows from the last step is done.
    Ended,
}

/// How far an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The slot is being written.
    Downloading,
    /// The slot is verified.
    Verified,
    /// The pointer may or may not have been switched.
    Switching,
    /// The pointer names the new slot.
    Applied,
    /// The new image passed its check.
    Booted,
    /// Success.
    Healthy,
    /// The pointer may or may not have been put back.
    RollingBack,
    /// Back on the old slot.
    RolledBack,
    /// Failed before the switch.
    Failed,
    /// Taken back before the switch.
    Abandoned,
}

/// An attempt as the journal tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The number to report under.
    pub number: Option<i32>,
    /// The component.
    pub component: Component,
    /// The slot written.
    pub slot: Slot,
    /// What ran when it began.
    pub from: SlotImage,
    /// What it brings.
    pub to: SlotImage,
    /// Bytes of the full download.
    pub full_length: u64,
    /// How far it is.
    pub phase: Phase,
    /// Why the patch was given up, if it was.
    pub fallback: Option<String>,
    /// How the image was carried.
    pub encoding: Option<Encoding>,
    /// Bytes received.
    pub bytes: u64,
    /// Times the download broke.
    pub interruptions: u32,
    /// Times the new image was checked.
    pub boot_tries: u32,
    /// Polls without answer since the switch.
    pub unanswered: u32,
    /// Class of the failure.
    pub failure: Option<Failure>,
    /// What happened.
    pub detail: Option<String>,
    /// Whether everything that follows from its end is done.
    pub ended: bool,
}

/// A record that cannot follow the ones before it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{record} cannot follow {phase}")]
pub struct OutOfPlace {
    record: &'static str,
    phase: &'static str,
}

impl Attempt {
    /// Takes the next record. One function for writing and for reading back, so that both agree on every state.
    pub fn apply(current: Option<Self>, record: &Record) -> Result<Self, OutOfPlace> {
        use Phase::{
            Abandoned, Applied, Booted, Downloading, Failed, Healthy, RolledBack, RollingBack, Switching, Verified,
        };
        if let Record::Begun { attempt, component, slot, from, to, full_length } = record {
            if current.as_ref().is_some_and(|current| !current.ended) {
                return Err(OutOfPlace { record: "begun", phase: "an open attempt" });
            }
            return Ok(Self {
                number: *attempt,
                component: component.clone(),
                slot: *slot,
                from: from.clone(),
                to: to.clone(),
                full_length: *full_length,
                phase: Downloading,
                fallback: None,
                encoding: None,
                bytes: 0,
                interruptions: 0,
                boot_tries: 0,
                unanswered: 0,
                failure: None,
                detail: None,
                ended: false,
            });
        }
        let Some(mut attempt) = current.filter(|current| !current.ended) else {
            return Err(OutOfPlace { record: record.name(), phase: "no open attempt" });
        };
        let next = match (record, attempt.phase) {
            (Record::Renumbered { attempt: number }, Downloading | Verified | Switching) => {
                attempt.number = *number;
                attempt.phase
            }
            (Record::Fallback { detail, bytes }, Downloading) => {
                attempt.bytes = attempt.bytes.saturating_add(*bytes);
                attempt.fallback = Some(detail.clone());
                Downloading
            }
            (Record::Interrupted { bytes }, Downloading) => {
                attempt.bytes = attempt.bytes.saturating_add(*bytes);
                attempt.interruptions = attempt.interruptions.saturating_add(1);
                Downloading
            }
            (Record::Verified { encoding, bytes }, Downloading) => {
                attempt.encoding = *encoding;
                attempt.bytes = attempt.bytes.saturating_add(*bytes);
                Verified
            }
            (Record::Switching, Verified) => Switching,
            // From the earlier phases too: when the pointer is found switched, it is.
            (Record::Applied, Downloading | Verified | Switching) => Applied,
            (Record::BootTried, Applied) => {
                attempt.boot_tries = attempt.boot_tries.saturating_add(1);
                Applied
            }
            (Record::Booted, Applied) => Booted,
            (Record::Unanswered, Booted) => {
                attempt.unanswered = attempt.unanswered.saturating_add(1);
                Booted
            }
            (Record::Healthy, Booted) => Healthy,
            (Record::RollingBack { detail }, Switching | Applied | Booted) => {
                attempt.failure = Some(Failure::Unhealthy);
                attempt.detail = Some(detail.clone());
                RollingBack
            }
            (Record::RolledBack, RollingBack) => RolledBack,
            (Record::Failed { failure, detail, bytes }, Downloading | Verified | Switching) => {
                attempt.bytes = attempt.bytes.saturating_add(*bytes);
                attempt.failure = Some(*failure);
                attempt.detail = Some(detail.clone());
                Failed
            }
            (Record::Abandoned { detail }, Downloading | Verified | Switching) => {
                attempt.detail = Some(detail.clone());
                Abandoned
            }
            (Record::Ended, Healthy | RolledBack | Failed | Abandoned) => {
                attempt.ended = true;
                attempt.phase
            }
            (record, phase) => return Err(OutOfPlace { record: record.name(), phase: phase.name() }),
        };
        attempt.phase = next;
        Ok(attempt)
    }

    /// Whether the pointer has not been seen to name the new slot.
    pub const fn is_before_switch(&self) -> bool {
        matches!(self.phase, Phase::Downloading | Phase::Verified | Phase::Switching)
    }
}

impl Phase {
    /// The name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Downloading => "downloading",
            Self::Verified => "verified",
            Self::Switching => "switching",
            Self::Applied => "applied",
            Self::Booted => "booted",
            Self::Healthy => "healthy",
            Self::RollingBack => "rolling_back",
            Self::RolledBack => "rolled_back",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }
}

impl Record {
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Begun { .. } => "begun",
            Self::Renumbered { .. } => "renumbered",
            Self::Fallback { .. } => "fallback",
            Self::Interrupted { .. } => "interrupted",
            Self::Verified { .. } => "verified",
            Self::Switching => "switching",
            Self::Applied => "applied",
            Self::BootTried => "boot_tried",
            Self::Booted => "booted",
            Self::Unanswered => "unanswered",
            Self::Healthy => "healthy",
            Self::RollingBack { .. } => "rolling_back",
            Self::RolledBack => "rolled_back",
            Self::Failed { .. } => "failed",
            Self::Abandoned { .. } => "abandoned",
            Self::Ended => "ended",
        }
    }
}
