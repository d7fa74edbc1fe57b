//! Chooses symbols: the cheapest path through a window of the stream, by the prices of the model as it stands.
//!
//! From inside runs of zeros not every end of a match is tried: that is where most of the time would go.

use super::{
    finder::{Finder, Found},
    model::{MAX_LEN, MIN_LEN, Model, State, Symbol},
};
use crate::generate::index::common;

/// Longest window.
const WINDOW: usize = 4096;

/// Ends that are tried from inside a run of zeros, besides those worth it in any case: every fourth. Fewer ends leave fewer
/// ways with other distances in reach, all cost twice the time.
const SPARSE: u64 = 0x1111_1111_1111_1111;

/// No way leads here yet.
const UNREACHED: u32 = u32::MAX;

/// How a place of the window is reached: a symbol, and perhaps a literal and a repeat of the last distance behind it.
#[derive(Clone, Copy)]
struct Node {
    from: u32,
    symbol: Symbol,
    /// Length of the repeat behind it; 0 for none.
    then: u16,
    /// Whether a literal stands between the two.
    literal: bool,
    state: State,
    distances: [u32; 4],
}

const NOWHERE: Node =
    Node { from: 0, symbol: Symbol::Literal, then: 0, literal: false, state: State::START, distances: [0; 4] };

impl Symbol {
    pub(super) fn len(self) -> usize {
        match self {
            Self::Literal | Self::Short => 1,
            Self::Repeat { len, .. } | Self::Match { len, .. } => len,
        }
    }

    fn state(self, state: State) -> State {
        match self {
            Self::Literal => state.literal(),
            Self::Short => state.short(),
            Self::Repeat { .. } => state.repeated(),
            Self::Match { .. } => state.matched(),
        }
    }
}

pub(super) struct Parser<'a> {
    raw: &'a [u8],
    finder: Finder<'a>,
    /// Where the window begins in the stream, and how long it is.
    start: usize,
    limit: usize,
    /// What each place of the window costs, and how it is reached.
    prices: Vec<u32>,
    nodes: Vec<Node>,
    /// Last node that is reached.
    furthest: usize,
    found: Vec<Found>,
    repeats: [Repeat; REPEATS],
}

/// Places remembered by [`Parser::repeat_len`], a power of two.
const REPEATS: usize = 64;

/// From `from` to `end` the stream equals itself at a distance.
#[derive(Clone, Copy, Default)]
struct Repeat {
    distance: u32,
    from: usize,
    end: usize,
    /// Whether the byte at `end` is known to differ.
    ended: bool,
}

impl<'a> Parser<'a> {
    pub(super) fn new(raw: &'a [u8]) -> Self {
        Self {
            raw,
            finder: Finder::new(raw),
            start: 0,
            limit: 0,
            prices: vec![UNREACHED; WINDOW + 1],
            nodes: vec![NOWHERE; WINDOW + 1],
            furthest: 0,
            found: Vec::new(),
            repeats: [Repeat::default(); REPEATS],
        }
    }

    /// How many bytes of `limit` from `at` on equal those at a distance.
    #[inline]
    fn repeat_len(&mut self, at: usize, distance: u32, limit: usize) -> usize {
        let place = &mut self.repeats[distance.wrapping_mul(0x9e37_79b1) as usize >> (32 - REPEATS.ilog2())];
        let known = place.distance == distance && place.from <= at && at <= place.end;
        if !known {
            *place = Repeat { distance, from: at, end: at, ended: false };
        }
        let wanted = at + limit;
        if !place.ended && place.end < wanted {
            let from = place.end;
            let same = common(&self.raw[from - distance as usize - 1..], &self.raw[from..wanted]);
            place.end += same;
            place.ended = place.end < wanted;
        }
        place.end.min(wanted) - at
    }

