//! The check of a new image, again and again while it soaks: when it counts as healthy, and every way back.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use sluice_agent::slot::Slot;
use sluice_agent::{AgentError, BootControl, Config, CycleReport, Outcome, status};
use sluice_catalog::rollout::AttemptState::{self, Applied, Booted, Downloading, Healthy, RolledBack, Verified};
use sluice_catalog::rollout::Failure;
use sluice_signer::FullEncoding;

use crate::device::{Device, noon, setting_at};
use crate::kill::real_now;
use crate::server::Server;
use crate::world::World;

const MINUTE_MS: u64 = 60_000;

/// A device whose check looks at files: it fails when `fail` is there, and notes each run in `runs`.
struct Checked {
    folder: tempfile::TempDir,
    world: World,
    server: Server,
    device: Device,
}

impl Checked {
    /// How the first two rounds of the loop end, of which something may be done after the first.
    fn two_rounds(&self, between: impl Fn()) -> Vec<Outcome> {
        let mut told = Vec::new();
        let mut note = |outcome| {
            told.push(outcome);
            match told.len() {
                1 => between(),
                _ => self.device.stop.store(true, Ordering::Relaxed),
            }
        };
        self.device.with_agent(|agent| agent.run(None, |ended| note(ended.as_ref().unwrap().outcome))).unwrap();
        told
    }

    /// A device that is offered 2.0, with ten minutes of soak and a check a minute.
    fn new() -> Self {
        Self::at(noon())
    }

    fn at(now: Timestamp) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display().to_string();
        let script = format!(
            "echo $SLUICE_PHASE $SLUICE_SLOT_NAME $SLUICE_FROM_VERSION $SLUICE_ATTEMPT >> {at}/runs; \
             if test -e {at}/fail; then echo no link; exit 7; fi"
        );
        let (world, server, device) = setting_at(now, |wanted| {
            wanted.boot_check = ["sh", "-c", &script].map(str::to_owned).to_vec();
            wanted.check.soak_s = 600;
        });
        server.offer(4, world.offer("2.0", None, FullEncoding::Zstd));
        Self { folder, world, server, device }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// From now on the check fails.
    fn break_it(&self) {
        std::fs::write(self.path("fail"), "").unwrap();
    }

    fn runs(&self) -> usize {
        std::fs::read_to_string(self.path("runs")).unwrap_or_default().lines().count()
    }

    fn reported(&self) -> Vec<AttemptState> {
        self.server.script().reports.iter().map(|event| event.state).collect()
    }

    #[track_caller]
    fn once_is(&self, outcome: Outcome) -> CycleReport {
        let report = self.device.once().unwrap();
        assert_eq!(report.outcome, outcome, "{report:?}");
        report
    }

    /// Went back, and said so with this code.
    #[track_caller]
    fn assert_went_back(&self, failure: Failure) {
        self.device.assert_runs(&self.world, "1.0");
        let script = self.server.script();
        let last = script.reports.last().unwrap();
        assert_eq!((last.attempt, last.state, last.failure), (4, RolledBack, Some(failure)));
        assert!(!script.reports.iter().any(|event| event.state == Healthy));
    }

    fn set(&self, change: impl FnOnce(&mut Config)) {
        let mut config = Config::load(&self.device.state).unwrap();
        change(&mut config);
        config.save(&self.device.state).unwrap();
    }
}

#[test]
fn a_device_is_healthy_after_its_soak_and_not_sooner() {
    let checked = Checked::new();
    let report = checked.once_is(Outcome::Soaking);
    assert_eq!((report.exit_code(), report.to.unwrap().as_str()), (0, "2.0"));
    assert_eq!(checked.reported(), [Downloading, Verified, Applied, Booted]);
    let floor = || status::status(&checked.device.state, &checked.device.boot()).unwrap().components[0].security_floor;
    let soak = || status::status(&checked.device.state, &checked.device.boot()).unwrap().last_attempt.unwrap().soak;
    let pointer = || std::fs::read_to_string(checked.device.state.slots().join("main.pointer")).unwrap();
    assert_eq!((floor(), pointer().as_str()), (3, "b trial\n"), "on trial as long as it soaks");
    for minute in 1..10 {
        checked.device.run_for_ms(MINUTE_MS);
        checked.once_is(Outcome::Soaking);
        let soak = soak().unwrap();
        assert_eq!((soak.soaked_s, soak.of_s), (60 * minute, 600));
    }
    checked.device.run_for_ms(MINUTE_MS - 1);
    checked.once_is(Outcome::Soaking);
    assert_eq!(checked.runs(), 10);
    checked.device.run_for_ms(1);
    checked.once_is(Outcome::Updated);
    assert_eq!(checked.runs(), 11, "a check at the end of it");
    assert_eq!(checked.reported(), [Downloading, Verified, Applied, Booted, Healthy]);
    assert_eq!((floor(), pointer().as_str(), soak()), (4, "b good\n", None));
    assert!(!checked.device.state.soak().exists());
    let told = std::fs::read_to_string(checked.path("runs")).unwrap();
    assert!(told.starts_with("boot b 1.0 4\nsoak b 1.0 4\n"), "{told}");
}

