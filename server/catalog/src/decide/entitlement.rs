//! Entitlement: may this device have this release? Commercial, never a safety property; safety is what offline keys
//! signed and the device checks.

use super::{DeviceView, Gate, ProductView, ReleaseView, Trace};
use crate::contract::{Cover, CoverRule};
use crate::device::DeviceState;
use crate::release::ReleaseKind;
use crate::{Reason, Time};

/// An answer with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Yes or no.
    pub pass: bool,
    /// Why.
    pub reason: Reason,
    /// When the answer changes by itself, if it does.
    pub changes_at: Option<Time>,
}

const fn yes(reason: Reason) -> Verdict {
    Verdict { pass: true, reason, changes_at: None }
}

const fn no(reason: Reason) -> Verdict {
    Verdict { pass: false, reason, changes_at: None }
}

/// `entitled` and `reachable`: whether a device may have a release and can get there from what it runs.
pub fn admits(
    device: &DeviceView,
    product: &ProductView,
    release: &ReleaseView,
    now: Time,
    trace: &mut impl Trace,
) -> Verdict {
    let path = reachable(device, product, release);
    if !path.pass {
        trace.step(&release.release.version, Gate::Path, false, path.reason, String::new);
        return path;
    }
    entitled(device, product, release, now, trace)
}

/// Whether the device can install the release over what it runs: hardware, channel, order, epoch, floor and counter. The agent
/// checks the same from offline-signed data; here it only avoids offers that a device must refuse.
pub fn reachable(device: &DeviceView, product: &ProductView, release: &ReleaseView) -> Verdict {
    if release.release.channel > device.device.channel {
        return no(Reason::ChannelNotFollowed);
    }
    let mut fits = false;
    let mut newer = false;
    for artifact in &release.artifacts {
        if !artifact.hw_ids.contains(device.device.hw_id.as_str()) {
            continue;
        }
        fits = true;
        let installed = device.installed(&artifact.component);
        if installed.is_some_and(|installed| installed.sha256 == artifact.sha256) {
            continue;
        }
        let running = device.running_order(product, &artifact.component);
        if release.release.order <= running {
            return no(Reason::NotNewer);
        }
        if release.release.signing_epoch > device.device.signing_epoch {
            return no(Reason::EpochNotReached);
        }
        if artifact.min_installed_order.is_some_and(|floor| running < floor) {
            return no(Reason::FloorNotMet);
        }
        if installed.is_some_and(|installed| artifact.security_counter < installed.security_counter) {
            return no(Reason::SecurityCounterLower);
        }
        newer = true;
    }
    if !fits {
        no(Reason::HardwareMismatch)
    } else if newer {
        yes(Reason::Offered)
    } else {
        no(Reason::NotNewer)
    }
}

/// Whether the device may have the release, wherever it is on its path.
pub fn entitled(
    device: &DeviceView,
    product: &ProductView,
    release: &ReleaseView,
    now: Time,
    trace: &mut impl Trace,
) -> Verdict {
    let version = &release.release.version;
    let identity = match device.device.state {
        DeviceState::Active | DeviceState::RmaPending | DeviceState::Replaced => None,
        DeviceState::Pending => Some(Reason::DevicePending),
        DeviceState::Blocked => Some(Reason::DeviceBlocked),
        DeviceState::Retired => Some(Reason::DeviceRetired),
    };
    if let Some(reason) = identity {
        trace.step(version, Gate::Identity, false, reason, String::new);
        return no(reason);
    }
    let gone = if release.release.published_at > now {
        Some(Reason::NotPublished)
    } else if release.release.withdrawn_at.is_some_and(|at| at <= now) {
        Some(Reason::Withdrawn)
    } else if !release.fits(device) {
        Some(Reason::HardwareMismatch)
    } else {
        None
    };
    if let Some(reason) = gone {
        trace.step(version, Gate::Release, false, reason, String::new);
        return no(reason);
    }
    if let Some(verdict) = security(device, product, release, trace) {
        return verdict;
    }
    if device.device.state == DeviceState::Replaced {
        trace.step(version, Gate::Identity, false, Reason::DeviceReplaced, String::new);
        return no(Reason::DeviceReplaced);
    }
    covered(device, release, now, trace)
}

