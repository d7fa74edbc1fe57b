//! The range coder of LZMA and what a bit costs in it.

/// Bits of a probability.
const BITS: u32 = 11;

/// A probability before anything was seen: one half.
pub(super) const HALF: u16 = 1 << (BITS - 1);

/// How fast probabilities follow.
const RATE: u32 = 5;

/// Ranges below this are widened by a byte.
const TOP: u32 = 1 << 24;

/// Probabilities are priced in steps of this power of two.
const PRICE_STEP: u32 = 4;

/// Prices are in 1/16 bit.
pub(super) const BIT: u32 = 16;

/// What a bit of 0 costs, by its probability.
const PRICES: [u8; 1 << (BITS - PRICE_STEP)] = prices();

const fn prices() -> [u8; 1 << (BITS - PRICE_STEP)] {
    let mut prices = [0; 1 << (BITS - PRICE_STEP)];
    let mut at = 0;
    while at < prices.len() {
        // A logarithm by squaring: each square shows one more binary digit.
        let mut value = ((at as u32) << PRICE_STEP) + (1 << (PRICE_STEP - 1));
        let mut bits = 0;
        let mut digit = 0;
        while digit < 4 {
            value *= value;
            bits *= 2;
            while value >= 1 << 16 {
                value >>= 1;
                bits += 1;
            }
            digit += 1;
        }
        prices[at] = ((BITS << 4) - 15 - bits) as u8;
        at += 1;
    }
    prices
}

/// What `bit` costs at this probability of 0.
#[inline]
pub(super) fn price(probability: u16, bit: u32) -> u32 {
    let flip = (bit.wrapping_neg() as u16) & ((1 << BITS) - 1);
    u32::from(PRICES[usize::from((probability ^ flip) >> PRICE_STEP)])
}

/// What the `bits` lowest bits of `value` cost in a tree, highest first.
pub(super) fn tree_price(tree: &[u16], bits: u32, value: u32) -> u32 {
    let mut node = value | 1 << bits;
    let mut cost = 0;
    while node > 1 {
        cost += price(tree[(node >> 1) as usize], node & 1);
        node >>= 1;
    }
    cost
}

/// The same, lowest bit first.
pub(super) fn reverse_price(tree: &[u16], bits: u32, value: u32) -> u32 {
    let (mut node, mut cost) = (1, 0);
    for shift in 0..bits {
        let bit = value >> shift & 1;
        cost += price(tree[node], bit);
        node = node << 1 | bit as usize;
    }
    cost
}

/// Writes bits.
pub(super) struct Encoder {
    low: u64,
    range: u32,
    /// The byte that a carry may still change, and how many `0xff` wait behind it.
    held: u8,
    waiting: u64,
    pub out: Vec<u8>,
}

impl Encoder {
    /// Appends to `out`.
    pub(super) fn new(out: Vec<u8>) -> Self {
        Self { low: 0, range: u32::MAX, held: 0, waiting: 1, out }
    }

    #[inline]
    pub(super) fn bit(&mut self, probability: &mut u16, bit: u32) {
        let bound = (self.range >> BITS) * u32::from(*probability);
        if bit == 0 {
            self.range = bound;
            *probability += ((1 << BITS) - *probability) >> RATE;
        } else {
            self.low += u64::from(bound);
            self.range -= bound;
            *probability -= *probability >> RATE;
        }
        self.widen();
    }

    pub(super) fn tree(&mut self, tree: &mut [u16], bits: u32, value: u32) {
        let mut node = 1;
        for shift in (0..bits).rev() {
            let bit = value >> shift & 1;
            self.bit(&mut tree[node], bit);
            node = node << 1 | bit as usize;
        }
    }

    pub(super) fn reverse(&mut self, tree: &mut [u16], bits: u32, value: u32) {
        let mut node = 1;
        for shift in 0..bits {
            let bit = value >> shift & 1;
            self.bit(&mut tree[node], bit);
            node = node << 1 | bit as usize;
        }
    }

    /// Bits of which nothing is known.
    pub(super) fn direct(&mut self, bits: u32, value: u32) {
        for shift in (0..bits).rev() {
            self.range >>= 1;
            if value >> shift & 1 != 0 {
                self.low += u64::from(self.range);
            }
            self.widen();
        }
    }

    #[inline]
    fn widen(&mut self) {
        while self.range < TOP {
            self.range <<= 8;
            self.shift_low();
        }
    }

    fn shift_low(&mut self) {
        if self.low < 0xff00_0000 || self.low > u64::from(u32::MAX) {
            let carry = (self.low >> 32) as u8;
            let mut byte = self.held;
            while self.waiting > 0 {
                self.out.push(byte.wrapping_add(carry));
                byte = 0xff;
                self.waiting -= 1;
            }
            self.held = (self.low >> 24) as u8;
        }
        self.waiting += 1;
        self.low = (self.low & 0x00ff_ffff) << 8;
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        for _ in 0..5 {
            self.shift_low();
        }
        self.out
    }
}