#[test]
fn the_first_failure_in_the_soak_leads_back() {
    let checked = Checked::new();
    checked.once_is(Outcome::Soaking);
    checked.device.run_for_ms(2 * MINUTE_MS);
    checked.once_is(Outcome::Soaking);
    checked.break_it();
    checked.device.run_for_ms(MINUTE_MS - 1);
    checked.once_is(Outcome::Soaking);
    checked.device.run_for_ms(1);
    let report = checked.once_is(Outcome::RolledBack);
    let detail = "boot_check sh: exit status: 7, after 180 s of soak";
    assert_eq!((report.detail.as_deref(), report.exit_code()), (Some(detail), 10));
    checked.assert_went_back(Failure::CheckFailed);
    assert_eq!(checked.server.script().reports.last().unwrap().log.as_deref(), Some("no link\n"));
    assert!(!checked.device.state.soak().exists());
}

#[test]
fn a_device_that_keeps_its_logs_sends_none() {
    let checked = Checked::new();
    checked.set(|config| config.check.report_log = false);
    checked.break_it();
    checked.once_is(Outcome::RolledBack);
    checked.assert_went_back(Failure::CheckFailed);
    assert_eq!(checked.server.script().reports.last().unwrap().log, None);
}

#[test]
fn a_soak_goes_on_over_restarts_and_the_time_off_counts_for_nothing() {
    let checked = Checked::new();
    checked.once_is(Outcome::Soaking);
    checked.device.run_for_ms(5 * MINUTE_MS);
    checked.once_is(Outcome::Soaking);
    // Half a minute that nobody looked at, and the power is cut.
    checked.device.run_for_ms(MINUTE_MS / 2);
    checked.device.restart();
    let runs = checked.runs();
    checked.once_is(Outcome::Soaking);
    assert_eq!(checked.runs(), runs + 1, "checked at once after a restart");
    checked.device.run_for_ms(5 * MINUTE_MS - 1);
    checked.once_is(Outcome::Soaking);
    checked.device.run_for_ms(1);
    checked.once_is(Outcome::Updated);
}

#[test]
fn a_clock_that_jumps_neither_shortens_nor_lengthens_a_soak() {
    let checked = Checked::new();
    checked.once_is(Outcome::Soaking);
    let begun = checked.device.now.get();
    for minutes in [-1440, 40, -10, 30] {
        checked.device.now.set(begun + jiff::SignedDuration::from_mins(minutes));
        checked.device.run_for_ms(2 * MINUTE_MS);
        checked.once_is(Outcome::Soaking);
    }
    checked.device.now.set(begun);
    checked.device.run_for_ms(2 * MINUTE_MS);
    checked.once_is(Outcome::Updated);
}

#[test]
fn a_machine_that_starts_again_and_again_goes_back() {
    let checked = Checked::new();
    checked.once_is(Outcome::Soaking);
    for _ in 0..5 {
        checked.device.restart();
        checked.once_is(Outcome::Soaking);
    }
    checked.device.restart();
    checked.once_is(Outcome::RolledBack);
    checked.assert_went_back(Failure::BootFailed);
}

#[test]
fn a_machine_that_is_switched_off_at_night_may_soak_for_days() {
    let checked = Checked::new();
    checked.set(|config| config.check.max_restarts = 0);
    checked.once_is(Outcome::Soaking);
    for day in 1..=10 {
        checked.device.restart();
        checked.once_is(Outcome::Soaking);
        checked.device.run_for_ms(MINUTE_MS);
        checked.once_is(if day == 10 { Outcome::Updated } else { Outcome::Soaking });
    }
}

#[test]
fn a_boot_loader_that_went_back_by_itself_is_no_health() {
    for soaking in [false, true] {
        let checked = Checked::at(real_now());
        if soaking {
            checked.once_is(Outcome::Soaking);
        } else {
            let killed = checked.device.command(&["once"]).env("SLUICE_FAILPOINT", "agent.journal.applied").output();
            assert_eq!(killed.unwrap().status.code(), None);
        }
        // What runs now is the old image.
        checked.device.boot().switch(&"main".parse().unwrap(), Slot::A).unwrap();
        let runs = checked.runs();
        let report = checked.once_is(Outcome::RolledBack);
        assert_eq!(report.detail.as_deref(), Some("the boot loader went back to the old slot"));
        assert_eq!(checked.runs(), runs, "its check would say nothing of the new one");
        checked.assert_went_back(Failure::BootFailed);
    }
}

