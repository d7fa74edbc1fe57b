//! Many devices at once, with everything that decides about them: a page takes as many questions as one device.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use sluice_catalog::Time;
use sluice_catalog::decide::ProductView;
use sluice_catalog::device::{DeviceState, Installed};
use sluice_catalog::id::{CustomerId, DeviceId, ProductId, ReleaseId, RolloutId};
use sluice_catalog::rollout::Selector;
use sluice_catalog::text::Slug;

use super::audience::Condition;
use super::device::ROW;
use super::policy::{COLUMNS as POLICY_COLUMNS, MAX_POLICIES};
use super::sql::list;
use super::{DeviceRow, On, PolicyRow, Result, Sql};

/// Which devices.
#[derive(Clone, Debug, Default)]
pub struct DeviceFilter {
    /// Of this product only.
    pub product: Option<ProductId>,
    /// In this state only.
    pub state: Option<DeviceState>,
    /// Of this customer only.
    pub customer: Option<Slug>,
    /// At a site of this name only.
    pub site: Option<Slug>,
    /// With this tag only.
    pub tag: Option<Slug>,
    /// Changed at this very moment only: what one transaction touched.
    pub changed_at: Option<Time>,
    /// Without those that this audience of the product surely does not hold.
    pub audience: Option<(Selector, Arc<ProductView>)>,
}

#[derive(sqlx::FromRow)]
struct InstalledRow {
    device_id: DeviceId,
    #[sqlx(flatten)]
    installed: Installed,
}

/// Devices after an id, in the order of ids.
pub async fn device_page(
    on: &mut On<'_>,
    filter: &DeviceFilter,
    after: Option<DeviceId>,
    limit: u32,
) -> Result<Vec<DeviceRow>> {
    let mut text = format!("{ROW} WHERE d.id > $1");
    let mut place = 1;
    let mut and = |given: bool, condition: fn(u32) -> String| {
        if given {
            place += 1;
            let _ = write!(text, " AND {}", condition(place));
        }
    };
    and(filter.product.is_some(), |place| format!("d.product_id = ${place}"));
    and(filter.state.is_some(), |place| format!("d.state = ${place}"));
    and(filter.customer.is_some(), |place| format!("c.name = ${place}"));
    and(filter.site.is_some(), |place| format!("d.site = ${place}"));
    // The set is a JSON array; no name holds a quotation mark, so a quoted one is found whole or not at all.
    and(filter.tag.is_some(), |place| format!("REPLACE(d.tags, ${place}, '') <> d.tags"));
    and(filter.changed_at.is_some(), |place| format!("d.changed_at = ${place}"));
    let audience = filter
        .audience
        .as_ref()
        .map(|(selector, product)| Condition::new(selector, product, usize::try_from(place).unwrap_or(0) + 1));
    let mut last = usize::try_from(place).unwrap_or(0) + 1;
    if let Some(condition) = &audience {
        let _ = write!(text, " AND {}", condition.text);
        last += condition.values.len();
    }
    let _ = write!(text, " ORDER BY d.id LIMIT ${last}");
    let mut sql = Sql::built(text).bind(after.unwrap_or(DeviceId(uuid::Uuid::nil())));
    sql = sql.bind_all(filter.product).bind_all(filter.state);
    sql = sql.bind_all(filter.customer.as_ref()).bind_all(filter.site.as_ref());
    sql = sql.bind_all(filter.tag.as_ref().map(|tag| format!("\"{tag}\""))).bind_all(filter.changed_at);
    sql = sql.bind_all(audience.into_iter().flat_map(|condition| condition.values));
    sql.bind(i64::from(limit)).all(on).await
}

/// Devices by id, in the order of ids.
pub async fn devices_of(on: &mut On<'_>, ids: &[DeviceId]) -> Result<Vec<DeviceRow>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let text = format!("{ROW} WHERE d.id IN ({}) ORDER BY d.id", list(1, ids.len()));
    Sql::built(text).bind_all(ids.iter().copied()).all(on).await
}

