//! Whatever an outsider sends: a typed refusal, never a panic, never a wrong image.

use std::io::Cursor;

use proptest::prelude::*;
use sluice_delta::{Applier, ApplyBudget, ApplyError, ApplyOptions, DiffOptions, Head, Limits, feature};

use crate::{
    format::{Draft, NEW, OLD, example, sha256, varint},
    images::{applied, applied_with, code_like, patch, patch_with},
};

fn parsed(draft: &Draft) -> Result<Head, ApplyError> {
    Head::parse(&draft.head(), &Limits::default())
}

/// The refusal of a head, as its reader would see it.
fn refusal(change: impl FnOnce(&mut Draft)) -> ApplyError {
    let mut draft = example();
    change(&mut draft);
    parsed(&draft).expect_err("the head is refused")
}

#[test]
fn what_is_not_a_patch() {
    for bytes in [&b""[..], b"\xf5", b"BSDIFF40", b"\x28\xb5\x2f\xfd0000"] {
        assert!(matches!(Head::prefix_len(bytes, &Limits::default()), Err(ApplyError::NotAPatch)), "{bytes:?}");
    }
    assert!(matches!(refusal(|draft| draft.version = 2), ApplyError::UnknownVersion { found: 2, known: 1 }));
}

#[test]
fn what_a_newer_generator_may_write() {
    for bit in 7..64 {
        assert!(
            matches!(refusal(|draft| draft.features = 1 << bit), ApplyError::UnknownFeatures { bits } if bits == 1 << bit)
        );
    }
    let content = refusal(|draft| {
        draft.features = feature::VIEWS;
        draft.middle = vec![0, 2, 1, 99];
    });
    assert!(matches!(content, ApplyError::Malformed { field: "stream codec", .. }), "{content}");
    let kind = refusal(|draft| draft.table[0] = 0x80 | 5 << 4);
    assert!(matches!(kind, ApplyError::UnknownStreamKind { segment: 0, kind: 5 }), "{kind}");
    let codec = refusal(|draft| draft.table[0] = 0x80 | 4);
    assert!(matches!(codec, ApplyError::UnknownCodec { segment: 0, codec: 4 }), "{codec}");
}

#[test]
fn claims_over_a_limit() {
    let new = refusal(|draft| draft.new_len = 1 << 60);
    assert!(matches!(new, ApplyError::OverLimit { field: "new length", .. }), "{new}");
    let old = refusal(|draft| draft.old_len = u64::MAX);
    assert!(matches!(old, ApplyError::OverLimit { field: "old length", .. }), "{old}");
    let segment = refusal(|draft| draft.new_len = 1 << 30);
    assert!(matches!(segment, ApplyError::OverLimit { field: "segment length", .. }), "{segment}");
    let control = refusal(|draft| draft.table = [&[0x80][..], &varint(1 << 20), &[0; 40]].concat());
    assert!(matches!(control, ApplyError::OverLimit { field: "raw control length", .. }), "{control}");
    let coded = refusal(|draft| draft.table = [&[0x82, 6][..], &varint(1 << 30), &[0; 40]].concat());
    assert!(matches!(coded, ApplyError::OverLimit { field: "coded stream length", .. }), "{coded}");
    let segments = refusal(|draft| {
        (draft.features, draft.new_len) = (feature::SEGMENTED, 1 << 36);
        draft.table = [&[0, 12][..], &[0; 60]].concat();
    });
    assert!(matches!(segments, ApplyError::OverLimit { field: "segment count", .. }), "{segments}");
    let head = Head::prefix_len(&[&[0xf5, b'S', b'L', 1][..], &varint(1 << 27)].concat(), &Limits::default());
    assert!(matches!(head, Err(ApplyError::OverLimit { field: "head length", .. })));
}

#[test]
fn a_callers_limits_can_only_tighten() {
    let loose = Limits { max_new_len: u64::MAX, ..Limits::default() };
    let mut draft = example();
    draft.new_len = u64::MAX;
    assert!(matches!(Head::parse(&draft.head(), &loose), Err(ApplyError::OverLimit { field: "new length", .. })));
    let slot = Limits { max_new_len: 24, ..Limits::default() };
    let refused = Head::parse(&example().head(), &slot);
    assert!(matches!(refused, Err(ApplyError::OverLimit { field: "new length", value: 25, limit: 24 })));
}

