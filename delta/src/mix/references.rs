//! Everything that predicts where a reference points to after the update.

use super::{map::MovedMap, space::Space};

/// Addresses of both views, and what moved where.
#[derive(Debug, Default)]
pub(crate) struct References {
    pub old: Space,
    pub new: Space,
    pub map: MovedMap,
}

impl References {
    /// The new address of what was at `address`, seen from region `old` of the old and region `new` of the new view.
    pub(crate) fn moved(&self, old: usize, new: usize, address: u64) -> u64 {
        let (offset, beyond) = self.old.inside(old, address);
        let moved = offset.wrapping_add(self.map.shift(offset));
        self.new.address_near(new, moved).wrapping_add(beyond)
    }
}
