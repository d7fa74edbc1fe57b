//! Reading old contents at random.

use std::io::Cursor;

use proptest::prelude::*;
use sluice_delta::{
    ApplyBudget,
    content::{Access, ContentError, Found, OldContents, OldStream, Plan, Unfolded},
};

use super::{
    old,
    tools::{gzip, noise, squashfs, text, xz, zip},
};
use crate::images::Seeded;

/// The view that a reader must show.
fn view(image: &[u8], found: &[Found]) -> Vec<u8> {
    let mut view = image.to_vec();
    append(found, &mut view);
    view
}

fn append(found: &[Found], view: &mut Vec<u8>) {
    for stream in found {
        view.extend(&stream.content);
        append(&stream.inner, view);
    }
}

/// Reads the view at many places, in small and large pieces, and all of it backwards.
fn assert_reads(image: &[u8], budget: ApplyBudget) -> Plan {
    let found = old(image);
    assert!(!found.is_empty());
    let (view, streams) = (view(image, &found), Found::old_streams(&found));
    let scratch = Cursor::new(Vec::new());
    let mut unfolded = Unfolded::new(image.len() as u64, streams, budget).expect("the budget suffices");
    assert_eq!(unfolded.view_len(), view.len() as u64);
    let plan = unfolded.plan().clone();
    assert!(plan.ram <= budget.ram && plan.scratch <= budget.scratch);
    let mut contents = OldContents::new(&mut unfolded, Cursor::new(image), scratch);
    let mut seeded = Seeded::new(3);
    for _ in 0..60 {
        let at = seeded.next() as usize % view.len();
        let bits = 4 + seeded.below(15);
        let len = (seeded.below(1 << bits) as usize).min(view.len() - at);
        let mut out = vec![0; len];
        contents.read_at(at as u64, &mut out).expect("the range is read");
        assert!(out == view[at..at + len], "{len} bytes at {at} differ");
    }
    let mut block = vec![0; 300_001];
    let mut end = view.len();
    while end > 0 {
        let start = end.saturating_sub(block.len());
        let block = &mut block[..end - start];
        contents.read_at(start as u64, block).expect("the range is read");
        assert!(block == &view[start..end], "bytes before {end} differ");
        end = start;
    }
    assert!(contents.read_at(view.len() as u64 - 1, &mut [0; 2]).is_err());
    plan
}

const LARGE: ApplyBudget = ApplyBudget { ram: 64 << 20, scratch: 0 };

#[test]
fn blocks_are_read_through_a_small_cache() {
    let files: Vec<(&str, Vec<u8>)> = vec![("a", text(1, 900_000)), ("b", text(2, 300_000)), ("c", text(3, 5_000))];
    for codec in ["gzip", "xz", "zstd"] {
        let image = squashfs(&["-comp", codec], &files);
        let plan = assert_reads(&image, ApplyBudget { ram: 3 << 20, scratch: 0 });
        assert!(plan.access.iter().all(|access| *access == Access::Blocks), "{codec}");
    }
    assert_reads(&zip(&[], &files), LARGE);
}

#[test]
fn a_long_deflate_stream_is_read_from_checkpoints() {
    let image = [noise(1, 77), gzip("-6", &text(4, 5_300_000)), noise(2, 77)].concat();
    let plan = assert_reads(&image, ApplyBudget { ram: 4 << 20, scratch: 0 });
    assert_eq!(plan.access, [Access::Index]);
}

#[test]
fn other_long_streams_go_to_memory_or_scratch() {
    let image = [xz(&["-1"], &text(5, 2_000_000)), xz(&["-1"], &text(6, 2_500_000))].concat();
    assert_eq!(assert_reads(&image, LARGE).access, [Access::Memory; 2]);
    let half = assert_reads(&image, ApplyBudget { ram: 5 << 20, scratch: 3 << 20 });
    assert_eq!(half.access, [Access::Memory, Access::Scratch(0)]);
    let none = assert_reads(&image, ApplyBudget { ram: 3 << 20, scratch: 5 << 20 });
    assert_eq!(none.access, [Access::Scratch(0), Access::Scratch(2_000_000)]);
}

#[test]
fn streams_inside_contents_are_read_through_them() {
    let inner = [noise(1, 900), gzip("-9", &text(7, 2_500_000)), xz(&["-0"], &text(8, 1_300_000))].concat();
    let image = [gzip("-1", &[text(9, 1_500_000), inner.clone()].concat()), xz(&["-0"], &inner)].concat();
    let plan = assert_reads(&image, ApplyBudget { ram: 5 << 20, scratch: 8 << 20 });
    assert_eq!(plan.access.len(), 6);
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_read() {
    let image = xz(&["-1"], &text(5, 2_000_000));
    let streams = Found::old_streams(&old(&image));
    let plan = |ram, scratch| Plan::new(image.len() as u64, &streams, ApplyBudget { ram, scratch });
    let needs = plan(64 << 20, 0).expect("it fits");
    assert!(plan(needs.ram, 0).is_ok());
    assert!(matches!(plan(needs.ram - 1, 0), Err(ContentError::OverLimit { field: "scratch", .. })));
    assert!(matches!(plan(1000, 4 << 20), Err(ContentError::OverLimit { field: "memory", .. })));
}

#[test]
fn streams_outside_what_holds_them_are_refused() {
    let image = gzip("-9", &text(1, 10_000));
    let good = Found::old_streams(&old(&image))[0];
    let refused = |streams: &[OldStream]| Plan::new(image.len() as u64, streams, LARGE).is_err();
    assert!(!refused(&[good]));
    assert!(refused(&[OldStream { start: good.start + 9, ..good }]));
    assert!(refused(&[OldStream { start: u64::MAX, ..good }]));
    assert!(refused(&[OldStream { parent: Some(0), ..good }]));
    assert!(refused(&[OldStream { parent: Some(7), ..good }]));
    assert!(refused(&[OldStream { content_len: u64::MAX, ..good }]));
    let nested = |parent| OldStream { parent: Some(parent), start: 0, len: 10, content_len: 1000, ..good };
    assert!(refused(&[good, nested(0), nested(1), nested(2)]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a head claims about streams: an error, never a panic, and no more memory than the budget.
    #[test]
    fn false_claims_are_errors(
        start in 0u64..40, len in 0u64..9000, content_len in 0u64..3_000_000, codec in 0u8..6, dict in 0u8..31, parent in 0u8..3,
    ) {
        use sluice_delta::content::{Branch, Codec, Dict};
        let image = gzip("-9", &text(1, 20_000));
        let dict = Dict::from_code(dict).expect("the code is in range");
        let codec = match codec {
            0 => Codec::Deflate,
            1 => Codec::Zlib,
            2 => Codec::Lzma { dict },
            3 => Codec::Lzma2 { dict, branch: Branch::X86 },
            4 => Codec::Xz { dict },
            _ => Codec::Zstd { window: dict },
        };
        let first = Found::old_streams(&old(&image))[0];
        let parent = if parent == 0 { Some(0) } else { None };
        let claimed = OldStream { parent, start, len, codec, content_len };
        if let Ok(mut unfolded) = Unfolded::new(image.len() as u64, vec![first, claimed], LARGE) {
            let mut contents = OldContents::new(&mut unfolded, Cursor::new(&image), Cursor::new(Vec::new()));
            let begin = image.len() as u64 + first.content_len;
            let mut out = vec![0; (content_len as usize).min(100)];
            let _ = contents.read_at(begin, &mut out);
            let _ = contents.read_at(begin + content_len - out.len() as u64, &mut out);
        }
    }
}
