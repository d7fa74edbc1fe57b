//! Reads a range of the patch forwards, through a buffer of a few bytes.

use crate::{error::ApplyError, io};

/// Bytes fetched at a time.
const BUFFER: usize = 32;

/// A range of the patch. As an iterator it ends at the end of the range, or when reading fails.
pub(super) struct Forward<'p, P> {
    patch: &'p P,
    /// Offset in the patch of the first byte that is not in the buffer, and the end of the range.
    at: u32,
    end: u32,
    buffer: [u8; BUFFER],
    start: usize,
    filled: usize,
    trouble: Option<io::Error>,
}

impl<'p, P: Fn(u32, &mut [u8]) -> io::Result<()>> Forward<'p, P> {
    pub(super) fn new(patch: &'p P, at: u32, end: u32) -> Self {
        Self { patch, at, end, buffer: [0; BUFFER], start: 0, filled: 0, trouble: None }
    }

    /// Offset in the patch of the next byte.
    pub(super) fn place(&self) -> u32 {
        self.at - (self.filled - self.start) as u32
    }

    /// Fills `out` with the next bytes; `false` when there are fewer, or reading failed.
    pub(super) fn fill(&mut self, out: &mut [u8]) -> bool {
        for byte in out {
            let Some(next) = self.next() else { return false };
            *byte = next;
        }
        true
    }

    /// What `made` is worth: nothing when reading failed on the way.
    pub(super) fn checked<T>(&mut self, made: Result<T, ApplyError>) -> Result<T, ApplyError> {
        self.trouble.take().map_or(made, |error| Err(ApplyError::ReadPatch(error)))
    }
}

impl<P: Fn(u32, &mut [u8]) -> io::Result<()>> Iterator for Forward<'_, P> {
    type Item = u8;

    #[inline]
    fn next(&mut self) -> Option<u8> {
        if self.start >= self.filled {
            let len = (self.end.saturating_sub(self.at) as usize).min(BUFFER);
            let room = self.buffer.get_mut(..len).filter(|room| !room.is_empty())?;
            if let Err(error) = (self.patch)(self.at, room) {
                self.trouble = Some(error);
                self.end = self.at;
                return None;
            }
            (self.start, self.filled) = (0, len);
            self.at += len as u32;
        }
        let byte = self.buffer.get(self.start).copied();
        self.start += 1;
        byte
    }
}
