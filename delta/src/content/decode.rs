//! Decodes one compressed stream piece by piece, with memory-safe decoders and memory known beforehand.
//!
//! The coded bytes come from a reader that is given anew with every call, so that whoever owns the image need not lend
//! it for as long as the decoder lives.

use alloc::{boxed::Box, vec, vec::Vec};

use lzma_rust2::{Action, FilterConfig, Lzma2Stream, LzmaStream, Status, StreamResult, XzStream};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
#[cfg(not(feature = "std"))]
use ruzstd::io::Read as _;

use super::{
    codec::{Branch, Codec, Dict},
    error::{ContentError, malformed},
    inflate::Inflate,
};
use crate::io::{self, ErrorKind, Read};

/// Bytes of coded input held at a time.
const INPUT: usize = 32 << 10;

/// Header of the format that [`Codec::Lzma`] decodes.
pub(crate) const LZMA_HEADER: usize = 13;

/// Most literal context and literal position bits together, as in LZMA2: more would multiply the model's memory.
const MAX_LC_LP: u8 = 4;

/// Probability model and state of an LZMA decoder.
const LZMA_FIXED: u64 = 96 << 10;

/// Bytes that a branch filter holds back, and its buffer.
const BRANCH_FIXED: u64 = 64 << 10;

/// Entropy tables, block buffers and ring slack of a Zstandard decoder.
const ZSTD_FIXED: u64 = 1 << 20;

/// Decoder of one stream.
pub struct ContentDecoder {
    kind: Kind,
    feed: Feed,
    left: u64,
}

enum Kind {
    Inflate(Box<Inflate>),
    /// Until its header is read.
    LzmaHeader(Dict, u64),
    Lzma(Box<LzmaStream>),
    Lzma2(Box<Lzma2Stream>),
    Xz(Box<XzStream>),
    ZstdHeader(Box<FrameDecoder>),
    Zstd(Box<FrameDecoder>),
}

impl ContentDecoder {
    /// Prepares decoding of a stream of `coded_len` bytes whose content has `content_len`.
    ///
    /// # Errors
    /// A filter that is not supported.
    pub fn new(codec: Codec, coded_len: u64, content_len: u64) -> Result<Self, ContentError> {
        let kind = match codec {
            Codec::Deflate => Kind::Inflate(Box::new(Inflate::new(false))),
            Codec::Zlib => Kind::Inflate(Box::new(Inflate::new(true))),
            Codec::Lzma { dict } => Kind::LzmaHeader(dict, content_len),
            Codec::Lzma2 { dict, branch } => {
                let mut stream = Lzma2Stream::new(dict_for(dict, content_len));
                if let Some(filter) = filter(branch) {
                    stream.set_filters(&[filter]).map_err(|_| malformed("branch filter", "unsupported"))?;
                }
                Kind::Lzma2(Box::new(stream))
            }
            Codec::Xz { dict } => Kind::Xz(Box::new(XzStream::new_mem_limit(false, xz_limit_kib(dict)))),
            Codec::Zstd { window } => {
                let mut decoder = FrameDecoder::new();
                decoder.set_max_window_size(u64::from(window.bytes()));
                Kind::ZstdHeader(Box::new(decoder))
            }
        };
        Ok(Self { kind, feed: Feed::new(coded_len), left: content_len })
    }

    /// Bytes of memory that decoding takes, before it begins.
    pub fn memory(codec: Codec, content_len: u64) -> u64 {
        // Windows of LZMA and Zstandard grow by doubling: while one moves, the old half is still held.
        let window = |dict: Dict| u64::from(dict_for(dict, content_len)) * 3 / 2;
        let own = match codec {
            Codec::Deflate | Codec::Zlib => Inflate::MEMORY,
            Codec::Lzma { dict } => LZMA_FIXED + window(dict),
            Codec::Lzma2 { dict, .. } | Codec::Xz { dict } => LZMA_FIXED + BRANCH_FIXED + window(dict),
            Codec::Zstd { window: dict } => ZSTD_FIXED + window(dict),
        };
        own + INPUT as u64
    }

    /// Fills `out` with the next bytes of the content. `coded` stands where the last call left it.
    ///
    /// # Errors
    /// Broken coded data, more bytes wanted than the content has, or trouble reading.
    pub fn fill(&mut self, coded: &mut impl Read, mut out: &mut [u8]) -> Result<(), ContentError> {
        let wanted = out.len() as u64;
        self.left = self.left.checked_sub(wanted).ok_or(malformed("stream", "more is wanted than the content has"))?;
        while !out.is_empty() {
            let done = self.step(coded, out)?;
            out = out.get_mut(done..).unwrap_or_default();
        }
        Ok(())
    }

    /// Checks that the stream ends here: nothing of the content, and nothing of the coded bytes, is left over.
    ///
    /// # Errors
    /// Left-over bytes, a missing end, or trouble reading.
    pub fn finish(mut self, coded: &mut impl Read) -> Result<(), ContentError> {
        if self.left != 0 {
            return Err(malformed("stream", "not all of the content was used"));
        }
        if self.ended(coded)? { Ok(()) } else { Err(malformed("stream", "bytes follow its end")) }
    }

