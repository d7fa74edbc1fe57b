//! New images that do not come up, boot loaders that fail, and the way back.

use std::cell::Cell;
use std::io;

use sluice_agent::slot::Slot;
use sluice_agent::{AgentError, BootControl, FileBoot, Outcome};
use sluice_catalog::rollout::{AttemptState, Failure};
use sluice_catalog::text::Component;
use sluice_signer::FullEncoding;

use crate::device::{cycle, noon, setting, setting_at};

#[test]
fn an_image_that_fails_its_check_is_left_and_the_old_one_runs() {
    let (world, server, device) = setting_at(noon(), |wanted| wanted.boot_check = vec!["false".to_owned()]);
    server.offer(4, world.offer("2.0", Some(&world.patch("1.0", "2.0")), FullEncoding::Zstd));
    let report = device.once().unwrap();
    assert_eq!((report.outcome, report.exit_code()), (Outcome::RolledBack, 10));
    assert!(report.detail.unwrap().contains("boot_check false"));
    device.assert_runs(&world, "1.0");
    let script = server.script();
    let last = script.reports.last().unwrap();
    assert_eq!((last.attempt, last.state, last.failure), (4, AttemptState::RolledBack, Some(Failure::CheckFailed)));
    assert!(!script.reports.iter().any(|event| event.state == AttemptState::Healthy));
}

#[test]
fn the_check_is_told_which_slot_and_version_it_checks() {
    let script = r#"test "$SLUICE_VERSION" = 2.0 && test "$SLUICE_COMPONENT" = main && test -s "$SLUICE_SLOT""#;
    let (world, server, device) = setting_at(noon(), |wanted| {
        wanted.boot_check = ["sh", "-c", script].map(str::to_owned).to_vec();
    });
    server.offer(4, world.offer("2.0", None, FullEncoding::Zstd));
    assert_eq!(device.once().unwrap().outcome, Outcome::Updated);
    device.assert_runs(&world, "2.0");
}

#[test]
fn a_failed_image_is_not_installed_again_under_the_same_number() {
    let (world, server, device) = setting_at(noon(), |wanted| wanted.boot_check = vec!["false".to_owned()]);
    server.offer(4, world.offer("2.0", None, FullEncoding::Zstd));
    assert_eq!(device.once().unwrap().outcome, Outcome::RolledBack);
    let before = server.script().count("GET", "/v1/blobs/");
    assert_eq!(device.once().unwrap().outcome, Outcome::RolledBack);
    assert_eq!(server.script().count("GET", "/v1/blobs/"), before);
    device.assert_runs(&world, "1.0");
}

#[test]
fn an_image_that_takes_the_network_away_is_left_after_so_many_polls() {
    let (world, server, device) = setting();
    let mut config = sluice_agent::Config::load(&device.state).unwrap();
    config.poll.max_unanswered = 3;
    config.save(&device.state).unwrap();
    server.offer(1, world.offer("2.0", None, FullEncoding::Zstd));
    // The poll on the new version would be the third.
    server.script().polls_left = Some(2);
    let report = device.once().unwrap();
    assert_eq!((report.outcome, report.exit_code()), (Outcome::Unconfirmed, 12));
    assert_eq!(device.running(), world.release("2.0").digest());
    assert_eq!(device.once().unwrap().outcome, Outcome::Unconfirmed);
    let report = device.once().unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack);
    assert!(report.detail.unwrap().contains("3 polls in a row"));
    device.assert_runs(&world, "1.0");
}

/// A boot loader whose every operation fails when its turn comes.
struct Faulty {
    inner: FileBoot,
    fails_in: Cell<u32>,
    /// Whether the failing operation takes effect all the same: a write whose success was not seen.
    after: bool,
}

impl Faulty {
    fn operate(&self, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let left = self.fails_in.get();
        self.fails_in.set(left.saturating_sub(1));
        if left != 1 {
            return work();
        }
        if self.after {
            work()?;
        }
        Err(io::Error::other("the boot loader's storage failed"))
    }
}

impl BootControl for Faulty {
    fn active(&self, component: &Component) -> io::Result<Slot> {
        self.inner.active(component)
    }

    fn switch(&self, component: &Component, slot: Slot) -> io::Result<()> {
        self.operate(|| self.inner.switch(component, slot))
    }

    fn confirm(&self, component: &Component) -> io::Result<()> {
        self.operate(|| self.inner.confirm(component))
    }
}

#[test]
fn a_boot_loader_that_fails_once_anywhere_still_ends_on_the_right_slot() {
    for check in ["true", "false"] {
        for after in [false, true] {
            for fails_in in 1..=4 {
                let (world, server, device) = setting_at(noon(), |wanted| wanted.boot_check = vec![check.to_owned()]);
                server.offer(1, world.offer("2.0", None, FullEncoding::Zstd));
                let boot = Faulty { inner: device.boot(), fails_in: Cell::new(fails_in), after };
                match device.with_boot(&boot, cycle) {
                    Ok(_) => assert!(fails_in > 2, "it never failed"),
                    Err(error) => assert!(matches!(error, AgentError::Io { .. }), "{error}"),
                }
                device.assert_boots_one_of(&world, &["1.0", "2.0"]);
                device.once().unwrap();
                device.assert_runs(&world, if check == "true" { "2.0" } else { "1.0" });
            }
        }
    }
}
