//! What the best other program needs for each pair. The inputs are pinned, so these bytes are facts: bsdiff 4.3, qbsdiff
//! 1.4.4, the `bsdiff` crate 0.2.1, bidiff 1.0, HDiffPatch 4.12, xdelta3 3.0.11, zstd 1.5.4 `--patch-from -19` and detools
//! 0.53 each made a patch of each pair; every patch was applied and its output hashed; the smallest stands here. Times are
//! one core's, on two cores under Debian 12 with nothing beside.

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

const fn peer(
    pair: &'static str,
    what: &'static str,
    program: &'static str,
    bytes: u64,
    generate_s: f64,
    apply_s: f64,
) -> Peer {
    Peer { pair, what, program, bytes, generate_s: Some(generate_s), apply_s: Some(apply_s) }
}

/// The table, by pair.
pub const PEERS: [Peer; 14] = [
    peer("mcu-technichub", "0.2 MB Cortex-M", "HDiffPatch", 10_152, 0.01, 0.004),
    peer("mcu-ev3", "0.8 MB ARM9 flash", "HDiffPatch", 19_460, 0.03, 0.005),
    peer("boot-uboot", "1.1 MB U-Boot", "HDiffPatch", 263_475, 0.20, 0.019),
    peer("boot-uefi", "2.1 MB, LZMA inside", "bidiff + zstd", 1_184_616, 0.95, 0.010),
    peer("bin-esbuild", "10.3 MB Go binary", "HDiffPatch", 497_152, 1.3, 0.037),
    peer("kernel-image", "33 MB arm64 Image", "HDiffPatch", 1_873_529, 4.8, 0.120),
    peer("kernel-gz", "11 MB, gzip -9 of it", "zstd", 11_006_683, 6.4, 0.031),
    peer("rootfs-ext4", "218 MB ext4", "HDiffPatch", 8_647_132, 24.8, 1.17),
    peer("rootfs-sqgz", "55 MB squashfs, gzip", "HDiffPatch", 31_855_130, 42.0, 0.5),
    peer("rootfs-sqxz", "42 MB squashfs, xz", "xdelta3", 25_439_937, 7.0, 0.1),
    peer("rootfs-sqzst", "49 MB squashfs, zstd", "HDiffPatch", 28_688_369, 37.0, 0.07),
    Peer {
        pair: "rootfs-tar",
        what: "183 MB tar",
        program: "HDiffPatch",
        bytes: 8_658_244,
        generate_s: Some(30.0),
        apply_s: None,
    },
    peer("rootfs-targz", "54 MB, gzip -9 of it", "HDiffPatch", 52_448_845, 77.0, 0.85),
    peer("rootfs-zip", "55 MB zip", "qbsdiff", 31_582_669, 32.0, 1.6),
];

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
        for peer in PEERS {
            assert!(manifest.pair.contains_key(peer.pair), "{}", peer.pair);
        }
    }

    #[test]
    fn the_readme_has_the_same_table() {
        let readme = include_str!("../README.md");
        let shown = |seconds: Option<f64>| seconds.map_or_else(|| "–".to_owned(), |seconds| seconds.to_string());
        for peer in PEERS {
            let Peer { pair, what, program, bytes, generate_s, apply_s } = peer;
            let (bytes, made, applied) = (crate::pairs::grouped(bytes), shown(generate_s), shown(apply_s));
            let row = format!("| {pair} | {what} | {program} | {bytes} | {made} | {applied} |");
            assert!(readme.contains(&row), "README.md lacks: {row}");
        }
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
