//! Swaps (RMA): cover, policies, groups and the place in rollouts move to the device that replaces a broken one, in one
//! transaction, once for each number, and back again while both still work.

use serde_json::json;
use sluice_catalog::device::{Device, DeviceState};
use sluice_catalog::erasure::is_erased;
use sluice_catalog::id::{DeviceId, FactId, ProductId};
use sluice_catalog::policy::PolicyScope;
use sluice_catalog::principal::Permission;
use sluice_catalog::swap::{Before, DEFAULT_OVERLAP_DAYS, MAX_OVERLAP_DAYS, Moved, Swap, carry, exchange};
use sluice_catalog::text::Slug;
use sluice_catalog::wire::entitlement::SwapCreate;
use sluice_catalog::wire::event::EventData;
use sluice_catalog::{Kind, Time};

use super::notices::swap_event;
use super::{Actor, App, Made};
use crate::error::{Error, Result};
use crate::store::{SwapRow, Tx};

impl App {
    /// Swaps after a number.
    pub async fn swap_list(&self, actor: &Actor, after: &str, limit: u32) -> Result<Vec<Swap>> {
        actor.need(Permission::Read)?;
        let rows = self.store.swap_list(after, limit).await?;
        Ok(rows.into_iter().map(shown).collect())
    }

    /// A swap.
    pub async fn swap_get(&self, actor: &Actor, number: &Slug) -> Result<Swap> {
        actor.need(Permission::Read)?;
        let row = self.store.swap_by_number(number).await?.ok_or_else(|| Error::not_found("swap", number))?;
        Ok(shown(row))
    }

    /// Replaces a device. The same number with the same serials again changes nothing.
    pub async fn swap_create(&self, actor: &Actor, request: &SwapCreate) -> Result<Made<Swap>> {
        actor.need(Permission::Devices)?;
        actor.need(Permission::Contracts)?;
        let days = request.overlap_days.unwrap_or(DEFAULT_OVERLAP_DAYS);
        if days > MAX_OVERLAP_DAYS {
            return Err(Error::invalid("overlap_days", format!("0 to {MAX_OVERLAP_DAYS}")));
        }
        if request.old == request.new {
            return Err(Error::invalid("new", "is the old serial; a device does not replace itself"));
        }
        let now = self.now();
        let product = self.product_view(&request.product)?;
        let mut tx = self.store.begin().await?;
        if let Some(row) = tx.swap_by_number(&request.rma).await? {
            let same = row.product_id == product.product.id
                && row.old_serial == request.old
                && row.new_serial == request.new
                && row.undone_at.is_none();
            if same {
                return Ok(Made::Same(shown(row)));
            }
            return Err(Error::conflict(format!(
                "RMA {} is that of {} replaced by {}{}",
                row.number,
                row.old_serial,
                row.new_serial,
                if row.undone_at.is_some() { ", which was undone; take a new number" } else { "" }
            )));
        }
        let owners = tx.serial_customers(&request.product, &[&request.old, &request.new]).await?;
        tx.customers_lock(owners).await?;
        let name = || format!("{}/{}", request.product, request.old);
        let old =
            lock(&mut tx, product.product.id, request).await?.ok_or_else(|| Error::not_found("device", name()))?;
        if let Some(open) = tx.swap_replacing(old.id).await? {
            return Err(Error::conflict(format!("{} was replaced by RMA {} already", name(), open.number)));
        }
        if old.state != DeviceState::Active {
            return Err(Error::conflict(format!(
                "{} is {}; only a device in service can be replaced",
                name(),
                old.state.as_str()
            )));
        }
        let there = tx.device_by_serial(product.product.id, &request.new).await?.map(|row| row.device);
        let items = tx.serial_items(&request.product, &request.old).await?;
        check_new(&mut tx, request, &old, there.as_ref()).await?;
        let new = match &there {
            Some(device) => device.clone(),
            None => {
                let hw_id = request.hw_id.as_ref().unwrap_or(&old.hw_id);
                let device = self.blank_device(product.product.id, &request.new, hw_id, DeviceState::Active);
                tx.device_add(&device, now).await?;
                device
            }
        };
        let fence_at = now.plus_days(i64::from(days));
        let mut moved =
            Moved { old: Before::of(&old), new: there.as_ref().map(Before::of), superseded: vec![], recorded: vec![] };
        // A place of its own is free again: it takes over that of the old one.
        for item in tx.serial_items(&request.product, &request.new).await? {
            tx.facts_end(&[item.id], now).await?;
            moved.superseded.push(item.id);
        }
        let spans: Vec<_> = items.iter().map(|item| (item.id, (item.from_at, item.to_at))).collect();
        let carried = carry(&spans, fence_at);
        for (item, interval) in items.iter().zip(&carried.new) {
            let id = self.fact_id(now);
            let of = (item.contract_id, item.pool_id);
            tx.serial_item_add(id, of, (&request.product, &request.new), *interval, now).await?;
            moved.recorded.push(id);
        }
        for (cut, left) in &carried.cut {
            tx.facts_end(&[*cut], now).await?;
            moved.superseded.push(*cut);
            let of = items.iter().find(|item| item.id == *cut).map(|item| (item.contract_id, item.pool_id));
            if let (Some(interval), Some(of)) = (left, of) {
                let id = self.fact_id(now);
                tx.serial_item_add(id, of, (&request.product, &request.old), *interval, now).await?;
                moved.recorded.push(id);
            }
        }
        self.move_policies(&mut tx, request, &old, &mut moved, now).await?;
        let (replaced, new) = exchange(old.clone(), new, fence_at);
        for (device, cause) in [(&replaced, "replaced by"), (&new, "replaces")] {
            tx.device_swapped(device, now).await?;
            let other = if device.id == new.id { &request.old } else { &request.new };
            tx.device_note(device.id, actor.name(), &format!("{cause} {other}, RMA {}", request.rma), now).await?;
        }
        // It stands there in the other's place, also among those who wait.
        tx.device_sited_as(new.id, replaced.id).await?;
        self.pools_settle_for(&mut tx, &new, now).await?;
        if let Some(before) = there.as_ref().filter(|before| before.site != new.site) {
            self.pools_settle_for(&mut tx, before, now).await?;
        }
        tx.swap_add(&request.rma, (&replaced, &new), (now, fence_at), actor.name(), &moved).await?;
        let subject = format!("device:{}/{}", request.product, request.old);
        let detail = json!({"rma": request.rma, "new": request.new, "fence_at": fence_at, "items": items.len()});
        tx.audit_add(now, actor.name(), "device.swap", &subject, &detail).await?;
        let row = tx.swap_by_number(&request.rma).await?.ok_or_else(|| Error::not_found("swap", &request.rma))?;
        let told = swap_event(&row, old.customer_id, now, EventData::SwapStarted);
        tx.outbox_add(&[told], now).await?;
        tx.commit().await?;
        self.devices.forget_all();
        Ok(Made::New(self.swap_get(actor, &request.rma).await?))
    }

