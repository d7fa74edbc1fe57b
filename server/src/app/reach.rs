//! Whose things an actor may ask about. A principal that is bound to a customer is refused by [`Actor::need`]; the few use cases that
//! are for it ask [`Actor::need_within`] and look at nothing that its [`Reach`] does not hold. What is out of reach reads as what does
//! not exist, so nobody learns from a refusal who else is a customer here.

use sluice_catalog::customer::Customer;
use sluice_catalog::id::{CustomerId, DeviceId};
use sluice_catalog::principal::Permission;
use sluice_catalog::text::{ContractNumber, ProductName, Serial, Slug};
use sluice_catalog::{Kind, Time};

use super::{Actor, App};
use crate::error::{Error, Result};
use crate::store::DeviceRow;

/// Changes of one device that are read at once, newest first, to find since when it is whose.
const CHANGES_AT_ONCE: u32 = 500;

/// Whose things an actor may ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Reach {
    /// Everybody's.
    Everything,
    /// This customer's, those beneath it, and those that it acts for with all beneath them.
    Of(CustomerId),
}

impl Actor {
    /// Refuses an actor without the permission, and tells how far it reaches. For use cases that a bound principal may ask; all others
    /// call [`Actor::need`].
    pub fn need_within(&self, permission: Permission) -> Result<Reach> {
        self.granted(permission)?;
        Ok(self.customer().map_or(Reach::Everything, Reach::Of))
    }
}

impl App {
    /// Whether a customer's things may be read; those of nobody are the operator's.
    pub(super) async fn sees(&self, reach: Reach, customer: Option<CustomerId>) -> Result<bool> {
        match (reach, customer) {
            (Reach::Everything, _) => Ok(true),
            (Reach::Of(_), None) => Ok(false),
            (Reach::Of(own), Some(asked)) if own == asked => Ok(true),
            (Reach::Of(own), Some(asked)) => Ok(self.store.customer_reaches(own, asked, self.now()).await?),
        }
    }

    /// Whether a customer's things may be changed: a parent reads, only a partner acts.
    pub(super) async fn acts_for(&self, reach: Reach, customer: Option<CustomerId>) -> Result<bool> {
        match (reach, customer) {
            (Reach::Everything, _) => Ok(true),
            (Reach::Of(_), None) => Ok(false),
            (Reach::Of(own), Some(asked)) if own == asked => Ok(true),
            (Reach::Of(own), Some(asked)) => Ok(self.store.customer_acts_for(own, asked, self.now()).await?),
        }
    }

    /// Refuses who may only read of a customer.
    pub(super) async fn may_act_for(&self, actor: &Actor, reach: Reach, customer: Option<CustomerId>) -> Result<()> {
        if self.acts_for(reach, customer).await? {
            return Ok(());
        }
        Err(Error::new(Kind::Forbidden, format!("{} reads of this customer and does not act for it", actor.name())))
    }

    /// A customer by name, within reach.
    pub(super) async fn customer_within(&self, reach: Reach, name: &Slug) -> Result<Customer> {
        let found = self.store.customer_by_name(name).await?;
        match found {
            Some(customer) if self.sees(reach, Some(customer.id)).await? => Ok(customer),
            _ => Err(Error::not_found("customer", name)),
        }
    }

    /// Whose things a list is about: the customer asked for; else of a bound principal its own, and of all others everybody's.
    pub(super) async fn listed_for(&self, reach: Reach, asked: Option<&Slug>) -> Result<Option<CustomerId>> {
        match (asked, reach) {
            (Some(name), _) => Ok(Some(self.customer_within(reach, name).await?.id)),
            (None, Reach::Of(own)) => Ok(Some(own)),
            (None, Reach::Everything) => Ok(None),
        }
    }

    /// A device by serial, within reach. Whose product does not exist reads like whose device does not.
    pub(super) async fn device_within(
        &self,
        reach: Reach,
        product: &ProductName,
        serial: &Serial,
    ) -> Result<DeviceRow> {
        if reach == Reach::Everything {
            return self.device_row(product, serial).await;
        }
        let not_found = || Error::not_found("device", format!("{product}/{serial}"));
        let row = self.device_row(product, serial).await.map_err(|error| match error.kind {
            Kind::NotFound => not_found(),
            _ => error,
        })?;
        if self.sees(reach, row.device.customer_id).await? { Ok(row) } else { Err(not_found()) }
    }

    /// Since when a device is within reach without a gap, with the number of the change that brought it there: what was before is its
    /// former owner's. Nothing for those who reach everything.
    pub(super) async fn device_since(&self, reach: Reach, row: &DeviceRow) -> Result<Option<Since>> {
        if reach == Reach::Everything {
            return Ok(None);
        }
        let id: DeviceId = row.device.id;
        let mut since = Since { at: row.device.created_at, seq: i64::MIN };
        let (mut before, mut known) = (i64::MAX, std::collections::BTreeMap::new());
        loop {
            let page = self.store.device_changes_before(id, before, CHANGES_AT_ONCE).await?;
            let Some(last) = page.last() else { return Ok(Some(since)) };
            before = last.seq;
            for change in &page {
                let owner = change.device()?.customer_id;
                let seen = match known.get(&owner) {
                    Some(seen) => *seen,
                    None => self.sees(reach, owner).await?,
                };
                known.insert(owner, seen);
                if !seen {
                    return Ok(Some(since));
                }
                since = Since { at: change.at, seq: change.seq };
            }
        }
    }

    /// The contracts among these that are within reach.
    pub(super) async fn contracts_within(
        &self,
        reach: Reach,
        numbers: Vec<ContractNumber>,
    ) -> Result<Vec<ContractNumber>> {
        if reach == Reach::Everything {
            return Ok(numbers);
        }
        let mut within = Vec::new();
        for number in numbers {
            if let Some((contract, ..)) = self.store.contract_by_number(&number).await?
                && self.sees(reach, Some(contract.customer_id)).await?
            {
                within.push(number);
            }
        }
        Ok(within)
    }

    /// Refuses metadata and images of a gated product, but to who reads everything or has a device of it.
    pub async fn product_readable(&self, actor: &Actor, product: &str) -> Result<()> {
        let own = match actor.need_within(Permission::Read)? {
            Reach::Everything => return Ok(()),
            Reach::Of(own) => own,
        };
        let id = self.live.products().by_name(product).map(|view| view.product.id);
        match id {
            Some(id) if self.store.customer_has_product(own, id, self.now()).await? => Ok(()),
            _ => Err(actor.bound_elsewhere()),
        }
    }
}

/// Since when a device is within reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Since {
    /// From this moment on.
    pub at: Time,
    /// From the change with this number on.
    pub seq: i64,
}
