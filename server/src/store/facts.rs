//! What contracts say of a device, now or ever: read for the decision, and for the question what was known when.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Display;

use sluice_catalog::Time;
use sluice_catalog::contract::{Contract, ContractState, Grant, Plan};
use sluice_catalog::cover::CoverRule;
use sluice_catalog::facts::{ContractFacts, Known, PlanTerms};
use sluice_catalog::id::{ContractId, CustomerId, FactId, PlanId, ReleaseId};
use sluice_catalog::pool::PoolPlace;
use sluice_catalog::source::Heard;
use sluice_catalog::text::{ContractNumber, Family, ProductName, Serial, Slug};

use super::source::contract_sources;
use super::sql::{json, list};
use super::{MAX_PARAMETERS, On, Result, Sql, Store, StoreError, Tx, TxInner};

/// Items that one serial has at once: a device under more contracts is a mistake somewhere. No more are taken in.
pub const MAX_ITEMS: usize = 256;
/// Items, windows or terms of one thing that are read for one question. Beyond it the question is refused and not answered by halves.
const MAX_READ: i64 = 100_000;

/// Which facts of a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactKind {
    /// When it covers.
    Window,
    /// What it covers.
    Item,
}

impl FactKind {
    /// In messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Window => "window",
            Self::Item => "item",
        }
    }
}

/// An interval as it was known.
#[derive(sqlx::FromRow)]
#[expect(clippy::struct_field_names, reason = "columns have these names")]
struct Interval {
    from_at: Time,
    to_at: Time,
    recorded_at: Time,
    superseded_at: Option<Time>,
}

impl From<Interval> for Known<(Time, Time)> {
    fn from(row: Interval) -> Self {
        Self { fact: (row.from_at, row.to_at), recorded_at: row.recorded_at, superseded_at: row.superseded_at }
    }
}

#[derive(sqlx::FromRow)]
struct Item {
    serial: Serial,
    contract_id: ContractId,
    number: ContractNumber,
    family: Option<Family>,
    site: Option<Slug>,
    #[sqlx(flatten)]
    interval: Interval,
}

#[derive(sqlx::FromRow)]
struct Window {
    contract_id: ContractId,
    #[sqlx(flatten)]
    interval: Interval,
}

/// A contract's plan and state as they were known.
#[derive(sqlx::FromRow)]
struct ContractRow {
    contract_id: ContractId,
    plan_id: PlanId,
    state: ContractState,
    recorded_at: Time,
    superseded_at: Option<Time>,
}

#[derive(sqlx::FromRow)]
struct PlanRow {
    plan_id: PlanId,
    name: Slug,
    #[sqlx(try_from = "String")]
    rule: CoverRule,
    grace_days: i32,
    grants: Option<String>,
    recorded_at: Time,
    superseded_at: Option<Time>,
}

#[derive(sqlx::FromRow)]
struct GrantRow {
    plan_id: PlanId,
    #[sqlx(flatten)]
    grant: Grant,
}

fn bounded(count: usize, what: &str, of: impl Display) -> Result<()> {
    if i64::try_from(count).is_ok_and(|count| count <= MAX_READ) {
        return Ok(());
    }
    Err(StoreError::Corrupt(format!("more than {MAX_READ} {what} {of}")))
}

impl Store {
    /// What contracts say of a serial: as it holds now, or everything that was ever recorded.
    pub async fn contract_facts(
        &self,
        product: &ProductName,
        serial: &Serial,
        all: bool,
    ) -> Result<Vec<ContractFacts>> {
        let mut facts = contract_facts(&mut On::from(self), product, std::slice::from_ref(serial), all).await?;
        Ok(facts.remove(serial).unwrap_or_default())
    }
}

/// States, terms and windows of a contract that were ever recorded.
pub(super) async fn contract_recorded(on: &mut On<'_>, contract: ContractId) -> Result<Recorded> {
    let mut of_contracts = HashMap::new();
    contract_terms(on, &[contract], true, &mut of_contracts).await?;
    contract_windows(on, &[contract], true, &mut of_contracts).await?;
    let Terms { states, plans, windows, .. } = of_contracts.remove(&contract).unwrap_or_default();
    Ok((states, plans, windows))
}

/// What [`contract_recorded`] reads.
pub(super) type Recorded = (Vec<Known<ContractState>>, Vec<Known<PlanTerms>>, Vec<Known<(Time, Time)>>);

