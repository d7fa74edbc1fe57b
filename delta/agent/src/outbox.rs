//! Reports on their way to the server: written before they are sent, sent in order, removed when answered.
//!
//! A report's name is made of its attempt and state, so a step repeated after a kill writes the same file again. The
//! server takes repeats and latecomers without harm.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use sluice_catalog::wire::device::ReportEvent;

use crate::error::AgentError;
use crate::state::{StateDir, read_bounded, remove, write_json};

/// Most reports kept while the server is away; the oldest go first. Stops a long outage from filling the storage.
pub const MAX_OUTBOX: usize = 256;
/// Longest report file, bytes.
const MAX_REPORT_BYTES: u64 = 16 << 10;

/// A report that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its file.
    pub path: PathBuf,
    /// What it says.
    pub event: ReportEvent,
}

/// Puts a report into the outbox. `step` orders the reports of one attempt.
pub fn put(state: &StateDir, step: u8, event: &ReportEvent) -> Result<(), AgentError> {
    let mut names = names(state)?;
    let name = format!("{:010}-{step:02}-{}.json", event.attempt, event.state.as_str());
    if !names.contains(&name) && names.len() >= MAX_OUTBOX {
        names.sort();
        for oldest in names.iter().take(names.len() + 1 - MAX_OUTBOX) {
            remove(&state.outbox().join(oldest))?;
        }
    }
    write_json(&state.outbox().join(name), event)
}

/// The reports that wait, in the order they happened. A file that is no report is removed: it would block those behind it
/// for ever.
pub fn waiting(state: &StateDir) -> Result<Vec<Waiting>, AgentError> {
    let mut names = names(state)?;
    names.sort();
    let mut waiting = Vec::new();
    for name in names {
        let path = state.outbox().join(name);
        let bytes = read_bounded(&path, MAX_REPORT_BYTES)?.unwrap_or_default();
        match serde_json::from_slice(&bytes) {
            Ok(event) => waiting.push(Waiting { path, event }),
            Err(_) => remove(&path)?,
        }
    }
    Ok(waiting)
}

/// How many reports wait.
pub fn count(state: &StateDir) -> Result<usize, AgentError> {
    Ok(names(state)?.len())
}

fn names(state: &StateDir) -> Result<Vec<String>, AgentError> {
    let folder = state.outbox();
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).map_err(AgentError::io(&folder))? {
        let entry = entry.map_err(AgentError::io(&folder))?;
        if let Some(name) =
            entry.file_name().to_str().filter(|name| Path::new(name).extension() == Some(OsStr::new("json")))
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
