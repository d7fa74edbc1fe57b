//! Formats of one stream that a magic number announces: gzip members, zip entries, zlib, LZMA and Zstandard.

use super::{
    super::{
        codec::{Codec, Dict},
        decode::LzmaHeader,
        xz::crc32,
    },
    bytes::{u16_at, u32_at},
    scan::{Budget, Candidate},
    search::Family,
    worth,
};

/// Shortest content of a zlib stream that no format points at: two bytes of magic and a checksum of a few bytes happen.
const MIN_ZLIB_CONTENT: usize = 256;

/// Shortest content of an LZMA stream, which has no checksum at all.
const MIN_LZMA_CONTENT: usize = 4096;

/// Smallest dictionary of an LZMA stream that no format points at.
const MIN_LZMA_DICT: u32 = 64 << 10;

/// A candidate with its content.
fn decoded(start: usize, len: usize, codec: Codec, family: Family, content: Vec<u8>) -> Candidate {
    Candidate { start, len, codec, family, file: None, longest: content.len() as u64, content }
}

/// A member of a gzip file (RFC 1952); header and trailer are not part of the stream.
pub(super) fn gzip(bytes: &[u8], budget: &mut Budget) -> Option<Candidate> {
    let &[0x1f, 0x8b, 8, flags, ..] = bytes else { return None };
    if flags & 0xe0 != 0 {
        return None;
    }
    let mut at = 10;
    if flags & 4 != 0 {
        at += 2 + usize::from(u16_at(bytes, at)?);
    }
    for text in [8, 16] {
        if flags & text != 0 {
            at += bytes.get(at..)?.iter().take(MAX_NAME).position(|&byte| byte == 0)? + 1;
        }
    }
    if flags & 2 != 0 {
        at += 2;
    }
    let (len, content) = budget.unpack(Codec::Deflate, bytes.get(at..)?)?;
    let trailer = (u32_at(bytes, at + len), u32_at(bytes, at + len + 4));
    if trailer != (Some(crc32(&content)), Some(content.len() as u32)) || !worth(len, content.len()) {
        budget.waste(content.len() as u64);
        return None;
    }
    Some(decoded(at, len, Codec::Deflate, Family::Single, content))
}

/// Longest name or comment in a gzip header: stops a search for its end through the whole image.
const MAX_NAME: usize = 4096;

/// A deflated entry of a zip archive, from its local header. The CRC-32 stands there, or in a descriptor behind the data.
pub(super) fn zip_entry(bytes: &[u8], budget: &mut Budget) -> Option<Candidate> {
    let (flags, method) = (u16_at(bytes, 6)?, u16_at(bytes, 8)?);
    if method != 8 || flags & 1 != 0 {
        return None;
    }
    let at = 30 + usize::from(u16_at(bytes, 26)?) + usize::from(u16_at(bytes, 28)?);
    let (len, content) = budget.unpack(Codec::Deflate, bytes.get(at..)?)?;
    let crc = if flags & 8 == 0 {
        u32_at(bytes, 14)
    } else {
        let behind = at + len;
        let magic = u32_at(bytes, behind) == Some(0x0807_4b50);
        u32_at(bytes, if magic { behind + 4 } else { behind })
    };
    if crc != Some(crc32(&content)) || !worth(len, content.len()) {
        budget.waste(content.len() as u64);
        return None;
    }
    Some(decoded(at, len, Codec::Deflate, Family::Zip, content))
}

/// A zlib stream (RFC 1950), by its Adler-32.
pub(super) fn zlib(bytes: &[u8], budget: &mut Budget) -> Option<Candidate> {
    let (len, content) = budget.unpack(Codec::Zlib, bytes)?;
    if content.len() < MIN_ZLIB_CONTENT || !worth(len, content.len()) {
        budget.waste(content.len() as u64);
        return None;
    }
    Some(decoded(0, len, Codec::Zlib, Family::Single, content))
}

/// A Zstandard frame (RFC 8878).
pub(super) fn zstd(bytes: &[u8], budget: &mut Budget) -> Option<Candidate> {
    let codec = Codec::Zstd { window: zstd_window(bytes)? };
    let (len, content) = budget.unpack(codec, bytes)?;
    if !worth(len, content.len()) {
        return None;
    }
    Some(decoded(0, len, codec, Family::Single, content))
}

/// The window of a frame without dictionary.
pub(super) fn zstd_window(bytes: &[u8]) -> Option<Dict> {
    let descriptor = *bytes.get(4)?;
    if descriptor & 0b1011 != 0 {
        return None;
    }
    if descriptor & 0x20 == 0 {
        let window = u64::from(*bytes.get(5)?);
        let base = 1u64 << (10 + (window >> 3));
        return Dict::holding(base + base / 8 * (window & 7));
    }
    // A single segment: the window is the content.
    let size = match descriptor >> 6 {
        0 => u64::from(*bytes.get(5)?),
        1 => u64::from(u16_at(bytes, 5)?) + 256,
        2 => u64::from(u32_at(bytes, 5)?),
        _ => super::bytes::u64_at(bytes, 5)?,
    };
    Dict::holding(size)
}

/// A stream with the LZMA header of 13 bytes: EDK2 sections and kernels have them at any offset. There is no checksum;
/// a plausible header and an exact end must do.
pub(super) fn lzma(bytes: &[u8], budget: &mut Budget) -> Option<Candidate> {
    let header = LzmaHeader::parse(bytes).ok()?;
    let dict = header.dict_len;
    let two_bits = dict.is_power_of_two() || (dict.count_ones() == 2 && dict & dict >> 1 != 0);
    // The first byte of the range coder is always zero.
    if !two_bits || dict < MIN_LZMA_DICT || bytes.get(13) != Some(&0) {
        return None;
    }
    if header.content_len.is_some_and(|len| len < MIN_LZMA_CONTENT as u64) {
        return None;
    }
    let codec = Codec::Lzma { dict: Dict::holding(u64::from(dict))? };
    let (len, content) = budget.unpack(codec, bytes)?;
    if content.len() < MIN_LZMA_CONTENT || content.len() < len {
        budget.waste(content.len() as u64);
        return None;
    }
    Some(decoded(0, len, codec, Family::Single, content))
}
