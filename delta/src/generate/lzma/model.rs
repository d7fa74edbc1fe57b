//! The adaptive model of LZMA: what it says about the next symbol, how a symbol is written, and what it would cost.

use super::range::{BIT, Encoder, HALF, price, reverse_price, tree_price};

/// Shortest and longest match.
pub(super) const MIN_LEN: usize = 2;
pub(super) const MAX_LEN: usize = 273;

/// States that remember the kinds of the last symbols.
const STATES: usize = 12;
/// States below this follow a literal.
const AFTER_LITERAL: u8 = 7;
const POS_STATES: usize = 16;
const LEN_SYMBOLS: usize = MAX_LEN - MIN_LEN + 1;
/// Lengths have distance models of their own up to here.
const LEN_STATES: usize = 4;
const SLOTS: usize = 64;
/// Distances below this have all their bits modelled.
const FULL_DISTANCES: usize = 128;
/// First slot of which only the lowest bits are modelled.
const DIRECT_SLOT: u32 = 14;
const ALIGN_BITS: u32 = 4;
const LITERAL_SIZE: usize = 0x300;

/// How long symbols and literals are told apart: literal context bits, literal position bits, position bits.
pub(crate) type Setting = (u32, u32, u32);

/// Kinds of the last symbols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State(u8);

impl State {
    pub(super) const START: Self = Self(0);

    pub(super) fn literal(self) -> Self {
        Self(match self.0 {
            0..4 => 0,
            4..10 => self.0 - 3,
            _ => self.0 - 6,
        })
    }

    pub(super) fn matched(self) -> Self {
        Self(if self.is_after_literal() { 7 } else { 10 })
    }

    pub(super) fn repeated(self) -> Self {
        Self(if self.is_after_literal() { 8 } else { 11 })
    }

    pub(super) fn short(self) -> Self {
        Self(if self.is_after_literal() { 9 } else { 11 })
    }

    pub(super) fn is_after_literal(self) -> bool {
        self.0 < AFTER_LITERAL
    }

    fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A symbol. Distances count from 0, for the byte before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Symbol {
    Literal,
    /// One byte at the last distance.
    Short,
    /// At one of the last four distances.
    Repeat {
        which: u8,
        len: u16,
    },
    Match {
        distance: u32,
        len: u16,
    },
}

/// What lengths cost in one position state, and one bit for each length that is popular.
pub(super) struct LenPrices {
    prices: [u32; LEN_SYMBOLS],
    pub popular: [u64; MAX_LEN / 64 + 2],
    /// The price of the cheapest.
    pub least: u32,
}

impl LenPrices {
    #[inline]
    pub(super) fn of(&self, len: usize) -> u32 {
        self.prices[len - MIN_LEN]
    }

    fn look(&mut self, popular: u32) {
        self.popular.fill(0);
        self.least = u32::MAX;
        for (len, &cost) in (MIN_LEN..).zip(&self.prices) {
            self.popular[len / 64] |= u64::from(cost <= popular) << (len % 64);
            self.least = self.least.min(cost);
        }
    }
}

struct Lengths {
    choice: [u16; 2],
    low: [[u16; 8]; POS_STATES],
    middle: [[u16; 8]; POS_STATES],
    high: [u16; 256],
    prices: Vec<LenPrices>,
}

impl Lengths {
    fn new(pos_states: usize) -> Self {
        Self {
            choice: [HALF; 2],
            low: [[HALF; 8]; POS_STATES],
            middle: [[HALF; 8]; POS_STATES],
            high: [HALF; 256],
            prices: (0..pos_states)
                .map(|_| LenPrices { prices: [0; LEN_SYMBOLS], popular: [0; _], least: 0 })
                .collect(),
        }
    }

