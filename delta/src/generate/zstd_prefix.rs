//! Writes `zstd --patch-from` frames: the new image compressed with the old one as its prefix.

use std::{io::Write, ops::ControlFlow};

use zstd::{stream::raw::CParameter, zstd_safe::Strategy};

use super::{Phase, Progress, Report, encode::ZSTD_LEVEL};
use crate::{error::DiffError, foreign::MAX_PREFIX_AND_CONTENT};

/// Bytes compressed between two reports of progress.
const STEP: usize = 1 << 20;

/// Largest binary tree of the match finder, as a power of two of its entries of four bytes. It holds the old image as well;
/// beyond this long-distance matching alone finds what is older.
const MAX_CHAIN_LOG: u32 = 27;

/// Makes the frame that `zstd -d --patch-from=OLD --long=31` turns into `new`.
///
/// It has the content's length and checksum, as `zstd` writes them. The work is done on one thread; [`ControlFlow::Break`] of
/// `progress` cancels it.
///
/// # Errors
/// Images of more than 2 GiB together, or cancelled.
pub fn write_zstd(
    old: &[u8],
    new: &[u8],
    progress: &(dyn Fn(Progress) -> ControlFlow<()> + Sync),
) -> Result<Vec<u8>, DiffError> {
    let len = old.len() as u64 + new.len() as u64;
    if len > MAX_PREFIX_AND_CONTENT {
        return Err(DiffError::BeyondWindow { len, limit: MAX_PREFIX_AND_CONTENT });
    }
    let report = Report::new(progress, new);
    report.phase(Phase::Compress)?;
    let failed = |error: std::io::Error| DiffError::Internal { stage: "Zstandard", reason: error.to_string() };
    // From the last byte of the new image back to the first of the old one.
    let window_log = len.next_power_of_two().ilog2().max(10);
    let mut encoder = zstd::Encoder::with_ref_prefix(Vec::new(), ZSTD_LEVEL, old).map_err(failed)?;
    for parameter in [
        CParameter::WindowLog(window_log),
        CParameter::ChainLog((window_log + 1).clamp(24, MAX_CHAIN_LOG)),
        CParameter::Strategy(Strategy::ZSTD_btultra2),
        CParameter::EnableLongDistanceMatching(true),
        CParameter::ChecksumFlag(true),
        CParameter::ContentSizeFlag(true),
    ] {
        encoder.set_parameter(parameter).map_err(failed)?;
    }
    encoder.set_pledged_src_size(Some(new.len() as u64)).map_err(failed)?;
    for step in new.chunks(STEP) {
        encoder.write_all(step).map_err(failed)?;
        report.add(step.len() as u64)?;
    }
    encoder.finish().map_err(failed)
}
