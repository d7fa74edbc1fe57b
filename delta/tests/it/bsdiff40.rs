//! BSDIFF40 as its writer makes it and as an attacker does. Crafted patches stand for known holes of other readers.

use std::{
    io::{Cursor, Write},
    ops::ControlFlow,
};

use proptest::prelude::*;
use sluice_delta::{
    ApplyBudget, Limits,
    foreign::{Bsdiff40Header, ForeignError, ForeignOptions, Format, apply_bsdiff40, write_bsdiff40},
};

use crate::images::{code_like, noise};

const OLD: &[u8] = b"The sluice is closed.";

pub fn written(old: &[u8], new: &[u8]) -> Vec<u8> {
    write_bsdiff40(old, new, &|_| ControlFlow::Continue(())).unwrap()
}

fn applied_with(old: &[u8], patch: &[u8], options: &ForeignOptions) -> Result<Vec<u8>, ForeignError> {
    let mut new = Vec::new();
    apply_bsdiff40(Cursor::new(old), Cursor::new(patch), &mut new, options)?;
    Ok(new)
}

fn applied(old: &[u8], patch: &[u8]) -> Result<Vec<u8>, ForeignError> {
    applied_with(old, patch, &ForeignOptions::default())
}

fn bzip2(raw: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    encoder.write_all(raw).unwrap();
    encoder.finish().unwrap()
}

/// A number as the format writes it: a sign bit and a magnitude.
fn number(value: i64) -> [u8; 8] {
    (value.unsigned_abs() | if value < 0 { 1 << 63 } else { 0 }).to_le_bytes()
}

/// A patch in the making, each part of which a test can spoil.
struct Draft {
    commands: Vec<[i64; 3]>,
    diff: Vec<u8>,
    extra: Vec<u8>,
    new_len: i64,
}

impl Draft {
    /// Makes `sluice` of [`OLD`], then `!?`.
    fn good() -> Self {
        Self { commands: vec![[0, 0, 4], [6, 2, 0]], diff: vec![0; 6], extra: b"!?".to_vec(), new_len: 8 }
    }

    fn command(commands: &[[i64; 3]], new_len: i64) -> Self {
        Self { commands: commands.to_vec(), diff: vec![0; 64], extra: vec![b'x'; 64], new_len }
    }

    fn patch(&self) -> Vec<u8> {
        let control: Vec<u8> = self.commands.iter().flatten().flat_map(|&value| number(value)).collect();
        let [control, diff, extra] = [&control, &self.diff, &self.extra].map(|raw| bzip2(raw));
        framed(signed(&control), signed(&diff), self.new_len, &[control, diff, extra].concat())
    }
}

fn signed(bytes: &[u8]) -> i64 {
    i64::try_from(bytes.len()).unwrap()
}

fn framed(control_len: i64, diff_len: i64, new_len: i64, streams: &[u8]) -> Vec<u8> {
    [&b"BSDIFF40"[..], &number(control_len), &number(diff_len), &number(new_len), streams].concat()
}

#[test]
fn a_crafted_patch_applies() {
    assert_eq!(applied(OLD, &Draft::good().patch()).unwrap(), b"sluice!?");
}

#[test]
fn what_is_written_is_read_back() {
    let pairs = [
        (vec![], vec![]),
        (vec![], noise(1_000, 1)),
        (noise(1_000, 1), vec![]),
        (code_like(300, 0), code_like(300, 1)),
        (noise(5_000, 1), [noise(3_000, 2), noise(5_000, 1)[2_000..].to_vec()].concat()),
        (vec![0; 100_000], vec![0; 150_000]),
    ];
    for (old, new) in pairs {
        let patch = written(&old, &new);
        assert_eq!(Format::recognise(&patch), Some(Format::Bsdiff40));
        assert!(applied(&old, &patch).unwrap() == new, "{} -> {} bytes", old.len(), new.len());
    }
}

#[test]
fn matching_in_pieces_leaves_no_seam() {
    // Longer than what is matched at once: the identical image is still a single command.
    let image = noise(9 << 20, 3);
    let patch = written(&image, &image);
    let header = Bsdiff40Header::parse(&patch, patch.len() as u64, &ForeignOptions::default()).unwrap();
    assert!(header.control_len < 64, "{header:?}");
    assert!(applied(&image, &patch).unwrap() == image);
}

#[test]
fn a_patch_does_not_depend_on_the_number_of_threads() {
    let (old, new) = (code_like(2_000, 0), code_like(2_000, 1));
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| written(&old, &new))
    };
    assert!(on(1) == on(3));
}

#[test]
fn progress_can_cancel() {
    let (old, new) = (code_like(100, 0), code_like(100, 1));
    let refused = write_bsdiff40(&old, &new, &|_| ControlFlow::Break(()));
    assert!(matches!(refused, Err(sluice_delta::DiffError::Cancelled)));
}

