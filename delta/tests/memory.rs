//! What applying reserves, counted by the allocator. It stands in a test binary of its own, because the count covers the
//! whole process and other tests would disturb it.

#![cfg(feature = "generate")]
#![expect(clippy::cast_possible_truncation, reason = "test images are far below every limit")]

use std::{hint::black_box, io::Cursor, num::NonZeroUsize, ops::ControlFlow};

use peak_alloc::PeakAlloc;
use sluice_delta::{
    Applier, ApplyBudget, ApplyError, ApplyOptions, DiffOptions, Head, Limits, Patch, Profile, apply, diff,
};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Bytes that `work` holds at most, beyond what was held before.
fn peak<T>(work: impl FnOnce() -> T) -> (T, u64) {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let result = black_box(work());
    (result, (ALLOCATOR.peak_usage() - before) as u64)
}

/// Words that repeat with small changes, and a part without structure: all three streams are used.
fn image(len: usize, release: u64) -> Vec<u8> {
    let mut state = 1u64;
    let mut image: Vec<u8> = (0..len / 8)
        .flat_map(|at| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let word = if at % 37 == 0 { (state >> 20) + release * 64 } else { state >> 40 };
            word.to_le_bytes()
        })
        .collect();
    let mut state = release + 5;
    for byte in image.iter_mut().skip(len / 2).step_by(1 + release as usize) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = (state >> 56) as u8;
    }
    image
}

fn apply_with(threads: usize, old: &[u8], patch: &Patch, out: &mut Vec<u8>) -> Result<(), ApplyError> {
    let head = &patch.head;
    let mut applier = Applier::new(head, ApplyBudget::default())?;
    let (from, mut rest) = (head.segments_offset() as usize, &patch.bytes[..]);
    applier.lead(&rest[head.head_len as usize..from])?;
    rest = &rest[from..];
    applier.segments(NonZeroUsize::new(threads).unwrap(), || Ok(Cursor::new(old)), &mut rest, out, |_| ())?;
    applier.finish()
}

#[test]
fn memory_is_what_the_head_declares() {
    for (len, segment_len, profile) in [
        (40_000, None, Profile::Default),
        (40_000, None, Profile::Fast),
        (900_000, None, Profile::Default),
        (900_000, None, Profile::Fast),
        (6_000_000, None, Profile::Default),
        (6_000_000, None, Profile::Fast),
        (2_000_000, Some(64 << 10), Profile::Default),
        (2_000_000, Some(64 << 10), Profile::Fast),
        (40_000, None, Profile::Small),
        (900_000, None, Profile::Small),
        (6_000_000, None, Profile::Small),
        (200_000, None, Profile::Mcu),
    ] {
        let (old, new) = (image(len, 0), image(len + 1_000, 1));
        let options = DiffOptions { profile, segment_len, ..DiffOptions::default() };
        let patch = diff(&old, &new, &options, &|_| ControlFlow::Continue(())).unwrap();
        let mut out = Vec::with_capacity(new.len());
        let (result, used) = peak(|| apply(Cursor::new(&old), &patch.bytes[..], &mut out, &ApplyOptions::default()));
        result.unwrap();
        assert_eq!(out, new);
        let table = u64::from(patch.head_len) * 16;
        // For microcontrollers the head declares what their own applier takes. This one adds up what it takes itself.
        let nothing = ApplyOptions { budget: ApplyBudget { ram: 0, scratch: 0 }, ..ApplyOptions::default() };
        let refused = apply(Cursor::new(&old), &patch.bytes[..], Vec::new(), &nothing);
        let Err(ApplyError::OverBudget { needed, .. }) = refused else { panic!("{refused:?}") };
        assert!(profile == Profile::Mcu || needed == patch.head.ram);
        assert!(used <= needed + table, "{len} {profile}: {used} bytes used, {needed} needed");
        assert!(needed < 4 * used + (2 << 20), "{len} {profile}: {used} used, {needed} needed");
        for threads in [2, 4] {
            let mut out = Vec::with_capacity(new.len());
            let (result, used) = peak(|| apply_with(threads, &old, &patch, &mut out));
            result.unwrap();
            assert_eq!(out, new);
            let declared = needed + (threads as u64 - 1) * patch.head.ram_per_thread + table;
            assert!(used <= declared, "{len} {profile} {threads} threads: {used} bytes used, {declared} declared");
        }
    }

    // Claims of a crafted head, the largest each field can make: refused without a reservation.
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    for place in [4, 5, 6, 39, 72] {
        let mut head = vec![0xf5, b'S', b'L', 1, 120, 0, 5];
        head.resize(120, 0);
        head.splice(place..=place, huge);
        head.truncate(120);
        let (refused, used) = peak(|| Head::parse(&head, &Limits::default()));
        assert!(refused.is_err());
        assert!(used < 64 << 10, "{used} bytes for a claim at {place}");
        let (refused, used) = peak(|| apply(Cursor::new(b"old"), &head[..], Vec::new(), &ApplyOptions::default()));
        assert!(refused.is_err());
        assert!(used < 2 << 20, "{used} bytes for a claim at {place}");
    }
}
