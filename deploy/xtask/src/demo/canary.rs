//! A rollout that moves by itself: a plan that two others sign, a canary that fails and pauses it, a resume, and the end.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::ceremony::{HOLDERS, PRODUCT, publish, release, sign};
use super::firmware::{self, Firmware};
use super::fleet::Device;
use super::programs::Programs;
use super::report::{Finding, Report};
use super::server::Server;
use super::story::exit;

/// The version that everyone runs in the end.
pub const VERSION: &str = "2.0.1";
const CODE: &str = "FW.CAM.MAJOR";
const NAME: &str = "summer";
const APPROVERS: [&str; 2] = ["bob", "cat"];
/// Devices that do not come up on it at first: as many as a stop rule needs.
const FAILING: usize = 3;
/// How often the rollout is looked at, and how long in all.
const PAUSE: Duration = Duration::from_millis(500);
const LOOKS: u32 = 120;
/// What the stage waits for is short here: nobody wants to watch for a day.
const PLAN: &str = r#"name = "summer"
product = "acme-cam"
version = "2.0.1"

[[stages]]
percent = 100
gate = { minimum = 4, success = 40, soak = "1s" }

[rules]
approvals = 2
mature = "2s"

[rules.stop]
rejected = { percent = 10 }
failed = { percent = 10 }
rolled_back = { percent = 10 }
"#;

/// From the plan to the end.
pub fn stage(
    programs: &Programs<'_>,
    server: &Server,
    firmware: &Firmware,
    fleet: &mut [Device],
    report: &mut Report,
) -> Result<()> {
    programs.act("Version 2.0.1 comes with a plan: two others than its author sign it");
    let image = firmware::patched(programs, &firmware.new, "firmware/2.0.1.bin")?;
    let mut facts = vec!["--train", "2.0", "--train-ga", "2026-03-01", "--kind", "maintenance"];
    facts.extend(["--security-counter", "2", "--requires", CODE]);
    release(programs, VERSION, "201", &image, &facts)?;
    sign(programs, HOLDERS[0], PRODUCT, false)?;
    sign(programs, HOLDERS[1], PRODUCT, true)?;
    publish(programs, server)?;
    approve(programs, report)?;

    programs.act("Three devices do not come up on it: the rollout pauses by itself");
    programs.show(&["sluicectl", "rollout", "start", NAME, "--cause", "two approvals"])?;
    programs.show(&["sluicectl", "rollout", "watch", NAME, "--until", "running", "--timeout", "900"])?;
    let mut fell_back = Vec::new();
    for device in fleet.iter().take(FAILING) {
        boot_check(programs, device, Some("false"))?;
        let cycle = device.fails(programs)?;
        fell_back.push(Finding::new(&device.serial, cycle.outcome == "rolled_back", cycle.outcome));
    }
    report.expect_each("a device that does not come up goes back to what it ran", &fell_back);
    let paused = wait_for(programs, "paused")?;
    let last = paused["transitions"].as_array().and_then(|all| all.last()).cloned().unwrap_or_default();
    let (actor, cause) = (last["actor"].as_str().unwrap_or_default(), last["cause"].as_str().unwrap_or_default());
    let by_itself = actor == "server" && last["evidence"]["cause"]["class"] == "rolled_back";
    report.expect("the failing canary pauses the rollout, with its evidence", by_itself, format!("{actor}: {cause}"));
    programs.show(&["sluicectl", "rollout", "show", NAME])?;
    let waiting = fleet.get(FAILING).context("a fleet of four at least")?;
    let cycle = waiting.once(programs)?;
    report.expect_each(
        "nobody else is offered it meanwhile",
        &[Finding::new(&waiting.serial, !cycle.updated(), cycle.outcome)],
    );

    programs.act("The cause is found: somebody lets it go on, and it ends by itself");
    programs.say("    (the three devices' own check was wrong; it is mended)");
    programs.show(&["sluicectl", "rollout", "resume", NAME, "--cause", "the check on three devices was wrong"])?;
    let mut got = Vec::new();
    for (number, device) in fleet.iter_mut().enumerate() {
        if number < FAILING {
            boot_check(programs, device, None)?;
            device.reasons.push("did not come up on 2.0.1 at first".to_owned());
        }
        // The table at the end tells of the update that everyone fetched; of this one it is told here.
        let before = device.update.take();
        device.update(programs)?;
        let cycle = std::mem::replace(&mut device.update, before).unwrap_or_default();
        let fetched = if number < FAILING { cycle.bytes == 0 } else { cycle.encoding == "patch" };
        got.push(Finding::new(&device.serial, fetched, format!("{} {}", cycle.encoding, cycle.bytes)));
    }
    report.expect_each("it comes by a patch, and to those who had tried without another byte", &got);
    let done = wait_for(programs, "done")?;
    let evidence = done["transitions"].as_array().and_then(|all| all.last()).map(|last| last["evidence"].clone());
    let evidence = evidence.unwrap_or_default();
    // Matured after two seconds, most devices are by then not heard of: that takes no success away.
    let of = |class: &str| evidence["figures"]["counts"]["of_stage"][class].as_u64().unwrap_or(0);
    let (succeeded, all) = (of("healthy") + of("lost"), of("attempts"));
    let ended = evidence["cause"]["kind"] == "gate" && succeeded >= 4;
    report.expect("its gate ends it on matured attempts that succeeded", ended, format!("{succeeded} of {all}"));
    programs.show(&["sluicectl", "rollout", "show", NAME])?;
    Ok(())
}