/// A security fix on a train that the device owns or runs, and the stepping stones to it, need no cover. No setting
/// turns this off.
fn security(
    device: &DeviceView,
    product: &ProductView,
    release: &ReleaseView,
    trace: &mut impl Trace,
) -> Option<Verdict> {
    let version = &release.release.version;
    let train = &release.release.train;
    let runs = device.device.confirmed_train.as_ref() == Some(train);
    let owns = device.covers.iter().any(|cover| covers_at(cover, release.train_ga).is_some());
    if release.release.kind == ReleaseKind::Security {
        if runs || owns {
            trace.step(version, Gate::Security, true, Reason::SecurityFree, || format!("train {train}"));
            return Some(yes(Reason::SecurityFree));
        }
        trace.step(version, Gate::Security, false, Reason::TrainUnproven, || format!("train {train}"));
        return None;
    }
    // A stepping stone: a release on the same train that a security fix names as the oldest it installs over.
    if let Some(fix) = product.fix_beyond(version).filter(|_| runs || owns) {
        trace.step(version, Gate::Security, true, Reason::SecurityPath, || format!("towards {}", fix.release.version));
        return Some(yes(Reason::SecurityPath));
    }
    None
}

/// The window of a cover that holds a moment.
fn covers_at(cover: &Cover, at: Time) -> Option<(Time, Time)> {
    cover.windows.iter().copied().find(|&(from, to)| from <= at && at < to)
}

/// Grants and cover: the best answer of all contracts, so that more cover never means less access.
fn covered(device: &DeviceView, release: &ReleaseView, now: Time, trace: &mut impl Trace) -> Verdict {
    let version = &release.release.version;
    if release.release.requires.is_empty() {
        trace.step(version, Gate::Grant, true, Reason::NoCodeRequired, String::new);
        return yes(Reason::NoCodeRequired);
    }
    if device.covers.is_empty() {
        trace.step(version, Gate::Grant, false, Reason::NoContract, || required(release));
        return no(Reason::NoContract);
    }
    let mut denial: Option<Verdict> = None;
    for cover in &device.covers {
        let verdict = grants(cover, release).map_or_else(|| by_rule(cover, release, now), no);
        let gate = match verdict.reason {
            Reason::CodeNotGranted | Reason::ChannelCeiling => Gate::Grant,
            _ => Gate::Cover,
        };
        trace.step(version, gate, verdict.pass, verdict.reason, || {
            format!("contract {}, plan {}, rule {}", cover.contract, cover.plan, cover.rule.as_str())
        });
        if verdict.pass {
            return verdict;
        }
        // A cover that grants the code but not the date is nearer to a yes than one without the code.
        let nearer = match &denial {
            None => true,
            Some(before) => {
                gate == Gate::Cover && matches!(before.reason, Reason::CodeNotGranted | Reason::ChannelCeiling)
            }
        };
        if nearer {
            denial = Some(verdict);
        }
    }
    denial.unwrap_or(no(Reason::NoContract))
}

fn required(release: &ReleaseView) -> String {
    let codes: Vec<&str> = release.release.requires.iter().collect();
    format!("requires {}", codes.join(", "))
}

/// Why a cover does not grant the codes, if it does not.
fn grants(cover: &Cover, release: &ReleaseView) -> Option<Reason> {
    let mut denial = None;
    for code in release.release.requires.iter() {
        match cover.codes.iter().filter(|(granted, _)| granted.as_str() == code).map(|(_, ceiling)| *ceiling).max() {
            None => return Some(Reason::CodeNotGranted),
            Some(ceiling) if ceiling < release.release.channel => denial = Some(Reason::ChannelCeiling),
            Some(_) => {}
        }
    }
    denial
}

/// The cover rule of the plan.
fn by_rule(cover: &Cover, release: &ReleaseView, now: Time) -> Verdict {
    let grace_ms = i64::from(cover.grace_days).saturating_mul(crate::time::DAY_MS);
    // Grace follows the last window only: inside a gap there is none.
    let in_grace = |at: Time| cover.windows.last().is_some_and(|&(_, to)| to <= at && at < to.plus_ms(grace_ms));
    let judge = |at: Time, inside: Reason, outside: Reason| {
        if covers_at(cover, at).is_some() {
            yes(inside)
        } else if in_grace(at) {
            yes(Reason::CoveredGrace)
        } else {
            no(outside)
        }
    };
    match cover.rule {
        CoverRule::Open => yes(Reason::CoveredOpen),
        CoverRule::TrainGa => judge(release.train_ga, Reason::CoveredTrainGa, Reason::TrainGaNotCovered),
        CoverRule::ReleaseDate => {
            judge(release.release.published_at, Reason::CoveredReleaseDate, Reason::ReleaseDateNotCovered)
        }
        CoverRule::Live => {
            let mut verdict = judge(now, Reason::CoveredLive, Reason::NotLive);
            verdict.changes_at = match covers_at(cover, now) {
                Some((_, to)) => Some(if cover.windows.last().is_some_and(|&(_, end)| end == to) {
                    to.plus_ms(grace_ms)
                } else {
                    to
                }),
                None if verdict.pass => cover.windows.last().map(|&(_, to)| to.plus_ms(grace_ms)),
                None => cover.windows.iter().map(|&(from, _)| from).find(|&from| from > now),
            };
            verdict
        }
    }
}
