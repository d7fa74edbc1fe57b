//! The strict reader of the header. Every number is held against its limit before it decides anything.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

#[cfg(feature = "alloc")]
use super::{Head, Lead, Stream, table};
use super::{
    MAGIC, MapBound, PREFIX_LEN, StreamKind, VERSION, feature,
    table::{Streams, listed},
};
#[cfg(feature = "alloc")]
use crate::{apply::StreamDecoder, views::Views};
use crate::{
    error::ApplyError,
    head::Codec,
    limits::{CONTROL_PER_BYTE, CONTROL_SLACK, Limits, MAX_LEAD_LEN, MAX_REFERENCES_LEN},
    mix::Params,
    varint,
};

/// How many bytes the head has, see [`Head::prefix_len`](crate::Head::prefix_len).
pub(crate) fn prefix_len(first_bytes: &[u8], limits: &Limits) -> Result<u32, ApplyError> {
    let mut rest = first_bytes;
    let magic = take::<3>(&mut rest, "magic").map_err(|_| ApplyError::NotAPatch)?;
    if magic != MAGIC {
        return Err(ApplyError::NotAPatch);
    }
    let [found] = take::<1>(&mut rest, "version")?;
    if found != VERSION {
        return Err(ApplyError::UnknownVersion { found, known: VERSION });
    }
    if first_bytes.len() < PREFIX_LEN {
        return Err(ApplyError::Truncated { field: "prefix" });
    }
    let len = bounded(varint::read(&mut rest, "head length")?, "head length", limits.clamped().max_head_len)?;
    if (len as usize) < PREFIX_LEN {
        return Err(ApplyError::Malformed { field: "head length", reason: "shorter than the prefix" });
    }
    Ok(len)
}

/// The header up to the views.
pub(crate) struct Opening {
    pub features: u64,
    pub old_len: u64,
    pub old_sha256: [u8; 32],
    pub new_len: u64,
    pub new_sha256: [u8; 32],
    #[cfg_attr(not(feature = "alloc"), expect(dead_code, reason = "a microcontroller has what it has"))]
    pub ram: u64,
    #[cfg_attr(not(feature = "alloc"), expect(dead_code, reason = "microcontrollers have one thread"))]
    pub ram_per_thread: u64,
    #[cfg_attr(not(feature = "alloc"), expect(dead_code, reason = "microcontrollers have no scratch storage"))]
    pub scratch: u64,
}

impl Opening {
    /// Reads it, magic included, by a reader that knows the features `known`.
    pub(crate) fn read(rest: &mut &[u8], known: u64, limits: &Limits) -> Result<Self, ApplyError> {
        take::<4>(rest, "magic")?;
        varint::read(rest, "head length")?;
        let features = varint::read(rest, "features")?;
        let has = |bit: u64| features & bit != 0;
        if has(!known) {
            return Err(ApplyError::UnknownFeatures { bits: features & !known });
        }
        if has(feature::EXPLICIT) && !has(feature::SEGMENTED) {
            return Err(ApplyError::Malformed { field: "features", reason: "explicit offsets need segments" });
        }
        if has(feature::MIX) && !has(feature::LEAD) {
            return Err(ApplyError::Malformed { field: "features", reason: "the mixing coder needs a lead" });
        }
        if has(feature::SPANS) && !has(feature::MIX) {
            return Err(ApplyError::Malformed { field: "features", reason: "only the mixing coder has a map" });
        }
        Ok(Self {
            features,
            old_len: at_most(varint::read(rest, "old length")?, "old length", limits.max_old_len)?,
            old_sha256: take::<32>(rest, "old SHA-256")?,
            new_len: at_most(varint::read(rest, "new length")?, "new length", limits.max_new_len)?,
            new_sha256: take::<32>(rest, "new SHA-256")?,
            ram: kibibytes(rest, "memory")?,
            ram_per_thread: if has(feature::SEGMENTED) { kibibytes(rest, "memory per thread")? } else { 0 },
            scratch: if has(feature::SCRATCH) { kibibytes(rest, "scratch")? } else { 0 },
        })
    }

