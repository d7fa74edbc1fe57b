//! What of the old view stands in the suffix array: all but what the caller leaves out, regions that stand unchanged in new,
//! and the inside of long runs of one byte.

use std::ops::Range;

use super::index::common;

/// A region that stands in new stays in the array up to this far from its ends, so that matches which end there are found.
const MARGIN: usize = 256;

/// A shorter hole is not worth an edge.
const MIN_HOLE: usize = 4 << 10;

/// What stays of a long run of one byte at either end: as much as a search compares.
const RUN_KEPT: usize = super::index::MAX_COMPARED;

/// Shorter pieces hold no match.
const MIN_PIECE: usize = 8;

/// The ranges of `old` to index, ascending and apart. `shared` are regions that stand in new as they are.
pub(crate) fn to_index(
    old: &[u8],
    leave_out: &[Range<usize>],
    shared: impl Iterator<Item = Range<usize>>,
) -> Vec<Range<usize>> {
    let shared = joined(shared.collect()).into_iter().filter_map(|range| {
        let inner = range.start + MARGIN..range.end.saturating_sub(MARGIN);
        (inner.len() >= MIN_HOLE).then_some(inner)
    });
    let holes = joined(leave_out.iter().cloned().chain(shared).collect());
    let mut pieces = Vec::new();
    let mut at = 0;
    for hole in holes.into_iter().chain(std::iter::once(old.len()..old.len())) {
        if at < hole.start {
            without_runs(old, at..hole.start.min(old.len()), &mut pieces);
        }
        at = at.max(hole.end);
    }
    pieces.retain(|piece| piece.len() >= MIN_PIECE);
    pieces
}

/// Sorts ranges and joins those that touch.
fn joined(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable_by_key(|range| (range.start, range.end));
    let mut joined: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// Adds `range` to `pieces`, less the inside of its long runs.
fn without_runs(old: &[u8], range: Range<usize>, pieces: &mut Vec<Range<usize>>) {
    let bytes = &old[range.clone()];
    let (mut from, mut at) = (0, 0);
    // A run that is long enough to cut has a sample point in its first half.
    while at + 1 < bytes.len() {
        let run = common(&bytes[at..], &bytes[at + 1..]);
        if run >= 2 * RUN_KEPT {
            let start = at - bytes[..at].iter().rev().take_while(|&&byte| byte == bytes[at]).count();
            pieces.push(range.start + from..range.start + (start + RUN_KEPT).max(from));
            from = at + run - RUN_KEPT;
        }
        at += run.max(RUN_KEPT);
    }
    pieces.push(range.start + from..range.end);
}

/// Cuts pieces into windows of at most `len` bytes. A piece that is cut goes on in the next window a little before the cut,
/// so that matches across it are found in one of them.
pub(crate) fn windows(pieces: Vec<Range<usize>>, len: usize) -> Vec<Vec<Range<usize>>> {
    let total: usize = pieces.iter().map(ExactSizeIterator::len).sum();
    let count = total.div_ceil(len);
    if count <= 1 {
        return vec![pieces];
    }
    // Equal windows, each with room for what it repeats.
    let overlap = RUN_KEPT.min(len / 8);
    let aim = total.div_ceil(total.div_ceil(len - overlap)) + overlap;
    let mut windows = vec![Vec::new()];
    let mut room = aim;
    for mut piece in pieces {
        while piece.len() > room {
            if room > overlap {
                if let Some(window) = windows.last_mut() {
                    window.push(piece.start..piece.start + room);
                }
                piece.start += room - overlap;
            }
            windows.push(Vec::new());
            room = aim;
        }
        room -= piece.len();
        if let Some(window) = windows.last_mut() {
            window.push(piece);
        }
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_regions_keep_their_margins() {
        let old: Vec<u8> = (0..100_000usize).map(|at| (at * at / 7) as u8).collect();
        let pieces = to_index(&old, &[], [20_000..40_000, 30_000..50_000, 60_000..61_000].into_iter());
        assert_eq!(pieces, [0..20_256, 49_744..100_000]);
    }

    #[test]
    fn what_is_left_out_is_left_out_exactly() {
        let old: Vec<u8> = (0..1_000usize).map(|at| (at * at / 7) as u8).collect();
        assert_eq!(to_index(&old, &[100..200, 900..5_000], [].into_iter()), [0..100, 200..900]);
    }

    #[test]
    fn long_runs_keep_their_ends() {
        let run = 10 * RUN_KEPT;
        let old = [&[1, 2, 3, 4, 5, 6, 7, 8, 9][..], &vec![0; run], &[1, 2, 3]].concat();
        assert_eq!(to_index(&old, &[], [].into_iter()), [0..9 + RUN_KEPT, 9 + run - 1 - RUN_KEPT..old.len()]);
    }

    proptest::proptest! {
        #[test]
        fn windows_hold_everything_and_are_short_enough(
            lens in proptest::collection::vec((1usize..200_000, 1usize..1_000), 0..20),
            len in 50_000usize..300_000,
        ) {
            let mut at = 0;
            let pieces: Vec<_> = lens.iter().map(|&(len, gap)| { at += len + gap; at - len..at }).collect();
            let windows = windows(pieces.clone(), len);
            for window in &windows {
                proptest::prop_assert!(window.iter().map(ExactSizeIterator::len).sum::<usize>() <= len);
            }
            proptest::prop_assert_eq!(joined(windows.concat()), joined(pieces));
        }
    }
}
