//! One segment: match against the old image, split into streams, code each stream.

use sha2::{Digest, Sha256};

use super::{candidates, encode, index::Index, options::Profile, parse};
use crate::{
    error::DiffError,
    head::{Stream, StreamKind},
    varint,
};

/// A finished segment.
pub(crate) struct CodedSegment {
    pub streams: Vec<Stream>,
    pub coded: Vec<u8>,
    pub check: [u8; 8],
}

/// The raw streams of a segment.
#[derive(Default)]
struct RawStreams {
    control: Vec<u8>,
    diff: Vec<u8>,
    extra: Vec<u8>,
}

/// Which parts of `new`, which stands at `offset` of the new image, come from where in the old one.
pub(crate) fn pieces(index: &Index<'_>, new: &[u8], offset: u64) -> Vec<parse::Piece> {
    let intervals = candidates::find(index, new, offset.cast_signed());
    let first = parse::cheapest(index.old, new, &intervals, &parse::Costs::default());
    let costs = parse::Costs::observed(index.old, new, &first);
    parse::cheapest(index.old, new, &intervals, &costs)
}

/// Codes `new`, which stands at `offset` of the new image.
pub(crate) fn code(index: &Index<'_>, new: &[u8], offset: u64, profile: Profile) -> Result<CodedSegment, DiffError> {
    let raw = split(index.old, new, offset, &pieces(index, new, offset));
    let mut check = [0; 8];
    check.copy_from_slice(&Sha256::digest(new)[..8]);
    let mut segment = CodedSegment { streams: Vec::new(), coded: Vec::new(), check };
    for (kind, raw) in
        [(StreamKind::Control, raw.control), (StreamKind::Diff, raw.diff), (StreamKind::Extra, raw.extra)]
    {
        if raw.is_empty() {
            continue;
        }
        let (codec, coded) = encode::smallest(kind, &raw, profile)?;
        segment.streams.push(Stream { kind, codec, raw_len: raw.len() as u32, coded_len: coded.len() as u32 });
        segment.coded.extend_from_slice(&coded);
    }
    Ok(segment)
}

/// Writes commands, differences and literals for `pieces`.
fn split(old: &[u8], new: &[u8], offset: u64, pieces: &[parse::Piece]) -> RawStreams {
    let mut raw = RawStreams::default();
    let mut cursor = offset.min(old.len() as u64).cast_signed();
    let mut literal = 0;
    for piece in pieces {
        let bytes = &new[piece.start..piece.end];
        let Some(shift) = piece.shift else {
            raw.extra.extend_from_slice(bytes);
            literal += bytes.len() as u64;
            continue;
        };
        let from = piece.start as i64 + shift;
        varint::write(&mut raw.control, literal);
        varint::write(&mut raw.control, bytes.len() as u64);
        varint::write(&mut raw.control, varint::zigzag(from - cursor));
        literal = 0;
        cursor = from + bytes.len() as i64;
        let source = &old[from as usize..cursor as usize];
        raw.diff.extend(bytes.iter().zip(source).map(|(new, old)| new.wrapping_sub(*old)));
    }
    if literal > 0 {
        varint::write(&mut raw.control, literal);
    }
    raw
}
