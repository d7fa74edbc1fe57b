//! From a verified slot to a healthy device, or back: the switch, the check of the new image, the floor against rollback.

use std::process::{Command, Stdio};
use std::time::Duration;

use sluice_catalog::rollout::{AttemptState, Failure};

use crate::agent::Agent;
use crate::attempt::{Attempt, Phase, Record};
use crate::error::{AgentError, shown};
use crate::failpoint::failpoint;
use crate::report::Event;
use crate::slot;

/// Checks of a new image that may be cut short (a kill, a power cut) before it counts as one that does not come up.
const MAX_BOOT_TRIES: u32 = 3;
/// Longest a boot check may run.
const BOOT_CHECK_TIMEOUT: Duration = Duration::from_mins(2);
/// How often a running boot check is looked at.
const BOOT_CHECK_INTERVAL: Duration = Duration::from_millis(50);

impl Agent<'_> {
    /// Puts the pointer on the verified slot. The caller has just had the offer confirmed by a fresh answer.
    pub(crate) fn switch(&mut self, attempt: &Attempt) -> Result<(), AgentError> {
        if attempt.phase == Phase::Verified {
            self.journal.append(&Record::Switching)?;
            failpoint("agent.journal.switching");
        }
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
        let unhealthy = if attempt.boot_tries > MAX_BOOT_TRIES {
            Some(format!("its check was cut short {MAX_BOOT_TRIES} times"))
        } else {
            self.boot_check(&attempt)?
        };
        if let Some(detail) = unhealthy {
            return self.roll_back(&detail);
        }
        self.tell(&Event::new(attempt.number, AttemptState::Booted))?;
        self.journal.append(&Record::Booted)?;
        failpoint("agent.journal.booted");
        Ok(())
    }

    /// `None` when the new image is fine, else what is wrong with it.
    fn boot_check(&self, attempt: &Attempt) -> Result<Option<String>, AgentError> {
        let path = slot::path(&self.state.slots(), &attempt.component, attempt.slot);
        if slot::digest(&path)? != Some((attempt.to.length, attempt.to.sha256)) {
            return Ok(Some("the slot no longer has the digest of its image".to_owned()));
        }
        let Some((program, arguments)) = self.config.boot_check.split_first() else { return Ok(None) };
        let spawned = Command::new(program)
            .args(arguments)
            .env("SLUICE_SLOT", &path)
            .env("SLUICE_COMPONENT", attempt.component.as_str())
            .env("SLUICE_VERSION", attempt.to.version.as_str())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => return Ok(Some(format!("boot_check {program}: {error}"))),
        };
        let looks = BOOT_CHECK_TIMEOUT.as_millis() / BOOT_CHECK_INTERVAL.as_millis();
        for _ in 0..looks {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(None),
                Ok(Some(status)) => return Ok(Some(format!("boot_check {program}: {status}"))),
                Ok(None) => std::thread::sleep(BOOT_CHECK_INTERVAL),
                Err(error) => return Ok(Some(format!("boot_check {program}: {error}"))),
            }
        }
        // It may have ended meanwhile; then there is nothing to kill.
        let _ = child.kill();
        let _ = child.wait();
        Ok(Some(format!("boot_check {program}: no answer within {} s", BOOT_CHECK_TIMEOUT.as_secs())))
    }

    /// Leaves the new image.
    pub(crate) fn roll_back(&mut self, detail: &str) -> Result<(), AgentError> {
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
        let event = Event {
            bytes: Some(attempt.bytes),
            encoding: attempt.encoding,
            detail,
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
            }
            Phase::RolledBack => {
                self.record_slot(&attempt, None)?;
                self.forget_answer()?;
                self.tell(&Event { state: AttemptState::RolledBack, failure: attempt.failure, ..event })?;
            }
            Phase::Failed => {
                // A slot with a wrong image is worth nothing, and must not look like a download to go on with.
                slot::erase(&slot::path(&self.state.slots(), &attempt.component, attempt.slot))?;
                self.record_slot(&attempt, None)?;
                self.forget_answer()?;
                self.tell(&Event { failure: attempt.failure, ..event })?;
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
        match self.journal.open_attempt().map(|attempt| attempt.phase) {
            Some(Phase::Applied) => self.boot(),
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
