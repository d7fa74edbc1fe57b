//! Events as they are read, and the zone in which a contract's days are counted.

use serde_json::json;
use sluice_catalog::principal::Permission;
use sluice_catalog::text::{ContractNumber, Slug};
use sluice_catalog::wire::event::{Event, EventData, KINDS, ZoneSet};
use tokio::sync::watch;

use super::reach::Reach;
use super::{Actor, App};
use crate::error::{Error, Result};

/// Which events are asked for.
#[derive(Clone, Debug, Default)]
pub struct EventQuery {
    /// After this number.
    pub after: i64,
    /// Of this kind only.
    pub kind: Option<String>,
    /// Of this customer only.
    pub customer: Option<Slug>,
    /// At most so many.
    pub limit: u32,
}

impl App {
    /// Events in their order. Who is bound to a customer sees that customer's, or those of one within reach, without the names of
    /// rollouts.
    pub async fn event_list(&self, actor: &Actor, query: &EventQuery) -> Result<Vec<Event>> {
        let reach = actor.need_within(Permission::Read)?;
        if let Some(kind) = &query.kind
            && !KINDS.contains(&kind.as_str())
        {
            return Err(Error::invalid("kind", format!("one of {}", KINDS.join(", "))));
        }
        let customer = self.listed_for(reach, query.customer.as_ref()).await?;
        let mut events = self.store.outbox_list(query.after, query.kind.as_deref(), customer, query.limit).await?;
        if reach != Reach::Everything {
            for event in &mut events {
                if let EventData::VersionDenied(denied) = &mut event.data {
                    // Rollouts are named by those who run them, maybe after another customer.
                    denied.rollout = None;
                }
            }
        }
        Ok(events)
    }

    /// Tells of the newest number as it changes.
    pub fn events_watch(&self) -> watch::Receiver<i64> {
        self.notices.watch()
    }

    /// Looks for the newest number, for who waits and for the metrics.
    pub async fn events_look(&self) -> Result<()> {
        let newest = self.store.outbox_newest().await?;
        self.metrics.events_newest.set(newest);
        self.notices.seen(newest);
        Ok(())
    }

    /// Sets the zone of a contract.
    pub async fn contract_zone(&self, actor: &Actor, number: &ContractNumber, request: &ZoneSet) -> Result<ZoneSet> {
        actor.need(Permission::Contracts)?;
        if let Some(zone) = &request.zone {
            check_zone(zone)?;
        }
        let now = self.now();
        let mut tx = self.store.begin().await?;
        tx.contract_lock(number).await?;
        let contract = tx.contract_by_number(number).await?.ok_or_else(|| Error::not_found("contract", number))?;
        if self.store.contract_zone(contract.id).await? != request.zone {
            tx.contract_zone_set(contract.id, request.zone.as_deref()).await?;
            let subject = format!("contract:{number}");
            tx.audit_add(now, actor.name(), "contract.zone", &subject, &json!({"zone": request.zone})).await?;
            tx.commit().await?;
        }
        Ok(request.clone())
    }
}

fn check_zone(zone: &str) -> Result<()> {
    let shown: String = zone.chars().take(40).collect();
    jiff::tz::TimeZone::get(zone)
        .map(drop)
        .map_err(|_| Error::invalid("zone", format!("`{shown}`: an IANA name, such as Europe/Amsterdam")))
}
