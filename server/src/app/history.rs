//! A device's life: what it was, what it was told and offered, how it was covered, and what it was swapped with. It is told in pages, in the
//! order of keys that stay the same while more is added.

use sluice_catalog::principal::Permission;
use sluice_catalog::text::{ProductName, Serial};
use sluice_catalog::wire::entitlement::{DeviceEntry, DeviceEvent};
use sluice_catalog::{Reason, Time};

use super::{Actor, App};
use crate::error::{Error, Result};
use crate::poll::decided::Said;
use crate::store::DecisionRow;

/// Entries of one answer, and of each kind that are read for it.
pub const MAX_ENTRIES: u32 = 10_000;
/// Entries of one kind that may share a moment with the last one of the page before.
const SAME_MOMENT: u32 = 100;
/// Digits of a moment in a key: milliseconds until the year 9999, and a zero.
const KEY_DIGITS: usize = 15;

/// A page of a device's life.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    /// After the entry with this key.
    pub after: Option<String>,
    /// At most so many entries.
    pub limit: Option<u32>,
}

/// Entries with their keys: moment, kind, and what tells it from others of its kind.
#[derive(Default)]
struct Story(Vec<DeviceEntry>);

impl Story {
    fn tell(&mut self, at: Time, own: &str, event: DeviceEvent) {
        let kind = match &event {
            DeviceEvent::Changed { .. } => 0,
            DeviceEvent::Cover { .. } => 1,
            DeviceEvent::Swap { .. } => 2,
            DeviceEvent::Attempt { .. } => 3,
            DeviceEvent::Decision { .. } => 4,
        };
        self.0.push(DeviceEntry { key: format!("{:0KEY_DIGITS$}.{kind}.{own}", at.as_ms()), at, event });
    }
}

impl App {
    /// Everything that happened to a device, oldest first. Without a limit it is told all at once, and without what the device was told
    /// at its polls, as earlier clients know it.
    pub async fn device_story(
        &self,
        actor: &Actor,
        product: &ProductName,
        serial: &Serial,
        Pages { after, limit }: Pages,
    ) -> Result<Vec<DeviceEntry>> {
        let reach = actor.need_within(Permission::Read)?;
        let row = self.device_within(reach, product, serial).await?;
        let view = self.product_view(product)?;
        let since = self.device_since(reach, &row).await?;
        let after = after.unwrap_or_default();
        let from = match after.get(..KEY_DIGITS) {
            None if after.is_empty() => Time::EPOCH,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Time::from_ms(digits.parse().map_err(|error| Error::invalid("after", error))?)
            }
            _ => return Err(Error::invalid("after", "the key of an entry")),
        };
        let shown = limit.unwrap_or(MAX_ENTRIES).min(MAX_ENTRIES);
        let read = shown.saturating_add(SAME_MOMENT);
        let mut story = Story::default();
        // Before that it was another's: where its story begins for who may not see more.
        let from = since.map_or(from, |since| from.max(since.at));
        for moment in self.store.device_history(row.device.id, from, read).await? {
            if since.is_some_and(|since| moment.seq < since.seq) {
                continue;
            }
            let (device, installed, at) = (Box::new(moment.device()?), moment.installed()?, moment.at);
            let own = format!("{:012}", moment.seq);
            story.tell(at, &own, DeviceEvent::Changed { actor: moment.actor, cause: moment.cause, device, installed });
        }
        for attempt in self.store.attempt_told(row.device.id, MAX_ENTRIES).await? {
            let release = view.releases().iter().find(|release| release.release.id == attempt.release_id);
            let version = release.map(|release| release.release.version.to_string()).unwrap_or_default();
            let event = |state: &str| DeviceEvent::Attempt {
                attempt: attempt.seq,
                version: version.clone(),
                state: state.to_owned(),
                failure: None,
                detail: None,
                log: None,
            };
            let own = format!("{:012}", attempt.seq);
            story.tell(attempt.offered_at, &format!("{own}.0"), event("offered"));
            if attempt.changed_at != attempt.offered_at {
                let mut ended = event(attempt.state.as_str());
                if let DeviceEvent::Attempt { failure, detail, log, .. } = &mut ended {
                    *failure = attempt.failure.map(|failure| failure.as_str().to_owned());
                    // What a device wrote while it was another's is not for who has it now.
                    if since.is_none_or(|since| attempt.offered_at >= since.at) {
                        (*detail, *log) = (attempt.detail, attempt.log);
                    }
                }
                story.tell(attempt.changed_at, &format!("{own}.1"), ended);
            }
        }
        let contracts = self.store.contract_facts(product, serial, true).await?;
        let numbers = contracts.iter().map(|contract| contract.number.clone()).collect();
        let within = self.contracts_within(reach, numbers).await?;
        for contract in contracts.into_iter().filter(|contract| within.contains(&contract.number)) {
            let pairs =
                contract.items.iter().flat_map(|item| contract.windows.iter().map(move |window| (item, window)));
            for (number, (item, window)) in pairs.enumerate() {
                // A window counts as far as the item goes, since both are known and until one is not.
                let Some(both) = item.with(window, |item, window| (item.0.max(window.0), item.1.min(window.1))) else {
                    continue;
                };
                let (from, to) = both.fact;
                if from >= to {
                    continue;
                }
                let mut cover = |at: Time, change: &str| {
                    let (contract, change) = (contract.number.to_string(), change.to_owned());
                    let own = format!("{contract}.{number:06}.{change}");
                    story.tell(at, &own, DeviceEvent::Cover { contract, change, from, to });
                };
                cover(both.recorded_at, "recorded");
                if let Some(at) = both.superseded_at {
                    cover(at, "superseded");
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
            story.tell(swap.at, &format!("{}.0", swap.number), event("swapped"));
            if let Some(at) = swap.undone_at {
                story.tell(at, &format!("{}.1", swap.number), event("undone"));
            }
        }
        if limit.is_some() {
            for told in self.store.decision_list(row.device.id, from, read).await? {
                let known = Reason::ALL.iter().find(|reason| reason.code() == told.reason);
                let sentence = known.map_or("", |reason| reason.sentence()).to_owned();
                let DecisionRow { at, offered, version, reason, .. } = told;
                story.tell(at, "", DeviceEvent::Decision { offered, version, reason, sentence });
            }
        }
        let Story(mut entries) = story;
        let own = |entry: &DeviceEntry| {
            since.is_none_or(|since| entry.at >= since.at) || matches!(entry.event, DeviceEvent::Cover { .. })
        };
        entries.retain(|entry| entry.key > after && own(entry));
        entries.sort_by(|one, other| one.key.cmp(&other.key));
        entries.truncate(shown as usize);
        Ok(entries)
    }

    /// Writes what devices were told since the last call.
    pub async fn decisions_flush(&self) -> Result<()> {
        let said = self.devices.decided.take();
        if said.is_empty() {
            return Ok(());
        }
        let products = self.live.products_full();
        let row = |said: &Said| DecisionRow {
            device_id: said.device,
            at: said.at,
            offered: said.offered,
            version: said.about.and_then(|id| Some(products.release(id)?.1.release.version.clone())),
            reason: said.reason.code().to_owned(),
        };
        let rows: Vec<DecisionRow> = said.iter().map(row).collect();
        if let Err(error) = self.store.decisions_note(&rows).await {
            self.devices.decided.lost(&said);
            return Err(error.into());
        }
        Ok(())
    }
}
