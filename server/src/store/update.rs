//! Versions that somebody asked for at once, device by device.

use std::collections::HashMap;

use sluice_catalog::Time;
use sluice_catalog::id::{DeviceId, FactId};
use sluice_catalog::policy::{Policy, PolicyKind, PolicyScope};
use sluice_catalog::text::{Slug, Version};

use super::sql::list;
use super::{On, Result, Sql, Store, Tx};

const COLUMNS: &str = "id, device_id, version, owner, reason, from_at, to_at, recorded_at";

#[derive(sqlx::FromRow)]
struct Row {
    id: FactId,
    device_id: DeviceId,
    version: Version,
    owner: Slug,
    reason: String,
    from_at: Time,
    to_at: Time,
    recorded_at: Time,
}

impl Row {
    fn policy(self) -> Policy {
        let Self { id, version, owner, reason, from_at, to_at, recorded_at, .. } = self;
        let kind = PolicyKind::UpdateNow { version };
        Policy { id, scope: PolicyScope::Device, kind, owner, reason, from_at, to_at, recorded_at }
    }
}

/// What was asked for at once for each of these devices, and not taken back.
pub async fn updates_of(on: &mut On<'_>, devices: &[DeviceId]) -> Result<HashMap<DeviceId, Policy>> {
    let rows: Vec<Row> = Sql::built(format!(
        "SELECT {COLUMNS} FROM device_update WHERE superseded_at IS NULL AND device_id IN ({}) ORDER BY id",
        list(1, devices.len())
    ))
    .bind_all(devices.iter().copied())
    .all(on)
    .await?;
    Ok(rows.into_iter().map(|row| (row.device_id, row.policy())).collect())
}

impl Store {
    /// What was asked for at once for a device, by what was known at a moment or is known now.
    pub async fn updates_known(&self, device: DeviceId, known_at: Option<Time>) -> Result<Option<Policy>> {
        let row: Option<Row> = Sql::built(format!(
            "SELECT {COLUMNS} FROM device_update
             WHERE device_id = $1 AND recorded_at <= $2 AND (superseded_at IS NULL OR superseded_at > $2)
             ORDER BY id DESC LIMIT 1"
        ))
        .bind(device)
        .bind(known_at.unwrap_or(Time::FOREVER))
        .optional(self)
        .await?;
        Ok(row.map(Row::policy))
    }
}

impl Tx {
    /// Asks for a version at once for a device, in place of what was asked for before.
    pub async fn update_set(&mut self, device: DeviceId, version: &Version, policy: &Policy) -> Result<()> {
        self.update_end(device, policy.recorded_at).await?;
        Sql::built(format!("INSERT INTO device_update ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"))
            .bind(policy.id)
            .bind(device)
            .bind(version)
            .bind(&policy.owner)
            .bind(policy.reason.as_str())
            .bind(policy.from_at)
            .bind(policy.to_at)
            .bind(policy.recorded_at)
            .execute(self)
            .await
            .map(|_| ())
    }

    /// Takes back what was asked for; false when nothing was.
    pub async fn update_end(&mut self, device: DeviceId, at: Time) -> Result<bool> {
        let rows =
            Sql::new("UPDATE device_update SET superseded_at = $1 WHERE device_id = $2 AND superseded_at IS NULL")
                .bind(at)
                .bind(device)
                .execute(self)
                .await?;
        Ok(rows > 0)
    }
}
