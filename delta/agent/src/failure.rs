//! `failure.json`: why the last attempt failed, closer than the journal has it, and the log that goes with the report.
//!
//! The journal, the outbox's reports and `agent.toml` are read by the agent of the other slot, too, which may be an older one that
//! refuses what it does not know. What is new is kept beside them, where it is passed over: then only the log is missing.

use serde::{Deserialize, Serialize};
use sluice_catalog::Digest;
use sluice_catalog::rollout::Failure;

use crate::agent::Agent;
use crate::attempt::Attempt;
use crate::failpoint::failpoint;
use crate::state::{read_json, write_json};

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureNote {
    /// The attempt's number.
    pub attempt: Option<i32>,
    /// The image that it was about.
    pub sha256: Digest,
    /// The code.
    pub failure: Failure,
    /// The end of the check's output or of the errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}

impl Agent<'_> {
    /// Keeps why the attempt is about to fail. It is written before the journal says that it has, so that the report finds it. Storage
    /// that takes it no more does not keep a device on a bad image: then the report goes without.
    pub(crate) fn note_failure(&self, attempt: &Attempt, failure: Failure, log: &str) {
        let log = (self.config.check.report_log && !log.is_empty()).then(|| log.to_owned());
        let note = FailureNote { attempt: attempt.number, sha256: attempt.to.sha256, failure, log };
        if let Err(error) = write_json(&self.state.failure(), &note) {
            (self.host.log)(&format!("the report of this failure goes without its log: {error}"));
        }
        failpoint("agent.failure.noted");
    }

    /// Why an attempt failed, when that is known. A damaged file is as none: nothing waits for it.
    pub(crate) fn failure_note(&self, attempt: &Attempt) -> Option<FailureNote> {
        let note: Option<FailureNote> = read_json(&self.state.failure()).ok().flatten();
        note.filter(|note| {
            let same = note.attempt == attempt.number && note.sha256 == attempt.to.sha256;
            same && Some(note.failure.broad()) == attempt.failure.map(Failure::broad)
        })
    }
}
