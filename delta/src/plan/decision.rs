//! What a version gets, and why, in words.

use std::fmt;

use super::VersionId;

/// What one version gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decided {
    /// The version.
    pub version: VersionId,
    /// Devices that run it.
    pub devices: u64,
    /// Bytes that each of them downloads.
    pub len: u64,
    /// How, and why.
    pub decision: Decision,
}

/// How devices of a version come to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// They are there.
    Target,
    /// By one patch.
    Direct {
        /// The plan builds it; else it exists.
        new: bool,
    },
    /// By two patches.
    Chained {
        /// The version between.
        over: VersionId,
        /// How many of the two the plan builds.
        new: u8,
    },
    /// By the full image.
    Full(WhyFull),
}

/// Why a version gets no patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyFull {
    /// No candidates lead from it to the target.
    NoCandidate,
    /// What leads there is not small enough.
    TooLarge {
        /// Bytes of the smallest way, or of the one of its patches that is too large by itself.
        len: u64,
        /// The most that this may have.
        limit: u64,
    },
    /// Building costs more than it saves.
    NotWorthIt {
        /// Bytes that all its devices together would save.
        saves: u128,
        /// What building and keeping the patches weighs.
        costs: u128,
    },
    /// The budget is used up.
    OverBudget {
        /// What there is too little of.
        resource: Resource,
        /// How much its way needs.
        needed: u64,
        /// How much is left.
        left: u64,
    },
    /// A version with more devices did not fit into the budget, so nothing is built for this one.
    BehindOverBudget {
        /// The version that did not fit.
        first: VersionId,
    },
}

/// What a budget is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Number of new patches.
    Patches,
    /// Milliseconds of processor time.
    CpuMs,
    /// Bytes of new patches.
    Bytes,
}

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let devices = if self.devices == 1 { "device" } else { "devices" };
        write!(f, "{} ({} {devices}): {}", self.version, self.devices, self.decision)?;
        match self.decision {
            Decision::Direct { .. } | Decision::Chained { .. } => write!(f, ", {} bytes", self.len),
            Decision::Target | Decision::Full(_) => Ok(()),
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target => f.write_str("is the target"),
            Self::Direct { new: true } => f.write_str("new patch"),
            Self::Direct { new: false } => f.write_str("existing patch"),
            Self::Chained { over, new } => write!(f, "two patches over {over}, {new} of them new"),
            Self::Full(why) => write!(f, "full image: {why}"),
        }
    }
}

impl fmt::Display for WhyFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCandidate => f.write_str("no candidates lead to the target"),
            Self::TooLarge { len, limit } => {
                write!(f, "the best way has {len} bytes, over the limit of {limit}")
            }
            Self::NotWorthIt { saves, costs } => {
                write!(f, "its devices would save {saves} bytes, building weighs {costs}")
            }
            Self::OverBudget { resource, needed, left } => {
                let unit = match resource {
                    Resource::Patches => "new patches",
                    Resource::CpuMs => "ms of processor time",
                    Resource::Bytes => "bytes of patches",
                };
                write!(f, "over the budget: it needs {needed} {unit}, {left} are left")
            }
            Self::BehindOverBudget { first } => {
                write!(f, "the budget ended at version {first}, which has more devices")
            }
        }
    }
}
