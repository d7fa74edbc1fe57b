//! Plans, contracts and their twice-dated facts.

use sluice_catalog::Time;
use sluice_catalog::contract::{Contract, CoverageWindow, CoveredItem, Grant, Plan, WindowKind};
use sluice_catalog::id::{ContractId, CustomerId, FactId, PlanId};
use sluice_catalog::text::{ContractNumber, ProductName, Serial, Slug};

use super::{Result, Sql, Store, Tx};

const COLUMNS: &str = "id, customer_id, number, plan_id, state, created_at";
const PLAN_COLUMNS: &str = "id, name, rule, grace_days, created_at";
const WINDOW_COLUMNS: &str = "id, contract_id, from_at, to_at, kind, recorded_at, superseded_at";
const ITEM_COLUMNS: &str = "id, contract_id, product, serial, pool_id, from_at, to_at, recorded_at, superseded_at";

/// A window to record.
#[derive(Clone, Debug)]
pub struct NewWindow {
    /// Made by the program.
    pub id: FactId,
    /// First moment covered.
    pub from_at: Time,
    /// First moment no longer covered.
    pub to_at: Time,
    /// Why it covers.
    pub kind: WindowKind,
}

/// An item to record.
#[derive(Clone, Debug)]
pub struct NewItem {
    /// Made by the program.
    pub id: FactId,
    /// The product.
    pub product: ProductName,
    /// The serial.
    pub serial: Serial,
    /// The pool in which it has a place.
    pub pool_id: Option<FactId>,
    /// First moment covered.
    pub from_at: Time,
    /// First moment no longer covered.
    pub to_at: Time,
}

impl Store {
    /// Plans after a name, in the order of names.
    pub async fn plan_list(&self, after: &str, limit: u32) -> Result<Vec<Plan>> {
        Sql::built(format!("SELECT {PLAN_COLUMNS} FROM plan WHERE name > $1 ORDER BY name LIMIT $2"))
            .bind(after)
            .bind(i64::from(limit))
            .all(self)
            .await
    }

    /// What a plan grants.
    pub async fn plan_grants(&self, plan: PlanId) -> Result<Vec<Grant>> {
        Sql::new("SELECT code, family, channel_ceiling FROM plan_grant WHERE plan_id = $1 ORDER BY position")
            .bind(plan)
            .all(self)
            .await
    }

    /// Contracts after a number, in the order of numbers.
    pub async fn contract_list(&self, customer: Option<CustomerId>, after: &str, limit: u32) -> Result<Vec<Contract>> {
        let of = if customer.is_some() { " AND customer_id = $3" } else { "" };
        let sql = Sql::built(format!("SELECT {COLUMNS} FROM contract WHERE number > $1{of} ORDER BY number LIMIT $2"))
            .bind(after)
            .bind(i64::from(limit));
        match customer {
            Some(customer) => sql.bind(customer).all(self).await,
            None => sql.all(self).await,
        }
    }

    /// A contract with its customer's and plan's names.
    pub async fn contract_by_number(&self, number: &ContractNumber) -> Result<Option<(Contract, Slug, Slug)>> {
        let contract: Option<Contract> =
            Sql::built(format!("SELECT {COLUMNS} FROM contract WHERE number = $1")).bind(number).optional(self).await?;
        let Some(contract) = contract else { return Ok(None) };
        let (customer, plan): (Slug, Slug) =
            Sql::new("SELECT c.name, p.name FROM customer c, plan p WHERE c.id = $1 AND p.id = $2")
                .bind(contract.customer_id)
                .bind(contract.plan_id)
                .one(self)
                .await?;
        Ok(Some((contract, customer, plan)))
    }

    /// A contract's windows that hold by what is known now.
    pub async fn window_list(&self, contract: ContractId, limit: u32) -> Result<Vec<CoverageWindow>> {
        Sql::built(format!(
            "SELECT {WINDOW_COLUMNS} FROM coverage_window WHERE contract_id = $1 AND superseded_at IS NULL
             ORDER BY from_at, id LIMIT $2"
        ))
        .bind(contract)
        .bind(i64::from(limit))
        .all(self)
        .await
    }

    /// A contract's items that hold by what is known now.
    pub async fn item_list(&self, contract: ContractId, limit: u32) -> Result<Vec<CoveredItem>> {
        Sql::built(format!(
            "SELECT {ITEM_COLUMNS} FROM covered_item WHERE contract_id = $1 AND superseded_at IS NULL
             ORDER BY product, serial, from_at LIMIT $2"
        ))
        .bind(contract)
        .bind(i64::from(limit))
        .all(self)
        .await
    }
}

