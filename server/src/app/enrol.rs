//! Enrolment: a device binds its key to its serial. Sessions: it proves that key and gets a token.

use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::json;
use sluice_catalog::device::{DeviceState, EnrolToken};
use sluice_catalog::id::EnrolTokenId;
use sluice_catalog::principal::Permission;
use sluice_catalog::wire::admin::{EnrolTokenCreate, EnrolTokenCreated, MAX_TITLE_LEN};
use sluice_catalog::wire::device::{
    EnrolRequest, EnrolResponse, SessionRequest, SessionResponse, enrol_message, session_message,
};
use sluice_catalog::{Digest, Kind};

use super::registration::Proof;
use super::{Actor, App};
use crate::error::{Error, Result};
use crate::poll::tokens::{SESSION_LIFETIME_S, Session};

/// Most devices one batch token admits.
const MAX_USES: u32 = 1_000_000;
/// Devices of a product that registered themselves and wait to be accepted: an outsider who makes up serials fills no more.
const MAX_PENDING: u32 = 10_000;
/// A token without an end of its own lives this long.
const TOKEN_DAYS: i64 = 30;
/// A token lives at most this long.
const MAX_TOKEN_DAYS: i64 = 3660;

impl App {
    /// Enrolment tokens after an id.
    pub async fn enrol_token_list(
        &self,
        actor: &Actor,
        after: Option<EnrolTokenId>,
        limit: u32,
    ) -> Result<Vec<EnrolToken>> {
        actor.need(Permission::Devices)?;
        Ok(self.store.enrol_token_list(after, limit).await?)
    }

    /// Makes a one-use or batch enrolment token.
    pub async fn enrol_token_create(&self, actor: &Actor, request: &EnrolTokenCreate) -> Result<EnrolTokenCreated> {
        actor.need(Permission::Devices)?;
        let now = self.now();
        if !(1..=MAX_USES).contains(&request.uses) {
            return Err(Error::invalid("uses", format!("1 to {MAX_USES}")));
        }
        if request.label.len() > MAX_TITLE_LEN || request.label.chars().any(char::is_control) {
            return Err(Error::invalid(
                "label",
                format!("at most {MAX_TITLE_LEN} bytes, none of them a control character"),
            ));
        }
        let expires_at = request.expires_at.unwrap_or_else(|| now.plus_days(TOKEN_DAYS));
        if expires_at <= now || expires_at > now.plus_days(MAX_TOKEN_DAYS) {
            return Err(Error::invalid("expires_at", format!("a moment within the next {MAX_TOKEN_DAYS} days")));
        }
        let product = self.product_view(&request.product)?;
        let mut tx = self.store.begin().await?;
        let customer_id = match &request.customer {
            Some(name) => Some(tx.customer_by_name(name).await?.ok_or_else(|| Error::not_found("customer", name))?.id),
            None => None,
        };
        let secret = self.dice.secret("sle");
        let enrol_token = EnrolToken {
            id: EnrolTokenId::new(now, self.dice.id()),
            label: request.label.clone(),
            product_id: product.product.id,
            customer_id,
            remaining: i32::try_from(request.uses).unwrap_or(i32::MAX),
            created_at: now,
            expires_at,
            revoked_at: None,
        };
        tx.enrol_token_add(&enrol_token, Digest::of(secret.as_bytes())).await?;
        let detail = json!({"product": request.product, "customer": request.customer, "uses": request.uses, "expires_at": expires_at});
        let subject = format!("enrol-token:{}", enrol_token.id);
        tx.audit_add(now, actor.name(), "enrol_token.create", &subject, &detail).await?;
        tx.commit().await?;
        Ok(EnrolTokenCreated { enrol_token, token: secret })
    }

