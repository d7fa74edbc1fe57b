//! Codes the commands of a segment: lengths as numbers, places of copies by the shifts that were used before.

use core::{iter::Copied, slice::Iter};

use super::{
    coder::{self, Coder},
    ensemble::{Ensemble, Select, Slots, hash, lanes},
    model::log,
};
use crate::apply::control::Command;

/// Adaptive probabilities of the model: those of the commands of a whole kernel fit.
pub(crate) const COMMAND_SLOTS: usize = 1 << 18;

/// Contexts of a bit.
const CONTEXTS: usize = 8;

/// Shifts that are remembered. Code returns to the shifts of its neighbourhood after every insertion.
const SHIFTS: usize = 12;

/// Bits of the longest number: a distance in a view, with its sign.
const MAX_BITS: u32 = 38;

/// Bits of a number behind its first that are coded in the light of each other; the rest is noise.
const CLEAR_BITS: u32 = 3;

/// What a number is.
#[derive(Clone, Copy)]
enum Number {
    Literal,
    Copy,
    Shift,
}

/// Model of the commands of a segment.
struct Model<'m> {
    slots: Slots<'m>,
    bits: Ensemble<CONTEXTS, 64, { lanes(CONTEXTS) }>,
    /// Shifts (old less new offset) of the last copies, the very last first.
    shifts: [i64; SHIFTS],
    /// Which of them the last copies used.
    used: u32,
    /// The last two numbers of each sort.
    last: [[u64; 2]; 3],
    new_offset: u64,
    old_len: u64,
    /// Output bytes to come.
    left: u32,
}

/// Encodes the commands of segments, which follow each other from the beginning of the new view. Each is given with its length.
#[cfg(any(feature = "generate", test))]
pub(crate) fn encode(slots: &mut [u16], old_len: u64, segments: &[(u32, Vec<Command>)]) -> Vec<u8> {
    let mut model = Model::new(slots, old_len);
    let mut coder = coder::Encoder::new();
    for (len, commands) in segments {
        model.left = *len;
        for command in commands {
            let coded = model.command(&mut coder, *command);
            debug_assert_eq!(coded.ok(), Some(*command), "commands fill their segment and stay in the old view");
        }
    }
    coder.finish()
}

/// Reads the commands of segments.
pub(crate) struct CommandDecoder<'m, 'c> {
    model: Model<'m>,
    coder: coder::Decoder<Copied<Iter<'c, u8>>>,
}

impl<'m, 'c> CommandDecoder<'m, 'c> {
    /// Commands of all segments, from all of their `coded` bytes.
    pub(crate) fn new(slots: &'m mut [u16], coded: &'c [u8], old_len: u64) -> Self {
        Self { model: Model::new(slots, old_len), coder: coder::Decoder::new(coded.iter().copied()) }
    }

    /// Begins with the next segment, of `len` bytes.
    pub(crate) fn begin(&mut self, len: u32) {
        self.model.left = len;
    }

    /// Whether all coded bytes were used, as they are after the last segment.
    pub(crate) fn is_finished(&mut self) -> bool {
        self.coder.is_used_up()
    }

    /// The next command; `None` when the segment is complete. Every command makes output, so this ends.
    pub(crate) fn next(&mut self) -> Result<Option<Command>, &'static str> {
        if self.model.left == 0 {
            return Ok(None);
        }
        self.model.command(&mut self.coder, Command { literal: 0, copy: 0, old_offset: 0 }).map(Some)
    }
}

impl<'m> Model<'m> {
    fn new(slots: &'m mut [u16], old_len: u64) -> Self {
        let mut bits = Ensemble::unset();
        bits.reset();
        Self {
            slots: Slots::new(slots),
            bits,
            shifts: [0; SHIFTS],
            used: 0,
            last: [[0; 2]; 3],
            new_offset: 0,
            old_len,
            left: 0,
        }
    }

