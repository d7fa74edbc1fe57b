//! Named bounds on what an image may make the walker do.
//!
//! An image is outside input as much as a patch: it may be made to cost, by nesting, by expansion, or by a great many
//! places that look like streams and are none.

use super::super::limits::{MAX_CONTENT_LEN, MAX_DEPTH, MAX_STREAMS, MAX_TOTAL_CONTENT};

/// Most content bytes for one coded byte of one stream. Deflate cannot exceed 1,032; others can, but no firmware does.
/// Stops a bomb long before [`MAX_CONTENT_LEN`].
pub(crate) const MAX_EXPANSION: u64 = 1100;

/// Content that every stream may have whatever its expansion: a block of zeros is no bomb.
pub(crate) const FREE_CONTENT: u64 = 1 << 20;

/// Bytes that looking for streams may decode in vain, for each byte of the image: stops thousands of overlapping
/// beginnings, each of which decodes for long before it breaks.
pub(crate) const WASTE_PER_BYTE: u64 = 4;

/// Decoding in vain that every image may cause, see [`WASTE_PER_BYTE`].
pub(crate) const FREE_WASTE: u64 = 16 << 20;

/// Shortest stream worth a node, in coded bytes. Stops lists of streams that save less than their entry costs.
pub(crate) const MIN_CODED_LEN: u64 = 64;

/// Memory that a device may take for one stream, unless the caller knows the device better.
pub const DEFAULT_STREAM_RAM: u64 = 256 << 20;

/// What the walker may spend on one image. No field can be raised past its constant, where it names one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FindLimits {
    /// Deepest nesting, see [`MAX_DEPTH`]. 1 looks into the image, but not into contents.
    pub depth: u8,
    /// Most streams, see [`MAX_STREAMS`].
    pub streams: usize,
    /// Longest content of all streams together, see [`MAX_TOTAL_CONTENT`].
    pub total_content: u64,
    /// Longest content of one stream, see [`MAX_CONTENT_LEN`].
    pub content_len: u64,
    /// Most memory that a device may take to decode or to rebuild one stream: streams that need more stay raw.
    pub stream_ram: u64,
}

impl Default for FindLimits {
    fn default() -> Self {
        Self {
            depth: MAX_DEPTH,
            streams: MAX_STREAMS,
            total_content: MAX_TOTAL_CONTENT,
            content_len: MAX_CONTENT_LEN,
            stream_ram: DEFAULT_STREAM_RAM,
        }
    }
}

impl FindLimits {
    /// The limits with no field above its constant.
    #[must_use]
    pub(crate) fn clamped(&self) -> Self {
        Self {
            depth: self.depth.min(MAX_DEPTH),
            streams: self.streams.min(MAX_STREAMS),
            total_content: self.total_content.min(MAX_TOTAL_CONTENT),
            content_len: self.content_len.min(MAX_CONTENT_LEN),
            stream_ram: self.stream_ram,
        }
    }
}

/// The longest content that a stream of `coded_len` bytes may have.
pub(crate) fn content_cap(coded_len: u64) -> u64 {
    coded_len.saturating_mul(MAX_EXPANSION).clamp(FREE_CONTENT, MAX_CONTENT_LEN)
}
