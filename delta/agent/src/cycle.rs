//! One full round: finish what an earlier start left, poll, update if something is offered, report.

use serde::Serialize;
use sluice_catalog::rollout::{AttemptState, Failure};
use sluice_catalog::text::{Component, Version};

use crate::agent::Agent;
use crate::attempt::{Attempt, Encoding, Phase, Record};
use crate::error::{AgentError, EXIT_OK, EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_UPDATE_FAILED};
use crate::failpoint::failpoint;
use crate::install::InstallError;
use crate::offer::Plan;
use crate::poll::Answer;
use crate::report::Event;
use crate::slot;
use crate::state::remove;

/// Cycles in which one download may break before the attempt counts as failed.
const MAX_INTERRUPTIONS: u32 = 50;
/// Times in one cycle that expired download URLs are renewed.
const MAX_URL_RENEWALS: u32 = 8;

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The device runs what it should.
    UpToDate,
    /// Nothing is offered; `reason` says why.
    NothingOffered,
    /// The device runs the new version and is healthy.
    Updated,
    /// The device runs the new version; the last poll on it was not answered.
    Unconfirmed,
    /// The device runs the new version, which passes its check, and has not done so for long enough.
    Soaking,
    /// The offer was taken back before the switch.
    Withdrawn,
    /// The update failed before the switch; the old version runs.
    Failed,
    /// The new version was not healthy; the old version runs.
    RolledBack,
    /// Signed metadata or the offer was refused; nothing changed.
    Refused,
    /// The server could not be reached; nothing was lost.
    Unreachable,
    /// The server does not admit the device.
    Denied,
    /// The process was asked to stop.
    Stopped,
    /// Trouble on this machine.
    Error,
}

/// What a round did, for `--json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CycleReport {
    /// How it ended.
    pub outcome: Outcome,
    /// The component that was to be updated.
    pub component: Option<Component>,
    /// The version that ran before.
    pub from: Option<Version>,
    /// The version offered.
    pub to: Option<Version>,
    /// How the image was carried.
    pub encoding: Option<Encoding>,
    /// Bytes downloaded for the attempt.
    pub bytes_downloaded: u64,
    /// Bytes that the full image would have taken to download.
    pub full_length: Option<u64>,
    /// The server's reason code.
    pub reason: Option<String>,
    /// The attempt's number.
    pub attempt: Option<i32>,
    /// Whether a patch was given up for the full image.
    pub fallback: bool,
    /// What happened, in words.
    pub detail: Option<String>,
    /// The server's note.
    pub notice: Option<String>,
    /// Seconds to the next poll, as the server wishes.
    pub next_poll_s: Option<u32>,
}

impl CycleReport {
    fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            component: None,
            from: None,
            to: None,
            encoding: None,
            bytes_downloaded: 0,
            full_length: None,
            reason: None,
            attempt: None,
            fallback: false,
            detail: None,
            notice: None,
            next_poll_s: None,
        }
    }

    fn of_answer(outcome: Outcome, answer: &Answer) -> Self {
        Self {
            reason: Some(answer.document.reason.clone()),
            notice: answer.notice.clone(),
            next_poll_s: Some(answer.next_poll_s),
            ..Self::new(outcome)
        }
    }

    fn of_attempt(self, attempt: &Attempt) -> Self {
        Self {
            component: Some(attempt.component.clone()),
            from: Some(attempt.from.version.clone()),
            to: Some(attempt.to.version.clone()),
            encoding: attempt.encoding,
            bytes_downloaded: attempt.bytes,
            full_length: Some(attempt.full_length),
            attempt: attempt.number,
            fallback: attempt.fallback.is_some(),
            detail: attempt.detail.clone().or_else(|| attempt.fallback.clone()),
            ..self
        }
    }

    /// A round that ended with an error.
    pub fn of_error(error: &AgentError) -> Self {
        let outcome = match error {
            error if error.is_refusal() => Outcome::Refused,
            AgentError::Unreachable { .. } | AgentError::Protocol { .. } => Outcome::Unreachable,
            AgentError::Denied { .. } | AgentError::NotEnrolled => Outcome::Denied,
            AgentError::Stopped => Outcome::Stopped,
            _ => Outcome::Error,
        };
        Self { detail: Some(error.to_string()), ..Self::new(outcome) }
    }

    /// The exit code that `docs/agent.md` documents, for a round without an error.
    pub const fn exit_code(&self) -> u8 {
        match self.outcome {
            Outcome::Unconfirmed | Outcome::Unreachable => EXIT_UNREACHABLE,
            Outcome::Failed | Outcome::RolledBack => EXIT_UPDATE_FAILED,
            Outcome::Refused => EXIT_REFUSED,
            _ => EXIT_OK,
        }
    }
}

