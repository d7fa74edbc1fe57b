//! Customers, the tree that they stand in, and who acts for whom. Both say who may read and act; neither decides about cover.

use serde_json::json;
use sluice_catalog::Time;
use sluice_catalog::customer::{Customer, Partner};
use sluice_catalog::id::CustomerId;
use sluice_catalog::principal::Permission;
use sluice_catalog::text::Slug;
use sluice_catalog::wire::admin::{CustomerCreate, CustomerDetail, MAX_PAGE, ParentSet, PartnerSet};

use super::reach::Reach;
use super::{Actor, App, Made, title};
use crate::error::{Error, Result};
use crate::store::Tx;

/// Levels of the tree: a group, its companies, their branches, and room. Every question about reach walks them.
const MAX_LEVELS: usize = 8;
/// Customers that act for one customer.
const MAX_PARTNERS: usize = 100;

impl App {
    /// Customers after a name: those within reach.
    pub async fn customer_list(&self, actor: &Actor, after: &str, limit: u32) -> Result<Vec<Customer>> {
        Ok(match actor.need_within(Permission::Read)? {
            Reach::Everything => self.store.customer_list(after, limit).await?,
            Reach::Of(own) => self.store.customer_list_reached(own, self.now(), after, limit).await?,
        })
    }

    /// A customer with its partners. Who is bound to another one sees those within its own reach; who acts for one is that one's to know.
    pub async fn customer_get(&self, actor: &Actor, name: &Slug) -> Result<CustomerDetail> {
        let reach = actor.need_within(Permission::Read)?;
        let found = match reach {
            Reach::Everything => self.store.customer_by_name(name).await?,
            Reach::Of(own) => self.store.customer_reached(own, self.now(), name).await?,
        };
        let customer = found.ok_or_else(|| Error::not_found("customer", name))?;
        let mut partners = self.store.partners_of(customer.id).await?;
        if reach != Reach::Everything && reach != Reach::Of(customer.id) {
            partners = self.partners_within(reach, partners, |one| &one.partner).await?;
        }
        let acts_for = self.store.partner_for(customer.id, MAX_PAGE).await?;
        let acts_for = self.partners_within(reach, acts_for, |one| &one.customer).await?;
        Ok(CustomerDetail { customer, partners, acts_for })
    }

    async fn partners_within(
        &self,
        reach: Reach,
        all: Vec<Partner>,
        other: fn(&Partner) -> &Slug,
    ) -> Result<Vec<Partner>> {
        let Reach::Of(own) = reach else { return Ok(all) };
        let mut within = Vec::new();
        for one in all {
            if self.store.customer_reached(own, self.now(), other(&one)).await?.is_some() {
                within.push(one);
            }
        }
        Ok(within)
    }

    /// Enters a customer.
    pub async fn customer_create(&self, actor: &Actor, request: &CustomerCreate) -> Result<Made<Customer>> {
        actor.need(Permission::Contracts)?;
        let now = self.now();
        let customer = Customer {
            id: CustomerId::new(now, self.dice.id()),
            name: request.name.clone(),
            title: title(request.title.as_deref(), request.name.as_str())?,
            created_at: now,
            parent: request.parent.clone(),
        };
        let mut tx = self.store.begin().await?;
        tx.generation_raise("customers").await?;
        if let Some(there) = tx.customer_by_name(&customer.name).await? {
            if there.title == customer.title && there.parent == customer.parent {
                return Ok(Made::Same(there));
            }
            return Err(Error::conflict(format!("there is another customer `{}`", there.name)));
        }
        if let Some(parent) = &customer.parent {
            let parent = tx.customer_by_name(parent).await?.ok_or_else(|| Error::not_found("customer", parent))?;
            check_place(&mut tx, None, parent.id).await?;
        }
        tx.customer_add(&customer).await?;
        let detail = match &customer.parent {
            Some(parent) => json!({"parent": parent}),
            None => json!({}),
        };
        tx.audit_add(now, actor.name(), "customer.create", &format!("customer:{}", customer.name), &detail).await?;
        tx.commit().await?;
        Ok(Made::New(customer))
    }

