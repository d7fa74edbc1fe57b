//! Applying patches: in one call from streams, or segment by segment with [`Applier`].
//!
//! Everything here works on bytes from outside. Nothing panics, and nothing is reserved by a claim of the patch before
//! the claim was held against [`Limits`](crate::Limits) and [`ApplyBudget`].

mod applier;
pub(crate) mod control;
mod decode;
mod lead;
pub(crate) mod memory;
mod mixed;
mod old;
#[cfg(feature = "std")]
mod parallel;
mod rebuild;
mod segment;

use alloc::vec::Vec;

use sha2::{Digest, Sha256};

pub use self::applier::{Applier, ResumePoint};
pub(crate) use self::decode::StreamDecoder;
use crate::{
    error::ApplyError,
    head::{Head, PREFIX_LEN},
    io::{ErrorKind, Read, Seek, Write},
    limits::{ApplyBudget, Limits},
};

/// How to apply a patch.
#[derive(Debug, Clone, Copy)]
pub struct ApplyOptions {
    /// What the reader is willing to look at.
    pub limits: Limits,
    /// Memory and scratch that may be used.
    pub budget: ApplyBudget,
    /// Length and SHA-256 that the head must have, from whoever vouches for the patch. `None` trusts the patch itself: the
    /// output is still checked, but against a hash that came with it.
    pub expected_head: Option<(u32, [u8; 32])>,
    /// Whether to hash the whole old image first. The length is always checked. Leave it off only when the caller has just
    /// hashed the image itself.
    pub check_old: bool,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        Self { limits: Limits::default(), budget: ApplyBudget::default(), expected_head: None, check_old: true }
    }
}

/// What was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Bytes written.
    pub new_len: u64,
    /// SHA-256 of the bytes written.
    pub new_sha256: [u8; 32],
    /// Segments applied.
    pub segments: u32,
}

/// Applies a patch in one pass: `old` is read at random, `patch` and `new` go forwards only.
///
/// # Errors
/// Every [`ApplyError`]. Whatever was written by then is worthless and must not be used.
pub fn apply(
    mut old: impl Read + Seek,
    mut patch: impl Read,
    mut new: impl Write,
    options: &ApplyOptions,
) -> Result<Applied, ApplyError> {
    let head = read_head(&mut patch, &options.limits, options.expected_head.as_ref())?;
    if !head.in_order() {
        return Err(ApplyError::NeedsSeek);
    }
    let mut applier = Applier::new(&head, options.budget)?;
    if options.check_old {
        applier.check_old(&mut old)?;
    } else {
        applier.check_old_len(&mut old)?;
    }
    // The table was held against the budget, so this reserves nothing that was not allowed.
    let mut coded = Vec::with_capacity(head.longest_coded());
    if let Some(lead) = &head.lead {
        coded.resize(lead.coded_len as usize, 0);
        read_exact(&mut patch, &mut coded, "lead")?;
        applier.lead(&coded)?;
    }
    for (index, segment) in (0u32..).zip(&head.segments) {
        coded.resize(segment.coded_len as usize, 0);
        read_exact(&mut patch, &mut coded, "segment")?;
        applier.segment(index, &coded, &mut old, &mut new)?;
    }
    if patch.read(&mut [0]).map_err(ApplyError::ReadPatch)? != 0 {
        return Err(ApplyError::Malformed { field: "patch", reason: "bytes follow the last segment" });
    }
    applier.finish()?;
    new.flush().map_err(ApplyError::WriteNew)?;
    Ok(Applied { new_len: head.new_len, new_sha256: head.new_sha256, segments: head.segments.len() as u32 })
}

/// Reads the head off the front of a patch, and nothing more. With `expected` (length and SHA-256) the bytes are held
/// against it before they are parsed.
///
/// # Errors
/// As [`Head::parse`], [`ApplyError::HeadMismatch`], and trouble reading.
pub fn read_head(
    patch: &mut impl Read,
    limits: &Limits,
    expected: Option<&(u32, [u8; 32])>,
) -> Result<Head, ApplyError> {
    let mut prefix = [0; PREFIX_LEN];
    read_exact(patch, &mut prefix, "prefix")?;
    let head_len = Head::prefix_len(&prefix, limits)?;
    if expected.is_some_and(|&(len, _)| len != head_len) {
        return Err(ApplyError::HeadMismatch);
    }
    // `prefix_len` holds the length against the limit and the prefix.
    let mut bytes = prefix.to_vec();
    bytes.resize(head_len as usize, 0);
    read_exact(patch, bytes.get_mut(PREFIX_LEN..).unwrap_or_default(), "head")?;
    if expected.is_some_and(|(_, sha256)| Sha256::digest(&bytes)[..] != sha256[..]) {
        return Err(ApplyError::HeadMismatch);
    }
    Head::parse(&bytes, limits)
}

fn read_exact(from: &mut impl Read, bytes: &mut [u8], field: &'static str) -> Result<(), ApplyError> {
    from.read_exact(bytes).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => ApplyError::Truncated { field },
        _ => ApplyError::ReadPatch(error),
    })
}
