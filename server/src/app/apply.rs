//! A contract as the system that keeps it tells it, whole: what differs is superseded and recorded anew, and what is the same stays as it
//! is, with the time since when it was known.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde_json::json;
use sluice_catalog::contract::{Contract, KeptBy, Revision, WindowKind, window_mistake};
use sluice_catalog::facts::{self, replace};
use sluice_catalog::id::{ContractId, FactId};
use sluice_catalog::principal::Permission;
use sluice_catalog::swap::{Item, through};
use sluice_catalog::text::{ContractNumber, ProductName, Serial};
use sluice_catalog::wire::admin::{ContractDetail, ItemCreate, MAX_FACTS, WindowCreate};
use sluice_catalog::wire::contracts::{ContractOverlap, ContractPut, OverlapPage, RevisionError};
use sluice_catalog::{Digest, Time};

use super::pools::check_pools;
use super::{Actor, App, Made};
use crate::error::{Error, Result};
use crate::store::{NewItem, NewWindow, Told, Tx};

/// Windows of one contract that hold at once: every poll of a device whose copy is not in memory reads them all.
pub(super) const MAX_WINDOWS: usize = 1_000;

type Window = (Time, Time, WindowKind);

/// What a contract is told to be.
struct Wanted {
    revision: Revision,
    content: Digest,
    windows: BTreeSet<Window>,
    items: BTreeSet<Item>,
}

/// What became of a contract, in a transaction that is still open.
#[expect(clippy::struct_excessive_bools, reason = "answers to separate questions")]
pub(super) struct Put {
    /// It is entered anew.
    made: bool,
    /// Anything is other than before.
    changed: bool,
    /// Somebody may have less than before.
    shrunk: bool,
    /// Copies of devices in memory know an older time of the source.
    stale_copies: bool,
    /// The moment that is stamped on what was touched.
    pub(super) at: Time,
}

impl App {
    /// Makes a contract what its source says. The same again changes nothing, and neither does what was told before.
    pub async fn contract_put(
        &self,
        actor: &Actor,
        number: &ContractNumber,
        request: &ContractPut,
    ) -> Result<Made<ContractDetail>> {
        actor.need(Permission::Contracts)?;
        let mut tx = self.store.begin().await?;
        let Put { made, changed, shrunk, stale_copies, at } =
            self.contract_put_in(&mut tx, actor, number, request).await?;
        if shrunk {
            self.refuse_loss(&mut tx, at, Some(&request.source), request.accept_loss).await?;
        }
        // What is no news says that the source lives all the same.
        tx.commit().await?;
        if changed || stale_copies {
            self.devices.forget_all();
        }
        let detail = self.contract_get(actor, number).await?;
        Ok(if made { Made::New(detail) } else { Made::Same(detail) })
    }

