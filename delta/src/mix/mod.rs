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

#[cfg(feature = "alloc")]
use alloc::{boxed::Box, vec, vec::Vec};

mod candidates;
mod coder;
#[cfg(feature = "alloc")]
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
pub(crate) use self::detect::programs;
pub(crate) use self::{
    fixes::Fix,
    map::{MovedMap, NarrowSpan, disjoint},
    model::{BEFORE, BEHIND, LEAST_ROOM, Learnt, Memory, Place, Window},
    references::References,
    space::{Region, Space, read as read_regions},
};
#[cfg(feature = "alloc")]
pub(crate) use self::{
    map::{Moved, Span},
    model::PIECE,
    space::Regions,
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

    /// Bytes by which tables exceed those of `other`, table by table.
    pub(crate) fn tables_beyond(self, other: Self) -> u64 {
        let beyond = |own: u8, other: u8, bytes: u64| (bytes << own).saturating_sub(bytes << other);
        beyond(self.slot_bits, other.slot_bits, 2)
            + beyond(self.fix_bits, other.fix_bits, 8)
            + beyond(self.ring_bits, other.ring_bits, 1)
            + beyond(self.head_bits, other.head_bits, 4)
    }

    /// Bytes that a model takes: its tables and itself.
    #[cfg(feature = "alloc")]
    pub(crate) fn memory(self) -> u64 {
        let tables = (2u64 << self.slot_bits) + (8 << self.fix_bits) + (1 << self.ring_bits) + (4 << self.head_bits);
        tables + (size_of::<Model<'_>>() + size_of::<Learnt>()) as u64
    }
}

/// Tables of a model, on the heap.
#[cfg(feature = "alloc")]
pub(crate) struct Tables {
    slots: Vec<u16>,
    fixes: Vec<Fix>,
    ring: Vec<u8>,
    heads: Vec<u32>,
    learnt: Box<Learnt>,
}

#[cfg(feature = "alloc")]
impl Tables {
    /// Tables of the size that `params` state.
    pub(crate) fn new(params: Params) -> Self {
        Self {
            slots: vec![0; 1 << params.slot_bits],
            fixes: vec![Fix::default(); 1 << params.fix_bits],
            ring: vec![0; 1 << params.ring_bits],
            heads: vec![0; 1 << params.head_bits],
            learnt: Box::new(Learnt::unset()),
        }
    }

    /// The memory of one model at a time.
    pub(crate) fn memory(&mut self) -> Memory<'_> {
        Memory {
            slots: &mut self.slots,
            fixes: &mut self.fixes,
            ring: &mut self.ring,
            heads: &mut self.heads,
            learnt: &mut self.learnt,
        }
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
        self.model.copy(&mut self.coder, references, window, place, new.len(), &mut new.to_vec());
    }

    /// Begins with the literals of a command; see [`Decoder::begin_literals`].
    pub(crate) fn begin_literals(&mut self) {
        self.model.begin_literals();
    }

    /// Encodes literals; see [`Decoder::literal`].
    pub(crate) fn literal(&mut self, references: &References, window: Window<'_>, cursor: u64, new: &[u8]) {
        self.model.literal(&mut self.coder, references, window, cursor, new.len(), &mut new.to_vec());
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
pub(crate) struct Decoder<'m, B> {
    model: Model<'m>,
    coder: coder::Decoder<B>,
}

impl<'m, B: Iterator<Item = u8>> Decoder<'m, B> {
    /// Starts a segment at `new_offset`, of which `coded` yields all bytes.
    pub(crate) fn new(memory: Memory<'m>, coded: B, new_offset: u64) -> Self {
        Self { model: Model::new(memory, new_offset), coder: coder::Decoder::new(coded) }
    }

    /// Decodes bytes of a copy into `out`, and returns how many.
    ///
    /// A copy is cut into pieces, see [`Space::piece`], and the next cut is `ahead` bytes away. With room for
    /// all of them `out` is filled. With less, but with [`LEAST_ROOM`], at least one byte is made, and the rest later: that
    /// changes no byte. `window` must hold what the old view has from [`BEFORE`] these bytes up to [`BEHIND`] them.
    pub(crate) fn copy(
        &mut self,
        references: &References,
        window: Window<'_>,
        place: Place,
        ahead: usize,
        out: &mut [u8],
    ) -> usize {
        self.model.copy(&mut self.coder, references, window, place, ahead, out)
    }

    /// Begins with the literals of a command.
    pub(crate) fn begin_literals(&mut self) {
        self.model.begin_literals();
    }

    /// Decodes literals into `out`, cut like a copy, and returns how many. `window` must hold what the old view has from
    /// `cursor` on for as many bytes: that is behind the last copy, as far as literals since then went.
    pub(crate) fn literal(
        &mut self,
        references: &References,
        window: Window<'_>,
        cursor: u64,
        ahead: usize,
        out: &mut [u8],
    ) -> usize {
        self.model.literal(&mut self.coder, references, window, cursor, ahead, out)
    }

    /// Takes note of literals that another codec decoded.
    pub(crate) fn skip(&mut self, bytes: &[u8]) {
        self.model.skip(bytes);
    }

    /// Where coded bytes come from.
    pub(crate) fn source(&mut self) -> &mut B {
        self.coder.source()
    }

    /// Whether all coded bytes were used, as they are after the whole segment.
    pub(crate) fn is_finished(&mut self) -> bool {
        self.coder.is_used_up()
    }
}

/// Decodes anything: for the fuzzer, which sees no private types.
#[cfg(feature = "alloc")]
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    const OLD_LEN: usize = 1 << 14;
    let mut rest = bytes;
    let space = |rest: &mut &[u8]| Regions::read(rest, OLD_LEN as u64).unwrap_or_default();
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
    let moved = Moved::new(spans);
    let references = References { old: old_space.space(), new: new_space.space(), map: moved.map() };
    let mut tables = Tables::new(Params { slot_bits: 10, fix_bits: 6, ring_bits: 10, head_bits: 6 });
    let mut decoder = Decoder::new(tables.memory(), coded.iter().copied(), PIECE);
    let window = Window { bytes: &old, start: 0 };
    let mut made = 0u32;
    for command in &list {
        let mut out = vec![0; command.literal as usize];
        decoder.literal(&references, window, command.old_offset, out.len(), &mut out);
        let mut out = vec![0; command.copy as usize];
        let place = Place { old: command.old_offset, done: 0, left: command.copy };
        decoder.copy(&references, window, place, out.len(), &mut out);
        made += command.literal + command.copy;
    }
    assert!(made <= len, "commands never make more than their segment");
}
