//! Deflate as the encoders of the zlib family make it: GNU gzip, Info-ZIP, and zlib at any memory level.
//!
//! All of them find matches with hash chains and put off a match while the next is longer. They differ in how long blocks
//! get, in the width of the hash, and in what happens at the end of the input. Their window of 64 KiB is kept here as they
//! keep it, with what lies behind the input, because GNU gzip looks at that too.

mod tokens;
mod trees;

use self::tokens::Tokens;
use super::recipe::Deflate as Settings;

/// History that distances reach into.
const WINDOW: usize = 32 << 10;

/// Shortest and longest match.
const MIN_MATCH: usize = 3;
const MAX_MATCH: usize = 258;

/// Input that is at hand whenever a match is looked for, as long as there is input.
const MIN_LOOKAHEAD: usize = MAX_MATCH + MIN_MATCH + 1;

/// Longest distance that is used.
const MAX_DISTANCE: usize = WINDOW - MIN_LOOKAHEAD;

/// The shortest match is not worth a longer distance.
const TOO_FAR: usize = 4096;

/// What a level means: when to search less, when to put off, what is long enough, how many places to look at.
struct Effort {
    good: usize,
    lazy: usize,
    nice: usize,
    chain: usize,
    /// Whether matches are put off at all.
    slow: bool,
}

impl Effort {
    fn of(level: u8) -> Self {
        let (good, lazy, nice, chain) = match level {
            0..=1 => (4, 4, 8, 4),
            2 => (4, 5, 16, 8),
            3 => (4, 6, 32, 32),
            4 => (4, 4, 16, 16),
            5 => (8, 16, 32, 32),
            6 => (8, 16, 128, 128),
            7 => (8, 32, 128, 256),
            8 => (32, 128, 258, 1024),
            _ => (32, 258, 258, 4096),
        };
        Self { good, lazy, nice, chain, slow: level > 3 }
    }
}

/// Encoder of one stream.
pub(crate) struct Encoder {
    settings: Settings,
    effort: Effort,
    /// Two windows, and room for reading a match past them.
    window: Vec<u8>,
    /// Place of the newest string with each hash; 0 is none.
    head: Vec<u16>,
    /// Place of the next older string with the same hash.
    prev: Vec<u16>,
    hash: usize,
    at: usize,
    lookahead: usize,
    match_start: usize,
    match_len: usize,
    /// A literal waits for whether the next match is longer.
    waiting: bool,
    block_start: i64,
    ended: bool,
    /// Input that is not in the window yet.
    input: Vec<u8>,
    tokens: Tokens,
    begun: bool,
}

