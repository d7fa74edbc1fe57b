//! Registration: who proves to have a device makes it his own. The device signs, or shows a code; the owner is known by his token.

use ed25519_dalek::VerifyingKey;
use serde_json::json;
use sluice_catalog::device::{Device, DeviceState};
use sluice_catalog::id::{CustomerId, FactId, ProductId};
use sluice_catalog::principal::{Permission, Role};
use sluice_catalog::registration::{code, read_code};
use sluice_catalog::text::{ProductName, Serial};
use sluice_catalog::wire::registration::{
    CodeCreate, CodeMade, CodeRequest, RegisterRequest, RegisterResponse, Registration, RegistrationCreate,
    TransferCreate, code_message, register_message,
};
use sluice_catalog::{Digest, Kind, Time};

use super::enrol::{public_key, verify};
use super::erasure::not_erased;
use super::reach::Reach;
use super::{Actor, App};
use crate::error::{Error, Result};
use crate::store::{DeviceRow, Tx};

/// A code on a display is typed at once.
const SHOWN_S: i64 = 3600;
/// A printed code lives as long as a product is sold.
const PRINTED_DAYS: u32 = 3660;

/// How somebody proves to have a device.
#[derive(Clone, Copy, Debug)]
pub enum Proof<'a> {
    /// By a registration code.
    Code(&'a str),
    /// By its key: the challenge, the message made of it, and the signature.
    Signature {
        /// As given.
        challenge: &'a str,
        /// What was signed.
        message: &'a [u8],
        /// The signature.
        signature: &'a str,
    },
}

/// The answer to whoever proves nothing, whether the serial, the code, the key or the signature is wrong: so that an outsider
/// learns nothing about serials.
pub(super) fn refuse() -> Error {
    Error::new(Kind::Unauthenticated, "unknown device, or the proof is not its own")
}

/// A key for serials that have none: the same work is done for them. It proves nothing.
fn nobodys_key() -> Option<VerifyingKey> {
    VerifyingKey::from_bytes(&[
        0x58, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
        0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
    ])
    .ok()
}

/// What is kept of a code.
fn code_hash(text: &str) -> Digest {
    let digits = read_code(text).unwrap_or_default();
    Digest::of(format!("sluice registration code\n{digits}").as_bytes())
}

impl App {
    /// The device that is proven to be at hand. The same is asked and computed for a serial that exists and for one that does not.
    pub(super) async fn prove(&self, product: &ProductName, serial: &Serial, proof: Proof<'_>) -> Result<DeviceRow> {
        let now = self.now();
        if let Proof::Signature { challenge, .. } = proof
            && !self.keys.tokens.challenge_ok(challenge, now)
        {
            return Err(Error::new(Kind::Unauthenticated, "the challenge is not ours or too old; ask for a new one"));
        }
        let id = self.live.products().by_name(product.as_str()).map(|view| view.product.id);
        let row = self.store.device_by_serial(id.unwrap_or(ProductId(uuid::Uuid::nil())), serial).await?;
        match proof {
            Proof::Code(text) => {
                let code = self.store.registration_code(code_hash(text)).await?;
                let row = row.ok_or_else(refuse)?;
                let good = code.is_some_and(|code| code.device_id == row.device.id && code.is_good(now));
                if good { Ok(row) } else { Err(refuse()) }
            }
            Proof::Signature { message, signature, .. } => {
                let bound = row.as_ref().and_then(|row| row.device.public_key.as_deref());
                let known = bound.and_then(|key| public_key(key).ok());
                let key = known.or_else(nobodys_key).ok_or_else(refuse)?;
                let signed = verify(&key, message, signature).is_ok();
                row.filter(|_| signed && known.is_some()).ok_or_else(refuse)
            }
        }
    }

    /// The device that is proven to be at hand, and that somebody has accepted: whoever enrolls by itself binds a key of its own to a
    /// serial of its choice, which proves nothing of who owns the device.
    pub(super) async fn prove_accepted(
        &self,
        product: &ProductName,
        serial: &Serial,
        proof: Proof<'_>,
    ) -> Result<DeviceRow> {
        let row = self.prove(product, serial, proof).await?;
        if row.device.state == DeviceState::Pending { Err(refuse()) } else { Ok(row) }
    }

    /// A code for a device to show, against its signature.
    pub async fn registration_code_shown(&self, request: &CodeRequest) -> Result<CodeMade> {
        let message = code_message(&request.product, &request.serial, &request.challenge);
        let proof =
            Proof::Signature { challenge: &request.challenge, message: &message, signature: &request.signature };
        let row = self.prove_accepted(&request.product, &request.serial, proof).await?;
        let expires_at = self.now().plus_s(SHOWN_S);
        self.code_made(&row.device, "shown", expires_at, &format!("device:{}", request.serial), &request.product).await
    }

