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

/// How new what a source says of a contract is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Revision {
    /// When it was changed there.
    At(Time),
    /// A number that rises with each change there.
    Number(i64),
}

impl Revision {
    /// Whether it is newer than another, or older; nothing when one is a moment and the other a number.
    pub fn against(self, other: Self) -> Option<std::cmp::Ordering> {
        match (self, other) {
            (Self::At(one), Self::At(other)) => Some(one.cmp(&other)),
            (Self::Number(one), Self::Number(other)) => Some(one.cmp(&other)),
            _ => None,
        }
    }
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::At(at) => at.fmt(f),
            Self::Number(number) => number.fmt(f),
        }
    }
}

/// The system that keeps a contract, and the newest revision that it told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeptBy {
    /// Its name.
    pub source: Slug,
    /// The revision; none of a contract that it told in rows only.
    pub revision: Option<Revision>,
}

/// Days after 1970 before which no window begins, and after which none ends: a typing error in a century is caught, an old contract is
/// not. 1980-01-01 and 2150-01-01.
const SPAN_DAYS: (i64, i64) = (3_652, 65_744);
/// Longest window, days: a typing error in a year is caught, a long warranty is not.
const MAX_WINDOW_DAYS: i64 = 40 * 366;

/// What is wrong with the dates of a window, if anything.
pub fn window_mistake(from: Time, to: Time) -> Option<(&'static str, String)> {
    let (first, last) = (Time::EPOCH.plus_days(SPAN_DAYS.0), Time::EPOCH.plus_days(SPAN_DAYS.1));
    if from >= to {
        Some(("to", format!("the window ends ({to}) before it starts ({from})")))
    } else if to > from.plus_days(MAX_WINDOW_DAYS) {
        Some(("to", format!("the window from {from} to {to} is longer than 40 years")))
    } else if from < first {
        Some(("from", format!("{from} is before {}", first.date())))
    } else if to > last {
        Some(("to", format!("{to} is after {}", last.date())))
    } else {
        None
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
    /// The pool in which it has a place; none of a device that the contract names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_id: Option<FactId>,
    /// First moment covered.
    pub from_at: Time,
    /// First moment no longer covered.
    pub to_at: Time,
    /// Since when the server knows.
    pub recorded_at: Time,
    /// Until when the server held it for true.
    pub superseded_at: Option<Time>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reversed_and_absurd_dates_are_mistakes() {
        let ask =
            |from: &str, to: &str| window_mistake(from.parse().unwrap(), to.parse().unwrap()).map(|(field, _)| field);
        assert_eq!(ask("2026-01-01", "2027-01-01"), None);
        assert_eq!(ask("1980-01-01", "1980-01-02"), None);
        assert_eq!(ask("2149-12-31", "2150-01-01"), None);
        assert_eq!(ask("2026-01-01", "2026-01-01"), Some("to"), "it covers nothing");
        assert_eq!(ask("2027-01-01", "2026-01-01"), Some("to"));
        assert_eq!(ask("2026-01-01", "2096-01-01"), Some("to"));
        assert_eq!(ask("1926-01-01", "1980-06-01"), Some("from"), "what is before 1970 reads as 1970");
        assert_eq!(ask("2126-01-01", "2151-01-01"), Some("to"));
    }

    #[test]
    fn revisions_of_two_kinds_have_no_order() {
        use std::cmp::Ordering;
        let at = |day: i64| Revision::At(Time::EPOCH.plus_days(day));
        assert_eq!(at(2).against(at(1)), Some(Ordering::Greater));
        assert_eq!(Revision::Number(1).against(Revision::Number(2)), Some(Ordering::Less));
        assert_eq!(at(1).against(Revision::Number(1)), None);
    }
}
