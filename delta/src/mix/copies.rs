//! Codes copies: for each unit whether it is what one of its predictions says, and bytes only when none holds.

use super::{
    candidates::{Candidates, candidates, keys, mask, opcode},
    coder::Coder,
    ensemble::{Ensemble, Select, Slots, hash, lanes},
    fixes::Fixes,
    model::{Place, Window, log},
    references::References,
    units::{Unit, Walker},
};

/// Contexts of a flag.
const FLAG_CONTEXTS: usize = 9;

/// Contexts of a byte of a difference.
const BYTE_CONTEXTS: usize = 14;

/// Contexts of a run.
const RUN_CONTEXTS: usize = 7;

/// Bytes of a run: so many are coded with one flag.
pub(crate) const RUN_BYTES: usize = 64;

/// A run is tried after so many predictions held, one bit each.
const RUN_AFTER: u32 = 0xff;

/// Model of all copies of a segment.
pub(crate) struct Copies {
    walker: Walker,
    flags: Ensemble<FLAG_CONTEXTS, 32, { lanes(FLAG_CONTEXTS) }>,
    bytes: Ensemble<BYTE_CONTEXTS, 32, { lanes(BYTE_CONTEXTS) }>,
    runs: Ensemble<RUN_CONTEXTS, 32, { lanes(RUN_CONTEXTS) }>,
    /// Whether runs held, the last in bit 0.
    run_history: u32,
    /// Bytes of a run that did not hold and in which no prediction failed yet. Is 0 after the failure.
    run_rest: u32,
    failed_run: u32,
    /// For each kind, whether the first prediction held, the last in bit 0.
    held: [u8; 16],
    /// The same over all kinds.
    all_held: u32,
    /// The last old words and what became of them.
    old: [u32; 4],
    new: [u32; 2],
    /// The last differences from the first prediction, per kind and overall; only those that are not zero.
    differences: [u32; 16],
    difference: [u32; 2],
    /// Bytes since a prediction failed.
    quiet: u32,
}

impl Copies {
    /// All zeros, to be [`reset`](Self::reset) before use.
    pub(crate) const fn unset() -> Self {
        Self {
            walker: Walker::new(),
            flags: Ensemble::unset(),
            bytes: Ensemble::unset(),
            runs: Ensemble::unset(),
            run_history: 0,
            run_rest: 0,
            failed_run: 0,
            held: [0; 16],
            all_held: 0,
            old: [0; 4],
            new: [0; 2],
            differences: [0; 16],
            difference: [0; 2],
            quiet: 0,
        }
    }

    /// Forgets everything. Ensembles do so in place: a small stack has no room for another.
    pub(crate) fn reset(&mut self) {
        let Self { walker, flags, bytes, runs, run_history, run_rest, failed_run, .. } = self;
        *walker = Walker::new();
        flags.reset();
        bytes.reset();
        runs.reset();
        (*run_history, *run_rest, *failed_run) = (0, 0, 0);
        let Self { held, all_held, old, new, differences, difference, quiet, .. } = self;
        (*held, *all_held, *old, *new) = ([0xff; 16], u32::MAX, [0; 4], [0; 2]);
        (*differences, *difference, *quiet) = ([0; 16], [0; 2], 0);
    }

    /// Codes bytes of a copy, of which `ahead` come before the next cut, and returns how many: all, or as many as `out` has
    /// room for when the next might need more.
    #[expect(clippy::too_many_arguments, reason = "one call site; they are the parts of the model, borrowed apart")]
    pub(crate) fn code(
        &mut self,
        coder: &mut impl Coder,
        slots: &mut Slots<'_>,
        fixes: &mut Fixes<'_>,
        references: &References,
        window: Window<'_>,
        place: Place,
        new_offset: u64,
        ahead: usize,
        out: &mut [u8],
    ) -> usize {
        let mut done = 0usize;
        let mut in_region = 0u64;
        while done < out.len() && (out.len() - done >= RUN_BYTES || out.len() >= ahead) {
            let (old, new) = (place.old + done as u64, new_offset + done as u64);
            if in_region == 0 {
                self.walker.enter(references, old, new);
                in_region = self.walker.until(references, old, new);
            }
            let rest = out.get_mut(done..).unwrap_or_default();
            let most = usize::try_from(in_region).unwrap_or(usize::MAX).min(rest.len());
            let rest = rest.get_mut(..most).unwrap_or_default();
            let around = Around { references, window: &window, old, new };
            let place = Place {
                done: place.done.saturating_add(done as u32),
                left: place.left.saturating_sub(done as u32),
                old,
            };
            let len = if self.run_rest == 0 && self.all_held & RUN_AFTER == RUN_AFTER && rest.len() >= RUN_BYTES {
                self.run(coder, slots, fixes, &around, place, rest)
            } else {
                0
            };
            let len = if len > 0 { len } else { self.one(coder, slots, fixes, &around, place, rest) };
            done += len;
            in_region = in_region.saturating_sub(len as u64);
        }
        done
    }

