//! Finds where parts of a segment may have come from: intervals of the segment, each with its place in the old image.
//!
//! An interval starts as an exact match and is stretched over mismatches as long as that looks worth it. Intervals
//! overlap; `parse` decides which one is used where.

use std::{collections::HashMap, ops::Range};

use super::{
    index::{AHEAD, common},
    lookup::Lookup,
    memory::CHECK_INTERVAL,
};
use crate::error::DiffError;

/// A stretch that lost more than this since its best point is given up: a match counts one up, a mismatch one down.
const DROP: i64 = 24;

/// Most bytes an interval is stretched backwards: whatever lies further back had its own chance. Without it, repetitive
/// images take quadratic time.
const MAX_BACK: usize = 1 << 10;

/// Most bytes an interval is stretched forwards at once; the finder stretches it again when it gets there.
const MAX_FORWARD: usize = 1 << 16;

/// Bytes looked at to tell whether a shift goes on well, or as many equal bytes as prove it at once. No other place is
/// searched for then.
const LOOK_AHEAD: usize = 32;

/// Most mismatches in [`LOOK_AHEAD`] bytes for that.
const LOOK_AHEAD_MISSES: usize = 2;

/// An exact match of this length makes its shift worth remembering.
const STRONG_MATCH: usize = 16;

/// So does an interval of this length.
const STRONG_INTERVAL: usize = 40;

/// How many shifts are remembered. Code returns to the shifts of its neighbourhood after every insertion.
const REMEMBERED: usize = 4;

/// Most weight a remembered shift gathers, so that one long copy does not keep its place for ever.
const MAX_WEIGHT: usize = 1 << 16;

/// Shortest exact match that makes an interval. Below this, chance matches outnumber real ones; the longer the old image,
/// the longer they are.
pub(crate) fn min_match(old_len: usize) -> usize {
    let bits = old_len.max(1).ilog2() as usize;
    (2 * bits.saturating_sub(17)).clamp(8, 24)
}

/// A part of the segment that resembles the old image at a fixed distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Interval {
    /// First byte in the segment.
    pub start: usize,
    /// Byte after the last in the segment.
    pub end: usize,
    /// Offset in the old image minus offset in the segment.
    pub shift: i64,
}

impl Interval {
    /// Where it stands in the old image.
    pub(crate) fn source(&self) -> Range<usize> {
        (self.start as i64 + self.shift) as usize..(self.end as i64 + self.shift) as usize
    }
}

/// A shift that served well lately.
struct Remembered {
    shift: i64,
    /// Up to where its intervals are known.
    end: usize,
    /// Bytes that it matched, fading.
    weight: usize,
}

/// All intervals of `new`, sorted by start; those of one shift do not overlap. `here` is the shift that leaves every byte
/// where it was; `shared` are regions known to be equal, in order.
pub(crate) fn find(
    index: &Lookup<'_>,
    new: &[u8],
    here: i64,
    shared: &[Interval],
    check: &impl Fn() -> Result<(), DiffError>,
) -> Result<Vec<Interval>, DiffError> {
    let old = index.old();
    let min_match = index.min();
    let mut found: Vec<Interval> = Vec::new();
    let mut ends: HashMap<i64, usize> = HashMap::new();
    let mut recent = vec![Remembered { shift: here, end: 0, weight: 2 * LOOK_AHEAD }];
    let mut shared = shared.iter().peekable();
    let (mut at, mut checked) = (0, 0);
    // The last place looked ahead from, and what is known of it and those behind it.
    let (mut looked, mut may_hold) = (0, index.may_hold(new));
    while at < new.len() {
        if at - checked >= CHECK_INTERVAL {
            checked = at;
            check()?;
        }
        while let Some(region) = shared.next_if(|region| region.start <= at) {
            if region.end > at {
                let known = ends.get(&region.shift).copied().unwrap_or(0);
                let interval = stretch(old, new, known..at, region.end - at, region.shift);
                ends.insert(region.shift, interval.end);
                found.push(interval);
                remember(&mut recent, interval);
            }
        }
        let (mut same, mut best) = (0, 0);
        for (n, entry) in recent.iter_mut().enumerate() {
            let len = same_at(old, new, at, entry.shift);
            if len >= min_match && at + len > entry.end {
                let interval = stretch(old, new, entry.end..at, len, entry.shift);
                entry.end = interval.end;
                found.push(interval);
            }
            if len > same {
                (same, best) = (len, n);
            }
        }
        recent[best].weight = (recent[best].weight + same).min(MAX_WEIGHT);
        let going_on = at < recent[best].end && goes_on(old, new, at, recent[best].shift);
        if same >= min_match {
            recent[..=best].rotate_right(1);
        }
        if same >= LOOK_AHEAD || going_on {
            at += same.max(1);
            continue;
        }
        if at >= looked + AHEAD {
            (looked, may_hold) = (at, index.may_hold(&new[at..]));
        }
        let expected = usize::try_from(at as i64 + recent[0].shift).unwrap_or(0);
        let matched = if may_hold >> (at - looked) & 1 != 0 { index.longest(&new[at..], expected) } else { None };
        match matched {
            Some(matched) if matched.len > same => {
                let shift = matched.old as i64 - at as i64;
                let len = matched.len + common(&old[matched.old + matched.len..], &new[at + matched.len..]);
                let known = ends.get(&shift).copied().unwrap_or(0);
                let interval = if at + len <= known {
                    Interval { start: at, end: known, shift }
                } else {
                    stretch(old, new, known..at, len, shift)
                };
                ends.insert(shift, interval.end);
                found.push(interval);
                if matched.len >= STRONG_MATCH || interval.end - interval.start >= STRONG_INTERVAL {
                    remember(&mut recent, interval);
                }
                at += len;
            }
            _ if same >= min_match => at += same,
            _ => at += 1,
        }
    }
    Ok(merge(found))
}

