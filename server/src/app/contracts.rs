//! Customers, plans and contracts.

use std::collections::BTreeSet;

use serde_json::json;
use sluice_catalog::Time;
use sluice_catalog::contract::{Contract, ContractState, Grant, Plan};
use sluice_catalog::id::{ContractId, FactId, PlanId};
use sluice_catalog::principal::Permission;
use sluice_catalog::text::{ContractNumber, ProductName, Serial, Slug};
use sluice_catalog::wire::admin::{
    ContractCreate, ContractDetail, ContractExtend, ItemCreate, MAX_FACTS, MAX_PAGE, PlanCreate, PlanDetail,
    WindowCreate,
};

use super::apply::{MAX_WINDOWS, check_items, check_windows};
use super::pools::check_pools;
use super::{Actor, App, Made};
use crate::error::{Error, Result};
use crate::store::{MAX_ITEMS, NewItem, NewWindow, Tx};

/// Most grants of one plan.
pub(super) const MAX_GRANTS: usize = 200;
/// Most days of grace.
pub(super) const MAX_GRACE_DAYS: u16 = 365;

impl App {
    /// Plans after a name.
    pub async fn plan_list(&self, actor: &Actor, after: &str, limit: u32) -> Result<Vec<PlanDetail>> {
        actor.need(Permission::Read)?;
        let mut plans = Vec::new();
        for plan in self.store.plan_list(after, limit).await? {
            let grants = self.store.plan_grants(plan.id).await?;
            plans.push(PlanDetail { plan, grants });
        }
        Ok(plans)
    }

    /// Enters a plan.
    pub async fn plan_create(&self, actor: &Actor, request: &PlanCreate) -> Result<Made<PlanDetail>> {
        actor.need(Permission::Contracts)?;
        if request.grace_days > MAX_GRACE_DAYS {
            return Err(Error::invalid("grace_days", format!("0 to {MAX_GRACE_DAYS}")));
        }
        if request.grants.len() > MAX_GRANTS {
            return Err(Error::invalid("grants", format!("at most {MAX_GRANTS}")));
        }
        let now = self.now();
        let plan = Plan {
            id: PlanId::new(now, self.dice.id()),
            name: request.name.clone(),
            rule: request.rule,
            grace_days: i32::from(request.grace_days),
            created_at: now,
        };
        let grants: Vec<Grant> = request
            .grants
            .iter()
            .map(|grant| Grant {
                code: grant.code.clone(),
                family: grant.family.clone(),
                channel_ceiling: grant.channel_ceiling,
            })
            .collect();
        let mut tx = self.store.begin().await?;
        if let Some(there) = tx.plan_by_name(&plan.name).await? {
            let same = there.rule == plan.rule && there.grace_days == plan.grace_days;
            if same && tx.plan_grants(there.id).await? == grants {
                return Ok(Made::Same(PlanDetail { plan: there, grants }));
            }
            return Err(Error::conflict(format!("there is another plan `{}`", there.name)));
        }
        tx.plan_add(&plan, &grants).await?;
        let detail = json!({"rule": plan.rule, "grace_days": plan.grace_days, "grants": grants});
        tx.audit_add(now, actor.name(), "plan.create", &format!("plan:{}", plan.name), &detail).await?;
        tx.commit().await?;
        Ok(Made::New(PlanDetail { plan, grants }))
    }

