//! How the contents of old streams are read at random, and what that costs, told before the first byte.
//!
//! The generator leaves out what does not fit, the device refuses it, and both reckon here.

use alloc::vec::Vec;

use super::super::{
    codec::Codec,
    decode::ContentDecoder,
    error::{ContentError, malformed},
    inflate::Inflate,
    limits::{MAX_CONTENT_LEN, MAX_DEPTH, MAX_STREAMS},
};
use crate::limits::ApplyBudget;

/// One compressed stream of the old image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldStream {
    /// Number of the stream whose content holds it; `None` when the image does. It is lower than its own number.
    pub parent: Option<u32>,
    /// Where its coded bytes begin, in the image or in that content.
    pub start: u64,
    /// How many coded bytes there are.
    pub len: u64,
    /// How it is decoded.
    pub codec: Codec,
    /// Bytes of its content.
    pub content_len: u64,
}

/// How the content of a stream is read at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Decoded whole into a cache.
    Blocks,
    /// Decoded from the nearest checkpoint into a cache.
    Index,
    /// Decoded once into memory.
    Memory,
    /// Decoded once into scratch storage, from this offset on.
    Scratch(u64),
}

/// Longest content that is decoded whole each time: the longest block of squashfs.
const BLOCK: u64 = 1 << 20;

/// Content between two checkpoints. A checkpoint takes some 43 KiB.
pub(super) const SPAN: u64 = 1 << 20;

/// Most memory that the cache takes: measured on a root file system, more does not pay.
const CACHE: u64 = 16 << 20;

/// List entries, positions and buffers, for each stream.
const PER_STREAM: u64 = 192;

/// How all streams are read, and what it takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// For each stream, in order.
    pub access: Vec<Access>,
    /// Bytes of memory, cache included.
    pub ram: u64,
    /// Bytes of scratch storage.
    pub scratch: u64,
    /// Bytes of the cache.
    pub cache: u64,
}

impl Plan {
    /// Plans reading `streams` of an image within a budget. What can be read from an index or block by block is; the
    /// rest goes to memory as long as there is some, then to scratch storage.
    ///
    /// # Errors
    /// Streams that lie outside what holds them or are nested too deeply, and the first that does not fit the budget.
    pub fn new(image_len: u64, streams: &[OldStream], budget: ApplyBudget) -> Result<Self, ContentError> {
        if streams.len() > MAX_STREAMS {
            let value = streams.len() as u64;
            return Err(ContentError::OverLimit { field: "streams", value, limit: MAX_STREAMS as u64 });
        }
        // Decoders of a stream and of all that hold it are alive at the same time.
        let mut chains: Vec<(u8, u64)> = Vec::with_capacity(streams.len());
        let (mut decoders, mut fixed, mut cache, mut cached) = (0u64, 0u64, 0u64, 0u64);
        for (number, stream) in streams.iter().enumerate() {
            let (holder_len, depth, above) = match stream.parent {
                None => (image_len, 0, 0),
                Some(parent) => {
                    let parent = parent as usize;
                    let holder = streams.get(parent).filter(|_| parent < number);
                    let chain = chains.get(parent);
                    let (Some(holder), Some(&(depth, memory))) = (holder, chain) else {
                        return Err(malformed("old stream", "stands before the stream that holds it"));
                    };
                    (holder.content_len, depth, memory)
                }
            };
            let outside = stream.start.checked_add(stream.len).is_none_or(|end| end > holder_len);
            if outside || depth >= MAX_DEPTH || stream.content_len > MAX_CONTENT_LEN {
                return Err(malformed("old stream", "outside what holds it, nested too deeply, or too long"));
            }
            let memory = above + ContentDecoder::memory(stream.codec, stream.content_len);
            chains.push((depth + 1, memory));
            decoders = decoders.max(memory);
            fixed += PER_STREAM;
            match class(stream) {
                Access::Blocks => {
                    cache = cache.max(stream.content_len);
                    cached += stream.content_len;
                }
                Access::Index => {
                    cache = cache.max(SPAN);
                    cached += stream.content_len;
                    fixed += (stream.content_len / SPAN + 1) * Inflate::MEMORY;
                }
                Access::Memory | Access::Scratch(_) => {}
            }
        }
        // While a block is decoded, the cache still holds others.
        let least = decoders + fixed + 2 * cache;
        let mut plan = Self { access: Vec::with_capacity(streams.len()), ram: least, scratch: 0, cache };
        for stream in streams {
            let mut access = class(stream);
            if access == Access::Memory {
                if plan.ram.saturating_add(stream.content_len) <= budget.ram {
                    plan.ram += stream.content_len;
                } else {
                    access = Access::Scratch(plan.scratch);
                    plan.scratch = plan.scratch.saturating_add(stream.content_len);
                }
            }
            plan.access.push(access);
        }
        for (field, value, limit) in [("memory", plan.ram, budget.ram), ("scratch", plan.scratch, budget.scratch)] {
            if value > limit {
                return Err(ContentError::OverLimit { field, value, limit });
            }
        }
        // More cache than the least only saves time.
        let spare = (budget.ram - plan.ram).min(cached.min(CACHE).saturating_sub(cache));
        plan.ram += spare;
        plan.cache += spare;
        Ok(plan)
    }
}

/// What a stream wants by its nature; `Memory` stands for being spooled anywhere.
fn class(stream: &OldStream) -> Access {
    if stream.content_len <= BLOCK {
        Access::Blocks
    } else if matches!(stream.codec, Codec::Deflate | Codec::Zlib) {
        Access::Index
    } else {
        Access::Memory
    }
}
