//! What devices were told last, so that their history has every answer that differs from the one before. A poll notes it in memory and
//! waits for nothing; a batch is written every few seconds, and when the server stops. What a crash loses is noted again at the next
//! poll, because nothing is remembered then.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};

use quick_cache::sync::Cache;
use sluice_catalog::id::{DeviceId, ReleaseId};
use sluice_catalog::{Reason, Time};

/// Answers that wait to be written; beyond it they are not remembered either, and the next poll notes them.
const MAX_WAITING: usize = 200_000;
/// Seconds for which what is remembered is trusted. A device that polls at several replicas is told something else by another one
/// meanwhile; after that the database says what it was told last.
const TRUSTED_FOR_S: i64 = 600;

/// An answer to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The device.
    pub device: DeviceId,
    /// When.
    pub at: Time,
    /// Whether a version was offered.
    pub offered: bool,
    /// The release offered, or the one the reason is about.
    pub about: Option<ReleaseId>,
    /// Why.
    pub reason: Reason,
}

impl Said {
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.offered, self.about, self.reason).hash(&mut hasher);
        hasher.finish()
    }
}

/// What devices were told, and what of it waits to be written.
#[derive(Debug)]
pub struct Decided {
    last: Cache<DeviceId, (u64, Time)>,
    waiting: Mutex<Vec<Said>>,
}

impl Decided {
    /// Remembers at most this many devices.
    pub fn new(capacity: usize) -> Self {
        Self { last: Cache::new(capacity), waiting: Mutex::default() }
    }

    /// Notes an answer, if it may be another than the last one.
    pub fn note(&self, said: Said) {
        let fingerprint = said.fingerprint();
        let known = self.last.get(&said.device);
        if known.is_some_and(|(last, at)| last == fingerprint && said.at < at.plus_s(TRUSTED_FOR_S)) {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MAX_WAITING {
            self.last.insert(said.device, (fingerprint, said.at));
            waiting.push(said);
        }
    }

    /// Takes what waits to be written, in the order in which it was said.
    pub fn take(&self) -> Vec<Said> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What could not be written is not remembered: the next poll notes it again.
    pub fn lost(&self, said: &[Said]) {
        for one in said {
            self.last.remove(&one.device);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(at_s: i64, reason: Reason) -> Said {
        let device = DeviceId(uuid::Uuid::from_u128(7));
        Said { device, at: Time::EPOCH.plus_s(at_s), offered: false, about: None, reason }
    }

    #[test]
    fn only_what_differs_waits_to_be_written() {
        let decided = Decided::new(10);
        for (at, reason) in
            [(0, Reason::NoContract), (1, Reason::NoContract), (2, Reason::StageWait), (3, Reason::StageWait)]
        {
            decided.note(said(at, reason));
        }
        assert_eq!(decided.take(), [said(0, Reason::NoContract), said(2, Reason::StageWait)]);
        decided.note(said(4, Reason::StageWait));
        assert_eq!(decided.take(), []);
    }

    #[test]
    fn what_was_remembered_long_ago_or_lost_is_said_again() {
        let decided = Decided::new(10);
        decided.note(said(0, Reason::NoContract));
        let taken = decided.take();
        decided.note(said(TRUSTED_FOR_S, Reason::NoContract));
        assert_eq!(decided.take().len(), 1);
        decided.lost(&taken);
        decided.note(said(TRUSTED_FOR_S + 1, Reason::NoContract));
        assert_eq!(decided.take().len(), 1);
    }
}
