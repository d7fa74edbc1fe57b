//! Each format as the usual program writes it: everything is found, and rebuilt byte for byte.

use sluice_delta::content::{Codec, FindLimits, Found, Recipe, Side, find};

use super::{
    assert_rebuilds, codecs, new, old,
    tools::{gzip, noise, squashfs, text, xz, zip, zstd},
};

/// A file tree with large, small, equal and incompressible files.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("bin/large", text(1, 700_000)),
        ("bin/noise", noise(2, 200_000)),
        ("etc/small", text(3, 900)),
        ("etc/tiny", b"tiny".to_vec()),
        ("lib/again", text(1, 700_000)),
        ("lib/block", text(4, 131_072)),
        ("share/empty", Vec::new()),
        ("share/zeros", vec![0; 400_000]),
    ]
}

/// Where streams are.
fn places(found: &[Found]) -> Vec<(&'static str, u64, u64)> {
    found.iter().map(|stream| (stream.codec.name(), stream.start, stream.len)).collect()
}

/// Bytes that streams cover.
fn covered(found: &[Found]) -> u64 {
    found.iter().map(|stream| stream.len).sum()
}

#[test]
fn gzip_members_of_every_level_are_rebuilt_where_they_stand() {
    let (mut image, mut contents) = (noise(5, 1000), Vec::new());
    for level in 1..=9u64 {
        let content = text(level, 150_000 + level as usize * 1001);
        image.extend(gzip(&format!("-{level}"), &content));
        contents.push(content);
    }
    image.extend(noise(6, 1000));
    let found = old(&image);
    assert_eq!(found.len(), 9);
    assert!(found.iter().zip(&contents).all(|(stream, content)| stream.content == *content));
    let found = new(&image);
    assert_eq!(found.len(), 9);
    assert!(found.iter().zip(&contents).all(|(stream, content)| stream.content == *content));
    assert_rebuilds(&image, &found);
}

#[test]
fn what_gzip_and_zip_make_comes_back_exactly() {
    let content = [text(11, 3_000_000), noise(12, 100_000), vec![0; 500_000], text(13, 70_000)].concat();
    for level in ["-1", "-2", "-3", "-4", "-5", "-6", "-7", "-8", "-9"] {
        for image in [gzip(level, &content), zip(&[level], &[("a", content.clone())])] {
            let found = new(&image);
            assert_eq!(found.len(), 1, "{level}");
            assert!(matches!(found[0].recipe, Some(Recipe::Deflate(_))), "{level}: {:?}", found[0].recipe);
            assert_eq!(found[0].content, content);
            assert_rebuilds(&image, &found);
        }
    }
}

#[test]
fn streams_of_unknown_encoders_stay_as_they_are() {
    let image = super::tools::miniz(&text(11, 900_000));
    assert!(new(&image).is_empty());
    assert_eq!(super::old(&image).len(), 1, "they can be read from all the same");
}

#[test]
fn a_gzip_header_with_every_field_is_passed_over() {
    let member = gzip("-6", &text(1, 5000));
    let mut image = vec![0x1f, 0x8b, 8, 2 | 4 | 8 | 16, 0, 0, 0, 0, 0, 3];
    image.extend([3, 0]);
    image.extend(b"xyzname\0comment\0");
    image.extend([0x12, 0x34]);
    let start = image.len() as u64;
    image.extend(&member[10..]);
    let found = new(&image);
    assert_eq!(found.iter().map(|stream| stream.start).collect::<Vec<_>>(), [start]);
    assert_rebuilds(&image, &found);
}

#[test]
fn zip_entries_are_rebuilt() {
    for level in ["-1", "-6", "-9"] {
        let image = zip(&[level], &files());
        let (found, again) = (old(&image), new(&image));
        // `tiny` and `empty` are stored.
        assert!(found.len() >= 5, "{level}");
        assert_eq!(found.len(), again.len(), "{level}");
        assert_rebuilds(&image, &again);
    }
}

#[test]
fn a_zip_entry_with_its_checksum_behind_is_found() {
    let image = super::tools::pipe("zip", "zip", &["-q", "-", "-"], &text(7, 50_000));
    let found = new(&image);
    assert_eq!(codecs(&found), ["deflate"]);
    assert_eq!(found[0].content, text(7, 50_000));
    assert_rebuilds(&image, &found);
}

#[test]
fn xz_streams_of_one_block_are_rebuilt_whole() {
    let content = text(8, 600_000);
    let calls: &[&[&str]] = &[
        &["-6"],
        &["-9e"],
        &["-0"],
        &["-3", "--check=sha256"],
        &["-6", "--check=crc32"],
        &["-6", "--check=none"],
        &["--x86", "--lzma2=preset=6,dict=256KiB"],
        &["--arm64", "--lzma2=preset=9"],
        &["--lzma2=preset=6,lc=2,lp=2,pb=0"],
    ];
    for &arguments in calls {
        let mut image = noise(9, 333);
        image.extend(xz(arguments, &content));
        image.extend(noise(10, 333));
        assert_eq!(codecs(&old(&image)), ["xz"], "{arguments:?}");
        let found = new(&image);
        assert_eq!(codecs(&found), ["xz"], "{arguments:?}");
        assert_eq!(found[0].content, content);
        assert_eq!(found[0].len, image.len() as u64 - 666);
        assert_rebuilds(&image, &found);
    }
}

