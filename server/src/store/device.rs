//! Devices and what they run.

use std::fmt::Write as _;

use sluice_catalog::device::{Device, DeviceState, Installed};
use sluice_catalog::id::{CustomerId, DeviceId, ProductId, ReleaseId};
use sluice_catalog::text::{Serial, Slug, TrainName};
use sluice_catalog::{Mac, Time};

use super::sql::places;
use super::{On, Result, Sql, Store, Tx};

const COLUMNS: &str = "id, product_id, serial, hw_id, customer_id, site, tags, state, fence_at, public_key, epoch, \
                       cohort_id, channel, confirmed_train, attempt_seq, profile, ram_budget, scratch_budget, patches_off, \
                       created_at, signing_epoch, mac";

/// Which devices are listed: those of which everything given is true.
#[derive(Clone, Debug, Default)]
pub struct DeviceChoice {
    /// Of this product.
    pub product: Option<ProductId>,
    /// In this state, as it was last written.
    pub state: Option<DeviceState>,
    /// Of this customer.
    pub customer: Option<CustomerId>,
    /// With this address.
    pub mac: Option<Mac>,
}

/// A device with its revision, which every change raises: a cached copy with another one is stale.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct DeviceRow {
    /// The device.
    #[sqlx(flatten)]
    pub device: Device,
    /// Its revision.
    pub revision: i64,
    /// When it last polled; written late.
    pub last_seen_at: Option<Time>,
    /// Its owner's name.
    pub customer: Option<Slug>,
}

pub(super) const ROW: &str = "SELECT d.id, d.product_id, d.serial, d.hw_id, d.customer_id, d.site, d.tags, d.state, d.fence_at, d.public_key, \
                   d.epoch, d.cohort_id, d.channel, d.confirmed_train, d.attempt_seq, d.profile, d.ram_budget, \
                   d.scratch_budget, d.patches_off, d.created_at, d.signing_epoch, d.mac, d.revision, d.last_seen_at, c.name AS customer \
                   FROM device d LEFT JOIN customer c ON c.id = d.customer_id";

async fn by_serial<'a>(on: impl Into<On<'a>>, product: ProductId, serial: &Serial) -> Result<Option<DeviceRow>> {
    Sql::built(format!("{ROW} WHERE d.product_id = $1 AND d.serial = $2")).bind(product).bind(serial).optional(on).await
}

async fn installed_list<'a>(on: impl Into<On<'a>>, device: DeviceId) -> Result<Vec<Installed>> {
    Sql::new(
        "SELECT component, version, sha256, security_counter FROM installed WHERE device_id = $1 ORDER BY component",
    )
    .bind(device)
    .all(on)
    .await
}

impl Store {
    /// A device by id.
    pub async fn device_get(&self, id: DeviceId) -> Result<Option<DeviceRow>> {
        Sql::built(format!("{ROW} WHERE d.id = $1")).bind(id).optional(self).await
    }

    /// A device by serial.
    pub async fn device_by_serial(&self, product: ProductId, serial: &Serial) -> Result<Option<DeviceRow>> {
        by_serial(self, product, serial).await
    }

    /// Devices after an id, in the order of ids (that of registration), among those that are chosen.
    pub async fn device_list(&self, chosen: &DeviceChoice, after: Option<DeviceId>, limit: u32) -> Result<Vec<Device>> {
        let DeviceChoice { product, state, customer, mac } = chosen;
        let mut text = format!("SELECT {COLUMNS} FROM device WHERE id > $1");
        let mut place = 2;
        for (column, given) in [
            ("product_id", product.is_some()),
            ("state", state.is_some()),
            ("customer_id", customer.is_some()),
            ("mac", mac.is_some()),
        ] {
            if given {
                let _ = write!(text, " AND {column} = ${place}");
                place += 1;
            }
        }
        let _ = write!(text, " ORDER BY id LIMIT ${place}");
        let mut sql = Sql::built(text).bind(after.unwrap_or(DeviceId(uuid::Uuid::nil())));
        if let Some(product) = product {
            sql = sql.bind(*product);
        }
        if let Some(state) = state {
            sql = sql.bind(*state);
        }
        if let Some(customer) = customer {
            sql = sql.bind(*customer);
        }
        if let Some(mac) = mac {
            sql = sql.bind(mac);
        }
        sql.bind(i64::from(limit)).all(self).await
    }

    /// What a device runs.
    pub async fn installed_list(&self, device: DeviceId) -> Result<Vec<Installed>> {
        installed_list(self, device).await
    }

