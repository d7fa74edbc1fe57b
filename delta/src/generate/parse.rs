//! Chooses, for every byte of a segment, whether it is literal or comes from one of the intervals around it: the
//! cheapest path under a cost model, found by dynamic programming.
//!
//! Costs are integers in 1/32 bit. They stand for what the coders make of a choice later, on average over code and data.

use super::{candidates::Interval, index::common};

/// One bit.
const BIT: u32 = 32;

/// Share of the order-0 cost of a literal that is left after a dictionary coder, in percent.
const LITERAL_PERCENT: u64 = 80;

/// Most that a difference costs: escapes to literals are never dearer.
const MAX_DIFFERENT: u32 = 12 * BIT;

/// Zero differences assumed beforehand: keeps the statistics of short segments sane.
const ASSUMED_SAME: u64 = 64;

/// What choices cost.
pub(crate) struct Costs {
    /// A byte equal to the old one, after an equal one and after a different one.
    same: [u32; 2],
    /// A byte with this difference, after an equal one and after a different one. Entry 0 of each is not used.
    different: [[u32; 256]; 2],
    /// A literal byte.
    literal: [u32; 256],
    /// A new command: copy length and seek.
    copy: u64,
    /// Literals in a command that otherwise would have none.
    literals: u64,
}

impl Default for Costs {
    /// What firmware costs on average: good enough for a first choice.
    fn default() -> Self {
        Self {
            same: [BIT / 16, 2 * BIT],
            different: [[7 * BIT; 256]; 2],
            literal: [6 * BIT; 256],
            copy: u64::from(26 * BIT),
            literals: u64::from(5 * BIT),
        }
    }
}

impl Costs {
    /// Costs as the order-0 statistics of a first choice suggest.
    pub(crate) fn observed(old: &[u8], new: &[u8], pieces: &[Piece]) -> Self {
        let mut diffs = [[1u64; 256]; 2];
        for row in &mut diffs {
            row[0] += ASSUMED_SAME;
        }
        let mut literals = [1u64; 256];
        for piece in pieces {
            let bytes = &new[piece.start..piece.end];
            let Some(shift) = piece.shift else {
                for byte in bytes {
                    literals[usize::from(*byte)] += 1;
                }
                continue;
            };
            let mut after = 0;
            for (new, old) in bytes.iter().zip(source(old, piece.start, piece.end, shift)) {
                let diff = usize::from(new.wrapping_sub(*old));
                diffs[after][diff] += 1;
                after = usize::from(diff != 0);
            }
        }
        let mut costs = Self { copy: u64::from(36 * BIT), literals: u64::from(6 * BIT), ..Self::default() };
        for (after, counts) in diffs.iter().enumerate() {
            let total = counts.iter().sum();
            costs.same[after] = bits(counts[0], total).max(1);
            for (cost, count) in costs.different[after].iter_mut().zip(counts) {
                *cost = bits(*count, total).min(MAX_DIFFERENT);
            }
        }
        let total = literals.iter().sum();
        for (cost, count) in costs.literal.iter_mut().zip(literals) {
            *cost = (u64::from(bits(count, total)) * LITERAL_PERCENT / 100) as u32;
        }
        costs
    }
}

/// The bytes of the old image for `start..end` of the segment.
fn source(old: &[u8], start: usize, end: usize, shift: i64) -> &[u8] {
    let from = (start as i64 + shift) as usize;
    &old[from..from + (end - start)]
}

/// `32 * log2(total / count)`, rounded.
fn bits(count: u64, total: u64) -> u32 {
    fn log2(value: u64) -> u32 {
        let whole = value.max(1).ilog2();
        let mut mantissa = if whole > 31 { value >> (whole - 31) } else { value << (31 - whole) };
        let mut log = whole;
        for _ in 0..5 {
            mantissa = (mantissa * mantissa) >> 31;
            log <<= 1;
            if mantissa >> 32 != 0 {
                log |= 1;
                mantissa >>= 1;
            }
        }
        log
    }
    log2(total).saturating_sub(log2(count))
}

/// Most intervals followed at once. Bounds the time on repetitive images, where hundreds overlap; those that end first leave.
const MAX_FOLLOWED: usize = 32;

/// Bytes that equal those of every source are passed at once from this many on.
const EQUAL: usize = 16;

/// A piece of the segment: up to `end` it is literal, or comes from the old image at a shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub start: usize,
    pub end: usize,
    /// `None` is literal.
    pub shift: Option<i64>,
}

