//! Binary patches for firmware images: made on a server, applied on a device in one streaming pass.
//!
//! * [`diff`] makes a patch. It uses all threads of the current rayon pool; its bytes do not depend on how many.
//! * [`apply`] applies one from streams. [`Applier`] does it segment by segment, for a device that authenticates,
//!   decodes and resumes while it downloads.
//! * [`foreign`] reads and writes patches of other programs, [`plan`] chooses which patches to build, [`best_full`] is the
//!   full image that a patch has to beat.
//! * [`Head`] is what a patch says about itself: both images, memory, segments. Whoever vouches for the SHA-256 of the
//!   head vouches for the patch.
//!
//! The crate does no network or file IO of its own, reads no clock and uses no randomness. The only programs that it starts
//! are helpers that its caller names, see [`content::Helpers`]. The format is specified in
//! `docs/patch-format.md`. Without the feature `generate` only the applying half is built.
//! Without `recode` as well it has no C code, and refuses patches into compressed streams. Without `std` as well, which the
//! others imply, it is `no_std` and needs an allocator; [`io`] then has traits of its own. Without `alloc` as well, which `std`
//! implies, it has no allocator either, and [`mcu`] alone is left.

#![cfg_attr(not(feature = "std"), no_std)]
#![deny(clippy::float_arithmetic)]
#![expect(clippy::cast_possible_truncation, reason = "every narrowing stands behind a limit from `limits`")]

#[cfg(feature = "alloc")]
extern crate alloc;

#[cfg(feature = "alloc")]
#[cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]
mod apply;
#[cfg(feature = "alloc")]
#[cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]
pub mod content;
mod error;
#[cfg(feature = "foreign")]
#[cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]
pub mod foreign;
#[cfg(feature = "generate")]
mod generate;
#[cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]
mod head;
#[cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]
pub mod io;
mod limits;
#[cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]
pub mod mcu;
#[cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]
mod mix;
#[cfg(feature = "generate")]
pub mod plan;
#[cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]
mod varint;
#[cfg(feature = "alloc")]
#[cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]
mod views;

#[cfg(feature = "alloc")]
#[doc(hidden)]
pub use self::mix::fuzz as fuzz_mix;
#[cfg(feature = "alloc")]
pub use self::{
    apply::{Applied, Applier, ApplyOptions, ResumePoint, apply, read_head},
    head::{Head, Lead, Segment},
    views::{Layer, NewNode, OldContent, Views},
};
pub use self::{
    error::ApplyError,
    head::{Codec, MAGIC, MapBound, PREFIX_LEN, Stream, StreamKind, VERSION, feature},
    limits::{
        ApplyBudget, Limits, MAX_CODED_LEN, MAX_HEAD_LEN, MAX_IMAGE_LEN, MAX_SEGMENT_LEN, MAX_SEGMENTS,
        MIN_SEGMENT_SHIFT,
    },
    mix::Params as MixParams,
};
#[cfg(feature = "generate")]
pub use self::{
    error::DiffError,
    generate::{
        DiffOptions, Full, FullEncoding, FullOptions, Patch, Phase, Profile, Progress, UnknownProfile, best_full, diff,
    },
};
