//! From a verified slot to a healthy device, or back: the switch, the check of the new image, the floor against rollback.

use std::time::Duration;

use sluice_catalog::rollout::{AttemptState, Failure, MAX_LOG_LEN, clean_log};

use crate::agent::Agent;
use crate::attempt::{Attempt, Phase, Record};
use crate::check::{self, Verdict};
use crate::error::{AgentError, shown};
use crate::failpoint::failpoint;
use crate::report::Event;
use crate::slot;
use crate::soak::Soak;
use crate::state::remove;

/// Checks of a new image that may be cut short (a kill, a power cut) before it counts as one that does not come up.
pub(crate) const MAX_CUT_SHORT: u32 = 3;

impl Agent<'_> {
    /// Puts the pointer on the verified slot. The caller has just had the offer confirmed by a fresh answer.
    pub(crate) fn switch(&mut self, attempt: &Attempt) -> Result<(), AgentError> {
        if attempt.phase == Phase::Verified {
            self.journal.append(&Record::Switching)?;
            failpoint("agent.journal.switching");
        }
        let kept = self.soak(attempt);
        self.note_soak(&Soak { switches: kept.switches.saturating_add(1), ..kept });
        self.point_to(attempt, attempt.slot)?;
        failpoint("agent.pointer.switched");
        self.applied(attempt)
    }

    fn point_to(&self, attempt: &Attempt, slot: slot::Slot) -> Result<(), AgentError> {
        let path = self.state.slots().join(format!("{}.pointer", attempt.component));
        self.boot.switch(&attempt.component, slot).map_err(AgentError::io(&path))
    }

    /// The pointer names the new slot.
    pub(crate) fn applied(&mut self, attempt: &Attempt) -> Result<(), AgentError> {
        self.tell(&Event {
            encoding: attempt.encoding,
            bytes: Some(attempt.bytes),
            ..Event::new(attempt.number, AttemptState::Applied)
        })?;
        self.journal.append(&Record::Applied)?;
        failpoint("agent.journal.applied");
        Ok(())
    }

    /// Comes up on the new image and checks it. On a device with a real boot loader the machine restarts between the
    /// switch and this, and the agent that gets here is part of the new image.
    pub(crate) fn boot(&mut self) -> Result<(), AgentError> {
        let attempt = self.journal.append(&Record::BootTried)?.clone();
        failpoint("agent.journal.boot_tried");
        let mut kept = self.soak(&attempt);
        if attempt.boot_tries.saturating_sub(kept.stopped) > MAX_CUT_SHORT {
            let detail = format!("its check was cut short {MAX_CUT_SHORT} times");
            return self.roll_back(Failure::BootFailed, &detail, "");
        }
        let path = slot::path(&self.state.slots(), &attempt.component, attempt.slot);
        if slot::digest(&path)? != Some((attempt.to.length, attempt.to.sha256)) {
            return self.roll_back(Failure::Unhealthy, "the slot no longer has the digest of its image", "");
        }
        match self.run_check(&attempt, "boot") {
            Verdict::Healthy => {}
            Verdict::Unhealthy { failure, detail, log } => return self.roll_back(failure, &detail, &log),
            Verdict::Stopped => {
                // Nobody's fault: an orderly stop is not one of the cuts that are held against the image.
                kept.stopped = kept.stopped.saturating_add(1);
                self.keep_soak(&kept)?;
                return Err(AgentError::Stopped);
            }
        }
        self.tell(&Event::new(attempt.number, AttemptState::Booted))?;
        self.journal.append(&Record::Booted)?;
        failpoint("agent.journal.booted");
        self.begin_soak(&attempt)
    }

    /// Runs the check command on the new image: `boot` for the first time, `soak` later.
    pub(crate) fn run_check(&self, attempt: &Attempt, phase: &str) -> Verdict {
        let path = slot::path(&self.state.slots(), &attempt.component, attempt.slot);
        let (slot, number) = (attempt.slot.to_string(), attempt.number.map(|number| number.to_string()));
        let environment = [
            ("SLUICE_SLOT", path.as_os_str()),
            ("SLUICE_SLOT_NAME", slot.as_ref()),
            ("SLUICE_COMPONENT", attempt.component.as_str().as_ref()),
            ("SLUICE_VERSION", attempt.to.version.as_str().as_ref()),
            ("SLUICE_FROM_VERSION", attempt.from.version.as_str().as_ref()),
            ("SLUICE_ATTEMPT", number.as_deref().unwrap_or_default().as_ref()),
            ("SLUICE_PHASE", phase.as_ref()),
        ];
        let timeout = Duration::from_secs(self.config.check.timeout_s.into());
        check::run(&self.host, &self.config.boot_check, &environment, timeout)
    }

    /// Leaves the new image.
    pub(crate) fn roll_back(&mut self, failure: Failure, detail: &str, log: &str) -> Result<(), AgentError> {
        if let Some(attempt) = self.journal.open_attempt() {
            self.note_failure(attempt, failure, log);
            (self.host.log)(&format!("leaving version {}: {}", attempt.to.version, shown(detail)));
            log.lines().for_each(|line| (self.host.log)(&format!("  {line}")));
        }
        let attempt = self.journal.append(&Record::RollingBack { detail: shown(detail) })?.clone();
        failpoint("agent.journal.rolling_back");
        self.rolled_back(&attempt)
    }

    /// Puts the pointer back; repeated after a kill.
    fn rolled_back(&mut self, attempt: &Attempt) -> Result<(), AgentError> {
        self.point_to(attempt, attempt.slot.other())?;
        self.boot.confirm(&attempt.component).map_err(AgentError::io(&self.state.slots()))?;
        failpoint("agent.pointer.restored");
        self.journal.append(&Record::RolledBack)?;
        failpoint("agent.journal.rolled_back");
        self.finish()
    }

    /// The poll on the new image was answered.
    pub(crate) fn healthy(&mut self) -> Result<(), AgentError> {
        self.journal.append(&Record::Healthy)?;
        failpoint("agent.journal.healthy");
        self.finish()
    }

    /// Ends the attempt before the switch.
    pub(crate) fn fail(&mut self, failure: Failure, detail: &str, bytes: u64) -> Result<(), AgentError> {
        if let Some(attempt) = self.journal.open_attempt() {
            self.note_failure(attempt, failure, &errors(attempt, detail));
        }
        self.journal.append(&Record::Failed { failure, detail: shown(detail), bytes })?;
        failpoint("agent.journal.failed");
        self.finish()
    }

    /// The offer is gone, or another one took its place.
    pub(crate) fn abandon(&mut self, detail: &str) -> Result<(), AgentError> {
        self.journal.append(&Record::Abandoned { detail: detail.to_owned() })?;
        self.finish()
    }

    /// Does what follows from an attempt's end; each part may be repeated after a kill.
    fn finish(&mut self) -> Result<(), AgentError> {
        let Some(attempt) = self.journal.open_attempt().cloned() else { return Ok(()) };
        let (number, detail) = (attempt.number, attempt.detail.as_deref());
        let note = self.failure_note(&attempt);
        let event = Event {
            bytes: Some(attempt.bytes),
            encoding: attempt.encoding,
            detail,
            failure: note.as_ref().map(|note| note.failure).or(attempt.failure),
            log: note.as_ref().and_then(|note| note.log.as_deref()),
            ..Event::new(number, AttemptState::Failed)
        };
        match attempt.phase {
            Phase::Healthy => {
                // Not sooner: a floor raised for an image that then proves bad would leave nothing to go back to.
                let slots = self.installed.component_mut(&self.state, &attempt.component)?;
                if attempt.to.security_counter > slots.security_floor {
                    slots.security_floor = attempt.to.security_counter;
                    self.installed.save(&self.state)?;
                }
                failpoint("agent.floor.raised");
                self.boot.confirm(&attempt.component).map_err(AgentError::io(&self.state.slots()))?;
                failpoint("agent.pointer.confirmed");
                self.tell(&Event { state: AttemptState::Healthy, ..event })?;
                remove(&self.state.soak())?;
            }
            Phase::RolledBack => {
                self.record_slot(&attempt, None)?;
                self.forget_answer()?;
                self.tell(&Event { state: AttemptState::RolledBack, ..event })?;
                remove(&self.state.soak())?;
            }
            Phase::Failed => {
                // A slot with a wrong image is worth nothing, and must not look like a download to go on with.
                slot::erase(&slot::path(&self.state.slots(), &attempt.component, attempt.slot))?;
                self.record_slot(&attempt, None)?;
                self.forget_answer()?;
                self.tell(&event)?;
            }
            // The slot keeps what it has: the same offer often comes back.
            Phase::Abandoned => self.forget_answer()?,
            _ => return Ok(()),
        }
        self.journal.append(&Record::Ended)?;
        failpoint("agent.journal.ended");
        Ok(())
    }

    /// Brings an interrupted attempt to the next place where only the server can help. Needs no network.
    pub(crate) fn recover(&mut self) -> Result<(), AgentError> {
        let Some(attempt) = self.journal.open_attempt().cloned() else { return Ok(()) };
        (self.host.log)(&format!("attempt at version {} goes on from `{}`", attempt.to.version, attempt.phase.name()));
        if attempt.is_before_switch() && self.active_slot(&attempt.component)? == attempt.slot {
            // Killed between the switch and its record.
            self.applied(&attempt)?;
        }
        let phase = self.journal.open_attempt().map(|attempt| attempt.phase);
        if matches!(phase, Some(Phase::Applied | Phase::Booted))
            && self.active_slot(&attempt.component)? != attempt.slot
        {
            // Its counter of boots ran out. What runs is the old image, and its health says nothing of the new one.
            return self.roll_back(Failure::BootFailed, "the boot loader went back to the old slot", "");
        }
        if phase == Some(Phase::Switching) && self.soak(&attempt).switches >= MAX_CUT_SHORT {
            // Each time the old image came up again before the new one had a word: it would go on like this for ever.
            let detail = format!("the machine came up on the old slot after {MAX_CUT_SHORT} switches");
            return self.roll_back(Failure::BootFailed, &detail, "");
        }
        match phase {
            Some(Phase::Applied) => self.boot(),
            Some(Phase::Booted) => self.look(),
            Some(Phase::RollingBack) => self.rolled_back(&attempt),
            _ => self.finish(),
        }
    }

    /// Records or forgets what the attempt's slot holds.
    pub(crate) fn record_slot(
        &mut self,
        attempt: &Attempt,
        image: Option<crate::installed::SlotImage>,
    ) -> Result<(), AgentError> {
        let slots = self.installed.component_mut(&self.state, &attempt.component)?;
        if slots.slot(attempt.slot) != image.as_ref() {
            slots.set(attempt.slot, image);
            self.installed.save(&self.state)?;
        }
        Ok(())
    }
}

/// What led to a failure before the switch, whole: the detail in the journal is cut short.
fn errors(attempt: &Attempt, detail: &str) -> String {
    let patch = attempt.fallback.as_ref().map(|why| format!("the patch was given up: {why}\n")).unwrap_or_default();
    clean_log(&format!("{patch}{detail}"), MAX_LOG_LEN)
}
