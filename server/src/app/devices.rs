//! Devices as administrators see them, and what devices say they run.

use serde_json::json;
use sluice_catalog::device::{DecoderProfile, Device, DeviceState, Installed};
use sluice_catalog::id::{CohortId, DeviceId};
use sluice_catalog::principal::Permission;
use sluice_catalog::product::Channel;
use sluice_catalog::text::{ProductName, Serial, Slug};
use sluice_catalog::wire::admin::{DeviceCreate, DeviceDetail, DevicePatch, DeviceStateChange};
use sluice_catalog::wire::device::{MAX_COMPONENTS, PollRequest};
use sluice_catalog::{Mac, TextSet};
use sluice_signer::limits::MAX_EPOCH;

use super::erasure::not_erased;
use super::{Actor, App, Made};
use crate::error::{Error, Result};
use crate::jobs;
use crate::store::{DeviceChoice, DeviceRow, Tx};

/// Most tags on a device.
const MAX_TAGS: usize = 32;
/// Attempts shown with a device.
const ATTEMPTS_SHOWN: u32 = 20;

impl App {
    /// Devices after an id, of one customer or, for who is bound to none, of all.
    pub async fn device_list(
        &self,
        actor: &Actor,
        product: Option<&ProductName>,
        (state, mac): (Option<DeviceState>, Option<Mac>),
        customer: Option<&Slug>,
        after: Option<DeviceId>,
        limit: u32,
    ) -> Result<Vec<Device>> {
        let reach = actor.need_within(Permission::Read)?;
        let customer = self.listed_for(reach, customer).await?;
        let product = match product {
            Some(name) => Some(self.product_view(name)?.product.id),
            None => None,
        };
        Ok(self.store.device_list(&DeviceChoice { product, state, customer, mac }, after, limit).await?)
    }

    /// A device with what it runs and its last attempts.
    pub async fn device_get(&self, actor: &Actor, product: &ProductName, serial: &Serial) -> Result<DeviceDetail> {
        let reach = actor.need_within(Permission::Read)?;
        let row = self.device_within(reach, product, serial).await?;
        let installed = self.store.installed_list(row.device.id).await?;
        let mut attempts = self.store.attempt_told(row.device.id, ATTEMPTS_SHOWN).await?;
        if let Some(since) = self.device_since(reach, &row).await? {
            attempts.retain(|attempt| attempt.offered_at >= since.at);
        }
        Ok(DeviceDetail {
            product: product.clone(),
            last_seen_at: row.last_seen_at,
            device: row.device,
            installed,
            attempts,
        })
    }

    pub(super) async fn device_row(&self, product: &ProductName, serial: &Serial) -> Result<DeviceRow> {
        let id = self.product_view(product)?.product.id;
        self.store
            .device_by_serial(id, serial)
            .await?
            .ok_or_else(|| Error::not_found("device", format!("{product}/{serial}")))
    }

    /// Locks a device whose row was read before the transaction began: if it was erased since, nothing may name it any more.
    pub(super) async fn device_locked(&self, tx: &mut Tx, product: &ProductName, device: &Device) -> Result<()> {
        if tx.device_lock_serial(device.id, &device.serial).await? {
            return Ok(());
        }
        Err(Error::not_found("device", format!("{product}/{}", device.serial)))
    }

    /// Registers a serial beforehand: it becomes active when it enrols.
    pub async fn device_create(&self, actor: &Actor, request: &DeviceCreate) -> Result<Made<Device>> {
        actor.need(Permission::Devices)?;
        not_erased(&request.serial)?;
        check_tags(&request.tags)?;
        let now = self.now();
        let product = self.product_view(&request.product)?;
        let mut tx = self.store.begin().await?;
        let customer = match &request.customer {
            Some(name) => Some(tx.customer_by_name(name).await?.ok_or_else(|| Error::not_found("customer", name))?.id),
            None => None,
        };
        if let Some(there) = tx.device_by_serial(product.product.id, &request.serial).await? {
            let d = there.device;
            let same = d.hw_id == request.hw_id
                && d.customer_id == customer
                && d.site == request.site
                && d.mac == request.mac
                && d.tags == request.tags;
            if same && d.state != DeviceState::Pending {
                return Ok(Made::Same(d));
            }
            return Err(Error::conflict(format!(
                "there is a device {}/{} already, {}",
                request.product,
                request.serial,
                d.state.as_str()
            )));
        }
        let device = Device {
            customer_id: customer,
            site: request.site.clone(),
            mac: request.mac.clone(),
            tags: request.tags.clone(),
            confirmed_train: request.train.clone(),
            ..self.blank_device(product.product.id, &request.serial, &request.hw_id, DeviceState::Active)
        };
        tx.device_add(&device, now).await?;
        self.pools_settle_for(&mut tx, &device, now).await?;
        tx.device_note(device.id, actor.name(), "registered", now).await?;
        let subject = format!("device:{}/{}", request.product, request.serial);
        let detail = json!({"hw_id": device.hw_id, "customer": request.customer, "site": device.site, "mac": device.mac, "train": device.confirmed_train});
        tx.audit_add(now, actor.name(), "device.create", &subject, &detail).await?;
        tx.commit().await?;
        Ok(Made::New(device))
    }

