//! Swaps of devices, and the facts that they move.

use std::collections::{BTreeMap, BTreeSet};

use sluice_catalog::Time;
use sluice_catalog::device::Device;
use sluice_catalog::id::{ContractId, CustomerId, DeviceId, FactId, ProductId};
use sluice_catalog::swap::{Interval, Moved, Replaced};
use sluice_catalog::text::{ProductName, Serial, Slug};

use super::import::by_product;
use super::sql::{json, list};
use super::{On, Result, Sql, Store, StoreError, Tx};

pub(super) const ROW: &str = "SELECT s.number, s.product_id, p.name AS product, s.old_id, s.new_id, o.serial AS old_serial, n.serial AS new_serial, \
                   s.at, s.fence_at, s.actor, s.moved, s.undone_at \
                   FROM swap s JOIN product p ON p.id = s.product_id JOIN device o ON o.id = s.old_id JOIN device n ON n.id = s.new_id";

/// A swap as stored.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct SwapRow {
    /// The number of the return.
    pub number: Slug,
    /// The product.
    pub product_id: ProductId,
    /// Its name.
    pub product: ProductName,
    /// The device that is replaced.
    pub old_id: DeviceId,
    /// The device that replaces it.
    pub new_id: DeviceId,
    /// The serials of both.
    pub old_serial: Serial,
    /// The serials of both.
    pub new_serial: Serial,
    /// When it was done.
    pub at: Time,
    /// When the overlap ends.
    pub fence_at: Time,
    /// Who did it.
    pub actor: String,
    moved: String,
    /// When it was undone.
    pub undone_at: Option<Time>,
}

impl SwapRow {
    /// What it did.
    pub fn moved(&self) -> Result<Moved> {
        serde_json::from_str(&self.moved).map_err(|error| StoreError::Corrupt(format!("swap {}: {error}", self.number)))
    }
}

/// An item of a serial.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct ItemRow {
    /// The fact.
    pub id: FactId,
    /// Its contract.
    pub contract_id: ContractId,
    /// Its pool.
    pub pool_id: Option<FactId>,
    /// First moment covered.
    pub from_at: Time,
    /// First moment no longer covered.
    pub to_at: Time,
}

async fn by_number<'a>(on: impl Into<On<'a>>, number: &Slug) -> Result<Option<SwapRow>> {
    Sql::built(format!("{ROW} WHERE s.number = $1")).bind(number).optional(on).await
}

impl Store {
    /// A swap by number.
    pub async fn swap_by_number(&self, number: &Slug) -> Result<Option<SwapRow>> {
        by_number(self, number).await
    }

    /// Swaps after a number.
    pub async fn swap_list(&self, after: &str, limit: u32) -> Result<Vec<SwapRow>> {
        Sql::built(format!("{ROW} WHERE s.number > $1 ORDER BY s.number LIMIT $2"))
            .bind(after)
            .bind(i64::from(limit))
            .all(self)
            .await
    }

    /// Swaps in which a device took part, at most 100.
    pub async fn swap_of(&self, device: DeviceId) -> Result<Vec<SwapRow>> {
        Sql::built(format!("{ROW} WHERE s.old_id = $1 OR s.new_id = $1 ORDER BY s.at LIMIT 100"))
            .bind(device)
            .all(self)
            .await
    }
}

/// Swaps of one serial after the other that are followed: a device that was replaced more often is a mistake somewhere.
const MAX_CHAIN: usize = 64;
/// Serials of one statement.
const CHUNK: usize = 5_000;

#[derive(sqlx::FromRow)]
struct ReplacedRow {
    number: String,
    at: Time,
    product: ProductName,
    old: Serial,
    new: Serial,
    fence_at: Time,
}

