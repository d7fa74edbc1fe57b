//! Where places of the old view went: known from the commands of all segments before the first is decoded.

#[cfg(feature = "alloc")]
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
#[cfg(feature = "alloc")]
const PAGE_SHIFT: u32 = 10;

/// Most entries of the page table; larger views have larger pages. Bounds its memory.
#[cfg(feature = "alloc")]
const MAX_PAGES: u64 = 1 << 16;

/// A span in the memory of a microcontroller, whose images are below 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct NarrowSpan {
    pub old: u32,
    pub len: u32,
    pub new: u32,
}

impl From<NarrowSpan> for Span {
    fn from(span: NarrowSpan) -> Self {
        Self { old: span.old.into(), len: span.len.into(), new: span.new.into() }
    }
}

/// Spans, made disjoint and sorted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MovedMap<'a> {
    spans: Spans<'a>,
    /// For each page, the number of spans that start before it. There may be none.
    pages: &'a [u32],
    shift: u32,
}

#[derive(Debug, Clone, Copy)]
enum Spans<'a> {
    #[cfg(feature = "alloc")]
    Wide(&'a [Span]),
    Narrow(&'a [NarrowSpan]),
}

impl Default for Spans<'_> {
    fn default() -> Self {
        Self::Narrow(&[])
    }
}

impl<'a> MovedMap<'a> {
    /// Spans that [`disjoint`] made.
    pub(crate) fn narrow(spans: &'a [NarrowSpan]) -> Self {
        Self { spans: Spans::Narrow(spans), pages: &[], shift: 0 }
    }

    /// How far the byte at `old` moved: by its span, in a gap by the nearest span, the one before when both are as near.
    pub(crate) fn shift(&self, old: i64) -> i64 {
        match self.spans {
            #[cfg(feature = "alloc")]
            Spans::Wide(spans) => self.shift_in(spans, old),
            Spans::Narrow(spans) => self.shift_in(spans, old),
        }
    }

