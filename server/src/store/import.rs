//! Contracts in bulk: what is there of many at once, and many facts in few statements.

use std::collections::{BTreeMap, HashMap};

use sluice_catalog::Time;
use sluice_catalog::contract::{Contract, WindowKind};
use sluice_catalog::id::{ContractId, FactId, PlanId};
use sluice_catalog::swap::Item;
use sluice_catalog::text::{ContractNumber, ProductName, Serial};

use uuid::Uuid;

use super::sql::{list, places};
use super::{MAX_PARAMETERS, NewItem, NewWindow, Result, Sql, Tx};

/// Contracts, or serials, of one statement.
const CHUNK: usize = 5_000;

/// A contract that is there.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct ContractHead {
    /// Its id.
    pub id: ContractId,
    /// Its number.
    pub number: ContractNumber,
    /// Its plan.
    pub plan_id: PlanId,
    /// Its customer's name.
    pub customer: String,
    /// Its plan's name.
    pub plan: String,
}

#[derive(sqlx::FromRow)]
struct WindowOf {
    contract_id: ContractId,
    from_at: Time,
    to_at: Time,
    kind: WindowKind,
}

#[derive(sqlx::FromRow)]
struct ItemOf {
    contract_id: ContractId,
    product: ProductName,
    serial: Serial,
    from_at: Time,
    to_at: Time,
}

/// Serials by product: a serial alone is in no index, and is another device's under another product.
pub(super) fn by_product(serials: &[(ProductName, Serial)]) -> BTreeMap<&ProductName, Vec<&Serial>> {
    let mut products: BTreeMap<&ProductName, Vec<&Serial>> = BTreeMap::new();
    for (product, serial) in serials {
        products.entry(product).or_default().push(serial);
    }
    products
}

impl Tx {
    /// Those of these names that there are, in a table of names, with their ids.
    pub async fn names_there(&mut self, table: &'static str, names: &[String]) -> Result<HashMap<String, Uuid>> {
        let mut there = HashMap::new();
        for chunk in names.chunks(CHUNK) {
            let mut sql = Sql::built(format!("SELECT name, id FROM {table} WHERE name IN ({})", list(1, chunk.len())));
            for name in chunk {
                sql = sql.bind(name.as_str());
            }
            let rows: Vec<(String, Uuid)> = sql.all(&mut *self).await?;
            there.extend(rows);
        }
        Ok(there)
    }

    /// Contracts by number.
    pub async fn contract_heads(&mut self, numbers: &[String]) -> Result<Vec<ContractHead>> {
        let mut there = Vec::new();
        for chunk in numbers.chunks(CHUNK) {
            let mut sql = Sql::built(format!(
                "SELECT c.id, c.number, c.plan_id, u.name AS customer, p.name AS plan
                 FROM contract c JOIN customer u ON u.id = c.customer_id JOIN plan p ON p.id = c.plan_id
                 WHERE c.number IN ({})",
                list(1, chunk.len())
            ));
            for number in chunk {
                sql = sql.bind(number.as_str());
            }
            there.extend(sql.all(&mut *self).await?);
        }
        Ok(there)
    }

    /// Windows of these contracts that hold by what is known now.
    pub async fn windows_of(
        &mut self,
        contracts: &[ContractId],
    ) -> Result<Vec<(ContractId, (Time, Time, WindowKind))>> {
        let mut there = Vec::new();
        for chunk in contracts.chunks(CHUNK) {
            let mut sql = Sql::built(format!(
                "SELECT contract_id, from_at, to_at, kind FROM coverage_window
                 WHERE superseded_at IS NULL AND contract_id IN ({})",
                list(1, chunk.len())
            ));
            for id in chunk {
                sql = sql.bind(*id);
            }
            let rows: Vec<WindowOf> = sql.all(&mut *self).await?;
            there.extend(rows.into_iter().map(|row| (row.contract_id, (row.from_at, row.to_at, row.kind))));
        }
        Ok(there)
    }

    /// Items that name these serials, under any contract, and hold by what is known now.
    pub async fn items_of(&mut self, serials: &[(ProductName, Serial)]) -> Result<Vec<(ContractId, Item)>> {
        let mut there = Vec::new();
        for (product, serials) in by_product(serials) {
            for chunk in serials.chunks(CHUNK) {
                let sql = Sql::built(format!(
                    "SELECT contract_id, product, serial, from_at, to_at FROM covered_item
                     WHERE product = $1 AND serial IN ({}) AND superseded_at IS NULL AND pool_id IS NULL",
                    list(2, chunk.len())
                ));
                let rows: Vec<ItemOf> = sql.bind(product).bind_all(chunk.iter().copied()).all(&mut *self).await?;
                there.extend(rows.into_iter().map(|row| {
                    let ItemOf { contract_id, product, serial, from_at, to_at } = row;
                    (contract_id, (product, serial, from_at, to_at))
                }));
            }
        }
        Ok(there)
    }

