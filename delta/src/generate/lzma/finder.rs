//! Finds earlier places that a match can be copied from.
//!
//! Streams of differences are mostly zeros. Only bytes other than zero, and the first zero of each run, are entered into binary
//! trees (one a hash, the latest place at the root). What a tree says about a byte holds for the zeros before it as well, as
//! far as both places have them. So the work grows with what differs, not with the length of the stream.

use std::collections::VecDeque;

use super::{
    Effort,
    model::{MAX_LEN, MIN_LEN},
};
use crate::generate::index::common;

/// Last runs of zeros that are looked at for one that is as long.
const RUNS: usize = 8;

/// A longer run of zeros is not entered: matches end inside it anyway.
const MAX_RUN: usize = 250;

/// Bits of the hash of three bytes, and most of that of a tree.
const TRIPLE_BITS: u32 = 15;
const TREE_BITS: std::ops::RangeInclusive<u32> = 10..=19;

/// A match: `len` bytes at a distance, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub len: usize,
    pub distance: u32,
}

/// An earlier place that agrees with one that was entered.
#[derive(Clone, Copy)]
struct Candidate {
    distance: u32,
    len: u16,
    /// Zeros before both.
    run: u16,
}

pub(super) struct Finder<'a> {
    raw: &'a [u8],
    effort: Effort,
    /// Last place of each pair of bytes, and of each triple by hash; one more than the place.
    pairs: Vec<u32>,
    triples: Vec<u32>,
    /// Roots of the trees, by hash; one more than the entry.
    roots: Vec<u32>,
    shift: u32,
    nodes: Vec<Node>,
    /// Up to where everything is entered.
    done: usize,
    /// What was entered and may still be asked for, and lists to use again.
    ahead: VecDeque<Entry>,
    spare: Vec<Entry>,
    /// Start and length of the last runs, latest first.
    last_runs: [(usize, usize); RUNS],
    /// One bit for each place at which a match is worth ending: around bytes that are not zero, and where one that goes
    /// over them could begin. Known as far as a match can reach.
    pub stops: Vec<u64>,
}

/// A place that was entered.
#[derive(Clone, Copy)]
struct Node {
    place: u32,
    /// Zeros before it.
    run: u16,
    /// Its smaller and its greater branch.
    branches: [u32; 2],
}

/// A byte that is not zero and the run of zeros before it.
#[derive(Default)]
struct Entry {
    /// The end of the stream when there is no such byte left.
    anchor: usize,
    run_start: usize,
    at_anchor: Vec<Candidate>,
    at_run: Vec<Candidate>,
}

impl<'a> Finder<'a> {
    pub(super) fn new(raw: &'a [u8], effort: Effort) -> Self {
        let bits = raw.len().max(1).ilog2().clamp(*TREE_BITS.start(), *TREE_BITS.end());
        Self {
            raw,
            effort,
            pairs: vec![0; 1 << 16],
            triples: vec![0; 1 << TRIPLE_BITS],
            roots: vec![0; 1 << bits],
            shift: 64 - bits,
            nodes: Vec::new(),
            done: 0,
            ahead: VecDeque::new(),
            spare: Vec::new(),
            last_runs: [(0, 0); RUNS],
            stops: vec![0; raw.len() / 64 + 2],
        }
    }

    /// Makes everything known that a match from `at` can reach. Places come in ascending order.
    pub(super) fn advance(&mut self, at: usize) {
        while self.done <= (at + MAX_LEN).min(self.raw.len()) {
            self.enter();
        }
        while self.ahead.front().is_some_and(|entry| entry.anchor < at) {
            self.spare.extend(self.ahead.pop_front());
        }
    }

    /// The first byte that is not zero from where everything was advanced to.
    #[inline]
    pub(super) fn next_anchor(&self) -> usize {
        self.ahead.front().map_or(self.raw.len(), |entry| entry.anchor)
    }

    /// Matches for `at`, to which everything was advanced, into `found`: each longer and farther than the one before.
    pub(super) fn matches(&self, at: usize, found: &mut Vec<Found>) {
        found.clear();
        let Some(entry) = self.ahead.front() else { return };
        let zeros = entry.anchor - at;
        let limit = MAX_LEN.min(self.raw.len() - at);
        let mut longest = MIN_LEN - 1;
        let mut add = |len: usize, distance: u32| {
            let len = len.min(limit);
            if len > longest {
                longest = len;
                found.push(Found { len, distance });
            }
        };
        if zeros > 0 && at > 0 && self.raw[at - 1] == 0 {
            add(zeros, 0);
        }
        let mut runs = entry.at_run.iter().filter(|_| at == entry.run_start && zeros > 0).peekable();
        for candidate in entry.at_anchor.iter().filter(|candidate| usize::from(candidate.run) >= zeros) {
            while let Some(run) = runs.next_if(|run| run.distance <= candidate.distance) {
                add(usize::from(run.len), run.distance);
            }
            add(zeros + usize::from(candidate.len), candidate.distance);
        }
        for run in runs {
            add(usize::from(run.len), run.distance);
        }
    }

