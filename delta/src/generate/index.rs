//! The index of a part of the old view: a suffix array, a table over the first bits, and a filter that turns away most of what
//! is not there.

use std::{borrow::Cow, ops::Range};

use libsais::SuffixArrayConstruction;

use crate::error::DiffError;

/// Searches stop comparing here: a longer match is extended by its finder, and repetitive images (all `0xff`) would
/// otherwise be compared to their end at every step.
pub(crate) const MAX_COMPARED: usize = 1 << 12;

/// Equally good suffixes looked at on either side. Bounds the time on repetitive images.
const NEIGHBOURS: usize = 32;

/// Bytes of text for one entry of the table over the first bits, as a power of two.
const TEXT_PER_START: u32 = 2;

/// Bits of the table over the first bits: those of three bytes at most.
const START_BITS: std::ops::RangeInclusive<u32> = 8..=24;

/// Bytes of text for one word of the filter, as a power of two: four to eight bits a byte.
const TEXT_PER_SEEN: u32 = 4;

/// Places looked at together by [`Index::may_hold`].
pub(crate) const AHEAD: usize = 4;

/// Bytes of text between two entries of the table that finds the piece of a place.
const PLACE: usize = 1 << 12;

/// Where a match of the old view begins, and how long it is known to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Match {
    pub old: usize,
    pub len: usize,
}

/// A part of the old view and its suffix array.
pub(crate) struct Index<'a> {
    pub old: &'a [u8],
    /// The pieces of old that are indexed, one after the other.
    text: Cow<'a, [u8]>,
    /// Where each piece begins in the text and in old.
    pieces: Vec<(usize, usize)>,
    /// The piece in which every `PLACE`th byte of the text stands.
    places: Vec<u32>,
    suffixes: Vec<i32>,
    /// How far the first four bytes are shifted to give an entry of `starts`.
    shift: u32,
    /// From `starts[p]` on stand the suffixes that start with bits `p`; a suffix too short for them is filled up with zeros.
    starts: Vec<u32>,
    /// Shortest match that is looked for.
    pub min: usize,
    /// How far a hash of `min` bytes is shifted to give a word of `seen`.
    seen_shift: u32,
    seen: Vec<u64>,
}