    fn shift_in<S: Copy + Into<Span>>(&self, spans: &[S], old: i64) -> i64 {
        let place = u64::try_from(old).unwrap_or(0);
        let page = (place >> self.shift).min(self.pages.len().saturating_sub(1) as u64) as usize;
        let from = self.pages.get(page).map_or(0, |&n| n as usize);
        let to = self.pages.get(page + 1).map_or(spans.len(), |&n| n as usize);
        let few = spans.get(from..to).unwrap_or_default();
        let next = from + few.partition_point(|&span| span.into().old <= place);
        let before = next.checked_sub(1).and_then(|n| spans.get(n)).map(|&span| span.into());
        let after = spans.get(next).map(|&span| span.into());
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

/// The map of a patch, on the heap.
#[cfg(feature = "alloc")]
#[derive(Debug, Default)]
pub(crate) struct Moved {
    spans: Vec<Span>,
    pages: Vec<u32>,
    shift: u32,
}

#[cfg(feature = "alloc")]
impl Moved {
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

    /// What can be asked.
    pub(crate) fn map(&self) -> MovedMap<'_> {
        MovedMap { spans: Spans::Wide(&self.spans), pages: &self.pages, shift: self.shift }
    }

    /// Bytes that a map of so many copies takes at most.
    pub(crate) fn memory(copies: u64, old_len: u64) -> u64 {
        // Each copy opens and closes one span; the page table is bounded.
        let spans = (2 * copies + 1) * core::mem::size_of::<Span>() as u64;
        spans * 2 + (old_len >> PAGE_SHIFT).min(2 * MAX_PAGES) * 4
    }
}

/// Makes copies disjoint where they stand, as [`Moved::new`] does, for lack of other memory.
///
/// The last `count` of `spans` are copies in any order. The result begins at the front. `None` when there is no room: copies
/// that overlap become more spans than they were.
pub(crate) fn disjoint(spans: &mut [NarrowSpan], count: usize) -> Option<usize> {
    // Copies that hold the place come first, then those that are still to come. What is made must not reach the former.
    let mut open = spans.len().checked_sub(count)?;
    let mut waiting = open;
    let (mut made, mut at) = (0usize, 0u32);
    sort(spans.get_mut(open..)?);
    loop {
        let next = spans.get(waiting).map(|span| span.old);
        while let Some(best) = longest(spans, &mut open, waiting, at) {
            let end = best.old.saturating_add(best.len);
            let until = next.map_or(end, |next| end.min(next));
            if until > at {
                let span = NarrowSpan { old: at, len: until - at, new: best.new.wrapping_add(at - best.old) };
                let last = made.checked_sub(1).and_then(|last| spans.get_mut(last));
                match last {
                    Some(last) if last.old + last.len == span.old && last.new.wrapping_add(last.len) == span.new => {
                        last.len += span.len;
                    }
                    _ if made < open => {
                        *spans.get_mut(made)? = span;
                        made += 1;
                    }
                    _ => return None,
                }
                at = until;
            }
            if end > at {
                break;
            }
        }
        let Some(next) = next else { return Some(made) };
        at = at.max(next);
        while spans.get(waiting).is_some_and(|span| span.old <= at) {
            waiting += 1;
        }
    }
}

/// Sorts by insertion: there are few, nearly in order, and a recursive sort would take more stack than all the rest.
fn sort(spans: &mut [NarrowSpan]) {
    for end in 1..spans.len() {
        for at in (1..=end).rev() {
            let Some([before, here]) = spans.get_mut(at - 1..=at) else { break };
            if *before <= *here {
                break;
            }
            core::mem::swap(before, here);
        }
    }
}

/// The copy that stands at `at` among those from `open` to `waiting`. Those that end before it are dropped on the way.
fn longest(spans: &mut [NarrowSpan], open: &mut usize, waiting: usize, at: u32) -> Option<NarrowSpan> {
    let mut best: Option<NarrowSpan> = None;
    for n in *open..waiting {
        let span = *spans.get(n)?;
        if span.old.saturating_add(span.len) <= at {
            spans.swap(*open, n);
            *open += 1;
            continue;
        }
        let rank = |span: &NarrowSpan| (span.len, core::cmp::Reverse(span.new), *span);
        if best.as_ref().is_none_or(|best| rank(&span) > rank(best)) {
            best = Some(span);
        }
    }
    best
}

/// Appends `span`, joined with the last one when it goes on from it.
#[cfg(feature = "alloc")]
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
        assert_eq!(Moved::new(Vec::new()).map().shift(77), 0);
    }

    #[test]
    fn bytes_move_with_their_span_and_gaps_with_the_nearest() {
        let moved = Moved::new(vec![span(200, 100, 250), span(0, 100, 10)]);
        let map = moved.map();
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
        let moved = Moved::new(vec![span(0, 100, 1_000), span(50, 500, 2_050), span(60, 10, 7), span(540, 40, 540)]);
        let map = moved.map();
        assert_eq!(map.shift(49), 1_000);
        assert_eq!(map.shift(50), 2_000);
        assert_eq!(map.shift(65), 2_000);
        assert_eq!(map.shift(549), 2_000);
        assert_eq!(map.shift(550), 0);
        let moved = Moved::new(vec![span(0, 10, 500), span(0, 10, 100)]);
        let map = moved.map();
        assert_eq!(map.shift(3), 100, "equally long: the first in the new view");
    }

    proptest! {
        #[test]
        fn the_map_made_in_place_is_the_same(
            copies in proptest::collection::vec((0u32..3_000, 1u32..900, 0u32..9_000), 0..40),
            spare in 0usize..45,
        ) {
            let moved = Moved::new(copies.iter().map(|&(old, len, new)| span(old.into(), len.into(), new.into())).collect());
            let mut spans = vec![NarrowSpan { old: 7, len: 7, new: 7 }; spare];
            spans.extend(copies.iter().map(|&(old, len, new)| NarrowSpan { old, len, new }));
            let made = disjoint(&mut spans, copies.len());
            prop_assert!(made.is_some() || spare < copies.len(), "each copy opens and closes one span");
            if let Some(made) = made {
                let narrow = MovedMap::narrow(&spans[..made]);
                for old in -2..5_000 {
                    prop_assert_eq!(narrow.shift(old), moved.map().shift(old), "at {}", old);
                }
            }
        }

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
                let shift = Moved::new(copies.clone()).map().shift(at);
                let allowed = copies.iter().filter(|span| {
                    span.len == best.len && (span.old..span.old + span.len).contains(&place)
                });
                let shifts: Vec<i64> = allowed.map(|span| span.new as i64 - span.old as i64).collect();
                prop_assert!(shifts.contains(&shift));
            }
        }
    }
}
