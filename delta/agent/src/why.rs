//! Asking the server why the device gets a version, or does not. Nothing of the answer is signed, and nothing is decided by it.

use sluice_catalog::text::Version;
use sluice_catalog::wire::device::WhyResponse;

use crate::agent::Agent;
use crate::error::{AgentError, shown};
use crate::http::Request;

/// Bytes of the answer: one sentence and two versions.
const MAX_WHY_BYTES: u64 = 16 << 10;

impl Agent<'_> {
    /// Why the device gets a version, or does not; about one version only, when one is named.
    pub fn why(&mut self, version: Option<&Version>) -> Result<WhyResponse, AgentError> {
        let what = "why";
        let path = match version {
            // Of the characters of a version only this one means something else in a query.
            Some(version) => format!("/v1/why?version={}", version.as_str().replace('+', "%2B")),
            None => "/v1/why".to_owned(),
        };
        let reply = self.call_authorised(&Request {
            what,
            path: &path,
            bearer: None,
            if_none_match: None,
            post: None,
            limit: MAX_WHY_BYTES,
        })?;
        if reply.status != 200 {
            return Err(reply.denied(what));
        }
        let told: WhyResponse = reply.json(what)?;
        Ok(WhyResponse { reason: shown(&told.reason), sentence: shown(&told.sentence), ..told })
    }
}
