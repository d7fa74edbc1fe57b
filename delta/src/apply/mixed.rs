//! Decodes a segment by the context-mixing coder, which sees the old view, where everything moved, and the output so far.

use alloc::vec;

use super::{
    control::{AllCommands, Command},
    decode::StreamDecoder,
    old::OpenView,
    segment::Sink,
};
use crate::{
    error::ApplyError,
    head::{Codec, Segment, StreamKind},
    io::{Read, Seek, Write},
    mix::{BEFORE, BEHIND, Decoder, PIECE, Place, References, Tables},
};

/// Bytes of the old view that are seen at once.
const WINDOW: usize = (PIECE + BEFORE + BEHIND) as usize;

/// What the coder needs besides the segment.
pub(super) struct Mixer<'a> {
    pub commands: &'a AllCommands,
    pub references: References<'a>,
    pub tables: &'a mut Tables,
}

/// Decodes a segment of which at least one stream is mixed.
pub(super) fn decode<O: Read + Seek, S: Read + Write + Seek, W: Write>(
    index: u32,
    segment: &Segment,
    coded: &[u8],
    mixer: &mut Mixer<'_>,
    old: &mut OpenView<'_, O, S>,
    sink: &mut Sink<'_, '_, W>,
) -> Result<(), ApplyError> {
    let failed =
        |stream: StreamKind| move |reason| ApplyError::Decode { segment: index, stream: stream.name(), reason };
    let mut rest = coded;
    let (mut mixed, mut diff, mut extra) = (&[][..], None, None);
    for stream in &segment.streams {
        let (bytes, after) =
            rest.split_at_checked(stream.coded_len as usize).ok_or(ApplyError::SegmentMismatch { segment: index })?;
        rest = after;
        let decoder = match stream.codec {
            Codec::Mix if bytes.is_empty() => continue,
            Codec::Mix => {
                mixed = bytes;
                continue;
            }
            codec => StreamDecoder::new(codec, stream.raw_len, bytes).map_err(failed(stream.kind))?,
        };
        match stream.kind {
            StreamKind::Diff => diff = Some(decoder),
            _ => extra = Some(decoder),
        }
    }
    let mut decoder = Decoder::new(mixer.tables.memory(), mixed.iter().copied(), segment.new_offset);
    let mut seen = vec![0; WINDOW];
    let mut made = vec![0; PIECE as usize];
    let mut at = segment.new_offset;
    // Where the last copy ended: what the old view has there may resemble the literals that follow.
    let mut cursor = at.min(old.len());
    let mut commands = mixer.commands.of(index, segment.len);
    while let Some(Command { literal, copy, old_offset }) = commands.next().map_err(failed(StreamKind::Control))? {
        let mut left = u64::from(literal);
        if left > 0 {
            decoder.begin_literals();
        }
        while left > 0 {
            let len = mixer.references.new.piece(at).min(left);
            let out = made.get_mut(..len as usize).unwrap_or_default();
            match &mut extra {
                None => {
                    let window = old.window(cursor, cursor.saturating_add(len), &mut seen)?;
                    decoder.literal(&mixer.references, window, cursor, out.len(), out);
                }
                Some(extra) => {
                    extra.fill(out).map_err(failed(StreamKind::Extra))?;
                    decoder.skip(out);
                }
            }
            sink.write(out)?;
            at += len;
            cursor = cursor.saturating_add(len);
            left -= len;
        }
        let mut place = Place { old: old_offset, done: 0, left: copy };
        while place.left > 0 {
            let len = mixer.references.new.piece(at).min(u64::from(place.left));
            let out = made.get_mut(..len as usize).unwrap_or_default();
            let window = old.window(place.old.saturating_sub(BEFORE), place.old + len + BEHIND, &mut seen)?;
            match &mut diff {
                None => {
                    decoder.copy(&mixer.references, window, place, out.len(), out);
                }
                Some(diff) => {
                    diff.fill(out).map_err(failed(StreamKind::Diff))?;
                    for (n, byte) in (0..).zip(out.iter_mut()) {
                        *byte = byte.wrapping_add(window.byte(place.old + n));
                    }
                    decoder.skip(out);
                }
            }
            sink.write(out)?;
            at += len;
            place = Place { old: place.old + len, done: place.done + len as u32, left: place.left - len as u32 };
        }
        cursor = place.old;
    }
    for (kind, decoder) in [(StreamKind::Diff, diff), (StreamKind::Extra, extra)] {
        if let Some(decoder) = decoder {
            decoder.finish().map_err(failed(kind))?;
        }
    }
    if decoder.is_finished() { Ok(()) } else { Err(failed(StreamKind::Diff)("not all of the coded bytes are used")) }
}
