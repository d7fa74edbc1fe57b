//! Applies a patch segment by segment: authenticate, decode into bounded memory, rebuild, check the output.

use alloc::{vec, vec::Vec};

use sha2::{Digest, Sha256};

use super::{
    lead::Lead,
    memory::{self, BLOCK},
    old::OldView,
    rebuild::{Output, Rebuilder},
    segment::{self, Sink},
};
#[cfg(feature = "recode")]
use crate::content::Helpers;
use crate::{
    content::ContentError,
    error::ApplyError,
    head::{Head, Segment},
    io::{self, Empty, ErrorKind, Read, Seek, SeekFrom, Write},
    limits::ApplyBudget,
    mix::Tables,
};

/// Where an interrupted application goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumePoint {
    /// Segments whose output stands complete and verified.
    pub segments_done: u32,
    /// Bytes of verified output; writing goes on here.
    pub new_offset: u64,
    /// Offset in the patch of the first byte still needed, besides the lead.
    pub patch_offset: u64,
}

/// Applies one patch, segment by segment in table order.
///
/// Made for devices that receive a patch over a network: each segment is authenticated by the head before any of it is
/// decoded, memory stays within the budget, and work that survived an interruption is found again.
///
/// `S` is scratch storage that old contents may be kept in, beginning at its offset 0; a patch that declares none needs none.
pub struct Applier<'h, S = Empty> {
    pub(super) head: &'h Head,
    pub(super) next: u32,
    pub(super) lead: Option<Lead>,
    /// Made for the first segment: several threads have tables of their own.
    pub(super) tables: Option<Tables>,
    pub(super) rebuilder: Rebuilder<'h>,
    pub(super) output: Output,
    pub(super) in_order: bool,
    /// A segment failed after some of it had passed the layers, whose state is lost.
    pub(super) interrupted: bool,
    out_block: Vec<u8>,
    old: OldView<S>,
}

impl<'h> Applier<'h> {
    /// Begins at the first segment, without scratch storage.
    ///
    /// # Errors
    /// [`ApplyError::OverBudget`] when the head declares, or the table needs, more than the budget;
    /// [`ApplyError::UnknownRecoder`] when streams are to be re-encoded and this crate was built without encoders.
    pub fn new(head: &'h Head, budget: ApplyBudget) -> Result<Self, ApplyError> {
        Self::with_scratch(head, ApplyBudget { scratch: 0, ..budget }, io::empty())
    }
}

impl<'h, S: Read + Write + Seek> Applier<'h, S> {
    /// Begins at the first segment.
    ///
    /// # Errors
    /// As for [`Applier::new`].
    pub fn with_scratch(head: &'h Head, budget: ApplyBudget, scratch: S) -> Result<Self, ApplyError> {
        let own = memory::needed(head);
        for (resource, needed, budget) in
            [("memory", head.ram.max(own), budget.ram), ("scratch", head.scratch, budget.scratch)]
        {
            if needed > budget {
                return Err(ApplyError::OverBudget { resource, needed, budget });
            }
        }
        let left = ApplyBudget { ram: budget.ram - own, scratch: budget.scratch };
        let old = OldView::new(head, left, scratch).map_err(|error| match error {
            ContentError::OverLimit { field: "scratch", value, .. } => {
                ApplyError::OverBudget { resource: "scratch", needed: value, budget: budget.scratch }
            }
            ContentError::OverLimit { value, .. } => {
                ApplyError::OverBudget { resource: "memory", needed: own.saturating_add(value), budget: budget.ram }
            }
            source => ApplyError::OldContent(source),
        })?;
        let in_order = head.in_order();
        Ok(Self {
            head,
            next: 0,
            lead: None,
            tables: None,
            rebuilder: Rebuilder::new(&head.views, 0)?,
            output: Output::new(in_order),
            in_order,
            interrupted: false,
            out_block: vec![0; BLOCK],
            old,
        })
    }

