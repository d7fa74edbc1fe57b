//! Devices, as administrators register, change and see them.

use serde::{Deserialize, Serialize};

use super::super::change::Change;
use crate::device::{Device, DeviceState, Installed};
use crate::rollout::Attempt;
use crate::text::{HardwareId, ProductName, Serial, Slug, TrainName};
use crate::{Mac, TextSet, Time};

/// A device to register before it enrols.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceCreate {
    /// The product's name.
    pub product: ProductName,
    /// Unique within the product.
    pub serial: Serial,
    /// Its hardware.
    pub hw_id: HardwareId,
    /// The address of its network interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Its owner's name.
    #[serde(default)]
    pub customer: Option<Slug>,
    /// Where it stands.
    #[serde(default)]
    pub site: Option<Slug>,
    /// Free labels.
    #[serde(default)]
    pub tags: TextSet,
    /// The train it was made with, if known: security fixes of that train are free.
    #[serde(default)]
    pub train: Option<TrainName>,
}

/// What is changed of a device. What is absent stays; `null` takes away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DevicePatch {
    /// Where it stands.
    #[serde(skip_serializing_if = "Change::is_kept")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub site: Change<Slug>,
    /// Its free labels, all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<TextSet>,
    /// The address of its network interface.
    #[serde(skip_serializing_if = "Change::is_kept")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub mac: Change<Mac>,
}

/// A device to move in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceStateChange {
    /// `active`, `blocked` or `retired`.
    pub state: DeviceState,
}

/// A device with what it runs and its last attempts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceDetail {
    /// The product's name.
    pub product: ProductName,
    /// The device.
    pub device: Device,
    /// What it runs.
    pub installed: Vec<Installed>,
    /// When it last polled; may lag behind by seconds.
    pub last_seen_at: Option<Time>,
    /// Its last attempts, newest first, at most 20.
    pub attempts: Vec<Attempt>,
}
