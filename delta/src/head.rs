//! The head of a patch: header plus segment table, its types and its strict reader.
//!
//! The head is all a device needs to decide: which image the patch starts from, what it makes, what it costs to apply,
//! and how to authenticate each segment. Whoever trusts the SHA-256 of the head trusts the patch.
//! `docs/patch-format.md` specifies the bytes.

use crate::{
    error::ApplyError,
    limits::{
        CONTROL_PER_BYTE, CONTROL_SLACK, Limits, MAX_NODES, MAX_PARAMETERS_LEN, MAX_RECODERS, MAX_STREAMS,
        MIN_SEGMENT_SHIFT,
    },
    varint,
};

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
    /// The header lists the nodes of both views. Without it each view is one raw node, the whole image.
    pub const NODES: u64 = 1 << 2;
    /// The header names re-encoders with their exact versions.
    pub const RECODERS: u64 = 1 << 3;
    /// The header declares scratch storage. Without it none is needed.
    pub const SCRATCH: u64 = 1 << 4;
    /// All bits that this reader knows.
    pub const KNOWN: u64 = SEGMENTED | EXPLICIT | NODES | RECODERS | SCRATCH;
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
}

impl StreamKind {
    pub(crate) fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::Control),
            1 => Some(Self::Diff),
            2 => Some(Self::Extra),
            _ => None,
        }
    }

    /// The number in the table.
    pub fn id(self) -> u8 {
        match self {
            Self::Control => 0,
            Self::Diff => 1,
            Self::Extra => 2,
        }
    }

    /// The name in messages and listings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Diff => "diff",
            Self::Extra => "extra",
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
}

impl Codec {
    pub(crate) fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::Raw),
            1 => Some(Self::Zstd),
            2 => Some(Self::Lzma),
            _ => None,
        }
    }

    /// The number in the table.
    pub fn id(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
            Self::Lzma => 2,
        }
    }

    /// The name in messages and listings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Zstd => "zstd",
            Self::Lzma => "lzma",
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

/// One entry of the segment table.
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
    /// First 8 bytes of the SHA-256 of its output: finds the point to resume from.
    pub check: [u8; 8],
}

impl Segment {
    /// The stream of one kind, if the segment has it.
    pub fn stream(&self, kind: StreamKind) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.kind == kind)
    }
}

/// One node of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// What the node does with its bytes.
    pub kind: NodeKind,
    /// Bytes of the image that it covers.
    pub len: u64,
}

/// Kinds of nodes. Filters and decoded streams have their numbers and layout reserved in the format, but not here: a
/// reader has a kind only when it can apply it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// The bytes of the image as they are.
    Raw,
}

/// Header and segment table of a patch, read and checked.
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
    /// Nodes of the old view, covering the old image in order.
    pub old_view: Vec<Node>,
    /// Nodes of the new view, covering the new image in order.
    pub new_view: Vec<Node>,
    /// The segment table, in the order of the patch's bytes.
    pub segments: Vec<Segment>,
}

impl Head {
    /// How many bytes the head has, told from the first [`PREFIX_LEN`] bytes of a patch.
    ///
    /// # Errors
    /// Not a patch, an unknown version, fewer bytes than [`PREFIX_LEN`], or a head over the limit.
    pub fn prefix_len(first_bytes: &[u8], limits: &Limits) -> Result<u32, ApplyError> {
        let mut rest = first_bytes;
        let magic = take::<3>(&mut rest, "magic").map_err(|_| ApplyError::NotAPatch)?;
        if magic != MAGIC {
            return Err(ApplyError::NotAPatch);
        }
        let [found] = take::<1>(&mut rest, "version")?;
        if found != VERSION {
            return Err(ApplyError::UnknownVersion { found, known: VERSION });
        }
        if first_bytes.len() < PREFIX_LEN {
            return Err(ApplyError::Truncated { field: "prefix" });
        }
        let len = bounded(varint::read(&mut rest, "head length")?, "head length", limits.clamped().max_head_len)?;
        if (len as usize) < PREFIX_LEN {
            return Err(ApplyError::Malformed { field: "head length", reason: "shorter than the prefix" });
        }
        Ok(len)
    }