/// What each of these devices runs, in the order of components.
pub async fn installed_of(on: &mut On<'_>, devices: &[DeviceId]) -> Result<HashMap<DeviceId, Vec<Installed>>> {
    let rows: Vec<InstalledRow> = Sql::built(format!(
        "SELECT device_id, component, version, sha256, security_counter FROM installed WHERE device_id IN ({})
         ORDER BY device_id, component",
        list(1, devices.len())
    ))
    .bind_all(devices.iter().copied())
    .all(on)
    .await?;
    Ok(grouped(rows.into_iter().map(|row| (row.device_id, row.installed))))
}

/// Releases that each of these devices tried and failed, with how often.
pub async fn failed_of(on: &mut On<'_>, devices: &[DeviceId]) -> Result<HashMap<DeviceId, Vec<(ReleaseId, i64)>>> {
    let rows: Vec<(DeviceId, ReleaseId, i64)> = Sql::built(format!(
        "SELECT device_id, release_id, CAST(COUNT(*) AS BIGINT) FROM attempt
         WHERE state IN ('failed', 'rolled_back') AND device_id IN ({}) GROUP BY device_id, release_id",
        list(1, devices.len())
    ))
    .bind_all(devices.iter().copied())
    .all(on)
    .await?;
    Ok(grouped(rows.into_iter().map(|(device, release, count)| (device, (release, count)))))
}

/// The rollout whose offer each of these devices has and has not ended, where there is one.
pub async fn under_way_of(on: &mut On<'_>, devices: &[DeviceId]) -> Result<HashMap<DeviceId, RolloutId>> {
    let rows: Vec<(DeviceId, RolloutId)> = Sql::built(format!(
        "SELECT device_id, rollout_id FROM attempt
         WHERE state NOT IN ('healthy', 'failed', 'rolled_back', 'superseded') AND device_id IN ({}) ORDER BY seq",
        list(1, devices.len())
    ))
    .bind_all(devices.iter().copied())
    .all(on)
    .await?;
    Ok(rows.into_iter().collect())
}

/// A site's country and time zone, as far as it says.
pub type Place = (Option<String>, Option<String>);

/// Country and time zone of each device's site, where they are known.
pub async fn places_of(on: &mut On<'_>, devices: &[DeviceId]) -> Result<HashMap<DeviceId, Place>> {
    let rows: Vec<(DeviceId, Option<String>, Option<String>)> = Sql::built(format!(
        "SELECT d.id, s.country, s.time_zone FROM device d JOIN site s ON s.customer_id = d.customer_id AND s.name = d.site
         WHERE s.superseded_at IS NULL AND d.id IN ({}) ORDER BY s.recorded_at, s.id",
        list(1, devices.len())
    ))
    .bind_all(devices.iter().copied())
    .all(on)
    .await?;
    Ok(rows.into_iter().map(|(id, country, time_zone)| (id, (country, time_zone))).collect())
}

/// Policies of each of these customers that nobody has lifted: the newest of very many.
pub async fn policies_of(on: &mut On<'_>, customers: &[CustomerId]) -> Result<HashMap<CustomerId, Vec<PolicyRow>>> {
    if customers.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<PolicyRow> = Sql::built(format!(
        "SELECT {POLICY_COLUMNS} FROM (
             SELECT {POLICY_COLUMNS}, ROW_NUMBER() OVER (PARTITION BY customer_id ORDER BY id DESC) AS place
             FROM policy WHERE superseded_at IS NULL AND customer_id IN ({})
         ) AS wish WHERE place <= $1 ORDER BY customer_id, place",
        list(2, customers.len())
    ))
    .bind(MAX_POLICIES)
    .bind_all(customers.iter().copied())
    .all(on)
    .await?;
    Ok(grouped(rows.into_iter().map(|row| (row.customer_id, row))))
}

fn grouped<K: Eq + std::hash::Hash, V>(pairs: impl Iterator<Item = (K, V)>) -> HashMap<K, Vec<V>> {
    let mut groups: HashMap<K, Vec<V>> = HashMap::new();
    for (key, value) in pairs {
        groups.entry(key).or_default().push(value);
    }
    groups
}