    /// A new device without a key.
    pub(super) fn blank_device(
        &self,
        product_id: sluice_catalog::id::ProductId,
        serial: &Serial,
        hw_id: &sluice_catalog::text::HardwareId,
        state: DeviceState,
    ) -> Device {
        let now = self.now();
        let id = DeviceId::new(now, self.dice.id());
        Device {
            id,
            product_id,
            serial: serial.clone(),
            hw_id: hw_id.clone(),
            mac: None,
            customer_id: None,
            site: None,
            tags: TextSet::default(),
            state,
            fence_at: None,
            public_key: None,
            epoch: 1,
            signing_epoch: 1,
            // Its own until a swap gives it another's place.
            cohort_id: CohortId(id.0),
            channel: Channel::Stable,
            confirmed_train: None,
            attempt_seq: 0,
            profile: DecoderProfile::Raw,
            ram_budget: 0,
            scratch_budget: 0,
            patches_off: false,
            created_at: now,
        }
    }

    /// Changes where a device stands, its labels and its address. The same again changes nothing.
    pub async fn device_patch(
        &self,
        actor: &Actor,
        product: &ProductName,
        serial: &Serial,
        request: &DevicePatch,
    ) -> Result<Device> {
        actor.need(Permission::Devices)?;
        not_erased(serial)?;
        if let Some(tags) = &request.tags {
            check_tags(tags)?;
        }
        let now = self.now();
        let known = self.device_row(product, serial).await?.device;
        let mut tx = self.store.begin().await?;
        // Before the device, as whoever changes many devices does.
        tx.generation_raise("devices").await?;
        tx.customers_lock(known.customer_id).await?;
        self.device_locked(&mut tx, product, &known).await?;
        let not_found = || Error::not_found("device", format!("{product}/{serial}"));
        let before = tx.device_get(known.id).await?.ok_or_else(not_found)?.device;
        if before.customer_id != known.customer_id {
            return Err(Error::conflict(format!("{product}/{serial} was given to another owner just now; ask again")));
        }
        let after = Device {
            site: request.site.of(before.site.as_ref()),
            tags: request.tags.clone().unwrap_or_else(|| before.tags.clone()),
            mac: request.mac.of(before.mac.as_ref()),
            ..before.clone()
        };
        if after == before {
            return Ok(before);
        }
        tx.device_placed(&after, now).await?;
        if after.site != before.site {
            // It comes after those who stood there before, and its place where it was is free.
            tx.device_sited(before.id, now).await?;
            self.pools_settle_for(&mut tx, &before, now).await?;
            self.pools_settle_for(&mut tx, &after, now).await?;
        }
        tx.device_note(before.id, actor.name(), "moved or labelled", now).await?;
        let mut detail = serde_json::Map::new();
        for (name, from, to) in [
            ("site", json!(before.site), json!(after.site)),
            ("tags", json!(before.tags), json!(after.tags)),
            ("mac", json!(before.mac), json!(after.mac)),
        ] {
            if from != to {
                detail.insert(name.to_owned(), json!({"from": from, "to": to}));
            }
        }
        let subject = format!("device:{product}/{serial}");
        tx.audit_add(now, actor.name(), "device.patch", &subject, &detail.into()).await?;
        tx.commit().await?;
        if after.site != before.site {
            self.devices.forget_all();
        }
        self.device_changed(before.id);
        Ok(after)
    }

