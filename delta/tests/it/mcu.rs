//! The applier for microcontrollers makes what the other makes, and refuses what it cannot.

use std::{cell::Cell, io};

use proptest::prelude::*;
use sha2::{Digest, Sha256};
use sluice_delta::{ApplyBudget, ApplyError, ApplyOptions, DiffOptions, Head, Limits, Patch, Profile, mcu};

use crate::images::{applied, applied_with, code_like, noise, patch_with};

fn made_for(old: &[u8], new: &[u8], profile: Profile) -> Patch {
    patch_with(old, new, &DiffOptions { profile, ..DiffOptions::default() })
}

fn made(old: &[u8], new: &[u8]) -> Patch {
    made_for(old, new, Profile::Mcu)
}

fn vouched(patch: &Patch) -> (u32, [u8; 32]) {
    (patch.head_len, patch.head_sha256())
}

/// Applies all of a patch, vouched for or not, in memory that another patch was applied in before.
fn apply(old: &[u8], patch: &[u8], vouched: (u32, [u8; 32])) -> (Vec<u8>, Result<(), ApplyError>) {
    let mut memory = Box::new(mcu::Memory::new());
    let mut new = Vec::new();
    let mut run = || {
        let mut applier = mcu::Applier::new(&mut memory, mcu::mapped(patch), vouched, &Limits::default())?;
        applier.check_old(old.len() as u32, mcu::mapped(old))?;
        while applier.segment(mcu::mapped(old), |bytes| {
            new.extend_from_slice(bytes);
            Ok(())
        })? {}
        applier.finish()
    };
    let result = run();
    (new, result)
}

fn applies(old: &[u8], new: &[u8]) -> Patch {
    let patch = made(old, new);
    let (slot, result) = apply(old, &patch.bytes, vouched(&patch));
    result.unwrap();
    assert!(slot == new);
    assert!(applied(old, &patch.bytes).unwrap() == new, "the other applier agrees");
    patch
}

#[test]
fn makes_the_new_image() {
    let old = code_like(700, 0);
    let patch = applies(&old, &code_like(700, 1));
    assert!(patch.head.segments.len() > 1);
    assert_eq!(patch.head.ram, (size_of::<mcu::Memory>() as u64).next_multiple_of(1 << 10));
    applies(&old, &old);
    applies(&old, &[]);
    applies(&[], &old);
    applies(&[], &[]);
    applies(&noise(5_000, 1), &noise(70_000, 2));
}

/// `delta/bare/check` measures the stack beside it, some 5 KiB.
#[test]
fn memory_leaves_room_for_a_stack_in_64_kib() {
    assert!(size_of::<mcu::Memory>() <= 59 << 10, "{} bytes", size_of::<mcu::Memory>());
}

#[test]
fn patches_of_other_profiles_apply_if_they_need_no_more() {
    let (old, new) = (code_like(60, 0), code_like(60, 1));
    let (_, result) = {
        let patch = made_for(&old, &new, Profile::Small);
        apply(&old, &patch.bytes, vouched(&patch))
    };
    let budget = size_of::<mcu::Memory>() as u64;
    let refused = result.unwrap_err();
    assert!(
        matches!(refused, ApplyError::OverBudget { needed, budget: b, .. } if needed > 2 * budget && b == budget),
        "{refused}"
    );
    let patch = made_for(&old, &new, Profile::Fast);
    let (slot, result) = apply(&old, &patch.bytes, vouched(&patch));
    assert!(matches!(result, Err(ApplyError::UnknownCodec { .. })), "{result:?}");
    assert!(slot.is_empty());
    // One segment of raw streams, commands of its own.
    let (old, new) = (noise(40, 1), noise(30, 2));
    let patch = made_for(&old, &new, Profile::Default);
    let (slot, result) = apply(&old, &patch.bytes, vouched(&patch));
    result.unwrap();
    assert_eq!(slot, new);
}