    /// Makes at least one byte of `out`, which is not empty.
    fn step(&mut self, coded: &mut impl Read, out: &mut [u8]) -> Result<usize, ContentError> {
        self.begin(coded)?;
        loop {
            if let Kind::Zstd(decoder) = &mut self.kind {
                let read = decoder.read(out).map_err(|_| malformed("zstd frame", "broken"))?;
                if read > 0 {
                    return Ok(read);
                }
                if decoder.is_finished() {
                    return Err(malformed("zstd frame", "ends too early"));
                }
                self.zstd_block(coded)?;
                continue;
            }
            self.feed.refill(coded)?;
            let (input, last) = self.feed.ready();
            let action = if last { Action::Finish } else { Action::Run };
            let (consumed, produced, ended) = match &mut self.kind {
                Kind::Inflate(inflate) => inflate.step(input, out, !last)?,
                Kind::Lzma(stream) => lzma_step(stream.process(input, out, action))?,
                Kind::Lzma2(stream) => lzma_step(stream.process(input, out, action))?,
                Kind::Xz(stream) => lzma_step(stream.process(input, out, action))?,
                _ => return Err(malformed("stream", "not begun")),
            };
            let stuck = consumed == 0 && produced == 0;
            self.feed.consume(consumed);
            if produced > 0 {
                return Ok(produced);
            }
            if ended || (stuck && last) {
                return Err(malformed("stream", "ends too early"));
            }
        }
    }

    /// Reads the header of formats whose decoders want one first.
    fn begin(&mut self, coded: &mut impl Read) -> Result<(), ContentError> {
        match &mut self.kind {
            Kind::LzmaHeader(dict, content_len) => {
                let (dict, content_len) = (*dict, *content_len);
                let mut header = [0; LZMA_HEADER];
                Read::read_exact(&mut Feeding { feed: &mut self.feed, coded }, &mut header)?;
                let header = LzmaHeader::parse(&header)?;
                if header.dict_len > dict.bytes() || header.content_len.is_some_and(|len| len != content_len) {
                    return Err(malformed("LZMA header", "disagrees with the patch"));
                }
                let len = header.content_len.unwrap_or(u64::MAX);
                let stream = LzmaStream::new_with_props(len, header.props, dict_for(dict, content_len), None)
                    .map_err(|_| malformed("LZMA header", "broken"))?;
                self.kind = Kind::Lzma(Box::new(stream));
            }
            Kind::ZstdHeader(decoder) => {
                let mut decoder = core::mem::take(decoder);
                let begun = decoder.init(&mut Feeding { feed: &mut self.feed, coded });
                self.feed.trouble()?;
                begun.map_err(|_| malformed("zstd frame header", "broken, or the window is too large"))?;
                self.kind = Kind::Zstd(decoder);
            }
            _ => {}
        }
        Ok(())
    }

    fn zstd_block(&mut self, coded: &mut impl Read) -> Result<(), ContentError> {
        let Kind::Zstd(decoder) = &mut self.kind else { return Ok(()) };
        let feeding = &mut Feeding { feed: &mut self.feed, coded };
        let block = decoder.decode_blocks(feeding, BlockDecodingStrategy::UptoBlocks(1));
        self.feed.trouble()?;
        block.map(drop).map_err(|_| malformed("zstd block", "broken"))
    }

    /// Whether the stream says that it ends, and no coded byte is left.
    fn ended(&mut self, coded: &mut impl Read) -> Result<bool, ContentError> {
        self.begin(coded)?;
        let mut surplus = [0; 1];
        loop {
            if let Kind::Zstd(decoder) = &mut self.kind {
                if decoder.read(&mut surplus).map_err(|_| malformed("zstd frame", "broken"))? > 0 {
                    return Ok(false);
                }
                if decoder.is_finished() {
                    return Ok(self.feed.is_empty());
                }
                self.zstd_block(coded)?;
                continue;
            }
            self.feed.refill(coded)?;
            let (input, last) = self.feed.ready();
            let action = if last { Action::Finish } else { Action::Run };
            let (consumed, produced, ended) = match &mut self.kind {
                Kind::Inflate(inflate) => inflate.step(input, &mut surplus, !last)?,
                // Decoders need not read the last bytes of the range coder, and encoders need not write them.
                Kind::Lzma(stream) if stream.is_finished() => return Ok(true),
                Kind::Lzma(stream) => lzma_step(stream.process(input, &mut surplus, action))?,
                Kind::Lzma2(stream) => lzma_step(stream.process(input, &mut surplus, action))?,
                Kind::Xz(stream) => lzma_step(stream.process(input, &mut surplus, action))?,
                _ => return Ok(false),
            };
            let stuck = consumed == 0;
            self.feed.consume(consumed);
            if produced > 0 {
                return Ok(false);
            }
            if ended {
                return Ok(self.feed.is_empty() || matches!(self.kind, Kind::Lzma(_)));
            }
            if stuck && last {
                return Err(malformed("stream", "has no end"));
            }
        }
    }
}

