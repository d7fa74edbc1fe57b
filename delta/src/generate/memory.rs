//! How much memory generation takes beyond both images, and how the bound is kept: planned before the work begins.
//!
//! A byte of old that is indexed takes [`PER_INDEXED`] bytes. When all of it does not fit in what the bound leaves, old is
//! indexed in windows, one after the other.

use super::blocks;

/// Bytes between two looks at whether the work was cancelled.
pub(crate) const CHECK_INTERVAL: usize = 1 << 16;

/// Bytes of index for each byte of old in it: its copy 1, its suffix 4, starts 1, bits seen 1.
const PER_INDEXED: u64 = 7;

/// Bytes of work on a segment for each of its bytes: streams 2, coded 2, intervals and paths 4, and what an encoder needs 16.
const PER_SEGMENT_BYTE: u64 = 24;

/// The least that a segment takes.
const MIN_PER_SEGMENT: u64 = 4 << 20;

/// Bytes of the finished patch and of intervals that wait, for each byte of new: an eighth, as most of new is in old.
const NEW_SHARE: u64 = 8;

/// Shortest window. With less memory than this needs, this much is used all the same: the work never fails for want of
/// memory that it was not allowed.
pub(crate) const MIN_WINDOW: usize = 1 << 20;

/// Longest window: the suffix array counts in 32 bits.
const MAX_WINDOW: usize = i32::MAX as usize;

/// Bytes of old in one window, by a bound on memory.
pub(crate) fn window(bound: Option<u64>, old_len: usize, new_len: usize, segment_len: usize, threads: usize) -> usize {
    let Some(bound) = bound else { return MAX_WINDOW };
    let segment = (segment_len.min(new_len) as u64 * PER_SEGMENT_BYTE).max(MIN_PER_SEGMENT);
    let other = segment * threads as u64 + new_len as u64 / NEW_SHARE;
    // The table of blocks is gone before the first window is indexed, and the segments are not yet begun while it stands.
    let left = bound.saturating_sub(other);
    debug_assert!(blocks::memory(old_len) <= (old_len as u64 / 4).max(1 << 20));
    usize::try_from(left / PER_INDEXED).unwrap_or(MAX_WINDOW).clamp(MIN_WINDOW, MAX_WINDOW)
}