    fn encode(&mut self, encoder: &mut Encoder, pos_state: usize, len: usize) {
        let symbol = (len - MIN_LEN) as u32;
        encoder.bit(&mut self.choice[0], u32::from(symbol >= 8));
        if symbol < 8 {
            return encoder.tree(&mut self.low[pos_state], 3, symbol);
        }
        encoder.bit(&mut self.choice[1], u32::from(symbol >= 16));
        if symbol < 16 {
            encoder.tree(&mut self.middle[pos_state], 3, symbol - 8);
        } else {
            encoder.tree(&mut self.high, 8, symbol - 16);
        }
    }

    fn update_prices(&mut self, popular: u32) {
        let long = price(self.choice[0], 1);
        let mut high = [0; LEN_SYMBOLS];
        for (symbol, cost) in high.iter_mut().enumerate().skip(16) {
            *cost = long + price(self.choice[1], 1) + tree_price(&self.high, 8, symbol as u32 - 16);
        }
        for (pos_state, all) in self.prices.iter_mut().enumerate() {
            let prices = &mut all.prices;
            *prices = high;
            for symbol in 0..8 {
                prices[symbol as usize] = price(self.choice[0], 0) + tree_price(&self.low[pos_state], 3, symbol);
                prices[symbol as usize + 8] =
                    long + price(self.choice[1], 0) + tree_price(&self.middle[pos_state], 3, symbol);
            }
            all.look(popular);
        }
    }
}

/// Probabilities, and prices drawn from them.
pub(super) struct Model {
    setting: Setting,
    /// Lengths that cost no more than this are popular.
    popular: u32,
    is_match: [[u16; POS_STATES]; STATES],
    is_repeat: [u16; STATES],
    is_repeat0: [u16; STATES],
    is_repeat1: [u16; STATES],
    is_repeat2: [u16; STATES],
    is_long: [[u16; POS_STATES]; STATES],
    literals: Vec<u16>,
    lengths: Lengths,
    repeat_lengths: Lengths,
    slots: [[u16; SLOTS]; LEN_STATES],
    special: [u16; FULL_DISTANCES],
    align: [u16; 1 << ALIGN_BITS],
    slot_prices: [[u32; SLOTS]; LEN_STATES],
    near_prices: [[u32; FULL_DISTANCES]; LEN_STATES],
    align_prices: [u32; 1 << ALIGN_BITS],
}

impl Model {
    /// Lengths that cost at most `popular` bits are popular.
    pub(super) fn new(setting: Setting, popular: u32) -> Self {
        let (lc, lp, pb) = setting;
        let mut model = Self {
            setting,
            popular: popular * BIT,
            is_match: [[HALF; POS_STATES]; STATES],
            is_repeat: [HALF; STATES],
            is_repeat0: [HALF; STATES],
            is_repeat1: [HALF; STATES],
            is_repeat2: [HALF; STATES],
            is_long: [[HALF; POS_STATES]; STATES],
            literals: vec![HALF; LITERAL_SIZE << (lc + lp)],
            lengths: Lengths::new(1 << pb),
            repeat_lengths: Lengths::new(1 << pb),
            slots: [[HALF; SLOTS]; LEN_STATES],
            special: [HALF; FULL_DISTANCES],
            align: [HALF; 1 << ALIGN_BITS],
            slot_prices: [[0; SLOTS]; LEN_STATES],
            near_prices: [[0; FULL_DISTANCES]; LEN_STATES],
            align_prices: [0; 1 << ALIGN_BITS],
        };
        model.update_prices();
        model
    }

    pub(super) fn pos_state(&self, at: usize) -> usize {
        at & ((1 << self.setting.2) - 1)
    }

    fn literal_tree(&self, at: usize, before: u8) -> usize {
        let (lc, lp, _) = self.setting;
        let context = ((at & ((1 << lp) - 1)) << lc) + (usize::from(before) >> (8 - lc));
        context * LITERAL_SIZE
    }

