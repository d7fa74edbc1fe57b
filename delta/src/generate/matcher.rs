//! Matches the new view against the old one, segment by segment: long shared regions first, then the suffix array over what is
//! left of old.
//!
//! When the whole index fits in memory it stays, and each segment searches it when it is coded. When it does not, old is
//! indexed in windows, all segments search one window after the other, and what they found waits for them.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    blocks::Blocks,
    candidates::{self, Interval},
    index::Index,
    memory, pieces,
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
    Later(Index<'a>),
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
    /// Bytes that generation may use beyond both views.
    pub memory: Option<u64>,
}

impl<'a> Matcher<'a> {
    /// `check` fails when the work was cancelled.
    pub(crate) fn new(
        input: &Input<'a>,
        check: &(impl Fn() -> Result<(), DiffError> + Sync),
    ) -> Result<Self, DiffError> {
        let Input { old, new, leave_out, cuts, memory } = *input;
        let segments = || {
            let part = |cut: &Range<u64>| &new[cut.start as usize..cut.end as usize];
            cuts.par_iter().enumerate().map(move |(number, cut)| (number, cut.start, part(cut)))
        };
        let longest = cuts.iter().map(|cut| (cut.end - cut.start) as usize).max().unwrap_or(0);
        let blocks = Blocks::new(old);
        let shared: Vec<Vec<Interval>> = segments()
            .map(|(_, offset, bytes)| blocks.find(bytes, offset.cast_signed(), check))
            .collect::<Result<_, _>>()?;
        drop(blocks);
        let sources = shared.iter().flatten().map(Interval::source);
        let pieces = pieces::to_index(old, leave_out, sources);
        let window = memory::window(memory, old.len(), new.len(), longest, rayon::current_num_threads());
        let windows = pieces::windows(pieces, window);
        let min = candidates::min_match(old.len());
        check()?;
        if let [window] = &windows[..] {
            let index = Index::new(old, window, min)?;
            return Ok(Self { old, shared, searched: Searched::Later(index) });
        }
        let mut found: Vec<Vec<Interval>> = vec![Vec::new(); shared.len()];
        for window in &windows {
            check()?;
            let index = Index::new(old, window, min)?;
            let more: Vec<Vec<Interval>> = segments()
                .map(|(number, offset, bytes)| {
                    candidates::find(&index, bytes, offset.cast_signed(), &shared[number], check)
                })
                .collect::<Result<_, _>>()?;
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
