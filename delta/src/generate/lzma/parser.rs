//! Chooses symbols: the cheapest path through a window of the stream, by the prices of the model as it stands.
//!
//! From inside runs of zeros not every symbol is tried, nor every end of a match: that is where most of the time would go.

use super::{
    Effort,
    finder::{Finder, Found},
    model::{LenPrices, MAX_LEN, MIN_LEN, Model, State, Symbol},
};
use crate::generate::index::common;

/// Longest window.
const WINDOW: usize = 4096;

/// No way leads here yet.
const UNREACHED: u32 = u32::MAX;

/// How a place of the window is reached: a symbol, and perhaps a literal and a repeat of the last distance behind it.
#[derive(Clone, Copy)]
struct Way {
    symbol: Symbol,
    from: u16,
    /// Length of the repeat behind it; 0 for none.
    then: u16,
    /// Whether a literal stands between the two.
    literal: bool,
}

/// What a way leads to.
#[derive(Clone, Copy)]
struct Node {
    state: State,
    distances: [u32; 4],
}

impl Symbol {
    pub(super) fn len(self) -> usize {
        match self {
            Self::Literal | Self::Short => 1,
            Self::Repeat { len, .. } | Self::Match { len, .. } => usize::from(len),
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
    effort: Effort,
    /// Where the window begins in the stream, and how long it is.
    start: usize,
    limit: usize,
    /// What each place of the window costs, how it is reached, and the state then. None is reached beyond `furthest`.
    prices: Vec<u32>,
    ways: Vec<Way>,
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
    pub(super) fn new(raw: &'a [u8], effort: Effort) -> Self {
        let way = Way { symbol: Symbol::Literal, from: 0, then: 0, literal: false };
        Self {
            raw,
            finder: Finder::new(raw, effort),
            effort,
            start: 0,
            limit: 0,
            prices: vec![UNREACHED; WINDOW + 1],
            ways: vec![way; WINDOW + 1],
            nodes: vec![Node { state: State::START, distances: [0; 4] }; WINDOW + 1],
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
        self.nodes[0] = Node { state, distances };
        self.furthest = 0;
        let (mut at, mut skip) = (0, 0);
        loop {
            if at > 0 {
                self.arrive(at);
            }
            if at >= skip && !self.is_dominated(at) {
                skip = self.expand(model, at);
            }
            at += 1;
            while at < self.furthest && (at < skip || self.prices[at] == UNREACHED) {
                if self.prices[at] != UNREACHED {
                    self.arrive(at);
                }
                at += 1;
            }
            if at >= self.furthest {
                break;
            }
        }
        self.arrive(at);
        self.read_back(at, symbols);
        self.prices[..=at].fill(UNREACHED);
        start + at
    }

    /// Whether the end of the run of zeros in which a node lies costs no more than the node.
    #[inline]
    fn is_dominated(&mut self, node: usize) -> bool {
        let at = self.start + node;
        self.finder.advance(at);
        if !self.effort.prune || node == 0 || self.raw[at - 1] != 0 {
            return false;
        }
        let end = self.finder.next_anchor() - self.start;
        end > node && end <= self.furthest && self.prices[end] <= self.prices[node]
    }

    /// Works out state and distances of a node that no other way will reach any more.
    fn arrive(&mut self, at: usize) {
        let way = self.ways[at];
        let Node { state, mut distances } = self.nodes[usize::from(way.from)];
        let mut state = way.symbol.state(state);
        way.symbol.turn(&mut distances);
        if way.literal {
            state = state.literal();
        }
        if way.then > 0 {
            state = state.repeated();
        }
        self.nodes[at] = Node { state, distances };
    }

    #[inline]
    fn reach(&mut self, at: usize, price: u32, way: Way) {
        if price < self.prices[at] {
            self.prices[at] = price;
            self.ways[at] = way;
            self.furthest = self.furthest.max(at);
        }
    }

    /// Tries every symbol from node `from`. Returns up to where nothing else need be tried: a match of full length is taken.
    fn expand(&mut self, model: &Model, from: usize) -> usize {
        let raw = self.raw;
        let price = self.prices[from];
        let Node { state, distances } = self.nodes[from];
        let at = self.start + from;
        let left = self.limit - from;
        let rest = &raw[at..at + left.min(MAX_LEN)];
        let pos_state = model.pos_state(at);
        let way = |symbol| Way { symbol, from: from as u16, then: 0, literal: false };
        let valid = |distance: u32| (distance as usize) < at;
        let matched = if valid(distances[0]) { Some(raw[at - distances[0] as usize - 1]) } else { None };
        let before = if at > 0 { raw[at - 1] } else { 0 };

        let match_price = price + model.match_price(state, pos_state, true);
        let repeat_price = match_price + model.repeat_price(state, true);
        if matched == Some(rest[0]) {
            let price = repeat_price + model.short_price(state, pos_state);
            self.reach(from + 1, price, way(Symbol::Short));
        }
        // One more zero is never worth a literal.
        if matched != Some(0) || rest[0] != 0 {
            let price = price
                + model.match_price(state, pos_state, false)
                + model.literal_price(at, before, state, rest[0], matched.unwrap_or(0));
            self.reach(from + 1, price, way(Symbol::Literal));
            if matched.is_some_and(|byte| byte != rest[0]) {
                // A literal, then on at the last distance.
                self.repeat_behind(model, from + 1, distances[0], state.literal(), price, way(Symbol::Literal));
            }
        }
        if left < MIN_LEN {
            return 0;
        }

        // A repeat that costs less leaves nothing to a dearer one of the same length, nor to a match.
        let (mut covered, mut cheapest) = (MIN_LEN - 1, u32::MAX);
        let prices = model.repeat_len_prices(pos_state);
        for (which, &distance) in (0..).zip(&distances).filter(|(_, distance)| valid(**distance)) {
            let len = self.repeat_len(at, distance, rest.len());
            if len < MIN_LEN {
                continue;
            }
            let price = repeat_price + model.which_price(state, pos_state, which);
            let full = len == MAX_LEN;
            let from_len = if price < cheapest { MIN_LEN } else { covered + 1 };
            (covered, cheapest) = (covered.max(len), cheapest.min(price));
            let symbol = |len: usize| Symbol::Repeat { which, len: len as u16 };
            self.each_end(from, prices, if full { len } else { from_len }, len, |this, len| {
                this.reach(from + len, price + prices.of(len), way(symbol(len)));
            });
            if full {
                return from + len;
            }
            let price = price + prices.of(len);
            self.literal_behind(model, from + len, distance, state.repeated(), price, way(symbol(len)));
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
            // The end costs less already, and so does all that would be reached on the way there.
            if self.prices[from + len] <= price + prices.least + model.distance_price(distance, len) {
                shortest = len + 1;
                continue;
            }
            let full = len == MAX_LEN;
            let symbol = |len: usize| Symbol::Match { distance, len: len as u16 };
            self.each_end(from, prices, if full { len } else { shortest }, len, |this, len| {
                let price = price + prices.of(len) + model.distance_price(distance, len);
                this.reach(from + len, price, way(symbol(len)));
            });
            shortest = len + 1;
            if full {
                skip = from + len;
                break;
            }
            let price = price + prices.of(len) + model.distance_price(distance, len);
            self.literal_behind(model, from + len, distance, state.matched(), price, way(symbol(len)));
        }
        self.found = found;
        skip
    }

    /// Calls `then` for each length from `min` to `max` at which a match from node `from` is worth ending: around bytes that are
    /// not zero, with a length that is popular, and as late as can be.
    #[inline]
    fn each_end(
        &mut self,
        from: usize,
        prices: &LenPrices,
        min: usize,
        max: usize,
        mut then: impl FnMut(&mut Self, usize),
    ) {
        let at = self.start + from;
        let mut len = min;
        while len < max {
            let mut ends = bits(&self.finder.stops, at + len) | bits(&prices.popular, len);
            if max - len < 64 {
                ends &= (1 << (max - len)) - 1;
            }
            while ends != 0 {
                then(self, len + ends.trailing_zeros() as usize);
                ends &= ends - 1;
            }
            len += 64;
        }
        if min <= max {
            then(self, max);
        }
    }

    /// After a copy that ends at `end`: a literal, then on at the same distance.
    #[inline]
    fn literal_behind(&mut self, model: &Model, end: usize, distance: u32, state: State, price: u32, way: Way) {
        if end + 1 + MIN_LEN > self.limit {
            return;
        }
        let raw = self.raw;
        let at = self.start + end;
        let source = at - distance as usize - 1;
        if raw[at + 1] != raw[source + 1] || raw[at + 2] != raw[source + 2] {
            return;
        }
        let len = self.repeat_len(at + 1, distance, (self.limit - end - 1).min(MAX_LEN));
        if self.prices[end + 1 + len] <= price {
            return;
        }
        let price = price
            + model.match_price(state, model.pos_state(at), false)
            + model.literal_price(at, raw[at - 1], state, raw[at], raw[source]);
        self.repeat_behind(model, end + 1, distance, state.literal(), price, Way { literal: true, ..way });
    }

    /// After a literal that ends at `end`: a repeat of `distance`, as long as it goes.
    #[inline]
    fn repeat_behind(&mut self, model: &Model, end: usize, distance: u32, state: State, price: u32, way: Way) {
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
            + model.repeat_len_prices(pos_state).of(len);
        self.reach(end + len, price, Way { then: len as u16, ..way });
    }

    /// The symbols of the way to node `at`.
    fn read_back(&self, mut at: usize, symbols: &mut Vec<Symbol>) {
        symbols.clear();
        while at > 0 {
            let way = &self.ways[at];
            if way.then > 0 {
                symbols.push(Symbol::Repeat { which: 0, len: way.then });
            }
            if way.literal {
                symbols.push(Symbol::Literal);
            }
            symbols.push(way.symbol);
            at = usize::from(way.from);
        }
        symbols.reverse();
    }
}

/// 64 bits of `set` from bit `at` on.
#[inline]
fn bits(set: &[u64], at: usize) -> u64 {
    let pair = u128::from(set[at / 64]) | u128::from(set.get(at / 64 + 1).copied().unwrap_or(0)) << 64;
    (pair >> (at % 64)) as u64
}
