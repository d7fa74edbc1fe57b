//! What notices are planned from: contracts near one of their moments or changed of late, their devices, swaps that end, and
//! offers that stand open.

use sluice_catalog::Time;
use sluice_catalog::facts::{ContractFacts, Known};
use sluice_catalog::id::{ContractId, CustomerId, DeviceId};
use sluice_catalog::notice::DAYS_BEFORE;
use sluice_catalog::text::{ContractNumber, ProductName, Serial};
use sluice_catalog::wire::event::{DeviceName, MAX_NAMED};

use super::facts::contract_recorded;
use super::source::contract_sources;
use super::swap::ROW as SWAP;
use super::{On, Result, Sql, Store, SwapRow, Tx};

/// A day in a zone may be so much longer or shorter than 24 hours, or stand elsewhere when 60 of them are counted back.
const ZONE_SLOP_MS: i64 = 2 * 3_600_000;
/// The longest grace.
const MAX_GRACE_DAYS: i64 = 366;
/// Items of one contract that are looked at one by one: with dates of their own near a moment, or new at once.
const MAX_ITEMS: i64 = 100_000;

/// A contract with all that was ever recorded of it.
#[derive(Clone, Debug)]
pub struct ContractStory {
    /// Its id.
    pub id: ContractId,
    /// Whose it is.
    pub customer_id: CustomerId,
    /// The zone in which its days are counted.
    pub zone: Option<String>,
    /// States, terms and windows; no items.
    pub facts: ContractFacts,
}

/// An item of a contract.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct NoticeItem {
    /// The product.
    pub product: ProductName,
    /// The serial.
    pub serial: Serial,
    from_at: Time,
    to_at: Time,
    /// Since when it is known.
    pub recorded_at: Time,
}

impl NoticeItem {
    /// When it covers.
    pub const fn known(&self) -> Known<(Time, Time)> {
        Known::new((self.from_at, self.to_at), self.recorded_at)
    }

    /// The device.
    pub fn name(&self) -> DeviceName {
        DeviceName { product: self.product.clone(), serial: self.serial.clone() }
    }
}

/// Conditions on the end of a window or item, `t.to_at` of contract `t.contract_id`: one of its moments lies in the time looked at.
fn near(from: Time, to: Time) -> String {
    let mut parts = Vec::new();
    for days in DAYS_BEFORE.into_iter().map(i64::from).chain([0]) {
        let (low, high) = (from.plus_days(days).as_ms(), to.plus_days(days).as_ms());
        parts.push(format!("t.to_at BETWEEN {low} AND {high}"));
        parts.push(format!(
            "(t.to_at BETWEEN {} AND {} AND t.contract_id IN (SELECT contract_id FROM contract_zone))",
            low.saturating_sub(ZONE_SLOP_MS),
            high.saturating_add(ZONE_SLOP_MS)
        ));
    }
    parts.push(format!(
        "(t.to_at BETWEEN {} AND {} AND t.to_at + (SELECT CAST(p.grace_days AS BIGINT) * 86400000 FROM contract k
          JOIN plan p ON p.id = k.plan_id WHERE k.id = t.contract_id) BETWEEN {} AND {})",
        from.plus_days(-MAX_GRACE_DAYS).as_ms(),
        to.as_ms(),
        from.as_ms(),
        to.as_ms()
    ));
    parts.join(" OR ")
}

