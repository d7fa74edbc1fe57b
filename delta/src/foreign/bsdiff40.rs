//! BSDIFF40, the format of `bsdiff` 4: applied in one streaming pass, in bounded memory, with every number checked.
//!
//! Classic `bspatch` held both images in memory and believed the patch (CVE-2014-9862, CVE-2020-14315). One of its habits
//! belongs to the format, though: bytes outside the old image count as zero, and patches that rely on it exist.

use std::io::{Read, Seek, SeekFrom, Write};

use bzip2::{Decompress, Status};

use super::{
    ForeignApplied, ForeignError, ForeignOptions, Format,
    error::read_exact,
    output::{BLOCK, Output},
};

/// First bytes of a BSDIFF40 patch.
pub const BSDIFF40_MAGIC: [u8; 8] = *b"BSDIFF40";

/// Bytes of its header: magic, and three lengths.
pub const BSDIFF40_HEADER_LEN: usize = 32;

/// Bytes of a command: three numbers.
const COMMAND_LEN: usize = 24;

/// Commands that make nothing, beyond one for each byte of output. They stop a patch of a few kilobytes whose control stream
/// decodes into terabytes of them.
const IDLE_SLACK: u64 = 64;

/// Memory of a bzip2 decoder beside its block: tables and state.
const BZIP2_FIXED: u64 = 80 << 10;

/// Memory of a bzip2 decoder for each 100,000 bytes of its block.
const BZIP2_PER_LEVEL: u64 = 400_000;

/// The header of a BSDIFF40 patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bsdiff40Header {
    /// Bytes of the compressed control stream, which follows the header.
    pub control_len: u64,
    /// Bytes of the compressed diff stream, which follows the control stream.
    pub diff_len: u64,
    /// Bytes of the compressed extra stream: the rest of the patch.
    pub extra_len: u64,
    /// Bytes of the image that the patch makes.
    pub new_len: u64,
}

impl Bsdiff40Header {
    /// Reads the header of a patch of `patch_len` bytes.
    ///
    /// # Errors
    /// Another format, a negative length, lengths beyond the patch, or a new image over the limit.
    pub fn parse(bytes: &[u8], patch_len: u64, options: &ForeignOptions) -> Result<Self, ForeignError> {
        if !bytes.starts_with(&BSDIFF40_MAGIC) {
            return Err(ForeignError::NotThisFormat(Format::Bsdiff40));
        }
        let mut rest = bytes.get(BSDIFF40_MAGIC.len()..).unwrap_or_default();
        let control_len = unsigned(number(&mut rest)?, "control length")?;
        let diff_len = unsigned(number(&mut rest)?, "diff length")?;
        let new_len = unsigned(number(&mut rest)?, "new length")?;
        let limit = options.limits.clamped().max_new_len;
        if new_len > limit {
            return Err(ForeignError::OverLimit { field: "new length", value: new_len, limit });
        }
        // Each is below 2^63, but their sum need not be.
        let extra_len = (BSDIFF40_HEADER_LEN as u64)
            .checked_add(control_len)
            .and_then(|sum| sum.checked_add(diff_len))
            .and_then(|sum| patch_len.checked_sub(sum))
            .ok_or(ForeignError::Malformed { field: "header", reason: "its streams are longer than the patch" })?;
        Ok(Self { control_len, diff_len, extra_len, new_len })
    }

    /// Reads the header off a patch, and leaves the patch at its beginning.
    ///
    /// # Errors
    /// As [`Bsdiff40Header::parse`], and trouble reading.
    pub fn read(patch: &mut (impl Read + Seek), options: &ForeignOptions) -> Result<Self, ForeignError> {
        let patch_len = patch.seek(SeekFrom::End(0)).map_err(ForeignError::ReadPatch)?;
        patch.seek(SeekFrom::Start(0)).map_err(ForeignError::ReadPatch)?;
        let mut bytes = [0; BSDIFF40_HEADER_LEN];
        let len = usize::try_from(patch_len).unwrap_or(BSDIFF40_HEADER_LEN).min(BSDIFF40_HEADER_LEN);
        let bytes = bytes.get_mut(..len).unwrap_or_default();
        read_exact(patch, bytes, "header")?;
        let header = Self::parse(bytes, patch_len, options)?;
        patch.seek(SeekFrom::Start(0)).map_err(ForeignError::ReadPatch)?;
        Ok(header)
    }
}

