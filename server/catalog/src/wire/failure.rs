//! Failures of a rollout in the administrative REST API: which devices, how, and what they say of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Time;
use crate::id::DeviceId;
use crate::rollout::{AttemptState, Failure};
use crate::text::{HardwareId, Serial};

/// An attempt of a rollout that failed or was rolled back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "sql", derive(sqlx::FromRow))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutFailure {
    /// The device.
    pub device_id: DeviceId,
    /// Its serial.
    pub serial: Serial,
    /// Its hardware.
    pub hw_id: HardwareId,
    /// The attempt's number on that device.
    pub seq: i32,
    /// `failed` or `rolled_back`.
    pub state: AttemptState,
    /// Why.
    pub failure: Option<Failure>,
    /// When it ended.
    pub changed_at: Time,
    /// What happened, in the device's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The end of its log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}

/// The place of a failure in the list, newest first: `MILLISECONDS.DEVICE.NUMBER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureKey {
    /// When it ended.
    pub changed_at: Time,
    /// The device.
    pub device_id: DeviceId,
    /// The attempt's number.
    pub seq: i32,
}

impl RolloutFailure {
    /// Its place in the list.
    pub const fn key(&self) -> FailureKey {
        FailureKey { changed_at: self.changed_at, device_id: self.device_id, seq: self.seq }
    }
}

impl fmt::Display for FailureKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.changed_at.as_ms(), self.device_id, self.seq)
    }
}

/// A text that is no [`FailureKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the `next` of the page before")]
pub struct NoFailureKey;

impl FromStr for FailureKey {
    type Err = NoFailureKey;

    fn from_str(text: &str) -> Result<Self, NoFailureKey> {
        let mut parts = text.splitn(3, '.');
        let mut part = || parts.next().ok_or(NoFailureKey);
        let key = Self {
            changed_at: Time::from_ms(part()?.parse().map_err(|_| NoFailureKey)?),
            device_id: part()?.parse().map_err(|_| NoFailureKey)?,
            seq: part()?.parse().map_err(|_| NoFailureKey)?,
        };
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    proptest! {
        #[test]
        fn a_key_reads_back(at: i64, id: u128, seq: i32) {
            let key = FailureKey { changed_at: Time::from_ms(at), device_id: DeviceId(Uuid::from_u128(id)), seq };
            prop_assert_eq!(key.to_string().parse(), Ok(key));
        }

        #[test]
        fn anything_else_is_none_of_ours(text in ".{0,60}") {
            if let Ok(key) = text.parse::<FailureKey>() {
                prop_assert_eq!(key.to_string().parse(), Ok(key));
            }
        }
    }
}
