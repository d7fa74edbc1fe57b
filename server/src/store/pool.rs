//! Pools of places, who has one and who waits.

use sluice_catalog::Time;
use sluice_catalog::device::DeviceState;
use sluice_catalog::id::{ContractId, CustomerId, DeviceId, FactId, PlanId};
use sluice_catalog::pool::{FullPool, PoolDetail, PoolPlace};
use sluice_catalog::text::{ContractNumber, Family, ProductName, Serial, Slug};

use super::sql::list;
use super::{MAX_PARAMETERS, On, Result, Sql, Store, Tx};

/// Days before its cover ends from which a place keeps its device from none of another contract.
const RENEWS_DAYS: i64 = 1;

/// A pool that stands.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct PoolRow {
    /// Its id.
    pub id: FactId,
    /// Its contract.
    pub contract_id: ContractId,
    /// The contract's plan.
    pub plan_id: PlanId,
    /// The contract's customer.
    pub customer_id: CustomerId,
    /// What it is for.
    pub family: Family,
    /// Where.
    pub site: Slug,
    /// Its places; none while the contract does not count.
    pub quantity: i64,
}

/// A place that is taken.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct MemberRow {
    /// The item.
    pub id: FactId,
    /// The device.
    pub product: ProductName,
    /// The device.
    pub serial: Serial,
    to_at: Time,
    /// Whether the contract names the device itself, for good: its place beside that would cover nobody.
    named: bool,
    /// What it is like now; none of a device that is gone.
    state: Option<DeviceState>,
    fence_at: Option<Time>,
    customer_id: Option<CustomerId>,
    site: Option<Slug>,
    family: Option<Family>,
}

impl MemberRow {
    /// Whether its place ends with the overlap of a swap: the device that replaces it has the place for good.
    pub fn is_cut(&self) -> bool {
        self.to_at < Time::FOREVER
    }

    /// Whether it keeps its place.
    pub fn stays(&self, pool: &PoolRow, now: Time) -> bool {
        let serves = match self.state {
            None | Some(DeviceState::Retired | DeviceState::Replaced) => false,
            Some(_) => self.fence_at.is_none_or(|fence| fence > now),
        };
        serves
            && !self.named
            && self.customer_id == Some(pool.customer_id)
            && self.site.as_ref() == Some(&pool.site)
            && self.family.as_ref() == Some(&pool.family)
    }
}

#[derive(sqlx::FromRow)]
struct DetailRow {
    family: Family,
    site: Slug,
    quantity: i64,
    used: i64,
}

#[derive(sqlx::FromRow)]
struct FullRow {
    number: ContractNumber,
    plan: Slug,
    family: Family,
    site: Slug,
    quantity: i64,
}

const ROW: &str = "SELECT p.id, p.contract_id, c.plan_id, c.customer_id, p.family, p.site, \
                   CASE WHEN c.state = 'active' THEN s.quantity ELSE CAST(0 AS BIGINT) END AS quantity \
                   FROM pool p JOIN contract c ON c.id = p.contract_id \
                   JOIN pool_size s ON s.pool_id = p.id AND s.superseded_at IS NULL";

async fn details<'a>(on: impl Into<On<'a>>, contract: ContractId) -> Result<Vec<PoolDetail>> {
    let rows: Vec<DetailRow> = Sql::new(
        "SELECT p.family, p.site, s.quantity,
                (SELECT CAST(COUNT(*) AS BIGINT) FROM covered_item i
                 WHERE i.pool_id = p.id AND i.superseded_at IS NULL AND i.to_at = $1) AS used
         FROM pool p JOIN pool_size s ON s.pool_id = p.id AND s.superseded_at IS NULL
         WHERE p.contract_id = $2 AND s.quantity > 0 ORDER BY p.family, p.site",
    )
    .bind(Time::FOREVER)
    .bind(contract)
    .all(on)
    .await?;
    let number = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    let detail = |row: DetailRow| PoolDetail {
        family: row.family,
        site: row.site,
        quantity: number(row.quantity),
        used: number(row.used),
    };
    Ok(rows.into_iter().map(detail).collect())
}

impl Store {
    /// A contract's pools, with how many places are taken.
    pub async fn pool_details(&self, contract: ContractId) -> Result<Vec<PoolDetail>> {
        details(self, contract).await
    }

