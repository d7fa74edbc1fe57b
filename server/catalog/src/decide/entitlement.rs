//! Entitlement: may this device have this release? Commercial, never a safety property; safety is what offline keys
//! signed and the device checks.

use super::path::{self, codes_of_all_images};
use super::trace::{Evidence, Gate, Trace};
use super::{DeviceView, ProductView, ReleaseView, owner};
use crate::cover::{Cover, CoverRule, Standing};
use crate::device::DeviceState;
use crate::release::ReleaseKind;
use crate::{Reason, TextSet, Time};

/// An answer with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Yes or no.
    pub pass: bool,
    /// Why.
    pub reason: Reason,
}

pub(super) const fn yes(reason: Reason) -> Verdict {
    Verdict { pass: true, reason }
}

pub(super) const fn no(reason: Reason) -> Verdict {
    Verdict { pass: false, reason }
}

/// Whether a device may have a release, can get there from what it runs, and its owner wants it.
pub fn admits(
    device: &DeviceView,
    product: &ProductView,
    release: &ReleaseView,
    now: Time,
    trace: &mut impl Trace,
) -> Verdict {
    let path = path::reachable(device, product, release, now);
    if !path.pass {
        trace.step(&release.release.version, Gate::Path, false, path.reason, || path::floor(release, path.reason));
        return path;
    }
    let verdict = entitled(device, product, release, now, trace);
    if !verdict.pass {
        return verdict;
    }
    let Some((policy, wanted)) = owner::wanted(device, product, release, verdict.reason, now) else { return verdict };
    trace.step(&release.release.version, Gate::Policy, wanted.pass, wanted.reason, || Evidence::of_policy(policy));
    if wanted.pass { verdict } else { wanted }
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
    let state = device.device.state_at(now);
    let identity = match state {
        DeviceState::Active | DeviceState::RmaPending | DeviceState::Replaced => None,
        DeviceState::Pending => Some(Reason::DevicePending),
        DeviceState::Blocked => Some(Reason::DeviceBlocked),
        DeviceState::Retired => Some(Reason::DeviceRetired),
    };
    if let Some(reason) = identity {
        trace.step(version, Gate::Identity, false, reason, || Evidence::None);
        return no(reason);
    }
    if let Some(reason) = not_out(device, release, now) {
        trace.step(version, Gate::Release, false, reason, || match reason {
            Reason::NotPublished => Evidence::Moment { at: release.release.published_at },
            Reason::Embargoed => match &release.embargo {
                Some(embargo) => Evidence::Moment { at: embargo.until },
                None => Evidence::None,
            },
            Reason::CountryBlocked => Evidence::Country { country: device.country.clone().unwrap_or_default() },
            _ => Evidence::None,
        });
        return no(reason);
    }
    let codes = codes_of_all_images(device, product, release, now);
    // A fix of components that the device has not is none for it.
    if let (None, Some(verdict)) = (codes, security(device, product, release, now, trace)) {
        return verdict;
    }
    if state == DeviceState::Replaced {
        trace.step(version, Gate::Identity, false, Reason::DeviceReplaced, || Evidence::None);
        return no(Reason::DeviceReplaced);
    }
    let verdict = covered(device, release, &release.release.requires, now, trace);
    match codes {
        Some(codes) if verdict.pass => covered(device, release, codes, now, trace),
        _ => verdict,
    }
}

/// Whether a release is published, not withdrawn, and neither under embargo nor blocked for the device.
pub fn is_out(device: &DeviceView, release: &ReleaseView, now: Time) -> bool {
    not_out(device, release, now).is_none()
}

/// Why a release is not out for a device, if it is not.
fn not_out(device: &DeviceView, release: &ReleaseView, now: Time) -> Option<Reason> {
    if release.release.published_at > now {
        Some(Reason::NotPublished)
    } else if release.release.withdrawn_at.is_some_and(|at| at <= now) {
        Some(Reason::Withdrawn)
    } else if !release.fits(device) {
        Some(Reason::HardwareMismatch)
    } else if is_embargoed(device, release, now) {
        Some(Reason::Embargoed)
    } else if device.country.as_deref().is_some_and(|country| release.blocked_countries.contains(country)) {
        Some(Reason::CountryBlocked)
    } else {
        None
    }
}

