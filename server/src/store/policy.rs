//! What owners want for their devices, and where their sites are.

use sluice_catalog::Time;
use sluice_catalog::device::Device;
use sluice_catalog::id::{CustomerId, FactId, ProductId};
use sluice_catalog::policy::{Policy, PolicyScope, Site};
use sluice_catalog::text::Slug;

use super::sql::json;
use super::{On, Result, Sql, Store, StoreError, Tx};

pub(super) const COLUMNS: &str =
    "id, customer_id, product_id, scope, target, kind, owner, reason, from_at, to_at, recorded_at, superseded_at";
const SITE_COLUMNS: &str = "id, customer_id, name, country, time_zone, recorded_at, superseded_at";
/// Policies of one customer that one decision looks at.
pub(super) const MAX_POLICIES: i64 = 10_000;

/// A policy as stored.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct PolicyRow {
    /// Made by the program.
    pub id: FactId,
    /// Whose devices.
    pub customer_id: CustomerId,
    /// For one product, or for all.
    pub product_id: Option<ProductId>,
    /// How narrow it is.
    pub scope: PolicyScope,
    /// The site, the tag, or the device's serial; empty for the customer.
    pub target: String,
    /// JSON of the kind.
    kind: String,
    owner: Slug,
    reason: String,
    from_at: Time,
    to_at: Time,
    recorded_at: Time,
    /// When it was lifted or replaced.
    pub superseded_at: Option<Time>,
}

impl PolicyRow {
    /// The policy.
    pub fn policy(&self) -> Result<Policy> {
        Ok(Policy {
            id: self.id,
            scope: self.scope,
            kind: serde_json::from_str(&self.kind)
                .map_err(|error| StoreError::Corrupt(format!("policy {}: {error}", self.id)))?,
            owner: self.owner.clone(),
            reason: self.reason.clone(),
            from_at: self.from_at,
            to_at: self.to_at,
            recorded_at: self.recorded_at,
        })
    }

    /// Whether it concerns a device.
    pub fn concerns(&self, device: &Device) -> bool {
        self.product_id.is_none_or(|product| product == device.product_id)
            && match self.scope {
                PolicyScope::Customer => true,
                PolicyScope::Site => device.site.as_ref().is_some_and(|site| site.as_str() == self.target),
                PolicyScope::Group => device.tags.contains(&self.target),
                PolicyScope::Device => device.serial.as_str() == self.target,
            }
    }
}

impl Store {
    /// A customer's policies whose time was not over at a moment, by what was known at a moment, or by what is known now. The newest
    /// of very many.
    pub async fn policy_known(&self, customer: CustomerId, known_at: Option<Time>, at: Time) -> Result<Vec<PolicyRow>> {
        let text = match known_at {
            Some(_) => "recorded_at <= $3 AND (superseded_at IS NULL OR superseded_at > $3)",
            None => "superseded_at IS NULL AND recorded_at <= $3",
        };
        Sql::built(format!(
            "SELECT {COLUMNS} FROM policy WHERE customer_id = $1 AND to_at > $2 AND {text} ORDER BY id DESC LIMIT $4"
        ))
        .bind(customer)
        .bind(at)
        .bind(known_at.unwrap_or(Time::FOREVER))
        .bind(MAX_POLICIES)
        .all(self)
        .await
    }

    /// A customer's site by what was known at a moment, or by what is known now.
    pub async fn site_known(&self, customer: CustomerId, name: &Slug, known_at: Option<Time>) -> Result<Option<Site>> {
        site(self, customer, name, known_at).await
    }

    /// A customer's sites after a name.
    pub async fn site_list(&self, customer: CustomerId, after: &str, limit: u32) -> Result<Vec<Site>> {
        Sql::built(format!(
            "SELECT {SITE_COLUMNS} FROM site WHERE customer_id = $1 AND name > $2 AND superseded_at IS NULL
             ORDER BY name LIMIT $3"
        ))
        .bind(customer)
        .bind(after)
        .bind(i64::from(limit))
        .all(self)
        .await
    }
}

async fn site<'a>(
    on: impl Into<On<'a>>,
    customer: CustomerId,
    name: &Slug,
    known_at: Option<Time>,
) -> Result<Option<Site>> {
    Sql::built(format!(
        "SELECT {SITE_COLUMNS} FROM site WHERE customer_id = $1 AND name = $2 AND recorded_at <= $3
         AND (superseded_at IS NULL OR superseded_at > $3) ORDER BY recorded_at DESC, id DESC LIMIT 1"
    ))
    .bind(customer)
    .bind(name)
    .bind(known_at.unwrap_or(Time::FOREVER))
    .optional(on)
    .await
}

impl Tx {
    /// Records a policy.
    pub async fn policy_add(
        &mut self,
        customer: CustomerId,
        product: Option<ProductId>,
        target: &str,
        policy: &Policy,
    ) -> Result<()> {
        Sql::built(format!(
            "INSERT INTO policy ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, NULL)"
        ))
        .bind(policy.id)
        .bind(customer)
        .bind(product)
        .bind(policy.scope)
        .bind(target)
        .bind(json(&policy.kind)?)
        .bind(&policy.owner)
        .bind(policy.reason.as_str())
        .bind(policy.from_at)
        .bind(policy.to_at)
        .bind(policy.recorded_at)
        .execute(self)
        .await
        .map(|_| ())
    }

    /// A customer's policies whose time is not over, by what is known now.
    pub async fn policy_list(&mut self, customer: CustomerId, now: Time) -> Result<Vec<PolicyRow>> {
        Sql::built(format!(
            "SELECT {COLUMNS} FROM policy WHERE customer_id = $1 AND to_at > $2 AND superseded_at IS NULL ORDER BY id DESC LIMIT $3"
        ))
        .bind(customer)
        .bind(now)
        .bind(MAX_POLICIES)
        .all(self)
        .await
    }

    /// Lifts a policy; false when it was not in force.
    pub async fn policy_end(&mut self, customer: CustomerId, id: FactId, at: Time) -> Result<bool> {
        let rows = Sql::new(
            "UPDATE policy SET superseded_at = $1 WHERE id = $2 AND customer_id = $3 AND superseded_at IS NULL",
        )
        .bind(at)
        .bind(id)
        .bind(customer)
        .execute(self)
        .await?;
        Ok(rows == 1)
    }

    /// A customer's site as it is known now.
    pub async fn site_get(&mut self, customer: CustomerId, name: &Slug) -> Result<Option<Site>> {
        site(self, customer, name, None).await
    }

    /// Records a site in place of what was known of it.
    pub async fn site_set(&mut self, site: &Site) -> Result<()> {
        Sql::new("UPDATE site SET superseded_at = $1 WHERE customer_id = $2 AND name = $3 AND superseded_at IS NULL")
            .bind(site.recorded_at)
            .bind(site.customer_id)
            .bind(&site.name)
            .execute(&mut *self)
            .await?;
        Sql::built(format!("INSERT INTO site ({SITE_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, NULL)"))
            .bind(site.id)
            .bind(site.customer_id)
            .bind(&site.name)
            .bind(site.country.clone())
            .bind(site.time_zone.clone())
            .bind(site.recorded_at)
            .execute(self)
            .await
            .map(|_| ())
    }

    /// Marks a customer's devices as changed, so that caches read what they are told anew.
    pub async fn customer_touch_devices(&mut self, customer: CustomerId, at: Time) -> Result<()> {
        Sql::new("UPDATE device SET revision = revision + 1, changed_at = $1 WHERE customer_id = $2")
            .bind(at)
            .bind(customer)
            .execute(self)
            .await
            .map(|_| ())
    }
}
