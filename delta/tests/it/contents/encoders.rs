//! The encoders themselves: a patch made today must rebuild the same bytes for ever.

use std::path::PathBuf;

use sha2::{Digest, Sha256};
use sluice_delta::content::{
    Branch, Codec, ContentEncoder, Deflate, Dict, FindLimits, Helpers, Lzma, Recipe, Side, Zstd, ZstdMode, ZstdVersion,
    find,
};

use super::{
    assert_rebuilds,
    tools::{noise, text, zstd as zstd_command},
};

/// Every encoder, on a content long enough to fill its window several times.
fn recipes() -> Vec<(&'static str, Codec, Recipe)> {
    let dict = Dict::holding(1 << 16).expect("a small dictionary");
    let lzma = |preset, extreme| Lzma { preset, extreme, props: 0x5d, dict };
    let zstd = |level, mode, checksum| {
        let version = ZstdVersion::LINKED;
        Recipe::Zstd(Zstd { version, level, mode, checksum, content_size: true, window_log: 0, long: false })
    };
    let zlib = |level, window_bits| Recipe::Zlib { level, window_bits };
    let lzma2 = Codec::Lzma2 { dict, branch: Branch::None };
    let frame = Codec::Zstd { window: dict };
    let xz = Recipe::Xz { lzma: lzma(6, false), branch: Branch::X86, check: 4, sizes: true, header: 5 };
    let sdk = Recipe::LzmaSdk { props: 0x5d, dict, fast_bytes: 32, cycles: 32 };
    let deflate =
        |level, early, clamped| Recipe::Deflate(Deflate { level, hash_bits: 15, symbol_bits: 15, early, clamped });
    vec![
        ("deflate 2", Codec::Deflate, deflate(2, true, false)),
        ("deflate 9", Codec::Deflate, deflate(9, true, true)),
        ("zlib 1", Codec::Zlib, zlib(1, 15)),
        ("zlib 6", Codec::Deflate, zlib(6, 15)),
        ("zlib 9", Codec::Zlib, zlib(9, 12)),
        ("liblzma 1", lzma2, Recipe::Liblzma(lzma(1, false))),
        ("liblzma 9e", lzma2, Recipe::Liblzma(lzma(9, true))),
        ("liblzma alone", Codec::Lzma { dict }, Recipe::Liblzma(lzma(5, false))),
        ("xz", Codec::Xz { dict }, xz),
        ("lzma-sdk", Codec::Lzma { dict }, sdk),
        ("zstd 3 whole", frame, zstd(3, ZstdMode::Whole, false)),
        ("zstd 19 stream", frame, zstd(19, ZstdMode::Stream, true)),
        ("zstd 12 jobs", frame, zstd(12, ZstdMode::Jobs, true)),
    ]
}

fn encoded(codec: Codec, recipe: Recipe, content: &[u8], helpers: &Helpers, piece: usize) -> Vec<u8> {
    let mut encoder = ContentEncoder::new(codec, recipe, content.len() as u64, helpers).expect("the recipe is usable");
    let mut out = Vec::new();
    for piece in content.chunks(piece) {
        encoder.push(piece, &mut out).expect("the content is taken");
    }
    encoder.finish(&mut out).expect("the stream ends");
    out
}

#[test]
fn encoders_make_the_bytes_that_they_always_made() {
    let content = text(31, 1_200_000);
    let digests: Vec<String> = recipes()
        .into_iter()
        .map(|(name, codec, recipe)| {
            let coded = encoded(codec, recipe, &content, &Helpers::none(), 10_007);
            format!("{name}: {} {}", coded.len(), hex::encode(&Sha256::digest(&coded)[..8]))
        })
        .collect();
    assert_eq!(digests.join("\n"), FROZEN.trim());
}

const FROZEN: &str = "
deflate 2: 428144 4391a31d70718eea
deflate 9: 382038 f7062b26ed267e33
zlib 1: 436027 186a628042c5c46e
zlib 6: 383054 638f0d33879f53c9
zlib 9: 480769 ef5cf9897808500a
liblzma 1: 378313 a0a69737741b5ead
liblzma 9e: 345570 23116529366b47bc
liblzma alone: 344896 efe88f801fec2fb4
xz: 345084 5359b75f16126485
lzma-sdk: 344960 1e6fd8e7f7143c1d
zstd 3 whole: 377705 090de92588262eb3
zstd 19 stream: 327788 7c0074a0b312fa20
zstd 12 jobs: 364520 a72bcc7476609bd0
";

#[test]
fn the_bytes_do_not_depend_on_how_the_content_arrives() {
    let content = text(32, 400_000);
    for (name, codec, recipe) in recipes() {
        let whole = encoded(codec, recipe, &content, &Helpers::none(), content.len());
        assert!(encoded(codec, recipe, &content, &Helpers::none(), 511) == whole, "{name}");
    }
}

