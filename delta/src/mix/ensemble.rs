//! Predicts bits: many contexts, each with an adaptive probability, mixed by weights that learn which to trust.

use super::{
    coder::Coder,
    logistic::{LIMIT, squash, stretch},
};

/// A new slot: probability one half, seen never.
pub(crate) const NEW_SLOT: u16 = 0x800 << 4;

/// Adaptive probabilities of all hashed contexts: 12 bits of probability above 4 bits that count how often it was seen.
pub(crate) struct Slots<'m> {
    slots: &'m mut [u16],
    mask: u32,
}

impl<'m> Slots<'m> {
    /// Starts afresh in `slots`, of which the largest power of two is used.
    pub(crate) fn new(slots: &'m mut [u16]) -> Self {
        slots.fill(NEW_SLOT);
        let len = if slots.is_empty() { 0 } else { 1usize << slots.len().ilog2().min(31) };
        Self { slots, mask: (len as u32).wrapping_sub(1) }
    }

    #[inline]
    fn get(&self, at: u32) -> u16 {
        self.slots.get((at & self.mask) as usize).copied().unwrap_or(NEW_SLOT)
    }

    #[inline]
    fn set(&mut self, at: u32, slot: u16) {
        if let Some(place) = self.slots.get_mut((at & self.mask) as usize) {
            *place = slot;
        }
    }
}

/// Mixes a number into a hash. 32-bit arithmetic only: the same on every processor.
#[inline]
pub(crate) fn hash(seed: u32, value: u32) -> u32 {
    let mixed = (seed ^ value.wrapping_mul(0x9e37_79b1)).wrapping_mul(0x85eb_ca6b);
    mixed ^ mixed >> 15
}

/// How far a probability moves towards a bit, in 1/65,536, by how often it was seen.
const RATES: [i32; 16] =
    [32768, 24000, 17000, 13107, 10923, 9362, 8192, 7282, 6554, 5958, 5461, 5041, 4681, 4369, 4096, 3640];

/// Counts that the calibration tells apart times probabilities that it does.
const CALIBRATIONS: usize = 16 * 16;

/// How fast a calibration follows, as a shift.
const CALIBRATION_RATE: u32 = 6;

/// Weight of 1.
const ONE: i32 = 1 << 16;

/// Steps of the last correction.
const STEPS: usize = 25;

/// Distance of the steps: one in the logit.
const STEP: i32 = 256;

/// Contexts of the last correction.
pub(crate) const CORRECTIONS: usize = 32;

/// Inputs of `contexts` contexts: theirs, and last one that is always the same. An even number.
pub(crate) const fn lanes(contexts: usize) -> usize {
    (contexts + 1).next_multiple_of(2)
}

/// Fractional bits of a weight that stay when inputs are weighed.
const WEIGHT_BITS: u32 = 12;

/// `N` contexts, at most 15, and two mixers, each with `SETS` sets of weights to select from. `LANES` is [`lanes`] of `N`.
pub(crate) struct Ensemble<const N: usize, const SETS: usize, const LANES: usize> {
    /// What a slot of context `n` in a state really means.
    calibrations: [[u16; CALIBRATIONS]; N],
    weights: [[Weights<LANES>; SETS]; 2],
    corrections: [[u16; STEPS]; CORRECTIONS],
    /// Bits coded, up to a limit: weights learn faster at first.
    age: u32,
}

/// How much each input counts. Inputs are what contexts say, as logits.
#[derive(Clone, Copy)]
struct Weights<const LANES: usize>([i32; LANES]);

/// Which sets of weights to use for a bit, and which last correction.
#[derive(Clone, Copy)]
pub(crate) struct Select {
    pub first: usize,
    pub second: usize,
    pub correction: usize,
}

impl<const N: usize, const SETS: usize, const LANES: usize> Ensemble<N, SETS, LANES> {
    /// All zeros, to be [`reset`](Self::reset) before use: an ensemble is too large to be built on a small stack.
    pub(crate) const fn unset() -> Self {
        const { assert!(N < LANES && LANES <= 16, "one lane is left for the constant input, and sums stay below 2^31") };
        Self {
            calibrations: [[0; CALIBRATIONS]; N],
            weights: [[Weights([0; LANES]); SETS]; 2],
            corrections: [[0; STEPS]; CORRECTIONS],
            age: 0,
        }
    }

    /// Forgets everything.
    pub(crate) fn reset(&mut self) {
        for row in &mut self.calibrations {
            for (at, entry) in row.iter_mut().enumerate() {
                let (seen, p) = (at as i32 / 16, (at as i32 % 16) * 4096 + 2048);
                // Unseen contexts know nothing.
                *entry = if seen == 0 { 0x8000 } else { p as u16 };
            }
        }
        for weights in self.weights.as_flattened_mut() {
            for (n, weight) in weights.0.iter_mut().enumerate() {
                *weight = if n < N { ONE / N as i32 } else { 0 };
            }
        }
        for curve in &mut self.corrections {
            for (step, entry) in curve.iter_mut().enumerate() {
                *entry = squash((step as i32 - 12) * STEP) as u16;
            }
        }
        self.age = 0;
    }

