//! Named bounds on everything a patch may claim, each with what it prevents.
//!
//! A patch comes from outside. Every number in it is a claim, and no claim may decide how much memory is
//! reserved or how long a loop runs before it was held against one of these bounds.

/// Longest head (header plus segment table) in bytes that any reader accepts. A head is held whole in memory, so this
/// stops a patch whose prefix asks for gigabytes. 1 MiB is enough for some 30,000 segments.
pub const MAX_HEAD_LEN: u32 = 1 << 20;

/// Most segments of a patch. Stops a table that claims more entries than its bytes could hold.
pub const MAX_SEGMENTS: u32 = 1 << 16;

/// Longest image in bytes, old or new. Stops lengths that would overflow offset arithmetic or fill a disk: 64 GiB is
/// beyond any firmware image known.
pub const MAX_IMAGE_LEN: u64 = 1 << 36;

/// Longest segment of the new view in bytes. A segment is the unit of decoding memory, so this stops a patch that
/// wants the device to hold a whole large image at once.
pub const MAX_SEGMENT_LEN: u32 = 1 << 26;

/// Shortest segment of a uniform table, as a power of two (4 KiB). Stops a patch of millions of tiny segments, whose
/// table would outgrow the image.
pub const MIN_SEGMENT_SHIFT: u8 = 12;

/// Longest coded form of one segment in bytes. A device holds it in memory to authenticate it before decoding; raw
/// streams never exceed twice the segment, so anything longer is a waste-of-memory attack.
pub const MAX_CODED_LEN: u32 = 1 << 27;

/// Longest raw control stream of a segment, as a multiple of the segment length plus [`CONTROL_SLACK`]. A command
/// makes two bytes at least when it has literals, and has eight bytes at most for images that fit in the limits in practice.
/// Stops a control stream longer than anything it could be good for.
pub const CONTROL_PER_BYTE: u64 = 4;

/// Room for the control stream of a very short segment, see [`CONTROL_PER_BYTE`].
pub const CONTROL_SLACK: u64 = 64;

/// Most old contents, and most nodes of a layer. Stops a list that takes more memory than the image it describes: a
/// squashfs of 4 GiB in blocks of 128 KiB has this many.
#[cfg(feature = "alloc")]
pub const MAX_NODES: usize = crate::content::MAX_STREAMS;

/// Most layers of the new view: a stream in a stream in a stream. Stops a patch that makes every byte pass a thousand
/// encoders.
#[cfg(feature = "alloc")]
pub const MAX_LAYERS: usize = 4;

/// Most different codecs, and most different recipes. Stops a list that outgrows the head; images have a handful.
#[cfg(feature = "alloc")]
pub const MAX_RECIPES: usize = 64;

/// Longest description of the views in bytes, after decoding. Stops a short head from unfolding into a long list.
pub const MAX_VIEWS_LEN: u32 = 1 << 21;

/// Longest view in bytes. A view is longer than its image by what its streams unfold to, which this bounds.
#[cfg(feature = "alloc")]
pub const MAX_VIEW_LEN: u64 = 1 << 38;

/// Longest control stream of a lead in bytes, after decoding. The lead is held in memory while a patch is applied.
pub const MAX_LEAD_LEN: u32 = 1 << 27;

/// Longest reference table of a lead in bytes, after decoding. A handful of regions take a few hundred bytes.
pub const MAX_REFERENCES_LEN: u32 = 1 << 16;

/// What this reader is willing to look at. Each field can be lowered for a small device; none can be raised past the
/// constant of the same name, which [`Limits::default`] uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest head in bytes, see [`MAX_HEAD_LEN`].
    pub max_head_len: u32,
    /// Most segments, see [`MAX_SEGMENTS`].
    pub max_segments: u32,
    /// Longest old image in bytes, see [`MAX_IMAGE_LEN`].
    pub max_old_len: u64,
    /// Longest new image in bytes, see [`MAX_IMAGE_LEN`]. A device sets its slot size here.
    pub max_new_len: u64,
    /// Longest segment in bytes, see [`MAX_SEGMENT_LEN`].
    pub max_segment_len: u32,
    /// Longest coded form of one segment in bytes, see [`MAX_CODED_LEN`].
    pub max_coded_len: u32,
    /// Longest description of the views in bytes, see [`MAX_VIEWS_LEN`].
    pub max_views_len: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_head_len: MAX_HEAD_LEN,
            max_segments: MAX_SEGMENTS,
            max_old_len: MAX_IMAGE_LEN,
            max_new_len: MAX_IMAGE_LEN,
            max_segment_len: MAX_SEGMENT_LEN,
            max_coded_len: MAX_CODED_LEN,
            max_views_len: MAX_VIEWS_LEN,
        }
    }
}

impl Limits {
    /// The limits with no field above its constant, so that a caller's mistake cannot open a hole.
    #[must_use]
    pub(crate) fn clamped(&self) -> Self {
        Self {
            max_head_len: self.max_head_len.min(MAX_HEAD_LEN),
            max_segments: self.max_segments.min(MAX_SEGMENTS),
            max_old_len: self.max_old_len.min(MAX_IMAGE_LEN),
            max_new_len: self.max_new_len.min(MAX_IMAGE_LEN),
            max_segment_len: self.max_segment_len.min(MAX_SEGMENT_LEN),
            max_coded_len: self.max_coded_len.min(MAX_CODED_LEN),
            max_views_len: self.max_views_len.min(MAX_VIEWS_LEN),
        }
    }
}

/// Memory and storage that an applier may use, in bytes.
///
/// `ram` counts everything the applier reserves beyond its own stack: coded segment, decoder dictionaries and tables,
/// block buffers. `scratch` is storage that contents of the old image may be kept in when memory cannot hold them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApplyBudget {
    /// Bytes of memory.
    pub ram: u64,
    /// Bytes of scratch storage.
    pub scratch: u64,
}

impl Default for ApplyBudget {
    /// 64 MiB of memory, no scratch: what a Linux-class device can spare while it keeps running.
    fn default() -> Self {
        Self { ram: 64 << 20, scratch: 0 }
    }
}
