//! The story, act by act. Each act leaves what it found in the report.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Options;
use super::ceremony::{self, HARDWARE, HOLDERS, PRODUCT, PUBLISH_TOKEN, REPO, publish, release, sign};
use super::firmware::Firmware;
use super::fleet::{Device, Provision};
use super::programs::Programs;
use super::proxy::Proxy;
use super::report::{Finding, Report, Row};
use super::server::Server;
use super::{canary, signed, support};

/// Where the administrator's login is kept.
pub const ADMIN_CONFIG: &str = "admin/ctl.toml";

const CODE: &str = "FW.CAM.MAJOR";
const DATA: &str = "server";
/// First stage in percent, as the story has it.
const FIRST_STAGE: u64 = 10;
/// Drafts made until one's salt puts a covered device into the first stage: with four devices one draft in six does.
const DRAFTS_MAX: u32 = 200;
/// Seconds until patches must stand.
const PATCH_TIMEOUT_S: &str = "900";

/// Plays everything; the server is still up afterwards.
pub fn play(programs: &Programs<'_>, options: &Options, report: &mut Report) -> Result<Server> {
    programs.act("Firmware");
    let firmware = Firmware::prepare(programs, options)?;
    programs.say(&format!("Taken: {}.", firmware.source));

    let server = first_start(programs, options)?;
    ceremony::trust(programs, report)?;
    release_old(programs, &server, &firmware, report)?;
    let proxy = Proxy::start(server.url())?;
    let mut fleet = sell_and_enrol(programs, options, &server, &proxy, &firmware)?;
    release_new(programs, &server, &firmware)?;
    let rollout = open_first_stage(programs, &mut fleet, report)?;
    deny(programs, &mut fleet, report)?;
    open_to_all(programs, &rollout, &mut fleet, &proxy, report)?;
    support::lapse(programs, &mut fleet, report)?;
    fix_security(programs, &server, &firmware, &mut fleet, report)?;
    support::reactivate(programs, &mut fleet, report)?;
    let enrol_token = enrol_token(programs)?;
    support::swap(programs, &server, &factory(&firmware, &enrol_token), &mut fleet, report)?;
    canary::stage(programs, &server, &firmware, &mut fleet, report)?;
    conclude(programs, &fleet, report)?;
    Ok(server)
}

fn first_start(programs: &Programs<'_>, options: &Options) -> Result<Server> {
    programs.act("A server starts for the first time, and gets its administrator");
    let mut command = vec!["sluice-server", "serve", "--data", DATA, "--listen", "127.0.0.1:0"];
    if let Some(database) = &options.database {
        command.extend(["--database", database]);
    }
    if let Some(blobs) = &options.blobs {
        command.extend(["--blobs", blobs]);
    }
    let server = Server::start(programs, &command, DATA)?;
    programs.say(&format!("    it listens on {}", server.url()));
    let bootstrap_token = format!("{DATA}/bootstrap-token");
    programs.say(&format!("$ export SLUICE_CTL_CONFIG={ADMIN_CONFIG}"));
    programs.show(&[
        "sluicectl",
        "bootstrap",
        "--server",
        server.url(),
        "--name",
        "admin",
        "--token-file",
        &bootstrap_token,
    ])?;
    programs.show(&["sluicectl", "principal", "create", "release-desk", "--role", "release_engineer"])?;
    programs.show(&["sluicectl", "token", "create", "release-desk", "--label", "demo", "--out", PUBLISH_TOKEN])?;
    programs.show(&["sluicectl", "online-keys", "--out", "online-keys.json"])?;
    Ok(server)
}

