//! Normalised views for the matcher: every reference replaced by its absolute new target.
//!
//! A function that moved is then the same bytes although all its calls changed, and a table of distances is the same bytes
//! although each of them did. The length stays, so matches of normalised views are matches of the views.

use super::{
    isa::kind,
    map::MovedMap,
    model::{PIECE, Window},
    references::References,
    space::Space,
    units::Walker,
};

/// Bytes that are judged together.
const BLOCK: usize = 256;

/// Words of a block that must be distances far back for the block to be a table of them.
const MIN_RELATIVE: usize = 8;

/// Shortest distance that counts as far: small negative numbers are something else.
const MIN_BACK: u64 = 4096;

/// `old` with its references as they will be, by what `references` tell.
pub(crate) fn old(old: &[u8], references: &References) -> Vec<u8> {
    normalise(old, references)
}

/// `new` with its references as they are.
pub(crate) fn new(new: &[u8], space: Space<'_>) -> Vec<u8> {
    normalise(new, &References { old: space, new: space, map: MovedMap::default() })
}

fn normalise(view: &[u8], references: &References) -> Vec<u8> {
    let mut out = Vec::with_capacity(view.len());
    let mut walker = Walker::of_all_distances();
    let window = Window { bytes: view, start: 0 };
    while out.len() < view.len() {
        let start = out.len() as u64;
        // Where this piece goes decides in which program its targets are.
        let moved = start.cast_signed() + references.map.shift(start.cast_signed());
        let moved = u64::try_from(moved).unwrap_or(0);
        walker.enter(references, start, moved);
        let piece = references.old.piece(start).min(view.len() as u64 - start);
        let until = walker.until(references, start, moved).min(piece);
        let address = references.old.address_of(start);
        let relative = relative_blocks(&view[start as usize..(start + until) as usize], address, view.len() as u64);
        while out.len() as u64 - start < until {
            let at = out.len() as u64;
            let unit = walker.unit(references, &window, at, at, until - (at - start));
            let block = (address.wrapping_add(at - start) % PIECE) as usize / BLOCK;
            let word =
                if unit.kind == kind::RELATIVE && !relative[block] { unit.raw } else { unit.form.word(unit.absolute) };
            out.extend_from_slice(&word.to_le_bytes()[..usize::from(unit.len)]);
        }
    }
    out
}

/// For each block of a piece that begins at `address` whether it is a table of distances: any small number could be one, but
/// few others point far back in a view of `len` bytes.
fn relative_blocks(piece: &[u8], address: u64, len: u64) -> [bool; PIECE as usize / BLOCK] {
    let mut found = [0; PIECE as usize / BLOCK];
    let aligned = (address.wrapping_neg() % 4) as usize;
    for (n, word) in piece.get(aligned..).unwrap_or_default().chunks_exact(4).enumerate() {
        let distance = i32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        if distance < 0 && (MIN_BACK..len).contains(&u64::from(distance.unsigned_abs())) {
            found[(address as usize % PIECE as usize + aligned + 4 * n) / BLOCK] += 1;
        }
    }
    found.map(|count| count >= MIN_RELATIVE)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            map::{Moved, Span},
            space::{Isa, Region, Regions},
        },
        *,
    };

    #[test]
    fn a_program_becomes_the_same_wherever_it_stands_in_its_view() {
        // Calls, and a table of distances that all lie far back.
        let call = |n: u32| 0x9400_0000 | (n * n * 37 % 3_000);
        let back = |n: u32| (-8_000 - (n.cast_signed() % 7) * 64).cast_unsigned();
        let words = (0..3_000).map(call).chain((3_000..4_000).map(back));
        let program: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
        let len = program.len() as u64;
        let normalised = |before: u64, new: u64| {
            let region = |start| Region { start, len, address: 0x40_0000, isa: Isa::A64, wide: true, first: true };
            let old_regions = Regions::new(vec![region(before)]);
            let new_regions = Regions::new(vec![region(new), Region { first: true, ..region(new + len) }]);
            let moved = Moved::new(vec![Span { old: before, len, new }]);
            let references = References { old: old_regions.space(), new: new_regions.space(), map: moved.map() };
            let view = [&vec![0xff; before as usize], &program[..]].concat();
            old(&view, &references)[before as usize..].to_vec()
        };
        let aligned = normalised(0, 0);
        let of = |program: &[u8], at: usize| program[4 * at..4 * at + 4].to_vec();
        assert_ne!(of(&aligned, 10), of(&program, 10), "a call");
        assert_ne!(of(&aligned, 3_500), of(&program, 3_500), "a distance");
        // Also where the old program stands behind all of the new view.
        for (before, new) in [(1, 0), (4_098, 0), (3, 7), (0, 40_001), (100_000, 2)] {
            assert!(normalised(before, new) == aligned, "{before} bytes before the old one, {new} before the new one");
        }
    }
}