    /// Revokes an enrolment token.
    pub async fn enrol_token_revoke(&self, actor: &Actor, id: EnrolTokenId) -> Result<()> {
        actor.need(Permission::Devices)?;
        let now = self.now();
        let mut tx = self.store.begin().await?;
        if tx.enrol_token_revoke(id, now).await? {
            tx.audit_add(now, actor.name(), "enrol_token.revoke", &format!("enrol-token:{id}"), &json!({})).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// A device makes itself known. Registered serials and token holders become active, others wait in `pending`; a
    /// second key on a serial that has one is a conflict and changes nothing.
    pub async fn enrol(&self, request: &EnrolRequest) -> Result<EnrolResponse> {
        let key = public_key(&request.public_key)?;
        let public_key_hex = hex::encode(key.as_bytes());
        verify(&key, &enrol_message(&request.product, &request.serial, &request.public_key), &request.signature)?;
        let installed = super::devices::installed_from(&request.installed)?;
        let now = self.now();
        let product = self.product_view(&request.product)?;
        let mut tx = self.store.begin().await?;
        let mut owner = None;
        if let Some(secret) = &request.token {
            // Before the serial is looked at: who has no token of ours is told nothing of it.
            owner = self.token_there(&mut tx, secret, product.product.id).await?.customer_id;
        }
        super::erasure::not_erased(&request.serial)?;
        let there = tx.device_by_serial(product.product.id, &request.serial).await?;
        if let Some(row) = &there
            && let Some(bound) = &row.device.public_key
        {
            if *bound == public_key_hex {
                // The answer to the first request may have been lost.
                return Ok(EnrolResponse { device_id: row.device.id, state: row.device.state });
            }
            return Err(Error::conflict(format!(
                "serial {} has another key; an administrator must revoke it first",
                request.serial
            )));
        }
        // Only who stands at a site may come into a pool.
        if let Some(row) = there.as_ref().filter(|row| row.device.site.is_some()) {
            tx.customers_lock(row.device.customer_id.or(owner)).await?;
        }
        let token = match &request.token {
            None => None,
            Some(secret) => Some(self.spend_token(&mut tx, secret, product.product.id).await?),
        };
        let (mut device, registered) = match there {
            Some(row) => (row.device, true),
            None => {
                let state = if token.is_some() { DeviceState::Active } else { DeviceState::Pending };
                if state == DeviceState::Pending
                    && tx.device_pending_count(product.product.id, MAX_PENDING).await? >= i64::from(MAX_PENDING)
                {
                    return Err(Error::new(
                        Kind::RateLimited,
                        format!("{MAX_PENDING} devices of {} wait to be accepted already", request.product),
                    ));
                }
                (self.blank_device(product.product.id, &request.serial, &request.hw_id, state), false)
            }
        };
        if registered && device.hw_id != request.hw_id {
            return Err(Error::conflict(format!(
                "serial {} is registered with hardware {}, not {}",
                request.serial, device.hw_id, request.hw_id
            )));
        }
        if registered && device.state == DeviceState::Pending && token.is_some() {
            device.state = DeviceState::Active;
        }
        device.public_key = Some(public_key_hex);
        if let Some(token) = &token {
            device.customer_id = device.customer_id.or(token.customer_id);
            // What a device runs when a production token vouches for it is the train it owns from birth; without one it
            // is a mere claim.
            if device.confirmed_train.is_none() {
                device.confirmed_train = installed.iter().find_map(|one| {
                    product.release_of_image(&one.component, one.sha256).map(|release| release.release.train.clone())
                });
            }
        }
        if registered {
            if !tx.device_enrolled(&device, now).await? {
                return Err(Error::conflict(format!(
                    "serial {} was enrolled with another key meanwhile",
                    request.serial
                )));
            }
        } else {
            tx.device_add(&device, now).await?;
        }
        self.pools_settle_for(&mut tx, &device, now).await?;
        tx.device_note(device.id, "device", "enrolled", now).await?;
        let detail = json!({
            "hw_id": device.hw_id, "state": device.state, "token": token.as_ref().map(|token| token.id),
            "train": device.confirmed_train, "key": device.public_key,
        });
        let subject = format!("device:{}/{}", request.product, request.serial);
        tx.audit_add(now, &format!("device:{}", request.serial), "device.enrol", &subject, &detail).await?;
        tx.commit().await?;
        self.device_changed(device.id);
        Ok(EnrolResponse { device_id: device.id, state: device.state })
    }

    async fn spend_token(
        &self,
        tx: &mut crate::store::Tx,
        secret: &str,
        product: sluice_catalog::id::ProductId,
    ) -> Result<EnrolToken> {
        let token = self.token_there(tx, secret, product).await?;
        if !tx.enrol_token_use(token.id, self.now()).await? {
            return Err(token_refused());
        }
        Ok(token)
    }

    /// A token of the product, spent or not.
    async fn token_there(
        &self,
        tx: &mut crate::store::Tx,
        secret: &str,
        product: sluice_catalog::id::ProductId,
    ) -> Result<EnrolToken> {
        if secret.len() > 128 {
            return Err(token_refused());
        }
        let token = tx.enrol_token_by_hash(Digest::of(secret.as_bytes())).await?;
        token.filter(|token| token.product_id == product).ok_or_else(token_refused)
    }

    /// Something to sign.
    pub fn challenge(&self) -> String {
        self.keys.tokens.challenge(self.now(), self.dice.bytes())
    }

    /// Trades a signed challenge for a session token. The answer is the same whether the serial, the key or the
    /// signature is wrong, so that an outsider learns nothing about serials.
    pub async fn session(&self, request: &SessionRequest) -> Result<SessionResponse> {
        let refuse = || Error::new(Kind::Unauthenticated, "unknown device, or the signature is not by its key");
        let now = self.now();
        if !self.keys.tokens.challenge_ok(&request.challenge, now) {
            return Err(Error::new(Kind::Unauthenticated, "the challenge is not ours or too old; ask for a new one"));
        }
        let message = session_message(&request.product, &request.serial, &request.challenge);
        let proof =
            Proof::Signature { challenge: &request.challenge, message: &message, signature: &request.signature };
        let row = self.prove(&request.product, &request.serial, proof).await.map_err(|error| match error.kind {
            Kind::Unauthenticated => refuse(),
            _ => error,
        })?;
        if matches!(row.device.state, DeviceState::Blocked | DeviceState::Retired) {
            return Err(Error::new(Kind::Forbidden, format!("this device is {}", row.device.state.as_str())));
        }
        let session =
            Session { device: row.device.id, epoch: row.device.epoch, expires: now.plus_s(SESSION_LIFETIME_S) };
        Ok(SessionResponse {
            device_id: row.device.id,
            token: self.keys.tokens.session(session),
            expires_in_s: u32::try_from(SESSION_LIFETIME_S).unwrap_or(u32::MAX),
        })
    }
}

fn token_refused() -> Error {
    Error::new(Kind::Unauthenticated, "the enrolment token is unknown, spent, expired or revoked")
}

pub(super) fn public_key(text: &str) -> Result<VerifyingKey> {
    let rule = "an ed25519 public key, 64 hexadecimal digits";
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| Error::invalid("public_key", rule))?;
    let key = VerifyingKey::from_bytes(&bytes).map_err(|_| Error::invalid("public_key", rule))?;
    // A key of small order verifies signatures that nobody made.
    if key.is_weak() {
        return Err(Error::invalid("public_key", rule));
    }
    Ok(key)
}

pub(super) fn verify(key: &VerifyingKey, message: &[u8], signature: &str) -> Result<()> {
    let mut bytes = [0; 64];
    hex::decode_to_slice(signature, &mut bytes)
        .map_err(|_| Error::invalid("signature", "an ed25519 signature, 128 hexadecimal digits"))?;
    key.verify_strict(message, &Signature::from_bytes(&bytes))
        .map_err(|_| Error::new(Kind::Unauthenticated, "the signature is not by the given key"))
}