/// What contracts say of each of these serials of a product, in the order of contract numbers: as it holds now, or everything that was
/// ever recorded. However many serials, it takes the same few questions.
pub async fn contract_facts(
    on: &mut On<'_>,
    product: &ProductName,
    serials: &[Serial],
    all: bool,
) -> Result<HashMap<Serial, Vec<ContractFacts>>> {
    let now = if all { "" } else { "AND i.superseded_at IS NULL" };
    let items: Vec<Item> = Sql::built(format!(
        "SELECT serial, contract_id, number, family, site, from_at, to_at, recorded_at, superseded_at FROM (
             SELECT i.serial, i.contract_id, c.number, p.family, p.site, i.from_at, i.to_at, i.recorded_at, i.superseded_at,
                    ROW_NUMBER() OVER (PARTITION BY i.serial ORDER BY c.number, i.recorded_at, i.id) AS place
             FROM covered_item i JOIN contract c ON c.id = i.contract_id LEFT JOIN pool p ON p.id = i.pool_id
             WHERE i.product = $1 AND i.serial IN ({}) {now}
         ) AS item WHERE place <= $2 ORDER BY serial, place",
        list(3, serials.len())
    ))
    .bind(product)
    .bind(MAX_READ + 1)
    .bind_all(serials)
    .all(&mut *on)
    .await?;
    let contracts: BTreeSet<ContractId> = items.iter().map(|item| item.contract_id).collect();
    let contracts: Vec<ContractId> = contracts.into_iter().collect();
    let mut of_contracts = HashMap::new();
    for contracts in contracts.chunks(MAX_PARAMETERS / 2) {
        contract_terms(on, contracts, all, &mut of_contracts).await?;
        contract_windows(on, contracts, all, &mut of_contracts).await?;
        for (contract, source) in contract_sources(on, contracts, all).await? {
            of_contracts.entry(contract).or_default().sources.push(source);
        }
    }
    let mut facts: HashMap<Serial, Vec<ContractFacts>> = HashMap::new();
    let mut counts: HashMap<Serial, usize> = HashMap::new();
    for Item { serial, contract_id, number, family, site, interval } in items {
        let count = counts.entry(serial.clone()).or_default();
        *count += 1;
        bounded(*count, "items of", &serial)?;
        let item: Known<(Time, Time)> = interval.into();
        let place = family.zip(site).map(|(family, site)| Known {
            fact: PoolPlace { family, site },
            recorded_at: item.recorded_at,
            superseded_at: item.superseded_at,
        });
        let of_serial = facts.entry(serial).or_default();
        // Items come in the order of contracts.
        match of_serial.last_mut().filter(|facts| facts.number == number) {
            Some(facts) => {
                facts.items.push(item);
                facts.pools.extend(place);
            }
            None => {
                let Terms { states, plans: terms, windows, sources } =
                    of_contracts.get(&contract_id).cloned().unwrap_or_default();
                let (items, pools) = (vec![item], place.into_iter().collect());
                of_serial.push(ContractFacts { number, states, terms, windows, items, sources, pools });
            }
        }
    }
    Ok(facts)
}

/// What is known of a contract, whichever device it covers.
#[derive(Clone, Default)]
struct Terms {
    states: Vec<Known<ContractState>>,
    plans: Vec<Known<PlanTerms>>,
    windows: Vec<Known<(Time, Time)>>,
    sources: Vec<Known<Heard>>,
}

async fn contract_windows(
    on: &mut On<'_>,
    contracts: &[ContractId],
    all: bool,
    of_contracts: &mut HashMap<ContractId, Terms>,
) -> Result<()> {
    let now = if all { "" } else { "AND superseded_at IS NULL" };
    let rows: Vec<Window> = Sql::built(format!(
        "SELECT contract_id, from_at, to_at, recorded_at, superseded_at FROM (
             SELECT contract_id, from_at, to_at, recorded_at, superseded_at,
                    ROW_NUMBER() OVER (PARTITION BY contract_id ORDER BY recorded_at, id) AS place
             FROM coverage_window WHERE contract_id IN ({}) {now}
         ) AS cover WHERE place <= $1 ORDER BY contract_id, place",
        list(2, contracts.len())
    ))
    .bind(MAX_READ + 1)
    .bind_all(contracts.iter().copied())
    .all(&mut *on)
    .await?;
    for row in rows {
        let windows = &mut of_contracts.entry(row.contract_id).or_default().windows;
        windows.push(row.interval.into());
        bounded(windows.len(), "windows of contract", row.contract_id)?;
    }
    Ok(())
}

