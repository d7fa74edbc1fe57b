//! The old-aware coder: mixes contexts of the old view, of what moved where, and of the output so far.
//!
//! A segment is coded in output order, copies and literals in one stream. Predictions use the commands of *all* segments
//! ([`References`]): a branch, an address or a pointer is predicted by where its target went. Encoder and decoder run one
//! model. It works in integers of stated width only, so its output is the same on every processor.

#![expect(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "probabilities and logits have 17 bits, offsets of views 36"
)]

use alloc::{vec, vec::Vec};

mod candidates;
mod coder;
pub(crate) mod commands;
mod copies;
#[cfg(feature = "generate")]
#[allow(clippy::indexing_slicing, reason = "reads images to make patches from, on the server")]
mod detect;
mod ensemble;
mod fixes;
mod history;
mod isa;
mod literals;
mod logistic;
mod map;
mod model;
#[cfg(feature = "generate")]
#[allow(clippy::indexing_slicing, reason = "reads images to make patches from, on the server")]
pub(crate) mod normal;
mod references;
mod space;
#[cfg(test)]
mod tests;
mod units;

#[cfg(feature = "generate")]
pub(crate) use self::detect::space_of_parts;
pub(crate) use self::{
    fixes::Fix,
    map::{MovedMap, Span},
    model::{BEFORE, BEHIND, Memory, PIECE, Place, Window},
    references::References,
    space::Space,
};

use self::model::Model;

/// How much memory a model has. Part of a patch: both sides need the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// Adaptive probabilities, two bytes each, as a power of two.
    pub slot_bits: u8,
    /// Remembered differences, eight bytes each, as a power of two.
    pub fix_bits: u8,
    /// Output to find strings in, as a power of two.
    pub ring_bits: u8,
    /// Places of strings, four bytes each, as a power of two.
    pub head_bits: u8,
}

/// Most of any table, as a power of two. Stops parameters that ask for gigabytes.
const MAX_TABLE_BITS: u8 = 26;

impl Params {
    /// For devices with an operating system, and a new view of `len` bytes: more memory than it can fill gains nothing.
    #[cfg(any(feature = "generate", test))]
    pub(crate) fn small(len: usize) -> Self {
        let bits = (len.max(1).ilog2() + 2) as u8;
        Self {
            slot_bits: bits.clamp(16, 20),
            fix_bits: bits.clamp(12, 16),
            ring_bits: bits.clamp(12, 22),
            head_bits: bits.clamp(12, 18),
        }
    }

    /// For microcontrollers.
    #[cfg(any(feature = "generate", test))]
    pub(crate) const MCU: Self = Self { slot_bits: 12, fix_bits: 8, ring_bits: 11, head_bits: 8 };

    /// Four bytes for a patch.
    #[cfg(any(feature = "generate", test))]
    pub(crate) fn to_bytes(self) -> [u8; 4] {
        [self.slot_bits, self.fix_bits, self.ring_bits, self.head_bits]
    }

    /// Parameters from four bytes of a patch.
    pub(crate) fn from_bytes(bytes: [u8; 4]) -> Option<Self> {
        let [slot_bits, fix_bits, ring_bits, head_bits] = bytes;
        bytes.iter().all(|&bits| bits <= MAX_TABLE_BITS).then_some(Self { slot_bits, fix_bits, ring_bits, head_bits })
    }

    /// Bytes that a model takes: its tables and itself.
    pub(crate) fn memory(self) -> u64 {
        let tables = (2u64 << self.slot_bits) + (8 << self.fix_bits) + (1 << self.ring_bits) + (4 << self.head_bits);
        tables + core::mem::size_of::<Model<'_>>() as u64
    }
}

/// Tables of a model, on the heap.
#[derive(Debug)]
pub(crate) struct Tables {
    slots: Vec<u16>,
    fixes: Vec<Fix>,
    ring: Vec<u8>,
    heads: Vec<u32>,
}

impl Tables {
    /// Tables of the size that `params` state.
    pub(crate) fn new(params: Params) -> Self {
        Self {
            slots: vec![0; 1 << params.slot_bits],
            fixes: vec![Fix::default(); 1 << params.fix_bits],
            ring: vec![0; 1 << params.ring_bits],
            heads: vec![0; 1 << params.head_bits],
        }
    }

    /// The memory of one model at a time.
    pub(crate) fn memory(&mut self) -> Memory<'_> {
        Memory { slots: &mut self.slots, fixes: &mut self.fixes, ring: &mut self.ring, heads: &mut self.heads }
    }
}

/// Encodes a segment, piece by piece in output order.
#[cfg(any(feature = "generate", test))]
pub(crate) struct Encoder<'m> {
    model: Model<'m>,
    coder: coder::Encoder,
}

