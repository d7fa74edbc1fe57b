//! Polling: the cheap form while nothing changed, the signed form with a nonce otherwise, and what is kept of the answer.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sluice_catalog::Digest;
use sluice_catalog::text::Component;
use sluice_catalog::wire::device::{InstalledReport, PollRequest, PollResponse, first_epoch, is_first_epoch};
use sluice_signer::{DirectorAnswer, DirectorDocument, DirectorExpect, VerifyError};

use crate::agent::Agent;
use crate::error::{AgentError, shown};
use crate::http::Request;
use crate::state::write_json;

/// Bytes of a poll's answer: a director document and a URL for each blob that it names.
const MAX_POLL_BYTES: u64 = 160 << 10;
/// Longest `ETag` kept, bytes.
const MAX_ETAG_BYTES: usize = 256;

/// `metadata/director.json`: what is trusted and remembered of the director, in one file so that it changes together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectorState {
    /// The newest trusted director root.
    pub root: String,
    /// Version of the last accepted document; an older one is a replay.
    pub last_version: u64,
    /// The last time that a nonce attested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attested_time: Option<Timestamp>,
    /// The signing epoch of which the server has documents for this device, when it is not the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<u32>,
    /// The last accepted answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
}

/// An accepted answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// For `If-None-Match`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The director document as it came.
    pub document: String,
    /// Where to fetch blobs. Not signed.
    pub urls: BTreeMap<Digest, String>,
    /// The number to report under. Not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
    /// Seconds to the next poll.
    pub next_poll_s: u32,
    /// Something for the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<String>,
    /// What ran when it was asked for: another installation asks anew.
    pub installed: BTreeMap<Component, InstalledReport>,
    /// The signing epoch that was stated: who knows more asks anew.
    #[serde(default = "first_epoch", skip_serializing_if = "is_first_epoch")]
    pub epoch: u32,
}

/// A verified answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The signed part.
    pub document: DirectorDocument,
    /// Where to fetch blobs.
    pub urls: BTreeMap<Digest, String>,
    /// The number to report under.
    pub attempt: Option<i32>,
    /// Seconds to the next poll.
    pub next_poll_s: u32,
    /// Something for the log.
    pub notice: Option<String>,
}

impl Agent<'_> {
    pub(crate) fn save_director(&self) -> Result<(), AgentError> {
        write_json(&self.state.director_metadata(), &self.kept)
    }

    /// Polls the cheap way when nothing changed since the answer that is held, with a nonce otherwise.
    pub(crate) fn poll(&mut self) -> Result<Answer, AgentError> {
        let installed = self.installed_report()?;
        if self.journal.open_attempt().is_none()
            && let Some(held) =
                self.kept.held.clone().filter(|held| held.installed == installed && held.epoch == self.stated_epoch())
            && let Some(etag) = held.etag.as_deref()
            && self.verify(&held.document, None).is_ok()
            && let Some(answer) = self.poll_unchanged(etag, &held)?
        {
            return Ok(answer);
        }
        self.walk_director_root()?;
        self.poll_fresh()
    }

    /// `GET /v1/poll`: 304 says that the held answer stands. Anything unexpected asks the signed way.
    fn poll_unchanged(&mut self, etag: &str, held: &Held) -> Result<Option<Answer>, AgentError> {
        let reply = self.call_authorised(&Request {
            what: "poll",
            path: "/v1/poll",
            bearer: None,
            if_none_match: Some(etag),
            post: None,
            limit: MAX_POLL_BYTES,
        })?;
        match reply.status {
            304 => {
                let answer = self.verify(&held.document, None).map_err(refused)?;
                Ok(Some(answer_of(answer.document, held)))
            }
            200 => {
                let response: PollResponse = reply.json("poll")?;
                Ok(self.accept(response, reply.etag, None, held.installed.clone()).ok())
            }
            _ => Ok(None),
        }
    }

    /// `POST /v1/poll` with a nonce: the answer is fresh, or refused.
    pub(crate) fn poll_fresh(&mut self) -> Result<Answer, AgentError> {
        let what = "poll";
        let nonce = hex::encode((self.host.random)());
        let installed = self.installed_report()?;
        let request = PollRequest {
            nonce: Some(nonce.clone()),
            installed: installed.clone(),
            profile: self.config.profile,
            ram_budget: self.config.ram_budget,
            scratch_budget: 0,
            epoch: self.stated_epoch(),
        };
        let body = serde_json::to_vec(&request)
            .map_err(|error| AgentError::Protocol { what: what.to_owned(), detail: error.to_string() })?;
        let reply = self.call_authorised(&Request {
            what,
            path: "/v1/poll",
            bearer: None,
            if_none_match: None,
            post: Some(&body),
            limit: MAX_POLL_BYTES,
        })?;
        if reply.status != 200 {
            return Err(reply.denied(what));
        }
        let response: PollResponse = reply.json(what)?;
        self.accept(response, reply.etag, Some(&nonce), installed)
    }

    fn stated_epoch(&self) -> u32 {
        u32::try_from(self.epoch()).unwrap_or(u32::MAX)
    }

    fn verify(&self, document: &str, nonce: Option<&str>) -> Result<DirectorAnswer, VerifyError> {
        let device_id = self.identity.as_ref().map(|identity| identity.device_id.to_string()).unwrap_or_default();
        let expect =
            DirectorExpect { device_id: &device_id, nonce, now: self.now(), last_version: self.kept.last_version };
        self.director.verify_director(document.as_bytes(), &expect)
    }

    /// Verifies an answer and keeps it.
    fn accept(
        &mut self,
        response: PollResponse,
        etag: Option<String>,
        nonce: Option<&str>,
        installed: BTreeMap<Component, InstalledReport>,
    ) -> Result<Answer, AgentError> {
        let document = response.director.get().to_owned();
        let verified = self.verify(&document, nonce).map_err(refused)?;
        let held = Held {
            etag: etag.filter(|etag| etag.len() <= MAX_ETAG_BYTES),
            document,
            urls: response.urls,
            attempt: response.attempt.filter(|&number| number > 0),
            next_poll_s: response.next_poll_s,
            notice: response.notice.as_deref().map(shown),
            installed,
            epoch: self.stated_epoch(),
        };
        // Not kept: an older program reads what is kept when this one goes back.
        self.certificate_hint = response.entitlement;
        self.kept.branch = response.epoch.filter(|&epoch| epoch == self.stated_epoch());
        self.kept.last_version = verified.document.version;
        self.kept.attested_time = self.kept.attested_time.max(verified.attested_time);
        let answer = answer_of(verified.document, &held);
        self.kept.held = Some(held);
        self.save_director()?;
        Ok(answer)
    }

    /// Lets the next poll ask anew: what is held was tried, or is no longer about this device.
    pub(crate) fn forget_answer(&mut self) -> Result<(), AgentError> {
        if self.kept.held.take().is_some() { self.save_director() } else { Ok(()) }
    }
}

fn answer_of(document: DirectorDocument, held: &Held) -> Answer {
    Answer {
        document,
        urls: held.urls.clone(),
        attempt: held.attempt,
        next_poll_s: held.next_poll_s,
        notice: held.notice.clone(),
    }
}

fn refused(source: VerifyError) -> AgentError {
    AgentError::Refused { what: "director document", source: Box::new(source) }
}