    pub(super) async fn contract_put_in(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        number: &ContractNumber,
        request: &ContractPut,
    ) -> Result<Put> {
        let now = self.now();
        let mut wanted = self.wanted(request, now)?;
        // One at a time for each source: two that enter the same contract would each find it missing.
        let mut stale_copies = self.source_heard(tx, actor, &request.source, now).await?;
        let customer = tx.customer_by_name(&request.customer).await?;
        let customer =
            customer.ok_or_else(|| Error::invalid("customer", format!("there is no customer {}", request.customer)))?;
        let plan = tx.plan_by_name(&request.plan).await?;
        let plan = plan.ok_or_else(|| Error::invalid("plan", format!("there is no plan {}", request.plan)))?;
        tx.contract_lock(number).await?;
        tx.customers_lock([customer.id]).await?;
        // Whoever waited for the locks must not stamp what other replicas have already looked past.
        let now = self.now();
        let before = tx.contract_by_number(number).await?;
        let told = match &before {
            Some(contract) => tx.contract_told(contract.id).await?,
            None => None,
        };
        if let Some(contract) = before.as_ref().filter(|contract| contract.customer_id != customer.id) {
            let owner = self.store.customer_name(contract.customer_id).await?;
            let owner = owner.map(String::from).unwrap_or_default();
            return Err(Error::invalid("customer", format!("contract {number} is of customer {owner} already")));
        }
        if let Some(contract) = &before {
            let told = tx.contracts_told(&[contract.id], &request.source, now).await?;
            tx.contracts_touch(&told, now).await?;
            stale_copies |= !told.is_empty();
        }
        if !is_news(number, request, &wanted, told.as_ref())? {
            return Ok(Put { made: false, changed: false, shrunk: false, stale_copies, at: now });
        }
        wanted.items = through(wanted.items, &swaps_of(tx, &request.items).await?);
        let contract = Contract {
            id: before.as_ref().map_or_else(|| ContractId::new(now, self.dice.id()), |before| before.id),
            customer_id: customer.id,
            number: number.clone(),
            plan_id: plan.id,
            state: request.state,
            created_at: before.as_ref().map_or(now, |before| before.created_at),
        };
        let head_changed = match &before {
            None => {
                tx.contract_add(&contract).await?;
                true
            }
            Some(before) if *before != contract => {
                tx.contract_change(before, &contract, now).await?;
                true
            }
            Some(_) => false,
        };
        let counts = self.contract_facts_put(tx, contract.id, &wanted, head_changed, now).await?;
        let pools = self.pools_put(tx, (contract.id, customer.id), &request.pools, true, now).await?;
        if head_changed || counts != [0; 4] {
            self.pools_settle_contracts(tx, &[contract.id], now).await?;
        }
        let by = KeptBy { source: request.source.clone(), revision: Some(wanted.revision) };
        let taken_over = told.as_ref().is_some_and(|told| told.by.source != request.source);
        tx.contract_told_put(contract.id, &Told { by, content: Some(wanted.content) }, now).await?;
        let changed = head_changed || taken_over || counts != [0; 4] || pools > 0;
        if changed {
            let [windows_gone, windows_new, items_gone, items_new] = counts;
            let detail = json!({"source": request.source, "revision": wanted.revision.to_string(),
                "customer": customer.name, "plan": plan.name, "state": request.state,
                "windows": {"ended": windows_gone, "recorded": windows_new},
                "items": {"ended": items_gone, "recorded": items_new}, "pools": pools,
                "taken_over_from": told.filter(|_| taken_over).map(|told| told.by.source)});
            tx.audit_add(now, actor.name(), "contract.put", &format!("contract:{number}"), &detail).await?;
        }
        // What is entered anew, and windows and devices that are added, take nothing away.
        let [windows_gone, _, items_gone, _] = counts;
        let shrunk = before.is_some() && (head_changed || windows_gone > 0 || items_gone > 0 || pools > 0);
        Ok(Put { made: before.is_none(), changed, shrunk, stale_copies, at: now })
    }

    /// Serials after `PRODUCT/SERIAL` that several contracts cover at the same time.
    pub async fn contract_overlaps(&self, actor: &Actor, after: &str, limit: u32) -> Result<OverlapPage> {
        actor.need(Permission::Read)?;
        let (product, serial) = after.split_once('/').unwrap_or((after, ""));
        let serials = self.store.serials_twice((product, serial), limit).await?;
        let full = serials.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
        let next = serials.last().filter(|_| full).map(|(product, serial)| format!("{product}/{serial}"));
        let mut items = Vec::new();
        for (product, serial) in serials {
            let Some(view) = self.live.products().by_name(product.as_str()).cloned() else { continue };
            let contracts = self.store.contract_facts(&product, &serial, false).await?;
            let covers = facts::covers(&contracts, &view.product.family, Time::FOREVER);
            if let Some(facts::Overlap { contracts, span: (from, to) }) = facts::overlap(&covers) {
                let (contracts, plans) = contracts.into_iter().unzip();
                items.push(ContractOverlap { product, serial, contracts, plans, from, to });
            }
        }
        Ok(OverlapPage { items, next })
    }

    /// What a request asks for, when all of it can be.
    fn wanted(&self, request: &ContractPut, now: Time) -> Result<Wanted> {
        let revision = request.revised(now).map_err(|error| match error {
            RevisionError::TooLarge(_) => Error::invalid("revision", error),
            RevisionError::One | RevisionError::Ahead(..) => Error::invalid("revised_at", error),
        })?;
        if request.windows.len() > MAX_WINDOWS {
            return Err(Error::invalid("windows", format!("{} given, at most {MAX_WINDOWS}", request.windows.len())));
        }
        if request.items.len() > MAX_FACTS {
            return Err(Error::invalid("items", format!("{} given, at most {MAX_FACTS}", request.items.len())));
        }
        check_windows(&request.windows)?;
        let products = self.live.products();
        for (index, item) in request.items.iter().enumerate() {
            if products.by_name(item.product.as_str()).is_none() {
                return Err(Error::invalid(
                    &format!("items[{index}].product"),
                    format!("there is no product {}", item.product),
                ));
            }
        }
        check_items(&request.items)?;
        check_pools(&request.pools)?;
        let windows = request.windows.iter().map(|window| (window.from, window.to, window.kind)).collect();
        let item = |item: &ItemCreate| -> Item {
            let (from, to) = (item.from.unwrap_or(Time::EPOCH), item.to.unwrap_or(Time::FOREVER));
            (item.product.clone(), item.serial.clone(), from, to)
        };
        let items = request.items.iter().map(item).collect();
        Ok(Wanted { revision, content: request.content(), windows, items })
    }

