//! Round trips of whole segments, and whatever bytes a decoder may be given.

use proptest::prelude::*;

use super::{
    commands::{self, CommandDecoder},
    space::{Isa, Region},
    *,
};
use crate::apply::control::Command;

/// A segment's new offset.
const OFFSET: u64 = 3 * PIECE;

const PARAMS: Params = Params { slot_bits: 12, fix_bits: 6, ring_bits: 10, head_bits: 6 };

fn window(old: &[u8], from: u64, to: u64) -> Window<'_> {
    let from = from.min(old.len() as u64);
    let to = to.min(old.len() as u64);
    Window { bytes: &old[from as usize..to as usize], start: from }
}

/// The pieces that an applier cuts a segment into.
enum Piece {
    Literal { cursor: u64, len: usize },
    Copy { place: Place, len: usize },
}

fn pieces(commands: &[Command], space: &Space, offset: u64) -> Vec<Piece> {
    let (mut pieces, mut at, mut cursor) = (Vec::new(), offset, 0);
    for command in commands {
        if command.literal > 0 {
            pieces.push(Piece::Literal { cursor, len: command.literal as usize });
            at += u64::from(command.literal);
        }
        let mut place = Place { old: command.old_offset, done: 0, left: command.copy };
        while place.left > 0 {
            let len = space.piece(at).min(place.left.into());
            pieces.push(Piece::Copy { place, len: len as usize });
            place = Place { old: place.old + len, done: place.done + len as u32, left: place.left - len as u32 };
            at += len;
        }
        cursor = place.old;
    }
    pieces
}

/// What is known of both views.
struct Known {
    old: Regions,
    new: Regions,
    moved: Moved,
}

impl Known {
    fn references(&self) -> References<'_> {
        References { old: self.old.space(), new: self.new.space(), map: self.moved.map() }
    }
}

fn known(old: &[u8], new: &[u8], commands: &[Command], isa: Isa) -> Known {
    let region = |len: usize, address| Region { start: 0, len: len as u64, address, isa, wide: true, first: true };
    let (mut spans, mut at) = (Vec::new(), OFFSET);
    for command in commands {
        at += u64::from(command.literal);
        spans.push(Span { old: command.old_offset, len: command.copy.into(), new: at });
        at += u64::from(command.copy);
    }
    Known {
        old: Regions::new(vec![region(old.len(), 0x8000)]),
        new: Regions::new(vec![region(new.len() + OFFSET as usize, 0x9000)]),
        moved: Moved::new(spans),
    }
}

fn encode(old: &[u8], new: &[u8], commands: &[Command], references: &References) -> Vec<u8> {
    encode_at(OFFSET, old, new, commands, references)
}

fn encode_at(offset: u64, old: &[u8], new: &[u8], commands: &[Command], references: &References) -> Vec<u8> {
    let mut tables = Tables::new(PARAMS);
    let mut encoder = Encoder::new(tables.memory(), offset);
    let mut rest = new;
    for piece in pieces(commands, &references.new, offset) {
        match piece {
            Piece::Literal { cursor, len } => {
                let (bytes, after) = rest.split_at(len);
                encoder.begin_literals();
                encoder.literal(references, window(old, cursor, cursor + len as u64), cursor, bytes);
                rest = after;
            }
            Piece::Copy { place, len } => {
                let (bytes, after) = rest.split_at(len);
                let window = window(old, place.old.saturating_sub(BEFORE), place.old + len as u64 + BEHIND);
                encoder.copy(references, window, place, bytes);
                rest = after;
            }
        }
    }
    encoder.finish()
}

/// Tables as another segment left them.
fn used_tables() -> Tables {
    let mut tables = Tables::new(PARAMS);
    tables.slots.fill(0x5a5a);
    tables.ring.fill(0xa5);
    tables.heads.fill(77);
    tables
}

/// How a decoder is used, none of which makes a difference.
#[derive(Clone, Copy)]
enum Use {
    /// A piece at once.
    Pieces,
    /// Windows show all of the old view.
    Whole,
    /// A piece in parts of so many bytes.
    Parts(usize),
}

