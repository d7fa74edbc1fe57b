//! Patches into compressed streams: what they cost, how they go on after a cut, and what they ask of a device.

use std::io::{Cursor, Write};

use proptest::prelude::*;
use sluice_delta::{Applier, ApplyBudget, ApplyError, ApplyOptions, DiffError, DiffOptions, Patch, Profile, diff};

use crate::{
    contents::tools::{gzip, noise, squashfs, text, xz, zip},
    images::{applied, applied_with, patch_with},
};

/// Budget of a device with an operating system.
const LARGE: ApplyBudget = ApplyBudget { ram: 256 << 20, scratch: 0 };

fn options(profile: Profile) -> DiffOptions {
    DiffOptions { profile, budget: LARGE, ..DiffOptions::default() }
}

fn unfolded(old: &[u8], new: &[u8], profile: Profile) -> Patch {
    let patch = patch_with(old, new, &options(profile));
    assert!(!patch.head.views.layers.is_empty(), "the new image is unfolded");
    let options = ApplyOptions { budget: LARGE, ..ApplyOptions::default() };
    assert!(applied_with(old, &patch.bytes, &options).unwrap() == new);
    patch
}

/// A text, and the same with one line changed near its beginning.
fn texts() -> (Vec<u8>, Vec<u8>) {
    let old = text(1, 400_000);
    let mut new = old.clone();
    new.splice(1_000..1_010, *b"another word");
    (old, new)
}

#[test]
fn a_change_inside_a_stream_costs_what_it_costs_outside() {
    let (old, new) = texts();
    for (what, old, new) in [
        ("gzip", gzip("-9", &old), gzip("-9", &new)),
        ("xz", xz(&["-6"], &old), xz(&["-6"], &new)),
        ("zip", zip(&[], &[("a.txt", old.clone())]), zip(&[], &[("a.txt", new.clone())])),
        (
            "squashfs",
            squashfs(&["-comp", "gzip"], &[("a", old.clone())]),
            squashfs(&["-comp", "gzip"], &[("a", new.clone())]),
        ),
    ] {
        let raw = patch_with(&old, &new, &DiffOptions { inside: false, ..options(Profile::Default) });
        for profile in [Profile::Default, Profile::Small] {
            let patch = unfolded(&old, &new, profile);
            let (len, raw) = (patch.bytes.len(), raw.bytes.len());
            assert!(len < 3_000 && len * 10 < raw, "{what}, {profile}: {len} bytes, {raw} without looking inside");
        }
    }
}

#[test]
fn a_stream_in_a_stream_is_unfolded_too() {
    let (old, new) = texts();
    let nested = |text: &[u8]| zip(&["-0"], &[("a.gz", gzip("-9", text)), ("b.gz", gzip("-6", &noise(3, 5_000)))]);
    let outer = |text: &[u8]| gzip("-9", &nested(text));
    let patch = unfolded(&outer(&old), &outer(&new), Profile::Default);
    assert_eq!(patch.head.views.layers.len(), 2);
    assert!(patch.bytes.len() < 3_000, "{} bytes", patch.bytes.len());
}

#[test]
fn what_does_not_fit_the_device_stays_as_it_is() {
    let (old, new) = texts();
    let (old, new) = (xz(&["-6"], &old), xz(&["-6"], &new));
    let budget = ApplyBudget { ram: 4 << 20, scratch: 0 };
    let patch = patch_with(&old, &new, &DiffOptions { budget, ..DiffOptions::default() });
    assert!(patch.head.views.is_plain() && patch.head.ram <= budget.ram);
    assert!(applied(&old, &patch.bytes).unwrap() == new);
}

#[test]
fn profiles_for_small_devices_unfold_nothing() {
    let (old, new) = texts();
    let (old, new) = (gzip("-9", &old), gzip("-9", &new));
    for profile in [Profile::Fast, Profile::Mcu] {
        let patch = patch_with(&old, &new, &options(profile));
        assert!(patch.head.views.is_plain(), "{profile}");
        assert!(applied(&old, &patch.bytes).unwrap() == new);
    }
}

#[test]
fn old_contents_that_memory_cannot_hold_go_to_scratch_storage() {
    // Three megabytes that compress to little, in one stream that cannot be read at random.
    let old = [text(1, 200_000), vec![7; 3 << 20], text(2, 100_000)].concat();
    let new = [text(2, 100_000), vec![7; 3 << 20], text(1, 200_000), text(3, 5_000)].concat();
    let (old, new) = (xz(&["-0"], &old), xz(&["-0"], &new));
    let whole = patch_with(&old, &new, &options(Profile::Default));
    // Less than what holds the content, by half of it.
    let budget = ApplyBudget { ram: whole.head.ram - (2 << 20), scratch: 8 << 20 };
    let patch = patch_with(&old, &new, &DiffOptions { budget, ..DiffOptions::default() });
    assert!(!patch.head.views.is_plain() && patch.head.scratch > 0 && patch.head.scratch <= budget.scratch);
    let mut scratch = Cursor::new(Vec::new());
    let mut applier = Applier::with_scratch(&patch.head, budget, &mut scratch).unwrap();
    let mut out = Vec::new();
    for (number, segment) in (0u32..).zip(&patch.head.segments) {
        let coded = &patch.bytes[segment.patch_offset as usize..][..segment.coded_len as usize];
        applier.segment(number, coded, &mut Cursor::new(&old), &mut out).unwrap();
    }
    applier.finish().unwrap();
    assert!(out == new);
    assert!(scratch.get_ref().len() as u64 <= patch.head.scratch);
    let none = Applier::new(&patch.head, ApplyBudget { ram: budget.ram, scratch: 0 }).err().unwrap();
    assert!(matches!(none, ApplyError::OverBudget { resource: "scratch", .. }), "{none}");
}