    /// Tries the next units as a run in which every first prediction holds. Returns the bytes that made, or 0.
    #[inline(never)] // A small stack need not hold all frames at once.
    fn run(
        &mut self,
        coder: &mut impl Coder,
        slots: &mut Slots<'_>,
        fixes: &Fixes<'_>,
        around: &Around<'_, '_>,
        place: Place,
        rest: &mut [u8],
    ) -> usize {
        let before = self.walker.pages();
        let mut predicted = [0u8; RUN_BYTES];
        let (mut len, mut last) = (0usize, self.old);
        let (mut referring, mut doubtful, mut kinds) = (0u32, 0u32, 0u32);
        while len < RUN_BYTES {
            let (old, new) = (around.old + len as u64, around.new + len as u64);
            let unit = self.walker.unit(around.references, around.window, old, new, (RUN_BYTES - len) as u64);
            let keys = keys(&unit, last[0]);
            let candidates = candidates(&unit, &keys, fixes);
            let first = candidates.get(0);
            let word = unit.form.word(first.canonical);
            let room = predicted.get_mut(len..).unwrap_or_default();
            for (byte, new) in room.iter_mut().zip(word.to_le_bytes()).take(usize::from(unit.len)) {
                *byte = new;
            }
            referring += u32::from(unit.refers);
            doubtful += u32::from(candidates.len > 1 && first.trust < 3);
            kinds = hash(kinds, u32::from(unit.kind));
            len += usize::from(unit.len.max(1));
            last = [unit.raw, last[0], last[1], last[2]];
        }
        let holds = u32::from(rest.get(..RUN_BYTES) == Some(&predicted[..]));
        let seed = |number: u32| hash(0x5000 + number, self.run_history & 1);
        let contexts = [
            hash(seed(0), log(self.quiet.into()) | doubtful.min(7) << 8),
            hash(seed(1), self.run_history & 0xff),
            hash(seed(2), referring | doubtful << 5 | (self.run_history & 7) << 10),
            hash(seed(3), log(place.done.into()) | log(place.left.into()) << 5),
            hash(hash(seed(4), kinds), doubtful),
            hash(hash(seed(5), last[0]), last[1]),
            hash(hash(seed(6), last[3]), self.old[0]),
        ];
        let select = Select {
            first: (doubtful.min(7) << 2 | self.run_history & 3) as usize,
            second: log(self.quiet.into()) as usize,
            correction: referring.min(15) as usize,
        };
        let holds = self.runs.bit(slots, &contexts, select, coder, holds);
        self.run_history = self.run_history << 1 | holds;
        if holds == 0 {
            self.walker.restore(&before);
            self.run_rest = RUN_BYTES as u32;
            self.failed_run = 1;
            return 0;
        }
        if let Some(room) = rest.get_mut(..RUN_BYTES) {
            room.copy_from_slice(&predicted);
        }
        self.old = last;
        self.quiet = self.quiet.saturating_add(RUN_BYTES as u32);
        self.new = last_words(&predicted);
        RUN_BYTES
    }

