//! The soak: how long a new image must go on passing its check before the device calls itself healthy.
//!
//! Time is counted by the machine's running time and by no clock that anybody sets: a clock that jumps neither shortens nor lengthens
//! a soak. Running time is counted whether or not the agent runs, because the image does; time for which the machine was off is not.

use serde::{Deserialize, Serialize};
use sluice_catalog::Digest;
use sluice_catalog::rollout::Failure;

use crate::agent::Agent;
use crate::attempt::{Attempt, Phase};
use crate::check::Verdict;
use crate::config::{CheckOptions, Config};
use crate::confirm::MAX_CUT_SHORT;
use crate::error::AgentError;
use crate::failpoint::failpoint;
use crate::state::{StateDir, read_json, write_json};

/// `soak.json`: how far the soak of an attempt is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Soak {
    /// The attempt's number.
    pub attempt: Option<i32>,
    /// The image that soaks.
    pub sha256: Digest,
    /// Which start of the machine it was last looked at in.
    pub boot: String,
    /// How long the machine ran then, milliseconds.
    pub seen_ms: u64,
    /// How long the image has run, milliseconds.
    pub soaked_ms: u64,
    /// How long it had run when the last check that passed began, milliseconds. None right after the machine's start: its first look
    /// checks.
    pub checked_ms: Option<u64>,
    /// Starts of the machine since it soaks.
    pub restarts: u32,
    /// Checks in a row that were cut short, by a kill or a power cut.
    pub cut_short: u32,
    /// Checks that were given up because the agent was asked to stop: they are not held against the image.
    pub stopped: u32,
    /// Polls without answer that the attempt had when one was last answered.
    pub answered: u32,
    /// Switches to the image that were begun; more than one when the machine came up on the old image each time.
    pub switches: u32,
}

/// How far a soak is, for `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SoakStatus {
    /// Seconds for which the new image has run.
    pub soaked_s: u64,
    /// Seconds for which it must.
    pub of_s: u32,
}

impl Soak {
    /// The soak of an attempt whose image runs from now on.
    fn begin(attempt: &Attempt, boot: &str, uptime_ms: u64) -> Self {
        Self {
            attempt: attempt.number,
            sha256: attempt.to.sha256,
            boot: boot.to_owned(),
            seen_ms: uptime_ms,
            soaked_ms: 0,
            checked_ms: None,
            restarts: 0,
            cut_short: 0,
            stopped: 0,
            answered: 0,
            switches: 0,
        }
    }

    fn is_of(&self, attempt: &Attempt) -> bool {
        self.attempt == attempt.number && self.sha256 == attempt.to.sha256
    }

    /// Counts the running time since the last look.
    fn advance(&mut self, boot: &str, uptime_ms: u64) {
        match uptime_ms.checked_sub(self.seen_ms) {
            Some(ran_ms) if self.boot == boot => self.soaked_ms = self.soaked_ms.saturating_add(ran_ms),
            // The time up to the restart that nobody looked at counts for nothing.
            _ => {
                self.restarts = self.restarts.saturating_add(1);
                self.checked_ms = None;
                boot.clone_into(&mut self.boot);
            }
        }
        self.seen_ms = uptime_ms;
    }

    /// Milliseconds of running time until the next check, or the end.
    fn next_ms(&self, options: &CheckOptions) -> u64 {
        let Some(checked_ms) = self.checked_ms else { return 0 };
        let interval_ms = u64::from(options.interval_s).saturating_mul(1000);
        checked_ms.saturating_add(interval_ms).min(soak_ms(options)).saturating_sub(self.soaked_ms)
    }

    /// Whether a check passed that began when the image had run for long enough.
    fn is_over(&self, options: &CheckOptions) -> bool {
        self.checked_ms.is_some_and(|checked_ms| checked_ms >= soak_ms(options))
    }
}

const fn soak_ms(options: &CheckOptions) -> u64 {
    options.soak_s as u64 * 1000
}

