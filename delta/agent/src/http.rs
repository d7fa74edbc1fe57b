//! Small requests to the server: bounded bodies, bounded time, a few tries.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sluice_catalog::Problem;
use ureq::http::Response;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use crate::config::{Config, NetworkOptions};
use crate::error::{AgentError, shown};
use crate::host::Host;
use crate::state::read_bounded;

/// Time to reach the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Time for the head of an answer to come.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest silence inside a body: a connection that stalls is given up and resumed on another.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest life of one answer: a server that drips bytes cannot hold the agent for days on one connection.
const BODY_TIMEOUT: Duration = Duration::from_mins(10);
/// Tries of a small request. More would only delay the next poll.
const TRIES: u32 = 3;
/// First wait between tries; it doubles.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// Longest wait between tries.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// Redirects followed: to an object store, and no chain of them.
const MAX_REDIRECTS: u32 = 3;
/// Longest certificate file, bytes.
const MAX_CA_BYTES: u64 = 1 << 20;

/// A connection to one server.
#[derive(Debug, Clone)]
pub struct Http {
    agent: Agent,
    base: String,
    network: NetworkOptions,
}

/// What to ask.
#[derive(Debug, Clone, Copy)]
pub struct Request<'r> {
    /// What it is, for messages.
    pub what: &'r str,
    /// Path with its leading slash.
    pub path: &'r str,
    /// Session token.
    pub bearer: Option<&'r str>,
    /// The `ETag` of what is held.
    pub if_none_match: Option<&'r str>,
    /// JSON body; a POST has one, possibly empty.
    pub post: Option<&'r [u8]>,
    /// Bytes of the answer read at most: stops an endless body.
    pub limit: u64,
}

/// An answer below 500.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Its `ETag`.
    pub etag: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// Wait before try number `failures` (one at first): doubling, with up to as much again at random, so that a fleet cut off
/// together does not come back together.
pub(crate) fn backoff(host: &Host<'_>, failures: u32) -> Duration {
    let doubled = FIRST_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(MAX_BACKOFF);
    let jitter_ms = host.below(u64::try_from(doubled.as_millis()).unwrap_or(0));
    doubled + Duration::from_millis(jitter_ms)
}

/// Whether a status says that the same request may succeed later.
pub(crate) const fn is_retryable(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599)
}

