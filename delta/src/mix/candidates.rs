//! What a unit may have become: where its target went, what the same word became the last time, or nothing new.

use super::{ensemble::hash, fixes::Fixes, isa::kind, units::Unit};

/// Most predictions of a unit.
const MAX_CANDIDATES: usize = 4;

/// Where a prediction comes from.
mod source {
    pub(crate) const OLD: u8 = 0;
    pub(crate) const MOVED: u8 = 1;
    pub(crate) const EXACT: u8 = 2;
    pub(crate) const NEAR: u8 = 3;
    pub(crate) const FAR: u8 = 4;
}

/// A prediction.
#[derive(Clone, Copy, Default)]
pub(crate) struct Candidate {
    pub canonical: u32,
    pub source: u8,
    pub trust: u8,
}

/// The predictions of a unit, best first, no two alike.
#[derive(Default)]
pub(crate) struct Candidates {
    list: [Candidate; MAX_CANDIDATES],
    pub len: usize,
    /// Which sources agree with the first.
    pub agree: u8,
    /// Which differences were remembered.
    pub level: u8,
}

impl Candidates {
    fn add(&mut self, canonical: u32, source: u8, trust: u16) {
        let known = self.list.get(..self.len).unwrap_or_default();
        if let Some(at) = known.iter().position(|candidate| candidate.canonical == canonical) {
            if at == 0 {
                self.agree |= 1 << source;
            }
            return;
        }
        if let Some(place) = self.list.get_mut(self.len) {
            *place = Candidate { canonical, source, trust: trust.min(4) as u8 };
            self.len += 1;
        }
    }

    pub(crate) fn get(&self, n: usize) -> Candidate {
        self.list.get(n).copied().unwrap_or_default()
    }
}

/// All bits of a unit.
pub(crate) fn mask(unit: &Unit) -> u32 {
    u32::MAX >> (32 - 8 * u32::from(unit.len.clamp(1, 4)))
}

/// What a unit may have become.
#[inline]
pub(crate) fn candidates(unit: &Unit, keys: &[u32; 3], fixes: &Fixes<'_>) -> Candidates {
    let mut candidates = Candidates::default();
    for ((n, key), source) in keys.iter().enumerate().zip(&[source::EXACT, source::NEAR, source::FAR]) {
        if let Some((difference, trust)) = fixes.get(*key) {
            candidates.add(unit.moved.wrapping_add(difference) & mask(unit), *source, trust);
            candidates.level |= 1 << n;
        }
    }
    if unit.refers {
        candidates.add(unit.moved, source::MOVED, 0);
    }
    candidates.add(unit.old, source::OLD, 0);
    candidates
}

/// What is left of an instruction without its immediate.
pub(crate) fn opcode(unit: &Unit) -> u32 {
    match unit.kind {
        kind::CALL | kind::JUMP => unit.old >> 26,
        kind::LITERAL | kind::BRANCH => unit.old >> 19,
        kind::TEST => unit.old >> 14,
        kind::ADR | kind::ADRP => unit.old >> 21,
        kind::LOAD | kind::ADD | kind::LOW => unit.old >> 12,
        kind::MOVE => unit.old >> 16,
        _ => unit.old >> 8,
    }
}

/// Under what differences are remembered: exactly this, things near it, things further around.
pub(crate) fn keys(unit: &Unit, before: u32) -> [u32; 3] {
    let kind = u32::from(unit.kind);
    if unit.refers {
        let seed = |level: u32| hash(0x3000 + level, kind);
        return [hash(seed(0), unit.subject), hash(seed(1), unit.subject >> 6), hash(seed(2), unit.subject >> 12)];
    }
    let seed = |level: u32| hash(0x3010 + level, kind);
    match unit.kind {
        // The same immediate whatever the registers: a field that moved within its structure.
        kind::LOAD | kind::ADD => [
            hash(seed(0), unit.old),
            hash(hash(seed(1), unit.old & 0xfff), unit.old >> 22),
            hash(hash(seed(2), unit.old), before),
        ],
        _ => [hash(hash(seed(0), unit.old), before), hash(seed(1), unit.old), hash(seed(2), unit.old >> 8)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mix::{fixes::Fix, isa::Form};

    #[test]
    fn remembered_differences_come_before_the_map_and_the_map_before_the_old_word() {
        let mut table = [Fix::default(); 64];
        let mut fixes = Fixes::new(&mut table);
        let unit = Unit {
            kind: kind::CALL,
            form: Form::PLAIN,
            len: 4,
            raw: 0x9400_0040,
            old: 0x9400_0040,
            moved: 0x9400_0050,
            absolute: 0x9400_0450,
            subject: 0x1100,
            refers: true,
        };
        let keys = keys(&unit, 0);
        let found = candidates(&unit, &keys, &fixes);
        assert_eq!([0, 1].map(|n| found.get(n).canonical), [0x9400_0050, 0x9400_0040]);
        assert_eq!(found.len, 2);
        fixes.learn(keys[0], 8);
        let found = candidates(&unit, &keys, &fixes);
        assert_eq!([0, 1, 2].map(|n| found.get(n).canonical), [0x9400_0058, 0x9400_0050, 0x9400_0040]);
    }
}