#[test]
fn cve_2014_9862_negative_counts() {
    for commands in [[-1, 4, 0], [4, -1, 0], [i64::MIN + 1, 0, 0], [0, -0x7fff_ffff, 0]] {
        let refused = applied(OLD, &Draft::command(&[commands], 8).patch());
        assert!(matches!(refused, Err(ForeignError::Negative { .. })), "{commands:?}: {refused:?}");
    }
}

#[test]
fn cve_2020_14315_counts_whose_sum_wraps() {
    for commands in [[i64::MAX, i64::MAX, 0], [i64::MAX, 1, 0], [8, i64::MAX, 0], [9, 0, 0], [0, 9, 0], [5, 4, 0]] {
        let refused = applied(OLD, &Draft::command(&[commands], 8).patch());
        assert!(matches!(refused, Err(ForeignError::Malformed { field: "command", .. })), "{commands:?}: {refused:?}");
    }
}

#[test]
fn qbsdiff_96_bytes_with_a_control_length_of_minus_32() {
    let mut patch = framed(-32, 0, 8, &[0; 64]);
    assert_eq!(patch.len(), 96);
    assert!(matches!(applied(OLD, &patch), Err(ForeignError::Negative { field: "control length" })));
    // The same sum with a magnitude that only wraps as an unsigned number.
    patch[8..16].copy_from_slice(&(-32i64).to_le_bytes());
    assert!(matches!(applied(OLD, &patch), Err(ForeignError::Negative { field: "control length" })));
}

#[test]
fn negative_lengths_in_the_header() {
    for (control, diff, new, name) in [
        (-1, 0, 8, "control length"),
        (0, -1, 8, "diff length"),
        (0, 0, -8, "new length"),
        (i64::MIN + 1, 0, 8, "control length"),
    ] {
        let refused = applied(OLD, &framed(control, diff, new, &[0; 64]));
        assert!(matches!(refused, Err(ForeignError::Negative { field }) if field == name), "{name}: {refused:?}");
    }
}

#[test]
fn header_lengths_beyond_the_patch() {
    for (control, diff) in [(65, 0), (0, 65), (33, 32), (i64::MAX, 0), (i64::MAX, i64::MAX), (0, i64::MAX - 31)] {
        let refused = applied(OLD, &framed(control, diff, 8, &[0; 64]));
        assert!(
            matches!(refused, Err(ForeignError::Malformed { field: "header", .. })),
            "{control} {diff}: {refused:?}"
        );
    }
}

#[test]
fn an_output_length_of_2_to_the_60() {
    let mut draft = Draft::good();
    draft.new_len = 1 << 60;
    let refused = applied(OLD, &draft.patch());
    assert!(matches!(refused, Err(ForeignError::OverLimit { field: "new length", .. })), "{refused:?}");
    // Within the limits it is still only a claim: nothing is reserved for it, and the streams end too early.
    draft.new_len = 1 << 36;
    let refused = applied(OLD, &draft.patch());
    assert!(matches!(refused, Err(ForeignError::Decode { stream: "control", .. })), "{refused:?}");
    let slot = ForeignOptions { limits: Limits { max_new_len: 7, ..Limits::default() }, ..ForeignOptions::default() };
    let refused = applied_with(OLD, &Draft::good().patch(), &slot);
    assert!(matches!(refused, Err(ForeignError::OverLimit { field: "new length", value: 8, limit: 7 })));
}

#[test]
fn a_cursor_outside_the_old_image_reads_zeros() {
    // Before it, across its beginning, across its end, far behind it: as classic bspatch has it.
    for (seek, expected) in
        [(-100, *b"\0\0\0\0\0\0"), (-2, *b"\0\0The "), (18, *b"ed.\0\0\0"), (1 << 62, *b"\0\0\0\0\0\0")]
    {
        let mut draft = Draft::command(&[[0, 0, seek], [6, 0, 0]], 6);
        (draft.diff, draft.extra) = (vec![0; 6], vec![]);
        assert_eq!(applied(OLD, &draft.patch()).unwrap(), expected, "seek {seek}");
    }
}

#[test]
fn a_cursor_that_leaves_the_number_range() {
    for seeks in [[i64::MAX, i64::MAX], [-i64::MAX, -i64::MAX]] {
        let commands = [[0, 0, seeks[0]], [1, 0, seeks[1]], [1, 0, seeks[1]]];
        let refused = applied(OLD, &Draft::command(&commands, 8).patch());
        assert!(matches!(refused, Err(ForeignError::Malformed { field: "command", .. })), "{seeks:?}: {refused:?}");
    }
}