/// The encoder of this crate, set to what zlib does, is zlib.
#[test]
fn the_family_encoder_is_zlib_when_set_so() {
    let mut contents =
        vec![text(36, 700_000), noise(37, 200_000), vec![0; 300_000], Vec::new(), vec![7], text(38, 40_000)];
    contents.push([text(39, 30_000), noise(40, 66_000), vec![0; 70_000], text(41, 90_001), noise(42, 300)].concat());
    contents.extend((1..40).map(|len| text(len, len as usize * 7)));
    for content in &contents {
        for level in 1..=9 {
            let zlib = Recipe::Zlib { level, window_bits: 15 };
            let own = Recipe::Deflate(Deflate { level, hash_bits: 15, symbol_bits: 14, early: false, clamped: true });
            let coded = |recipe| encoded(Codec::Deflate, recipe, content, &Helpers::none(), 5003);
            assert!(coded(own) == coded(zlib), "level {level}, {} bytes", content.len());
        }
    }
}

#[test]
fn more_or_less_content_than_announced_is_refused() {
    let content = text(33, 5000);
    for (name, codec, recipe) in recipes() {
        let encoder = |len| ContentEncoder::new(codec, recipe, len, &Helpers::none()).expect("the recipe is usable");
        assert!(encoder(4999).push(&content, &mut Vec::new()).is_err(), "{name}");
        let mut short = encoder(5001);
        short.push(&content, &mut Vec::new()).expect("the content is taken");
        assert!(short.finish(&mut Vec::new()).is_err(), "{name}");
    }
}

#[test]
fn a_recipe_goes_with_its_codec_only() {
    let accepted = |codec, recipe| ContentEncoder::new(codec, recipe, 9, &Helpers::none()).is_ok();
    for (name, codec, recipe) in recipes() {
        assert!(accepted(codec, recipe), "{name}");
        let others = recipes().into_iter().map(|other| other.1).filter(|other| {
            // Deflate has the same encoders with a header and without; LZMA with a header has two.
            let deflate = [Codec::Deflate, Codec::Zlib];
            let lzma =
                matches!(recipe, Recipe::Liblzma(_)) && matches!(other, Codec::Lzma { .. } | Codec::Lzma2 { .. });
            *other != codec && !lzma && !(deflate.contains(other) && deflate.contains(&codec))
        });
        for other in others {
            assert!(!accepted(other, recipe), "{name} for {}", other.name());
        }
    }
}

/// The helper's source, linked with the version of this crate: cargo builds examples for tests.
fn helper() -> PathBuf {
    let test = std::env::current_exe().expect("the test has a path");
    let directory = test.parent().and_then(|deps| deps.parent()).expect("tests lie in `deps`");
    let program = directory.join("examples").join("recode_zstd");
    assert!(program.exists(), "run `cargo build -p sluice-delta --example recode_zstd` first");
    program
}

#[test]
fn a_helper_makes_the_bytes_that_the_linked_encoder_makes() {
    let helpers = Helpers::start(&[&helper()]).expect("the helper starts");
    assert_eq!(helpers.versions().collect::<Vec<_>>(), [ZstdVersion::LINKED]);
    let content = text(34, 700_000);
    for (name, codec, recipe) in recipes().into_iter().filter(|recipe| matches!(recipe.2, Recipe::Zstd(_))) {
        let own = encoded(codec, recipe, &content, &Helpers::none(), 65_536);
        assert!(encoded(codec, recipe, &content, &helpers, 65_536) == own, "{name}");
        assert!(encoded(codec, recipe, &content, &helpers, 1000) == own, "{name}, second stream");
    }
}

#[test]
fn a_version_without_a_helper_is_refused() {
    let version = ZstdVersion { minor: 4, patch: 8 };
    let zstd = Zstd {
        version,
        level: 3,
        mode: ZstdMode::Whole,
        checksum: false,
        content_size: true,
        window_log: 0,
        long: false,
    };
    let codec = Codec::Zstd { window: Dict::holding(1 << 20).expect("a small window") };
    assert!(ContentEncoder::new(codec, Recipe::Zstd(zstd), 10, &Helpers::none()).is_err());
}

#[test]
fn what_is_no_helper_is_refused() {
    assert!(Helpers::start(&["/bin/true".as_ref()]).is_err());
    assert!(Helpers::start(&["/nowhere/at/all".as_ref()]).is_err());
}

/// The installed command may have another version, whose frames then stay raw; none is ever rebuilt wrongly.
#[test]
fn frames_of_the_command_are_rebuilt_or_left_alone() {
    let helpers = Helpers::start(&[&helper()]).expect("the helper starts");
    for level in ["-1", "-9", "-19"] {
        let image = zstd_command(&[level], &text(35, 400_000));
        let side = Side::New { unchanged: &|_| false, helpers: &helpers, whole_files: false };
        assert_rebuilds(&image, &find(&image, &FindLimits::default(), side));
    }
}