#[test]
fn xz_streams_of_many_blocks_are_rebuilt_block_by_block() {
    let content = text(8, 600_000);
    for arguments in [["-6", "-T2", "--block-size=100KiB"], ["--x86", "--lzma2=preset=4", "--block-size=100KiB"]] {
        let image = xz(&arguments, &content);
        let found = new(&image);
        assert_eq!(codecs(&found), ["lzma2"; 6]);
        assert_eq!(found.iter().flat_map(|stream| stream.content.clone()).collect::<Vec<u8>>(), content);
        assert_rebuilds(&image, &found);
        assert_eq!(codecs(&old(&image)), ["lzma2"; 6]);
    }
}

#[test]
fn lzma_files_are_rebuilt() {
    let content = text(12, 300_000);
    let image = xz(&["--format=lzma", "-7"], &content);
    let found = new(&image);
    assert_eq!(codecs(&found), ["lzma"]);
    assert_eq!((found[0].start, found[0].len), (0, image.len() as u64));
    assert_rebuilds(&image, &found);
    assert_eq!(codecs(&old(&image)), ["lzma"]);
}

#[test]
fn zstd_frames_are_read_whatever_made_them() {
    let content = text(13, 900_000);
    for arguments in [vec!["-3"], vec!["-19", "--no-check"], vec!["--ultra", "-22"], vec!["--long=24", "-5"]] {
        let image = [noise(1, 99), zstd(&arguments, &content), noise(2, 99)].concat();
        let found = old(&image);
        assert_eq!(codecs(&found), ["zstd"], "{arguments:?}");
        assert_eq!(found[0].content, content);
    }
}

#[test]
fn squashfs_with_gzip_is_rebuilt_whole() {
    for arguments in [vec!["-comp", "gzip"], vec!["-b", "65536", "-Xcompression-level", "6"], vec!["-no-fragments"]] {
        let image = squashfs(&arguments, &files());
        let (found, again) = (old(&image), new(&image));
        assert_eq!(places(&found), places(&again), "{arguments:?}");
        assert!(found.iter().all(|stream| stream.codec == Codec::Zlib));
        assert_rebuilds(&image, &again);
        // What is left: superblock, stored blocks (the incompressible file), block headers, tables, padding.
        assert!(image.len() as u64 - covered(&again) < 215_000, "{arguments:?}");
        let large = text(1, 700_000);
        let block = if arguments.contains(&"-b") { 65_536 } else { 131_072 };
        assert!(again.iter().any(|stream| stream.content == large[..block]), "{arguments:?}");
    }
}

#[test]
fn squashfs_with_xz_is_rebuilt_whole() {
    for arguments in [vec!["-comp", "xz"], vec!["-comp", "xz", "-b", "1M"], vec!["-comp", "xz", "-Xbcj", "x86,arm"]] {
        let image = squashfs(&arguments, &files());
        let (found, again) = (old(&image), new(&image));
        assert_eq!(places(&found), places(&again), "{arguments:?}");
        assert!(again.iter().any(|stream| matches!(stream.codec, Codec::Xz { .. })));
        assert_rebuilds(&image, &again);
    }
}

#[test]
fn squashfs_with_zstd_is_read_whole() {
    let image = squashfs(&["-comp", "zstd", "-Xcompression-level", "9"], &files());
    let found = old(&image);
    assert!(found.len() >= 8, "{} streams", found.len());
    assert!(found.iter().all(|stream| matches!(stream.codec, Codec::Zstd { .. })));
}

#[test]
fn blocks_that_this_crate_cannot_decode_stay_raw() {
    for codec in ["lzo", "lz4"] {
        assert_eq!(codecs(&old(&squashfs(&["-comp", codec], &files()))), [""; 0], "{codec}");
    }
}

#[test]
fn streams_inside_contents_are_found_three_deep() {
    let inner = gzip("-9", &text(20, 40_000));
    let middle = xz(&["-6"], &[noise(1, 5000), inner, noise(2, 3000)].concat());
    let outer = gzip("-6", &[noise(3, 2000), middle, text(4, 9000)].concat());
    let image = [noise(4, 100), gzip("-9", &outer)].concat();
    let found = new(&image);
    assert_rebuilds(&image, &found);
    let (first, second) = (&found[0], &found[0].inner[0]);
    assert_eq!(codecs(&first.inner), ["deflate"]);
    assert_eq!(codecs(&second.inner), ["xz"]);
    assert_eq!(codecs(&second.inner[0].inner), [""; 0], "the fourth level is not looked into");
    let shallow = FindLimits { depth: 1, ..FindLimits::default() };
    assert!(find(&image, &shallow, Side::Old)[0].inner.is_empty());
}

#[test]
fn what_is_found_does_not_depend_on_threads() {
    let image = squashfs(&["-b", "16384"], &files());
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
        pool.install(|| (old(&image), new(&image)))
    };
    assert_eq!(with(1), with(4));
}

#[test]
fn unchanged_streams_are_left_alone() {
    let (first, second) = (gzip("-9", &text(1, 50_000)), gzip("-9", &text(2, 50_000)));
    let image = [first.clone(), second].concat();
    let deflated = &first[10..first.len() - 8];
    let helpers = sluice_delta::content::Helpers::none();
    let side = Side::New { unchanged: &|coded| coded == deflated, helpers: &helpers, whole_files: false };
    let found = find(&image, &FindLimits::default(), side);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].content, text(2, 50_000));
}
