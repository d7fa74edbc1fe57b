//! The device protocol: enrolment, session, poll, report. `docs/device-protocol.md` tells it in prose.
//!
//! Signatures by a device are ed25519 over a text that begins with its purpose, so that a signature made for one
//! request is worth nothing in another; [`enrol_message`] and [`session_message`] build those texts for both sides.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::device::{DecoderProfile, DeviceState};
use crate::id::DeviceId;
use crate::rollout::{AttemptState, Failure};
use crate::text::{Component, HardwareId, ProductName, Serial, Version};
use crate::{Digest, Time};

/// Most components a device may report.
pub const MAX_COMPONENTS: usize = 16;
/// Longest nonce, hexadecimal characters.
pub const MAX_NONCE_LEN: usize = 64;
/// Most events in one report.
pub const MAX_EVENTS: usize = 64;
/// Longest detail text of an event, bytes.
pub const MAX_DETAIL_LEN: usize = 1024;

/// `POST /v1/enrol`: a device makes itself known and binds its key to its serial.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EnrolRequest {
    /// The product.
    pub product: ProductName,
    /// The device's serial.
    pub serial: Serial,
    /// Its hardware.
    pub hw_id: HardwareId,
    /// Its ed25519 public key, 32 bytes as 64 hexadecimal digits.
    pub public_key: String,
    /// A one-use or batch enrolment token. Without one a registered serial becomes active, an unknown one pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What it runs, by component: recorded as the train it owns from birth when a token vouches for it.
    #[serde(default)]
    pub installed: BTreeMap<Component, InstalledReport>,
    /// Signature by that key over [`enrol_message`], 64 bytes as 128 hexadecimal digits: proof of possession.
    pub signature: String,
}

/// The answer to an enrolment. Repeating the request gives the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EnrolResponse {
    /// The device's id, which director documents name.
    pub device_id: DeviceId,
    /// `active`, or `pending` until someone accepts it.
    pub state: DeviceState,
}

/// What an enrolment signs.
pub fn enrol_message(product: &ProductName, serial: &Serial, public_key_hex: &str) -> Vec<u8> {
    format!("sluice enrol 1\n{product}\n{serial}\n{public_key_hex}\n").into_bytes()
}

/// `POST /v1/challenge` answers this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChallengeResponse {
    /// To be signed within five minutes.
    pub challenge: String,
}

/// `POST /v1/session`: trades a signed challenge for a session token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionRequest {
    /// The product.
    pub product: ProductName,
    /// The device's serial.
    pub serial: Serial,
    /// As given.
    pub challenge: String,
    /// Signature by the device's key over [`session_message`], 128 hexadecimal digits.
    pub signature: String,
}

/// The answer to a session request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionResponse {
    /// The device's id.
    pub device_id: DeviceId,
    /// `Authorization: Bearer …` on every later request.
    pub token: String,
    /// Seconds until it ends.
    pub expires_in_s: u32,
}

/// What a session request signs.
pub fn session_message(product: &ProductName, serial: &Serial, challenge: &str) -> Vec<u8> {
    format!("sluice session 1\n{product}\n{serial}\n{challenge}\n").into_bytes()
}

/// What runs in one component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InstalledReport {
    /// As the image calls itself.
    pub version: Version,
    /// SHA-256 of the running slot.
    pub sha256: Digest,
    /// The device's floor against rollback.
    pub security_counter: u32,
}

/// `POST /v1/poll`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PollRequest {
    /// Up to 64 hexadecimal digits that the signed answer repeats: proof that it is fresh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// What it runs, by component, at most 16.
    pub installed: BTreeMap<Component, InstalledReport>,
    /// What it can decode.
    #[serde(default)]
    pub profile: DecoderProfile,
    /// Memory it gives to patching, bytes.
    #[serde(default)]
    pub ram_budget: u32,
    /// Scratch space it gives to patching, bytes.
    #[serde(default)]
    pub scratch_budget: u32,
    /// The newest signing epoch that its verifier knows, 1 to 1000; 1 when absent.
    #[serde(default = "first_epoch", skip_serializing_if = "is_first_epoch")]
    pub epoch: u32,
}

/// The epoch of who states none.
pub const fn first_epoch() -> u32 {
    1
}

/// Whether that is it, and need not be stated.
pub const fn is_first_epoch(epoch: &u32) -> bool {
    *epoch == 1
}

/// The answer to a poll. Only `director` is signed, and only it decides; the rest helps to fetch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PollResponse {
    /// A TUF envelope: director `targets` metadata for this device.
    pub director: Box<RawValue>,
    /// Where to fetch each blob that the document names, by SHA-256: absolute, or relative to the server.
    pub urls: BTreeMap<Digest, String>,
    /// A token, already part of the URLs, for clients that build their own; bound to device and blobs, 15 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob_token: Option<String>,
    /// The number to report progress under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
    /// The signing epoch of which the documents for this device are, when it is not the newest: they are served under
    /// `/metadata/epoch-N/` and `/director/epoch-N/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u32>,
    /// Poll again after this many seconds.
    pub next_poll_s: u32,
    /// Something for the device's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<String>,
    /// Which entitlement certificate the server has for the device: the second part of its `ETag` at `GET /v1/entitlement`.
    /// Absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entitlement: Option<String>,
}

/// `POST /v1/report`: how an attempt goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReportRequest {
    /// In the order they happened, at most 64. Repeats and latecomers are harmless.
    pub events: Vec<ReportEvent>,
}

/// One thing that happened on a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReportEvent {
    /// The number from the poll's answer.
    pub attempt: i32,
    /// How far it is.
    pub state: AttemptState,
    /// Why it failed; beside a state that is no failure, what went wrong on the way (a patch that was refused).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// `patch`, `zstd` or `raw`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
    /// Bytes downloaded for this attempt so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// At most 1024 bytes for a person to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// With a failure: the end of what the check printed or of the errors, at most 4096 bytes. Servers older than this field refuse the
    /// report: send it again without, and with [`Failure::broad`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}

/// The answer to a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReportResponse {
    /// Events that moved an attempt; the others were repeats or too late.
    pub moved: u32,
}

/// `GET /v1/why`: why the device gets a version, or does not. Of contracts, plans and customers it says nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WhyResponse {
    /// The moment of the answer.
    pub at: Time,
    /// The version asked about, the one offered, or the one the reason is about.
    #[serde(default)]
    pub version: Option<Version>,
    /// Whether the device is offered it.
    pub offered: bool,
    /// The reason's code; later servers may have more of them.
    pub reason: String,
    /// The reason as a sentence.
    pub sentence: String,
    /// The newest version that the device may have, whether or not a rollout has reached it.
    #[serde(default)]
    pub may_have: Option<Version>,
    /// When the answer changes by itself, if it does within 400 days.
    #[serde(default)]
    pub changes_at: Option<Time>,
}
