//! The path gate: which images a device gets with a release, and whether it can install them over what it runs.

use super::entitlement::{Verdict, has_codes, is_out, no, yes};
use super::{DeviceView, Evidence, ProductView, ReleaseView};
use crate::release::{Artifact, ReleaseKind};
use crate::text::Version;
use crate::{Reason, TextSet, Time};

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

/// The oldest version over which it installs, when that is the reason.
pub(super) fn floor(release: &ReleaseView, reason: Reason) -> Evidence {
    let floor = release.artifacts.iter().find_map(|artifact| artifact.min_installed.as_ref());
    match floor {
        Some(version) if reason == Reason::FloorNotMet => Evidence::Floor { version: version.clone() },
        _ => Evidence::None,
    }
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
        || release.release.kind == ReleaseKind::Security || fix_beyond(device, product, release, now).is_some();
    artifact.requires.is_empty()
        || (device.installed(&artifact.component).is_some() && of_security())
        || has_codes(device, release, &artifact.requires, now)
}

/// The newest security fix on the release's train to which it is a stepping stone for this device: one that is out for it and that names,
/// in an image for its hardware, the release as the oldest it installs over, or another such stone. A fix that was withdrawn, that is
/// under embargo or that is for other hardware makes nothing free, and nobody hears of it.
pub(super) fn fix_beyond<'a>(
    device: &DeviceView,
    product: &'a ProductView,
    release: &ReleaseView,
    now: Time,
) -> Option<&'a ReleaseView> {
    // Most releases are a stone to no fix at all, whoever asks.
    if !product.is_stone(&release.release.version) {
        return None;
    }
    let train = &release.release.train;
    let of_train = |other: &&ReleaseView| other.release.train == *train && is_out(device, other, now);
    let newer = || product.releases().iter().take_while(|other| other.release.order > release.release.order);
    newer().filter(|fix| fix.release.kind == ReleaseKind::Security).filter(of_train).find(|fix| {
        // Down from the fix: orders fall with every step, so that one look at each release on the way is enough.
        let mut stones: Vec<&Version> = Vec::new();
        let mut reached = newer().filter(of_train).skip_while(|over| !std::ptr::eq(*over, *fix));
        reached.any(|over| {
            if !std::ptr::eq(over, *fix) && !stones.contains(&&over.release.version) {
                return false;
            }
            let images = over.artifacts.iter().filter(|image| image.runs_on(device));
            stones.extend(images.filter_map(|image| image.min_installed.as_ref()));
            stones.contains(&&release.release.version)
        })
    })
}

/// The codes of an image, when every image for the device requires codes that it has not.
pub(super) fn codes_of_all_images<'a>(
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