/// Whether a device shall not hear of a release: it does not exist yet, for everyone or for this one.
pub fn is_hidden(device: &DeviceView, release: &ReleaseView, now: Time) -> bool {
    release.release.published_at > now || is_embargoed(device, release, now)
}

fn is_embargoed(device: &DeviceView, release: &ReleaseView, now: Time) -> bool {
    release.embargo.as_ref().is_some_and(|embargo| now < embargo.until && !sees(device, &embargo.codes, now))
}

/// Whether the device is covered now for all of an embargo's codes: it is let in before the others.
fn sees(device: &DeviceView, codes: &TextSet, now: Time) -> bool {
    let has = |code: &str| {
        device
            .covers
            .iter()
            .any(|cover| cover.ceiling(code).is_some() && cover.standing_at(now, now) != Standing::Outside)
    };
    !codes.is_empty() && codes.iter().all(has)
}

/// A security fix on a train that the device owns or runs, and the stepping stones to it, need no cover. No setting
/// turns this off.
fn security(
    device: &DeviceView,
    product: &ProductView,
    release: &ReleaseView,
    now: Time,
    trace: &mut impl Trace,
) -> Option<Verdict> {
    let version = &release.release.version;
    let train = &release.release.train;
    let runs = device.device.confirmed_train.as_ref() == Some(train);
    let owns = device.covers.iter().any(|cover| cover.windows.at(release.train_ga).is_some());
    let evidence = || Evidence::Train { train: train.clone() };
    if release.release.kind == ReleaseKind::Security {
        if runs || owns {
            trace.step(version, Gate::Security, true, Reason::SecurityFree, evidence);
            return Some(yes(Reason::SecurityFree));
        }
        trace.step(version, Gate::Security, false, Reason::TrainUnproven, evidence);
        return None;
    }
    // A stepping stone: a release on the same train that a security fix names as the oldest it installs over.
    if (runs || owns)
        && let Some(fix) = path::fix_beyond(device, product, release, now)
    {
        trace.step(version, Gate::Security, true, Reason::SecurityPath, || Evidence::Version {
            version: fix.release.version.clone(),
        });
        return Some(yes(Reason::SecurityPath));
    }
    None
}

/// What one cover, or none, says about one code.
#[derive(Clone, Copy)]
struct Answer<'a> {
    verdict: Verdict,
    cover: Option<&'a Cover>,
    standing: Standing,
}

impl Answer<'_> {
    /// The nearer to an unconditional yes, the greater.
    const fn rank(&self) -> u8 {
        match self.verdict.reason {
            Reason::NoContract => 0,
            Reason::CodeNotGranted => 1,
            Reason::ChannelCeiling => 2,
            Reason::CoverSourceStale => 4,
            Reason::CoveredGrace => 5,
            _ if self.verdict.pass => 6,
            _ => 3,
        }
    }

    const fn gate(&self) -> Gate {
        match self.verdict.reason {
            Reason::NoContract | Reason::CodeNotGranted | Reason::ChannelCeiling => Gate::Grant,
            _ => Gate::Cover,
        }
    }

    fn evidence(&self, release: &ReleaseView, code: &str, now: Time) -> Evidence {
        match self.cover {
            Some(cover) => {
                let reference = cover.reference(release.train_ga, release.release.published_at, now);
                Evidence::of_cover(cover, code, (reference, now), self.standing)
            }
            None => Evidence::Codes { codes: vec![code.to_owned()] },
        }
    }
}

/// Whether the codes are granted by covers that count when it matters. Each code may come from another contract: the best
/// answer of all, so that more cover never means less access.
fn covered(device: &DeviceView, release: &ReleaseView, codes: &TextSet, now: Time, trace: &mut impl Trace) -> Verdict {
    let version = &release.release.version;
    if codes.is_empty() {
        trace.step(version, Gate::Grant, true, Reason::NoCodeRequired, || Evidence::None);
        return yes(Reason::NoCodeRequired);
    }
    let mut weakest: Option<Answer<'_>> = None;
    for code in codes.iter() {
        let best = granted(device, release, code, now);
        explain(device, release, code, now, &best, trace);
        if !best.verdict.pass {
            return best.verdict;
        }
        if weakest.is_none_or(|weakest| best.rank() < weakest.rank()) {
            weakest = Some(best);
        }
    }
    weakest.map_or(yes(Reason::NoCodeRequired), |weakest| weakest.verdict)
}

