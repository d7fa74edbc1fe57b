//! Contracts from a sales system: many rows in one transaction, taken in whole or in their good part, and again without harm.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::json;
use sluice_catalog::Time;
use sluice_catalog::contract::{Contract, ContractState, WindowKind};
use sluice_catalog::id::{ContractId, CustomerId, FactId, PlanId};
use sluice_catalog::import::{self, ImportRow, KnownNames, MAX_ROWS, Wanted};
use sluice_catalog::pool::PoolSet;
use sluice_catalog::principal::Permission;
use sluice_catalog::swap::{Item, Replaced, through};
use sluice_catalog::text::{ContractNumber, ProductName, Serial, Slug};
use sluice_catalog::wire::entitlement::{ImportAnswer, ImportRequest, MAX_OVERLAPS_SHOWN, OnError, Overlapping};

use uuid::Uuid;

use super::{Actor, App};
use crate::error::{Error, Result};
use crate::store::{ContractHead, NewItem, NewWindow, Tx};

/// What is there of the contracts that rows name.
struct There {
    heads: HashMap<ContractNumber, ContractHead>,
    windows: HashSet<(ContractId, (Time, Time, WindowKind))>,
    items: HashSet<(ContractId, Item)>,
    zones: HashMap<ContractId, String>,
}

impl App {
    /// Takes rows in.
    pub async fn contract_import(&self, actor: &Actor, request: &ImportRequest) -> Result<ImportAnswer> {
        actor.need(Permission::Contracts)?;
        let now = self.now();
        let mut tx = self.store.begin().await?;
        let answer = self.contract_import_in(&mut tx, actor, request, now).await?;
        // That its source lives is kept although nothing else is other than before.
        if answer.applied && (answer.changes() || request.source.is_some()) {
            // More windows and more devices take nothing away; another plan or a smaller pool may.
            if answer.plans_changed > 0 || answer.pools > 0 {
                self.refuse_loss(&mut tx, now, request.source.as_ref(), request.accept_loss).await?;
            }
            tx.commit().await?;
            self.devices.forget_all();
        }
        Ok(answer)
    }

