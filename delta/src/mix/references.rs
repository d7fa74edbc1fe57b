//! Everything that predicts where a reference points to after the update.

use super::{map::MovedMap, space::Space};

/// Addresses of both views, and what moved where.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct References<'a> {
    pub old: Space<'a>,
    pub new: Space<'a>,
    pub map: MovedMap<'a>,
}

impl References<'_> {
    /// The new address of what was at `address`, seen from region `old` of the old and region `new` of the new view.
    pub(crate) fn moved(&self, old: usize, new: usize, address: u64) -> u64 {
        let (offset, beyond) = self.old.inside(old, address);
        let moved = offset.wrapping_add(self.map.shift(offset));
        self.new.address_near(new, moved).wrapping_add(beyond)
    }
}
