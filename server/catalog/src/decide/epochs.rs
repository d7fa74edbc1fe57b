//! Stepping stones between signing epochs: a device whose verifier cannot read today's documents is offered the newest release
//! that it can still verify, because that brings a newer verifier; but only on the way to something that it may have.

use super::entitlement::{self, Verdict};
use super::{DeviceView, Evidence, Gate, ProductView, ReleaseView, Trace, entitled, owner, reachable, rollout_gate};
use crate::rollout::Rollout;
use crate::text::Version;
use crate::{Reason, Time};

/// The next step of a device towards a release of an epoch that its verifier does not know.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    /// The floor release: the newest of the device's own epoch that it can reach.
    pub floor: &'a ReleaseView,
    /// Where it leads: the newest release of a later epoch to which the device is entitled and that can be installed over the
    /// floor of the epoch before; of several one that a rollout has brought to the device.
    pub towards: &'a ReleaseView,
    /// That rollout.
    pub rollout: Option<&'a Rollout>,
}

impl Hop<'_> {
    pub(super) fn evidence(&self) -> Evidence {
        let towards = &self.towards.release;
        Evidence::Towards { version: towards.version.clone(), epoch: towards.signing_epoch }
    }
}

/// The next step of a device, when there is a release of a later epoch that it may have.
pub fn hop<'a>(device: &DeviceView, product: &'a ProductView, now: Time) -> Option<Hop<'a>> {
    let known = device.device.signing_epoch;
    if product.newest_epoch() <= known {
        return None;
    }
    let floor = next(device, product, None, known, now)?;
    let mut best: Option<Hop<'a>> = None;
    let mut at = floor;
    for epoch in known..product.newest_epoch() {
        at = end_of_epoch(device, product, at, epoch, now, &mut |_| {});
        let later = product.releases().iter().filter(|release| release.release.signing_epoch == epoch + 1);
        for towards in later.filter(|release| goes_over(device, product, at, release)) {
            let may = entitled(device, product, towards, now, &mut ()).pass;
            if !may || !owner::wants(device, product, towards, now) {
                continue;
            }
            let rollout = rollout_gate(device, product, towards, now).0;
            // More entitlement only adds to the choice, so that more cover never means less.
            let rank = |hop: &Hop<'_>| (hop.rollout.is_some(), hop.towards.release.order);
            let found = Hop { floor, towards, rollout };
            if best.as_ref().is_none_or(|best| rank(&found) > rank(best)) {
                best = Some(found);
            }
        }
    }
    best
}

/// The versions that a device installs one after the other to what its hop leads to; none when it needs no hop.
pub(super) fn path(device: &DeviceView, product: &ProductView, now: Time) -> Vec<Version> {
    let Some(hop) = hop(device, product, now) else { return Vec::new() };
    let mut versions = vec![hop.floor.release.version.clone()];
    let mut at = hop.floor;
    for epoch in device.device.signing_epoch..hop.towards.release.signing_epoch {
        at = end_of_epoch(device, product, at, epoch, now, &mut |release| {
            versions.push(release.release.version.clone());
        });
    }
    versions.push(hop.towards.release.version.clone());
    versions
}

/// Goes on inside an epoch until nothing newer of it can be installed.
fn end_of_epoch<'a>(
    device: &DeviceView,
    product: &'a ProductView,
    mut at: &'a ReleaseView,
    epoch: i32,
    now: Time,
    visit: &mut impl FnMut(&ReleaseView),
) -> &'a ReleaseView {
    // The order rises with every step, so this ends.
    while let Some(further) = next(device, product, Some(at), epoch, now) {
        visit(further);
        at = further;
    }
    at
}

/// The newest release of an epoch or an earlier one that can be installed over what runs, or over `at`.
fn next<'a>(
    device: &DeviceView,
    product: &'a ProductView,
    at: Option<&ReleaseView>,
    epoch: i32,
    now: Time,
) -> Option<&'a ReleaseView> {
    let is_out = |release: &ReleaseView| {
        release.release.published_at <= now && release.release.withdrawn_at.is_none_or(|withdrawn| now < withdrawn)
    };
    product.releases().iter().filter(|release| release.release.signing_epoch <= epoch && is_out(release)).find(
        |release| match at {
            None => reachable(device, product, release, now).pass,
            Some(at) => goes_over(device, product, at, release),
        },
    )
}

/// Whether a release can be installed over another one: what [`reachable`] asks, of a device that runs that one.
fn goes_over(device: &DeviceView, product: &ProductView, at: &ReleaseView, release: &ReleaseView) -> bool {
    let hw_id = device.device.hw_id.as_str();
    if release.release.channel > device.device.channel || release.release.order <= at.release.order {
        return false;
    }
    let mut fits = false;
    for artifact in release.artifacts.iter().filter(|artifact| artifact.hw_ids.contains(hw_id)) {
        fits = true;
        let before =
            at.artifacts.iter().find(|before| before.component == artifact.component && before.hw_ids.contains(hw_id));
        // A component that the step leaves alone runs what it ran.
        let (order, counter) = match before {
            Some(before) => (at.release.order, Some(before.security_counter)),
            None => (
                device.running_order(product, &artifact.component),
                device.installed(&artifact.component).map(|installed| installed.security_counter),
            ),
        };
        if artifact.min_installed_order.is_some_and(|floor| order < floor)
            || counter.is_some_and(|counter| artifact.security_counter < counter)
        {
            return false;
        }
    }
    fits
}

/// What [`entitlement::admits`] says; of a release of a later epoch also what comes first.
pub(super) fn admits(
    device: &DeviceView,
    product: &ProductView,
    release: &ReleaseView,
    hop: Option<&Hop<'_>>,
    now: Time,
    trace: &mut impl Trace,
) -> Verdict {
    let known = device.device.signing_epoch;
    if release.release.signing_epoch <= known {
        return entitlement::admits(device, product, release, now, trace);
    }
    let path = reachable(device, product, release, now);
    trace.step(&release.release.version, Gate::Path, path.pass, path.reason, || {
        if path.reason != Reason::EpochNotReached {
            return Evidence::None;
        }
        let floor = hop.map(|hop| hop.floor).or_else(|| next(device, product, None, known, now));
        Evidence::Epoch {
            epoch: release.release.signing_epoch,
            known,
            first: floor.map(|floor| floor.release.version.clone()),
        }
    });
    path
}

/// The rollout that brings a release. A hop follows its own rollout or, where that does not reach the device, the one of the
/// release that it leads to: who waits for the newest must not wait for a rollout that ended years ago. What was stopped stays
/// stopped.
pub(super) fn rollout<'a>(
    device: &DeviceView,
    product: &'a ProductView,
    release: &ReleaseView,
    hop: Option<&Hop<'a>>,
    now: Time,
) -> (Option<&'a Rollout>, Reason) {
    let own = rollout_gate(device, product, release, now);
    let Some(hop) = hop.filter(|_| own.0.is_none()) else { return own };
    if matches!(own.1, Reason::RolloutPaused | Reason::RolloutHalted | Reason::HardwareStopped | Reason::StoppedAll) {
        return own;
    }
    match hop.rollout {
        Some(rollout) => (Some(rollout), Reason::InStage),
        None => rollout_gate(device, product, hop.towards, now),
    }
}