    /// Contracts after a number, of one customer or, for who is bound to none, of all.
    pub async fn contract_list(
        &self,
        actor: &Actor,
        customer: Option<&Slug>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Contract>> {
        let reach = actor.need_within(Permission::Read)?;
        let customer = self.listed_for(reach, customer).await?;
        Ok(self.store.contract_list(customer, after, limit).await?)
    }

    /// A contract with its facts.
    pub async fn contract_get(&self, actor: &Actor, number: &ContractNumber) -> Result<ContractDetail> {
        let reach = actor.need_within(Permission::Read)?;
        let not_found = || Error::not_found("contract", number);
        let (contract, customer, plan) = self.store.contract_by_number(number).await?.ok_or_else(not_found)?;
        if !self.sees(reach, Some(contract.customer_id)).await? {
            return Err(not_found());
        }
        let windows = self.store.window_list(contract.id, MAX_PAGE).await?;
        let items = self.store.item_list(contract.id, MAX_PAGE).await?;
        let kept = self.store.contract_told(contract.id).await?.map(|told| told.by);
        let pools = self.store.pool_details(contract.id).await?;
        Ok(ContractDetail { contract, customer, plan, windows, items, kept, pools })
    }

    /// Enters a contract.
    pub async fn contract_create(&self, actor: &Actor, request: &ContractCreate) -> Result<Made<ContractDetail>> {
        actor.need(Permission::Contracts)?;
        let now = self.now();
        let (windows, items) = self.facts(&request.windows, &request.items, now)?;
        let mut tx = self.store.begin().await?;
        let customer = tx
            .customer_by_name(&request.customer)
            .await?
            .ok_or_else(|| Error::not_found("customer", &request.customer))?;
        let plan = tx.plan_by_name(&request.plan).await?.ok_or_else(|| Error::not_found("plan", &request.plan))?;
        self.check_items(&items)?;
        if let Some(there) = tx.contract_by_number(&request.number).await? {
            let windows_there = tx.window_list(there.id).await?;
            let items_there = tx.item_list(there.id).await?;
            let same = there.customer_id == customer.id
                && there.plan_id == plan.id
                && windows.iter().all(|new| windows_there.iter().any(|w| is_window(w, new)))
                && items.iter().all(|new| items_there.iter().any(|i| is_item(i, new)));
            if !same {
                return Err(Error::conflict(format!(
                    "there is another contract `{}`; add windows and items to it instead",
                    there.number
                )));
            }
            drop(tx);
            return Ok(Made::Same(self.contract_get(actor, &request.number).await?));
        }
        let contract = Contract {
            id: ContractId::new(now, self.dice.id()),
            customer_id: customer.id,
            number: request.number.clone(),
            plan_id: plan.id,
            state: ContractState::Active,
            created_at: now,
        };
        tx.contract_add(&contract).await?;
        tx.customers_lock([customer.id]).await?;
        tx.window_add(contract.id, &windows, now).await?;
        tx.item_add(contract.id, &items, now).await?;
        self.check_counts(&mut tx, &[contract.id], items.iter()).await?;
        tx.contract_touch_devices(contract.id, now).await?;
        let detail =
            json!({"customer": customer.name, "plan": plan.name, "windows": request.windows, "items": items.len()});
        tx.audit_add(now, actor.name(), "contract.create", &format!("contract:{}", contract.number), &detail).await?;
        tx.commit().await?;
        self.devices.forget_all();
        Ok(Made::New(self.contract_get(actor, &request.number).await?))
    }

    /// Adds windows and items to a contract. Those that are there already change nothing.
    pub async fn contract_extend(
        &self,
        actor: &Actor,
        number: &ContractNumber,
        request: &ContractExtend,
    ) -> Result<ContractDetail> {
        actor.need(Permission::Contracts)?;
        let now = self.now();
        let (mut windows, mut items) = self.facts(&request.windows, &request.items, now)?;
        self.check_items(&items)?;
        check_pools(&request.pools)?;
        let mut tx = self.store.begin().await?;
        tx.contract_lock(number).await?;
        let contract = tx.contract_by_number(number).await?.ok_or_else(|| Error::not_found("contract", number))?;
        tx.customers_lock([contract.customer_id]).await?;
        let windows_there = tx.window_list(contract.id).await?;
        let items_there = tx.item_list(contract.id).await?;
        windows.retain(|new| !windows_there.iter().any(|w| is_window(w, new)));
        items.retain(|new| !items_there.iter().any(|i| is_item(i, new)));
        tx.window_add(contract.id, &windows, now).await?;
        tx.item_add(contract.id, &items, now).await?;
        // After the items: who is named by a contract takes no place of it.
        let owner = (contract.id, contract.customer_id);
        let pools = self.pools_put(&mut tx, owner, &request.pools, false, now).await?;
        if !windows.is_empty() || !items.is_empty() || pools > 0 {
            self.check_counts(&mut tx, &[contract.id], items.iter()).await?;
            tx.contract_touch_devices(contract.id, now).await?;
            self.pools_settle_contracts(&mut tx, &[contract.id], now).await?;
            let detail = json!({"windows": request.windows, "items": request.items.len(), "pools": request.pools});
            tx.audit_add(now, actor.name(), "contract.extend", &format!("contract:{number}"), &detail).await?;
            // Windows and devices that are added take nothing away; a smaller pool does.
            if pools > 0 {
                self.refuse_loss(&mut tx, now, None, request.accept_loss).await?;
            }
            tx.commit().await?;
            self.devices.forget_all();
        } else {
            drop(tx);
        }
        self.contract_get(actor, number).await
    }

    fn facts(
        &self,
        windows: &[WindowCreate],
        items: &[ItemCreate],
        now: Time,
    ) -> Result<(Vec<NewWindow>, Vec<NewItem>)> {
        for (field, count) in [("windows", windows.len()), ("items", items.len())] {
            if count > MAX_FACTS {
                return Err(Error::invalid(field, format!("{count} given, at most {MAX_FACTS} in one request")));
            }
        }
        check_windows(windows)?;
        check_items(items)?;
        let windows = windows
            .iter()
            .map(|window| NewWindow {
                id: FactId::new(now, self.dice.id()),
                from_at: window.from,
                to_at: window.to,
                kind: window.kind,
            })
            .collect();
        let items = items
            .iter()
            .map(|item| NewItem {
                id: FactId::new(now, self.dice.id()),
                product: item.product.clone(),
                serial: item.serial.clone(),
                from_at: item.from.unwrap_or(Time::EPOCH),
                to_at: item.to.unwrap_or(Time::FOREVER),
                pool_id: None,
            })
            .collect();
        Ok((windows, items))
    }

    /// Refuses, in the transaction, what would hold more facts at once than are read.
    pub(super) async fn check_counts(
        &self,
        tx: &mut Tx,
        windows: &[ContractId],
        items: impl Iterator<Item = &NewItem>,
    ) -> Result<()> {
        let serials: BTreeSet<(ProductName, Serial)> =
            items.map(|item| (item.product.clone(), item.serial.clone())).collect();
        let serials: Vec<_> = serials.into_iter().collect();
        match tx.too_many(windows, &serials, (MAX_WINDOWS, MAX_ITEMS)).await? {
            Some(what) => Err(Error::conflict(format!("{what}; take some back first"))),
            None => Ok(()),
        }
    }

    fn check_items(&self, items: &[NewItem]) -> Result<()> {
        let products = self.live.products();
        match items.iter().find(|item| products.by_name(item.product.as_str()).is_none()) {
            Some(item) => Err(Error::not_found("product", &item.product)),
            None => Ok(()),
        }
    }
}

fn is_window(there: &sluice_catalog::contract::CoverageWindow, new: &NewWindow) -> bool {
    there.from_at == new.from_at && there.to_at == new.to_at && there.kind == new.kind
}

fn is_item(there: &sluice_catalog::contract::CoveredItem, new: &NewItem) -> bool {
    there.product == new.product
        && there.serial == new.serial
        && there.from_at == new.from_at
        && there.to_at == new.to_at
}
