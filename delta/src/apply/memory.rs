//! How much memory applying a segment takes, told from the table alone.
//!
//! The sums are upper bounds for the decoders of this crate. The generator declares the largest in the head, the reader
//! holds the table against the declaration, and a test measures that neither lies.

use crate::head::{Codec, Segment, Stream, StreamKind};

/// Bytes of one block buffer. Output is written, and the old view is read, in blocks of this size.
pub(crate) const BLOCK: usize = 64 << 10;

/// Block buffers (output, old view) and the applier's own fields.
const FIXED: u64 = 2 * BLOCK as u64 + (16 << 10);

/// Probability model for the largest `lc + lp` accepted, and state of one LZMA decoder.
const LZMA_FIXED: u64 = 64 << 10;

/// Longest input buffer of an LZMA decoder. It grows by doubling, as long as there is input.
const LZMA_INPUT: u64 = 64 << 10;

/// Entropy tables, block buffers and ring slack of one Zstandard decoder.
const ZSTD_FIXED: u64 = 1 << 20;

/// Shortest dictionary that an LZMA decoder reserves.
const LZMA_MIN_DICTIONARY: u64 = 4 << 10;

/// Memory for one thread: the most that any segment of the table takes.
pub(crate) fn needed(segments: &[Segment]) -> u64 {
    segments.iter().map(segment).max().unwrap_or(FIXED).next_multiple_of(1 << 10)
}

fn segment(segment: &Segment) -> u64 {
    let streams: u64 = segment.streams.iter().map(stream).sum();
    FIXED + u64::from(segment.coded_len) + streams
}

fn stream(stream: &Stream) -> u64 {
    let raw = u64::from(stream.raw_len);
    let decoder = match stream.codec {
        Codec::Raw => 0,
        // The window grows by doubling: while it moves, the old half is still held.
        Codec::Lzma => {
            let input = u64::from(stream.coded_len).next_power_of_two().min(LZMA_INPUT);
            LZMA_FIXED + input + raw.max(LZMA_MIN_DICTIONARY) * 3 / 2
        }
        Codec::Zstd => ZSTD_FIXED + raw.next_power_of_two() * 3 / 2,
    };
    // Control is decoded whole, the payload streams block by block.
    if stream.kind == StreamKind::Control { decoder + raw } else { decoder }
}