    /// Supersedes and records what differs; how many windows ended and began, and how many items.
    async fn contract_facts_put(
        &self,
        tx: &mut Tx,
        contract: ContractId,
        wanted: &Wanted,
        head_changed: bool,
        now: Time,
    ) -> Result<[usize; 4]> {
        let there: Vec<(FactId, Window)> = tx
            .window_list(contract)
            .await?
            .into_iter()
            .map(|window| (window.id, (window.from_at, window.to_at, window.kind)))
            .collect();
        let (windows_gone, windows_new) = replace(&there, &wanted.windows);
        let there: Vec<(FactId, Item)> = tx
            .item_list(contract)
            .await?
            .into_iter()
            .map(|item| (item.id, (item.product, item.serial, item.from_at, item.to_at)))
            .collect();
        let (items_gone, items_new) = replace(&there, &wanted.items);
        let counts = [windows_gone.len(), windows_new.len(), items_gone.len(), items_new.len()];
        if counts == [0; 4] && !head_changed {
            return Ok(counts);
        }
        // Before and after: devices that lose an item must hear of it as well.
        tx.contract_touch_devices(contract, now).await?;
        tx.windows_end(&windows_gone, now).await?;
        tx.items_end(&items_gone, now).await?;
        let id = || FactId::new(now, self.dice.id());
        let windows: Vec<_> = windows_new
            .into_iter()
            .map(|(from_at, to_at, kind)| NewWindow { id: id(), from_at, to_at, kind })
            .collect();
        tx.window_add(contract, &windows, now).await?;
        let items: Vec<_> = items_new
            .into_iter()
            .map(|(product, serial, from_at, to_at)| NewItem {
                id: id(),
                product,
                serial,
                from_at,
                to_at,
                pool_id: None,
            })
            .collect();
        tx.item_add(contract, &items, now).await?;
        self.check_counts(tx, &[], items.iter()).await?;
        tx.contract_touch_devices(contract, now).await?;
        Ok(counts)
    }
}

/// Whether a revision tells something new; an error when it is older than what was told, or tells it otherwise.
fn is_news(number: &ContractNumber, request: &ContractPut, wanted: &Wanted, told: Option<&Told>) -> Result<bool> {
    let Some(told) = told else { return Ok(true) };
    let source = &told.by.source;
    if *source != request.source {
        if request.take_over {
            return Ok(true);
        }
        return Err(Error::conflict(format!(
            "contract {number} is kept by source {source}; change it there, or say take_over"
        )));
    }
    let Some(newest) = told.by.revision else { return Ok(true) };
    match wanted.revision.against(newest) {
        None => Err(Error::invalid(
            "revised_at",
            format!("source {source} told revision {newest} of contract {number} before: go on with such"),
        )),
        Some(Ordering::Less) => Err(Error::conflict(format!(
            "contract {number} revised backwards: {} is older than {newest}, which source {source} told before",
            wanted.revision
        ))),
        Some(Ordering::Equal) if told.content == Some(wanted.content) => Ok(false),
        Some(Ordering::Equal) => Err(Error::conflict(format!(
            "source {source} told revision {newest} of contract {number} with other content; what changed needs a newer one"
        ))),
        Some(Ordering::Greater) => Ok(true),
    }
}

/// Refuses windows that cannot be, by their fields.
pub(super) fn check_windows(windows: &[WindowCreate]) -> Result<()> {
    for (index, window) in windows.iter().enumerate() {
        if let Some((field, rule)) = window_mistake(window.from, window.to) {
            return Err(Error::invalid(&format!("windows[{index}].{field}"), rule));
        }
    }
    Ok(())
}

/// Refuses items whose own dates are reversed.
pub(super) fn check_items(items: &[ItemCreate]) -> Result<()> {
    for (index, item) in items.iter().enumerate() {
        if let (Some(from), Some(to)) = (item.from, item.to)
            && from >= to
        {
            return Err(Error::invalid(&format!("items[{index}].to"), format!("{to} is not after from ({from})")));
        }
    }
    Ok(())
}

/// Swaps of the serials of items.
async fn swaps_of(tx: &mut Tx, items: &[ItemCreate]) -> Result<Vec<sluice_catalog::swap::Replaced>> {
    let serials: BTreeSet<(&ProductName, &Serial)> = items.iter().map(|item| (&item.product, &item.serial)).collect();
    Ok(tx.swaps_of(serials.into_iter().map(|(product, serial)| (product.clone(), serial.clone())).collect()).await?)
}