impl Agent<'_> {
    /// One round.
    pub fn cycle(&mut self) -> Result<CycleReport, AgentError> {
        self.session_renewed = false;
        self.delivery_failed = false;
        self.certificate_hint = None;
        let ended = self.round();
        // After the update, which must not wait for it.
        let ended = match ended {
            Ok(report) => self.refresh_entitlement().map(|()| report),
            failed => failed,
        };
        // Whatever happened, the server should hear of it now rather than at the next poll.
        match self.try_deliver() {
            Err(AgentError::Stopped | AgentError::NotEnrolled) | Ok(()) => ended,
            Err(error) => ended.and(Err(error)),
        }
    }

    fn round(&mut self) -> Result<CycleReport, AgentError> {
        let was_open = self.journal.open_attempt().is_some();
        self.recover()?;
        if was_open
            && self.journal.open_attempt().is_none()
            && let Some(report) = self.ended_in_recovery()
        {
            return Ok(report);
        }
        let answer = match self.poll() {
            Err(error @ (AgentError::Unreachable { .. } | AgentError::Protocol { .. })) => {
                return self.unanswered(error);
            }
            other => other?,
        };
        if self.journal.open_attempt().is_some_and(|attempt| attempt.phase == Phase::Booted) {
            return self.answered_by(&answer);
        }
        let plan = match self.plan(&answer) {
            Ok(plan) => plan,
            Err(error) => return self.refuse(&answer, error),
        };
        let Some(plan) = plan else {
            if self.journal.open_attempt().is_some() {
                self.abandon("the server no longer offers it")?;
                return Ok(self.report(Outcome::Withdrawn, &answer));
            }
            let nothing = answer.document.targets.is_empty() && answer.document.reason != "UP_TO_DATE";
            let outcome = if nothing { Outcome::NothingOffered } else { Outcome::UpToDate };
            return Ok(CycleReport::of_answer(outcome, &answer));
        };
        self.update(answer, plan)
    }

    /// A poll on the new image was answered: it is healthy when it has soaked.
    fn answered_by(&mut self, answer: &Answer) -> Result<CycleReport, AgentError> {
        if self.soaked {
            self.healthy()?;
            return Ok(self.report(Outcome::Updated, answer));
        }
        if let Some(attempt) = self.journal.open_attempt() {
            self.answered(attempt)?;
        }
        Ok(self.report(Outcome::Soaking, answer))
    }

    /// An attempt that an earlier start left between its end and the record of it is this round's result.
    pub(crate) fn ended_in_recovery(&self) -> Option<CycleReport> {
        let attempt = self.journal.last()?;
        let outcome = match attempt.phase {
            Phase::RolledBack => Outcome::RolledBack,
            Phase::Failed => Outcome::Failed,
            // The others go on with a poll: there may be more to do.
            _ => return None,
        };
        Some(CycleReport::new(outcome).of_attempt(attempt))
    }

    fn report(&self, outcome: Outcome, answer: &Answer) -> CycleReport {
        let report = CycleReport::of_answer(outcome, answer);
        match self.journal.last() {
            Some(attempt) => report.of_attempt(attempt),
            None => report,
        }
    }

    /// A poll without answer. On a new image that has not been answered yet it counts: an image that took the network away
    /// must be left.
    fn unanswered(&mut self, error: AgentError) -> Result<CycleReport, AgentError> {
        if !self.journal.open_attempt().is_some_and(|attempt| attempt.phase == Phase::Booted) {
            return Err(error);
        }
        let attempt = self.journal.append(&Record::Unanswered)?.clone();
        let limit = self.config.poll.max_unanswered;
        if limit > 0 && attempt.unanswered.saturating_sub(self.soak(&attempt).answered) >= limit {
            let detail = format!("{limit} polls in a row got no answer on the new image; the last: {error}");
            self.roll_back(Failure::NoAnswer, &detail, "")?;
            return Ok(self.ended_in_recovery().unwrap_or_else(|| CycleReport::new(Outcome::RolledBack)));
        }
        let report = CycleReport::new(Outcome::Unconfirmed).of_attempt(&attempt);
        Ok(CycleReport { detail: Some(error.to_string()), ..report })
    }

    /// The offer is not taken. The server hears of it, because its stop rules count refusals.
    fn refuse(&mut self, answer: &Answer, error: AgentError) -> Result<CycleReport, AgentError> {
        let failure = match &error {
            AgentError::Refused { .. } => Failure::MetadataRejected,
            AgentError::Disagreed(_) | AgentError::OfferRefused(_) => Failure::PolicyRejected,
            _ => return Err(error),
        };
        let detail = error.to_string();
        if self.journal.open_attempt().is_some_and(Attempt::is_before_switch) {
            self.fail(failure, &detail, 0)?;
        } else {
            self.tell(&Event {
                failure: Some(failure),
                detail: Some(&detail),
                ..Event::new(answer.attempt, AttemptState::Failed)
            })?;
        }
        self.forget_answer()?;
        Err(error)
    }

    fn update(&mut self, answer: Answer, plan: Plan) -> Result<CycleReport, AgentError> {
        if let Some(report) = self.failed_before(&answer, &plan)? {
            return Ok(report);
        }
        self.begin(&plan)?;
        self.try_deliver()?;
        let (mut answer, mut plan) = (answer, plan);
        let mut renewals = 0;
        while let Some(attempt) = self.journal.open_attempt().cloned().filter(|it| it.phase == Phase::Downloading) {
            match self.write_slot(&plan, &attempt) {
                Ok(written) => {
                    self.record_slot(&attempt, Some(plan.to.clone()))?;
                    failpoint("agent.slot.recorded");
                    let bytes = attempt.bytes.saturating_add(written.bytes);
                    self.tell(&Event {
                        encoding: written.encoding,
                        bytes: Some(bytes),
                        ..Event::new(attempt.number, AttemptState::Verified)
                    })?;
                    self.journal.append(&Record::Verified { encoding: written.encoding, bytes: written.bytes })?;
                    failpoint("agent.journal.verified");
                    self.try_deliver()?;
                }
                Err(InstallError::Patch { detail, at_fault, bytes }) => {
                    self.fall_back(&plan, &attempt, &detail, at_fault, bytes)?;
                }
                Err(InstallError::Expired { bytes }) if renewals < MAX_URL_RENEWALS => {
                    self.journal.append(&Record::Interrupted { bytes })?;
                    renewals += 1;
                    (self.host.log)("the download URL is no longer good; asking for another");
                    match self.ask_again(&plan)? {
                        Confirmed::Same(fresh, again) => (answer, plan) = (*fresh, *again),
                        Confirmed::Gone(report) => return Ok(*report),
                    }
                }
                Err(InstallError::Expired { bytes }) => {
                    return self.interrupted(bytes, "every new download URL was refused as well".to_owned());
                }
                Err(InstallError::Interrupted { bytes, detail }) => return self.interrupted(bytes, detail),
                Err(InstallError::Failed { failure, detail, bytes }) => {
                    self.fail(failure, &detail, bytes)?;
                    return Ok(self.report(Outcome::Failed, &answer));
                }
                Err(InstallError::Local(error)) => return Err(error),
            }
        }
        self.activate(&plan)
    }

    /// The fresh word right before the switch, the switch, and the first poll of the new image.
    fn activate(&mut self, plan: &Plan) -> Result<CycleReport, AgentError> {
        let answer = match self.ask_again(plan)? {
            Confirmed::Same(fresh, _) => *fresh,
            Confirmed::Gone(report) => return Ok(*report),
        };
        let reason = Some(answer.document.reason.clone());
        let Some(attempt) = self.journal.open_attempt().cloned() else {
            return Ok(CycleReport::of_answer(Outcome::UpToDate, &answer));
        };
        let path = slot::path(&self.state.slots(), &attempt.component, attempt.slot);
        if slot::digest(&path)? != Some((attempt.to.length, attempt.to.sha256)) {
            self.fail(Failure::DigestMismatch, "the slot lost the digest that was verified", 0)?;
            return Ok(self.report(Outcome::Failed, &answer));
        }
        self.switch(&attempt)?;
        self.boot()?;
        if self.journal.open_attempt().is_none() {
            return Ok(self.report(Outcome::RolledBack, &answer));
        }
        self.try_deliver()?;
        match self.poll() {
            // Why it was offered says more than that there is nothing further.
            Ok(answer) => Ok(CycleReport { reason, ..self.answered_by(&answer)? }),
            Err(error @ (AgentError::Unreachable { .. } | AgentError::Protocol { .. })) => self.unanswered(error),
            Err(error) => Err(error),
        }
    }

    /// Polls afresh, with a nonce, and says whether the offer still stands.
    fn ask_again(&mut self, plan: &Plan) -> Result<Confirmed, AgentError> {
        let answer = self.poll_fresh()?;
        let again = match self.plan(&answer) {
            Ok(again) => again,
            Err(error) => return self.refuse(&answer, error).map(|report| Confirmed::Gone(Box::new(report))),
        };
        match again {
            Some(again) if again.to.sha256 == plan.to.sha256 && again.component == plan.component => {
                self.renumber(again.attempt)?;
                Ok(Confirmed::Same(Box::new(answer), Box::new(again)))
            }
            _ => {
                self.abandon("the server took the offer back before the switch")?;
                Ok(Confirmed::Gone(Box::new(self.report(Outcome::Withdrawn, &answer))))
            }
        }
    }

    fn renumber(&mut self, number: Option<i32>) -> Result<(), AgentError> {
        if self.journal.open_attempt().is_some_and(|attempt| attempt.number != number) {
            self.journal.append(&Record::Renumbered { attempt: number })?;
        }
        Ok(())
    }

    /// The same offer under the same number that has failed here already: the server has not heard of it yet.
    fn failed_before(&mut self, answer: &Answer, plan: &Plan) -> Result<Option<CycleReport>, AgentError> {
        let Some(last) = self.journal.last().cloned().filter(|last| last.ended) else { return Ok(None) };
        let same = last.number.is_some() && last.number == plan.attempt && last.to.sha256 == plan.to.sha256;
        let outcome = match last.phase {
            Phase::Failed if same => Outcome::Failed,
            Phase::RolledBack if same => Outcome::RolledBack,
            _ => return Ok(None),
        };
        let state = if outcome == Outcome::Failed { AttemptState::Failed } else { AttemptState::RolledBack };
        let note = self.failure_note(&last);
        self.tell(&Event {
            failure: note.as_ref().map(|note| note.failure).or(last.failure),
            detail: last.detail.as_deref(),
            log: note.as_ref().and_then(|note| note.log.as_deref()),
            ..Event::new(last.number, state)
        })?;
        self.forget_answer()?;
        Ok(Some(self.report(outcome, answer)))
    }

    /// Opens the attempt, or goes on with the open one when it is about the same image.
    fn begin(&mut self, plan: &Plan) -> Result<(), AgentError> {
        let same = |open: &Attempt| {
            open.to.sha256 == plan.to.sha256 && open.component == plan.component && open.slot == plan.slot
        };
        if self.journal.open_attempt().is_some_and(same) {
            self.renumber(plan.attempt)?;
        } else {
            if self.journal.open_attempt().is_some() {
                self.abandon("another offer took its place")?;
            }
            self.journal.append(&Record::Begun {
                attempt: plan.attempt,
                component: plan.component.clone(),
                slot: plan.slot,
                from: plan.from.clone(),
                to: plan.to.clone(),
                full_length: plan.target.full.length,
            })?;
            failpoint("agent.journal.begun");
            // What was kept of an older attempt at the same image is not of this one.
            remove(&self.state.soak())?;
            remove(&self.state.failure())?;
        }
        let Some(attempt) = self.journal.open_attempt().filter(|it| it.phase == Phase::Downloading).cloned() else {
            return Ok(());
        };
        // From here on the slot's content is in question; what it is will be known again when it is verified.
        let recorded = self.installed.component(&self.state, &plan.component)?.slot(plan.slot);
        if recorded.is_some_and(|image| image.sha256 != plan.to.sha256) {
            self.record_slot(&attempt, None)?;
            slot::erase(&slot::path(&self.state.slots(), &plan.component, plan.slot))?;
        }
        failpoint("agent.slot.erased");
        self.tell(&Event::new(plan.attempt, AttemptState::Downloading))
    }

    /// Gives the patch up and says so; the full image follows in the same attempt.
    fn fall_back(
        &mut self,
        plan: &Plan,
        attempt: &Attempt,
        detail: &str,
        at_fault: bool,
        bytes: u64,
    ) -> Result<(), AgentError> {
        (self.host.log)(&format!("the patch is not usable: {detail}; taking the full image"));
        self.tell(&Event {
            failure: at_fault.then_some(Failure::DeltaMismatch),
            encoding: Some(Encoding::Patch),
            bytes: Some(attempt.bytes.saturating_add(bytes)),
            detail: Some(detail),
            ..Event::new(attempt.number, AttemptState::Downloading)
        })?;
        self.journal.append(&Record::Fallback { detail: crate::error::shown(detail), bytes })?;
        failpoint("agent.journal.fallback");
        slot::erase(&slot::path(&self.state.slots(), &plan.component, plan.slot))?;
        self.try_deliver()
    }

    /// The download broke; the next round goes on with it, but not for ever.
    fn interrupted(&mut self, bytes: u64, detail: String) -> Result<CycleReport, AgentError> {
        let attempt = self.journal.append(&Record::Interrupted { bytes })?.clone();
        if attempt.interruptions < MAX_INTERRUPTIONS {
            return Err(AgentError::Unreachable { what: format!("version {}", attempt.to.version), detail });
        }
        self.fail(Failure::DownloadFailed, &format!("broke {MAX_INTERRUPTIONS} times; the last: {detail}"), 0)?;
        Ok(self.journal.last().map_or_else(
            || CycleReport::new(Outcome::Failed),
            |attempt| CycleReport::new(Outcome::Failed).of_attempt(attempt),
        ))
    }
}

/// Whether the offer still stands right before the switch.
enum Confirmed {
    /// It does; the answer and the plan that it makes now.
    Same(Box<Answer>, Box<Plan>),
    /// It does not.
    Gone(Box<CycleReport>),
}