impl Tx {
    /// Swaps that stand and in which these serials took part, or those that they replaced or that replaced them, in the order of
    /// their moments.
    pub async fn swaps_of(&mut self, serials: Vec<(ProductName, Serial)>) -> Result<Vec<Replaced>> {
        let mut found: BTreeMap<(Time, String), Replaced> = BTreeMap::new();
        let mut seen: BTreeSet<(ProductName, Serial)> = BTreeSet::new();
        let mut next = serials;
        for _ in 0..MAX_CHAIN {
            next.retain(|serial| seen.insert(serial.clone()));
            if next.is_empty() {
                break;
            }
            let mut new = Vec::new();
            for (product, serials) in by_product(&next) {
                for chunk in serials.chunks(CHUNK) {
                    let of = format!(
                        "(SELECT id FROM device WHERE product_id = (SELECT id FROM product WHERE name = $1) AND serial IN ({}))",
                        list(2, chunk.len())
                    );
                    let sql = Sql::built(format!(
                        "SELECT s.number, s.at, p.name AS product, o.serial AS old, n.serial AS new, s.fence_at
                         FROM swap s JOIN product p ON p.id = s.product_id
                         JOIN device o ON o.id = s.old_id JOIN device n ON n.id = s.new_id
                         WHERE s.undone_at IS NULL AND (s.old_id IN {of} OR s.new_id IN {of})"
                    ));
                    let rows: Vec<ReplacedRow> =
                        sql.bind(product).bind_all(chunk.iter().copied()).all(&mut *self).await?;
                    for ReplacedRow { number, at, product, old, new: replacing, fence_at } in rows {
                        new.push((product.clone(), old.clone()));
                        new.push((product.clone(), replacing.clone()));
                        found.insert((at, number), Replaced { product, old, new: replacing, fence_at });
                    }
                }
            }
            next = new;
        }
        Ok(found.into_values().collect())
    }

    /// A swap by number.
    pub async fn swap_by_number(&mut self, number: &Slug) -> Result<Option<SwapRow>> {
        by_number(self, number).await
    }

    /// A swap of a device that was not undone: as the one replaced, or as the one that replaces.
    pub async fn swap_open(&mut self, device: DeviceId) -> Result<Option<SwapRow>> {
        Sql::built(format!(
            "{ROW} WHERE (s.old_id = $1 OR s.new_id = $1) AND s.undone_at IS NULL ORDER BY s.at DESC LIMIT 1"
        ))
        .bind(device)
        .optional(self)
        .await
    }

    /// A swap that replaced a device and was not undone.
    pub async fn swap_replacing(&mut self, device: DeviceId) -> Result<Option<SwapRow>> {
        Sql::built(format!("{ROW} WHERE s.old_id = $1 AND s.undone_at IS NULL ORDER BY s.at DESC LIMIT 1"))
            .bind(device)
            .optional(self)
            .await
    }

