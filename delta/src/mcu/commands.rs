//! Commands, read from the patch where they stand: there is no memory to keep them in.

use super::forward::Forward;
use crate::{error::ApplyError, head::StreamKind, io, varint};

/// One command, as in `apply::control`.
#[derive(Clone, Copy)]
pub(super) struct Command {
    pub literal: u32,
    pub copy: u32,
    pub old_offset: u32,
}

/// Where the next command stands, and the old cursor there.
#[derive(Clone, Copy)]
pub(super) struct Cursor {
    pub at: u32,
    pub old: u32,
}

/// Commands of one segment.
pub(super) struct Commands<'p, P> {
    source: Forward<'p, P>,
    old: u32,
    old_len: u32,
    /// Output bytes of the segment still to make.
    left: u32,
}

impl<'p, P: Fn(u32, &mut [u8]) -> io::Result<()>> Commands<'p, P> {
    /// Commands for `len` bytes of output. They stand in the patch from the cursor to `end` at most.
    pub(super) fn new(patch: &'p P, cursor: Cursor, end: u32, len: u32, old_len: u32) -> Self {
        Self { source: Forward::new(patch, cursor.at, end), old: cursor.old, old_len, left: len }
    }

    /// Where the commands behind those that were read stand.
    pub(super) fn cursor(&self) -> Cursor {
        Cursor { at: self.source.place(), old: self.old }
    }

    /// The next command; `None` when the segment is complete. Each makes output or is refused, so this ends.
    pub(super) fn next(&mut self, failed: impl Fn(&'static str) -> ApplyError) -> Result<Option<Command>, ApplyError> {
        if self.left == 0 {
            return Ok(None);
        }
        let command = self.command().map_err(failed);
        self.source.checked(command).map(Some)
    }

    fn command(&mut self) -> Result<Command, &'static str> {
        let literal = self.take_len()?;
        if self.left == 0 {
            return Ok(Command { literal, copy: 0, old_offset: self.old });
        }
        let copy = self.take_len()?;
        if copy == 0 {
            return Err("a command copies nothing");
        }
        let step = varint::unzigzag(self.take()?);
        let old_offset = u64::from(self.old).checked_add_signed(step).ok_or("a copy starts before the old view")?;
        let end = old_offset.checked_add(u64::from(copy)).filter(|&end| end <= u64::from(self.old_len));
        self.old = end.ok_or("a copy reaches past the old view")? as u32;
        Ok(Command { literal, copy, old_offset: old_offset as u32 })
    }

    fn take(&mut self) -> Result<u64, &'static str> {
        varint::read_from("command", || self.source.next()).map_err(|_| "a command is cut short or not an integer")
    }

    /// A length, taken off what the segment still lacks.
    fn take_len(&mut self) -> Result<u32, &'static str> {
        let len = u32::try_from(self.take()?).map_err(|_| "a command is longer than the segment")?;
        self.left = self.left.checked_sub(len).ok_or("a command is longer than the segment")?;
        Ok(len)
    }
}

/// An error in the commands of a lead.
pub(super) fn in_lead(reason: &'static str) -> ApplyError {
    ApplyError::DecodeLead { stream: StreamKind::Control.name(), reason }
}
