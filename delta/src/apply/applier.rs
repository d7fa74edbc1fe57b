//! Applies a patch segment by segment: authenticate, decode into bounded memory, check the output.

use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};

use sha2::{Digest, Sha256};

use super::{
    control::{Command, Commands},
    decode::StreamDecoder,
    memory::{self, BLOCK},
};
use crate::{
    error::ApplyError,
    head::{Head, Segment, StreamKind},
    limits::ApplyBudget,
};

/// Where an interrupted application goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumePoint {
    /// Segments whose output stands complete and verified.
    pub segments_done: u32,
    /// Bytes of verified output; writing goes on here.
    pub new_offset: u64,
    /// Offset in the patch of the first byte still needed.
    pub patch_offset: u64,
}

/// Applies one patch, segment by segment in table order.
///
/// Made for devices that receive a patch over a network: each segment is authenticated by the head before any of it is
/// decoded, memory stays within the budget, and work that survived an interruption is found again.
pub struct Applier<'h> {
    head: &'h Head,
    next: u32,
    /// Over the output so far; only meaningful while the table is in output order.
    output: Sha256,
    in_order: bool,
    out_block: Vec<u8>,
    old_block: Vec<u8>,
}

impl<'h> Applier<'h> {
    /// Begins at the first segment.
    ///
    /// # Errors
    /// [`ApplyError::OverBudget`] when the head declares, or the table needs, more than the budget.
    pub fn new(head: &'h Head, budget: ApplyBudget) -> Result<Self, ApplyError> {
        let ram = head.ram.max(memory::needed(&head.segments));
        for (resource, needed, budget) in [("memory", ram, budget.ram), ("scratch", head.scratch, budget.scratch)] {
            if needed > budget {
                return Err(ApplyError::OverBudget { resource, needed, budget });
            }
        }
        Ok(Self {
            head,
            next: 0,
            output: Sha256::new(),
            in_order: head.in_order(),
            out_block: vec![0; BLOCK],
            old_block: vec![0; BLOCK],
        })
    }

