//! Finds the compressed blocks of a squashfs 4.0 file system: data, fragments and metadata.
//!
//! Sizes of data blocks stand in inodes, so the inode table is decoded. Offsets count from the superblock. Layout and
//! numbers are those of the Linux kernel's `squashfs_fs.h`. Blocks coded with LZO or LZ4 stay raw.

use super::{
    super::codec::{Codec, Dict},
    bytes::{u16_at, u32_at, u64_at},
    formats::zstd_window,
    scan::{Budget, Candidate},
    search::Family,
    unpack::{Outcome, unpack},
    xz::BlockHeader,
};

/// Bytes of the superblock.
const SUPERBLOCK: usize = 96;

/// Content of a full metadata block.
const METADATA: u64 = 8192;

/// Longest block of the format.
const MAX_BLOCK: u32 = 1 << 20;

/// Set in a data block's size when it is not compressed.
const STORED: u32 = 1 << 24;

/// Longest decoded inode table. Stops an image of tiny blocks that decode to gigabytes of inodes.
const MAX_INODE_TABLE: usize = 256 << 20;

/// Bytes of one entry of the fragment table.
const FRAGMENT: usize = 16;

struct Superblock {
    block_size: u32,
    fragments: u32,
    compressor: u16,
    ids: u16,
    inodes: u32,
    id_table: u64,
    xattr_table: u64,
    inode_table: u64,
    directory_table: u64,
    fragment_table: u64,
    export_table: u64,
}

impl Superblock {
    fn parse(bytes: &[u8]) -> Option<Self> {
        if !bytes.starts_with(b"hsqs") || bytes.len() < SUPERBLOCK {
            return None;
        }
        let block_size = u32_at(bytes, 12)?;
        let log = u32::from(u16_at(bytes, 22)?);
        let plausible = u16_at(bytes, 28)? == 4
            && block_size.is_power_of_two()
            && (4096..=MAX_BLOCK).contains(&block_size)
            && block_size.trailing_zeros() == log;
        plausible.then_some(Self {
            block_size,
            fragments: u32_at(bytes, 16)?,
            compressor: u16_at(bytes, 20)?,
            ids: u16_at(bytes, 26)?,
            inodes: u32_at(bytes, 4)?,
            id_table: u64_at(bytes, 48)?,
            xattr_table: u64_at(bytes, 56)?,
            inode_table: u64_at(bytes, 64)?,
            directory_table: u64_at(bytes, 72)?,
            fragment_table: u64_at(bytes, 80)?,
            export_table: u64_at(bytes, 88)?,
        })
    }
}

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Holds {
    /// A part of the file whose first block begins there.
    File(u64),
    /// Many small files.
    Fragments,
    Metadata,
}

/// A compressed block: where it begins, its coded length, and what it holds.
type Block = (usize, usize, Holds);

/// Streams of the file system whose superblock stands at `at`, in order; `None` when there is none.
pub(super) fn streams(bytes: &[u8], at: usize, budget: &mut Budget) -> Option<Vec<Candidate>> {
    let image = bytes.get(at..)?;
    let superblock = Superblock::parse(image)?;
    let mut blocks = Vec::new();
    let mut inodes = Vec::new();
    for block in metadata(image, superblock.inode_table, superblock.directory_table) {
        let block = block?;
        append(image, &superblock, block, &mut inodes, budget)?;
        blocks.extend(block.compressed());
    }
    file_blocks(&superblock, &inodes, &mut blocks);
    drop(inodes);

    let count = |entries: u64, len: u64| entries.saturating_mul(len).div_ceil(METADATA);
    let fragment_tables =
        pointers(image, superblock.fragment_table, count(u64::from(superblock.fragments), FRAGMENT as u64));
    let mut fragments = Vec::new();
    for &pointer in &fragment_tables {
        let block = metadata_block(image, pointer)?;
        append(image, &superblock, block, &mut fragments, budget)?;
        blocks.extend(block.compressed());
    }
    for fragment in fragments.chunks_exact(FRAGMENT).take(superblock.fragments as usize) {
        let (start, size) = (u64_at(fragment, 0)?, u32_at(fragment, 8)?);
        data_block(start, size, Holds::Fragments, &mut blocks);
    }
    let ids = pointers(image, superblock.id_table, count(u64::from(superblock.ids), 4));
    let exports = pointers(image, superblock.export_table, count(u64::from(superblock.inodes), 8));
    for &pointer in ids.iter().chain(&exports) {
        blocks.extend(metadata_block(image, pointer).and_then(Metadata::compressed));
    }
    // Directories go on to the next thing whose place is known.
    let tables = [superblock.fragment_table, superblock.export_table, superblock.id_table, superblock.xattr_table];
    let end = fragment_tables.iter().chain(&ids).chain(&exports).chain(&tables);
    let end = end.copied().filter(|&end| end > superblock.directory_table).min()?;
    blocks.extend(
        metadata(image, superblock.directory_table, end).map_while(|block| block).filter_map(Metadata::compressed),
    );

    blocks.sort_unstable();
    let mut found: Vec<Candidate> = Vec::new();
    let mut free = 0;
    for (start, len, holds) in blocks {
        let Some(codec) = codec(superblock.compressor, image.get(start..).and_then(|rest| rest.get(..len))) else {
            continue;
        };
        if start < free {
            continue;
        }
        free = start + len;
        let (family, longest) = match holds {
            Holds::Metadata => (Family::Metadata, METADATA),
            _ => (Family::Blocks, u64::from(superblock.block_size)),
        };
        let file = if let Holds::File(first) = holds { Some(at as u64 + first) } else { None };
        found.push(Candidate { start: at + start, len, codec, family, file, longest, content: Vec::new() });
    }
    Some(found)
}