    /// Reads a head. `bytes` are exactly the head, no more and no less.
    ///
    /// # Errors
    /// Every way in which the bytes break the format, ask for something unknown, or exceed `limits`.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, ApplyError> {
        let limits = limits.clamped();
        let head_len = Self::prefix_len(bytes, &limits)?;
        if (bytes.len() as u64) < u64::from(head_len) {
            return Err(ApplyError::Truncated { field: "head" });
        }
        if bytes.len() as u64 > u64::from(head_len) {
            return Err(ApplyError::Malformed { field: "head length", reason: "bytes follow the head" });
        }
        let mut rest = bytes.get(MAGIC.len() + 1..).unwrap_or_default();
        varint::read(&mut rest, "head length")?;

        let features = varint::read(&mut rest, "features")?;
        if features & !feature::KNOWN != 0 {
            return Err(ApplyError::UnknownFeatures { bits: features & !feature::KNOWN });
        }
        if features & feature::EXPLICIT != 0 && features & feature::SEGMENTED == 0 {
            return Err(ApplyError::Malformed { field: "features", reason: "explicit offsets need segments" });
        }
        let old_len = at_most(varint::read(&mut rest, "old length")?, "old length", limits.max_old_len)?;
        let old_sha256 = take::<32>(&mut rest, "old SHA-256")?;
        let new_len = at_most(varint::read(&mut rest, "new length")?, "new length", limits.max_new_len)?;
        let new_sha256 = take::<32>(&mut rest, "new SHA-256")?;
        let ram = kibibytes(&mut rest, "memory")?;
        let segmented = features & feature::SEGMENTED != 0;
        let ram_per_thread = if segmented { kibibytes(&mut rest, "memory per thread")? } else { 0 };
        let scratch = if features & feature::SCRATCH != 0 { kibibytes(&mut rest, "scratch")? } else { 0 };
        let (old_view, new_view) = if features & feature::NODES != 0 {
            (nodes(&mut rest, "old", old_len)?, nodes(&mut rest, "new", new_len)?)
        } else {
            (whole(old_len), whole(new_len))
        };
        if features & feature::RECODERS != 0 {
            refuse_recoders(&mut rest)?;
        }

        let mut table = Table { rest, head_len, features, new_len, new_sha256, limits: &limits, segments: Vec::new() };
        table.read()?;
        if !table.rest.is_empty() {
            return Err(ApplyError::Malformed { field: "segment table", reason: "bytes follow the last entry" });
        }
        let segments = table.segments;
        Ok(Self {
            head_len,
            features,
            old_len,
            old_sha256,
            new_len,
            new_sha256,
            ram,
            ram_per_thread,
            scratch,
            old_view,
            new_view,
            segments,
        })
    }

    /// Bytes of the whole patch.
    pub fn patch_len(&self) -> u64 {
        self.segments
            .last()
            .map_or(u64::from(self.head_len), |segment| segment.patch_offset + u64::from(segment.coded_len))
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

/// Reader of the segment table.
struct Table<'a> {
    rest: &'a [u8],
    head_len: u32,
    features: u64,
    new_len: u64,
    new_sha256: [u8; 32],
    limits: &'a Limits,
    segments: Vec<Segment>,
}

