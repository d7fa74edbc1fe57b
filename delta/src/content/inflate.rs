//! Deflate decoding in a state that can be copied, so that decoding can begin again in the middle of a stream.

use alloc::{vec, vec::Vec};

use miniz_oxide::inflate::{
    TINFLStatus,
    core::{DecompressorOxide, decompress_with_limit, inflate_flags},
};

use super::error::{ContentError, malformed};

/// The window of deflate.
const WINDOW: usize = 32 << 10;

/// State of one deflate decoder, its window included.
#[derive(Clone)]
pub(crate) struct Inflate {
    core: DecompressorOxide,
    window: Vec<u8>,
    at: usize,
    flags: u32,
    ended: bool,
}

impl Inflate {
    /// Bytes of one state.
    pub(crate) const MEMORY: u64 = WINDOW as u64 + size_of::<DecompressorOxide>() as u64 + size_of::<Self>() as u64;

    /// At the beginning of a stream, with a zlib header or without.
    pub(crate) fn new(zlib: bool) -> Self {
        let flags = if zlib {
            inflate_flags::TINFL_FLAG_PARSE_ZLIB_HEADER | inflate_flags::TINFL_FLAG_COMPUTE_ADLER32
        } else {
            inflate_flags::TINFL_FLAG_IGNORE_ADLER32
        };
        Self { core: DecompressorOxide::new(), window: vec![0; WINDOW], at: 0, flags, ended: false }
    }

    /// Decodes from `input` into `out`; `more` says that input follows. Returns bytes consumed and made, and whether
    /// the stream ended.
    pub(crate) fn step(
        &mut self,
        input: &[u8],
        out: &mut [u8],
        more: bool,
    ) -> Result<(usize, usize, bool), ContentError> {
        if self.ended {
            return Ok((0, 0, true));
        }
        let mut flags = self.flags;
        if more {
            flags |= inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
        }
        let (status, consumed, produced) =
            decompress_with_limit(&mut self.core, input, &mut self.window, self.at, out.len(), flags);
        match status {
            TINFLStatus::Done => self.ended = true,
            TINFLStatus::NeedsMoreInput | TINFLStatus::HasMoreOutput => {}
            _ => return Err(malformed("deflate data", "broken")),
        }
        let made = self.window.get(self.at..).and_then(|bytes| bytes.get(..produced)).unwrap_or_default();
        let out = out.get_mut(..produced).ok_or(malformed("deflate data", "broken"))?;
        out.copy_from_slice(made);
        self.at = (self.at + produced) % WINDOW;
        Ok((consumed, produced, self.ended))
    }
}