fn release_old(programs: &Programs<'_>, server: &Server, firmware: &Firmware, report: &mut Report) -> Result<()> {
    programs.act("Version 1.0.0 is signed by two of the three, and published");
    programs.show(&["sluicectl", "product", "create", PRODUCT, "--title", "Acme Cam", "--visibility", "gated"])?;
    let facts = ["--train", "1.0", "--train-ga", "2025-03-01", "--kind", "maintenance", "--security-counter", "1"];
    release(programs, "1.0.0", "100", &firmware.old, &facts)?;
    sign(programs, HOLDERS[0], PRODUCT, true)?;
    sign(programs, HOLDERS[1], PRODUCT, true)?;
    publish(programs, server)?;
    programs.say("Publishing again sends nothing:");
    publish(programs, server)?;
    let signatures = ceremony::newest_signatures(programs)?;
    report.expect("the product's document carries two signatures", signatures == 2, format!("{signatures}"));
    Ok(())
}

fn sell_and_enrol(
    programs: &Programs<'_>,
    options: &Options,
    server: &Server,
    proxy: &Proxy,
    firmware: &Firmware,
) -> Result<Vec<Device>> {
    programs.act("Contracts are sold, and devices leave the factory with 1.0.0");
    // The last device has no contract; the second one has a dishonest network.
    let fleet: Vec<Device> =
        (1..=options.devices).map(|number| Device::new(number, number < options.devices, number == 2)).collect();
    programs.show(&["sluicectl", "customer", "create", "acme", "--title", "Acme Conferencing"])?;
    programs.show(&["sluicectl", "plan", "create", "plus", "--rule", "train-ga", "--grant", CODE])?;
    let items: Vec<String> =
        fleet.iter().filter(|device| device.covered).map(|device| format!("{PRODUCT}/{}", device.serial)).collect();
    fs::write(programs.work().join("covered-serials"), items.join("\n"))?;
    let mut contract = vec!["sluicectl", "contract", "create", "K-2026-001", "--customer", "acme", "--plan", "plus"];
    contract.extend(["--window", "2025-01-01..2028-01-01", "--items-from", "covered-serials"]);
    programs.show(&contract)?;

    // One more than devices: for the one that replaces another.
    let uses = (options.devices + 1).to_string();
    let mut token = vec!["sluicectl", "enrol-token", "create", "--product", PRODUCT, "--customer", "acme"];
    token.extend(["--uses", &uses, "--label", "production line", "--out", "enrol.token"]);
    programs.show(&token)?;
    let enrol_token = enrol_token(programs)?;
    let with = factory(firmware, &enrol_token);
    for (index, device) in fleet.iter().enumerate() {
        let url = if device.proxied { proxy.url() } else { server.url().to_owned() };
        device.provision(programs, &url, &with, index == 0)?;
    }
    programs.say("Each polls for the first time:");
    for device in &fleet {
        let cycle = device.once(programs)?;
        ensure!(!cycle.updated(), "{} is updated before there is anything new", device.serial);
    }
    programs.show(&["sluicectl", "device", "list", "--product", PRODUCT])?;
    Ok(fleet)
}

fn enrol_token(programs: &Programs<'_>) -> Result<String> {
    Ok(fs::read_to_string(programs.work().join("enrol.token"))?.trim().to_owned())
}

/// What devices leave the factory with.
fn factory<'a>(firmware: &'a Firmware, enrol_token: &'a str) -> Provision<'a> {
    Provision {
        product: PRODUCT,
        hardware: HARDWARE,
        image: &firmware.old,
        version: "1.0.0",
        security_counter: "1",
        enrol_token,
    }
}

fn release_new(programs: &Programs<'_>, server: &Server, firmware: &Firmware) -> Result<()> {
    programs.act("Version 2.0.0, a feature release for those with cover; the holders sign on machines of their own");
    let mut facts = vec!["--train", "2.0", "--train-ga", "2026-03-01", "--kind", "feature"];
    facts.extend(["--security-counter", "2", "--requires", CODE]);
    release(programs, "2.0.0", "200", &firmware.new, &facts)?;
    ceremony::sign_detached(programs, "2.0.0", [HOLDERS[1], HOLDERS[2]])?;
    publish(programs, server)
}

