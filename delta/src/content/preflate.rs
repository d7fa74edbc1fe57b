//! Rebuilds deflate streams of encoders other than zlib: a prediction, and corrections that stand before the content.
//!
//! ```text
//! content := varint(side length) side plain
//! side    := varint(chunks) (varint(plain length) varint(corrections length))* corrections*
//! ```
//!
//! Corrections stand together before the plain text, so that streams inside the plain text stay in one piece.

use std::panic::{AssertUnwindSafe, catch_unwind};

use preflate_rs::RecreateStreamProcessor;
#[cfg(feature = "generate")]
use preflate_rs::{PreflateConfig, PreflateStreamProcessor};

use super::{
    error::{ContentError, malformed},
    limits::{MAX_CHUNK_SHIFT, MAX_CHUNKS, MAX_SIDE_SHIFT},
};
use crate::varint;

/// Hash tables, tree code buffers and the window of the predictor.
const FIXED: u64 = 2 << 20;

/// For each byte of plain text in a chunk: itself twice, its token, and its coded form.
const PER_PLAIN: u64 = 8;

/// Rebuilds one stream.
pub(crate) struct Rebuild {
    phase: Phase,
    side: Vec<u8>,
    side_limit: usize,
    chunk_limit: usize,
    /// Chunks in reverse: the next is the last.
    chunks: Vec<Chunk>,
    /// Corrections of all chunks, and where those of the next begin.
    corrections: usize,
    plain: Vec<u8>,
    processor: Option<RecreateStreamProcessor>,
}

#[derive(Clone, Copy)]
struct Chunk {
    plain_len: usize,
    corrections_len: usize,
}

enum Phase {
    /// The length of the side data is not complete yet.
    Length,
    Side(usize),
    Plain,
}

impl Rebuild {
    pub(crate) fn new(_content_len: u64, side_shift: u8, chunk_shift: u8) -> Self {
        Self {
            phase: Phase::Length,
            side: Vec::new(),
            side_limit: 1 << side_shift.min(MAX_SIDE_SHIFT),
            chunk_limit: 1 << chunk_shift.min(MAX_CHUNK_SHIFT),
            chunks: Vec::new(),
            corrections: 0,
            plain: Vec::new(),
            processor: Some(RecreateStreamProcessor::new()),
        }
    }

    pub(crate) fn memory(content_len: u64, side_shift: u8, chunk_shift: u8) -> u64 {
        let chunk = (1u64 << chunk_shift.min(MAX_CHUNK_SHIFT)).min(content_len);
        let side = (1u64 << side_shift.min(MAX_SIDE_SHIFT)).min(content_len);
        // The table of chunks is decoded into words.
        FIXED + side * 9 + chunk * PER_PLAIN
    }

