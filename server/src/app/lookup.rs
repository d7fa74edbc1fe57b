//! Look-up of cover by serial: for whoever proves to have the device, and for administrators.

use sluice_catalog::Kind;
use sluice_catalog::facts;
use sluice_catalog::principal::Permission;
use sluice_catalog::registration::cover_answer;
use sluice_catalog::text::{ProductName, Serial};
use sluice_catalog::wire::registration::{CoverAnswer, CoverRequest, SerialContract, SerialCover, cover_message};

use super::reach::Reach;
use super::registration::{Proof, refuse};
use super::{Actor, App};
use crate::error::{Error, Result};

impl App {
    /// A device's cover, for who proves to have it; names nobody.
    pub async fn cover(&self, request: &CoverRequest) -> Result<CoverAnswer> {
        let message;
        let proof = match (&request.code, &request.challenge, &request.signature) {
            (Some(code), None, None) => Proof::Code(code),
            (None, Some(challenge), Some(signature)) => {
                message = cover_message(&request.product, &request.serial, challenge);
                Proof::Signature { challenge, message: &message, signature }
            }
            (None, None, None) => return Err(refuse()),
            _ => return Err(Error::invalid("code", "give a code, or a challenge and a signature")),
        };
        self.prove_accepted(&request.product, &request.serial, proof).await?;
        let view = self.product_view(&request.product)?;
        let contracts = self.store.contract_facts(&request.product, &request.serial, false).await?;
        let now = self.now();
        Ok(cover_answer(&facts::covers(&contracts, &view.product.family, now), now))
    }

    /// What is known of a serial, under every product or one.
    pub async fn cover_lookup(
        &self,
        actor: &Actor,
        product: Option<&ProductName>,
        serial: &Serial,
    ) -> Result<Vec<SerialCover>> {
        let reach = actor.need_within(Permission::Read)?;
        let now = self.now();
        let products = match product {
            Some(name) => vec![name.clone()],
            None => self.store.serial_products(serial).await?,
        };
        let mut found = Vec::new();
        for product in products {
            // A product that is named and does not exist holds no serial: a bound principal does not learn which products there are.
            let view = match self.product_view(&product) {
                Err(error) if error.kind == Kind::NotFound && reach != Reach::Everything => continue,
                view => view?,
            };
            let family = &view.product.family;
            let row = self.store.device_by_serial(view.product.id, serial).await?;
            let mut all = self.store.contract_facts(&product, serial, false).await?;
            let numbers = all.iter().map(|contract| contract.number.clone()).collect();
            let within = self.contracts_within(reach, numbers).await?;
            match &row {
                Some(row) if !self.sees(reach, row.device.customer_id).await? => continue,
                Some(_) => {}
                // Of a serial that is no device yet, its contracts are all that there is to be seen.
                None => all.retain(|contract| within.contains(&contract.number)),
            }
            if row.is_none() && all.is_empty() {
                continue;
            }
            let mut contracts = Vec::new();
            for contract in all.iter().filter(|contract| within.contains(&contract.number)) {
                let customer = self.store.contract_customer(&contract.number).await?;
                let customer = customer.ok_or_else(|| Error::not_found("contract", &contract.number))?;
                let (Some(terms), Some(state)) = (contract.terms.last(), contract.states.last()) else { continue };
                contracts.push(SerialContract {
                    number: contract.number.clone(),
                    customer,
                    plan: terms.fact.plan.clone(),
                    state: state.fact,
                    cover: cover_answer(&facts::covers(std::slice::from_ref(contract), family, now), now),
                });
            }
            found.push(SerialCover {
                serial: serial.clone(),
                device: row.as_ref().map(|row| row.device.state_at(now)),
                customer: row.and_then(|row| row.customer),
                cover: cover_answer(&facts::covers(&all, family, now), now),
                contracts,
                product,
            });
        }
        if found.is_empty() {
            return Err(Error::not_found("serial", serial));
        }
        Ok(found)
    }
}
