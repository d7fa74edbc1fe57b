//! The patch crate as its callers see it.

#![cfg(feature = "generate")]
#![expect(clippy::cast_possible_truncation, reason = "test images are far below every limit")]

#[cfg(feature = "foreign")]
mod bsdiff40;
mod contents;
mod format;
mod images;
mod mcu;
mod plan;
mod refusal;
mod resume;
mod roundtrip;
mod sizes;
mod threads;
mod unfold;
#[cfg(feature = "foreign")]
mod zstd_prefix;