    pub(super) async fn contract_import_in(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        request: &ImportRequest,
        now: Time,
    ) -> Result<ImportAnswer> {
        if request.rows.len() > MAX_ROWS {
            return Err(Error::invalid(
                "rows",
                format!("{} given, at most {MAX_ROWS} in one request", request.rows.len()),
            ));
        }
        // Before the generation is raised, as whoever tells one contract does: in another order the two could wait for each other.
        if let Some(source) = request.source.as_ref().filter(|_| !request.dry_run) {
            self.source_heard(tx, actor, source, now).await?;
        }
        // One import at a time: two that enter the same contract would each find it missing.
        tx.generation_raise("devices").await?;
        let heads = heads(tx, &request.rows).await?;
        let (known, plans, customers) = self.known_names(tx, &request.rows, &heads).await?;
        if !request.dry_run {
            tx.customers_lock(customers.values().map(|id| CustomerId(*id))).await?;
        }
        let Wanted { contracts, errors } = import::read(&request.rows, &known);
        let mut answer = ImportAnswer { errors, ..ImportAnswer::default() };
        if !answer.errors.is_empty() && request.on_error == OnError::Refuse {
            return Ok(answer);
        }
        let serials: BTreeSet<_> = contracts.values().flat_map(|wanted| wanted.items.iter().cloned()).collect();
        let swaps = tx.swaps_of(serials.into_iter().collect()).await?;
        let there = there(tx, heads, &contracts, &swaps).await?;
        let (mut made, mut windows, mut items) = (Vec::new(), Vec::new(), Vec::new());
        let mut moved: BTreeMap<PlanId, Vec<(&ContractNumber, ContractId)>> = BTreeMap::new();
        let mut zones = Vec::new();
        let mut touched: BTreeSet<ContractId> = BTreeSet::new();
        for (number, wanted) in &contracts {
            let (Some(&plan), Some(&customer)) =
                (plans.get(wanted.plan.as_str()), customers.get(wanted.customer.as_str()))
            else {
                continue;
            };
            let (plan, customer) = (PlanId(plan), CustomerId(customer));
            let id = match there.heads.get(number) {
                Some(head) => {
                    if head.plan_id != plan {
                        moved.entry(plan).or_default().push((number, head.id));
                        touched.insert(head.id);
                    }
                    head.id
                }
                None => {
                    let contract = Contract {
                        id: ContractId::new(now, self.dice.id()),
                        customer_id: customer,
                        number: number.clone(),
                        plan_id: plan,
                        state: ContractState::Active,
                        created_at: now,
                    };
                    let id = contract.id;
                    made.push(contract);
                    id
                }
            };
            // A contract without one counts in UTC.
            if let Some(zone) = wanted.zone.as_deref()
                && there.zones.get(&id).map_or("UTC", String::as_str) != zone
            {
                zones.push((id, zone));
            }
            for &(from_at, to_at, kind) in &wanted.windows {
                if !there.windows.contains(&(id, (from_at, to_at, kind))) {
                    let fact = FactId::new(now, self.dice.id());
                    windows.push((id, NewWindow { id: fact, from_at, to_at, kind }));
                    if there.heads.contains_key(number) {
                        touched.insert(id);
                    }
                }
            }
            let always = |(product, serial): &(ProductName, Serial)| -> Item {
                (product.clone(), serial.clone(), Time::EPOCH, Time::FOREVER)
            };
            for item in through(wanted.items.iter().map(always).collect(), &swaps) {
                if !there.items.contains(&(id, item.clone())) {
                    let fact = FactId::new(now, self.dice.id());
                    let (product, serial, from_at, to_at) = item;
                    items.push((id, NewItem { id: fact, product, serial, from_at, to_at, pool_id: None }));
                }
            }
        }
        let mut named: Vec<ContractId> = made.iter().map(|contract: &Contract| contract.id).collect();
        named.extend(contracts.keys().filter_map(|number| there.heads.get(number)).map(|head| head.id));
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        answer.contracts = count(made.len());
        answer.plans_changed = count(moved.values().map(Vec::len).sum());
        answer.zones = count(zones.len());
        answer.windows = count(windows.len());
        answer.items = count(items.len());
        let mut pools = Vec::new();
        let new: HashMap<&ContractNumber, ContractId> =
            made.iter().map(|contract: &Contract| (&contract.number, contract.id)).collect();
        for (number, wanted) in contracts.iter().filter(|(_, wanted)| !wanted.pools.is_empty()) {
            let id = new.get(number).copied().or_else(|| there.heads.get(number).map(|head| head.id));
            let (Some(id), Some(&customer)) = (id, customers.get(wanted.customer.as_str())) else { continue };
            let customer = CustomerId(customer);
            let pool: Vec<PoolSet> = wanted.pools.iter().cloned().collect();
            let before = tx.pool_details(id).await?;
            let stands = |pool: &&PoolSet| {
                let there = before.iter().find(|there| (&there.family, &there.site) == (&pool.family, &pool.site));
                there.map_or(0, |there| there.quantity) == pool.quantity
            };
            answer.pools += count(pool.len() - pool.iter().filter(stands).count());
            pools.push((id, customer, pool));
        }
        overlaps(tx, &contracts, &mut answer).await?;
        if request.dry_run {
            return Ok(answer);
        }
        answer.applied = true;
        tx.contracts_add(&made).await?;
        if let Some(source) = &request.source {
            let told = tx.contracts_told(&named, source, now).await?;
            tx.contracts_touch(&told, now).await?;
            tx.contracts_kept(&named, source, now).await?;
        }
        if !answer.changes() {
            return Ok(answer);
        }
        let mut plans_changed = Vec::new();
        for (plan, contracts) in moved {
            plans_changed.extend(contracts.iter().map(|(number, _)| json!({"contract": number, "plan_id": plan})));
            let ids: Vec<ContractId> = contracts.into_iter().map(|(_, id)| id).collect();
            tx.contracts_move(&ids, plan, now).await?;
        }
        tx.windows_add(&windows, now).await?;
        tx.items_add(&items, now).await?;
        tx.zones_set(&zones).await?;
        let counted: Vec<ContractId> = windows.iter().map(|(id, _)| *id).collect::<BTreeSet<_>>().into_iter().collect();
        self.check_counts(tx, &counted, items.iter().map(|(_, item)| item)).await?;
        tx.contracts_touch(&touched.iter().copied().collect::<Vec<_>>(), now).await?;
        let mut serials: BTreeMap<&ProductName, Vec<&Serial>> = BTreeMap::new();
        for (_, item) in &items {
            serials.entry(&item.product).or_default().push(&item.serial);
        }
        for (product, serials) in serials {
            tx.serials_touch(product, &serials, now).await?;
        }
        // After the items: who is named by a contract takes no place of it.
        for (contract, customer, pools) in pools {
            self.pools_put(tx, (contract, customer), &pools, false, now).await?;
        }
        touched.extend(items.iter().map(|(id, _)| *id));
        self.pools_settle_contracts(tx, &touched.into_iter().collect::<Vec<_>>(), now).await?;
        let detail = json!({"rows": request.rows.len(), "contracts": answer.contracts, "plans_changed": plans_changed,
            "windows": answer.windows, "items": answer.items, "pools": answer.pools, "zones": answer.zones, "refused_rows": answer.errors.len()});
        tx.audit_add(now, actor.name(), "contract.import", "contracts", &detail).await?;
        Ok(answer)
    }

