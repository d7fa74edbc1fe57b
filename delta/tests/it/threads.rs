//! Several threads make what one makes, and fail where one fails.

use std::{io::Cursor, num::NonZeroUsize};

use proptest::prelude::*;
use sluice_delta::{Applier, ApplyBudget, ApplyError, DiffOptions, Patch, Profile};

use crate::{
    contents::tools::{gzip, noise, squashfs, text},
    images::{code_like, patch_with},
};

const LARGE: ApplyBudget = ApplyBudget { ram: 256 << 20, scratch: 0 };

/// Applies from a slot that holds some of the output already.
fn applied(old: &[u8], patch: &Patch, threads: usize, mut slot: Vec<u8>) -> (Result<(), ApplyError>, Vec<u8>) {
    let head = &patch.head;
    let mut applier = Applier::new(head, LARGE).unwrap();
    let from = applier.resume_point(&mut &slot[..]).unwrap();
    slot.truncate(from.new_offset as usize);
    let mut done = Vec::new();
    let coded = &patch.bytes[head.head_len as usize..head.segments_offset() as usize];
    let result = applier.lead(coded).and_then(|()| {
        let mut rest = &patch.bytes[from.patch_offset as usize..];
        let threads = NonZeroUsize::new(threads).unwrap();
        applier.segments(threads, || Ok(Cursor::new(old)), &mut rest, &mut slot, |at| done.push(at))?;
        applier.finish()
    });
    let ends = head.segments[from.segments_done as usize..].iter().map(|s| s.new_offset + u64::from(s.len));
    assert!(ends.zip(&done).all(|(end, done)| end == *done), "progress comes in order");
    (result, slot)
}

fn cases() -> Vec<(Vec<u8>, Vec<u8>, Patch)> {
    let (old, new) = (code_like(900, 0), code_like(900, 1));
    let plain = [Profile::Fast, Profile::Default, Profile::Small, Profile::Mcu].map(|profile| {
        let options = DiffOptions { profile, segment_len: Some(16 << 10), ..DiffOptions::default() };
        (old.clone(), new.clone(), patch_with(&old, &new, &options))
    });
    let mut cases = plain.to_vec();
    let (mut before, after) = (text(1, 700_000), text(1, 700_000));
    for at in (0..before.len()).step_by(90_000) {
        before[at] ^= 1;
    }
    // Streams that begin and end within a segment, and one that reaches across all of them.
    let squashed =
        |text: &[u8]| squashfs(&["-comp", "gzip", "-b", "16384"], &[("a", text.to_vec()), ("b", noise(3, 50_000))]);
    // Both, one after the other.
    let mixed = |text: &[u8]| [&noise(5, 300_000)[..], &gzip("-9", text), &text[..400_000], &gzip("-6", text)].concat();
    for (old, new) in [
        (squashed(&before), squashed(&after)),
        (gzip("-9", &before), gzip("-9", &after)),
        (mixed(&before), mixed(&after)),
    ] {
        for profile in [Profile::Default, Profile::Small] {
            let options = DiffOptions { profile, segment_len: Some(64 << 10), budget: LARGE, ..DiffOptions::default() };
            let patch = patch_with(&old, &new, &options);
            assert!(!patch.head.views.layers.is_empty());
            cases.push((old.clone(), new.clone(), patch));
        }
    }
    cases
}

#[test]
fn any_number_of_threads_makes_the_image() {
    for (number, (old, new, patch)) in cases().iter().enumerate() {
        assert!(patch.head.segments.len() > 3);
        for threads in [1, 2, 3, 8] {
            let (result, made) = applied(old, patch, threads, Vec::new());
            result.unwrap();
            assert!(made == *new, "case {number}, {threads} threads");
            let (result, made) = applied(old, patch, threads, new[..new.len() * 2 / 3].to_vec());
            result.unwrap();
            assert!(made == *new, "case {number}, {threads} threads, resumed");
        }
    }
}

#[test]
fn the_first_damaged_segment_is_named_and_those_before_it_stand() {
    for (old, new, patch) in &mut cases() {
        // A segment without a coded byte cannot be damaged.
        let coded = |at: &usize| patch.head.segments[*at].coded_len > 0;
        let all: Vec<usize> = (patch.head.segments.len() / 2..patch.head.segments.len()).filter(coded).collect();
        for &at in &all {
            patch.bytes[patch.head.segments[at].patch_offset as usize] ^= 1;
        }
        let damaged = all[0];
        for threads in [1, 2, 8] {
            let (result, made) = applied(old, patch, threads, Vec::new());
            let error = result.unwrap_err();
            assert!(matches!(error, ApplyError::SegmentMismatch { segment } if segment as usize == damaged), "{error}");
            let stands = patch.head.segments[..damaged].iter().filter_map(|segment| segment.image_end).next_back();
            let stands = stands.unwrap_or(0) as usize;
            assert!(made.len() >= stands && made[..stands] == new[..stands]);
        }
    }
}

#[test]
fn an_old_image_that_is_another_is_found_by_every_thread() {
    let (old, _, patch) = &cases()[2];
    let mut other = old.clone();
    for byte in &mut other {
        *byte ^= 0x40;
    }
    for threads in [1, 2, 8] {
        let error = applied(&other, patch, threads, Vec::new()).0.unwrap_err();
        let first = match error {
            ApplyError::OutputMismatch { segment } | ApplyError::Decode { segment, .. } => segment,
            error => panic!("{error}"),
        };
        assert_eq!(first, 0);
    }
}

/// Panics when it is written to the second time.
struct Brittle(u32);

impl std::io::Write for Brittle {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += 1;
        assert!(self.0 < 2, "brittle");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_panic_of_a_caller_is_passed_on() {
    let (old, _, patch) = &cases()[1];
    let head = &patch.head;
    for threads in [2, 8] {
        let panicked = std::panic::catch_unwind(|| {
            let mut applier = Applier::new(head, LARGE).unwrap();
            let mut rest = &patch.bytes[head.segments_offset() as usize..];
            let threads = NonZeroUsize::new(threads).unwrap();
            applier.segments(threads, || Ok(Cursor::new(old)), &mut rest, &mut Brittle(0), |_| ())
        });
        assert!(panicked.is_err(), "with {threads} threads");
    }
}

#[test]
fn a_budget_decides_how_many_threads_there_are() {
    let (_, _, patch) = &cases()[1];
    let head = &patch.head;
    let applier = Applier::new(head, LARGE).unwrap();
    let eight = NonZeroUsize::new(8).unwrap();
    for further in 0..10 {
        let budget = ApplyBudget { ram: head.ram + further * head.ram_per_thread, scratch: 0 };
        assert_eq!(applier.threads(eight, budget).get() as u64, (further + 1).min(8));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn damage_anywhere_ends_with_the_image_or_a_refusal(place in any::<prop::sample::Index>(), bit in 0u8..8) {
        let (old, new) = (code_like(300, 0), code_like(300, 1));
        let options = DiffOptions { profile: Profile::Small, segment_len: Some(16 << 10), ..DiffOptions::default() };
        let mut patch = patch_with(&old, &new, &options);
        let from = patch.head.head_len as usize;
        let at = from + place.index(patch.bytes.len() - from);
        patch.bytes[at] ^= 1 << bit;
        let (one, four) = (applied(&old, &patch, 1, Vec::new()), applied(&old, &patch, 4, Vec::new()));
        prop_assert!(one.0.is_err());
        prop_assert_eq!(one.0.unwrap_err().to_string(), four.0.unwrap_err().to_string());
    }
}
