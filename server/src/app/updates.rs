//! One device, one version, now: a pin that stages, rates and windows do not hold back. What the device is not entitled to, what is stopped and
//! what its owner holds more narrowly or later stays where it is.

use std::sync::Arc;

use serde_json::json;
use sluice_catalog::decide::{self, DeviceView, ProductView};
use sluice_catalog::id::FactId;
use sluice_catalog::policy::{MAX_POLICY_REASON, Policy, PolicyKind, PolicyScope};
use sluice_catalog::principal::Permission;
use sluice_catalog::text::{ProductName, Serial, Version};
use sluice_catalog::wire::rollout::{UpdateNow, UpdateNowSet};
use sluice_catalog::{Kind, Time};

use super::{Actor, App};
use crate::error::{Error, Result};
use crate::poll::views;
use crate::store::{DeviceRow, On};

/// How long it counts unless said otherwise, days: a device that is away for a week is looked after by hand.
const DEFAULT_DAYS: i64 = 7;
/// How long it counts at most, days: what is forgotten must not decide years later.
const MAX_DAYS: i64 = 90;

impl App {
    /// Asks for a version on a device at once, in place of what was asked for before.
    pub async fn update_now(
        &self,
        actor: &Actor,
        product: &ProductName,
        serial: &Serial,
        request: &UpdateNow,
    ) -> Result<UpdateNowSet> {
        actor.need(Permission::Rollouts)?;
        let reason = request.reason.trim();
        if reason.is_empty() || reason.len() > MAX_POLICY_REASON || reason.chars().any(char::is_control) {
            return Err(Error::invalid("reason", format!("1 to {MAX_POLICY_REASON} bytes on one line")));
        }
        let now = self.now();
        let until = request.expires.unwrap_or_else(|| now.plus_days(DEFAULT_DAYS));
        if until <= now || until > now.plus_days(MAX_DAYS) {
            return Err(Error::invalid("expires", format!("{until}: after now, {MAX_DAYS} days ahead at most")));
        }
        let view = self.product_view(product)?;
        if let Some(version) = request.version.as_ref().filter(|version| view.release_of_version(version).is_none()) {
            return Err(Error::not_found("version", format!("{product} {version}")));
        }
        let row = self.device_row(product, serial).await?;
        let id = row.device.id;
        let device = self.view_of_row(row.clone()).await?;
        let mut policy = Policy {
            id: FactId::new(now, self.dice.id()),
            scope: PolicyScope::Device,
            kind: PolicyKind::Follow,
            owner: actor.name().parse().map_err(|error| Error::invalid("owner", error))?,
            reason: reason.to_owned(),
            from_at: now,
            to_at: until,
            recorded_at: now,
        };
        let version = match &request.version {
            Some(version) => version.clone(),
            None => newest(device, &view, &policy, now).await?,
        };
        policy.kind = PolicyKind::UpdateNow { version: version.clone() };
        let there = self.store.updates_known(id, None).await?;
        let same = there.is_some_and(|there| {
            there.kind == policy.kind
                && there.reason == policy.reason
                && there.holds_at(now)
                && request.expires.is_none_or(|expires| there.to_at == expires)
        });
        if !same {
            let mut tx = self.store.begin().await?;
            self.device_locked(&mut tx, product, &row.device).await?;
            tx.update_set(id, &version, &policy).await?;
            tx.device_touch(id, now).await?;
            tx.device_note(id, actor.name(), &format!("update to {version} asked for now: {reason}"), now).await?;
            let detail = json!({"version": version, "reason": reason, "until": until});
            tx.audit_add(now, actor.name(), "device.update_now", &format!("device:{product}/{serial}"), &detail)
                .await?;
            tx.commit().await?;
            self.devices.forget(id);
        }
        let row = self.device_row(product, serial).await?;
        let device = self.view_of_row(row).await?;
        let set = device.policies.iter().find(|policy| matches!(policy.kind, PolicyKind::UpdateNow { .. }));
        let (owner, until) = set.map_or((policy.owner, until), |set| (set.owner.clone(), set.to_at));
        let asked = version.clone();
        let said = tokio::task::spawn_blocking(move || {
            let said = decide::outcome(&device, &view, view.release_of_version(&asked), now);
            (said.offered, said.reason)
        });
        let (offered, answer) = said.await.map_err(Error::internal)?;
        Ok(UpdateNowSet {
            product: product.clone(),
            serial: serial.clone(),
            version,
            owner,
            reason: reason.to_owned(),
            until,
            offered,
            answer,
            sentence: answer.sentence().to_owned(),
        })
    }

    /// Takes back what was asked for on a device.
    pub async fn update_now_end(&self, actor: &Actor, product: &ProductName, serial: &Serial) -> Result<()> {
        actor.need(Permission::Rollouts)?;
        let row = self.device_row(product, serial).await?;
        let (id, now) = (row.device.id, self.now());
        let mut tx = self.store.begin().await?;
        self.device_locked(&mut tx, product, &row.device).await?;
        if !tx.update_end(id, now).await? {
            return Ok(());
        }
        tx.device_touch(id, now).await?;
        tx.device_note(id, actor.name(), "update asked for now: taken back", now).await?;
        tx.audit_add(now, actor.name(), "device.update_now_end", &format!("device:{product}/{serial}"), &json!({}))
            .await?;
        tx.commit().await?;
        self.devices.forget(id);
        Ok(())
    }

    /// The decision's view of a device, as its next poll will have it.
    async fn view_of_row(&self, row: DeviceRow) -> Result<DeviceView> {
        let name = row.device.serial.clone();
        let view = views::of_rows(&mut On::from(&self.store), &self.live, vec![row]).await?.pop();
        let mut view = view.ok_or_else(|| Error::not_found("device", &name))?;
        view.last_seen = Some(Time::FOREVER);
        Ok(view)
    }
}

/// The newest version that would reach a device if it were asked for.
async fn newest(device: DeviceView, product: &Arc<ProductView>, policy: &Policy, now: Time) -> Result<Version> {
    let (product, policy) = (Arc::clone(product), policy.clone());
    let name = format!("{}/{}", product.product.name, device.device.serial);
    let found = tokio::task::spawn_blocking(move || {
        let others = device.policies.iter().filter(|one| !matches!(one.kind, PolicyKind::UpdateNow { .. }));
        let others: Vec<Policy> = others.cloned().collect();
        product.releases().iter().find_map(|release| {
            let version = release.release.version.clone();
            let kind = PolicyKind::UpdateNow { version: version.clone() };
            let policies = others.iter().cloned().chain([Policy { kind, ..policy.clone() }]).collect();
            let asked = DeviceView { policies, ..device.clone() };
            decide::outcome(&asked, &product, Some(release), now).offered.then_some(version)
        })
    })
    .await
    .map_err(Error::internal)?;
    found.ok_or_else(|| {
        Error::new(
            Kind::WrongState,
            format!("no version can reach {name} now; see `sluicectl why`, or name the version that is to reach it when it can"),
        )
    })
}
