//! Writes `.xz` streams of one block around LZMA2 data, and reads the headers of such streams.
//!
//! Layout and numbers are those of "The .xz File Format", version 1.2.1.

use flate2::Crc;
use liblzma::stream::Stream;
use sha2::{Digest, Sha256};

use super::{
    codec::{Branch, Dict},
    encode::{lzma_finish, lzma_push},
    error::{ContentError, malformed},
};

/// First bytes of a stream.
pub(crate) const MAGIC: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];

/// Last bytes of a stream.
pub(crate) const FOOTER_MAGIC: [u8; 2] = *b"YZ";

/// Number of the LZMA2 filter.
pub(crate) const LZMA2: u8 = 0x21;

/// Reversed polynomial of CRC-64 (ECMA-182).
const CRC64: u64 = 0xc96c_5795_d787_0f42;

#[expect(clippy::indexing_slicing, reason = "a wrong index would not compile")]
const CRC64_TABLE: [u64; 256] = {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let mut crc = n as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ CRC64 } else { crc >> 1 };
            bit += 1;
        }
        table[n] = crc;
        n += 1;
    }
    table
};

/// Check of the content.
enum Check {
    None,
    Crc32(Crc),
    Crc64(u64),
    Sha256(Box<Sha256>),
}

/// Writes one stream.
pub(crate) struct Writer {
    encoder: Stream,
    header: Headers,
    check: Check,
    /// LZMA2 data that wait for the block header.
    data: Vec<u8>,
    data_len: u64,
    content_len: u64,
    begun: bool,
}

/// What the headers of a stream say.
#[derive(Clone, Copy)]
pub(crate) struct Headers {
    pub(crate) dict: Dict,
    pub(crate) branch: Branch,
    pub(crate) check: u8,
    pub(crate) sizes: bool,
    /// Length of the block header in words of four bytes, less one.
    pub(crate) words: u8,
}

impl Writer {
    pub(crate) fn new(encoder: Stream, header: Headers) -> Result<Self, ContentError> {
        let check = match header.check {
            0 => Check::None,
            1 => Check::Crc32(Crc::new()),
            4 => Check::Crc64(!0),
            10 => Check::Sha256(Box::default()),
            _ => return Err(malformed("recipe", "unknown check")),
        };
        Ok(Self { encoder, header, check, data: Vec::new(), data_len: 0, content_len: 0, begun: false })
    }

    pub(crate) fn push(&mut self, content: &[u8], out: &mut Vec<u8>) -> Result<(), ContentError> {
        self.content_len += content.len() as u64;
        match &mut self.check {
            Check::None => {}
            Check::Crc32(crc) => crc.update(content),
            Check::Crc64(crc) => *crc = crc64(*crc, content),
            Check::Sha256(hash) => hash.update(content),
        }
        if self.header.sizes {
            return lzma_push(&mut self.encoder, content, &mut self.data);
        }
        self.begin(out)?;
        let before = out.len();
        lzma_push(&mut self.encoder, content, out)?;
        self.data_len += (out.len() - before) as u64;
        Ok(())
    }

    pub(crate) fn finish(mut self, out: &mut Vec<u8>) -> Result<(), ContentError> {
        let header_len;
        if self.header.sizes {
            lzma_finish(&mut self.encoder, &mut self.data)?;
            self.data_len = self.data.len() as u64;
            out.extend(self.header.stream());
            let block = self.header.block(Some((self.data_len, self.content_len)))?;
            header_len = block.len();
            out.extend(block);
            out.extend_from_slice(&self.data);
        } else {
            self.begin(out)?;
            header_len = self.header.block(None)?.len();
            let before = out.len();
            lzma_finish(&mut self.encoder, out)?;
            self.data_len += (out.len() - before) as u64;
        }
        pad(out, self.data_len);
        let before = out.len();
        match self.check {
            Check::None => {}
            Check::Crc32(crc) => out.extend(crc.sum().to_le_bytes()),
            Check::Crc64(crc) => out.extend((!crc).to_le_bytes()),
            Check::Sha256(hash) => out.extend(hash.finalize()),
        }
        let check_len = (out.len() - before) as u64;
        let mut index = vec![0, 1];
        integer(&mut index, header_len as u64 + self.data_len + check_len);
        integer(&mut index, self.content_len);
        let index_len = index.len() as u64;
        pad(&mut index, index_len);
        let crc = crc32(&index);
        index.extend(crc.to_le_bytes());
        let backward = u32::try_from(index.len() / 4 - 1).map_err(|_| malformed("xz index", "too long"))?;
        out.extend_from_slice(&index);
        let mut footer = backward.to_le_bytes().to_vec();
        footer.extend([0, self.header.check]);
        out.extend(crc32(&footer).to_le_bytes());
        out.extend(footer);
        out.extend(FOOTER_MAGIC);
        Ok(())
    }

    fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), ContentError> {
        if !self.begun {
            out.extend(self.header.stream());
            out.extend(self.header.block(None)?);
            self.begun = true;
        }
        Ok(())
    }
}

impl Headers {
    fn stream(self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let flags = [0, self.check];
        bytes.extend(flags);
        bytes.extend(crc32(&flags).to_le_bytes());
        bytes
    }

    fn block(self, sizes: Option<(u64, u64)>) -> Result<Vec<u8>, ContentError> {
        let filters = u8::from(self.branch != Branch::None);
        let mut bytes = vec![self.words, filters | if sizes.is_some() { 0xc0 } else { 0 }];
        if let Some((data_len, content_len)) = sizes {
            integer(&mut bytes, data_len);
            integer(&mut bytes, content_len);
        }
        if self.branch != Branch::None {
            bytes.extend([self.branch.id(), 0]);
        }
        bytes.extend([LZMA2, 1, self.dict.code()]);
        let len = usize::from(self.words) * 4;
        if bytes.len() > len {
            return Err(malformed("recipe", "the block header is too short"));
        }
        bytes.resize(len, 0);
        let crc = crc32(&bytes);
        bytes.extend(crc.to_le_bytes());
        Ok(bytes)
    }
}

/// Appends zeros until `len`, which counts what was written, is a multiple of four.
fn pad(out: &mut Vec<u8>, len: u64) {
    out.extend([0u8; 3].iter().take((len.wrapping_neg() % 4) as usize));
}

/// Appends an integer in the format's coding: seven bits a byte, lowest first.
fn integer(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn crc64(crc: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(crc, |crc, &byte| {
        let entry = CRC64_TABLE.get(usize::from(crc as u8 ^ byte)).copied().unwrap_or_default();
        crc >> 8 ^ entry
    })
}
