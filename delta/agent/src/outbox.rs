//! Reports on their way to the server: written before they are sent, sent in order, removed when answered.
//!
//! A report's name is made of its attempt and state, so a step repeated after a kill writes the same file again. The
//! server takes repeats and latecomers without harm.
//!
//! The agent of the other slot sends what this one leaves, and may be an older one that throws away what it cannot read. So a report's
//! file says what every agent knows, and what goes beyond stands beside it, in `NAME.more`.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sluice_catalog::rollout::Failure;
use sluice_catalog::wire::device::{MAX_EVENTS, ReportEvent};

use crate::error::AgentError;
use crate::state::{self, StateDir, read_bounded, read_json, write_json};

/// Most reports kept while the server is away; the oldest go first. Stops a long outage from filling the storage.
pub const MAX_OUTBOX: usize = 256;
/// Longest report file, bytes.
const MAX_REPORT_BYTES: u64 = 16 << 10;
/// Most bytes of reports sent at once: half of what a server reads.
const MAX_BATCH_BYTES: usize = 64 << 10;

/// A report that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its file.
    pub path: PathBuf,
    /// What it says.
    pub event: ReportEvent,
    /// Reports of one batch are sent together.
    pub batch: usize,
}

impl Waiting {
    /// The same for a server that knows neither logs nor closer codes; none when there is nothing to leave out.
    pub fn plain(&self) -> Option<Self> {
        let event = plain(&self.event);
        (event != self.event).then(|| Self { event, ..self.clone() })
    }
}

/// What every server and agent understands of a report.
fn plain(event: &ReportEvent) -> ReportEvent {
    ReportEvent { failure: event.failure.map(Failure::broad), log: None, ..event.clone() }
}

/// What goes beyond that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct More {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log: Option<String>,
}

fn more_path(report: &Path) -> PathBuf {
    report.with_extension("more")
}

/// Puts a report into the outbox. `step` orders the reports of one attempt.
pub fn put(state: &StateDir, step: u8, event: &ReportEvent) -> Result<(), AgentError> {
    let mut names = names(state)?;
    let name = format!("{:010}-{step:02}-{}.json", event.attempt, event.state.as_str());
    if !names.contains(&name) && names.len() >= MAX_OUTBOX {
        names.sort();
        for oldest in names.iter().take(names.len() + 1 - MAX_OUTBOX) {
            remove_file(&state.outbox().join(oldest))?;
        }
    }
    let path = state.outbox().join(name);
    let (plain, more) = (plain(event), more_path(&path));
    // What stands beside it comes first: whoever finds a report must find all of it. But the report is what matters, and goes without when
    // the storage takes no more.
    let kept = plain != *event && write_json(&more, &More { failure: event.failure, log: event.log.clone() }).is_ok();
    if !kept {
        state::remove(&more)?;
    }
    write_json(&path, &plain)
}

/// Takes a report out, once it was answered.
pub fn remove(report: &Waiting) -> Result<(), AgentError> {
    remove_file(&report.path)
}

fn remove_file(path: &Path) -> Result<(), AgentError> {
    state::remove(path)?;
    state::remove(&more_path(path))
}

/// The reports that wait, in the order they happened. A file that is no report is removed: it would block those behind it
/// for ever.
pub fn waiting(state: &StateDir) -> Result<Vec<Waiting>, AgentError> {
    let mut names = names(state)?;
    names.sort();
    remove_orphans(state)?;
    let mut waiting: Vec<Waiting> = Vec::new();
    let (mut batch, mut events, mut total) = (0, 0, 0);
    for name in names {
        let path = state.outbox().join(name);
        let bytes = read_bounded(&path, MAX_REPORT_BYTES)?.unwrap_or_default();
        let Ok(event) = serde_json::from_slice(&bytes) else {
            remove_file(&path)?;
            continue;
        };
        let event = completed(event, &path);
        let length = serde_json::to_vec(&event).map_or(0, |json| json.len());
        (events, total) = (events + 1, total + length);
        if events > MAX_EVENTS || total > MAX_BATCH_BYTES {
            (batch, events, total) = (batch + 1, 1, length);
        }
        waiting.push(Waiting { path, event, batch });
    }
    Ok(waiting)
}

/// A report with what stands beside it. When that cannot be read the report goes without.
fn completed(event: ReportEvent, path: &Path) -> ReportEvent {
    let more: Option<More> = read_json(&more_path(path)).ok().flatten();
    // An agent that knows less may have written the report again with another word.
    match more.filter(|more| more.failure.map(Failure::broad) == event.failure) {
        Some(more) => ReportEvent { failure: more.failure, log: more.log, ..event },
        None => event,
    }
}

/// What an older agent left when it took the report.
fn remove_orphans(state: &StateDir) -> Result<(), AgentError> {
    for name in names_ending(state, "more")? {
        let more = state.outbox().join(name);
        if !more.with_extension("json").exists() {
            state::remove(&more)?;
        }
    }
    Ok(())
}

/// How many reports wait.
pub fn count(state: &StateDir) -> Result<usize, AgentError> {
    Ok(names(state)?.len())
}

fn names(state: &StateDir) -> Result<Vec<String>, AgentError> {
    names_ending(state, "json")
}