    /// Reads the parameters of the mixing coder, which stand behind the views.
    pub(crate) fn mix(&self, rest: &mut &[u8]) -> Result<(Option<Params>, Option<MapBound>), ApplyError> {
        let mix = if self.features & feature::MIX != 0 { Some(mix_params(rest)?) } else { None };
        if self.features & feature::SPANS == 0 {
            return Ok((mix, None));
        }
        let spans = bounded(varint::read(rest, "spans")?, "spans", MAX_LEAD_LEN)?;
        let shortest = bounded(varint::read(rest, "shortest copy")?, "shortest copy", u32::MAX)?;
        Ok((mix, Some(MapBound { spans, shortest })))
    }
}

#[cfg(feature = "alloc")]
impl Head {
    /// How many bytes the head has, told from the first [`PREFIX_LEN`] bytes of a patch.
    ///
    /// # Errors
    /// Not a patch, an unknown version, fewer bytes than [`PREFIX_LEN`], or a head over the limit.
    pub fn prefix_len(first_bytes: &[u8], limits: &Limits) -> Result<u32, ApplyError> {
        prefix_len(first_bytes, limits)
    }

    /// Reads a head. `bytes` are exactly the head, no more and no less.
    ///
    /// # Errors
    /// Every way in which the bytes break the format, ask for something unknown, or exceed `limits`.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, ApplyError> {
        let limits = limits.clamped();
        let head_len = prefix_len(bytes, &limits)?;
        if (bytes.len() as u64) < u64::from(head_len) {
            return Err(ApplyError::Truncated { field: "head" });
        }
        if bytes.len() as u64 > u64::from(head_len) {
            return Err(ApplyError::Malformed { field: "head length", reason: "bytes follow the head" });
        }
        let mut rest = bytes;
        let opening = Opening::read(&mut rest, feature::KNOWN, &limits)?;
        let (features, old_len, new_len) = (opening.features, opening.old_len, opening.new_len);
        let views = if features & feature::VIEWS != 0 {
            views(&mut rest, old_len, new_len, &limits)?
        } else {
            Views::plain(old_len, new_len)
        };
        let (mix, map) = opening.mix(&mut rest)?;
        let lead = if features & feature::LEAD != 0 {
            let entry = lead_entry(&mut rest, features, views.new_len, &limits)?;
            let streams: Vec<Stream> = entry.streams.iter().collect();
            let LeadEntry { commands, coded_len, coded_sha256, .. } = entry;
            Some(Lead { commands, coded_len, streams, coded_sha256 })
        } else {
            None
        };

        let first = u64::from(head_len) + lead.as_ref().map_or(0, |lead| u64::from(lead.coded_len));
        let described = table::Described { features, views: &views, new_sha256: &opening.new_sha256, limits: &limits };
        let segments = table::read(&mut rest, first, &described)?;
        if !rest.is_empty() {
            return Err(ApplyError::Malformed { field: "segment table", reason: "bytes follow the last entry" });
        }
        let Opening { old_sha256, new_sha256, ram, ram_per_thread, scratch, .. } = opening;
        Ok(Self {
            head_len,
            features,
            old_len,
            old_sha256,
            new_len,
            new_sha256,
            ram,
            ram_per_thread,
            scratch,
            views,
            mix,
            map,
            lead,
            segments,
        })
    }
}

/// The description of the views: one stream, like those of a segment.
#[cfg(feature = "alloc")]
fn views(rest: &mut &[u8], old_len: u64, new_len: u64, limits: &Limits) -> Result<Views, ApplyError> {
    let [codec] = take::<1>(rest, "codec of the views")?;
    let codec = Codec::from_id(codec)
        .filter(|codec| *codec != Codec::Mix)
        .ok_or(ApplyError::Malformed { field: "views", reason: "they are coded in an unknown way" })?;
    let raw_len = bounded(varint::read(rest, "length of the views")?, "length of the views", limits.max_views_len)?;
    let coded_len = match codec {
        Codec::Raw => raw_len,
        _ => {
            bounded(varint::read(rest, "coded length of the views")?, "coded length of the views", limits.max_head_len)?
        }
    };
    let (coded, after) = rest.split_at_checked(coded_len as usize).ok_or(ApplyError::Truncated { field: "views" })?;
    *rest = after;
    let failed = |reason| ApplyError::Malformed { field: "views", reason };
    let raw = StreamDecoder::whole(codec, raw_len, coded).map_err(failed)?;
    Views::parse(&raw, old_len, new_len)
}