    /// Draws the prices of lengths and distances anew.
    pub(super) fn update_prices(&mut self) {
        self.lengths.update_prices(self.popular);
        self.repeat_lengths.update_prices(self.popular);
        for (low, cost) in self.align_prices.iter_mut().enumerate() {
            *cost = reverse_price(&self.align, ALIGN_BITS, low as u32);
        }
        for (state, prices) in self.slot_prices.iter_mut().enumerate() {
            for (slot, cost) in prices.iter_mut().enumerate() {
                let slot = slot as u32;
                let direct = if slot < DIRECT_SLOT { 0 } else { (slot >> 1) - 1 - ALIGN_BITS };
                *cost = tree_price(&self.slots[state], 6, slot) + direct * BIT;
            }
        }
        for distance in 0..FULL_DISTANCES {
            let slot = slot(distance as u32);
            let footer = if slot < 4 { 0 } else { self.special_price(slot, distance as u32) };
            for (prices, slots) in self.near_prices.iter_mut().zip(&self.slot_prices) {
                prices[distance] = slots[slot as usize] + footer;
            }
        }
    }

    fn special_price(&self, slot: u32, distance: u32) -> u32 {
        let bits = (slot >> 1) - 1;
        let base = (2 | slot & 1) << bits;
        reverse_price(&self.special[(base - slot) as usize..], bits, distance - base)
    }

    pub(super) fn literal_price(&self, at: usize, before: u8, state: State, byte: u8, matched: u8) -> u32 {
        let tree = &self.literals[self.literal_tree(at, before)..][..LITERAL_SIZE];
        if state.is_after_literal() {
            return tree_price(tree, 8, u32::from(byte));
        }
        let (mut node, mut cost, mut offset) = (u32::from(byte) | 0x100, 0, 0x100);
        let mut matched = u32::from(matched);
        // From the top: as long as both agree, the byte at the last distance is part of the context.
        let mut seen = 1;
        for _ in 0..8 {
            matched <<= 1;
            node <<= 1;
            let bit = node >> 8 & 1;
            cost += price(tree[(offset + (matched & offset) + seen) as usize], bit);
            seen = seen << 1 | bit;
            offset &= !(matched ^ node);
        }
        cost
    }

    pub(super) fn match_price(&self, state: State, pos_state: usize, is_match: bool) -> u32 {
        price(self.is_match[state.index()][pos_state], u32::from(is_match))
    }

    pub(super) fn repeat_price(&self, state: State, is_repeat: bool) -> u32 {
        price(self.is_repeat[state.index()], u32::from(is_repeat))
    }

    pub(super) fn short_price(&self, state: State, pos_state: usize) -> u32 {
        price(self.is_repeat0[state.index()], 0) + price(self.is_long[state.index()][pos_state], 0)
    }

    /// Which of the last distances, for a repeat longer than one byte.
    pub(super) fn which_price(&self, state: State, pos_state: usize, which: u8) -> u32 {
        let state = state.index();
        match which {
            0 => price(self.is_repeat0[state], 0) + price(self.is_long[state][pos_state], 1),
            1 => price(self.is_repeat0[state], 1) + price(self.is_repeat1[state], 0),
            _ => {
                price(self.is_repeat0[state], 1)
                    + price(self.is_repeat1[state], 1)
                    + price(self.is_repeat2[state], u32::from(which == 3))
            }
        }
    }

    pub(super) fn repeat_len_prices(&self, pos_state: usize) -> &LenPrices {
        &self.repeat_lengths.prices[pos_state]
    }

    pub(super) fn len_prices(&self, pos_state: usize) -> &LenPrices {
        &self.lengths.prices[pos_state]
    }

    pub(super) fn distance_price(&self, distance: u32, len: usize) -> u32 {
        let state = (len - MIN_LEN).min(LEN_STATES - 1);
        match self.near_prices[state].get(distance as usize) {
            Some(price) => *price,
            None => {
                let align = self.align_prices[(distance & ((1 << ALIGN_BITS) - 1)) as usize];
                self.slot_prices[state][slot(distance) as usize] + align
            }
        }
    }

