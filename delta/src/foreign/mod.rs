//! Patches in the formats of other programs, read safely: BSDIFF40 (`bspatch`) and `zstd --patch-from`.
//!
//! Neither format says which image it starts from or vouches for what it makes, so each function here returns the SHA-256
//! of its output and can be given the one to expect. `docs/patch-formats-for-others.md` tells device integrators more.

mod bsdiff40;
mod error;
mod output;
mod prefix;
mod zstd;

use std::{fmt, str::FromStr};

pub use self::{
    bsdiff40::{BSDIFF40_HEADER_LEN, BSDIFF40_MAGIC, Bsdiff40Header, apply_bsdiff40},
    error::ForeignError,
    zstd::{MAX_PREFIX_AND_CONTENT, ZSTD_HEADER_MAX, ZSTD_MAGIC, ZstdHeader, apply_zstd},
};
#[cfg(feature = "generate")]
pub use crate::generate::{write_bsdiff40, write_zstd};
use crate::limits::{ApplyBudget, Limits};

/// A patch format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// The container of this crate, see [`Head`](crate::Head).
    #[default]
    Sluice,
    /// What `bsdiff` 4 writes and `bspatch` applies.
    Bsdiff40,
    /// One Zstandard frame whose prefix is the old image: `zstd -d --patch-from=OLD`.
    Zstd,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 3] = [Self::Sluice, Self::Bsdiff40, Self::Zstd];

    /// The name that [`FromStr`] takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sluice => "sluice",
            Self::Bsdiff40 => "bsdiff40",
            Self::Zstd => "zstd",
        }
    }

    /// The format of a patch, told from its first eight bytes. A Zstandard frame does not say whether it needs a prefix: one
    /// that does not decodes all the same.
    pub fn recognise(first_bytes: &[u8]) -> Option<Self> {
        let magics =
            [(Self::Sluice, &crate::head::MAGIC[..]), (Self::Bsdiff40, &BSDIFF40_MAGIC), (Self::Zstd, &ZSTD_MAGIC)];
        magics.into_iter().find(|(_, magic)| first_bytes.starts_with(magic)).map(|(format, _)| format)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The name of a format that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown format {0:?}; known are sluice, bsdiff40 and zstd")]
pub struct UnknownFormat(pub String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| UnknownFormat(name.to_owned()))
    }
}

/// How to apply a patch of another program.
#[derive(Debug, Clone, Copy, Default)]
pub struct ForeignOptions {
    /// What the reader is willing to look at: the lengths of both images.
    pub limits: Limits,
    /// Memory that may be used.
    pub budget: ApplyBudget,
    /// SHA-256 that the output must have, from whoever vouches for the image. With `None` nothing is promised: neither format
    /// knows what it should have made.
    pub new_sha256: Option<[u8; 32]>,
}

/// What a patch of another program made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForeignApplied {
    /// Bytes written.
    pub new_len: u64,
    /// SHA-256 of the bytes written.
    pub new_sha256: [u8; 32],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_apart_by_their_first_bytes() {
        assert_eq!(Format::recognise(b"\xf5SL\x01rest"), Some(Format::Sluice));
        assert_eq!(Format::recognise(b"BSDIFF40"), Some(Format::Bsdiff40));
        assert_eq!(Format::recognise(b"\x28\xb5\x2f\xfd\x04"), Some(Format::Zstd));
        for other in [&b""[..], b"BSDIFF41", b"ENDSLEY/BSDIFF43", b"\xd6\xc3\xc4", b"\x28\xb5\x2f"] {
            assert_eq!(Format::recognise(other), None, "{other:?}");
        }
    }

    #[test]
    fn names_are_read_back() {
        for format in Format::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert!("bsdiff".parse::<Format>().is_err());
    }
}