    /// Contracts that name these serials, or give them a place in a pool, by what is known now.
    pub async fn contracts_of(
        &mut self,
        serials: &[(ProductName, Serial)],
    ) -> Result<Vec<(ProductName, Serial, ContractNumber)>> {
        let mut there = Vec::new();
        for (product, serials) in by_product(serials) {
            for chunk in serials.chunks(CHUNK) {
                let sql = Sql::built(format!(
                    "SELECT DISTINCT i.product, i.serial, c.number FROM covered_item i JOIN contract c ON c.id = i.contract_id
                     WHERE i.product = $1 AND i.serial IN ({}) AND i.superseded_at IS NULL AND c.state = 'active'",
                    list(2, chunk.len())
                ));
                there.extend(sql.bind(product).bind_all(chunk.iter().copied()).all(&mut *self).await?);
            }
        }
        Ok(there)
    }

    /// A contract with more windows, or a serial with more items, than hold at once, of these.
    pub async fn too_many(
        &mut self,
        contracts: &[ContractId],
        serials: &[(ProductName, Serial)],
        (windows, items): (usize, usize),
    ) -> Result<Option<String>> {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for chunk in contracts.chunks(CHUNK) {
            let mut sql = Sql::built(format!(
                "SELECT c.number FROM coverage_window w JOIN contract c ON c.id = w.contract_id
                 WHERE w.superseded_at IS NULL AND c.id IN ({}) GROUP BY c.number HAVING COUNT(*) > $1 LIMIT 1",
                list(2, chunk.len())
            ))
            .bind(number(windows));
            for id in chunk {
                sql = sql.bind(*id);
            }
            let row: Option<(ContractNumber,)> = sql.optional(&mut *self).await?;
            if let Some((contract,)) = row {
                return Ok(Some(format!("contract {contract} would have more than {windows} windows")));
            }
        }
        for (product, serials) in by_product(serials) {
            for chunk in serials.chunks(CHUNK) {
                let sql = Sql::built(format!(
                    "SELECT product, serial FROM covered_item WHERE product = $1 AND serial IN ({}) AND superseded_at IS NULL
                     GROUP BY product, serial HAVING COUNT(*) > $2 LIMIT 1",
                    list(3, chunk.len())
                ));
                let sql = sql.bind(product).bind(number(items)).bind_all(chunk.iter().copied());
                let row: Option<(ProductName, Serial)> = sql.optional(&mut *self).await?;
                if let Some((product, serial)) = row {
                    return Ok(Some(format!("{product}/{serial} would be named more than {items} times by contracts")));
                }
            }
        }
        Ok(None)
    }

    /// The zones in which days of these contracts are counted, of those that have one.
    pub async fn zones_of(&mut self, contracts: &[ContractId]) -> Result<Vec<(ContractId, String)>> {
        let mut there = Vec::new();
        for chunk in contracts.chunks(CHUNK) {
            let sql = Sql::built(format!(
                "SELECT contract_id, zone FROM contract_zone WHERE contract_id IN ({})",
                list(1, chunk.len())
            ));
            there.extend(sql.bind_all(chunk.iter().copied()).all(&mut *self).await?);
        }
        Ok(there)
    }

    /// Sets zones of contracts, each of which is named once.
    pub async fn zones_set(&mut self, zones: &[(ContractId, &str)]) -> Result<()> {
        for chunk in zones.chunks(CHUNK) {
            let mut sql = Sql::built(format!(
                "INSERT INTO contract_zone (contract_id, zone) VALUES {}
                 ON CONFLICT (contract_id) DO UPDATE SET zone = excluded.zone",
                places(chunk.len(), 2)
            ));
            for (contract, zone) in chunk {
                sql = sql.bind(*contract).bind(*zone);
            }
            sql.execute(&mut *self).await?;
        }
        Ok(())
    }

    /// Moves contracts to another plan, and keeps what they were like.
    pub async fn contracts_move(&mut self, contracts: &[ContractId], plan: PlanId, at: Time) -> Result<()> {
        for chunk in contracts.chunks(CHUNK) {
            Sql::built(format!(
                "INSERT INTO contract_history (contract_id, plan_id, state, recorded_at, superseded_at)
                 SELECT id, plan_id, state, COALESCE(recorded_at, created_at), CAST($1 AS BIGINT) FROM contract WHERE id IN ({})",
                list(2, chunk.len())
            ))
            .bind(at)
            .bind_all(chunk.iter().copied())
            .execute(&mut *self)
            .await?;
            Sql::built(format!(
                "UPDATE contract SET plan_id = $1, recorded_at = $2 WHERE id IN ({})",
                list(3, chunk.len())
            ))
            .bind(plan)
            .bind(at)
            .bind_all(chunk.iter().copied())
            .execute(&mut *self)
            .await?;
        }
        Ok(())
    }