    /// Enters the next byte that is not zero, and the run of zeros before it.
    fn enter(&mut self) {
        let mut entry = self.spare.pop().unwrap_or_default();
        entry.at_anchor.clear();
        entry.at_run.clear();
        let start = self.done;
        let zeros = zeros(&self.raw[start..]);
        entry.anchor = start + zeros;
        entry.run_start = start;
        self.done = entry.anchor + 1;
        if zeros > 0 {
            self.enter_run(start, zeros, &mut entry.at_run);
        }
        if entry.anchor < self.raw.len() {
            self.enter_byte(entry.anchor, zeros, &mut entry.at_anchor);
            for stop in entry.anchor.saturating_sub(1)..=entry.anchor + 2 {
                self.stop(stop);
            }
            for candidate in &entry.at_anchor {
                self.stop(entry.anchor - usize::from(candidate.run).min(zeros));
            }
        }
        entry.at_anchor.sort_unstable_by_key(|candidate| candidate.distance);
        entry.at_run.sort_unstable_by_key(|candidate| candidate.distance);
        self.ahead.push_back(entry);
    }

    fn stop(&mut self, at: usize) {
        self.stops[at / 64] |= 1 << (at % 64);
    }

    fn enter_run(&mut self, start: usize, zeros: usize, found: &mut Vec<Candidate>) {
        let mut longest = 1;
        for &(earlier, len) in &self.last_runs {
            let len = len.min(zeros);
            if len > longest {
                longest = len;
                let distance = (start - earlier - 1) as u32;
                keep(found, self.effort.kept, Candidate { distance, len: len.min(MAX_LEN) as u16, run: 0 });
            }
        }
        self.last_runs.rotate_right(1);
        self.last_runs[0] = (start, zeros);
        let anchor = start + zeros;
        if zeros <= MAX_RUN && anchor + 2 <= self.raw.len() {
            let content = u64::from(self.raw[anchor]) << 8 | u64::from(self.raw[anchor + 1]);
            self.insert(start, 0, content | (zeros as u64 + 1) << 32, found);
        }
    }

    fn enter_byte(&mut self, anchor: usize, zeros: usize, found: &mut Vec<Candidate>) {
        let bytes = &self.raw[anchor..];
        let Some(&four) = bytes.first_chunk() else { return };
        let run = zeros.min(MAX_LEN) as u16;
        let four = u32::from_le_bytes(four);
        let pair = (four & 0xffff) as usize;
        let triple = ((four & 0x00ff_ffff).wrapping_mul(0x9e37_79b1) >> (32 - TRIPLE_BITS)) as usize;
        let now = anchor as u32 + 1;
        for last in [std::mem::replace(&mut self.pairs[pair], now), std::mem::replace(&mut self.triples[triple], now)] {
            let Some(place) = (last as usize).checked_sub(1) else { continue };
            let len = common(&self.raw[place..], &bytes[..bytes.len().min(MAX_LEN)]);
            if len >= MIN_LEN {
                let before = self.raw[..place].iter().rev().take(usize::from(run));
                let back = before.take_while(|&&byte| byte == 0).count();
                let distance = (anchor - place - 1) as u32;
                keep(found, self.effort.kept, Candidate { distance, len: len as u16, run: back as u16 });
            }
        }
        self.insert(anchor, run, u64::from(four), found);
    }

    /// Enters `at` as the root of its tree, and notes what it passes on the way down.
    fn insert(&mut self, at: usize, run: u16, hash: u64, found: &mut Vec<Candidate>) {
        let root = (hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize;
        let entry = self.nodes.len();
        self.nodes.push(Node { place: at as u32, run, branches: [0, 0] });
        let mut next = std::mem::replace(&mut self.roots[root], entry as u32 + 1);
        let target = &self.raw[at..self.raw.len().min(at + MAX_LEN)];
        // Where the next smaller and the next greater place are to be hung, and how far they agree at least.
        let (mut smaller, mut greater) = ((entry, 0), (entry, 1));
        let (mut smaller_len, mut greater_len) = (0, 0);
        for _ in 0..self.effort.depth {
            let Some(number) = (next as usize).checked_sub(1) else { break };
            let Node { place, run: zeros, branches } = self.nodes[number];
            let place = place as usize;
            let known = usize::min(smaller_len, greater_len);
            let len = known + common(&self.raw[place + known..], &target[known..]);
            if len >= MIN_LEN {
                let candidate = Candidate { distance: (at - place - 1) as u32, len: len as u16, run: run.min(zeros) };
                keep(found, self.effort.kept, candidate);
            }
            if len == target.len() {
                self.nodes[smaller.0].branches[smaller.1] = branches[0];
                self.nodes[greater.0].branches[greater.1] = branches[1];
                return;
            }
            if self.raw[place + len] < target[len] {
                self.nodes[smaller.0].branches[smaller.1] = next;
                smaller = (number, 1);
                smaller_len = len;
                next = branches[1];
            } else {
                self.nodes[greater.0].branches[greater.1] = next;
                greater = (number, 0);
                greater_len = len;
                next = branches[0];
            }
        }
        self.nodes[smaller.0].branches[smaller.1] = 0;
        self.nodes[greater.0].branches[greater.1] = 0;
    }
}

/// Adds a candidate unless a closer one has as much, and takes away those that it beats.
fn keep(found: &mut Vec<Candidate>, most: usize, new: Candidate) {
    if found.iter().any(|old| old.distance <= new.distance && old.len >= new.len && old.run >= new.run) {
        return;
    }
    if found.len() >= most {
        // The shortest goes: it is the cheapest to do without.
        let shortest = (0..found.len()).min_by_key(|&n| found[n].len).unwrap_or(0);
        if found[shortest].len >= new.len {
            return;
        }
        found.swap_remove(shortest);
    }
    found.push(new);
}

/// Zeros at the front.
fn zeros(bytes: &[u8]) -> usize {
    let words = bytes.chunks_exact(16).take_while(|word| word.iter().all(|&byte| byte == 0)).count() * 16;
    words + bytes[words..].iter().take_while(|&&byte| byte == 0).count()
}