/// Makes the rollout, waits for its patches, and lets everyone poll once in the first stage. Answers its name.
fn open_first_stage(programs: &Programs<'_>, fleet: &mut [Device], report: &mut Report) -> Result<String> {
    programs.act("A rollout brings 2.0.0 to 10 % first");
    let cohorts: BTreeMap<String, String> = {
        let list = programs.quiet(&["sluicectl", "device", "list", "--product", PRODUCT, "--json"])?.json()?;
        let items = list["items"].as_array().context("a list has items")?;
        let text = |item: &Value, name: &str| item[name].as_str().unwrap_or_default().to_owned();
        items.iter().map(|item| (text(item, "serial"), text(item, "cohort_id"))).collect()
    };
    let name = draft(programs, fleet, &cohorts)?;
    programs.show(&["sluicectl", "rollout", "start", &name, "--cause", "2.0.0 is ready"])?;
    programs.show(&["sluicectl", "rollout", "watch", &name, "--until", "running", "--timeout", PATCH_TIMEOUT_S])?;
    let detail = programs.quiet(&["sluicectl", "rollout", "show", &name, "--json"])?.json()?;
    let ready = detail["patches"]["ready"].as_i64().unwrap_or(0);
    report.expect("patches stand before the first stage opens", ready >= 1, detail["patches"].to_string());

    let (mut nothing, mut waits) = (Vec::new(), Vec::new());
    for device in fleet.iter_mut() {
        if device.covered && device.bucket < FIRST_STAGE * 100 {
            device.update(programs)?;
            device.reasons.push(format!("IN_STAGE at {FIRST_STAGE} %"));
            continue;
        }
        let cycle = device.once(programs)?;
        nothing.push(Finding::new(&device.serial, !cycle.updated(), cycle.outcome));
        if device.covered {
            let why = why(programs, device, false)?;
            let reason = why["reason"].as_str().unwrap_or_default().to_owned();
            waits.push(Finding::new(&device.serial, reason == "STAGE_WAIT", &*reason));
            device.reasons.push(format!("{reason} at {FIRST_STAGE} %"));
        }
    }
    if let Some(waiting) = fleet.iter().find(|device| device.covered && device.update.is_none()) {
        why(programs, waiting, true)?;
    }
    let early: Vec<&str> =
        fleet.iter().filter(|device| device.update.is_some()).map(|device| device.serial.as_str()).collect();
    report.expect(
        "the first stage reaches the covered devices whose bucket the published formula puts below 1000",
        !early.is_empty(),
        early.join(", "),
    );
    report.expect_each("nobody else gets 2.0.0 in the first stage", &nothing);
    report.expect_each("those with cover wait for their stage: STAGE_WAIT", &waits);
    Ok(name)
}

/// Makes drafts until one suits a fleet this small: somebody with cover in the first stage, somebody not.
fn draft(programs: &Programs<'_>, fleet: &mut [Device], cohorts: &BTreeMap<String, String>) -> Result<String> {
    for number in 1..=DRAFTS_MAX {
        let name = format!("spring-{number}");
        let mut create = vec!["sluicectl", "rollout", "create", &name, "--product", PRODUCT];
        create.extend(["--version", "2.0.0", "--stages", "10,100"]);
        if number == 1 {
            programs.show(&create)?
        } else {
            programs.quiet(&create)?
        };
        let detail = programs.quiet(&["sluicectl", "rollout", "show", &name, "--json"])?.json()?;
        let salt = detail["rollout"]["salt"].as_str().context("a rollout has a salt")?;
        for device in fleet.iter_mut() {
            let cohort = cohorts.get(&device.serial).with_context(|| format!("{} is not listed", device.serial))?;
            device.bucket = signed::bucket(salt, cohort)?;
        }
        let early = |device: &Device| device.bucket < FIRST_STAGE * 100;
        let suits = fleet.iter().any(|device| device.covered && early(device))
            && fleet.iter().any(|device| device.covered && !device.proxied && !early(device))
            && fleet.iter().all(|device| !(device.proxied && early(device)));
        if suits {
            if number > 1 {
                programs.say(&format!(
                    "    ten percent of so few devices is often nobody: {name} is the first draft that reaches one"
                ));
            }
            return Ok(name);
        }
    }
    anyhow::bail!("no draft of {DRAFTS_MAX} reaches a covered device in its first stage")
}