    /// Marks the devices of contracts as changed.
    pub async fn contracts_touch(&mut self, contracts: &[ContractId], at: Time) -> Result<()> {
        for chunk in contracts.chunks(CHUNK) {
            Sql::built(format!(
                "UPDATE device SET revision = revision + 1, changed_at = $1
                 WHERE id IN (SELECT d.id FROM covered_item i
                              JOIN product p ON p.name = i.product
                              JOIN device d ON d.product_id = p.id AND d.serial = i.serial
                              WHERE i.contract_id IN ({}) AND i.superseded_at IS NULL)",
                list(2, chunk.len())
            ))
            .bind(at)
            .bind_all(chunk.iter().copied())
            .execute(&mut *self)
            .await?;
        }
        Ok(())
    }

    /// Enters contracts.
    pub async fn contracts_add(&mut self, contracts: &[Contract]) -> Result<()> {
        for chunk in contracts.chunks(MAX_PARAMETERS / 6) {
            let mut sql = Sql::built(format!(
                "INSERT INTO contract (id, customer_id, number, plan_id, state, created_at) VALUES {}",
                places(chunk.len(), 6)
            ));
            for contract in chunk {
                sql = sql
                    .bind(contract.id)
                    .bind(contract.customer_id)
                    .bind(&contract.number)
                    .bind(contract.plan_id)
                    .bind(contract.state)
                    .bind(contract.created_at);
            }
            sql.execute(&mut *self).await?;
        }
        Ok(())
    }

    /// Records windows of many contracts.
    pub async fn windows_add(&mut self, windows: &[(ContractId, NewWindow)], at: Time) -> Result<()> {
        for chunk in windows.chunks(MAX_PARAMETERS / 6) {
            let mut sql = Sql::built(format!(
                "INSERT INTO coverage_window (id, contract_id, from_at, to_at, kind, recorded_at) VALUES {}",
                places(chunk.len(), 6)
            ));
            for (contract, window) in chunk {
                sql = sql
                    .bind(window.id)
                    .bind(*contract)
                    .bind(window.from_at)
                    .bind(window.to_at)
                    .bind(window.kind)
                    .bind(at);
            }
            sql.execute(&mut *self).await?;
        }
        Ok(())
    }

    /// Records items of many contracts.
    pub async fn items_add(&mut self, items: &[(ContractId, NewItem)], at: Time) -> Result<()> {
        for chunk in items.chunks(MAX_PARAMETERS / 8) {
            let mut sql = Sql::built(format!(
                "INSERT INTO covered_item (id, contract_id, product, serial, from_at, to_at, recorded_at, pool_id) VALUES {}",
                places(chunk.len(), 8)
            ));
            for (contract, item) in chunk {
                sql = sql
                    .bind(item.id)
                    .bind(*contract)
                    .bind(&item.product)
                    .bind(&item.serial)
                    .bind(item.from_at)
                    .bind(item.to_at)
                    .bind(at)
                    .bind(item.pool_id);
            }
            sql.execute(&mut *self).await?;
        }
        Ok(())
    }

    /// Holds windows for false from now on.
    pub async fn windows_end(&mut self, ids: &[FactId], at: Time) -> Result<()> {
        self.rows_end("coverage_window", ids, at).await
    }

    /// Holds items for false from now on.
    pub async fn items_end(&mut self, ids: &[FactId], at: Time) -> Result<()> {
        self.rows_end("covered_item", ids, at).await
    }

    async fn rows_end(&mut self, table: &'static str, ids: &[FactId], at: Time) -> Result<()> {
        for chunk in ids.chunks(CHUNK) {
            let mut sql = Sql::built(format!(
                "UPDATE {table} SET superseded_at = $1 WHERE superseded_at IS NULL AND id IN ({})",
                list(2, chunk.len())
            ))
            .bind(at);
            for id in chunk {
                sql = sql.bind(*id);
            }
            sql.execute(&mut *self).await?;
        }
        Ok(())
    }

    /// Marks devices by their serials as changed.
    pub async fn serials_touch(&mut self, product: &ProductName, serials: &[&Serial], at: Time) -> Result<()> {
        for chunk in serials.chunks(CHUNK) {
            let mut sql = Sql::built(format!(
                "UPDATE device SET revision = revision + 1, changed_at = $1
                 WHERE product_id = (SELECT id FROM product WHERE name = $2) AND serial IN ({})",
                list(3, chunk.len())
            ))
            .bind(at)
            .bind(product);
            for serial in chunk {
                sql = sql.bind(*serial);
            }
            sql.execute(&mut *self).await?;
        }
        Ok(())
    }
}