/// Applies a patch whose image was cut at `cut`, as a device does that starts anew.
fn resumed(old: &[u8], new: &[u8], patch: &Patch, cut: usize) -> Vec<u8> {
    let mut applier = Applier::new(&patch.head, LARGE).unwrap();
    let mut slot = new[..cut].to_vec();
    let point = applier.resume_point(&mut &slot[..]).unwrap();
    assert!(point.new_offset <= cut as u64);
    slot.truncate(point.new_offset as usize);
    if let Some(lead) = &patch.head.lead {
        applier.lead(&patch.bytes[patch.head_len as usize..][..lead.coded_len as usize]).unwrap();
    }
    let mut slot = Cursor::new(slot);
    slot.set_position(point.new_offset);
    for (number, segment) in (0u32..).zip(&patch.head.segments).skip(point.segments_done as usize) {
        let coded = &patch.bytes[segment.patch_offset as usize..][..segment.coded_len as usize];
        applier.segment(number, coded, &mut Cursor::new(old), &mut slot).unwrap();
    }
    applier.finish().unwrap();
    slot.flush().unwrap();
    slot.into_inner()
}

#[test]
fn a_cut_application_goes_on_behind_the_last_stream_that_is_complete() {
    let files = |seed: u64| (0..6u64).map(|n| text(seed * (n % 2) + n, 150_000)).collect::<Vec<_>>();
    let named = |files: &[Vec<u8>]| {
        let names = ["a", "b", "c", "d", "e", "f"];
        zip(&[], &names.iter().copied().zip(files.iter().cloned()).collect::<Vec<_>>())
    };
    let (old, new) = (named(&files(0)), named(&files(100)));
    for profile in [Profile::Default, Profile::Small] {
        let cut_up = DiffOptions { segment_len: Some(64 << 10), ..options(profile) };
        let patch = patch_with(&old, &new, &cut_up);
        let ends: Vec<_> = patch.head.segments.iter().map(|segment| segment.image_end).collect();
        assert!(ends.iter().flatten().count() > 2 && ends.contains(&None), "{ends:?}");
        for cut in (0..new.len()).step_by(new.len() / 23).chain([new.len()]) {
            assert!(resumed(&old, &new, &patch, cut) == new, "{profile}, cut at {cut}");
        }
    }
}

#[test]
fn a_segment_that_fails_inside_a_stream_asks_to_resume() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (old, new) = texts();
    let (old, new) = (gzip("-9", &old), gzip("-9", &new));
    let patch = unfolded(&old, &new, Profile::Default);
    let mut applier = Applier::new(&patch.head, LARGE).unwrap();
    let segment = &patch.head.segments[0];
    let coded = &patch.bytes[segment.patch_offset as usize..][..segment.coded_len as usize];
    let full = applier.segment(0, coded, &mut Cursor::new(&old), &mut Full(1_000));
    assert!(matches!(full, Err(ApplyError::WriteNew(_))), "{full:?}");
    let again = applier.segment(0, coded, &mut Cursor::new(&old), &mut Vec::new());
    assert!(matches!(again, Err(ApplyError::Interrupted)), "{again:?}");
    let mut out = Vec::new();
    assert_eq!(applier.resume_point(&mut &out[..]).unwrap().segments_done, 0);
    applier.segment(0, coded, &mut Cursor::new(&old), &mut out).unwrap();
    assert!(out == new[..out.len()]);
}

#[test]
fn the_same_bytes_for_any_number_of_threads() {
    let (old, new) = texts();
    let pair = |text: &[u8], seed| {
        zip(&[], &[("a", text.to_vec()), ("b", noise(seed, 90_000)), ("c", text[..9_000].to_vec())])
    };
    let (old, new) = (pair(&old, 1), pair(&new, 2));
    for profile in Profile::ALL {
        let made = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let options = DiffOptions { segment_len: Some(64 << 10), ..options(profile) };
            pool.install(|| diff(&old, &new, &options, &|_| std::ops::ControlFlow::Continue(())).unwrap().bytes)
        };
        let one = made(1);
        assert!(made(2) == one && made(8) == one, "{profile}");
    }
}

#[test]
fn cancelled_while_looking_inside() {
    let (old, new) = texts();
    let stop = |_| std::ops::ControlFlow::Break(());
    let cancelled = diff(&gzip("-9", &old), &gzip("-9", &new), &DiffOptions::default(), &stop);
    assert!(matches!(cancelled, Err(DiffError::Cancelled)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn whatever_stands_around_and_inside_streams_comes_back(
        seed in 0u64..1_000, before in 0usize..2_000, len in 0usize..60_000, at in 0usize..60_000, level in 1u8..10, small in any::<bool>(),
    ) {
        let level = format!("-{level}");
        let plain = text(seed, len);
        let mut changed = plain.clone();
        changed.truncate(at.max(1));
        changed.extend(text(seed + 1, 500));
        changed.extend(plain.get(at..).unwrap_or_default());
        let image = |plain: &[u8], tail: u64| [noise(seed, before), gzip(&level, plain), noise(tail, 700)].concat();
        let (old, new) = (image(&plain, 5), image(&changed, 6));
        let patch = patch_with(&old, &new, &options(if small { Profile::Small } else { Profile::Default }));
        let options = ApplyOptions { budget: LARGE, ..ApplyOptions::default() };
        prop_assert!(applied_with(&old, &patch.bytes, &options).unwrap() == new);
    }
}