    /// Policies for the old serial alone go with it.
    async fn move_policies(
        &self,
        tx: &mut Tx,
        request: &SwapCreate,
        old: &Device,
        moved: &mut Moved,
        now: Time,
    ) -> Result<()> {
        let Some(owner) = old.customer_id else { return Ok(()) };
        for row in tx.policy_list(owner, now).await? {
            let of_old = row.scope == PolicyScope::Device
                && row.target == request.old.as_str()
                && row.product_id == Some(old.product_id);
            if of_old {
                let mut policy = row.policy()?;
                policy.id = self.fact_id(now);
                policy.recorded_at = now;
                tx.policy_add(owner, row.product_id, request.new.as_str(), &policy).await?;
                moved.recorded.push(policy.id);
            }
        }
        Ok(())
    }

    fn fact_id(&self, now: Time) -> FactId {
        FactId::new(now, self.dice.id())
    }

    /// Gives the old device back what it had, and the new one what it was, while the overlap lasts.
    pub async fn swap_undo(&self, actor: &Actor, number: &Slug) -> Result<Swap> {
        actor.need(Permission::Devices)?;
        actor.need(Permission::Contracts)?;
        let now = self.now();
        let mut tx = self.store.begin().await?;
        let row = tx.swap_by_number(number).await?.ok_or_else(|| Error::not_found("swap", number))?;
        if row.undone_at.is_some() {
            return Ok(shown(row));
        }
        if row.fence_at <= now {
            return Err(Error::conflict(format!(
                "the overlap of RMA {number} ended at {}; swap back under a new number instead",
                row.fence_at
            )));
        }
        let owners = tx.serial_customers(&row.product, &[&row.old_serial, &row.new_serial]).await?;
        tx.customers_lock(owners).await?;
        if !tx.swap_undone(number, now).await? {
            // Somebody else just did.
            drop(tx);
            return self.swap_get(actor, number).await;
        }
        for (id, serial) in [(row.new_id, &row.new_serial), (row.old_id, &row.old_serial)] {
            if let Some(later) = tx.swap_replacing(id).await? {
                return Err(Error::conflict(format!(
                    "{serial} was replaced since, by RMA {}; undo that first",
                    later.number
                )));
            }
        }
        let moved = row.moved()?;
        for id in &moved.recorded {
            // A place in a pool may have gone to another device since, or with its pool: whoever fills pools decides.
            if !tx.fact_stands(*id).await? && !tx.fact_is_place(*id).await? {
                return Err(Error::conflict(format!(
                    "what RMA {number} moved was changed since: correct the contracts by hand, or swap back under a new number"
                )));
            }
        }
        tx.facts_end(&moved.recorded, now).await?;
        let again: Vec<_> = moved.superseded.iter().map(|old| (*old, self.fact_id(now))).collect();
        tx.facts_again(&again, now).await?;
        // What an earlier swap recorded stands under other ids now: that must not keep it from being undone in turn.
        for earlier in tx.swaps_bringing(row.old_id).await? {
            let mut moved = earlier.moved()?;
            for id in &mut moved.recorded {
                *id = again.iter().find(|(old, _)| old == id).map_or(*id, |(_, new)| *new);
            }
            tx.swap_moved(&earlier.number, &moved).await?;
        }
        let gone = |device| Error::new(Kind::Internal, format!("device {device} of RMA {number} is gone"));
        for id in [row.old_id.min(row.new_id), row.old_id.max(row.new_id)] {
            tx.device_lock(id).await?;
        }
        let old = tx.device_get(row.old_id).await?.ok_or_else(|| gone(row.old_id))?.device;
        let new = tx.device_get(row.new_id).await?.ok_or_else(|| gone(row.new_id))?.device;
        if let Some(erased) = [&old.serial, &new.serial].into_iter().find(|serial| is_erased(serial)) {
            return Err(Error::conflict(format!("{erased} of RMA {number} was erased: there is nothing to give back")));
        }
        let owner = old.customer_id;
        let new_before = moved.new.unwrap_or_else(|| Before::nothing(old.cohort_id));
        for (device, before) in [(old, moved.old), (new, new_before)] {
            let device = before.give_back(device);
            tx.device_swapped(&device, now).await?;
            tx.device_note(device.id, actor.name(), &format!("RMA {number} undone"), now).await?;
        }
        let new_id = row.new_id;
        for id in [row.old_id, row.new_id] {
            if let Some(row) = tx.device_get(id).await? {
                if id == new_id && row.device.site.is_some() {
                    // Where it stood before it comes anew.
                    tx.device_sited(id, now).await?;
                }
                self.pools_settle_for(&mut tx, &row.device, now).await?;
            }
        }
        let subject = format!("device:{}/{}", row.product, row.old_serial);
        tx.audit_add(now, actor.name(), "device.swap_undo", &subject, &json!({"rma": number})).await?;
        tx.outbox_add(&[swap_event(&row, owner, now, EventData::SwapUndone)], now).await?;
        tx.commit().await?;
        self.devices.forget_all();
        self.swap_get(actor, number).await
    }
}

