//! Support contracts. Windows and items are *twice dated*: `from`/`to` say when a fact was true, `recorded_at` and
//! `superseded_at` when this server knew it. Correcting a fact supersedes the old row and adds a new one, so "what was
//! decided then, by what was known then" stays answerable.

use serde::{Deserialize, Serialize};

use crate::Time;
use crate::cover::CoverRule;
use crate::id::{ContractId, CustomerId, FactId, PlanId};
use crate::product::Channel;
use crate::text::{Code, ContractNumber, Family, ProductName, Serial, Slug};

/// A support plan, such as `poly-plus`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "sql", derive(sqlx::FromRow))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Plan {
    /// Made by the server.
    pub id: PlanId,
    /// Unique short name.
    pub name: Slug,
    /// How cover decides.
    #[cfg_attr(feature = "sql", sqlx(try_from = "String"))]
    pub rule: CoverRule,
    /// Days after each window in which cover still counts, with a notice. Default 14, at most 365.
    pub grace_days: i32,
    /// When it was entered.
    pub created_at: Time,
}

/// What a plan grants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "sql", derive(sqlx::FromRow))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Grant {
    /// The entitlement code.
    pub code: Code,
    /// For products of this family; for all when absent.
    pub family: Option<Family>,
    /// Software at most this unfinished.
    pub channel_ceiling: Channel,
}

/// Whether a contract counts at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "sql", derive(sqlx::Type), sqlx(type_name = "text", rename_all = "snake_case"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ContractState {
    /// Its windows decide.
    Active,
    /// Never counted: a mistake or a fraud.
    Void,
}

impl ContractState {
    /// The stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Void => "void",
        }
    }
}

/// A support contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "sql", derive(sqlx::FromRow))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Contract {
    /// Made by the server.
    pub id: ContractId,
    /// Whose it is.
    pub customer_id: CustomerId,
    /// Its number in the sales system, unique.
    pub number: ContractNumber,
    /// The plan sold.
    pub plan_id: PlanId,
    /// Whether it counts.
    pub state: ContractState,
    /// When it was entered.
    pub created_at: Time,
}

/// Why a window covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "sql", derive(sqlx::Type), sqlx(type_name = "text", rename_all = "snake_case"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum WindowKind {
    /// Bought.
    Paid,
    /// Came with the hardware.
    Warranty,
    /// To try.
    Trial,
    /// Bought later to close a gap.
    Backdated,
    /// Given.
    Courtesy,
}

impl WindowKind {
    /// The stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Paid => "paid",
            Self::Warranty => "warranty",
            Self::Trial => "trial",
            Self::Backdated => "backdated",
            Self::Courtesy => "courtesy",
        }
    }
}

/// A half-open interval of cover, `from` included, `to` excluded. A contract has a set of them: gaps are real.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "sql", derive(sqlx::FromRow))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CoverageWindow {
    /// Made by the server.
    pub id: FactId,
    /// The contract.
    pub contract_id: ContractId,
    /// First moment covered.
    pub from_at: Time,
    /// First moment no longer covered.
    pub to_at: Time,
    /// Why it covers.
    pub kind: WindowKind,
    /// Since when the server knows.
    pub recorded_at: Time,
    /// Until when the server held it for true.
    pub superseded_at: Option<Time>,
}

/// A device that a contract covers, by serial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "sql", derive(sqlx::FromRow))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CoveredItem {
    /// Made by the server.
    pub id: FactId,
    /// The contract.
    pub contract_id: ContractId,
    /// The product of the serial.
    pub product: ProductName,
    /// The device's serial; it need not be enrolled yet.
    pub serial: Serial,
    /// First moment covered.
    pub from_at: Time,
    /// First moment no longer covered.
    pub to_at: Time,
    /// Since when the server knows.
    pub recorded_at: Time,
    /// Until when the server held it for true.
    pub superseded_at: Option<Time>,
}
