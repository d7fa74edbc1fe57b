//! Decodes one authenticated segment.

use sha2::{Digest, Sha256};

use super::{
    control::{Command, Commands},
    decode::StreamDecoder,
    lead::Lead,
    mixed::{self, Mixer},
    old::OpenView,
    rebuild::{Output, Rebuilder},
};
use crate::{
    error::ApplyError,
    head::{Codec, Segment, StreamKind},
    io::{Read, Seek, Write},
    mix::Tables,
};

/// Holds the coded bytes of a segment against the head.
pub(super) fn authenticate(index: u32, segment: &Segment, coded: &[u8]) -> Result<(), ApplyError> {
    let as_long = coded.len() as u64 == u64::from(segment.coded_len);
    if as_long && Sha256::digest(coded).starts_with(&segment.coded_sha256) {
        Ok(())
    } else {
        Err(ApplyError::SegmentMismatch { segment: index })
    }
}

/// Decodes a segment; its commands come from its own control stream, or from the lead. `tables` are for mixed streams.
pub(super) fn decode<O: Read + Seek, S: Read + Write + Seek, W: Write>(
    index: u32,
    segment: &Segment,
    coded: &[u8],
    lead: Option<&Lead>,
    tables: Option<&mut Tables>,
    old: &mut OpenView<'_, O, S>,
    sink: &mut Sink<'_, '_, W>,
) -> Result<(), ApplyError> {
    if segment.streams.iter().any(|stream| stream.codec == Codec::Mix) {
        let lead = lead.ok_or(ApplyError::LeadMissing)?;
        let (references, tables) = lead.references().zip(tables).ok_or(ApplyError::LeadMissing)?;
        let mut mixer = Mixer { commands: &lead.commands, references, tables };
        return mixed::decode(index, segment, coded, &mut mixer, old, sink);
    }
    let failed =
        |stream: StreamKind| move |reason| ApplyError::Decode { segment: index, stream: stream.name(), reason };
    let mut rest = coded;
    let mut control = None;
    let (mut diff, mut extra) = (StreamDecoder::absent(), StreamDecoder::absent());
    for stream in &segment.streams {
        let (bytes, after) =
            rest.split_at_checked(stream.coded_len as usize).ok_or(ApplyError::SegmentMismatch { segment: index })?;
        rest = after;
        let failed = failed(stream.kind);
        match stream.kind {
            StreamKind::Control => {
                control = Some(StreamDecoder::whole(stream.codec, stream.raw_len, bytes).map_err(failed)?);
            }
            StreamKind::Diff => diff = StreamDecoder::new(stream.codec, stream.raw_len, bytes).map_err(failed)?,
            StreamKind::Extra => extra = StreamDecoder::new(stream.codec, stream.raw_len, bytes).map_err(failed)?,
            StreamKind::References => return Err(failed("it belongs into a lead")),
        }
    }
    let mut commands = match &control {
        Some(control) => {
            let cursor = segment.new_offset.min(old.len());
            Commands::new(control, cursor, segment.len, old.len())
        }
        None => lead.ok_or(ApplyError::LeadMissing)?.commands.of(index, segment.len),
    };
    while let Some(Command { literal, copy, mut old_offset }) = commands.next().map_err(failed(StreamKind::Control))? {
        let mut left = literal as usize;
        while left > 0 {
            let room = sink.room(left)?;
            extra.fill(room).map_err(failed(StreamKind::Extra))?;
            let done = room.len();
            sink.filled += done;
            left -= done;
        }
        let mut left = copy as usize;
        while left > 0 {
            let room = sink.room(left)?;
            let bytes = old.at(old_offset, room.len())?;
            let done = bytes.len();
            let Some(room) = room.get_mut(..done) else { break };
            diff.fill(room).map_err(failed(StreamKind::Diff))?;
            for (new, old) in room.iter_mut().zip(bytes) {
                *new = new.wrapping_add(*old);
            }
            sink.filled += done;
            left -= done;
            old_offset += done as u64;
        }
    }
    diff.finish().map_err(failed(StreamKind::Diff))?;
    extra.finish().map_err(failed(StreamKind::Extra))
}

/// Collects the new view into blocks and passes them on.
pub(super) struct Sink<'a, 'h, W> {
    block: &'a mut [u8],
    filled: usize,
    rebuilder: &'a mut Rebuilder<'h>,
    output: &'a mut Output,
    out: &'a mut W,
}

impl<'a, 'h, W: Write> Sink<'a, 'h, W> {
    pub(super) fn new(
        block: &'a mut [u8],
        rebuilder: &'a mut Rebuilder<'h>,
        output: &'a mut Output,
        out: &'a mut W,
    ) -> Self {
        Self { block, filled: 0, rebuilder, output, out }
    }

    /// Room for up to `wanted` bytes, never none; the caller adds what it filled to `filled`.
    fn room(&mut self, wanted: usize) -> Result<&mut [u8], ApplyError> {
        if self.filled >= self.block.len() {
            self.flush()?;
        }
        let end = self.block.len().min(self.filled.saturating_add(wanted));
        Ok(self.block.get_mut(self.filled..end).unwrap_or_default())
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<(), ApplyError> {
        while !bytes.is_empty() {
            let room = self.room(bytes.len())?;
            let (now, later) = bytes.split_at(room.len());
            room.copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<(), ApplyError> {
        let bytes = self.block.get(..self.filled).unwrap_or_default();
        self.filled = 0;
        self.rebuilder.push(bytes, self.output, self.out)
    }
}
