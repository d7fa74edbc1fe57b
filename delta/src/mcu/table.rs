//! Reads the head where it stands, entry by entry: there is no memory to keep it in.

use sha2::{Digest, Sha256};

use super::{applier::Header, memory::WINDOW};
use crate::{
    error::ApplyError,
    head::{Codec, LeadEntry, MapBound, Opening, Streams, bounded, feature, lead_entry, segment_streams, take},
    io,
    limits::{Limits, MIN_SEGMENT_SHIFT},
    mix::Params,
};

/// Features of patches that are taken.
const KNOWN: u64 = feature::SEGMENTED | feature::LEAD | feature::MIX | feature::SPANS;

/// What the head says before the entries of its table.
pub(super) struct Front {
    pub header: Header,
    pub features: u64,
    pub mix: Option<Params>,
    pub map: Option<MapBound>,
    pub lead: Option<LeadEntry>,
    /// Bytes of all segments but the last.
    segment_len: u32,
    /// Where the first entry stands, and where the head ends.
    pub table: u32,
    pub head_len: u32,
    max_coded_len: u32,
}

/// A segment, and where its entry and its coded bytes stand in the patch.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub number: u32,
    pub new_offset: u32,
    pub entry: u32,
    pub coded: u32,
}

/// An entry of the table.
pub(super) struct Entry {
    pub place: Place,
    pub len: u32,
    pub streams: Streams,
    pub coded_len: u32,
    pub coded_sha256: [u8; 16],
    pub check: [u8; 8],
    /// What comes next.
    pub next: Place,
}

/// Parses what stands at `at` in the patch; no entry is longer than `buffer`. Returns it, and where it ends.
fn parsed<T>(
    patch: &impl Fn(u32, &mut [u8]) -> io::Result<()>,
    at: u32,
    end: u32,
    buffer: &mut [u8; WINDOW],
    parse: impl FnOnce(&mut &[u8]) -> Result<T, ApplyError>,
) -> Result<(T, u32), ApplyError> {
    let len = (end.saturating_sub(at) as usize).min(WINDOW);
    let bytes = buffer.get_mut(..len).unwrap_or_default();
    patch(at, bytes).map_err(ApplyError::ReadPatch)?;
    let mut rest: &[u8] = bytes;
    let parsed = parse(&mut rest)?;
    Ok((parsed, at + (len - rest.len()) as u32))
}

impl Front {
    /// Reads it from a head of `head_len` bytes that is authenticated.
    pub(super) fn read(
        patch: &impl Fn(u32, &mut [u8]) -> io::Result<()>,
        head_len: u32,
        buffer: &mut [u8; WINDOW],
        limits: &Limits,
    ) -> Result<Self, ApplyError> {
        let longest = u64::from(u32::MAX);
        let limits = limits.clamped();
        let limits = Limits {
            max_old_len: limits.max_old_len.min(longest),
            max_new_len: limits.max_new_len.min(longest),
            ..limits
        };
        let (front, table) = parsed(patch, 0, head_len, buffer, |rest| {
            let opening = Opening::read(rest, KNOWN, &limits)?;
            let Opening { features, old_sha256, new_sha256, .. } = opening;
            let (mix, map) = opening.mix(rest)?;
            let lead = if features & feature::LEAD == 0 {
                None
            } else {
                Some(lead_entry(rest, features, opening.new_len, &limits)?)
            };
            let (old_len, new_len) = (opening.old_len as u32, opening.new_len as u32);
            let segment_len = if features & feature::SEGMENTED == 0 {
                new_len
            } else {
                let [shift] = take::<1>(rest, "segment length")?;
                if !(MIN_SEGMENT_SHIFT..32).contains(&shift) {
                    return Err(ApplyError::Malformed {
                        field: "segment length",
                        reason: "not a power of two in range",
                    });
                }
                1 << shift
            };
            let segments = if new_len == 0 { 0 } else { new_len.div_ceil(segment_len) };
            bounded(segments.into(), "segment count", limits.max_segments)?;
            bounded(segment_len.min(new_len).into(), "segment length", limits.max_segment_len)?;
            let header = Header { old_len, old_sha256, new_len, new_sha256, segments };
            let max_coded_len = limits.max_coded_len;
            Ok(Self { header, features, mix, map, lead, segment_len, table: 0, head_len, max_coded_len })
        })?;
        Ok(Self { table, ..front })
    }

    /// The first segment.
    pub(super) fn first(&self) -> Result<Place, ApplyError> {
        let lead = self.lead.as_ref().map_or(0, |lead| lead.coded_len);
        let coded = self.head_len.checked_add(lead).ok_or(too_long())?;
        Ok(Place { number: 0, new_offset: 0, entry: self.table, coded })
    }

    /// Reads the entry of the segment at `place`, which is not the end.
    pub(super) fn entry(
        &self,
        patch: &impl Fn(u32, &mut [u8]) -> io::Result<()>,
        place: Place,
        buffer: &mut [u8; WINDOW],
    ) -> Result<Entry, ApplyError> {
        let len = self.segment_len.min(self.header.new_len.saturating_sub(place.new_offset));
        let (mut entry, end) = parsed(patch, place.entry, self.head_len, buffer, |rest| {
            let streams = segment_streams(rest, place.number, len, self.features, self.max_coded_len)?;
            for stream in streams.iter() {
                if !matches!(stream.codec, Codec::Raw | Codec::Mix) {
                    return Err(ApplyError::UnknownCodec { segment: place.number, codec: stream.codec.id() });
                }
            }
            let coded_len = bounded(streams.coded_len(), "coded segment length", self.max_coded_len)?;
            let coded_sha256 = take::<16>(rest, "segment SHA-256")?;
            let check = if self.features & feature::SEGMENTED == 0 {
                take::<8>(&mut &self.header.new_sha256[..], "segment check")?
            } else {
                take::<8>(rest, "segment check")?
            };
            Ok(Entry { place, len, streams, coded_len, coded_sha256, check, next: place })
        })?;
        entry.next = Place {
            number: place.number + 1,
            new_offset: place.new_offset.saturating_add(len),
            entry: end,
            coded: place.coded.checked_add(entry.coded_len).ok_or(too_long())?,
        };
        Ok(entry)
    }
}

/// SHA-256 of `len` bytes of the patch.
pub(super) fn digest(
    patch: &impl Fn(u32, &mut [u8]) -> io::Result<()>,
    at: u32,
    len: u32,
    buffer: &mut [u8; WINDOW],
) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut done = 0;
    while done < len {
        let block = buffer.get_mut(..(len - done) as usize).unwrap_or_default();
        let block = if block.is_empty() { &mut buffer[..] } else { block };
        patch(at.saturating_add(done), block)?;
        hash.update(&*block);
        done = done.saturating_add(block.len() as u32);
    }
    Ok(hash.finalize().into())
}

fn too_long() -> ApplyError {
    ApplyError::Malformed { field: "patch", reason: "longer than 4 GiB" }
}
