//! Advance replacement (RMA): the new device takes over the whole cover of the old one, with its past, because a plan may look at the
//! day on which a train came out. The old one keeps what it had until the overlap ends.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::Time;
use crate::cover::Windows;
use crate::device::{Device, DeviceState};
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

/// An item of a contract: a serial, and when it is covered.
pub type Item = (ProductName, Serial, Time, Time);

/// A swap that stands, as far as items go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// The product of both.
    pub product: ProductName,
    /// The serial that was replaced.
    pub old: Serial,
    /// The serial that replaced it.
    pub new: Serial,
    /// When the old one's cover ended.
    pub fence_at: Time,
}

/// What items come to after swaps, in the order of their moments. A sales system may not have heard of a swap, or of nothing else:
/// whichever of the two serials it names, the new one is covered and the old one until the overlap ends.
pub fn through(items: BTreeSet<Item>, swaps: &[Replaced]) -> BTreeSet<Item> {
    let mut items = items;
    let named = |items: &BTreeSet<Item>, swap: &Replaced, serial: &Serial| -> Vec<Item> {
        items.iter().filter(|item| item.0 == swap.product && item.1 == *serial).cloned().collect()
    };
    for swap in swaps.iter().rev() {
        for (product, _, from, to) in named(&items, swap, &swap.new) {
            items.insert((product, swap.old.clone(), from, to));
        }
    }
    for swap in swaps {
        for item in named(&items, swap, &swap.old) {
            let (product, old, from, to) = item.clone();
            items.insert((product.clone(), swap.new.clone(), from, to));
            if to > swap.fence_at {
                items.remove(&item);
                if from < swap.fence_at {
                    items.insert((product, old, from, swap.fence_at));
                }
            }
        }
    }
    // What came from both sides is one.
    for (swap, serial) in swaps.iter().flat_map(|swap| [(swap, &swap.old), (swap, &swap.new)]) {
        let of_serial = named(&items, swap, serial);
        items.retain(|item| item.0 != swap.product || item.1 != *serial);
        let merged = Windows::new(of_serial.into_iter().map(|(_, _, from, to)| (from, to)).collect());
        items.extend(merged.iter().map(|(from, to)| (swap.product.clone(), serial.clone(), from, to)));
    }
    items
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
    /// Attempts that it had made: with more since, it may have confirmed a train by itself.
    #[serde(default)]
    pub attempt_seq: Option<i32>,
}

impl Before {
    /// What a device has now.
    pub fn of(device: &Device) -> Self {
        Self {
            state: device.state,
            fence_at: device.fence_at,
            customer_id: device.customer_id,
            site: device.site.clone(),
            tags: device.tags.clone(),
            cohort_id: device.cohort_id,
            channel: device.channel,
            confirmed_train: device.confirmed_train.clone(),
            attempt_seq: Some(device.attempt_seq),
        }
    }

    /// What a device that a swap entered had: it stays known, but waits to be accepted for something else.
    pub fn nothing(cohort_id: CohortId) -> Self {
        Self {
            state: DeviceState::Pending,
            fence_at: None,
            customer_id: None,
            site: None,
            tags: TextSet::default(),
            cohort_id,
            channel: Channel::Stable,
            confirmed_train: None,
            attempt_seq: Some(0),
        }
    }

    /// The device as it was, but for what somebody decided since: a blocked or retired device stays so, and a train that it may have
    /// confirmed since stays confirmed.
    pub fn give_back(self, device: Device) -> Device {
        let state = match device.state {
            DeviceState::Blocked | DeviceState::Retired => device.state,
            _ => self.state,
        };
        // A train that came with the swap alone goes with it.
        let confirmed_train = match self.attempt_seq {
            Some(attempts) if attempts == device.attempt_seq => self.confirmed_train,
            _ => device.confirmed_train.clone().or(self.confirmed_train),
        };
        Device {
            state,
            fence_at: self.fence_at,
            customer_id: self.customer_id,
            site: self.site,
            tags: self.tags,
            cohort_id: self.cohort_id,
            channel: self.channel,
            confirmed_train,
            ..device
        }
    }
}

/// The old device and the new one as a swap leaves them. Each takes the other's place in rollouts, so that the site goes on where it was
/// and no place is there twice.
pub fn exchange(mut old: Device, mut new: Device, fence_at: Time) -> (Device, Device) {
    new.state = DeviceState::Active;
    new.customer_id = old.customer_id;
    new.site.clone_from(&old.site);
    new.tags.clone_from(&old.tags);
    new.channel = old.channel;
    new.confirmed_train = new.confirmed_train.or_else(|| old.confirmed_train.clone());
    std::mem::swap(&mut new.cohort_id, &mut old.cohort_id);
    old.state = DeviceState::RmaPending;
    old.fence_at = Some(fence_at);
    (old, new)
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

    fn item(serial: &str, from: i64, to: i64) -> Item {
        let day = |day: i64| Time::EPOCH.plus_days(day);
        ("acme-cam".parse().unwrap(), serial.parse().unwrap(), day(from), day(to))
    }

    fn replaced(old: &str, new: &str, fence: i64) -> Replaced {
        Replaced {
            product: "acme-cam".parse().unwrap(),
            old: old.parse().unwrap(),
            new: new.parse().unwrap(),
            fence_at: Time::EPOCH.plus_days(fence),
        }
    }

    #[test]
    fn whichever_serial_of_a_swap_is_named_both_are_meant() {
        let swaps = [replaced("A", "B", 10), replaced("B", "C", 20)];
        let meant = BTreeSet::from([item("A", 0, 10), item("B", 0, 20), item("C", 0, 99), item("Z", 0, 99)]);
        for named in ["A", "B", "C"] {
            let items = BTreeSet::from([item(named, 0, 99), item("Z", 0, 99)]);
            assert_eq!(through(items, &swaps), meant, "{named}");
        }
        assert_eq!(through(meant.clone(), &swaps), meant, "again changes nothing");
    }

    proptest! {
        #[test]
        fn items_through_swaps_are_as_a_swap_leaves_them(
            named in prop::collection::vec((0usize..4, 0i64..50, 1i64..50), 0..5), fences in prop::collection::vec(0i64..80, 3),
        ) {
            let serials = ["A", "B", "C", "D"];
            let swaps = [replaced("A", "B", fences[0]), replaced("B", "C", fences[1])];
            let items: BTreeSet<Item> =
                named.iter().map(|&(serial, from, days)| item(serials[serial], from, from + days)).collect();
            let once = through(items.clone(), &swaps);
            let covered = |items: &BTreeSet<Item>, serial: &str, at: i64| {
                let at = Time::EPOCH.plus_days(at);
                items.iter().any(|item| item.1.as_str() == serial && item.2 <= at && at < item.3)
            };
            for at in 0..100 {
                let any = ["A", "B", "C"].iter().any(|serial| covered(&items, serial, at));
                prop_assert_eq!(covered(&once, "C", at), any, "the last one has all");
                prop_assert!(at < fences[0] || !covered(&once, "A", at), "a fenced one has nothing");
                prop_assert_eq!(covered(&once, "D", at), covered(&items, "D", at), "others are left alone");
            }
        }

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