/// Asks the server why a device gets what it gets.
pub fn why(programs: &Programs<'_>, device: &Device, shown: bool) -> Result<Value> {
    if shown {
        programs.show(&["sluicectl", "why", PRODUCT, &device.serial])?;
    }
    programs.quiet(&["sluicectl", "why", PRODUCT, &device.serial, "--json"])?.json()
}

fn deny(programs: &Programs<'_>, fleet: &mut [Device], report: &mut Report) -> Result<()> {
    programs.act("One device has no contract: it is told why, and what it may have");
    let device = fleet.iter_mut().find(|device| !device.covered).context("one device has no contract")?;
    let answer = why(programs, device, true)?;
    let reason = answer["reason"].as_str().unwrap_or_default().to_owned();
    let entitled = answer["newest_entitled"].as_str().unwrap_or_default().to_owned();
    report.expect(
        format!("{} is denied 2.0.0 for want of a contract", device.serial),
        reason == "NO_CONTRACT",
        &*reason,
    );
    report.expect("it is told the newest version it may have", entitled == "1.0.0", &*entitled);
    device.reasons.push(format!("{reason} for 2.0.0, may have {entitled}"));
    Ok(())
}

fn open_to_all(
    programs: &Programs<'_>,
    rollout: &str,
    fleet: &mut [Device],
    proxy: &Proxy,
    report: &mut Report,
) -> Result<()> {
    programs.act("The first devices are healthy: everyone gets it; one download is tampered with on its way");
    let show = ["sluicectl", "rollout", "show", rollout, "--json"];
    let healthy = programs.quiet(&show)?.json()?["attempts"]["healthy"].as_i64().unwrap_or(0);
    report.expect("the first stage is healthy before the second opens", healthy >= 1, format!("{healthy} healthy"));
    let mut advance = vec!["sluicectl", "rollout", "advance", rollout, "--from-stage", "0"];
    advance.extend(["--cause", "the first stage is healthy"]);
    programs.show(&advance)?;
    proxy.arm();
    for device in fleet.iter_mut().filter(|device| device.covered && device.update.is_none()) {
        device.update(programs)?;
        device.reasons.push("then 100 %".to_owned());
        if device.proxied {
            let cycle = device.update.clone().unwrap_or_default();
            let flipped = proxy.flipped();
            let found = format!("{flipped} flipped, {}, fallback {}: {}", cycle.outcome, cycle.fallback, cycle.detail);
            report.expect(
                format!("{} refuses a tampered patch and recovers", device.serial),
                flipped == 1 && cycle.updated() && cycle.fallback,
                found,
            );
            device.reasons.push("tampered patch refused, full image instead".to_owned());
            programs.show(&["sluicectl", "device", "show", PRODUCT, &device.serial])?;
        }
    }
    programs.show(&["sluicectl", "rollout", "show", rollout])?;
    Ok(())
}

