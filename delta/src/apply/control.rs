//! The control stream of a segment: a list of commands, and the checks that keep them inside both views.

use alloc::{vec, vec::Vec};

use crate::{
    error::ApplyError,
    head::{Codec, Head, Lead, StreamKind},
    mix::commands::{COMMAND_SLOTS, CommandDecoder},
    varint,
};

use super::decode::StreamDecoder;

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

/// Reads commands from a raw control stream.
pub(crate) struct Commands<'a> {
    rest: &'a [u8],
    old_len: u64,
    /// Where the old cursor stands: behind the last copy.
    cursor: u64,
    /// Output bytes of the segment still to make.
    left: u32,
}

impl<'a> Commands<'a> {
    /// Commands for a segment of `len` bytes, with the old cursor at `cursor`. `control` is all of them and nothing else.
    pub(crate) fn new(control: &'a [u8], cursor: u64, len: u32, old_len: u64) -> Self {
        Self { rest: control, old_len, cursor, left: len }
    }

    /// The next command; `None` when the segment is complete.
    pub(crate) fn next(&mut self) -> Result<Option<Command>, &'static str> {
        if self.left == 0 {
            return if self.rest.is_empty() { Ok(None) } else { Err("commands follow the end of the segment") };
        }
        self.command().map(Some)
    }

    fn command(&mut self) -> Result<Command, &'static str> {
        let literal = self.take_len()?;
        if self.left == 0 {
            return Ok(Command { literal, copy: 0, old_offset: self.cursor });
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
        Ok(Command { literal, copy, old_offset })
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

/// The raw control stream of all segments, from one that the context-mixing coder made.
fn mixed(head: &Head, raw_len: u32, coded: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut control = Vec::with_capacity(raw_len as usize);
    let mut slots = vec![0; COMMAND_SLOTS];
    let mut decoder = CommandDecoder::new(&mut slots, coded, head.views.old_len);
    let mut cursor = 0u64;
    for segment in &head.segments {
        decoder.begin(segment.len);
        while let Some(Command { literal, copy, old_offset }) = decoder.next()? {
            varint::write(&mut control, u64::from(literal));
            if copy > 0 {
                varint::write(&mut control, u64::from(copy));
                varint::write(&mut control, varint::zigzag(old_offset.wrapping_sub(cursor).cast_signed()));
                cursor = old_offset + u64::from(copy);
            }
            if control.len() > raw_len as usize {
                return Err("there are more commands than stated");
            }
        }
    }
    if control.len() == raw_len as usize && decoder.is_finished() {
        Ok(control)
    } else {
        Err("there are fewer commands than stated")
    }
}

/// The commands of all segments, from the lead.
pub(crate) struct AllCommands {
    control: Vec<u8>,
    /// For each segment where its commands begin, and the old cursor there; last the end.
    starts: Vec<(usize, u64)>,
    old_len: u64,
}

impl AllCommands {
    /// Decodes an authenticated lead and follows its commands to the end. `each` sees every command with the place in the
    /// new view that its copy makes.
    pub(crate) fn decode(
        head: &Head,
        lead: &Lead,
        coded: &[u8],
        mut each: impl FnMut(Command, u64),
    ) -> Result<Self, ApplyError> {
        let failed = |reason| ApplyError::DecodeLead { stream: StreamKind::Control.name(), reason };
        let stream = lead.stream(StreamKind::Control).ok_or(failed("there is none"))?;
        let coded = coded.get(..stream.coded_len as usize).ok_or(ApplyError::LeadMismatch)?;
        let control = match stream.codec {
            Codec::Mix => mixed(head, stream.raw_len, coded).map_err(failed)?,
            codec => StreamDecoder::whole(codec, stream.raw_len, coded).map_err(failed)?,
        };
        let old_len = head.views.old_len;
        let mut starts = Vec::with_capacity(head.segments.len() + 1);
        let mut commands = Commands::new(&control, 0, 0, old_len);
        let mut left = lead.commands;
        for segment in &head.segments {
            starts.push((control.len() - commands.rest.len(), commands.cursor));
            commands.left = segment.len;
            while commands.left > 0 {
                let at = segment.new_offset + u64::from(segment.len - commands.left);
                let command = commands.command().map_err(failed)?;
                left = left.checked_sub(1).ok_or(failed("there are more commands than stated"))?;
                each(command, at + u64::from(command.literal));
            }
        }
        if left != 0 || !commands.rest.is_empty() {
            return Err(failed("commands follow the end of the last segment"));
        }
        starts.push((control.len(), commands.cursor));
        Ok(Self { control, starts, old_len })
    }

    /// The commands of one segment.
    pub(crate) fn of(&self, index: u32, len: u32) -> Commands<'_> {
        let index = index as usize;
        let start = self.starts.get(index).copied().unwrap_or_default();
        let end = self.starts.get(index + 1).copied().unwrap_or_default();
        Commands::new(self.control.get(start.0..end.0).unwrap_or_default(), start.1, len, self.old_len)
    }
}
