//! The bytes of the container: patches built by hand from `docs/patch-format.md`, the worked example there, and the
//! frozen patch that must apply for ever.

use std::io::{Cursor, Seek, SeekFrom, Write};

use sha2::{Digest, Sha256};
use sluice_delta::{Applier, ApplyBudget, ApplyError, Codec, Head, Limits, PREFIX_LEN, feature};

use crate::images::applied;

/// Writes heads field by field, independent of the generator.
#[derive(Clone)]
pub struct Draft {
    pub magic: [u8; 3],
    pub version: u8,
    pub features: u64,
    pub old_len: u64,
    pub old_sha256: [u8; 32],
    pub new_len: u64,
    pub new_sha256: [u8; 32],
    pub ram_kib: u64,
    /// What stands between the memory and the table: memory per thread, scratch, nodes, re-encoders.
    pub middle: Vec<u8>,
    pub table: Vec<u8>,
    pub data: Vec<u8>,
}

pub fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

impl Draft {
    /// One segment of raw streams: `control`, `diff`, `extra` as they are.
    pub fn raw(old: &[u8], new: &[u8], control: &[u8], diff: &[u8], extra: &[u8]) -> Self {
        let data = [control, diff, extra].concat();
        let mut table = Vec::new();
        let streams = [(0u8, control), (1, diff), (2, extra)];
        let last = streams.iter().rposition(|(_, bytes)| !bytes.is_empty());
        for (at, (kind, bytes)) in streams.into_iter().enumerate().filter(|(_, (_, bytes))| !bytes.is_empty()) {
            table.push(kind << 4 | if Some(at) == last { 0 } else { 0x80 });
            if kind != 1 {
                table.extend(varint(bytes.len() as u64));
            }
        }
        table.extend(&sha256(&data)[..16]);
        Self {
            magic: [0xf5, b'S', b'L'],
            version: 1,
            features: 0,
            old_len: old.len() as u64,
            old_sha256: sha256(old),
            new_len: new.len() as u64,
            new_sha256: sha256(new),
            ram_kib: 1_024,
            middle: Vec::new(),
            table,
            data,
        }
    }

    pub fn head(&self) -> Vec<u8> {
        let body = [
            &varint(self.features)[..],
            &varint(self.old_len),
            &self.old_sha256,
            &varint(self.new_len),
            &self.new_sha256,
            &varint(self.ram_kib),
            &self.middle,
            &self.table,
        ]
        .concat();
        let mut len = body.len() + 5;
        if len > 0x7f {
            len += 1;
        }
        [&self.magic[..], &[self.version], &varint(len as u64), &body].concat()
    }

    pub fn patch(&self) -> Vec<u8> {
        [self.head(), self.data.clone()].concat()
    }
}

pub const OLD: &[u8] = b"The sluice is closed.";
pub const NEW: &[u8] = b"The big sluice is closet.";

/// `The `, literal `big `, then the rest of the old with `d` one... sixteen higher.
pub fn example() -> Draft {
    // No literals, copy 4 from where the cursor stands; then 4 literals, copy 17 from there.
    let control = [0, 4, 0, 4, 17, 0];
    let mut diff = [0; 21];
    diff[19] = b't' - b'd';
    Draft::raw(OLD, NEW, &control, &diff, b"big ")
}

#[test]
fn a_patch_written_by_hand_applies() {
    assert_eq!(applied(OLD, &example().patch()).unwrap(), NEW);
}

#[test]
fn the_worked_example_of_the_document_applies() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/patch-format.md")).unwrap();
    let block = document.split("```hex\n").nth(1).unwrap().split("```").next().unwrap();
    let digits: String = block.lines().flat_map(|line| line.split('#').next().unwrap().split_whitespace()).collect();
    let patch = hex::decode(digits).unwrap();
    assert_eq!(hex::encode(&patch), hex::encode(example().patch()));
    assert_eq!(applied(OLD, &patch).unwrap(), NEW);
}

