//! Valid inputs of every consumer, from which mutants are made.

use std::ops::ControlFlow;

use sluice_delta::{
    DiffOptions, Head, Limits, Profile, StreamKind, diff,
    foreign::{write_bsdiff40, write_zstd},
};

use super::consumers::OLD;

/// Images of a later release: one with scattered changes, one that moved and grew, one of which little is left, and none.
fn images() -> Vec<Vec<u8>> {
    let old = &OLD[..];
    let mut scattered = old.to_vec();
    for at in (100..scattered.len()).step_by(331) {
        scattered[at] ^= 0x15;
    }
    let moved = [&old[5_000..], b"inserted by the new release", &old[..6_000], &old[300..900]].concat();
    let fresh: Vec<u8> = (0..900u32).map(|at| (at.wrapping_mul(at) >> 3) as u8).collect();
    let mostly_new = [&fresh[..], &old[200..300], &fresh[200..]].concat();
    vec![scattered, moved, mostly_new, Vec::new()]
}

fn patches(profile: Profile) -> Vec<Vec<u8>> {
    let whole = DiffOptions { profile, ..DiffOptions::default() };
    let cut = DiffOptions { segment_len: Some(4 << 10), ..whole.clone() };
    let made = |new: &[u8], options| diff(&OLD, new, options, &|_| ControlFlow::Continue(())).unwrap().bytes;
    images().iter().flat_map(|new| [made(new, &whole), made(new, &cut)]).collect()
}

/// Patches of the container in all profiles, in one segment and in several.
pub fn all_patches() -> Vec<Vec<u8>> {
    Profile::ALL.into_iter().flat_map(patches).collect()
}

/// Coded streams in the shape that the consumer `apply` takes.
fn segments() -> Vec<Vec<u8>> {
    let parts = |patch: Vec<u8>| {
        let len = Head::prefix_len(&patch, &Limits::default()).unwrap() as usize;
        let head = Head::parse(&patch[..len], &Limits::default()).unwrap();
        let segment = head.segments.first()?;
        let streams = [StreamKind::Control, StreamKind::Diff, StreamKind::Extra].map(|kind| segment.stream(kind));
        let shape = streams.iter().rev().fold(0, |shape, stream| shape << 2 | stream.map_or(0, |it| it.codec.id()));
        let byte = |len: Option<u32>| len.unwrap_or(0).min(255) as u8;
        let [low, high, ..] = (segment.len - 1).to_le_bytes();
        let first = [
            shape,
            byte(streams[0].map(|stream| stream.coded_len)),
            byte(streams[2].map(|stream| stream.raw_len)),
            low,
            high,
            byte(streams[2].map(|stream| stream.coded_len)),
        ];
        Some([&first[..], &patch[len..len + segment.coded_len as usize]].concat())
    };
    all_patches().into_iter().filter_map(parts).collect()
}

/// Valid inputs of the consumer of this name.
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    let go_on = &|_| ControlFlow::Continue(());
    match name {
        "head_parse" => all_patches()
            .into_iter()
            .map(|mut patch| {
                patch.truncate(Head::prefix_len(&patch, &Limits::default()).unwrap() as usize);
                patch
            })
            .collect(),
        "apply" => segments(),
        "patch" | "patch_vouched" => all_patches(),
        "mcu" => patches(Profile::Mcu),
        "bsdiff40" => images().iter().map(|new| write_bsdiff40(&OLD, new, go_on).unwrap()).collect(),
        "zstd_prefix" => images().iter().map(|new| write_zstd(&OLD, new, go_on).unwrap()).collect(),
        other => panic!("{other} has no seeds: add them here"),
    }
}
