//! Consumers of outsiders' bytes, by name: what reads patches, in the shape that a fuzzer and the hostile-input suite feed.
//!
//! To add a format or a codec, write a function that takes any bytes, never panics on them, and checks what it accepts; list
//! it in [`CONSUMERS`]; give it a fuzz target of the same name and seeds in `delta/tests/hostile/seeds.rs`. Then make its
//! corpus: `cargo run -p sluice-delta --example fuzz_corpus`.

use std::{io::Cursor, sync::LazyLock};

use sha2::{Digest, Sha256};
use sluice_delta::{
    Applier, ApplyBudget, ApplyError, ApplyOptions, Codec, Head, Limits, Segment, Stream, StreamKind, Views, apply,
    foreign::{ForeignError, ForeignOptions, apply_bsdiff40, apply_zstd},
    mcu,
};

/// Something that reads bytes from outside.
pub struct Consumer {
    /// Name of the fuzz target and of the folder of its corpus.
    pub name: &'static str,
    /// Bytes of memory that it may reserve, beside 64 for each byte of the input.
    pub memory: u64,
    /// Reads the bytes and says in a few words what became of them. It panics when an invariant is broken, else never.
    pub consume: fn(&[u8]) -> String,
}

/// All of them.
pub const CONSUMERS: &[Consumer] = &[
    Consumer { name: "head_parse", memory: 64 << 10, consume: head_parse },
    Consumer { name: "apply", memory: RAM + OVERHEAD, consume: segment },
    Consumer { name: "patch", memory: RAM + OVERHEAD, consume: patch },
    Consumer { name: "patch_vouched", memory: RAM + OVERHEAD, consume: patch_vouched },
    Consumer { name: "mcu", memory: size_of::<mcu::Memory>() as u64 + OVERHEAD, consume: microcontroller },
    Consumer { name: "bsdiff40", memory: FOREIGN_RAM + OVERHEAD, consume: bsdiff40 },
    Consumer { name: "zstd_prefix", memory: FOREIGN_RAM + OVERHEAD, consume: zstd_prefix },
];

/// Memory that patches of the container may use.
const RAM: u64 = 6 << 20;

/// Memory that other formats may use: three bzip2 decoders with the longest blocks.
const FOREIGN_RAM: u64 = 12 << 20;

/// Longest image that is made, and what a consumer itself may hold: that image, growing by doubling.
const MAX_NEW: u64 = 256 << 10;
const OVERHEAD: u64 = 3 * MAX_NEW;

/// The image that every patch starts from: words that repeat, words that do not, and a run.
pub static OLD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 1u64;
    let mut words = Vec::new();
    for at in 0..1_792u32 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = (state >> 40) as u32;
        words.push(match at % 7 {
            0 => 0x9400_0000 | random & 0x3ff,
            1 | 2 => 0xf940_0000 | (random & 0x3f) << 10,
            3 => random,
            _ => 0xaa00_03e0 | (random & 0xf) << 16,
        });
    }
    words.extend([0; 256]);
    words.into_iter().flat_map(u32::to_le_bytes).collect()
});

/// Feeds `bytes` to the consumer of this name.
///
/// # Panics
/// When there is none, or an invariant is broken.
pub fn consume(name: &str, bytes: &[u8]) -> String {
    let consumer = CONSUMERS.iter().find(|consumer| consumer.name == name).expect("a consumer of this name");
    (consumer.consume)(bytes)
}

fn limits() -> Limits {
    Limits { max_new_len: MAX_NEW, ..Limits::default() }
}

/// The kind of a refusal: its words without those that hold numbers.
fn words(refusal: &dyn std::fmt::Display) -> String {
    let text = refusal.to_string();
    let words: Vec<&str> =
        text.split(' ').filter(|word| !word.contains(|letter: char| letter.is_ascii_digit())).collect();
    words.join(" ")
}