#[test]
fn fields_out_of_shape() {
    type Change = dyn Fn(&mut Draft);
    let cases: [(&str, &Change); 8] = [
        ("a table that ends early", &|draft| draft.table.truncate(draft.table.len() - 1)),
        ("bytes behind the table", &|draft| draft.table.push(0)),
        ("no control stream", &|draft| draft.table = [&[0x10][..], &[0; 16]].concat()),
        ("streams in another order", &|draft| draft.table = [&[0x80, 6, 0xa0, 4, 0x10][..], &[0; 16]].concat()),
        ("an empty stream", &|draft| draft.table = [&[0x80, 6, 0x90, 0x20, 0][..], &[0; 16]].concat()),
        ("no diff where bytes are missing", &|draft| draft.table = [&[0x80, 6, 0x20, 4][..], &[0; 16]].concat()),
        ("offsets without segments", &|draft| draft.features = feature::EXPLICIT),
        ("a segment length that is no power in range", &|draft| {
            draft.features = feature::SEGMENTED;
            draft.table = [&[0, 3][..], &[0; 60]].concat();
        }),
    ];
    for (what, change) in cases {
        let refused = refusal(|draft| change(draft));
        assert!(matches!(refused, ApplyError::Malformed { .. } | ApplyError::Truncated { .. }), "{what}: {refused}");
    }
}

