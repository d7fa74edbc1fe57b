//! Entitlement: may this device have this release? Commercial, never a safety property; safety is what offline keys
//! signed and the device checks.

use super::trace::{Evidence, Gate, Trace};
use super::{DeviceView, ProductView, ReleaseView};
use crate::cover::{Cover, CoverRule, Standing};
use crate::device::DeviceState;
use crate::policy::{Policy, PolicyKind};
use crate::release::{Artifact, ReleaseKind};
use crate::text::Version;
use crate::{Reason, TextSet, Time};

/// Stepping stones that are followed from a pinned version back.
const MAX_STONES: usize = 16;

/// An answer with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Yes or no.
    pub pass: bool,
    /// Why.
    pub reason: Reason,
}

const fn yes(reason: Reason) -> Verdict {
    Verdict { pass: true, reason }
}

const fn no(reason: Reason) -> Verdict {
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
    let path = reachable(device, product, release, now);
    if !path.pass {
        trace.step(&release.release.version, Gate::Path, false, path.reason, || floor(release, path.reason));
        return path;
    }
    let verdict = entitled(device, product, release, now, trace);
    if !verdict.pass {
        return verdict;
    }
    let Some((policy, wanted)) = wanted(device, product, release, verdict.reason, now) else { return verdict };
    trace.step(&release.release.version, Gate::Policy, wanted.pass, wanted.reason, || Evidence::of_policy(policy));
    if wanted.pass { verdict } else { wanted }
}

/// Whether the device can install the release over what it runs: hardware, channel, order, epoch, floor and counter. The agent
/// checks the same from offline-signed data; here it only avoids offers that a device must refuse.
pub fn reachable(device: &DeviceView, product: &ProductView, release: &ReleaseView, now: Time) -> Verdict {
    if release.release.channel > device.device.channel {
        return no(Reason::ChannelNotFollowed);
    }
    let (mut fits, mut newer, mut newer_for_codes) = (false, false, false);
    let mut add_on = None;
    for artifact in release.artifacts.iter().filter(|artifact| artifact.runs_on(device)) {
        fits = true;
        let path = image_path(device, product, release, artifact);
        if !has_image(device, product, release, artifact, now) {
            // Without its codes it would not be part of the offer.
            newer_for_codes |= path == Ok(true);
            continue;
        }
        match path {
            Ok(is_newer) => newer |= is_newer,
            // An add-on that cannot be installed yet is left out: whoever buys it must not lose the rest.
            Err(reason) if !artifact.requires.is_empty() => add_on = add_on.or(Some(reason)),
            Err(reason) => return no(reason),
        }
    }
    if !fits {
        no(Reason::HardwareMismatch)
    } else if newer || (newer_for_codes && codes_of_all_images(device, product, release, now).is_some()) {
        // Without any image that it may have, the codes are the reason and not the path.
        yes(Reason::Offered)
    } else {
        no(add_on.unwrap_or(Reason::NotNewer))
    }
}

/// Whether an image is newer than what runs in its component and can be installed over it, or why not.
fn image_path(
    device: &DeviceView,
    product: &ProductView,
    release: &ReleaseView,
    artifact: &Artifact,
) -> Result<bool, Reason> {
    let installed = device.installed(&artifact.component);
    if installed.is_some_and(|installed| installed.sha256 == artifact.sha256) {
        return Ok(false);
    }
    let running = device.running_order(product, &artifact.component);
    if release.release.order <= running {
        Err(Reason::NotNewer)
    } else if release.release.signing_epoch > device.device.signing_epoch {
        Err(Reason::EpochNotReached)
    } else if artifact.min_installed_order.is_some_and(|floor| running < floor) {
        Err(Reason::FloorNotMet)
    } else if installed.is_some_and(|installed| artifact.security_counter < installed.security_counter) {
        Err(Reason::SecurityCounterLower)
    } else {
        Ok(true)
    }
}

/// Whether an image is part of an offer that is made for a reason.
pub(super) fn is_offered(
    device: &DeviceView,
    product: &ProductView,
    release: &ReleaseView,
    artifact: &Artifact,
    reason: Reason,
    now: Time,
) -> bool {
    // A component on the way to a later signing epoch must come along, too.
    let on_the_way = reason == Reason::EpochPath && device.installed(&artifact.component).is_some();
    artifact.runs_on(device)
        && (on_the_way || has_image(device, product, release, artifact, now))
        && image_path(device, product, release, artifact) == Ok(true)
}