/// Whether all codes are granted, when nobody listens.
pub(super) fn has_codes(device: &DeviceView, release: &ReleaseView, codes: &TextSet, now: Time) -> bool {
    codes.iter().all(|code| granted(device, release, code, now).verdict.pass)
}

/// The best answer of all contracts about one code.
fn granted<'a>(device: &'a DeviceView, release: &ReleaseView, code: &str, now: Time) -> Answer<'a> {
    let mut best = Answer { verdict: no(Reason::NoContract), cover: None, standing: Standing::Outside };
    for cover in &device.covers {
        let answer = answer(cover, release, code, now);
        if answer.rank() > best.rank() {
            best = answer;
        }
    }
    best
}

/// Writes what each contract says about a code, the answer that counts last.
fn explain<T: Trace>(
    device: &DeviceView,
    release: &ReleaseView,
    code: &str,
    now: Time,
    best: &Answer<'_>,
    trace: &mut T,
) {
    fn write(answer: &Answer<'_>, release: &ReleaseView, code: &str, now: Time, trace: &mut impl Trace) {
        let Verdict { pass, reason } = answer.verdict;
        trace.step(&release.release.version, answer.gate(), pass, reason, || answer.evidence(release, code, now));
    }
    if <T as Trace>::LISTENS {
        for cover in &device.covers {
            if best.cover.is_none_or(|chosen| !std::ptr::eq(chosen, cover)) {
                write(&answer(cover, release, code, now), release, code, now, trace);
            }
        }
    }
    write(best, release, code, now, trace);
}

/// What one cover says about one code.
fn answer<'a>(cover: &'a Cover, release: &ReleaseView, code: &str, now: Time) -> Answer<'a> {
    let denied = |reason| Answer { verdict: no(reason), cover: Some(cover), standing: Standing::Outside };
    match cover.ceiling(code) {
        None => return denied(Reason::CodeNotGranted),
        Some(ceiling) if ceiling < release.release.channel => return denied(Reason::ChannelCeiling),
        Some(_) => {}
    }
    let standing = cover.standing(release.train_ga, release.release.published_at, now);
    let verdict = match (standing, cover.rule) {
        (Standing::Grace(..), _) => yes(Reason::CoveredGrace),
        (Standing::CountsOn(..), _) => yes(Reason::CoverSourceStale),
        (Standing::Open, _) => yes(Reason::CoveredOpen),
        (Standing::Fallback(..), _) => yes(Reason::CoveredFallback),
        (Standing::Window(..), CoverRule::TrainGa) => yes(Reason::CoveredTrainGa),
        (Standing::Window(..), CoverRule::ReleaseDate) => yes(Reason::CoveredReleaseDate),
        (Standing::Window(..), _) => yes(Reason::CoveredLive),
        (Standing::Outside, CoverRule::TrainGa) => no(Reason::TrainGaNotCovered),
        (Standing::Outside, CoverRule::ReleaseDate) => no(Reason::ReleaseDateNotCovered),
        (Standing::Outside, CoverRule::Fallback(_)) => no(Reason::FallbackNotEarned),
        (Standing::Outside, _) => no(Reason::NotLive),
    };
    Answer { verdict, cover: Some(cover), standing }
}

/// Whether a refusal is a lack of cover, or a wish of the owner about other versions: what a stepping stone passes over. What a
/// release is held back for by itself (not out, withdrawn, under embargo, blocked in a country) it is held back for on any way.
pub(super) const fn steps_over(reason: Reason) -> bool {
    reason.is_lack_of_cover()
        || matches!(reason, Reason::DeviceReplaced | Reason::HeldByPolicy | Reason::PinnedByPolicy)
}