fn shown(row: SwapRow) -> Swap {
    Swap {
        rma: row.number,
        product: row.product,
        old: row.old_serial,
        new: row.new_serial,
        at: row.at,
        fence_at: row.fence_at,
        actor: row.actor,
        undone_at: row.undone_at,
    }
}

/// The new serial must be free: not in service elsewhere, under no contract, in no other swap.
async fn check_new(tx: &mut Tx, request: &SwapCreate, old: &Device, there: Option<&Device>) -> Result<()> {
    let name = format!("{}/{}", request.product, request.new);
    let items = tx.serial_items(&request.product, &request.new).await?;
    if items.iter().any(|item| item.pool_id.is_none()) {
        return Err(Error::conflict(format!("{name} is under a contract already")));
    }
    let Some(device) = there else { return Ok(()) };
    if let Some(open) = tx.swap_open(device.id).await? {
        return Err(Error::conflict(format!("{name} takes part in RMA {} already", open.number)));
    }
    if device.customer_id.is_some() && device.customer_id != old.customer_id {
        return Err(Error::conflict(format!("{name} belongs to another customer")));
    }
    if !matches!(device.state, DeviceState::Active | DeviceState::Pending) {
        return Err(Error::conflict(format!("{name} is {}", device.state.as_str())));
    }
    match &request.hw_id {
        Some(hw_id) if *hw_id != device.hw_id => {
            Err(Error::conflict(format!("{name} is registered with hardware {}, not {hw_id}", device.hw_id)))
        }
        _ => Ok(()),
    }
}

/// The old device, with both locked in the order of their ids until the transaction ends.
async fn lock(tx: &mut Tx, product: ProductId, request: &SwapCreate) -> Result<Option<Device>> {
    let Some(old) = tx.device_by_serial(product, &request.old).await? else { return Ok(None) };
    let new = tx.device_by_serial(product, &request.new).await?.map(|row| row.device.id);
    let mut ids: Vec<DeviceId> = new.into_iter().chain([old.device.id]).collect();
    ids.sort_unstable();
    for id in ids {
        tx.device_lock(id).await?;
    }
    Ok(tx.device_by_serial(product, &request.old).await?.map(|row| row.device))
}
