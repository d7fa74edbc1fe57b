//! Notices: one replica looks every minute at what came near its end, was gained or was taken back since it last looked, and
//! writes it to the outbox, once. What passed while no server ran is found by the next look.

mod covers;
mod denials;

use std::sync::{Mutex, PoisonError};

use sluice_catalog::Time;
use sluice_catalog::id::DeviceId;
use sluice_catalog::wire::event::{EventData, SwapNotice};
use tokio::sync::watch;

use super::App;
use crate::error::Result;
use crate::failpoint::failpoint;
use crate::store::{NewEvent, SwapRow, Tx};

/// The lease of who looks.
pub const NOTICES_LEASE: &str = "notices";
/// The replica that looks renews its lease every minute; one that missed two is gone.
pub const NOTICES_LEASE_S: i64 = 150;
/// Each look goes back so far behind the one before: longer than any transaction of ours stays open, and than clocks of replicas
/// differ.
const OVERLAP_MS: i64 = 120_000;
/// Contracts planned before one transaction is written.
const PAGE: u32 = 200;
/// Events of one transaction: it holds the head of their sequence, and on SQLite every other change waits for it.
const AT_ONCE: usize = 500;
/// Keys of the settings that say since when this installation tells, and up to when it has looked.
const SINCE: &str = "notices_since";
const LOOKED: &str = "notices_looked";

/// What this replica knows about events.
#[derive(Debug)]
pub struct Notices {
    /// Where the look at open offers goes on.
    offers_after: Mutex<DeviceId>,
    /// Behind which device the next look drops old decisions; from the first one when there is none.
    prune_after: Mutex<Option<DeviceId>>,
    /// The newest number that was seen: who waits for events waits for it.
    newest: watch::Sender<i64>,
}

impl Default for Notices {
    fn default() -> Self {
        Self {
            offers_after: Mutex::new(DeviceId(uuid::Uuid::nil())),
            prune_after: Mutex::new(None),
            newest: watch::Sender::new(0),
        }
    }
}

impl Notices {
    /// Tells of the newest number as it changes.
    pub(super) fn watch(&self) -> watch::Receiver<i64> {
        self.newest.subscribe()
    }

    /// Notes the newest number.
    pub(super) fn seen(&self, newest: i64) {
        self.newest.send_if_modified(|seen| std::mem::replace(seen, newest) != newest);
    }
}

/// What one look looks at.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// Nothing of before is told: this installation did not tell then, or what it told is dropped already.
    floor: Time,
    /// What happened since then may not have been told.
    from: Time,
    now: Time,
}

impl App {
    /// Begins to tell, when this installation never did: what passed before is history.
    pub async fn notices_begin(&self) -> Result<()> {
        let mut tx = self.store.begin().await?;
        if tx.meta_get(SINCE).await?.is_none() {
            tx.meta_put(SINCE, &self.now().as_ms().to_string()).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Looks for what is to be told and writes it; how many events were new. Only the replica with the lease does.
    pub async fn notices_tick(&self) -> Result<u64> {
        let (now, replica) = (self.now(), self.publisher.replica.as_str());
        if !self.store.lease_take(NOTICES_LEASE, replica, now, now.plus_s(NOTICES_LEASE_S)).await? {
            return Ok(0);
        }
        failpoint("notices.after_lease");
        let mut tx = self.store.begin().await?;
        let since = moment(tx.meta_get(SINCE).await?).unwrap_or(now);
        let looked = moment(tx.meta_get(LOOKED).await?).unwrap_or(since);
        drop(tx);
        let floor = since.max(self.events_kept_from(now));
        let look = Look { floor, from: looked.plus_ms(-OVERLAP_MS).max(floor), now };
        self.pools_renew(look.from, now).await?;
        let mut written = self.cover_notices(look).await?;
        written += self.fence_notices(look).await?;
        written += self.offer_notices(look).await?;
        let mut tx = self.store.begin().await?;
        if !tx.lease_held(NOTICES_LEASE, replica, now).await? {
            // Another replica took over, and looks at the same time again.
            return Ok(written);
        }
        tx.meta_put(LOOKED, &now.as_ms().to_string()).await?;
        tx.outbox_prune(self.events_kept_from(now)).await?;
        tx.commit().await?;
        self.events_look().await?;
        self.decisions_prune(now).await?;
        Ok(written)
    }

    /// Drops what devices were told too long ago: the next page of them.
    async fn decisions_prune(&self, now: Time) -> Result<()> {
        let before = now.plus_days(-i64::from(self.rules.decisions_days));
        let after = *self.notices.prune_after.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, next) = self.store.decisions_prune(before, after).await?;
        *self.notices.prune_after.lock().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// Gives the lease back, so that another replica looks at once when this one stops.
    pub async fn notices_stop(&self) -> Result<()> {
        Ok(self.store.lease_give(NOTICES_LEASE, &self.publisher.replica).await?)
    }

    /// From when on events are kept.
    fn events_kept_from(&self, now: Time) -> Time {
        now.plus_days(-i64::from(self.rules.events_days))
    }

    async fn fence_notices(&self, look: Look) -> Result<u64> {
        let mut events = Vec::new();
        for swap in self.store.notice_fences(look.from, look.now).await? {
            events.push(self.swap_event(&swap, swap.fence_at, EventData::SwapFenced).await?);
        }
        let mut written = 0;
        for page in events.chunks(AT_ONCE) {
            let mut tx = self.store.begin().await?;
            let mut standing = Vec::new();
            for event in page {
                // The overlap may have been ended by an undoing since.
                if let EventData::SwapFenced(swap) = &event.data
                    && tx.swap_by_number(&swap.rma).await?.is_some_and(|row| row.undone_at.is_none())
                {
                    standing.push(event.clone());
                }
            }
            written += self.write(tx, &standing, look.now).await?;
        }
        Ok(written)
    }

    /// What is told of a swap, under the customer of the device that was replaced.
    async fn swap_event(&self, swap: &SwapRow, at: Time, data: fn(SwapNotice) -> EventData) -> Result<NewEvent> {
        let owner = self.store.device_get(swap.old_id).await?.and_then(|row| row.device.customer_id);
        Ok(swap_event(swap, owner, at, data))
    }

    /// Writes events in a transaction that ends here, if this replica still has the lease.
    async fn write(&self, mut tx: Tx, events: &[NewEvent], now: Time) -> Result<u64> {
        if events.is_empty() || !tx.lease_held(NOTICES_LEASE, &self.publisher.replica, now).await? {
            return Ok(0);
        }
        let written = tx.outbox_add(events, now).await?;
        failpoint("notices.before_commit");
        tx.commit().await?;
        failpoint("notices.after_commit");
        Ok(written)
    }
}

/// The event of a swap.
pub(super) fn swap_event(
    swap: &SwapRow,
    owner: Option<sluice_catalog::id::CustomerId>,
    at: Time,
    data: fn(SwapNotice) -> EventData,
) -> NewEvent {
    let notice = SwapNotice {
        rma: swap.number.clone(),
        product: swap.product.clone(),
        old: swap.old_serial.clone(),
        new: swap.new_serial.clone(),
        fence_at: swap.fence_at,
    };
    NewEvent::new(format!("device:{}/{}", swap.product, swap.old_serial), &swap.number, owner, at, data(notice))
}

fn moment(text: Option<String>) -> Option<Time> {
    text.and_then(|ms| ms.parse().ok()).map(Time::from_ms)
}
