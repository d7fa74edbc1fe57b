//! Requests and answers of the administrative REST API `/api/v1`. Answers that are a noun use the noun itself.

mod devices;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::contract::{Contract, CoverageWindow, CoveredItem, Grant, KeptBy, Plan, WindowKind};
use crate::cover::CoverRule;
use crate::customer::{Customer, Partner};
use crate::device::EnrolToken;
use crate::id::TokenId;
use crate::pool::{PoolDetail, PoolSet};
use crate::principal::{Principal, PrincipalKind, Role};
use crate::product::{Channel, Visibility};
use crate::release::{Artifact, Release};
use crate::text::{Code, ContractNumber, Family, Pid, ProductName, Serial, Slug};
use crate::{TextSet, Time};

pub use devices::{DeviceCreate, DeviceDetail, DevicePatch, DeviceStateChange};

/// Most items on a page.
pub const MAX_PAGE: u32 = 500;
/// Items on a page unless asked otherwise.
pub const DEFAULT_PAGE: u32 = 50;
/// Most windows or items in one request.
pub const MAX_FACTS: usize = 10_000;
/// Longest title or label, bytes.
pub const MAX_TITLE_LEN: usize = 200;

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Page<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// `?after=` of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// `POST /api/v1/bootstrap`: the bootstrap token makes the first administrator, and nothing else.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BootstrapRequest {
    /// The administrator's name.
    pub name: Slug,
}

/// A principal to make.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PrincipalCreate {
    /// Unique.
    pub name: Slug,
    /// Person or machine.
    pub kind: PrincipalKind,
    /// What it is for.
    pub role: Role,
    /// Binds it to this customer, for good: it reads that customer's things and is refused everything else. What its role may do
    /// beyond reading it may do for that customer alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<Slug>,
}

/// A token to make.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenCreate {
    /// What people call it, at most 200 bytes.
    pub label: String,
    /// Permissions to limit it to; empty: all of the role.
    pub scopes: TextSet,
    /// When it ends; never unless given.
    pub expires_at: Option<Time>,
}

/// A principal with the secret of its new token, which is shown this once.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenCreated {
    /// The principal.
    pub principal: Principal,
    /// The token's id, to revoke it by.
    pub token_id: TokenId,
    /// The secret.
    pub token: String,
}

/// A product to enter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProductCreate {
    /// Unique; also its TUF role.
    pub name: ProductName,
    /// What people read; the name unless given.
    #[serde(default)]
    pub title: Option<String>,
    /// Its family; the name unless given.
    #[serde(default)]
    pub family: Option<Family>,
    /// The id Lens-style clients ask by.
    #[serde(default)]
    pub pid: Option<Pid>,
    /// Who may read metadata and images.
    pub visibility: Visibility,
}

/// A release with its images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReleaseDetail {
    /// The product's name.
    pub product: ProductName,
    /// The release.
    pub release: Release,
    /// When its train became generally available.
    pub train_ga: Time,
    /// From when on its train gets no further fixes, if that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub support_end: Option<Time>,
    /// Its images.
    pub artifacts: Vec<Artifact>,
}

/// When a train's support ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SupportEndSet {
    /// From this moment on it gets no further fixes; not known when absent.
    #[serde(default)]
    pub support_end: Option<Time>,
}

/// A customer to enter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CustomerCreate {
    /// Unique.
    pub name: Slug,
    /// What people read; the name unless given.
    #[serde(default)]
    pub title: Option<String>,
    /// The customer that it stands beneath.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Slug>,
}

/// Where a customer stands from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ParentSet {
    /// Beneath this customer; on its own when absent.
    #[serde(default)]
    pub parent: Option<Slug>,
}

/// From when until when one customer acts for another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PartnerSet {
    /// From this moment on; from now unless given.
    pub from: Option<Time>,
    /// Until this moment; until it is ended unless given.
    pub until: Option<Time>,
}

/// A customer with who acts for it and for whom it acts. Those that have ended are told, too, until they are removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CustomerDetail {
    /// The customer.
    #[serde(flatten)]
    pub customer: Customer,
    /// Who acts for it.
    pub partners: Vec<Partner>,
    /// For whom it acts.
    pub acts_for: Vec<Partner>,
}

/// A plan to enter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlanCreate {
    /// Unique.
    pub name: Slug,
    /// How cover decides; `train-ga` unless given.
    #[serde(default = "default_rule")]
    pub rule: CoverRule,
    /// Days of grace, 0 to 365; 14 unless given.
    #[serde(default = "default_grace")]
    pub grace_days: u16,
    /// What it grants.
    pub grants: Vec<GrantCreate>,
}

const fn default_rule() -> CoverRule {
    CoverRule::TrainGa
}

const fn default_grace() -> u16 {
    14
}

const fn default_ceiling() -> Channel {
    Channel::Stable
}

