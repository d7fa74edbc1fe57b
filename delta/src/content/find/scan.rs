//! Finds the places of streams: formats that point at them first, then magic numbers at any offset.
//!
//! A magic number proves nothing. A place counts when the stream decodes to its end and every checksum that stands
//! around it holds. What is decoded in vain is counted, and ends the search when it is too much.

use super::{
    super::codec::Codec,
    Found, formats,
    search::Family,
    squashfs,
    unpack::{Outcome, unpack},
    worth, xz,
};
use crate::content::recipe::Recipe;

/// A place where a stream is.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) start: usize,
    pub(super) len: usize,
    pub(super) codec: Codec,
    pub(super) family: Family,
    /// Of a block of a file system, where the first block of its file begins.
    pub(super) file: Option<u64>,
    /// Longest content that its format allows.
    pub(super) longest: u64,
    /// Its content, when it was decoded to find its end; empty when not.
    pub(super) content: Vec<u8>,
}

impl Candidate {
    pub(super) fn coded<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        bytes.get(self.start..)?.get(..self.len)
    }

    /// With its content; `None` when it does not decode, or bytes follow its end.
    pub(super) fn unpacked(mut self, bytes: &[u8]) -> Option<Self> {
        if self.content.is_empty() {
            match unpack(self.codec, self.coded(bytes)?, self.longest) {
                Outcome::Whole { consumed, content } if consumed == self.len => self.content = content,
                _ => return None,
            }
        }
        worth(self.len, self.content.len()).then_some(self)
    }

    pub(super) fn found(self, recipe: Option<Recipe>) -> Found {
        Found {
            start: self.start as u64,
            len: self.len as u64,
            codec: self.codec,
            recipe,
            block: self.family == Family::Blocks,
            content: self.content,
            inner: Vec::new(),
        }
    }
}

/// What the search for places may still spend.
pub(super) struct Budget {
    /// Bytes decoded in vain.
    waste: u64,
    /// Longest content of one stream.
    longest: u64,
    /// Content of all streams together.
    content: u64,
    streams: usize,
}

impl Budget {
    /// Decodes a stream that begins at the beginning of `coded`.
    pub(super) fn unpack(&mut self, codec: Codec, coded: &[u8]) -> Option<(usize, Vec<u8>)> {
        if self.waste == 0 {
            return None;
        }
        match unpack(codec, coded, self.longest.min(self.content)) {
            Outcome::Whole { consumed, content } => Some((consumed, content)),
            Outcome::Waste(len) => {
                self.waste(len);
                None
            }
        }
    }

    /// Counts what turned out to be of no use. Even a header costs something.
    pub(super) fn waste(&mut self, len: u64) {
        self.waste = self.waste.saturating_sub(len.saturating_add(64));
    }
}

/// Finds the streams of `bytes`, in order and without overlaps.
pub(super) fn scan(bytes: &[u8], waste: u64, longest: u64, content: u64, streams: usize) -> Vec<Candidate> {
    let mut budget = Budget { waste, longest, content, streams };
    let mut found: Vec<Candidate> = Vec::new();
    let mut claimed: Vec<Candidate> = Vec::new();
    let mut at = 0;
    while at < bytes.len() && budget.streams > 0 {
        // Streams that a file system claimed are passed over, what lies between them is not.
        if let Some(next) = claimed.last()
            && at >= next.start
        {
            let next_at = next.start + next.len;
            if let Some(claim) = claimed.pop().filter(|_| next_at > at) {
                at = next_at;
                budget.streams -= 1;
                found.push(claim);
            }
            continue;
        }
        let Some(skip) = bytes.get(at..).and_then(|rest| rest.iter().position(|&byte| is_first(byte))) else { break };
        if skip > 0 {
            at += skip;
            continue;
        }
        let limit = claimed.last().map_or(bytes.len(), |claim| claim.start);
        let Some(rest) = bytes.get(at..limit) else { break };
        if claimed.is_empty()
            && let Some(claims) = squashfs::streams(bytes, at, &mut budget)
        {
            claimed = claims;
            claimed.reverse();
            at += 1;
            continue;
        }
        let streams = streams_at(rest, &mut budget);
        let mut next = at + 1;
        for mut stream in streams {
            stream.start += at;
            next = next.max(stream.start + stream.len);
            budget.content = budget.content.saturating_sub(stream.content.len() as u64);
            budget.streams = budget.streams.saturating_sub(1);
            found.push(stream);
        }
        at = next;
    }
    found.extend(claimed.into_iter().rev().take(budget.streams));
    found
}

/// First bytes of everything that [`streams_at`] and file systems begin with.
fn is_first(byte: u8) -> bool {
    matches!(byte, 0x1f | 0x28 | b'P' | 0x5d | b'h' | 0x78 | 0xfd)
}

/// Streams of the format that begins with the first byte of `bytes`; none when it is no such format. Offsets count from
/// that byte.
fn streams_at(bytes: &[u8], budget: &mut Budget) -> Vec<Candidate> {
    let one = match bytes {
        [0x1f, 0x8b, ..] => formats::gzip(bytes, budget),
        [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] => formats::zlib(bytes, budget),
        [b'P', b'K', 3, 4, ..] => formats::zip_entry(bytes, budget),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => formats::zstd(bytes, budget),
        [0x5d, 0, 0, ..] => formats::lzma(bytes, budget),
        [0xfd, b'7', ..] => return xz::streams(bytes, budget),
        _ => None,
    };
    one.into_iter().collect()
}
