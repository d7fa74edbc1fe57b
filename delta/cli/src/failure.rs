//! How a command fails: the exit code and what to do next.

use sluice_delta::{
    ApplyError, DiffError,
    foreign::{ForeignError, Format},
};

/// Refused or damaged.
const REFUSED: u8 = 1;

/// Wrong usage, the code that the argument parser uses as well.
const USAGE: u8 = 2;

/// Trouble with a file.
pub const FILE: u8 = 3;

/// A failure of the patch engine. Whatever else fails is trouble with a file.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Applying or reading a patch failed.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// Applying or reading a patch of another program failed.
    #[error(transparent)]
    Foreign(#[from] ForeignError),
    /// The patch makes another image than the caller expects.
    #[error("the patch makes another image than expected: its SHA-256 is {0}")]
    NotExpected(String),
    /// The format has nothing to go on from.
    #[error("a {0} patch has no segments to go on from; leave --resume out")]
    NoResume(Format),
    /// The file is a patch of no format that is known.
    #[error("the first bytes are not those of a sluice, BSDIFF40 or Zstandard patch")]
    NoFormat,
    /// A measurement of this engine went wrong.
    #[error("{0} of the rows of this engine are not ok")]
    Bench(usize),
    /// Making a patch failed.
    #[error(transparent)]
    Diff(#[from] DiffError),
}

impl Failure {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Apply(error) if error.is_io() => FILE,
            Self::Foreign(error) if error.is_io() => FILE,
            Self::Diff(DiffError::SegmentLen { .. }) | Self::NoResume(_) => USAGE,
            Self::Apply(_)
            | Self::Foreign(_)
            | Self::NotExpected(_)
            | Self::NoFormat
            | Self::Bench(_)
            | Self::Diff(_) => REFUSED,
        }
    }

    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Apply(ApplyError::OldLength { .. } | ApplyError::OldMismatch) => {
                "`sluice-delta info PATCH` shows the SHA-256 of the image that the patch starts from"
            }
            Self::Apply(ApplyError::OverBudget { resource: "memory", .. }) => {
                "allow more with --ram, or make the patch with a shorter --segment-len"
            }
            Self::Apply(
                ApplyError::SegmentMismatch { .. } | ApplyError::Truncated { .. } | ApplyError::HeadMismatch,
            ) => "fetch the patch again, then go on with --resume",
            Self::Apply(
                ApplyError::UnknownVersion { .. }
                | ApplyError::UnknownFeatures { .. }
                | ApplyError::UnknownRecoder { .. }
                | ApplyError::UnknownStreamKind { .. }
                | ApplyError::UnknownCodec { .. },
            ) => "the patch was made by a newer sluice-delta; update this one",
            Self::Foreign(ForeignError::OverBudget { .. }) => "allow more with --ram",
            Self::Diff(DiffError::BeyondWindow { .. }) => "--format sluice and bsdiff40 have no such limit",
            Self::Diff(DiffError::OverBudget { .. }) => "allow more with --ram, or choose a shorter --segment-len",
            _ => return None,
        })
    }
}