    /// Encodes with other versions of Zstandard than the linked one, through helper programs.
    #[cfg(feature = "recode")]
    #[must_use]
    pub fn helped_by(mut self, helpers: Helpers) -> Self {
        self.rebuilder.helped_by(helpers);
        self
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

    /// Takes the lead, when the head has one: `coded` are the bytes of the patch behind the head. It comes before the first
    /// segment, and again when an interrupted application goes on.
    ///
    /// # Errors
    /// [`ApplyError::LeadMismatch`] before anything is decoded, [`ApplyError::DecodeLead`] later.
    pub fn lead(&mut self, coded: &[u8]) -> Result<(), ApplyError> {
        let Some(lead) = &self.head.lead else { return Ok(()) };
        if coded.len() as u64 != u64::from(lead.coded_len) || !Sha256::digest(coded).starts_with(&lead.coded_sha256) {
            return Err(ApplyError::LeadMismatch);
        }
        self.lead = Some(Lead::decode(self.head, lead, coded)?);
        Ok(())
    }

    /// Reads what is already in the slot from its beginning, and finds the last resume point whose check verifies. The
    /// applier goes on from there; the caller cuts or overwrites the output from `new_offset` on.
    ///
    /// # Errors
    /// [`ApplyError::NeedsSeek`] when the table is not in output order, or trouble reading. Missing and damaged output is
    /// no error.
    pub fn resume_point(&mut self, new: &mut impl Read) -> Result<ResumePoint, ApplyError> {
        if !self.in_order {
            return Err(ApplyError::NeedsSeek);
        }
        let mut point = ResumePoint { segments_done: 0, new_offset: 0, patch_offset: self.head.segments_offset() };
        let (mut whole, mut view_offset) = (Sha256::new(), 0);
        for (number, segment) in (1u32..).zip(&self.head.segments) {
            let Some((end, expected)) = segment.image_end.zip(segment.check) else { continue };
            let len = end.saturating_sub(point.new_offset);
            let (mut check, mut output) = (Sha256::new(), whole.clone());
            let read = self
                .hash_up_to(new, len, |bytes| {
                    check.update(bytes);
                    output.update(bytes);
                })
                .map_err(ApplyError::ReadNew)?;
            if read < len || !check.finalize().starts_with(&expected) {
                break;
            }
            whole = output;
            view_offset = segment.new_offset + u64::from(segment.len);
            point = ResumePoint {
                segments_done: number,
                new_offset: end,
                patch_offset: segment.patch_offset + u64::from(segment.coded_len),
            };
        }
        self.next = point.segments_done;
        self.output = Output { check: Some(Sha256::new()), whole: Some(whole) };
        self.rebuilder.go_to(view_offset);
        self.interrupted = false;
        Ok(point)
    }

    /// Applies segment `index`, which must be the next one of the table. `coded` are its bytes of the patch; `out`
    /// stands where the segments before stopped, or at the segment's offset when the table is in another order.
    ///
    /// After an error the output behind the last resume point is worthless. The same segment may be tried again, unless
    /// the image has streams that are re-encoded and the error came after authentication: then
    /// [`Applier::resume_point`] finds where to go on.
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
        if self.interrupted {
            return Err(ApplyError::Interrupted);
        }
        segment::authenticate(index, segment, coded)?;
        let before = self.output.clone();
        let done = self.decode(index, segment, coded, old, out);
        if done.is_err() {
            self.output = before;
            self.interrupted = !self.head.views.layers.is_empty();
        } else {
            self.next += 1;
        }
        done
    }

    fn decode(
        &mut self,
        index: u32,
        segment: &Segment,
        coded: &[u8],
        old: &mut (impl Read + Seek),
        out: &mut impl Write,
    ) -> Result<(), ApplyError> {
        let mut sink = Sink::new(&mut self.out_block, &mut self.rebuilder, &mut self.output, out);
        if let Some(params) = self.head.mix.filter(|_| self.tables.is_none()) {
            self.tables = Some(Tables::new(params));
        }
        let (lead, tables) = (self.lead.as_ref(), self.tables.as_mut());
        segment::decode(index, segment, coded, lead, tables, &mut self.old.over(old), &mut sink)?;
        sink.flush()?;
        self.output.hold_against(index, segment)
    }

    /// Checks that all segments were applied and that the output is the promised image.
    ///
    /// # Errors
    /// [`ApplyError::OutOfOrder`] when segments are missing, [`ApplyError::NewMismatch`] when the output is another image,
    /// [`ApplyError::NeedsSeek`] when the table was not in output order: use [`Applier::finish_reading`].
    pub fn finish(self) -> Result<(), ApplyError> {
        self.all_done()?;
        let whole = self.output.whole.ok_or(ApplyError::NeedsSeek)?;
        if whole.finalize()[..] == self.head.new_sha256 { Ok(()) } else { Err(ApplyError::NewMismatch) }
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
    fn hash_up_to(&mut self, from: &mut impl Read, len: u64, mut sink: impl FnMut(&[u8])) -> io::Result<u64> {
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
