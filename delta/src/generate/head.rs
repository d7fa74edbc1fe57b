//! Writes the head of a patch; the counterpart of [`Head::parse`](crate::Head::parse).

use sha2::{Digest, Sha256};

use super::segment::CodedSegment;
use crate::{
    apply::memory,
    head::{Codec, MAGIC, Segment, StreamKind, VERSION, feature},
    varint,
};

/// All that a head says, before its length is known.
pub(crate) struct Draft<'a> {
    pub features: u64,
    pub segment_shift: u8,
    pub old_len: u64,
    pub old_sha256: [u8; 32],
    pub new_len: u64,
    pub new_sha256: [u8; 32],
    pub segments: &'a [CodedSegment],
}

impl Draft<'_> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let segmented = self.features & feature::SEGMENTED != 0;
        let mut body = Vec::new();
        varint::write(&mut body, self.features);
        varint::write(&mut body, self.old_len);
        body.extend_from_slice(&self.old_sha256);
        varint::write(&mut body, self.new_len);
        body.extend_from_slice(&self.new_sha256);
        let ram = memory::needed(&self.table()) >> 10;
        varint::write(&mut body, ram);
        if segmented {
            varint::write(&mut body, ram);
            body.push(self.segment_shift);
        }
        for segment in self.segments {
            for (at, stream) in segment.streams.iter().enumerate() {
                let more = if at + 1 < segment.streams.len() { 0x80 } else { 0 };
                body.push(more | stream.kind.id() << 4 | stream.codec.id());
                if stream.kind != StreamKind::Diff {
                    varint::write(&mut body, u64::from(stream.raw_len));
                }
                if stream.codec != Codec::Raw {
                    varint::write(&mut body, u64::from(stream.coded_len));
                }
            }
            body.extend_from_slice(&Sha256::digest(&segment.coded)[..16]);
            if segmented {
                body.extend_from_slice(&segment.check);
            }
        }
        prefixed(&body)
    }

    /// The table as a reader will see it, as far as memory goes.
    fn table(&self) -> Vec<Segment> {
        self.segments
            .iter()
            .map(|segment| Segment {
                new_offset: 0,
                len: 0,
                patch_offset: 0,
                coded_len: segment.coded.len() as u32,
                streams: segment.streams.clone(),
                coded_sha256: [0; 16],
                check: segment.check,
            })
            .collect()
    }
}

/// Puts magic, version and the length of the whole head in front.
fn prefixed(body: &[u8]) -> Vec<u8> {
    let fixed = MAGIC.len() + 1;
    let mut len_bytes = Vec::new();
    // The length counts itself, so its own size is found by trying: one more byte each round, four at most.
    for len_size in 1..=varint::MAX_LEN {
        len_bytes.clear();
        varint::write(&mut len_bytes, (fixed + len_size + body.len()) as u64);
        if len_bytes.len() == len_size {
            break;
        }
    }
    [&MAGIC[..], &[VERSION], &len_bytes, body].concat()
}
