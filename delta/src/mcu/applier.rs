//! The applier itself: refuses what does not fit before it writes, and goes on after an interruption.

use sha2::{Digest, Sha256};

use super::{
    commands::{Commands, Cursor, in_lead},
    memory::{Memory, REGIONS, SPANS},
    segment::Job,
    table::{Entry, Front, Place, digest},
};
use crate::{
    error::ApplyError,
    head::{Codec, LeadEntry, PREFIX_LEN, StreamKind, prefix_len},
    io,
    limits::Limits,
    mix::{NarrowSpan, Params, disjoint, read_regions},
};

/// What a patch says about both images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the image to start from.
    pub old_len: u32,
    /// SHA-256 of the image to start from.
    pub old_sha256: [u8; 32],
    /// Bytes of the image that the patch makes.
    pub new_len: u32,
    /// SHA-256 of the image that the patch makes.
    pub new_sha256: [u8; 32],
    /// Segments of the patch.
    pub segments: u32,
}

/// How far the new image is made and verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Segments.
    pub segments: u32,
    /// Bytes. Writing goes on here.
    pub new_offset: u32,
}

/// How much of the memory holds what is known of both views.
#[derive(Clone, Copy, Default)]
pub(super) struct Filled {
    pub spans: usize,
    pub old_regions: usize,
    pub new_regions: usize,
}

/// Applies one patch, segment by segment.
///
/// Every segment is authenticated before it is decoded, and its output checked after it was handed out. After an error other
/// than trouble reading or writing, nothing of the output behind the last [`Progress`] may be used.
pub struct Applier<'m, P> {
    memory: &'m mut Memory,
    patch: P,
    front: Front,
    filled: Filled,
    /// The next segment, and its commands when they stand in a lead.
    next: Place,
    cursor: Cursor,
    whole: Sha256,
}

impl<'m, P: Fn(u32, &mut [u8]) -> io::Result<()>> Applier<'m, P> {
    /// Authenticates the head by its `vouched` length and SHA-256, and the lead by the head; reads both and makes sure that
    /// everything fits. Nothing is written yet.
    ///
    /// # Errors
    /// [`ApplyError::HeadMismatch`]; [`ApplyError::OverBudget`] with the bytes that would be needed; every way in which the
    /// patch breaks the format, exceeds `limits` or needs another applier; trouble reading.
    #[inline(never)] // A small stack: each step gives back what it took.
    pub fn new(
        memory: &'m mut Memory,
        patch: P,
        vouched: (u32, [u8; 32]),
        limits: &Limits,
    ) -> Result<Self, ApplyError> {
        let (len, sha256) = vouched;
        let mut prefix = [0; PREFIX_LEN];
        patch(0, &mut prefix).map_err(ApplyError::ReadPatch)?;
        let head_len = prefix_len(&prefix, limits)?;
        if head_len != len || digest(&patch, 0, len, &mut memory.seen).map_err(ApplyError::ReadPatch)? != sha256 {
            return Err(ApplyError::HeadMismatch);
        }
        let front = Front::read(&patch, head_len, &mut memory.seen, limits)?;
        Memory::check(front.mix, front.map)?;
        let mut end = front.first()?;
        while end.number < front.header.segments {
            end = front.entry(&patch, end, &mut memory.seen)?.next;
        }
        if end.entry != head_len {
            return Err(ApplyError::Malformed { field: "segment table", reason: "bytes follow the last entry" });
        }
        let next = front.first()?;
        let cursor = Cursor { at: head_len, old: 0 };
        let mut applier = Self { memory, patch, front, filled: Filled::default(), next, cursor, whole: Sha256::new() };
        applier.lead()?;
        Ok(applier)
    }

    /// What the patch says about both images.
    pub fn header(&self) -> Header {
        self.front.header
    }

    /// How far the new image is.
    pub fn progress(&self) -> Progress {
        Progress { segments: self.next.number, new_offset: self.next.new_offset }
    }

    /// Checks that the old image, of `len` bytes, is the one that the patch starts from.
    ///
    /// # Errors
    /// [`ApplyError::OldLength`], [`ApplyError::OldMismatch`], or trouble reading.
    #[inline(never)] // A small stack: each step gives back what it took.
    pub fn check_old(
        &mut self,
        len: u32,
        read_old: impl Fn(u32, &mut [u8]) -> io::Result<()>,
    ) -> Result<(), ApplyError> {
        let Header { old_len, old_sha256, .. } = self.front.header;
        if len != old_len {
            return Err(ApplyError::OldLength { expected: old_len.into(), found: len.into() });
        }
        let found = digest(&read_old, 0, len, &mut self.memory.seen).map_err(ApplyError::ReadOld)?;
        if found == old_sha256 { Ok(()) } else { Err(ApplyError::OldMismatch) }
    }

