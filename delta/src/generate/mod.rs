//! Making patches: one suffix array of the old image, then every segment of the new image by itself.
//!
//! Segments are independent, so they go through rayon and the patch is the same for any number of threads.

#![expect(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "offsets of images that fit in memory are far below 2^63, and a shift applied to its own interval is not negative"
)]

#[cfg(feature = "foreign")]
mod bsdiff40;
mod candidates;
mod encode;
mod full;
mod head;
mod index;
mod options;
mod parse;
mod segment;
#[cfg(feature = "foreign")]
mod zstd_prefix;

use std::{
    ops::ControlFlow,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use self::index::Index;
#[cfg(feature = "foreign")]
pub use self::{bsdiff40::write_bsdiff40, zstd_prefix::write_zstd};
pub use self::{
    full::{Full, FullEncoding, FullOptions, best_full},
    options::{DiffOptions, Phase, Profile, Progress, UnknownProfile},
};
use crate::{
    error::DiffError,
    head::{Head, feature},
    limits::{Limits, MAX_SEGMENT_LEN, MAX_SEGMENTS, MIN_SEGMENT_SHIFT},
};

/// Longest old image the generator takes: the suffix array counts in 32 bits, and needs four times this in memory.
const MAX_OLD_LEN: u64 = i32::MAX as u64;

/// Bytes of the new image that are matched at once where a format has no segments of its own.
#[cfg(feature = "foreign")]
const MATCHED_AT_ONCE: usize = 4 << 20;

/// Longest new image the generator takes: it is held in memory.
const MAX_NEW_LEN: u64 = 1 << 33;

/// A patch, in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// The whole patch.
    pub bytes: Vec<u8>,
    /// Its first `head_len` bytes are the head.
    pub head_len: u32,
    /// What the head says.
    pub head: Head,
}

impl Patch {
    /// SHA-256 of the head: what a director signs together with `head_len`.
    pub fn head_sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.bytes[..self.head_len as usize]).into()
    }
}

/// Makes the patch that turns `old` into `new`, on the threads of the current rayon pool.
///
/// `progress` is called from any thread, in any order within a phase; [`ControlFlow::Break`] cancels.
///
/// # Errors
/// Inputs or options out of range, a patch that would need more than the budget, or cancelled.
pub fn diff(
    old: &[u8],
    new: &[u8],
    options: &DiffOptions,
    progress: &(dyn Fn(Progress) -> ControlFlow<()> + Sync),
) -> Result<Patch, DiffError> {
    check_lengths(old, new)?;
    let segment_len = segment_len(new.len() as u64, options)?;
    let report = Report::new(progress, new);

    report.phase(Phase::Index)?;
    let index = Index::new(old)?;
    report.phase(Phase::Segments)?;
    let segments: Vec<segment::CodedSegment> = new
        .par_chunks(segment_len as usize)
        .enumerate()
        .map(|(number, bytes)| {
            report.check()?;
            let offset = number as u64 * u64::from(segment_len);
            let coded = segment::code(&index, bytes, offset, options.profile)?;
            report.add(bytes.len() as u64)?;
            Ok(coded)
        })
        .collect::<Result<_, DiffError>>()?;

    let draft = head::Draft {
        features: if segments.len() > 1 { feature::SEGMENTED } else { 0 },
        segment_shift: segment_len.trailing_zeros() as u8,
        old_len: old.len() as u64,
        old_sha256: Sha256::digest(old).into(),
        new_len: new.len() as u64,
        new_sha256: Sha256::digest(new).into(),
        segments: &segments,
    };
    let mut bytes = draft.encode();
    let head = Head::parse(&bytes, &Limits::default())
        .map_err(|error| DiffError::Internal { stage: "head", reason: error.to_string() })?;
    if head.ram > options.budget.ram {
        return Err(DiffError::OverBudget { needed: head.ram, budget: options.budget.ram });
    }
    for segment in &segments {
        bytes.extend_from_slice(&segment.coded);
    }
    Ok(Patch { bytes, head_len: head.head_len, head })
}

/// What the matcher can hold.
fn check_lengths(old: &[u8], new: &[u8]) -> Result<(), DiffError> {
    for (image, len, limit) in [("old", old.len() as u64, MAX_OLD_LEN), ("new", new.len() as u64, MAX_NEW_LEN)] {
        if len > limit {
            return Err(DiffError::TooLong { image, len, limit });
        }
    }
    Ok(())
}

/// The segment length to cut with: what was asked for, or by the size of the image.
fn segment_len(new_len: u64, options: &DiffOptions) -> Result<u32, DiffError> {
    let min = 1u32 << MIN_SEGMENT_SHIFT;
    if let Some(len) = options.segment_len {
        let too_many = new_len.div_ceil(u64::from(len.max(1))) > u64::from(MAX_SEGMENTS);
        return if len.is_power_of_two() && (min..=MAX_SEGMENT_LEN).contains(&len) && !too_many {
            Ok(len)
        } else {
            Err(DiffError::SegmentLen { len, min, max: MAX_SEGMENT_LEN })
        };
    }
    Ok(if new_len <= options::SMALL_IMAGE { options::SMALL_SEGMENT } else { options::LARGE_SEGMENT })
}

/// Carries progress to the caller and his answer back to the threads.
struct Report<'a> {
    progress: &'a (dyn Fn(Progress) -> ControlFlow<()> + Sync),
    total: u64,
    done: AtomicU64,
    stop: AtomicBool,
}

impl<'a> Report<'a> {
    fn new(progress: &'a (dyn Fn(Progress) -> ControlFlow<()> + Sync), new: &[u8]) -> Self {
        Self { progress, total: new.len() as u64, done: AtomicU64::new(0), stop: AtomicBool::new(false) }
    }

    fn phase(&self, phase: Phase) -> Result<(), DiffError> {
        self.tell(Progress { phase, done: 0, total: self.total })
    }

    fn add(&self, bytes: u64) -> Result<(), DiffError> {
        self.add_in(Phase::Segments, bytes)
    }

    fn add_in(&self, phase: Phase, bytes: u64) -> Result<(), DiffError> {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.tell(Progress { phase, done, total: self.total })
    }

    fn check(&self) -> Result<(), DiffError> {
        if self.stop.load(Ordering::Relaxed) { Err(DiffError::Cancelled) } else { Ok(()) }
    }

    fn tell(&self, progress: Progress) -> Result<(), DiffError> {
        if (self.progress)(progress).is_break() {
            self.stop.store(true, Ordering::Relaxed);
        }
        self.check()
    }
}