    /// The segment to apply next; `None` when all are done.
    pub fn next_segment(&self) -> Option<&'h Segment> {
        self.head.segments.get(self.next as usize)
    }

    /// Checks that `old` is the image that the patch starts from: length, then SHA-256 over all of it.
    ///
    /// # Errors
    /// [`ApplyError::OldLength`], [`ApplyError::OldMismatch`], or trouble reading.
    pub fn check_old(&mut self, old: &mut (impl Read + Seek)) -> Result<(), ApplyError> {
        self.check_old_len(old)?;
        old.seek(SeekFrom::Start(0)).map_err(ApplyError::ReadOld)?;
        let mut hash = Sha256::new();
        let read = self.hash_up_to(old, self.head.old_len, |bytes| hash.update(bytes)).map_err(ApplyError::ReadOld)?;
        if read == self.head.old_len && hash.finalize()[..] == self.head.old_sha256 {
            Ok(())
        } else {
            Err(ApplyError::OldMismatch)
        }
    }

    /// Checks the length of `old` alone.
    ///
    /// # Errors
    /// [`ApplyError::OldLength`], or trouble seeking.
    pub fn check_old_len(&self, old: &mut impl Seek) -> Result<(), ApplyError> {
        let found = old.seek(SeekFrom::End(0)).map_err(ApplyError::ReadOld)?;
        if found == self.head.old_len {
            Ok(())
        } else {
            Err(ApplyError::OldLength { expected: self.head.old_len, found })
        }
    }

    /// Reads what is already in the slot from its beginning, and finds the last segment whose check verifies. The
    /// applier goes on from there; the caller cuts or overwrites the output from `new_offset` on.
    ///
    /// # Errors
    /// [`ApplyError::NeedsSeek`] when the table is not in output order, or trouble reading. Missing and damaged output is
    /// no error.
    pub fn resume_point(&mut self, new: &mut impl Read) -> Result<ResumePoint, ApplyError> {
        if !self.in_order {
            return Err(ApplyError::NeedsSeek);
        }
        self.next = 0;
        self.output = Sha256::new();
        let mut point = ResumePoint { segments_done: 0, new_offset: 0, patch_offset: u64::from(self.head.head_len) };
        for segment in &self.head.segments {
            let (mut check, mut output) = (Sha256::new(), self.output.clone());
            let read = self
                .hash_up_to(new, u64::from(segment.len), |bytes| {
                    check.update(bytes);
                    output.update(bytes);
                })
                .map_err(ApplyError::ReadNew)?;
            if read < u64::from(segment.len) || !check.finalize().starts_with(&segment.check) {
                break;
            }
            self.output = output;
            self.next += 1;
            point.segments_done += 1;
            point.new_offset += u64::from(segment.len);
            point.patch_offset = segment.patch_offset + u64::from(segment.coded_len);
        }
        Ok(point)
    }

    /// Applies segment `index`, which must be the next one of the table. `coded` are its bytes of the patch; `out`
    /// stands at the segment's offset.
    ///
    /// After an error the output behind the last good segment is worthless, and the same segment may be tried again.
    ///
    /// # Errors
    /// [`ApplyError::SegmentMismatch`] before anything is decoded or written; decoding, output check and IO errors later.
    pub fn segment(
        &mut self,
        index: u32,
        coded: &[u8],
        old: &mut (impl Read + Seek),
        out: &mut impl Write,
    ) -> Result<(), ApplyError> {
        let out_of_order = ApplyError::OutOfOrder { expected: self.next, found: index };
        let Some(segment) = self.next_segment().filter(|_| index == self.next) else {
            return Err(out_of_order);
        };
        if coded.len() as u64 != u64::from(segment.coded_len)
            || !Sha256::digest(coded).starts_with(&segment.coded_sha256)
        {
            return Err(ApplyError::SegmentMismatch { segment: index });
        }
        let output = self.in_order.then(|| self.output.clone());
        let mut sink = Sink { block: &mut self.out_block, filled: 0, out, check: Sha256::new(), output };
        let mut source = OldView { old, block: &mut self.old_block, start: 0, filled: 0, old_len: self.head.old_len };
        decode_segment(index, segment, coded, &mut source, &mut sink)?;
        sink.flush()?;
        if !sink.check.finalize().starts_with(&segment.check) {
            return Err(ApplyError::OutputMismatch { segment: index });
        }
        if let Some(output) = sink.output {
            self.output = output;
        }
        self.next += 1;
        Ok(())
    }

    /// Checks that all segments were applied and that the output is the promised image.
    ///
    /// # Errors
    /// [`ApplyError::OutOfOrder`] when segments are missing, [`ApplyError::NewMismatch`] when the output is another image,
    /// [`ApplyError::NeedsSeek`] when the table was not in output order: use [`Applier::finish_reading`].
    pub fn finish(self) -> Result<(), ApplyError> {
        self.all_done()?;
        if !self.in_order {
            return Err(ApplyError::NeedsSeek);
        }
        if self.output.finalize()[..] == self.head.new_sha256 { Ok(()) } else { Err(ApplyError::NewMismatch) }
    }

    /// Like [`Applier::finish`], but reads the whole output back. It works for every table, and also catches storage that
    /// did not keep what was written.
    ///
    /// # Errors
    /// As for [`Applier::finish`], and trouble reading.
    pub fn finish_reading(mut self, new: &mut impl Read) -> Result<(), ApplyError> {
        self.all_done()?;
        let mut hash = Sha256::new();
        let read = self.hash_up_to(new, self.head.new_len, |bytes| hash.update(bytes)).map_err(ApplyError::ReadNew)?;
        if read == self.head.new_len && hash.finalize()[..] == self.head.new_sha256 {
            Ok(())
        } else {
            Err(ApplyError::NewMismatch)
        }
    }

    fn all_done(&self) -> Result<(), ApplyError> {
        let count = self.head.segments.len() as u32;
        if self.next == count { Ok(()) } else { Err(ApplyError::OutOfOrder { expected: self.next, found: count }) }
    }

    /// Feeds up to `len` bytes of `from` to `sink`, returns how many there were.
    fn hash_up_to(&mut self, from: &mut impl Read, len: u64, mut sink: impl FnMut(&[u8])) -> std::io::Result<u64> {
        let mut done = 0;
        while done < len {
            let want = usize::try_from(len - done).unwrap_or(BLOCK).min(BLOCK);
            let Some(block) = self.out_block.get_mut(..want) else { break };
            let read = match from.read(block) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            sink(block.get(..read).unwrap_or_default());
            done += read as u64;
        }
        Ok(done)
    }
}

