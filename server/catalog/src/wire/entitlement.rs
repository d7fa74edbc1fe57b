//! Requests and answers about entitlement: policies, sites, swaps, changes of contracts and plans, and a device's history.

use serde::{Deserialize, Serialize};

use crate::contract::ContractState;
use crate::cover::CoverRule;
use crate::device::{Device, Installed};
use crate::id::FactId;
use crate::import::{ImportRow, RowError};
use crate::policy::{Policy, PolicyKind, PolicyScope};
use crate::text::{Code, ContractNumber, HardwareId, ProductName, Serial, Slug, Version};
use crate::wire::admin::GrantCreate;
use crate::wire::contracts::ContractPut;
use crate::{TextSet, Time};

/// Countries of one release's block.
pub const MAX_COUNTRIES: usize = 250;
/// Codes of one embargo.
pub const MAX_EMBARGO_CODES: usize = 16;
/// The longest embargo, days from now.
pub const MAX_EMBARGO_DAYS: i64 = 366;

/// A policy to set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PolicyCreate {
    /// Whose devices.
    pub customer: Slug,
    /// How narrow it is.
    pub scope: PolicyScope,
    /// The site, the tag, or the device's serial; absent for the whole customer.
    #[serde(default)]
    pub target: Option<String>,
    /// For this product; needed for a pin and for one device, else for all when absent.
    #[serde(default)]
    pub product: Option<ProductName>,
    /// What it asks for.
    #[serde(flatten)]
    pub kind: PolicyKind,
    /// Why, at most 500 bytes on one line.
    pub reason: String,
    /// From then on; from now on when absent.
    #[serde(default)]
    pub from: Option<Time>,
    /// Until then; until lifted when absent.
    #[serde(default)]
    pub until: Option<Time>,
}

/// A policy with what it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PolicyDetail {
    /// The customer.
    pub customer: Slug,
    /// The product; all when absent.
    pub product: Option<ProductName>,
    /// The site, the tag or the serial.
    pub target: String,
    /// The policy.
    #[serde(flatten)]
    pub policy: Policy,
}

/// What is known of a site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SiteSet {
    /// Where it is: ISO 3166-1, two capital letters.
    #[serde(default)]
    pub country: Option<String>,
    /// Its time zone by its IANA name, such as `Europe/Amsterdam`.
    #[serde(default)]
    pub time_zone: Option<String>,
}

/// Who may have a release early, and until when everybody else waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EmbargoSet {
    /// Codes, all of them; nobody has it early when empty.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub codes: Vec<Code>,
    /// When it ends.
    pub until: Time,
}

/// Where a release is not delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BlockedSet {
    /// Countries: ISO 3166-1, two capital letters each; none lifts the block.
    pub countries: TextSet,
}

/// A contract's plan or state from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ContractChange {
    /// Another plan.
    #[serde(default)]
    pub plan: Option<Slug>,
    /// Whether it counts.
    #[serde(default)]
    pub state: Option<ContractState>,
    /// So many devices may lose a version or a code by it. Without it, a change that takes cover from many is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_loss: Option<u64>,
}

/// A change that is tried and taken back, to see which devices gain or lose what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum WhatIf {
    /// Rows are taken in.
    Import(ImportRequest),
    /// A plan changes.
    Plan {
        /// Its name.
        name: Slug,
        /// What it is like then.
        change: PlanChange,
    },
    /// A contract changes.
    Contract {
        /// Its number.
        number: ContractNumber,
        /// What it is like then.
        change: ContractChange,
    },
    /// A contract becomes what the system that keeps it says.
    Put {
        /// Its number.
        number: ContractNumber,
        /// What it is like then.
        contract: ContractPut,
    },
    /// A window of a contract is taken back.
    Window {
        /// The contract's number.
        number: ContractNumber,
        /// The window.
        id: FactId,
    },
    /// A covered device of a contract is taken back.
    Item {
        /// The contract's number.
        number: ContractNumber,
        /// The item.
        id: FactId,
    },
}

/// What a plan is like from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlanChange {
    /// How cover decides.
    pub rule: CoverRule,
    /// Days of grace, 0 to 365.
    pub grace_days: u16,
    /// What it grants, in place of what it granted.
    pub grants: Vec<GrantCreate>,
    /// So many devices may lose a version or a code by it. Without it, a change that takes cover from many is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_loss: Option<u64>,
}

