//! Rebuilds one compressed stream from its content, piece by piece where the encoder allows it.
//!
//! Memory is known before the first byte. What an encoder makes here is compared with the real stream when a patch is made,
//! so that a device only ever repeats what was seen to work.

use flate2::{Compress, Compression, FlushCompress, Status};
use liblzma::stream::{Action, Filters, LzmaOptions, Stream};

use super::{
    codec::{Branch, Codec, Dict},
    deflate,
    error::{ContentError, malformed},
    helper::Helpers,
    limits::{MAX_CONTENT_LEN, MAX_WHOLE_LEN},
    recipe::{Lzma, Recipe},
    xz, zstd_codec,
};

/// Room that encoders get in the output at a time.
const ROOM: usize = 64 << 10;

/// State of zlib at memory level 8 and 15 window bits: 256 KiB of tables and window, the rest fields.
const ZLIB_MEMORY: u64 = 288 << 10;

/// The lower bits of a preset are its number; this one is the `e` variant.
const PRESET_EXTREME: u32 = 1 << 31;

/// liblzma's state without what grows with the dictionary.
const LZMA_FIXED: u64 = 2 << 20;

/// For each position of the dictionary: two links of four bytes, and one and a half bytes of window.
const LZMA_PER_DICT: u64 = 10;

/// State of the LZMA SDK without what grows with dictionary and content.
const SDK_FIXED: u64 = 2 << 20;

/// Encoder of one stream.
pub struct ContentEncoder {
    kind: Kind,
    left: u64,
}

enum Kind {
    Zlib(Compress),
    Deflate(Box<deflate::Encoder>),
    Liblzma(Stream),
    Xz(Box<xz::Writer>),
    /// Collects the content, because the encoder takes it whole.
    Sdk {
        content: Vec<u8>,
        props: lzma_sdk_rs::LzmaProps,
        header: bool,
    },
    Zstd(Box<zstd_codec::Encoder>),
}

impl ContentEncoder {
    /// Prepares rebuilding a stream whose content has `content_len` bytes.
    ///
    /// # Errors
    /// A recipe that does not go with the codec, a content over the limit of its encoder, or an encoder that is not here.
    pub fn new(codec: Codec, recipe: Recipe, content_len: u64, helpers: &Helpers) -> Result<Self, ContentError> {
        let limit = if is_whole(recipe) { MAX_WHOLE_LEN } else { MAX_CONTENT_LEN };
        if content_len > limit {
            return Err(ContentError::OverLimit { field: "content length", value: content_len, limit });
        }
        let kind = match (codec, recipe) {
            (Codec::Deflate | Codec::Zlib, Recipe::Zlib { level, window_bits }) => {
                let header = codec == Codec::Zlib;
                if !(1..=9).contains(&level) || !(9..=15).contains(&window_bits) {
                    return Err(malformed("recipe", "zlib settings out of range"));
                }
                Kind::Zlib(Compress::new_with_window_bits(Compression::new(u32::from(level)), header, window_bits))
            }
            (Codec::Deflate, Recipe::Deflate(settings)) => Kind::Deflate(Box::new(deflate::Encoder::new(settings))),
            (Codec::Lzma { .. }, Recipe::Liblzma(lzma)) => {
                let options = options(lzma)?;
                Kind::Liblzma(Stream::new_lzma_encoder(&options).map_err(|_| refused())?)
            }
            (Codec::Lzma2 { branch, .. }, Recipe::Liblzma(lzma)) => Kind::Liblzma(raw_encoder(lzma, branch)?),
            (Codec::Xz { .. }, Recipe::Xz { lzma, branch, check, sizes, header }) => {
                let encoder = raw_encoder(lzma, branch)?;
                Kind::Xz(Box::new(xz::Writer::new(
                    encoder,
                    xz::Headers { dict: lzma.dict, branch, check, sizes, words: header },
                )?))
            }
            (Codec::Lzma { .. }, Recipe::LzmaSdk { props, dict, fast_bytes, cycles }) => Kind::Sdk {
                content: Vec::new(),
                props: lzma_sdk_rs::LzmaProps {
                    lc: props % 9,
                    lp: props / 9 % 5,
                    pb: props / 45,
                    dict_size: dict.bytes(),
                    fb: u32::from(fast_bytes),
                    mc: u32::from(cycles),
                },
                header: true,
            },
            (Codec::Zstd { .. }, Recipe::Zstd(zstd)) => {
                Kind::Zstd(Box::new(zstd_codec::Encoder::new(zstd, content_len, helpers)?))
            }
            _ => return Err(malformed("recipe", "does not go with the codec")),
        };
        Ok(Self { kind, left: content_len })
    }

    /// Bytes of memory that rebuilding takes, without the output that the caller has not taken yet.
    pub fn memory(recipe: Recipe, content_len: u64) -> u64 {
        // Hash heads of half as many words as the dictionary has bytes. Of the rest of the tables no more is touched than the
        // content has positions, although all of it is reserved.
        let heads = |dict: Dict| 4 * (u64::from(dict.bytes()).next_power_of_two() / 2).clamp(1 << 16, 1 << 24);
        let touched = |dict: Dict| u64::from(dict.bytes()).min(content_len);
        let liblzma = |lzma: Lzma| LZMA_FIXED + heads(lzma.dict) + LZMA_PER_DICT * touched(lzma.dict);
        match recipe {
            Recipe::Zlib { .. } => ZLIB_MEMORY,
            Recipe::Deflate(settings) => deflate::Encoder::memory(settings),
            Recipe::Liblzma(lzma) => liblzma(lzma),
            Recipe::Xz { lzma, sizes, .. } => {
                // LZMA2 never makes more than its input and three bytes for each 64 KiB.
                liblzma(lzma) + if sizes { content_len.saturating_mul(5) / 4 + ROOM as u64 } else { 0 }
            }
            Recipe::LzmaSdk { dict, .. } => {
                // Two links for each position, and the content and its coded form.
                SDK_FIXED + 8 * touched(dict) + heads(dict) + content_len.saturating_mul(9) / 4
            }
            Recipe::Zstd(zstd) => zstd_codec::Encoder::memory(zstd, content_len),
        }
    }

