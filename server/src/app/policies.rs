//! What owners want for their devices, where their sites are, and what is said of releases that keeps them from some.

use serde_json::json;
use sluice_catalog::id::{CustomerId, FactId, ProductId, ReleaseId};
use sluice_catalog::policy::{MAX_POLICY_REASON, Policy, PolicyKind, PolicyScope, Site, is_country};
use sluice_catalog::principal::Permission;
use sluice_catalog::release::{Embargo, ReleaseFact};
use sluice_catalog::text::{Code, ProductName, Serial, Slug, Version};
use sluice_catalog::wire::entitlement::{
    BlockedSet, EmbargoSet, MAX_COUNTRIES, MAX_EMBARGO_CODES, MAX_EMBARGO_DAYS, PolicyCreate, PolicyDetail, SiteSet,
};
use sluice_catalog::{Kind, Time};

use super::reach::Reach;
use super::{Actor, App, Made};
use crate::error::{Error, Result};
use crate::store::PolicyRow;

/// Policies that one customer may have in force.
const MAX_POLICIES: usize = 1_000;

impl App {
    /// A customer's policies that are in force or to come.
    pub async fn policy_list(&self, actor: &Actor, customer: &Slug) -> Result<Vec<PolicyDetail>> {
        let reach = actor.need_within(Permission::Read)?;
        let owner = self.customer_within(reach, customer).await?;
        let rows = self.store.policy_known(owner.id, None, self.now()).await?;
        rows.iter().map(|row| self.policy_detail(customer, row)).collect()
    }

    fn policy_detail(&self, customer: &Slug, row: &PolicyRow) -> Result<PolicyDetail> {
        let products = self.live.products();
        let product = row.product_id.and_then(|id| products.get(id)).map(|product| product.product.name.clone());
        Ok(PolicyDetail { customer: customer.clone(), product, target: row.target.clone(), policy: row.policy()? })
    }

    /// The product that a policy is for, if it names one: whoever is bound to a customer learns neither of products that this customer
    /// has no device of, nor of versions under embargo.
    async fn policy_product(
        &self,
        reach: Reach,
        owner: CustomerId,
        request: &PolicyCreate,
    ) -> Result<Option<ProductId>> {
        let now = self.now();
        let Some(name) = &request.product else { return Ok(None) };
        let product = self.product_view(name)?;
        if reach != Reach::Everything && !self.store.customer_has_product(owner, product.product.id, now).await? {
            return Err(Error::not_found("product", name));
        }
        if let PolicyKind::Pin { version } = &request.kind {
            let known = product.release_of_version(version).filter(|release| {
                reach == Reach::Everything || release.embargo.as_ref().is_none_or(|embargo| embargo.until <= now)
            });
            if known.is_none() {
                return Err(Error::not_found("version", format!("{name} {version}")));
            }
        }
        Ok(Some(product.product.id))
    }

