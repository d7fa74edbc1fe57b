//! What contracts say of a device, now or ever: read for the decision, and for the question what was known when.

use sluice_catalog::Time;
use sluice_catalog::contract::{Contract, ContractState, Grant, Plan};
use sluice_catalog::cover::CoverRule;
use sluice_catalog::facts::{ContractFacts, Known, PlanTerms};
use sluice_catalog::id::{ContractId, FactId, PlanId, ReleaseId};
use sluice_catalog::text::{ContractNumber, ProductName, Serial, Slug};

use super::sql::json;
use super::{Result, Sql, Store, StoreError, Tx};

/// Items that cover one serial: a device under more contracts is a mistake somewhere, and the best of these is good enough.
const MAX_ITEMS: i64 = 256;
/// Windows, and terms, of one contract or plan.
const MAX_FACTS: i64 = 1_000;

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
    contract_id: ContractId,
    number: ContractNumber,
    #[sqlx(flatten)]
    interval: Interval,
}

/// A contract's plan and state as they were known.
#[derive(sqlx::FromRow)]
struct ContractRow {
    plan_id: PlanId,
    state: ContractState,
    recorded_at: Time,
    superseded_at: Option<Time>,
}

#[derive(sqlx::FromRow)]
struct PlanRow {
    name: Slug,
    #[sqlx(try_from = "String")]
    rule: CoverRule,
    grace_days: i32,
    grants: Option<String>,
    recorded_at: Time,
    superseded_at: Option<Time>,
}

impl Store {
    /// What contracts say of a serial: as it holds now, or everything that was ever recorded.
    pub async fn contract_facts(
        &self,
        product: &ProductName,
        serial: &Serial,
        all: bool,
    ) -> Result<Vec<ContractFacts>> {
        let now = if all { "" } else { "AND i.superseded_at IS NULL" };
        let items: Vec<Item> = Sql::built(format!(
            "SELECT i.contract_id, c.number, i.from_at, i.to_at, i.recorded_at, i.superseded_at
             FROM covered_item i JOIN contract c ON c.id = i.contract_id
             WHERE i.product = $1 AND i.serial = $2 {now} ORDER BY c.number, i.recorded_at, i.id LIMIT $3"
        ))
        .bind(product)
        .bind(serial)
        .bind(MAX_ITEMS)
        .all(self)
        .await?;
        let mut contracts: Vec<(ContractId, ContractFacts)> = Vec::new();
        for Item { contract_id, number, interval } in items {
            if let Some((_, facts)) = contracts.iter_mut().find(|(id, _)| *id == contract_id) {
                facts.items.push(interval.into());
                continue;
            }
            let (states, terms) = self.contract_terms(contract_id, all).await?;
            let windows = self.contract_windows(contract_id, all).await?;
            contracts
                .push((contract_id, ContractFacts { number, states, terms, windows, items: vec![interval.into()] }));
        }
        Ok(contracts.into_iter().map(|(_, facts)| facts).collect())
    }

    async fn contract_windows(&self, contract: ContractId, all: bool) -> Result<Vec<Known<(Time, Time)>>> {
        let now = if all { "" } else { "AND superseded_at IS NULL" };
        let rows: Vec<Interval> = Sql::built(format!(
            "SELECT from_at, to_at, recorded_at, superseded_at FROM coverage_window WHERE contract_id = $1 {now}
             ORDER BY recorded_at, id LIMIT $2"
        ))
        .bind(contract)
        .bind(MAX_FACTS)
        .all(self)
        .await?;
        Ok(rows.into_iter().map(Known::from).collect())
    }

    /// States of a contract, and its plan's terms, each with the time in which they were known.
    async fn contract_terms(
        &self,
        contract: ContractId,
        all: bool,
    ) -> Result<(Vec<Known<ContractState>>, Vec<Known<PlanTerms>>)> {
        let before = if all {
            "SELECT plan_id, state, recorded_at, superseded_at FROM contract_history WHERE contract_id = $1 UNION ALL"
        } else {
            ""
        };
        let rows: Vec<ContractRow> = Sql::built(format!(
            "{before} SELECT plan_id, state, COALESCE(recorded_at, created_at) AS recorded_at,
                             CAST(NULL AS BIGINT) AS superseded_at
             FROM contract WHERE id = $1 ORDER BY recorded_at LIMIT $2"
        ))
        .bind(contract)
        .bind(MAX_FACTS)
        .all(self)
        .await?;
        let (mut states, mut terms) = (Vec::new(), Vec::new());
        for ContractRow { plan_id, state, recorded_at, superseded_at } in rows {
            states.push(Known { fact: state, recorded_at, superseded_at });
            let under = Known { fact: plan_id, recorded_at, superseded_at };
            let plans = self.plan_terms(plan_id, all).await?;
            terms.extend(plans.iter().filter_map(|plan| under.with(plan, |_, plan| plan.clone())));
        }
        Ok((states, terms))
    }

    /// What a plan is like, or what it was ever like.
    async fn plan_terms(&self, plan: PlanId, all: bool) -> Result<Vec<Known<PlanTerms>>> {
        let before = if all {
            "SELECT p.name, h.rule, h.grace_days, h.grants, h.recorded_at, h.superseded_at
             FROM plan_history h JOIN plan p ON p.id = h.plan_id WHERE h.plan_id = $1 UNION ALL"
        } else {
            ""
        };
        let rows: Vec<PlanRow> = Sql::built(format!(
            "{before} SELECT name, rule, grace_days, CAST(NULL AS TEXT) AS grants,
                             COALESCE(recorded_at, created_at) AS recorded_at, CAST(NULL AS BIGINT) AS superseded_at
             FROM plan WHERE id = $1 ORDER BY recorded_at LIMIT $2"
        ))
        .bind(plan)
        .bind(MAX_FACTS)
        .all(self)
        .await?;
        let mut terms = Vec::with_capacity(rows.len());
        for row in rows {
            let grants: Vec<Grant> = match &row.grants {
                Some(grants) => serde_json::from_str(grants)
                    .map_err(|error| StoreError::Corrupt(format!("plan_history of {plan}: {error}")))?,
                None => self.plan_grants(plan).await?,
            };
            let fact = PlanTerms { plan: row.name, rule: row.rule, grace_days: row.grace_days, grants };
            terms.push(Known { fact, recorded_at: row.recorded_at, superseded_at: row.superseded_at });
        }
        Ok(terms)
    }
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