    pub(crate) fn push(&mut self, content: &[u8], out: &mut Vec<u8>) -> Result<(), ContentError> {
        let mut rest = content;
        while let (Phase::Length | Phase::Side(_), Some((&byte, after))) = (&self.phase, rest.split_first()) {
            match self.phase {
                Phase::Length => {
                    self.side.push(byte);
                    rest = after;
                    if byte & 0x80 == 0 {
                        let len = read(&mut self.side.as_slice())?;
                        let len = usize::try_from(len).unwrap_or(usize::MAX);
                        if len > self.side_limit {
                            return Err(malformed("corrections", "longer than the recipe says"));
                        }
                        self.side.clear();
                        self.phase = Phase::Side(len);
                    } else if self.side.len() > varint::MAX_LEN {
                        return Err(malformed("corrections", "broken length"));
                    }
                }
                Phase::Side(len) => {
                    let take = (len - self.side.len()).min(rest.len());
                    let (side, after) = rest.split_at_checked(take).unwrap_or((rest, &[]));
                    self.side.extend_from_slice(side);
                    rest = after;
                }
                Phase::Plain => break,
            }
            if let Phase::Side(len) = self.phase
                && self.side.len() == len
            {
                self.table()?;
                self.phase = Phase::Plain;
            }
        }
        while !rest.is_empty() {
            let chunk = *self.chunks.last().ok_or(malformed("corrections", "end before the content"))?;
            let take = (chunk.plain_len - self.plain.len()).min(rest.len());
            let (plain, after) = rest.split_at_checked(take).unwrap_or((rest, &[]));
            self.plain.extend_from_slice(plain);
            rest = after;
            if self.plain.len() == chunk.plain_len {
                self.chunk(chunk, out)?;
            }
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<(), ContentError> {
        if matches!(self.phase, Phase::Plain) && self.chunks.is_empty() {
            Ok(())
        } else {
            Err(malformed("corrections", "go on behind the content"))
        }
    }

    fn table(&mut self) -> Result<(), ContentError> {
        let mut bytes = self.side.as_slice();
        let count = read(&mut bytes)?;
        if count > MAX_CHUNKS {
            return Err(malformed("corrections", "too many chunks"));
        }
        let mut corrections = 0usize;
        for _ in 0..count {
            let plain_len = usize::try_from(read(&mut bytes)?).unwrap_or(usize::MAX);
            let corrections_len = usize::try_from(read(&mut bytes)?).unwrap_or(usize::MAX);
            if plain_len == 0 || plain_len > self.chunk_limit {
                return Err(malformed("corrections", "a chunk is empty, or longer than the recipe says"));
            }
            corrections = corrections.saturating_add(corrections_len);
            self.chunks.push(Chunk { plain_len, corrections_len });
        }
        if corrections != bytes.len() {
            return Err(malformed("corrections", "do not add up"));
        }
        self.corrections = self.side.len() - bytes.len();
        self.chunks.reverse();
        Ok(())
    }

    fn chunk(&mut self, chunk: Chunk, out: &mut Vec<u8>) -> Result<(), ContentError> {
        let end = self.corrections.saturating_add(chunk.corrections_len);
        let corrections = self.side.get(self.corrections..end).unwrap_or_default();
        let mut processor = self.processor.take().ok_or(malformed("corrections", "broken"))?;
        let mut plain = self.plain.as_slice();
        // The predictor checks its input with assertions. Its state is dropped when one fails, so nothing half done is
        // used again.
        let made = catch_unwind(AssertUnwindSafe(|| {
            let made = processor.recompress(&mut plain, corrections);
            (processor, made)
        }));
        let Ok((processor, Ok((coded, _)))) = made else { return Err(malformed("corrections", "broken")) };
        out.extend_from_slice(&coded);
        self.processor = Some(processor);
        self.corrections = end;
        self.plain.clear();
        self.chunks.pop();
        Ok(())
    }
}

fn read(bytes: &mut &[u8]) -> Result<u64, ContentError> {
    varint::read(bytes, "corrections").map_err(|_| malformed("corrections", "broken"))
}

/// Content of a deflate stream with the corrections that rebuild it.
#[cfg(feature = "generate")]
pub(crate) struct Predicted {
    pub(crate) content: Vec<u8>,
    /// How many bytes of it stand before the plain text.
    pub(crate) side_len: usize,
    pub(crate) side_shift: u8,
    pub(crate) chunk_shift: u8,
}

/// Coded bytes offered to the predictor at a time.
#[cfg(feature = "generate")]
const CODED_CHUNK: usize = 32 << 20;

/// Longest hash chain that the predictor follows; it bounds the time of a prediction.
#[cfg(feature = "generate")]
const MAX_CHAIN: u32 = 4096;

/// Lengths of chunks that are tried; each takes as long as the others.
#[cfg(feature = "generate")]
const TRIES: usize = 3;

/// Finds the corrections for a deflate stream that a device rebuilds in `ram`; `None` when the predictor cannot follow it.
/// Chunks are as long as the memory allows: their coder learns afresh in each.
#[cfg(feature = "generate")]
pub(crate) fn predict(coded: &[u8], content_len: usize, ram: u64) -> Option<Predicted> {
    let fits = |&shift: &u8| Rebuild::memory(content_len as u64, MIN_SIDE_SHIFT, shift) <= ram;
    // Settings are estimated on the first chunk, and sometimes cannot follow the others: then another length may do.
    let mut shifts = (MIN_CHUNK_SHIFT..=MAX_CHUNK_SHIFT).rev().filter(fits).take(TRIES);
    let predicted = shifts.find_map(|chunk_shift| {
        catch_unwind(AssertUnwindSafe(|| predict_chunks(coded, content_len, chunk_shift))).ok().flatten()
    })?;
    let memory = Rebuild::memory(predicted.content.len() as u64, predicted.side_shift, predicted.chunk_shift);
    (memory <= ram).then_some(predicted)
}

#[cfg(feature = "generate")]
fn predict_chunks(coded: &[u8], content_len: usize, chunk_shift: u8) -> Option<Predicted> {
    let config =
        PreflateConfig { max_chain_length: MAX_CHAIN, plain_text_limit: 1 << chunk_shift, verify_compression: false };
    let mut processor = PreflateStreamProcessor::new(&config);
    let (mut chunks, mut corrections, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    let mut rest = coded;
    let mut offer = CODED_CHUNK;
    while !processor.is_done() {
        let offered = rest.get(..offer.min(rest.len()))?;
        let chunk = processor.decompress(offered);
        let text_len = processor.plain_text().text().len();
        match chunk {
            Ok(chunk) if text_len > 0 => {
                plain.extend_from_slice(processor.plain_text().text());
                chunks.push((text_len, chunk.corrections.len()));
                corrections.extend_from_slice(&chunk.corrections);
                rest = rest.get(chunk.compressed_size..)?;
                offer = CODED_CHUNK;
                processor.shrink_to_dictionary();
            }
            // No whole block was in what was offered.
            _ if offered.len() < rest.len() => offer = offer.saturating_mul(4),
            _ => return None,
        }
        if plain.len() > content_len {
            return None;
        }
    }
    if !rest.is_empty() || plain.len() != content_len {
        return None;
    }
    let mut side = Vec::new();
    varint::write(&mut side, chunks.len() as u64);
    for (plain_len, corrections_len) in &chunks {
        varint::write(&mut side, *plain_len as u64);
        varint::write(&mut side, *corrections_len as u64);
    }
    side.extend_from_slice(&corrections);
    let side_shift = side.len().next_power_of_two().trailing_zeros() as u8;
    let longest = chunks.iter().map(|chunk| chunk.0).max().unwrap_or(1);
    let chunk_shift = longest.next_power_of_two().trailing_zeros() as u8;
    if side_shift > MAX_SIDE_SHIFT || chunk_shift > MAX_CHUNK_SHIFT || chunks.len() as u64 > MAX_CHUNKS {
        return None;
    }
    let mut content = Vec::with_capacity(side.len() + plain.len() + varint::MAX_LEN);
    varint::write(&mut content, side.len() as u64);
    content.extend_from_slice(&side);
    let side_len = content.len();
    content.extend_from_slice(&plain);
    Some(Predicted {
        content,
        side_len,
        side_shift: side_shift.max(MIN_SIDE_SHIFT),
        chunk_shift: chunk_shift.max(MIN_CHUNK_SHIFT),
    })
}

/// Bounds in recipes are rounded up to these, so that the small entries of an archive share one recipe.
#[cfg(feature = "generate")]
const MIN_SIDE_SHIFT: u8 = 16;

/// As [`MIN_SIDE_SHIFT`].
#[cfg(feature = "generate")]
const MIN_CHUNK_SHIFT: u8 = 20;