    /// Accepts, blocks or retires a device.
    pub async fn device_state(
        &self,
        actor: &Actor,
        product: &ProductName,
        serial: &Serial,
        request: &DeviceStateChange,
    ) -> Result<Device> {
        actor.need(Permission::Devices)?;
        not_erased(serial)?;
        if !matches!(request.state, DeviceState::Active | DeviceState::Blocked | DeviceState::Retired) {
            return Err(Error::invalid("state", "active, blocked or retired"));
        }
        let now = self.now();
        let mut device = self.device_row(product, serial).await?.device;
        if device.state == request.state {
            return Ok(device);
        }
        let mut tx = self.store.begin().await?;
        tx.customers_lock(device.customer_id).await?;
        self.device_locked(&mut tx, product, &device).await?;
        if let Some(row) = tx.device_get(device.id).await? {
            device = row.device;
        }
        tx.device_state(device.id, request.state, now).await?;
        self.pools_settle_for(&mut tx, &device, now).await?;
        tx.device_note(device.id, actor.name(), "state changed", now).await?;
        let detail = json!({"from": device.state, "to": request.state});
        tx.audit_add(now, actor.name(), "device.state", &format!("device:{product}/{serial}"), &detail).await?;
        tx.commit().await?;
        if device.site.is_some() {
            // A place in a pool may have gone to another device.
            self.devices.forget_all();
        }
        self.device_changed(device.id);
        device.state = request.state;
        Ok(device)
    }

    /// Ends every session of a device and forgets its key: the next enrolment binds a new one.
    pub async fn device_revoke(&self, actor: &Actor, product: &ProductName, serial: &Serial) -> Result<Device> {
        actor.need(Permission::Devices)?;
        not_erased(serial)?;
        let now = self.now();
        let row = self.device_row(product, serial).await?;
        let mut tx = self.store.begin().await?;
        self.device_locked(&mut tx, product, &row.device).await?;
        tx.device_revoke(row.device.id, now).await?;
        tx.device_note(row.device.id, actor.name(), "key revoked", now).await?;
        let subject = format!("device:{product}/{serial}");
        tx.audit_add(now, actor.name(), "device.revoke", &subject, &json!({"epoch": row.device.epoch + 1})).await?;
        tx.commit().await?;
        self.device_changed(row.device.id);
        Ok(self.device_row(product, serial).await?.device)
    }

    /// Keeps what a device says in a poll, if it differs from what is known; durable before the poll is answered. The
    /// versions in the field decide which patches are built, so a new one enqueues its jobs here.
    pub async fn device_reported(&self, device: &Device, before: &[Installed], poll: &PollRequest) -> Result<bool> {
        let installed = installed_from(&poll.installed)?;
        if !(1..=MAX_EPOCH).contains(&u64::from(poll.epoch)) {
            return Err(Error::invalid("epoch", format!("1 to {MAX_EPOCH}")));
        }
        let said = Device {
            profile: poll.profile,
            ram_budget: i64::from(poll.ram_budget),
            scratch_budget: i64::from(poll.scratch_budget),
            // One that claims more than there is gets the newest; what it said is kept as it said it.
            signing_epoch: i32::try_from(poll.epoch).map_err(Error::internal)?,
            ..device.clone()
        };
        if before == installed.as_slice() && *device == said {
            return Ok(false);
        }
        let now = self.now();
        let mut tx = self.store.begin().await?;
        tx.device_reported(&said, &installed, now).await?;
        // What it can decode decides about encodings alone, and may be another with every poll.
        if before != installed.as_slice() {
            self.went_back(&mut tx, device, &installed, now).await?;
        }
        if before != installed.as_slice() || device.signing_epoch != said.signing_epoch {
            tx.device_note(device.id, "device", "reported", now).await?;
        }
        for one in &installed {
            // A device that decodes something else from now on wants other patches from the same image.
            if !before.contains(one) || device.profile != poll.profile {
                jobs::patch::enqueue_from(self, &mut tx, device.product_id, &one.component, one.sha256, poll.profile)
                    .await?;
            }
        }
        tx.commit().await?;
        Ok(true)
    }
}

fn check_tags(tags: &TextSet) -> Result<()> {
    if tags.0.len() > MAX_TAGS {
        return Err(Error::invalid("tags", format!("{}, at most {MAX_TAGS}", tags.0.len())));
    }
    for tag in tags.iter() {
        tag.parse::<Slug>().map_err(|error| Error::invalid("tags", error))?;
    }
    Ok(())
}

/// What a device says it runs, in the order of components as the database keeps it.
pub(super) fn installed_from(
    reports: &std::collections::BTreeMap<
        sluice_catalog::text::Component,
        sluice_catalog::wire::device::InstalledReport,
    >,
) -> Result<Vec<Installed>> {
    if reports.len() > MAX_COMPONENTS {
        return Err(Error::invalid("installed", format!("{} components, at most {MAX_COMPONENTS}", reports.len())));
    }
    Ok(reports
        .iter()
        .map(|(component, report)| Installed {
            component: component.clone(),
            version: report.version.clone(),
            sha256: report.sha256,
            security_counter: i64::from(report.security_counter),
        })
        .collect())
}
