//! Why a patch of another program was refused.

use std::io;

use super::Format;

/// Why a patch of another program was refused while reading or applying.
///
/// [`ForeignError::is_io`] tells trouble of the machine (retry) from trouble of the patch (fetch another encoding).
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// The bytes do not start like a patch of this format.
    #[error("not a {0} patch: the first bytes are others")]
    NotThisFormat(Format),
    /// A field contradicts the format.
    #[error("malformed {field}: {reason}")]
    Malformed {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A length or a count is negative.
    #[error("{field} is negative")]
    Negative {
        /// Which number.
        field: &'static str,
    },
    /// A number in the patch is over a limit.
    #[error("{field} is {value}, over the limit of {limit}")]
    OverLimit {
        /// Which number.
        field: &'static str,
        /// What the patch says.
        value: u64,
        /// What this reader accepts.
        limit: u64,
    },
    /// The bytes end inside a field.
    #[error("the patch ends inside {field}")]
    Truncated {
        /// Which field.
        field: &'static str,
    },
    /// Applying needs more memory than the budget allows.
    #[error("the patch needs {needed} bytes of memory; the budget is {budget}")]
    OverBudget {
        /// Bytes needed.
        needed: u64,
        /// Bytes allowed.
        budget: u64,
    },
    /// A compressed stream does not decode.
    #[error("the {stream} stream does not decode: {reason}")]
    Decode {
        /// Name of the stream.
        stream: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// Bytes follow where the patch should end.
    #[error("bytes follow the {after}")]
    Trailing {
        /// What they follow.
        after: &'static str,
    },
    /// The checksum inside the patch is not that of the output.
    #[error("the output does not have the checksum that the patch states; is the old image the right one?")]
    ChecksumMismatch,
    /// The output is not the image that the caller expects.
    #[error("the output does not have the SHA-256 expected; is the old image the right one?")]
    NewMismatch,
    /// Reading the old image failed.
    #[error("reading the old image failed")]
    ReadOld(#[source] io::Error),
    /// Reading the patch failed.
    #[error("reading the patch failed")]
    ReadPatch(#[source] io::Error),
    /// Writing the new image failed.
    #[error("writing the new image failed")]
    WriteNew(#[source] io::Error),
}

impl ForeignError {
    /// Whether the machine failed rather than the patch.
    pub fn is_io(&self) -> bool {
        matches!(self, Self::ReadOld(_) | Self::ReadPatch(_) | Self::WriteNew(_))
    }
}

/// Reads exactly `bytes` of the patch.
pub(super) fn read_exact(from: &mut impl io::Read, bytes: &mut [u8], field: &'static str) -> Result<(), ForeignError> {
    from.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ForeignError::Truncated { field },
        _ => ForeignError::ReadPatch(error),
    })
}