#[test]
fn the_map_keeps_the_longest_copies_that_fit() {
    let old = noise(300_000, 3);
    let mut new = Vec::new();
    for n in 0..900usize {
        let at = n * 7_919 % (old.len() - 200);
        new.extend_from_slice(&old[at..at + 40 + n % 120]);
    }
    let patch = applies(&old, &new);
    let map = patch.head.map.unwrap();
    assert!((100..=256).contains(&map.spans), "{map:?}");
    assert!((100..160).contains(&map.shortest), "{map:?}");
}

#[test]
fn goes_on_behind_every_segment() {
    let (old, new) = (code_like(900, 0), code_like(900, 1));
    let patch = made(&old, &new);
    let segments = &patch.head.segments;
    assert!(segments.len() > 2);
    for (number, segment) in (0..).zip(segments) {
        // A segment was half written, and erased flash is behind it.
        let begun = segment.new_offset as usize + segment.len as usize / 2;
        let mut slot = [&new[..begun], &vec![0xff; new.len() - begun]].concat();
        let mut memory = Box::new(mcu::Memory::new());
        let patch_at = mcu::mapped(&patch.bytes);
        let mut applier = mcu::Applier::new(&mut memory, patch_at, vouched(&patch), &Limits::default()).unwrap();
        let progress = applier.resume(slot.len() as u32, mcu::mapped(&slot)).unwrap();
        assert_eq!(progress, mcu::Progress { segments: number, new_offset: segment.new_offset as u32 });
        slot.truncate(progress.new_offset as usize);
        while applier
            .segment(mcu::mapped(&old), |bytes| {
                slot.extend_from_slice(bytes);
                Ok(())
            })
            .unwrap()
        {}
        applier.finish().unwrap();
        assert!(slot == new);
    }
}

#[test]
fn what_is_not_vouched_for_is_refused_before_anything_is_written() {
    let (old, new) = (code_like(300, 0), code_like(300, 1));
    let patch = made(&old, &new);
    let vouched = vouched(&patch);
    let head_len = patch.head_len as usize;
    let lead_len = patch.head.lead.as_ref().unwrap().coded_len as usize;
    let refused = |at: usize| {
        let mut bytes = patch.bytes.clone();
        bytes[at] ^= 1;
        apply(&old, &bytes, vouched)
    };
    for at in 8..head_len {
        assert!(matches!(refused(at), (slot, Err(ApplyError::HeadMismatch)) if slot.is_empty()), "{at}");
    }
    for at in head_len..head_len + lead_len {
        assert!(matches!(refused(at), (slot, Err(ApplyError::LeadMismatch)) if slot.is_empty()), "{at}");
    }
    for at in (head_len + lead_len..patch.bytes.len()).step_by(7) {
        let (slot, result) = refused(at);
        let Err(ApplyError::SegmentMismatch { segment }) = result else { panic!("{result:?}") };
        assert_eq!(slot.len() as u64, patch.head.segments[segment as usize].new_offset);
    }
    let mut other = old.clone();
    other[77] ^= 1;
    assert!(matches!(apply(&other, &patch.bytes, vouched), (slot, Err(ApplyError::OldMismatch)) if slot.is_empty()));
    let cut = apply(&other[1..], &patch.bytes, vouched);
    assert!(matches!(cut, (slot, Err(ApplyError::OldLength { .. })) if slot.is_empty()));
    assert!(matches!(apply(&old, &patch.bytes[..head_len / 2], vouched).1, Err(ApplyError::ReadPatch(_))));
}

