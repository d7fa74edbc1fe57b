//! How a stream is rebuilt exactly: which encoder in which version with which settings, in a few bytes.
//!
//! A recipe says nothing about one stream, so the thousands of blocks of a file system share one.

use alloc::{
    borrow::ToOwned,
    string::{String, ToString},
    vec::Vec,
};

use super::codec::{Branch, Dict, byte};
use crate::error::ApplyError;

/// How a stream is rebuilt exactly from its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Recipe {
    /// zlib itself, memory level 8, default strategy.
    Zlib {
        /// 1 to 9.
        level: u8,
        /// 9 to 15.
        window_bits: u8,
    },
    /// An encoder of zlib's family that is not zlib itself: GNU gzip, Info-ZIP, or zlib at another memory level.
    Deflate(Deflate),
    /// liblzma with a preset whose dictionary and `lc`, `lp`, `pb` are replaced.
    Liblzma(Lzma),
    /// The same with the container of a whole `.xz` stream around it.
    Xz {
        /// Encoder settings.
        lzma: Lzma,
        /// Branch filter before it.
        branch: Branch,
        /// Check of the content, by its number in the format: 0, 1 (CRC-32), 4 (CRC-64) or 10 (SHA-256).
        check: u8,
        /// Whether the block header states both lengths.
        sizes: bool,
        /// Length of the block header as it stands in its first byte. Encoders leave room for lengths that they do not know
        /// yet.
        header: u8,
    },
    /// The LZMA SDK of EDK2 and 7-Zip: optimal parser, binary tree of four bytes, no end marker.
    LzmaSdk {
        /// `(pb × 5 + lp) × 9 + lc`.
        props: u8,
        /// Dictionary.
        dict: Dict,
        /// Fast bytes, 5 to 273.
        fast_bytes: u16,
        /// Match cycles.
        cycles: u16,
    },
    /// Zstandard.
    Zstd(Zstd),
}

/// Settings of an encoder of zlib's family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deflate {
    /// 1 to 9.
    pub level: u8,
    /// Width of the hash, 8 to 16.
    pub hash_bits: u8,
    /// Symbols of a block, as a power of two; 7 to 15.
    pub symbol_bits: u8,
    /// Whether a block ends early when it seems to pay.
    pub early: bool,
    /// Whether matches are looked for as far as the input goes and no further. GNU gzip looks further, but not at the very
    /// end of its window.
    pub clamped: bool,
}

/// Settings of liblzma.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lzma {
    /// 0 to 9.
    pub preset: u8,
    /// The `e` variant of the preset.
    pub extreme: bool,
    /// `(pb × 5 + lp) × 9 + lc`.
    pub props: u8,
    /// Dictionary.
    pub dict: Dict,
}

/// Settings of Zstandard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zstd {
    /// The exact version: its output changes between minor releases.
    pub version: ZstdVersion,
    /// 1 to 22.
    pub level: u8,
    /// How the encoder is called.
    pub mode: ZstdMode,
    /// Whether the frame has a checksum.
    pub checksum: bool,
    /// Whether the frame states its content's length.
    pub content_size: bool,
    /// Window as a power of two when it was set apart from the level; 0 when not.
    pub window_log: u8,
    /// Long-distance matching.
    pub long: bool,
}

/// An exact version of Zstandard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZstdVersion {
    /// The second number; the first is 1.
    pub minor: u8,
    /// The third number.
    pub patch: u8,
}

impl ZstdVersion {
    /// The version that is linked into this crate.
    pub const LINKED: Self = Self { minor: 5, patch: 7 };
}

impl core::fmt::Display for ZstdVersion {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "1.{}.{}", self.minor, self.patch)
    }
}

/// How Zstandard is called: it decides what it knows when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ZstdMode {
    /// All content in one call. File systems code their blocks so.
    Whole,
    /// Piece by piece on the calling thread.
    Stream,
    /// In jobs for worker threads, of which one is enough: what the `zstd` command does.
    Jobs,
}