/// States of contracts, and their plans' terms, each with the time in which they were known.
async fn contract_terms(
    on: &mut On<'_>,
    contracts: &[ContractId],
    all: bool,
    of_contracts: &mut HashMap<ContractId, Terms>,
) -> Result<()> {
    let places = list(1, contracts.len());
    let before = if all {
        format!(
            "SELECT contract_id, plan_id, state, recorded_at, superseded_at FROM contract_history
             WHERE contract_id IN ({places}) UNION ALL"
        )
    } else {
        String::new()
    };
    let rows: Vec<ContractRow> = Sql::built(format!(
        "{before} SELECT id AS contract_id, plan_id, state, COALESCE(recorded_at, created_at) AS recorded_at,
                         CAST(NULL AS BIGINT) AS superseded_at
         FROM contract WHERE id IN ({places}) ORDER BY recorded_at LIMIT {}",
        MAX_READ + 1
    ))
    .bind_all(contracts.iter().copied())
    .all(&mut *on)
    .await?;
    bounded(rows.len(), "terms of", "contracts")?;
    let plans: BTreeSet<PlanId> = rows.iter().map(|row| row.plan_id).collect();
    let plans = plan_terms(on, &plans.into_iter().collect::<Vec<_>>(), all).await?;
    for ContractRow { contract_id, plan_id, state, recorded_at, superseded_at } in rows {
        let of_contract = of_contracts.entry(contract_id).or_default();
        of_contract.states.push(Known { fact: state, recorded_at, superseded_at });
        let under = Known { fact: plan_id, recorded_at, superseded_at };
        let terms = plans.get(&plan_id).map(Vec::as_slice).unwrap_or_default();
        of_contract.plans.extend(terms.iter().filter_map(|plan| under.with(plan, |_, plan| plan.clone())));
    }
    Ok(())
}

/// What plans are like, or what they were ever like.
async fn plan_terms(on: &mut On<'_>, plans: &[PlanId], all: bool) -> Result<HashMap<PlanId, Vec<Known<PlanTerms>>>> {
    let mut terms: HashMap<PlanId, Vec<Known<PlanTerms>>> = HashMap::new();
    for plans in plans.chunks(MAX_PARAMETERS / 2) {
        let places = list(1, plans.len());
        let rows: Vec<GrantRow> = Sql::built(format!(
            "SELECT plan_id, code, family, channel_ceiling FROM plan_grant WHERE plan_id IN ({places})
             ORDER BY plan_id, position"
        ))
        .bind_all(plans.iter().copied())
        .all(&mut *on)
        .await?;
        let mut grants_now: HashMap<PlanId, Vec<Grant>> = HashMap::new();
        for row in rows {
            grants_now.entry(row.plan_id).or_default().push(row.grant);
        }
        let before = if all {
            format!(
                "SELECT h.plan_id, p.name, h.rule, h.grace_days, h.grants, h.recorded_at, h.superseded_at
                 FROM plan_history h JOIN plan p ON p.id = h.plan_id WHERE h.plan_id IN ({places}) UNION ALL"
            )
        } else {
            String::new()
        };
        let rows: Vec<PlanRow> = Sql::built(format!(
            "{before} SELECT id AS plan_id, name, rule, grace_days, CAST(NULL AS TEXT) AS grants,
                             COALESCE(recorded_at, created_at) AS recorded_at, CAST(NULL AS BIGINT) AS superseded_at
             FROM plan WHERE id IN ({places}) ORDER BY recorded_at LIMIT {}",
            MAX_READ + 1
        ))
        .bind_all(plans.iter().copied())
        .all(&mut *on)
        .await?;
        bounded(rows.len(), "terms of", "plans")?;
        for row in rows {
            let grants: Vec<Grant> = match &row.grants {
                Some(grants) => serde_json::from_str(grants)
                    .map_err(|error| StoreError::Corrupt(format!("plan_history of {}: {error}", row.plan_id)))?,
                None => grants_now.get(&row.plan_id).cloned().unwrap_or_default(),
            };
            let fact = PlanTerms { plan: row.name, rule: row.rule, grace_days: row.grace_days, grants };
            let known = Known { fact, recorded_at: row.recorded_at, superseded_at: row.superseded_at };
            terms.entry(row.plan_id).or_default().push(known);
        }
    }
    Ok(terms)
}

impl Tx {
    /// Locks a contract until the transaction ends: what is read of it and its facts from now on is what will be changed. On
    /// SQLite the one writer holds everything anyway.
    pub async fn contract_lock(&mut self, number: &ContractNumber) -> Result<()> {
        Sql::new("UPDATE contract SET state = state WHERE number = $1").bind(number).execute(self).await.map(|_| ())
    }

    /// The same of a plan.
    pub async fn plan_lock(&mut self, name: &Slug) -> Result<()> {
        Sql::new("UPDATE plan SET rule = rule WHERE name = $1").bind(name).execute(self).await.map(|_| ())
    }

    /// The same of a customer, for its policies and sites.
    pub async fn customer_lock(&mut self, name: &Slug) -> Result<()> {
        Sql::new("UPDATE customer SET title = title WHERE name = $1").bind(name).execute(self).await.map(|_| ())
    }

