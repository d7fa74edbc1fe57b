//! The control stream of a segment: a list of commands, and the checks that keep them inside both views.

use crate::varint;

/// One command: first literal bytes, then bytes of the old view with differences added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Command {
    /// Bytes to take from the extra stream.
    pub literal: u32,
    /// Bytes to take from the old view and the diff stream.
    pub copy: u32,
    /// Where in the old view they start.
    pub old_offset: u64,
}

/// Reads commands from the raw control stream.
pub(crate) struct Commands<'a> {
    rest: &'a [u8],
    old_len: u64,
    /// Where the old cursor stands: behind the last copy.
    cursor: u64,
    /// Output bytes of the segment still to make.
    left: u32,
}

impl<'a> Commands<'a> {
    /// Commands for a segment of `len` bytes at `new_offset`. The old cursor starts at the same offset of the old view,
    /// or at its end when the old view is shorter.
    pub(crate) fn new(control: &'a [u8], new_offset: u64, len: u32, old_len: u64) -> Self {
        Self { rest: control, old_len, cursor: new_offset.min(old_len), left: len }
    }

    /// The next command; `None` when the segment is complete.
    pub(crate) fn next(&mut self) -> Result<Option<Command>, &'static str> {
        if self.left == 0 {
            return if self.rest.is_empty() { Ok(None) } else { Err("commands follow the end of the segment") };
        }
        let literal = self.take_len()?;
        if self.left == 0 {
            return Ok(Some(Command { literal, copy: 0, old_offset: self.cursor }));
        }
        let copy = self.take_len()?;
        if copy == 0 {
            return Err("a command copies nothing");
        }
        let step = varint::unzigzag(self.take()?);
        let old_offset = self.cursor.checked_add_signed(step).ok_or("a copy starts before the old view")?;
        let end = old_offset.checked_add(u64::from(copy)).ok_or("a copy reaches past the old view")?;
        if end > self.old_len {
            return Err("a copy reaches past the old view");
        }
        self.cursor = end;
        Ok(Some(Command { literal, copy, old_offset }))
    }

    fn take(&mut self) -> Result<u64, &'static str> {
        varint::read(&mut self.rest, "command").map_err(|_| "a command is cut short or not an integer")
    }

    /// A length, taken off what the segment still lacks.
    fn take_len(&mut self) -> Result<u32, &'static str> {
        let len = u32::try_from(self.take()?).map_err(|_| "a command is longer than the segment")?;
        self.left = self.left.checked_sub(len).ok_or("a command is longer than the segment")?;
        Ok(len)
    }
}
