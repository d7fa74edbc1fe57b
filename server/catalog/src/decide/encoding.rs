//! The smallest way to carry an image to a device that states what it can decode.

use crate::device::{DecoderProfile, Device};
use crate::patch::{Full, FullEncoding, Patch, PatchState};
use crate::release::Artifact;
use crate::{Digest, Reason};

/// The encodings of one image that are at hand.
#[derive(Clone, Copy, Debug)]
pub struct Encodings<'a> {
    /// Patches to this image, from whatever.
    pub patches: &'a [Patch],
    /// Full encodings other than raw.
    pub fulls: &'a [Full],
}

/// Whether a decoder of profile `have` decodes what needs `need`.
const fn decodes(have: DecoderProfile, need: DecoderProfile) -> bool {
    use DecoderProfile::{Default, Fast, Mcu, Raw, Small};
    matches!(
        (have, need),
        (_, Raw) | (Fast | Default | Small, Fast) | (Default | Small, Default) | (Small, Small) | (Mcu, Mcu)
    )
}

/// Chooses the patch, if one is ready, decodable and within the device's budget, and the full encoding that stands
/// behind it. The full image is always there: a device never waits for a patch.
pub fn choose<'a>(
    device: &Device,
    from: Option<Digest>,
    artifact: &Artifact,
    at_hand: Encodings<'a>,
) -> (Option<&'a Patch>, Full, Reason) {
    let raw = Full {
        of_sha256: artifact.sha256,
        encoding: FullEncoding::Raw,
        sha256: artifact.sha256,
        length: artifact.length,
    };
    let full = at_hand
        .fulls
        .iter()
        .filter(|full| decodes(device.profile, DecoderProfile::Fast) && full.of_sha256 == artifact.sha256)
        .fold(raw, |best, full| if full.length < best.length { full.clone() } else { best });

    let ready = at_hand.patches.iter().filter(|patch| {
        Some(patch.from_sha256) == from && patch.to_sha256 == artifact.sha256 && patch.state == PatchState::Ready
    });
    let mut reason = Reason::FullNoPatch;
    let mut best: Option<&Patch> = None;
    for patch in ready {
        if device.patches_off {
            reason = Reason::FullPatchesOff;
        } else if !decodes(device.profile, patch.profile) {
            reason = Reason::FullProfile;
        } else if patch.ram > device.ram_budget || patch.scratch > device.scratch_budget {
            reason = Reason::FullOverBudget;
        } else if patch.length < full.length && best.is_none_or(|b| patch.length < b.length) {
            best = Some(patch);
        }
    }
    match best {
        Some(patch) => (Some(patch), full, Reason::PatchChosen),
        None => (None, full, reason),
    }
}
