//! What each device was like when: one row for each change that can matter to a decision.

use std::collections::{BTreeSet, HashMap};

use sluice_catalog::Time;
use sluice_catalog::device::{Device, Installed};
use sluice_catalog::id::DeviceId;
use sluice_catalog::text::Version;

use super::sql::{json, list, places};
use super::{Result, Sql, Store, StoreError, Tx};

/// Decisions of one transaction: writers on SQLite wait for each other.
const DECISIONS_AT_ONCE: usize = 500;
/// Devices of which old decisions are dropped in one transaction, and decisions dropped in one: more would hold the database for seconds.
const PRUNED_DEVICES: i64 = 2_000;
const PRUNED_DECISIONS: i64 = 10_000;

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

/// What a device was told.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct DecisionRow {
    /// The device.
    pub device_id: DeviceId,
    /// Since when it was told so.
    pub at: Time,
    /// Whether it was offered a version.
    pub offered: bool,
    /// The version offered, or the one the reason is about.
    pub version: Option<Version>,
    /// The reason's code.
    pub reason: String,
}

impl DecisionRow {
    fn says_what(&self, other: &Self) -> bool {
        (self.offered, &self.version, &self.reason) == (other.offered, &other.version, &other.reason)
    }
}

impl Store {
    /// Notes what devices were told, in the order given: of each what differs from what it was told before. The same again changes
    /// nothing, and a device that is gone is passed over. The number of rows that are new.
    pub async fn decisions_note(&self, told: &[DecisionRow]) -> Result<u64> {
        let mut noted = 0;
        for chunk in told.chunks(DECISIONS_AT_ONCE) {
            let mut tx = self.begin().await?;
            let devices: BTreeSet<DeviceId> = chunk.iter().map(|row| row.device_id).collect();
            let rows: Vec<DecisionRow> = Sql::built(format!(
                "SELECT d.device_id, d.at, d.offered, d.version, d.reason FROM decision d WHERE d.device_id IN ({})
                 AND d.at = (SELECT MAX(m.at) FROM decision m WHERE m.device_id = d.device_id)",
                list(1, devices.len())
            ))
            .bind_all(devices)
            .all(&mut tx)
            .await?;
            let mut last: HashMap<DeviceId, DecisionRow> = rows.into_iter().map(|row| (row.device_id, row)).collect();
            let mut new = Vec::new();
            for row in chunk {
                let differs = last.get(&row.device_id).is_none_or(|last| last.at < row.at && !last.says_what(row));
                if differs {
                    last.insert(row.device_id, row.clone());
                    new.push(row);
                }
            }
            if new.is_empty() {
                continue;
            }
            let mut sql = Sql::built(format!(
                "WITH told (id, at, offered, version, reason) AS (VALUES {})
                 INSERT INTO decision (device_id, at, offered, version, reason)
                 SELECT id, at, offered, version, reason FROM told WHERE id IN (SELECT id FROM device)
                 ON CONFLICT (device_id, at) DO NOTHING",
                places(new.len(), 5)
            ));
            for row in new {
                sql =
                    sql.bind(row.device_id).bind(row.at).bind(row.offered).bind(row.version.as_ref()).bind(&row.reason);
            }
            noted += sql.execute(&mut tx).await?;
            tx.commit().await?;
        }
        Ok(noted)
    }

    /// Drops what devices after one were told before a moment, but for what each was told last before it: that held on. Devices are
    /// taken in pages, and a page once more while it has more than goes at once. How many went, and the device to go on behind;
    /// none when the next page is the first.
    pub async fn decisions_prune(&self, before: Time, after: Option<DeviceId>) -> Result<(u64, Option<DeviceId>)> {
        let nil = DeviceId(uuid::Uuid::nil());
        let ids: Vec<(DeviceId,)> = Sql::new("SELECT id FROM device WHERE id > $1 ORDER BY id LIMIT $2")
            .bind(after.unwrap_or(nil))
            .bind(PRUNED_DEVICES)
            .all(self)
            .await?;
        let Some((last,)) = ids.last().copied() else { return Ok((0, None)) };
        let mut tx = self.begin().await?;
        let gone = Sql::new(
            "DELETE FROM decision WHERE (device_id, at) IN (
                 SELECT d.device_id, d.at FROM decision d WHERE d.device_id > $1 AND d.device_id <= $2 AND d.at < $3
                 AND EXISTS (SELECT 1 FROM decision n WHERE n.device_id = d.device_id AND n.at > d.at AND n.at <= $3)
                 ORDER BY d.device_id, d.at LIMIT $4)",
        )
        .bind(after.unwrap_or(nil))
        .bind(last)
        .bind(before)
        .bind(PRUNED_DECISIONS)
        .execute(&mut tx)
        .await?;
        tx.commit().await?;
        let next = if gone >= PRUNED_DECISIONS.unsigned_abs() {
            after
        } else {
            Some(last).filter(|_| ids.len() as u64 >= PRUNED_DEVICES.unsigned_abs())
        };
        Ok((gone, next))
    }

    /// What a device was told from a moment on, oldest first.
    pub async fn decision_list(&self, device: DeviceId, from: Time, limit: u32) -> Result<Vec<DecisionRow>> {
        Sql::new(
            "SELECT device_id, at, offered, version, reason FROM decision WHERE device_id = $1 AND at >= $2
             ORDER BY at LIMIT $3",
        )
        .bind(device)
        .bind(from)
        .bind(i64::from(limit))
        .all(self)
        .await
    }

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

    /// A device's changes before one of them, newest first.
    pub async fn device_changes_before(&self, id: DeviceId, seq: i64, limit: u32) -> Result<Vec<DeviceMoment>> {
        Sql::new(
            "SELECT seq, at, actor, cause, device, installed FROM device_history
             WHERE device_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3",
        )
        .bind(id)
        .bind(seq)
        .bind(i64::from(limit))
        .all(self)
        .await
    }

    /// A device's changes from a moment on, oldest first.
    pub async fn device_history(&self, id: DeviceId, from: Time, limit: u32) -> Result<Vec<DeviceMoment>> {
        Sql::new(
            "SELECT seq, at, actor, cause, device, installed FROM device_history
             WHERE device_id = $1 AND at >= $2 ORDER BY at, seq LIMIT $3",
        )
        .bind(id)
        .bind(from)
        .bind(i64::from(limit))
        .all(self)
        .await
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
