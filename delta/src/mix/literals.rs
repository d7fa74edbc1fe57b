//! Codes literals byte by byte: contexts of the bytes before, of earlier occurrences, and of what the old view has there.

use super::{
    coder::Coder,
    ensemble::{Ensemble, Select, Slots, hash},
    history::History,
    model::Window,
};

/// Contexts of a byte.
const CONTEXTS: usize = 15;

/// A place that predicts the next byte.
#[derive(Clone, Copy, Default)]
struct Guess {
    place: u32,
    /// Bytes that agreed before it; 0 when there is no guess.
    len: u32,
}

/// Model of all literals of a segment.
pub(crate) struct Literals {
    bytes: Ensemble<CONTEXTS, 64>,
    guesses: [Guess; 2],
    /// Bytes before the next that agreed with the old view.
    agreed: u32,
    /// Letters since the last other byte.
    word: u32,
}

impl Literals {
    pub(crate) fn new() -> Self {
        Self { bytes: Ensemble::new(), guesses: [Guess::default(); 2], agreed: 0, word: 0 }
    }

    /// Begins with the literals of a command.
    pub(crate) fn begin(&mut self) {
        self.guesses = [Guess::default(); 2];
        self.agreed = 0;
    }

    /// Codes the next literals, `out`; each is put into the history.
    #[expect(clippy::too_many_arguments, reason = "one call site; they are the parts of the model, borrowed apart")]
    pub(crate) fn code(
        &mut self,
        coder: &mut impl Coder,
        slots: &mut Slots<'_>,
        history: &mut History<'_>,
        window: Window<'_>,
        cursor: u64,
        new_offset: u64,
        out: &mut [u8],
    ) {
        for (n, place) in out.iter_mut().enumerate() {
            for (guess, long) in self.guesses.iter_mut().zip([true, false]) {
                if guess.len == 0
                    && let Some((place, len)) = history.find(long)
                {
                    *guess = Guess { place, len };
                }
            }
            let agreed = self.agreed;
            let [long, short] = self.guesses.map(|guess| {
                if guess.len == 0 { 0 } else { u32::from(history.byte(guess.place)) | (guess.len.min(15) + 1) << 8 }
            });
            let old = u32::from(window.byte(cursor + n as u64));
            let recent = history.recent;
            let (last, before) = (recent as u32, (recent >> 32) as u32);
            let at = (new_offset + n as u64) as u32 & 3;
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
                hash(hash(seed(11), long), 0),
                hash(hash(seed(12), short), long & 0xff),
                hash(hash(seed(13), old), last & 0xff | agreed.min(7) << 8),
                hash(hash(seed(14), at), last & 0xffff | (last >> 24) << 16),
            ];
            let strength = [0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3];
            let strength = strength.get((long >> 8) as usize).copied().unwrap_or(0);
            let expected = (if long >> 8 > 0 { long } else { short }) & 0xff | 0x100;
            let some = long | short != 0;
            let select = |bits: u32| {
                let known = bits.ilog2();
                // Whether the expected byte still fits the bits that are known.
                let fits = u32::from(some && expected >> (8 - known) == bits);
                Select {
                    first: strength << 3 | (at as usize) << 1 | fits as usize,
                    second: known as usize & 7 | (agreed.min(3) as usize) << 3,
                    correction: strength << 1 | fits as usize,
                }
            };
            *place = self.bytes.byte(slots, &contexts, select, coder, *place);
            self.agreed = if u32::from(*place) == old { agreed + 1 } else { 0 };
            for guess in &mut self.guesses {
                if guess.len > 0 {
                    let right = history.byte(guess.place) == *place;
                    *guess =
                        if right { Guess { place: guess.place + 1, len: guess.len + 1 } } else { Guess::default() };
                }
            }
            let letter = place.is_ascii_alphanumeric() || *place >= 0x80;
            self.word = if letter { hash(self.word, u32::from(*place)) } else { 0 };
            history.push(*place);
            history.remember();
        }
    }
}
