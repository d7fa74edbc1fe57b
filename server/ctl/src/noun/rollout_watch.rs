//! Follows a rollout: a picture on a terminal, a line for each change elsewhere, a line of JSON for each state with `--json`.

use std::cell::RefCell;
use std::io::{IsTerminal, Write as _, stderr, stdout};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use sluice_catalog::Kind;
use sluice_catalog::rollout::{AttemptState, RolloutState};
use sluice_catalog::text::Slug;
use sluice_catalog::wire::live::RolloutLive;
use sluice_catalog::wire::rollout::RolloutDetail;

use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::rollout::stage_text;
use crate::noun::rollout_picture::{line, picture};

/// Times in a row that the server may not answer before the watch is given up: some minutes, in which it can start again.
const MAX_SILENT: u32 = 12;
/// Streams in a row that the server ends without a word, after which it is said.
const UNTOLD: u32 = 2;
/// Wait after the first time; doubles with each.
const BACKOFF_MS: u64 = 250;
/// Longest wait.
const BACKOFF_MAX_MS: u64 = 30_000;
/// A stream is asked for anew after so long: a connection that is dead without a sign is found so.
const PIECE: Duration = Duration::from_mins(2);

/// Follows the rollout until it stands where it was to stand, or the time is over. The last state is the result.
pub fn watch(
    session: &Session,
    name: &Slug,
    until: Option<RolloutState>,
    timeout_s: Option<u32>,
    interval_s: u32,
) -> Result<(), Failure> {
    let started = now();
    let left = || timeout_s.map(|timeout| Duration::from_secs(timeout.into()).saturating_sub(started.elapsed()));
    let live = path(&["rollouts", name.as_str(), "live"]);
    let display = Display::new(session.out.json);
    let (mut seen, mut last, mut silent, mut untold) = (None::<String>, None::<RolloutLive>, 0, 0);
    loop {
        let (mut ended, mut heard, mut told_anything) = (None, false, false);
        let asked = now();
        let piece = left().map_or(PIECE, |left| left.min(PIECE));
        let resume = seen.clone();
        let told = session.client.events(&live, resume.as_deref(), piece, &mut |event| {
            heard = true;
            let Some((id, json)) = event else { return Ok(true) };
            told_anything = true;
            let state: RolloutLive = serde_json::from_str(json)?;
            display.show(&state, json)?;
            seen = Some(id.to_owned());
            ended = end(name, state.state, until);
            last = Some(state);
            Ok(ended.is_none())
        });
        match ended {
            Some(Ok(())) => {
                display.end();
                return last.map_or(Ok(()), |state| session.out.last(&line(&state)));
            }
            Some(Err(failure)) => return Err(failure),
            None => {}
        }
        if left().is_some_and(|left| left.is_zero()) {
            let stands = last.as_ref().map_or_else(|| "not seen".to_owned(), line);
            return Err(Failure::TimedOut(format!("rollout {name} is still {stands}")));
        }
        silent = if heard { 0 } else { silent + 1 };
        // The server ended the stream by itself: it cannot look at the rollout, or it stops.
        let cut = told.is_ok() && !told_anything && asked.elapsed() < piece;
        untold = if cut { untold + 1 } else { 0 };
        if untold == UNTOLD {
            session.out.note(&format!("the server tells nothing of rollout {name}; its log may say why; asking again"));
        }
        match told {
            // A server that has no live view, or no such rollout: asking tells which.
            Err(Failure::Problem(problem)) if problem.kind == Kind::NotFound => {
                return look(session, name, until, timeout_s.map(|timeout| timeout.div_ceil(interval_s)), interval_s);
            }
            Err(failure) if !failure.is_transient() || silent >= MAX_SILENT => return Err(failure),
            Err(failure) if silent == 1 => session.out.note(&format!("{failure}; trying again")),
            _ => {}
        }
        let wait = Duration::from_millis((BACKOFF_MS << silent.min(16)).min(BACKOFF_MAX_MS));
        thread::sleep(left().map_or(wait, |left| left.min(wait)));
    }
}

/// Whether this state ends the watch, and how.
fn end(name: &Slug, state: RolloutState, until: Option<RolloutState>) -> Option<Result<(), Failure>> {
    if is_there(state, until) {
        return Some(Ok(()));
    }
    let ended = matches!(state, RolloutState::Halted | RolloutState::Done | RolloutState::RollingBack);
    until
        .filter(|_| ended)
        .map(|until| Err(Failure::Refused(format!("rollout {name} is {}, never {}", state.as_str(), until.as_str()))))
}

