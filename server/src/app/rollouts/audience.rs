//! Audiences: how many devices one holds now, and what about it may be a mistake. Pages of devices are read and asked one after the
//! other, beside polls and for a bounded time.

use std::sync::Arc;

use sluice_catalog::decide::{self, DeviceView, ProductView};
use sluice_catalog::device::DeviceState;
use sluice_catalog::principal::Permission;
use sluice_catalog::rollout::filter::{Field, Node};
use sluice_catalog::rollout::{Rollout, Selector};
use sluice_catalog::text::{ProductName, Slug, Version};
use sluice_catalog::wire::rollout::{AudienceAsk, AudienceCount};
use sluice_catalog::{Kind, Time};

use super::super::{Actor, App};
use crate::error::{Error, Result};
use crate::poll::views::{self, MAX_ROWS};
use crate::store::{self, DeviceFilter, Named, On};

/// An audience is counted for so long, milliseconds; what was found by then is told as "at least".
const MAX_COUNT_MS: i64 = 10_000;
/// Names in one warning.
const NAMES_TOLD: usize = 5;

impl App {
    /// How many devices an audience holds now, by hardware and by running version, and how many of them may have a version.
    pub async fn audience_count(
        &self,
        actor: &Actor,
        product: &ProductName,
        ask: &AudienceAsk,
    ) -> Result<AudienceCount> {
        actor.need(Permission::Read)?;
        super::plans::check_selector(&ask.selector)?;
        let product = self.product_view(product)?;
        check_versions(&product, &ask.selector)?;
        let version = ask.version.as_ref();
        if let Some(version) = version.filter(|version| product.release_of_version(version).is_none()) {
            return Err(Error::not_found("version", format!("{} {version}", product.product.name)));
        }
        let _slot = self.fleets.slot()?;
        let mut count = self.audience_walk(&product, &ask.selector, version, u64::MAX).await?;
        count.warnings = self.unnamed(&product, &ask.selector).await?;
        Ok(count)
    }

    /// Whom a rollout is for, with what may be a mistake. Making and moving one does not ask this: it reads the fleet.
    pub async fn rollout_audience(&self, actor: &Actor, name: &Slug) -> Result<AudienceCount> {
        actor.need(Permission::Read)?;
        let rollout = self.store.rollout_by_name(name).await?.ok_or_else(|| Error::not_found("rollout", name))?;
        let products = self.live.products_full();
        let (product, release) = products
            .release(rollout.release_id)
            .ok_or_else(|| Error::internal(anyhow::anyhow!("rollout {name} has no release")))?;
        let _slot = self.fleets.slot()?;
        let version = Some(&release.release.version);
        let mut count = self.audience_walk(product, &rollout.selector, version, u64::MAX).await?;
        count.warnings = self.unnamed(product, &rollout.selector).await?;
        if count.devices == 0 && !count.cut {
            count.warnings.push("no device is in its audience now".to_owned());
        } else if !count.cut {
            count.warnings.extend(shut_gates(&rollout, count.devices));
        }
        Ok(count)
    }

    /// Refuses to go on with a rollout that names whom it is for, and nobody is.
    pub(super) async fn refuse_empty(&self, rollout: &Rollout) -> Result<()> {
        if rollout.selector == Selector::default() {
            // A product of which no device is registered yet: they will be.
            return Ok(());
        }
        let products = self.live.products_full();
        let Some((product, _)) = products.release(rollout.release_id) else { return Ok(()) };
        // Where too many fleets are being looked at, or one is not looked through in time, nobody knows that it is empty.
        let Ok(_slot) = self.fleets.slot() else { return Ok(()) };
        let count = self.audience_walk(product, &rollout.selector, None, 1).await?;
        if count.devices > 0 || count.cut {
            return Ok(());
        }
        Err(Error::new(
            Kind::WrongState,
            format!(
                "rollout {} is for no device: none in service fits its selector; see `sluicectl rollout count`, or send it with \
                 allow_empty (--allow-empty) if devices are to come",
                rollout.name
            ),
        ))
    }

    /// Counts the audience until `enough` devices are found.
    async fn audience_walk(
        &self,
        product: &Arc<ProductView>,
        selector: &Selector,
        version: Option<&Version>,
        enough: u64,
    ) -> Result<AudienceCount> {
        let now = self.now();
        let deadline = now.plus_ms(MAX_COUNT_MS);
        // The database leaves out whom the audience cannot hold, so that counting a hall of a million devices reads a hall.
        let audience = Some((selector.clone(), Arc::clone(product)));
        let filter = DeviceFilter { product: Some(product.product.id), audience, ..DeviceFilter::default() };
        let (mut after, mut count) = (None, AudienceCount::default());
        count.filter = selector.filter.as_ref().map(ToString::to_string);
        count.entitled = version.map(|_| 0);
        let asked = Arc::new((selector.clone(), version.cloned()));
        loop {
            let mut on = On::from(&self.store);
            let rows = store::device_page(&mut on, &filter, after, MAX_ROWS).await?;
            let full = rows.len() == MAX_ROWS as usize;
            after = rows.last().map(|row| row.device.id);
            let devices = views::of_rows(&mut on, &self.live, rows).await?;
            let (product, asked) = (Arc::clone(product), Arc::clone(&asked));
            // Asking is work for a core and not for the runtime of the database.
            count = tokio::task::spawn_blocking(move || {
                for device in &devices {
                    add(&mut count, device, &product, &asked, now);
                }
                count
            })
            .await
            .map_err(Error::internal)?;
            if !full || count.devices >= enough {
                return Ok(count);
            }
            if self.now() > deadline {
                count.cut = true;
                return Ok(count);
            }
        }
    }

