//! Codes literals: contexts of the bytes before, of earlier occurrences, and of what the old view has there. AArch64 code
//! is coded by instructions, from the operation down, with branches as their targets.

use super::{
    coder::Coder,
    ensemble::{Ensemble, Select, Slots, hash, lanes},
    history::History,
    isa,
    model::Window,
    references::References,
    space::Isa,
};

/// Contexts of a byte.
const CONTEXTS: usize = 15;

/// A place that predicts what comes next.
#[derive(Clone, Copy, Default)]
struct Guess {
    place: u32,
    /// Bytes that agreed before it; 0 when there is no guess.
    len: u32,
}

/// Model of all literals of a segment.
pub(crate) struct Literals {
    bytes: Ensemble<CONTEXTS, 32, { lanes(CONTEXTS) }>,
    guesses: [Guess; 2],
    /// Letters since the last other byte.
    word: u32,
    /// Bytes since the old view said something else.
    agreed: u32,
}

/// The parts of the model that literals use.
struct Parts<'a, 'm, C> {
    coder: &'a mut C,
    slots: &'a mut Slots<'m>,
    history: &'a mut History<'m>,
}

impl Literals {
    /// All zeros, to be [`reset`](Self::reset) before use.
    pub(crate) const fn unset() -> Self {
        Self { bytes: Ensemble::unset(), guesses: [Guess { place: 0, len: 0 }; 2], word: 0, agreed: 0 }
    }

    /// Forgets everything.
    pub(crate) fn reset(&mut self) {
        let Self { bytes, guesses, word, agreed } = self;
        bytes.reset();
        (*guesses, *word, *agreed) = ([Guess::default(); 2], 0, 0);
    }

    /// Begins with the literals of a command.
    pub(crate) fn begin(&mut self) {
        self.guesses = [Guess::default(); 2];
        self.agreed = 0;
    }

