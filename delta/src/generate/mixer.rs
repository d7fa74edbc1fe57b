//! The encoding side of the context-mixing coder: what it knows of both views, and one segment at a time.

use super::parse::Piece;
use crate::mix::{
    BEFORE, BEHIND, Encoder, MovedMap, Params, Place, References, Space, Span, Tables, Window, normal, space_of_parts,
};

/// What is known of both views.
pub(crate) struct Mixer {
    references: References,
    pub params: Params,
}

impl Mixer {
    /// Looks at what both views are made of, and their parts. Nothing is known yet of what moved where.
    pub(crate) fn new(old: (&[u8], &[u64]), new: (&[u8], &[u64]), params: Params) -> Self {
        let (old, new) = (space_of_parts(old.0, old.1), space_of_parts(new.0, new.1));
        Self { references: References { old, new, map: MovedMap::default() }, params }
    }

    /// The same with another old view, whose parts are others.
    pub(crate) fn with_old(self, old: (&[u8], &[u64])) -> Self {
        let references = References { old: space_of_parts(old.0, old.1), ..self.references };
        Self { references, ..self }
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
        self.references.map = MovedMap::new(spans);
    }

    /// The views with every reference replaced by where it points to after the update.
    pub(crate) fn normalised(&self, old: &[u8], new: &[u8]) -> (Vec<u8>, Vec<u8>) {
        (normal::old(old, &self.references), normal::new(new, &self.references.new))
    }

    /// The regions of both views for the lead; nothing when neither has any.
    pub(crate) fn regions(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.references.old.write(&mut out);
        self.references.new.write(&mut out);
        out
    }

    /// Codes a segment that stands at `offset` of the new view.
    pub(crate) fn encode(&self, old: &[u8], new: &[u8], offset: u64, pieces: &[Piece], literals: bool) -> Vec<u8> {
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
                    for bytes in (Chunks { space: &self.references.new, at, rest: bytes }) {
                        let len = bytes.len() as u64;
                        encoder.literal(&self.references, window(old, cursor, cursor + len), cursor, bytes);
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
            for bytes in (Chunks { space: &self.references.new, at, rest: bytes }) {
                let len = bytes.len() as u64;
                let window = window(old, place.old.saturating_sub(BEFORE), place.old + len + BEHIND);
                encoder.copy(&self.references, window, place, bytes);
                place = Place { old: place.old + len, done: place.done + len as u32, left: place.left - len as u32 };
            }
            at += bytes.len() as u64;
            cursor = place.old;
        }
        encoder.finish()
    }
}

/// Bytes cut into pieces.
struct Chunks<'a> {
    space: &'a Space,
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