    /// Takes the next bytes of the content, and appends to `out` what the encoder makes of them.
    ///
    /// # Errors
    /// More content than was announced, or an encoder that fails.
    pub fn push(&mut self, content: &[u8], out: &mut Vec<u8>) -> Result<(), ContentError> {
        let len = content.len() as u64;
        self.left = self.left.checked_sub(len).ok_or(malformed("content", "longer than announced"))?;
        match &mut self.kind {
            Kind::Zlib(compress) => {
                let mut rest = content;
                while !rest.is_empty() {
                    out.reserve(ROOM);
                    let before = compress.total_in();
                    compress.compress_vec(rest, out, FlushCompress::None).map_err(|_| failed("zlib"))?;
                    let taken = usize::try_from(compress.total_in() - before).map_err(|_| failed("zlib"))?;
                    rest = rest.get(taken..).unwrap_or_default();
                }
                Ok(())
            }
            Kind::Deflate(encoder) => {
                encoder.push(content, out);
                Ok(())
            }
            Kind::Liblzma(stream) => lzma_push(stream, content, out),
            Kind::Xz(writer) => writer.push(content, out),
            Kind::Sdk { content: whole, .. } => {
                whole.extend_from_slice(content);
                Ok(())
            }
            Kind::Zstd(encoder) => encoder.push(content, out),
        }
    }

    /// Ends the stream and appends the rest of it to `out`.
    ///
    /// # Errors
    /// Less content than was announced, or an encoder that fails.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<(), ContentError> {
        if self.left != 0 {
            return Err(malformed("content", "shorter than announced"));
        }
        match self.kind {
            Kind::Zlib(mut compress) => loop {
                out.reserve(ROOM);
                match compress.compress_vec(&[], out, FlushCompress::Finish) {
                    Ok(Status::StreamEnd) => return Ok(()),
                    Ok(_) => {}
                    Err(_) => return Err(failed("zlib")),
                }
            },
            Kind::Deflate(encoder) => {
                encoder.finish(out);
                Ok(())
            }
            Kind::Liblzma(mut stream) => lzma_finish(&mut stream, out),
            Kind::Xz(writer) => writer.finish(out),
            Kind::Sdk { content, props, header } => {
                if header {
                    out.push(props.pb * 45 + props.lp * 9 + props.lc);
                    out.extend(props.dict_size.to_le_bytes());
                    out.extend((content.len() as u64).to_le_bytes());
                }
                out.extend(lzma_sdk_rs::encode(&content, &props));
                Ok(())
            }
            Kind::Zstd(encoder) => encoder.finish(out),
        }
    }
}

/// Whether the encoder holds its content whole.
fn is_whole(recipe: Recipe) -> bool {
    match recipe {
        Recipe::LzmaSdk { .. } => true,
        Recipe::Xz { sizes, .. } => sizes,
        Recipe::Zstd(zstd) => zstd_codec::is_whole(zstd),
        Recipe::Zlib { .. } | Recipe::Deflate(_) | Recipe::Liblzma(_) => false,
    }
}

pub(crate) fn lzma_push(stream: &mut Stream, content: &[u8], out: &mut Vec<u8>) -> Result<(), ContentError> {
    let mut rest = content;
    while !rest.is_empty() {
        out.reserve(ROOM);
        let before = stream.total_in();
        stream.process_vec(rest, out, Action::Run).map_err(|_| failed("liblzma"))?;
        let taken = usize::try_from(stream.total_in() - before).map_err(|_| failed("liblzma"))?;
        rest = rest.get(taken..).unwrap_or_default();
    }
    Ok(())
}

pub(crate) fn lzma_finish(stream: &mut Stream, out: &mut Vec<u8>) -> Result<(), ContentError> {
    loop {
        out.reserve(ROOM);
        match stream.process_vec(&[], out, Action::Finish) {
            Ok(liblzma::stream::Status::StreamEnd) => return Ok(()),
            Ok(_) => {}
            Err(_) => return Err(failed("liblzma")),
        }
    }
}

fn options(lzma: Lzma) -> Result<LzmaOptions, ContentError> {
    let preset = u32::from(lzma.preset) | if lzma.extreme { PRESET_EXTREME } else { 0 };
    let mut options = LzmaOptions::new_preset(preset).map_err(|_| refused())?;
    options
        .dict_size(lzma.dict.bytes())
        .literal_context_bits(u32::from(lzma.props % 9))
        .literal_position_bits(u32::from(lzma.props / 9 % 5))
        .position_bits(u32::from(lzma.props / 45));
    Ok(options)
}

fn raw_encoder(lzma: Lzma, branch: Branch) -> Result<Stream, ContentError> {
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
    filters.lzma2(&options(lzma)?);
    Stream::new_raw_encoder(&filters).map_err(|_| refused())
}

fn refused() -> ContentError {
    malformed("recipe", "the encoder refuses its settings")
}

pub(crate) fn failed(field: &'static str) -> ContentError {
    malformed(field, "the encoder failed")
}
