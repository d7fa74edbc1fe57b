//! Matches the new view against the old one, segment by segment: long shared regions first, then the suffix array over what is
//! left of old.
//!
//! When the whole index fits in memory it stays, and each segment searches it when it is coded. When it does not, old is
//! indexed in windows, all segments search one window after the other, and what they found waits for them.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    Report,
    blocks::Blocks,
    candidates::{self, Interval},
    lookup::{Kind, Lookup},
    memory,
    options::Phase,
    pieces,
};
use crate::error::DiffError;

/// What is known of both views.
pub(crate) struct Matcher<'a> {
    pub old: &'a [u8],
    /// For each segment, the regions that stand in old as they are.
    shared: Vec<Vec<Interval>>,
    searched: Searched<'a>,
}

enum Searched<'a> {
    /// The one index of all that is worth it.
    Later(Lookup<'a>),
    /// What each segment found in all windows.
    Before(Vec<Vec<Interval>>),
}

/// What to match, and with how much memory.
pub(crate) struct Input<'a> {
    pub old: &'a [u8],
    pub new: &'a [u8],
    /// Parts of old that are not worth a place in the suffix array, like compressed data. They are still found where whole
    /// regions of them stand in new.
    pub leave_out: &'a [Range<usize>],
    /// Where new is cut into segments.
    pub cuts: &'a [Range<u64>],
    /// Bytes of old from which on it is sampled.
    pub sampled_from: usize,
    /// Bytes that generation may use beyond both views.
    pub memory: Option<u64>,
}

impl<'a> Matcher<'a> {
    pub(crate) fn new(input: &Input<'a>, report: &Report<'_>) -> Result<Self, DiffError> {
        let Input { old, new, leave_out, cuts, sampled_from, memory } = *input;
        let segments = || {
            let part = |cut: &Range<u64>| &new[cut.start as usize..cut.end as usize];
            cuts.par_iter().enumerate().map(move |(number, cut)| (number, cut.start.cast_signed(), part(cut)))
        };
        let longest = cuts.iter().map(|cut| (cut.end - cut.start) as usize).max().unwrap_or(0);
        let blocks = Blocks::new(old);
        let shared: Vec<Vec<Interval>> = segments()
            .map(|(_, offset, bytes)| {
                let found = blocks.find(bytes, offset, &|| report.beat())?;
                report.add(bytes.len() as u64)?;
                Ok(found)
            })
            .collect::<Result<_, DiffError>>()?;
        drop(blocks);
        report.phase(Phase::Index)?;
        let pieces = pieces::to_index(old, leave_out, shared.iter().flatten().map(Interval::source));
        let kind = Kind::of(pieces.iter().map(ExactSizeIterator::len).sum(), sampled_from);
        let window = memory::window(kind, memory, new.len(), longest, rayon::current_num_threads());
        let windows = pieces::windows(pieces, window);
        if let [window] = &windows[..] {
            let index = Lookup::new(old, window, kind)?;
            return Ok(Self { old, shared, searched: Searched::Later(index) });
        }
        let mut found: Vec<Vec<Interval>> = vec![Vec::new(); shared.len()];
        for window in &windows {
            report.phase(Phase::Index)?;
            let index = Lookup::new(old, window, kind)?;
            let more: Vec<Vec<Interval>> = segments()
                .map(|(number, offset, bytes)| {
                    let more = candidates::find(&index, bytes, offset, &shared[number], &|| report.beat())?;
                    report.add(bytes.len() as u64)?;
                    Ok(more)
                })
                .collect::<Result<_, DiffError>>()?;
            for (all, more) in found.iter_mut().zip(more) {
                all.extend(more);
            }
        }
        Ok(Self { old, shared, searched: Searched::Before(found) })
    }

    /// All intervals of segment `number`, which is `new` and stands at `offset`.
    pub(crate) fn intervals(
        &self,
        number: usize,
        new: &[u8],
        offset: u64,
        check: &impl Fn() -> Result<(), DiffError>,
    ) -> Result<Vec<Interval>, DiffError> {
        match &self.searched {
            Searched::Later(index) => candidates::find(index, new, offset.cast_signed(), &self.shared[number], check),
            Searched::Before(found) => Ok(candidates::merge(found[number].clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::{super::noise::noise, *};

    fn intervals(old: &[u8], new: &[u8], leave_out: &[Range<usize>], memory: Option<u64>) -> Vec<Interval> {
        let report = Report::new(&|_| ControlFlow::Continue(()), new);
        let whole = 0..new.len() as u64;
        let input = Input { old, new, leave_out, cuts: std::slice::from_ref(&whole), sampled_from: old.len(), memory };
        let matcher = Matcher::new(&input, &report).unwrap();
        matcher.intervals(0, new, 0, &|| Ok(())).unwrap()
    }

    #[test]
    fn what_is_left_out_is_found_in_blocks_but_not_searched() {
        let old = noise(100_000, 1);
        let left_out = 20_000..60_000;
        let new = [&old[30_000..50_000], &old[70_000..70_100], &noise(50, 2)[..], &old[25_000..25_100], &noise(50, 3)]
            .concat();
        let shifts = |leave_out: &[Range<usize>]| {
            intervals(&old, &new, leave_out, None).iter().map(|interval| interval.shift).collect::<Vec<_>>()
        };
        assert_eq!(shifts(&[]), [30_000, 50_000, 4_850]);
        assert_eq!(shifts(&[left_out]), [30_000, 50_000]);
    }

    #[test]
    fn windows_find_what_one_index_finds() {
        let old = noise(3 * memory::MIN_WINDOW, 4);
        let mut new = old.clone();
        // Nothing is long enough for a block, and everything has moved.
        for at in (0..new.len()).step_by(150) {
            new[at] ^= 0x55;
        }
        new.drain(..10);
        let covered =
            |found: &[Interval]| found.iter().filter(|i| i.shift == 10).map(|i| i.end - i.start).sum::<usize>();
        let (one, many) = (intervals(&old, &new, &[], None), intervals(&old, &new, &[], Some(0)));
        assert_eq!(covered(&one), new.len());
        assert_eq!(covered(&many), new.len());
    }
}