fn fix_security(
    programs: &Programs<'_>,
    server: &Server,
    firmware: &Firmware,
    fleet: &mut [Device],
    report: &mut Report,
) -> Result<()> {
    programs.act("A security fix for the old train: it is free for every device that runs it");
    let mut facts = vec!["--train", "1.0", "--train-ga", "2025-03-01", "--kind", "security"];
    facts.extend(["--security-counter", "2", "--advisory", "ACME-2026-001"]);
    release(programs, "1.0.1", "101", &firmware.fix, &facts)?;
    sign(programs, HOLDERS[2], PRODUCT, false)?;
    sign(programs, HOLDERS[0], PRODUCT, true)?;
    publish(programs, server)?;
    let mut create = vec!["sluicectl", "rollout", "create", "security", "--product", PRODUCT];
    create.extend(["--version", "1.0.1", "--stages", "100", "--weight", "100"]);
    programs.show(&create)?;
    programs.show(&["sluicectl", "rollout", "start", "security", "--cause", "ACME-2026-001"])?;
    programs.show(&[
        "sluicectl",
        "rollout",
        "watch",
        "security",
        "--until",
        "running",
        "--timeout",
        PATCH_TIMEOUT_S,
    ])?;
    let mut stays = Vec::new();
    for device in fleet.iter_mut() {
        if device.covered {
            let cycle = device.once(programs)?;
            stays.push(Finding::new(&device.serial, !cycle.updated(), cycle.outcome));
            continue;
        }
        let before = why(programs, device, true)?;
        let free = before["steps"].as_array().into_iter().flatten().any(|step| step["reason"] == "SECURITY_FREE");
        report.expect(
            format!("{} may have the fix although its contract has lapsed", device.serial),
            free,
            before["reason"].to_string(),
        );
        device.update(programs)?;
        device.reasons.push("SECURITY_FREE for 1.0.1".to_owned());
    }
    report.expect_each("the fix takes nobody back from the newer train", &stays);
    Ok(())
}

fn conclude(programs: &Programs<'_>, fleet: &[Device], report: &mut Report) -> Result<()> {
    programs.act("What everyone runs now, computed from the slots and the documents that the holders signed");
    let images = signed::images(&programs.work().join(REPO), PRODUCT)?;
    let (mut as_signed, mut in_order, mut known) = (Vec::new(), Vec::new(), Vec::new());
    for device in fleet {
        let serial = &device.serial;
        let (sha256, length) = device.running(programs)?;
        let wanted = canary::VERSION;
        let signed = images.get(wanted);
        let matches = signed.is_some_and(|image| image.sha256 == sha256 && image.length == length);
        as_signed.push(Finding::new(serial, matches, format!("not {wanted} but {sha256}")));
        let verify = programs.run(&["sluice-agent", "--state", &device.folder, "verify", "--json"])?;
        in_order.push(Finding::new(serial, verify.code == Some(0), exit(verify.code)));
        let detail = programs.quiet(&["sluicectl", "device", "show", PRODUCT, serial, "--json"])?.json()?;
        let told = &detail["installed"][0];
        known.push(Finding::new(serial, told["sha256"] == sha256.as_str(), told.to_string()));
        let update = device.update.clone().unwrap_or_default();
        report.rows.push(Row {
            device: serial.clone(),
            from: update.from.clone(),
            to: update.to.clone(),
            profile: device.profile.to_owned(),
            encoding: update.encoding,
            bytes: update.bytes,
            image_len: length,
            outcome: update.outcome,
            reason: device.reasons.join("; "),
        });
    }
    report.expect_each("every slot re-hashes to the digest that the holders signed", &as_signed);
    report.expect_each("every agent finds its slots in order", &in_order);
    report.expect_each("the server knows what every device runs", &known);
    let patched = report.rows.iter().filter(|row| row.encoding == "patch").count();
    let expected = fleet.len() - 1;
    report.expect("everyone but the tampered device was updated by a patch", patched == expected, format!("{patched}"));
    let audit = programs.show(&["sluicectl", "audit", "verify"])?;
    report.expect("the audit log's chain is whole", audit.code == Some(0), exit(audit.code));
    let verify = programs.show(&["sluice-sign", "verify", "--repo", REPO])?;
    report.expect("the repository folder verifies", verify.code == Some(0), exit(verify.code));
    let status = programs.quiet(&["sluicectl", "status", "--json"])?.json()?;
    report.expect("no job is parked", status["jobs_parked"] == 0, status["jobs_parked"].to_string());
    report.facts.push(("server", status));
    report.facts.push((
        "images",
        json!(
            images
                .iter()
                .map(|(version, image)| {
                    json!({ "version": version, "sha256": image.sha256, "bytes": image.length })
                })
                .collect::<Vec<_>>()
        ),
    ));
    Ok(())
}

/// An exit code in words.
pub fn exit(code: Option<i32>) -> String {
    code.map_or_else(|| "ended by a signal".to_owned(), |code| format!("exit {code}"))
}
