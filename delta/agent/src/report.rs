//! Telling the server how an attempt goes.

use sluice_catalog::rollout::{AttemptState, Failure, MAX_LOG_LEN, clean_log};
use sluice_catalog::wire::device::{MAX_DETAIL_LEN, ReportEvent, ReportRequest};

use crate::agent::Agent;
use crate::attempt::Encoding;
use crate::error::AgentError;
use crate::failpoint::failpoint;
use crate::http::{Reply, Request, problem};
use crate::outbox::{self, Waiting};

/// Bytes of the answer to a report.
const MAX_REPORT_REPLY_BYTES: u64 = 16 << 10;

/// One thing to tell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event<'e> {
    /// The attempt's number; without one there is nobody to tell.
    pub attempt: Option<i32>,
    /// How far it is.
    pub state: AttemptState,
    /// What went wrong.
    pub failure: Option<Failure>,
    /// How the image is carried.
    pub encoding: Option<Encoding>,
    /// Bytes downloaded so far.
    pub bytes: Option<u64>,
    /// For a person to read.
    pub detail: Option<&'e str>,
    /// The end of what led there.
    pub log: Option<&'e str>,
}

impl Event<'_> {
    pub(crate) const fn new(attempt: Option<i32>, state: AttemptState) -> Self {
        Self { attempt, state, failure: None, encoding: None, bytes: None, detail: None, log: None }
    }

    /// The place of the event among those of its attempt.
    const fn step(&self) -> u8 {
        match (self.state, self.failure) {
            (AttemptState::Offered, _) => 0,
            (AttemptState::Downloading, None) => 1,
            (AttemptState::Downloading, Some(_)) => 2,
            (AttemptState::Verified, _) => 3,
            (AttemptState::Applied, _) => 4,
            (AttemptState::Booted, _) => 5,
            (AttemptState::Healthy, _) => 6,
            (AttemptState::Failed | AttemptState::RolledBack | AttemptState::Superseded, _) => 7,
        }
    }
}

impl Agent<'_> {
    /// Writes a report into the outbox; [`Agent::deliver`] sends it.
    pub(crate) fn tell(&self, event: &Event<'_>) -> Result<(), AgentError> {
        let Some(attempt) = event.attempt else { return Ok(()) };
        let report = ReportEvent {
            attempt,
            state: event.state,
            failure: event.failure,
            encoding: event.encoding.map(|encoding| encoding.as_str().to_owned()),
            bytes: event.bytes,
            detail: event.detail.map(shortened),
            log: event.log.map(|log| clean_log(log, MAX_LOG_LEN)),
        };
        outbox::put(&self.state, event.step(), &report)?;
        failpoint("agent.outbox.written");
        Ok(())
    }

    /// Sends what waits, in order. What the server refuses is dropped with a log line, what it cannot take now stays.
    pub(crate) fn deliver(&mut self) -> Result<(), AgentError> {
        let waiting = outbox::waiting(&self.state)?;
        for batch in waiting.chunk_by(|one, other| one.batch == other.batch) {
            let reply = self.send(batch)?;
            if reply.status < 300 {
                for report in batch {
                    outbox::remove(report)?;
                }
                continue;
            }
            // Something in the batch is refused: one at a time finds out what.
            for report in batch {
                self.deliver_one(report)?;
                outbox::remove(report)?;
            }
        }
        Ok(())
    }

    /// Sends one report that was refused among others. A server from before logs and closer codes refuses those alone, and takes the
    /// report without; nothing in its answers would have told before.
    fn deliver_one(&mut self, report: &Waiting) -> Result<(), AgentError> {
        let mut reply = self.send(std::slice::from_ref(report))?;
        if is_malformed(reply.status)
            && let Some(plain) = report.plain()
        {
            (self.host.log)("the server takes no log with this report; it goes without");
            reply = self.send(&[plain])?;
        }
        if reply.status >= 300 {
            (self.host.log)(&format!(
                "the server refused the report `{}` of attempt {} with status {}: {}; dropped",
                report.event.state.as_str(),
                report.event.attempt,
                reply.status,
                problem(&reply)
            ));
        }
        Ok(())
    }

    fn send(&mut self, batch: &[Waiting]) -> Result<Reply, AgentError> {
        let what = "report";
        let request = ReportRequest { events: batch.iter().map(|report| report.event.clone()).collect() };
        let body = serde_json::to_vec(&request)
            .map_err(|error| AgentError::Protocol { what: what.to_owned(), detail: error.to_string() })?;
        self.call_authorised(&Request {
            what,
            path: "/v1/report",
            bearer: None,
            if_none_match: None,
            post: Some(&body),
            limit: MAX_REPORT_REPLY_BYTES,
        })
    }

    /// Sends what waits; a server that is away is no reason to stop, the outbox keeps it. It is asked once in a cycle only,
    /// so that an outage does not slow down every step of an update.
    pub(crate) fn try_deliver(&mut self) -> Result<(), AgentError> {
        if self.delivery_failed {
            return Ok(());
        }
        match self.deliver() {
            Err(error @ (AgentError::Unreachable { .. } | AgentError::Denied { .. } | AgentError::Protocol { .. })) => {
                self.delivery_failed = true;
                (self.host.log)(&format!("reports wait in the outbox: {error}"));
                Ok(())
            }
            other => other,
        }
    }
}

/// Whether a server did not understand a request, or found it too long.
const fn is_malformed(status: u16) -> bool {
    matches!(status, 400 | 413 | 422)
}

/// Cuts a detail to the protocol's limit, at a character.
fn shortened(detail: &str) -> String {
    let mut end = detail.len().min(MAX_DETAIL_LEN);
    while !detail.is_char_boundary(end) {
        end -= 1;
    }
    detail.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_detail_is_cut_at_a_character() {
        assert_eq!(shortened("short"), "short");
        let cut = shortened(&"é".repeat(MAX_DETAIL_LEN));
        assert_eq!(cut.len(), MAX_DETAIL_LEN);
        assert_eq!(shortened(&format!("x{}", "é".repeat(MAX_DETAIL_LEN))).len(), MAX_DETAIL_LEN - 1);
    }
}