/// How far the soak of an attempt was at its last look; none when it has none, or is over.
pub(crate) fn status(state: &StateDir, config: &Config, attempt: &Attempt) -> Option<SoakStatus> {
    let of_s = config.check.soak_s;
    if attempt.phase != Phase::Booted || of_s == 0 {
        return None;
    }
    let kept: Option<Soak> = read_json(&state.soak()).ok().flatten();
    let soaked_ms = kept.filter(|soak| soak.is_of(attempt)).map_or(0, |soak| soak.soaked_ms);
    Some(SoakStatus { soaked_s: soaked_ms / 1000, of_s })
}

impl Agent<'_> {
    fn uptime_ms(&self) -> u64 {
        u64::try_from((self.host.uptime)().as_millis()).unwrap_or(u64::MAX)
    }

    /// What is kept of the attempt's soak. A damaged file begins anew: it is no reason to leave an image, nor to trust it.
    pub(crate) fn soak(&self, attempt: &Attempt) -> Soak {
        let kept: Option<Soak> = read_json(&self.state.soak()).ok().flatten();
        let begin = || Soak::begin(attempt, self.host.boot, self.uptime_ms());
        kept.filter(|soak| soak.is_of(attempt)).unwrap_or_else(begin)
    }

    pub(crate) fn keep_soak(&self, soak: &Soak) -> Result<(), AgentError> {
        write_json(&self.state.soak(), soak)
    }

    /// The same where it must not keep the agent from what comes next.
    pub(crate) fn note_soak(&self, soak: &Soak) {
        if let Err(error) = self.keep_soak(soak) {
            (self.host.log)(&format!("how far the soak is could not be kept: {error}"));
        }
    }

    /// The new image has just passed its first check: its soak begins, if it has one.
    pub(crate) fn begin_soak(&mut self, attempt: &Attempt) -> Result<(), AgentError> {
        self.soaked = self.config.check.soak_s == 0;
        if !self.soaked {
            let begun = Soak::begin(attempt, self.host.boot, self.uptime_ms());
            self.keep_soak(&Soak { checked_ms: Some(0), ..begun })?;
            failpoint("agent.soak.begun");
        }
        Ok(())
    }

    /// Looks at the image that soaks: checks it when that is due, leaves it when it fails, and says in `soaked` whether the time is over.
    pub(crate) fn look(&mut self) -> Result<(), AgentError> {
        let options = self.config.check;
        let Some(attempt) = self.journal.open_attempt().filter(|it| it.phase == Phase::Booted).cloned() else {
            return Ok(());
        };
        self.soaked = options.soak_s == 0;
        if self.soaked {
            return Ok(());
        }
        let mut soak = self.soak(&attempt);
        let restarts = soak.restarts;
        soak.advance(self.host.boot, self.uptime_ms());
        if soak.is_over(&options) {
            self.soaked = true;
            return Ok(());
        }
        // Once it has run for long enough it waits for the server, in whatever time and over whatever starts.
        let counts = options.max_restarts > 0 && soak.soaked_ms < soak_ms(&options);
        if counts && soak.restarts > options.max_restarts {
            let detail = format!("the machine started {} times while the image soaked", soak.restarts);
            return self.roll_back(Failure::BootFailed, &detail, "");
        }
        if soak.cut_short >= MAX_CUT_SHORT {
            let detail = format!("its check was cut short {MAX_CUT_SHORT} times while it soaked");
            return self.roll_back(Failure::BootFailed, &detail, "");
        }
        if soak.next_ms(&options) == 0 {
            let began_ms = soak.soaked_ms;
            if !self.config.boot_check.is_empty() {
                // A check that brings the machine or the agent down is counted before it can; that it cannot be counted, on a full
                // storage, keeps no device on an image that fails it.
                self.note_soak(&Soak { cut_short: soak.cut_short.saturating_add(1), ..soak.clone() });
                failpoint("agent.soak.checking");
                match self.run_check(&attempt, "soak") {
                    Verdict::Healthy => {}
                    Verdict::Stopped => {
                        self.keep_soak(&soak)?;
                        return Err(AgentError::Stopped);
                    }
                    Verdict::Unhealthy { failure, detail, log } => {
                        let detail = format!("{detail}, after {} s of soak", began_ms / 1000);
                        return self.roll_back(failure, &detail, &log);
                    }
                }
            }
            soak.cut_short = 0;
            soak.checked_ms = Some(began_ms);
            soak.advance(self.host.boot, self.uptime_ms());
            self.keep_soak(&soak)?;
            failpoint("agent.soak.checked");
        } else if soak.restarts != restarts {
            self.keep_soak(&soak)?;
        }
        self.soaked = soak.is_over(&options);
        Ok(())
    }

    /// Milliseconds until the image that soaks is to be looked at again; none when none does.
    pub(crate) fn next_look_ms(&self) -> Option<u64> {
        let attempt = self.journal.open_attempt().filter(|attempt| attempt.phase == Phase::Booted)?;
        if self.soaked || self.config.check.soak_s == 0 {
            return None;
        }
        let mut soak = self.soak(attempt);
        soak.advance(self.host.boot, self.uptime_ms());
        Some(soak.next_ms(&self.config.check))
    }

    /// A poll on the image that soaks was answered: those without answer before it are forgiven.
    pub(crate) fn answered(&self, attempt: &Attempt) -> Result<(), AgentError> {
        let soak = self.soak(attempt);
        if soak.answered == attempt.unanswered {
            return Ok(());
        }
        self.keep_soak(&Soak { answered: attempt.unanswered, ..soak })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn soak() -> Soak {
        Soak {
            attempt: Some(1),
            sha256: Digest([1; 32]),
            boot: "0".to_owned(),
            seen_ms: 0,
            soaked_ms: 0,
            checked_ms: Some(0),
            restarts: 0,
            cut_short: 0,
            stopped: 0,
            answered: 0,
            switches: 0,
        }
    }

    fn options(soak_s: u32, interval_s: u32) -> CheckOptions {
        CheckOptions { soak_s, interval_s, ..CheckOptions::default() }
    }

    #[test]
    fn a_soak_ends_with_a_check_that_began_after_it() {
        let (mut soak, options) = (soak(), options(100, 30));
        assert_eq!(soak.next_ms(&options), 30_000);
        soak.advance("0", 29_999);
        assert_eq!(soak.next_ms(&options), 1);
        soak.advance("0", 95_000);
        assert_eq!(soak.next_ms(&options), 0, "late is late, and then at once");
        soak.checked_ms = Some(95_000);
        assert_eq!((soak.next_ms(&options), soak.is_over(&options)), (5_000, false), "no later than the end");
        soak.advance("0", 100_000);
        assert_eq!((soak.next_ms(&options), soak.is_over(&options)), (0, false), "the check at the end counts");
        soak.checked_ms = Some(100_000);
        assert!(soak.is_over(&options));
    }

    #[test]
    fn the_time_around_a_restart_counts_for_nothing_and_a_check_is_due() {
        let (mut soak, options) = (soak(), options(100, 30));
        soak.advance("0", 20_000);
        soak.advance("1", 500_000);
        assert_eq!((soak.soaked_ms, soak.restarts, soak.next_ms(&options)), (20_000, 1, 0));
        soak.advance("1", 501_000);
        assert_eq!(soak.soaked_ms, 21_000);
        // A machine that has no name for its starts is told by its running time.
        soak.advance("1", 2_000);
        assert_eq!((soak.soaked_ms, soak.restarts), (21_000, 2));
    }

    proptest! {
        /// Looks at any times, over any restarts: what is counted is never more than the machine ran since the soak began, and never less
        /// than it ran between two looks of one start.
        #[test]
        fn a_soak_counts_running_time_and_nothing_else(
            starts in prop::collection::vec(prop::collection::vec(0..100_000_u64, 1..6), 1..6),
        ) {
            let (mut soak, mut ran, mut between) = (soak(), 0, 0);
            for (number, looks) in starts.iter().enumerate() {
                let mut uptime = 0;
                for (index, pause) in looks.iter().enumerate() {
                    uptime += pause;
                    ran += pause;
                    if number == 0 || index > 0 {
                        between += pause;
                    }
                    soak.advance(&number.to_string(), uptime);
                }
            }
            prop_assert!(soak.soaked_ms <= ran);
            prop_assert_eq!(soak.soaked_ms, between);
            prop_assert_eq!(soak.restarts as usize, starts.len() - 1);
        }
    }
}
