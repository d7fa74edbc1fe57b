//! The journal of an attempt: append-only, one synced record for each step. Reading it back gives the state in which a
//! kill or a power cut left the device, and the next start goes on from there.
//!
//! A line is the first eight hexadecimal digits of the SHA-256 of the record, a blank, and the record as JSON. A line that
//! does not match, torn by a power cut, ends the journal: whatever it was to say has not happened.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use sluice_catalog::Digest;

use crate::attempt::{Attempt, Record};
use crate::error::AgentError;
use crate::failpoint;
use crate::state::{read_bounded, write_atomic};

/// Longest journal read back, bytes. Stops a damaged file system from filling the memory.
const MAX_JOURNAL_BYTES: u64 = 4 << 20;
/// Past this length a journal is cut down to its last attempt when that attempt ends, bytes.
const COMPACT_BYTES: u64 = 64 << 10;
/// Hexadecimal digits of the check in front of a record.
const CHECK_DIGITS: usize = 8;

/// The open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// The last attempt, open or ended.
    attempt: Option<Attempt>,
    /// The lines of that attempt, for compaction.
    lines: Vec<u8>,
    length: u64,
}

/// What was found when a journal was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Bytes of torn or damaged records that were cut off.
    pub cut_bytes: u64,
}

impl Journal {
    /// Opens or makes the journal, reads it back and cuts off a torn tail.
    pub fn open(path: &Path) -> Result<(Self, Opened), AgentError> {
        let bytes = read_bounded(path, MAX_JOURNAL_BYTES)?.unwrap_or_default();
        let (attempt, from, good) = replay(&bytes);
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(AgentError::io(path))?;
        let cut_bytes = (bytes.len() - good) as u64;
        if cut_bytes > 0 {
            file.set_len(good as u64).and_then(|()| file.sync_all()).map_err(AgentError::io(path))?;
        }
        let lines = bytes.get(from..good).unwrap_or_default().to_vec();
        Ok((Self { path: path.to_owned(), file, attempt, lines, length: good as u64 }, Opened { cut_bytes }))
    }

    /// Reads the last attempt without changing the file, for `status`.
    pub fn peek(path: &Path) -> Result<Option<Attempt>, AgentError> {
        let bytes = read_bounded(path, MAX_JOURNAL_BYTES)?.unwrap_or_default();
        Ok(replay(&bytes).0)
    }

    /// The last attempt, open or ended.
    pub fn last(&self) -> Option<&Attempt> {
        self.attempt.as_ref()
    }

    /// The attempt under way.
    pub fn open_attempt(&self) -> Option<&Attempt> {
        self.attempt.as_ref().filter(|attempt| !attempt.ended)
    }

    /// Appends a record; when this returns it is on the storage.
    pub fn append(&mut self, record: &Record) -> Result<&Attempt, AgentError> {
        let corrupt = |reason: String| AgentError::Corrupt { path: self.path.clone(), reason };
        let attempt = Attempt::apply(self.attempt.clone(), record).map_err(|error| corrupt(error.to_string()))?;
        let json = serde_json::to_string(record).map_err(|error| corrupt(error.to_string()))?;
        let line = format!("{} {json}\n", check(json.as_bytes()));
        if failpoint::is_set("agent.journal.torn") {
            let half = line.as_bytes().get(..line.len() / 2).unwrap_or_default();
            self.file.write_all(half).map_err(AgentError::io(&self.path))?;
            failpoint::kill_self();
        }
        self.file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_data())
            .map_err(AgentError::io(&self.path))?;
        if matches!(record, Record::Begun { .. }) {
            self.lines.clear();
        }
        self.lines.extend_from_slice(line.as_bytes());
        self.length += line.len() as u64;
        if attempt.ended && self.length > COMPACT_BYTES {
            self.compact()?;
        }
        Ok(self.attempt.insert(attempt))
    }

    /// Keeps the last attempt alone.
    fn compact(&mut self) -> Result<(), AgentError> {
        write_atomic(&self.path, &self.lines)?;
        self.file = OpenOptions::new().append(true).open(&self.path).map_err(AgentError::io(&self.path))?;
        self.length = self.lines.len() as u64;
        Ok(())
    }
}

/// Reads records up to the first that is torn, damaged or out of place. Returns the last attempt, where its lines begin,
/// and how many bytes are good.
fn replay(bytes: &[u8]) -> (Option<Attempt>, usize, usize) {
    let (mut attempt, mut from, mut good) = (None, 0, 0);
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let Some(record) = parse_line(line) else { break };
        match Attempt::apply(attempt.clone(), &record) {
            Ok(next) => attempt = Some(next),
            Err(_) => break,
        }
        if matches!(record, Record::Begun { .. }) {
            from = good;
        }
        good += line.len();
    }
    (attempt, from, good)
}

