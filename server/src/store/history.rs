//! What each device was like when: one row for each change that can matter to a decision.

use sluice_catalog::Time;
use sluice_catalog::device::{Device, Installed};
use sluice_catalog::id::DeviceId;

use super::sql::json;
use super::{Result, Sql, Store, StoreError, Tx};

/// A device as it was.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct DeviceMoment {
    /// Its revision then.
    pub seq: i64,
    /// Since when it was so.
    pub at: Time,
    /// Who changed it.
    pub actor: String,
    /// What happened.
    pub cause: String,
    device: String,
    installed: String,
}

impl DeviceMoment {
    /// The record as it was.
    pub fn device(&self) -> Result<Device> {
        serde_json::from_str(&self.device).map_err(|error| StoreError::Corrupt(format!("device_history: {error}")))
    }

    /// What it ran.
    pub fn installed(&self) -> Result<Vec<Installed>> {
        serde_json::from_str(&self.installed).map_err(|error| StoreError::Corrupt(format!("device_history: {error}")))
    }
}

impl Store {
    /// A device as it was at a moment; nothing when it was not known then.
    pub async fn device_at(&self, id: DeviceId, at: Time) -> Result<Option<DeviceMoment>> {
        Sql::new(
            "SELECT seq, at, actor, cause, device, installed FROM device_history
             WHERE device_id = $1 AND at <= $2 ORDER BY seq DESC LIMIT 1",
        )
        .bind(id)
        .bind(at)
        .optional(self)
        .await
    }

    /// A device's changes after a revision, oldest first; the newest of very many.
    pub async fn device_history(&self, id: DeviceId, after: i64, limit: u32) -> Result<Vec<DeviceMoment>> {
        Sql::new(
            "SELECT seq, at, actor, cause, device, installed FROM device_history
             WHERE device_id = $1 AND seq > $2 ORDER BY seq DESC LIMIT $3",
        )
        .bind(id)
        .bind(after)
        .bind(i64::from(limit))
        .all(self)
        .await
        .map(|mut rows: Vec<DeviceMoment>| {
            rows.reverse();
            rows
        })
    }
}

impl Tx {
    /// Notes what a device is like after a change, in the transaction of the change.
    pub async fn device_note(&mut self, id: DeviceId, actor: &str, cause: &str, at: Time) -> Result<()> {
        let Some(row) = self.device_get(id).await? else { return Ok(()) };
        let installed = self.installed_list(id).await?;
        Sql::new(
            "INSERT INTO device_history (device_id, seq, at, actor, cause, device, installed)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (device_id, seq) DO UPDATE
             SET at = excluded.at, actor = excluded.actor, cause = excluded.cause, device = excluded.device,
                 installed = excluded.installed",
        )
        .bind(id)
        .bind(row.revision)
        .bind(at)
        .bind(actor)
        .bind(cause)
        .bind(json(&row.device)?)
        .bind(json(&installed)?)
        .execute(self)
        .await
        .map(|_| ())
    }
}