    /// Codes the next unit and returns its bytes.
    fn one(
        &mut self,
        coder: &mut impl Coder,
        slots: &mut Slots<'_>,
        fixes: &mut Fixes<'_>,
        around: &Around<'_, '_>,
        place: Place,
        rest: &mut [u8],
    ) -> usize {
        let unit = self.walker.unit(around.references, around.window, around.old, around.new, rest.len() as u64);
        let len = usize::from(unit.len).clamp(1, rest.len());
        let room = rest.get_mut(..len).unwrap_or_default();
        let actual = room.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte));
        let next_old = around.window.word(around.old + u64::from(unit.len));
        let at = At { next_old, done: place.done, left: place.left };
        let coded = self.unit(coder, slots, fixes, &unit, &at, actual);
        self.run_rest = self.run_rest.saturating_sub(u32::from(unit.len));
        if self.run_rest == 0 {
            self.failed_run = 0;
        }
        for (byte, coded) in room.iter_mut().zip(coded.to_le_bytes()) {
            *byte = coded;
        }
        len
    }

    #[inline(never)] // A small stack need not hold all frames at once.
    fn unit(
        &mut self,
        coder: &mut impl Coder,
        slots: &mut Slots<'_>,
        fixes: &mut Fixes<'_>,
        unit: &Unit,
        at: &At,
        actual: u32,
    ) -> u32 {
        let k = u32::from(unit.kind);
        let mask = mask(unit);
        let goal = unit.form.canonical(actual);
        let keys = keys(unit, self.old[0]);
        let candidates = candidates(unit, &keys, fixes);
        let level = candidates.level;

        // Within a run that is known to fail somewhere: how much of it is left.
        let pending = if self.failed_run == 1 { 1 + self.run_rest / 4 } else { 0 };
        let first = candidates.get(0);
        let held = u32::from(self.held.get(usize::from(unit.kind)).copied().unwrap_or(0));
        let mut coded = None;
        for n in 0..candidates.len {
            let candidate = candidates.get(n);
            let what = n as u32 | k << 2 | u32::from(candidate.source) << 6 | u32::from(candidate.trust) << 9;
            let shape = u32::from(candidates.agree) << 4 | u32::from(level) << 1 | u32::from(unit.refers);
            let seed = |number: u32| hash(0x1000 + number, what);
            let contexts = [
                hash(seed(0), held & 0xf | shape << 4 | pending << 12),
                hash(hash(seed(1), unit.raw), held & 1),
                hash(seed(2), self.all_held & 0xff | pending << 8),
                hash(hash(seed(3), unit.raw), self.old[0]),
                hash(hash(seed(4), candidate.canonical), unit.subject),
                hash(seed(5), log(self.quiet.into()) | shape << 8 | pending << 16),
                hash(hash(seed(6), opcode(unit)), self.all_held & 3),
                hash(seed(7), log(at.done.into()) | log(at.left.into()) << 5 | (self.all_held & 3) << 10),
                hash(hash(hash(seed(8), unit.raw), at.next_old), self.old[0]),
            ];
            let select = Select {
                first: n.min(1) << 4 | usize::from(unit.kind & 15),
                second: usize::from(candidate.source.min(7)) << 2 | log(pending.into()).min(3) as usize,
                correction: usize::from(unit.kind & 15) << 1 | (held & 1) as usize,
            };
            let is = u32::from(goal == candidate.canonical);
            if self.flags.bit(slots, &contexts, select, coder, is) == 1 {
                coded = Some(candidate.canonical);
                break;
            }
        }
        let canonical = coded.unwrap_or_else(|| {
            let difference = self.difference(coder, slots, unit, &candidates, at, goal.wrapping_sub(first.canonical));
            let canonical = first.canonical.wrapping_add(difference);
            canonical & mask
        });

        let holds = canonical == first.canonical;
        if !holds {
            self.failed_run = 0;
            let difference = canonical.wrapping_sub(first.canonical);
            if let Some(last) = self.differences.get_mut(usize::from(unit.kind)) {
                *last = difference;
            }
            self.difference = [difference, self.difference[0]];
        }
        if let Some(held) = self.held.get_mut(usize::from(unit.kind)) {
            *held = *held << 1 | u8::from(holds);
        }
        self.all_held = self.all_held << 1 | u32::from(holds);
        self.quiet = if holds { self.quiet.saturating_add(u32::from(unit.len)) } else { 0 };
        let outcome = canonical.wrapping_sub(unit.moved);
        let outcome = outcome & mask;
        for (n, key) in keys.iter().enumerate() {
            // Words that stay are the rule and need no entry of their own.
            if n > 0 || outcome != 0 || level & 1 == 1 {
                fixes.learn(*key, outcome);
            }
        }
        let word = unit.form.word(canonical);
        self.old = [unit.raw, self.old[0], self.old[1], self.old[2]];
        self.new = [word, self.new[0]];
        word
    }

    /// Codes the difference from the first candidate, lowest byte first.
    #[inline(never)] // A small stack need not hold all frames at once.
    fn difference(
        &mut self,
        coder: &mut impl Coder,
        slots: &mut Slots<'_>,
        unit: &Unit,
        candidates: &Candidates,
        at: &At,
        goal: u32,
    ) -> u32 {
        let first = candidates.get(0);
        let kind = u32::from(unit.kind);
        let others = [1, 2].map(|n| candidates.get(n).canonical.wrapping_sub(first.canonical));
        let last = self.differences.get(usize::from(unit.kind)).copied().unwrap_or(0);
        let what = kind | u32::from(first.source) << 5;
        let mut known = 0u32;
        // First how many bytes it takes, the rest being all zeros or all ones.
        let width = u32::from(unit.len.clamp(1, 4));
        let size = |word: u32| size(word, width);
        let seed = |number: u32| hash(0x2800 + number, kind | width << 8);
        let contexts = [
            hash(seed(0), u32::from(first.source) | u32::from(candidates.level) << 4),
            hash(seed(1), unit.old),
            hash(seed(2), first.canonical & 0xff),
            hash(hash(seed(3), size(last)), what),
            hash(seed(4), size(self.difference[0]) | size(self.difference[1]) << 4),
            hash(seed(5), size(others[0]) | size(others[1]) << 4),
            hash(seed(6), opcode(unit)),
            hash(hash(seed(7), self.new[0]), unit.old),
            hash(hash(seed(8), last), self.difference[0]),
            hash(seed(9), unit.subject),
            hash(hash(seed(10), opcode(unit)), at.next_old),
            hash(seed(11), self.all_held & 0xff),
            hash(hash(seed(12), self.new[0]), first.canonical >> 24),
            hash(seed(13), log(at.done.into()) | log(at.left.into()) << 5),
        ];
        let select = |bits: u32| Select {
            first: usize::from(unit.kind & 15),
            second: bits as usize & 7,
            correction: 0x10 | bits as usize & 7,
        };
        let coded = self.bytes.bits::<3>(slots, &contexts, select, coder, size(goal));
        let (many, ones) = ((coded >> 1) + 1, coded & 1 == 1);
        let width = many.min(width);
        if ones {
            known = if width == 4 { 0 } else { u32::MAX << (8 * width) };
        }
        let top = known;
        known = 0;
        for n in 0..width {
            let below = (1u32 << (8 * n)).wrapping_sub(1);
            let byte = |word: u32| word >> (8 * n) & 0xff;
            // Whether a word went on as the known bytes do.
            let fits = |word: u32| word & below == known;
            let hint = |word: u32| if fits(word) { byte(word) | 0x100 } else { 0 };
            let seed = |number: u32| hash(0x2000 + number * 4 + n, kind);
            let expected = byte(first.canonical);
            let contexts = [
                hash(hash(seed(0), known), coded),
                hash(hash(seed(1), known), unit.old),
                hash(hash(hash(seed(2), known), expected), coded),
                hash(hash(seed(3), hint(last)), what),
                hash(hash(seed(4), hint(self.difference[0])), hint(self.difference[1]) | kind << 16),
                hash(hash(seed(5), hint(others[0])), u32::from(candidates.get(1).source) | hint(others[1]) << 8),
                hash(hash(hash(seed(6), known), opcode(unit)), coded),
                hash(hash(hash(seed(7), known), self.new[0]), unit.old),
                hash(hash(seed(8), hint(last)), expected | hint(self.difference[0]) << 8),
                hash(hash(seed(9), known), unit.subject),
                hash(hash(hash(seed(10), known), opcode(unit)), at.next_old),
                hash(hash(hash(seed(11), expected), known), byte(self.new[0]) | byte(self.old[0]) << 8),
                hash(hash(hash(seed(12), known), self.new[0]), expected),
                hash(hash(hash(seed(13), known.wrapping_add(first.canonical) & below), expected), self.all_held & 1),
            ];
            let fitting = usize::from(fits(last)) | usize::from(fits(self.difference[0])) << 1;
            let select = |bits: u32| Select {
                first: (n as usize).min(1) << 4 | usize::from(unit.kind & 15),
                second: (bits.ilog2() as usize & 7) << 2 | fitting,
                correction: (n as usize) << 2 | fitting,
            };
            let coded = self.bytes.byte(slots, &contexts, select, coder, byte(goal) as u8);
            known |= u32::from(coded) << (8 * n);
        }
        known | top
    }
}

/// The last two words of a run.
fn last_words(run: &[u8; RUN_BYTES]) -> [u32; 2] {
    let mut words = [0; 2];
    for (word, bytes) in words.iter_mut().zip(run.rchunks_exact(4)) {
        *word = bytes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte));
    }
    words
}

/// Where a unit or a run begins.
struct Around<'a, 'o> {
    references: &'a References<'a>,
    window: &'a Window<'o>,
    old: u64,
    new: u64,
}

/// What is around a unit.
struct At {
    next_old: u32,
    done: u32,
    left: u32,
}

/// How many bytes a difference of `width` bytes takes, less one, and in the lowest bit whether the rest of it is ones.
fn size(word: u32, width: u32) -> u32 {
    let unused = 32 - 8 * width;
    let signed = (word << unused).cast_signed() >> unused;
    let ones = u32::from(signed < 0);
    let magnitude = (if signed < 0 { !signed } else { signed }).cast_unsigned();
    let bytes = (32 - magnitude.leading_zeros()).div_ceil(8).max(1);
    (bytes - 1) << 1 | ones
}
