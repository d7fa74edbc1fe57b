//! The rollout gate: has any rollout of this release reached this device?

use super::audience::{self, audience_has};
use super::{DeviceView, Evidence, ProductView, ReleaseView, owner};
use crate::release::ReleaseKind;
use crate::rollout::{BUCKETS, Rollout, RolloutState, bucket};
use crate::{Reason, Time};

/// The rollout that brings the release to the device now (heaviest first), or why none does: of several reasons the one
/// nearest to a yes.
pub fn rollout_gate<'a>(
    device: &DeviceView,
    product: &'a ProductView,
    release: &ReleaseView,
    now: Time,
) -> (Option<&'a Rollout>, Reason) {
    if product.stopped {
        return (None, Reason::StoppedAll);
    }
    let mut best: Option<(&Rollout, Reason)> = None;
    let mut nearest = (0, Reason::NoRollout);
    for rollout in &product.rollouts {
        let (rank, reason) = if rollout.release_id == release.release.id {
            brings(device, product, rollout, release, now)
        } else if leads_back(device, product, rollout, release) {
            (YES, Reason::RollingBack)
        } else {
            continue;
        };
        if rank == YES {
            if best.is_none_or(|(chosen, _)| rollout.weight > chosen.weight) {
                best = Some((rollout, reason));
            }
        } else if rank > nearest.0 {
            nearest = (rank, reason);
        }
    }
    match best {
        Some((rollout, reason)) => (Some(rollout), reason),
        None => (None, nearest.1),
    }
}

/// The rank of a rollout that offers.
const YES: u8 = u8::MAX;

/// Whether a rollout is for a device. One that it was offered to and that has not ended there goes on with it, whatever its filter says
/// meanwhile: a device half-way must not be left there because its site was renamed or its plan ended.
fn is_for(device: &DeviceView, product: &ProductView, rollout: &Rollout, now: Time) -> bool {
    if device.under_way == Some(rollout.id) {
        audience::lists_have(&rollout.selector, device)
    } else {
        audience_has(&rollout.selector, device, product, now)
    }
}

/// What a refusal of this gate rested on, for the trace.
pub(super) fn evidence(
    device: &DeviceView,
    product: &ProductView,
    release: &ReleaseView,
    reason: Reason,
    now: Time,
) -> Evidence {
    let mut of_release = product.rollouts.iter().filter(|rollout| rollout.release_id == release.release.id);
    let found = of_release.find(|rollout| brings(device, product, rollout, release, now).1 == reason);
    match (found, reason) {
        (Some(rollout), Reason::NotInAudience) => {
            let (asks, has) = audience::misses(&rollout.selector, device, product, now).unwrap_or_default();
            Evidence::Audience { rollout: rollout.name.clone(), asks, has }
        }
        (Some(rollout), _) => Evidence::Rollout { rollout: rollout.name.clone() },
        (None, _) => Evidence::None,
    }
}

/// How near a rollout is to offering its release to a device, and the reason.
fn brings(
    device: &DeviceView,
    product: &ProductView,
    rollout: &Rollout,
    release: &ReleaseView,
    now: Time,
) -> (u8, Reason) {
    if !is_for(device, product, rollout, now) {
        return (1, Reason::NotInAudience);
    }
    match rollout.state {
        RolloutState::Halted | RolloutState::RollingBack => return (2, Reason::RolloutHalted),
        // Who asks for it now waits for no patches and no start, but for those who approve.
        RolloutState::Preparing | RolloutState::Scheduled if owner::asked_now(device, product, release, now) => {}
        RolloutState::Draft
        | RolloutState::Review
        | RolloutState::Approved
        | RolloutState::Preparing
        | RolloutState::Scheduled => return (3, Reason::RolloutNotStarted),
        RolloutState::Paused => return (5, Reason::RolloutPaused),
        RolloutState::Running | RolloutState::Done => {}
    }
    if rollout.excluded.contains(device.device.hw_id.as_str()) {
        return (4, Reason::HardwareStopped);
    }
    if owner::asked_now(device, product, release, now) {
        return (YES, Reason::UpdateNow);
    }
    let bucket = || bucket(&rollout.salt, device.device.cohort_id);
    let reach = rollout.reach(now);
    // Everyone is in the last stage, whatever the bucket: most rollouts that poll after poll asks are done.
    if u64::from(reach) < BUCKETS && bucket() >= reach {
        return (6, Reason::StageWait);
    }
    // Who has the offer goes on with it: a rate that is made slower takes nothing back.
    let site = device.device.site.as_ref();
    if device.under_way != Some(rollout.id) && rollout.rate_at(site, bucket).is_some_and(|at| at > now) {
        return (7, Reason::SiteRate);
    }
    let schedule = &rollout.rules.schedule;
    let waits = !schedule.is_always() && (release.release.kind != ReleaseKind::Security || schedule.security_too);
    if waits && schedule.next_open(now, device.time_zone.as_deref(), bucket()).is_none_or(|at| at > now) {
        return (8, Reason::WindowClosed);
    }
    (YES, Reason::InStage)
}

/// Whether a rollout that goes back leads a device on to this release: it runs the one that is taken back, and this is what the
/// rules name for it.
fn leads_back(device: &DeviceView, product: &ProductView, rollout: &Rollout, release: &ReleaseView) -> bool {
    rollout.state == RolloutState::RollingBack
        && rollout.rules.rollback_to.as_ref() == Some(&release.release.version)
        && audience::may_have_had(&rollout.selector, device, product)
        && product.releases().iter().find(|release| release.release.id == rollout.release_id).is_some_and(
            |taken_back| {
                // An image that did not change is of older releases, too: it runs the release when it runs all of it.
                let mut images = taken_back.artifacts.iter().filter(|image| image.runs_on(device)).peekable();
                images.peek().is_some()
                    && images
                        .all(|image| device.installed(&image.component).is_some_and(|one| one.sha256 == image.sha256))
            },
        )
}

/// How soon a device is to poll again because a rollout that it is for asks for it; the shortest of several.
pub fn poll_within(device: &DeviceView, product: &ProductView, now: Time) -> Option<crate::Period> {
    let asks = |rollout: &&Rollout| rollout.state == RolloutState::Running && is_for(device, product, rollout, now);
    product
        .rollouts
        .iter()
        .filter(|rollout| rollout.rules.poll.is_some())
        .filter(asks)
        .filter_map(|one| one.rules.poll)
        .min()
}

/// The moments between two others at which a rollout reaches or leaves a device by itself: its ramp comes to the device's bucket, its
/// windows open and close; or its filter's length of time is over.
pub(super) fn edges(device: &DeviceView, rollout: &Rollout, after: Time, until: Time) -> Vec<Time> {
    if !rollout.state.makes_offers() {
        return Vec::new();
    }
    let schedule = &rollout.rules.schedule;
    let ramps = rollout.stages.stage(rollout.stage).is_some_and(|stage| stage.ramp != crate::Period::ZERO);
    let mut ages = audience::ages(&rollout.selector, device);
    let rate = rollout.rate_at(device.device.site.as_ref(), || bucket(&rollout.salt, device.device.cohort_id));
    if (!ramps && rate.is_none() && schedule.is_always() && ages.is_empty())
        || !audience::lists_have(&rollout.selector, device)
    {
        return Vec::new();
    }
    let bucket = bucket(&rollout.salt, device.device.cohort_id);
    let mut edges = schedule.edges(after, until, device.time_zone.as_deref(), bucket);
    edges.append(&mut ages);
    edges.extend(rate);
    edges.extend(rollout.reached_at(bucket));
    edges
}