/// Whether a rollout stands where it was to stand.
fn is_there(state: RolloutState, until: Option<RolloutState>) -> bool {
    match until {
        None => matches!(state, RolloutState::Done | RolloutState::Halted | RolloutState::RollingBack),
        Some(RolloutState::Running) => state.makes_offers(),
        Some(until) => state == until,
    }
}

/// Looks at the rollout of a server without a live view, now and again.
fn look(
    session: &Session,
    name: &Slug,
    until: Option<RolloutState>,
    looks: Option<u32>,
    interval_s: u32,
) -> Result<(), Failure> {
    let path = path(&["rollouts", name.as_str()]);
    let (mut seen, mut last) = (0_u32, String::new());
    loop {
        let detail: RolloutDetail = session.client.get(&path, &[])?;
        let line = summary(&detail);
        match end(name, detail.rollout.state, until) {
            Some(Ok(())) => return session.out.result(&detail, summary),
            Some(Err(failure)) => return Err(failure),
            None => {}
        }
        if last != line {
            eprintln!("{name}: {line}");
            last.clone_from(&line);
        }
        seen = seen.saturating_add(1);
        if looks.is_some_and(|looks| seen > looks) {
            return Err(Failure::TimedOut(format!("rollout {name} is still {line}")));
        }
        thread::sleep(Duration::from_secs(interval_s.into()));
    }
}

/// State, patches and attempts on one line.
fn summary(detail: &RolloutDetail) -> String {
    let (patches, of) =
        (detail.patches, |state: AttemptState| detail.attempts.get(state.as_str()).copied().unwrap_or(0));
    let settled = patches.ready.saturating_add(patches.not_worth).saturating_add(patches.parked);
    let all = detail.attempts.values().fold(0_i64, |sum, count| sum.saturating_add(*count));
    format!(
        "{}; patches {settled}/{}; {} of {} devices healthy, {} failed",
        stage_text(&detail.rollout),
        settled.saturating_add(patches.pending),
        of(AttemptState::Healthy),
        all.saturating_sub(of(AttemptState::Superseded)),
        of(AttemptState::Failed).saturating_add(of(AttemptState::RolledBack))
    )
}

#[expect(clippy::disallowed_methods, reason = "a person's patience; decides nothing else")]
fn now() -> Instant {
    Instant::now()
}

/// Where progress is shown: to people on standard error, to programs on standard output.
struct Display {
    json: bool,
    screen: Option<MultiProgress>,
    lines: RefCell<Vec<ProgressBar>>,
}

impl Display {
    fn new(json: bool) -> Self {
        let screen = (!json && stderr().is_terminal()).then(MultiProgress::new);
        Self { json, screen, lines: RefCell::default() }
    }

    fn show(&self, state: &RolloutLive, json: &str) -> Result<(), Failure> {
        if self.json {
            let mut out = stdout().lock();
            writeln!(out, "{json}")?;
            out.flush()?;
        } else if let Some(screen) = &self.screen {
            let picture = picture(state);
            let mut lines = self.lines.borrow_mut();
            while lines.len() < picture.len() {
                let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
                lines.push(screen.add(ProgressBar::new(0).with_style(style)));
            }
            let empty = std::iter::repeat_with(String::new);
            for (bar, text) in lines.iter().zip(picture.into_iter().chain(empty)) {
                bar.set_message(text);
                bar.tick();
            }
        } else {
            eprintln!("{}: {}", state.name, line(state));
        }
        Ok(())
    }

    fn end(&self) {
        if let Some(screen) = &self.screen {
            // The picture is gone; the result is printed after it.
            let _ = screen.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_ends_where_it_was_to_end() {
        assert!(is_there(RolloutState::Done, None));
        assert!(is_there(RolloutState::Halted, None));
        assert!(!is_there(RolloutState::Running, None));
        assert!(is_there(RolloutState::Running, Some(RolloutState::Running)));
        assert!(is_there(RolloutState::Done, Some(RolloutState::Running)), "it has run");
        assert!(!is_there(RolloutState::Preparing, Some(RolloutState::Running)));
        assert!(is_there(RolloutState::Paused, Some(RolloutState::Paused)));
    }
}