/// Any bytes as a head: what is accepted is consistent.
fn head_parse(bytes: &[u8]) -> String {
    // The length of the head is set right, so that the fuzzer need not find it.
    let mut bytes = bytes.to_vec();
    if bytes.len() >= 8 && bytes.len() < 0x80 {
        let len = bytes.len() as u8;
        bytes[..5].copy_from_slice(&[0xf5, b'S', b'L', 1, len]);
    }
    let head = match Head::parse(&bytes, &Limits::default()) {
        Ok(head) => head,
        Err(refusal) => return words(&refusal),
    };
    assert_eq!(head.head_len as usize, bytes.len());
    for segment in &head.segments {
        let coded: u64 = segment.streams.iter().map(|s| u64::from(s.coded_len)).sum();
        assert_eq!(coded, u64::from(segment.coded_len));
    }
    assert_eq!(head.segments.iter().map(|s| u64::from(s.len)).sum::<u64>(), head.views.new_len);
    assert!(head.segments.iter().all(|segment| segment.image_end.is_some() == segment.check.is_some()));
    assert_eq!(head.views.image_offset(head.views.new_len), Some(head.new_len));
    assert!(head.patch_len() >= bytes.len() as u64);
    "accepted".to_owned()
}

/// Any bytes as the coded streams of a segment behind a head that vouches for them: what reaches the decoders when the head
/// comes from an attacker. An accepted patch gives the image of its head.
fn segment(bytes: &[u8]) -> String {
    let [shape, control_len, extra_raw, len_low, len_high, extra_coded, coded @ ..] = bytes else {
        return "too short".to_owned();
    };
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
    // A head that was parsed, so that what a later version adds to it has its ordinary value.
    let mut head = Head::parse(&EMPTY_HEAD, &Limits::default()).expect("a valid head");
    (head.old_len, head.new_len, head.segments) = (OLD.len() as u64, u64::from(len), vec![segment]);
    head.views = Views::plain(head.old_len, head.new_len);
    let mut out = Vec::new();
    let mut applier = match Applier::new(&head, ApplyBudget { ram: RAM, scratch: 0 }) {
        Ok(applier) => applier,
        Err(refusal) => return words(&refusal),
    };
    let result = applier.segment(0, coded, &mut Cursor::new(&OLD[..]), &mut out);
    assert!(out.len() <= len as usize);
    // The check is no digest of anything, so even streams that decode are refused in the end.
    match result {
        Err(refusal @ ApplyError::OutputMismatch { .. }) => {
            assert_eq!(out.len(), len as usize);
            words(&refusal)
        }
        Err(refusal @ ApplyError::Decode { .. }) => words(&refusal),
        other => panic!("unexpected {other:?}"),
    }
}

/// The head of a patch from no bytes to no bytes: magic, length, features, both images, memory.
const EMPTY_HEAD: [u8; 73] = {
    let mut head = [0; 73];
    let first = [0xf5, b'S', b'L', 1, 73];
    let mut at = 0;
    while at < first.len() {
        head[at] = first[at];
        at += 1;
    }
    head
};

/// Any bytes as a whole patch of [`OLD`].
fn patch(bytes: &[u8]) -> String {
    let options = ApplyOptions {
        limits: limits(),
        budget: ApplyBudget { ram: RAM, scratch: 0 },
        expected_head: None,
        check_old: false,
    };
    let mut new = Vec::new();
    match apply(Cursor::new(&OLD[..]), bytes, &mut new, &options) {
        Ok(applied) => {
            assert_eq!(applied.new_len, new.len() as u64);
            assert_eq!(applied.new_sha256[..], Sha256::digest(&new)[..]);
            "applied".to_owned()
        }
        Err(refusal) => {
            assert!(!refusal.is_io(), "memory does not fail");
            words(&refusal)
        }
    }
}

/// The same after the head was made to vouch for whatever lead and segments now are: damage reaches the decoders.
fn patch_vouched(bytes: &[u8]) -> String {
    patch(&vouched(bytes))
}