    /// Releases that a device tried and failed, with how often.
    /// By a moment, or by now.
    pub async fn failed_attempts(&self, device: DeviceId, by: Option<Time>) -> Result<Vec<(ReleaseId, i64)>> {
        Sql::new(
            "SELECT release_id, CAST(COUNT(*) AS BIGINT) FROM attempt
             WHERE device_id = $1 AND state IN ('failed', 'rolled_back') AND changed_at <= $2 GROUP BY release_id",
        )
        .bind(device)
        .bind(by.unwrap_or(Time::FOREVER))
        .all(self)
        .await
    }

    /// Devices that changed since a moment, with their revisions, at most `limit`.
    pub async fn device_changes(&self, since: Time, limit: u32) -> Result<Vec<(DeviceId, i64)>> {
        Sql::new("SELECT id, revision FROM device WHERE changed_at >= $1 LIMIT $2")
            .bind(since)
            .bind(i64::from(limit))
            .all(self)
            .await
    }

    /// Writes last-seen times in batches. They alone may be lost.
    pub async fn device_seen(&self, seen: &[(DeviceId, Time)]) -> Result<()> {
        let mut tx = self.begin().await?;
        for chunk in seen.chunks(500) {
            // A join against VALUES is the portable bulk update: both engines take it.
            let text = format!(
                "WITH seen (id, at) AS (VALUES {}) UPDATE device SET last_seen_at = (SELECT at FROM seen WHERE seen.id = \
                 device.id) WHERE id IN (SELECT id FROM seen)",
                places(chunk.len(), 2)
            );
            let mut sql = Sql::built(text);
            for (id, at) in chunk {
                sql = sql.bind(*id).bind(*at);
            }
            sql.execute(&mut tx).await?;
        }
        tx.commit().await
    }
}

impl Tx {
    /// How many devices of a product wait to be accepted, counted up to `limit`.
    pub async fn device_pending_count(&mut self, product: ProductId, limit: u32) -> Result<i64> {
        let (count,): (i64,) = Sql::new(
            "SELECT CAST(COUNT(*) AS BIGINT) FROM
                 (SELECT id FROM device WHERE product_id = $1 AND state = 'pending' LIMIT $2) AS waiting",
        )
        .bind(product)
        .bind(i64::from(limit))
        .one(self)
        .await?;
        Ok(count)
    }

    /// A device by serial.
    pub async fn device_by_serial(&mut self, product: ProductId, serial: &Serial) -> Result<Option<DeviceRow>> {
        by_serial(self, product, serial).await
    }

    /// A device by id.
    pub async fn device_get(&mut self, id: DeviceId) -> Result<Option<DeviceRow>> {
        Sql::built(format!("{ROW} WHERE d.id = $1")).bind(id).optional(self).await
    }