    /// What the rows name that is there, and the ids of plans and customers by name.
    async fn known_names(
        &self,
        tx: &mut Tx,
        rows: &[ImportRow],
        heads: &HashMap<ContractNumber, ContractHead>,
    ) -> Result<(KnownNames, HashMap<String, Uuid>, HashMap<String, Uuid>)> {
        let distinct = |field: fn(&ImportRow) -> &String| -> Vec<String> {
            let names = rows.iter().filter_map(|row| field(row).trim().parse::<Slug>().ok()).map(String::from);
            names.collect::<BTreeSet<_>>().into_iter().collect()
        };
        let customers = tx.names_there("customer", &distinct(|row| &row.customer)).await?;
        let plans = tx.names_there("plan", &distinct(|row| &row.plan)).await?;
        let products = self.live.products();
        let named: BTreeSet<&str> = rows.iter().filter_map(|row| row.product.as_deref()).map(str::trim).collect();
        let known = KnownNames {
            customers: customers.keys().cloned().collect(),
            plans: plans.keys().cloned().collect(),
            products: named.into_iter().filter(|name| products.by_name(name).is_some()).map(str::to_owned).collect(),
            contracts: heads
                .iter()
                .map(|(number, head)| (number.to_string(), (head.customer.clone(), head.plan.clone())))
                .collect(),
        };
        Ok((known, plans, customers))
    }
}

/// Tells which serials of the rows stand under several contracts, those of the rows or others.
async fn overlaps(
    tx: &mut Tx,
    contracts: &BTreeMap<ContractNumber, import::WantedContract>,
    answer: &mut ImportAnswer,
) -> Result<()> {
    let mut under: BTreeMap<(ProductName, Serial), BTreeSet<ContractNumber>> = BTreeMap::new();
    for (number, wanted) in contracts {
        for item in &wanted.items {
            under.entry(item.clone()).or_default().insert(number.clone());
        }
    }
    let serials: Vec<(ProductName, Serial)> = under.keys().cloned().collect();
    for (product, serial, number) in tx.contracts_of(&serials).await? {
        if let Some(numbers) = under.get_mut(&(product, serial)) {
            numbers.insert(number);
        }
    }
    under.retain(|_, numbers| numbers.len() > 1);
    answer.overlaps = u64::try_from(under.len()).unwrap_or(u64::MAX);
    let shown = under.into_iter().take(MAX_OVERLAPS_SHOWN);
    answer.overlapping = shown
        .map(|((product, serial), numbers)| Overlapping { product, serial, contracts: numbers.into_iter().collect() })
        .collect();
    Ok(())
}

async fn heads(tx: &mut Tx, rows: &[ImportRow]) -> Result<HashMap<ContractNumber, ContractHead>> {
    // What is no number is told by its line, and asked of no database.
    let numbers = rows.iter().filter_map(|row| row.contract.trim().parse::<ContractNumber>().ok());
    let numbers: Vec<String> = numbers.map(String::from).collect::<BTreeSet<_>>().into_iter().collect();
    Ok(tx.contract_heads(&numbers).await?.into_iter().map(|head| (head.number.clone(), head)).collect())
}

async fn there(
    tx: &mut Tx,
    heads: HashMap<ContractNumber, ContractHead>,
    contracts: &BTreeMap<ContractNumber, import::WantedContract>,
    swaps: &[Replaced],
) -> Result<There> {
    let ids: Vec<ContractId> = contracts.keys().filter_map(|number| heads.get(number)).map(|head| head.id).collect();
    let known = contracts
        .iter()
        .filter(|(number, _)| heads.contains_key(*number))
        .flat_map(|(_, wanted)| wanted.items.iter().cloned());
    let swapped =
        swaps.iter().flat_map(|swap| [&swap.old, &swap.new].map(|serial| (swap.product.clone(), serial.clone())));
    let serials: Vec<(ProductName, Serial)> = known.chain(swapped).collect::<BTreeSet<_>>().into_iter().collect();
    let windows = tx.windows_of(&ids).await?.into_iter().collect();
    let items = tx.items_of(&serials).await?.into_iter().collect();
    let zones = tx.zones_of(&ids).await?.into_iter().collect();
    Ok(There { heads, windows, items, zones })
}