/// A place where a path changed over: the paths form a tree.
struct Change {
    parent: u32,
    start: u32,
    shift: Option<i64>,
}

/// No parent: the start of the segment.
const ROOT: u32 = u32::MAX;

/// A path that is being followed.
#[derive(Clone, Copy)]
struct Path {
    cost: u64,
    shift: Option<i64>,
    /// Where its interval ends; the segment's length for literals.
    end: usize,
    /// Where it changed over last, and from what. Written down only when another path branches off.
    start: u32,
    parent: u32,
    written: Option<u32>,
    /// 1 when the last byte differed.
    after: usize,
}

impl Path {
    fn write(&mut self, changes: &mut Vec<Change>) -> u32 {
        *self.written.get_or_insert_with(|| {
            changes.push(Change { parent: self.parent, start: self.start, shift: self.shift });
            (changes.len() - 1) as u32
        })
    }

    /// Becomes a branch of another path at `at`.
    fn branch(&mut self, at: usize, cost: u64, parent: u32) {
        self.cost = cost;
        self.start = at as u32;
        self.parent = parent;
        self.written = None;
        self.after = 0;
    }
}

/// The paths through a segment, as far as they were followed.
struct Search<'a> {
    old: &'a [u8],
    new: &'a [u8],
    costs: &'a Costs,
    literal: Path,
    paths: Vec<Path>,
    changes: Vec<Change>,
}

/// The cheapest pieces for `new`, in order, covering all of it. `intervals` are sorted by start.
pub(crate) fn cheapest(old: &[u8], new: &[u8], intervals: &[Interval], costs: &Costs) -> Vec<Piece> {
    let literal = Path { cost: 0, shift: None, end: new.len(), start: 0, parent: ROOT, written: None, after: 0 };
    let mut search = Search { old, new, costs, literal, paths: Vec::new(), changes: Vec::new() };
    let mut waiting = intervals.iter().peekable();
    let mut at = 0;
    while at < new.len() {
        search.paths.retain(|path| path.end > at);
        while let Some(interval) = waiting.next_if(|interval| interval.start <= at) {
            search.enter(*interval, at);
        }
        // Where the set of paths next changes.
        let next = waiting.peek().map_or(new.len(), |interval| interval.start);
        let until = search.paths.iter().map(|path| path.end).fold(next, usize::min);
        search.follow(at, until);
        at = until;
    }
    search.pieces()
}

