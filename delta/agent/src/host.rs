//! What the agent takes from the machine it runs on: time, randomness, waiting, and someone to talk to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;

/// How far a download is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes received.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// The machine, handed in so that tests can be exact.
#[derive(Clone, Copy)]
pub struct Host<'a> {
    /// The system clock. The agent also keeps the last time that the server attested, and uses the later of both.
    pub now: &'a dyn Fn() -> Timestamp,
    /// 32 fresh random bytes: for nonces, keys and jitter.
    pub random: &'a dyn Fn() -> [u8; 32],
    /// Waits; may return early when [`Self::stop`] is set.
    pub sleep: &'a dyn Fn(Duration),
    /// How long the machine has been running, by a clock that nobody sets: it goes on while the agent does not run, and begins anew
    /// with the machine.
    pub uptime: &'a dyn Fn() -> Duration,
    /// Tells this start of the machine from every other.
    pub boot: &'a str,
    /// Set when the process was asked to end. Work stops at the next safe place and resumes on the next start.
    pub stop: &'a AtomicBool,
    /// A line for the log.
    pub log: &'a dyn Fn(&str),
    /// Download progress.
    pub progress: &'a dyn Fn(Progress),
}

impl Host<'_> {
    /// Whether the process was asked to end.
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// A random number below `bound` (zero when that is zero), for jitter: the tiny bias of the remainder does not matter
    /// there.
    pub fn below(&self, bound: u64) -> u64 {
        let bytes = (self.random)();
        let number = bytes.iter().take(8).fold(0u64, |number, &byte| (number << 8) | u64::from(byte));
        number.checked_rem(bound).unwrap_or(0)
    }
}