/// Which encoder a recipe needs, for the list in the patch head.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Recoder {
    /// Its number.
    pub id: u8,
    /// Its exact version.
    pub version: String,
}

const LZMA_PROPS: u8 = 9 * 5 * 5;

impl Recipe {
    /// The encoder's name in messages and listings.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Zlib { .. } => "zlib",
            Self::Deflate(_) => "deflate",
            Self::Liblzma(_) | Self::Xz { .. } => "liblzma",
            Self::LzmaSdk { .. } => "lzma-sdk",
            Self::Zstd(_) => "zstd",
        }
    }

    /// Which encoder it needs, in which version.
    pub fn recoder(&self) -> Recoder {
        let (id, version) = match self {
            Self::Zlib { .. } => (1, "1.3.2".to_owned()),
            Self::Liblzma(_) | Self::Xz { .. } => (3, "5.8.4".to_owned()),
            Self::LzmaSdk { .. } => (4, "23.01".to_owned()),
            Self::Zstd(zstd) => (5, zstd.version.to_string()),
            Self::Deflate(_) => (6, "1".to_owned()),
        };
        Recoder { id, version }
    }

    /// Appends the few bytes that stand in a patch head.
    pub fn write(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Zlib { level, window_bits } => out.extend([1, level, window_bits]),
            Self::Liblzma(lzma) => {
                out.push(3);
                lzma.write(out);
            }
            Self::Xz { lzma, branch, check, sizes, header } => {
                out.push(4);
                lzma.write(out);
                out.extend([branch.id(), check, u8::from(sizes), header]);
            }
            Self::LzmaSdk { props, dict, fast_bytes, cycles } => {
                out.extend([5, props, dict.code()]);
                out.extend(fast_bytes.to_le_bytes());
                out.extend(cycles.to_le_bytes());
            }
            Self::Zstd(zstd) => {
                out.push(6);
                zstd.write(out);
            }
            Self::Deflate(deflate) => {
                let flags = u8::from(deflate.early) << 4 | u8::from(deflate.clamped) << 5;
                out.extend([7, deflate.level | flags, deflate.hash_bits, deflate.symbol_bits]);
            }
        }
    }

    /// Reads what [`Recipe::write`] wrote and moves `bytes` past it.
    ///
    /// # Errors
    /// Truncated bytes, an unknown encoder, or a setting out of its range.
    pub fn read(bytes: &mut &[u8]) -> Result<Self, ApplyError> {
        Ok(match byte(bytes, "recipe")? {
            1 => Self::Zlib {
                level: within(byte(bytes, "zlib level")?, 1, 9, "zlib level")?,
                window_bits: within(byte(bytes, "zlib window")?, 9, 15, "zlib window")?,
            },
            3 => Self::Liblzma(Lzma::read(bytes)?),
            4 => {
                let lzma = Lzma::read(bytes)?;
                let branch = Branch::from_id(byte(bytes, "branch filter")?).ok_or(unknown("branch filter"))?;
                let check = byte(bytes, "xz check")?;
                if ![0, 1, 4, 10].contains(&check) {
                    return Err(unknown("xz check"));
                }
                let sizes = flag(bytes, "xz sizes")?;
                let header = within(byte(bytes, "xz block header")?, 1, u8::MAX, "xz block header")?;
                Self::Xz { lzma, branch, check, sizes, header }
            }
            5 => {
                let props = props(bytes)?;
                let dict = Dict::read(bytes)?;
                let fast_bytes = u16::from_le_bytes([byte(bytes, "fast bytes")?, byte(bytes, "fast bytes")?]);
                let cycles = u16::from_le_bytes([byte(bytes, "match cycles")?, byte(bytes, "match cycles")?]);
                if !(5..=273).contains(&fast_bytes) || cycles == 0 {
                    return Err(unknown("LZMA match settings"));
                }
                Self::LzmaSdk { props, dict, fast_bytes, cycles }
            }
            6 => Self::Zstd(Zstd::read(bytes)?),
            7 => {
                let level = byte(bytes, "deflate level")?;
                let hash_bits = within(byte(bytes, "deflate hash")?, 8, 16, "deflate hash")?;
                let symbol_bits = within(byte(bytes, "deflate block")?, 7, 15, "deflate block")?;
                if level & 0xc0 != 0 {
                    return Err(unknown("deflate flags"));
                }
                let (early, clamped) = (level & 0x10 != 0, level & 0x20 != 0);
                let level = within(level & 0x0f, 1, 9, "deflate level")?;
                Self::Deflate(Deflate { level, hash_bits, symbol_bits, early, clamped })
            }
            _ => return Err(unknown("recipe")),
        })
    }
}