fn parse_line(line: &[u8]) -> Option<Record> {
    let (digits, rest) = line.strip_suffix(b"\n")?.split_at_checked(CHECK_DIGITS)?;
    let json = rest.strip_prefix(b" ")?;
    if digits != check(json).as_bytes() {
        return None;
    }
    serde_json::from_slice(json).ok()
}

fn check(json: &[u8]) -> String {
    Digest::of(json).to_string().chars().take(CHECK_DIGITS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::{Encoding, Phase};
    use crate::installed::SlotImage;
    use crate::slot::Slot;
    use proptest::prelude::*;

    fn image(version: &str) -> SlotImage {
        SlotImage {
            version: version.parse().unwrap(),
            sha256: Digest::of(version.as_bytes()),
            length: 7,
            order: Some(1),
            security_counter: 2,
        }
    }

    fn begun(number: i32) -> Record {
        Record::Begun {
            attempt: Some(number),
            component: "main".parse().unwrap(),
            slot: Slot::B,
            from: image("1.0"),
            to: image("2.0"),
            full_length: 100,
        }
    }

    fn whole(number: i32) -> Vec<Record> {
        vec![
            begun(number),
            Record::Fallback { detail: "segment 3 is damaged".to_owned(), bytes: 5 },
            Record::Interrupted { bytes: 5 },
            Record::Verified { encoding: Some(Encoding::Zstd), bytes: 90 },
            Record::Switching,
            Record::Applied,
            Record::BootTried,
            Record::Booted,
            Record::Healthy,
            Record::Ended,
        ]
    }

    #[test]
    fn what_was_appended_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, _) = Journal::open(&path).unwrap();
        for record in whole(7) {
            journal.append(&record).unwrap();
        }
        let (again, opened) = Journal::open(&path).unwrap();
        assert_eq!(opened.cut_bytes, 0);
        assert_eq!(again.last(), journal.last());
        let last = again.last().unwrap();
        assert_eq!((last.phase, last.bytes, last.interruptions, last.ended), (Phase::Healthy, 100, 1, true));
        assert_eq!(again.open_attempt(), None);
    }

    #[test]
    fn a_step_out_of_place_is_refused_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, _) = Journal::open(&path).unwrap();
        assert!(journal.append(&Record::Switching).is_err(), "no attempt is open");
        journal.append(&begun(1)).unwrap();
        assert!(journal.append(&Record::Switching).is_err(), "nothing is verified");
        assert!(journal.append(&begun(2)).is_err(), "one attempt at a time");
        assert_eq!(Journal::peek(&path).unwrap().unwrap().phase, Phase::Downloading);
    }

    #[test]
    fn a_long_journal_is_cut_down_to_its_last_attempt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, _) = Journal::open(&path).unwrap();
        for number in 1..200 {
            for record in whole(number) {
                journal.append(&record).unwrap();
            }
        }
        assert!(std::fs::metadata(&path).unwrap().len() <= COMPACT_BYTES + 4096);
        assert_eq!(Journal::open(&path).unwrap().0.last().unwrap().number, Some(199));
    }

    /// The bytes of two attempts, and every state on the way.
    fn two_attempts() -> (Vec<u8>, Vec<Option<Attempt>>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, _) = Journal::open(&path).unwrap();
        let mut states = vec![None];
        for record in whole(1).into_iter().chain(whole(2)) {
            states.push(Some(journal.append(&record).unwrap().clone()));
        }
        (std::fs::read(&path).unwrap(), states)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Cut anywhere, or flip any byte: what is read back is a state that the attempt really went through.
        #[test]
        fn any_damage_reads_back_as_an_earlier_state(cut: usize, flip: Option<(usize, u8)>) {
            static TWO: std::sync::LazyLock<(Vec<u8>, Vec<Option<Attempt>>)> = std::sync::LazyLock::new(two_attempts);
            let (whole, states) = &*TWO;
            let mut bytes = whole.clone();
            if let Some((at, with)) = flip {
                bytes[at % whole.len()] ^= with;
            }
            bytes.truncate(cut % (whole.len() + 1));
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("journal");
            std::fs::write(&path, &bytes).unwrap();
            let (mut again, _) = Journal::open(&path).unwrap();
            prop_assert!(states.contains(&again.last().cloned()));
            // And it can be written on.
            if again.open_attempt().is_none() {
                again.append(&begun(3)).unwrap();
                prop_assert_eq!(Journal::open(&path).unwrap().0.last().unwrap().number, Some(3));
            }
        }
    }
}