    /// Pools for a family at a customer's site, with their plans, by what was known at a moment or is known now.
    pub async fn pools_for(
        &self,
        customer: CustomerId,
        place: &PoolPlace,
        known_at: Option<Time>,
    ) -> Result<Vec<(Slug, FullPool)>> {
        let known = if known_at.is_some() {
            "s.recorded_at <= $4 AND (s.superseded_at IS NULL OR s.superseded_at > $4)"
        } else {
            "s.superseded_at IS NULL AND s.recorded_at <= $4"
        };
        let rows: Vec<FullRow> = Sql::built(format!(
            "SELECT c.number, l.name AS plan, p.family, p.site, s.quantity
             FROM pool p JOIN contract c ON c.id = p.contract_id JOIN plan l ON l.id = c.plan_id
             JOIN pool_size s ON s.pool_id = p.id
             WHERE c.customer_id = $1 AND p.family = $2 AND p.site = $3 AND {known} AND s.quantity > 0 ORDER BY c.number"
        ))
        .bind(customer)
        .bind(&place.family)
        .bind(&place.site)
        .bind(known_at.unwrap_or(Time::FOREVER))
        .all(self)
        .await?;
        let full = |row: FullRow| {
            let quantity = u32::try_from(row.quantity).unwrap_or(u32::MAX);
            let place = PoolPlace { family: row.family, site: row.site };
            (row.plan, FullPool { contract: row.number, place, quantity })
        };
        Ok(rows.into_iter().map(full).collect())
    }
}

impl Store {
    /// Customers and sites where a contract with a pool ends, between two moments, and another one has a pool as well.
    pub async fn pools_renewing(&self, from: Time, to: Time) -> Result<Vec<(CustomerId, Slug)>> {
        Sql::new(
            "SELECT DISTINCT c.customer_id, p.site FROM coverage_window w JOIN contract c ON c.id = w.contract_id
             JOIN pool p ON p.contract_id = c.id
             WHERE w.superseded_at IS NULL AND w.to_at > $1 AND w.to_at <= $2
               AND EXISTS (SELECT 1 FROM pool o JOIN contract b ON b.id = o.contract_id
                           WHERE o.site = p.site AND b.customer_id = c.customer_id AND b.id <> c.id)
             ORDER BY c.customer_id, p.site",
        )
        .bind(from.plus_days(RENEWS_DAYS))
        .bind(to.plus_days(RENEWS_DAYS))
        .all(self)
        .await
    }
}

impl Tx {
    /// A contract's pools.
    pub async fn pool_details(&mut self, contract: ContractId) -> Result<Vec<PoolDetail>> {
        details(self, contract).await
    }

    /// Sets the places of a pool under a contract, which is made when it is not there.
    pub async fn pool_set(
        &mut self,
        id: FactId,
        contract: ContractId,
        (family, site): (&Family, &Slug),
        quantity: u32,
        at: Time,
    ) -> Result<()> {
        Sql::new(
            "INSERT INTO pool (id, contract_id, family, site, created_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (contract_id, family, site) DO NOTHING",
        )
        .bind(id)
        .bind(contract)
        .bind(family)
        .bind(site)
        .bind(at)
        .execute(&mut *self)
        .await?;
        Sql::new(
            "UPDATE pool_size SET superseded_at = $1 WHERE superseded_at IS NULL AND pool_id =
                 (SELECT id FROM pool WHERE contract_id = $2 AND family = $3 AND site = $4)",
        )
        .bind(at)
        .bind(contract)
        .bind(family)
        .bind(site)
        .execute(&mut *self)
        .await?;
        Sql::new(
            "INSERT INTO pool_size (pool_id, quantity, recorded_at)
             SELECT id, CAST($1 AS BIGINT), CAST($2 AS BIGINT) FROM pool
             WHERE contract_id = $3 AND family = $4 AND site = $5",
        )
        .bind(i64::from(quantity))
        .bind(at)
        .bind(contract)
        .bind(family)
        .bind(site)
        .execute(self)
        .await
        .map(|_| ())
    }

    /// The pools of a customer's site. The customer's places are locked until the transaction ends: two devices that come at once must
    /// not get one place, and one that comes while its pool is made must not be passed over.
    pub async fn pools_at(&mut self, customer: CustomerId, site: &Slug) -> Result<Vec<PoolRow>> {
        self.customers_lock([customer]).await?;
        Sql::built(format!("{ROW} WHERE p.site = $1 AND c.customer_id = $2 ORDER BY p.id"))
            .bind(site)
            .bind(customer)
            .all(self)
            .await
    }

