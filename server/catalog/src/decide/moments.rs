//! When an answer changes by itself: windows begin and end, grace ends, a train is earned, a version comes out, an embargo or a
//! policy ends. What people do (a renewal, a rollout) has no moment beforehand.

use super::{DeviceView, ProductView, ReleaseView};
use crate::Time;

/// Boundaries that are looked at before it is said that no change is in sight: a device under 64 contracts of many windows
/// each must not cost a second.
const MAX_BOUNDARIES: usize = 2_000;

/// The first moment after `now`, and before `until`, at which `answer` differs from what it is now.
pub fn next_change<K: PartialEq>(
    device: &DeviceView,
    product: &ProductView,
    now: Time,
    until: Time,
    mut answer: impl FnMut(Time) -> K,
) -> Option<Time> {
    let before = answer(now);
    let mut at = now;
    for _ in 0..MAX_BOUNDARIES {
        at = next_boundary(device, product, at).filter(|&at| at < until)?;
        if answer(at) != before {
            return Some(at);
        }
    }
    None
}

/// The first moment after another at which anything that decides may change.
fn next_boundary(device: &DeviceView, product: &ProductView, after: Time) -> Option<Time> {
    let of_policies = device.policies.iter().flat_map(|policy| [policy.from_at, policy.to_at]);
    let of_releases = product.releases().iter().flat_map(|release| of_release(device, release, after));
    of_policies
        .chain(of_releases)
        .chain(device.device.fence_at)
        .filter(|&moment| moment > after && moment < Time::FOREVER)
        .min()
}

fn of_release(device: &DeviceView, release: &ReleaseView, after: Time) -> impl Iterator<Item = Time> {
    let own = [
        Some(release.release.published_at),
        release.release.withdrawn_at,
        release.embargo.as_ref().map(|embargo| embargo.until),
    ];
    let covers = device.covers.iter().filter_map(move |cover| cover.next_boundary(release.train_ga, after));
    own.into_iter().flatten().chain(covers)
}