/// A broken device is replaced by another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SwapCreate {
    /// The number of the return. The same number again changes nothing.
    pub rma: Slug,
    /// The product of both.
    pub product: ProductName,
    /// The serial that is replaced.
    pub old: Serial,
    /// The serial that replaces it; it need not be known yet.
    pub new: Serial,
    /// The new one's hardware; that of the old one when absent.
    #[serde(default)]
    pub hw_id: Option<HardwareId>,
    /// Days in which both work, 0 to 180; 30 when absent.
    #[serde(default)]
    pub overlap_days: Option<u16>,
}

/// One thing that happened to a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum DeviceEvent {
    /// It was entered, changed, or said something new.
    Changed {
        /// Who did it.
        actor: String,
        /// What happened.
        cause: String,
        /// What it was like from then on.
        device: Box<Device>,
        /// What it ran.
        installed: Vec<Installed>,
    },
    /// It was offered a version, and what became of that.
    Attempt {
        /// The attempt's number.
        attempt: i32,
        /// The version.
        version: String,
        /// Where it stands now.
        state: String,
        /// What went wrong.
        failure: Option<String>,
        /// The same in the device's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
        /// The end of its log.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        log: Option<String>,
    },
    /// Its cover changed.
    Cover {
        /// The contract.
        contract: String,
        /// What became of it: `recorded` or `superseded`.
        change: String,
        /// First moment covered.
        from: Time,
        /// First moment no longer covered.
        to: Time,
    },
    /// It was told something else than before, at a poll.
    Decision {
        /// Whether it was offered a version.
        offered: bool,
        /// The version offered, or the one the reason is about.
        version: Option<Version>,
        /// The reason's code.
        reason: String,
        /// The reason as a sentence.
        sentence: String,
    },
    /// It took part in a swap.
    Swap {
        /// The number of the return.
        rma: Slug,
        /// The serial that is replaced.
        old: Serial,
        /// The serial that replaces it.
        new: Serial,
        /// `swapped` or `undone`.
        change: String,
    },
}

/// Something that happened to a device, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceEntry {
    /// Where it stands among the entries of its device, for the page that goes on after it.
    #[serde(default)]
    pub key: String,
    /// When.
    pub at: Time,
    /// What.
    #[serde(flatten)]
    pub event: DeviceEvent,
}

/// What becomes of an import when some of its rows are wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum OnError {
    /// Nothing is taken in.
    #[default]
    Refuse,
    /// The rows that are right are taken in.
    Skip,
}

/// Rows of contracts to take in, at most 5,000. The same rows again change nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImportRequest {
    /// The rows.
    pub rows: Vec<ImportRow>,
    /// What becomes of it when some are wrong.
    #[serde(default)]
    pub on_error: OnError,
    /// Say what would change, and change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// So many devices may lose a version or a code by it. Without it, rows that take cover from many are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_loss: Option<u64>,
    /// The system from which they come, which is heard of with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Slug>,
}

/// What an import did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImportAnswer {
    /// Whether it was taken in: not when it was a dry run, nor when a row was wrong and that refuses all.
    pub applied: bool,
    /// Contracts entered.
    pub contracts: u64,
    /// Contracts that moved to another plan.
    pub plans_changed: u64,
    /// Windows recorded.
    pub windows: u64,
    /// Covered devices recorded.
    pub items: u64,
    /// Pools set to another number of places.
    #[serde(default)]
    pub pools: u64,
    /// Contracts whose days are counted in another zone.
    #[serde(default)]
    pub zones: u64,
    /// What is wrong, by line.
    pub errors: Vec<RowError>,
    /// Serials of these rows that stand under several contracts.
    #[serde(default)]
    pub overlaps: u64,
    /// The first of them, with the contracts.
    #[serde(default)]
    pub overlapping: Vec<Overlapping>,
}

/// Overlaps that one answer names; the rest is counted.
pub const MAX_OVERLAPS_SHOWN: usize = 100;

/// A serial under several contracts: of what they grant alike the better one counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Overlapping {
    /// The product.
    pub product: ProductName,
    /// The serial.
    pub serial: Serial,
    /// The contracts, in the order of their numbers.
    pub contracts: Vec<ContractNumber>,
}

impl ImportAnswer {
    /// Whether anything is other than before.
    pub const fn changes(&self) -> bool {
        self.contracts > 0
            || self.plans_changed > 0
            || self.windows > 0
            || self.items > 0
            || self.pools > 0
            || self.zones > 0
    }
}
