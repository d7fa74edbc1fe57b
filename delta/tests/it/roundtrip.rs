//! A patch gives back exactly the new image, whatever the images are.

use std::ops::ControlFlow;

use proptest::prelude::*;
use sluice_delta::{ApplyBudget, Codec, DiffError, DiffOptions, Phase, Profile, Progress, diff};

use crate::images::{applied, code_like, noise, patch, patch_with};

/// Random edits: kind, place, length.
fn edits() -> impl Strategy<Value = Vec<(u8, u16, u16)>> {
    prop::collection::vec((0u8..4, any::<u16>(), 1u16..2_000), 0..12)
}

fn edited(old: &[u8], edits: &[(u8, u16, u16)]) -> Vec<u8> {
    let mut new = old.to_vec();
    for (n, &(kind, at, len)) in edits.iter().enumerate() {
        let at = usize::from(at) % (new.len() + 1);
        let end = (at + usize::from(len)).min(new.len());
        match kind {
            0 => drop(new.drain(at..end)),
            1 => drop(new.splice(at..at, noise(usize::from(len), n as u64))),
            2 => new[at..end].iter_mut().for_each(|byte| *byte = byte.wrapping_add(4)),
            _ => {
                let moved = new[at..end].to_vec();
                new.extend(moved);
            }
        }
    }
    new
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_edits(seed in any::<u64>(), len in 0usize..40_000, edits in edits(), profile in 0..Profile::ALL.len()) {
        let old = noise(len, seed);
        let new = edited(&old, &edits);
        let profile = Profile::ALL[profile];
        let options = DiffOptions { profile, segment_len: Some(8 << 10), ..DiffOptions::default() };
        prop_assert_eq!(applied(&old, &patch_with(&old, &new, &options).bytes).unwrap(), new);
    }

    #[test]
    fn unrelated_images_of_few_symbols(
        old in prop::collection::vec(0u8..3, 0..3_000),
        new in prop::collection::vec(0u8..3, 0..3_000),
    ) {
        prop_assert_eq!(applied(&old, &patch(&old, &new).bytes).unwrap(), new);
    }
}

#[test]
fn erased_flash_that_the_old_image_lacks() {
    let old = noise(70_000, 1);
    for profile in Profile::ALL {
        for new in [vec![0xff; 400_000], [&old[..], &vec![0xff; 300_000]].concat(), vec![0; 70_000]] {
            let options = DiffOptions { profile, segment_len: Some(64 << 10), ..DiffOptions::default() };
            assert!(applied(&old, &patch_with(&old, &new, &options).bytes).unwrap() == new, "{profile}");
        }
    }
}

#[test]
fn segments_that_follow_each_other_share_nothing() {
    // The same words again and again, so that every segment has something to guess from, and different by one in ten.
    let words = |release: u32| -> Vec<u8> {
        (0..60_000u32)
            .flat_map(|n| (n % 97 * 0x0101 + n / 1_000 + if n % 10 == 3 { release } else { 0 }).to_le_bytes())
            .collect()
    };
    let (old, new) = (words(0), words(7));
    for profile in [Profile::Small, Profile::Mcu] {
        let options = DiffOptions { profile, segment_len: Some(16 << 10), ..DiffOptions::default() };
        let patch = patch_with(&old, &new, &options);
        assert!(patch.head.segments.len() > 10);
        assert!(applied(&old, &patch.bytes).unwrap() == new, "{profile}");
    }
}

#[test]
fn empty_images() {
    for (old, new) in [(&b""[..], &b""[..]), (b"", b"new"), (b"old", b""), (b"x", b"x"), (b"x", b"y")] {
        let patch = patch(old, new);
        assert_eq!(applied(old, &patch.bytes).unwrap(), new);
        assert_eq!(patch.bytes.len() as u64, patch.head.patch_len());
    }
}

#[test]
fn an_identical_image_costs_next_to_nothing() {
    let image = code_like(500, 0);
    let patch = patch(&image, &image);
    assert!(patch.bytes.len() < 200, "{} bytes", patch.bytes.len());
    assert_eq!(applied(&image, &patch.bytes).unwrap(), image);
}

#[test]
fn repetitive_images_take_no_quadratic_time() {
    let old = vec![0xff; 600_000];
    let mut new = vec![0xff; 700_000];
    for at in (0..new.len()).step_by(5_000) {
        new[at] = at as u8;
    }
    assert_eq!(applied(&old, &patch(&old, &new).bytes).unwrap(), new);
}