impl Table<'_> {
    fn read(&mut self) -> Result<(), ApplyError> {
        let mut patch_offset = u64::from(self.head_len);
        if self.features & feature::EXPLICIT != 0 {
            let count = varint::read(&mut self.rest, "segment count")?;
            let count = bounded(count, "segment count", self.limits.max_segments)?;
            for _ in 0..count {
                let new_offset = varint::read(&mut self.rest, "segment offset")?;
                let len = varint::read(&mut self.rest, "segment length")?;
                let outside = new_offset.checked_add(len).is_none_or(|end| end > self.new_len);
                if outside || len == 0 {
                    return Err(ApplyError::Malformed { field: "segment offset", reason: "outside the new view" });
                }
                self.entry(new_offset, len, &mut patch_offset)?;
            }
            return self.partition();
        }
        let segment_len = if self.features & feature::SEGMENTED != 0 {
            let [shift] = take::<1>(&mut self.rest, "segment length")?;
            if !(MIN_SEGMENT_SHIFT..32).contains(&shift) {
                return Err(ApplyError::Malformed { field: "segment length", reason: "not a power of two in range" });
            }
            1u64 << shift
        } else {
            self.new_len
        };
        if self.new_len == 0 {
            return Ok(());
        }
        bounded(self.new_len.div_ceil(segment_len), "segment count", self.limits.max_segments)?;
        let mut new_offset = 0;
        while new_offset < self.new_len {
            let len = segment_len.min(self.new_len - new_offset);
            self.entry(new_offset, len, &mut patch_offset)?;
            new_offset += len;
        }
        Ok(())
    }

    /// Segments given in any order must still cover the new view exactly once.
    fn partition(&self) -> Result<(), ApplyError> {
        let mut spans: Vec<(u64, u32)> = self.segments.iter().map(|s| (s.new_offset, s.len)).collect();
        spans.sort_unstable();
        let mut next = 0;
        for (offset, len) in spans {
            if offset != next {
                return Err(ApplyError::Malformed {
                    field: "segment table",
                    reason: "segments overlap or leave a gap",
                });
            }
            next += u64::from(len);
        }
        if next != self.new_len {
            return Err(ApplyError::Malformed { field: "segment table", reason: "segments overlap or leave a gap" });
        }
        Ok(())
    }

    fn entry(&mut self, new_offset: u64, len: u64, patch_offset: &mut u64) -> Result<(), ApplyError> {
        let number = self.segments.len() as u32;
        let len = bounded(len, "segment length", self.limits.max_segment_len)?;
        let streams = self.streams(number, len)?;
        let coded_len = streams.iter().map(|stream| u64::from(stream.coded_len)).sum();
        let coded_len = bounded(coded_len, "coded segment length", self.limits.max_coded_len)?;
        let coded_sha256 = take::<16>(&mut self.rest, "segment SHA-256")?;
        let check = if self.features & feature::SEGMENTED != 0 {
            take::<8>(&mut self.rest, "segment check")?
        } else {
            let mut whole = self.new_sha256.as_slice();
            take::<8>(&mut whole, "segment check")?
        };
        let segment = Segment { new_offset, len, patch_offset: *patch_offset, coded_len, streams, coded_sha256, check };
        self.segments.push(segment);
        *patch_offset += u64::from(coded_len);
        Ok(())
    }

    fn streams(&mut self, segment: u32, len: u32) -> Result<Vec<Stream>, ApplyError> {
        /// A stream as it stands in the table, before the implied length of the diff stream is known.
        struct Listed {
            kind: StreamKind,
            codec: Codec,
            raw_len: Option<u32>,
            coded_len: Option<u32>,
        }
        let control_limit = u64::from(len) * CONTROL_PER_BYTE + CONTROL_SLACK;
        let mut listed: Vec<Listed> = Vec::new();
        loop {
            let [tag] = take::<1>(&mut self.rest, "stream tag")?;
            let id = tag >> 4 & 7;
            let kind = StreamKind::from_id(id).ok_or(ApplyError::UnknownStreamKind { segment, kind: id })?;
            let codec = Codec::from_id(tag & 15).ok_or(ApplyError::UnknownCodec { segment, codec: tag & 15 })?;
            if listed.last().is_some_and(|last| last.kind >= kind) {
                return Err(ApplyError::Malformed { field: "streams", reason: "kinds are not in ascending order" });
            }
            let raw_len = match kind {
                StreamKind::Control => {
                    let raw = varint::read(&mut self.rest, "raw control length")?;
                    Some(at_most(raw, "raw control length", control_limit)?)
                }
                StreamKind::Extra => {
                    let raw = varint::read(&mut self.rest, "raw extra length")?;
                    Some(at_most(raw, "raw extra length", u64::from(len))?)
                }
                StreamKind::Diff => None,
            };
            let raw_len = raw_len.map(|raw| bounded(raw, "raw stream length", u32::MAX)).transpose()?;
            if raw_len == Some(0) {
                return Err(ApplyError::Malformed { field: "streams", reason: "an empty stream is left out" });
            }
            let coded_len = if codec == Codec::Raw {
                None
            } else {
                let coded = varint::read(&mut self.rest, "coded stream length")?;
                Some(bounded(coded, "coded stream length", self.limits.max_coded_len)?)
            };
            listed.push(Listed { kind, codec, raw_len, coded_len });
            if tag & 0x80 == 0 {
                break;
            }
            if listed.len() >= MAX_STREAMS {
                return Err(ApplyError::OverLimit {
                    field: "streams of a segment",
                    value: MAX_STREAMS as u64 + 1,
                    limit: MAX_STREAMS as u64,
                });
            }
        }
        if listed.first().is_none_or(|first| first.kind != StreamKind::Control) {
            return Err(ApplyError::Malformed { field: "streams", reason: "there is no control stream" });
        }
        let extra = listed.iter().find(|stream| stream.kind == StreamKind::Extra).and_then(|stream| stream.raw_len);
        let extra = extra.unwrap_or(0);
        let has_diff = listed.iter().any(|stream| stream.kind == StreamKind::Diff);
        let rest = len.saturating_sub(extra);
        if has_diff != (rest > 0) {
            return Err(ApplyError::Malformed {
                field: "streams",
                reason: "diff and extra do not make up the segment",
            });
        }
        Ok(listed
            .into_iter()
            .map(|stream| {
                let raw_len = stream.raw_len.unwrap_or(rest);
                let coded_len = stream.coded_len.unwrap_or(raw_len);
                Stream { kind: stream.kind, codec: stream.codec, raw_len, coded_len }
            })
            .collect())
    }
}

