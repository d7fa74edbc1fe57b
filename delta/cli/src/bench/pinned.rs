//! The best patch that any other program made of a pair of the corpus, measured once: the inputs are pinned.

/// The table, which `benches/README.md` shows as well.
const TABLE: &str = include_str!("../../../../fixtures/best-peers.tsv");

/// The best peer of one pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BestPeer {
    pub pair: &'static str,
    pub bytes: u64,
}

/// The best peer of a pair, if the table has it.
pub fn best_peer(pair: &str) -> Option<BestPeer> {
    table().find(|peer| peer.pair == pair)
}

fn table() -> impl Iterator<Item = BestPeer> {
    TABLE.lines().skip(1).filter_map(|line| {
        let mut fields = line.split('\t');
        let pair = fields.next()?;
        let bytes = fields.nth(2)?.parse().ok()?;
        Some(BestPeer { pair, bytes })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_read() {
        assert_eq!(table().count(), TABLE.lines().count() - 1);
        assert!(table().count() >= 14);
        assert_eq!(best_peer("kernel-gz"), Some(BestPeer { pair: "kernel-gz", bytes: 11_006_683 }));
        assert_eq!(best_peer("nothing"), None);
    }
}