#[test]
fn degenerate_images_come_back() {
    let len = 300_000;
    let fibonacci = {
        let (mut a, mut b) = (vec![1u8], vec![1u8, 0]);
        while b.len() < len {
            (a, b) = (b.clone(), [b, a].concat());
        }
        b
    };
    let images = [
        vec![0; len],
        vec![0xff; len + 7],
        (0..len).map(|at| (at % 2) as u8).collect(),
        (0..len).map(|at| (at * 256 / len) as u8).collect(),
        fibonacci,
        noise(len, 1),
        vec![7],
    ];
    for old in &images {
        for new in &images {
            assert!(applied(old, &patch(old, new).bytes).unwrap() == *new, "{:?} {:?}", &old[..1], &new[..1]);
        }
    }
}

#[test]
fn a_bound_on_memory_costs_little() {
    let (old, new) = (code_like(8_000, 0), code_like(8_000, 1));
    let [free, bound] = [None, Some(0)].map(|memory| {
        let patch = patch_with(&old, &new, &DiffOptions { memory, ..DiffOptions::default() });
        assert!(applied(&old, &patch.bytes).unwrap() == new);
        patch.bytes.len()
    });
    assert!(bound <= free + free / 50, "{bound} bytes, {free} without a bound");
}

#[test]
fn the_number_of_threads_does_not_change_a_byte() {
    let (old, new) = (code_like(8_000, 0), code_like(8_000, 1));
    for memory in [None, Some(0)] {
        let options = DiffOptions { segment_len: Some(128 << 10), memory, ..DiffOptions::default() };
        let bytes = [1, 2, 8].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| patch_with(&old, &new, &options).bytes)
        });
        assert!(bytes[0].len() > 1_000);
        assert!(bytes[0] == bytes[1]);
        assert!(bytes[0] == bytes[2]);
    }
}

#[test]
fn the_fast_profile_has_no_lzma() {
    let (old, new) = (code_like(900, 0), code_like(900, 1));
    let codecs = |profile| {
        let patch = patch_with(&old, &new, &DiffOptions { profile, ..DiffOptions::default() });
        assert_eq!(applied(&old, &patch.bytes).unwrap(), new);
        patch.head.segments.iter().flat_map(|s| s.streams.clone()).map(|s| s.codec).collect::<Vec<_>>()
    };
    assert!(!codecs(Profile::Fast).contains(&Codec::Lzma));
    assert!(codecs(Profile::Default).contains(&Codec::Lzma));
}

#[test]
fn profiles_have_names() {
    for profile in Profile::ALL {
        assert_eq!(profile.to_string().parse(), Ok(profile));
    }
    assert_eq!(
        "huge".parse::<Profile>().unwrap_err().to_string(),
        r#"unknown profile "huge"; known are fast, default, small and mcu"#
    );
}

#[test]
fn segment_lengths_out_of_range_are_refused() {
    for segment_len in [0, 1, 4_095, 5_000, 128 << 20] {
        let options = DiffOptions { segment_len: Some(segment_len), ..DiffOptions::default() };
        let result = diff(b"old", b"new", &options, &|_| ControlFlow::Continue(()));
        assert!(matches!(result, Err(DiffError::SegmentLen { len, .. }) if len == segment_len), "{segment_len}");
    }
}

#[test]
fn a_patch_beyond_the_budget_is_not_made() {
    let options = DiffOptions { budget: ApplyBudget { ram: 100_000, scratch: 0 }, ..DiffOptions::default() };
    let result = diff(&code_like(500, 0), &code_like(500, 1), &options, &|_| ControlFlow::Continue(()));
    assert!(matches!(result, Err(DiffError::OverBudget { needed, budget: 100_000, .. }) if needed > 100_000));
}

#[test]
fn progress_is_told_and_can_cancel() {
    let (old, new) = (code_like(500, 0), code_like(500, 1));
    let options = DiffOptions { segment_len: Some(16 << 10), ..DiffOptions::default() };
    let last = std::sync::Mutex::new(None::<Progress>);
    diff(&old, &new, &options, &|progress| {
        let mut last = last.lock().unwrap();
        if last.is_none_or(|last| last.phase != progress.phase || last.done <= progress.done) {
            *last = Some(progress);
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    let total = new.len() as u64;
    assert_eq!(last.into_inner().unwrap(), Some(Progress { phase: Phase::Code, done: total, total }));

    let stop = |progress: Progress| {
        if progress.done > 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    assert!(matches!(diff(&old, &new, &options, &stop), Err(DiffError::Cancelled)));
}