/// Takes `N` bytes off the front.
fn take<const N: usize>(bytes: &mut &[u8], field: &'static str) -> Result<[u8; N], ApplyError> {
    let (taken, rest) = bytes.split_first_chunk::<N>().ok_or(ApplyError::Truncated { field })?;
    *bytes = rest;
    Ok(*taken)
}

fn at_most(value: u64, field: &'static str, limit: u64) -> Result<u64, ApplyError> {
    if value > limit { Err(ApplyError::OverLimit { field, value, limit }) } else { Ok(value) }
}

fn bounded(value: u64, field: &'static str, limit: u32) -> Result<u32, ApplyError> {
    match u32::try_from(value) {
        Ok(small) if small <= limit => Ok(small),
        _ => Err(ApplyError::OverLimit { field, value, limit: u64::from(limit) }),
    }
}

/// Reads an amount given in KiB, returns bytes.
fn kibibytes(bytes: &mut &[u8], field: &'static str) -> Result<u64, ApplyError> {
    Ok(at_most(varint::read(bytes, field)?, field, u64::MAX >> 10)? << 10)
}

/// The view of an image without a node list.
fn whole(len: u64) -> Vec<Node> {
    vec![Node { kind: NodeKind::Raw, len }]
}

fn nodes(bytes: &mut &[u8], view: &'static str, image_len: u64) -> Result<Vec<Node>, ApplyError> {
    let count = at_most(varint::read(bytes, "node count")?, "node count", MAX_NODES as u64)?;
    let mut nodes = Vec::new();
    let mut covered = 0u64;
    for index in 0..count as usize {
        let [kind] = take::<1>(bytes, "node kind")?;
        if kind != 0 {
            return Err(ApplyError::UnknownNodeKind { view, index, kind });
        }
        let len = varint::read(bytes, "node length")?;
        covered = covered
            .checked_add(len)
            .filter(|&end| end <= image_len)
            .ok_or(ApplyError::Malformed { field: "node length", reason: "nodes reach past the end of the image" })?;
        nodes.push(Node { kind: NodeKind::Raw, len });
    }
    if covered != image_len {
        return Err(ApplyError::Malformed { field: "node length", reason: "nodes do not cover the image" });
    }
    Ok(nodes)
}

/// This reader has no re-encoder, so the first one named refuses the patch.
fn refuse_recoders(bytes: &mut &[u8]) -> Result<(), ApplyError> {
    let count = at_most(varint::read(bytes, "re-encoder count")?, "re-encoder count", MAX_RECODERS as u64)?;
    if count == 0 {
        return Ok(());
    }
    let id = varint::read(bytes, "re-encoder id")?;
    let len = varint::read(bytes, "re-encoder version")?;
    let len = at_most(len, "re-encoder version", MAX_PARAMETERS_LEN as u64)? as usize;
    let version = bytes.get(..len).ok_or(ApplyError::Truncated { field: "re-encoder version" })?;
    Err(ApplyError::UnknownRecoder { id, version: String::from_utf8_lossy(version).escape_debug().to_string() })
}