impl Http {
    /// Prepares the connection; nothing is sent.
    pub fn new(config: &Config) -> Result<Self, AgentError> {
        let mut tls = TlsConfig::builder();
        if let Some(path) = &config.tls_ca {
            let pem = read_bounded(path, MAX_CA_BYTES)?.ok_or_else(|| AgentError::Setting {
                field: "tls_ca",
                reason: format!("{}: no such file", path.display()),
            })?;
            let certificates: Vec<Certificate<'static>> = ureq::tls::parse_pem(&pem)
                .filter_map(|item| match item {
                    Ok(ureq::tls::PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                })
                .collect();
            if certificates.is_empty() {
                return Err(AgentError::Setting { field: "tls_ca", reason: "no certificate in PEM".to_owned() });
            }
            tls = tls.root_certs(RootCerts::new_with_certs(&certificates));
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(tls.build())
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(RESPONSE_TIMEOUT))
            .timeout_per_read(Some(STALL_TIMEOUT))
            .timeout_recv_body(Some(BODY_TIMEOUT))
            .max_redirects(MAX_REDIRECTS)
            .user_agent(concat!("sluice-agent/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Self { agent, base: config.server.clone(), network: config.network })
    }

    /// The whole URL of what the server named: absolute, or relative to the server.
    pub fn url(&self, named: &str) -> String {
        if named.starts_with("http://") || named.starts_with("https://") {
            named.to_owned()
        } else {
            format!("{}/{}", self.base, named.trim_start_matches('/'))
        }
    }

    /// Asks, a few times when the network or the server fails.
    pub fn call(&self, host: &Host<'_>, request: &Request<'_>) -> Result<Reply, AgentError> {
        let mut failures = 0;
        loop {
            if host.stopping() {
                return Err(AgentError::Stopped);
            }
            let detail = match self.try_call(request) {
                Ok(reply) if !is_retryable(reply.status) => return Ok(reply),
                Ok(reply) => format!("status {}: {}", reply.status, problem(&reply)),
                Err(ureq::Error::BodyExceedsLimit(_)) => {
                    let detail = format!("the answer is longer than the limit of {} bytes", request.limit);
                    return Err(AgentError::Protocol { what: request.what.to_owned(), detail });
                }
                Err(error) => shown(&error.to_string()),
            };
            failures += 1;
            if failures >= TRIES {
                return Err(AgentError::Unreachable { what: request.what.to_owned(), detail });
            }
            (host.sleep)(backoff(host, failures));
        }
    }

    fn try_call(&self, request: &Request<'_>) -> Result<Reply, ureq::Error> {
        let url = self.url(request.path);
        let time = Some(Duration::from_secs(self.network.seconds_for(request.limit)));
        let mut headers: Vec<(&str, String)> = Vec::new();
        if let Some(token) = request.bearer {
            headers.push(("authorization", format!("Bearer {token}")));
        }
        if let Some(etag) = request.if_none_match {
            headers.push(("if-none-match", etag.to_owned()));
        }
        let mut response = if let Some(body) = request.post {
            let mut builder = self.agent.post(&url).config().timeout_global(time).build();
            for (name, value) in &headers {
                builder = builder.header(*name, value);
            }
            if body.is_empty() { builder.send_empty()? } else { builder.content_type("application/json").send(body)? }
        } else {
            let mut builder = self.agent.get(&url).config().timeout_global(time).build();
            for (name, value) in &headers {
                builder = builder.header(*name, value);
            }
            builder.call()?
        };
        let etag = response.headers().get("etag").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let status = response.status().as_u16();
        // One byte more, because the reader takes a body that just reaches its limit for one that exceeds it.
        let body = response.body_mut().with_config().limit(request.limit.saturating_add(1)).read_to_vec()?;
        if body.len() as u64 > request.limit {
            return Err(ureq::Error::BodyExceedsLimit(request.limit));
        }
        Ok(Reply { status, etag, body })
    }

    /// When so many bytes must have come, if they are asked for now.
    pub(crate) fn deadline(&self, now: Timestamp, bytes: u64) -> Timestamp {
        let seconds = i64::try_from(self.network.seconds_for(bytes)).unwrap_or(i64::MAX);
        now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
    }

    /// Opens a download at `from`. The URL carries its own token, so the session token never travels to a blob store.
    pub(crate) fn open_blob(&self, url: &str, from: u64) -> Result<Response<Body>, ureq::Error> {
        let mut builder = self.agent.get(self.url(url));
        if from > 0 {
            builder = builder.header("range", format!("bytes={from}-"));
        }
        builder.call()
    }
}

/// The server's words about a refusal, shortened.
pub fn problem(reply: &Reply) -> String {
    match serde_json::from_slice::<Problem>(&reply.body) {
        Ok(problem) => shown(&format!("{} (id {})", problem.detail, problem.id)),
        Err(_) if reply.body.is_empty() => "no reason given".to_owned(),
        Err(_) => shown(&String::from_utf8_lossy(&reply.body)),
    }
}

impl Reply {
    /// The error of an answer that is not the one hoped for.
    pub fn denied(&self, what: &str) -> AgentError {
        AgentError::Denied { what: what.to_owned(), status: self.status, detail: problem(self) }
    }

    /// Reads a JSON body.
    pub fn json<T: serde::de::DeserializeOwned>(&self, what: &str) -> Result<T, AgentError> {
        serde_json::from_slice(&self.body)
            .map_err(|error| AgentError::Protocol { what: what.to_owned(), detail: shown(&error.to_string()) })
    }
}