    /// The cheapest symbols from `start` on, as many as are certain, into `symbols`. Returns where they end.
    pub(super) fn next(
        &mut self,
        model: &Model,
        start: usize,
        state: State,
        distances: [u32; 4],
        symbols: &mut Vec<Symbol>,
    ) -> usize {
        (self.start, self.limit) = (start, WINDOW.min(self.raw.len() - start));
        self.prices[0] = 0;
        self.nodes[0] = Node { state, distances, ..NOWHERE };
        self.furthest = 0;
        let (mut at, mut skip) = (0, 0);
        loop {
            if at > 0 {
                self.arrive(at);
            }
            if at >= skip && self.prices[at] != UNREACHED {
                skip = self.expand(model, at);
            }
            at += 1;
            while at < self.furthest && (at < skip || self.prices[at] == UNREACHED) {
                if self.prices[at] != UNREACHED {
                    self.arrive(at);
                }
                at += 1;
            }
            if at == self.furthest {
                break;
            }
        }
        self.arrive(at);
        self.read_back(at, symbols);
        start + at
    }

    /// Works out state and distances of a node that no other way will reach any more.
    fn arrive(&mut self, at: usize) {
        let node = self.nodes[at];
        let from = &self.nodes[node.from as usize];
        let mut distances = from.distances;
        let mut state = node.symbol.state(from.state);
        node.symbol.turn(&mut distances);
        if node.literal {
            state = state.literal();
        }
        if node.then > 0 {
            state = state.repeated();
        }
        let node = &mut self.nodes[at];
        (node.state, node.distances) = (state, distances);
    }

    #[inline]
    fn reach(&mut self, at: usize, price: u32, node: Node) {
        while self.furthest < at {
            self.furthest += 1;
            self.prices[self.furthest] = UNREACHED;
        }
        if price < self.prices[at] {
            self.prices[at] = price;
            self.nodes[at] = node;
        }
    }

    /// Tries every symbol from node `from`. Returns up to where nothing else need be tried: a match of full length is taken.
    fn expand(&mut self, model: &Model, from: usize) -> usize {
        let raw = self.raw;
        let price = self.prices[from];
        let Node { state, distances, .. } = self.nodes[from];
        let at = self.start + from;
        self.finder.advance(at);
        let left = self.limit - from;
        let rest = &raw[at..at + left.min(MAX_LEN)];
        let pos_state = model.pos_state(at);
        let base = Node { from: from as u32, ..NOWHERE };
        let valid = |distance: u32| (distance as usize) < at;
        let matched = if valid(distances[0]) { Some(raw[at - distances[0] as usize - 1]) } else { None };
        let before = if at > 0 { raw[at - 1] } else { 0 };

        let literal = price
            + model.match_price(state, pos_state, false)
            + model.literal_price(at, before, state, rest[0], matched.unwrap_or(0));
        self.reach(from + 1, literal, Node { symbol: Symbol::Literal, ..base });
        let match_price = price + model.match_price(state, pos_state, true);
        let repeat_price = match_price + model.repeat_price(state, true);
        if matched == Some(rest[0]) {
            let price = repeat_price + model.short_price(state, pos_state);
            self.reach(from + 1, price, Node { symbol: Symbol::Short, ..base });
        } else if matched.is_some() {
            // A literal, then on at the last distance.
            let node = Node { symbol: Symbol::Literal, ..base };
            self.repeat_behind(model, from + 1, distances[0], state.literal(), literal, node);
        }
        if left < MIN_LEN {
            return 0;
        }

        // A repeat that costs less leaves nothing to a dearer one of the same length, nor to a match.
        let (mut covered, mut cheapest) = (MIN_LEN - 1, u32::MAX);
        for (which, &distance) in distances.iter().enumerate().filter(|(_, distance)| valid(**distance)) {
            let len = self.repeat_len(at, distance, rest.len());
            if len < MIN_LEN {
                continue;
            }
            let price = repeat_price + model.which_price(state, pos_state, which);
            let prices = model.repeat_len_prices(pos_state);
            let full = len == MAX_LEN;
            let from_len = if price < cheapest { MIN_LEN } else { covered + 1 };
            (covered, cheapest) = (covered.max(len), cheapest.min(price));
            self.each_end(at, if full { len } else { from_len }, len, |this, len| {
                let price = price + prices[len - MIN_LEN];
                this.reach(from + len, price, Node { symbol: Symbol::Repeat { which, len }, ..base });
            });
            if full {
                return from + len;
            }
            let price = price + prices[len - MIN_LEN];
            let node = Node { symbol: Symbol::Repeat { which, len }, ..base };
            self.literal_behind(model, from + len, distance, state.repeated(), price, node);
        }

        let mut found = std::mem::take(&mut self.found);
        self.finder.matches(at, &mut found);
        let price = match_price + model.repeat_price(state, false);
        let prices = model.len_prices(pos_state);
        let mut shortest = covered + 1;
        let mut skip = 0;
        for one in &found {
            let (len, distance) = (one.len.min(left), one.distance);
            if len < shortest {
                continue;
            }
            let full = len == MAX_LEN;
            self.each_end(at, if full { len } else { shortest }, len, |this, len| {
                let price = price + prices[len - MIN_LEN] + model.distance_price(distance, len);
                this.reach(from + len, price, Node { symbol: Symbol::Match { distance, len }, ..base });
            });
            shortest = len + 1;
            if full {
                skip = from + len;
                break;
            }
            let price = price + prices[len - MIN_LEN] + model.distance_price(distance, len);
            let node = Node { symbol: Symbol::Match { distance, len }, ..base };
            self.literal_behind(model, from + len, distance, state.matched(), price, node);
        }
        self.found = found;
        skip
    }

