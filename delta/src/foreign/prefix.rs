//! A Zstandard frame with its prefix put in front: the old image as raw blocks, then the frame's own blocks.
//!
//! A block does not know whether what it refers to stood in a prefix or in blocks before it. So a decoder that knows no
//! prefixes decodes this; the caller drops the old image from the front of its output.

use std::io::{self, Read};

use super::ForeignError;

/// Longest raw block.
const RAW_BLOCK: u64 = 128 << 10;

/// Shortest window that a frame can state, as a power of two.
const MIN_WINDOW_LOG: u8 = 10;

/// Reads as a frame of its own: a header with a window that reaches back over everything, the old image, the blocks of `patch`.
pub(super) struct Prefixed<'a, O, P> {
    old: &'a mut O,
    old_left: u64,
    patch: &'a mut P,
    /// Bytes to hand out before anything else: a header.
    pending: Vec<u8>,
    /// Bytes of the current block still to come, and from where.
    block_left: u64,
    from_old: bool,
    /// The frame's last block has begun.
    last: bool,
    /// What went wrong, because the decoder's errors carry no type.
    pub(super) error: Option<ForeignError>,
}

impl<'a, O: Read, P: Read> Prefixed<'a, O, P> {
    /// `patch` stands behind the header of its frame; `reach` is how far back its blocks may refer, old image included.
    pub(super) fn new(old: &'a mut O, old_len: u64, patch: &'a mut P, reach: u64) -> Self {
        let mut pending = super::zstd::ZSTD_MAGIC.to_vec();
        pending.extend([0, window_descriptor(reach).0]);
        Self { old, old_left: old_len, patch, pending, block_left: 0, from_old: true, last: false, error: None }
    }

    fn advance(&mut self) -> Result<(), ForeignError> {
        if self.old_left > 0 {
            self.block_left = self.old_left.min(RAW_BLOCK);
            self.old_left -= self.block_left;
            self.pending = (self.block_left << 3).to_le_bytes().into_iter().take(3).collect();
            return Ok(());
        }
        self.from_old = false;
        let mut header = [0; 3];
        super::error::read_exact(self.patch, &mut header, "block header")?;
        let [first, second, third] = header.map(u64::from);
        self.last = first & 1 == 1;
        let size = (first | second << 8 | third << 16) >> 3;
        self.block_left = match first >> 1 & 3 {
            // One byte, repeated.
            1 => 1,
            0 | 2 => size,
            _ => return Err(ForeignError::Malformed { field: "block header", reason: "its type is reserved" }),
        };
        self.pending = header.to_vec();
        Ok(())
    }

    fn copy(&mut self, out: &mut [u8]) -> Result<usize, ForeignError> {
        if self.pending.is_empty() && self.block_left == 0 && (self.old_left > 0 || !self.last) {
            self.advance()?;
        }
        if !self.pending.is_empty() {
            let len = self.pending.len().min(out.len());
            for (to, from) in out.iter_mut().zip(self.pending.drain(..len)) {
                *to = from;
            }
            return Ok(len);
        }
        let len = usize::try_from(self.block_left).unwrap_or(usize::MAX).min(out.len());
        let out = out.get_mut(..len).unwrap_or_default();
        if self.from_old {
            self.old.read_exact(out).map_err(ForeignError::ReadOld)?;
        } else {
            super::error::read_exact(self.patch, out, "block")?;
        }
        self.block_left -= len as u64;
        Ok(len)
    }
}

impl<O: Read, P: Read> Read for Prefixed<'_, O, P> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.copy(out).map_err(|error| {
            self.error = Some(error);
            io::Error::other("see Prefixed::error")
        })
    }
}

/// The byte that states the smallest window of at least `len` bytes, and that window.
pub(super) fn window_descriptor(len: u64) -> (u8, u64) {
    for exponent in 0..22u8 {
        let base = 1u64 << (MIN_WINDOW_LOG + exponent);
        for mantissa in 0..8u8 {
            let window = base + base / 8 * u64::from(mantissa);
            if window >= len {
                return (exponent << 3 | mantissa, window);
            }
        }
    }
    (u8::MAX, u64::MAX)
}

/// The window that a descriptor states.
pub(super) fn window_of(descriptor: u8) -> u64 {
    let base = 1u64 << (MIN_WINDOW_LOG + (descriptor >> 3));
    base + base / 8 * u64::from(descriptor & 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_the_smallest_that_suffice() {
        assert_eq!(window_descriptor(0), (0, 1_024));
        assert_eq!(window_descriptor(1_025), (1, 1_152));
        assert_eq!(window_descriptor(1 << 31), (21 << 3, 1 << 31));
        for len in [1_000, 5_000, 1 << 20, (1 << 20) + 1, 123_456_789] {
            let (descriptor, window) = window_descriptor(len);
            assert!(window >= len && window <= len.max(1_024) + len / 7, "{len}: {window}");
            assert_eq!(window_of(descriptor), window);
        }
    }
}
