//! `zstd --patch-from` frames, ours and crafted ones.

use std::{io::Cursor, ops::ControlFlow};

use proptest::prelude::*;
use sluice_delta::{
    ApplyBudget, DiffError, Limits,
    foreign::{ForeignError, ForeignOptions, Format, ZSTD_HEADER_MAX, ZstdHeader, apply_zstd, write_zstd},
};

use crate::images::{code_like, noise};

fn written(old: &[u8], new: &[u8]) -> Vec<u8> {
    write_zstd(old, new, &|_| ControlFlow::Continue(())).unwrap()
}

fn applied_with(old: &[u8], patch: &[u8], options: &ForeignOptions) -> Result<Vec<u8>, ForeignError> {
    let mut new = Vec::new();
    apply_zstd(Cursor::new(old), patch, &mut new, options)?;
    Ok(new)
}

fn applied(old: &[u8], patch: &[u8]) -> Result<Vec<u8>, ForeignError> {
    applied_with(old, patch, &ForeignOptions::default())
}

fn header(patch: &[u8]) -> Result<ZstdHeader, ForeignError> {
    ZstdHeader::read(&mut &patch[..], &ForeignOptions::default())
}

/// A frame whose single raw block holds `content`.
fn frame(header: &[u8], content: &[u8]) -> Vec<u8> {
    let block = ((content.len() as u32) << 3 | 1).to_le_bytes();
    [&b"\x28\xb5\x2f\xfd"[..], header, &block[..3], content].concat()
}

#[test]
fn what_is_written_is_read_back() {
    let pairs = [
        (vec![], vec![]),
        (vec![], noise(1_000, 1)),
        (noise(1_000, 1), vec![]),
        (code_like(300, 0), code_like(300, 1)),
        (noise(700_000, 1), [noise(3_000, 2), noise(700_000, 1)[2_000..].to_vec()].concat()),
        (vec![0; 100_000], vec![0; 150_000]),
    ];
    for (old, new) in pairs {
        let patch = written(&old, &new);
        assert_eq!(Format::recognise(&patch), Some(Format::Zstd));
        let header = header(&patch).unwrap();
        assert_eq!((header.content_len, header.checksum), (Some(new.len() as u64), true));
        assert!(applied(&old, &patch).unwrap() == new, "{} -> {} bytes", old.len(), new.len());
    }
}

#[test]
fn the_old_image_is_worth_its_bytes() {
    let old = noise(600_000, 1);
    let new = [&old[100_000..], b"new", &old[..100_000]].concat();
    assert!(written(&old, &new).len() < 200);
    assert!(written(b"", &new).len() > new.len());
}

#[test]
fn a_frame_without_a_prefix_applies_to_any_image() {
    let new = code_like(100, 1);
    let full = zstd::bulk::compress(&new, 19).unwrap();
    assert!(applied(b"whatever", &full).unwrap() == new);
}

#[test]
fn another_old_image_is_found_by_the_checksum() {
    let (old, new) = (code_like(100, 0), code_like(100, 1));
    let patch = written(&old, &new);
    let other: Vec<u8> = old.iter().map(|byte| byte ^ 1).collect();
    assert!(matches!(applied(&other, &patch), Err(ForeignError::ChecksumMismatch)));
    assert!(matches!(applied(b"", &patch), Err(ForeignError::Decode { .. })));
}

#[test]
fn images_of_more_than_2_gib_together() {
    // Zeroed pages of an allocation that nobody touches cost nothing.
    let (old, new) = (vec![0; 1 << 30], vec![0; (1 << 30) + 1]);
    let refused = write_zstd(&old, &new, &|_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(refused, DiffError::BeyondWindow { len, limit } if len == limit + 1 && limit == 1 << 31));
    assert!(refused.to_string().contains("2147483648"), "{refused}");
}

#[test]
fn headers_of_every_shape() {
    let read = |bytes: &[u8]| {
        let header = header(&frame(bytes, b"")).unwrap();
        assert!(header.len as usize <= ZSTD_HEADER_MAX);
        assert_eq!(header.len as usize, 4 + bytes.len());
        (header.window, header.content_len, header.checksum)
    };
    assert_eq!(read(&[0, 0]), (1_024, None, false));
    assert_eq!(read(&[4, 0x51]), ((1 << 20) * 9 / 8, None, true));
    assert_eq!(read(&[0x20, 7]), (7, Some(7), false));
    assert_eq!(read(&[0x40, 0, 1, 0]), (1_024, Some(257), false));
    assert_eq!(read(&[0x83, 0, 0, 0, 0, 0, 9, 0, 0, 0]), (1_024, Some(9), false));
    assert_eq!(read(&[0xe0, 5, 0, 0, 0, 0, 0, 0, 0]), (5, Some(5), false));
}

#[test]
fn headers_that_are_refused() {
    let refused = |bytes: &[u8]| header(&frame(bytes, b"")).unwrap_err();
    assert!(matches!(refused(&[0x08, 0]), ForeignError::Malformed { .. }), "a reserved bit");
    assert!(matches!(refused(&[0x01, 0, 7]), ForeignError::Malformed { .. }), "a dictionary by number");
    let over =
        |bytes: &[u8], name: &str| matches!(refused(bytes), ForeignError::OverLimit { field, .. } if field == name);
    assert!(over(&[0, 0xff], "window"));
    assert!(over(&[0, 21 << 3 | 1], "window"));
    assert!(over(&[0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10], "content length"));
    assert!(over(&[0xe0, 0xff, 0xff, 0xff, 0xff, 0xf, 0, 0, 0], "window"));
    for other in [&b""[..], b"\x28\xb5\x2f", b"BSDIFF40", b"\x50\x2a\x4d\x18\x04\0\0\0skip"] {
        assert!(header(other).is_err(), "{other:?}");
    }
}

