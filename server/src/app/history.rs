//! A device's life: what it was, what it was offered, how it was covered, and what it was swapped with.

use sluice_catalog::Time;
use sluice_catalog::principal::Permission;
use sluice_catalog::text::{ProductName, Serial};
use sluice_catalog::wire::entitlement::{DeviceEntry, DeviceEvent};

use super::{Actor, App};
use crate::error::Result;

/// Entries of one kind that are shown; the oldest are left out beyond it.
const MAX_ENTRIES: u32 = 10_000;

impl App {
    /// Everything that happened to a device, oldest first.
    pub async fn device_story(
        &self,
        actor: &Actor,
        product: &ProductName,
        serial: &Serial,
    ) -> Result<Vec<DeviceEntry>> {
        actor.need(Permission::Read)?;
        let view = self.product_view(product)?;
        let row = self.device_row(product, serial).await?;
        let mut entries = Vec::new();
        for moment in self.store.device_history(row.device.id, 0, MAX_ENTRIES).await? {
            let (device, installed) = (Box::new(moment.device()?), moment.installed()?);
            let event = DeviceEvent::Changed { actor: moment.actor, cause: moment.cause, device, installed };
            entries.push(DeviceEntry { at: moment.at, event });
        }
        for attempt in self.store.attempt_list(row.device.id, MAX_ENTRIES).await? {
            let release = view.releases().iter().find(|release| release.release.id == attempt.release_id);
            let version = release.map(|release| release.release.version.to_string()).unwrap_or_default();
            let event = |state: &str, failure: Option<String>| DeviceEvent::Attempt {
                attempt: attempt.seq,
                version: version.clone(),
                state: state.to_owned(),
                failure,
            };
            entries.push(DeviceEntry { at: attempt.offered_at, event: event("offered", None) });
            if attempt.changed_at != attempt.offered_at {
                let failure = attempt.failure.map(|failure| failure.as_str().to_owned());
                entries.push(DeviceEntry { at: attempt.changed_at, event: event(attempt.state.as_str(), failure) });
            }
        }
        for contract in self.store.contract_facts(product, serial, true).await? {
            let mut cover = |at: Time, change: &str, (from, to): (Time, Time)| {
                let (contract, change) = (contract.number.to_string(), change.to_owned());
                entries.push(DeviceEntry { at, event: DeviceEvent::Cover { contract, change, from, to } });
            };
            for item in &contract.items {
                for window in &contract.windows {
                    // A window counts as far as the item goes, since both are known and until one is not.
                    let Some(both) = item.with(window, |item, window| (item.0.max(window.0), item.1.min(window.1)))
                    else {
                        continue;
                    };
                    if both.fact.0 >= both.fact.1 {
                        continue;
                    }
                    cover(both.recorded_at, "recorded", both.fact);
                    if let Some(at) = both.superseded_at {
                        cover(at, "superseded", both.fact);
                    }
                }
            }
        }
        for swap in self.store.swap_of(row.device.id).await? {
            let event = |change: &str| DeviceEvent::Swap {
                rma: swap.number.clone(),
                old: swap.old_serial.clone(),
                new: swap.new_serial.clone(),
                change: change.to_owned(),
            };
            entries.push(DeviceEntry { at: swap.at, event: event("swapped") });
            if let Some(at) = swap.undone_at {
                entries.push(DeviceEntry { at, event: event("undone") });
            }
        }
        entries.sort_by_key(|entry| entry.at);
        Ok(entries)
    }
}
