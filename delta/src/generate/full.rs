//! The best full encoding of an image: what a device downloads when no patch is ready, and what a patch has to beat.

use std::{io::Write, ops::ControlFlow};

use zstd::stream::raw::CParameter;

use super::{Phase, Progress, Report, encode::ZSTD_LEVEL};
use crate::error::DiffError;

/// Bytes compressed between two reports of progress.
const STEP: usize = 1 << 20;

/// Memory of a Zstandard decoder beside its window: tables, and blocks of input and output.
const DECODER_FIXED: u64 = 1 << 20;

/// Shortest window that a frame can ask for.
const MIN_WINDOW_LOG: u32 = 10;

/// Longest window of a frame that stock decoders can be told to accept (`zstd -d --long=31`).
const MAX_WINDOW_LOG: u32 = 31;

/// How to encode a full image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FullOptions {
    /// Bytes of memory that the device's decoder may use. It bounds the window.
    pub decoder_memory: u64,
}

impl Default for FullOptions {
    /// 9 MiB: a window of 8 MiB, which every Zstandard decoder has to support.
    fn default() -> Self {
        Self { decoder_memory: 9 << 20 }
    }
}

/// How a full image is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullEncoding {
    /// The bytes themselves.
    Raw,
    /// One Zstandard frame with length and checksum of its content.
    Zstd {
        /// Its window is two to this power, or the whole image if that is shorter.
        window_log: u32,
    },
}

/// A full image, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    /// How.
    pub encoding: FullEncoding,
    /// The encoded bytes; empty for [`FullEncoding::Raw`], whose bytes are the image.
    pub bytes: Vec<u8>,
    /// How many bytes a device downloads.
    pub len: u64,
}

/// Encodes `new` as small as a decoder with the given memory can take: Zstandard at level 19 with a long window, or raw where
/// that is not smaller. The image is compressed piece by piece; only the result is held.
///
/// # Errors
/// Cancelled by `progress`, or a failure of the encoder.
pub fn best_full(
    new: &[u8],
    options: &FullOptions,
    progress: &(dyn Fn(Progress) -> ControlFlow<()> + Sync),
) -> Result<Full, DiffError> {
    let report = Report::new(progress, new);
    report.phase(Phase::Compress)?;
    let raw = Full { encoding: FullEncoding::Raw, bytes: Vec::new(), len: new.len() as u64 };
    let Some(window_log) = window_log(new.len() as u64, options.decoder_memory) else { return Ok(raw) };
    let failed = |error: std::io::Error| DiffError::Internal { stage: "Zstandard", reason: error.to_string() };
    let mut encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL).map_err(failed)?;
    for parameter in [
        CParameter::WindowLog(window_log),
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
    let bytes = encoder.finish().map_err(failed)?;
    let len = bytes.len() as u64;
    if len >= raw.len {
        return Ok(raw);
    }
    Ok(Full { encoding: FullEncoding::Zstd { window_log }, bytes, len })
}

/// The longest window that the memory allows and the image can use; none when not even the shortest fits.
fn window_log(image_len: u64, decoder_memory: u64) -> Option<u32> {
    let most = decoder_memory.checked_sub(DECODER_FIXED)?.checked_ilog2()?.min(MAX_WINDOW_LOG);
    let useful = image_len.max(1).next_power_of_two().ilog2().max(MIN_WINDOW_LOG);
    Some(most.min(useful)).filter(|&log| log >= MIN_WINDOW_LOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GO_ON: &(dyn Fn(Progress) -> ControlFlow<()> + Sync) = &|_| ControlFlow::Continue(());

    #[test]
    fn the_window_is_bounded_by_memory_and_by_the_image() {
        assert_eq!(window_log(100 << 20, 9 << 20), Some(23));
        assert_eq!(window_log(100 << 20, (9 << 20) - 1), Some(22));
        assert_eq!(window_log(100_000, 1 << 30), Some(17));
        assert_eq!(window_log(0, 1 << 30), Some(10));
        assert_eq!(window_log(1 << 40, u64::MAX), Some(31));
        assert_eq!(window_log(1 << 20, 1 << 20), None);
        assert_eq!(window_log(1 << 20, 0), None);
    }

    #[test]
    fn a_longer_window_finds_more() {
        let half: Vec<u8> =
            (0..700_000u32).map(|n| (n.wrapping_mul(n).wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let image = [&half[..], &half].concat();
        let full = |decoder_memory| best_full(&image, &FullOptions { decoder_memory }, GO_ON).unwrap();
        let (short, long) = (full(3 << 19), full(4 << 20));
        assert!(long.len < short.len * 2 / 3, "{} and {}", long.len, short.len);
        assert_eq!(zstd::decode_all(&long.bytes[..]).unwrap(), image);
        assert_eq!(
            short.encoding,
            if short.bytes.is_empty() { FullEncoding::Raw } else { FullEncoding::Zstd { window_log: 19 } }
        );
    }

    #[test]
    fn what_does_not_shrink_stays_raw() {
        let raw = |new: &[u8], decoder_memory| {
            let full = best_full(new, &FullOptions { decoder_memory }, GO_ON).unwrap();
            assert_eq!((full.encoding, full.len), (FullEncoding::Raw, new.len() as u64));
        };
        raw(b"", 1 << 30);
        raw(b"short", 1 << 30);
        raw(&vec![7; 100_000], 4 << 10);
    }

    #[test]
    fn progress_comes_in_steps_and_can_cancel() {
        let image = vec![1; 3 * STEP];
        let stop = |progress: Progress| {
            if progress.done > STEP as u64 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        assert!(matches!(best_full(&image, &FullOptions::default(), &stop), Err(DiffError::Cancelled)));
    }
}