    /// The same of customers, for whose places are filled and whose contracts change: locked before any of their devices, and in the order
    /// of their ids, so that no two transactions wait for each other.
    pub async fn customers_lock(&mut self, ids: impl IntoIterator<Item = CustomerId>) -> Result<()> {
        let ids: BTreeSet<CustomerId> = ids.into_iter().collect();
        if !matches!(self.inner, TxInner::Postgres(_)) {
            return Ok(());
        }
        for chunk in ids.into_iter().collect::<Vec<_>>().chunks(MAX_PARAMETERS / 2) {
            let text =
                format!("SELECT id FROM customer WHERE id IN ({}) ORDER BY id FOR NO KEY UPDATE", list(1, chunk.len()));
            let _: Vec<(CustomerId,)> = Sql::built(text).bind_all(chunk.iter().copied()).all(&mut *self).await?;
        }
        Ok(())
    }

    /// The same of a release, for what is said of it.
    pub async fn release_lock(&mut self, id: ReleaseId) -> Result<()> {
        Sql::new("UPDATE release SET ord = ord WHERE id = $1").bind(id).execute(self).await.map(|_| ())
    }

    /// Changes a contract's plan or state, and keeps what it was.
    pub async fn contract_change(&mut self, before: &Contract, after: &Contract, at: Time) -> Result<()> {
        Sql::new(
            "INSERT INTO contract_history (contract_id, plan_id, state, recorded_at, superseded_at)
             SELECT id, plan_id, state, COALESCE(recorded_at, created_at), $1 FROM contract WHERE id = $2",
        )
        .bind(at)
        .bind(before.id)
        .execute(&mut *self)
        .await?;
        Sql::new("UPDATE contract SET plan_id = $1, state = $2, recorded_at = $3 WHERE id = $4")
            .bind(after.plan_id)
            .bind(after.state)
            .bind(at)
            .bind(after.id)
            .execute(self)
            .await
            .map(|_| ())
    }

    /// Holds a window or an item for false from now on; false when nothing was there.
    pub async fn fact_end(&mut self, kind: FactKind, contract: ContractId, id: FactId, at: Time) -> Result<bool> {
        let text = match kind {
            FactKind::Window => {
                "UPDATE coverage_window SET superseded_at = $1 WHERE contract_id = $2 AND id = $3 AND superseded_at IS NULL"
            }
            FactKind::Item => {
                "UPDATE covered_item SET superseded_at = $1 WHERE contract_id = $2 AND id = $3 AND superseded_at IS NULL"
            }
        };
        Ok(Sql::new(text).bind(at).bind(contract).bind(id).execute(self).await? == 1)
    }

    /// Changes what a plan is like, and keeps what it was like.
    pub async fn plan_change(
        &mut self,
        before: &Plan,
        grants_before: &[Grant],
        after: &Plan,
        grants: &[Grant],
        at: Time,
    ) -> Result<()> {
        Sql::new(
            "INSERT INTO plan_history (plan_id, rule, grace_days, grants, recorded_at, superseded_at)
             SELECT id, rule, grace_days, $1, COALESCE(recorded_at, created_at), $2 FROM plan WHERE id = $3",
        )
        .bind(json(&grants_before)?)
        .bind(at)
        .bind(before.id)
        .execute(&mut *self)
        .await?;
        Sql::new("UPDATE plan SET rule = $1, grace_days = $2, recorded_at = $3 WHERE id = $4")
            .bind(after.rule)
            .bind(after.grace_days)
            .bind(at)
            .bind(after.id)
            .execute(&mut *self)
            .await?;
        Sql::new("DELETE FROM plan_grant WHERE plan_id = $1").bind(after.id).execute(&mut *self).await?;
        self.plan_grants_add(after.id, grants).await
    }

    /// Customers who have contracts of a plan.
    pub async fn plan_customers(&mut self, plan: PlanId) -> Result<Vec<CustomerId>> {
        let rows: Vec<(CustomerId,)> =
            Sql::new("SELECT DISTINCT customer_id FROM contract WHERE plan_id = $1").bind(plan).all(self).await?;
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }

    /// Marks every device under a plan's contracts as changed.
    pub async fn plan_touch_devices(&mut self, plan: PlanId, at: Time) -> Result<()> {
        Sql::new(
            "UPDATE device SET revision = revision + 1, changed_at = $1
             WHERE id IN (SELECT d.id FROM device d
                          JOIN product p ON p.id = d.product_id
                          JOIN covered_item i ON i.product = p.name AND i.serial = d.serial
                          JOIN contract c ON c.id = i.contract_id
                          WHERE c.plan_id = $2 AND i.superseded_at IS NULL)",
        )
        .bind(at)
        .bind(plan)
        .execute(self)
        .await
        .map(|_| ())
    }
}
