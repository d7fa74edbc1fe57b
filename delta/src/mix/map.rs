//! Where places of the old view went: known from the commands of all segments before the first is decoded.

use alloc::{collections::BinaryHeap, vec::Vec};

/// Bytes of the old view that moved together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    /// First byte in the old view.
    pub old: u64,
    /// Bytes.
    pub len: u64,
    /// First byte in the new view.
    pub new: u64,
}

/// Old bytes for which one entry of the page table stands, as a power of two.
const PAGE_SHIFT: u32 = 10;

/// Most entries of the page table; larger views have larger pages. Bounds its memory.
const MAX_PAGES: u64 = 1 << 16;

/// The spans of a patch, made disjoint and sorted.
#[derive(Debug, Default)]
pub(crate) struct MovedMap {
    spans: Vec<Span>,
    /// For each page, the number of spans that start before it.
    pages: Vec<u32>,
    shift: u32,
}

impl MovedMap {
    /// Builds the map. Where copies overlap in the old view, the longest stands; of equally long ones, the first in the
    /// new view.
    pub(crate) fn new(mut copies: Vec<Span>) -> Self {
        copies.retain(|span| span.len > 0);
        copies.sort_unstable();
        let mut spans: Vec<Span> = Vec::with_capacity(copies.len());
        let mut open: BinaryHeap<(u64, core::cmp::Reverse<u64>, Span)> = BinaryHeap::new();
        let mut at = 0;
        let mut waiting = copies.iter().copied().peekable();
        loop {
            let next = waiting.peek().map(|span| span.old);
            // The longest open span holds up to its end or to where another opens.
            while let Some(&(_, _, best)) = open.peek() {
                let end = best.old + best.len;
                let until = next.map_or(end, |next| end.min(next));
                if until > at {
                    push(&mut spans, Span { old: at, len: until - at, new: best.new + (at - best.old) });
                    at = until;
                }
                if end > at {
                    break;
                }
                open.pop();
            }
            let Some(next) = next else { break };
            at = at.max(next);
            while let Some(span) = waiting.next_if(|span| span.old <= at) {
                open.push((span.len, core::cmp::Reverse(span.new), span));
            }
        }
        let len = spans.last().map_or(0, |span| span.old + span.len);
        let mut shift = PAGE_SHIFT;
        while len >> shift >= MAX_PAGES {
            shift += 1;
        }
        let mut pages = Vec::new();
        for page in 0..=len >> shift {
            pages.push(spans.partition_point(|span| span.old < page << shift) as u32);
        }
        Self { spans, pages, shift }
    }

    /// Bytes that a map of so many copies takes at most.
    pub(crate) fn memory(copies: u64, old_len: u64) -> u64 {
        // Each copy opens and closes one span; the page table is bounded.
        let spans = (2 * copies + 1) * core::mem::size_of::<Span>() as u64;
        spans * 2 + (old_len >> PAGE_SHIFT).min(2 * MAX_PAGES) * 4
    }

    /// How far the byte at `old` moved: by its span, in a gap by the nearest span, the one before when both are as near.
    pub(crate) fn shift(&self, old: i64) -> i64 {
        let place = u64::try_from(old).unwrap_or(0);
        let page = (place >> self.shift).min(self.pages.len().saturating_sub(1) as u64) as usize;
        let from = self.pages.get(page).map_or(0, |&n| n as usize);
        let to = self.pages.get(page + 1).map_or(self.spans.len(), |&n| n as usize);
        let few = self.spans.get(from..to).unwrap_or_default();
        let next = from + few.partition_point(|span| span.old <= place);
        let before = next.checked_sub(1).and_then(|n| self.spans.get(n));
        let after = self.spans.get(next);
        let span = match (before, after) {
            (Some(before), Some(after)) => {
                let gap = place.saturating_sub((before.old + before.len).saturating_sub(1));
                if gap <= after.old - place { before } else { after }
            }
            (Some(span), None) | (None, Some(span)) => span,
            (None, None) => return 0,
        };
        span.new.cast_signed().wrapping_sub(span.old.cast_signed())
    }
}

/// Appends `span`, joined with the last one when it goes on from it.
fn push(spans: &mut Vec<Span>, span: Span) {
    match spans.last_mut() {
        Some(last) if last.old + last.len == span.old && last.new + last.len == span.new => last.len += span.len,
        _ => spans.push(span),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(old: u64, len: u64, new: u64) -> Span {
        Span { old, len, new }
    }

    #[test]
    fn an_empty_map_moves_nothing() {
        assert_eq!(MovedMap::new(Vec::new()).shift(77), 0);
    }

    #[test]
    fn bytes_move_with_their_span_and_gaps_with_the_nearest() {
        let map = MovedMap::new(vec![span(200, 100, 250), span(0, 100, 10)]);
        assert_eq!(map.shift(0), 10);
        assert_eq!(map.shift(99), 10);
        assert_eq!(map.shift(149), 10, "as near to both: the one before");
        assert_eq!(map.shift(151), 50);
        assert_eq!(map.shift(250), 50);
        assert_eq!(map.shift(1 << 40), 50);
        assert_eq!(map.shift(-5), 10);
    }

    #[test]
    fn the_longest_of_overlapping_copies_stands() {
        let map = MovedMap::new(vec![span(0, 100, 1_000), span(50, 500, 2_050), span(60, 10, 7), span(540, 40, 540)]);
        assert_eq!(map.shift(49), 1_000);
        assert_eq!(map.shift(50), 2_000);
        assert_eq!(map.shift(65), 2_000);
        assert_eq!(map.shift(549), 2_000);
        assert_eq!(map.shift(550), 0);
        let map = MovedMap::new(vec![span(0, 10, 500), span(0, 10, 100)]);
        assert_eq!(map.shift(3), 100, "equally long: the first in the new view");
    }

    proptest! {
        #[test]
        fn every_place_is_answered_as_by_a_plain_search(
            copies in proptest::collection::vec((0u64..5_000, 1u64..900, 0u64..9_000), 1..40),
            at in 0i64..7_000,
        ) {
            let copies: Vec<Span> = copies.iter().map(|&(old, len, new)| span(old, len, new)).collect();
            let place = at as u64;
            let holding = copies.iter().filter(|span| (span.old..span.old + span.len).contains(&place));
            let best = holding.max_by_key(|span| (span.len, core::cmp::Reverse(span.new)));
            if let Some(best) = best {
                let shift = MovedMap::new(copies.clone()).shift(at);
                let allowed = copies.iter().filter(|span| {
                    span.len == best.len && (span.old..span.old + span.len).contains(&place)
                });
                let shifts: Vec<i64> = allowed.map(|span| span.new as i64 - span.old as i64).collect();
                prop_assert!(shifts.contains(&shift));
            }
        }
    }
}
