//! The answer to a poll: one decision joins contract, rollout and patch; key D signs it for one device.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use sluice_catalog::decide::{Decision, ProductView, choose, decide, is_hidden, next_change, poll_within};
use sluice_catalog::id::{DeviceId, ReleaseId, RolloutId};
use sluice_catalog::patch::{Full, FullEncoding, Patch};
use sluice_catalog::release::Artifact;
use sluice_catalog::wire::device::PollResponse;
use sluice_catalog::{Digest, Reason, Time};
use sluice_signer::{Delta, DirectorDocument, DirectorTarget, Envelope, FullImage, Limits, PublicKey};

use super::decided::Said;
use super::devices::CachedDevice;
use super::live::EncodingSet;
use crate::error::{Error, Result};
use crate::keys::TokenKey;

/// The native patch container, as director documents name it.
pub const PATCH_FORMAT: &str = "sluice-1";
/// An offer lives an hour; a device polls afresh before it switches slots anyway.
const OFFER_LIFETIME_S: i64 = 3600;
/// "Nothing for you" lives a day, unless the answer changes by itself before.
const NOTHING_LIFETIME_S: i64 = 24 * 3600;
/// A held document that ends within so many seconds is renewed instead of confirmed.
const RENEW_BEFORE_S: i64 = 60;

/// What a device gets, before it is signed.
#[derive(Debug)]
pub struct Answer {
    /// The release and rollout offered.
    pub offer: Option<(ReleaseId, RolloutId)>,
    /// The release that the reason is about, if it is about one.
    about: Option<ReleaseId>,
    reason: Reason,
    images: Vec<Image>,
    expires: Time,
    repo_id: Option<String>,
    epoch: Option<u32>,
    /// Poll again after so many seconds.
    next_poll_s: u32,
}

#[derive(Debug)]
struct Image {
    artifact: Artifact,
    patch: Option<Patch>,
    full: Full,
}

impl Answer {
    /// Decides for a device, which polls again after so many seconds unless a rollout asks for sooner. Waits for nothing.
    pub fn new(
        device: &CachedDevice,
        product: &ProductView,
        encodings: &EncodingSet,
        repo_id: Option<String>,
        poll_interval_s: u32,
        now: Time,
    ) -> Self {
        let sooner = poll_within(&device.view, product, now);
        let next_poll_s = sooner.map_or(poll_interval_s, |poll| poll.as_s().min(poll_interval_s));
        match decide(&device.view, product, now, &mut ()) {
            Decision::Offer { release, artifacts, rollout, reason } => {
                let images = artifacts
                    .into_iter()
                    .map(|artifact| {
                        let from = device.view.installed(&artifact.component).map(|installed| installed.sha256);
                        let at_hand = encodings.of(artifact.sha256);
                        let (patch, full, _) = choose(&device.view.device, from, artifact, at_hand);
                        Image { artifact: artifact.clone(), patch: patch.cloned(), full }
                    })
                    .collect();
                Self {
                    offer: Some((release.release.id, rollout.id)),
                    about: Some(release.release.id),
                    reason,
                    images,
                    expires: now.plus_s(OFFER_LIFETIME_S),
                    repo_id,
                    epoch: None,
                    next_poll_s,
                }
            }
            Decision::Nothing { reason, about } => {
                let day = now.plus_s(NOTHING_LIFETIME_S);
                // Of what is hidden from the device the expiry does not tell either: not when an embargo ends.
                let offered = |at| match decide(&device.view, product, at, &mut ()) {
                    Decision::Offer { release, .. } => !is_hidden(&device.view, release, now),
                    Decision::Nothing { .. } => false,
                };
                // An answer that becomes an offer by itself is not signed for longer than it holds, but for a minute at least.
                let changes_at = next_change(&device.view, product, now, day, offered);
                let expires = changes_at.map_or(day, |at| day.min(at.max(now.plus_s(RENEW_BEFORE_S))));
                let about = about.map(|release| release.release.id);
                Self { offer: None, about, reason, images: Vec::new(), expires, repo_id, epoch: None, next_poll_s }
            }
        }
    }

    /// The same for a device that is served the documents of this epoch, which has ended.
    #[must_use]
    pub const fn of_epoch(mut self, epoch: Option<u32>) -> Self {
        self.epoch = epoch;
        self
    }

    /// The same device, told that there is nothing: a replica that may have missed a stop makes no new offers.
    #[must_use]
    pub fn withheld(mut self, now: Time) -> Self {
        self.offer = None;
        self.images.clear();
        self.reason = Reason::RolloutPaused;
        self.expires = now.plus_s(RENEW_BEFORE_S);
        self
    }

    /// What the device is told, for its history.
    pub const fn said(&self, device: DeviceId, at: Time) -> Said {
        Said { device, at, offered: self.offer.is_some(), about: self.about, reason: self.reason }
    }

    /// Whether the answer is an offer that has no open attempt yet.
    pub fn needs_attempt(&self, device: &CachedDevice) -> Option<(ReleaseId, RolloutId)> {
        let (release, rollout) = self.offer?;
        let open = device
            .attempt
            .as_ref()
            .is_some_and(|attempt| attempt.release_id == release && attempt.rollout_id == rollout);
        (!open).then_some((release, rollout))
    }

