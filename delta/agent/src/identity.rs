//! Who the device is to the server: enrolment, and sessions that a signed challenge buys.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sluice_catalog::device::DeviceState;
use sluice_catalog::id::DeviceId;
use sluice_catalog::text::Component;
use sluice_catalog::wire::device::{
    ChallengeResponse, EnrolRequest, EnrolResponse, InstalledReport, SessionRequest, SessionResponse, enrol_message,
    session_message,
};

use crate::agent::Agent;
use crate::error::AgentError;
use crate::http::{Reply, Request};
use crate::state::{remove, write_json};

/// Bytes of an answer about identity: ids, a token, a problem.
const MAX_IDENTITY_BYTES: u64 = 16 << 10;
/// A session token is renewed this long before it ends, so that it does not end on the way.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_secs(60);
/// Longest life believed of a session token, seconds; the server says a day.
const MAX_SESSION_S: u32 = 7 * 86_400;

/// `identity.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The device's id, which director documents name.
    pub device_id: DeviceId,
    /// As the server said when it enrolled.
    pub state: DeviceState,
}

/// `session.json`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// The bearer token.
    pub token: String,
    /// By the device's time.
    pub expires_at: Timestamp,
}

impl Agent<'_> {
    /// Makes the device known and binds its key to its serial. Repeating it is harmless.
    pub fn enrol(&mut self, token: Option<String>) -> Result<EnrolResponse, AgentError> {
        let public_key = self.public_key_hex();
        let message = enrol_message(&self.config.product, &self.config.serial, &public_key);
        let request = EnrolRequest {
            product: self.config.product.clone(),
            serial: self.config.serial.clone(),
            hw_id: self.config.hw_id.clone(),
            signature: hex::encode(self.key.sign(&message)),
            public_key,
            token,
            installed: self.installed_report()?,
        };
        let what = "enrolment";
        let reply = self.post_json(what, "/v1/enrol", None, &request)?;
        if !matches!(reply.status, 200 | 201) {
            return Err(reply.denied(what));
        }
        let response: EnrolResponse = reply.json(what)?;
        let identity = Identity { device_id: response.device_id, state: response.state };
        write_json(&self.state.identity(), &identity)?;
        // Whatever the old identity was told is not for this one.
        remove(&self.state.session())?;
        self.session = None;
        if self.identity.as_ref().is_some_and(|old| old.device_id != identity.device_id) {
            self.kept.held = None;
            self.save_director()?;
        }
        self.identity = Some(identity);
        Ok(response)
    }

    fn public_key_hex(&self) -> String {
        hex::encode(self.key.public().ed25519_bytes().unwrap_or_default())
    }

    /// What runs, as it is told to the server.
    pub(crate) fn installed_report(&self) -> Result<BTreeMap<Component, InstalledReport>, AgentError> {
        let mut report = BTreeMap::new();
        for component in &self.config.components {
            let slots = self.installed.component(&self.state, component)?;
            if let Some(image) = slots.slot(self.active_slot(component)?) {
                let entry = InstalledReport {
                    version: image.version.clone(),
                    sha256: image.sha256,
                    security_counter: slots.security_floor,
                };
                report.insert(component.clone(), entry);
            }
        }
        Ok(report)
    }

    fn session_token(&mut self) -> Result<String, AgentError> {
        if self.identity.is_none() {
            return Err(AgentError::NotEnrolled);
        }
        let now = self.now();
        if let Some(session) = &self.session
            && now < session.expires_at - RENEW_BEFORE
        {
            return Ok(session.token.clone());
        }
        self.new_session()
    }

    fn new_session(&mut self) -> Result<String, AgentError> {
        let what = "session";
        let reply = self.http.call(
            &self.host,
            &Request {
                what,
                path: "/v1/challenge",
                bearer: None,
                if_none_match: None,
                post: Some(&[]),
                limit: MAX_IDENTITY_BYTES,
            },
        )?;
        if reply.status != 200 {
            return Err(reply.denied(what));
        }
        let ChallengeResponse { challenge } = reply.json(what)?;
        let message = session_message(&self.config.product, &self.config.serial, &challenge);
        let request = SessionRequest {
            product: self.config.product.clone(),
            serial: self.config.serial.clone(),
            signature: hex::encode(self.key.sign(&message)),
            challenge,
        };
        let reply = self.post_json(what, "/v1/session", None, &request)?;
        if reply.status != 200 {
            return Err(reply.denied(what));
        }
        let response: SessionResponse = reply.json(what)?;
        let lifetime = SignedDuration::from_secs(i64::from(response.expires_in_s.min(MAX_SESSION_S)));
        let session = Session { token: response.token, expires_at: self.now() + lifetime };
        write_json(&self.state.session(), &session)?;
        Ok(self.session.insert(session).token.clone())
    }

    fn post_json<T: Serialize>(
        &self,
        what: &str,
        path: &str,
        bearer: Option<&str>,
        body: &T,
    ) -> Result<Reply, AgentError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| AgentError::Protocol { what: what.to_owned(), detail: error.to_string() })?;
        let request = Request { what, path, bearer, if_none_match: None, post: Some(&body), limit: MAX_IDENTITY_BYTES };
        self.http.call(&self.host, &request)
    }

    /// Asks with the session token. A token that is no longer good is replaced once in a cycle; a server that refuses the
    /// new one too means it.
    pub(crate) fn call_authorised(&mut self, request: &Request<'_>) -> Result<Reply, AgentError> {
        let token = self.session_token()?;
        let reply = self.http.call(&self.host, &Request { bearer: Some(&token), ..*request })?;
        if reply.status != 401 {
            return Ok(reply);
        }
        if self.session_renewed {
            return Err(reply.denied(request.what));
        }
        self.session_renewed = true;
        (self.host.log)("the session token is no longer good; signing in again");
        let token = self.new_session()?;
        let reply = self.http.call(&self.host, &Request { bearer: Some(&token), ..*request })?;
        if reply.status == 401 { Err(reply.denied(request.what)) } else { Ok(reply) }
    }
}