impl Store {
    /// Serials after another that stand under several contracts that count, in their order.
    pub async fn serials_twice(
        &self,
        (product, serial): (&str, &str),
        limit: u32,
    ) -> Result<Vec<(ProductName, Serial)>> {
        Sql::new(
            "SELECT i.product, i.serial FROM covered_item i JOIN contract c ON c.id = i.contract_id
             WHERE (i.product > $1 OR (i.product = $1 AND i.serial > $2)) AND i.superseded_at IS NULL AND c.state = 'active'
             GROUP BY i.product, i.serial HAVING COUNT(DISTINCT i.contract_id) > 1
             ORDER BY i.product, i.serial LIMIT $3",
        )
        .bind(product)
        .bind(serial)
        .bind(i64::from(limit))
        .all(self)
        .await
    }
}

impl Tx {
    /// A plan by name.
    pub async fn plan_by_name(&mut self, name: &Slug) -> Result<Option<Plan>> {
        Sql::built(format!("SELECT {PLAN_COLUMNS} FROM plan WHERE name = $1")).bind(name).optional(self).await
    }

    /// What a plan grants.
    pub async fn plan_grants(&mut self, plan: PlanId) -> Result<Vec<Grant>> {
        Sql::new("SELECT code, family, channel_ceiling FROM plan_grant WHERE plan_id = $1 ORDER BY position")
            .bind(plan)
            .all(self)
            .await
    }

    /// Enters a plan with its grants.
    pub async fn plan_add(&mut self, plan: &Plan, grants: &[Grant]) -> Result<()> {
        Sql::new("INSERT INTO plan (id, name, rule, grace_days, created_at) VALUES ($1, $2, $3, $4, $5)")
            .bind(plan.id)
            .bind(&plan.name)
            .bind(plan.rule)
            .bind(plan.grace_days)
            .bind(plan.created_at)
            .execute(&mut *self)
            .await?;
        self.plan_grants_add(plan.id, grants).await
    }

    /// Writes what a plan grants.
    pub(super) async fn plan_grants_add(&mut self, plan: PlanId, grants: &[Grant]) -> Result<()> {
        for (position, grant) in grants.iter().enumerate() {
            Sql::new(
                "INSERT INTO plan_grant (plan_id, position, code, family, channel_ceiling) VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(plan)
            .bind(i32::try_from(position).unwrap_or(i32::MAX))
            .bind(&grant.code)
            .bind(grant.family.as_ref())
            .bind(grant.channel_ceiling)
            .execute(&mut *self)
            .await?;
        }
        Ok(())
    }

    /// A contract by number.
    pub async fn contract_by_number(&mut self, number: &ContractNumber) -> Result<Option<Contract>> {
        Sql::built(format!("SELECT {COLUMNS} FROM contract WHERE number = $1")).bind(number).optional(self).await
    }

    /// Enters a contract.
    pub async fn contract_add(&mut self, contract: &Contract) -> Result<()> {
        self.contracts_add(std::slice::from_ref(contract)).await
    }

    /// A contract's windows that hold by what is known now.
    pub async fn window_list(&mut self, contract: ContractId) -> Result<Vec<CoverageWindow>> {
        Sql::built(format!(
            "SELECT {WINDOW_COLUMNS} FROM coverage_window WHERE contract_id = $1 AND superseded_at IS NULL
             ORDER BY from_at, id"
        ))
        .bind(contract)
        .all(self)
        .await
    }

    /// Items that a contract names, and that hold by what is known now: not the places of its pools.
    pub async fn item_list(&mut self, contract: ContractId) -> Result<Vec<CoveredItem>> {
        Sql::built(format!(
            "SELECT {ITEM_COLUMNS} FROM covered_item WHERE contract_id = $1 AND superseded_at IS NULL AND pool_id IS NULL
             ORDER BY product, serial, from_at"
        ))
        .bind(contract)
        .all(self)
        .await
    }

    /// Records windows.
    pub async fn window_add(&mut self, contract: ContractId, windows: &[NewWindow], at: Time) -> Result<()> {
        let windows: Vec<_> = windows.iter().map(|window| (contract, window.clone())).collect();
        self.windows_add(&windows, at).await
    }

    /// Records items.
    pub async fn item_add(&mut self, contract: ContractId, items: &[NewItem], at: Time) -> Result<()> {
        let items: Vec<_> = items.iter().map(|item| (contract, item.clone())).collect();
        self.items_add(&items, at).await
    }

    /// Marks every device that a contract covers as changed, so that caches read its cover anew.
    pub async fn contract_touch_devices(&mut self, contract: ContractId, at: Time) -> Result<()> {
        Sql::new(
            "UPDATE device SET revision = revision + 1, changed_at = $1
             WHERE id IN (SELECT d.id FROM device d
                          JOIN product p ON p.id = d.product_id
                          JOIN covered_item i ON i.product = p.name AND i.serial = d.serial
                          WHERE i.contract_id = $2 AND i.superseded_at IS NULL)",
        )
        .bind(at)
        .bind(contract)
        .execute(self)
        .await
        .map(|_| ())
    }
}