#[test]
fn the_frozen_patch_applies_for_ever() {
    let fixture = |name: &str| {
        std::fs::read(format!("{}/../fixtures/frozen/patch-v1/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    };
    let (old, new) = (fixture("old"), fixture("new"));
    for (name, codecs) in [("patch.default", [Codec::Raw, Codec::Lzma]), ("patch.fast", [Codec::Raw, Codec::Zstd])] {
        let patch = fixture(name);
        let limits = Limits::default();
        let head_len = Head::prefix_len(&patch[..PREFIX_LEN], &limits).unwrap();
        let head = Head::parse(&patch[..head_len as usize], &limits).unwrap();
        assert_eq!(head.segments.len(), 3);
        assert_eq!(head.new_sha256, sha256(&new));
        let used = |codec| head.segments.iter().flat_map(|s| &s.streams).any(|s| s.codec == codec);
        assert!(codecs.into_iter().all(used), "{name} covers {codecs:?}");
        assert_eq!(applied(&old, &patch).unwrap(), new);
    }
}

#[test]
fn the_largest_head_of_a_single_segment_below_two_mebibytes_has_112_bytes() {
    let mut draft = example();
    (draft.old_len, draft.new_len, draft.ram_kib) = ((1 << 21) - 1, (1 << 21) - 1, (1 << 14) - 1);
    draft.table = [
        &[0x82][..],
        &varint((1 << 21) - 1),
        &varint((1 << 21) - 1),
        &[0x92],
        &varint((1 << 21) - 1),
        &[0x22],
        &varint((1 << 20) - 1),
        &varint((1 << 21) - 1),
        &[0; 16],
    ]
    .concat();
    let bytes = draft.head();
    assert_eq!(bytes.len(), 112);
    let head = Head::parse(&bytes, &Limits::default()).unwrap();
    assert_eq!(head.head_len, 112);
    assert_eq!(head.segments[0].streams[1].raw_len, 1 << 20, "the diff stream has what the extra stream leaves");
}

#[test]
fn views_without_streams_are_the_images() {
    let mut draft = example();
    draft.features = feature::VIEWS;
    draft.middle = vec![0, 4, 0, 0, 0, 0];
    let head = Head::parse(&draft.head(), &Limits::default()).unwrap();
    assert!(head.views.is_plain());
    assert_eq!((head.views.old_len, head.views.new_len), (21, 25));
    assert_eq!(applied(OLD, &draft.patch()).unwrap(), NEW);
}

/// The example with its commands in a lead, in two segments.
fn led() -> Draft {
    let mut draft = example();
    draft.features = feature::SEGMENTED | feature::EXPLICIT | feature::LEAD;
    let control = [0, 4, 0, 4, 5, 0, 0, 12, 0];
    let lead = [&[3][..], &[0, control.len() as u8], &sha256(&control)[..16]].concat();
    draft.middle = [&[0][..], &lead].concat();
    let mut diff = [0; 21];
    diff[19] = b't' - b'd';
    let (front, back) = ([&diff[..9], b"big "].concat(), &diff[9..]);
    let entry = |offset: usize, bytes: &[u8], streams: &[u8], coded: &[u8]| {
        let place = [offset as u8, bytes.len() as u8];
        [&place[..], streams, &sha256(coded)[..16], &sha256(bytes)[..8]].concat()
    };
    draft.table =
        [vec![2], entry(0, &NEW[..13], &[0x90, 0x20, 4], &front), entry(13, &NEW[13..], &[0x10], back)].concat();
    draft.data = [&control[..], &front, back].concat();
    draft
}

#[test]
fn commands_in_a_lead_go_on_from_segment_to_segment() {
    let head = Head::parse(&led().head(), &Limits::default()).unwrap();
    assert_eq!(head.segments[0].patch_offset, u64::from(head.head_len) + 9);
    assert_eq!(applied(OLD, &led().patch()).unwrap(), NEW);
}

#[test]
fn a_lead_is_authenticated_and_must_be_there() {
    let mut damaged = led();
    damaged.data[1] ^= 1;
    assert!(matches!(applied(OLD, &damaged.patch()), Err(ApplyError::LeadMismatch)));
    let head = Head::parse(&led().head(), &Limits::default()).unwrap();
    let mut applier = Applier::new(&head, ApplyBudget::default()).unwrap();
    let missing = applier.segment(0, &led().data[9..22], &mut Cursor::new(OLD), &mut Vec::new());
    assert!(matches!(missing, Err(ApplyError::LeadMissing)), "{missing:?}");
}

#[test]
fn a_lead_has_the_commands_of_the_segments_and_no_more() {
    for (what, count, control) in [
        ("more commands than stated", 2, &[0, 4, 0, 4, 5, 0, 0, 12, 0][..]),
        ("fewer than stated", 4, &[0, 4, 0, 4, 5, 0, 0, 12, 0]),
        ("commands behind the last segment", 3, &[0, 4, 0, 4, 5, 0, 0, 12, 0, 0]),
        ("a command across two segments", 2, &[0, 4, 0, 4, 17, 0]),
    ] {
        let mut draft = led();
        draft.data.splice(..9, control.iter().copied());
        draft.middle = [&[0, count, 0, control.len() as u8], &sha256(control)[..16]].concat();
        let refused = applied(OLD, &draft.patch());
        assert!(matches!(refused, Err(ApplyError::DecodeLead { stream: "control", .. })), "{what}: {refused:?}");
    }
}

#[test]
fn what_is_mixed_is_declared_and_said_once() {
    let mut draft = led();
    draft.middle.splice(2..4, [0x03, 9, 9]);
    let undeclared = Head::parse(&draft.head(), &Limits::default()).unwrap_err();
    assert!(matches!(undeclared, ApplyError::Malformed { field: "lead", .. }), "{undeclared}");
    // Declared, with both streams of the first segment mixed by themselves.
    let mut draft = led();
    draft.features |= feature::MIX;
    draft.middle.splice(1..1, [10, 4, 10, 4]);
    draft.table.splice(3..6, [0x93, 5, 0x23, 4, 8]);
    let twice = Head::parse(&draft.head(), &Limits::default()).unwrap_err();
    assert!(twice.to_string().contains("each by itself"), "{twice}");
    // Literals inside a diff stream that is not there.
    draft.table.splice(3..8, [0x23, 13, 0]);
    let nowhere = Head::parse(&draft.head(), &Limits::default()).unwrap_err();
    assert!(nowhere.to_string().contains("no diff stream"), "{nowhere}");
}

#[test]
fn scratch_is_read() {
    let mut draft = example();
    draft.features = feature::SCRATCH;
    draft.middle = vec![3];
    let head = Head::parse(&draft.head(), &Limits::default()).unwrap();
    assert_eq!(head.scratch, 3 << 10);
    let refused = Applier::new(&head, ApplyBudget::default()).err().unwrap();
    assert!(matches!(refused, ApplyError::OverBudget { resource: "scratch", needed: 3_072, budget: 0 }));
}

/// Two segments, the second one of the output first.
fn out_of_order() -> Draft {
    let mut draft = example();
    draft.features = feature::SEGMENTED | feature::EXPLICIT;
    draft.middle = vec![0];
    let entry = |offset: u8, bytes: &[u8], coded: &[u8]| {
        let table = [&[offset, bytes.len() as u8][..], &[0x80, 1, 0x20, bytes.len() as u8]].concat();
        [&table[..], &sha256(coded)[..16], &sha256(bytes)[..8]].concat()
    };
    let (back, front) = (&NEW[10..], &NEW[..10]);
    let coded = |bytes: &[u8]| [&[bytes.len() as u8][..], bytes].concat();
    draft.table = [vec![2], entry(10, back, &coded(back)), entry(0, front, &coded(front))].concat();
    draft.data = [coded(back), coded(front)].concat();
    draft
}

#[test]
fn segments_in_any_order_apply_to_a_seekable_target() {
    let draft = out_of_order();
    let head = Head::parse(&draft.head(), &Limits::default()).unwrap();
    assert!(!head.in_order());
    let mut slot = Cursor::new(Vec::new());
    let mut applier = Applier::new(&head, ApplyBudget::default()).unwrap();
    for (number, segment) in head.segments.iter().enumerate() {
        slot.seek(SeekFrom::Start(segment.new_offset)).unwrap();
        let start = (segment.patch_offset - u64::from(head.head_len)) as usize;
        let coded = &draft.data[start..start + segment.coded_len as usize];
        applier.segment(number as u32, coded, &mut Cursor::new(OLD), &mut slot).unwrap();
    }
    slot.flush().unwrap();
    applier.finish_reading(&mut &slot.get_ref()[..]).unwrap();
    assert_eq!(slot.into_inner(), NEW);
}

#[test]
fn segments_in_any_order_are_refused_by_a_forward_only_target() {
    assert!(matches!(applied(OLD, &out_of_order().patch()), Err(ApplyError::NeedsSeek)));
}

#[test]
fn segments_must_cover_the_output_once() {
    for (place, value) in [(1, 9), (1, 11), (31, 1)] {
        let mut draft = out_of_order();
        draft.table[place] = value;
        assert!(matches!(Head::parse(&draft.head(), &Limits::default()), Err(ApplyError::Malformed { .. })), "{place}");
    }
}