/// Puts the shift of `interval` in front; the one that matched least lately leaves.
fn remember(recent: &mut Vec<Remembered>, interval: Interval) {
    recent.retain(|entry| entry.shift != interval.shift);
    for entry in recent.iter_mut() {
        entry.weight -= entry.weight / 8;
    }
    if recent.len() >= REMEMBERED {
        let weakest = (0..recent.len()).min_by_key(|&n| recent[n].weight).unwrap_or(0);
        recent.remove(weakest);
    }
    let weight = interval.end - interval.start;
    recent.insert(0, Remembered { shift: interval.shift, end: interval.end, weight });
}

/// The old image from where `shift` puts `at` of the segment.
fn old_from(old: &[u8], at: usize, shift: i64) -> Option<&[u8]> {
    usize::try_from(at as i64 + shift).ok().and_then(|from| old.get(from..))
}

fn same_at(old: &[u8], new: &[u8], at: usize, shift: i64) -> usize {
    old_from(old, at, shift).map_or(0, |old| common(old, &new[at..]))
}

/// Whether `shift` still fits well from `at` on.
fn goes_on(old: &[u8], new: &[u8], at: usize, shift: i64) -> bool {
    let new = &new[at..];
    let len = LOOK_AHEAD.min(new.len());
    let Some(old) = old_from(old, at, shift).and_then(|old| old.get(..len)) else { return false };
    old.iter().zip(new).filter(|(old, new)| old != new).count() <= LOOK_AHEAD_MISSES * len / LOOK_AHEAD
}

/// Stretches `len` equal bytes at the end of `before` both ways over mismatches, back to its start at most: what lies there
/// already belongs to an interval of this shift.
fn stretch(old: &[u8], new: &[u8], before: Range<usize>, len: usize, shift: i64) -> Interval {
    let end = forwards(old, new, before.end + len, shift);
    Interval { start: backwards(old, new, before, shift), end, shift }
}

fn backwards(old: &[u8], new: &[u8], before: Range<usize>, shift: i64) -> usize {
    let from = before.end;
    let Ok(old_from) = usize::try_from(from as i64 + shift) else { return from };
    let len = before.len().min(old_from).min(MAX_BACK);
    let pairs = old[old_from - len..old_from].iter().rev().zip(new[from - len..from].iter().rev());
    let (mut score, mut best, mut start) = (0i64, 0i64, from);
    for (back, (old, new)) in pairs.enumerate() {
        score += if old == new { 1 } else { -1 };
        if score > best {
            (best, start) = (score, from - back - 1);
        } else if score < best - DROP {
            return start;
        }
    }
    // Where the interval before is met, that makes up for what lies between.
    if before.start > 0 && before.len() == len { before.start } else { start }
}

fn forwards(old: &[u8], new: &[u8], from: usize, shift: i64) -> usize {
    let Some(old) = old_from(old, from, shift) else { return from };
    let new = &new[from..new.len().min(from + MAX_FORWARD)];
    let len = old.len().min(new.len());
    let (old, new) = (&old[..len], &new[..len]);
    let (mut score, mut best, mut end, mut at) = (0i64, 0i64, from, 0);
    while at < len {
        if old[at] == new[at] {
            let same = common(&old[at..], &new[at..]);
            at += same;
            score += same as i64;
            if score > best {
                (best, end) = (score, from + at);
            }
        } else {
            score -= 1;
            at += 1;
            if score < best - DROP {
                break;
            }
        }
    }
    end
}

/// Joins intervals of one shift that touch or overlap.
pub(crate) fn merge(mut found: Vec<Interval>) -> Vec<Interval> {
    found.sort_unstable_by_key(|interval| (interval.shift, interval.start, interval.end));
    let mut merged: Vec<Interval> = Vec::with_capacity(found.len());
    for interval in found {
        match merged.last_mut() {
            Some(last) if last.shift == interval.shift && interval.start <= last.end => {
                last.end = last.end.max(interval.end);
            }
            _ => merged.push(interval),
        }
    }
    merged.sort_unstable();
    merged
}

#[cfg(test)]
mod tests {
    use super::{
        super::{lookup::Kind, noise::noise},
        *,
    };

    fn find_all(old: &[u8], new: &[u8]) -> Vec<Interval> {
        let whole = 0..old.len();
        let index = Lookup::new(old, std::slice::from_ref(&whole), Kind::of(old.len(), old.len())).unwrap();
        find(&index, new, 0, &[], &|| Ok(())).unwrap()
    }

    #[test]
    fn an_insertion_makes_two_intervals() {
        let old = noise(4_000, 1);
        let new = [&old[..1_500], &[1, 2, 3, 4, 5][..], &old[1_500..]].concat();
        let intervals = find_all(&old, &new);
        assert!(intervals.iter().any(|i| i.shift == 0 && i.start == 0 && i.end >= 1_500), "{intervals:?}");
        assert!(intervals.iter().any(|i| i.shift == -5 && i.start <= 1_505 && i.end == new.len()), "{intervals:?}");
    }

    #[test]
    fn scattered_changes_stay_in_one_interval() {
        let old = noise(4_000, 2);
        let mut new = old.clone();
        for at in (20..4_000).step_by(20) {
            new[at] ^= 0x55;
        }
        let intervals = find_all(&old, &new);
        assert_eq!(intervals.first(), Some(&Interval { start: 0, end: 4_000, shift: 0 }));
    }

    #[test]
    fn long_runs_are_covered_to_their_end() {
        let old = vec![0u8; 300_000];
        let intervals = find_all(&old, &old);
        assert_eq!(intervals.iter().map(|interval| interval.end).max(), Some(old.len()));
    }
}