#[test]
fn polls_without_answer_are_counted_in_a_row_while_it_soaks() {
    let checked = Checked::new();
    checked.set(|config| config.poll.max_unanswered = 3);
    checked.once_is(Outcome::Soaking);
    let dead = |dead: bool| checked.server.script().dead = if dead { vec!["/v1/poll".to_owned()] } else { Vec::new() };
    for _ in 0..3 {
        dead(true);
        checked.once_is(Outcome::Unconfirmed);
        checked.once_is(Outcome::Unconfirmed);
        dead(false);
        checked.once_is(Outcome::Soaking);
    }
    dead(true);
    checked.once_is(Outcome::Unconfirmed);
    checked.once_is(Outcome::Unconfirmed);
    let report = checked.once_is(Outcome::RolledBack);
    assert!(report.detail.unwrap().starts_with("3 polls in a row"));
    dead(false);
    checked.assert_went_back(Failure::NoAnswer);
}

#[test]
fn a_soak_that_ends_while_the_server_is_away_is_healthy_with_the_next_answer() {
    let checked = Checked::new();
    checked.once_is(Outcome::Soaking);
    checked.server.script().dead = vec!["/v1/".to_owned()];
    checked.device.run_for_ms(10 * MINUTE_MS);
    checked.once_is(Outcome::Unconfirmed);
    let runs = checked.runs();
    checked.server.script().dead.clear();
    checked.once_is(Outcome::Updated);
    assert_eq!(checked.runs(), runs, "it had soaked");
    assert_eq!(checked.reported().last(), Some(&Healthy));
}

#[test]
fn a_loop_goes_on_checking_between_polls() {
    let checked = Checked::new();
    checked.server.script().next_poll_s = 3600;
    let told = checked.two_rounds(|| ());
    assert_eq!(told, [Outcome::Soaking, Outcome::Updated], "it polls when it has soaked, and not before");
    assert_eq!(checked.runs(), 11);
}

#[test]
fn a_loop_goes_back_at_once_and_says_so_at_once() {
    let checked = Checked::new();
    checked.server.script().next_poll_s = 3600;
    let told = checked.two_rounds(|| checked.break_it());
    assert_eq!(told, [Outcome::Soaking, Outcome::RolledBack]);
    assert_eq!(checked.runs(), 2);
    checked.assert_went_back(Failure::CheckFailed);
}

