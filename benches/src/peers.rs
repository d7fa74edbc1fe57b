//! What the best other program needs for each pair. The inputs are pinned, so these bytes are facts: bsdiff 4.3, qbsdiff
//! 1.4.4, the `bsdiff` crate 0.2.1, bidiff 1.0, HDiffPatch 4.12, xdelta3 3.0.11, zstd 1.5.4 `--patch-from -19` and detools
//! 0.53 each made a patch of each pair; every patch was applied and its output hashed; the smallest stands here. Times are
//! one core's, on two cores under Debian 12 with nothing beside.

use std::sync::LazyLock;

/// The best peer of one pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peer {
    /// The pair's name in the corpus.
    pub pair: &'static str,
    /// What it is.
    pub what: &'static str,
    /// The program whose patch is the smallest.
    pub program: &'static str,
    /// Bytes of that patch.
    pub bytes: u64,
    /// Processor seconds to make it; unknown where it was not measured alone.
    pub generate_s: Option<f64>,
    /// Seconds to apply it.
    pub apply_s: Option<f64>,
}

/// The table as a file, which `sluice-delta bench` reads too: names in the first line, fields between tabulators, `-` for what
/// is not known.
const FILE: &str = include_str!("../../fixtures/best-peers.tsv");

/// The table, by pair.
pub static PEERS: LazyLock<Vec<Peer>> = LazyLock::new(|| FILE.lines().skip(1).filter_map(read).collect());

fn read(line: &'static str) -> Option<Peer> {
    let mut fields = line.split('\t');
    Some(Peer {
        pair: fields.next()?,
        what: fields.next()?,
        program: fields.next()?,
        bytes: fields.next()?.parse().ok()?,
        generate_s: fields.next()?.parse().ok(),
        apply_s: fields.next()?.parse().ok(),
    })
}

/// The best peer of a pair.
pub fn peer_of(pair: &str) -> Option<&'static Peer> {
    PEERS.iter().find(|peer| peer.pair == pair)
}

impl Peer {
    /// Our bytes divided by the peer's: below one, ours is the smaller patch.
    #[expect(clippy::cast_precision_loss, reason = "patch sizes are far below 2^52")]
    pub fn ratio(&self, ours: u64) -> f64 {
        ours as f64 / self.bytes as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_the_table_is_in_the_corpus() {
        let manifest = sluice_fixtures::corpus::Manifest::embedded().unwrap();
        for peer in PEERS.iter() {
            assert!(manifest.pair.contains_key(peer.pair), "{}", peer.pair);
        }
    }

    #[test]
    fn the_readme_has_the_same_table() {
        let readme = include_str!("../README.md");
        let shown = |seconds: Option<f64>| seconds.map_or_else(|| "–".to_owned(), |seconds| seconds.to_string());
        for peer in PEERS.iter() {
            let Peer { pair, what, program, bytes, generate_s, apply_s } = *peer;
            let (bytes, made, applied) = (crate::pairs::grouped(bytes), shown(generate_s), shown(apply_s));
            let row = format!("| {pair} | {what} | {program} | {bytes} | {made} | {applied} |");
            assert!(readme.contains(&row), "README.md lacks: {row}");
        }
    }

    #[test]
    fn every_line_of_the_file_is_read() {
        assert_eq!(PEERS.len(), FILE.lines().count() - 1);
        assert!(PEERS.iter().all(|peer| peer.generate_s.is_some()));
        assert_eq!(PEERS.iter().filter(|peer| peer.apply_s.is_none()).count(), 1);
    }

    #[test]
    fn pairs_are_found_and_compared_by_bytes() {
        let peer = peer_of("boot-uboot").unwrap();
        assert_eq!((peer.program, peer.bytes), ("HDiffPatch", 263_475));
        assert!((peer.ratio(263_475) - 1.0).abs() < f64::EPSILON);
        assert!(peer.ratio(200_000) < 0.76);
        assert_eq!(peer_of("nothing"), None);
        let names: std::collections::BTreeSet<_> = PEERS.iter().map(|peer| peer.pair).collect();
        assert_eq!(names.len(), PEERS.len(), "each pair once");
    }
}
