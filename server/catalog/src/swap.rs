//! Advance replacement (RMA): the new device takes over the whole cover of the old one, with its past, because a plan may look at the
//! day on which a train came out. The old one keeps what it had until the overlap ends.

use serde::{Deserialize, Serialize};

use crate::Time;
use crate::device::DeviceState;
use crate::id::{CohortId, CustomerId, FactId};
use crate::text::{ProductName, Serial, Slug, TrainName};
use crate::{TextSet, product::Channel};

/// Days in which both devices work unless somebody says otherwise.
pub const DEFAULT_OVERLAP_DAYS: u16 = 30;
/// The longest overlap.
pub const MAX_OVERLAP_DAYS: u16 = 180;

/// When an item covers, `[from, to)`.
pub type Interval = (Time, Time);

/// What becomes of the items of the old serial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Items of the old serial that are cut: superseded, and recorded anew with the end of the overlap when anything is left.
    pub cut: Vec<(FactId, Option<Interval>)>,
    /// Items that the new serial gets.
    pub new: Vec<Interval>,
}

/// Moves items from one serial to another. `fence_at` is the end of the overlap.
pub fn carry(items: &[(FactId, Interval)], fence_at: Time) -> Carried {
    let cut = items
        .iter()
        .filter(|(_, (_, to))| *to > fence_at)
        .map(|&(id, (from, _))| (id, (from < fence_at).then_some((from, fence_at))));
    Carried { cut: cut.collect(), new: items.iter().map(|(_, interval)| *interval).collect() }
}

/// What a device had that a swap changes, so that it can be given back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// Its state.
    pub state: DeviceState,
    /// When it would have been fenced.
    pub fence_at: Option<Time>,
    /// Its owner.
    pub customer_id: Option<CustomerId>,
    /// Its site.
    pub site: Option<Slug>,
    /// Its tags.
    pub tags: TextSet,
    /// Its place in rollouts.
    pub cohort_id: CohortId,
    /// Its channel.
    pub channel: Channel,
    /// The train that it is known to run.
    pub confirmed_train: Option<TrainName>,
}

/// What a swap did, to be undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The old device as it was.
    pub old: Before,
    /// The new device as it was; absent when the swap entered it.
    pub new: Option<Before>,
    /// Facts that the swap superseded: items and policies of the old serial.
    pub superseded: Vec<FactId>,
    /// Facts that it recorded.
    pub recorded: Vec<FactId>,
}

/// A swap as administrators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Swap {
    /// The number of the return, unique.
    pub rma: Slug,
    /// The product.
    pub product: ProductName,
    /// The serial that is replaced.
    pub old: Serial,
    /// The serial that replaces it.
    pub new: Serial,
    /// When it was done.
    pub at: Time,
    /// When the overlap ends: from then on the old serial gets security fixes alone.
    pub fence_at: Time,
    /// Who did it.
    pub actor: String,
    /// When it was undone.
    pub undone_at: Option<Time>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::cover::Windows;

    proptest! {
        #[test]
        fn the_new_serial_has_the_whole_cover_and_the_old_one_all_of_it_before_the_fence(
            spans in prop::collection::vec((0i64..500, 1i64..300), 0..6), fence in 0i64..700, at in 0i64..900,
        ) {
            let day = |day: i64| Time::EPOCH.plus_days(day);
            let items: Vec<(FactId, Interval)> = (0u128..)
                .zip(&spans)
                .map(|(id, &(from, days))| (FactId(Uuid::from_u128(id)), (day(from), day(from + days))))
                .collect();
            let carried = carry(&items, day(fence));
            let windows = |intervals: Vec<Interval>| Windows::new(intervals);
            let before = windows(items.iter().map(|(_, interval)| *interval).collect());
            let new = windows(carried.new.clone());
            let kept = items.iter().filter(|(id, _)| !carried.cut.iter().any(|(cut, _)| cut == id)).map(|(_, interval)| *interval);
            let old = windows(kept.chain(carried.cut.iter().filter_map(|(_, left)| *left)).collect());
            let held = |windows: &Windows| windows.at(day(at)).is_some();
            prop_assert_eq!(held(&new), held(&before));
            prop_assert_eq!(held(&old), held(&before) && at < fence);
        }
    }
}
