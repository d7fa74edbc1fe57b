//! Why a patch was refused. Closed enums: each variant names the field and, where there is one, the limit.

#[cfg(feature = "alloc")]
use alloc::string::String;

#[cfg(feature = "alloc")]
use crate::content::ContentError;
use crate::io;

/// Why a patch, or a part of it, was refused while reading or applying.
///
/// [`ApplyError::is_io`] tells trouble of the machine (retry) from trouble of the patch (fetch another encoding).
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The bytes do not start like a patch.
    #[error("not a patch: the first bytes are not the patch magic")]
    NotAPatch,
    /// The container version is unknown.
    #[error("patch container version {found} is unknown; this reader knows version {known}")]
    UnknownVersion {
        /// The version in the patch.
        found: u8,
        /// The version of this reader.
        known: u8,
    },
    /// The patch requires something this reader does not know.
    #[error("the patch requires unknown features (bits {bits:#x}); a newer reader is needed")]
    UnknownFeatures {
        /// The unknown bits alone.
        bits: u64,
    },
    /// A stream has a kind that this reader does not know.
    #[error("segment {segment} has a stream of unknown kind {kind}; a newer reader is needed")]
    UnknownStreamKind {
        /// Segment number, from 0.
        segment: u32,
        /// The unknown kind.
        kind: u8,
    },
    /// A stream is coded in a way that this reader does not know.
    #[error("segment {segment} uses unknown codec {codec}; a newer reader is needed")]
    UnknownCodec {
        /// Segment number, from 0.
        segment: u32,
        /// The unknown codec.
        codec: u8,
    },
    /// The patch wants a stream re-encoded, and this reader has no encoders.
    #[cfg(feature = "alloc")]
    #[error("the patch needs re-encoder {name}, version {version}, which this reader does not have")]
    UnknownRecoder {
        /// Its name.
        name: &'static str,
        /// The exact version asked for.
        version: String,
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
    /// A field contradicts the format.
    #[error("malformed {field}: {reason}")]
    Malformed {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The bytes end inside a field.
    #[error("the patch ends inside {field}")]
    Truncated {
        /// Which field.
        field: &'static str,
    },
    /// The head is not the one the caller expected.
    #[error("header and segment table do not match the expected length and digest")]
    HeadMismatch,
    /// The image to start from has the wrong length.
    #[error("this patch starts from an image of {expected} bytes; the one given has {found}")]
    OldLength {
        /// Bytes the patch was made from.
        expected: u64,
        /// Bytes given.
        found: u64,
    },
    /// The image to start from is another one.
    #[error("this patch starts from another image: the SHA-256 of the old image does not match")]
    OldMismatch,
    /// The patch needs more than the budget allows.
    #[error("the patch needs {needed} bytes of {resource}; the budget is {budget}")]
    OverBudget {
        /// `memory` or `scratch`.
        resource: &'static str,
        /// Bytes declared or computed from the table, whichever is more.
        needed: u64,
        /// Bytes allowed.
        budget: u64,
    },
    /// The coded bytes of a segment are not those the table promises.
    #[error("segment {segment} is damaged: its coded bytes do not match the table")]
    SegmentMismatch {
        /// Segment number, from 0.
        segment: u32,
    },
    /// The coded bytes of the lead are not those the head promises.
    #[error("the lead is damaged: its coded bytes do not match the head")]
    LeadMismatch,
    /// The lead was not given before the first segment.
    #[error("the lead of the patch comes before its segments")]
    LeadMissing,
    /// A stream of the lead does not decode.
    #[error("stream {stream} of the lead does not decode: {reason}")]
    DecodeLead {
        /// Name of the stream.
        stream: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// A compressed stream of the old image does not decode as it did when the patch was made.
    #[cfg(feature = "alloc")]
    #[error("a compressed stream of the old image does not decode")]
    OldContent(#[source] ContentError),
    /// A stream of the new image does not re-encode as it did when the patch was made.
    #[cfg(feature = "alloc")]
    #[error("a stream of the new image does not re-encode")]
    Recode(#[source] ContentError),
    /// A segment failed half-way through a stream that is re-encoded; begin again at the resume point.
    #[error("an earlier segment failed inside a compressed stream; resume from what is verified")]
    Interrupted,
    /// A stream does not decode.
    #[error("stream {stream} of segment {segment} does not decode: {reason}")]
    Decode {
        /// Segment number, from 0.
        segment: u32,
        /// Name of the stream.
        stream: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// A segment decoded into other bytes than the table promises.
    #[error("segment {segment} decoded into other bytes than promised; was the old image changed?")]
    OutputMismatch {
        /// Segment number, from 0.
        segment: u32,
    },
    /// The whole output is not the promised image.
    #[error("the finished image does not match the SHA-256 in the patch")]
    NewMismatch,
    /// Segments were offered in another order than the table has, or some are missing.
    #[error("segment {expected} is next, but {found} was given")]
    OutOfOrder {
        /// The segment that is next.
        expected: u32,
        /// The segment given.
        found: u32,
    },
    /// The table is not in the order of the output, and the caller can only write forwards.
    #[error("the segments of this patch are not in the order of the output; it needs a seekable target")]
    NeedsSeek,
    /// Reading the old image failed.
    #[error("reading the old image failed")]
    ReadOld(#[source] io::Error),
    /// Reading the patch failed.
    #[error("reading the patch failed")]
    ReadPatch(#[source] io::Error),
    /// Reading back the new image failed.
    #[error("reading back the new image failed")]
    ReadNew(#[source] io::Error),
    /// Writing the new image failed.
    #[error("writing the new image failed")]
    WriteNew(#[source] io::Error),
}

impl ApplyError {
    /// Whether the machine failed rather than the patch: the same patch may well apply on the next try.
    pub fn is_io(&self) -> bool {
        matches!(self, Self::ReadOld(_) | Self::ReadPatch(_) | Self::ReadNew(_) | Self::WriteNew(_))
    }
}

/// Why no patch could be made.
#[cfg(feature = "generate")]
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// An input is longer than the generator takes.
    #[error("the {image} image has {len} bytes, over the limit of {limit}")]
    TooLong {
        /// `old` or `new`.
        image: &'static str,
        /// Its length in bytes.
        len: u64,
        /// The most that is taken.
        limit: u64,
    },
    /// Old and new image are too long for a format that refers from one back into the other.
    #[error("the images have {len} bytes together, over the {limit} that a Zstandard window reaches back")]
    BeyondWindow {
        /// Bytes of both images.
        len: u64,
        /// The most that is taken.
        limit: u64,
    },
    /// The segment length asked for is not usable.
    #[error("segment length {len} is not a power of two between {min} and {max}")]
    SegmentLen {
        /// What was asked for, in bytes.
        len: u32,
        /// Shortest accepted.
        min: u32,
        /// Longest accepted.
        max: u32,
    },
    /// Applying the patch would need more than the budget allows; shorter segments need less.
    #[error("applying would need {needed} bytes of {resource}, the budget is {budget}; try a shorter segment length")]
    OverBudget {
        /// `memory` or `scratch`.
        resource: &'static str,
        /// Bytes needed.
        needed: u64,
        /// Bytes allowed.
        budget: u64,
    },
    /// The caller's progress function said stop.
    #[error("cancelled")]
    Cancelled,
    /// An encoder failed, or a patch did not give back the new image. A bug, never the input's fault.
    #[error("the {stage} stage failed: {reason}")]
    Internal {
        /// Where.
        stage: &'static str,
        /// What the component said.
        reason: String,
    },
}