#[test]
fn commands_that_make_nothing_for_ever() {
    // A hundred kilobytes of control that decode from a few hundred bytes; a real attack has terabytes.
    let refused = applied(OLD, &Draft::command(&vec![[0, 0, 0]; 5_000], 8).patch());
    assert!(matches!(refused, Err(ForeignError::Malformed { field: "control stream", .. })), "{refused:?}");
}

#[test]
fn trailing_garbage_behind_the_patch() {
    let patch = [Draft::good().patch(), vec![0]].concat();
    assert!(matches!(applied(OLD, &patch), Err(ForeignError::Trailing { after: "extra" })));
}

#[test]
fn trailing_garbage_inside_the_streams() {
    type Change = fn(&mut Draft);
    let changes: [(&str, Change); 3] = [
        ("control", |draft| draft.commands.push([0, 0, 0])),
        ("diff", |draft| draft.diff.push(0)),
        ("extra", |draft| draft.extra.push(0)),
    ];
    for (name, change) in changes {
        let mut draft = Draft::good();
        change(&mut draft);
        let refused = applied(OLD, &draft.patch());
        assert!(matches!(refused, Err(ForeignError::Decode { stream, .. }) if stream == name), "{name}: {refused:?}");
    }
    // A second bzip2 stream where the first ends.
    let [control, diff] = [vec![0, 0, 4, 6, 2, 0], vec![]]
        .map(|numbers: Vec<i64>| bzip2(&numbers.into_iter().flat_map(number).collect::<Vec<_>>()));
    let diff = [bzip2(&[0; 6]), diff].concat();
    let patch = framed(signed(&control), signed(&diff), 8, &[control, diff.clone(), bzip2(b"!?")].concat());
    assert!(matches!(applied(OLD, &patch), Err(ForeignError::Trailing { after: "diff" })));
}

#[test]
fn streams_that_end_too_early() {
    type Change = fn(&mut Draft);
    let changes: [(&str, Change); 3] = [
        ("control", |draft| draft.commands.truncate(draft.commands.len() - 1)),
        ("diff", |draft| draft.diff.truncate(draft.diff.len() - 1)),
        ("extra", |draft| draft.extra.truncate(draft.extra.len() - 1)),
    ];
    for (name, change) in changes {
        let mut draft = Draft::good();
        change(&mut draft);
        let refused = applied(OLD, &draft.patch());
        assert!(matches!(refused, Err(ForeignError::Decode { stream, .. }) if stream == name), "{name}: {refused:?}");
    }
}

#[test]
fn a_patch_cut_anywhere_is_refused() {
    let patch = Draft::good().patch();
    for len in 0..patch.len() {
        assert!(applied(OLD, &patch[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn more_memory_than_there_is() {
    let options = |ram| ForeignOptions { budget: ApplyBudget { ram, scratch: 0 }, ..ForeignOptions::default() };
    let patch = Draft::good().patch();
    let Err(ForeignError::OverBudget { needed, .. }) = applied_with(OLD, &patch, &options(1 << 20)) else {
        panic!("refused for its memory")
    };
    assert!(applied_with(OLD, &patch, &options(needed)).is_ok());
    assert!(applied_with(OLD, &patch, &options(needed - 1)).is_err());
    assert!((10 << 20..12 << 20).contains(&needed), "{needed}");
}

#[test]
fn the_digest_that_the_caller_expects() {
    use sha2::{Digest, Sha256};
    let expecting = |new_sha256| ForeignOptions { new_sha256: Some(new_sha256), ..ForeignOptions::default() };
    let patch = Draft::good().patch();
    assert!(applied_with(OLD, &patch, &expecting(Sha256::digest(b"sluice!?").into())).is_ok());
    // Another old image gives another new one, and nothing in the patch tells.
    let other = applied_with(b"THE SLUICE IS CLOSED.", &patch, &expecting(Sha256::digest(b"sluice!?").into()));
    assert!(matches!(other, Err(ForeignError::NewMismatch)));
    assert_eq!(applied(b"THE SLUICE IS CLOSED.", &patch).unwrap(), b"SLUICE!?");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_pair_is_read_back(
        old in prop::collection::vec(0u8..4, 0..600),
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
    fn any_commands_end_with_an_image_or_a_refusal(
        commands in prop::collection::vec((-20i64..40, -20i64..40, -200i64..200), 0..12),
        new_len in 0i64..120,
    ) {
        let commands: Vec<[i64; 3]> = commands.into_iter().map(|(add, insert, seek)| [add, insert, seek]).collect();
        if let Ok(new) = applied(OLD, &Draft::command(&commands, new_len).patch()) {
            prop_assert_eq!(signed(&new), new_len);
        }
    }
}