impl Store {
    /// Contracts after an id of which a moment lies between two times, or of which something was recorded since the first.
    pub async fn notice_contracts(
        &self,
        from: Time,
        to: Time,
        after: Option<ContractId>,
        limit: u32,
    ) -> Result<Vec<ContractId>> {
        let near = near(from, to);
        let rows: Vec<(ContractId,)> = Sql::built(format!(
            "SELECT c.id FROM contract c WHERE c.id > $1 AND c.id IN (
                 SELECT t.contract_id FROM coverage_window t WHERE t.superseded_at IS NULL AND ({near})
                 UNION SELECT t.contract_id FROM covered_item t WHERE t.superseded_at IS NULL AND ({near})
                 UNION SELECT contract_id FROM coverage_window WHERE recorded_at >= $2
                 UNION SELECT contract_id FROM coverage_window WHERE superseded_at >= $2
                 UNION SELECT contract_id FROM covered_item WHERE recorded_at >= $2
                 UNION SELECT id FROM contract WHERE recorded_at >= $2)
             ORDER BY c.id LIMIT $3"
        ))
        .bind(after.unwrap_or(ContractId(uuid::Uuid::nil())))
        .bind(from)
        .bind(i64::from(limit))
        .all(self)
        .await?;
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }

    /// A contract with all that was recorded of it, but for its items.
    pub async fn contract_story(&self, id: ContractId) -> Result<Option<ContractStory>> {
        let row: Option<(ContractNumber, CustomerId, Option<String>)> = Sql::new(
            "SELECT c.number, c.customer_id, z.zone FROM contract c
             LEFT JOIN contract_zone z ON z.contract_id = c.id WHERE c.id = $1",
        )
        .bind(id)
        .optional(self)
        .await?;
        let Some((number, customer_id, zone)) = row else { return Ok(None) };
        let (states, terms, windows) = contract_recorded(&mut On::from(self), id).await?;
        let sources = contract_sources(&mut On::from(self), &[id], false).await?;
        let sources = sources.into_iter().map(|(_, source)| source).collect();
        let (items, pools) = (Vec::new(), Vec::new());
        let facts = ContractFacts { number, states, terms, windows, items, sources, pools };
        Ok(Some(ContractStory { id, customer_id, zone, facts }))
    }

    /// All items of those serials of which one ends between two times, but for serials that were swapped away then.
    pub async fn notice_items(&self, contract: ContractId, from: Time, to: Time) -> Result<Vec<NoticeItem>> {
        Sql::new(
            "SELECT i.product, i.serial, i.from_at, i.to_at, i.recorded_at FROM covered_item i
             WHERE i.contract_id = $1 AND i.superseded_at IS NULL AND EXISTS (
                 SELECT 1 FROM covered_item e WHERE e.contract_id = i.contract_id AND e.product = i.product
                 AND e.serial = i.serial AND e.superseded_at IS NULL AND e.to_at BETWEEN $2 AND $3)
             AND NOT EXISTS (
                 SELECT 1 FROM swap s JOIN product p ON p.id = s.product_id JOIN device d ON d.id = s.old_id
                 WHERE s.undone_at IS NULL AND p.name = i.product AND d.serial = i.serial AND s.fence_at = i.to_at)
             ORDER BY i.product, i.serial, i.from_at LIMIT $4",
        )
        .bind(contract)
        .bind(from)
        .bind(to)
        .bind(MAX_ITEMS)
        .all(self)
        .await
    }

    /// Items recorded since a moment that cover what the contract did not cover for that serial before.
    pub async fn notice_new_items(&self, contract: ContractId, since: Time) -> Result<Vec<NoticeItem>> {
        Sql::new(
            "SELECT i.product, i.serial, i.from_at, i.to_at, i.recorded_at FROM covered_item i
             WHERE i.contract_id = $1 AND i.superseded_at IS NULL AND i.recorded_at >= $2 AND NOT EXISTS (
                 SELECT 1 FROM covered_item j WHERE j.contract_id = i.contract_id AND j.product = i.product
                 AND j.serial = i.serial AND j.recorded_at < i.recorded_at
                 AND (j.superseded_at IS NULL OR j.superseded_at >= i.recorded_at)
                 AND j.from_at <= i.from_at AND j.to_at >= i.to_at)
             ORDER BY i.recorded_at, i.product, i.serial LIMIT $3",
        )
        .bind(contract)
        .bind(since)
        .bind(MAX_ITEMS)
        .all(self)
        .await
    }

    /// How many devices a contract covers up to a moment, and the first of them.
    pub async fn notice_devices(&self, contract: ContractId, end: Time) -> Result<(u64, Vec<DeviceName>)> {
        const COVERED: &str = "SELECT DISTINCT product, serial FROM covered_item
                               WHERE contract_id = $1 AND superseded_at IS NULL AND from_at < $2 AND to_at >= $2";
        let (count,): (i64,) = Sql::built(format!("SELECT CAST(COUNT(*) AS BIGINT) FROM ({COVERED}) AS covered"))
            .bind(contract)
            .bind(end)
            .one(self)
            .await?;
        let named: Vec<(ProductName, Serial)> =
            Sql::built(format!("{COVERED} ORDER BY product, serial LIMIT {MAX_NAMED}"))
                .bind(contract)
                .bind(end)
                .all(self)
                .await?;
        let named = named.into_iter().map(|(product, serial)| DeviceName { product, serial }).collect();
        Ok((u64::try_from(count).unwrap_or(0), named))
    }

    /// Devices that a contract covers up to a moment, after an id.
    pub async fn notice_device_ids(
        &self,
        contract: ContractId,
        end: Time,
        after: DeviceId,
        limit: u32,
    ) -> Result<Vec<DeviceId>> {
        let rows: Vec<(DeviceId,)> = Sql::new(
            "SELECT DISTINCT d.id FROM device d JOIN product p ON p.id = d.product_id
             JOIN covered_item i ON i.product = p.name AND i.serial = d.serial
             WHERE i.contract_id = $1 AND i.superseded_at IS NULL AND i.from_at < $2 AND i.to_at >= $2 AND d.id > $3
             ORDER BY d.id LIMIT $4",
        )
        .bind(contract)
        .bind(end)
        .bind(after)
        .bind(i64::from(limit))
        .all(self)
        .await?;
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }

    /// Swaps whose overlap ended between two moments and that were not undone.
    pub async fn notice_fences(&self, from: Time, to: Time) -> Result<Vec<SwapRow>> {
        Sql::built(format!("{SWAP} WHERE s.undone_at IS NULL AND s.fence_at BETWEEN $1 AND $2 ORDER BY s.fence_at"))
            .bind(from)
            .bind(to)
            .all(self)
            .await
    }

    /// Devices after an id with an attempt that is open and was offered after a moment.
    pub async fn notice_open_attempts(&self, after: DeviceId, since: Time, limit: u32) -> Result<Vec<DeviceId>> {
        let rows: Vec<(DeviceId,)> = Sql::new(
            "SELECT DISTINCT device_id FROM attempt
             WHERE device_id > $1 AND state NOT IN ('healthy', 'failed', 'rolled_back', 'superseded') AND offered_at >= $2
             ORDER BY device_id LIMIT $3",
        )
        .bind(after)
        .bind(since)
        .bind(i64::from(limit))
        .all(self)
        .await?;
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }

    /// The zone of a contract.
    pub async fn contract_zone(&self, id: ContractId) -> Result<Option<String>> {
        let row: Option<(String,)> =
            Sql::new("SELECT zone FROM contract_zone WHERE contract_id = $1").bind(id).optional(self).await?;
        Ok(row.map(|(zone,)| zone))
    }
}

impl Tx {
    /// Sets the zone of a contract, or makes it UTC again.
    pub async fn contract_zone_set(&mut self, id: ContractId, zone: Option<&str>) -> Result<()> {
        let Some(zone) = zone else {
            return Sql::new("DELETE FROM contract_zone WHERE contract_id = $1")
                .bind(id)
                .execute(self)
                .await
                .map(|_| ());
        };
        Sql::new(
            "INSERT INTO contract_zone (contract_id, zone) VALUES ($1, $2)
             ON CONFLICT (contract_id) DO UPDATE SET zone = excluded.zone",
        )
        .bind(id)
        .bind(zone)
        .execute(self)
        .await
        .map(|_| ())
    }
}