fn mix_params(rest: &mut &[u8]) -> Result<Params, ApplyError> {
    let bytes = take::<4>(rest, "mix tables")?;
    Params::from_bytes(bytes).ok_or(ApplyError::Malformed { field: "mix tables", reason: "larger than any device has" })
}

/// What the header says of a lead.
#[derive(Clone, Copy)]
pub(crate) struct LeadEntry {
    pub commands: u32,
    pub coded_len: u32,
    pub streams: Streams,
    pub coded_sha256: [u8; 16],
}

/// Reads what the header says of a lead.
pub(crate) fn lead_entry(
    rest: &mut &[u8],
    features: u64,
    new_len: u64,
    limits: &Limits,
) -> Result<LeadEntry, ApplyError> {
    let control_limit = new_len.saturating_mul(CONTROL_PER_BYTE).saturating_add(CONTROL_SLACK);
    let control_limit = control_limit.min(u64::from(MAX_LEAD_LEN));
    let commands = bounded(varint::read(rest, "command count")?, "command count", MAX_LEAD_LEN)?;
    let mixes = features & feature::MIX != 0;
    let longest = |kind| match kind {
        StreamKind::Control => control_limit,
        StreamKind::References => u64::from(MAX_REFERENCES_LEN),
        StreamKind::Diff | StreamKind::Extra => 0,
    };
    let streams = listed(rest, limits.max_coded_len, longest)?;
    for listed in streams.iter() {
        if listed.kind == StreamKind::Diff {
            return Err(ApplyError::Malformed { field: "lead", reason: "it has a diff stream" });
        }
        if !mixes && (listed.codec == Codec::Mix || listed.kind == StreamKind::References) {
            return Err(ApplyError::Malformed { field: "lead", reason: "the tables to mix with are not declared" });
        }
        if listed.codec == Codec::Mix && listed.kind != StreamKind::Control {
            return Err(ApplyError::Malformed { field: "lead", reason: "only commands are mixed there" });
        }
    }
    if streams.get(StreamKind::Control).is_none() {
        return Err(ApplyError::Malformed { field: "lead", reason: "there is no control stream" });
    }
    let coded_len = bounded(streams.coded_len(), "coded length of the lead", limits.max_coded_len)?;
    Ok(LeadEntry { commands, coded_len, streams, coded_sha256: take::<16>(rest, "SHA-256 of the lead")? })
}

/// Takes `N` bytes off the front.
pub(crate) fn take<const N: usize>(bytes: &mut &[u8], field: &'static str) -> Result<[u8; N], ApplyError> {
    let (taken, rest) = bytes.split_first_chunk::<N>().ok_or(ApplyError::Truncated { field })?;
    *bytes = rest;
    Ok(*taken)
}

pub(super) fn at_most(value: u64, field: &'static str, limit: u64) -> Result<u64, ApplyError> {
    if value > limit { Err(ApplyError::OverLimit { field, value, limit }) } else { Ok(value) }
}

pub(crate) fn bounded(value: u64, field: &'static str, limit: u32) -> Result<u32, ApplyError> {
    match u32::try_from(value) {
        Ok(small) if small <= limit => Ok(small),
        _ => Err(ApplyError::OverLimit { field, value, limit: u64::from(limit) }),
    }
}

/// Reads an amount given in KiB, returns bytes.
fn kibibytes(bytes: &mut &[u8], field: &'static str) -> Result<u64, ApplyError> {
    Ok(at_most(varint::read(bytes, field)?, field, u64::MAX >> 10)? << 10)
}
