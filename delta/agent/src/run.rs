//! `run`: rounds without end, at the pace the server asks for within the device's own bounds.

use std::time::Duration;

use crate::agent::Agent;
use crate::config::PollOptions;
use crate::cycle::CycleReport;
use crate::error::AgentError;
use crate::host::Host;

/// First wait after a round that failed, seconds; it doubles up to `poll.max_s`.
const FIRST_RETRY_S: u64 = 30;

/// Shortest wait between two looks at an image that soaks: clocks that differ by a hair must not make it a busy one.
const SHORTEST_NAP: Duration = Duration::from_secs(1);

/// How long to wait before the next round.
pub fn wait(options: &PollOptions, host: &Host<'_>, asked_s: Option<u64>, failures: u32) -> Duration {
    let wished = match (failures, asked_s) {
        (0, Some(asked)) => asked,
        (0, None) => FIRST_RETRY_S,
        _ => FIRST_RETRY_S.saturating_mul(1 << failures.saturating_sub(1).min(16)),
    };
    let bounded = wished.clamp(u64::from(options.min_s), u64::from(options.max_s));
    let jitter_ms = bounded.saturating_mul(10).saturating_mul(u64::from(options.jitter_percent));
    Duration::from_secs(bounded) + Duration::from_millis(host.below(jitter_ms.saturating_add(1)))
}

impl Agent<'_> {
    /// Rounds until the process is asked to stop. `interval_s` overrides what the server asks for; each round's result is
    /// handed to `tell`.
    pub fn run(
        &mut self,
        interval_s: Option<u64>,
        mut tell: impl FnMut(&Result<CycleReport, AgentError>),
    ) -> Result<(), AgentError> {
        let mut failures: u32 = 0;
        while !self.host.stopping() {
            let ended = self.cycle();
            tell(&ended);
            let asked_s = interval_s.or_else(|| ended.as_ref().ok()?.next_poll_s.map(u64::from));
            failures = match &ended {
                Ok(report) if report.exit_code() == crate::error::EXIT_OK => 0,
                Err(AgentError::Stopped) => return Ok(()),
                // A damaged state does not heal by waiting.
                Err(error @ (AgentError::Corrupt { .. } | AgentError::Setting { .. })) => {
                    (self.host.log)(&format!("giving up: {error}"));
                    return ended.map(|_| ());
                }
                _ => failures.saturating_add(1),
            };
            if self.host.stopping() {
                break;
            }
            match self.rest(wait(&self.config.poll, &self.host, asked_s, failures)) {
                Ok(None) => {}
                Ok(Some(report)) => tell(&Ok(report)),
                Err(AgentError::Stopped) => return Ok(()),
                Err(error) => tell(&Err(error)),
            }
        }
        Ok(())
    }

    /// Waits for the next round, and looks at an image that soaks when that is due. Ends early when the soak does: by success, which the
    /// next round's poll completes, or by a failure, which is returned.
    fn rest(&mut self, mut left: Duration) -> Result<Option<CycleReport>, AgentError> {
        let until = (self.host.uptime)().saturating_add(left);
        while !left.is_zero() && !self.host.stopping() {
            let Some(until_look) = self.next_look_ms().map(Duration::from_millis) else {
                (self.host.sleep)(left);
                break;
            };
            let nap = left.min(until_look.max(SHORTEST_NAP));
            (self.host.sleep)(nap);
            // A check takes its time, too: without it, slow ones would put the next poll off for as long as the image soaks.
            left = left.saturating_sub(nap).min(until.saturating_sub((self.host.uptime)()));
            if self.host.stopping() {
                break;
            }
            if let Err(error) = self.look() {
                if matches!(error, AgentError::Stopped) {
                    return Err(error);
                }
                // Storage that fails is no reason to look at it every second; the next round says what it is.
                (self.host.log)(&format!("the image that soaks could not be looked at: {error}"));
                (self.host.sleep)(left);
                break;
            }
            if self.journal.open_attempt().is_none() {
                self.delivery_failed = false;
                self.try_deliver()?;
                return Ok(self.ended_in_recovery());
            }
            if self.soaked {
                break;
            }
            left = left.min(until.saturating_sub((self.host.uptime)()));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::AtomicBool;

    proptest! {
        #[test]
        fn a_wait_stays_within_the_devices_bounds(
            asked in proptest::option::of(any::<u64>()), failures in any::<u32>(), seed in any::<u8>(),
        ) {
            let stop = AtomicBool::new(false);
            let random = || [seed; 32];
            let host = Host {
                now: &|| jiff::Timestamp::UNIX_EPOCH, random: &random, sleep: &|_| (), uptime: &|| Duration::ZERO, boot: "",
                stop: &stop, log: &|_| (), progress: &|_| (),
            };
            let options = PollOptions::default();
            let waited = wait(&options, &host, asked, failures);
            prop_assert!(waited >= Duration::from_secs(u64::from(options.min_s)));
            prop_assert!(waited <= Duration::from_secs(u64::from(options.max_s)) * 11 / 10);
        }
    }

    #[test]
    fn a_server_that_is_away_is_asked_less_and_less() {
        let stop = AtomicBool::new(false);
        let host = Host {
            now: &|| jiff::Timestamp::UNIX_EPOCH,
            random: &|| [0; 32],
            sleep: &|_| (),
            uptime: &|| Duration::ZERO,
            boot: "",
            stop: &stop,
            log: &|_| (),
            progress: &|_| (),
        };
        let waits: Vec<u64> =
            (1..6).map(|failures| wait(&PollOptions::default(), &host, Some(60), failures).as_secs()).collect();
        assert_eq!(waits, [30, 60, 120, 240, 480]);
    }
}
