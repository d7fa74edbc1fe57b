//! `zstd --patch-from`: one Zstandard frame (RFC 8878) that refers back into the old image as its prefix.
//!
//! The decoder is written in Rust and holds window and old image in memory, as `zstd` itself does; how much that takes is
//! told from the header, before anything is reserved.

use std::{
    hash::Hasher,
    io::{ErrorKind, Read, Seek, SeekFrom, Write},
};

use ruzstd::decoding::StreamingDecoder;
use twox_hash::XxHash64;

use super::{
    ForeignApplied, ForeignError, ForeignOptions, Format,
    error::read_exact,
    output::{BLOCK, Output},
    prefix::{Prefixed, window_descriptor, window_of},
};

/// First bytes of a Zstandard frame.
pub const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Most bytes of a frame's header, magic included.
pub const ZSTD_HEADER_MAX: usize = 18;

/// Most bytes that the old image and what the frame makes, or its window, may have together: offsets reach no further
/// back than 2 GiB. It is the limit of `zstd --patch-from` as well.
pub const MAX_PREFIX_AND_CONTENT: u64 = 1 << 31;

/// Entropy tables, block buffers and slack of the decoder, and the block buffers of this reader.
const DECODER_FIXED: u64 = (1 << 20) + 2 * BLOCK as u64;

/// What the decoder adds to the window before it rounds up to a power of two.
const DECODER_SLACK: u64 = 512 << 10;

/// The header of a Zstandard frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZstdHeader {
    /// Bytes of the header, magic included.
    pub len: u32,
    /// How far back a decoder must keep its output.
    pub window: u64,
    /// Bytes that the frame makes, where it says so. `zstd` does.
    pub content_len: Option<u64>,
    /// Whether a checksum of the content follows the last block.
    pub checksum: bool,
}

impl ZstdHeader {
    /// Reads the header of a frame off `patch`, and nothing more.
    ///
    /// # Errors
    /// Another format, a dictionary by number, reserved bits, lengths over the limits, or trouble reading.
    pub fn read(patch: &mut impl Read, options: &ForeignOptions) -> Result<Self, ForeignError> {
        let mut magic = [0; 4];
        read_exact(patch, &mut magic, "magic")?;
        if magic != ZSTD_MAGIC {
            return Err(ForeignError::NotThisFormat(Format::Zstd));
        }
        let [descriptor] = take::<1>(patch)?;
        if descriptor & 0x08 != 0 {
            return Err(ForeignError::Malformed { field: "frame header", reason: "a reserved bit is set" });
        }
        let single_segment = descriptor & 0x20 != 0;
        let window = if single_segment { None } else { Some(window_of(take::<1>(patch)?[0])) };
        let dictionary = match descriptor & 3 {
            0 => 0,
            1 => u32::from(take::<1>(patch)?[0]),
            2 => u32::from(u16::from_le_bytes(take(patch)?)),
            _ => u32::from_le_bytes(take(patch)?),
        };
        if dictionary != 0 {
            return Err(ForeignError::Malformed {
                field: "frame header",
                reason: "it names a dictionary, so the old image is not its prefix",
            });
        }
        let (content_len, content_field) = match descriptor >> 6 {
            0 if single_segment => (Some(u64::from(take::<1>(patch)?[0])), 1),
            0 => (None, 0),
            1 => (Some(u64::from(u16::from_le_bytes(take(patch)?)) + 256), 2),
            2 => (Some(u64::from(u32::from_le_bytes(take(patch)?))), 4),
            _ => (Some(u64::from_le_bytes(take(patch)?)), 8),
        };
        let limit = options.limits.clamped().max_new_len;
        if let Some(value) = content_len.filter(|&len| len > limit) {
            return Err(ForeignError::OverLimit { field: "content length", value, limit });
        }
        let dictionary_field = [0, 1, 2, 4].get(usize::from(descriptor & 3)).copied().unwrap_or(0);
        let window = window.or(content_len).unwrap_or(0);
        if window > MAX_PREFIX_AND_CONTENT {
            return Err(ForeignError::OverLimit { field: "window", value: window, limit: MAX_PREFIX_AND_CONTENT });
        }
        Ok(Self {
            len: 5 + u32::from(!single_segment) + dictionary_field + content_field,
            window,
            content_len,
            checksum: descriptor & 4 != 0,
        })
    }