    fn command(&mut self, coder: &mut impl Coder, command: Command) -> Result<Command, &'static str> {
        let literal = self.number(coder, Number::Literal, 0, u64::from(command.literal));
        let literal = self.take(literal)?;
        if self.left == 0 {
            return Ok(Command { literal, copy: 0, old_offset: command.old_offset });
        }
        let place = self.new_offset.cast_signed();
        let shift = self.shift(coder, literal, command.old_offset.cast_signed().wrapping_sub(place))?;
        let copy = self.number(coder, Number::Copy, literal, u64::from(command.copy.saturating_sub(1)));
        let copy = self.take(copy + 1)?;
        let old_offset = u64::try_from(place.wrapping_add(shift)).map_err(|_| "a copy starts before the old view")?;
        if old_offset.saturating_add(u64::from(copy)) > self.old_len {
            return Err("a copy reaches past the old view");
        }
        Ok(Command { literal, copy, old_offset })
    }

    /// A length, taken off what the segment still lacks.
    fn take(&mut self, len: u64) -> Result<u32, &'static str> {
        let len = u32::try_from(len).map_err(|_| "a command is longer than the segment")?;
        self.left = self.left.checked_sub(len).ok_or("a command is longer than the segment")?;
        self.new_offset += u64::from(len);
        Ok(len)
    }

    /// The shift of a copy: one of the last, one byte sequence inserted, or a new one as its distance from the last.
    fn shift(&mut self, coder: &mut impl Coder, literal: u32, shift: i64) -> Result<i64, &'static str> {
        let [last, ..] = self.shifts;
        // What was literal is new: the old view goes on where it was.
        let inserted = last.wrapping_sub(i64::from(literal));
        let known = self.shifts;
        let candidates = [inserted].into_iter().chain(known);
        let mut found = None;
        for (n, candidate) in (0u32..).zip(candidates) {
            let again = u32::from(n > 1 && known.iter().take(n as usize - 1).any(|&shift| shift == candidate));
            if again == 1 || (n == 1 && literal == 0) {
                continue;
            }
            let near = log(candidate.wrapping_sub(last).unsigned_abs());
            let seed = |number: u32| hash(0x6100 + number, n);
            let contexts = [
                seed(0),
                hash(seed(1), self.used & 0xf),
                hash(seed(2), self.used & 0xff),
                hash(seed(3), log(literal.into())),
                hash(seed(4), log(self.last(Number::Copy)[0]) | (self.used & 0xf) << 8),
                hash(seed(5), near | (literal & 3) << 8),
                hash(seed(6), self.used & 0xfff),
                hash(seed(7), near | log(literal.into()) << 8),
            ];
            let select = Select { first: n as usize, second: (self.used & 0xf) as usize, correction: n as usize };
            if self.bits.bit(&mut self.slots, &contexts, select, coder, u32::from(candidate == shift)) == 1 {
                found = Some((n, candidate));
                break;
            }
        }
        let (n, shift) = match found {
            Some(found) => found,
            None => {
                let step = shift.wrapping_sub(last);
                let coded = self.number(coder, Number::Shift, literal, ((step << 1) ^ (step >> 63)).cast_unsigned());
                let step = (coded >> 1).cast_signed() ^ -((coded & 1).cast_signed());
                (15, last.checked_add(step).ok_or("a copy starts outside of the old view")?)
            }
        };
        self.used = self.used << 4 | n;
        let place = known.iter().position(|&known| known == shift).unwrap_or(SHIFTS - 1);
        if let Some(front) = self.shifts.get_mut(..=place) {
            front.rotate_right(1);
        }
        if let Some(first) = self.shifts.first_mut() {
            *first = shift;
        }
        Ok(shift)
    }

    fn last(&self, sort: Number) -> [u64; 2] {
        self.last.get(sort as usize).copied().unwrap_or_default()
    }

    /// A number: how many bits it has, then the bits behind the first.
    fn number(&mut self, coder: &mut impl Coder, sort: Number, literal: u32, number: u64) -> u64 {
        let [last, before] = self.last(sort).map(|number| number + 1);
        let number = number.saturating_add(1);
        let at = (self.new_offset & 3) as u32;
        let which = sort as u32;
        let seed = |number: u32| hash(0x6000 + number, which);
        let contexts = [
            seed(0),
            hash(seed(1), log(last)),
            hash(seed(2), log(last) | log(before) << 8),
            hash(seed(3), log(literal.into()) | (self.used & 0xf) << 8),
            hash(seed(4), log(literal.into()) | at << 8),
            hash(seed(5), last as u32),
            hash(seed(6), self.used & 0xff),
            hash(seed(7), log(self.last(Number::Literal)[0]) | log(self.last(Number::Copy)[0]) << 8),
        ];
        let select = |bits: u32| Select {
            first: 16 + which as usize,
            second: 16 + (log(bits.into()) as usize & 7),
            correction: 16 + which as usize,
        };
        let len = self.bits.bits::<6>(&mut self.slots, &contexts, select, coder, log(number)).min(MAX_BITS);
        let mut known = 1u64;
        for n in (0..len).rev() {
            let clear = len - n <= CLEAR_BITS;
            let low = n < 2;
            // The highest bits depend on the size, the lowest on the alignment; those between are noise.
            let what = len | n << 8 | u32::from(clear) << 16;
            let prefix = if clear { known as u32 } else { 0 };
            let tail = if low { (known as u32 & 1) << (1 - n) | at << 4 | 0x100 } else { 0 };
            let seed = |number: u32| hash(hash(0x6200 + number, which), what);
            let contexts = [
                seed(0),
                hash(seed(1), prefix),
                hash(seed(2), tail | (literal & 3) << 16),
                hash(hash(seed(3), prefix), tail),
                hash(hash(seed(4), prefix), self.used & 0xf),
                hash(hash(seed(5), known as u32), last as u32),
                hash(hash(seed(6), known as u32), which),
                hash(hash(seed(7), prefix), log(last)),
            ];
            let select = Select {
                first: 32 + (which as usize) * 4 + usize::from(clear) * 2 + usize::from(low),
                second: 24 + (n as usize).min(31),
                correction: 20 + (n as usize).min(11),
            };
            let bit = self.bits.bit(&mut self.slots, &contexts, select, coder, (number >> n & 1) as u32);
            known = known << 1 | u64::from(bit);
        }
        let number = known - 1;
        if let Some(entry) = self.last.get_mut(sort as usize) {
            *entry = [number, entry[0]];
        }
        number
    }
}