    /// Codes literals, of which `ahead` come before the next cut; each is put into the history. Returns how many: all, or as
    /// many as `out` has room for when the next might need more.
    #[expect(clippy::too_many_arguments, reason = "one call site; they are the parts of the model, borrowed apart")]
    pub(crate) fn code<'m>(
        &mut self,
        coder: &mut impl Coder,
        slots: &mut Slots<'m>,
        history: &mut History<'m>,
        references: &References,
        window: Window<'_>,
        cursor: u64,
        new_offset: u64,
        ahead: usize,
        out: &mut [u8],
    ) -> usize {
        let mut parts = Parts { coder, slots, history };
        let mut done = 0usize;
        while done < out.len() && (out.len() - done >= 4 || out.len() >= ahead) {
            let new = new_offset + done as u64;
            let old = cursor + done as u64;
            let number = references.new.find(new);
            let address = references.new.address(number, new.cast_signed());
            let rest = out.get_mut(done..).unwrap_or_default();
            let recent = parts.history.recent;
            let after_code =
                [recent as u32, (recent >> 32) as u32].iter().all(|word| isa::a64_likely(word.swap_bytes()));
            let in_code = references.new.region(number).isa == Isa::A64 && address.is_multiple_of(4);
            let instructions = in_code && after_code && isa::a64_likely(window.word(old));
            match rest {
                [a, b, c, d, ..] if instructions => {
                    let actual = u32::from_le_bytes([*a, *b, *c, *d]);
                    let coded = self.instruction(&mut parts, window.word(old), address, actual);
                    [*a, *b, *c, *d] = coded.to_le_bytes();
                    done += 4;
                }
                [byte, ..] => {
                    *byte = self.byte(&mut parts, window.byte(old), address, *byte);
                    done += 1;
                }
                [] => break,
            }
        }
        done
    }

    /// Looks for earlier occurrences of what was last, where there is no guess.
    fn guess(&mut self, history: &mut History<'_>) {
        for (guess, long) in self.guesses.iter_mut().zip([true, false]) {
            if guess.len == 0
                && let Some((place, len)) = history.find(long)
            {
                *guess = Guess { place, len };
            }
        }
    }

    /// Holds the guesses against a byte, and puts it into the history.
    fn learn(&mut self, history: &mut History<'_>, byte: u8, old: u8) {
        self.agreed = if byte == old { self.agreed + 1 } else { 0 };
        for guess in &mut self.guesses {
            if guess.len > 0 {
                let right = history.byte(guess.place) == byte;
                *guess = if right { Guess { place: guess.place + 1, len: guess.len + 1 } } else { Guess::default() };
            }
        }
        let letter = byte.is_ascii_alphanumeric() || byte >= 0x80;
        self.word = if letter { hash(self.word, u32::from(byte)) } else { 0 };
        history.push(byte);
        history.remember();
    }

    #[inline(never)] // A small stack need not hold all frames at once.
    fn byte<C: Coder>(&mut self, parts: &mut Parts<'_, '_, C>, old: u8, address: u64, actual: u8) -> u8 {
        self.guess(parts.history);
        let [long, short] = self.guesses.map(|guess| {
            if guess.len == 0 { 0 } else { u32::from(parts.history.byte(guess.place)) | (guess.len.min(15) + 1) << 8 }
        });
        let recent = parts.history.recent;
        let (last, before) = (recent as u32, (recent >> 32) as u32);
        let at = address as u32 & 3;
        let seed = |number: u32| 0x4000 + number;
        let contexts = [
            hash(seed(0), at),
            hash(seed(1), last & 0xff),
            hash(seed(2), last & 0xffff),
            hash(seed(3), last & 0xff_ffff),
            hash(seed(4), last),
            hash(hash(seed(5), last), before & 0xff),
            hash(hash(seed(6), last), before & 0xffff),
            hash(hash(seed(7), self.word), last & 0xff),
            hash(hash(seed(8), at), last >> 24 | (before >> 24) << 8),
            hash(hash(seed(9), at), last >> 8 & 0xffff),
            hash(hash(seed(10), at), (last & 0xff) | (last >> 24) << 8),
            hash(seed(11), long),
            hash(hash(seed(12), short), long & 0xff),
            hash(hash(seed(13), old.into()), last & 0xff | self.agreed.min(7) << 8),
            hash(hash(seed(14), at), last & 0xffff | (last >> 24) << 16),
        ];
        let select = self.select(long, short, at);
        let byte = self.bytes.byte(parts.slots, &contexts, select, parts.coder, actual);
        self.learn(parts.history, byte, old);
        byte
    }

    /// An instruction at `address`, where the old view has `old`.
    #[inline(never)] // A small stack need not hold all frames at once.
    fn instruction<C: Coder>(&mut self, parts: &mut Parts<'_, '_, C>, old: u32, address: u64, actual: u32) -> u32 {
        self.guess(parts.history);
        let history = &*parts.history;
        // What earlier occurrences say, as it would be here.
        let guesses = self.guesses.map(|guess| {
            let bytes = [0, 1, 2, 3].map(|n| history.byte(guess.place.wrapping_add(n)));
            let back = u64::from(history.len().wrapping_sub(guess.place));
            (isa::a64_absolute(u32::from_le_bytes(bytes), address.wrapping_sub(back)), guess.len)
        });
        let before = |n: u32| {
            let word = (history.recent >> (32 * (n - 1))) as u32;
            isa::a64_absolute(word.swap_bytes(), address.wrapping_sub(4 * u64::from(n)))
        };
        let (first, second) = (before(1), before(2));
        let goal = isa::a64_absolute(actual, address);
        let mut known = 0u32;
        for n in (0..4u32).rev() {
            let above = if n == 3 { 0 } else { u32::MAX << (8 * n + 8) };
            let [long, short] = guesses.map(|(word, len)| {
                let fits = len > 0 && word & above == known;
                if fits { word >> (8 * n) & 0xff | (len.min(15) + 1) << 8 } else { 0 }
            });
            let stays = if old & above == known { old >> (8 * n) & 0xff | 0x100 } else { 0 };
            let seed = |number: u32| hash(0x7000 + number * 4 + n, known);
            let contexts = [
                seed(0),
                hash(seed(1), first >> 21),
                hash(seed(2), first),
                hash(hash(seed(3), first), second),
                hash(hash(seed(4), first >> 21), second >> 21),
                hash(seed(5), first & 0x3ff),
                hash(seed(6), first & 0x1f | (second & 0x1f) << 5 | (first >> 24) << 10),
                hash(seed(7), first >> 24 | (second >> 24) << 8),
                hash(hash(seed(8), first >> 10), second >> 21),
                hash(seed(9), first & 0x1f | (first >> 21) << 5),
                hash(hash(0x7100 + n, first >> 24), known >> 24),
                hash(hash(0x7110 + n, long), 1),
                hash(hash(0x7120 + n, short), long & 0xff),
                hash(hash(0x7130 + n, stays), self.agreed.min(7)),
                hash(hash(seed(14), second), 1),
            ];
            let select = self.select(long, short, n);
            let coded = self.bytes.byte(parts.slots, &contexts, select, parts.coder, (goal >> (8 * n)) as u8);
            known |= u32::from(coded) << (8 * n);
        }
        let word = isa::a64_relative(known, address);
        for (byte, old) in word.to_le_bytes().into_iter().zip(old.to_le_bytes()) {
            self.learn(parts.history, byte, old);
        }
        word
    }

    /// Weights for a byte at place `at` of its word, given what the guesses say of it.
    fn select(&self, long: u32, short: u32, at: u32) -> impl Fn(u32) -> Select + use<> {
        let strength = match long >> 8 {
            0 => 0,
            1..=6 => 1,
            7..=11 => 2,
            _ => 3usize,
        };
        let expected = (if long >> 8 > 0 { long } else { short }) & 0xff | 0x100;
        let some = long | short != 0;
        let agreed = self.agreed.min(3) as usize;
        move |bits: u32| {
            let known = bits.ilog2();
            // Whether the expected byte still fits the bits that are known.
            let fits = usize::from(some && expected >> (8 - known) == bits);
            Select {
                first: strength << 3 | (at as usize) << 1 | fits,
                second: known as usize & 7 | agreed << 3,
                correction: strength << 1 | fits,
            }
        }
    }
}