fn floor(release: &ReleaseView, reason: Reason) -> Evidence {
    let floor = release.artifacts.iter().find_map(|artifact| artifact.min_installed.as_ref());
    match floor {
        Some(version) if reason == Reason::FloorNotMet => Evidence::Floor { version: version.clone() },
        _ => Evidence::None,
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
    if let (None, Some(verdict)) = (codes, security(device, product, release, trace)) {
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
    } else if release.embargo.as_ref().is_some_and(|embargo| now < embargo.until && !sees(device, &embargo.codes, now))
    {
        Some(Reason::Embargoed)
    } else if device.country.as_deref().is_some_and(|country| release.blocked_countries.contains(country)) {
        Some(Reason::CountryBlocked)
    } else {
        None
    }
}

/// Whether the device is covered now for all of an embargo's codes: it is let in before the others.
fn sees(device: &DeviceView, codes: &TextSet, now: Time) -> bool {
    let has = |code: &str| {
        device.covers.iter().any(|cover| cover.ceiling(code).is_some() && cover.standing_at(now) != Standing::Outside)
    };
    !codes.is_empty() && codes.iter().all(has)
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
    if let Some(fix) = product.fix_beyond(version).filter(|_| runs || owns) {
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
            Reason::CoveredGrace => 4,
            _ if self.verdict.pass => 5,
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
                Evidence::of_cover(cover, code, reference, self.standing)
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
fn has_codes(device: &DeviceView, release: &ReleaseView, codes: &TextSet, now: Time) -> bool {
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

/// Whether an image belongs to what the device gets with the release. An image may require codes of its own, such as that of an
/// add-on; a security fix of a component that the device has needs none, nor does a stepping stone to one.
pub fn has_image(
    device: &DeviceView,
    product: &ProductView,
    release: &ReleaseView,
    artifact: &Artifact,
    now: Time,
) -> bool {
    let of_security =
        || release.release.kind == ReleaseKind::Security || product.fix_beyond(&release.release.version).is_some();
    artifact.requires.is_empty()
        || (device.installed(&artifact.component).is_some() && of_security())
        || has_codes(device, release, &artifact.requires, now)
}

/// The codes of an image, when every image for the device requires codes that it has not.
fn codes_of_all_images<'a>(
    device: &DeviceView,
    product: &ProductView,
    release: &'a ReleaseView,
    now: Time,
) -> Option<&'a TextSet> {
    let mut codes = None;
    for artifact in release.artifacts.iter().filter(|artifact| artifact.runs_on(device)) {
        if has_image(device, product, release, artifact, now) {
            return None;
        }
        codes = codes.or(Some(&artifact.requires));
    }
    codes
}

/// Whether a refusal is a lack of cover, or a wish of the owner about other versions: what a stepping stone passes over. What a
/// release is held back for by itself (not out, withdrawn, under embargo, blocked in a country) it is held back for on any way.
pub(super) const fn steps_over(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NoContract
            | Reason::CodeNotGranted
            | Reason::ChannelCeiling
            | Reason::TrainGaNotCovered
            | Reason::NotLive
            | Reason::ReleaseDateNotCovered
            | Reason::FallbackNotEarned
            | Reason::DeviceReplaced
            | Reason::HeldByPolicy
            | Reason::PinnedByPolicy
    )
}

/// Whether the owner wants a release, or says nothing.
pub(super) fn wants(device: &DeviceView, product: &ProductView, release: &ReleaseView, now: Time) -> bool {
    wanted(device, product, release, Reason::Offered, now).is_none_or(|(_, verdict)| verdict.pass)
}

/// What the owner's deciding policy says about a release that the device may have for a reason. What lets a version through lets the
/// stepping stones to it through.
fn wanted<'a>(
    device: &'a DeviceView,
    product: &ProductView,
    release: &ReleaseView,
    reason: Reason,
    now: Time,
) -> Option<(&'a Policy, Verdict)> {
    let policy = Policy::deciding(&device.policies, now)?;
    let of_security = release.release.kind == ReleaseKind::Security || reason == Reason::SecurityPath;
    let verdict = match &policy.kind {
        PolicyKind::Hold { security } if *security || !of_security => no(Reason::HeldByPolicy),
        PolicyKind::Pin { version }
            if *version != release.release.version && !leads_to(product, &release.release.version, version) =>
        {
            no(Reason::PinnedByPolicy)
        }
        PolicyKind::Hold { .. } | PolicyKind::Pin { .. } | PolicyKind::Follow => yes(Reason::AllowedByPolicy),
    };
    Some((policy, verdict))
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
