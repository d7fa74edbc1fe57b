//! The entitlement certificate: fetched while the server is there, kept, and renewed when a third of its life is left. It decides
//! nothing about what is installed: the offer and offline keys do, with or without it.

use serde::{Deserialize, Serialize};
use sluice_signer::{Certificate, CertificateExpect};

use crate::agent::Agent;
use crate::error::AgentError;
use crate::http::Request;
use crate::state::{StateDir, read_bounded, write_json};

/// Longest `ETag` kept, bytes.
const MAX_ETAG_BYTES: usize = 256;
/// Bytes of the kept file: the longest certificate, every byte of it escaped.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// `entitlement.json`: the last certificate that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// For `If-None-Match`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The certificate as it came.
    pub certificate: String,
}

impl Kept {
    /// What is kept, if it can be read. A damaged file is as good as none: the server has another.
    pub fn load(state: &StateDir) -> Result<Option<Self>, AgentError> {
        let bytes = read_bounded(&state.entitlement(), MAX_FILE_BYTES);
        Ok(match bytes {
            Ok(bytes) => bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()),
            Err(AgentError::TooLarge { .. }) => None,
            Err(error) => return Err(error),
        })
    }

    /// The part of the `ETag` that says what stands in the certificate.
    fn tag(&self) -> Option<&str> {
        self.etag.as_deref()?.trim_matches('"').split_once('.').map(|(_, tag)| tag)
    }
}

impl Agent<'_> {
    /// Fetches a certificate when another is due. Whatever goes wrong, the one that is kept stays, and the round is none the worse.
    pub(crate) fn refresh_entitlement(&mut self) -> Result<(), AgentError> {
        match self.fetch_entitlement() {
            Err(error @ AgentError::Stopped) => Err(error),
            Err(error) => {
                (self.host.log)(&format!("entitlement certificate: {error}; the one that is kept stays"));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn fetch_entitlement(&mut self) -> Result<(), AgentError> {
        let kept = Kept::load(&self.state)?;
        let held = kept.as_ref().and_then(|kept| self.director.signed_certificate(kept.certificate.as_bytes()).ok());
        if !self.is_due(kept.as_ref(), held.as_ref()) {
            return Ok(());
        }
        let what = "entitlement certificate";
        self.walk_director_root()?;
        // What another key signed is not worth asking about.
        let etag = held.and(kept.as_ref()).and_then(|kept| kept.etag.clone());
        let reply = self.call_authorised(&Request {
            what,
            path: "/v1/entitlement",
            bearer: None,
            if_none_match: etag.as_deref(),
            post: None,
            limit: self.limits.entitlement_bytes,
        })?;
        match reply.status {
            200 => {}
            // What is kept stands, or the server issues none.
            304 | 404 => return Ok(()),
            _ => return Err(reply.denied(what)),
        }
        let key = self.key.public().ed25519_bytes().map(hex::encode).unwrap_or_default();
        let expect = CertificateExpect {
            product: self.config.product.as_str(),
            serial: self.config.serial.as_str(),
            device_key: &key,
            now: self.now(),
            kept: kept.as_ref().map(|kept| kept.certificate.as_bytes()),
        };
        let refused = |source| AgentError::Refused { what, source: Box::new(source) };
        self.director.verify_certificate(&reply.body, &expect).map_err(refused)?;
        let certificate = String::from_utf8(reply.body)
            .map_err(|error| AgentError::Protocol { what: what.to_owned(), detail: error.to_string() })?;
        let etag = reply.etag.filter(|etag| etag.len() <= MAX_ETAG_BYTES);
        write_json(&self.state.entitlement(), &Kept { etag, certificate })
    }

    /// Whether the server has said in this round that it has another one, or a third of the life of the kept one is left.
    fn is_due(&self, kept: Option<&Kept>, held: Option<&Certificate>) -> bool {
        let Some(held) = held else { return self.certificate_hint.is_some() };
        let says_other =
            self.certificate_hint.is_some() && self.certificate_hint.as_deref() != kept.and_then(Kept::tag);
        says_other || self.now() >= held.renew_at()
    }
}