/// The same on a microcontroller. What it makes, the other applier would make as well.
fn microcontroller(bytes: &[u8]) -> String {
    let bytes = vouched(bytes);
    let head_len = bytes.get(..8).and_then(|prefix| Head::prefix_len(prefix, &limits()).ok()).unwrap_or(0);
    let head = bytes.get(..head_len as usize).unwrap_or_default();
    let vouched_for = (head_len, Sha256::digest(head).into());
    let mut memory = Box::new(mcu::Memory::new());
    let mut new = Vec::new();
    let mut run = || {
        let mut applier = mcu::Applier::new(&mut memory, mcu::mapped(&bytes), vouched_for, &limits())?;
        // Another image of the same length may be meant: what it makes is then refused at the end.
        if let Err(refusal @ ApplyError::OldLength { .. }) = applier.check_old(OLD.len() as u32, mcu::mapped(&OLD)) {
            return Err(refusal);
        }
        while applier.segment(mcu::mapped(&OLD), |bytes| {
            new.extend_from_slice(bytes);
            Ok(())
        })? {
            assert_eq!(applier.progress().new_offset as usize, new.len());
        }
        assert_eq!(applier.header().new_len as usize, new.len());
        applier.finish()
    };
    let result = run();
    assert!(new.len() as u64 <= MAX_NEW);
    match result {
        Ok(()) => {
            drop(memory);
            // A patch that is not meant for a microcontroller may declare anything.
            let budget = ApplyBudget { ram: u64::MAX, scratch: u64::MAX };
            let options = ApplyOptions { limits: limits(), budget, expected_head: None, check_old: false };
            let mut same = Same { rest: &new };
            let patch_len = Head::parse(head, &limits()).expect("the head was read").patch_len();
            let patch = bytes.get(..patch_len as usize).expect("all of the patch was read");
            apply(Cursor::new(&OLD[..]), patch, &mut same, &options).expect("the other applier agrees");
            assert!(same.rest.is_empty());
            "applied".to_owned()
        }
        Err(refusal) => words(&refusal),
    }
}

/// What is written is held against bytes that are known.
struct Same<'a> {
    rest: &'a [u8],
}

impl std::io::Write for Same<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.rest = self.rest.strip_prefix(bytes).expect("the other applier makes the same");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The patch with a head that vouches for what follows it.
fn vouched(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Ok(len) = Head::prefix_len(&bytes, &limits())
        && let Some(Ok(head)) = bytes.get(..len as usize).map(|head| Head::parse(head, &limits()))
    {
        let mut from = 0;
        let lead = head.lead.iter().map(|lead| (u64::from(len), lead.coded_len, lead.coded_sha256));
        let segments = head.segments.iter().map(|it| (it.patch_offset, it.coded_len, it.coded_sha256));
        for (start, coded_len, known) in lead.chain(segments) {
            let start = start as usize;
            let Some(coded) = bytes.get(start..start + coded_len as usize) else { break };
            let digest = Sha256::digest(coded);
            let place = bytes[from..len as usize].windows(16).position(|place| place == known);
            let Some(place) = place else { break };
            bytes[from + place..from + place + 16].copy_from_slice(&digest[..16]);
            from += place + 16;
        }
    }
    bytes
}

fn foreign_options() -> ForeignOptions {
    ForeignOptions { limits: limits(), budget: ApplyBudget { ram: FOREIGN_RAM, scratch: 0 }, new_sha256: None }
}

fn foreign_outcome(result: Result<sluice_delta::foreign::ForeignApplied, ForeignError>, new: &[u8]) -> String {
    assert!(new.len() as u64 <= MAX_NEW + (128 << 10), "{} bytes", new.len());
    match result {
        Ok(applied) => {
            assert_eq!(applied.new_len, new.len() as u64);
            assert_eq!(applied.new_sha256[..], Sha256::digest(new)[..]);
            "applied".to_owned()
        }
        Err(refusal) => {
            assert!(!refusal.is_io(), "memory does not fail");
            words(&refusal)
        }
    }
}

/// Any bytes as a BSDIFF40 patch of [`OLD`].
fn bsdiff40(bytes: &[u8]) -> String {
    let mut new = Vec::new();
    let result = apply_bsdiff40(Cursor::new(&OLD[..]), Cursor::new(bytes), &mut new, &foreign_options());
    foreign_outcome(result, &new)
}

/// Any bytes as a Zstandard frame whose prefix is [`OLD`].
fn zstd_prefix(bytes: &[u8]) -> String {
    let mut new = Vec::new();
    let result = apply_zstd(Cursor::new(&OLD[..]), bytes, &mut new, &foreign_options());
    foreign_outcome(result, &new)
}