fn decode(old: &[u8], len: usize, commands: &[Command], references: &References, coded: &[u8], way: Use) -> Vec<u8> {
    let mut tables = used_tables();
    let mut decoder = Decoder::new(tables.memory(), coded.iter().copied(), OFFSET);
    let mut out = vec![0; len];
    let mut rest = &mut out[..];
    let shown = |from, to| if matches!(way, Use::Whole) { window(old, 0, u64::MAX) } else { window(old, from, to) };
    let part = if let Use::Parts(len) = way { len } else { usize::MAX };
    for piece in pieces(commands, &references.new, OFFSET) {
        match piece {
            Piece::Literal { cursor, len } => {
                let (bytes, after) = rest.split_at_mut(len);
                decoder.begin_literals();
                let mut done = 0;
                while done < len {
                    let cursor = cursor + done as u64;
                    let room = part.min(len - done);
                    let window = window(old, cursor, cursor + room as u64);
                    let out = &mut bytes[done..done + room];
                    done += decoder.literal(references, window, cursor, len - done, out);
                }
                rest = after;
            }
            Piece::Copy { place, len } => {
                let (bytes, after) = rest.split_at_mut(len);
                let mut done = 0;
                while done < len {
                    let room = part.min(len - done);
                    let made = done as u32;
                    let place =
                        Place { old: place.old + done as u64, done: place.done + made, left: place.left - made };
                    let window = shown(place.old.saturating_sub(BEFORE), place.old + room as u64 + BEHIND);
                    let out = &mut bytes[done..done + room];
                    done += decoder.copy(references, window, place, len - done, out);
                }
                rest = after;
            }
        }
    }
    out
}

/// Bytes that look like code: few different words, with calls among them.
fn code() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        4 => (0u32..16).prop_map(|n| 0xf940_0000 | n << 10 | n),
        2 => (0u32..64).prop_map(|n| 0x9400_0000 | n),
        1 => (0u32..4).prop_map(|n| 0x9000_0000 | n << 29),
        1 => (0u32..4).prop_map(|n| 0x9100_0000 | n << 12),
        1 => (0u32..200).prop_map(|n| 0xf800_f000 | n << 16),
        1 => any::<u32>(),
        1 => Just(0),
    ];
    proptest::collection::vec(word, 0..3_000)
        .prop_map(|words| words.iter().flat_map(|word| word.to_le_bytes()).collect())
}

