//! The head of a patch: header plus segment table, its types and its strict reader.
//!
//! The head is all a device needs to decide: which image the patch starts from, what it makes, what it costs to apply,
//! and how to authenticate each segment. Whoever trusts the SHA-256 of the head trusts the patch.
//! `docs/patch-format.md` specifies the bytes.

mod read;
mod table;

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

pub(crate) use self::{
    read::{LeadEntry, Opening, bounded, lead_entry, prefix_len, take},
    table::{Streams, segment_streams},
};
#[cfg(feature = "alloc")]
use crate::{mix::Params, views::Views};

/// First three bytes of every patch. The first is no valid UTF-8 start, so text tools leave patches alone.
pub const MAGIC: [u8; 3] = [0xf5, b'S', b'L'];

/// Container version, the fourth byte.
pub const VERSION: u8 = 1;

/// How many first bytes tell the length of the head, see [`Head::prefix_len`]. Every patch is longer.
pub const PREFIX_LEN: usize = 8;

/// Required-feature bits. A reader refuses a patch with a bit it does not know.
pub mod feature {
    /// The new view is cut into segments: the table starts with the segment length, each entry has its own check bytes,
    /// and the memory for each further thread is declared. Without it there is one segment, the whole new view.
    pub const SEGMENTED: u64 = 1;
    /// Each table entry states its own offset and length, in any order. Only with [`SEGMENTED`].
    pub const EXPLICIT: u64 = 1 << 1;
    /// The header describes the views of both images. Without it the views are the images.
    pub const VIEWS: u64 = 1 << 2;
    /// The control streams of all segments stand in one lead before the first segment.
    pub const LEAD: u64 = 1 << 3;
    /// The header declares scratch storage. Without it none is needed.
    pub const SCRATCH: u64 = 1 << 4;
    /// The header declares the tables of the context-mixing coder. Without it no stream uses that coder.
    pub const MIX: u64 = 1 << 5;
    /// The header bounds the map of what moved, for devices that have little memory for it. Only with [`MIX`].
    pub const SPANS: u64 = 1 << 6;
    /// All bits that this reader knows.
    pub const KNOWN: u64 = SEGMENTED | EXPLICIT | VIEWS | LEAD | SCRATCH | MIX | SPANS;
}

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamKind {
    /// Commands: how many literal bytes, how many bytes from where in the old view.
    Control,
    /// Differences that are added to bytes of the old view.
    Diff,
    /// Literal bytes.
    Extra,
    /// Where code and data that refer to other places stand in memory. In a lead only.
    References,
}

impl StreamKind {
    /// All kinds, by their number.
    pub(crate) const ALL: [Self; 4] = [Self::Control, Self::Diff, Self::Extra, Self::References];

    pub(crate) fn from_id(id: u8) -> Option<Self> {
        Self::ALL.get(usize::from(id)).copied()
    }

    /// The number in the table.
    pub fn id(self) -> u8 {
        match self {
            Self::Control => 0,
            Self::Diff => 1,
            Self::Extra => 2,
            Self::References => 3,
        }
    }

    /// The name in messages and listings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Diff => "diff",
            Self::Extra => "extra",
            Self::References => "references",
        }
    }
}

/// How a stream is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// The bytes themselves.
    Raw,
    /// One Zstandard frame (RFC 8878).
    Zstd,
    /// One properties byte, then LZMA data without header or end marker; the dictionary is as long as the raw stream.
    Lzma,
    /// The context-mixing coder, which sees the old view and the output so far.
    Mix,
}

impl Codec {
    pub(crate) fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::Raw),
            1 => Some(Self::Zstd),
            2 => Some(Self::Lzma),
            3 => Some(Self::Mix),
            _ => None,
        }
    }

    /// The number in the table.
    pub fn id(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
            Self::Lzma => 2,
            Self::Mix => 3,
        }
    }

    /// The name in messages and listings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Zstd => "zstd",
            Self::Lzma => "lzma",
            Self::Mix => "mix",
        }
    }
}

/// One stream of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    /// What it carries.
    pub kind: StreamKind,
    /// How it is coded.
    pub codec: Codec,
    /// Bytes after decoding.
    pub raw_len: u32,
    /// Bytes in the patch.
    pub coded_len: u32,
}