/// How a block is decoded; `None` when this crate cannot, or the block does not begin as it must.
fn codec(compressor: u16, block: Option<&[u8]>) -> Option<Codec> {
    let block = block?;
    match compressor {
        1 => Some(Codec::Zlib),
        4 => Some(Codec::Xz { dict: BlockHeader::parse(block.get(12..)?)?.dict }),
        6 => Some(Codec::Zstd { window: zstd_window(block).or(Dict::holding(u64::from(MAX_BLOCK)))? }),
        _ => None,
    }
}

/// A metadata block.
#[derive(Clone, Copy)]
struct Metadata {
    start: usize,
    len: usize,
    stored: bool,
}

impl Metadata {
    fn compressed(self) -> Option<Block> {
        (!self.stored).then_some((self.start, self.len, Holds::Metadata))
    }
}

fn metadata_block(image: &[u8], at: u64) -> Option<Metadata> {
    let at = usize::try_from(at).ok()?;
    let header = u16_at(image, at)?;
    let len = usize::from(header & 0x7fff);
    let start = at + 2;
    image.get(start..)?.get(..len)?;
    (len > 0).then_some(Metadata { start, len, stored: header & 0x8000 != 0 })
}

/// Metadata blocks one behind the other; an item is `None` when the walk leaves the image.
fn metadata(image: &[u8], from: u64, to: u64) -> impl Iterator<Item = Option<Metadata>> {
    let mut at = from;
    std::iter::from_fn(move || {
        if at >= to {
            return None;
        }
        let block = metadata_block(image, at);
        at = block.map_or(to, |block| (block.start + block.len) as u64);
        Some(block)
    })
}

/// Appends the decoded block to `out`.
fn append(
    image: &[u8],
    superblock: &Superblock,
    block: Metadata,
    out: &mut Vec<u8>,
    budget: &mut Budget,
) -> Option<()> {
    let coded = image.get(block.start..)?.get(..block.len)?;
    if out.len() > MAX_INODE_TABLE {
        return None;
    }
    if block.stored {
        out.extend_from_slice(coded);
        return Some(());
    }
    match unpack(codec(superblock.compressor, Some(coded))?, coded, METADATA) {
        Outcome::Whole { content, .. } => {
            out.extend(content);
            Some(())
        }
        Outcome::Waste(len) => {
            budget.waste(len);
            None
        }
    }
}

/// A table of `count` pointers to metadata blocks.
fn pointers(image: &[u8], at: u64, count: u64) -> Vec<u64> {
    let Ok(at) = usize::try_from(at) else { return Vec::new() };
    let Some(rest) = image.get(at..) else { return Vec::new() };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    rest.chunks_exact(8).take(count).filter_map(|pointer| u64_at(pointer, 0)).collect()
}

fn data_block(start: u64, size: u32, holds: Holds, blocks: &mut Vec<Block>) {
    let len = size & (STORED - 1);
    if size & STORED == 0
        && len > 0
        && let Ok(start) = usize::try_from(start)
    {
        blocks.push((start, len as usize, holds));
    }
}

/// Reads inodes until the table ends or breaks, and collects the data blocks of files.
fn file_blocks(superblock: &Superblock, inodes: &[u8], blocks: &mut Vec<Block>) {
    let mut at = 0;
    for _ in 0..superblock.inodes {
        let Some(len) = inode(superblock, inodes.get(at..).unwrap_or_default(), blocks) else { return };
        at += len;
    }
}

/// Length of the inode at the beginning of `bytes`. Numbers are the types of the format: directory, file, symbolic link,
/// devices, pipes; from 8 on their extended forms.
fn inode(superblock: &Superblock, bytes: &[u8], blocks: &mut Vec<Block>) -> Option<usize> {
    let (start, size, fragment, list) = match u16_at(bytes, 0)? {
        1 => return Some(32),
        3 => return Some(24 + u32_at(bytes, 20)? as usize),
        4 | 5 | 13 | 14 => return Some(24),
        6 | 7 => return Some(20),
        8 => {
            let mut len = 40;
            for _ in 0..u16_at(bytes, 32)? {
                len += 13 + u32_at(bytes, len + 8)? as usize;
            }
            return Some(len);
        }
        10 => return Some(28 + u32_at(bytes, 20)? as usize),
        11 | 12 => return Some(28),
        2 => (u64::from(u32_at(bytes, 16)?), u64::from(u32_at(bytes, 28)?), u32_at(bytes, 20)?, 32),
        9 => (u64_at(bytes, 16)?, u64_at(bytes, 24)?, u32_at(bytes, 44)?, 56),
        _ => return None,
    };
    let block = u64::from(superblock.block_size);
    let count = if fragment == u32::MAX { size.div_ceil(block) } else { size / block };
    let count = usize::try_from(count).ok()?;
    let sizes = bytes.get(list..)?.get(..count.checked_mul(4)?)?;
    let holds = Holds::File(start);
    let mut start = start;
    for size in sizes.chunks_exact(4) {
        let size = u32_at(size, 0)?;
        data_block(start, size, holds, blocks);
        start = start.checked_add(u64::from(size & (STORED - 1)))?;
    }
    Some(list + count * 4)
}