#[cfg(any(feature = "generate", test))]
impl<'m> Encoder<'m> {
    /// Starts a segment at `new_offset`.
    pub(crate) fn new(memory: Memory<'m>, new_offset: u64) -> Self {
        Self { model: Model::new(memory, new_offset), coder: coder::Encoder::new() }
    }

    /// Encodes a piece of a copy; see [`Decoder::copy`].
    pub(crate) fn copy(&mut self, references: &References, window: Window<'_>, place: Place, new: &[u8]) {
        self.model.copy(&mut self.coder, references, window, place, &mut new.to_vec());
    }

    /// Begins with the literals of a command; see [`Decoder::begin_literals`].
    pub(crate) fn begin_literals(&mut self) {
        self.model.begin_literals();
    }

    /// Encodes literals; see [`Decoder::literal`].
    pub(crate) fn literal(&mut self, references: &References, window: Window<'_>, cursor: u64, new: &[u8]) {
        self.model.literal(&mut self.coder, references, window, cursor, &mut new.to_vec());
    }

    /// Takes note of literals that are coded elsewhere.
    pub(crate) fn skip(&mut self, new: &[u8]) {
        self.model.skip(new);
    }

    /// The coded bytes.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.coder.finish()
    }
}

/// Decodes a segment, piece by piece in output order.
pub(crate) struct Decoder<'m, 'c> {
    model: Model<'m>,
    coder: coder::Decoder<'c>,
}

impl<'m, 'c> Decoder<'m, 'c> {
    /// Starts a segment at `new_offset`, of which `coded` holds all bytes.
    pub(crate) fn new(memory: Memory<'m>, coded: &'c [u8], new_offset: u64) -> Self {
        Self { model: Model::new(memory, new_offset), coder: coder::Decoder::new(coded) }
    }

    /// Decodes a piece of a copy into `out`.
    ///
    /// A copy may be handed over in pieces, see [`Space::piece`]. `window` must hold what
    /// the old view has from [`BEFORE`] the piece up to [`BEHIND`] it.
    pub(crate) fn copy(&mut self, references: &References, window: Window<'_>, place: Place, out: &mut [u8]) {
        self.model.copy(&mut self.coder, references, window, place, out);
    }

    /// Begins with the literals of a command.
    pub(crate) fn begin_literals(&mut self) {
        self.model.begin_literals();
    }

    /// Decodes literals into `out`, in pieces like those of a copy. `window` must hold what the old view has from `cursor`, the end of the last copy, on for as
    /// many bytes.
    pub(crate) fn literal(&mut self, references: &References, window: Window<'_>, cursor: u64, out: &mut [u8]) {
        self.model.literal(&mut self.coder, references, window, cursor, out);
    }

    /// Takes note of literals that another codec decoded.
    pub(crate) fn skip(&mut self, bytes: &[u8]) {
        self.model.skip(bytes);
    }

    /// Whether all coded bytes were used, as they are after the whole segment.
    pub(crate) fn is_finished(&self) -> bool {
        self.coder.is_used_up()
    }
}

/// Decodes anything: for the fuzzer, which sees no private types.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    const OLD_LEN: usize = 1 << 14;
    let mut rest = bytes;
    let space = |rest: &mut &[u8]| Space::read(rest, OLD_LEN as u64).unwrap_or_default();
    let (old_space, new_space) = (space(&mut rest), space(&mut rest));
    let (control, coded) = rest.split_at(rest.len() / 4);
    // The old view is made of the input too, so that it holds whatever instructions the fuzzer thinks of.
    let old: Vec<u8> = bytes.iter().copied().cycle().take(if bytes.is_empty() { 0 } else { OLD_LEN }).collect();
    let len = 1 << 13;
    let mut slots = vec![0; 1 << 10];
    let mut decoder = commands::CommandDecoder::new(&mut slots, control, old.len() as u64);
    decoder.begin(len);
    let mut list = Vec::new();
    while let Ok(Some(command)) = decoder.next() {
        list.push(command);
    }
    let mut spans = Vec::new();
    let mut at = PIECE;
    for command in &list {
        at += u64::from(command.literal);
        spans.push(Span { old: command.old_offset, len: u64::from(command.copy), new: at });
        at += u64::from(command.copy);
    }
    let references = References { old: old_space, new: new_space, map: MovedMap::new(spans) };
    let mut tables = Tables::new(Params { slot_bits: 10, fix_bits: 6, ring_bits: 10, head_bits: 6 });
    let mut decoder = Decoder::new(tables.memory(), coded, PIECE);
    let window = Window { bytes: &old, start: 0 };
    let mut made = 0u32;
    for command in &list {
        let mut out = vec![0; command.literal as usize];
        decoder.literal(&references, window, command.old_offset, &mut out);
        let mut out = vec![0; command.copy as usize];
        decoder.copy(&references, window, Place { old: command.old_offset, done: 0, left: command.copy }, &mut out);
        made += command.literal + command.copy;
    }
    assert!(made <= len, "commands never make more than their segment");
}
