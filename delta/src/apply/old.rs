//! The old view, read at random through one block: the old image, and behind it the contents of its streams.

use alloc::{vec, vec::Vec};

use super::memory::BLOCK;
use crate::{
    content::{ContentError, OldContents, Unfolded},
    error::ApplyError,
    head::Head,
    io::{Read, Seek, Write},
    limits::ApplyBudget,
    mix::Window,
};

/// What is kept of the old view between segments.
pub(super) struct OldView<S> {
    len: u64,
    block: Vec<u8>,
    unfolded: Unfolded,
    scratch: S,
}

impl<S: Read + Write + Seek> OldView<S> {
    /// Plans reading the view within what is left of a budget.
    pub(super) fn new(head: &Head, left: ApplyBudget, scratch: S) -> Result<Self, ContentError> {
        let unfolded = Unfolded::new(head.old_len, head.views.old_streams(), left)?;
        Ok(Self { len: head.views.old_len, block: vec![0; BLOCK], unfolded, scratch })
    }

    /// The view with its image at hand. No bytes of the image are kept from before: between two segments the caller may
    /// have given another reader.
    pub(super) fn over<'a, O: Read + Seek>(&'a mut self, image: &'a mut O) -> OpenView<'a, O, S> {
        let contents = OldContents::new(&mut self.unfolded, image, &mut self.scratch);
        OpenView { len: self.len, block: &mut self.block, contents, start: 0, filled: 0 }
    }
}

/// The old view for the time of one segment.
pub(super) struct OpenView<'a, O, S> {
    len: u64,
    block: &'a mut [u8],
    contents: OldContents<'a, &'a mut O, &'a mut S>,
    /// Offset of the block in the view.
    start: u64,
    /// Bytes of the block that are valid.
    filled: usize,
}

impl<O: Read + Seek, S: Read + Write + Seek> OpenView<'_, O, S> {
    /// Bytes of the view.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Up to `wanted` bytes at `offset`, at least one; commands were already held against the length of the view.
    pub(super) fn at(&mut self, offset: u64, wanted: usize) -> Result<&[u8], ApplyError> {
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

    /// What the view has from `from` to `to`, as far as it goes; `seen` holds it.
    pub(super) fn window<'s>(&mut self, from: u64, to: u64, seen: &'s mut [u8]) -> Result<Window<'s>, ApplyError> {
        let from = from.min(self.len);
        let len = usize::try_from(to.min(self.len).saturating_sub(from)).unwrap_or(usize::MAX).min(seen.len());
        let seen = seen.get_mut(..len).unwrap_or_default();
        let (mut at, mut rest) = (from, &mut *seen);
        while !rest.is_empty() {
            let bytes = self.at(at, rest.len())?;
            let done = bytes.len();
            let Some((now, later)) = rest.split_at_mut_checked(done) else { break };
            now.copy_from_slice(bytes);
            at += done as u64;
            rest = later;
        }
        Ok(Window { bytes: seen, start: from })
    }

    /// Fills the block from one piece of the view: reading on into the next stream would decode it for nothing.
    fn load(&mut self, offset: u64) -> Result<(), ApplyError> {
        self.filled = 0;
        let left = self.contents.piece_end(offset).saturating_sub(offset);
        let len = usize::try_from(left).unwrap_or(BLOCK).min(self.block.len());
        let block = self.block.get_mut(..len).unwrap_or_default();
        self.contents.read_at(offset, block).map_err(|error| match error {
            ContentError::Io(error) => ApplyError::ReadOld(error),
            source => ApplyError::OldContent(source),
        })?;
        self.start = offset;
        self.filled = len;
        Ok(())
    }
}
