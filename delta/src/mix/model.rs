//! The model of a segment: predicts copies word by word and literals byte by byte, for an encoder or a decoder.

use super::{
    coder::Coder,
    copies::{Copies, RUN_BYTES},
    ensemble::Slots,
    fixes::{Fix, Fixes},
    history::History,
    literals::Literals,
    references::References,
};

/// Memory of a model. How much there is of each decides the size of a patch, and both sides need the same.
pub(crate) struct Memory<'m> {
    /// Adaptive probabilities.
    pub slots: &'m mut [u16],
    /// Remembered differences.
    pub fixes: &'m mut [Fix],
    /// Output to find strings in.
    pub ring: &'m mut [u8],
    /// Where its strings are.
    pub heads: &'m mut [u32],
    /// What is learnt beside the tables.
    pub learnt: &'m mut Learnt,
}

/// What a model learns beside its tables. It is too large for a small stack, so it is reset in place.
pub(crate) struct Learnt {
    copies: Copies,
    literals: Literals,
}

impl Learnt {
    /// To be given to a model, which resets it.
    pub(crate) const fn unset() -> Self {
        Self { copies: Copies::unset(), literals: Literals::unset() }
    }
}

/// A piece of the old view.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window<'o> {
    /// Its bytes.
    pub bytes: &'o [u8],
    /// Its offset in the view.
    pub start: u64,
}

/// Bytes of the old view before a copied piece that its window must hold, as far as the view has them.
pub(crate) const BEFORE: u64 = 8;

/// Bytes of the old view behind a copied piece that its window must hold, as far as the view has them.
pub(crate) const BEHIND: u64 = 40;

/// A copy may be handed over in pieces, cut where the address of the new offset is a multiple of this.
pub(crate) const PIECE: u64 = 4096;

/// Room for the output of a piece that is handed over in parts.
pub(crate) const LEAST_ROOM: usize = RUN_BYTES;

impl Window<'_> {
    /// The four bytes at `offset`, lowest first; what the window does not have is 0.
    #[inline]
    pub(crate) fn word(&self, offset: u64) -> u32 {
        let at = offset.wrapping_sub(self.start);
        let from = usize::try_from(at).ok().and_then(|at| self.bytes.get(at..));
        match from {
            Some([a, b, c, d, ..]) => u32::from_le_bytes([*a, *b, *c, *d]),
            Some(rest) => rest.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte)),
            None => {
                // The word may begin before the window does.
                (0..4).rev().fold(0, |word, n| word << 8 | u32::from(self.byte(offset.wrapping_add(n))))
            }
        }
    }

    /// The byte at `offset`.
    #[inline]
    pub(crate) fn byte(&self, offset: u64) -> u8 {
        let at = offset.wrapping_sub(self.start);
        usize::try_from(at).ok().and_then(|at| self.bytes.get(at)).copied().unwrap_or(0)
    }
}

/// A number's size in bits, less one.
pub(crate) fn log(number: u64) -> u32 {
    (number | 1).ilog2()
}

/// Where a copy stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Offset in the old view of the next byte.
    pub old: u64,
    /// Bytes of the copy that are done.
    pub done: u32,
    /// Bytes of the copy to come.
    pub left: u32,
}

/// Models the output of one segment, in order.
pub(crate) struct Model<'m> {
    slots: Slots<'m>,
    fixes: Fixes<'m>,
    history: History<'m>,
    learnt: &'m mut Learnt,
    /// Offset of the next byte in the new view.
    new_offset: u64,
}

impl<'m> Model<'m> {
    /// A model at the start of a segment.
    pub(crate) fn new(memory: Memory<'m>, new_offset: u64) -> Self {
        let Memory { slots, fixes, ring, heads, learnt } = memory;
        learnt.copies.reset();
        learnt.literals.reset();
        Self {
            slots: Slots::new(slots),
            fixes: Fixes::new(fixes),
            history: History::new(ring, heads),
            learnt,
            new_offset,
        }
    }

    /// Codes bytes of a copy, of which `ahead` come before the next cut. `out` holds the new bytes for an encoder, and receives
    /// them from a decoder. Returns how many: all, or with less room than `ahead` perhaps less.
    pub(crate) fn copy(
        &mut self,
        coder: &mut impl Coder,
        references: &References,
        window: Window<'_>,
        place: Place,
        ahead: usize,
        out: &mut [u8],
    ) -> usize {
        let (copies, slots, fixes) = (&mut self.learnt.copies, &mut self.slots, &mut self.fixes);
        let done = copies.code(coder, slots, fixes, references, window, place, self.new_offset, ahead, out);
        // Strings that begin at a word are remembered, as words stand in the program.
        let address = references.new.address_of(self.new_offset);
        for (behind, byte) in (1..).zip(out.iter().take(done)) {
            self.history.push(*byte);
            if address.wrapping_add(behind).is_multiple_of(4) {
                self.history.remember();
            }
        }
        self.new_offset += done as u64;
        done
    }

    /// Begins with the literals of a command.
    pub(crate) fn begin_literals(&mut self) {
        self.learnt.literals.begin();
    }

    /// Codes literals, as [`Model::copy`] does copies. `window` shows the old view behind the last copy, where `cursor` is.
    pub(crate) fn literal(
        &mut self,
        coder: &mut impl Coder,
        references: &References,
        window: Window<'_>,
        cursor: u64,
        ahead: usize,
        out: &mut [u8],
    ) -> usize {
        let (literals, slots, history) = (&mut self.learnt.literals, &mut self.slots, &mut self.history);
        let done = literals.code(coder, slots, history, references, window, cursor, self.new_offset, ahead, out);
        self.new_offset += done as u64;
        done
    }

    /// Takes note of literals that another codec made.
    pub(crate) fn skip(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.history.push(*byte);
            self.history.remember();
        }
        self.new_offset += bytes.len() as u64;
    }
}
