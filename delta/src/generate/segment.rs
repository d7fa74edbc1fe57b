//! Segments: where the new view is cut, what each is made of, and how that is coded.

use std::ops::Range;

use rayon::prelude::*;

use super::{encode, head::authenticator, matcher::Matcher, mixer::Mixer, options::Profile, parse};

/// Fewer literals than this are never coded apart.
const MIN_APART: usize = 16 << 10;

/// A segment that is coded in fewer bytes has few differences, of which a dictionary coder may make even less.
const FEW: usize = 8 << 10;
use crate::{
    apply::control::Command,
    error::DiffError,
    head::{Codec, Lead, Stream, StreamKind},
    mix::{self, commands::COMMAND_SLOTS},
    varint,
    views::Views,
};

/// The coded bytes of a segment, and its streams.
pub(crate) struct Coded {
    pub streams: Vec<Stream>,
    pub bytes: Vec<u8>,
}

/// The raw streams of a segment.
#[derive(Default)]
struct RawStreams {
    control: Vec<u8>,
    diff: Vec<u8>,
    extra: Vec<u8>,
}

/// Cuts the new view into segments of at most `len` bytes. A cut inside a stream that is re-encoded is no place to resume
/// from, so where the view has streams a cut is drawn back to the last end of one in the second half of its segment.
pub(crate) fn cuts(views: &Views, len: u32) -> Vec<Range<u64>> {
    let len = u64::from(len);
    let mut cuts = Vec::new();
    let mut start = 0;
    while start < views.new_len {
        let mut end = views.new_len.min(start + len);
        if end < views.new_len && views.image_offset(end).is_none() {
            end = views.boundary_before(end).filter(|&at| at > start + len / 2).unwrap_or(end);
        }
        cuts.push(start..end);
        start = end;
    }
    cuts
}

/// Chooses where every byte of segment `number` comes from, which is `new` and stands at `offset` of the new view.
pub(crate) fn pieces(
    matcher: &Matcher<'_>,
    number: usize,
    new: &[u8],
    offset: u64,
    cancelled: &impl Fn() -> Result<(), DiffError>,
) -> Result<Vec<parse::Piece>, DiffError> {
    let old = matcher.old;
    let intervals = matcher.intervals(number, new, offset, cancelled)?;
    let first = parse::cheapest(old, new, &intervals, &parse::Costs::default());
    let costs = parse::Costs::observed(old, new, &first);
    cancelled()?;
    Ok(parse::cheapest(old, new, &intervals, &costs))
}

/// Bytes that come from nowhere.
pub(crate) fn literals(pieces: &[parse::Piece]) -> usize {
    pieces.iter().filter(|piece| piece.shift.is_none()).map(|piece| piece.end - piece.start).sum()
}

/// Codes a segment that carries its own commands.
pub(crate) fn code(
    old: &[u8],
    new: &[u8],
    offset: u64,
    pieces: &[parse::Piece],
    profile: Profile,
) -> Result<Coded, DiffError> {
    let mut raw = RawStreams::default();
    let mut cursor = offset.min(old.len() as u64).cast_signed();
    commands(&mut raw.control, &mut cursor, pieces);
    split(&mut raw, old, new, pieces);
    code_streams(
        [(StreamKind::Control, &raw.control), (StreamKind::Diff, &raw.diff), (StreamKind::Extra, &raw.extra)],
        profile,
    )
}

/// Codes a segment whose commands stand in the lead, by the context-mixing coder.
pub(crate) fn code_mixed(
    old: &[u8],
    new: &[u8],
    offset: u64,
    pieces: &[parse::Piece],
    mixer: &Mixer,
    profile: Profile,
) -> Result<Coded, DiffError> {
    // Dictionary coders find other things than mixing does. What the device does not have is left out.
    let others = if profile == Profile::Mcu { Profile::Mcu } else { Profile::Default };
    let mut raw = RawStreams::default();
    split(&mut raw, old, new, pieces);
    let mix = |kind, raw_len: usize, coded_len: usize| Stream {
        kind,
        codec: Codec::Mix,
        raw_len: raw_len as u32,
        coded_len: coded_len as u32,
    };
    // All in one, or the literals apart where a dictionary coder does better with them.
    let apart = || {
        let literals = || code_streams([(StreamKind::Extra, &raw.extra)], others);
        let copies = || (!raw.diff.is_empty()).then(|| mixer.encode(old, new, offset, pieces, false));
        (raw.extra.len() >= MIN_APART).then(|| rayon::join(literals, copies))
    };
    let (together, apart) = rayon::join(|| mixer.encode(old, new, offset, pieces, true), apart);
    let mut best = Coded { streams: Vec::new(), bytes: Vec::new() };
    if !raw.diff.is_empty() {
        best.streams.push(mix(StreamKind::Diff, raw.diff.len(), together.len()));
    }
    if !raw.extra.is_empty() {
        let coded_len = if raw.diff.is_empty() { together.len() } else { 0 };
        best.streams.push(mix(StreamKind::Extra, raw.extra.len(), coded_len));
    }
    best.bytes = together;
    if best.bytes.len() < FEW {
        let classic = code_streams([(StreamKind::Diff, &raw.diff), (StreamKind::Extra, &raw.extra)], others)?;
        // Literals that are coded in no bytes at all would look like literals inside a diff stream.
        if classic.bytes.len() < best.bytes.len() || (raw.diff.is_empty() && best.bytes.is_empty()) {
            return Ok(classic);
        }
    }
    if let Some((literals, copies)) = apart {
        let mut apart = literals?;
        if let Some(copies) = copies {
            apart.streams.insert(0, mix(StreamKind::Diff, raw.diff.len(), copies.len()));
            apart.bytes.splice(0..0, copies);
        }
        if apart.bytes.len() < best.bytes.len() {
            best = apart;
        }
    }
    Ok(best)
}

