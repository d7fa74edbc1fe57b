//! The index of a part of the old view for which a suffix array would be too large and too slow: a sample every few bytes, found
//! by its hash.
//!
//! Every match of [`GRAM`] bytes and a step holds a sample, so that its finder comes upon it that many bytes after its begin
//! at most, and stretches it backwards.

use std::ops::Range;

use super::{
    blocks::is_uniform,
    buckets::Buckets,
    index::{AHEAD, MAX_COMPARED, Match, common, gram},
};

/// Bytes of a sample.
const GRAM: usize = 24;

/// Bytes of memory for a sample: its number 4, starts 4 to 8, bits seen 2 to 4.
pub(crate) const PER_SAMPLE: usize = 16;

/// Samples that are aimed at. Bounds the memory.
const SAMPLES: usize = 16 << 20;

/// Shortest and longest step between samples.
const STEPS: std::ops::RangeInclusive<usize> = 4..=16;

/// A part of the old view and its samples.
pub(crate) struct Samples<'a> {
    pub old: &'a [u8],
    step: usize,
    /// Their places, in steps.
    buckets: Buckets,
}

impl<'a> Samples<'a> {
    /// Shortest match that is found.
    pub(crate) const MIN: usize = GRAM;

    /// The step between samples of `len` bytes.
    pub(crate) fn step(len: usize) -> usize {
        (len / SAMPLES).next_power_of_two().clamp(*STEPS.start(), *STEPS.end())
    }

    /// Samples `pieces` of `old` every `step` bytes.
    pub(crate) fn new(old: &'a [u8], pieces: &[Range<usize>], step: usize) -> Self {
        let len: usize = pieces.iter().map(ExactSizeIterator::len).sum();
        let places = || {
            let of_piece = |piece: &Range<usize>| {
                (piece.start.next_multiple_of(step)..(piece.end + 1).saturating_sub(GRAM)).step_by(step)
            };
            pieces.iter().flat_map(of_piece)
        };
        // Hashed twice: to keep the hashes would take more memory than all the rest.
        let hashed = || {
            let telling = places().filter(|&at| !is_uniform(&old[at..at + GRAM]));
            telling.map(|at| (gram(&old[at..], GRAM), (at / step) as u32))
        };
        Self { old, step, buckets: Buckets::new((len / step).max(2).ilog2(), hashed) }
    }

    /// One bit for each of the next [`AHEAD`] places of `new` at which there may be a match. The looks at memory do not wait for
    /// each other.
    pub(crate) fn may_hold(&self, new: &[u8]) -> u32 {
        let new = &new[..new.len().min(GRAM + AHEAD - 1)];
        let may_hold = |window: &[u8]| self.buckets.may_hold(gram(window, GRAM));
        new.windows(GRAM).enumerate().fold(0, |bits, (at, window)| bits | u32::from(may_hold(window)) << at)
    }

    /// A long match for the front of `new`; of equally long ones, the one closest to `expected`.
    pub(crate) fn longest(&self, new: &[u8], expected: usize) -> Option<Match> {
        if new.len() < GRAM {
            return None;
        }
        let near = self.buckets.near(gram(new, GRAM), expected.div_ceil(self.step) as u64);
        let new = &new[..new.len().min(MAX_COMPARED)];
        let mut best: Option<Match> = None;
        for &number in near {
            let old = number as usize * self.step;
            let found = Match { old, len: common(&self.old[old..], new) };
            let better = |best: Match| {
                let near = |found: Match| std::cmp::Reverse(found.old.abs_diff(expected));
                (found.len, near(found)) > (best.len, near(best))
            };
            if found.len >= GRAM && best.is_none_or(better) {
                best = Some(found);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::{super::noise::noise, *};

    #[test]
    fn a_match_is_met_within_a_step_of_its_begin() {
        let old = noise(10_000, 1);
        let samples = Samples::new(&old, &[0..4_000, 6_000..10_000], 8);
        for start in 0..100 {
            let new = &old[start..start + GRAM + 7];
            let met = (0..8).filter_map(|at| samples.longest(&new[at..], 0).map(|found| (at, found)));
            let met: Vec<_> = met.collect();
            assert!(!met.is_empty() && met.iter().all(|(at, found)| found.old == start + at), "{start}: {met:?}");
        }
        // What is not indexed is not found.
        assert!((4_000..5_900).all(|at| samples.longest(&old[at..at + 50], 0).is_none()));
    }

    #[test]
    fn of_equally_long_matches_the_closest_is_taken() {
        let part = noise(64, 2);
        let old = [&part[..], &noise(64, 3), &part, &noise(64, 4), &part].concat();
        let samples = Samples::new(&old, std::slice::from_ref(&(0..old.len())), 4);
        for expected in [0, 128, 256] {
            assert_eq!(samples.longest(&part, expected).map(|found| found.old), Some(expected));
        }
    }

    #[test]
    fn a_run_of_one_byte_is_no_sample() {
        let old = vec![0xff; 5_000];
        assert_eq!(Samples::new(&old, std::slice::from_ref(&(0..old.len())), 4).longest(&old[..100], 0), None);
    }

    proptest::proptest! {
        #[test]
        fn matches_are_equal_bytes_of_indexed_pieces(
            old in proptest::collection::vec(0u8..3, 0..600),
            new in proptest::collection::vec(0u8..3, 0..60),
            cut in 0usize..600,
        ) {
            let cut = cut.min(old.len());
            let samples = Samples::new(&old, std::slice::from_ref(&(0..cut)), 4);
            if let Some(found) = samples.longest(&new, 0) {
                proptest::prop_assert!(found.len >= GRAM && found.old + GRAM <= cut);
                proptest::prop_assert_eq!(&old[found.old..found.old + found.len], &new[..found.len]);
            }
        }
    }
}
