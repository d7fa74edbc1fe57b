//! Decodes a stream whose lengths are not known, and tells where it ends.
//!
//! The generator's own decoders do this: they are fast and say how much they consumed. What a device decodes is checked
//! with the device's decoders afterwards.

use flate2::{Decompress, FlushDecompress};
use liblzma::stream::{Action, Filters, Stream};
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use super::super::{
    codec::{Branch, Codec},
    limits::MAX_DICT_CODE,
};
use super::limits::content_cap;

/// Room for decoded bytes that is made at a time.
const ROOM: usize = 64 << 10;

/// Coded bytes given to a decoder at a time, so that the expansion is looked at often.
const STEP: usize = 16 << 10;

/// Memory that liblzma may take: the largest dictionary accepted, filters and state.
const LZMA_MEMORY: u64 = 144 << 20;

/// Largest window of a Zstandard frame, as a power of two.
const ZSTD_WINDOW_LOG: u32 = MAX_DICT_CODE as u32 / 2 + 12;

/// What decoding came to.
pub(super) enum Outcome {
    /// The stream ended by itself.
    Whole {
        /// Coded bytes used.
        consumed: usize,
        /// What they decode into.
        content: Vec<u8>,
    },
    /// It is broken, or longer than allowed, after so many bytes.
    Waste(u64),
}

enum Decoder {
    Deflate(Decompress),
    Lzma(Stream),
    Zstd(DCtx<'static>),
}

/// Decodes from the beginning of `coded`, at most `longest` bytes.
pub(super) fn unpack(codec: Codec, coded: &[u8], longest: u64) -> Outcome {
    let Some(mut decoder) = Decoder::new(codec) else { return Outcome::Waste(0) };
    let mut content = Vec::new();
    let mut consumed = 0;
    loop {
        let rest = coded.get(consumed..).unwrap_or_default();
        let step = rest.get(..STEP).unwrap_or(rest);
        content.reserve(ROOM);
        let before = content.len();
        let Some((taken, ended)) = decoder.step(step, &mut content) else {
            return Outcome::Waste(content.len() as u64);
        };
        consumed += taken;
        if ended {
            return Outcome::Whole { consumed, content };
        }
        let stuck = taken == 0 && content.len() == before;
        if stuck || content.len() as u64 > content_cap(consumed as u64).min(longest) {
            return Outcome::Waste(content.len() as u64);
        }
    }
}

impl Decoder {
    fn new(codec: Codec) -> Option<Self> {
        Some(match codec {
            Codec::Deflate => Self::Deflate(Decompress::new(false)),
            Codec::Zlib => Self::Deflate(Decompress::new(true)),
            Codec::Lzma { .. } => Self::Lzma(Stream::new_lzma_decoder(LZMA_MEMORY).ok()?),
            Codec::Xz { .. } => Self::Lzma(Stream::new_stream_decoder(LZMA_MEMORY, 0).ok()?),
            Codec::Lzma2 { dict, branch } => {
                let mut filters = Filters::new();
                match branch {
                    Branch::None => {}
                    Branch::X86 => drop(filters.x86()),
                    Branch::PowerPc => drop(filters.powerpc()),
                    Branch::Ia64 => drop(filters.ia64()),
                    Branch::Arm => drop(filters.arm()),
                    Branch::ArmThumb => drop(filters.arm_thumb()),
                    Branch::Sparc => drop(filters.sparc()),
                    Branch::Arm64 => drop(filters.arm64()),
                    Branch::RiscV => drop(filters.riscv()),
                }
                filters.lzma2_properties(&[dict.code()]).ok()?;
                Self::Lzma(Stream::new_raw_decoder(&filters).ok()?)
            }
            Codec::Zstd { .. } => {
                let mut context = DCtx::try_create()?;
                context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG)).ok()?;
                Self::Zstd(context)
            }
        })
    }

    /// Bytes taken, and whether the stream ended. `content` has room.
    fn step(&mut self, coded: &[u8], content: &mut Vec<u8>) -> Option<(usize, bool)> {
        match self {
            Self::Deflate(decompress) => {
                let before = decompress.total_in();
                let status = decompress.decompress_vec(coded, content, FlushDecompress::None).ok()?;
                let taken = usize::try_from(decompress.total_in() - before).ok()?;
                Some((taken, status == flate2::Status::StreamEnd))
            }
            Self::Lzma(stream) => {
                let before = stream.total_in();
                let status = stream.process_vec(coded, content, Action::Run).ok()?;
                let taken = usize::try_from(stream.total_in() - before).ok()?;
                Some((taken, status == liblzma::stream::Status::StreamEnd))
            }
            Self::Zstd(context) => {
                let mut input = InBuffer::around(coded);
                let at = content.len();
                let hint = context.decompress_stream(&mut OutBuffer::around_pos(content, at), &mut input).ok()?;
                Some((input.pos(), hint == 0))
            }
        }
    }
}
