//! An LZMA encoder for streams of differences, which are mostly zeros in runs that resemble each other.
//!
//! General encoders spend most of their time inside those runs. This one works where something differs: the finder knows
//! runs of zeros, and the parser tries ends of matches around other bytes only. On streams without zeros it works like any
//! other.

mod finder;
mod model;
mod parser;
mod range;

pub(crate) use self::model::Setting;
use self::{
    model::{Model, State},
    parser::Parser,
    range::Encoder,
};

/// How hard to look for the cheapest symbols.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Most nodes of a tree looked at in one search. Bounds the time on repetitive streams.
    depth: usize,
    /// Most candidates kept for one place.
    kept: usize,
    /// Symbols after which prices are drawn anew.
    priced: usize,
    /// Lengths that cost at most so many bits are tried in any case.
    popular: u32,
    /// Whether places are passed over that cost no less than the end of the run of zeros around them.
    prune: bool,
}

impl Effort {
    /// Enough to tell which setting is better.
    pub(crate) const TRIAL: Self = Self { depth: 8, kept: 8, priced: 64, popular: 6, prune: true };
    pub(crate) const LONG: Self = Self { depth: 32, kept: 12, priced: 32, popular: 7, prune: true };
    /// For short streams, where nothing takes long.
    pub(crate) const SHORT: Self = Self { depth: 96, kept: 24, priced: 8, popular: 9, prune: false };
}

/// Properties byte, then LZMA data without an end marker.
pub(crate) fn encode(raw: &[u8], setting: Setting, effort: Effort) -> Vec<u8> {
    let (lc, lp, pb) = setting;
    let mut out = Vec::with_capacity(raw.len() / 8 + 64);
    out.push(((pb * 5 + lp) * 9 + lc) as u8);
    let mut encoder = Encoder::new(out);
    let mut model = Model::new(setting, effort.popular);
    let mut parser = Parser::new(raw, effort);
    let (mut state, mut distances) = (State::START, [0; 4]);
    let mut symbols = Vec::new();
    let (mut at, mut since) = (0, 0);
    while at < raw.len() {
        let end = parser.next(&model, at, state, distances, &mut symbols);
        for &symbol in &symbols {
            model.encode(&mut encoder, raw, at, symbol, &mut state, &mut distances);
            at += symbol.len();
        }
        debug_assert_eq!(at, end);
        since += symbols.len();
        if since >= effort.priced {
            since = 0;
            model.update_prices();
        }
    }
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use lzma_rust2::LzmaReader;

    use super::*;

    fn decoded(coded: &[u8], len: usize) -> Vec<u8> {
        let mut reader =
            LzmaReader::new_with_props(&coded[1..], len as u64, coded[0], (len as u32).max(4096), None).unwrap();
        let mut raw = Vec::new();
        reader.read_to_end(&mut raw).unwrap();
        raw
    }

    fn comes_back(raw: &[u8], setting: Setting) {
        for effort in [Effort::TRIAL, Effort::SHORT, Effort::LONG] {
            assert!(decoded(&encode(raw, setting, effort), raw.len()) == raw, "{} bytes", raw.len());
        }
    }

    #[test]
    fn degenerate_streams_come_back() {
        let fibonacci = {
            let (mut a, mut b) = (vec![1u8], vec![1u8, 0]);
            while b.len() < 100_000 {
                (a, b) = (b.clone(), [b, a].concat());
            }
            b
        };
        for len in [0, 1, 2, 3, 5, 272, 273, 274, 4_095, 4_096, 4_097, 200_000] {
            for raw in [
                vec![0; len],
                vec![0xff; len],
                (0..len).map(|at| (at % 2) as u8).collect(),
                (0..len).map(|at| (at >> 8) as u8).collect(),
                (0..len).map(|at| ((at * at * at) >> 7) as u8).collect(),
                (0..len).map(|at| u8::from(at % 300 == 7) * (at % 11) as u8).collect(),
                fibonacci[..len.min(fibonacci.len())].to_vec(),
            ] {
                comes_back(&raw, (3, 0, 2));
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn streams_come_back(
            parts in proptest::collection::vec(
                (proptest::collection::vec(0u8..4, 0..12), 0usize..40, 1usize..20), 0..60),
            lc in 0u32..5, pb in 0u32..5,
        ) {
            let mut raw = Vec::new();
            for (bytes, zeros, times) in parts {
                for _ in 0..times {
                    raw.extend_from_slice(&bytes);
                    raw.resize(raw.len() + zeros, 0);
                }
            }
            comes_back(&raw, (lc, 0, pb));
            comes_back(&raw, (lc.min(2), 2, pb));
        }
    }
}
