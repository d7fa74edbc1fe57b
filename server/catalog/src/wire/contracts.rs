//! Contracts as the system that keeps them tells them: whole, with the revision that it gave them.

use serde::{Deserialize, Serialize};

use super::admin::{ItemCreate, WindowCreate};
use crate::contract::{ContractState, Revision};
use crate::pool::PoolSet;
use crate::text::{ContractNumber, ProductName, Serial, Slug};
use crate::{Digest, Time};

/// How far a source's clock may be ahead of ours, hours. A revision from a later time would shut out all that come after it.
pub const MAX_AHEAD_HOURS: i64 = 24;

const fn active() -> ContractState {
    ContractState::Active
}

/// A contract, whole: what is not named here does not hold any more. The same again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ContractPut {
    /// The system that keeps it, such as `crm`.
    pub source: Slug,
    /// When it was last changed there. Give this or `revision`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revised_at: Option<Time>,
    /// A number that rises with every change there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Take the contract over from another source.
    #[serde(default)]
    pub take_over: bool,
    /// The customer's name.
    pub customer: Slug,
    /// The plan's name.
    pub plan: Slug,
    /// Whether it counts.
    #[serde(default = "active")]
    pub state: ContractState,
    /// When it covers: all windows.
    #[serde(default)]
    pub windows: Vec<WindowCreate>,
    /// What it covers: all devices.
    #[serde(default)]
    pub items: Vec<ItemCreate>,
    /// How many devices it covers whichever they are: all pools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<PoolSet>,
    /// So many devices may lose a version or a code by it. Without it, a contract that takes cover from many is refused. It is no part of
    /// what the revision says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_loss: Option<u64>,
}

/// A serial that contracts cover at the same time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ContractOverlap {
    /// The product of the serial.
    pub product: ProductName,
    /// The serial.
    pub serial: Serial,
    /// The contracts, in the order of their numbers.
    pub contracts: Vec<ContractNumber>,
    /// Their plans, in the same order.
    pub plans: Vec<Slug>,
    /// When the first time that several cover begins.
    pub from: Time,
    /// When the last such time ends.
    pub to: Time,
}

/// Serials under several contracts on one page, or after none: those whose windows do not meet are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OverlapPage {
    /// The overlaps.
    pub items: Vec<ContractOverlap>,
    /// Where the next page begins; none behind the last.
    pub next: Option<String>,
}

/// What is wrong with a revision.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RevisionError {
    /// Neither or both.
    #[error("give revised_at or revision, one of them")]
    One,
    /// Too large a number.
    #[error("{0}: at most 9223372036854775807")]
    TooLarge(u64),
    /// A moment to come.
    #[error(
        "{0} is more than {MAX_AHEAD_HOURS} hours ahead of this server's clock ({1}); correct the clock of the source"
    )]
    Ahead(Time, Time),
}

impl ContractPut {
    /// Its revision.
    pub fn revised(&self, now: Time) -> Result<Revision, RevisionError> {
        match (self.revised_at, self.revision) {
            (Some(at), None) if at > now.plus_s(MAX_AHEAD_HOURS * 3600) => Err(RevisionError::Ahead(at, now)),
            (Some(at), None) => Ok(Revision::At(at)),
            (None, Some(number)) => {
                i64::try_from(number).map(Revision::Number).map_err(|_| RevisionError::TooLarge(number))
            }
            _ => Err(RevisionError::One),
        }
    }

    /// A digest of what it says: the same for the same content, in whatever order and under whatever revision.
    pub fn content(&self) -> Digest {
        let window = |window: &WindowCreate| format!("{} {} {}", window.from, window.to, window.kind.as_str());
        let item = |item: &ItemCreate| {
            let (from, to) = (item.from.unwrap_or(Time::EPOCH), item.to.unwrap_or(Time::FOREVER));
            format!("{}/{} {from} {to}", item.product, item.serial)
        };
        let mut lines: Vec<String> = self.windows.iter().map(window).collect();
        lines.extend(self.items.iter().map(item));
        let pools = self.pools.iter().filter(|pool| pool.quantity > 0);
        lines.extend(pools.map(|pool| format!("{} at {}: {}", pool.family, pool.site, pool.quantity)));
        lines.sort_unstable();
        lines.dedup();
        let head = format!("{}\n{}\n{}\n", self.customer, self.plan, self.state.as_str());
        Digest::of((head + &lines.join("\n")).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put() -> ContractPut {
        serde_json::from_str(
            r#"{"source": "crm", "revision": 7, "customer": "globex", "plan": "plus",
                "windows": [{"from": "2026-01-01", "to": "2027-01-01"}, {"from": "2027-01-01", "to": "2028-01-01"}],
                "items": [{"product": "acme-cam", "serial": "SN-1"}, {"product": "acme-cam", "serial": "SN-2"}]}"#,
        )
        .unwrap()
    }

    #[test]
    fn the_order_of_facts_and_the_revision_are_no_content() {
        let mut turned = put();
        turned.windows.reverse();
        turned.items.reverse();
        turned.items.push(turned.items[0].clone());
        turned.revision = Some(8);
        assert_eq!(turned.content(), put().content());
        turned.items[0].to = Some("2027-01-01".parse().unwrap());
        assert_ne!(turned.content(), put().content());
    }

    #[test]
    fn a_revision_is_a_moment_or_a_number_and_not_of_the_future() {
        let now: Time = "2026-06-01T12:00:00Z".parse().unwrap();
        assert_eq!(put().revised(now), Ok(Revision::Number(7)));
        let at = |text: &str| ContractPut { revision: None, revised_at: Some(text.parse().unwrap()), ..put() };
        assert_eq!(at("2026-06-02T14:00:00+02:00").revised(now), Ok(Revision::At(now.plus_days(1))));
        assert!(matches!(at("2026-06-02T12:00:01Z").revised(now), Err(RevisionError::Ahead(..))));
        assert_eq!(ContractPut { revised_at: Some(now), ..put() }.revised(now), Err(RevisionError::One));
        assert_eq!(ContractPut { revision: None, ..put() }.revised(now), Err(RevisionError::One));
        assert!(ContractPut { revision: Some(u64::MAX), ..put() }.revised(now).is_err());
    }
}
