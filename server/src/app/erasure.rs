//! Erasure of a device that is out of service: its owner, its place, its key and its serial go; counts and history stay.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::Sha256;
use sluice_catalog::Kind;
use sluice_catalog::device::{Device, DeviceState};
use sluice_catalog::erasure::{ERASE_DEVICE, PREFIX, PSEUDONYM_HEX, Redaction, is_erased};
use sluice_catalog::id::ProductId;
use sluice_catalog::principal::Permission;
use sluice_catalog::text::{ProductName, Serial};
use sluice_catalog::wire::erasure::Erased;

use super::{Actor, App};
use crate::error::{Error, Result};
use crate::store::{Redacting, Tx};

/// Audit entries that one erasure alters: all of them are rewritten in one transaction, in which nobody else writes.
const MAX_ALTERED: usize = 100_000;
/// Altered entries that one audit entry names, so that each can be read in a page of the log.
const NAMED_AT_ONCE: usize = 1_000;
/// Devices with the same serial that are erased one after the other: a serial that comes back more often is a mistake somewhere.
const MAX_LIVES: u32 = 64;

/// Refuses a serial that is an erased device's.
pub(super) fn not_erased(serial: &Serial) -> Result<()> {
    if is_erased(serial) {
        return Err(Error::new(
            Kind::WrongState,
            format!(
                "{serial} is an erased device: it cannot be changed; a device that comes back is new, under its serial"
            ),
        ));
    }
    Ok(())
}

impl App {
    /// Erases a device by its serial. Again, by serial or by pseudonym, the answer is the same; by serial it also erases what somebody
    /// else wrote of it at the moment of the first time.
    pub async fn device_erase(&self, actor: &Actor, product: &ProductName, serial: &Serial) -> Result<Erased> {
        actor.need(Permission::Devices)?;
        let product_id = self.product_view(product)?.product.id;
        let not_found = || Error::not_found("device", format!("{product}/{serial}"));
        let now = self.now();
        let mut tx = self.store.begin().await?;
        if is_erased(serial) {
            tx.device_by_serial(product_id, serial).await?.ok_or_else(not_found)?;
            return Ok(Erased { product: product.clone(), serial: serial.clone() });
        }
        // Before the device, as whoever changes many devices does.
        tx.generation_raise("devices").await?;
        if let Some(row) = tx.device_by_serial(product_id, serial).await? {
            tx.device_lock(row.device.id).await?;
        }
        let there = tx.device_by_serial(product_id, serial).await?.map(|row| row.device);
        if let Some(device) = &there {
            let state = device.state_at(now);
            if !matches!(state, DeviceState::Retired | DeviceState::Replaced) {
                return Err(Error::new(
                    Kind::WrongState,
                    format!(
                        "{product}/{serial} is {}; only a retired or replaced device is erased: retire it first",
                        state.as_str()
                    ),
                ));
            }
        }
        let (pseudonym, erased) = self.pseudonym(&mut tx, product_id, serial).await?;
        let device = there.or(erased).ok_or_else(not_found)?;
        let redaction = Redaction { product, serial, pseudonym: &pseudonym };
        let erasing = Redacting { device: &device, redaction, at: now };
        let found = tx.device_erase(&erasing).await?;
        let altered = tx.audit_redact(&erasing, MAX_ALTERED).await?.ok_or_else(|| {
            Error::new(Kind::WrongState, format!("more than {MAX_ALTERED} audit entries name {product}/{serial}"))
        })?;
        let answer = Erased { product: product.clone(), serial: pseudonym.clone() };
        if !found && altered.is_empty() {
            return Ok(answer);
        }
        tx.generation_raise("rollouts").await?;
        tx.device_note(device.id, actor.name(), "erased", now).await?;
        let subject = format!("device:{product}/{pseudonym}");
        let mut parts: Vec<_> = altered.chunks(NAMED_AT_ONCE).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        for part in parts {
            tx.audit_add(now, actor.name(), ERASE_DEVICE, &subject, &json!({"altered": part})).await?;
        }
        tx.commit().await?;
        self.device_changed(device.id);
        self.devices.forget_all();
        self.refresh().await?;
        Ok(answer)
    }

    /// The pseudonym of the device that has this serial now, or of the last one that had it, with that device.
    async fn pseudonym(&self, tx: &mut Tx, product: ProductId, serial: &Serial) -> Result<(Serial, Option<Device>)> {
        let key = tx.pseudonym_key(&hex::encode(self.dice.bytes::<32>())).await?;
        let living = tx.device_by_serial(product, serial).await?.is_some();
        let mut last = None;
        for life in 0..MAX_LIVES {
            let pseudonym = pseudonym(&key, product, serial, life)?;
            match (tx.device_by_serial(product, &pseudonym).await?, living, last) {
                (Some(row), ..) => last = Some((pseudonym, row.device)),
                // An erased device keeps its own; one that came back under its serial gets the next.
                (None, false, Some((pseudonym, device))) => return Ok((pseudonym, Some(device))),
                (None, ..) => return Ok((pseudonym, None)),
            }
        }
        Err(Error::new(Kind::WrongState, format!("{MAX_LIVES} devices with this serial were erased already")))
    }
}

fn pseudonym(key: &str, product: ProductId, serial: &Serial, life: u32) -> Result<Serial> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).map_err(Error::internal)?;
    mac.update(product.0.as_bytes());
    mac.update(&life.to_be_bytes());
    mac.update(serial.as_str().as_bytes());
    let mut text = hex::encode(mac.finalize().into_bytes());
    text.truncate(PSEUDONYM_HEX);
    format!("{PREFIX}{text}").parse().map_err(Error::internal)
}