impl Search<'_> {
    /// Cost of the cheapest path, and its last change.
    fn best(&mut self) -> (u64, u32) {
        let best = self.paths.iter_mut().min_by_key(|path| path.cost).filter(|path| path.cost <= self.literal.cost);
        let best = best.unwrap_or(&mut self.literal);
        (best.cost, best.write(&mut self.changes))
    }

    /// Starts to follow an interval, if need be instead of one that ends sooner.
    fn enter(&mut self, interval: Interval, at: usize) {
        let (best, parent) = self.best();
        if self.paths.len() >= MAX_FOLLOWED {
            let others = (0..self.paths.len()).filter(|&n| self.paths[n].cost > best);
            match others.min_by_key(|&n| self.paths[n].end) {
                Some(soonest) if self.paths[soonest].end < interval.end => drop(self.paths.swap_remove(soonest)),
                _ => return,
            }
        }
        self.paths.push(Path {
            cost: best + self.costs.copy,
            shift: Some(interval.shift),
            end: interval.end,
            start: at as u32,
            parent,
            written: None,
            after: 0,
        });
    }

    /// Takes all paths from `at` to `until`, between which none begins or ends.
    fn follow(&mut self, at: usize, until: usize) {
        let costs = self.costs;
        let bytes = &self.new[at..until];
        if self.paths.is_empty() {
            self.literal.cost += bytes.iter().map(|byte| u64::from(costs.literal[usize::from(*byte)])).sum::<u64>();
            return;
        }
        let old = self.old;
        let sources: Vec<&[u8]> =
            self.paths.iter().map(|path| source(old, at, until, path.shift.unwrap_or(0))).collect();
        let mut step = 0;
        while step < bytes.len() {
            let equal = sources.iter().try_fold(bytes.len() - step, |len, source| {
                let equal = common(&source[step..step + len], &bytes[step..]);
                (equal >= EQUAL).then_some(equal)
            });
            if let Some(len) = equal.filter(|len| *len >= EQUAL) {
                self.pass_equal(&bytes[step..step + len], at + step + len);
                step += len;
                continue;
            }
            let end = bytes.len().min(step + EQUAL);
            for (step, &byte) in bytes.iter().enumerate().take(end).skip(step) {
                self.literal.cost += u64::from(costs.literal[usize::from(byte)]);
                let (mut best, mut dearest) = (self.literal.cost, 0);
                for (path, source) in self.paths.iter_mut().zip(&sources) {
                    let diff = usize::from(byte.wrapping_sub(source[step]));
                    path.cost +=
                        u64::from(if diff == 0 { costs.same[path.after] } else { costs.different[path.after][diff] });
                    path.after = usize::from(diff != 0);
                    best = best.min(path.cost);
                    dearest = dearest.max(path.cost);
                }
                if self.literal.cost > best + costs.literals || dearest > best + costs.copy {
                    self.branch(at + step + 1);
                }
            }
            step = end;
        }
    }

    /// Takes all paths over bytes that equal those of every source, and that end at `end`. Who falls behind meanwhile starts
    /// anew at the end: among equal bytes it makes no difference where.
    fn pass_equal(&mut self, bytes: &[u8], end: usize) {
        let costs = self.costs;
        self.literal.cost += bytes.iter().map(|byte| u64::from(costs.literal[usize::from(*byte)])).sum::<u64>();
        let (mut best, mut dearest) = (self.literal.cost, 0);
        for path in &mut self.paths {
            path.cost += u64::from(costs.same[path.after]) + (bytes.len() as u64 - 1) * u64::from(costs.same[0]);
            path.after = 0;
            best = best.min(path.cost);
            dearest = dearest.max(path.cost);
        }
        if self.literal.cost > best + costs.literals || dearest > best + costs.copy {
            self.branch(end);
        }
    }

    /// Lets every path that fell behind start anew from the cheapest one.
    fn branch(&mut self, at: usize) {
        let (best, parent) = self.best();
        let (literal, copy) = (best + self.costs.literals, best + self.costs.copy);
        if self.literal.cost > literal {
            self.literal.branch(at, literal, parent);
        }
        for path in self.paths.iter_mut().filter(|path| path.cost > copy) {
            path.branch(at, copy, parent);
        }
    }

    /// The cheapest path, read back from its end.
    fn pieces(mut self) -> Vec<Piece> {
        let (_, mut change) = self.best();
        let mut pieces = Vec::new();
        let mut end = self.new.len();
        while change != ROOT {
            let Change { parent, start, shift } = self.changes[change as usize];
            let start = start as usize;
            if start < end {
                pieces.push(Piece { start, end, shift });
                end = start;
            }
            change = parent;
        }
        pieces.reverse();
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(old: &[u8], new: &[u8], intervals: &[Interval]) -> Vec<Piece> {
        cheapest(old, new, intervals, &Costs::default())
    }

    #[test]
    fn no_intervals_make_one_literal() {
        assert_eq!(pieces(b"", b"abc", &[]), [Piece { start: 0, end: 3, shift: None }]);
        assert_eq!(pieces(b"", b"", &[]), []);
    }

    #[test]
    fn single_changes_stay_in_the_copy_and_long_ones_become_literals() {
        let old = [7; 1_000];
        let mut new = old;
        new[300] = 9;
        new[500..600].fill(1);
        let all = [Interval { start: 0, end: 1_000, shift: 0 }];
        let copy = Some(0);
        assert_eq!(
            pieces(&old, &new, &all),
            [
                Piece { start: 0, end: 500, shift: copy },
                Piece { start: 500, end: 600, shift: None },
                Piece { start: 600, end: 1_000, shift: copy }
            ]
        );
    }

    #[test]
    fn the_better_of_two_overlapping_intervals_is_used_where_it_is_better() {
        let mut old = [0u8; 2_000];
        for (at, byte) in old.iter_mut().enumerate() {
            *byte = (at * at / 7) as u8;
        }
        let new = [&old[..400], &old[1_000..1_400]].concat();
        let intervals = [Interval { start: 0, end: 500, shift: 0 }, Interval { start: 300, end: 800, shift: 600 }];
        let found = pieces(&old, &new, &intervals);
        assert_eq!(found.iter().map(|piece| piece.shift).collect::<Vec<_>>(), [Some(0), Some(600)]);
        assert!(found[0].end.abs_diff(400) < 2, "{found:?}");
    }

    #[test]
    fn logarithms() {
        assert_eq!(bits(1, 1), 0);
        assert_eq!(bits(1, 2), BIT);
        assert_eq!(bits(3, 3 << 20), 20 * BIT);
        assert_eq!(bits(2, 3), 18);
    }
}