    /// Calls `then` for each length from `min` to `max` at which a match from `at` is worth ending, and for `max`. From places
    /// around bytes that are not zero all ends are.
    #[inline]
    fn each_end(&mut self, at: usize, min: usize, max: usize, mut then: impl FnMut(&mut Self, usize)) {
        let mut stop = at + min;
        let end = at + max;
        let is_stop = self.finder.stops[at / 64] >> (at % 64) & 1 != 0;
        let also = if is_stop { u64::MAX } else { SPARSE };
        while stop < end {
            let bits = (self.finder.stops[stop / 64] | also) >> (stop % 64);
            if bits == 0 {
                stop = (stop / 64 + 1) * 64;
                continue;
            }
            stop += bits.trailing_zeros() as usize;
            if stop >= end {
                break;
            }
            then(self, stop - at);
            stop += 1;
        }
        if min <= max {
            then(self, max);
        }
    }

    /// After a copy that ends at `end`: a literal, then on at the same distance.
    #[inline]
    fn literal_behind(&mut self, model: &Model, end: usize, distance: u32, state: State, price: u32, node: Node) {
        if end + 1 + MIN_LEN > self.limit {
            return;
        }
        let raw = self.raw;
        let at = self.start + end;
        let source = at - distance as usize - 1;
        if raw[at + 1] != raw[source + 1] || raw[at + 2] != raw[source + 2] {
            return;
        }
        let price = price
            + model.match_price(state, model.pos_state(at), false)
            + model.literal_price(at, raw[at - 1], state, raw[at], raw[source]);
        self.repeat_behind(model, end + 1, distance, state.literal(), price, Node { literal: true, ..node });
    }

    /// After a literal that ends at `end`: a repeat of `distance`, as long as it goes.
    #[inline]
    fn repeat_behind(&mut self, model: &Model, end: usize, distance: u32, state: State, price: u32, node: Node) {
        let at = self.start + end;
        let left = (self.limit - end).min(MAX_LEN);
        let len = self.repeat_len(at, distance, left);
        if len < MIN_LEN {
            return;
        }
        let pos_state = model.pos_state(at);
        let price = price
            + model.match_price(state, pos_state, true)
            + model.repeat_price(state, true)
            + model.which_price(state, pos_state, 0)
            + model.repeat_len_prices(pos_state)[len - MIN_LEN];
        self.reach(end + len, price, Node { then: len as u16, ..node });
    }

    /// The symbols of the way to node `at`.
    fn read_back(&self, mut at: usize, symbols: &mut Vec<Symbol>) {
        symbols.clear();
        while at > 0 {
            let node = &self.nodes[at];
            if node.then > 0 {
                symbols.push(Symbol::Repeat { which: 0, len: usize::from(node.then) });
            }
            if node.literal {
                symbols.push(Symbol::Literal);
            }
            symbols.push(node.symbol);
            debug_assert_eq!(
                node.symbol.len() + usize::from(node.literal) + usize::from(node.then),
                at - node.from as usize
            );
            at = node.from as usize;
        }
        symbols.reverse();
    }
}
