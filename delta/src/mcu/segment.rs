//! Decodes one authenticated segment, a part at a time.

use super::{
    commands::{Command, Commands, Cursor},
    forward::Forward,
    memory::{PART, Parts},
    table::Entry,
};
use crate::{
    error::ApplyError,
    head::{Codec, StreamKind},
    io,
    mix::{BEFORE, BEHIND, Decoder, LEAST_ROOM, Place, Window},
};

const _: () = assert!(PART >= LEAST_ROOM, "a part has room for whatever comes next");

/// What a segment is made from.
pub(super) struct Job<'a, P, O> {
    pub patch: &'a P,
    pub read_old: O,
    pub entry: &'a Entry,
    pub old_len: u32,
    /// Where the commands of a lead go on, and where they end.
    pub lead: Option<(Cursor, u32)>,
}

impl<P, O> Job<'_, P, O>
where
    P: Fn(u32, &mut [u8]) -> io::Result<()>,
    O: Fn(u32, &mut [u8]) -> io::Result<()>,
{
    fn failed(&self, stream: StreamKind, reason: &'static str) -> ApplyError {
        ApplyError::Decode { segment: self.entry.place.number, stream: stream.name(), reason }
    }

    /// What the old view has from `from` to `to`, as far as it goes; `seen` holds it.
    fn window<'s>(&self, from: u64, to: u64, seen: &'s mut [u8]) -> Result<Window<'s>, ApplyError> {
        let old_len = u64::from(self.old_len);
        let start = from.min(old_len);
        let len = (to.min(old_len).saturating_sub(start) as usize).min(seen.len());
        let bytes = seen.get_mut(..len).unwrap_or_default();
        if !bytes.is_empty() {
            (self.read_old)(start as u32, bytes).map_err(ApplyError::ReadOld)?;
        }
        Ok(Window { bytes, start })
    }

    /// Makes the segment and hands it to `write` in parts. Returns where the commands of a lead go on.
    #[inline(never)] // A small stack need not hold all frames at once.
    pub(super) fn decode(
        &self,
        memory: Parts<'_>,
        mut write: impl FnMut(&[u8]) -> Result<(), ApplyError>,
    ) -> Result<Option<Cursor>, ApplyError> {
        let Parts { tables, references, seen, made } = memory;
        let (entry, patch) = (self.entry, self.patch);
        let (mut raw_diff, mut raw_extra, mut mixed, mut control) = (None, None, None, None);
        let mut at = entry.place.coded;
        for stream in entry.streams.iter() {
            let end = at.saturating_add(stream.coded_len);
            match (stream.kind, stream.codec) {
                (StreamKind::Control, _) => control = Some((at, end)),
                // Literals among the copies have no bytes of their own.
                (_, Codec::Mix) if at == end && mixed.is_some() => {}
                (_, Codec::Mix) => mixed = Some(Forward::new(patch, at, end)),
                (StreamKind::Diff, _) => raw_diff = Some(Forward::new(patch, at, end)),
                _ => raw_extra = Some(Forward::new(patch, at, end)),
            }
            at = end;
        }
        let start = u64::from(entry.place.new_offset);
        let mut decoder = mixed.map(|coded| Decoder::new(tables, coded, start));
        let own = Cursor { at: control.map_or(0, |(at, _)| at), old: entry.place.new_offset.min(self.old_len) };
        let (first, commands_end) = self.lead.unwrap_or((own, control.map_or(0, |(_, end)| end)));
        let mut commands = Commands::new(patch, first, commands_end, entry.len, self.old_len);
        let mut at = start;
        let mut cursor = start.min(self.old_len.into());
        let missing = "more bytes are wanted than the stream has";
        while let Some(command) = commands.next(|reason| self.failed(StreamKind::Control, reason))? {
            let Command { literal, copy, old_offset } = command;
            let mut left = literal;
            if let Some(decoder) = decoder.as_mut().filter(|_| left > 0) {
                decoder.begin_literals();
            }
            while left > 0 {
                let ahead = references.new.piece(at).min(left.into()) as usize;
                let out = made.get_mut(..ahead.min(PART)).unwrap_or_default();
                let failed = self.failed(StreamKind::Extra, missing);
                let done = match (&mut raw_extra, &mut decoder) {
                    (Some(extra), decoder) => {
                        let filled = extra.fill(out);
                        extra.checked(if filled { Ok(()) } else { Err(failed) })?;
                        if let Some(decoder) = decoder {
                            decoder.skip(out);
                        }
                        out.len()
                    }
                    (None, Some(decoder)) => {
                        let window = self.window(cursor, cursor + out.len() as u64, seen)?;
                        let done = decoder.literal(&references, window, cursor, ahead, out);
                        decoder.source().checked(Ok(done))?
                    }
                    (None, None) => return Err(failed),
                };
                write(progress(out, done)?)?;
                at += done as u64;
                cursor += done as u64;
                left = left.saturating_sub(done as u32);
            }
            let mut place = Place { old: old_offset.into(), done: 0, left: copy };
            while place.left > 0 {
                let ahead = references.new.piece(at).min(place.left.into()) as usize;
                let out = made.get_mut(..ahead.min(PART)).unwrap_or_default();
                let behind = place.old + out.len() as u64 + BEHIND;
                let window = self.window(place.old.saturating_sub(BEFORE), behind, seen)?;
                let failed = self.failed(StreamKind::Diff, missing);
                let done = match (&mut raw_diff, &mut decoder) {
                    (Some(diff), decoder) => {
                        let filled = diff.fill(out);
                        diff.checked(if filled { Ok(()) } else { Err(failed) })?;
                        for (n, byte) in (0..).zip(out.iter_mut()) {
                            *byte = byte.wrapping_add(window.byte(place.old + n));
                        }
                        if let Some(decoder) = decoder {
                            decoder.skip(out);
                        }
                        out.len()
                    }
                    (None, Some(decoder)) => {
                        let done = decoder.copy(&references, window, place, ahead, out);
                        decoder.source().checked(Ok(done))?
                    }
                    (None, None) => return Err(failed),
                };
                write(progress(out, done)?)?;
                at += done as u64;
                place = Place {
                    old: place.old + done as u64,
                    done: place.done.saturating_add(done as u32),
                    left: place.left.saturating_sub(done as u32),
                };
            }
            cursor = place.old;
        }
        for (kind, stream) in [(StreamKind::Diff, raw_diff), (StreamKind::Extra, raw_extra)] {
            if stream.is_some_and(|mut stream| stream.next().is_some()) {
                return Err(self.failed(kind, "not all of the stream is used"));
            }
        }
        if decoder.is_some_and(|mut decoder| !decoder.is_finished()) {
            return Err(self.failed(StreamKind::Diff, "not all of the coded bytes are used"));
        }
        let cursor = commands.cursor();
        if self.lead.is_some() {
            return Ok(Some(cursor));
        }
        if cursor.at == commands_end {
            Ok(None)
        } else {
            Err(self.failed(StreamKind::Control, "commands follow the end of the segment"))
        }
    }
}

/// What was made. It is never nothing, so that loops end.
fn progress(out: &[u8], done: usize) -> Result<&[u8], ApplyError> {
    let made = out.get(..done).filter(|made| !made.is_empty());
    made.ok_or(ApplyError::Malformed { field: "segment", reason: "nothing is made" })
}
