//! The command line's arguments and its human output.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use sluice_agent::config::{CHECK_INTERVAL_S, CheckOptions, MAX_CHECK_TIMEOUT_S, MAX_SOAK_S};
use sluice_agent::offline::Entitlement;
use sluice_agent::provision::{Provision, Roots};
use sluice_agent::status::{SlotCheck, Status};
use sluice_agent::{CycleReport, Outcome};
use sluice_catalog::device::DecoderProfile;
use sluice_catalog::text::{Component, HardwareId, ProductName, Serial, Version};
use sluice_catalog::wire::device::WhyResponse;

/// Reference device client: keeps a device on the newest firmware it is entitled to.
#[derive(Debug, Parser)]
#[command(name = "sluice-agent", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// State directory: configuration, key, metadata, slots, journal.
    #[arg(long, global = true, env = "SLUICE_AGENT_STATE", default_value = "/var/lib/sluice-agent")]
    pub state: PathBuf,
    /// Print the result as JSON on standard output.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes:
   0  up to date, updated, or nothing offered
   1  trouble on this machine: storage, configuration, another agent
   2  wrong usage
   3  the server does not admit the device
  10  the update failed; the old version runs
  11  signed metadata or the offer was refused; nothing changed
  12  the server could not be reached; the next round goes on
  14  verify: a slot is not what the records say";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Provision a state directory: identity, first image, trusted roots.
    Init(Box<Init>),
    /// Make the device known to the server and bind its key to its serial.
    Enrol {
        /// Enrolment token, one-use or of a batch.
        #[arg(long, env = "SLUICE_ENROL_TOKEN", hide_env_values = true)]
        token: Option<String>,
    },
    /// One full round: recover, poll, update if something is offered, report.
    Once,
    /// Rounds without end, until SIGTERM.
    Run {
        /// Seconds between rounds, instead of what the server asks for.
        #[arg(long, value_name = "SECONDS")]
        interval: Option<u64>,
    },
    /// What the device runs, and how its last attempt went.
    Status,
    /// Ask the server why the device gets a version, or does not.
    Why {
        /// About this version only [default: what the device gets].
        version: Option<Version>,
    },
    /// Hash the slots and hold them against the records.
    Verify,
    /// What the device may install by its contracts, without the server: as its certificate says. It decides nothing.
    Entitlement {
        /// A product's signed document (`N.PRODUCT.json`), such as one on a memory stick: judge its versions.
        #[arg(long, value_name = "FILE")]
        document: Option<PathBuf>,
    },
    /// Print a completion script.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Names of the points at which a debug build can be killed by `SLUICE_FAILPOINT`.
    #[command(hide = true)]
    Failpoints,
}

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct Init {
    /// The server, for instance https://updates.example.
    #[arg(long)]
    server: String,
    /// Product line.
    #[arg(long)]
    product: ProductName,
    /// Serial number.
    #[arg(long)]
    serial: Serial,
    /// Hardware id.
    #[arg(long)]
    hw_id: HardwareId,
    /// The image that the device runs; it is copied into slot a.
    #[arg(long, value_name = "FILE")]
    image: PathBuf,
    /// Version of that image.
    #[arg(long)]
    version: Version,
    /// Security counter of that image: the first floor against rollback.
    #[arg(long, value_name = "N")]
    security_counter: u32,
    /// The component that the image is for.
    #[arg(long, default_value = "main")]
    component: Component,
    /// A channel that the device accepts; may be repeated.
    #[arg(long = "channel", default_value = "stable")]
    channels: Vec<String>,
    /// What the device can decode.
    #[arg(long, value_enum, default_value_t = ProfileName::Small)]
    profile: ProfileName,
    /// Memory given to patching, bytes [default: 64 MiB].
    #[arg(long, value_name = "BYTES")]
    ram_budget: Option<u32>,
    /// A program that says whether a new image is healthy; repeat for its arguments.
    #[arg(long, value_name = "PROGRAM", allow_hyphen_values = true)]
    boot_check: Vec<String>,
    /// Seconds that one run of that program may take [default: 120].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_CHECK_TIMEOUT_S)))]
    check_timeout: Option<u32>,
    /// Seconds for which a new image must run and go on passing the check before it is healthy [default: 0, one check is enough].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(0..=i64::from(MAX_SOAK_S)))]
    soak: Option<u32>,
    /// Seconds between two checks during the soak [default: 60].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(i64::from(*CHECK_INTERVAL_S.start())..=i64::from(*CHECK_INTERVAL_S.end())))]
    check_interval: Option<u32>,
    /// Keep what the check prints on the device, also when it fails.
    #[arg(long)]
    no_report_log: bool,
    /// Certificates (PEM) of a private authority that the server's certificate comes from.
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Root document of the image repository.
    #[arg(long, value_name = "FILE", required_unless_present = "trust_on_first_use")]
    root: Option<PathBuf>,
    /// Root document of the director.
    #[arg(long, value_name = "FILE", required_unless_present = "trust_on_first_use")]
    director_root: Option<PathBuf>,
    /// Trust the first roots that the server sends. Whoever answers then owns the device: for trials only.
    #[arg(long, conflicts_with_all = ["root", "director_root"])]
    trust_on_first_use: bool,
}

