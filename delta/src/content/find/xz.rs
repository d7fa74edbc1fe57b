//! Finds the blocks of `.xz` streams.
//!
//! A stream of one block is taken whole, container and all. Of a stream of many blocks each block's data are a stream.

use super::{
    super::{
        codec::{Branch, Codec, Dict},
        xz::{FOOTER_MAGIC, LZMA2, MAGIC, crc32},
    },
    bytes::u32_at,
    scan::{Budget, Candidate},
    search::Family,
    worth,
};

/// Bytes of the stream header, and of the footer.
const HEADER: usize = 12;

/// Most blocks of one stream. Stops an index that claims more than it could hold.
const MAX_BLOCKS: u64 = 1 << 14;

/// What a block header says.
pub(super) struct BlockHeader {
    pub(super) len: usize,
    pub(super) dict: Dict,
    pub(super) branch: Branch,
    /// Whether it states both lengths.
    pub(super) sizes: bool,
}

/// Streams of the `.xz` stream at the beginning of `bytes`.
pub(super) fn streams(bytes: &[u8], budget: &mut Budget) -> Vec<Candidate> {
    one(bytes, budget).unwrap_or_default()
}

fn one(bytes: &[u8], budget: &mut Budget) -> Option<Vec<Candidate>> {
    if !bytes.starts_with(&MAGIC) {
        return None;
    }
    let check_len = check_len(*bytes.get(7)?)?;
    let first = BlockHeader::parse(bytes.get(HEADER..)?)?;
    let codec = Codec::Xz { dict: first.dict };
    let (len, content) = budget.unpack(codec, bytes)?;
    let blocks = index(bytes.get(..len)?)?;
    if blocks.len() == 1 {
        let longest = content.len() as u64;
        let whole = Candidate { start: 0, len, codec, family: Family::Single, file: None, longest, content };
        return worth(len, whole.content.len()).then(|| vec![whole]);
    }
    let mut found = Vec::new();
    let (mut at, mut rest) = (HEADER, content.as_slice());
    for (unpadded, content_len) in blocks {
        let header = BlockHeader::parse(bytes.get(at..)?)?;
        let data_len = unpadded.checked_sub(header.len + check_len)?;
        let (content, after) = rest.split_at_checked(content_len)?;
        rest = after;
        if worth(data_len, content_len) {
            let codec = Codec::Lzma2 { dict: header.dict, branch: header.branch };
            let (start, content) = (at + header.len, content.to_vec());
            let longest = content_len as u64;
            found.push(Candidate { start, len: data_len, codec, family: Family::Single, file: None, longest, content });
        }
        at = at.checked_add(unpadded.checked_next_multiple_of(4)?)?;
    }
    Some(found)
}

/// Length of a check of the content.
pub(super) fn check_len(check: u8) -> Option<usize> {
    match check {
        0 => Some(0),
        1 => Some(4),
        4 => Some(8),
        10 => Some(32),
        _ => None,
    }
}

impl BlockHeader {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let len = (usize::from(*bytes.first()?) + 1) * 4;
        let header = bytes.get(..len)?;
        let flags = *header.get(1)?;
        if *header.first()? == 0 || flags & 0x3c != 0 || u32_at(bytes, len - 4)? != crc32(header.get(..len - 4)?) {
            return None;
        }
        let mut rest = header.get(2..len - 4)?;
        for size in [0x40, 0x80] {
            if flags & size != 0 {
                integer(&mut rest)?;
            }
        }
        let mut branch = Branch::None;
        let filters = flags & 3;
        if filters > 1 {
            return None;
        }
        if filters == 1 {
            let (&[id, 0], after) = rest.split_first_chunk::<2>()? else { return None };
            branch = Branch::from_id(id).filter(|&branch| branch != Branch::None)?;
            rest = after;
        }
        let &[LZMA2, 1, dict, ..] = rest else { return None };
        Some(Self { len, dict: Dict::from_code(dict)?, branch, sizes: flags & 0xc0 == 0xc0 })
    }
}

/// Unpadded length and content length of each block.
fn index(stream: &[u8]) -> Option<Vec<(usize, usize)>> {
    let footer = stream.get(stream.len().checked_sub(HEADER)?..)?;
    if !footer.ends_with(&FOOTER_MAGIC) {
        return None;
    }
    let index_len = usize::try_from(u32_at(footer, 4)?).ok()?.checked_add(1)?.checked_mul(4)?;
    let end = stream.len() - HEADER;
    let mut rest = stream.get(end.checked_sub(index_len)?..end)?.split_first()?.1;
    let count = integer(&mut rest)?;
    if count > MAX_BLOCKS {
        return None;
    }
    (0..count)
        .map(|_| Some((usize::try_from(integer(&mut rest)?).ok()?, usize::try_from(integer(&mut rest)?).ok()?)))
        .collect()
}

/// An integer in the format's coding.
fn integer(bytes: &mut &[u8]) -> Option<u64> {
    crate::varint::read(bytes, "xz integer").ok()
}
