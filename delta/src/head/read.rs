//! The strict reader of the header. Every number is held against its limit before it decides anything.

use alloc::vec::Vec;

use super::{Head, Lead, MAGIC, PREFIX_LEN, Stream, StreamKind, VERSION, feature, table};
use crate::{
    apply::StreamDecoder,
    error::ApplyError,
    head::Codec,
    limits::{CONTROL_PER_BYTE, CONTROL_SLACK, Limits, MAX_LEAD_LEN, MAX_REFERENCES_LEN},
    mix::Params,
    varint,
    views::Views,
};

impl Head {
    /// How many bytes the head has, told from the first [`PREFIX_LEN`] bytes of a patch.
    ///
    /// # Errors
    /// Not a patch, an unknown version, fewer bytes than [`PREFIX_LEN`], or a head over the limit.
    pub fn prefix_len(first_bytes: &[u8], limits: &Limits) -> Result<u32, ApplyError> {
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

    /// Reads a head. `bytes` are exactly the head, no more and no less.
    ///
    /// # Errors
    /// Every way in which the bytes break the format, ask for something unknown, or exceed `limits`.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, ApplyError> {
        let limits = limits.clamped();
        let head_len = Self::prefix_len(bytes, &limits)?;
        if (bytes.len() as u64) < u64::from(head_len) {
            return Err(ApplyError::Truncated { field: "head" });
        }
        if bytes.len() as u64 > u64::from(head_len) {
            return Err(ApplyError::Malformed { field: "head length", reason: "bytes follow the head" });
        }
        let mut rest = bytes.get(MAGIC.len() + 1..).unwrap_or_default();
        varint::read(&mut rest, "head length")?;

        let features = varint::read(&mut rest, "features")?;
        let has = |bit: u64| features & bit != 0;
        if has(!feature::KNOWN) {
            return Err(ApplyError::UnknownFeatures { bits: features & !feature::KNOWN });
        }
        if has(feature::EXPLICIT) && !has(feature::SEGMENTED) {
            return Err(ApplyError::Malformed { field: "features", reason: "explicit offsets need segments" });
        }
        if has(feature::MIX) && !has(feature::LEAD) {
            return Err(ApplyError::Malformed { field: "features", reason: "the mixing coder needs a lead" });
        }
        let old_len = at_most(varint::read(&mut rest, "old length")?, "old length", limits.max_old_len)?;
        let old_sha256 = take::<32>(&mut rest, "old SHA-256")?;
        let new_len = at_most(varint::read(&mut rest, "new length")?, "new length", limits.max_new_len)?;
        let new_sha256 = take::<32>(&mut rest, "new SHA-256")?;
        let ram = kibibytes(&mut rest, "memory")?;
        let ram_per_thread = if has(feature::SEGMENTED) { kibibytes(&mut rest, "memory per thread")? } else { 0 };
        let scratch = if has(feature::SCRATCH) { kibibytes(&mut rest, "scratch")? } else { 0 };
        let views = if has(feature::VIEWS) {
            views(&mut rest, old_len, new_len, &limits)?
        } else {
            Views::plain(old_len, new_len)
        };
        let mix = if has(feature::MIX) { Some(mix_params(&mut rest)?) } else { None };
        let lead = if has(feature::LEAD) { Some(lead(&mut rest, features, &views, &limits)?) } else { None };

        let first = u64::from(head_len) + lead.as_ref().map_or(0, |lead| u64::from(lead.coded_len));
        let described = table::Described { features, views: &views, new_sha256: &new_sha256, limits: &limits };
        let segments = table::read(&mut rest, first, &described)?;
        if !rest.is_empty() {
            return Err(ApplyError::Malformed { field: "segment table", reason: "bytes follow the last entry" });
        }
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
            lead,
            segments,
        })
    }
}

/// The description of the views: one stream, like those of a segment.
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

fn lead(rest: &mut &[u8], features: u64, views: &Views, limits: &Limits) -> Result<Lead, ApplyError> {
    let control_limit = views.new_len.saturating_mul(CONTROL_PER_BYTE).saturating_add(CONTROL_SLACK);
    let control_limit = control_limit.min(u64::from(MAX_LEAD_LEN));
    let commands = bounded(varint::read(rest, "command count")?, "command count", MAX_LEAD_LEN)?;
    let mut streams: Vec<Stream> = Vec::new();
    let mixes = features & feature::MIX != 0;
    let longest = |kind| match kind {
        StreamKind::Control => control_limit,
        StreamKind::References => u64::from(MAX_REFERENCES_LEN),
        StreamKind::Diff | StreamKind::Extra => 0,
    };
    for listed in table::listed(rest, limits.max_coded_len, longest)? {
        let raw_len = listed.raw_len.ok_or(ApplyError::Malformed { field: "lead", reason: "it has a diff stream" })?;
        if !mixes && (listed.codec == Codec::Mix || listed.kind == StreamKind::References) {
            return Err(ApplyError::Malformed { field: "lead", reason: "the tables to mix with are not declared" });
        }
        if listed.codec == Codec::Mix && listed.kind != StreamKind::Control {
            return Err(ApplyError::Malformed { field: "lead", reason: "only commands are mixed there" });
        }
        streams.push(listed.with_raw_len(raw_len));
    }
    if streams.first().is_none_or(|first| first.kind != StreamKind::Control) {
        return Err(ApplyError::Malformed { field: "lead", reason: "there is no control stream" });
    }
    let coded_len = streams.iter().map(|stream| u64::from(stream.coded_len)).sum();
    let coded_len = bounded(coded_len, "coded length of the lead", limits.max_coded_len)?;
    Ok(Lead { commands, coded_len, streams, coded_sha256: take::<16>(rest, "SHA-256 of the lead")? })
}

/// Takes `N` bytes off the front.
pub(super) fn take<const N: usize>(bytes: &mut &[u8], field: &'static str) -> Result<[u8; N], ApplyError> {
    let (taken, rest) = bytes.split_first_chunk::<N>().ok_or(ApplyError::Truncated { field })?;
    *bytes = rest;
    Ok(*taken)
}

pub(super) fn at_most(value: u64, field: &'static str, limit: u64) -> Result<u64, ApplyError> {
    if value > limit { Err(ApplyError::OverLimit { field, value, limit }) } else { Ok(value) }
}

pub(super) fn bounded(value: u64, field: &'static str, limit: u32) -> Result<u32, ApplyError> {
    match u32::try_from(value) {
        Ok(small) if small <= limit => Ok(small),
        _ => Err(ApplyError::OverLimit { field, value, limit: u64::from(limit) }),
    }
}

/// Reads an amount given in KiB, returns bytes.
fn kibibytes(bytes: &mut &[u8], field: &'static str) -> Result<u64, ApplyError> {
    Ok(at_most(varint::read(bytes, field)?, field, u64::MAX >> 10)? << 10)
}