    /// Goes on behind the last segment that stands verified among `written` bytes of the new image, or at the beginning.
    /// Whatever is behind does no harm: more may be said to be written than was.
    ///
    /// # Errors
    /// Trouble reading. Missing and damaged output is no error.
    #[inline(never)] // A small stack: each step gives back what it took.
    pub fn resume(
        &mut self,
        written: u32,
        read_new: impl Fn(u32, &mut [u8]) -> io::Result<()>,
    ) -> Result<Progress, ApplyError> {
        self.next = self.front.first()?;
        self.cursor = Cursor { at: self.front.head_len, old: 0 };
        self.whole = Sha256::new();
        while let Some(entry) = self.entry()? {
            if entry.next.new_offset > written {
                break;
            }
            let found = digest(&read_new, entry.place.new_offset, entry.len, &mut self.memory.seen);
            if !found.map_err(ApplyError::ReadNew)?.starts_with(&entry.check) {
                break;
            }
            let mut at = entry.place.new_offset;
            while at < entry.next.new_offset {
                let len = ((entry.next.new_offset - at) as usize).min(self.memory.seen.len());
                let bytes = self.memory.seen.get_mut(..len).unwrap_or_default();
                read_new(at, bytes).map_err(ApplyError::ReadNew)?;
                self.whole.update(&*bytes);
                at = at.saturating_add(len as u32);
            }
            if let Some(end) = self.commands_end() {
                let old_len = self.front.header.old_len;
                let mut commands = Commands::new(&self.patch, self.cursor, end, entry.len, old_len);
                while commands.next(in_lead)?.is_some() {}
                self.cursor = commands.cursor();
            }
            self.next = entry.next;
        }
        Ok(self.progress())
    }