    /// Bytes of memory that applying to an old image of `old_len` bytes takes.
    pub fn memory(&self, old_len: u64) -> u64 {
        let (_, window) = window_descriptor(self.reach(old_len));
        // The buffer grows by doubling: while it moves, the old half is still held.
        DECODER_FIXED.saturating_add(window.saturating_add(DECODER_SLACK).next_power_of_two().saturating_mul(3) / 2)
    }

    /// How far back a block may refer, old image included.
    fn reach(&self, old_len: u64) -> u64 {
        old_len.saturating_add(self.content_len.unwrap_or(self.window).min(self.window))
    }
}

fn take<const N: usize>(patch: &mut impl Read) -> Result<[u8; N], ForeignError> {
    let mut bytes = [0; N];
    read_exact(patch, &mut bytes, "frame header")?;
    Ok(bytes)
}

/// Applies a Zstandard frame with `old` as its prefix: `patch` and `new` go forwards only.
///
/// A frame that needs no prefix decodes as well. Its checksum, where it has one, is compared; exactly one frame is taken.
///
/// # Errors
/// Every [`ForeignError`]. Whatever was written by then is worthless and must not be used.
pub fn apply_zstd(
    mut old: impl Read + Seek,
    mut patch: impl Read,
    new: impl Write,
    options: &ForeignOptions,
) -> Result<ForeignApplied, ForeignError> {
    let header = ZstdHeader::read(&mut patch, options)?;
    let limits = options.limits.clamped();
    let old_len = old.seek(SeekFrom::End(0)).map_err(ForeignError::ReadOld)?;
    old.seek(SeekFrom::Start(0)).map_err(ForeignError::ReadOld)?;
    let reach = header.reach(old_len);
    for (field, value, limit) in [
        ("old length", old_len, limits.max_old_len),
        ("the old image and the window together", reach, MAX_PREFIX_AND_CONTENT),
    ] {
        if value > limit {
            return Err(ForeignError::OverLimit { field, value, limit });
        }
    }
    let needed = header.memory(old_len);
    if needed > options.budget.ram {
        return Err(ForeignError::OverBudget { needed, budget: options.budget.ram });
    }
    let max_len = header.content_len.unwrap_or(limits.max_new_len);

    let source = Prefixed::new(&mut old, old_len, &mut patch, reach);
    let (_, window) = window_descriptor(reach);
    let broken = |reason| ForeignError::Decode { stream: "zstd", reason };
    let mut decoder = StreamingDecoder::new_with_max_window_size(source, window)
        .map_err(|_| broken("its header is not understood"))?;
    let mut output = Output::new(new);
    let mut hash = XxHash64::with_seed(0);
    let mut skipped = vec![0; BLOCK];
    let mut skip = old_len;
    loop {
        let room = if skip > 0 {
            let len = usize::try_from(skip).unwrap_or(BLOCK).min(BLOCK);
            skipped.get_mut(..len).unwrap_or_default()
        } else {
            output.room(BLOCK as u64)?
        };
        let read = match decoder.read(room) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return Err(decoder.get_mut().error.take().unwrap_or_else(|| broken("it is damaged"))),
        };
        if read == 0 {
            break;
        }
        if skip > 0 {
            skip -= read as u64;
            continue;
        }
        hash.write(room.get(..read).unwrap_or_default());
        output.filled(read);
        if output.len() > max_len {
            return Err(match header.content_len {
                Some(_) => broken("it decodes into more than its header states"),
                None => ForeignError::OverLimit { field: "content length", value: output.len(), limit: max_len },
            });
        }
    }
    drop(decoder);
    if header.content_len.is_some_and(|stated| stated != output.len()) {
        return Err(broken("it decodes into less than its header states"));
    }
    if header.checksum {
        let mut stated = [0; 4];
        read_exact(&mut patch, &mut stated, "checksum")?;
        if u32::from_le_bytes(stated) != hash.finish() as u32 {
            return Err(ForeignError::ChecksumMismatch);
        }
    }
    if patch.read(&mut [0]).map_err(ForeignError::ReadPatch)? != 0 {
        return Err(ForeignError::Trailing { after: "frame" });
    }
    output.finish(options.new_sha256)
}