    /// A code to be printed and packed with a device.
    pub async fn registration_code_printed(
        &self,
        actor: &Actor,
        product: &ProductName,
        serial: &Serial,
        request: &CodeCreate,
    ) -> Result<CodeMade> {
        let reach = actor.need_within(Permission::Devices)?;
        let days = request.days.unwrap_or(PRINTED_DAYS);
        if !(1..=PRINTED_DAYS).contains(&days) {
            return Err(Error::invalid("days", format!("1 to {PRINTED_DAYS}")));
        }
        not_erased(serial)?;
        let row = self.device_within(reach, product, serial).await?;
        self.may_act_for(actor, reach, row.device.customer_id).await?;
        let expires_at = self.now().plus_days(i64::from(days));
        self.code_made(&row.device, "printed", expires_at, actor.name(), product).await
    }

    async fn code_made(
        &self,
        device: &Device,
        kind: &'static str,
        expires_at: Time,
        actor: &str,
        product: &ProductName,
    ) -> Result<CodeMade> {
        let now = self.now();
        let made = code(self.dice.bytes());
        let mut tx = self.store.begin().await?;
        self.device_locked(&mut tx, product, device).await?;
        let id = FactId::new(now, self.dice.id());
        tx.registration_code_add(id, device.id, code_hash(&made), kind, (now, expires_at)).await?;
        let subject = format!("device:{product}/{}", device.serial);
        let detail = json!({"kind": kind, "expires_at": expires_at});
        tx.audit_add(now, actor, "device.registration_code", &subject, &detail).await?;
        tx.commit().await?;
        Ok(CodeMade { code: made, expires_at })
    }

    /// A device registers itself, with its signature and its owner's enrolment token.
    pub async fn register(&self, request: &RegisterRequest) -> Result<RegisterResponse> {
        let message = register_message(&request.product, &request.serial, &request.challenge);
        let proof =
            Proof::Signature { challenge: &request.challenge, message: &message, signature: &request.signature };
        let id = self.prove_accepted(&request.product, &request.serial, proof).await?.device.id;
        let now = self.now();
        let mut tx = self.store.begin().await?;
        if let Some(token) = tx.enrol_token_by_hash(Digest::of(request.token.as_bytes())).await? {
            tx.customers_lock(token.customer_id).await?;
        }
        tx.device_lock(id).await?;
        let device = tx.device_get(id).await?.ok_or_else(refuse)?.device;
        let unknown = || Error::new(Kind::Unauthenticated, "the enrolment token is unknown, spent, expired or revoked");
        let token = match request.token.len() {
            ..=128 => tx.enrol_token_by_hash(Digest::of(request.token.as_bytes())).await?.ok_or_else(unknown)?,
            _ => return Err(unknown()),
        };
        if token.product_id != device.product_id {
            return Err(unknown());
        }
        let Some(customer) = token.customer_id else {
            return Err(Error::invalid("token", "belongs to no customer: make one with --customer"));
        };
        let answer = RegisterResponse { device_id: device.id, state: device.state };
        if token.revoked_at.is_none() && device.customer_id == Some(customer) {
            // The answer to the first request may have been lost.
            return Ok(answer);
        }
        free(&device)?;
        if !tx.enrol_token_use(token.id, now).await? {
            return Err(unknown());
        }
        let actor = format!("device:{}", request.serial);
        self.bind(&mut tx, &request.product, &device, (customer, "device"), &actor).await?;
        tx.commit().await?;
        self.device_changed(device.id);
        Ok(answer)
    }

    /// An owner registers a device with its code. The same again changes nothing.
    pub async fn registration_create(&self, actor: &Actor, request: &RegistrationCreate) -> Result<Registration> {
        let reach = actor.need_within(Permission::Devices)?;
        let now = self.now();
        let customer = self.customer_within(reach, &request.customer).await?;
        self.may_act_for(actor, reach, Some(customer.id)).await?;
        let id = self.prove_accepted(&request.product, &request.serial, Proof::Code(&request.code)).await?.device.id;
        let mut tx = self.store.begin().await?;
        tx.customers_lock([customer.id]).await?;
        tx.device_lock(id).await?;
        let device = tx.device_get(id).await?.ok_or_else(refuse)?.device;
        if device.customer_id != Some(customer.id) {
            free(&device)?;
            let code = tx.registration_code(code_hash(&request.code)).await?.ok_or_else(refuse)?;
            if !code.is_good(now) || !tx.registration_code_use(code.id, now).await? {
                return Err(Error::conflict("this code registered the device before; let it show a new one"));
            }
            self.bind(&mut tx, &request.product, &device, (customer.id, "code"), actor.name()).await?;
            tx.commit().await?;
            self.device_changed(device.id);
        }
        Ok(Registration {
            product: request.product.clone(),
            serial: request.serial.clone(),
            customer: Some(customer.name),
            state: device.state,
        })
    }

