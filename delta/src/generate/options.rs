//! What the caller of the generator chooses, and what it tells him meanwhile.

use std::{fmt, str::FromStr};

use crate::{content::Helpers, limits::ApplyBudget, mix::Params};

/// Images up to this many bytes are cut into [`SMALL_SEGMENT`]s: microcontrollers, whose memory is small.
pub(crate) const SMALL_IMAGE: u64 = 1 << 20;

/// Segment length for small images: 256 KiB costs 0.15 % against one piece.
pub(crate) const SMALL_SEGMENT: u32 = 256 << 10;

/// Segment length of [`Profile::Mcu`]: what is made anew at most after a power cut.
pub(crate) const MCU_SEGMENT: u32 = 64 << 10;

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
    /// The context-mixing coder, which sees the old image and where everything moved: the smallest patches, which take
    /// longer to make and to apply, and 20 MiB of memory.
    Small,
    /// The same coder for the applier [`mcu`](crate::mcu), which has 64 KiB of memory in all: small tables, segments of
    /// 64 KiB, streams raw or mixed, a map of what moved that is bounded, nothing unfolded.
    Mcu,
}

impl Profile {
    /// All profiles, in order of effort.
    pub const ALL: [Self; 4] = [Self::Fast, Self::Default, Self::Small, Self::Mcu];

    /// Whether devices of this profile have the re-encoders that patches into compressed streams need.
    pub fn unfolds(self) -> bool {
        matches!(self, Self::Default | Self::Small)
    }

    /// Tables of the context-mixing coder for a new view of `len` bytes, for profiles that use it.
    pub(crate) fn mix(self, len: usize) -> Option<Params> {
        match self {
            Self::Fast | Self::Default => None,
            Self::Small => Some(Params::small(len)),
            Self::Mcu => Some(Params::MCU),
        }
    }

    /// Bytes to index from which on they are sampled. What is found by a suffix array alone is short: a dictionary coder does
    /// as well without, and mixing gains 1.6 to 6 % on file systems for an eighth more time.
    pub(crate) fn sampled_from(self) -> usize {
        match self {
            Self::Fast | Self::Default | Self::Mcu => 32 << 20,
            Self::Small => 512 << 20,
        }
    }

    /// The name that [`FromStr`] takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Default => "default",
            Self::Small => "small",
            Self::Mcu => "mcu",
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
#[error("unknown profile {0:?}; known are fast, default, small and mcu")]
pub struct UnknownProfile(pub String);

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|profile| profile.name() == name).ok_or_else(|| UnknownProfile(name.to_owned()))
    }
}

/// How to make a patch.
#[derive(Clone)]
pub struct DiffOptions {
    /// What to aim at.
    pub profile: Profile,
    /// Bytes of the new image in one segment: a power of two from 4 KiB to 64 MiB. `None` chooses by the size of the new
    /// image: 256 KiB up to 1 MiB, 4 MiB above.
    pub segment_len: Option<u32>,
    /// What the device that applies the patch may use.
    pub budget: ApplyBudget,
    /// Whether to look inside compressed streams: the device must have the re-encoders of this crate (feature `recode`).
    pub inside: bool,
    /// Programs that encode with other versions of Zstandard, and that the device has too.
    pub helpers: Helpers,
    /// Bytes that making the patch may use beyond both views. With less, old is indexed in more and shorter windows, which
    /// takes longer and loses little. What the least window and the segments of all threads need is used in any case.
    /// `None` sets no bound.
    pub memory: Option<u64>,
}

impl Default for DiffOptions {
    fn default() -> Self {
        Self {
            profile: Profile::default(),
            segment_len: None,
            budget: ApplyBudget::default(),
            inside: true,
            helpers: Helpers::none(),
            memory: None,
        }
    }
}

/// Step of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Looking for compressed streams in both images, and unfolding them.
    Contents,
    /// Finding blocks that both images share.
    Blocks,
    /// Indexing the old image; when that is done in windows, matching each of them too.
    Index,
    /// Matching segments of the new image.
    Segments,
    /// Coding them.
    Code,
    /// Compressing the whole: a full image, or a patch in the format of another program.
    Compress,
}

impl Phase {
    /// All phases, in order.
    pub const ALL: [Self; 6] = [Self::Contents, Self::Blocks, Self::Index, Self::Segments, Self::Code, Self::Compress];
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
