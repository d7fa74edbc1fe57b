//! One segment: match against the old image, split into streams, code each stream.

use sha2::{Digest, Sha256};

use super::{encode, options::Profile};
use crate::{
    error::DiffError,
    head::{Stream, StreamKind},
    varint,
};

/// The old image.
pub(crate) struct Index<'a> {
    old: &'a [u8],
}

impl<'a> Index<'a> {
    pub(crate) fn new(old: &'a [u8]) -> Result<Self, DiffError> {
        Ok(Self { old })
    }
}

/// A finished segment.
pub(crate) struct CodedSegment {
    pub streams: Vec<Stream>,
    pub coded: Vec<u8>,
    pub check: [u8; 8],
}

/// Codes `new`, which stands at `offset` of the new image.
pub(crate) fn code(index: &Index<'_>, new: &[u8], offset: u64, profile: Profile) -> Result<CodedSegment, DiffError> {
    let (mut control, mut diff, mut extra) = (Vec::new(), Vec::new(), Vec::new());
    let same = index.old.get(offset as usize..).unwrap_or_default();
    let same = same.len().min(new.len());
    if same > 0 {
        varint::write(&mut control, 0);
        varint::write(&mut control, same as u64);
        varint::write(&mut control, 0);
        diff.extend(new[..same].iter().zip(&index.old[offset as usize..]).map(|(new, old)| new.wrapping_sub(*old)));
    }
    if same < new.len() {
        varint::write(&mut control, (new.len() - same) as u64);
        extra.extend_from_slice(&new[same..]);
    }
    let mut segment =
        CodedSegment { streams: Vec::new(), coded: Vec::new(), check: first_eight(Sha256::digest(new).as_slice()) };
    for (kind, raw) in [(StreamKind::Control, control), (StreamKind::Diff, diff), (StreamKind::Extra, extra)] {
        if raw.is_empty() {
            continue;
        }
        let (codec, coded) = encode::smallest(&raw, profile)?;
        segment.streams.push(Stream { kind, codec, raw_len: raw.len() as u32, coded_len: coded.len() as u32 });
        segment.coded.extend_from_slice(&coded);
    }
    Ok(segment)
}

fn first_eight(hash: &[u8]) -> [u8; 8] {
    let mut check = [0; 8];
    check.copy_from_slice(&hash[..8]);
    check
}