#[test]
fn commands_that_leave_the_views() {
    let commands: [(&str, &[u8]); 8] = [
        ("a copy from before the old image", &[0, 4, 1, 4, 17, 0]),
        ("a copy past the old image", &[0, 4, 0, 4, 17, 2]),
        ("a copy from the end of the number range", &[0, 4, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ("more than the segment", &[0, 4, 0, 4, 18, 0]),
        ("less than the segment", &[0, 4, 0, 4, 16, 0]),
        ("commands behind the end", &[0, 4, 0, 4, 17, 0, 0]),
        ("an empty copy", &[0, 0, 0]),
        ("a command cut short", &[0, 4, 0, 4]),
    ];
    for (what, control) in commands {
        let mut diff = [0; 21];
        diff[19] = 16;
        let refused = applied(OLD, &Draft::raw(OLD, NEW, control, &diff, b"big ").patch());
        assert!(
            matches!(refused, Err(ApplyError::Decode { segment: 0, stream: "control", .. })),
            "{what}: {refused:?}"
        );
    }
}

#[test]
fn streams_that_do_not_decode() {
    let zeros = [0u8; 21];
    for (codec, coded) in
        [(1u8, &b"\x28\xb5\x2f\xfd\xff"[..]), (1, b""), (2, b""), (2, b"\xff12345678"), (2, b"\x5d\x01234567")]
    {
        let mut draft = Draft::raw(&zeros, &zeros, &[0, 21, 0], &zeros, b"");
        draft.data = [&[0, 21, 0][..], coded].concat();
        draft.table = [&[0x80, 3, 0x10 | codec, coded.len() as u8][..], &sha256(&draft.data)[..16]].concat();
        draft.ram_kib = 4_096;
        let refused = applied(&zeros, &draft.patch());
        assert!(matches!(refused, Err(ApplyError::Decode { stream: "diff", .. })), "{codec} {coded:?}: {refused:?}");
    }
}

#[test]
fn a_patch_for_another_image() {
    let (old, new) = (code_like(100, 0), code_like(100, 1));
    let patch = patch(&old, &new);
    let other = code_like(100, 2);
    let mut same_len = old.clone();
    same_len[1_000] ^= 1;
    assert!(matches!(applied(&same_len, &patch.bytes), Err(ApplyError::OldMismatch)));
    assert_ne!(other.len(), old.len());
    let refused = applied(&other, &patch.bytes).unwrap_err();
    assert!(matches!(refused, ApplyError::OldLength { expected, found }
        if expected == old.len() as u64 && found == other.len() as u64));
    assert!(!refused.is_io());
    // Without the check up front the output check still catches it.
    let unchecked = ApplyOptions { check_old: false, ..ApplyOptions::default() };
    assert!(matches!(applied_with(&same_len, &patch.bytes, &unchecked), Err(ApplyError::OutputMismatch { .. })));
}

#[test]
fn a_head_that_nobody_vouched_for() {
    let (old, new) = (code_like(100, 0), code_like(100, 1));
    let patch = patch(&old, &new);
    let with = |expected_head| ApplyOptions { expected_head, ..ApplyOptions::default() };
    let good = (patch.head_len, patch.head_sha256());
    assert_eq!(applied_with(&old, &patch.bytes, &with(Some(good))).unwrap(), new);
    for bad in [(good.0 + 1, good.1), (good.0, [0; 32])] {
        assert!(matches!(applied_with(&old, &patch.bytes, &with(Some(bad))), Err(ApplyError::HeadMismatch)));
    }
}

#[test]
fn more_memory_than_there_is() {
    let patch = patch(&code_like(100, 0), &code_like(100, 1));
    let budget = ApplyBudget { ram: patch.head.ram - 1, scratch: 0 };
    let refused = Applier::new(&patch.head, budget).err().unwrap();
    assert!(matches!(refused, ApplyError::OverBudget { resource: "memory", needed, .. } if needed == patch.head.ram));
    assert!(Applier::new(&patch.head, ApplyBudget { ram: patch.head.ram, scratch: 0 }).is_ok());

    // A head that declares too little is held to what its table needs.
    let mut modest = patch.head.clone();
    modest.ram = 1 << 10;
    assert!(matches!(Applier::new(&modest, budget).err(), Some(ApplyError::OverBudget { resource: "memory", .. })));
}

#[test]
fn bytes_behind_the_last_segment() {
    let patch = [example().patch(), vec![0]].concat();
    assert!(matches!(applied(OLD, &patch), Err(ApplyError::Malformed { field: "patch", .. })));
}

#[test]
fn trouble_of_the_machine_is_told_apart() {
    struct Broken;
    impl std::io::Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::from(std::io::ErrorKind::StorageFull))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let options = ApplyOptions::default();
    let refused = sluice_delta::apply(Cursor::new(OLD), &example().patch()[..], Broken, &options).unwrap_err();
    assert!(refused.is_io(), "{refused}");
}

/// A patch of several segments with every codec that the generator uses.
fn sample() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let (old, new) = (code_like(200, 0), code_like(200, 1));
    let options = DiffOptions { segment_len: Some(16 << 10), ..DiffOptions::default() };
    let bytes = patch_with(&old, &new, &options).bytes;
    (old, new, bytes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damaged_patches_never_give_another_image(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..=255), 1..4),
        keep in prop::option::of(any::<prop::sample::Index>()),
        in_head in any::<bool>(),
    ) {
        static SAMPLE: std::sync::LazyLock<(Vec<u8>, Vec<u8>, Vec<u8>)> = std::sync::LazyLock::new(sample);
        let (old, new, patch) = &*SAMPLE;
        let mut damaged = patch.clone();
        for (at, flip) in flips {
            let place = if in_head { at.index(200) } else { at.index(damaged.len()) };
            damaged[place] ^= flip;
        }
        if let Some(keep) = keep {
            damaged.truncate(keep.index(patch.len()));
        }
        if let Ok(image) = applied(old, &damaged) {
            prop_assert_eq!(&image, new);
        }
    }

    #[test]
    fn damage_behind_a_vouched_head_is_found_before_decoding(at in any::<prop::sample::Index>(), flip in 1u8..=255) {
        static SAMPLE: std::sync::LazyLock<(Vec<u8>, Vec<u8>, Vec<u8>)> = std::sync::LazyLock::new(sample);
        let (old, _, patch) = &*SAMPLE;
        let head_len = Head::prefix_len(patch, &Limits::default()).unwrap() as usize;
        let mut damaged = patch.clone();
        damaged[head_len + at.index(patch.len() - head_len)] ^= flip;
        let refused = applied(old, &damaged);
        prop_assert!(matches!(refused, Err(ApplyError::SegmentMismatch { .. })), "{:?}", refused.err());
    }

    /// Segments whose table vouches for anything: what reaches the decoders when the head comes from an attacker.
    #[test]
    fn arbitrary_streams_never_panic(
        control in prop::collection::vec(any::<u8>(), 1..40),
        coded in prop::collection::vec(any::<u8>(), 0..200),
        codec in 0u8..3,
        len in 1u64..70_000,
    ) {
        let old = code_like(20, 0);
        let mut draft = Draft::raw(&old, NEW, &control, b"", b"");
        draft.data = [&control[..], &coded].concat();
        draft.new_len = if codec == 0 { coded.len() as u64 } else { len };
        let lens = if codec == 0 { vec![] } else { varint(coded.len() as u64) };
        draft.table = [&[0x80][..], &varint(control.len() as u64), &[0x10 | codec], &lens, &sha256(&draft.data)[..16]].concat();
        draft.ram_kib = 8_192;
        prop_assert!(applied(&old, &draft.patch()).is_err());
    }
}