#[test]
fn an_orderly_stop_in_the_middle_of_a_check_is_not_held_against_the_image() {
    let checked = Checked::new();
    let begun = checked.path("begun").display().to_string();
    let script = format!("echo >> {begun}; test -e {begun}.quick || sleep 1000");
    checked.set(|config| config.boot_check = ["sh", "-c", &script].map(str::to_owned).to_vec());
    let stop = &checked.device.stop;
    let stop_when_it_runs = || {
        std::fs::remove_file(checked.path("begun")).ok();
        std::thread::scope(|scope| {
            let path = checked.path("begun");
            scope.spawn(move || {
                // Longer than any check takes to begin, and no longer: then the test fails elsewhere.
                for _ in 0..3000 {
                    if path.exists() {
                        break;
                    }
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                stop.store(true, Ordering::Relaxed);
            });
            assert!(matches!(checked.device.once(), Err(AgentError::Stopped)));
        });
        stop.store(false, Ordering::Relaxed);
    };
    (0..5).for_each(|_| stop_when_it_runs());
    std::fs::write(checked.path("begun.quick"), "").unwrap();
    checked.once_is(Outcome::Soaking);
    // And so in the soak.
    std::fs::remove_file(checked.path("begun.quick")).unwrap();
    checked.device.run_for_ms(MINUTE_MS);
    (0..5).for_each(|_| stop_when_it_runs());
    std::fs::write(checked.path("begun.quick"), "").unwrap();
    checked.device.run_for_ms(10 * MINUTE_MS);
    checked.once_is(Outcome::Updated);
}

#[test]
fn a_first_check_that_brings_the_agent_down_leads_back() {
    let checked = Checked::at(real_now());
    let once = |failpoint: &str| {
        let mut command = checked.device.command(&["once"]);
        command.env("SLUICE_FAILPOINT", failpoint).output().unwrap().status.code()
    };
    for _ in 0..3 {
        assert_eq!(once("agent.journal.boot_tried"), None);
        checked.device.assert_boots_one_of(&checked.world, &["2.0"]);
    }
    assert_eq!((once("none"), checked.runs()), (Some(10), 0));
    checked.assert_went_back(Failure::BootFailed);
}

#[test]
fn a_check_that_brings_the_agent_down_in_the_soak_leads_back() {
    // The real program, by the machine's clocks.
    let checked = Checked::at(real_now());
    checked.set(|config| config.check.soak_s = 86_400);
    let once = |failpoint: &str| {
        let mut command = checked.device.command(&["--json", "once"]);
        command.env("SLUICE_FAILPOINT", failpoint).output().unwrap()
    };
    let path = checked.device.state.soak();
    assert!(String::from_utf8(once("none").stdout).unwrap().contains(r#""outcome":"soaking""#));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(r#""checked_ms": 0"#, r#""checked_ms": null"#)).unwrap();
    for _ in 0..3 {
        assert_eq!(once("agent.soak.checking").status.code(), None);
    }
    assert_eq!(once("none").status.code(), Some(10));
    checked.assert_went_back(Failure::BootFailed);
}

#[test]
fn a_log_that_cannot_be_kept_keeps_nobody_on_a_bad_image() {
    let checked = Checked::new();
    let taken = checked.device.state.failure().display().to_string();
    let script = format!("mkdir {taken}; echo no link; exit 7");
    checked.set(|config| config.boot_check = ["sh", "-c", &script].map(str::to_owned).to_vec());
    checked.once_is(Outcome::RolledBack);
    // Back, and reported; closer than the journal nobody knows it.
    checked.assert_went_back(Failure::Unhealthy);
    let script = checked.server.script();
    let last = script.reports.last().unwrap();
    assert_eq!((last.detail.as_deref(), &last.log), (Some("boot_check sh: exit status: 7"), &None));
}

#[test]
fn damaged_notes_cost_a_soak_and_a_log_but_no_device() {
    let checked = Checked::new();
    checked.once_is(Outcome::Soaking);
    checked.device.run_for_ms(9 * MINUTE_MS);
    std::fs::write(checked.device.state.soak(), "{").unwrap();
    checked.once_is(Outcome::Soaking);
    checked.device.run_for_ms(9 * MINUTE_MS);
    checked.once_is(Outcome::Soaking);
    checked.device.run_for_ms(MINUTE_MS);
    checked.once_is(Outcome::Updated);
}

#[test]
fn a_boot_loader_that_goes_back_before_the_new_image_has_a_word_is_not_tried_for_ever() {
    let checked = Checked::at(real_now());
    for _ in 0..3 {
        // The machine restarts within the switch, and comes up on the old image.
        let killed = checked.device.command(&["once"]).env("SLUICE_FAILPOINT", "agent.pointer.switched").output();
        assert_eq!(killed.unwrap().status.code(), None);
        checked.device.boot().switch(&"main".parse().unwrap(), Slot::A).unwrap();
    }
    let report = checked.once_is(Outcome::RolledBack);
    assert_eq!(report.detail.as_deref(), Some("the machine came up on the old slot after 3 switches"));
    assert_eq!(checked.runs(), 0);
    checked.assert_went_back(Failure::BootFailed);
}

#[test]
fn checks_that_take_long_do_not_put_polls_off() {
    let checked = Checked::new();
    checked.set(|config| config.check.interval_s = 5);
    checked.server.script().next_poll_s = 300;
    // Each look at the running time finds it a second later, so a check takes longer than the time between two.
    checked.device.uptime_tick_ms.set(1000);
    assert_eq!(
        checked.two_rounds(|| ()),
        [Outcome::Soaking, Outcome::Soaking],
        "ten minutes of soak, five between polls"
    );
}

#[test]
fn an_image_that_has_soaked_waits_for_the_server_over_any_number_of_starts() {
    let checked = Checked::new();
    checked.set(|config| config.poll.max_unanswered = 0);
    checked.once_is(Outcome::Soaking);
    checked.server.script().dead = vec!["/v1/poll".to_owned()];
    checked.device.run_for_ms(11 * MINUTE_MS);
    for _ in 0..8 {
        checked.once_is(Outcome::Unconfirmed);
        checked.device.restart();
    }
    checked.server.script().dead.clear();
    checked.once_is(Outcome::Updated);
    assert_eq!(checked.reported().last(), Some(&Healthy));
}

#[test]
fn a_soak_that_cannot_be_kept_keeps_nobody_on_a_bad_image() {
    let checked = Checked::new();
    checked.once_is(Outcome::Soaking);
    let mut taken = checked.device.state.soak().into_os_string();
    taken.push(".new");
    std::fs::create_dir(&taken).unwrap();
    checked.break_it();
    checked.device.run_for_ms(MINUTE_MS);
    checked.once_is(Outcome::RolledBack);
    checked.assert_went_back(Failure::CheckFailed);
}