    /// Keeps a swap.
    pub async fn swap_add(
        &mut self,
        number: &Slug,
        devices: (&Device, &Device),
        times: (Time, Time),
        actor: &str,
        moved: &Moved,
    ) -> Result<()> {
        Sql::new(
            "INSERT INTO swap (number, product_id, old_id, new_id, at, fence_at, actor, moved)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(number)
        .bind(devices.0.product_id)
        .bind(devices.0.id)
        .bind(devices.1.id)
        .bind(times.0)
        .bind(times.1)
        .bind(actor)
        .bind(json(moved)?)
        .execute(self)
        .await
        .map(|_| ())
    }

    /// Marks a swap as undone; false when it was already.
    pub async fn swap_undone(&mut self, number: &Slug, at: Time) -> Result<bool> {
        let rows = Sql::new("UPDATE swap SET undone_at = $1 WHERE number = $2 AND undone_at IS NULL")
            .bind(at)
            .bind(number)
            .execute(self)
            .await?;
        Ok(rows == 1)
    }

    /// Customers who have the devices of these serials, or contracts that name them.
    pub async fn serial_customers(&mut self, product: &ProductName, serials: &[&Serial]) -> Result<Vec<CustomerId>> {
        let rows: Vec<(CustomerId,)> = Sql::built(format!(
            "SELECT c.customer_id FROM covered_item i JOIN contract c ON c.id = i.contract_id
             WHERE i.product = $1 AND i.superseded_at IS NULL AND i.serial IN ({0})
             UNION SELECT d.customer_id FROM device d JOIN product p ON p.id = d.product_id
             WHERE p.name = $1 AND d.customer_id IS NOT NULL AND d.serial IN ({0})",
            list(2, serials.len())
        ))
        .bind(product)
        .bind_all(serials.iter().copied())
        .all(self)
        .await?;
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }

    /// Swaps, not undone, that brought a device in.
    pub async fn swaps_bringing(&mut self, device: DeviceId) -> Result<Vec<SwapRow>> {
        Sql::built(format!("{ROW} WHERE s.new_id = $1 AND s.undone_at IS NULL ORDER BY s.at LIMIT 100"))
            .bind(device)
            .all(self)
            .await
    }

    /// Keeps what a swap did under the ids under which it was recorded again.
    pub async fn swap_moved(&mut self, number: &Slug, moved: &Moved) -> Result<()> {
        Sql::new("UPDATE swap SET moved = $1 WHERE number = $2")
            .bind(json(moved)?)
            .bind(number)
            .execute(self)
            .await
            .map(|_| ())
    }

    /// Whether a fact is a place in a pool.
    pub async fn fact_is_place(&mut self, id: FactId) -> Result<bool> {
        let row: Option<(FactId,)> = Sql::new("SELECT id FROM covered_item WHERE id = $1 AND pool_id IS NOT NULL")
            .bind(id)
            .optional(self)
            .await?;
        Ok(row.is_some())
    }

    /// Items that cover a serial by what is known now.
    pub async fn serial_items(&mut self, product: &ProductName, serial: &Serial) -> Result<Vec<ItemRow>> {
        Sql::new(
            "SELECT id, contract_id, pool_id, from_at, to_at FROM covered_item
             WHERE product = $1 AND serial = $2 AND superseded_at IS NULL ORDER BY id",
        )
        .bind(product)
        .bind(serial)
        .all(self)
        .await
    }

    /// Records an item for a serial.
    pub async fn serial_item_add(
        &mut self,
        id: FactId,
        (contract, pool): (ContractId, Option<FactId>),
        (product, serial): (&ProductName, &Serial),
        (from, to): Interval,
        at: Time,
    ) -> Result<()> {
        Sql::new(
            "INSERT INTO covered_item (id, contract_id, product, serial, from_at, to_at, recorded_at, pool_id)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(id)
        .bind(contract)
        .bind(product)
        .bind(serial)
        .bind(from)
        .bind(to)
        .bind(at)
        .bind(pool)
        .execute(self)
        .await
        .map(|_| ())
    }

    /// Whether an item or a policy is still held for true.
    pub async fn fact_stands(&mut self, id: FactId) -> Result<bool> {
        let rows: Vec<(FactId,)> = Sql::new(
            "SELECT id FROM covered_item WHERE id = $1 AND superseded_at IS NULL
             UNION ALL SELECT id FROM policy WHERE id = $1 AND superseded_at IS NULL",
        )
        .bind(id)
        .all(self)
        .await?;
        Ok(!rows.is_empty())
    }

    /// Holds facts, items or policies, for false from now on.
    pub async fn facts_end(&mut self, ids: &[FactId], at: Time) -> Result<()> {
        for id in ids {
            for text in [
                "UPDATE covered_item SET superseded_at = $1 WHERE id = $2 AND superseded_at IS NULL",
                "UPDATE policy SET superseded_at = $1 WHERE id = $2 AND superseded_at IS NULL",
            ] {
                Sql::new(text).bind(at).bind(*id).execute(&mut *self).await?;
            }
        }
        Ok(())
    }

    /// Records facts, items or policies, that were superseded, once more as they were; under ids handed in.
    pub async fn facts_again(&mut self, ids: &[(FactId, FactId)], at: Time) -> Result<()> {
        for (old, new) in ids {
            for text in [
                "INSERT INTO covered_item (id, contract_id, product, serial, from_at, to_at, recorded_at, pool_id)
                 SELECT $1, contract_id, product, serial, from_at, to_at, $2, pool_id FROM covered_item WHERE id = $3",
                "INSERT INTO policy (id, customer_id, product_id, scope, target, kind, owner, reason, from_at, to_at, recorded_at)
                 SELECT $1, customer_id, product_id, scope, target, kind, owner, reason, from_at, to_at, $2 FROM policy WHERE id = $3",
            ] {
                Sql::new(text).bind(*new).bind(at).bind(*old).execute(&mut *self).await?;
            }
        }
        Ok(())
    }

    /// Writes what a swap changes of a device.
    pub async fn device_swapped(&mut self, device: &Device, at: Time) -> Result<()> {
        Sql::new(
            "UPDATE device SET state = $1, fence_at = $2, customer_id = $3, site = $4, tags = $5, cohort_id = $6, channel = $7,
                               confirmed_train = $8, revision = revision + 1, changed_at = $9 WHERE id = $10",
        )
        .bind(device.state)
        .bind(device.fence_at)
        .bind(device.customer_id)
        .bind(device.site.as_ref())
        .bind(&device.tags)
        .bind(device.cohort_id)
        .bind(device.channel)
        .bind(device.confirmed_train.as_ref())
        .bind(at)
        .bind(device.id)
        .execute(self)
        .await
        .map(|_| ())
    }
}