    /// What kind of answer, for the counters.
    pub fn kind(&self) -> &'static str {
        if self.images.is_empty() {
            "nothing"
        } else if self.images.iter().any(|image| image.patch.is_some()) {
            "patch"
        } else {
            "full"
        }
    }

    /// Binds device, what it runs and what was decided; equal bytes mean an equal document but for its times.
    fn fingerprint(&self, device: &CachedDevice, director: &PublicKey) -> [u8; 16] {
        let mut hasher = Sha256::new();
        hasher.update(device.view.device.id.0.as_bytes());
        hasher.update(device.view.device.epoch.to_be_bytes());
        hasher.update(director.keyid().as_bytes());
        for installed in &device.view.installed {
            hasher.update(installed.component.as_str().as_bytes());
            hasher.update([0]);
            hasher.update(installed.sha256.0);
            hasher.update(installed.security_counter.to_be_bytes());
        }
        hasher.update([1]);
        hasher.update(self.epoch.unwrap_or(0).to_be_bytes());
        // Not in the document, but beside it: who holds the document must hear of another interval, too.
        hasher.update(self.next_poll_s.to_be_bytes());
        hasher.update(self.reason.code().as_bytes());
        if let Some((release, rollout)) = self.offer {
            hasher.update(release.0.as_bytes());
            hasher.update(rollout.0.as_bytes());
            hasher.update(device.attempt.as_ref().map_or(0, |attempt| attempt.seq).to_be_bytes());
        }
        for image in &self.images {
            hasher.update(image.artifact.sha256.0);
            hasher.update(image.full.sha256.0);
            hasher.update(image.patch.as_ref().map_or([0; 32], |patch| patch.sha256.0));
        }
        let hash: [u8; 32] = hasher.finalize().into();
        let mut half = [0; 16];
        half.copy_from_slice(&hash[..16]);
        half
    }

    /// Whether the document behind an `If-None-Match` still says what this answer says, and lives long enough.
    pub fn confirms(&self, held: &str, device: &CachedDevice, director: &PublicKey, now: Time) -> bool {
        let Some((expires, half)) = held.trim().trim_matches('"').split_once('.') else { return false };
        let Ok(expires) = i64::from_str_radix(expires, 16) else { return false };
        expires > now.as_s() + RENEW_BEFORE_S
            // No held document outlives the rule of its kind, whatever the tag claims.
            && expires <= self.expires.as_s()
            && half == hex::encode(self.fingerprint(device, director))
    }

    /// The director's document, to be signed with its key.
    pub fn document(&self, device: &CachedDevice, nonce: Option<String>, now: Time) -> Result<Envelope> {
        let second = |time: Time| jiff::Timestamp::from_second(time.as_s()).map_err(Error::internal);
        let mut targets = BTreeMap::new();
        for image in &self.images {
            let delta = image.patch.as_ref().map(|patch| Delta {
                from_sha256: patch.from_sha256.0,
                format: PATCH_FORMAT.to_owned(),
                length: patch.length.unsigned_abs(),
                sha256: patch.sha256.0,
                head_length: patch.head_length.unsigned_abs(),
                head_sha256: patch.head_sha256.0,
                ram: patch.ram.unsigned_abs(),
                scratch: patch.scratch.unsigned_abs(),
            });
            let encoding = match image.full.encoding {
                FullEncoding::Raw => sluice_signer::FullEncoding::Raw,
                FullEncoding::Zstd => sluice_signer::FullEncoding::Zstd,
            };
            targets.insert(
                image.artifact.path.clone(),
                DirectorTarget {
                    path: image.artifact.path.clone(),
                    length: image.artifact.length.unsigned_abs(),
                    sha256: image.artifact.sha256.0,
                    hw_id: device.view.device.hw_id.to_string(),
                    delta,
                    full: FullImage { encoding, length: image.full.length.unsigned_abs(), sha256: image.full.sha256.0 },
                },
            );
        }
        let document = DirectorDocument {
            device_id: device.view.device.id.to_string(),
            nonce,
            server_time: second(now)?,
            version: device.next_version(now),
            expires: second(self.expires)?,
            rollout_id: self.offer.map(|(_, rollout)| rollout.to_string()),
            reason: self.reason.code().to_owned(),
            targets,
            repo_id: self.repo_id.clone(),
        };
        document.unsigned(&Limits::default()).map_err(Error::internal)
    }

    /// The answer around the signed document.
    pub fn signed(
        &self,
        document: Vec<u8>,
        device: &CachedDevice,
        (director, tokens): (&PublicKey, &TokenKey),
        now: Time,
    ) -> Result<Signed> {
        let document = String::from_utf8(document)
            .map_err(Error::internal)
            .and_then(|text| serde_json::value::RawValue::from_string(text).map_err(Error::internal))?;
        let blobs: Vec<Digest> = self
            .images
            .iter()
            .flat_map(|image| [Some(image.full.sha256), image.patch.as_ref().map(|patch| patch.sha256)])
            .flatten()
            .collect();
        let mut urls = BTreeMap::new();
        let mut blob_token = None;
        if !blobs.is_empty() {
            let token = tokens.blobs(device.view.device.id, &blobs, now);
            for blob in blobs {
                urls.insert(blob, blob_url(blob, &token));
            }
            blob_token = Some(token);
        }
        let attempt = self.offer.and(device.attempt.as_ref()).map(|attempt| attempt.seq);
        let etag = format!("\"{:x}.{}\"", self.expires.as_s(), hex::encode(self.fingerprint(device, director)));
        let response = PollResponse {
            director: document,
            urls,
            blob_token,
            attempt,
            epoch: self.epoch,
            next_poll_s: self.next_poll_s,
            notice: None,
            entitlement: None,
        };
        Ok(Signed { response, etag })
    }
}

fn blob_url(blob: Digest, token: &str) -> String {
    let mut url = String::with_capacity(96 + token.len());
    let _ = write!(url, "/v1/blobs/{blob}?token={token}");
    url
}

/// A signed answer with its entity tag.
#[derive(Debug)]
pub struct Signed {
    /// The body.
    pub response: PollResponse,
    /// `ETag`: the document's expiry and what it says. Stateless: any replica can confirm it.
    pub etag: String,
}