/// Two people with keys of their own sign the plan.
fn approve(programs: &Programs<'_>, report: &mut Report) -> Result<()> {
    fs::create_dir_all(programs.work().join("people"))?;
    fs::write(programs.work().join("people/summer.toml"), PLAN)?;
    programs.show(&["sluicectl", "rollout", "apply", "people/summer.toml"])?;
    programs.show(&["sluicectl", "rollout", "submit", NAME])?;
    let early = programs.run(&["sluicectl", "rollout", "start", NAME])?;
    report.expect("a plan without approvals does not start", early.code != Some(0), exit(early.code));
    for (number, person) in APPROVERS.iter().enumerate() {
        let shown = number == 0;
        let run = |command: &[&str]| if shown { programs.show(command) } else { programs.quiet(command) };
        let (token, key) = (format!("people/{person}.token"), format!("people/{person}.key"));
        run(&["sluicectl", "principal", "create", person, "--role", "rollout_admin"])?;
        run(&["sluicectl", "token", "create", person, "--label", "demo", "--out", &token])?;
        let made = programs.quiet(&["sluicectl", "approver", "new", "--key", &key, "--json"])?.json()?;
        let public = made["public_key"].as_str().context("a new key is printed")?;
        run(&["sluicectl", "approver", "enrol", person, public])?;
        run(&["sluicectl", "--token-file", &token, "rollout", "approve", NAME, "--key", &key])?;
    }
    let detail = show(programs)?;
    let state = detail["rollout"]["state"].as_str().unwrap_or_default().to_owned();
    let count = detail["approvals"].as_array().map_or(0, Vec::len);
    let found = format!("{state} by {count}");
    report.expect("two signatures over the plan's digest approve it", state == "approved" && count == 2, found);
    Ok(())
}

fn show(programs: &Programs<'_>) -> Result<Value> {
    programs.quiet(&["sluicectl", "rollout", "show", NAME, "--json"])?.json()
}

/// Waits until the rollout is in a state.
fn wait_for(programs: &Programs<'_>, state: &str) -> Result<Value> {
    for _ in 0..LOOKS {
        let detail = show(programs)?;
        if detail["rollout"]["state"] == state {
            return Ok(detail);
        }
        programs.check()?;
        thread::sleep(PAUSE);
    }
    bail!("rollout {NAME} does not become {state}")
}

/// Sets what a device asks whether a new image is healthy, as a file on the device.
fn boot_check(programs: &Programs<'_>, device: &Device, program: Option<&str>) -> Result<()> {
    let path = programs.work().join(&device.folder).join("agent.toml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("boot_check")).collect();
    let check = program.map(|program| format!("boot_check = [\"{program}\"]\n")).unwrap_or_default();
    // Before the tables: a key after a header belongs to that table.
    fs::write(&path, format!("{check}{}\n", kept.join("\n"))).with_context(|| path.display().to_string())
}
