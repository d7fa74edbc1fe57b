//! How much memory generation takes beyond both images, and how the bound is kept: planned before the work begins.
//!
//! A byte of old that is indexed takes [`PER_INDEXED`] bytes. When all of it does not fit in what the bound leaves, old is
//! indexed in windows, one after the other. The table of blocks is gone before the first window is indexed, and never takes
//! more than an eighth of old.

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
pub(crate) fn window(bound: Option<u64>, new_len: usize, segment_len: usize, threads: usize) -> usize {
    let Some(bound) = bound else { return MAX_WINDOW };
    let segment = (segment_len.min(new_len) as u64 * PER_SEGMENT_BYTE).max(MIN_PER_SEGMENT);
    let other = segment * threads as u64 + new_len as u64 / NEW_SHARE;
    let left = bound.saturating_sub(other);
    usize::try_from(left / PER_INDEXED).unwrap_or(MAX_WINDOW).clamp(MIN_WINDOW, MAX_WINDOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_shared_out() {
        assert_eq!(window(None, 1 << 30, 4 << 20, 2), MAX_WINDOW);
        assert_eq!(window(Some(0), 1 << 30, 4 << 20, 2), MIN_WINDOW);
        // 1 GiB less 2 segments of 96 MiB and an eighth of new, of which each byte of old takes 7.
        assert_eq!(window(Some(1 << 30), 1 << 30, 4 << 20, 2), (1024 - 192 - 128) * (1 << 20) / 7);
    }
}
