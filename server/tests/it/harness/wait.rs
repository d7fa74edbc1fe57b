//! Waiting for what happens by itself, with a deadline instead of a guess.

use std::time::{Duration, Instant};

/// Longest that anything may take on a machine that builds at the same time.
const DEADLINE: Duration = Duration::from_mins(1);
/// How often it is looked at.
const PAUSE: Duration = Duration::from_millis(5);

/// Longest that a whole run with thousands of devices may take.
const LONG_DEADLINE: Duration = Duration::from_mins(20);

/// Asks until there is an answer.
#[track_caller]
pub fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    within(DEADLINE, what, ask)
}

/// The same for what takes many devices, restarts and leases.
#[track_caller]
pub fn until_long<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    within(LONG_DEADLINE, what, ask)
}

#[track_caller]
fn within<T>(deadline: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < deadline, "{what}: not within {deadline:?}");
        std::thread::sleep(PAUSE);
    }
}

#[expect(clippy::disallowed_methods, reason = "a deadline of a test decides nothing in the product")]
fn now() -> Instant {
    Instant::now()
}
