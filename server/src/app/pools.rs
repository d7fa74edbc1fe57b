//! Pools: places are taken and become free in the transaction of whatever changes who stands where.

use std::collections::{BTreeMap, BTreeSet};

use sluice_catalog::Time;
use sluice_catalog::device::Device;
use sluice_catalog::id::{ContractId, CustomerId, FactId};
use sluice_catalog::pool::{self, MAX_POOLS, PoolSet};
use sluice_catalog::text::{Family, ProductName, Serial, Slug};

use super::App;
use crate::error::{Error, Result};
use crate::store::{MemberRow, NewItem, Tx};

/// Refuses pools that cannot be, by their fields.
pub(super) fn check_pools(pools: &[PoolSet]) -> Result<()> {
    if pools.len() > MAX_POOLS {
        return Err(Error::invalid("pools", format!("{} given, at most {MAX_POOLS}", pools.len())));
    }
    match pool::mistake(pools) {
        Some((index, field, rule)) => Err(Error::invalid(&format!("pools[{index}].{field}"), rule)),
        None => Ok(()),
    }
}

impl App {
    /// Sets pools of a contract; with `whole`, those that are not named end. How many differ from what was.
    pub(super) async fn pools_put(
        &self,
        tx: &mut Tx,
        (contract, customer): (ContractId, CustomerId),
        pools: &[PoolSet],
        whole: bool,
        now: Time,
    ) -> Result<usize> {
        let there = tx.pool_details(contract).await?;
        let there: BTreeMap<(Family, Slug), u32> =
            there.into_iter().map(|pool| ((pool.family, pool.site), pool.quantity)).collect();
        let mut wanted: BTreeMap<(Family, Slug), u32> =
            pools.iter().map(|pool| ((pool.family.clone(), pool.site.clone()), pool.quantity)).collect();
        if whole {
            for key in there.keys() {
                wanted.entry(key.clone()).or_insert(0);
            }
        }
        wanted.retain(|key, quantity| there.get(key).copied().unwrap_or(0) != *quantity);
        let mut sites = BTreeSet::new();
        for ((family, site), quantity) in &wanted {
            tx.pool_set(FactId::new(now, self.dice.id()), contract, (family, site), *quantity, now).await?;
            sites.insert(site);
        }
        for site in sites {
            self.pools_settle(tx, customer, site, now).await?;
        }
        Ok(wanted.len())
    }

    /// Settles the pools at sites where these contracts have some: they changed, or whom they name.
    pub(super) async fn pools_settle_contracts(&self, tx: &mut Tx, contracts: &[ContractId], now: Time) -> Result<()> {
        for (customer, site) in tx.pool_sites(contracts).await? {
            self.pools_settle(tx, customer, &site, now).await?;
        }
        Ok(())
    }

    /// Lets devices in whose places under another contract end soon, at the sites where that comes up between two moments.
    pub(super) async fn pools_renew(&self, from: Time, now: Time) -> Result<()> {
        let mut changed = false;
        for (customer, site) in self.store.pools_renewing(from, now).await? {
            let mut tx = self.store.begin().await?;
            if self.pools_settle(&mut tx, customer, &site, now).await? {
                tx.commit().await?;
                changed = true;
            }
        }
        if changed {
            self.devices.forget_all();
        }
        Ok(())
    }

    /// Settles the pools where a device stands, after it came, left or changed.
    pub(super) async fn pools_settle_for(&self, tx: &mut Tx, device: &Device, now: Time) -> Result<()> {
        if let (Some(customer), Some(site)) = (device.customer_id, &device.site) {
            self.pools_settle(tx, customer, site, now).await?;
        }
        Ok(())
    }

    /// Lets those go who may not stay in the pools of a site, and those come in who wait for the longest time; whether any did.
    pub(super) async fn pools_settle(&self, tx: &mut Tx, customer: CustomerId, site: &Slug, now: Time) -> Result<bool> {
        let mut settled = false;
        for pool in tx.pools_at(customer, site).await? {
            let (cut, members): (Vec<_>, Vec<_>) =
                tx.pool_members(&pool, now).await?.into_iter().partition(MemberRow::is_cut);
            let mut seen = BTreeSet::new();
            let staying: Vec<_> = members
                .iter()
                .map(|member| (member, seen.insert((&member.product, &member.serial)) && member.stays(&pool, now)))
                .collect();
            let quantity = usize::try_from(pool.quantity).unwrap_or(0);
            let kept = staying.iter().filter(|(_, stays)| *stays).count();
            let free = i64::try_from(quantity.saturating_sub(kept)).unwrap_or(0);
            let waiting = if free > 0 { tx.pool_waiting(&pool, free, now).await? } else { Vec::new() };
            let waiting: Vec<&(ProductName, Serial)> = waiting.iter().collect();
            let (mut leave, enter) = pool::fill(quantity, &staying, &waiting);
            leave.extend(cut.iter().filter(|member| quantity == 0 || !member.stays(&pool, now)));
            settled |= !leave.is_empty() || !enter.is_empty();
            let gone: Vec<FactId> = leave.iter().map(|member| member.id).collect();
            tx.items_end(&gone, now).await?;
            let items: Vec<(ContractId, NewItem)> = enter
                .iter()
                .map(|(product, serial)| {
                    let item = NewItem {
                        id: FactId::new(now, self.dice.id()),
                        product: product.clone(),
                        serial: serial.clone(),
                        from_at: Time::EPOCH,
                        to_at: Time::FOREVER,
                        pool_id: Some(pool.id),
                    };
                    (pool.contract_id, item)
                })
                .collect();
            tx.items_add(&items, now).await?;
            let mut changed: BTreeMap<&ProductName, Vec<&Serial>> = BTreeMap::new();
            let left = leave.iter().map(|member| (&member.product, &member.serial));
            for (product, serial) in left.chain(enter.iter().map(|(product, serial)| (product, serial))) {
                changed.entry(product).or_default().push(serial);
            }
            for (product, serials) in changed {
                tx.serials_touch(product, &serials, now).await?;
            }
        }
        Ok(settled)
    }
}
