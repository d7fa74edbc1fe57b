//! The output so far, as far back as memory allows, and where its strings occurred before.

use super::ensemble::hash;

/// A ring of output bytes with the last place of each hashed string.
pub(crate) struct History<'m> {
    ring: &'m mut [u8],
    mask: usize,
    heads: &'m mut [u32],
    /// Bytes put in.
    len: u32,
    /// The last eight bytes, the very last in the low byte.
    pub recent: u64,
}

/// Longest match length that is told apart.
const MAX_COMPARED: u32 = 32;

impl<'m> History<'m> {
    /// Starts empty; the largest powers of two of both are used.
    pub(crate) fn new(ring: &'m mut [u8], heads: &'m mut [u32]) -> Self {
        heads.fill(0);
        // A guess may be held against bytes that are not there yet: they are the same for an encoder with new tables and for
        // a decoder that uses its own again.
        ring.fill(0);
        let mask = if ring.is_empty() { 0 } else { (1usize << ring.len().ilog2()) - 1 };
        Self { ring, mask, heads, len: 0, recent: 0 }
    }

    /// The byte at `place`, which may be overwritten since.
    #[inline]
    pub(crate) fn byte(&self, place: u32) -> u8 {
        self.ring.get(place as usize & self.mask).copied().unwrap_or(0)
    }

    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Puts one byte in.
    #[inline]
    pub(crate) fn push(&mut self, byte: u8) {
        if let Some(place) = self.ring.get_mut(self.len as usize & self.mask) {
            *place = byte;
        }
        self.len = self.len.wrapping_add(1);
        self.recent = self.recent << 8 | u64::from(byte);
    }

    /// The head of the last `4` or `8` bytes, in one half of the heads each.
    #[inline]
    fn head(&mut self, long: bool) -> Option<&mut u32> {
        let half = self.heads.len() / 2;
        if half == 0 {
            return None;
        }
        let mask = (1u32 << half.ilog2().min(31)) - 1;
        let value = hash(self.recent as u32, if long { (self.recent >> 32) as u32 } else { 0x55 });
        let at = (value & mask) as usize + if long { half } else { 0 };
        self.heads.get_mut(at)
    }

    /// Remembers the place where the last bytes end.
    #[inline]
    pub(crate) fn remember(&mut self) {
        let len = self.len;
        for long in [false, true] {
            if let Some(head) = self.head(long) {
                *head = len;
            }
        }
    }

    /// The place behind an earlier occurrence of the last bytes, and how many bytes before it agree.
    #[inline]
    pub(crate) fn find(&mut self, long: bool) -> Option<(u32, u32)> {
        let len = self.len;
        let place = self.head(long).map_or(0, |head| *head);
        if place == 0 || place >= len || len - place > self.mask as u32 {
            return None;
        }
        let reach = (self.mask as u32 + 1 - (len - place)).min(place).min(MAX_COMPARED);
        let same = (1..=reach).take_while(|&back| self.byte(place - back) == self.byte(len - back)).count() as u32;
        (same >= if long { 6 } else { 3 }).then_some((place, same))
    }
}