/// How large the map of what moved is. It steers predictions, so both sides need the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapBound {
    /// Entries that building it takes where there is no other memory.
    pub spans: u32,
    /// Bytes of the shortest copy that it knows.
    pub shortest: u32,
}

/// One entry of the segment table.
#[cfg(feature = "alloc")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Where its output begins in the new view.
    pub new_offset: u64,
    /// Bytes of its output.
    pub len: u32,
    /// Where its coded bytes begin in the patch.
    pub patch_offset: u64,
    /// Bytes of its coded form: all streams, one after the other.
    pub coded_len: u32,
    /// Its streams, in the order of their coded bytes.
    pub streams: Vec<Stream>,
    /// First 16 bytes of the SHA-256 of its coded bytes: authenticates it before it is decoded.
    pub coded_sha256: [u8; 16],
    /// Where the new image stands when the segment is applied: the resume point behind it. `None` when the segment ends
    /// inside a stream that is re-encoded.
    pub image_end: Option<u64>,
    /// First 8 bytes of the SHA-256 of the image from the resume point before to that behind this segment. There is one
    /// exactly when there is a resume point.
    pub check: Option<[u8; 8]>,
}

#[cfg(feature = "alloc")]
impl Segment {
    /// The stream of one kind, if the segment has it.
    pub fn stream(&self, kind: StreamKind) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.kind == kind)
    }
}

/// What stands before the first segment: the commands of all segments, so that the decoder knows where everything moved.
#[cfg(feature = "alloc")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lead {
    /// Commands of all segments together.
    pub commands: u32,
    /// Bytes of its coded form, which follow the head.
    pub coded_len: u32,
    /// Control, and references when the context-mixing coder predicts them.
    pub streams: Vec<Stream>,
    /// First 16 bytes of the SHA-256 of its coded bytes.
    pub coded_sha256: [u8; 16],
}

#[cfg(feature = "alloc")]
impl Lead {
    /// The stream of one kind, if the lead has it.
    pub fn stream(&self, kind: StreamKind) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.kind == kind)
    }
}

/// Header and segment table of a patch, read and checked.
#[cfg(feature = "alloc")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Bytes of header and table together; segment data starts here.
    pub head_len: u32,
    /// Required-feature bits, see [`feature`].
    pub features: u64,
    /// Bytes of the image to start from.
    pub old_len: u64,
    /// SHA-256 of the image to start from.
    pub old_sha256: [u8; 32],
    /// Bytes of the image that the patch makes.
    pub new_len: u64,
    /// SHA-256 of the image that the patch makes.
    pub new_sha256: [u8; 32],
    /// Bytes of memory to apply with one thread, coded segment included.
    pub ram: u64,
    /// Bytes of memory for each further thread; 0 when there is only one segment.
    pub ram_per_thread: u64,
    /// Bytes of scratch storage.
    pub scratch: u64,
    /// The views of both images.
    pub views: Views,
    /// Tables of the context-mixing coder.
    pub mix: Option<Params>,
    /// Bound of the map of what moved; without one it knows all copies.
    pub map: Option<MapBound>,
    /// What stands before the first segment.
    pub lead: Option<Lead>,
    /// The segment table, in the order of the patch's bytes.
    pub segments: Vec<Segment>,
}

#[cfg(feature = "alloc")]
impl Head {
    /// Bytes of the whole patch.
    pub fn patch_len(&self) -> u64 {
        self.segments
            .last()
            .map_or(self.segments_offset(), |segment| segment.patch_offset + u64::from(segment.coded_len))
    }

    /// Coded bytes of the longest segment, or of the lead if that is longer: the buffer that an applier needs. One that
    /// grows would hold two of them for a moment.
    pub fn longest_coded(&self) -> usize {
        let segments = self.segments.iter().map(|segment| segment.coded_len);
        segments.chain(self.lead.as_ref().map(|lead| lead.coded_len)).max().unwrap_or(0) as usize
    }

    /// Where the first segment's coded bytes begin: behind the head and the lead.
    pub fn segments_offset(&self) -> u64 {
        u64::from(self.head_len) + self.lead.as_ref().map_or(0, |lead| u64::from(lead.coded_len))
    }

    /// Whether the segments make the output from front to back, so that it can be written without seeking.
    pub fn in_order(&self) -> bool {
        let mut next = 0;
        self.segments.iter().all(|segment| {
            let here = segment.new_offset == next;
            next += u64::from(segment.len);
            here
        })
    }
}
