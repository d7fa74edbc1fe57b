//! How a compressed stream is decoded, and the few bytes that say so in a patch head.
//!
//! A codec tells a decoder everything it needs before the first coded byte, above all its memory.

use alloc::vec::Vec;

use super::limits::MAX_DICT_CODE;
use crate::error::ApplyError;

/// How a stream is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// Raw deflate (RFC 1951): members of gzip files, entries of zip archives.
    Deflate,
    /// Deflate with header and Adler-32 (RFC 1950).
    Zlib,
    /// LZMA with the header of 13 bytes: properties, dictionary, length. EDK2 sections, kernels, `.lzma` files.
    Lzma {
        /// Largest dictionary.
        dict: Dict,
    },
    /// The LZMA2 data of one block of an `.xz` file, behind the block header and before the padding.
    Lzma2 {
        /// Largest dictionary.
        dict: Dict,
        /// Branch filter of the block.
        branch: Branch,
    },
    /// A whole `.xz` stream of one block, from its magic to the end of its footer.
    Xz {
        /// Largest dictionary.
        dict: Dict,
    },
    /// One Zstandard frame (RFC 8878) without dictionary.
    Zstd {
        /// Largest window.
        window: Dict,
    },
}

/// An upper bound of a dictionary or window, in the coding that `.xz` uses: sizes `2^n` and `3 × 2^n` from 4 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dict(u8);

impl Dict {
    /// The dictionary with this code; `None` above the limit of 128 MiB.
    pub fn from_code(code: u8) -> Option<Self> {
        (code <= MAX_DICT_CODE).then_some(Self(code))
    }

    /// The smallest that holds `bytes`; `None` above the limit.
    pub fn holding(bytes: u64) -> Option<Self> {
        (0..=MAX_DICT_CODE).map(Self).find(|dict| u64::from(dict.bytes()) >= bytes)
    }

    /// The code.
    pub fn code(self) -> u8 {
        self.0
    }

    /// The size in bytes.
    pub fn bytes(self) -> u32 {
        (2 | u32::from(self.0 & 1)) << (self.0 / 2 + 11)
    }
}

/// Branch filters of `.xz` blocks that start at offset 0, by their number in that format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "names of processors")]
pub enum Branch {
    None,
    X86,
    PowerPc,
    Ia64,
    Arm,
    ArmThumb,
    Sparc,
    Arm64,
    RiscV,
}

impl Branch {
    /// The filter with this number; 0 is none.
    pub fn from_id(id: u8) -> Option<Self> {
        Some(match id {
            0 => Self::None,
            4 => Self::X86,
            5 => Self::PowerPc,
            6 => Self::Ia64,
            7 => Self::Arm,
            8 => Self::ArmThumb,
            9 => Self::Sparc,
            10 => Self::Arm64,
            11 => Self::RiscV,
            _ => return None,
        })
    }

    /// The number.
    pub fn id(self) -> u8 {
        match self {
            Self::None => 0,
            Self::X86 => 4,
            Self::PowerPc => 5,
            Self::Ia64 => 6,
            Self::Arm => 7,
            Self::ArmThumb => 8,
            Self::Sparc => 9,
            Self::Arm64 => 10,
            Self::RiscV => 11,
        }
    }
}

impl Codec {
    /// The name in messages and listings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deflate => "deflate",
            Self::Zlib => "zlib",
            Self::Lzma { .. } => "lzma",
            Self::Lzma2 { .. } => "lzma2",
            Self::Xz { .. } => "xz",
            Self::Zstd { .. } => "zstd",
        }
    }

    /// Appends the one to three bytes that stand in a patch head.
    pub fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Deflate => out.push(0),
            Self::Zlib => out.push(1),
            Self::Lzma { dict } => out.extend([2, dict.0]),
            Self::Lzma2 { dict, branch } => out.extend([3, dict.0, branch.id()]),
            Self::Xz { dict } => out.extend([4, dict.0]),
            Self::Zstd { window } => out.extend([5, window.0]),
        }
    }

    /// Reads what [`Codec::write`] wrote and moves `bytes` past it.
    ///
    /// # Errors
    /// Truncated bytes, an unknown codec or filter, a dictionary over the limit.
    pub fn read(bytes: &mut &[u8]) -> Result<Self, ApplyError> {
        Ok(match byte(bytes, "stream codec")? {
            0 => Self::Deflate,
            1 => Self::Zlib,
            2 => Self::Lzma { dict: Dict::read(bytes)? },
            3 => {
                let dict = Dict::read(bytes)?;
                let branch = Branch::from_id(byte(bytes, "branch filter")?)
                    .ok_or(ApplyError::Malformed { field: "branch filter", reason: "unknown" })?;
                Self::Lzma2 { dict, branch }
            }
            4 => Self::Xz { dict: Dict::read(bytes)? },
            5 => Self::Zstd { window: Dict::read(bytes)? },
            _ => return Err(ApplyError::Malformed { field: "stream codec", reason: "unknown" }),
        })
    }
}

impl Dict {
    pub(crate) fn read(bytes: &mut &[u8]) -> Result<Self, ApplyError> {
        let code = byte(bytes, "dictionary")?;
        Self::from_code(code).ok_or(ApplyError::OverLimit {
            field: "dictionary code",
            value: u64::from(code),
            limit: u64::from(MAX_DICT_CODE),
        })
    }
}

/// Takes one byte off the front.
pub(crate) fn byte(bytes: &mut &[u8], field: &'static str) -> Result<u8, ApplyError> {
    let (&first, rest) = bytes.split_first().ok_or(ApplyError::Truncated { field })?;
    *bytes = rest;
    Ok(first)
}
