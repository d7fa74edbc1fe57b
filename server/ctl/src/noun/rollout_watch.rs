//! Follows a rollout: bars on a terminal, a line for each change elsewhere.

use std::io::{IsTerminal, stderr};
use std::thread;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use sluice_catalog::rollout::{AttemptState, RolloutState};
use sluice_catalog::text::Slug;
use sluice_catalog::wire::rollout::RolloutDetail;

use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::rollout::stage_text;

/// Looks at the rollout until it stands where it was to stand, or `looks` are used up. The last look is the result.
pub fn watch(
    session: &Session,
    name: &Slug,
    until: Option<RolloutState>,
    looks: Option<u32>,
    interval_s: u32,
) -> Result<(), Failure> {
    let path = path(&["rollouts", name.as_str()]);
    let display = Display::new();
    let mut seen = 0_u32;
    loop {
        let detail: RolloutDetail = session.client.get(&path, &[])?;
        display.show(&detail);
        let state = detail.rollout.state;
        if is_there(state, until) {
            display.end();
            return session.out.result(&detail, summary);
        }
        if let Some(until) = until
            && matches!(state, RolloutState::Halted | RolloutState::Done | RolloutState::RollingBack)
        {
            return Err(Failure::Refused(format!("rollout {name} is {}, never {}", state.as_str(), until.as_str())));
        }
        seen = seen.saturating_add(1);
        if looks.is_some_and(|looks| seen > looks) {
            return Err(Failure::TimedOut(format!("rollout {name} is still {}", summary(&detail))));
        }
        thread::sleep(Duration::from_secs(interval_s.into()));
    }
}

/// Whether a rollout stands where it was to stand.
fn is_there(state: RolloutState, until: Option<RolloutState>) -> bool {
    match until {
        None => matches!(state, RolloutState::Done | RolloutState::Halted | RolloutState::RollingBack),
        Some(RolloutState::Running) => state.makes_offers(),
        Some(until) => state == until,
    }
}

/// State, patches and attempts on one line.
fn summary(detail: &RolloutDetail) -> String {
    let (built, wanted) = patches(detail);
    let (healthy, failed, begun) = attempts(detail);
    format!(
        "{}; patches {built}/{wanted}; {healthy} of {begun} devices healthy, {failed} failed",
        stage_text(&detail.rollout)
    )
}

/// Patches that are settled, and all that are wanted.
fn patches(detail: &RolloutDetail) -> (u64, u64) {
    let patches = detail.patches;
    let settled = patches.ready.saturating_add(patches.not_worth).saturating_add(patches.parked);
    (count(settled), count(settled.saturating_add(patches.pending)))
}

/// Attempts that ended well, that ended badly, and all that were not superseded.
fn attempts(detail: &RolloutDetail) -> (u64, u64, u64) {
    let of = |state: AttemptState| detail.attempts.get(state.as_str()).copied().unwrap_or(0);
    let all = detail.attempts.values().fold(0_i64, |sum, count| sum.saturating_add(*count));
    let failed = of(AttemptState::Failed).saturating_add(of(AttemptState::RolledBack));
    (count(of(AttemptState::Healthy)), count(failed), count(all.saturating_sub(of(AttemptState::Superseded))))
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Where progress is shown: on standard error, and bars only for a person.
struct Display {
    bars: Option<(MultiProgress, ProgressBar, ProgressBar)>,
    last: std::cell::RefCell<String>,
}

impl Display {
    fn new() -> Self {
        let bars = stderr().is_terminal().then(|| {
            let all = MultiProgress::new();
            let bar = |name: &'static str| {
                let bar = all.add(ProgressBar::new(0).with_prefix(name));
                if let Ok(style) = ProgressStyle::with_template("{prefix:8} [{wide_bar}] {pos}/{len} {msg}") {
                    bar.set_style(style);
                }
                bar
            };
            let (patches, devices) = (bar("patches"), bar("healthy"));
            (all, patches, devices)
        });
        Self { bars, last: std::cell::RefCell::default() }
    }

    fn show(&self, detail: &RolloutDetail) {
        if let Some((_, patch_bar, device_bar)) = &self.bars {
            let (built, wanted) = patches(detail);
            patch_bar.set_length(wanted);
            patch_bar.set_position(built);
            let (healthy, failed, begun) = attempts(detail);
            device_bar.set_length(begun);
            device_bar.set_position(healthy);
            device_bar.set_message(format!("{failed} failed; {}", stage_text(&detail.rollout)));
            return;
        }
        let line = summary(detail);
        if *self.last.borrow() != line {
            eprintln!("{}: {line}", detail.rollout.name);
            self.last.replace(line);
        }
    }

    fn end(&self) {
        if let Some((_, patch_bar, device_bar)) = &self.bars {
            patch_bar.finish_and_clear();
            device_bar.finish_and_clear();
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
