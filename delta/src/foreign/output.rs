//! Where the new image goes: block by block, hashed on the way.

use std::io::Write;

use sha2::{Digest, Sha256};

use super::{ForeignApplied, ForeignError};

/// Bytes of one block.
pub(super) const BLOCK: usize = 64 << 10;

/// The new image in the making.
pub(super) struct Output<W> {
    out: W,
    block: Vec<u8>,
    filled: usize,
    len: u64,
    hash: Sha256,
}

impl<W: Write> Output<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, block: vec![0; BLOCK], filled: 0, len: 0, hash: Sha256::new() }
    }

    /// Room for the next bytes, at least one and at most `wanted`. The caller fills all of it, then calls
    /// [`Output::filled`].
    pub(super) fn room(&mut self, wanted: u64) -> Result<&mut [u8], ForeignError> {
        if self.filled >= self.block.len() {
            self.flush()?;
        }
        let wanted = usize::try_from(wanted).unwrap_or(BLOCK);
        let end = self.block.len().min(self.filled.saturating_add(wanted));
        Ok(self.block.get_mut(self.filled..end).unwrap_or_default())
    }

    /// `len` bytes of the room are filled.
    pub(super) fn filled(&mut self, len: usize) {
        self.filled += len;
        self.len += len as u64;
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    fn flush(&mut self) -> Result<(), ForeignError> {
        let bytes = self.block.get(..self.filled).unwrap_or_default();
        self.hash.update(bytes);
        self.out.write_all(bytes).map_err(ForeignError::WriteNew)?;
        self.filled = 0;
        Ok(())
    }

    /// Writes what is left and compares the whole with what the caller expects.
    pub(super) fn finish(mut self, expected: Option<[u8; 32]>) -> Result<ForeignApplied, ForeignError> {
        self.flush()?;
        self.out.flush().map_err(ForeignError::WriteNew)?;
        let new_sha256: [u8; 32] = self.hash.finalize().into();
        if expected.is_some_and(|expected| expected != new_sha256) {
            return Err(ForeignError::NewMismatch);
        }
        Ok(ForeignApplied { new_len: self.len, new_sha256 })
    }
}
