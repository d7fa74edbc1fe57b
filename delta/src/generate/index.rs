//! The shared index of the old image: a suffix array with a table over the first bytes.

use libsais::SuffixArrayConstruction;

use crate::error::DiffError;

/// Searches stop comparing here: a longer match is extended by its finder, and repetitive images (all `0xff`) would
/// otherwise be compared to their end at every step.
const MAX_COMPARED: usize = 1 << 12;

/// Equally good suffixes looked at on either side. Bounds the time on repetitive images.
const NEIGHBOURS: usize = 32;

/// Images from this length on get a table over three bytes (64 MiB) instead of two: it saves eight random reads a search.
const LARGE: usize = 4 << 20;

/// Where a match of the old image begins, and how long it is known to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Match {
    pub old: usize,
    pub len: usize,
}

/// The old image and its suffix array.
pub(crate) struct Index<'a> {
    pub old: &'a [u8],
    suffixes: Vec<i32>,
    /// Bytes of a prefix of the table.
    width: usize,
    /// From `starts[p]` on stand the suffixes that start with prefix `p`. Suffixes too short to have a prefix stand at the
    /// end of the range before.
    starts: Vec<u32>,
    /// Those short suffixes, each filled up with zeros.
    short: Vec<usize>,
}

impl<'a> Index<'a> {
    pub(crate) fn new(old: &'a [u8]) -> Result<Self, DiffError> {
        Self::with_width(old, if old.len() < LARGE { 2 } else { 3 })
    }

    fn with_width(old: &'a [u8], width: usize) -> Result<Self, DiffError> {
        let suffixes = SuffixArrayConstruction::for_text(old)
            .in_owned_buffer32()
            .single_threaded()
            .run()
            .map_err(|error| DiffError::Internal { stage: "suffix array", reason: error.to_string() })?
            .into_vec();
        let prefixes = 1usize << (8 * width);
        let short: Vec<usize> = (1..width)
            .filter_map(|len| old.len().checked_sub(len))
            .map(|from| {
                let filled = [&old[from..], &[0; 8]].concat();
                prefix(&filled, width)
            })
            .collect();
        // First how many, shifted by one place, then from where.
        let mut starts = vec![0u32; prefixes + 1];
        for window in old.windows(width) {
            starts[prefix(window, width) + 1] += 1;
        }
        let mut at = 0;
        for (prefix, start) in starts.iter_mut().enumerate() {
            at += *start + short.iter().filter(|&&short| short == prefix).count() as u32;
            *start = at;
        }
        Ok(Self { old, suffixes, width, starts, short })
    }

    fn suffix(&self, rank: usize) -> usize {
        self.suffixes[rank].cast_unsigned() as usize
    }

    /// A longest match for the front of `new` that has at least `min` bytes; of several, the one closest to `expected`.
    pub(crate) fn longest(&self, new: &[u8], min: usize, expected: usize) -> Option<Match> {
        if new.len() < min.max(self.width) {
            return None;
        }
        let prefix = prefix(new, self.width);
        let short = self.short.iter().filter(|&&short| short == prefix + 1).count();
        let (mut low, mut high) = (self.starts[prefix] as usize, self.starts[prefix + 1] as usize - short);
        if low >= high {
            return None;
        }
        let new = &new[..new.len().min(MAX_COMPARED)];
        // Suffixes below `low` are smaller and share `low_len` bytes with `new`; those from `high` on are larger.
        let (mut low_len, mut high_len) = (self.width, self.width);
        let mut best = Match { old: self.suffix(low), len: 0 };
        let mut best_rank = low;
        while low < high {
            let middle = low.midpoint(high);
            let old = self.suffix(middle);
            let known = low_len.min(high_len);
            let len = known + common(&self.old[old + known..], &new[known..]);
            if len > best.len {
                best = Match { old, len };
                best_rank = middle;
            }
            if len == new.len() {
                break;
            }
            if self.old.get(old + len).is_none_or(|byte| *byte < new[len]) {
                low = middle + 1;
                low_len = len;
            } else {
                high = middle;
                high_len = len;
            }
        }
        if best.len < min {
            return None;
        }
        if best.len < MAX_COMPARED {
            self.nearest(best_rank, &new[..best.len], expected, &mut best);
        }
        Some(best)
    }

    /// Among the suffixes around `rank` that match as well, takes the one closest to `expected`: code that moved together
    /// stays together.
    fn nearest(&self, rank: usize, target: &[u8], expected: usize, best: &mut Match) {
        let below = (rank.saturating_sub(NEIGHBOURS)..rank).rev();
        let above = rank + 1..self.suffixes.len().min(rank + NEIGHBOURS);
        let matches = |old: &usize| self.old[*old..].starts_with(target);
        let equal = |rank| self.suffix(rank);
        for old in below.map(equal).take_while(matches).chain(above.map(equal).take_while(matches)) {
            if old.abs_diff(expected) < best.old.abs_diff(expected) {
                best.old = old;
            }
        }
    }
}

/// The first `width` bytes as a number.
fn prefix(bytes: &[u8], width: usize) -> usize {
    bytes[..width].iter().fold(0, |prefix, &byte| prefix << 8 | usize::from(byte))
}

/// How many bytes are equal from the front.
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

fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn longest_by_trying(old: &[u8], new: &[u8]) -> usize {
        (0..old.len()).map(|at| common(&old[at..], new)).max().unwrap_or(0)
    }

    proptest::proptest! {
        // The table of three bytes is large; a few dozen are enough.
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]

        #[test]
        fn finds_a_longest_match(
            old in proptest::collection::vec(0u8..3, 0..300),
            new in proptest::collection::vec(0u8..3, 0..40),
            width in 2usize..4,
        ) {
            let index = Index::with_width(&old, width).unwrap();
            let expected = longest_by_trying(&old, &new);
            match index.longest(&new, width, 0) {
                Some(found) => {
                    proptest::prop_assert_eq!(found.len, expected);
                    proptest::prop_assert_eq!(&old[found.old..found.old + found.len], &new[..found.len]);
                }
                None => proptest::prop_assert!(expected < width),
            }
        }
    }

    #[test]
    fn takes_the_closest_of_equal_matches() {
        let index = Index::new(b"abcdefgh-1-abcdefgh-2-abcdefgh-3").unwrap();
        for expected in [0, 11, 22] {
            assert_eq!(index.longest(b"abcdefgh", 8, expected), Some(Match { old: expected, len: 8 }));
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
