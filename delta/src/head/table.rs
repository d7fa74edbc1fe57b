//! The strict reader of the segment table.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

use super::{
    Codec, Stream, StreamKind, feature,
    read::{at_most, bounded, take},
};
use crate::{
    error::ApplyError,
    limits::{CONTROL_PER_BYTE, CONTROL_SLACK},
    varint,
};
#[cfg(feature = "alloc")]
use crate::{
    head::Segment,
    limits::{Limits, MIN_SEGMENT_SHIFT},
    views::Views,
};

/// What the header said that decides how the table is read.
#[cfg(feature = "alloc")]
pub(super) struct Described<'a> {
    pub features: u64,
    pub views: &'a Views,
    pub new_sha256: &'a [u8; 32],
    pub limits: &'a Limits,
}

#[cfg(feature = "alloc")]
impl Described<'_> {
    fn has(&self, bit: u64) -> bool {
        self.features & bit != 0
    }
}

/// Reads the table; the coded bytes of its first segment begin at `patch_offset`.
#[cfg(feature = "alloc")]
pub(super) fn read(rest: &mut &[u8], patch_offset: u64, described: &Described<'_>) -> Result<Vec<Segment>, ApplyError> {
    let mut table = Table { rest, patch_offset, described, segments: Vec::new() };
    table.read()?;
    *rest = table.rest;
    Ok(table.segments)
}

#[cfg(feature = "alloc")]
struct Table<'a, 'd> {
    rest: &'a [u8],
    patch_offset: u64,
    described: &'d Described<'d>,
    segments: Vec<Segment>,
}

#[cfg(feature = "alloc")]
impl Table<'_, '_> {
    fn read(&mut self) -> Result<(), ApplyError> {
        let (view_len, limits) = (self.described.views.new_len, self.described.limits);
        if self.described.has(feature::EXPLICIT) {
            let count = varint::read(&mut self.rest, "segment count")?;
            let count = bounded(count, "segment count", limits.max_segments)?;
            for _ in 0..count {
                let new_offset = varint::read(&mut self.rest, "segment offset")?;
                let len = varint::read(&mut self.rest, "segment length")?;
                let outside = new_offset.checked_add(len).is_none_or(|end| end > view_len);
                if outside || len == 0 {
                    return Err(ApplyError::Malformed { field: "segment offset", reason: "outside the new view" });
                }
                self.entry(new_offset, len)?;
            }
            return self.partition();
        }
        let segment_len = if self.described.has(feature::SEGMENTED) {
            let [shift] = take::<1>(&mut self.rest, "segment length")?;
            if !(MIN_SEGMENT_SHIFT..32).contains(&shift) {
                return Err(ApplyError::Malformed { field: "segment length", reason: "not a power of two in range" });
            }
            1u64 << shift
        } else {
            view_len
        };
        if view_len == 0 {
            return Ok(());
        }
        bounded(view_len.div_ceil(segment_len), "segment count", limits.max_segments)?;
        let mut new_offset = 0;
        while new_offset < view_len {
            let len = segment_len.min(view_len - new_offset);
            self.entry(new_offset, len)?;
            new_offset += len;
        }
        Ok(())
    }

    /// Segments given in any order must still cover the new view exactly once. What is re-encoded, and a lead, want the
    /// order of the output: both go on where the segment before stopped.
    fn partition(&self) -> Result<(), ApplyError> {
        let gap = ApplyError::Malformed { field: "segment table", reason: "segments overlap or leave a gap" };
        let mut spans: Vec<(u64, u32)> = self.segments.iter().map(|s| (s.new_offset, s.len)).collect();
        if !self.described.has(feature::VIEWS | feature::LEAD) {
            spans.sort_unstable();
        }
        let mut next = 0;
        for (offset, len) in spans {
            if offset != next {
                return Err(gap);
            }
            next += u64::from(len);
        }
        if next == self.described.views.new_len { Ok(()) } else { Err(gap) }
    }

    fn entry(&mut self, new_offset: u64, len: u64) -> Result<(), ApplyError> {
        let number = self.segments.len() as u32;
        let len = bounded(len, "segment length", self.described.limits.max_segment_len)?;
        let (features, max_coded_len) = (self.described.features, self.described.limits.max_coded_len);
        let streams = segment_streams(&mut self.rest, number, len, features, max_coded_len)?;
        let coded_len = bounded(streams.coded_len(), "coded segment length", max_coded_len)?;
        let coded_sha256 = take::<16>(&mut self.rest, "segment SHA-256")?;
        let image_end = self.described.views.image_offset(new_offset.saturating_add(u64::from(len)));
        let check = if !self.described.has(feature::SEGMENTED) {
            let mut whole = self.described.new_sha256.as_slice();
            Some(take::<8>(&mut whole, "segment check")?)
        } else if image_end.is_some() {
            Some(take::<8>(&mut self.rest, "segment check")?)
        } else {
            None
        };
        let patch_offset = self.patch_offset;
        self.segments.push(Segment {
            new_offset,
            len,
            patch_offset,
            coded_len,
            streams: streams.iter().collect(),
            coded_sha256,
            image_end,
            check,
        });
        self.patch_offset += u64::from(coded_len);
        Ok(())
    }
}

