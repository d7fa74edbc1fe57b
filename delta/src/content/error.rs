//! Why a compressed stream could not be decoded or rebuilt.

use alloc::string::String;

use crate::io;

/// Why a compressed stream could not be decoded or rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The coded bytes, or the content to encode, break their format.
    #[error("malformed {field}: {reason}")]
    Malformed {
        /// Which part.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A number is over a limit.
    #[error("{field} is {value}, over the limit of {limit}")]
    OverLimit {
        /// Which number.
        field: &'static str,
        /// What was found.
        value: u64,
        /// What is accepted.
        limit: u64,
    },
    /// The encoder that the recipe names is not here in that version.
    #[error("re-encoder {name} {version} is not available")]
    Unavailable {
        /// Its name.
        name: &'static str,
        /// Its exact version.
        version: String,
    },
    /// Reading coded bytes, scratch storage or a helper failed.
    #[error("reading or writing failed")]
    Io(#[from] io::Error),
}

/// Shorthand for the common variant.
pub(crate) fn malformed(field: &'static str, reason: &'static str) -> ContentError {
    ContentError::Malformed { field, reason }
}
