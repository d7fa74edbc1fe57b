//! A rollout over a fleet of a million: how long it takes to make one and to raise its stage, and what memory that costs,
//! beside the cheapest change that the same server writes. The devices are written into its database beneath it, because
//! they are not what is measured.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::json;
use sluice_catalog::rollout::RolloutState;
use sluice_catalog::wire::rollout::RolloutDetail;

use crate::clock;
use crate::fleet;
use crate::server::Server;

/// Most devices: more would measure the database's file.
pub const DEVICES_MAX: u32 = 5_000_000;
/// How often each change is made.
const ROUNDS: u32 = 25;
/// Until the server has noticed a change of rollouts by its timer, and has counted what it watches.
const SETTLE: Duration = Duration::from_secs(5);
/// How long a writer of the server may be in our way.
const BUSY_MS: u32 = 30_000;

/// How long a change took, of [`ROUNDS`].
#[derive(Debug, Serialize)]
pub struct Change {
    /// What was changed.
    pub what: &'static str,
    /// The one in the middle, in milliseconds.
    pub median_ms: f64,
    /// The longest.
    pub longest_ms: f64,
    /// How much longer the middle one took than that of the cheapest change.
    pub of_cheapest: f64,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Devices in the fleet.
    pub devices: u32,
    /// Attempts of the rollout whose stage is raised.
    pub attempts: u32,
    /// The changes, the cheapest first.
    pub changes: Vec<Change>,
    /// What the server's memory grew by while the rollouts were made, for each, in bytes.
    pub bytes_per_rollout: u64,
    /// The server's memory at the end, in bytes.
    pub resident: u64,
}

/// Fills the fleet of a fresh server up to so many devices, of which so many percent have tried the release, and measures.
pub fn measure(server: &Server, devices: u32, tried: u8, told: impl Fn(&str)) -> Result<Report> {
    let (mut setup, _) = fleet::foundation(server, 1, 1)?;
    let percents: Vec<_> = (1..=ROUNDS + 1).map(|percent| json!({"percent": percent})).collect();
    fleet::rollout(&mut setup, "raised", &json!(percents))?;
    let attempts = devices / 100 * u32::from(tried);
    told(&format!("writing {devices} devices"));
    fill(server, devices, attempts)?;
    std::thread::sleep(SETTLE);

    told("changing");
    setup.reconnect()?;
    let cheapest = times(|round| {
        let body = json!({"name": format!("customer-{round}")});
        setup.post::<IgnoredAny>("/api/v1/customers", &body).map(drop)
    })?;
    let before = server.resident()?;
    let made = times(|round| {
        let body = json!({
            "name": format!("made-{round}"), "product": fleet::PRODUCT, "version": fleet::NEW, "preset": "normal",
        });
        setup.post::<IgnoredAny>("/api/v1/rollouts", &body).map(drop)
    })?;
    let after = server.resident()?;
    let raised = times(|_| setup.post_quietly("/api/v1/rollouts/raised/move", &json!({"action": "advance"})))?;
    let shown = times(|_| setup.get::<IgnoredAny>("/api/v1/rollouts/raised").map(drop))?;
    let moved: RolloutDetail = setup.get("/api/v1/rollouts/raised")?;
    ensure!(i64::from(moved.rollout.stage) == i64::from(ROUNDS), "{:?}", moved.rollout);
    ensure!(moved.rollout.state == RolloutState::Running, "{:?}", moved.rollout);
    let base = median(&cheapest);
    let change = |what, times: &[Duration]| Change {
        what,
        median_ms: median(times).as_secs_f64() * 1e3,
        longest_ms: times.iter().max().copied().unwrap_or_default().as_secs_f64() * 1e3,
        of_cheapest: median(times).as_secs_f64() / base.as_secs_f64(),
    };
    Ok(Report {
        devices,
        attempts,
        changes: vec![
            change("a customer is made", &cheapest),
            change("a rollout is made", &made),
            change("its stage is raised", &raised),
            change("it is shown with all figures", &shown),
        ],
        bytes_per_rollout: after.saturating_sub(before) / u64::from(ROUNDS),
        resident: server.resident()?,
    })
}

fn times(mut change: impl FnMut(u32) -> Result<()>) -> Result<Vec<Duration>> {
    (0..ROUNDS)
        .map(|round| {
            let began = clock::instant();
            change(round)?;
            Ok(began.elapsed())
        })
        .collect()
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Multiplies the one device that stands in the database, with what it runs; some with an attempt that went well.
fn fill(server: &Server, devices: u32, attempts: u32) -> Result<()> {
    let file = server.folder().join("sluice.db");
    ensure!(file.exists(), "{}: this measurement wants the embedded database", file.display());
    let mut program = Command::new("sqlite3")
        .args(["-batch", "-cmd", &format!(".timeout {BUSY_MS}")])
        .args(["-cmd", &format!(".parameter set @devices {devices}")])
        .args(["-cmd", &format!(".parameter set @attempts {attempts}")])
        .arg(&file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting sqlite3 (Debian: `apt install sqlite3`)")?;
    program.stdin.take().context("its input")?.write_all(include_bytes!("../sqlite/fleet.sql"))?;
    let output = program.wait_with_output()?;
    let there = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "sqlite3 ended with {}: what it says stands above", output.status);
    ensure!(there.lines().last() == Some(&devices.to_string()), "{} devices, not {devices}", there.trim());
    Ok(())
}

/// The resident memory of a process in bytes, as the kernel tells it.
pub fn resident(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).with_context(|| format!("{path}: no VmRSS"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().with_context(|| format!("{path}: {line}"))?;
    Ok(kib << 10)
}
