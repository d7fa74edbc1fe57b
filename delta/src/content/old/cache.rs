//! Pieces of content that were read last, within a number of bytes.

use alloc::{collections::BTreeMap, vec::Vec};

/// Which piece: number of the stream, and number of the span.
pub(super) type Key = (u32, u32);

/// The pieces read last.
#[derive(Default)]
pub(super) struct Cache {
    pieces: BTreeMap<Key, Piece>,
    held: u64,
    limit: u64,
    /// Counts reads: the piece with the lowest count was not read for longest.
    clock: u64,
}

struct Piece {
    bytes: Vec<u8>,
    read: u64,
}

impl Cache {
    pub(super) fn new(limit: u64) -> Self {
        Self { pieces: BTreeMap::new(), held: 0, limit, clock: 0 }
    }

    pub(super) fn get(&mut self, key: Key) -> Option<&[u8]> {
        self.clock += 1;
        let piece = self.pieces.get_mut(&key)?;
        piece.read = self.clock;
        Some(&piece.bytes)
    }

    /// Keeps a piece; others make room for it.
    pub(super) fn insert(&mut self, key: Key, bytes: Vec<u8>) {
        let len = bytes.len() as u64;
        while self.held + len > self.limit {
            let oldest = self.pieces.iter().min_by_key(|piece| piece.1.read).map(|piece| *piece.0);
            let Some(dropped) = oldest.and_then(|oldest| self.pieces.remove(&oldest)) else { break };
            self.held -= dropped.bytes.len() as u64;
        }
        self.clock += 1;
        self.held += len;
        let replaced = self.pieces.insert(key, Piece { bytes, read: self.clock });
        self.held -= replaced.map_or(0, |piece| piece.bytes.len() as u64);
    }
}
