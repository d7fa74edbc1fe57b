//! Contracts and plans that change: what was is kept, with the time in which it was known.

use serde_json::json;
use sluice_catalog::Time;
use sluice_catalog::contract::Grant;
use sluice_catalog::cover::CoverRule;
use sluice_catalog::id::FactId;
use sluice_catalog::principal::Permission;
use sluice_catalog::text::{ContractNumber, Slug};
use sluice_catalog::wire::admin::{ContractDetail, PlanDetail};
use sluice_catalog::wire::entitlement::{ContractChange, PlanChange};

use super::contracts::{MAX_GRACE_DAYS, MAX_GRANTS};
use super::{Actor, App};
use crate::error::{Error, Result};
use crate::store::{FactKind, Tx};

impl App {
    /// Moves a contract to another plan, voids it, or makes it count again. What it is already changes nothing.
    pub async fn contract_change(
        &self,
        actor: &Actor,
        number: &ContractNumber,
        request: &ContractChange,
    ) -> Result<ContractDetail> {
        actor.need(Permission::Contracts)?;
        let now = self.now();
        let mut tx = self.store.begin().await?;
        if self.contract_change_in(&mut tx, actor, number, request, now).await? {
            self.refuse_loss(&mut tx, now, None, request.accept_loss).await?;
            tx.commit().await?;
            self.devices.forget_all();
        }
        self.contract_get(actor, number).await
    }

    /// Whether anything changed.
    pub(super) async fn contract_change_in(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        number: &ContractNumber,
        request: &ContractChange,
        now: Time,
    ) -> Result<bool> {
        tx.contract_lock(number).await?;
        let before = tx.contract_by_number(number).await?.ok_or_else(|| Error::not_found("contract", number))?;
        let mut after = before.clone();
        if let Some(plan) = &request.plan {
            after.plan_id = tx.plan_by_name(plan).await?.ok_or_else(|| Error::not_found("plan", plan))?.id;
        }
        after.state = request.state.unwrap_or(before.state);
        if after == before {
            return Ok(false);
        }
        tx.customers_lock([before.customer_id]).await?;
        tx.contract_change(&before, &after, now).await?;
        tx.contract_touch_devices(before.id, now).await?;
        self.pools_settle_contracts(tx, &[before.id], now).await?;
        let detail = json!({"plan": request.plan, "state": request.state,
            "before": {"state": before.state, "plan_id": before.plan_id}});
        tx.audit_add(now, actor.name(), "contract.change", &format!("contract:{number}"), &detail).await?;
        Ok(true)
    }

    /// Takes back a window or an item of a contract: from now on it is held for false, but it stays on record.
    pub async fn contract_retract(
        &self,
        actor: &Actor,
        number: &ContractNumber,
        (kind, id): (FactKind, FactId),
        accept_loss: Option<u64>,
    ) -> Result<ContractDetail> {
        actor.need(Permission::Contracts)?;
        let now = self.now();
        let mut tx = self.store.begin().await?;
        self.contract_retract_in(&mut tx, actor, number, (kind, id), now).await?;
        self.refuse_loss(&mut tx, now, None, accept_loss).await?;
        tx.commit().await?;
        self.devices.forget_all();
        self.contract_get(actor, number).await
    }

    pub(super) async fn contract_retract_in(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        number: &ContractNumber,
        (kind, id): (FactKind, FactId),
        now: Time,
    ) -> Result<()> {
        tx.contract_lock(number).await?;
        let contract = tx.contract_by_number(number).await?.ok_or_else(|| Error::not_found("contract", number))?;
        tx.customers_lock([contract.customer_id]).await?;
        // Before the item is gone: its device must hear of it.
        tx.contract_touch_devices(contract.id, now).await?;
        if !tx.fact_end(kind, contract.id, id, now).await? {
            return Err(Error::not_found(kind.as_str(), format!("{id} of contract {number}")));
        }
        self.pools_settle_contracts(tx, &[contract.id], now).await?;
        let detail = json!({"kind": kind.as_str(), "id": id});
        tx.audit_add(now, actor.name(), "contract.retract", &format!("contract:{number}"), &detail).await?;
        Ok(())
    }

    /// Changes what a plan is like, for all its contracts. What it is like already changes nothing.
    pub async fn plan_change(&self, actor: &Actor, name: &Slug, request: &PlanChange) -> Result<PlanDetail> {
        actor.need(Permission::Contracts)?;
        let now = self.now();
        let mut tx = self.store.begin().await?;
        let (detail, changed) = self.plan_change_in(&mut tx, actor, name, request, now).await?;
        if changed {
            self.refuse_loss(&mut tx, now, None, request.accept_loss).await?;
            tx.commit().await?;
            self.devices.forget_all();
        }
        Ok(detail)
    }

    /// What the plan is like then, and whether anything changed.
    pub(super) async fn plan_change_in(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        name: &Slug,
        request: &PlanChange,
        now: Time,
    ) -> Result<(PlanDetail, bool)> {
        if request.grace_days > MAX_GRACE_DAYS {
            return Err(Error::invalid("grace_days", format!("0 to {MAX_GRACE_DAYS}")));
        }
        if request.grants.len() > MAX_GRANTS {
            return Err(Error::invalid("grants", format!("at most {MAX_GRANTS}")));
        }
        let grant = |grant: &sluice_catalog::wire::admin::GrantCreate| Grant {
            code: grant.code.clone(),
            family: grant.family.clone(),
            channel_ceiling: grant.channel_ceiling,
        };
        let grants: Vec<Grant> = request.grants.iter().map(grant).collect();
        tx.plan_lock(name).await?;
        let before = tx.plan_by_name(name).await?.ok_or_else(|| Error::not_found("plan", name))?;
        let grants_before = tx.plan_grants(before.id).await?;
        let mut after = before.clone();
        after.rule = request.rule;
        after.grace_days = i32::from(request.grace_days);
        if after == before && grants == grants_before {
            return Ok((PlanDetail { plan: before, grants }, false));
        }
        tx.plan_change(&before, &grants_before, &after, &grants, now).await?;
        tx.generation_raise("devices").await?;
        let customers = tx.plan_customers(before.id).await?;
        tx.customers_lock(customers).await?;
        tx.plan_touch_devices(before.id, now).await?;
        // A place under an open plan covers always, one under another while a window does.
        if (before.rule == CoverRule::Open) != (after.rule == CoverRule::Open) {
            for (customer, site) in tx.plan_sites(before.id).await? {
                self.pools_settle(tx, customer, &site, now).await?;
            }
        }
        let detail = json!({"rule": after.rule, "grace_days": after.grace_days, "grants": grants,
            "before": {"rule": before.rule, "grace_days": before.grace_days, "grants": grants_before}});
        tx.audit_add(now, actor.name(), "plan.change", &format!("plan:{name}"), &detail).await?;
        Ok((PlanDetail { plan: after, grants }, true))
    }
}