/// Reads the streams of a segment of `len` bytes.
pub(crate) fn segment_streams(
    rest: &mut &[u8],
    segment: u32,
    len: u32,
    features: u64,
    max_coded_len: u32,
) -> Result<Streams, ApplyError> {
    let has = |bit: u64| features & bit != 0;
    let longest = |kind| match kind {
        StreamKind::Control => u64::from(len) * CONTROL_PER_BYTE + CONTROL_SLACK,
        StreamKind::Diff | StreamKind::Extra => u64::from(len),
        StreamKind::References => 0,
    };
    let mut listed = listed(rest, max_coded_len, longest).map_err(|error| in_segment(error, segment))?;
    let stream = |kind| listed.get(kind);
    let malformed = |reason| Err(ApplyError::Malformed { field: "streams", reason });
    if stream(StreamKind::References).is_some() {
        return malformed("references belong into a lead");
    }
    match (stream(StreamKind::Control), has(feature::LEAD)) {
        (None, false) => return malformed("there is no control stream"),
        (Some(_), true) => return malformed("the control stream stands in the lead"),
        (Some(_), false) | (None, true) => {}
    }
    let mixed = |stream: Stream| stream.codec == Codec::Mix;
    if listed.iter().any(mixed) && !has(feature::MIX) {
        return malformed("the tables to mix with are not declared");
    }
    if stream(StreamKind::Control).is_some_and(mixed) {
        return malformed("there is nothing yet to mix control with");
    }
    let inside = stream(StreamKind::Extra).is_some_and(|extra| mixed(extra) && extra.coded_len == 0);
    let diff_mixed = stream(StreamKind::Diff).is_some_and(mixed);
    if inside && !diff_mixed {
        return malformed("literals are mixed into no diff stream");
    }
    if diff_mixed && !inside && stream(StreamKind::Extra).is_some_and(mixed) {
        return malformed("two streams are mixed, each by itself");
    }
    let left = len.saturating_sub(stream(StreamKind::Extra).map_or(0, |extra| extra.raw_len));
    if stream(StreamKind::Diff).is_some() != (left > 0) {
        return malformed("diff and extra do not make up the segment");
    }
    listed.set_diff_len(left);
    Ok(listed)
}

/// Streams in the order of their coded bytes, at most one of each kind.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Streams([Option<Stream>; StreamKind::ALL.len()]);

impl Streams {
    /// The stream of one kind.
    pub(crate) fn get(&self, kind: StreamKind) -> Option<Stream> {
        self.0.get(usize::from(kind.id())).copied().flatten()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Stream> {
        self.0.into_iter().flatten()
    }

    pub(crate) fn coded_len(&self) -> u64 {
        self.iter().map(|stream| u64::from(stream.coded_len)).sum()
    }

    fn set(&mut self, stream: Stream) {
        if let Some(place) = self.0.get_mut(usize::from(stream.kind.id())) {
            *place = Some(stream);
        }
    }

    /// The length of the diff stream is not stored, but what the others leave.
    fn set_diff_len(&mut self, raw_len: u32) {
        if let Some(diff) = self.get(StreamKind::Diff) {
            let coded_len = if diff.codec == Codec::Raw { raw_len } else { diff.coded_len };
            self.set(Stream { raw_len, coded_len, ..diff });
        }
    }
}

/// Reads a list of streams, none longer than `longest` says for its kind. The length of a diff stream, and the number of a
/// segment in an error, are not known here.
pub(super) fn listed(
    rest: &mut &[u8],
    max_coded_len: u32,
    longest: impl Fn(StreamKind) -> u64,
) -> Result<Streams, ApplyError> {
    let mut listed = Streams::default();
    let mut last = None;
    loop {
        let [tag] = take::<1>(rest, "stream tag")?;
        let id = tag >> 4 & 7;
        let kind = StreamKind::from_id(id).ok_or(ApplyError::UnknownStreamKind { segment: 0, kind: id })?;
        let codec = Codec::from_id(tag & 15).ok_or(ApplyError::UnknownCodec { segment: 0, codec: tag & 15 })?;
        if last.is_some_and(|last| last >= kind) {
            return Err(ApplyError::Malformed { field: "streams", reason: "kinds are not in ascending order" });
        }
        let raw_len = match kind {
            StreamKind::Diff => 0,
            StreamKind::Control => raw_len(rest, "raw control length", longest(kind))?,
            StreamKind::Extra => raw_len(rest, "raw extra length", longest(kind))?,
            StreamKind::References => raw_len(rest, "raw references length", longest(kind))?,
        };
        let coded_len = if codec == Codec::Raw {
            raw_len
        } else {
            bounded(varint::read(rest, "coded stream length")?, "coded stream length", max_coded_len)?
        };
        listed.set(Stream { kind, codec, raw_len, coded_len });
        last = Some(kind);
        if tag & 0x80 == 0 {
            return Ok(listed);
        }
    }
}

fn raw_len(rest: &mut &[u8], field: &'static str, longest: u64) -> Result<u32, ApplyError> {
    let len = at_most(varint::read(rest, field)?, field, longest)?;
    match bounded(len, field, u32::MAX)? {
        0 => Err(ApplyError::Malformed { field: "streams", reason: "an empty stream is left out" }),
        len => Ok(len),
    }
}

/// Names the segment in an error of [`listed`].
fn in_segment(error: ApplyError, segment: u32) -> ApplyError {
    match error {
        ApplyError::UnknownStreamKind { kind, .. } => ApplyError::UnknownStreamKind { segment, kind },
        ApplyError::UnknownCodec { codec, .. } => ApplyError::UnknownCodec { segment, codec },
        other => other,
    }
}
