//! How much memory applying a segment takes, told from the table alone.
//!
//! The sums are upper bounds for the decoders of this crate. The generator declares the largest in the head, the reader
//! holds the table against the declaration, and a test measures that neither lies.

#[cfg(feature = "std")]
use super::parallel::room;
use crate::{
    head::{Codec, Head, Lead, Segment, Stream, StreamKind},
    mix::{Moved, Params, Regions, commands::COMMAND_SLOTS},
    views::Views,
};

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

/// Bytes kept for each segment of a patch with a lead: where its commands begin.
const LEAD_SEGMENT: u64 = 16;

/// Memory for one thread without that for old contents: what is kept all the time, and the most that any segment takes beside it.
pub(crate) fn needed(head: &Head) -> u64 {
    sum(&head.segments, head.lead.as_ref(), head.mix, &head.views)
}

/// Memory of one thread for old contents: what the head declares beyond the rest.
#[cfg(feature = "std")]
pub(crate) fn contents(head: &Head) -> u64 {
    head.ram.saturating_sub(needed(head))
}

/// Memory of each further thread.
#[cfg(feature = "std")]
pub(crate) fn further_thread(head: &Head) -> u64 {
    further(&head.segments, head.mix, &head.views).saturating_add(contents(head))
}

/// [`further_thread`] without that for old contents, for a head that is still being written.
#[cfg(feature = "std")]
pub(crate) fn further(segments: &[Segment], mix: Option<Params>, views: &Views) -> u64 {
    let most = |bytes: fn(&Segment) -> u64| segments.iter().map(bytes).max().unwrap_or(0);
    let coded = most(|segment| u64::from(segment.coded_len));
    let decoders = most(|segment| segment.streams.iter().map(stream).sum());
    let made = segments.iter().map(|segment| room(views, segment) as u64).max().unwrap_or(0);
    let own = FIXED + coded + decoders + mix.map_or(0, Params::memory) + views.encoders_memory();
    // With several threads the first holds what it made as well, and has blocks besides those of the applier: that much is
    // not in what one thread declares.
    (own + FIXED + 2 * made).next_multiple_of(1 << 10)
}

/// [`needed`] for a head that is still being written.
pub(crate) fn sum(segments: &[Segment], lead: Option<&Lead>, mix: Option<Params>, views: &Views) -> u64 {
    let kept = lead.map_or(0, |lead| {
        let raw: u64 = lead.streams.iter().map(|stream| u64::from(stream.raw_len)).sum();
        let mixer = mix.map_or(0, |params| {
            let map = Moved::memory(u64::from(lead.commands), views.old_len);
            params.memory()
                + map
                + lead.stream(StreamKind::References).map_or(0, |stream| Regions::memory(stream.raw_len))
        });
        raw + segments.len() as u64 * LEAD_SEGMENT + mixer
    });
    // One buffer takes the coded bytes of the lead and of each segment, and is as long as the longest of them.
    let coded =
        segments.iter().map(|segment| segment.coded_len).chain(lead.map(|lead| lead.coded_len)).max().unwrap_or(0);
    let decoders = |streams: &[Stream]| streams.iter().map(stream).sum::<u64>();
    let unpacking = lead.map_or(0, |lead| decoders(&lead.streams));
    let most = segments.iter().map(|segment| decoders(&segment.streams)).max().unwrap_or(0).max(unpacking);
    (FIXED + kept + u64::from(coded) + most + views.encoders_memory()).next_multiple_of(1 << 10)
}

fn stream(stream: &Stream) -> u64 {
    let raw = u64::from(stream.raw_len);
    let decoder = match stream.codec {
        // Of a segment its tables are kept all the time; the commands of a lead have slots of their own.
        Codec::Mix if stream.kind == StreamKind::Control => 2 * COMMAND_SLOTS as u64,
        Codec::Raw | Codec::Mix => 0,
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