/// Decodes one authenticated segment.
fn decode_segment<O: Read + Seek, W: Write>(
    index: u32,
    segment: &Segment,
    coded: &[u8],
    old: &mut OldView<'_, O>,
    sink: &mut Sink<'_, W>,
) -> Result<(), ApplyError> {
    let failed =
        |stream: StreamKind| move |reason| ApplyError::Decode { segment: index, stream: stream.name(), reason };
    let mut rest = coded;
    let mut control = Vec::new();
    let (mut diff, mut extra) = (StreamDecoder::absent(), StreamDecoder::absent());
    for stream in &segment.streams {
        let (bytes, after) =
            rest.split_at_checked(stream.coded_len as usize).ok_or(ApplyError::SegmentMismatch { segment: index })?;
        rest = after;
        let mut decoder = StreamDecoder::new(stream, bytes).map_err(failed(stream.kind))?;
        match stream.kind {
            StreamKind::Control => {
                control.resize(stream.raw_len as usize, 0);
                decoder.fill(&mut control).map_err(failed(stream.kind))?;
                decoder.finish().map_err(failed(stream.kind))?;
            }
            StreamKind::Diff => diff = decoder,
            StreamKind::Extra => extra = decoder,
        }
    }
    let mut commands = Commands::new(&control, segment.new_offset, segment.len, old.old_len);
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

/// Collects output into blocks, hashes and writes them.
struct Sink<'a, W> {
    block: &'a mut [u8],
    filled: usize,
    out: &'a mut W,
    check: Sha256,
    output: Option<Sha256>,
}

impl<W: Write> Sink<'_, W> {
    /// Room for up to `wanted` bytes, never none; the caller adds what it filled to `filled`.
    fn room(&mut self, wanted: usize) -> Result<&mut [u8], ApplyError> {
        if self.filled >= self.block.len() {
            self.flush()?;
        }
        let end = self.block.len().min(self.filled.saturating_add(wanted));
        Ok(self.block.get_mut(self.filled..end).unwrap_or_default())
    }

    fn flush(&mut self) -> Result<(), ApplyError> {
        let bytes = self.block.get(..self.filled).unwrap_or_default();
        self.check.update(bytes);
        if let Some(output) = &mut self.output {
            output.update(bytes);
        }
        self.out.write_all(bytes).map_err(ApplyError::WriteNew)?;
        self.filled = 0;
        Ok(())
    }
}

/// The old view, read at random through one block.
struct OldView<'a, O> {
    old: &'a mut O,
    block: &'a mut [u8],
    /// Offset of the block in the view.
    start: u64,
    /// Bytes of the block that are valid.
    filled: usize,
    old_len: u64,
}

impl<O: Read + Seek> OldView<'_, O> {
    /// Up to `wanted` bytes at `offset`, at least one; commands were already held against the length of the view.
    fn at(&mut self, offset: u64, wanted: usize) -> Result<&[u8], ApplyError> {
        let held = offset.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        let skip = if let Some(skip) = held.filter(|&skip| skip < self.filled) {
            skip
        } else {
            self.load(offset)?;
            0
        };
        let end = self.filled.min(skip.saturating_add(wanted));
        Ok(self.block.get(skip..end).unwrap_or_default())
    }

    fn load(&mut self, offset: u64) -> Result<(), ApplyError> {
        self.filled = 0;
        let len = usize::try_from(self.old_len.saturating_sub(offset)).unwrap_or(BLOCK).min(self.block.len());
        let block = self.block.get_mut(..len).unwrap_or_default();
        self.old.seek(SeekFrom::Start(offset)).map_err(ApplyError::ReadOld)?;
        self.old.read_exact(block).map_err(ApplyError::ReadOld)?;
        self.start = offset;
        self.filled = len;
        Ok(())
    }
}