impl Lzma {
    fn write(self, out: &mut Vec<u8>) {
        out.extend([self.preset | u8::from(self.extreme) << 7, self.props, self.dict.code()]);
    }

    fn read(bytes: &mut &[u8]) -> Result<Self, ApplyError> {
        let preset = byte(bytes, "LZMA preset")?;
        Ok(Self {
            preset: within(preset & 0x7f, 0, 9, "LZMA preset")?,
            extreme: preset & 0x80 != 0,
            props: props(bytes)?,
            dict: Dict::read(bytes)?,
        })
    }
}

impl Zstd {
    /// Mode and flags in one byte.
    pub(crate) fn flags(self) -> u8 {
        let mode = match self.mode {
            ZstdMode::Whole => 0,
            ZstdMode::Stream => 1,
            ZstdMode::Jobs => 2,
        };
        mode | u8::from(self.checksum) << 2 | u8::from(self.content_size) << 3 | u8::from(self.long) << 4
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend([self.version.minor, self.version.patch, self.level, self.flags(), self.window_log]);
    }

    fn read(bytes: &mut &[u8]) -> Result<Self, ApplyError> {
        let version = ZstdVersion { minor: byte(bytes, "zstd version")?, patch: byte(bytes, "zstd version")? };
        let level = within(byte(bytes, "zstd level")?, 1, 22, "zstd level")?;
        let flags = byte(bytes, "zstd flags")?;
        let mode = match flags & 3 {
            0 => ZstdMode::Whole,
            1 => ZstdMode::Stream,
            2 => ZstdMode::Jobs,
            _ => return Err(unknown("zstd mode")),
        };
        if flags & !0x1f != 0 {
            return Err(unknown("zstd flags"));
        }
        let window_log = byte(bytes, "zstd window")?;
        if window_log != 0 {
            within(window_log, 10, 27, "zstd window")?;
        }
        Ok(Self {
            version,
            level,
            mode,
            checksum: flags & 4 != 0,
            content_size: flags & 8 != 0,
            window_log,
            long: flags & 16 != 0,
        })
    }
}

/// LZMA properties; LZMA2 and this crate's decoders take `lc + lp` up to 4.
fn props(bytes: &mut &[u8]) -> Result<u8, ApplyError> {
    let props = byte(bytes, "LZMA properties")?;
    if props >= LZMA_PROPS || props % 9 + props / 9 % 5 > 4 {
        return Err(unknown("LZMA properties"));
    }
    Ok(props)
}

fn flag(bytes: &mut &[u8], field: &'static str) -> Result<bool, ApplyError> {
    Ok(within(byte(bytes, field)?, 0, 1, field)? == 1)
}

fn within(value: u8, min: u8, max: u8, field: &'static str) -> Result<u8, ApplyError> {
    if (min..=max).contains(&value) { Ok(value) } else { Err(unknown(field)) }
}

fn unknown(field: &'static str) -> ApplyError {
    ApplyError::Malformed { field, reason: "unknown or out of range" }
}
