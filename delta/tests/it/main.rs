//! The patch crate as its callers see it.

#![cfg(feature = "generate")]

mod format;
mod images;
mod refusal;
mod resume;
mod roundtrip;
mod sizes;
