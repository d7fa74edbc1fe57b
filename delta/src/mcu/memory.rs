//! All memory that applying takes beside a small stack, in one struct of known size.

use super::applier::Filled;
use crate::{
    error::ApplyError,
    head::MapBound,
    mix::{self, BEFORE, BEHIND, Fix, Learnt, MovedMap, NarrowSpan, Params, References, Region, Space},
};

/// Most entries of the map of what moved. The generator leaves short copies out of it until it fits.
pub(crate) const SPANS: usize = 256;

/// Most regions of one view. The generator keeps the longest.
pub(crate) const REGIONS: usize = 4;

/// Bytes of output that are made at a time.
pub(super) const PART: usize = 256;

/// Bytes of the old view that are seen at once. As many of the head are parsed at once, more than any entry has.
pub(super) const WINDOW: usize = PART + (BEFORE + BEHIND) as usize;

/// All memory that an [`Applier`](super::Applier) needs beside a stack of some 5 KiB: 59 KiB.
///
/// Put it into a `static`: it begins as zeros, so it takes no room in the program.
pub struct Memory {
    pub(super) learnt: Learnt,
    pub(super) slots: [u16; 1 << Params::MCU.slot_bits],
    pub(super) fixes: [Fix; 1 << Params::MCU.fix_bits],
    pub(super) ring: [u8; 1 << Params::MCU.ring_bits],
    pub(super) heads: [u32; 1 << Params::MCU.head_bits],
    pub(super) spans: [NarrowSpan; SPANS],
    pub(super) old_regions: [Region; REGIONS],
    pub(super) new_regions: [Region; REGIONS],
    pub(super) seen: [u8; WINDOW],
    pub(super) made: [u8; PART],
}

impl Memory {
    /// Memory that was not used yet.
    pub const fn new() -> Self {
        Self {
            learnt: Learnt::unset(),
            slots: [0; 1 << Params::MCU.slot_bits],
            fixes: [Fix::UNSET; 1 << Params::MCU.fix_bits],
            ring: [0; 1 << Params::MCU.ring_bits],
            heads: [0; 1 << Params::MCU.head_bits],
            spans: [NarrowSpan { old: 0, len: 0, new: 0 }; SPANS],
            old_regions: [Region::UNSET; REGIONS],
            new_regions: [Region::UNSET; REGIONS],
            seen: [0; WINDOW],
            made: [0; PART],
        }
    }

    /// Refuses a patch that needs more than there is. What it declares is not looked at: its tables and its map say it.
    pub(super) fn check(mix: Option<Params>, map: Option<MapBound>) -> Result<(), ApplyError> {
        let spans = map.map_or(0, |bound| u64::from(bound.spans));
        let more_tables = mix.map_or(0, |params| params.tables_beyond(Params::MCU));
        let more_spans = spans.saturating_sub(SPANS as u64) * size_of::<NarrowSpan>() as u64;
        refuse(more_tables.saturating_add(more_spans))
    }

    /// Refuses a map of so many entries if there is no room for it.
    pub(super) fn check_spans(entries: u64) -> Result<(), ApplyError> {
        refuse(entries.saturating_sub(SPANS as u64) * size_of::<NarrowSpan>() as u64)
    }

    /// What decoding a segment takes.
    pub(super) fn parts(&mut self, params: Params, filled: Filled) -> Parts<'_> {
        fn first<T>(all: &mut [T], bits: u8) -> &mut [T] {
            let len = all.len().min(1usize.checked_shl(bits.into()).unwrap_or(usize::MAX));
            all.get_mut(..len).unwrap_or_default()
        }
        let tables = mix::Memory {
            slots: first(&mut self.slots, params.slot_bits),
            fixes: first(&mut self.fixes, params.fix_bits),
            ring: first(&mut self.ring, params.ring_bits),
            heads: first(&mut self.heads, params.head_bits),
            learnt: &mut self.learnt,
        };
        let references = References {
            old: Space::new(self.old_regions.get(..filled.old_regions).unwrap_or_default()),
            new: Space::new(self.new_regions.get(..filled.new_regions).unwrap_or_default()),
            map: MovedMap::narrow(self.spans.get(..filled.spans).unwrap_or_default()),
        };
        Parts { tables, references, seen: &mut self.seen, made: &mut self.made }
    }
}

/// The memory, for one segment.
pub(super) struct Parts<'m> {
    pub tables: mix::Memory<'m>,
    pub references: References<'m>,
    /// For the old view.
    pub seen: &'m mut [u8],
    /// For the output.
    pub made: &'m mut [u8],
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

fn refuse(more: u64) -> Result<(), ApplyError> {
    let budget = size_of::<Memory>() as u64;
    if more == 0 {
        return Ok(());
    }
    Err(ApplyError::OverBudget { resource: "memory", needed: budget.saturating_add(more), budget })
}
