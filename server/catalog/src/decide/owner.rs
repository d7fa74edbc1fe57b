//! The policy gate: what a device's owner wants. It follows entitlement and never makes any.

use super::entitlement::{Verdict, no, yes};
use super::{DeviceView, ProductView, ReleaseView};
use crate::policy::{Policy, PolicyKind};
use crate::release::ReleaseKind;
use crate::text::Version;
use crate::{Reason, Time};

/// Stepping stones that are followed from a pinned version back.
const MAX_STONES: usize = 16;

/// Whether the owner wants a release, or says nothing.
pub(super) fn wants(device: &DeviceView, product: &ProductView, release: &ReleaseView, now: Time) -> bool {
    wanted(device, product, release, Reason::Offered, now).is_none_or(|(_, verdict)| verdict.pass)
}

/// What the owner's deciding policy says about a release that the device may have for a reason. What lets a version through lets the
/// stepping stones to it through.
pub(super) fn wanted<'a>(
    device: &'a DeviceView,
    product: &ProductView,
    release: &ReleaseView,
    reason: Reason,
    now: Time,
) -> Option<(&'a Policy, Verdict)> {
    let policy = speaking(device, product, release, now)?;
    let of_security = release.release.kind == ReleaseKind::Security || reason == Reason::SecurityPath;
    let verdict = match &policy.kind {
        PolicyKind::Hold { security } if *security || !of_security => no(Reason::HeldByPolicy),
        PolicyKind::Pin { version }
            if *version != release.release.version && !leads_to(product, &release.release.version, version) =>
        {
            no(Reason::PinnedByPolicy)
        }
        PolicyKind::Hold { .. } | PolicyKind::Pin { .. } | PolicyKind::Follow | PolicyKind::UpdateNow { .. } => {
            yes(Reason::AllowedByPolicy)
        }
    };
    Some((policy, verdict))
}

/// The policy that decides about a release. Who asked for a version now says nothing about others.
fn speaking<'a>(device: &'a DeviceView, product: &ProductView, release: &ReleaseView, now: Time) -> Option<&'a Policy> {
    let about = |policy: &&Policy| match &policy.kind {
        PolicyKind::UpdateNow { version } => {
            *version == release.release.version || leads_to(product, &release.release.version, version)
        }
        PolicyKind::Hold { .. } | PolicyKind::Pin { .. } | PolicyKind::Follow => true,
    };
    Policy::deciding(device.policies.iter().filter(about), now)
}

/// Whether somebody asked for a release, or what it is a stepping stone to, at once, and nothing narrower or later says otherwise.
pub(super) fn asked_now(device: &DeviceView, product: &ProductView, release: &ReleaseView, now: Time) -> bool {
    asks_now(device, now)
        && speaking(device, product, release, now)
            .is_some_and(|policy| matches!(policy.kind, PolicyKind::UpdateNow { .. }))
}

/// Whether somebody asked for any release at once.
pub(super) fn asks_now(device: &DeviceView, now: Time) -> bool {
    device.policies.iter().any(|policy| matches!(policy.kind, PolicyKind::UpdateNow { .. }) && policy.holds_at(now))
}

/// Whether a version is the oldest over which another installs, or leads to that one in turn.
fn leads_to(product: &ProductView, stone: &Version, version: &Version) -> bool {
    let mut at = version;
    for _ in 0..MAX_STONES {
        let mut floors = product.release_of_version(at).into_iter().flat_map(|release| &release.artifacts);
        match floors.find_map(|artifact| artifact.min_installed.as_ref()) {
            Some(floor) if floor == stone => return true,
            Some(floor) => at = floor,
            None => return false,
        }
    }
    false
}