impl<'a> Index<'a> {
    /// Indexes `pieces` of `old` for matches of `min` bytes or more; `min` is 8 to 24.
    pub(crate) fn new(old: &'a [u8], pieces: &[Range<usize>], min: usize) -> Result<Self, DiffError> {
        let text: Cow<'a, [u8]> = match pieces {
            [piece] => Cow::Borrowed(&old[piece.clone()]),
            _ => Cow::Owned(pieces.iter().flat_map(|piece| &old[piece.clone()]).copied().collect()),
        };
        let mut end = 0;
        let (mut placed, mut places) = (Vec::with_capacity(pieces.len()), Vec::new());
        for piece in pieces {
            placed.push((end, piece.start));
            end += piece.len();
            places.resize(end.div_ceil(PLACE), placed.len() as u32 - 1);
        }
        let bits = text.len().max(1).ilog2().saturating_sub(TEXT_PER_START);
        let shift = 32 - bits.clamp(*START_BITS.start(), *START_BITS.end());
        let seen_shift = 64 - (text.len().max(64).next_power_of_two().ilog2() - TEXT_PER_SEEN);
        let (suffixes, (starts, seen)) =
            rayon::join(|| sorted(&text), || (starts(&text, shift), seen(&text, min, seen_shift)));
        Ok(Self { old, pieces: placed, places, suffixes: suffixes?, shift, starts, min, seen_shift, seen, text })
    }

    fn suffix(&self, rank: usize) -> usize {
        self.suffixes[rank].cast_unsigned() as usize
    }

    /// Where a place of the text stands in old.
    fn place(&self, at: usize) -> usize {
        let mut piece = self.places[at / PLACE] as usize;
        // The entry is the piece of the block's first byte.
        while self.pieces.get(piece + 1).is_some_and(|next| next.0 <= at) {
            piece += 1;
        }
        let (start, old) = self.pieces[piece];
        old + (at - start)
    }

    /// One bit for each of the next [`AHEAD`] places of `new` at which there may be a match. The looks at memory do not wait for
    /// each other.
    pub(crate) fn may_hold(&self, new: &[u8]) -> u32 {
        let new = &new[..new.len().min(self.min + AHEAD - 1)];
        let may_hold = |window: &[u8]| {
            let hash = gram(window, self.min);
            !self.seen[(hash >> self.seen_shift) as usize] & seen_bits(hash) == 0
        };
        new.windows(self.min).enumerate().fold(0, |bits, (at, window)| bits | u32::from(may_hold(window)) << at)
    }

    /// A longest match for the front of `new`, if it has enough bytes; of several, the one closest to `expected`.
    pub(crate) fn longest(&self, new: &[u8], expected: usize) -> Option<Match> {
        if new.len() < self.min {
            return None;
        }
        let prefix = (first(new) >> self.shift) as usize;
        let (mut low, mut high) = (self.starts[prefix] as usize, self.starts[prefix + 1] as usize);
        let new = &new[..new.len().min(MAX_COMPARED)];
        // Suffixes below `low` are smaller and share `low_len` bytes with `new`; those from `high` on are larger.
        let (mut low_len, mut high_len) = (0, 0);
        let (mut best_rank, mut best_len) = (low, 0);
        while low < high {
            let middle = low.midpoint(high);
            let at = self.suffix(middle);
            let known = low_len.min(high_len);
            let len = known + common(&self.text[at + known..], &new[known..]);
            if len > best_len {
                (best_rank, best_len) = (middle, len);
            }
            if len == new.len() {
                break;
            }
            if self.text.get(at + len).is_none_or(|byte| *byte < new[len]) {
                low = middle + 1;
                low_len = len;
            } else {
                high = middle;
                high_len = len;
            }
        }
        if best_len < self.min {
            return None;
        }
        let old = self.place(self.suffix(best_rank));
        // Where two pieces meet, the text is not what stands in old.
        let mut best = Match { old, len: common(&self.old[old..], new) };
        if best_len < MAX_COMPARED {
            self.nearest(best_rank, &new[..best_len], expected, &mut best);
        }
        (best.len >= self.min).then_some(best)
    }

    /// Among the suffixes around `rank` that match as well, takes the one closest to `expected`: code that moved together
    /// stays together.
    fn nearest(&self, rank: usize, target: &[u8], expected: usize, best: &mut Match) {
        let below = (rank.saturating_sub(NEIGHBOURS)..rank).rev();
        let above = rank + 1..self.suffixes.len().min(rank + NEIGHBOURS);
        let matches = |at: &usize| self.text[*at..].starts_with(target);
        let equal = |rank| self.suffix(rank);
        for at in below.map(equal).take_while(matches).chain(above.map(equal).take_while(matches)) {
            let old = self.place(at);
            if old.abs_diff(expected) < best.old.abs_diff(expected) && self.old[old..].starts_with(target) {
                *best = Match { old, len: target.len() };
            }
        }
    }
}

fn sorted(text: &[u8]) -> Result<Vec<i32>, DiffError> {
    let suffixes = SuffixArrayConstruction::for_text(text).in_owned_buffer32().single_threaded().run();
    let suffixes =
        suffixes.map_err(|error| DiffError::Internal { stage: "suffix array", reason: error.to_string() })?;
    Ok(suffixes.into_vec())
}

/// Where the suffixes with each front begin.
fn starts(text: &[u8], shift: u32) -> Vec<u32> {
    let mut starts = vec![0u32; (1 << (32 - shift)) + 1];
    for at in 0..text.len() {
        starts[(first(&text[at..]) >> shift) as usize + 1] += 1;
    }
    let mut sum = 0;
    for start in &mut starts {
        sum += *start;
        *start = sum;
    }
    starts
}

