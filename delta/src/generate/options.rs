//! What the caller of the generator chooses, and what it tells him meanwhile.

use std::{fmt, str::FromStr};

use crate::limits::ApplyBudget;

/// Images up to this many bytes are cut into [`SMALL_SEGMENT`]s: microcontrollers, whose memory is small.
pub(crate) const SMALL_IMAGE: u64 = 1 << 20;

/// Segment length for small images: 256 KiB costs 0.15 % against one piece.
pub(crate) const SMALL_SEGMENT: u32 = 256 << 10;

/// Segment length for all others: 4 MiB costs 0.01 % of matches and 1.4 % of coding.
pub(crate) const LARGE_SEGMENT: u32 = 4 << 20;

/// What to aim at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Profile {
    /// Zstandard only: applies at the speed of storage, costs about a tenth more bytes.
    Fast,
    /// The smallest of raw, Zstandard and LZMA for each stream.
    #[default]
    Default,
}

impl Profile {
    /// All profiles, in order of effort.
    pub const ALL: [Self; 2] = [Self::Fast, Self::Default];

    /// The name that [`FromStr`] takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Default => "default",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The name of a profile that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown profile {0:?}; known are fast and default")]
pub struct UnknownProfile(pub String);

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|profile| profile.name() == name).ok_or_else(|| UnknownProfile(name.to_owned()))
    }
}

/// How to make a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiffOptions {
    /// What to aim at.
    pub profile: Profile,
    /// Bytes of the new image in one segment: a power of two from 4 KiB to 64 MiB. `None` chooses by the size of the new
    /// image: 256 KiB up to 1 MiB, 4 MiB above.
    pub segment_len: Option<u32>,
    /// What the device that applies the patch may use.
    pub budget: ApplyBudget,
}

/// Step of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Indexing the old image.
    Index,
    /// Matching and coding segments of the new image.
    Segments,
    /// Compressing the whole: a full image, or a patch in the format of another program.
    Compress,
}

/// How far the work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Step of the work.
    pub phase: Phase,
    /// Bytes of the new image that are finished in this phase.
    pub done: u64,
    /// Bytes of the new image.
    pub total: u64,
}