/// Applies a BSDIFF40 patch: `old` and `patch` are read at random, `new` is written from front to back.
///
/// Bytes before the beginning and behind the end of the old image count as zero, as in classic `bspatch`. Everything else is
/// strict: a stream must decode to exactly what the commands take, and nothing may follow.
///
/// # Errors
/// Every [`ForeignError`]. Whatever was written by then is worthless and must not be used.
pub fn apply_bsdiff40(
    mut old: impl Read + Seek,
    mut patch: impl Read + Seek,
    new: impl Write,
    options: &ForeignOptions,
) -> Result<ForeignApplied, ForeignError> {
    let header = Bsdiff40Header::read(&mut patch, options)?;
    let old_len = old.seek(SeekFrom::End(0)).map_err(ForeignError::ReadOld)?;
    let limit = options.limits.clamped().max_old_len;
    if old_len > limit {
        return Err(ForeignError::OverLimit { field: "old length", value: old_len, limit });
    }
    let places = header.places();
    let mut needed = 5 * BLOCK as u64;
    for (name, start, end) in places {
        needed += decoder_memory(&mut patch, name, start, end)?;
    }
    if needed > options.budget.ram {
        return Err(ForeignError::OverBudget { needed, budget: options.budget.ram });
    }
    let [mut control, mut diff, mut extra] = places.map(|(name, start, end)| Section::new(name, start, end));
    let mut old = ZeroExtended { old: &mut old, old_len, block: vec![0; BLOCK], start: 0, filled: 0 };
    let mut output = Output::new(new);
    let mut cursor = 0i64;
    let mut idle = 0;
    while output.len() < header.new_len {
        let mut command = [0; COMMAND_LEN];
        control.fill(&mut patch, &mut command)?;
        let mut rest = &command[..];
        let add = unsigned(number(&mut rest)?, "a count of bytes to add")?;
        let insert = unsigned(number(&mut rest)?, "a count of bytes to insert")?;
        let seek = number(&mut rest)?;
        let left = header.new_len - output.len();
        if add.checked_add(insert).is_none_or(|sum| sum > left) {
            return Err(ForeignError::Malformed { field: "command", reason: "it makes more than the new image has" });
        }
        if add == 0 && insert == 0 {
            idle += 1;
            if idle > header.new_len.saturating_add(IDLE_SLACK) {
                return Err(ForeignError::Malformed { field: "control stream", reason: "its commands make nothing" });
            }
        }
        let mut left = add;
        while left > 0 {
            let room = output.room(left)?;
            diff.fill(&mut patch, room)?;
            old.add_to(cursor, room)?;
            let done = room.len();
            cursor = moved(cursor, (done as u64).cast_signed())?;
            output.filled(done);
            left -= done as u64;
        }
        let mut left = insert;
        while left > 0 {
            let room = output.room(left)?;
            extra.fill(&mut patch, room)?;
            let done = room.len();
            output.filled(done);
            left -= done as u64;
        }
        cursor = moved(cursor, seek)?;
    }
    for section in [control, diff, extra] {
        section.finish(&mut patch)?;
    }
    output.finish(options.new_sha256)
}

impl Bsdiff40Header {
    /// Name, beginning and end of each stream. The sums were checked with the header.
    fn places(&self) -> [(&'static str, u64, u64); 3] {
        let control = BSDIFF40_HEADER_LEN as u64;
        let diff = control + self.control_len;
        let extra = diff + self.diff_len;
        [("control", control, diff), ("diff", diff, extra), ("extra", extra, extra + self.extra_len)]
    }
}

fn moved(cursor: i64, by: i64) -> Result<i64, ForeignError> {
    cursor.checked_add(by).ok_or(ForeignError::Malformed { field: "command", reason: "the cursor leaves all bounds" })
}

/// A number of the format: 63 bits lowest byte first, and a sign.
fn number(rest: &mut &[u8]) -> Result<i64, ForeignError> {
    let (bytes, after) = rest.split_first_chunk::<8>().ok_or(ForeignError::Truncated { field: "header" })?;
    *rest = after;
    let value = u64::from_le_bytes(*bytes);
    let magnitude = (value & (u64::MAX >> 1)).cast_signed();
    Ok(if value >> 63 == 0 { magnitude } else { -magnitude })
}

fn unsigned(number: i64, field: &'static str) -> Result<u64, ForeignError> {
    u64::try_from(number).map_err(|_| ForeignError::Negative { field })
}

/// Memory for the decoder of one stream, told from the first bytes of the stream.
fn decoder_memory(
    patch: &mut (impl Read + Seek),
    name: &'static str,
    start: u64,
    end: u64,
) -> Result<u64, ForeignError> {
    let broken = ForeignError::Decode { stream: name, reason: "it does not begin like bzip2" };
    let mut first = [0; 4];
    if end - start < first.len() as u64 {
        return Err(broken);
    }
    patch.seek(SeekFrom::Start(start)).map_err(ForeignError::ReadPatch)?;
    read_exact(patch, &mut first, name)?;
    match first {
        [b'B', b'Z', b'h', level @ b'1'..=b'9'] => Ok(BZIP2_FIXED + u64::from(level - b'0') * BZIP2_PER_LEVEL),
        _ => Err(broken),
    }
}

/// One compressed stream of the patch.
struct Section {
    name: &'static str,
    /// Where to read on in the patch, and where the stream ends.
    next: u64,
    end: u64,
    block: Vec<u8>,
    /// Bytes of the block that are valid, and how many of them are used.
    filled: usize,
    used: usize,
    decoder: Decompress,
    ended: bool,
}

impl Section {
    fn new(name: &'static str, start: u64, end: u64) -> Self {
        let block = vec![0; BLOCK];
        Self { name, next: start, end, block, filled: 0, used: 0, decoder: Decompress::new(false), ended: false }
    }

