//! Decoders of single streams: memory-safe, bounded by the raw length that the table states.

use alloc::{boxed::Box, vec, vec::Vec};
#[cfg(feature = "std")]
use std::io::Read;

use lzma_rust2::LzmaReader;
#[cfg(not(feature = "std"))]
use lzma_rust2::Read as _;
use ruzstd::decoding::StreamingDecoder;
#[cfg(not(feature = "std"))]
use ruzstd::io::Read as _;

use crate::head::Codec;

/// Most literal context and literal position bits together. Each bit doubles the probability model; this stops one
/// properties byte from asking for 12 MiB. It is the limit of LZMA2 as well.
pub(crate) const MAX_LC_LP: u8 = 4;

/// Decoder of one stream of a segment.
pub(crate) struct StreamDecoder<'c> {
    source: Source<'c>,
    left: u32,
}

enum Source<'c> {
    Raw(&'c [u8]),
    Zstd(Box<StreamingDecoder<&'c [u8], ruzstd::decoding::FrameDecoder>>),
    Lzma(Box<LzmaReader<&'c [u8]>>),
}

impl Source<'_> {
    /// Up to as many bytes as `out` has room for; `None` when the coded data are broken.
    fn read(&mut self, out: &mut [u8]) -> Option<usize> {
        match self {
            Self::Raw(rest) => {
                let (now, later) = rest.split_at(rest.len().min(out.len()));
                out.get_mut(..now.len())?.copy_from_slice(now);
                *rest = later;
                Some(now.len())
            }
            Self::Zstd(decoder) => decoder.read(out).ok(),
            Self::Lzma(decoder) => decoder.read(out).ok(),
        }
    }
}

impl<'c> StreamDecoder<'c> {
    /// Starts decoding `coded`, which holds the whole stream of `raw_len` bytes.
    pub(crate) fn new(codec: Codec, raw_len: u32, coded: &'c [u8]) -> Result<Self, &'static str> {
        let source = match codec {
            Codec::Raw => Source::Raw(coded),
            Codec::Zstd => {
                let window = u64::from(raw_len).next_power_of_two().max(MIN_ZSTD_WINDOW);
                let decoder = StreamingDecoder::new_with_max_window_size(coded, window)
                    .map_err(|_| "the Zstandard frame header is broken or asks for too large a window")?;
                Source::Zstd(Box::new(decoder))
            }
            Codec::Lzma => {
                let (&props, coded) = coded.split_first().ok_or("the LZMA properties are missing")?;
                let (lc, lp) = (props % 9, props / 9 % 5);
                if props >= 9 * 5 * 5 || lc + lp > MAX_LC_LP {
                    return Err("the LZMA properties are out of range");
                }
                let decoder = LzmaReader::new_with_props(coded, u64::from(raw_len), props, raw_len, None)
                    .map_err(|_| "the LZMA data do not begin as they must")?;
                Source::Lzma(Box::new(decoder))
            }
            Codec::Mix => return Err("a mixed stream is not decoded by itself"),
        };
        Ok(Self { source, left: raw_len })
    }

    /// A stream that the segment does not have.
    pub(crate) fn absent() -> Self {
        Self { source: Source::Raw(&[]), left: 0 }
    }

    /// Fills `out` with the next bytes of the stream.
    pub(crate) fn fill(&mut self, mut out: &mut [u8]) -> Result<(), &'static str> {
        let wanted = u32::try_from(out.len()).map_err(|_| "more bytes are wanted than the stream has")?;
        self.left = self.left.checked_sub(wanted).ok_or("more bytes are wanted than the stream has")?;
        while !out.is_empty() {
            let read = self.source.read(out).ok_or("the coded data are broken")?;
            if read == 0 {
                return Err("the coded data end too early");
            }
            out = out.get_mut(read..).ok_or("the coded data are broken")?;
        }
        Ok(())
    }

    /// Decodes a whole stream at once.
    pub(crate) fn whole(codec: Codec, raw_len: u32, coded: &[u8]) -> Result<Vec<u8>, &'static str> {
        let mut raw = vec![0; raw_len as usize];
        let mut decoder = StreamDecoder::new(codec, raw_len, coded)?;
        decoder.fill(&mut raw)?;
        decoder.finish()?;
        Ok(raw)
    }

    /// Checks that nothing of the stream is left over.
    pub(crate) fn finish(mut self) -> Result<(), &'static str> {
        if self.left != 0 {
            return Err("not all of the stream is used");
        }
        match self.source.read(&mut [0]) {
            Some(0) => Ok(()),
            Some(_) => Err("the stream decodes into more bytes than stated"),
            None => Err("the coded data are broken at their end"),
        }
    }
}

/// Smallest window a Zstandard frame may ask for, by its specification.
const MIN_ZSTD_WINDOW: u64 = 1 << 10;
