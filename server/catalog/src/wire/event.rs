//! Events: what a customer or a program wants to be told, in one sequence that never changes. `docs/notices.md` shows each kind.

use serde::{Deserialize, Serialize};

use crate::text::{ContractNumber, ProductName, Serial, Slug, Version};
use crate::{Reason, Time};

/// Serials named in one event; all of them are in its count.
pub const MAX_NAMED: u32 = 10;
/// Longest that a question for events waits for one, seconds: less than a server that stops waits for its requests.
pub const MAX_WAIT_S: u32 = 25;

/// The kinds, as they are asked for.
pub const KINDS: &[&str] = &[
    "cover_ends",
    "cover_ended",
    "grace_ended",
    "cover_gained",
    "swap_started",
    "swap_fenced",
    "swap_undone",
    "version_denied",
];

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// Its place in the sequence: 1, 2, 3 …; `after` of the next question.
    pub seq: i64,
    /// What it is about: `contract:NUMBER` or `device:PRODUCT/SERIAL`.
    pub subject: String,
    /// Whose it is.
    pub customer: Option<Slug>,
    /// The moment it tells of.
    pub at: Time,
    /// When it was written: later, when the server was away at that moment.
    pub created_at: Time,
    /// What happened.
    #[serde(flatten)]
    pub data: EventData,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "data", rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum EventData {
    /// Cover ends in 60, 30 or 7 days.
    CoverEnds(CoverNotice),
    /// Cover has ended.
    CoverEnded(CoverNotice),
    /// The days of grace after it have gone, too.
    GraceEnded(CoverNotice),
    /// There is cover that was not there before: a new contract, a renewal, another device.
    CoverGained(CoverGained),
    /// A device is replaced by another; both work until the overlap ends.
    SwapStarted(SwapNotice),
    /// The overlap has ended: the old device gets security fixes alone.
    SwapFenced(SwapNotice),
    /// The swap was undone.
    SwapUndone(SwapNotice),
    /// A device may not have a version any more that it had been offered, or that its rollout had brought to it.
    VersionDenied(VersionDenied),
}

impl EventData {
    /// The kind's name.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::CoverEnds(_) => "cover_ends",
            Self::CoverEnded(_) => "cover_ended",
            Self::GraceEnded(_) => "grace_ended",
            Self::CoverGained(_) => "cover_gained",
            Self::SwapStarted(_) => "swap_started",
            Self::SwapFenced(_) => "swap_fenced",
            Self::SwapUndone(_) => "swap_undone",
            Self::VersionDenied(_) => "version_denied",
        }
    }
}

/// A device by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceName {
    /// The product.
    pub product: ProductName,
    /// The serial.
    pub serial: Serial,
}

/// Cover that ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CoverNotice {
    /// The contract.
    pub contract: ContractNumber,
    /// Its plan.
    pub plan: Slug,
    /// Days from the moment told of to the end: 60, 30, 7; 0 when it has come.
    pub days: u8,
    /// First moment no longer covered.
    pub ends_at: Time,
    /// The last day covered, in the contract's zone.
    pub last_day: String,
    /// That zone.
    pub zone: String,
    /// When the grace after it ends; absent without grace.
    pub grace_until: Option<Time>,
    /// Until when it counts on, because the system that keeps the contract is silent: nothing is lost before that.
    #[serde(default)]
    pub counts_until: Option<Time>,
    /// When cover begins again, if that is known already.
    pub again_from: Option<Time>,
    /// Devices that lose it, by what is known now.
    pub devices: u64,
    /// The first ten of them.
    pub named: Vec<DeviceName>,
}

/// Cover that was gained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CoverGained {
    /// The contract.
    pub contract: ContractNumber,
    /// Its plan.
    pub plan: Slug,
    /// First moment covered.
    pub from: Time,
    /// First moment no longer covered.
    pub until: Time,
    /// The last day covered, in the contract's zone.
    pub last_day: String,
    /// That zone.
    pub zone: String,
    /// Devices that gained it, by what is known now.
    pub devices: u64,
    /// The first ten of them.
    pub named: Vec<DeviceName>,
}

/// A swap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SwapNotice {
    /// The number of the return.
    pub rma: Slug,
    /// The product of both.
    pub product: ProductName,
    /// The serial that is replaced.
    pub old: Serial,
    /// The serial that replaces it.
    pub new: Serial,
    /// When the overlap ends.
    pub fence_at: Time,
}

/// A version that was promised and is denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VersionDenied {
    /// The device's product.
    pub product: ProductName,
    /// Its serial.
    pub serial: Serial,
    /// The version.
    pub version: Version,
    /// Why it may not have it.
    pub reason: Reason,
    /// The reason as a sentence.
    pub sentence: String,
    /// The attempt under which it was offered; absent when the device never asked for what its rollout had brought to it.
    pub attempt: Option<i32>,
    /// The rollout that promised it.
    pub rollout: Option<Slug>,
}

/// A contract's time zone, in which its days are counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ZoneSet {
    /// By its IANA name, such as `Europe/Amsterdam`; UTC when absent.
    #[serde(default)]
    pub zone: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_shows_every_kind_as_it_is() {
        let document = include_str!("../../../../docs/notices.md");
        let mut shown = Vec::new();
        for block in document.split("```json\n").skip(1) {
            let text = block.split("```").next().unwrap();
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            let event: Event = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(serde_json::to_value(&event).unwrap(), value, "fields are missing or too many");
            if let EventData::VersionDenied(denied) = &event.data {
                assert_eq!(denied.sentence, denied.reason.sentence());
            }
            assert!(document.contains(&format!("`{}`", event.data.kind())), "{text}");
            shown.push(event.data.kind());
        }
        assert_eq!(shown, KINDS);
    }
}
