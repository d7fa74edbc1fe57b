//! Any bytes as the coded streams of a segment behind a head that vouches for them: what reaches the decoders when the
//! head comes from an attacker. No panic, bounded memory, and an accepted patch gives the image of its head.

#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};
use sluice_delta::{Applier, ApplyBudget, ApplyError, Codec, Head, Segment, Stream, StreamKind, Views};

const OLD: &[u8; 4096] = &{
    let mut old = [0u8; 4096];
    let mut at = 0;
    while at < old.len() {
        old[at] = (at * 7 + at / 256) as u8;
        at += 1;
    }
    old
};

fuzz_target!(|bytes: &[u8]| {
    let [shape, control_len, extra_raw, len_low, len_high, extra_coded, coded @ ..] = bytes else { return };
    let codec = |shift: u8| match shape >> shift & 3 {
        1 => Codec::Zstd,
        2 => Codec::Lzma,
        _ => Codec::Raw,
    };
    let len = u32::from(u16::from_le_bytes([*len_low, *len_high])) + 1;
    let control_coded = usize::from(*control_len).min(coded.len());
    let extra_coded = usize::from(*extra_coded).min(coded.len() - control_coded);
    let diff_coded = coded.len() - control_coded - extra_coded;
    let stream = |kind, codec, raw_len: u32, coded_len: usize| {
        let raw_len = if codec == Codec::Raw { coded_len as u32 } else { raw_len };
        Stream { kind, codec, raw_len, coded_len: coded_len as u32 }
    };
    let extra_raw = u32::from(*extra_raw).min(len);
    let streams = vec![
        stream(StreamKind::Control, codec(0), u32::from(*control_len), control_coded),
        stream(StreamKind::Diff, codec(2), len - extra_raw, diff_coded),
        stream(StreamKind::Extra, codec(4), extra_raw, extra_coded),
    ];
    let mut coded_sha256 = [0; 16];
    coded_sha256.copy_from_slice(&Sha256::digest(coded)[..16]);
    let segment = Segment {
        new_offset: 0,
        len,
        patch_offset: 0,
        coded_len: coded.len() as u32,
        streams,
        coded_sha256,
        image_end: Some(u64::from(len)),
        check: Some([0; 8]),
    };
    let head = Head {
        head_len: 0,
        features: 0,
        old_len: OLD.len() as u64,
        old_sha256: [0; 32],
        new_len: u64::from(len),
        new_sha256: [0; 32],
        ram: 0,
        ram_per_thread: 0,
        scratch: 0,
        views: Views::plain(OLD.len() as u64, u64::from(len)),
        mix_bits: None,
        lead: None,
        segments: vec![segment],
    };
    let mut out = Vec::new();
    let mut applier = Applier::new(&head, ApplyBudget::default()).expect("small segments fit the budget");
    let result = applier.segment(0, coded, &mut Cursor::new(&OLD[..]), &mut out);
    assert!(out.len() <= len as usize);
    // The check is no digest of anything, so even streams that decode are refused in the end.
    match result {
        Err(ApplyError::OutputMismatch { .. }) => assert_eq!(out.len(), len as usize),
        Err(ApplyError::Decode { .. }) => {}
        other => panic!("unexpected {other:?}"),
    }
});
