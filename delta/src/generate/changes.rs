//! Where a patch changes anything: programs elsewhere need not be told.

use std::ops::Range;

use super::parse::Piece;
use crate::mix::Region;

/// Bytes that are compared at once. A change counts for all of them.
const STEP: usize = 4 << 10;

/// Ranges of both views that differ, sorted and apart.
pub(crate) struct Changes {
    old: Vec<Range<u64>>,
    new: Vec<Range<u64>>,
}

impl Changes {
    /// Compares what `segments` copy; each begins at one of `starts`.
    pub(crate) fn new(old: &[u8], new: &[u8], segments: &[Vec<Piece>], starts: impl Iterator<Item = u64>) -> Self {
        let (mut from, mut to) = (Vec::new(), Vec::new());
        for (pieces, start) in segments.iter().zip(starts) {
            for piece in pieces {
                for at in (piece.start..piece.end).step_by(STEP) {
                    let len = STEP.min(piece.end - at);
                    let place = start as usize + at;
                    if let Some(shift) = piece.shift {
                        let source = (at as i64 + shift) as usize;
                        if old[source..source + len] == new[place..place + len] {
                            continue;
                        }
                        from.push(source as u64..(source + len) as u64);
                    }
                    to.push(place as u64..(place + len) as u64);
                }
            }
        }
        Self { old: joined(from), new: joined(to) }
    }

    /// The regions of programs of the old view in which at least so many bytes differ.
    pub(crate) fn old_programs(&self, regions: &[Region], least: u64) -> Vec<Region> {
        changed(&self.old, regions, least)
    }

    /// The regions of programs of the new view in which at least so many bytes differ.
    pub(crate) fn new_programs(&self, regions: &[Region], least: u64) -> Vec<Region> {
        changed(&self.new, regions, least)
    }
}

/// Sorts ranges and joins those that touch.
fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, last| {
        let touches = next.start <= last.end;
        if touches {
            last.end = last.end.max(next.end);
        }
        touches
    });
    ranges
}

fn changed(ranges: &[Range<u64>], regions: &[Region], least: u64) -> Vec<Region> {
    let differ = |region: &Region| {
        let end = region.start + region.len;
        let from = ranges.partition_point(|range| range.end <= region.start);
        let within = ranges[from..].iter().take_while(|range| range.start < end);
        within.map(|range| range.end.min(end) - range.start.max(region.start)).sum::<u64>()
    };
    let programs = regions.chunk_by(|_, next| !next.first);
    programs.filter(|program| program.iter().map(differ).sum::<u64>() >= least).flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_stay_are_left_out() {
        let region = |start, first| Region { start, len: 10_000, first, ..Region::default() };
        let regions = [region(0, true), region(10_000, false), region(20_000, true), region(30_000, true)];
        let old = vec![1; 40_000];
        let mut new = old.clone();
        new[15_000] = 2;
        let pieces = [
            Piece { start: 0, end: 30_000, shift: Some(0) },
            Piece { start: 30_000, end: 30_100, shift: None },
            Piece { start: 30_100, end: 40_000, shift: Some(-5_000) },
        ];
        let changes = Changes::new(&old, &new, &[pieces.to_vec()], std::iter::once(0));
        assert_eq!(changes.old_programs(&regions, 1), regions[..2]);
        assert_eq!(changes.new_programs(&regions, 1), [regions[0], regions[1], regions[3]]);
        assert_eq!(changes.new_programs(&regions, 101), regions[..2]);
    }
}