/// A grant of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GrantCreate {
    /// The code.
    pub code: Code,
    /// For this family only.
    #[serde(default)]
    pub family: Option<Family>,
    /// Software at most this unfinished; `stable` unless given.
    #[serde(default = "default_ceiling")]
    pub channel_ceiling: Channel,
}

/// A plan with its grants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlanDetail {
    /// The plan.
    #[serde(flatten)]
    pub plan: Plan,
    /// What it grants.
    pub grants: Vec<Grant>,
}

/// A contract to enter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ContractCreate {
    /// Unique.
    pub number: ContractNumber,
    /// The customer's name.
    pub customer: Slug,
    /// The plan's name.
    pub plan: Slug,
    /// When it covers.
    #[serde(default)]
    pub windows: Vec<WindowCreate>,
    /// What it covers.
    #[serde(default)]
    pub items: Vec<ItemCreate>,
}

const fn default_window_kind() -> WindowKind {
    WindowKind::Paid
}

/// A window of cover, `from` included, `to` excluded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WindowCreate {
    /// First moment covered.
    pub from: Time,
    /// First moment no longer covered.
    pub to: Time,
    /// Why it covers; `paid` unless given.
    #[serde(default = "default_window_kind")]
    pub kind: WindowKind,
}

/// A covered device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ItemCreate {
    /// The product's name.
    pub product: ProductName,
    /// The device's serial; it need not be enrolled yet.
    pub serial: Serial,
    /// First moment covered; always, unless given.
    #[serde(default)]
    pub from: Option<Time>,
    /// First moment no longer covered; never, unless given.
    #[serde(default)]
    pub to: Option<Time>,
}

/// More windows and items for a contract.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ContractExtend {
    /// Windows to add.
    pub windows: Vec<WindowCreate>,
    /// Items to add.
    pub items: Vec<ItemCreate>,
    /// Pools to set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<PoolSet>,
    /// So many devices may lose a version or a code by it. Without it, a change that takes cover from many is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept_loss: Option<u64>,
}

/// A contract with its facts that hold by what is known now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ContractDetail {
    /// The contract.
    #[serde(flatten)]
    pub contract: Contract,
    /// The customer's name.
    pub customer: Slug,
    /// The plan's name.
    pub plan: Slug,
    /// When it covers.
    pub windows: Vec<CoverageWindow>,
    /// What it covers, at most 500 of them.
    pub items: Vec<CoveredItem>,
    /// The system that keeps it; none of a contract that is kept here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptBy>,
    /// Its pools, with how many places are taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<PoolDetail>,
}

/// An enrolment token to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EnrolTokenCreate {
    /// The product its devices belong to.
    pub product: ProductName,
    /// The customer its devices go to.
    #[serde(default)]
    pub customer: Option<Slug>,
    /// What people call it.
    #[serde(default)]
    pub label: String,
    /// How many devices it admits: 1 makes it one-use. At most 1,000,000.
    pub uses: u32,
    /// When it ends; in 30 days unless given.
    #[serde(default)]
    pub expires_at: Option<Time>,
}

/// An enrolment token with its secret, which is shown this once.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EnrolTokenCreated {
    /// What was made.
    #[serde(flatten)]
    pub enrol_token: EnrolToken,
    /// The secret.
    pub token: String,
}

/// Numbers of the whole installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Status {
    /// The server's version.
    pub version: String,
    /// `sqlite` or `postgres`.
    pub database: String,
    /// `local` or `s3`.
    pub blobs: String,
    /// Products.
    pub products: i64,
    /// Releases not withdrawn.
    pub releases: i64,
    /// Devices.
    pub devices: i64,
    /// Jobs waiting or running.
    pub jobs_pending: i64,
    /// Jobs that someone has to look at.
    pub jobs_parked: i64,
    /// When the documents of each role expire, the next first.
    #[serde(default)]
    pub expiries: Vec<RoleExpiry>,
}

/// When a role's newest document expires. Devices refuse it from then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RoleExpiry {
    /// The role as `sluice-sign` calls it: `root`, `director-root`, `targets`, a product, or the server's own `snapshot`
    /// and `timestamp`.
    pub role: String,
    /// Its newest version.
    pub version: i64,
    /// When it expires.
    pub expires_at: Time,
    /// Whole days until then; negative when it has expired.
    pub days_left: i64,
    /// What to do, when it is time to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
}

/// The public online keys that offline roots name: TUF key objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OnlineKeys {
    /// Key S, role `snapshot`.
    pub snapshot: serde_json::Value,
    /// Key T, role `timestamp`.
    pub timestamp: serde_json::Value,
    /// Key D, the director's `targets`.
    pub director: serde_json::Value,
    /// Key E, offline entitlement certificates.
    pub entitlement: serde_json::Value,
    /// Keys that the next roots may name instead, by the names above: the server signs with one as soon as a published
    /// root names it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub next: BTreeMap<String, serde_json::Value>,
}