/// Names of the decoder profiles.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProfileName {
    /// Raw full images only.
    Raw,
    /// Zstandard.
    Fast,
    /// Zstandard, LZMA and re-encoders.
    Default,
    /// The same and the context-mixing coder: the smallest patches.
    Small,
    /// Patches for microcontrollers alone.
    Mcu,
}

impl Init {
    fn check(&self) -> CheckOptions {
        let defaults = CheckOptions::default();
        CheckOptions {
            timeout_s: self.check_timeout.unwrap_or(defaults.timeout_s),
            soak_s: self.soak.unwrap_or(defaults.soak_s),
            interval_s: self.check_interval.unwrap_or(defaults.interval_s),
            report_log: !self.no_report_log,
            ..defaults
        }
    }

    /// What was typed, as what it means.
    pub fn provision(&self) -> Provision {
        Provision {
            server: self.server.clone(),
            product: self.product.clone(),
            serial: self.serial.clone(),
            hw_id: self.hw_id.clone(),
            component: self.component.clone(),
            image: self.image.clone(),
            version: self.version.clone(),
            security_counter: self.security_counter,
            channels: self.channels.iter().cloned().collect::<BTreeSet<_>>(),
            profile: match self.profile {
                ProfileName::Raw => DecoderProfile::Raw,
                ProfileName::Fast => DecoderProfile::Fast,
                ProfileName::Default => DecoderProfile::Default,
                ProfileName::Small => DecoderProfile::Small,
                ProfileName::Mcu => DecoderProfile::Mcu,
            },
            ram_budget: self.ram_budget,
            boot_check: self.boot_check.clone(),
            check: self.check(),
            tls_ca: self.tls_ca.clone(),
            roots: match (&self.root, &self.director_root) {
                (Some(image), Some(director)) => Roots::Files { image: image.clone(), director: director.clone() },
                // clap lets this through only with `--trust-on-first-use`.
                _ => Roots::FirstUse,
            },
        }
    }
}

/// A round in one line.
pub fn cycle_text(report: &CycleReport) -> String {
    let version = |version: &Option<Version>| version.as_ref().map_or("?", Version::as_str).to_owned();
    let (from, to) = (version(&report.from), version(&report.to));
    let reason = report.reason.as_deref().unwrap_or("no reason given");
    let mut text = match report.outcome {
        Outcome::UpToDate => "up to date".to_owned(),
        Outcome::NothingOffered => format!("nothing offered: {reason}"),
        Outcome::Updated => format!("updated from {from} to {to}{}", carried(report)),
        Outcome::Unconfirmed => format!("runs {to} instead of {from}; the server has not confirmed it yet"),
        Outcome::Soaking => format!("runs {to} instead of {from}; it soaks before it counts as healthy"),
        Outcome::Withdrawn => format!("the offer of {to} was taken back; {from} runs"),
        Outcome::Failed => format!("update to {to} failed; {from} runs"),
        Outcome::RolledBack => format!("{to} was not healthy; {from} runs again"),
        Outcome::Refused => "refused".to_owned(),
        Outcome::Unreachable => "the server could not be reached".to_owned(),
        Outcome::Denied => "the server does not admit this device".to_owned(),
        Outcome::Stopped => "stopped".to_owned(),
        Outcome::Error => "error".to_owned(),
    };
    if report.fallback && report.outcome == Outcome::Updated {
        text.push_str("; the patch was given up for the full image");
    }
    for more in [&report.detail, &report.notice].into_iter().flatten() {
        text.push_str("\n  ");
        text.push_str(more);
    }
    text
}

fn carried(report: &CycleReport) -> String {
    let Some(encoding) = report.encoding else { return String::new() };
    let of_full = report.full_length.map(|full| format!(" (full image {full})")).unwrap_or_default();
    format!(" by {}, {} bytes{of_full}", encoding.as_str(), report.bytes_downloaded)
}

