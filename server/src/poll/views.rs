//! What the decision looks at, read from the database: of a page of devices by what is known now, or of one device by what was known
//! at any moment.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sluice_catalog::Time;
use sluice_catalog::cover::Cover;
use sluice_catalog::decide::DeviceView;
use sluice_catalog::device::{Device, Installed};
use sluice_catalog::facts::{self, ContractFacts};
use sluice_catalog::id::{CustomerId, DeviceId, ProductId};
use sluice_catalog::pool::PoolPlace;
use sluice_catalog::text::{Serial, Slug};

use super::live::Live;
use crate::store::{self, DeviceRow, On, Result, Store};

/// Devices that are read at once: what a page of a whole fleet holds in memory, with their contracts.
pub const MAX_ROWS: u32 = 500;

/// The decision's view of each device, by what is known now, in the order of the rows; at most [`MAX_ROWS`]. Everything that holds is in
/// it, whenever it is asked about: a copy in memory serves for a while.
pub async fn of_rows(on: &mut On<'_>, live: &Live, rows: Vec<DeviceRow>) -> Result<Vec<DeviceView>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<DeviceId> = rows.iter().map(|row| row.device.id).collect();
    let mut installed = store::installed_of(on, &ids).await?;
    let mut failed = store::failed_of(on, &ids).await?;
    let mut places = store::places_of(on, &ids).await?;
    let under_way = store::under_way_of(on, &ids).await?;
    let mut updates = store::updates_of(on, &ids).await?;
    let owners: BTreeSet<CustomerId> = rows.iter().filter_map(|row| row.device.customer_id).collect();
    let policies = store::policies_of(on, &owners.into_iter().collect::<Vec<_>>()).await?;
    let mut serials: BTreeMap<ProductId, Vec<Serial>> = BTreeMap::new();
    for row in &rows {
        serials.entry(row.device.product_id).or_default().push(row.device.serial.clone());
    }
    let mut contracts: HashMap<ProductId, HashMap<Serial, Vec<ContractFacts>>> = HashMap::new();
    for (id, serials) in serials {
        let name = live.products().get(id).map(|product| product.product.name.clone());
        if let Some(name) = name {
            contracts.insert(id, store::contract_facts(on, &name, &serials, false).await?);
        }
    }
    let products = live.products();
    let mut views = Vec::with_capacity(rows.len());
    for DeviceRow { device, customer, last_seen_at, .. } in rows {
        let of_device = contracts.get(&device.product_id).and_then(|of| of.get(&device.serial));
        let covers = match (products.get(device.product_id), of_device) {
            (Some(product), Some(contracts)) => facts::covers(contracts, &product.product.family, Time::FOREVER),
            _ => Vec::new(),
        };
        let wishes = device.customer_id.and_then(|owner| policies.get(&owner)).into_iter().flatten();
        let mut policies: Vec<_> =
            wishes.filter(|row| row.concerns(&device)).map(store::PolicyRow::policy).collect::<Result<_>>()?;
        policies.extend(updates.remove(&device.id));
        let failed = failed.remove(&device.id).unwrap_or_default().into_iter();
        let (country, time_zone) = places.remove(&device.id).unwrap_or_default();
        views.push(DeviceView {
            customer,
            installed: installed.remove(&device.id).unwrap_or_default(),
            covers,
            policies,
            country,
            time_zone,
            // Only a question about one device wants to know; nothing is decided by it.
            full_pools: Vec::new(),
            failed: failed.map(|(release, count)| (release, u32::try_from(count).unwrap_or(u32::MAX))).collect(),
            last_seen: last_seen_at,
            under_way: under_way.get(&device.id).copied(),
            device,
        });
    }
    Ok(views)
}

/// At which moment, and by what was known when.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Policies that were over by then, and failures after it, say nothing.
    pub at: Time,
    /// By what was known then; by what is known now when absent.
    pub known_at: Option<Time>,
    /// Failures that count were known by then.
    pub failed_by: Option<Time>,
    /// When the device was last heard of, as far as is known.
    pub last_seen: Option<Time>,
}

/// The decision's view of a device as it was or is, by what was known at a moment or is known now.
pub async fn view_of(
    store: &Store,
    live: &Live,
    device: Device,
    installed: Vec<Installed>,
    Moment { at, known_at, failed_by, last_seen }: Moment,
) -> Result<DeviceView> {
    let customer = match device.customer_id {
        Some(owner) => store.customer_name(owner).await?,
        None => None,
    };
    let failed = store
        .failed_attempts(device.id, failed_by)
        .await?
        .into_iter()
        .map(|(release, count)| (release, u32::try_from(count).unwrap_or(u32::MAX)))
        .collect();
    let mut covers = match live.products().get(device.product_id) {
        Some(product) => {
            let (name, family) = (&product.product.name, &product.product.family);
            let contracts = store.contract_facts(name, &device.serial, known_at.is_some()).await?;
            facts::covers(&contracts, family, known_at.unwrap_or(Time::FOREVER))
        }
        None => Vec::new(),
    };
    // Everything that holds whenever it is asked about is judged when it is asked; a question is judged by what is known, or was.
    let judged_at = known_at.or((at > Time::EPOCH).then_some(at));
    if let Some(judged_at) = judged_at {
        judge_sources(&mut covers, judged_at);
    }
    let (mut policies, mut country, mut time_zone) = (Vec::new(), None, None);
    if let Some(owner) = device.customer_id {
        for row in store.policy_known(owner, known_at, at).await? {
            if row.concerns(&device) {
                policies.push(row.policy()?);
            }
        }
        if let Some(site) = &device.site
            && let Some(site) = store.site_known(owner, site, known_at).await?
        {
            (country, time_zone) = (site.country, site.time_zone);
        }
    }
    let mut full_pools = Vec::new();
    if let (Some(_), Some(owner), Some(site), Some(product)) =
        (judged_at, device.customer_id, &device.site, live.products().get(device.product_id))
    {
        let place = PoolPlace { family: product.product.family.clone(), site: site.clone() };
        full_pools = store.pools_for(owner, &place, known_at).await?;
        // Who has a place under a plan gets no second one.
        let placed = |plan: &Slug| covers.iter().any(|cover| cover.origin.pool.is_some() && cover.plan == *plan);
        full_pools.retain(|(plan, pool)| !placed(plan) && covers.iter().all(|cover| cover.contract != pool.contract));
    }
    let full_pools = full_pools.into_iter().map(|(_, pool)| pool).collect();
    policies.extend(store.updates_known(device.id, known_at).await?);
    // What was under way then is not kept: of the past the filter alone answers.
    let under_way = match failed_by {
        None => store::under_way_of(&mut On::from(store), &[device.id]).await?.remove(&device.id),
        Some(_) => None,
    };
    Ok(DeviceView {
        customer,
        device,
        installed,
        covers,
        policies,
        country,
        time_zone,
        full_pools,
        failed,
        last_seen,
        under_way,
    })
}

/// Judges sources of contracts by what is known at a moment: who asks about the future does not ask what would be if nobody were heard of
/// until then.
pub fn judge_sources(covers: &mut [Cover], at: Time) {
    for cover in covers {
        if let Some(source) = &mut cover.origin.source {
            source.judged_at = Some(at);
        }
    }
}
