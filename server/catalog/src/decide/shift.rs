//! What becomes of a device's access when its contracts change, or time goes by: the same questions asked twice.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::{DeviceView, ProductView, ReleaseView, newest_entitled};
use crate::Time;
use crate::cover::Standing;
use crate::text::Version;

/// How a device's access changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shift {
    /// The newest version that it was entitled to.
    pub before: Option<Version>,
    /// The newest version that it is entitled to then.
    pub after: Option<Version>,
    /// Whether that is an older one, a newer one, or the same.
    pub order: Ordering,
    /// Codes that no contract in force grants any more.
    pub lost: BTreeSet<String>,
    /// Codes that one grants now.
    pub gained: BTreeSet<String>,
}

impl Shift {
    /// Whether the device loses a version, or cover that later versions may ask for.
    pub fn is_loss(&self) -> bool {
        self.order == Ordering::Less || !self.lost.is_empty()
    }

    /// Whether it gains something.
    pub fn is_gain(&self) -> bool {
        self.order == Ordering::Greater || !self.gained.is_empty()
    }
}

/// Codes that the contracts in force at a moment grant.
pub fn codes_in_force(device: &DeviceView, at: Time) -> BTreeSet<String> {
    let in_force = device.covers.iter().filter(|cover| cover.standing_at(at, at) != Standing::Outside);
    in_force.flat_map(|cover| cover.codes.iter().map(|(code, _)| code.to_string())).collect()
}

/// How a device's access changes from one view and moment to another; nothing when it stays the same.
pub fn shift(before: (&DeviceView, Time), after: (&DeviceView, Time), product: &ProductView) -> Option<Shift> {
    let ask = |(device, at): (&DeviceView, Time)| (newest_entitled(device, product, at), codes_in_force(device, at));
    let ((old, had), (new, has)) = (ask(before), ask(after));
    let order = |release: Option<&ReleaseView>| release.map(|release| release.release.order);
    let version = |release: Option<&ReleaseView>| release.map(|release| release.release.version.clone());
    let shift = Shift {
        before: version(old),
        after: version(new),
        order: order(new).cmp(&order(old)),
        lost: had.difference(&has).cloned().collect(),
        gained: has.difference(&had).cloned().collect(),
    };
    (shift.order != Ordering::Equal || !shift.lost.is_empty() || !shift.gained.is_empty()).then_some(shift)
}