    /// Who has a place, in the order in which they came in, and who has one until the overlap of a swap ends.
    pub async fn pool_members(&mut self, pool: &PoolRow, now: Time) -> Result<Vec<MemberRow>> {
        Sql::new(
            "SELECT i.id, i.product, i.serial, i.to_at, d.state, d.fence_at, d.customer_id, d.site, p.family,
                    EXISTS (SELECT 1 FROM covered_item n WHERE n.contract_id = i.contract_id AND n.product = i.product
                            AND n.serial = i.serial AND n.pool_id IS NULL AND n.superseded_at IS NULL
                            AND n.from_at <= $1 AND n.to_at = $2) AS named
             FROM covered_item i LEFT JOIN product p ON p.name = i.product
             LEFT JOIN device d ON d.product_id = p.id AND d.serial = i.serial
             WHERE i.pool_id = $3 AND i.superseded_at IS NULL AND i.to_at > $4 ORDER BY i.recorded_at, i.id",
        )
        .bind(Time::EPOCH)
        .bind(Time::FOREVER)
        .bind(pool.id)
        .bind(now)
        .all(self)
        .await
    }

    /// Devices in service that stand where a pool is, and have neither a place or an item under its contract nor, under another of its
    /// plan, a place that covers now and a day from now; those who stand there longest first. So two contracts of one plan cover more
    /// devices, and a renewal under another number takes over before the first ends.
    pub async fn pool_waiting(&mut self, pool: &PoolRow, limit: i64, now: Time) -> Result<Vec<(ProductName, Serial)>> {
        Sql::new(
            "SELECT p.name, d.serial FROM device d JOIN product p ON p.id = d.product_id
             WHERE d.customer_id = $1 AND d.site = $2 AND p.family = $3 AND d.state = 'active'
               AND (d.fence_at IS NULL OR d.fence_at > $4)
               AND NOT EXISTS (SELECT 1 FROM covered_item i JOIN contract c ON c.id = i.contract_id JOIN plan l ON l.id = c.plan_id
                               WHERE i.product = p.name AND i.serial = d.serial AND i.superseded_at IS NULL AND i.to_at > $4
                                 AND ((c.id = $5 AND (i.pool_id IS NOT NULL OR i.from_at <= $4))
                                      OR (c.plan_id = $6 AND i.pool_id IS NOT NULL AND c.state = 'active'
                                          AND (l.rule = 'open' OR EXISTS (
                                              SELECT 1 FROM coverage_window w WHERE w.contract_id = c.id
                                              AND w.superseded_at IS NULL AND w.from_at <= $4 AND w.to_at > $8)))))
             ORDER BY COALESCE(d.sited_at, d.created_at), d.id LIMIT $7",
        )
        .bind(pool.customer_id)
        .bind(&pool.site)
        .bind(&pool.family)
        .bind(now)
        .bind(pool.contract_id)
        .bind(pool.plan_id)
        .bind(limit)
        .bind(now.plus_days(RENEWS_DAYS))
        .all(self)
        .await
    }

    /// Customers and sites of the pools of contracts.
    pub async fn pool_sites(&mut self, contracts: &[ContractId]) -> Result<Vec<(CustomerId, Slug)>> {
        let mut sites = Vec::new();
        for chunk in contracts.chunks(MAX_PARAMETERS / 2) {
            let sql = Sql::built(format!(
                "SELECT DISTINCT c.customer_id, p.site FROM pool p JOIN contract c ON c.id = p.contract_id WHERE c.id IN ({})
                 ORDER BY c.customer_id, p.site",
                list(1, chunk.len())
            ));
            let found: Vec<(CustomerId, Slug)> = sql.bind_all(chunk.iter().copied()).all(&mut *self).await?;
            sites.extend(found);
        }
        Ok(sites)
    }

    /// The same of all contracts of a plan.
    pub async fn plan_sites(&mut self, plan: PlanId) -> Result<Vec<(CustomerId, Slug)>> {
        Sql::new(
            "SELECT DISTINCT c.customer_id, p.site FROM pool p JOIN contract c ON c.id = p.contract_id WHERE c.plan_id = $1
             ORDER BY c.customer_id, p.site",
        )
        .bind(plan)
        .all(self)
        .await
    }

    /// A device takes the place of another among those who wait at its site.
    pub async fn device_sited_as(&mut self, device: DeviceId, other: DeviceId) -> Result<()> {
        Sql::new(
            "UPDATE device SET sited_at = (SELECT COALESCE(o.sited_at, o.created_at) FROM device o WHERE o.id = $1) WHERE id = $2",
        )
        .bind(other)
        .bind(device)
        .execute(self)
        .await
        .map(|_| ())
    }

    /// Notes since when a device stands at its site.
    pub async fn device_sited(&mut self, device: DeviceId, at: Time) -> Result<()> {
        Sql::new("UPDATE device SET sited_at = $1 WHERE id = $2").bind(at).bind(device).execute(self).await.map(|_| ())
    }
}