    /// Writes a symbol at `at`; `distances` are the last four, and become those after it.
    pub(super) fn encode(
        &mut self,
        encoder: &mut Encoder,
        raw: &[u8],
        at: usize,
        symbol: Symbol,
        state: &mut State,
        distances: &mut [u32; 4],
    ) {
        let pos_state = self.pos_state(at);
        let now = state.index();
        let is_match = &mut self.is_match[now][pos_state];
        if symbol == Symbol::Literal {
            encoder.bit(is_match, 0);
            let before = if at > 0 { raw[at - 1] } else { 0 };
            let tree = self.literal_tree(at, before);
            let tree = &mut self.literals[tree..][..LITERAL_SIZE];
            if state.is_after_literal() {
                encoder.tree(tree, 8, u32::from(raw[at]));
            } else {
                matched_literal(encoder, tree, raw[at], raw[at - distances[0] as usize - 1]);
            }
            *state = state.literal();
            return;
        }
        encoder.bit(is_match, 1);
        if let Symbol::Match { distance, len } = symbol {
            encoder.bit(&mut self.is_repeat[now], 0);
            self.lengths.encode(encoder, pos_state, usize::from(len));
            self.encode_distance(encoder, distance, usize::from(len));
            *state = state.matched();
        } else {
            encoder.bit(&mut self.is_repeat[now], 1);
            let (which, len) = match symbol {
                Symbol::Repeat { which, len } => (which, len),
                _ => (0, 1),
            };
            encoder.bit(&mut self.is_repeat0[now], u32::from(which > 0));
            if which == 0 {
                encoder.bit(&mut self.is_long[now][pos_state], u32::from(len > 1));
            } else {
                encoder.bit(&mut self.is_repeat1[now], u32::from(which > 1));
                if which > 1 {
                    encoder.bit(&mut self.is_repeat2[now], u32::from(which > 2));
                }
            }
            if len > 1 {
                self.repeat_lengths.encode(encoder, pos_state, usize::from(len));
                *state = state.repeated();
            } else {
                *state = state.short();
            }
        }
        symbol.turn(distances);
    }

    fn encode_distance(&mut self, encoder: &mut Encoder, distance: u32, len: usize) {
        let slot = slot(distance);
        encoder.tree(&mut self.slots[(len - MIN_LEN).min(LEN_STATES - 1)], 6, slot);
        if slot < 4 {
            return;
        }
        let bits = (slot >> 1) - 1;
        let base = (2 | slot & 1) << bits;
        let rest = distance - base;
        if slot < DIRECT_SLOT {
            encoder.reverse(&mut self.special[(base - slot) as usize..], bits, rest);
        } else {
            encoder.direct(bits - ALIGN_BITS, rest >> ALIGN_BITS);
            encoder.reverse(&mut self.align, ALIGN_BITS, rest);
        }
    }
}

impl Symbol {
    /// Brings the last four distances up to date.
    #[inline]
    pub(super) fn turn(self, distances: &mut [u32; 4]) {
        match self {
            Self::Literal | Self::Short => {}
            Self::Repeat { which, .. } => {
                let [a, b, c, d] = *distances;
                *distances = match which {
                    0 => [a, b, c, d],
                    1 => [b, a, c, d],
                    2 => [c, a, b, d],
                    _ => [d, a, b, c],
                };
            }
            Self::Match { distance, .. } => *distances = [distance, distances[0], distances[1], distances[2]],
        }
    }
}

fn matched_literal(encoder: &mut Encoder, tree: &mut [u16], byte: u8, matched: u8) {
    let (mut node, mut matched, mut offset, mut seen) = (u32::from(byte) | 0x100, u32::from(matched), 0x100, 1);
    for _ in 0..8 {
        matched <<= 1;
        node <<= 1;
        let bit = node >> 8 & 1;
        encoder.bit(&mut tree[(offset + (matched & offset) + seen) as usize], bit);
        seen = seen << 1 | bit;
        offset &= !(matched ^ node);
    }
}

/// The slot of a distance: its two highest bits and how many follow.
#[inline]
fn slot(distance: u32) -> u32 {
    if distance < 4 {
        return distance;
    }
    let bits = distance.ilog2();
    bits * 2 + (distance >> (bits - 1) & 1)
}