    /// Enters a device.
    pub async fn device_add(&mut self, device: &Device, at: Time) -> Result<()> {
        Sql::new(
            "INSERT INTO device (id, product_id, serial, hw_id, customer_id, site, tags, state, public_key, epoch,
                                 cohort_id, channel, confirmed_train, attempt_seq, profile, ram_budget, scratch_budget,
                                 patches_off, created_at, revision, changed_at, signing_epoch, mac)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, 1, $20, $21, $22)",
        )
        .bind(device.id)
        .bind(device.product_id)
        .bind(&device.serial)
        .bind(&device.hw_id)
        .bind(device.customer_id)
        .bind(device.site.as_ref())
        .bind(&device.tags)
        .bind(device.state)
        .bind(device.public_key.clone())
        .bind(device.epoch)
        .bind(device.cohort_id)
        .bind(device.channel)
        .bind(device.confirmed_train.as_ref())
        .bind(device.attempt_seq)
        .bind(device.profile)
        .bind(device.ram_budget)
        .bind(device.scratch_budget)
        .bind(device.patches_off)
        .bind(device.created_at)
        .bind(at)
        .bind(device.signing_epoch)
        .bind(device.mac.as_ref())
        .execute(self)
        .await
        .map(|_| ())
    }

    /// Writes where a device stands, its labels and its address.
    pub async fn device_placed(&mut self, device: &Device, at: Time) -> Result<()> {
        Sql::new(
            "UPDATE device SET site = $1, tags = $2, mac = $3, revision = revision + 1, changed_at = $4 WHERE id = $5",
        )
        .bind(device.site.as_ref())
        .bind(&device.tags)
        .bind(device.mac.as_ref())
        .bind(at)
        .bind(device.id)
        .execute(self)
        .await
        .map(|_| ())
    }

    /// Locks a device until the transaction ends: what is read of it from now on is what will be changed. On SQLite the
    /// one writer holds everything anyway.
    pub async fn device_lock(&mut self, id: DeviceId) -> Result<()> {
        Sql::new("UPDATE device SET revision = revision WHERE id = $1").bind(id).execute(self).await.map(|_| ())
    }

    /// Locks a device that still has this serial; false when it was erased meanwhile, or is gone.
    pub async fn device_lock_serial(&mut self, id: DeviceId, serial: &Serial) -> Result<bool> {
        let rows = Sql::new("UPDATE device SET revision = revision WHERE id = $1 AND serial = $2")
            .bind(id)
            .bind(serial)
            .execute(self)
            .await?;
        Ok(rows == 1)
    }

    /// Binds a key, hardware, state, customer and train at enrolment; false when a key was bound meanwhile.
    pub async fn device_enrolled(&mut self, device: &Device, at: Time) -> Result<bool> {
        let rows = Sql::new(
            "UPDATE device SET public_key = $1, hw_id = $2, state = $3, customer_id = $4, confirmed_train = $5,
                               revision = revision + 1, changed_at = $6
             WHERE id = $7 AND public_key IS NULL AND serial = $8",
        )
        .bind(device.public_key.clone())
        .bind(&device.hw_id)
        .bind(device.state)
        .bind(device.customer_id)
        .bind(device.confirmed_train.as_ref())
        .bind(at)
        .bind(device.id)
        .bind(&device.serial)
        .execute(self)
        .await?;
        Ok(rows == 1)
    }

    /// Moves a device in its life.
    pub async fn device_state(&mut self, id: DeviceId, state: DeviceState, at: Time) -> Result<()> {
        Sql::new("UPDATE device SET state = $1, revision = revision + 1, changed_at = $2 WHERE id = $3")
            .bind(state)
            .bind(at)
            .bind(id)
            .execute(self)
            .await
            .map(|_| ())
    }

    /// Raises a device's epoch: every session token it holds is dead, and a new key may enrol.
    pub async fn device_revoke(&mut self, id: DeviceId, at: Time) -> Result<()> {
        Sql::new(
            "UPDATE device SET epoch = epoch + 1, public_key = NULL, revision = revision + 1, changed_at = $1 WHERE id = $2",
        )
        .bind(at)
        .bind(id)
        .execute(self)
        .await
        .map(|_| ())
    }

    /// Keeps what a device says it runs, can decode and can verify.
    pub async fn device_reported(&mut self, device: &Device, installed: &[Installed], at: Time) -> Result<()> {
        let id = device.id;
        Sql::new("DELETE FROM installed WHERE device_id = $1").bind(id).execute(&mut *self).await?;
        for one in installed {
            Sql::new(
                "INSERT INTO installed (device_id, component, version, sha256, security_counter, reported_at)
                 VALUES ($1, $2, $3, $4, $5, $6)",
            )
            .bind(id)
            .bind(&one.component)
            .bind(&one.version)
            .bind(one.sha256)
            .bind(one.security_counter)
            .bind(at)
            .execute(&mut *self)
            .await?;
        }
        Sql::new(
            "UPDATE device SET profile = $1, ram_budget = $2, scratch_budget = $3, last_seen_at = $4,
                               revision = revision + 1, changed_at = $4, signing_epoch = $5 WHERE id = $6",
        )
        .bind(device.profile)
        .bind(device.ram_budget)
        .bind(device.scratch_budget)
        .bind(at)
        .bind(device.signing_epoch)
        .bind(id)
        .execute(self)
        .await
        .map(|_| ())
    }

    /// Records the train that a device confirmed, or was seen with at enrolment.
    pub async fn device_confirm_train(&mut self, id: DeviceId, train: &TrainName, at: Time) -> Result<()> {
        Sql::new("UPDATE device SET confirmed_train = $1, revision = revision + 1, changed_at = $2 WHERE id = $3")
            .bind(train)
            .bind(at)
            .bind(id)
            .execute(self)
            .await
            .map(|_| ())
    }

    /// Sends a device full images from now on.
    pub async fn device_patches_off(&mut self, id: DeviceId, at: Time) -> Result<()> {
        Sql::new("UPDATE device SET patches_off = $1, revision = revision + 1, changed_at = $2 WHERE id = $3")
            .bind(true)
            .bind(at)
            .bind(id)
            .execute(self)
            .await
            .map(|_| ())
    }

    /// What a device runs.
    pub async fn installed_list(&mut self, device: DeviceId) -> Result<Vec<Installed>> {
        installed_list(self, device).await
    }
}