/// The commands of all segments, and the lead that carries them; with a mixer also the regions that it knows.
pub(crate) fn lead(
    segments: &[Vec<parse::Piece>],
    cuts: &[Range<u64>],
    old_len: u64,
    mixer: &Mixer,
    profile: Profile,
) -> Result<(Lead, Vec<u8>), DiffError> {
    let mut control = Vec::new();
    let mut cursor = 0;
    let count = segments.iter().map(|pieces| commands(&mut control, &mut cursor, pieces)).sum();
    let raw_len = control.len() as u32;
    let lens = cuts.iter().map(|cut| (cut.end - cut.start) as u32);
    let lists: Vec<_> = lens.zip(segments.iter().map(|pieces| command_list(pieces))).collect();
    // A microcontroller reads commands where they stand in the patch.
    let mixed = || match profile {
        Profile::Mcu => None,
        _ => Some(mix::commands::encode(&mut vec![0; COMMAND_SLOTS], old_len, &lists)),
    };
    let (coded, mixed) = rayon::join(|| code_streams([(StreamKind::Control, &control)], profile), mixed);
    let mut coded = coded?;
    if let Some(mixed) = mixed.filter(|mixed| mixed.len() < coded.bytes.len()) {
        let coded_len = mixed.len() as u32;
        let stream = Stream { kind: StreamKind::Control, codec: Codec::Mix, raw_len, coded_len };
        coded = Coded { streams: vec![stream], bytes: mixed };
    }
    let regions = code_streams([(StreamKind::References, &mixer.regions())], profile)?;
    coded.streams.extend(regions.streams);
    coded.bytes.extend(regions.bytes);
    let lead = Lead {
        commands: count,
        coded_len: coded.bytes.len() as u32,
        streams: coded.streams,
        coded_sha256: authenticator(&coded.bytes),
    };
    Ok((lead, coded.bytes))
}

/// Codes each stream by itself, at once where threads are idle. Empty ones are left out.
fn code_streams<const N: usize>(streams: [(StreamKind, &[u8]); N], profile: Profile) -> Result<Coded, DiffError> {
    let smallest = |(kind, raw): (StreamKind, &[u8])| {
        let coded = (!raw.is_empty()).then(|| encode::smallest(kind, raw, profile));
        coded.transpose().map(|coded| coded.map(|(codec, bytes)| (kind, codec, raw.len(), bytes)))
    };
    let all: Vec<_> = streams.into_par_iter().map(smallest).collect::<Result<_, DiffError>>()?;
    let mut coded = Coded { streams: Vec::new(), bytes: Vec::new() };
    for (kind, codec, raw_len, bytes) in all.into_iter().flatten() {
        coded.streams.push(Stream { kind, codec, raw_len: raw_len as u32, coded_len: bytes.len() as u32 });
        coded.bytes.extend_from_slice(&bytes);
    }
    Ok(coded)
}

/// Codes the description of the views: its own length first.
pub(crate) fn code_views(views: &Views) -> Result<(Codec, u32, Vec<u8>), DiffError> {
    let raw = views.encode();
    let (codec, coded) = encode::smallest(StreamKind::Control, &raw, Profile::Default)?;
    Ok((codec, raw.len() as u32, coded))
}

/// `pieces` as commands.
fn command_list(pieces: &[parse::Piece]) -> Vec<Command> {
    let mut list = Vec::new();
    let (mut literal, mut old_offset) = (0, 0);
    for piece in pieces {
        let len = (piece.end - piece.start) as u32;
        let Some(shift) = piece.shift else {
            literal += len;
            continue;
        };
        old_offset = (piece.start as i64 + shift).cast_unsigned();
        list.push(Command { literal, copy: len, old_offset });
        literal = 0;
    }
    if literal > 0 {
        list.push(Command { literal, copy: 0, old_offset });
    }
    list
}

/// Writes commands for `pieces` and returns how many; the old cursor goes on from `cursor`.
fn commands(control: &mut Vec<u8>, cursor: &mut i64, pieces: &[parse::Piece]) -> u32 {
    let (mut count, mut literal) = (0, 0);
    for piece in pieces {
        let len = (piece.end - piece.start) as u64;
        let Some(shift) = piece.shift else {
            literal += len;
            continue;
        };
        let from = piece.start as i64 + shift;
        varint::write(control, literal);
        varint::write(control, len);
        varint::write(control, varint::zigzag(from - *cursor));
        literal = 0;
        *cursor = from + len as i64;
        count += 1;
    }
    if literal > 0 {
        varint::write(control, literal);
        count += 1;
    }
    count
}

/// Writes differences and literals for `pieces`.
fn split(raw: &mut RawStreams, old: &[u8], new: &[u8], pieces: &[parse::Piece]) {
    for piece in pieces {
        let bytes = &new[piece.start..piece.end];
        let Some(shift) = piece.shift else {
            raw.extra.extend_from_slice(bytes);
            continue;
        };
        let from = (piece.start as i64 + shift) as usize;
        let source = &old[from..from + bytes.len()];
        raw.diff.extend(bytes.iter().zip(source).map(|(new, old)| new.wrapping_sub(*old)));
    }
}
