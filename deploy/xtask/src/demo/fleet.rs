//! The devices: each an agent in a folder of its own.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::programs::Programs;
use super::signed;

/// Polls until a device that has to get an update gets it. A server that knows of a change a moment later is honest.
const POLLS_MAX: u32 = 20;
const POLL_PAUSE: Duration = Duration::from_millis(500);

/// Decoder profiles in the fleet: most devices take the smallest patches, some are older.
const PROFILES: [&str; 6] = ["small", "small", "small", "default", "fast", "small"];

/// One device.
#[derive(Clone, Debug)]
pub struct Device {
    pub serial: String,
    /// Whether a contract covers it.
    pub covered: bool,
    /// Whether its way to the server is dishonest.
    pub proxied: bool,
    /// What it can decode.
    pub profile: &'static str,
    /// Its folder, relative to the demo's.
    pub folder: String,
    /// Its place in the rollout.
    pub bucket: u64,
    /// Its last update.
    pub update: Option<Cycle>,
    /// Why it got what it got, in the order it happened.
    pub reasons: Vec<String>,
}

/// What one cycle of an agent did, as it says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cycle {
    pub outcome: String,
    pub from: String,
    pub to: String,
    pub encoding: String,
    pub bytes: u64,
    /// Whether it had to fall back from a patch to the full image.
    pub fallback: bool,
    pub detail: String,
}

impl Cycle {
    fn read(value: &Value) -> Self {
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        Self {
            outcome: text("outcome"),
            from: text("from"),
            to: text("to"),
            encoding: text("encoding"),
            bytes: value["bytes_downloaded"].as_u64().unwrap_or(0),
            fallback: value["fallback"].as_bool().unwrap_or(false),
            detail: text("detail"),
        }
    }

    /// Whether the device now runs another version.
    pub fn updated(&self) -> bool {
        self.outcome == "updated"
    }

    /// On one line.
    fn text(&self) -> String {
        if !self.updated() {
            return self.outcome.replace('_', " ");
        }
        let note = if self.fallback { format!(" after a refused patch ({})", self.detail) } else { String::new() };
        format!("{} → {}  {}, {} bytes{note}", self.from, self.to, self.encoding, self.bytes)
    }
}

/// What a device is provisioned with in the factory.
pub struct Provision<'a> {
    pub product: &'a str,
    pub hardware: &'a str,
    pub image: &'a str,
    pub version: &'a str,
    pub security_counter: &'a str,
    pub enrol_token: &'a str,
}

impl Device {
    /// A device in the factory.
    pub fn new(number: u16, covered: bool, proxied: bool) -> Self {
        let serial = format!("CAM-{number:04}");
        let folder = format!("devices/{serial}");
        let profile = PROFILES[usize::from(number) % PROFILES.len()];
        Self { serial, covered, proxied, profile, folder, bucket: 0, update: None, reasons: Vec::new() }
    }

    /// Provisions and enrols it. The first one shows how.
    pub fn provision(&self, programs: &Programs<'_>, url: &str, with: &Provision<'_>, shown: bool) -> Result<()> {
        let run = |command: &[&str]| if shown { programs.show(command) } else { programs.quiet(command) };
        run(&[
            "sluice-agent",
            "--state",
            &self.folder,
            "init",
            "--server",
            url,
            "--product",
            with.product,
            "--serial",
            &self.serial,
            "--hw-id",
            with.hardware,
            "--image",
            with.image,
            "--version",
            with.version,
            "--profile",
            self.profile,
            "--security-counter",
            with.security_counter,
            "--root",
            "repo/metadata/1.root.json",
            "--director-root",
            "repo/director/metadata/1.root.json",
        ])?;
        run(&["sluice-agent", "--state", &self.folder, "enrol", "--token", with.enrol_token])?;
        Ok(())
    }

    /// One cycle: poll, and update if something is offered.
    pub fn once(&self, programs: &Programs<'_>) -> Result<Cycle> {
        self.cycle(programs, true)
    }

    /// One cycle that must not end well.
    pub fn fails(&self, programs: &Programs<'_>) -> Result<Cycle> {
        self.cycle(programs, false)
    }

    fn cycle(&self, programs: &Programs<'_>, well: bool) -> Result<Cycle> {
        let command = ["sluice-agent", "--state", &self.folder, "once", "--json"];
        let said = programs.run(&command)?;
        ensure!((said.code == Some(0)) == well, "{}: {}{}", command.join(" "), said.stdout, said.stderr);
        let cycle = Cycle::read(&said.json()?);
        let mark = if self.proxied { "  (through a dishonest network)" } else { "" };
        programs.say(&format!("    {}  {}{mark}", self.serial, cycle.text()));
        Ok(cycle)
    }

    /// Cycles until it has updated.
    pub fn update(&mut self, programs: &Programs<'_>) -> Result<()> {
        for _ in 0..POLLS_MAX {
            let cycle = self.once(programs)?;
            if cycle.updated() {
                self.update = Some(cycle);
                return Ok(());
            }
            programs.check()?;
            thread::sleep(POLL_PAUSE);
        }
        bail!("{} is not offered what it has to be offered", self.serial)
    }

    /// SHA-256 and length of the slot that boots, computed here from the files.
    pub fn running(&self, programs: &Programs<'_>) -> Result<(String, u64)> {
        let slots: PathBuf = programs.work().join(&self.folder).join("slots");
        let pointer = fs::read_to_string(slots.join("main.pointer")).context("the boot pointer")?;
        let letter = pointer.split_whitespace().next().context("the boot pointer is empty")?;
        signed::sha256_file(&slots.join(format!("main.{letter}")))
    }
}
