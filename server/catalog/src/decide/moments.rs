//! When an answer changes by itself: windows begin and end, grace ends, a train is earned, a version comes out, an embargo or a
//! policy ends, a rollout's window opens or its ramp comes to the device. What people do (a renewal, a rollout) has no moment beforehand.

use std::collections::BTreeSet;

use super::{DeviceView, ProductView, ReleaseView, rollouts};
use crate::Time;
use crate::cover::CoverRule;

/// Boundaries that are looked at before it is said that no change is in sight: a device under 64 contracts of many windows
/// each must not cost a second, nor the memory for all of them.
const MAX_BOUNDARIES: usize = 2_000;

/// The first moment after `now`, and before `until`, at which `answer` differs from what it is now.
pub fn next_change<K: PartialEq>(
    device: &DeviceView,
    product: &ProductView,
    now: Time,
    until: Time,
    mut answer: impl FnMut(Time) -> K,
) -> Option<Time> {
    let boundaries = boundaries(device, product, now, until);
    if boundaries.is_empty() {
        return None;
    }
    let before = answer(now);
    boundaries.into_iter().find(|&at| answer(at) != before)
}

/// The moments between two others at which anything that decides may change: the first of very many.
fn boundaries(device: &DeviceView, product: &ProductView, after: Time, until: Time) -> BTreeSet<Time> {
    let mut moments = BTreeSet::new();
    let mut add = |moment: Time| {
        if moment > after && moment < until && moment < Time::FOREVER {
            moments.insert(moment);
            if moments.len() > MAX_BOUNDARIES {
                moments.pop_last();
            }
        }
    };
    for policy in &device.policies {
        add(policy.from_at);
        add(policy.to_at);
    }
    device.device.fence_at.into_iter().for_each(&mut add);
    for release in product.releases() {
        of_release(release).for_each(&mut add);
    }
    for rollout in &product.rollouts {
        rollouts::edges(device, rollout, after, until).into_iter().for_each(&mut add);
    }
    for cover in &device.covers {
        // Only such a rule looks at each train; its releases stand one behind the other.
        let mut seen = None;
        for release in product.releases() {
            if seen != Some(release.train_ga) && (seen.is_none() || matches!(cover.rule, CoverRule::Fallback(_))) {
                cover.boundaries(release.train_ga).for_each(&mut add);
            }
            seen = Some(release.train_ga);
        }
    }
    moments
}

fn of_release(release: &ReleaseView) -> impl Iterator<Item = Time> {
    let embargo = release.embargo.as_ref().map(|embargo| embargo.until);
    [Some(release.release.published_at), release.release.withdrawn_at, embargo].into_iter().flatten()
}