    /// Sets a policy. The same again, still in force, changes nothing.
    pub async fn policy_create(&self, actor: &Actor, request: &PolicyCreate) -> Result<Made<PolicyDetail>> {
        let reach = actor.need_within(Permission::Devices)?;
        let owner = self.customer_within(reach, &request.customer).await?;
        self.may_act_for(actor, reach, Some(owner.id)).await?;
        let reason = request.reason.trim();
        if reason.is_empty() || reason.len() > MAX_POLICY_REASON || reason.chars().any(char::is_control) {
            return Err(Error::invalid("reason", format!("1 to {MAX_POLICY_REASON} bytes on one line")));
        }
        let now = self.now();
        let (from_at, to_at) = (request.from.unwrap_or(now), request.until.unwrap_or(Time::FOREVER));
        if from_at >= to_at {
            return Err(Error::invalid("until", format!("ends ({to_at}) before it starts ({from_at})")));
        }
        let target = policy_target(request)?;
        if matches!(request.kind, PolicyKind::UpdateNow { .. }) {
            let text =
                "update_now is asked for one device: PUT …/devices/{serial}/update-now, `sluicectl device update-now`";
            return Err(Error::invalid("kind", text));
        }
        if matches!(request.kind, PolicyKind::Pin { .. }) && request.product.is_none() {
            return Err(Error::invalid("product", "a pin names a version, so it needs a product"));
        }
        let product_id = self.policy_product(reach, owner.id, request).await?;
        let policy = Policy {
            id: FactId::new(now, self.dice.id()),
            scope: request.scope,
            kind: request.kind.clone(),
            owner: actor.name().parse().map_err(|error| Error::invalid("owner", error))?,
            reason: reason.to_owned(),
            from_at,
            to_at,
            recorded_at: now,
        };
        let mut tx = self.store.begin().await?;
        tx.generation_raise("devices").await?;
        tx.customer_lock(&request.customer).await?;
        let customer = tx
            .customer_by_name(&request.customer)
            .await?
            .ok_or_else(|| Error::not_found("customer", &request.customer))?;
        if let (PolicyScope::Device, Some(product)) = (request.scope, product_id) {
            let serial: Serial = target.parse().map_err(|error| Error::invalid("target", error))?;
            let device = tx.device_by_serial(product, &serial).await?;
            if device.is_none_or(|row| row.device.customer_id != Some(customer.id)) {
                return Err(Error::not_found("device", format!("{serial} of {}", request.customer)));
            }
        }
        let there = tx.policy_list(customer.id, now).await?;
        for row in &there {
            let known = row.policy()?;
            let same = known.kind == policy.kind
                && known.to_at == policy.to_at
                && (request.from.is_none() || known.from_at == policy.from_at)
                && known.reason == policy.reason
                && (row.scope, row.target.as_str(), row.product_id) == (policy.scope, target.as_str(), product_id);
            if same {
                return Ok(Made::Same(self.policy_detail(&request.customer, row)?));
            }
        }
        if there.len() >= MAX_POLICIES {
            let message = format!("{} has {MAX_POLICIES} policies in force; lift some first", request.customer);
            return Err(Error::new(Kind::Conflict, message));
        }
        tx.policy_add(customer.id, product_id, &target, &policy).await?;
        tx.customer_touch_devices(customer.id, now).await?;
        let detail = json!({"id": policy.id, "scope": policy.scope, "target": target, "product": request.product,
            "kind": policy.kind, "reason": policy.reason, "from": from_at, "until": request.until});
        tx.audit_add(now, actor.name(), "policy.create", &format!("customer:{}", customer.name), &detail).await?;
        tx.commit().await?;
        self.devices.forget_all();
        Ok(Made::New(PolicyDetail {
            customer: request.customer.clone(),
            product: request.product.clone(),
            target,
            policy,
        }))
    }

    /// Lifts a policy.
    pub async fn policy_lift(&self, actor: &Actor, customer: &Slug, id: FactId) -> Result<()> {
        let reach = actor.need_within(Permission::Devices)?;
        let owner = self.customer_within(reach, customer).await?;
        self.may_act_for(actor, reach, Some(owner.id)).await?;
        let now = self.now();
        let mut tx = self.store.begin().await?;
        tx.generation_raise("devices").await?;
        tx.customer_lock(customer).await?;
        if !tx.policy_end(owner.id, id, now).await? {
            return Err(Error::not_found("policy", format!("{id} of {customer}")));
        }
        tx.customer_touch_devices(owner.id, now).await?;
        tx.audit_add(now, actor.name(), "policy.lift", &format!("customer:{customer}"), &json!({"id": id})).await?;
        tx.commit().await?;
        self.devices.forget_all();
        Ok(())
    }

    /// A customer's sites after a name.
    pub async fn site_list(&self, actor: &Actor, customer: &Slug, after: &str, limit: u32) -> Result<Vec<Site>> {
        let reach = actor.need_within(Permission::Read)?;
        let owner = self.customer_within(reach, customer).await?;
        Ok(self.store.site_list(owner.id, after, limit).await?)
    }

    /// Says where a site is.
    pub async fn site_set(&self, actor: &Actor, customer: &Slug, name: &Slug, request: &SiteSet) -> Result<Made<Site>> {
        actor.need(Permission::Devices)?;
        if let Some(country) = request.country.as_deref().filter(|country| !is_country(country)) {
            let shown: String = country.chars().take(20).collect();
            return Err(Error::invalid("country", format!("`{shown}`: two capital letters, as in ISO 3166-1")));
        }
        if let Some(zone) = &request.time_zone {
            jiff::tz::TimeZone::get(zone).map_err(|_| {
                let shown: String = zone.chars().take(60).collect();
                Error::invalid("time_zone", format!("`{shown}`: an IANA name, such as Europe/Amsterdam"))
            })?;
        }
        let now = self.now();
        let mut tx = self.store.begin().await?;
        tx.generation_raise("devices").await?;
        tx.customer_lock(customer).await?;
        let owner = tx.customer_by_name(customer).await?.ok_or_else(|| Error::not_found("customer", customer))?;
        let site = Site {
            id: FactId::new(now, self.dice.id()),
            customer_id: owner.id,
            name: name.clone(),
            country: request.country.clone(),
            time_zone: request.time_zone.clone(),
            recorded_at: now,
        };
        if let Some(there) = tx.site_get(owner.id, name).await?
            && there.country == site.country
            && there.time_zone == site.time_zone
        {
            return Ok(Made::Same(there));
        }
        tx.site_set(&site).await?;
        tx.customer_touch_devices(owner.id, now).await?;
        let detail = json!({"site": name, "country": site.country, "time_zone": site.time_zone});
        tx.audit_add(now, actor.name(), "site.set", &format!("customer:{customer}"), &detail).await?;
        tx.commit().await?;
        self.devices.forget_all();
        Ok(Made::New(site))
    }

