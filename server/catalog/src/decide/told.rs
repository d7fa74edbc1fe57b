//! What a device is told about itself: whether it gets a version, why, and when that changes. Of contracts, plans and customers it
//! hears nothing, and of a version that is not out for it as little as of one that does not exist.

use super::entitlement::is_hidden;
use super::{DeviceView, ProductView, newest_entitled, next_change, outcome};
use crate::device::DeviceState;
use crate::text::Version;
use crate::wire::device::WhyResponse;
use crate::{Reason, Time};

/// Days ahead in which a change is looked for: a device asks again long before.
const CHANGES_WITHIN_DAYS: i64 = 400;

/// Explains the decision to the device itself; about one version only, when one is named. Nothing when there is no such version, as
/// far as the device may know.
pub fn told(device: &DeviceView, product: &ProductView, only: Option<&Version>, at: Time) -> Option<WhyResponse> {
    let answer = |version: Option<&Version>, offered, reason: Reason| WhyResponse {
        at,
        version: version.cloned(),
        offered,
        reason: reason.code().to_owned(),
        sentence: reason.sentence().to_owned(),
        may_have: None,
        changes_at: None,
    };
    // Anyone can register itself and wait: that does not even tell which versions there are.
    match device.device.state_at(at) {
        DeviceState::Pending => return Some(answer(only, false, Reason::DevicePending)),
        DeviceState::Blocked => return Some(answer(only, false, Reason::DeviceBlocked)),
        DeviceState::Retired => return Some(answer(only, false, Reason::DeviceRetired)),
        DeviceState::Active | DeviceState::RmaPending | DeviceState::Replaced => {}
    }
    let only = match only {
        Some(version) => Some(product.release_of_version(version).filter(|release| !is_hidden(device, release, at))?),
        None => None,
    };
    let said = outcome(device, product, only, at);
    // What is hidden changes nothing that the device hears of: not even when.
    let hides = product.releases().iter().any(|release| is_hidden(device, release, at));
    let without = hides.then(|| product.without(|release| is_hidden(device, release, at)));
    let shown = without.as_ref().unwrap_or(product);
    let only = only.and_then(|only| shown.release_of_version(&only.release.version));
    let until = at.plus_days(CHANGES_WITHIN_DAYS);
    Some(WhyResponse {
        may_have: newest_entitled(device, product, at).map(|release| release.release.version.clone()),
        changes_at: next_change(device, shown, at, until, |moment| outcome(device, shown, only, moment)),
        ..answer(said.about.map(|about| &about.release.version), said.offered, said.reason)
    })
}