    fn broken(&self, reason: &'static str) -> ForeignError {
        ForeignError::Decode { stream: self.name, reason }
    }

    /// Fills `out` with the next bytes of the stream.
    fn fill(&mut self, patch: &mut (impl Read + Seek), mut out: &mut [u8]) -> Result<(), ForeignError> {
        while !out.is_empty() {
            let made = self.step(patch, out)?;
            out = out.get_mut(made..).unwrap_or_default();
        }
        Ok(())
    }

    /// Decodes some bytes into `out`; every call makes progress or fails.
    fn step(&mut self, patch: &mut (impl Read + Seek), out: &mut [u8]) -> Result<usize, ForeignError> {
        if self.ended {
            return Err(self.broken("it ends too early"));
        }
        if self.used == self.filled {
            self.load(patch)?;
        }
        let input = self.block.get(self.used..self.filled).unwrap_or_default();
        let (read, written) = (self.decoder.total_in(), self.decoder.total_out());
        let status = self.decoder.decompress(input, out).map_err(|_| self.broken("it is damaged"))?;
        let (read, written) = (self.decoder.total_in() - read, self.decoder.total_out() - written);
        self.used += read as usize;
        match status {
            Status::StreamEnd => self.ended = true,
            Status::MemNeeded => return Err(self.broken("its decoder has no memory")),
            _ if read == 0 && written == 0 => return Err(self.broken("it is cut short")),
            _ => {}
        }
        Ok(written as usize)
    }

    fn load(&mut self, patch: &mut (impl Read + Seek)) -> Result<(), ForeignError> {
        let len = usize::try_from(self.end - self.next).unwrap_or(BLOCK).min(BLOCK);
        let block = self.block.get_mut(..len).unwrap_or_default();
        patch.seek(SeekFrom::Start(self.next)).map_err(ForeignError::ReadPatch)?;
        read_exact(patch, block, self.name)?;
        self.next += len as u64;
        (self.used, self.filled) = (0, len);
        Ok(())
    }

    /// Checks that the stream ends here, with its own check sum right, and that nothing follows.
    fn finish(mut self, patch: &mut (impl Read + Seek)) -> Result<(), ForeignError> {
        while !self.ended {
            if self.step(patch, &mut [0])? != 0 {
                return Err(self.broken("it decodes into more than the commands take"));
            }
        }
        if self.used == self.filled && self.next == self.end {
            Ok(())
        } else {
            Err(ForeignError::Trailing { after: self.name })
        }
    }
}

/// The old image with zeros on both sides, read at random through one block.
struct ZeroExtended<'a, O> {
    old: &'a mut O,
    old_len: u64,
    block: Vec<u8>,
    /// Offset of the block in the image, and its valid bytes.
    start: u64,
    filled: usize,
}

impl<O: Read + Seek> ZeroExtended<'_, O> {
    /// Adds the old bytes from `cursor` on to `out`.
    fn add_to(&mut self, cursor: i64, out: &mut [u8]) -> Result<(), ForeignError> {
        // What lies before the image adds nothing.
        let before = usize::try_from(cursor.min(0).unsigned_abs()).unwrap_or(usize::MAX);
        let mut out = out.get_mut(before..).unwrap_or_default();
        let mut at = cursor.max(0).unsigned_abs();
        while !out.is_empty() && at < self.old_len {
            if !(self.start..self.start + self.filled as u64).contains(&at) {
                self.load(at)?;
            }
            let held = self.block.get((at - self.start) as usize..self.filled).unwrap_or_default();
            let len = held.len().min(out.len());
            let (now, later) = out.split_at_mut(len);
            for (new, old) in now.iter_mut().zip(held) {
                *new = new.wrapping_add(*old);
            }
            out = later;
            at += len as u64;
        }
        Ok(())
    }

    fn load(&mut self, at: u64) -> Result<(), ForeignError> {
        self.filled = 0;
        let len = usize::try_from(self.old_len - at).unwrap_or(BLOCK).min(BLOCK);
        let block = self.block.get_mut(..len).unwrap_or_default();
        self.old.seek(SeekFrom::Start(at)).map_err(ForeignError::ReadOld)?;
        self.old.read_exact(block).map_err(ForeignError::ReadOld)?;
        (self.start, self.filled) = (at, len);
        Ok(())
    }
}