/// A few bits for each hash of `min` bytes that stand in `text`, all in one word: one look at memory tells.
fn seen(text: &[u8], min: usize, shift: u32) -> Vec<u64> {
    let mut seen = vec![0u64; 1 << (64 - shift)];
    for window in text.windows(min) {
        let hash = gram(window, min);
        seen[(hash >> shift) as usize] |= seen_bits(hash);
    }
    seen
}

/// The bits of a hash in its word of the filter: with three, few that are not there seem to be.
#[inline]
fn seen_bits(hash: u64) -> u64 {
    1 << (hash & 63) | 1 << (hash >> 6 & 63) | 1 << (hash >> 12 & 63)
}

/// The first four bytes as a number that sorts as they do; a shorter text is filled up with zeros.
fn first(bytes: &[u8]) -> u32 {
    match bytes.first_chunk() {
        Some(four) => u32::from_be_bytes(*four),
        None => bytes.iter().fold(0, |number, &byte| number << 8 | u32::from(byte)) << (8 * (4 - bytes.len())),
    }
}

/// A hash of the first `min` bytes, which are 8 to 24; its upper bits are spread best.
pub(crate) fn gram(bytes: &[u8], min: usize) -> u64 {
    let (front, middle, back) = (word(bytes), word(&bytes[(min - 8) / 2..]), word(&bytes[min - 8..]));
    let mixed = (front ^ middle.rotate_left(23)).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ back;
    (mixed ^ mixed >> 29).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

/// How many bytes are equal from the front.
#[inline]
pub(crate) fn common(a: &[u8], b: &[u8]) -> usize {
    let len = a.len().min(b.len());
    let (a, b) = (&a[..len], &b[..len]);
    let mut at = 0;
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        let differ = word(a) ^ word(b);
        if differ != 0 {
            return at + (differ.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + a[at..].iter().zip(&b[at..]).take_while(|(a, b)| a == b).count()
}

/// The first eight bytes.
#[inline]
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn longest_by_trying(old: &[u8], new: &[u8]) -> usize {
        (0..old.len()).map(|at| common(&old[at..], new)).max().unwrap_or(0)
    }

    proptest::proptest! {
        #[test]
        fn finds_a_longest_match(
            old in proptest::collection::vec(0u8..2, 0..300),
            new in proptest::collection::vec(0u8..2, 0..40),
            min in 8usize..12,
        ) {
            let index = Index::new(&old, std::slice::from_ref(&(0..old.len())), min).unwrap();
            let expected = longest_by_trying(&old, &new);
            match index.longest(&new, 0) {
                Some(found) => {
                    proptest::prop_assert_eq!(found.len, expected);
                    proptest::prop_assert_eq!(&old[found.old..found.old + found.len], &new[..found.len]);
                }
                None => proptest::prop_assert!(expected < min),
            }
        }

        #[test]
        fn matches_in_pieces_are_matches_in_old(
            old in proptest::collection::vec(0u8..2, 300),
            new in proptest::collection::vec(0u8..2, 0..40),
            cuts in (1usize..100, 101usize..200, 201usize..299),
        ) {
            let index = Index::new(&old, &[0..cuts.0, cuts.1..cuts.2], 8).unwrap();
            if let Some(found) = index.longest(&new, 0) {
                proptest::prop_assert_eq!(&old[found.old..found.old + found.len], &new[..found.len]);
                proptest::prop_assert!(found.old < cuts.0 || (cuts.1..cuts.2).contains(&found.old));
            }
        }
    }

    #[test]
    fn takes_the_closest_of_equal_matches() {
        let old = b"abcdefgh-1-abcdefgh-2-abcdefgh-3";
        let index = Index::new(old, std::slice::from_ref(&(0..old.len())), 8).unwrap();
        for expected in [0, 11, 22] {
            assert_eq!(index.longest(b"abcdefgh", expected), Some(Match { old: expected, len: 8 }));
        }
    }

    #[test]
    fn counts_equal_bytes_across_words() {
        let a = [7u8; 100];
        for at in 0..100 {
            let mut b = a;
            b[at] = 8;
            assert_eq!(common(&a, &b), at);
        }
        assert_eq!(common(&a, &a[..63]), 63);
    }
}