#[test]
fn what_a_frame_claims_is_not_reserved() {
    // A window of 2 GiB and a content of 60 GiB, in a frame of a few bytes.
    let window = frame(&[0, 21 << 3], b"x");
    assert!(matches!(applied(b"old", &window), Err(ForeignError::OverLimit { limit, .. }) if limit == 1 << 31));
    let window = frame(&[0, 20 << 3], b"x");
    assert!(matches!(applied(b"old", &window), Err(ForeignError::OverBudget { .. })));
    let content = frame(&[0xc0, 0, 0, 0, 0, 0, 0xf, 0, 0, 0], b"x");
    assert!(matches!(applied(b"old", &content), Err(ForeignError::Decode { .. })));
}

#[test]
fn contents_of_another_length_than_stated() {
    for (stated, content) in [(3, &b"four"[..]), (5, b"four"), (0, b"four")] {
        assert!(matches!(applied(b"old", &frame(&[0x20, stated], content)), Err(ForeignError::Decode { .. })));
    }
    assert_eq!(applied(b"old", &frame(&[0x20, 4], b"four")).unwrap(), b"four");
    let slot = ForeignOptions { limits: Limits { max_new_len: 3, ..Limits::default() }, ..ForeignOptions::default() };
    for header in [&[0x20, 4][..], &[0, 0]] {
        let refused = applied_with(b"old", &frame(header, b"four"), &slot);
        assert!(matches!(refused, Err(ForeignError::OverLimit { field: "content length", .. })), "{refused:?}");
    }
}

#[test]
fn a_repeated_byte_without_end() {
    // 100 blocks of 128 KiB each in 400 bytes: stopped by the length of the slot.
    let mut bomb = b"\x28\xb5\x2f\xfd\0\0".to_vec();
    for _ in 0..100 {
        bomb.extend_from_slice(&((128u32 << 10) << 3 | 2).to_le_bytes()[..3]);
        bomb.push(7);
    }
    bomb.extend_from_slice(&[1, 0, 0]);
    let slot =
        ForeignOptions { limits: Limits { max_new_len: 1 << 20, ..Limits::default() }, ..ForeignOptions::default() };
    let refused = applied_with(b"", &bomb, &slot);
    assert!(matches!(refused, Err(ForeignError::OverLimit { .. } | ForeignError::Decode { .. })), "{refused:?}");
}

#[test]
fn trailing_garbage_behind_the_frame() {
    let (old, new) = (code_like(20, 0), code_like(20, 1));
    let patch = [written(&old, &new), vec![0]].concat();
    assert!(matches!(applied(&old, &patch), Err(ForeignError::Trailing { after: "frame" })));
    let twice = [written(&old, &new), written(&old, &new)].concat();
    assert!(matches!(applied(&old, &twice), Err(ForeignError::Trailing { after: "frame" })));
}

#[test]
fn a_patch_cut_anywhere_is_refused() {
    let (old, new) = (code_like(5, 0), code_like(5, 1));
    let patch = written(&old, &new);
    for len in 0..patch.len() {
        assert!(applied(&old, &patch[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn more_memory_than_there_is() {
    let (old, new) = (noise(300_000, 1), noise(300_000, 2));
    let patch = written(&old, &new);
    let needed = header(&patch).unwrap().memory(old.len() as u64);
    let options = |ram| ForeignOptions { budget: ApplyBudget { ram, scratch: 0 }, ..ForeignOptions::default() };
    assert!(applied_with(&old, &patch, &options(needed)).is_ok());
    assert!(matches!(applied_with(&old, &patch, &options(needed - 1)), Err(ForeignError::OverBudget { .. })));
}

#[test]
fn progress_can_cancel() {
    let refused = write_zstd(b"old", b"new", &|_| ControlFlow::Break(()));
    assert!(matches!(refused, Err(DiffError::Cancelled)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_pair_is_read_back(
        old in prop::collection::vec(0u8..4, 0..3_000),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..6),
        tail in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut new = Vec::new();
        for (from, to) in cuts {
            let (from, to) = (from.index(old.len() + 1), to.index(old.len() + 1));
            new.extend_from_slice(&old[from.min(to)..from.max(to)]);
        }
        new.extend(tail);
        prop_assert_eq!(applied(&old, &written(&old, &new)).unwrap(), new);
    }

    #[test]
    fn damage_is_found(at in any::<prop::sample::Index>(), flip in 1u8..=255) {
        static SAMPLE: std::sync::LazyLock<(Vec<u8>, Vec<u8>, Vec<u8>)> = std::sync::LazyLock::new(|| {
            let (old, new) = (code_like(50, 0), code_like(50, 1));
            let patch = written(&old, &new);
            (old, new, patch)
        });
        let (old, new, patch) = &*SAMPLE;
        let mut damaged = patch.clone();
        damaged[at.index(patch.len())] ^= flip;
        // The flag of the checksum itself is the one place where damage may not show.
        if let Ok(image) = applied(old, &damaged) {
            prop_assert_eq!(&image, new);
        }
    }
}
