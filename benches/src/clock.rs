//! The one place that reads a clock. Everything measured here is measured by it.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// A moment to measure from.
#[expect(clippy::disallowed_methods, reason = "measuring is what this package is for")]
pub fn instant() -> Instant {
    Instant::now()
}

/// The time of day, for documents that are signed and checked.
#[expect(
    clippy::disallowed_methods,
    reason = "the programs of this package play people and devices, which have clocks"
)]
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// Processor time that this thread has used. On a machine that others use too it says more than the time that passed.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// How long something took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Took {
    /// Time that passed.
    pub wall: Duration,
    /// Processor time of the calling thread.
    pub cpu: Duration,
}

impl Took {
    /// The shorter of each: what the work itself needs is what it needs when nothing disturbs it.
    #[must_use]
    pub fn best(self, other: Self) -> Self {
        Self { wall: self.wall.min(other.wall), cpu: self.cpu.min(other.cpu) }
    }
}

/// Runs something and says how long it took.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Took) {
    let (from, cpu) = (instant(), thread_time());
    let result = work();
    let took = Took { wall: from.elapsed(), cpu: thread_time().saturating_sub(cpu) };
    (result, took)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_processor_time_and_waiting_does_not() {
        let (sum, worked) = timed(|| (0..2_000_000u64).fold(1u64, |sum, n| sum.wrapping_mul(31).rotate_left(7) ^ n));
        assert_ne!(sum, 0);
        assert!(worked.cpu > Duration::ZERO);
        let ((), waited) = timed(|| std::thread::sleep(Duration::from_millis(30)));
        assert!(waited.wall >= Duration::from_millis(30));
        assert!(waited.cpu < waited.wall);
    }

    #[test]
    fn the_best_of_two_runs_takes_the_shorter_of_each() {
        let ms = Duration::from_millis;
        let (one, two) = (Took { wall: ms(9), cpu: ms(3) }, Took { wall: ms(5), cpu: ms(4) });
        assert_eq!(one.best(two), Took { wall: ms(5), cpu: ms(3) });
    }
}