impl Encoder {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            effort: Effort::of(settings.level),
            window: vec![0; 2 * WINDOW + MAX_MATCH + MIN_MATCH],
            head: vec![0; 1 << settings.hash_bits],
            prev: vec![0; WINDOW],
            hash: 0,
            at: 0,
            lookahead: 0,
            match_start: 0,
            match_len: if settings.level > 3 { MIN_MATCH - 1 } else { 0 },
            waiting: false,
            block_start: 0,
            ended: false,
            input: Vec::new(),
            tokens: Tokens::new(settings),
            begun: false,
        }
    }

    /// Bytes of one encoder.
    pub(crate) fn memory(settings: Settings) -> u64 {
        let tables = 2 * WINDOW as u64 + (2 << settings.hash_bits);
        // Input waits until the window can take a full read; it grows by doubling.
        2 * WINDOW as u64 + tables + (4 << settings.symbol_bits) + 4 * 2 * WINDOW as u64 + (64 << 10)
    }

    pub(crate) fn push(&mut self, mut content: &[u8], out: &mut Vec<u8>) {
        while !content.is_empty() {
            let take = content.len().min(WINDOW);
            let (now, later) = content.split_at_checked(take).unwrap_or((content, &[]));
            self.input.extend_from_slice(now);
            content = later;
            self.run(false, out);
        }
    }

    pub(crate) fn finish(mut self, out: &mut Vec<u8>) {
        self.run(true, out);
        if self.waiting {
            self.tokens.literal(byte(&self.window, self.at.wrapping_sub(1)));
        }
        self.block(true, out);
        self.tokens.flush(out);
    }

    /// Codes as long as there is input enough.
    fn run(&mut self, last: bool, out: &mut Vec<u8>) {
        loop {
            while self.lookahead < MIN_LOOKAHEAD && !self.ended {
                if !self.fill(last) {
                    return;
                }
            }
            if !self.begun {
                self.begun = true;
                self.hash = 0;
                self.update(0);
                self.update(1);
            }
            if self.lookahead == 0 {
                return;
            }
            if self.effort.slow { self.slow(out) } else { self.fast(out) }
        }
    }

    /// Moves input into the window, as a read of a file would; `false` when there is not enough for a full read, and more
    /// is to come.
    fn fill(&mut self, last: bool) -> bool {
        let slide = self.at >= WINDOW + MAX_DISTANCE;
        let room = 2 * WINDOW - self.lookahead - self.at + if slide { WINDOW } else { 0 };
        if self.input.len() < room && !last {
            return false;
        }
        if slide {
            self.window.copy_within(WINDOW..2 * WINDOW, 0);
            self.match_start = self.match_start.wrapping_sub(WINDOW);
            self.at -= WINDOW;
            self.block_start -= signed(WINDOW);
            for place in self.head.iter_mut().chain(&mut self.prev) {
                *place = place.saturating_sub(WINDOW as u16);
            }
        }
        let len = room.min(self.input.len());
        let end = self.at + self.lookahead;
        if len == 0 {
            self.ended = true;
            if !self.settings.clamped
                && let Some(behind) = self.window.get_mut(end..end + MIN_MATCH - 1)
            {
                behind.fill(0);
            }
            return true;
        }
        for (to, from) in self.window.iter_mut().skip(end).zip(self.input.drain(..len)) {
            *to = from;
        }
        self.lookahead += len;
        true
    }

    /// Takes the byte at `at` into the hash.
    fn update(&mut self, at: usize) {
        let shift = usize::from(self.settings.hash_bits).div_ceil(MIN_MATCH);
        self.hash = (self.hash << shift ^ usize::from(byte(&self.window, at))) & (self.head.len() - 1);
    }

    /// Enters the string at the current place, returns the place of the newest with the same hash.
    fn insert(&mut self) -> usize {
        self.update(self.at + MIN_MATCH - 1);
        let Some(head) = self.head.get_mut(self.hash) else { return 0 };
        let newest = *head;
        *head = self.at as u16;
        if let Some(prev) = self.prev.get_mut(self.at % WINDOW) {
            *prev = newest;
        }
        usize::from(newest)
    }

    /// zlib does not enter strings that the input does not hold whole.
    fn enters(&self, lookahead: usize) -> bool {
        !self.settings.clamped || lookahead >= MIN_MATCH
    }

    /// GNU gzip looks for no matches where comparing could leave its window.
    fn looks(&self) -> bool {
        self.settings.clamped || self.at <= 2 * WINDOW - MIN_LOOKAHEAD
    }

    fn fast(&mut self, out: &mut Vec<u8>) {
        let newest = if self.enters(self.lookahead) { self.insert() } else { 0 };
        if newest != 0 && self.at - newest <= MAX_DISTANCE && self.looks() {
            self.match_len = self.longest(newest, MIN_MATCH - 1).min(self.lookahead);
        }
        let full = if self.match_len >= MIN_MATCH {
            let full = self.tokens.reference(self.at - self.match_start, self.match_len, self.covered());
            self.lookahead -= self.match_len;
            if self.match_len <= self.effort.lazy && self.enters(self.lookahead) {
                for _ in 1..self.match_len {
                    self.at += 1;
                    self.insert();
                }
                self.at += 1;
            } else {
                self.at += self.match_len;
                self.hash = usize::from(byte(&self.window, self.at));
                self.update(self.at + 1);
            }
            self.match_len = 0;
            full
        } else {
            let full = self.tokens.literal_in(byte(&self.window, self.at), self.covered());
            self.lookahead -= 1;
            self.at += 1;
            full
        };
        if full {
            self.block(false, out);
        }
    }

    fn slow(&mut self, out: &mut Vec<u8>) {
        let newest = if self.enters(self.lookahead) { self.insert() } else { 0 };
        let (prev_len, prev_start) = (self.match_len, self.match_start);
        self.match_len = MIN_MATCH - 1;
        if newest != 0 && prev_len < self.effort.lazy && self.at - newest <= MAX_DISTANCE && self.looks() {
            self.match_len = self.longest(newest, prev_len).min(self.lookahead);
            if self.match_len == MIN_MATCH && self.at.wrapping_sub(self.match_start) > TOO_FAR {
                self.match_len = MIN_MATCH - 1;
            }
        }
        if prev_len >= MIN_MATCH && self.match_len <= prev_len {
            let last = self.at + self.lookahead;
            let full = self.tokens.reference(self.at - 1 - prev_start, prev_len, self.covered());
            self.lookahead -= prev_len - 1;
            for _ in 2..prev_len {
                self.at += 1;
                if self.enters(last.saturating_sub(self.at)) {
                    self.insert();
                }
            }
            self.waiting = false;
            self.match_len = MIN_MATCH - 1;
            self.at += 1;
            if full {
                self.block(false, out);
            }
            return;
        }
        if self.waiting && self.tokens.literal_in(byte(&self.window, self.at - 1), self.covered()) {
            self.block(false, out);
        }
        self.waiting = true;
        self.at += 1;
        self.lookahead -= 1;
    }

    /// Longest match with the strings of a chain that is longer than `best`; sets where it starts.
    fn longest(&mut self, newest: usize, best: usize) -> usize {
        let (mut best, mut place) = (best, newest);
        let mut chain = if best >= self.effort.good { self.effort.chain >> 2 } else { self.effort.chain };
        let nice = if self.settings.clamped { self.effort.nice.min(self.lookahead) } else { self.effort.nice };
        let limit = self.at.saturating_sub(MAX_DISTANCE);
        let Some(scan) = self.window.get(self.at..self.at + MAX_MATCH) else { return best };
        loop {
            let Some(other) = self.window.get(place..place + MAX_MATCH) else { return best };
            // Most candidates already differ where the best match ends.
            if other.get(best) == scan.get(best) && other.get(best - 1) == scan.get(best - 1) {
                let len = scan.iter().zip(other).take_while(|(a, b)| a == b).count();
                if len > best {
                    self.match_start = place;
                    best = len;
                    if len >= nice {
                        return best;
                    }
                }
            }
            place = usize::from(self.prev.get(place % WINDOW).copied().unwrap_or_default());
            chain -= 1;
            if place <= limit || chain == 0 {
                return best;
            }
        }
    }

    /// Input of the block so far, as the heuristics for ending it reckon.
    fn covered(&self) -> u64 {
        (signed(self.at) - self.block_start).cast_unsigned()
    }

    fn block(&mut self, last: bool, out: &mut Vec<u8>) {
        let covered = self.covered();
        // Bytes that slid out of the window cannot be stored.
        let stored = usize::try_from(self.block_start).ok().and_then(|start| self.window.get(start..self.at));
        self.tokens.block(stored, covered, last, out);
        self.block_start = signed(self.at);
    }
}

fn signed(value: usize) -> i64 {
    (value as u64).cast_signed()
}

fn byte(window: &[u8], at: usize) -> u8 {
    window.get(at).copied().unwrap_or_default()
}