    /// Makes the next segment and hands it to `write` in pieces of a few hundred bytes at most. `false` when there is none.
    ///
    /// # Errors
    /// [`ApplyError::SegmentMismatch`] before anything is decoded; decoding, output check, and trouble reading or writing
    /// later. The segment may be tried again: what was handed out since [`Progress::new_offset`] is then written anew.
    #[inline(never)] // A small stack: each step gives back what it took.
    pub fn segment(
        &mut self,
        read_old: impl Fn(u32, &mut [u8]) -> io::Result<()>,
        mut write: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<bool, ApplyError> {
        let Some(entry) = self.authentic()? else { return Ok(false) };
        let lead = self.commands_end().map(|end| (self.cursor, end));
        let old_len = self.front.header.old_len;
        let job = Job { patch: &self.patch, read_old, entry: &entry, old_len, lead };
        let parts = self.memory.parts(self.front.mix.unwrap_or(Params::MCU), self.filled);
        let (mut check, mut whole) = (Sha256::new(), self.whole.clone());
        let cursor = job.decode(parts, |bytes| {
            check.update(bytes);
            whole.update(bytes);
            write(bytes).map_err(ApplyError::WriteNew)
        })?;
        if !begins(check, &entry.check) {
            return Err(ApplyError::OutputMismatch { segment: entry.place.number });
        }
        self.whole = whole;
        self.cursor = cursor.unwrap_or(self.cursor);
        self.next = entry.next;
        Ok(true)
    }

    /// Checks that all segments were made and that the new image is the promised one.
    ///
    /// # Errors
    /// [`ApplyError::OutOfOrder`] when segments are missing, [`ApplyError::NewMismatch`] when the image is another.
    pub fn finish(self) -> Result<(), ApplyError> {
        let Header { segments, new_sha256, .. } = self.front.header;
        if self.next.number != segments {
            return Err(ApplyError::OutOfOrder { expected: self.next.number, found: segments });
        }
        if begins(self.whole, &new_sha256) { Ok(()) } else { Err(ApplyError::NewMismatch) }
    }

    /// The entry of the next segment, whose coded bytes are what it says.
    #[inline(never)] // A small stack need not hold all frames at once.
    fn authentic(&mut self) -> Result<Option<Entry>, ApplyError> {
        let Some(entry) = self.entry()? else { return Ok(None) };
        let coded = digest(&self.patch, entry.place.coded, entry.coded_len, &mut self.memory.seen);
        if coded.map_err(ApplyError::ReadPatch)?.starts_with(&entry.coded_sha256) {
            Ok(Some(entry))
        } else {
            Err(ApplyError::SegmentMismatch { segment: entry.place.number })
        }
    }

    /// The entry of the next segment.
    fn entry(&mut self) -> Result<Option<Entry>, ApplyError> {
        if self.next.number >= self.front.header.segments {
            return Ok(None);
        }
        self.front.entry(&self.patch, self.next, &mut self.memory.seen).map(Some)
    }

    /// Where the commands of the lead end.
    fn commands_end(&self) -> Option<u32> {
        let control = self.front.lead.as_ref()?.streams.get(StreamKind::Control)?;
        Some(self.front.head_len.saturating_add(control.coded_len))
    }

    /// Authenticates the lead and learns from it what is known of both views.
    fn lead(&mut self) -> Result<(), ApplyError> {
        let Some(lead) = self.front.lead else { return Ok(()) };
        let head_len = self.front.head_len;
        let found = digest(&self.patch, head_len, lead.coded_len, &mut self.memory.seen);
        if !found.map_err(ApplyError::ReadPatch)?.starts_with(&lead.coded_sha256) {
            return Err(ApplyError::LeadMismatch);
        }
        for stream in lead.streams.iter() {
            if stream.codec != Codec::Raw {
                let reason = "a microcontroller takes it raw only";
                return Err(ApplyError::DecodeLead { stream: stream.kind.name(), reason });
            }
        }
        let copies = self.copies(&lead)?;
        if self.front.mix.is_some() {
            let made = disjoint(&mut self.memory.spans, copies);
            // Each copy opens and closes one span.
            self.filled.spans = made.ok_or(()).or_else(|()| Memory::check_spans(2 * copies as u64).map(|()| 0))?;
            self.regions()?;
        }
        Ok(())
    }

    /// Follows the commands to the end, and puts the copies that the map knows to the end of its memory.
    fn copies(&mut self, lead: &LeadEntry) -> Result<usize, ApplyError> {
        let Header { segments, old_len, .. } = self.front.header;
        let control = lead.streams.get(StreamKind::Control).ok_or(in_lead("there is none"))?;
        let end = self.front.head_len.saturating_add(control.coded_len);
        let shortest = self.front.map.map_or(0, |bound| bound.shortest);
        let (mut place, mut cursor) = (self.next, self.cursor);
        let (mut left, mut copies) = (lead.commands, 0usize);
        while place.number < segments {
            let entry = self.front.entry(&self.patch, place, &mut self.memory.seen)?;
            let mut commands = Commands::new(&self.patch, cursor, end, entry.len, old_len);
            let mut at = place.new_offset;
            while let Some(command) = commands.next(in_lead)? {
                left = left.checked_sub(1).ok_or(in_lead("there are more commands than stated"))?;
                at = at.saturating_add(command.literal);
                if self.front.mix.is_some() && command.copy >= shortest && command.copy > 0 {
                    copies += 1;
                    Memory::check_spans(copies as u64)?;
                    if let Some(span) = self.memory.spans.get_mut(SPANS.saturating_sub(copies)) {
                        *span = NarrowSpan { old: command.old_offset, len: command.copy, new: at };
                    }
                }
                at = at.saturating_add(command.copy);
            }
            cursor = commands.cursor();
            place = entry.next;
        }
        if left != 0 || cursor.at != end {
            return Err(in_lead("commands follow the end of the last segment"));
        }
        Ok(copies)
    }

    /// Reads the regions of both views.
    fn regions(&mut self) -> Result<(), ApplyError> {
        let Some(lead) = &self.front.lead else { return Ok(()) };
        let Some(stream) = lead.streams.get(StreamKind::References) else { return Ok(()) };
        let at = self.commands_end().unwrap_or(self.front.head_len);
        let bytes = self.memory.seen.get_mut(..stream.raw_len as usize);
        // Two lists of as many regions as fit are shorter than this buffer.
        let bytes = bytes.ok_or(ApplyError::OverLimit {
            field: "raw references length",
            value: stream.raw_len.into(),
            limit: super::memory::WINDOW as u64,
        })?;
        (self.patch)(at, bytes).map_err(ApplyError::ReadPatch)?;
        let mut rest: &[u8] = bytes;
        let Header { old_len, new_len, .. } = self.front.header;
        let too_many =
            |value: usize| ApplyError::OverLimit { field: "regions", value: value as u64, limit: REGIONS as u64 };
        let views = [
            (old_len, &mut self.memory.old_regions, &mut self.filled.old_regions),
            (new_len, &mut self.memory.new_regions, &mut self.filled.new_regions),
        ];
        for (len, regions, filled) in views {
            *filled = 0;
            read_regions(&mut rest, len.into(), |region| {
                *regions.get_mut(*filled).ok_or(too_many(*filled + 1))? = region;
                *filled += 1;
                Ok(())
            })?;
        }
        let reason = "bytes follow the regions";
        if rest.is_empty() { Ok(()) } else { Err(ApplyError::DecodeLead { stream: "references", reason }) }
    }
}

/// Whether a digest begins so.
#[inline(never)] // A small stack need not hold all frames at once.
fn begins(hash: Sha256, expected: &[u8]) -> bool {
    hash.finalize().starts_with(expected)
}