/// An old view, and commands with the output that they make when some bytes differ.
fn update() -> impl Strategy<Value = (Vec<u8>, Vec<u8>, Vec<Command>)> {
    let command = (0u32..40, 1u32..6_000, any::<u32>());
    let change = (any::<u32>(), any::<u8>());
    (
        code(),
        proptest::collection::vec(command, 1..12),
        proptest::collection::vec(change, 0..60),
        proptest::collection::vec(any::<u8>(), 40),
    )
        .prop_map(|(old, shapes, changes, literals)| {
            let (mut new, mut commands) = (Vec::new(), Vec::new());
            for (literal, copy, at) in shapes {
                let at = if old.is_empty() { 0 } else { at as usize % old.len() };
                let copy = (copy as usize).min(old.len() - at);
                new.extend_from_slice(&literals[..literal as usize]);
                new.extend_from_slice(&old[at..at + copy]);
                if literal > 0 || copy > 0 {
                    commands.push(Command { literal, copy: copy as u32, old_offset: at as u64 });
                }
                if copy == 0 {
                    break;
                }
            }
            for (at, byte) in changes {
                if let Some(len) = std::num::NonZeroUsize::new(new.len()) {
                    new[at as usize % len] = byte;
                }
            }
            (old, new, commands)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn segments_come_back((old, new, list) in update(), isa in 0usize..5, part in LEAST_ROOM..300) {
        let isa = [Isa::Data, Isa::A64, Isa::A32, Isa::Thumb, Isa::X64][isa];
        let known = known(&old, &new, &list, isa);
        let references = known.references();
        let coded = encode(&old, &new, &list, &references);
        let decoded = |way| decode(&old, new.len(), &list, &references, &coded, way);
        prop_assert!(decoded(Use::Pieces) == new);
        prop_assert!(decoded(Use::Whole) == new, "a larger window changes nothing");
        prop_assert!(decoded(Use::Parts(part)) == new, "less room changes nothing");
    }

    #[test]
    fn commands_come_back((old, new, list) in update()) {
        let (len, old_len) = (new.len() as u32, old.len() as u64);
        let mut slots = vec![0; 1 << 10];
        let coded = commands::encode(&mut slots, old_len, &[(len, list.clone())]);
        let mut decoder = CommandDecoder::new(&mut slots, &coded, old_len);
        decoder.begin(len);
        for command in &list {
            let decoded = decoder.next().unwrap().unwrap();
            prop_assert_eq!((decoded.literal, decoded.copy), (command.literal, command.copy));
            prop_assert!(command.copy == 0 || decoded.old_offset == command.old_offset);
        }
        prop_assert_eq!(decoder.next(), Ok(None));
        prop_assert!(decoder.is_finished());
    }

    #[test]
    fn any_bytes_decode_into_something(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        fuzz(&bytes);
    }
}

#[test]
fn a_program_costs_the_same_wherever_it_stands_in_the_view() {
    let old: Vec<u8> = (0..3_000u32).flat_map(|n| (0x9400_0000 | (n * n % 3_000)).to_le_bytes()).collect();
    let new = [&old[..5_000], &old[100..164], &old[4_000..]].concat();
    let list =
        [Command { literal: 0, copy: 5_000, old_offset: 0 }, Command { literal: 64, copy: 8_000, old_offset: 4_000 }];
    let coded = |offset: u64| {
        let region = |len: usize, start| Region {
            start,
            len: len as u64,
            address: 0x9000,
            isa: Isa::A64,
            wide: true,
            first: true,
        };
        let old_regions = Regions::new(vec![region(old.len(), 0)]);
        let new_regions = Regions::new(vec![region(new.len(), offset)]);
        let moved = Moved::new(vec![
            Span { old: 0, len: 5_000, new: offset },
            Span { old: 4_000, len: 8_000, new: offset + 5_064 },
        ]);
        let references = References { old: old_regions.space(), new: new_regions.space(), map: moved.map() };
        encode_at(offset, &old, &new, &list, &references)
    };
    for offset in [1, 2, 1_023, PIECE + 18] {
        assert_eq!(coded(offset), coded(0), "at offset {offset}");
    }
}

#[test]
fn what_tables_held_before_makes_no_difference() {
    // Literals that are taken for instructions and repeat at a distance of one byte: a guess looks past what is there.
    let old: Vec<u8> = (0..256u32).flat_map(|n| (0xf940_0000 | n << 10).to_le_bytes()).collect();
    let new = [&old[..512], &[b'-'; 600], &old[512..]].concat();
    let list = [Command { literal: 0, copy: 512, old_offset: 0 }, Command { literal: 600, copy: 512, old_offset: 512 }];
    let known = known(&old, &new, &list, Isa::A64);
    let coded = encode(&old, &new, &list, &known.references());
    assert!(decode(&old, new.len(), &list, &known.references(), &coded, Use::Pieces) == new);
}

#[test]
fn calls_of_functions_that_moved_cost_almost_nothing() {
    // Four hundred calls to places all over, of which those behind 3,300 move by 64 bytes. The callers stay.
    let target = |n: u32| n * n * 37 % 2_900;
    let call = |n: u32, target: u32| (0x9400_0000 | (target.wrapping_sub(2 * n) & 0x03ff_ffff)).to_le_bytes();
    let body = |moves: u32| -> Vec<u8> {
        let words = (0..400).flat_map(|n| {
            let to = target(n) + if 4 * target(n) >= 3_300 { moves } else { 0 };
            [call(n, to), (0xf940_0000 | (n % 32)).to_le_bytes()]
        });
        words.flatten().collect()
    };
    let rest: Vec<u8> = (0..9_000u32).map(|n| ((n * n) >> 3) as u8).collect();
    let old = [body(0), rest.clone()].concat();
    let new = [&body(16)[..], &rest[..100], &[7; 64], &rest[100..]].concat();
    let list =
        [Command { literal: 0, copy: 3_300, old_offset: 0 }, Command { literal: 64, copy: 8_900, old_offset: 3_300 }];
    // Calls count in the view's offsets, and this segment begins at another.
    let mut known = known(&old, &new, &list, Isa::A64);
    let region =
        |len: usize, start, address| Region { start, len: len as u64, address, isa: Isa::A64, wide: true, first: true };
    known.old = Regions::new(vec![region(old.len(), 0, 0)]);
    known.new = Regions::new(vec![region(new.len(), OFFSET, 0)]);
    let coded = encode(&old, &new, &list, &known.references());
    let blind = encode(&old, &new, &list, &References::default());
    assert!(2 * coded.len() < blind.len(), "{} bytes, and {} without references", coded.len(), blind.len());
}

#[test]
fn a_model_for_microcontrollers_fits_in_64_kib() {
    let map = Moved::memory(100, 256 << 10);
    assert!(Params::MCU.memory() <= 60 << 10, "{} bytes", Params::MCU.memory());
    assert!(map <= 12 << 10, "{map} bytes of map for a hundred copies");
    assert!(Params::small(usize::MAX).memory() <= 32 << 20);
}

#[test]
fn parameters_are_bounded() {
    assert_eq!(Params::from_bytes(Params::small(1 << 20).to_bytes()), Some(Params::small(1 << 20)));
    assert_eq!(Params::from_bytes([255, 1, 1, 1]), None);
}
