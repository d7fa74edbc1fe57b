//! Devices: identity, state, what they run, and what they can decode.

use serde::{Deserialize, Serialize};

use crate::id::{CohortId, CustomerId, DeviceId, EnrolTokenId, ProductId};
use crate::mac::Mac;
use crate::product::Channel;
use crate::text::{Component, HardwareId, Serial, Slug, TrainName, Version};
use crate::{Digest, TextSet, Time};

/// Where a device stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "sql", derive(sqlx::Type), sqlx(type_name = "text", rename_all = "snake_case"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum DeviceState {
    /// Known by serial, or registered by itself; gets nothing until someone accepts it or it proves a token.
    Pending,
    /// In service.
    Active,
    /// A replacement is on its way; still in service.
    RmaPending,
    /// Replaced by another serial: only security fixes.
    Replaced,
    /// Stolen, counterfeit or abused: gets nothing.
    Blocked,
    /// Out of service: gets nothing.
    Retired,
}

impl DeviceState {
    /// The stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::RmaPending => "rma_pending",
            Self::Replaced => "replaced",
            Self::Blocked => "blocked",
            Self::Retired => "retired",
        }
    }
}

/// What a device can decode. A closed list, never a free set of bits: each is a promise with a test behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "sql", derive(sqlx::Type), sqlx(type_name = "text", rename_all = "snake_case"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum DecoderProfile {
    /// Raw full images only.
    #[default]
    Raw,
    /// Zstandard: full images and `fast` patches.
    Fast,
    /// Zstandard, LZMA and the re-encoders of compressed streams: full images, `fast` and `default` patches.
    Default,
    /// The same and the context-mixing coder: full images, `fast`, `default` and `small` patches.
    Small,
    /// A microcontroller: raw full images and `mcu` patches.
    Mcu,
}

impl DecoderProfile {
    /// The stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Fast => "fast",
            Self::Default => "default",
            Self::Small => "small",
            Self::Mcu => "mcu",
        }
    }
}

/// A device. The record holds what decides; last-seen times are kept apart because only they may be lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "sql", derive(sqlx::FromRow))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Device {
    /// Made by the server.
    pub id: DeviceId,
    /// The product.
    pub product_id: ProductId,
    /// Unique within the product.
    pub serial: Serial,
    /// Its hardware.
    pub hw_id: HardwareId,
    /// The address of its network interface, by which people and their network tools know it. It proves and decides nothing, and two
    /// devices may have the same by mistake.
    #[serde(default)]
    pub mac: Option<Mac>,
    /// Who owns it.
    pub customer_id: Option<CustomerId>,
    /// Where it stands, for selectors.
    pub site: Option<Slug>,
    /// Free labels, for selectors.
    #[cfg_attr(feature = "sql", sqlx(try_from = "String"))]
    pub tags: TextSet,
    /// Where it stands in its life.
    pub state: DeviceState,
    /// When the overlap after a swap ends: a device that waits to be replaced counts as replaced from then on.
    pub fence_at: Option<Time>,
    /// Its ed25519 public key, 32 bytes as hexadecimal; absent until it enrols.
    pub public_key: Option<String>,
    /// Raised to revoke every session token it holds.
    pub epoch: i32,
    /// The newest signing epoch that its verifier says it knows.
    pub signing_epoch: i32,
    /// Its place in rollouts.
    pub cohort_id: CohortId,
    /// The least finished software it asks for.
    pub channel: Channel,
    /// The last train that we delivered and it confirmed, or that was recorded at enrolment. Never a mere claim.
    pub confirmed_train: Option<TrainName>,
    /// Attempts made so far; the next has this number plus one.
    pub attempt_seq: i32,
    /// What it can decode, as last stated.
    pub profile: DecoderProfile,
    /// Memory it gives to patching, bytes.
    pub ram_budget: i64,
    /// Scratch space it gives to patching, bytes.
    pub scratch_budget: i64,
    /// Set after a patch gave it a wrong image: it gets full images.
    pub patches_off: bool,
    /// When it was entered.
    pub created_at: Time,
}

impl Device {
    /// Its state at a moment: the overlap after a swap ends by itself, also of a device that was blocked and accepted again.
    pub fn state_at(&self, at: Time) -> DeviceState {
        match (self.state, self.fence_at) {
            (DeviceState::RmaPending | DeviceState::Active, Some(fence)) if fence <= at => DeviceState::Replaced,
            (state, _) => state,
        }
    }
}

/// What a device runs in one component, as it last reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "sql", derive(sqlx::FromRow))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Installed {
    /// The component.
    pub component: Component,
    /// As the image calls itself.
    pub version: Version,
    /// SHA-256 of the running slot.
    #[cfg_attr(feature = "sql", sqlx(try_from = "Vec<u8>"))]
    pub sha256: Digest,
    /// The device's floor against rollback.
    pub security_counter: i64,
}

/// Whether an enrolment token admits one device or a production batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "sql", derive(sqlx::Type), sqlx(type_name = "text", rename_all = "snake_case"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum EnrolTokenKind {
    /// One device.
    OneUse,
    /// As many as its limit says.
    Batch,
}

/// An enrolment token. The secret itself is shown once and stored as a hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "sql", derive(sqlx::FromRow))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EnrolToken {
    /// Made by the server.
    pub id: EnrolTokenId,
    /// What people call it.
    pub label: String,
    /// The product its devices belong to.
    pub product_id: ProductId,
    /// The customer its devices go to.
    pub customer_id: Option<CustomerId>,
    /// How many more devices it admits.
    pub remaining: i32,
    /// When it was made.
    pub created_at: Time,
    /// When it ends.
    pub expires_at: Time,
    /// When it was revoked.
    pub revoked_at: Option<Time>,
}