#[test]
fn trouble_of_the_machine_is_told_apart_and_the_segment_tried_again() {
    let (old, new) = (code_like(300, 0), code_like(300, 1));
    let patch = made(&old, &new);
    // The storage fails once, at every hundredth access.
    for fails in (0..4_000).step_by(100) {
        let (reads, mut slot) = (Cell::new(0), Vec::new());
        let storage = |bytes| {
            let (inner, reads) = (mcu::mapped(bytes), &reads);
            move |at: u32, out: &mut [u8]| {
                reads.set(reads.get() + 1);
                if reads.get() == fails { Err(io::Error::other("worn out")) } else { inner(at, out) }
            }
        };
        let mut memory = Box::new(mcu::Memory::new());
        let vouched = vouched(&patch);
        let mut applier = match mcu::Applier::new(&mut memory, storage(&patch.bytes), vouched, &Limits::default()) {
            Ok(applier) => applier,
            Err(error) => {
                assert!(error.is_io(), "{error}");
                continue;
            }
        };
        loop {
            let done = applier.segment(storage(&old), |bytes| {
                slot.extend_from_slice(bytes);
                Ok(())
            });
            match done {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    assert!(error.is_io(), "{error}");
                    slot.truncate(applier.progress().new_offset as usize);
                }
            }
        }
        applier.finish().unwrap();
        assert!(slot == new);
    }
}

fn edited(old: &[u8], edits: &[(u8, u16, u16)]) -> Vec<u8> {
    let mut new = old.to_vec();
    for &(kind, at, len) in edits {
        let at = usize::from(at) % (new.len() + 1);
        let end = (at + usize::from(len % 600)).min(new.len());
        match kind % 4 {
            0 => drop(new.splice(at..at, noise(usize::from(len % 600), u64::from(len)))),
            1 => drop(new.drain(at..end)),
            2 => new[at..end].iter_mut().for_each(|byte| *byte = byte.wrapping_add(kind)),
            _ => drop(new.splice(at..at, old[..usize::from(len) % (old.len() + 1)].to_vec())),
        }
    }
    new
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_edits(
        functions in 1usize..120,
        edits in proptest::collection::vec((any::<u8>(), any::<u16>(), any::<u16>()), 0..12),
    ) {
        let old = code_like(functions, 0);
        applies(&old, &edited(&code_like(functions, 1), &edits));
    }

    /// A crafted patch whose head is vouched for: refused, or what the other applier makes too.
    #[test]
    fn crafted_patches(
        changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..6),
        resign in any::<bool>(),
    ) {
        let (old, new) = (code_like(40, 0), code_like(40, 1));
        let patch = made(&old, &new);
        let mut bytes = patch.bytes.clone();
        for (at, value) in changes {
            let at = usize::from(at) % bytes.len();
            bytes[at] ^= value;
        }
        if resign {
            resigned(&mut bytes, &patch.head);
        }
        let head_len = patch.head_len;
        let sha256 = Sha256::digest(&bytes[..head_len as usize]).into();
        let (slot, result) = apply(&old, &bytes, (head_len, sha256));
        prop_assert!(slot.len() <= 1 << 20);
        if result.is_ok() {
            let budget = ApplyBudget { ram: u64::MAX, scratch: 0 };
            let made = applied_with(&old, &bytes, &ApplyOptions { budget, ..ApplyOptions::default() });
            prop_assert!(made.is_ok_and(|made| made == slot));
        }
    }
}

/// Makes the authenticators of a changed patch true again, so that what was changed is decoded.
fn resigned(bytes: &mut [u8], head: &Head) {
    let mut sign = |at: usize, len: usize, known: [u8; 16]| {
        let Some(coded) = bytes.get(at..at + len) else { return };
        let now = Sha256::digest(coded);
        let head = &mut bytes[..head.head_len as usize];
        if let Some(place) = head.windows(16).position(|bytes| bytes == known) {
            head[place..place + 16].copy_from_slice(&now[..16]);
        }
    };
    if let Some(lead) = &head.lead {
        sign(head.head_len as usize, lead.coded_len as usize, lead.coded_sha256);
    }
    for segment in &head.segments {
        sign(segment.patch_offset as usize, segment.coded_len as usize, segment.coded_sha256);
    }
}
