//! Images and patches that want to break or to exhaust what reads them.

use proptest::prelude::*;
use sluice_delta::content::{Codec, ContentEncoder, Dict, FindLimits, Helpers, Recipe, Side, find};

use super::{
    assert_rebuilds, new, old,
    tools::{gzip, noise, squashfs, text, xz, zip, zstd},
};
use crate::images::Seeded;

/// One image with every format.
fn everything() -> Vec<u8> {
    let files: Vec<(&str, Vec<u8>)> = vec![("a", text(1, 30_000)), ("b", text(2, 9_000)), ("c", noise(3, 5_000))];
    [
        gzip("-9", &text(4, 20_000)),
        zip(&[], &files),
        xz(&["-6"], &text(5, 20_000)),
        xz(&["-6", "--block-size=8KiB"], &text(6, 20_000)),
        xz(&["--format=lzma"], &text(6, 20_000)),
        zstd(&[], &text(7, 20_000)),
        squashfs(&["-b", "4096"], &files),
        squashfs(&["-b", "4096", "-comp", "xz"], &files),
        squashfs(&["-b", "4096", "-comp", "zstd"], &files),
    ]
    .concat()
}

#[test]
fn cut_and_changed_images_are_walked_without_harm() {
    let image = everything();
    let mut seeded = Seeded::new(9);
    for _ in 0..60 {
        let cut = seeded.next() as usize % image.len();
        old(&image[..cut]);
        old(&image[cut..]);
        let mut changed = image.clone();
        for _ in 0..40 {
            let at = seeded.next() as usize % changed.len();
            changed[at] = seeded.next() as u8;
        }
        old(&changed);
    }
    let mut changed = image;
    for at in (0..changed.len()).step_by(997) {
        changed[at] ^= 0x10;
    }
    assert_rebuilds(&changed, &new(&changed));
}

#[test]
fn every_field_of_a_superblock_may_lie() {
    let files: Vec<(&str, Vec<u8>)> = vec![("a", text(1, 30_000)), ("b", text(2, 9_000))];
    let image = squashfs(&["-b", "4096"], &files);
    for at in 4..96 {
        for value in [0, 1, 0x7f, 0xff] {
            let mut changed = image.clone();
            changed[at] = value;
            old(&changed);
        }
    }
}

#[test]
fn a_bomb_stays_raw() {
    // Deflate makes at most 1,032 bytes of one; Zstandard and LZMA make far more.
    let zeros = vec![0; 40 << 20];
    let bomb = zstd(&["-19"], &zeros);
    assert!(bomb.len() < 8000);
    assert!(old(&bomb).is_empty());
    assert!(old(&xz(&["-6"], &zeros)).is_empty());
    let image = gzip("-9", &zeros);
    assert_eq!(old(&image).len(), 1);
    let small = FindLimits { content_len: 1 << 20, ..FindLimits::default() };
    assert!(find(&image, &small, Side::Old).is_empty());
    let little = FindLimits { total_content: 50 << 20, ..FindLimits::default() };
    assert_eq!(find(&image.repeat(3), &little, Side::Old).len(), 1);
}

#[test]
fn streams_are_counted_at_all_depths() {
    let inner = gzip("-9", &text(1, 5000)).repeat(20);
    let image = gzip("-1", &inner);
    let limits = FindLimits { streams: 7, ..FindLimits::default() };
    let found = find(&image, &limits, Side::Old);
    assert_eq!((found.len(), found[0].inner.len()), (1, 6));
}

#[test]
fn overlapping_beginnings_cost_a_bounded_amount() {
    // Each beginning decodes for long and then breaks: the sum would be quadratic.
    let mut image = Vec::new();
    for _ in 0..20_000 {
        image.extend([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0]);
        // A stored block that holds the following beginnings.
        image.extend([0, 0xff, 0xff, 0, 0]);
    }
    assert!(old(&image).is_empty());
}

#[test]
fn streams_that_need_too_much_memory_stay_raw() {
    let image = xz(&["-6"], &text(1, 900_000));
    let side = Side::New { unchanged: &|_| false, helpers: &Helpers::none(), whole_files: false };
    let limits = |stream_ram| FindLimits { stream_ram, ..FindLimits::default() };
    assert!(find(&image, &limits(1 << 20), side).is_empty());
    let found = find(&image, &limits(64 << 20), side);
    assert_eq!(found.len(), 1);
    let recipe = found[0].recipe.expect("it is rebuilt");
    assert!(ContentEncoder::memory(recipe, found[0].content.len() as u64) <= 64 << 20);
    assert_rebuilds(&image, &found);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_are_walked(mut bytes in prop::collection::vec(any::<u8>(), 0..3000), places in prop::collection::vec((0usize..3000, 0usize..8), 0..12)) {
        const MAGICS: [&[u8]; 8] = [
            &[0x1f, 0x8b, 8, 0], &[0x78, 0x9c], b"PK\x03\x04\x14\0\0\0\x08\0", &[0x28, 0xb5, 0x2f, 0xfd, 0x04],
            &[0x5d, 0, 0, 0, 1, 0xff, 0x20, 0, 0, 0, 0, 0, 0, 0], &[0xfd, b'7', b'z', b'X', b'Z', 0, 0, 4],
            b"hsqs\x05\0\0\0\0\0\0\0\0\0\x02\0\x01\0\0\0\x01\0\x11\0\0\0\x01\0\x04\0\0\0", &[0, 0, 0xff, 0xff],
        ];
        for (at, magic) in places {
            for (to, from) in bytes.iter_mut().skip(at).zip(MAGICS[magic]) {
                *to = *from;
            }
        }
        old(&bytes);
        assert_rebuilds(&bytes, &new(&bytes));
    }

    #[test]
    fn codecs_and_recipes_read_what_they_write(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
        let mut rest = bytes.as_slice();
        if let Ok(codec) = Codec::read(&mut rest) {
            let mut again = Vec::new();
            codec.write(&mut again);
            prop_assert_eq!(&again, &bytes[..bytes.len() - rest.len()]);
        }
        let mut rest = bytes.as_slice();
        if let Ok(recipe) = Recipe::read(&mut rest) {
            let mut again = Vec::new();
            recipe.write(&mut again);
            prop_assert_eq!(&again, &bytes[..bytes.len() - rest.len()]);
            prop_assert!(ContentEncoder::memory(recipe, 1 << 31) > 0);
        }
    }

    #[test]
    fn dictionaries_hold_what_they_are_asked_for(bytes in 0u64..(1 << 27)) {
        let dict = Dict::holding(bytes).expect("it is within the limit");
        prop_assert!(u64::from(dict.bytes()) >= bytes);
        prop_assert!(dict.code() == 0 || u64::from(Dict::from_code(dict.code() - 1).expect("lower").bytes()) < bytes);
    }
}
