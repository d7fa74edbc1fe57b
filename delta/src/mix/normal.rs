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
pub(crate) fn new(new: &[u8], space: &Space) -> Vec<u8> {
    normalise(new, &References { old: space.clone(), new: space.clone(), map: MovedMap::default() })
}

fn normalise(view: &[u8], references: &References) -> Vec<u8> {
    let mut out = Vec::with_capacity(view.len());
    let relative = relative_blocks(view);
    let mut walker = Walker::of_all_distances();
    let window = Window { bytes: view, start: 0 };
    while out.len() < view.len() {
        let start = out.len() as u64;
        // Where this piece goes decides in which program its targets are.
        let moved = start.cast_signed() + references.map.shift(start.cast_signed());
        walker.enter(references, start, u64::try_from(moved).unwrap_or(0));
        let until = walker.until(references, start, start).min(PIECE).min(view.len() as u64 - start);
        while out.len() as u64 - start < until {
            let at = out.len() as u64;
            let unit = walker.unit(references, &window, at, at, until - (at - start));
            let kept = unit.kind == kind::RELATIVE && !relative.get(at as usize / BLOCK).copied().unwrap_or(false);
            let word = if kept { unit.raw } else { unit.form.word(unit.absolute) };
            out.extend_from_slice(&word.to_le_bytes()[..usize::from(unit.len)]);
        }
    }
    out
}

/// For each block whether it is a table of distances: any small number could be one, but few others point far back.
fn relative_blocks(view: &[u8]) -> Vec<bool> {
    let len = view.len() as u64;
    let far_back = |word: &&[u8]| {
        let distance = i32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        distance < 0 && (MIN_BACK..len).contains(&u64::from(distance.unsigned_abs()))
    };
    view.chunks(BLOCK).map(|block| block.chunks_exact(4).filter(far_back).count() >= MIN_RELATIVE).collect()
}
