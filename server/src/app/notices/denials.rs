//! Versions that were promised and are denied: offers that stand open, and what a rollout had brought to devices whose cover ends.

use std::sync::PoisonError;

use sluice_catalog::Reason;
use sluice_catalog::Time;
use sluice_catalog::decide::{DeviceView, ProductView, ReleaseView};
use sluice_catalog::id::{ContractId, DeviceId};
use sluice_catalog::notice::{denied, lost};
use sluice_catalog::rollout::Attempt;
use sluice_catalog::text::Slug;
use sluice_catalog::wire::event::{EventData, VersionDenied};

use super::{AT_ONCE, Look};
use crate::app::App;
use crate::error::Result;
use crate::store::NewEvent;

/// Devices with an open offer that one look asks about; the next look goes on behind them. So a look takes seconds, however many
/// offers stand open.
const OFFERS_A_LOOK: u32 = 1_000;
/// Devices of one contract that are asked about when its cover ends, in pages of as many.
const DEVICES_A_PAGE: u32 = 500;
/// Most devices of one contract: decisions for more would keep the look from everything else.
const MAX_DEVICES: usize = 100_000;

impl App {
    /// Looks at the next devices with an open offer.
    pub(super) async fn offer_notices(&self, look: Look) -> Result<u64> {
        let after = *self.notices.offers_after.lock().unwrap_or_else(PoisonError::into_inner);
        let ids = self.store.notice_open_attempts(after, look.floor, OFFERS_A_LOOK).await?;
        let next = match ids.last() {
            Some(last) if ids.len() == OFFERS_A_LOOK as usize => *last,
            // The end: the next look begins again.
            _ => DeviceId(uuid::Uuid::nil()),
        };
        *self.notices.offers_after.lock().unwrap_or_else(PoisonError::into_inner) = next;
        let products = self.live.products();
        let mut events = Vec::new();
        for id in ids {
            let Some(device) = self.device(id).await? else { continue };
            let (Some(attempt), Some(product)) = (&device.attempt, products.get(device.view.device.product_id)) else {
                continue;
            };
            let release = product.releases().iter().find(|release| release.release.id == attempt.release_id);
            if let Some(release) = release
                && let Some(reason) = denied(&device.view, product, release, look.now)
            {
                let rollout = product.rollouts.iter().find(|rollout| rollout.id == attempt.rollout_id);
                let rollout = rollout.map(|rollout| &rollout.name);
                events.push(event(&device.view, product, release, reason, look.now, Promise::Offer(attempt, rollout)));
            }
        }
        let mut written = 0;
        for page in events.chunks(AT_ONCE) {
            written += self.write(self.store.begin().await?, page, look.now).await?;
        }
        Ok(written)
    }

    /// What devices of a contract lose at a moment of which it is told: versions that their rollouts had brought to them, and that
    /// they never asked for.
    pub(super) async fn denials_at(
        &self,
        contract: ContractId,
        end: Time,
        at: Time,
        look: Look,
    ) -> Result<Vec<NewEvent>> {
        let products = self.live.products();
        let (mut events, mut seen) = (Vec::new(), 0);
        let mut after = DeviceId(uuid::Uuid::nil());
        loop {
            let ids = self.store.notice_device_ids(contract, end, after, DEVICES_A_PAGE).await?;
            for id in &ids {
                let Some(device) = self.device(*id).await? else { continue };
                let Some(product) = products.get(device.view.device.product_id) else { continue };
                let Some((release, rollout, reason)) = lost(&device.view, product, at) else { continue };
                let offered = device.attempt.as_ref().is_some_and(|open| open.release_id == release.release.id);
                // What was offered is told of by its attempt; what came back since is no loss.
                if !offered && denied(&device.view, product, release, look.now).is_some() {
                    events.push(event(&device.view, product, release, reason, at, Promise::Rollout(&rollout.name)));
                }
            }
            seen += ids.len();
            match ids.last() {
                Some(last) if ids.len() == DEVICES_A_PAGE as usize && seen < MAX_DEVICES => after = *last,
                _ => return Ok(events),
            }
        }
    }
}

/// How a version was promised.
#[derive(Clone, Copy)]
enum Promise<'a> {
    /// It was offered.
    Offer(&'a Attempt, Option<&'a Slug>),
    /// A rollout had brought it to the device.
    Rollout(&'a Slug),
}

fn event(
    device: &DeviceView,
    product: &ProductView,
    release: &ReleaseView,
    reason: Reason,
    at: Time,
    promise: Promise<'_>,
) -> NewEvent {
    let (name, serial, version) = (&product.product.name, &device.device.serial, &release.release.version);
    let (attempt, rollout, boundary) = match promise {
        Promise::Offer(attempt, rollout) => (Some(attempt.seq), rollout, format!("{version}|attempt {}", attempt.seq)),
        Promise::Rollout(rollout) => (None, Some(rollout), format!("{version}|{}", at.as_ms())),
    };
    let told = VersionDenied {
        product: name.clone(),
        serial: serial.clone(),
        version: version.clone(),
        reason,
        sentence: reason.sentence().to_owned(),
        attempt,
        rollout: rollout.cloned(),
    };
    let subject = format!("device:{name}/{serial}");
    NewEvent::new(subject, boundary, device.device.customer_id, at, EventData::VersionDenied(told))
}
