//! Which patches are worth building: from what the fleet runs and what candidates cost, under a budget.
//!
//! Pure integer arithmetic: the same input gives the same plan, and every version is told why it gets what it gets.
//! Versions are decided on one after the other, most devices first. Each takes the way with the best balance: bytes saved
//! for its devices, less what building and keeping new patches costs. A way is one patch, or two by way of a version
//! between. The first version whose way exceeds the budget ends the building: so a larger budget only ever adds patches.
//!
//! ```
//! use sluice_delta::plan::{Candidate, Decision, PlanOptions, Version, plan};
//!
//! let versions = [
//!     Version { id: 1, devices: 900, full_len: 8_000_000 },
//!     Version { id: 2, devices: 100, full_len: 8_000_000 },
//!     Version { id: 3, devices: 0, full_len: 8_000_000 },
//! ];
//! let candidates = [
//!     Candidate { from: 1, to: 3, len: 400_000, cpu_ms: 20_000, built: false },
//!     Candidate { from: 2, to: 3, len: 7_900_000, cpu_ms: 20_000, built: false },
//! ];
//! let plan = plan(&versions, 3, &candidates, &PlanOptions::default())?;
//! assert_eq!(plan.build, [candidates[0]]);
//! assert!(matches!(plan.decisions[0].decision, Decision::Direct { .. }));
//! assert_eq!(plan.decisions[1].to_string(), "2 (100 devices): full image: the best way has 7900000 bytes, over the limit of 5600000");
//! # Ok::<(), sluice_delta::plan::PlanError>(())
//! ```

mod choose;
mod decision;
mod graph;

pub use self::{
    choose::plan,
    decision::{Decided, Decision, Resource, WhyFull},
};

/// Number of a version. The caller keeps what it stands for.
pub type VersionId = u64;

/// Most versions of a fleet. Stops a caller that passes devices for versions.
pub const MAX_VERSIONS: usize = 1 << 16;

/// Most candidates. Bounds the work: each is looked at once for every pair that it makes.
pub const MAX_CANDIDATES: usize = 1 << 20;

/// A version that devices run, or that they go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Its number.
    pub id: VersionId,
    /// Devices that run it and may go to the target.
    pub devices: u64,
    /// Bytes of its best full encoding, see [`best_full`](crate::best_full).
    pub full_len: u64,
}

/// A patch that exists or could be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Version that it starts from.
    pub from: VersionId,
    /// Version that it makes.
    pub to: VersionId,
    /// Bytes of the patch, or an estimate.
    pub len: u64,
    /// Milliseconds of processor time to build it.
    pub cpu_ms: u64,
    /// It exists already: using it costs nothing.
    pub built: bool,
}

/// What may be spent on new patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanBudget {
    /// New patches.
    pub patches: u64,
    /// Milliseconds of processor time.
    pub cpu_ms: u64,
    /// Bytes of new patches.
    pub bytes: u64,
}

impl PlanBudget {
    /// No bound at all.
    pub const UNLIMITED: Self = Self { patches: u64::MAX, cpu_ms: u64::MAX, bytes: u64::MAX };
}

/// How to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanOptions {
    /// What may be spent.
    pub budget: PlanBudget,
    /// A patch, and a whole way, has at most so many percent of the full encoding of what it makes; at most 100.
    pub max_percent: u8,
    /// What a millisecond of processor time is worth in bytes sent.
    pub bytes_per_cpu_ms: u64,
    /// What keeping a byte of a patch is worth in bytes sent.
    pub bytes_per_stored_byte: u64,
    /// What a second application on the device is worth in bytes sent to it; it weighs against ways of two patches.
    pub second_application: u64,
}

impl Default for PlanOptions {
    /// No budget; at most 70 percent; a second of processor time weighs like 1 MB sent, a stored byte like ten, a second
    /// application like 64 KiB.
    fn default() -> Self {
        Self {
            budget: PlanBudget::UNLIMITED,
            max_percent: 70,
            bytes_per_cpu_ms: 1_000,
            bytes_per_stored_byte: 10,
            second_application: 64 << 10,
        }
    }
}

/// What to build, and what each version then gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Patches to build, most wanted first.
    pub build: Vec<Candidate>,
    /// Every version, most devices first.
    pub decisions: Vec<Decided>,
    /// What building takes.
    pub spent: PlanBudget,
    /// Bytes that all devices download by this plan.
    pub bytes: u128,
    /// Bytes that they would download as full images.
    pub full_bytes: u128,
}

/// Why there is no plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The target is none of the versions.
    #[error("the target {0} is none of the versions")]
    UnknownTarget(VersionId),
    /// A candidate names a version that is not there.
    #[error("the candidate from {from} to {to} names a version that is not there")]
    UnknownVersion {
        /// Where it starts.
        from: VersionId,
        /// What it makes.
        to: VersionId,
    },
    /// A version is there twice.
    #[error("version {0} is there twice")]
    VersionTwice(VersionId),
    /// A candidate is there twice.
    #[error("the candidate from {from} to {to} is there twice")]
    CandidateTwice {
        /// Where it starts.
        from: VersionId,
        /// What it makes.
        to: VersionId,
    },
    /// A candidate makes what it starts from.
    #[error("a candidate leads from version {0} to itself")]
    ToItself(VersionId),
    /// The share of the full image is more than all of it.
    #[error("{0} percent is more than the full image")]
    Percent(u8),
    /// More of something than the planner takes.
    #[error("{count} {what} are over the limit of {limit}")]
    TooMany {
        /// Versions or candidates.
        what: &'static str,
        /// How many.
        count: usize,
        /// The most that is taken.
        limit: usize,
    },
}