    /// Names in an audience that nobody has.
    async fn unnamed(&self, product: &ProductView, selector: &Selector) -> Result<Vec<String>> {
        let texts = |set: &sluice_catalog::TextSet| set.iter().map(str::to_owned).collect::<Vec<_>>();
        let mut named = Named {
            customers: texts(&selector.customers),
            sites: texts(&selector.sites),
            tags: texts(&selector.tags),
            plans: Vec::new(),
        };
        let mut hardware = texts(&selector.hw_ids);
        for term in selector.filter.iter().flat_map(|filter| filter.terms()) {
            let Node::Is(field, names) = term else { continue };
            let list = match field {
                Field::Customer => &mut named.customers,
                Field::Site => &mut named.sites,
                Field::Tag => &mut named.tags,
                Field::Plan => &mut named.plans,
                Field::Hardware => &mut hardware,
                Field::Product => continue,
            };
            list.extend(names.iter().cloned());
        }
        let images = || product.releases().iter().flat_map(|release| &release.artifacts);
        hardware.retain(|id| !images().any(|image| image.hw_ids.contains(id)));
        let unknown = self.store.unnamed(product.product.id, named).await?;
        let lists = [
            ("customer", unknown.customers),
            ("site", unknown.sites),
            ("tag", unknown.tags),
            ("plan", unknown.plans),
            ("hardware", hardware),
        ];
        let tell = |(what, mut names): (&str, Vec<String>)| {
            names.sort_unstable();
            names.dedup();
            let told = names.iter().take(NAMES_TOLD).cloned().collect::<Vec<_>>().join(", ");
            let more = names.len().saturating_sub(NAMES_TOLD);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            (!names.is_empty()).then(|| format!("nobody knows {what} {told}{more}"))
        };
        Ok(lists.into_iter().filter_map(tell).collect())
    }
}

/// Adds a device to a count if it is in service and in the audience.
fn add(
    count: &mut AudienceCount,
    device: &DeviceView,
    product: &ProductView,
    (selector, version): &(Selector, Option<Version>),
    now: Time,
) {
    let in_service = matches!(device.device.state_at(now), DeviceState::Active | DeviceState::RmaPending);
    if !in_service || !decide::audience_has(selector, device, product, now) {
        return;
    }
    count.devices += 1;
    *count.by_hardware.entry(device.device.hw_id.to_string()).or_default() += 1;
    let runs = decide::runs(device, product).map(ToString::to_string).unwrap_or_default();
    *count.by_version.entry(runs).or_default() += 1;
    let release = version.as_ref().and_then(|version| product.release_of_version(version));
    if let (Some(release), Some(entitled)) = (release, &mut count.entitled) {
        *entitled += u64::from(decide::entitled(device, product, release, now, &mut ()).pass);
    }
}

/// Refuses a filter that compares with a version that is none: no device could ever be told from it.
pub(super) fn check_versions(product: &ProductView, selector: &Selector) -> Result<()> {
    for term in selector.filter.iter().flat_map(|filter| filter.terms()) {
        let versions = match term {
            Node::Version(_, version) => std::slice::from_ref(version),
            Node::Runs(versions) => versions.as_slice(),
            _ => continue,
        };
        if let Some(unknown) = versions.iter().find(|version| product.release_of_version(version).is_none()) {
            let text = format!("`{term}`: there is no version {unknown} of {}", product.product.name);
            return Err(Error::invalid("selector.filter", text));
        }
    }
    Ok(())
}

/// Gates that ask for more attempts than their stage has devices to make.
fn shut_gates(rollout: &Rollout, devices: u64) -> Vec<String> {
    let (mut before, mut told) = (0, Vec::new());
    for (index, stage) in rollout.stages.0.iter().enumerate() {
        // Devices of the stages before may be late and begin in this one; a stage that adds nobody counts on them alone.
        let adds = if stage.percent > before { stage.percent - before } else { stage.percent };
        let begin = devices * u64::from(adds) / 100;
        if let Some(gate) = stage.gate
            && begin < u64::from(gate.minimum)
        {
            told.push(format!(
                "the gate of stage {index} asks for {} matured attempts and cannot open by itself: {adds} % of {devices} devices are \
                 {begin}; ask for fewer, make the stage larger, or advance it by hand",
                gate.minimum
            ));
        }
        before = stage.percent;
    }
    told
}

#[cfg(test)]
mod tests {
    use sluice_catalog::rollout::{Preset, Stages};

    use super::*;

    fn told(stages: &Stages, devices: u64) -> Vec<usize> {
        let json = serde_json::json!({
            "id": "01980000-0000-7000-8000-000000000001", "release_id": "01980000-0000-7000-8000-000000000002", "name": "r",
            "state": "draft", "salt": "s", "weight": 0, "stages": stages, "stage": 0, "selector": {},
            "created_at": "2026-01-01T00:00:00Z",
        });
        let rollout: Rollout = serde_json::from_value(json).unwrap();
        let number = |text: &String| text.split(' ').nth(4).unwrap().parse().unwrap();
        shut_gates(&rollout, devices).iter().map(number).collect()
    }

    #[test]
    fn a_preset_tells_the_gates_that_an_audience_is_too_small_for() {
        assert_eq!(told(&Preset::Normal.stages(), 6_000), [0usize; 0]);
        assert_eq!(told(&Preset::Normal.stages(), 5_999), [0]);
        assert_eq!(told(&Preset::Normal.stages(), 700), [0, 1]);
        assert_eq!(told(&Preset::Accelerated.stages(), 1_200), [0usize; 0]);
        assert_eq!(told(&Preset::Accelerated.stages(), 1_199), [0]);
        assert_eq!(told(&Preset::Emergency.stages(), 600), [0usize; 0]);
        assert_eq!(told(&Preset::Emergency.stages(), 50), [0, 1, 2]);
    }
}