/// `status` for people.
pub fn status_text(status: &Status) -> String {
    let mut lines = vec![
        format!("device    {} {} ({})", status.product, status.serial, status.hw_id),
        format!("server    {}", status.server),
        match &status.device_id {
            Some(id) => format!("enrolled  as {id}"),
            None => "enrolled  no; run `sluice-agent enrol`".to_owned(),
        },
    ];
    for component in &status.components {
        let version = component.version.as_ref().map_or("unknown", Version::as_str);
        let other = component.other.as_ref().map(|other| format!(", other slot {other}")).unwrap_or_default();
        let floor = component.security_floor;
        let (name, slot) = (component.component.as_str(), component.slot);
        lines.push(format!("{name:<9} {version} in slot {slot}{other}, security floor {floor}"));
    }
    if let Some(attempt) = &status.last_attempt {
        let number = attempt.attempt.map(|number| format!(" {number}")).unwrap_or_default();
        let detail = attempt.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
        lines.push(format!("attempt{number:<2} {} to {}, {}{detail}", attempt.from, attempt.to, attempt.phase.name()));
        lines.extend(attempt.soak.map(|soak| format!("soak      {} of {} s", soak.soaked_s, soak.of_s)));
    }
    if status.outbox > 0 {
        lines.push(format!("outbox    {} reports wait", status.outbox));
    }
    lines.join("\n")
}

/// `entitlement` for people.
pub fn entitlement_text(entitlement: &Entitlement) -> String {
    let mut lines = Vec::new();
    if let Some(trouble) = &entitlement.trouble {
        lines.push(format!("no certificate holds: {trouble}"));
    }
    if let Some(says) = &entitlement.certificate {
        lines.push(format!("state     {}", says.state.as_str()));
        if let Some(at) = says.replaced_at {
            lines.push(format!("replaced  from {at} on"));
        }
        lines.push(format!("valid     from {} until {}", says.issued, says.expires));
        if let Some(train) = &says.confirmed_train {
            lines.push(format!("security  fixes of train {train} need no cover"));
        }
        for cover in &says.contracts {
            let codes: Vec<_> = cover.codes.iter().map(|(code, channel)| format!("{code} up to {channel}")).collect();
            lines.push(format!("contract  {} ({}), {}: {}", cover.contract, cover.plan, cover.rule, codes.join(", ")));
            let looks_at = match cover.rule.as_str() {
                "train-ga" => "trains that came out",
                "release-date" => "versions published",
                "live" => "every version,",
                rule if rule.starts_with("fallback-") => "every version,",
                _ => "windows, without effect,",
            };
            for (from, to) in &cover.windows {
                lines.push(format!(
                    "          {looks_at} from {from} until {to}, and {} days of grace",
                    cover.grace_days
                ));
            }
        }
        if says.contracts.is_empty() {
            lines.push("contract  none".to_owned());
        }
    }
    for version in &entitlement.versions {
        let (word, turn) = if version.allowed { ("may install", "until") } else { ("may not install", "before") };
        let until = version.until.map(|at| format!(" ({turn} {at})")).unwrap_or_default();
        let undated = if version.undated { " When it was published is not known here." } else { "" };
        lines.push(format!(
            "{word} {}{until}: {} ({}){undated}",
            version.version,
            version.sentence,
            version.reason.code()
        ));
    }
    if entitlement.holds && entitlement.versions.is_empty() {
        lines.push("no signed document of a version is at hand; give one with --document".to_owned());
    }
    lines.join("\n")
}

/// `why` for people.
pub fn why_text(told: &WhyResponse) -> String {
    let about = told.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    let outcome = if told.offered { "offered" } else { "not offered" };
    let mut lines = vec![format!("{outcome}{about}: {}", told.reason), format!("  {}", told.sentence)];
    lines.extend(told.may_have.as_ref().map(|version| format!("  may have {version}")));
    lines.extend(told.changes_at.map(|at| format!("  changes at {at}")));
    lines.join("\n")
}

/// `verify` for people.
pub fn checks_text(checks: &[SlotCheck]) -> String {
    let line = |check: &SlotCheck| {
        let active = if check.active { " (runs)" } else { "" };
        let verdict = match (&check.found, check.ok) {
            (_, true) => "ok".to_owned(),
            (Some(found), false) => format!("DAMAGED: found {}, recorded {}", found.short(), check.expected.short()),
            (None, false) => "MISSING".to_owned(),
        };
        format!("{}.{} {}{active}: {verdict}", check.component, check.slot, check.version)
    };
    checks.iter().map(line).collect::<Vec<_>>().join("\n")
}