fn names_ending(state: &StateDir, extension: &str) -> Result<Vec<String>, AgentError> {
    let folder = state.outbox();
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).map_err(AgentError::io(&folder))? {
        let entry = entry.map_err(AgentError::io(&folder))?;
        if let Some(name) =
            entry.file_name().to_str().filter(|name| Path::new(name).extension() == Some(OsStr::new(extension)))
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_catalog::rollout::AttemptState;

    fn event(attempt: i32, state: AttemptState) -> ReportEvent {
        ReportEvent { attempt, state, failure: None, encoding: None, bytes: None, detail: None, log: None }
    }

    #[test]
    fn reports_wait_in_order_and_a_repeat_is_one_report() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path());
        state.create().unwrap();
        put(&state, 3, &event(10, AttemptState::Applied)).unwrap();
        put(&state, 1, &event(10, AttemptState::Downloading)).unwrap();
        put(&state, 1, &event(9, AttemptState::Downloading)).unwrap();
        put(&state, 3, &event(10, AttemptState::Applied)).unwrap();
        let order: Vec<_> = waiting(&state).unwrap().into_iter().map(|w| (w.event.attempt, w.event.state)).collect();
        assert_eq!(
            order,
            [(9, AttemptState::Downloading), (10, AttemptState::Downloading), (10, AttemptState::Applied)]
        );
    }

    #[test]
    fn a_full_outbox_drops_its_oldest() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path());
        state.create().unwrap();
        for number in 1..=300 {
            put(&state, 1, &event(number, AttemptState::Downloading)).unwrap();
        }
        let left = waiting(&state).unwrap();
        assert_eq!(left.len(), MAX_OUTBOX);
        assert_eq!(left[0].event.attempt, 300 - 255);
    }

    fn failed(attempt: i32, log: &str) -> ReportEvent {
        ReportEvent {
            failure: Some(Failure::CheckFailed),
            log: Some(log.to_owned()),
            ..event(attempt, AttemptState::RolledBack)
        }
    }

    #[test]
    fn an_older_agent_reads_every_report_that_this_one_leaves() {
        /// The report as agents knew it before there were logs.
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "read alone")]
        struct Older {
            attempt: i32,
            state: AttemptState,
            failure: Option<String>,
            encoding: Option<String>,
            bytes: Option<u64>,
            detail: Option<String>,
        }
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path());
        state.create().unwrap();
        put(&state, 7, &failed(3, "one\ntwo")).unwrap();
        let path = state.outbox().join("0000000003-07-rolled_back.json");
        let older: Older = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!((older.attempt, older.failure.as_deref()), (3, Some("unhealthy")));
        let waits = waiting(&state).unwrap();
        assert_eq!(waits[0].event, failed(3, "one\ntwo"));
        assert_eq!(waits[0].plain().unwrap().event.failure, Some(Failure::Unhealthy));
        assert_eq!(waits[0].plain().unwrap().plain(), None);
        // It takes the report and knows nothing of what stands beside it.
        std::fs::remove_file(&path).unwrap();
        assert_eq!(waiting(&state).unwrap(), []);
        assert_eq!(std::fs::read_dir(state.outbox()).unwrap().count(), 0);
    }

    #[test]
    fn what_stands_beside_a_report_goes_with_it_and_is_no_condition_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path());
        state.create().unwrap();
        let files = || std::fs::read_dir(state.outbox()).unwrap().count();
        put(&state, 7, &failed(1, "log")).unwrap();
        std::fs::write(state.outbox().join("0000000001-07-rolled_back.more"), "{").unwrap();
        let waits = waiting(&state).unwrap();
        assert_eq!((waits[0].event.failure, &waits[0].event.log), (Some(Failure::Unhealthy), &None));
        remove(&waits[0]).unwrap();
        assert_eq!(files(), 0);
        // Written again without, it has none.
        put(&state, 7, &failed(1, "log")).unwrap();
        put(&state, 7, &plain(&failed(1, "log"))).unwrap();
        assert_eq!((files(), waiting(&state).unwrap()[0].plain()), (1, None));
        for number in 1..=300 {
            put(&state, 7, &failed(number, "log")).unwrap();
        }
        assert_eq!(files(), 2 * MAX_OUTBOX, "the oldest go with their logs");
    }

    #[test]
    fn long_logs_are_sent_in_batches_that_a_server_reads() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path());
        state.create().unwrap();
        for number in 1..=70 {
            put(&state, 1, &event(number, AttemptState::Downloading)).unwrap();
        }
        for number in 71..=90 {
            put(&state, 7, &failed(number, &"\n".repeat(4096))).unwrap();
        }
        let waits = waiting(&state).unwrap();
        let batches: Vec<_> = waits.chunk_by(|one, other| one.batch == other.batch).collect();
        assert_eq!(batches[0].len(), MAX_EVENTS);
        assert_eq!(batches.iter().map(|batch| batch.len()).sum::<usize>(), 90);
        for batch in batches {
            let events: Vec<_> = batch.iter().map(|report| &report.event).collect();
            assert!(serde_json::to_vec(&events).unwrap().len() <= MAX_BATCH_BYTES + 1024);
        }
    }

    #[test]
    fn a_damaged_report_does_not_block_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path());
        state.create().unwrap();
        std::fs::write(state.outbox().join("0000000001-01-downloading.json"), "{").unwrap();
        put(&state, 1, &event(2, AttemptState::Downloading)).unwrap();
        assert_eq!(waiting(&state).unwrap().len(), 1);
        assert_eq!(waiting(&state).unwrap()[0].event.attempt, 2);
    }
}
