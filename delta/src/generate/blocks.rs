//! Finds long regions that both images share, in linear time: blocks of old at aligned places are hashed, and a rolling
//! hash over new meets them wherever they went.
//!
//! What is found here need not be searched for, and its source need not stand in the suffix array.

use rayon::prelude::*;

use super::{buckets::Buckets, candidates::Interval, index::common, memory};
use crate::error::DiffError;

/// Shortest block. Shorter shared regions are the suffix array's work, which chooses better among many.
const MIN_BLOCK: usize = 256;

/// Longest block: beyond it too many shared regions hold none at an aligned place.
const MAX_BLOCK: usize = 4 << 10;

/// Blocks of old that are aimed at. Bounds the table for large images.
const BLOCKS: usize = 1 << 20;

/// Multiplier of the polynomial hash: any odd number with well-spread bits.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// The blocks of old by hash.
pub(crate) struct Blocks<'a> {
    old: &'a [u8],
    len: usize,
    /// `FACTOR` to the power of the block's length: takes the byte that leaves out of the hash.
    leaving: u64,
    /// Their numbers.
    buckets: Buckets,
}

/// Block length for an old image of `len` bytes.
fn block_len(len: usize) -> usize {
    (len / BLOCKS).next_power_of_two().clamp(MIN_BLOCK, MAX_BLOCK)
}

/// Bits of a bucket number for `blocks` blocks: one or two buckets a block.
fn bucket_bits(blocks: usize) -> u32 {
    blocks.max(1).ilog2() + 1
}

impl<'a> Blocks<'a> {
    pub(crate) fn new(old: &'a [u8]) -> Self {
        let len = block_len(old.len());
        let hashes: Vec<u64> = old
            .par_chunks_exact(len)
            // A block of one byte over and over is everywhere and tells nothing.
            .map(|block| if is_uniform(block) { 0 } else { hash(block).max(1) })
            .collect();
        let hashed = || hashes.iter().copied().zip(0u32..).filter(|(hash, _)| *hash != 0);
        let buckets = Buckets::new(bucket_bits(hashes.len()), hashed);
        let leaving = (0..len).fold(1u64, |power, _| power.wrapping_mul(FACTOR));
        Self { old, len, leaving, buckets }
    }

    /// Regions of `new` that stand in old, at least a block long, in order and without overlap. `here` is the shift that
    /// leaves every byte where it was.
    pub(crate) fn find(
        &self,
        new: &[u8],
        here: i64,
        check: &impl Fn() -> Result<(), DiffError>,
    ) -> Result<Vec<Interval>, DiffError> {
        let mut found: Vec<Interval> = Vec::new();
        let (mut at, mut done, mut last) = (0, 0, here);
        let mut checked = 0;
        while at + self.len <= new.len() {
            let mut rolling = hash(&new[at..at + self.len]);
            let interval = loop {
                if self.buckets.may_hold(rolling)
                    && let Some(interval) = self.best(new, at, done, rolling, [last, here])
                {
                    break Some(interval);
                }
                let Some(&entering) = new.get(at + self.len) else { break None };
                rolling = self.roll(rolling, new[at], entering);
                at += 1;
                if at - checked >= memory::CHECK_INTERVAL {
                    checked = at;
                    check()?;
                }
            };
            let Some(interval) = interval else { break };
            (at, done, last) = (interval.end, interval.end, interval.shift);
            found.push(interval);
        }
        Ok(found)
    }

    fn roll(&self, hash: u64, leaving: u8, entering: u8) -> u64 {
        hash.wrapping_mul(FACTOR)
            .wrapping_add(u64::from(entering) + 1)
            .wrapping_sub((u64::from(leaving) + 1).wrapping_mul(self.leaving))
    }

    /// The longest region around `at` among the blocks with this hash and the shifts that served before; of equals, the one
    /// that goes on where the last one ended. It begins no earlier than `from`.
    fn best(&self, new: &[u8], at: usize, from: usize, hash: u64, shifts: [i64; 2]) -> Option<Interval> {
        let expected = (at as i64 + shifts[0]).max(0) as u64 / self.len as u64;
        let near = self.buckets.near(hash, expected);
        let mut best: Option<Interval> = None;
        let offsets = near.iter().map(|&block| block as usize * self.len);
        let usual = shifts.into_iter().filter_map(|shift| usize::try_from(at as i64 + shift).ok());
        for offset in usual.chain(offsets) {
            let len = self.old.get(offset..).map_or(0, |old| common(old, &new[at..]));
            if len < self.len {
                continue;
            }
            let back = common_back(&self.old[..offset], &new[from..at]);
            let interval = Interval { start: at - back, end: at + len, shift: offset as i64 - at as i64 };
            if best.is_none_or(|best| interval.end - interval.start > best.end - best.start) {
                best = Some(interval);
            }
        }
        best
    }
}

fn hash(block: &[u8]) -> u64 {
    block.iter().fold(0, |hash, &byte| hash.wrapping_mul(FACTOR).wrapping_add(u64::from(byte) + 1))
}

/// Whether all bytes are the same: such a string is everywhere and tells nothing.
pub(crate) fn is_uniform(bytes: &[u8]) -> bool {
    bytes.is_empty() || common(bytes, &bytes[1..]) == bytes.len() - 1
}

/// How many bytes are equal from the back.
fn common_back(a: &[u8], b: &[u8]) -> usize {
    a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::{super::noise::noise, *};

    fn find(old: &[u8], new: &[u8]) -> Vec<Interval> {
        Blocks::new(old).find(new, 0, &|| Ok(())).unwrap()
    }

    #[test]
    fn moved_regions_are_found_whole() {
        let old = noise(20_000, 1);
        let new = [&old[11_000..], &noise(300, 2)[..], &old[..10_000]].concat();
        assert_eq!(
            find(&old, &new),
            [Interval { start: 0, end: 9_000, shift: 11_000 }, Interval { start: 9_300, end: 19_300, shift: -9_300 }]
        );
    }

    #[test]
    fn of_equal_places_the_one_that_goes_on_is_taken() {
        let part = noise(4_096, 3);
        let old = [&part[..], &part, &part, &part].concat();
        let mut new = old.clone();
        new[6_000] ^= 1;
        assert_eq!(
            find(&old, &new),
            [Interval { start: 0, end: 6_000, shift: 0 }, Interval { start: 6_001, end: old.len(), shift: 0 }]
        );
    }

    proptest::proptest! {
        #[test]
        fn regions_are_equal_ordered_and_apart(
            parts in proptest::collection::vec((0usize..4_000, 0usize..3_000), 0..8),
            period in 1usize..2_000,
        ) {
            let base = noise(period, 4);
            let old: Vec<u8> = base.iter().copied().cycle().take(6_000).chain(noise(2_000, 5)).collect();
            let new: Vec<u8> = parts.iter().flat_map(|&(from, len)| old[from..from + len].iter().copied()).collect();
            let mut end = 0;
            for found in find(&old, &new) {
                proptest::prop_assert!(found.start >= end && found.end >= found.start + MIN_BLOCK);
                let from = (found.start as i64 + found.shift) as usize;
                proptest::prop_assert_eq!(&old[from..from + (found.end - found.start)], &new[found.start..found.end]);
                end = found.end;
            }
        }
    }
}
