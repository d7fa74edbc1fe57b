//! The encoding side of the context-mixing coder: what it knows of both views, and one segment at a time.

use super::{changes::Changes, layout::Layout, options::Profile, parse::Piece, views::Kept};
use crate::head::MapBound;
use crate::limits::MAX_REFERENCES_LEN;
use crate::mcu;
use crate::mix::{
    BEFORE, BEHIND, Encoder, Moved, NarrowSpan, Params, Place, References, Region, Regions, Space, Span, Tables,
    Window, disjoint, normal,
};

/// What is known of both views.
pub(crate) struct Mixer {
    layouts: [Layout; 2],
    old: Regions,
    new: Regions,
    moved: Moved,
    pub params: Params,
    /// Bound of what is known of moves, for devices whose memory is small.
    pub bound: Option<MapBound>,
    small: bool,
}

impl Mixer {
    /// Knows the programs of both views, which have these lengths. Nothing is known yet of what moved where.
    pub(crate) fn new(layouts: [Layout; 2], lens: [usize; 2], params: Params, profile: Profile) -> Self {
        let small = profile == Profile::Mcu;
        let [old, new] = [0, 1].map(|side| regions(&layouts[side].regions(), lens[side], small));
        Self { layouts, old, new, moved: Moved::default(), params, bound: None, small }
    }

    /// The same for an old view of which only `kept` is left.
    pub(crate) fn pruned(self, kept: &Kept) -> Self {
        let [old, new] = self.layouts;
        Self { layouts: [old.pruned(kept), new], ..self }
    }

    /// Forgets programs that stay as they are: what differs between views of these lengths is all in the others.
    pub(crate) fn only_changed(&mut self, lens: [usize; 2], changes: &Changes) {
        let [old, new] = self.layouts.each_ref().map(Layout::regions);
        let mut least = 1;
        loop {
            self.old = regions(&changes.old_programs(&old, least), lens[0], self.small);
            self.new = regions(&changes.new_programs(&new, least), lens[1], self.small);
            if self.regions().len() <= MAX_REFERENCES_LEN as usize {
                return;
            }
            least *= 2;
        }
    }

    /// Learns what moved where.
    pub(crate) fn moved(&mut self, segments: &[Vec<Piece>], starts: impl Iterator<Item = u64>) {
        let mut spans = Vec::new();
        for (pieces, start) in segments.iter().zip(starts) {
            for piece in pieces {
                let Some(shift) = piece.shift else { continue };
                spans.push(Span {
                    old: (piece.start as i64 + shift).cast_unsigned(),
                    len: (piece.end - piece.start) as u64,
                    new: start + piece.start as u64,
                });
            }
        }
        if self.small {
            let bound = bound(&spans);
            spans.retain(|span| span.len >= u64::from(bound.shortest));
            self.bound = Some(bound);
        }
        self.moved = Moved::new(spans);
    }

    fn references(&self) -> References<'_> {
        References { old: self.old.space(), new: self.new.space(), map: self.moved.map() }
    }

    /// The views with every reference replaced by where it points to after the update.
    pub(crate) fn normalised(&self, old: &[u8], new: &[u8]) -> (Vec<u8>, Vec<u8>) {
        (normal::old(old, &self.references()), normal::new(new, self.new.space()))
    }

    /// The regions of both views for the lead; nothing when neither has any.
    pub(crate) fn regions(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.old.write(&mut out);
        self.new.write(&mut out);
        out
    }

    /// Codes a segment that stands at `offset` of the new view.
    pub(crate) fn encode(&self, old: &[u8], new: &[u8], offset: u64, pieces: &[Piece], literals: bool) -> Vec<u8> {
        let references = self.references();
        let mut tables = Tables::new(self.params);
        let mut encoder = Encoder::new(tables.memory(), offset);
        let mut at = offset;
        let mut cursor = offset.min(old.len() as u64);
        let mut after_literals = false;
        for piece in pieces {
            let bytes = &new[piece.start..piece.end];
            let Some(shift) = piece.shift else {
                if literals {
                    // Literals that meet are those of one command.
                    if !after_literals {
                        encoder.begin_literals();
                    }
                    after_literals = true;
                    for bytes in (Chunks { space: references.new, at, rest: bytes }) {
                        let len = bytes.len() as u64;
                        encoder.literal(&references, window(old, cursor, cursor + len), cursor, bytes);
                        cursor += len;
                    }
                } else {
                    encoder.skip(bytes);
                }
                at += bytes.len() as u64;
                continue;
            };
            after_literals = false;
            let from = (piece.start as i64 + shift).cast_unsigned();
            let mut place = Place { old: from, done: 0, left: bytes.len() as u32 };
            for bytes in (Chunks { space: references.new, at, rest: bytes }) {
                let len = bytes.len() as u64;
                let window = window(old, place.old.saturating_sub(BEFORE), place.old + len + BEHIND);
                encoder.copy(&references, window, place, bytes);
                place = Place { old: place.old + len, done: place.done + len as u32, left: place.left - len as u32 };
            }
            at += bytes.len() as u64;
            cursor = place.old;
        }
        encoder.finish()
    }
}

/// The programs of a view of `len` bytes, as far as the device has memory for them.
fn regions(programs: &[Region], len: usize, small: bool) -> Regions {
    let regions = Regions::of_programs(programs, len as u64);
    if small { regions.longest(mcu::REGIONS) } else { regions }
}

/// The bound by which a microcontroller's memory holds the map: of the longest copies as many as fit.
fn bound(copies: &[Span]) -> MapBound {
    let narrow = |span: &Span| NarrowSpan { old: span.old as u32, len: span.len as u32, new: span.new as u32 };
    let mut lens: Vec<u32> = copies.iter().map(|span| span.len as u32).collect();
    lens.sort_unstable();
    let least = lens.len().checked_sub(mcu::SPANS).and_then(|n| lens.get(n)).map_or(0, |&len| len);
    lens.dedup();
    let shorter = lens.partition_point(|&len| len < least);
    for shortest in [0].into_iter().filter(|_| least == 0).chain(lens.split_off(shorter)).chain([u32::MAX]) {
        let known: Vec<NarrowSpan> = copies.iter().map(narrow).filter(|span| span.len >= shortest).collect();
        // Copies that overlap may take more entries than they are.
        let fits = (known.len()..=mcu::SPANS).find(|&entries| {
            let mut spans = vec![NarrowSpan::default(); entries - known.len()];
            spans.extend(&known);
            disjoint(&mut spans, known.len()).is_some()
        });
        if let Some(spans) = fits {
            return MapBound { spans: spans as u32, shortest };
        }
    }
    MapBound { spans: 0, shortest: u32::MAX }
}

/// Bytes cut into pieces.
struct Chunks<'a> {
    space: Space<'a>,
    at: u64,
    rest: &'a [u8],
}

impl<'a> Iterator for Chunks<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let len = self.space.piece(self.at).min(self.rest.len() as u64);
        let (now, later) = self.rest.split_at(len as usize);
        self.at += len;
        self.rest = later;
        (!now.is_empty()).then_some(now)
    }
}

fn window(old: &[u8], from: u64, to: u64) -> Window<'_> {
    let from = from.min(old.len() as u64);
    let to = to.min(old.len() as u64);
    Window { bytes: &old[from as usize..to as usize], start: from }
}