    /// Writes that a device is a customer's from now on.
    async fn bind(
        &self,
        tx: &mut Tx,
        product: &ProductName,
        device: &Device,
        (customer, how): (CustomerId, &str),
        actor: &str,
    ) -> Result<()> {
        let now = self.now();
        self.device_locked(tx, product, device).await?;
        let registration = Some((FactId::new(now, self.dice.id()), customer, how));
        tx.device_owner(device.id, registration, true, actor, now).await?;
        tx.device_note(device.id, actor, "registered to its owner", now).await?;
        // Where it stands it comes after those who stood there as the customer's before.
        tx.device_sited(device.id, now).await?;
        self.pools_settle_for(tx, &Device { customer_id: Some(customer), ..device.clone() }, now).await?;
        let subject = format!("device:{product}/{}", device.serial);
        let detail = json!({"customer_id": customer, "how": how});
        Ok(tx.audit_add(now, actor, "device.register", &subject, &detail).await?)
    }

    /// The owner gives a device up: it is nobody's, and every code of it is void.
    pub async fn registration_release(
        &self,
        actor: &Actor,
        product: &ProductName,
        serial: &Serial,
    ) -> Result<Registration> {
        let reach = actor.need_within(Permission::Devices)?;
        self.hand_over(actor, reach, product, serial, None).await
    }

    /// An administrator gives a device to another customer.
    pub async fn registration_transfer(
        &self,
        actor: &Actor,
        product: &ProductName,
        serial: &Serial,
        request: &TransferCreate,
    ) -> Result<Registration> {
        actor.need(Permission::Devices)?;
        if actor.role() != Some(Role::Administrator) {
            return Err(Error::new(
                Kind::Forbidden,
                "only an administrator transfers a device; its owner can release it instead",
            ));
        }
        let customer = self.store.customer_by_name(&request.customer).await?;
        let customer = customer.ok_or_else(|| Error::not_found("customer", &request.customer))?;
        self.hand_over(actor, Reach::Everything, product, serial, Some((customer.id, customer.name))).await
    }

    async fn hand_over(
        &self,
        actor: &Actor,
        reach: Reach,
        product: &ProductName,
        serial: &Serial,
        to: Option<(CustomerId, sluice_catalog::text::Slug)>,
    ) -> Result<Registration> {
        not_erased(serial)?;
        let now = self.now();
        let row = self.device_within(reach, product, serial).await?.device;
        self.may_act_for(actor, reach, row.customer_id).await?;
        let id = row.id;
        let mut tx = self.store.begin().await?;
        tx.customers_lock(row.customer_id.into_iter().chain(to.as_ref().map(|to| to.0))).await?;
        self.device_locked(&mut tx, product, &row).await?;
        let not_found = || Error::not_found("device", format!("{product}/{serial}"));
        let device = tx.device_get(id).await?.ok_or_else(not_found)?.device;
        if reach != Reach::Everything && device.customer_id != row.customer_id {
            // It was given to somebody else since.
            return Err(not_found());
        }
        let (customer_id, customer) = to.unzip();
        if device.customer_id != customer_id {
            let registration = customer_id.map(|customer| (FactId::new(now, self.dice.id()), customer, "transfer"));
            tx.device_owner(id, registration, false, actor.name(), now).await?;
            tx.registration_codes_revoke(id, now).await?;
            self.pools_settle_for(&mut tx, &device, now).await?;
            let (action, cause) = match customer_id {
                Some(_) => ("device.transfer", "transferred to another owner"),
                None => ("device.release", "released by its owner"),
            };
            tx.device_note(id, actor.name(), cause, now).await?;
            let detail = json!({"from_customer_id": device.customer_id, "to_customer_id": customer_id});
            tx.audit_add(now, actor.name(), action, &format!("device:{product}/{serial}"), &detail).await?;
            tx.commit().await?;
            if device.site.is_some() {
                // Its place in a pool may have gone to another device.
                self.devices.forget_all();
            }
            self.device_changed(id);
        }
        Ok(Registration { product: product.clone(), serial: serial.clone(), customer, state: device.state })
    }
}

/// Refuses a device that is somebody's, or that nobody shall have.
fn free(device: &Device) -> Result<()> {
    if device.customer_id.is_some() {
        return Err(Error::conflict(
            "the device is registered to somebody else: its owner releases it, or an administrator transfers it",
        ));
    }
    match device.state {
        DeviceState::Blocked | DeviceState::Retired | DeviceState::Replaced => {
            Err(Error::conflict(format!("the device is {}", device.state.as_str())))
        }
        _ => Ok(()),
    }
}
