//! The strict reader of the segment table.

use alloc::vec::Vec;

use super::{
    Codec, Segment, Stream, StreamKind, feature,
    read::{at_most, bounded, take},
};
use crate::{
    error::ApplyError,
    limits::{CONTROL_PER_BYTE, CONTROL_SLACK, Limits, MAX_STREAMS, MIN_SEGMENT_SHIFT},
    varint,
    views::Views,
};

/// What the header said that decides how the table is read.
pub(super) struct Described<'a> {
    pub features: u64,
    pub views: &'a Views,
    pub new_sha256: &'a [u8; 32],
    pub limits: &'a Limits,
}

impl Described<'_> {
    fn has(&self, bit: u64) -> bool {
        self.features & bit != 0
    }
}

/// Reads the table; the coded bytes of its first segment begin at `patch_offset`.
pub(super) fn read(rest: &mut &[u8], patch_offset: u64, described: &Described<'_>) -> Result<Vec<Segment>, ApplyError> {
    let mut table = Table { rest, patch_offset, described, segments: Vec::new() };
    table.read()?;
    *rest = table.rest;
    Ok(table.segments)
}

struct Table<'a, 'd> {
    rest: &'a [u8],
    patch_offset: u64,
    described: &'d Described<'d>,
    segments: Vec<Segment>,
}

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
        let streams = self.streams(number, len)?;
        let coded_len = streams.iter().map(|stream| u64::from(stream.coded_len)).sum();
        let coded_len = bounded(coded_len, "coded segment length", self.described.limits.max_coded_len)?;
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
            streams,
            coded_sha256,
            image_end,
            check,
        });
        self.patch_offset += u64::from(coded_len);
        Ok(())
    }

    fn streams(&mut self, segment: u32, len: u32) -> Result<Vec<Stream>, ApplyError> {
        let longest = |kind| match kind {
            StreamKind::Control => u64::from(len) * CONTROL_PER_BYTE + CONTROL_SLACK,
            StreamKind::Diff | StreamKind::Extra => u64::from(len),
            StreamKind::References => 0,
        };
        let listed = listed(&mut self.rest, self.described.limits.max_coded_len, longest)
            .map_err(|error| in_segment(error, segment))?;
        let stream = |kind| listed.iter().find(|stream| stream.kind == kind);
        if stream(StreamKind::References).is_some() {
            return Err(ApplyError::Malformed { field: "streams", reason: "references belong into a lead" });
        }
        match (stream(StreamKind::Control), self.described.has(feature::LEAD)) {
            (None, false) => {
                return Err(ApplyError::Malformed { field: "streams", reason: "there is no control stream" });
            }
            (Some(_), true) => {
                return Err(ApplyError::Malformed {
                    field: "streams",
                    reason: "the control stream stands in the lead",
                });
            }
            (Some(_), false) | (None, true) => {}
        }
        let mixed = |stream: &Listed| stream.codec == Codec::Mix;
        if listed.iter().any(mixed) && !self.described.has(feature::MIX) {
            return Err(ApplyError::Malformed { field: "streams", reason: "the tables to mix with are not declared" });
        }
        if stream(StreamKind::Control).is_some_and(mixed) {
            return Err(ApplyError::Malformed { field: "streams", reason: "there is nothing yet to mix control with" });
        }
        let inside = stream(StreamKind::Extra).is_some_and(|extra| mixed(extra) && extra.coded_len == Some(0));
        let diff_mixed = stream(StreamKind::Diff).is_some_and(mixed);
        if inside && !diff_mixed {
            return Err(ApplyError::Malformed { field: "streams", reason: "literals are mixed into no diff stream" });
        }
        if diff_mixed && !inside && stream(StreamKind::Extra).is_some_and(mixed) {
            return Err(ApplyError::Malformed { field: "streams", reason: "two streams are mixed, each by itself" });
        }
        let extra = stream(StreamKind::Extra).and_then(|stream| stream.raw_len).unwrap_or(0);
        let rest = len.saturating_sub(extra);
        if stream(StreamKind::Diff).is_some() != (rest > 0) {
            return Err(ApplyError::Malformed {
                field: "streams",
                reason: "diff and extra do not make up the segment",
            });
        }
        Ok(listed.into_iter().map(|stream| stream.with_raw_len(stream.raw_len.unwrap_or(rest))).collect())
    }
}

/// A stream as it stands in the table, before the implied length of the diff stream is known.
pub(super) struct Listed {
    pub kind: StreamKind,
    pub codec: Codec,
    pub raw_len: Option<u32>,
    pub coded_len: Option<u32>,
}

impl Listed {
    pub(super) fn with_raw_len(&self, raw_len: u32) -> Stream {
        Stream { kind: self.kind, codec: self.codec, raw_len, coded_len: self.coded_len.unwrap_or(raw_len) }
    }
}

/// Reads a list of streams, none longer than `longest` says for its kind. The number of a segment in an error is not known here.
pub(super) fn listed(
    rest: &mut &[u8],
    max_coded_len: u32,
    longest: impl Fn(StreamKind) -> u64,
) -> Result<Vec<Listed>, ApplyError> {
    let mut listed: Vec<Listed> = Vec::new();
    loop {
        let [tag] = take::<1>(rest, "stream tag")?;
        let id = tag >> 4 & 7;
        let kind = StreamKind::from_id(id).ok_or(ApplyError::UnknownStreamKind { segment: 0, kind: id })?;
        let codec = Codec::from_id(tag & 15).ok_or(ApplyError::UnknownCodec { segment: 0, codec: tag & 15 })?;
        if listed.last().is_some_and(|last| last.kind >= kind) {
            return Err(ApplyError::Malformed { field: "streams", reason: "kinds are not in ascending order" });
        }
        let raw_len = match kind {
            StreamKind::Diff => None,
            StreamKind::Control => Some(raw_len(rest, "raw control length", longest(kind))?),
            StreamKind::Extra => Some(raw_len(rest, "raw extra length", longest(kind))?),
            StreamKind::References => Some(raw_len(rest, "raw references length", longest(kind))?),
        };
        let coded_len = if codec == Codec::Raw {
            None
        } else {
            let coded = varint::read(rest, "coded stream length")?;
            Some(bounded(coded, "coded stream length", max_coded_len)?)
        };
        listed.push(Listed { kind, codec, raw_len, coded_len });
        if tag & 0x80 == 0 {
            return Ok(listed);
        }
        if listed.len() >= MAX_STREAMS {
            return Err(ApplyError::OverLimit {
                field: "streams of a segment",
                value: MAX_STREAMS as u64 + 1,
                limit: MAX_STREAMS as u64,
            });
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
