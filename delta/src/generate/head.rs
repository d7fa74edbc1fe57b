//! Writes the head of a patch; the counterpart of [`Head::parse`](crate::Head::parse).

use sha2::{Digest, Sha256};

use crate::{
    head::{Codec, Lead, MAGIC, MapBound, Segment, Stream, StreamKind, VERSION, feature},
    mix::Params,
    varint,
};

/// All that a head says, before its length is known. Places in the patch are not known yet either and left at zero.
pub(crate) struct Draft<'a> {
    pub old_len: u64,
    pub old_sha256: [u8; 32],
    pub new_len: u64,
    pub new_sha256: [u8; 32],
    /// Bytes of memory and of scratch storage to apply with.
    pub ram: u64,
    /// Bytes of memory for each further thread.
    pub ram_per_thread: u64,
    pub scratch: u64,
    /// The serialized and coded views; `None` when they are the images themselves.
    pub coded_views: Option<(Codec, u32, Vec<u8>)>,
    pub mix: Option<Params>,
    pub map: Option<MapBound>,
    pub lead: Option<Lead>,
    pub segments: &'a [Segment],
    /// Length of all segments but the last, as a power of two; `None` when they differ.
    pub segment_shift: Option<u8>,
}

impl Draft<'_> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let segmented = self.segments.len() > 1;
        let explicit = segmented && self.segment_shift.is_none();
        let features = [
            (segmented, feature::SEGMENTED),
            (explicit, feature::EXPLICIT),
            (self.coded_views.is_some(), feature::VIEWS),
            (self.lead.is_some(), feature::LEAD),
            (self.scratch > 0, feature::SCRATCH),
            (self.mix.is_some(), feature::MIX),
            (self.map.is_some(), feature::SPANS),
        ];
        let features = features.into_iter().filter(|(has, _)| *has).fold(0, |bits, (_, bit)| bits | bit);
        let mut body = Vec::new();
        varint::write(&mut body, features);
        varint::write(&mut body, self.old_len);
        body.extend_from_slice(&self.old_sha256);
        varint::write(&mut body, self.new_len);
        body.extend_from_slice(&self.new_sha256);
        varint::write(&mut body, self.ram.div_ceil(1 << 10));
        if segmented {
            varint::write(&mut body, self.ram_per_thread.div_ceil(1 << 10));
        }
        if self.scratch > 0 {
            varint::write(&mut body, self.scratch.div_ceil(1 << 10));
        }
        if let Some((codec, raw_len, coded)) = &self.coded_views {
            body.push(codec.id());
            varint::write(&mut body, u64::from(*raw_len));
            if *codec != Codec::Raw {
                varint::write(&mut body, coded.len() as u64);
            }
            body.extend_from_slice(coded);
        }
        if let Some(mix) = self.mix {
            body.extend(mix.to_bytes());
        }
        if let Some(map) = self.map {
            varint::write(&mut body, u64::from(map.spans));
            varint::write(&mut body, u64::from(map.shortest));
        }
        if let Some(lead) = &self.lead {
            varint::write(&mut body, u64::from(lead.commands));
            write_streams(&mut body, &lead.streams);
            body.extend_from_slice(&lead.coded_sha256);
        }
        match self.segment_shift {
            Some(shift) if segmented => body.push(shift),
            None if segmented => varint::write(&mut body, self.segments.len() as u64),
            _ => {}
        }
        for segment in self.segments {
            if explicit {
                varint::write(&mut body, segment.new_offset);
                varint::write(&mut body, u64::from(segment.len));
            }
            write_streams(&mut body, &segment.streams);
            body.extend_from_slice(&segment.coded_sha256);
            if let Some(check) = segment.check.filter(|_| segmented) {
                body.extend_from_slice(&check);
            }
        }
        prefixed(&body)
    }
}

fn write_streams(body: &mut Vec<u8>, streams: &[Stream]) {
    for (at, stream) in streams.iter().enumerate() {
        let more = if at + 1 < streams.len() { 0x80 } else { 0 };
        body.push(more | stream.kind.id() << 4 | stream.codec.id());
        if stream.kind != StreamKind::Diff {
            varint::write(body, u64::from(stream.raw_len));
        }
        if stream.codec != Codec::Raw {
            varint::write(body, u64::from(stream.coded_len));
        }
    }
}

/// The first 16 bytes of the SHA-256 of coded bytes.
pub(crate) fn authenticator(coded: &[u8]) -> [u8; 16] {
    let mut first = [0; 16];
    first.copy_from_slice(&Sha256::digest(coded)[..16]);
    first
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