    /// Puts a customer beneath another, or on its own. A circle, or a tree of too many levels, is refused.
    pub async fn customer_parent(&self, actor: &Actor, name: &Slug, request: &ParentSet) -> Result<Customer> {
        actor.need(Permission::Contracts)?;
        let now = self.now();
        let mut tx = self.store.begin().await?;
        // Two changes that are no circle each may be one together: they follow one another.
        tx.generation_raise("customers").await?;
        let customer = tx.customer_by_name(name).await?.ok_or_else(|| Error::not_found("customer", name))?;
        if customer.parent == request.parent {
            return Ok(customer);
        }
        let parent = match &request.parent {
            Some(parent) => {
                let parent = tx.customer_by_name(parent).await?.ok_or_else(|| Error::not_found("customer", parent))?;
                check_place(&mut tx, Some(customer.id), parent.id).await?;
                Some(parent.id)
            }
            None => None,
        };
        tx.customer_parent_set(customer.id, parent).await?;
        let detail = json!({"from": customer.parent, "to": request.parent});
        tx.audit_add(now, actor.name(), "customer.parent", &format!("customer:{name}"), &detail).await?;
        tx.commit().await?;
        Ok(Customer { parent: request.parent.clone(), ..customer })
    }

    /// Lets one customer act for another, in place of what was said before.
    pub async fn partner_set(
        &self,
        actor: &Actor,
        name: &Slug,
        partner: &Slug,
        request: &PartnerSet,
    ) -> Result<Made<Partner>> {
        actor.need(Permission::Contracts)?;
        let now = self.now();
        let (from, until) = (request.from.unwrap_or(now), request.until.unwrap_or(Time::FOREVER));
        if from >= until {
            return Err(Error::invalid("until", format!("ends ({until}) before it starts ({from})")));
        }
        if name == partner {
            return Err(Error::invalid("partner", "a customer acts for itself without being told"));
        }
        let mut tx = self.store.begin().await?;
        tx.customer_lock(name).await?;
        let customer = tx.customer_by_name(name).await?.ok_or_else(|| Error::not_found("customer", name))?;
        let acting = tx.customer_by_name(partner).await?.ok_or_else(|| Error::not_found("customer", partner))?;
        let there = tx.partners_of(customer.id).await?;
        let before = there.iter().find(|one| one.partner == *partner);
        if let Some(before) = before {
            if before.until == until && (request.from.is_none() || before.from == from) {
                return Ok(Made::Same(before.clone()));
            }
        } else if there.len() >= MAX_PARTNERS {
            return Err(Error::conflict(format!("{MAX_PARTNERS} customers act for {name}; end some first")));
        }
        tx.partner_set((customer.id, acting.id), (from, until), now).await?;
        let detail = json!({"partner": partner, "from": from, "until": request.until});
        tx.audit_add(now, actor.name(), "customer.partner", &format!("customer:{name}"), &detail).await?;
        tx.commit().await?;
        Ok(Made::New(Partner { customer: name.clone(), partner: partner.clone(), from, until }))
    }

    /// Ends that one customer acts for another.
    pub async fn partner_end(&self, actor: &Actor, name: &Slug, partner: &Slug) -> Result<()> {
        actor.need(Permission::Contracts)?;
        let now = self.now();
        let mut tx = self.store.begin().await?;
        tx.customer_lock(name).await?;
        let not_found = || Error::not_found("partner", format!("{partner} of {name}"));
        let customer = tx.customer_by_name(name).await?.ok_or_else(not_found)?;
        let acting = tx.customer_by_name(partner).await?.ok_or_else(not_found)?;
        if !tx.partner_remove(customer.id, acting.id).await? {
            return Err(not_found());
        }
        let detail = json!({"partner": partner});
        tx.audit_add(now, actor.name(), "customer.partner_end", &format!("customer:{name}"), &detail).await?;
        Ok(tx.commit().await?)
    }
}

/// Refuses a place in the tree that makes a circle or goes too deep. Nothing is beneath a customer that is not there yet.
async fn check_place(tx: &mut Tx, moved: Option<CustomerId>, parent: CustomerId) -> Result<()> {
    let line = tx.customer_line(parent, MAX_LEVELS + 1).await?;
    if moved.is_some_and(|moved| line.contains(&moved)) {
        return Err(Error::invalid("parent", "stands beneath this customer, or is it: that would be a circle"));
    }
    let height = match moved {
        Some(moved) => tx.customer_height(moved, i64::try_from(MAX_LEVELS).map_err(Error::internal)? + 1).await?,
        None => 1,
    };
    let levels = line.len() + usize::try_from(height).map_err(Error::internal)?;
    if levels > MAX_LEVELS {
        return Err(Error::invalid("parent", format!("{levels} levels of customers, at most {MAX_LEVELS}")));
    }
    Ok(())
}
