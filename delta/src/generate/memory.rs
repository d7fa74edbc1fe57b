//! How much memory generation takes beyond both images, and how the bound is kept: planned before the work begins.
//!
//! A byte of old that is indexed takes some bytes itself. When all of it does not fit in what the bound leaves, old is
//! indexed in windows, one after the other. The table of blocks is gone before the first window is indexed, and never takes
//! more than an eighth of old.

use super::lookup::Kind;

/// Bytes between two looks at whether the work was cancelled.
pub(crate) const CHECK_INTERVAL: usize = 1 << 16;

/// Bytes of intervals and paths for each byte of a segment that is matched. The index is gone before segments are coded.
const PER_SEGMENT_BYTE: u64 = 4;

/// The least that a segment takes.
const MIN_PER_SEGMENT: u64 = 4 << 20;

/// Bytes of intervals and pieces that wait, for each byte of new: a thirty-second, as most of new is in old.
const NEW_SHARE: u64 = 32;

/// Shortest window. With less memory than this needs, this much is used all the same: the work never fails for want of
/// memory that it was not allowed.
pub(crate) const MIN_WINDOW: usize = 1 << 20;

/// Longest window: the suffix array counts in 32 bits.
const MAX_WINDOW: usize = i32::MAX as usize;

/// Bytes of old in one window, by a bound on memory.
pub(crate) fn window(kind: Kind, bound: Option<u64>, new_len: usize, segment_len: usize, threads: usize) -> usize {
    let most = match kind {
        Kind::Suffixes { .. } => MAX_WINDOW,
        Kind::Samples { .. } => usize::MAX,
    };
    let Some(bound) = bound else { return most };
    let segment = (segment_len.min(new_len) as u64 * PER_SEGMENT_BYTE).max(MIN_PER_SEGMENT);
    let other = segment * threads as u64 + new_len as u64 / NEW_SHARE;
    let left = bound.saturating_sub(other);
    let window = left / kind.memory_per_16() as u64 * 16;
    usize::try_from(window).unwrap_or(most).clamp(MIN_WINDOW, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_shared_out() {
        let suffixes = Kind::Suffixes { min: 8 };
        assert_eq!(window(suffixes, None, 1 << 30, 4 << 20, 2), MAX_WINDOW);
        assert_eq!(window(suffixes, Some(0), 1 << 30, 4 << 20, 2), MIN_WINDOW);
        // 1 GiB less 2 segments of 16 MiB and a thirty-second of new, of which each byte of old takes 7, or 16 bytes one sample.
        let left = (1024 - 32 - 32) << 20;
        assert_eq!(window(suffixes, Some(1 << 30), 1 << 30, 4 << 20, 2), left / (7 * 16) * 16);
        assert_eq!(window(Kind::Samples { step: 16 }, Some(1 << 30), 1 << 30, 4 << 20, 2), left);
    }
}
