//! The REST API as a client sees it: one request at a time, bounded answers, problems in the server's own words.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sluice_catalog::Problem;
use sluice_catalog::wire::admin::{MAX_PAGE, Page};
use ureq::http::{Response, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use crate::args::Paging;
use crate::failure::Failure;

/// Largest answer read, bytes: a page of 500 releases with notes of 64 KiB each. Stops a broken server from filling
/// the memory.
const ANSWER_MAX_LEN: u64 = 48 << 20;
/// Times an idempotent request is sent before its failure is told.
const TRIES_MAX: u32 = 4;
/// Wait before the second try; doubles with each.
const BACKOFF_MS: u64 = 250;
/// Longest wait that a server's `Retry-After` is granted.
const RETRY_AFTER_MAX_S: u64 = 10;
/// A request that takes longer has failed: no command hangs for ever.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
/// An answer about a whole fleet takes as long as the fleet is large; after so long it has failed all the same.
const STREAM_TIMEOUT: Duration = Duration::from_hours(1);
/// Longest line of such an answer, bytes.
const LINE_MAX_LEN: u64 = 64 << 10;
/// Longest line of a stream of events, bytes: one is a whole rollout, with a fleet of many kinds of hardware.
const EVENT_MAX_LEN: u64 = 4 << 20;
/// Time to a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What is done with each server-sent event, by name and data, or with a sign of life. Whether more are wanted.
pub type OnEvent<'a> = dyn FnMut(Option<(&str, &str)>) -> Result<bool, Failure> + 'a;

/// A server and the token for it.
pub struct Client {
    agent: Agent,
    server: String,
    token: Option<String>,
}

/// What a creation answered.
pub struct Answer<T> {
    /// Whether it is new: false when the same stood there already.
    pub created: bool,
    /// The noun.
    pub value: T,
}

/// A query: names and values, absent ones left out.
pub type Query<'a> = &'a [(&'a str, Option<String>)];

/// The path under `/api/v1` of these segments, each escaped: a serial may hold `+` and `:`.
pub fn path(segments: &[&str]) -> String {
    let mut path = "/api/v1".to_owned();
    for segment in segments {
        path.push('/');
        for byte in segment.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
                path.push(char::from(byte));
            } else {
                path.extend(["%", &hex::encode_upper([byte])]);
            }
        }
    }
    path
}

impl Client {
    /// A client of this server.
    pub fn new(server: &str, token: Option<String>, ca_file: Option<&Path>) -> Result<Self, Failure> {
        let mut tls = TlsConfig::builder();
        if let Some(path) = ca_file {
            tls = tls.root_certs(RootCerts::Specific(Arc::new(read_certificates(path)?)));
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect would carry the token to where nobody meant it to go.
            .max_redirects(0)
            .timeout_global(Some(REQUEST_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .user_agent(concat!("sluicectl/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls.build())
            .build()
            .new_agent();
        Ok(Self { agent, server: server.to_owned(), token })
    }

    /// Reads something. Repeated while the server is away for a moment.
    pub fn get<T: DeserializeOwned>(&self, path: &str, query: Query) -> Result<T, Failure> {
        let mut tries = 1;
        loop {
            let mut request = self.agent.get(format!("{}{path}", self.server)).header("accept", "application/json");
            for (name, value) in query {
                if let Some(value) = value {
                    request = request.query(*name, value);
                }
            }
            if let Some(token) = &self.token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let mut asked_wait = None;
            let result = request.call().map_err(|error| self.unreachable(&error)).and_then(|answer| {
                asked_wait = retry_after(&answer);
                self.read(answer)
            });
            match result {
                Err(failure) if failure.is_transient() && tries < TRIES_MAX => {
                    thread::sleep(asked_wait.unwrap_or(Duration::from_millis(BACKOFF_MS << (tries - 1))));
                    tries += 1;
                }
                result => return result.map(|answer| answer.value),
            }
        }
    }

    /// Reads an answer that is sent while it is made, line by line. Not repeated: what was shown stays shown.
    pub fn lines(
        &self,
        path: &str,
        query: Query,
        line: &mut dyn FnMut(&str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut request = self.agent.get(format!("{}{path}", self.server));
        for (name, value) in query {
            if let Some(value) = value {
                request = request.query(*name, value);
            }
        }
        let request = request.config().timeout_global(Some(STREAM_TIMEOUT)).build();
        let request = request.header("accept", "application/x-ndjson");
        let answer = match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")).call(),
            None => request.call(),
        };
        self.read_lines(answer.map_err(|error| self.unreachable(&error))?, line)
    }

    /// Reads server-sent events for some time: name and data of each, nothing for a sign of life. Ends when `event` wants no more, at a
    /// cut, and when the time is over; only what came instead of a stream is a failure. `seen` names the last event that was read.
    pub fn events(
        &self,
        path: &str,
        seen: Option<&str>,
        time: Duration,
        event: &mut OnEvent<'_>,
    ) -> Result<(), Failure> {
        let request = self.agent.get(format!("{}{path}", self.server));
        // No time at all would be no limit.
        let mut request = request.config().timeout_global(Some(time.max(Duration::from_millis(1)))).build();
        request = request.header("accept", "text/event-stream");
        if let Some(seen) = seen {
            request = request.header("last-event-id", seen);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut answer = request.call().map_err(|error| self.unreachable(&error))?;
        if !answer.status().is_success() {
            return self.body(answer).map(drop);
        }
        let mut reader = BufReader::new(answer.body_mut().as_reader());
        let (mut text, mut id, mut data) = (String::new(), String::new(), String::new());
        loop {
            text.clear();
            let read = reader.by_ref().take(EVENT_MAX_LEN).read_line(&mut text);
            if !matches!(read, Ok(length) if length > 0) || !text.ends_with('\n') {
                return Ok(());
            }
            let line = text.trim_end_matches(['\r', '\n']);
            let goes_on = match line.split_once(':') {
                Some(("id", value)) => {
                    value.trim_start().clone_into(&mut id);
                    true
                }
                Some(("data", value)) => {
                    value.trim_start().clone_into(&mut data);
                    true
                }
                Some(("", _)) => event(None)?,
                _ if line.is_empty() && !data.is_empty() => event(Some((&id, &std::mem::take(&mut data))))?,
                _ => true,
            };
            if !goes_on {
                return Ok(());
            }
        }
    }

    /// Sends something, and reads such an answer.
    pub fn post_lines(
        &self,
        path: &str,
        body: &impl Serialize,
        line: &mut dyn FnMut(&str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let answer = self.send(self.agent.post(format!("{}{path}", self.server)), body)?;
        self.read_lines(answer, line)
    }

    fn read_lines(
        &self,
        mut answer: Response<Body>,
        line: &mut dyn FnMut(&str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if !answer.status().is_success() {
            return self.body(answer).map(drop);
        }
        let mut reader = BufReader::new(answer.body_mut().as_reader());
        let mut text = String::new();
        loop {
            text.clear();
            let cut = |cause: &dyn std::fmt::Display| Failure::Unreachable {
                server: self.server.clone(),
                cause: format!("the answer was cut ({cause}); what came before is complete"),
            };
            let length = reader.by_ref().take(LINE_MAX_LEN).read_line(&mut text).map_err(|error| cut(&error))?;
            if length == 0 {
                return Ok(());
            }
            if !text.ends_with('\n') {
                return Err(cut(&"a line has no end"));
            }
            line(text.trim_end())?;
        }
    }

    /// Changes something. Sent once: whoever repeats it decides to.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<Answer<T>, Failure> {
        let body = serde_json::to_vec(body)?;
        let mut request = self
            .agent
            .post(format!("{}{path}", self.server))
            .header("accept", "application/json")
            .content_type("application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.read(request.send(&body[..]).map_err(|error| self.unreachable(&error))?)
    }

    /// Puts something in place of what is there. Sent once.
    pub fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<Answer<T>, Failure> {
        let answer = self.send(self.agent.put(format!("{}{path}", self.server)), body)?;
        self.read(answer)
    }

    /// Puts something in place of what is there, and is told no more than that it was done.
    pub fn put_only(&self, path: &str, body: &impl Serialize) -> Result<(), Failure> {
        let answer = self.send(self.agent.put(format!("{}{path}", self.server)), body)?;
        self.body(answer).map(drop)
    }

    /// Changes a part of something. Sent once.
    pub fn patch<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<Answer<T>, Failure> {
        let answer = self.send(self.agent.patch(format!("{}{path}", self.server)), body)?;
        self.read(answer)
    }

    fn send(
        &self,
        request: ureq::RequestBuilder<ureq::typestate::WithBody>,
        body: &impl Serialize,
    ) -> Result<Response<Body>, Failure> {
        let body = serde_json::to_vec(body)?;
        let mut request = request.header("accept", "application/json").header("content-type", "application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.send(&body[..]).map_err(|error| self.unreachable(&error))
    }

    /// Takes something away, and reads what is left.
    pub fn delete_from<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let mut request = self.agent.delete(format!("{}{path}", self.server)).header("accept", "application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = request.call().map_err(|error| self.unreachable(&error))?;
        self.read(answer).map(|answer: Answer<T>| answer.value)
    }

    /// Takes something away.
    pub fn delete(&self, path: &str) -> Result<(), Failure> {
        let mut request = self.agent.delete(format!("{}{path}", self.server)).header("accept", "application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = request.call().map_err(|error| self.unreachable(&error))?;
        self.body(answer).map(drop)
    }

    /// Reads a list page by page, up to the limit.
    pub fn list<T: DeserializeOwned>(&self, path: &str, query: Query, paging: &Paging) -> Result<Page<T>, Failure> {
        let mut items = Vec::new();
        let mut after = paging.after.clone();
        loop {
            let missing = paging.limit.saturating_sub(u32::try_from(items.len()).unwrap_or(u32::MAX));
            let page: Page<T> = self.page(path, query, after.as_deref(), missing.min(MAX_PAGE))?;
            items.extend(page.items);
            // A server that answers with the cursor it was given would be asked for ever.
            let ends = page.next.is_none() || page.next == after || items.len() >= paging.limit as usize;
            after = page.next;
            if ends {
                return Ok(Page { items, next: after });
            }
        }
    }

    /// Reads one page.
    pub fn page<T: DeserializeOwned>(
        &self,
        path: &str,
        query: Query,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<T>, Failure> {
        let mut query = query.to_vec();
        query.push(("after", after.map(str::to_owned)));
        query.push(("limit", Some(limit.to_string())));
        self.get(path, &query)
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        Failure::Unreachable { server: self.server.clone(), cause: error.to_string() }
    }

    fn read<T: DeserializeOwned>(&self, answer: Response<Body>) -> Result<Answer<T>, Failure> {
        let status = answer.status().as_u16();
        let body = self.body(answer)?;
        let value = serde_json::from_slice(&body).map_err(|error| Failure::Foreign {
            server: self.server.clone(),
            status,
            shown: error.to_string(),
        })?;
        Ok(Answer { created: status == 201, value })
    }

    /// The body of a good answer; a bad one as the problem it tells.
    fn body(&self, mut answer: Response<Body>) -> Result<Vec<u8>, Failure> {
        let status = answer.status();
        let body = answer
            .body_mut()
            .with_config()
            .limit(ANSWER_MAX_LEN)
            .read_to_vec()
            .map_err(|error| self.unreachable(&error))?;
        if status.is_success() {
            return Ok(body);
        }
        Err(match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Failure::Problem(problem),
            Err(_) => Failure::foreign(&self.server, status.as_u16(), &body),
        })
    }
}

/// The wait a server asks for, in seconds, cut to what a person accepts.
fn retry_after(answer: &Response<Body>) -> Option<Duration> {
    let seconds: u64 = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(RETRY_AFTER_MAX_S)))
}

fn read_certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Failure> {
    let shown = || path.display().to_string();
    let pem = fs::read(path).with_context(shown)?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.with_context(shown)? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(Failure::Usage(format!("{}: no certificate (PEM) in it", path.display())));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_escaped() {
        assert_eq!(path(&["products", "acme-cam", "devices", "A+1:2"]), "/api/v1/products/acme-cam/devices/A%2B1%3A2");
        assert_eq!(path(&["a/../b"]), "/api/v1/a%2F..%2Fb");
    }
}