    /// Codes `bit`, for which context `n` has the slot `at[n]`.
    #[inline]
    pub(crate) fn bit(
        &mut self,
        slots: &mut Slots<'_>,
        at: &[u32; N],
        select: Select,
        coder: &mut impl Coder,
        bit: u32,
    ) -> u32 {
        let mut states = [0u16; N];
        let mut inputs = [0i16; LANES];
        for (((state, at), calibrations), input) in states.iter_mut().zip(at).zip(&self.calibrations).zip(&mut inputs) {
            *state = slots.get(*at);
            *input = stretch(calibrations.get(calibration(*state)).copied().unwrap_or(0x8000)) as i16;
        }
        if let Some(constant) = inputs.last_mut() {
            *constant = 256;
        }
        let sets = [select.first % SETS, select.second % SETS];
        let correction = select.correction % CORRECTIONS;
        let mut logits = [0i32; 2];
        for ((logit, set), weights) in logits.iter_mut().zip(sets).zip(&self.weights) {
            if let Some(weights) = weights.get(set) {
                *logit = weights.dot(&inputs);
            }
        }
        let logit = (logits.iter().sum::<i32>() >> 1).clamp(-LIMIT, LIMIT);
        let mixed = squash(logit);
        let place = ((logit + LIMIT + 1) / STEP).clamp(0, STEPS as i32 - 2) as usize;
        let part = (logit + LIMIT + 1) - place as i32 * STEP;
        let (low, high) = self.corrections.get(correction).map_or((0, 0), |curve| {
            let low = curve.get(place).copied().unwrap_or(0);
            (i32::from(low), i32::from(curve.get(place + 1).copied().unwrap_or(0)))
        });
        let corrected = (low * (STEP - part) + high * part) / STEP;
        let p = ((mixed + corrected) >> 1).clamp(1, 65_535);

        let bit = coder.bit(p as u32, bit);

        let goal = if bit == 1 { 65_535 } else { 0 };
        self.age = (self.age + 1).min(1 << 16);
        let speed = 7 + 20 * 256 / (256 + self.age as i32);
        for ((logit, set), weights) in logits.iter().zip(sets).zip(&mut self.weights) {
            if let Some(weights) = weights.get_mut(set) {
                weights.learn(&inputs, (((goal - squash(*logit)) * speed) >> 6) as i16);
            }
        }
        if let Some(curve) = self.corrections.get_mut(correction) {
            let near = place + usize::from(part >= STEP / 2);
            if let Some(entry) = curve.get_mut(near) {
                *entry = (i32::from(*entry) + ((goal - i32::from(*entry)) >> 6)) as u16;
            }
        }
        for ((state, at), calibrations) in states.iter().zip(at).zip(&mut self.calibrations) {
            if let Some(entry) = calibrations.get_mut(calibration(*state)) {
                *entry = (i32::from(*entry) + ((goal - i32::from(*entry)) >> CALIBRATION_RATE)) as u16;
            }
            slots.set(*at, updated(*state, bit));
        }
        bit
    }

    /// Codes a number of `COUNT` bits, highest bit first.
    #[inline]
    pub(crate) fn bits<const COUNT: u32>(
        &mut self,
        slots: &mut Slots<'_>,
        contexts: &[u32; N],
        select: impl Fn(u32) -> Select,
        coder: &mut impl Coder,
        number: u32,
    ) -> u32 {
        let mut known = 1u32;
        for n in (0..COUNT).rev() {
            let at = contexts.map(|context| context ^ known);
            known = known << 1 | self.bit(slots, &at, select(known), coder, number >> n & 1);
        }
        known ^ 1 << COUNT
    }

    /// Codes a byte, highest bit first. `contexts` are hashes; `select` gives the weights for what is known of the byte: a 1
    /// and the bits so far.
    #[inline]
    pub(crate) fn byte(
        &mut self,
        slots: &mut Slots<'_>,
        contexts: &[u32; N],
        select: impl Fn(u32) -> Select,
        coder: &mut impl Coder,
        byte: u8,
    ) -> u8 {
        let mut known = 1u32;
        for half in 0..2 {
            let mut bases = *contexts;
            if half == 1 {
                for base in &mut bases {
                    *base = hash(*base, known);
                }
            }
            // The sixteen nodes of a nibble share a cache line; contexts that share the line use it in another order.
            let mut node = 1u32;
            for n in 0..4u32 {
                let mut at = [0u32; N];
                for (at, base) in at.iter_mut().zip(&bases) {
                    *at = base ^ node;
                }
                let bit = u32::from(byte) >> (7 - 4 * half - n) & 1;
                let bit = self.bit(slots, &at, select(known), coder, bit);
                known = known << 1 | bit;
                node = node << 1 | bit;
            }
        }
        known as u8
    }
}

impl<const LANES: usize> Weights<LANES> {
    #[inline]
    fn dot(&self, inputs: &[i16; LANES]) -> i32 {
        // Weights below 2^15 and inputs below 2^11 leave room for sixteen products.
        let products = self.0.iter().zip(inputs).map(|(weight, input)| {
            let weight = (weight >> (16 - WEIGHT_BITS)).clamp(i32::from(i16::MIN), i32::from(i16::MAX));
            i32::from(weight as i16) * i32::from(*input)
        });
        (products.sum::<i32>() >> WEIGHT_BITS).clamp(-LIMIT, LIMIT)
    }

    #[inline]
    fn learn(&mut self, inputs: &[i16; LANES], error: i16) {
        for (weight, input) in self.0.iter_mut().zip(inputs) {
            *weight = weight.wrapping_add((i32::from(*input) * i32::from(error) + 0x800) >> 12);
        }
    }
}

#[inline]
fn calibration(state: u16) -> usize {
    usize::from(state & 15) * 16 + usize::from(state >> 12)
}

/// The slot after `bit`.
#[inline]
fn updated(state: u16, bit: u32) -> u16 {
    let (p, seen) = (i32::from(state >> 4), state & 15);
    let goal = if bit == 1 { 4095 } else { 0 };
    let rate = RATES.get(usize::from(seen)).copied().unwrap_or(4096);
    let p = p + (((goal - p) * rate + 0x8000) >> 16);
    (p as u16) << 4 | (seen + 1).min(15)
}