/// Header of an LZMA stream.
pub(crate) struct LzmaHeader {
    pub(crate) props: u8,
    pub(crate) dict_len: u32,
    /// `None` when the stream has an end marker instead.
    pub(crate) content_len: Option<u64>,
}

impl LzmaHeader {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ContentError> {
        let broken = || malformed("LZMA header", "broken");
        let (&[props], rest) = bytes.split_first_chunk::<1>().ok_or_else(broken)?;
        let (&dict, rest) = rest.split_first_chunk::<4>().ok_or_else(broken)?;
        let (&len, _) = rest.split_first_chunk::<8>().ok_or_else(broken)?;
        if props >= 9 * 5 * 5 || props % 9 + props / 9 % 5 > MAX_LC_LP {
            return Err(broken());
        }
        let len = u64::from_le_bytes(len);
        Ok(Self { props, dict_len: u32::from_le_bytes(dict), content_len: (len != u64::MAX).then_some(len) })
    }
}

/// A dictionary longer than the content is never filled, so it is not reserved.
fn dict_for(dict: Dict, content_len: u64) -> u32 {
    let needed = u32::try_from(content_len).unwrap_or(u32::MAX).max(lzma_rust2::DICT_SIZE_MIN);
    dict.bytes().min(needed)
}

/// What the decoder itself reckons for this dictionary: its own limit check stops a block that asks for more.
fn xz_limit_kib(dict: Dict) -> u32 {
    lzma_rust2::lzma2_get_memory_usage(dict.bytes()).saturating_add(64)
}

fn filter(branch: Branch) -> Option<FilterConfig> {
    Some(match branch {
        Branch::None => return None,
        Branch::X86 => FilterConfig::new_bcj_x86(0),
        Branch::PowerPc => FilterConfig::new_bcj_ppc(0),
        Branch::Ia64 => FilterConfig::new_bcj_ia64(0),
        Branch::Arm => FilterConfig::new_bcj_arm(0),
        Branch::ArmThumb => FilterConfig::new_bcj_arm_thumb(0),
        Branch::Sparc => FilterConfig::new_bcj_sparc(0),
        Branch::Arm64 => FilterConfig::new_bcj_arm64(0),
        Branch::RiscV => FilterConfig::new_bcj_risc_v(0),
    })
}

fn lzma_step<E>(result: Result<StreamResult, E>) -> Result<(usize, usize, bool), ContentError> {
    let result = result.map_err(|_| malformed("LZMA data", "broken"))?;
    Ok((result.bytes_consumed, result.bytes_produced, result.status == Status::StreamEnd))
}

/// Coded bytes on their way from the image to a decoder.
struct Feed {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Coded bytes of the stream that are not in the buffer yet.
    left: u64,
    /// Trouble that a decoder would report as broken data.
    trouble: Option<io::Error>,
}

impl Feed {
    fn new(coded_len: u64) -> Self {
        let len = usize::try_from(coded_len).unwrap_or(INPUT).min(INPUT);
        Self { buffer: vec![0; len], start: 0, end: 0, left: coded_len, trouble: None }
    }

    fn is_empty(&self) -> bool {
        self.start == self.end && self.left == 0
    }

    fn refill(&mut self, coded: &mut impl Read) -> io::Result<()> {
        if self.start < self.end || self.left == 0 {
            return Ok(());
        }
        let len = usize::try_from(self.left).unwrap_or(INPUT).min(self.buffer.len());
        let room = self.buffer.get_mut(..len).unwrap_or_default();
        loop {
            match coded.read(room) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    (self.start, self.end) = (0, read.min(len));
                    self.left -= self.end as u64;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Bytes at hand, and whether they are the last.
    fn ready(&self) -> (&[u8], bool) {
        (self.buffer.get(self.start..self.end).unwrap_or_default(), self.left == 0)
    }

    fn consume(&mut self, len: usize) {
        self.start = self.start.saturating_add(len).min(self.end);
    }

    fn trouble(&mut self) -> io::Result<()> {
        self.trouble.take().map_or(Ok(()), Err)
    }
}

/// A feed with its source, for decoders that read by themselves.
struct Feeding<'a, R> {
    feed: &'a mut Feed,
    coded: &'a mut R,
}

impl<R: Read> Read for Feeding<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if let Err(error) = self.feed.refill(self.coded) {
            let kind = error.kind();
            self.feed.trouble = Some(error);
            return Err(kind.into());
        }
        let (mut ready, _) = self.feed.ready();
        let read = Read::read(&mut ready, out)?;
        self.feed.consume(read);
        Ok(read)
    }
}

/// Without `std` the decoder has a trait of its own. What really went wrong is found in the feed.
#[cfg(not(feature = "std"))]
impl<R: Read> ruzstd::io::Read for Feeding<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> Result<usize, ruzstd::io::Error> {
        Read::read(self, out).map_err(|_| ruzstd::io::ErrorKind::Other.into())
    }
}