    /// Puts a release under an embargo, or changes it; without one it is lifted.
    pub async fn release_embargo(
        &self,
        actor: &Actor,
        product: &ProductName,
        version: &Version,
        request: Option<&EmbargoSet>,
    ) -> Result<()> {
        actor.need(Permission::Rollouts)?;
        let fact = match request {
            None => None,
            Some(request) => {
                if request.codes.len() > MAX_EMBARGO_CODES {
                    return Err(Error::invalid("codes", format!("at most {MAX_EMBARGO_CODES}")));
                }
                let now = self.now();
                if request.until <= now || request.until > now.plus_days(MAX_EMBARGO_DAYS) {
                    return Err(Error::invalid("until", format!("after now, {MAX_EMBARGO_DAYS} days ahead at most")));
                }
                let codes = request.codes.iter().map(Code::as_str).collect();
                Some(ReleaseFact::Embargo(Embargo { codes, until: request.until }))
            }
        };
        self.release_say(actor, product, version, "embargo", fact).await
    }

    /// Says to which countries a release is not delivered.
    pub async fn release_block(
        &self,
        actor: &Actor,
        product: &ProductName,
        version: &Version,
        request: &BlockedSet,
    ) -> Result<()> {
        actor.need(Permission::Rollouts)?;
        if request.countries.0.len() > MAX_COUNTRIES {
            return Err(Error::invalid("countries", format!("at most {MAX_COUNTRIES}")));
        }
        if let Some(odd) = request.countries.iter().find(|country| !is_country(country)) {
            let shown: String = odd.chars().take(20).collect();
            return Err(Error::invalid("countries", format!("`{shown}`: two capital letters, as in ISO 3166-1")));
        }
        let countries = request.countries.clone();
        let fact = (!countries.is_empty()).then_some(ReleaseFact::Blocked { countries });
        self.release_say(actor, product, version, "blocked", fact).await
    }

    async fn release_say(
        &self,
        actor: &Actor,
        product: &ProductName,
        version: &Version,
        kind: &str,
        fact: Option<ReleaseFact>,
    ) -> Result<()> {
        let release = self.release_id(product, version)?;
        let now = self.now();
        let mut tx = self.store.begin().await?;
        tx.release_lock(release).await?;
        tx.release_fact_set(FactId::new(now, self.dice.id()), release, kind, fact.as_ref(), now).await?;
        tx.generation_raise("releases").await?;
        let subject = format!("release:{product}/{version}");
        tx.audit_add(now, actor.name(), "release.restrict", &subject, &json!({"kind": kind, "value": fact})).await?;
        tx.commit().await?;
        self.refresh().await
    }

    fn release_id(&self, product: &ProductName, version: &Version) -> Result<ReleaseId> {
        let view = self.product_view(product)?;
        let release = view.release_of_version(version);
        release
            .map(|release| release.release.id)
            .ok_or_else(|| Error::not_found("version", format!("{product} {version}")))
    }
}

/// What a policy is for, checked by its scope.
fn policy_target(request: &PolicyCreate) -> Result<String> {
    let target = request.target.clone().unwrap_or_default();
    match request.scope {
        PolicyScope::Customer if !target.is_empty() => {
            return Err(Error::invalid("target", "none: the policy is for the whole customer"));
        }
        PolicyScope::Customer => {}
        PolicyScope::Site | PolicyScope::Group => {
            target.parse::<Slug>().map_err(|error| Error::invalid("target", error))?;
        }
        PolicyScope::Device => {
            target.parse::<Serial>().map_err(|error| Error::invalid("target", error))?;
            if request.product.is_none() {
                return Err(Error::invalid("product", "a serial is unique within its product only"));
            }
        }
    }
    Ok(target)
}
