//! What a support desk does: a contract that has lapsed, its gap closed later, and a broken device that is swapped.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::ceremony::PRODUCT;
use super::fleet::{Device, Provision};
use super::programs::Programs;
use super::report::{Finding, Report};
use super::server::Server;
use super::story::why;

const LAPSED: &str = "K-2024-007";
const RMA: &str = "RMA-1";
/// Number of the device that replaces another.
const SPARE: u16 = 900;
const NEWEST: &str = "2.0.0";
/// Updates in a row until a device from the factory runs that.
const HOPS_MAX: u32 = 2;
/// How often it is looked whether a background job is left, and how long in all.
const JOBS_PAUSE: Duration = Duration::from_millis(500);
const JOBS_LOOKS: u32 = 600;

fn text(answer: &Value, name: &str) -> String {
    answer[name].as_str().unwrap_or_default().to_owned()
}

fn uncovered(fleet: &mut [Device]) -> Result<&mut Device> {
    fleet.iter_mut().find(|device| !device.covered).context("one device has no contract")
}

/// The device without contract turns out to have had one, which ended before 2.0 came out.
pub fn lapse(programs: &Programs<'_>, fleet: &mut [Device], report: &mut Report) -> Result<()> {
    programs.act("Support finds the device's contract: it lapsed before train 2.0 came out");
    let device = uncovered(fleet)?;
    let item = format!("{PRODUCT}/{}", device.serial);
    let mut create = vec!["sluicectl", "contract", "create", LAPSED, "--customer", "acme", "--plan", "plus"];
    create.extend(["--window", "2024-01-01..2026-01-01", "--item", &item]);
    programs.show(&create)?;
    let answer = why(programs, device, true)?;
    let (reason, entitled) = (text(&answer, "reason"), text(&answer, "newest_entitled"));
    report.expect(
        format!("{} is denied 2.0.0 because its cover ended before, and told what it may have", device.serial),
        reason == "TRAIN_GA_NOT_COVERED" && entitled == "1.0.0",
        format!("{reason}, {entitled}"),
    );
    let advice = answer["advice"][0].as_str().unwrap_or_default().to_owned();
    report.expect(
        "it is told what would change that",
        advice == format!("let contract {LAPSED} cover 2026-03-01"),
        advice,
    );
    device.reasons.push(format!("{reason} under a lapsed contract"));
    Ok(())
}

/// The gap is closed, and the device gets what it was denied.
pub fn reactivate(programs: &Programs<'_>, fleet: &mut [Device], report: &mut Report) -> Result<()> {
    programs.act("The customer renews and closes the gap: the device gets what it was denied");
    wait_for_jobs(programs)?;
    let device = uncovered(fleet)?;
    programs.show(&["sluicectl", "contract", "add", LAPSED, "--window", "2026-01-01..2028-01-01:backdated"])?;
    let answer = why(programs, device, true)?;
    report.expect(
        "a closed gap entitles at once",
        text(&answer, "version") == "2.0.0" && answer["offered"] == true,
        text(&answer, "reason"),
    );
    device.update(programs)?;
    device.reasons.push("COVERED_TRAIN_GA after the gap was closed".to_owned());
    Ok(())
}

/// A broken device is replaced; the new one gets the old one's cover.
pub fn swap(
    programs: &Programs<'_>,
    server: &Server,
    with: &Provision<'_>,
    fleet: &mut Vec<Device>,
    report: &mut Report,
) -> Result<()> {
    programs.act("A device breaks: its replacement takes over the cover");
    let old = fleet.first().context("a fleet has devices")?.clone();
    let mut spare = Device::new(SPARE, true, false);
    programs.show(&["sluicectl", "swap", "create", RMA, PRODUCT, &old.serial, &spare.serial])?;
    spare.provision(programs, server.url(), with, false)?;
    // From the factory's version it comes over the security fix, whose rollout weighs more.
    for _ in 0..HOPS_MAX {
        spare.update(programs)?;
        if spare.update.as_ref().is_some_and(|cycle| cycle.to == NEWEST) {
            break;
        }
    }
    spare.reasons.push(format!("takes over the cover of {}", old.serial));
    let cycle = old.once(programs)?;
    report.expect_each(
        "the old device goes on while the overlap lasts",
        &[Finding::new(&old.serial, cycle.outcome == "up_to_date", cycle.outcome.clone())],
    );
    programs.show(&["sluicectl", "device", "history", PRODUCT, &spare.serial])?;
    let story = programs.quiet(&["sluicectl", "device", "history", PRODUCT, &spare.serial, "--json"])?.json()?;
    let kinds: Vec<&str> = story.as_array().into_iter().flatten().filter_map(|entry| entry["kind"].as_str()).collect();
    let tells = ["changed", "cover", "attempt", "swap"].iter().all(|kind| kinds.contains(kind));
    report.expect(
        format!("the life of {} tells its swap, its cover and its update", spare.serial),
        tells,
        kinds.join(", "),
    );
    fleet.push(spare);
    Ok(())
}

/// Waits until no job is left: patches from what a device has just reported are among them.
fn wait_for_jobs(programs: &Programs<'_>) -> Result<()> {
    for _ in 0..JOBS_LOOKS {
        let status = programs.quiet(&["sluicectl", "status", "--json"])?.json()?;
        if status["jobs_pending"] == 0 {
            return Ok(());
        }
        programs.check()?;
        thread::sleep(JOBS_PAUSE);
    }
    bail!("background jobs do not end; see `sluicectl job list`")
}
