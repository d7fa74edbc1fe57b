//! What rollouts promise in any history: whom they reach, by what is plain, and that nobody whom they reached is left.

use proptest::prelude::*;

use super::world::{FILTERS, faster};
use super::*;
use crate::policy::{Policy, PolicyKind};
use crate::rollout::{Rollout, bucket};

/// Whether a rollout is for a device, by what the filters of a world say plainly.
fn holds(rollout: &Rollout, device: &DeviceView, product: &ProductView, at: Time) -> bool {
    let Some(filter) = &rollout.selector.filter else { return true };
    let is = |text: &str| text.parse().as_ref() == Ok(filter);
    let (_, plainly) = FILTERS.iter().find(|(text, _)| is(text)).expect("a filter of the world");
    plainly(device, product, at)
}

/// Whether somebody asked for a release, or for what it leads to, and said nothing else about it since.
fn asked_for(device: &DeviceView, product: &ProductView, release: &ReleaseView, at: Time) -> bool {
    let leads_to = |version: &crate::text::Version| {
        let mut way = vec![version.clone()];
        while let Some(floor) = way
            .last()
            .and_then(|version| product.release_of_version(version))
            .and_then(|release| release.artifacts.iter().find_map(|image| image.min_installed.clone()))
        {
            way.push(floor);
        }
        way.contains(&release.release.version)
    };
    let about = |policy: &&Policy| match &policy.kind {
        PolicyKind::UpdateNow { version } => leads_to(version),
        _ => true,
    };
    let in_force = |policy: &&Policy| policy.from_at <= at && policy.to_at > at;
    // What is said for the device alone has the last word, and of that what was said last.
    let mut said: Vec<&Policy> = device.policies.iter().filter(in_force).filter(about).collect();
    said.sort_by_key(|policy| (policy.scope == crate::policy::PolicyScope::Device, policy.recorded_at, policy.id));
    said.last().is_some_and(|policy| matches!(policy.kind, PolicyKind::UpdateNow { .. }))
}

/// Whether a rollout has come to a device, in hundredths of a percent of its audience and of the time through its site.
fn has_come(rollout: &Rollout, device: &DeviceView, at: Time) -> bool {
    let place = i64::from(bucket(&rollout.salt, device.device.cohort_id));
    let percent =
        |stage: i32| usize::try_from(stage).ok().map_or(0, |stage| i64::from(rollout.stages.0[stage].percent) * 100);
    let (before, target) = (percent(rollout.stage - 1), percent(rollout.stage));
    let ramp = rollout.stages.0[usize::try_from(rollout.stage).unwrap()].ramp.as_ms();
    let open = (at.as_ms() - rollout.stage_since.as_ms()).max(0);
    let grown = if ramp == 0 || open >= ramp { target - before } else { (target - before) * open / ramp };
    let reach = (before.max(i64::from(rollout.reached)) + grown).min(target).max(i64::from(rollout.reached));
    let ran = rollout.ran_ms + at.as_ms() - rollout.stage_since.as_ms();
    let rated = |period: crate::Period| device.under_way != Some(rollout.id) && period.as_ms() * place / 10_000 > ran;
    place < reach && !rollout.rules.rates.per_site.is_some_and(rated)
}

/// The gate lets a release through to a device exactly when one of its rollouts has come to it, by what is plain.
pub(super) fn the_gate_is_what_is_plain(
    device: &DeviceView,
    product: &ProductView,
    at: Time,
) -> Result<(), TestCaseError> {
    for release in product.releases() {
        let (brought, reason) = rollout_gate(device, product, release, at);
        let asked = asked_for(device, product, release, at);
        let brings = |rollout: &&Rollout| {
            rollout.release_id == release.release.id
                && rollout.state.makes_offers()
                && (device.under_way == Some(rollout.id) || holds(rollout, device, product, at))
                && (asked || has_come(rollout, device, at))
        };
        let heaviest = product.rollouts.iter().filter(brings).map(|rollout| rollout.weight).max();
        let version = &release.release.version;
        prop_assert_eq!(brought.map(|rollout| rollout.weight), heaviest, "{} {:?}", version, reason);
        prop_assert_eq!(reason == Reason::UpdateNow, brought.is_some() && asked, "{} {:?}", version, reason);
        if let Some(rollout) = brought {
            prop_assert!(brings(&rollout), "{version} by {}", rollout.name);
        }
    }
    Ok(())
}

/// Never an offer to who is outside of every filter, whatever else lets the version through.
pub(super) fn nobody_outside_is_offered_it(
    device: &DeviceView,
    product: &ProductView,
    at: Time,
) -> Result<(), TestCaseError> {
    let Decision::Offer { release, .. } = decide(device, product, at, &mut ()) else { return Ok(()) };
    // A hop follows its own rollout or that of what it leads to, in a later epoch.
    let of = |rollout: &&Rollout| match product.releases().iter().find(|one| one.release.id == rollout.release_id) {
        Some(one) => one.release.id == release.release.id || one.release.signing_epoch > device.device.signing_epoch,
        None => false,
    };
    let has = |rollout: &Rollout| device.under_way == Some(rollout.id) || holds(rollout, device, product, at);
    let mut rollouts = product.rollouts.iter().filter(of);
    prop_assert!(rollouts.any(|rollout| rollout.state.makes_offers() && has(rollout)), "{}", release.release.version);
    Ok(())
}

/// Whom a rollout has reached it goes on reaching: as time goes by, in its next stage, at a faster rate, after a pause.
pub(super) fn nobody_leaves_the_cohort(
    device: &DeviceView,
    product: &ProductView,
    at: Time,
    later: Time,
) -> Result<(), TestCaseError> {
    // What somebody asked for ends; the filter's own time is not the rollout's.
    let device = DeviceView { policies: vec![], under_way: None, ..device.clone() };
    let reaches = |rollout: Rollout, at: Time| {
        let Some(release) = product.releases().iter().find(|one| one.release.id == rollout.release_id) else {
            return false;
        };
        let mut alone = product.clone();
        alone.rollouts = vec![rollout];
        rollout_gate(&device, &alone, release, at).0.is_some()
    };
    for rollout in product.rollouts.iter().filter(|rollout| rollout.state.makes_offers()) {
        let mut one = rollout.clone();
        one.selector = Selector::default();
        if !reaches(one.clone(), at) {
            continue;
        }
        prop_assert!(reaches(one.clone(), later.max(at)), "{} as time goes by", one.name);
        let paused = one.moved(RolloutState::Paused, one.stage, at);
        let waited = later.max(at);
        prop_assert!(!reaches(paused.clone(), waited));
        prop_assert!(
            reaches(paused.moved(RolloutState::Running, one.stage, waited), waited),
            "{} after a pause",
            one.name
        );
        prop_assert!(reaches(one.stood_still(at, waited), waited), "{} after everything was stopped", one.name);
        prop_assert!(reaches(faster(&one), at), "{} at a faster rate", one.name);
        if one.stage < one.stages.last() {
            prop_assert!(
                reaches(one.moved(RolloutState::Running, one.stage + 1, at), at),
                "{} in its next stage",
                one.name
            );
        }
        prop_assert!(reaches(one.moved(RolloutState::Done, one.stage, at), at), "{} when it is done", one.name);
    }
    Ok(())
}
