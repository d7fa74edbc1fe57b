//! A large image repository: what a device that knows nothing but the first root fetches and computes until it trusts a
//! target, beside python-tuf on the same server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use sluice_benches::catalogue::{Catalogue, Device, Walk, set_up};
use sluice_benches::pairs::{duration, grouped};
use sluice_benches::server::{Server, build};

/// Runs of each walk; the shortest counts.
const ROUNDS: u32 = 5;
/// The server compresses no image meanwhile: ten thousand jobs would share the processor with what is measured.
const CONFIGURATION: &str = "worker_threads = 0\n";

/// Measures what a large repository costs a device, on the real server.
///
/// Exit codes: 0 measured; 1 something failed or a client found another digest; 2 wrong usage.
#[derive(Debug, Parser)]
#[command(name = "repository", version, max_term_width = 120)]
struct Cli {
    /// The server's program; without it this workspace's is built in release mode.
    #[arg(long, value_name = "FILE")]
    server_bin: Option<PathBuf>,
    /// Product lines, each with a role of its own.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=500))]
    products: u32,
    /// Releases of each.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    releases: u32,
    /// A Python interpreter that has python-tuf, for the peer's rows.
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// One row.
#[derive(Debug, Serialize)]
struct Row {
    client: &'static str,
    walk: &'static str,
    requests: u32,
    bytes: usize,
    wall_ms: f64,
    cpu_ms: f64,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    products: u32,
    releases: u32,
    published_in_s: f64,
    rows: Vec<Row>,
}

/// What the peer's script prints.
#[derive(Debug, Deserialize)]
struct Peer {
    requests: u32,
    bytes: usize,
    seconds: f64,
    cpu_seconds: f64,
    sha256: Option<String>,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let report = measure(&cli)?;
    if cli.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

fn measure(cli: &Cli) -> Result<Report> {
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(200));
    bar.set_message("building the server");
    let program = cli.server_bin.clone().map_or_else(build, Ok)?;
    let server = Server::start_with(&program, CONFIGURATION)?;
    let catalogue = set_up(&server, cli.products, cli.releases, |step| bar.set_message(step.to_owned()))?;
    bar.set_message("walking");
    let mut rows = Vec::new();
    let (mut cold, mut warm, mut all) = (Vec::new(), Vec::new(), Vec::new());
    let mut peers = Vec::new();
    for _ in 0..ROUNDS {
        let mut device = Device::cold(&server, &catalogue.root)?;
        cold.push(device.walk(|device| {
            device.refresh()?;
            let found = device.find(&catalogue.target)?;
            ensure!(found == catalogue.digest, "another image stands under {}", catalogue.target);
            Ok(())
        })?);
        warm.push(device.walk(Device::refresh)?);
        let mut eager = Device::cold(&server, &catalogue.root)?;
        all.push(eager.walk(|device| {
            device.refresh()?;
            catalogue
                .products
                .iter()
                .try_for_each(|product| device.find(&format!("{product}/2.0.1/main.bin")).map(drop))
        })?);
        if let Some(python) = &cli.python {
            peers.push(peer(python, &server, &catalogue)?);
        }
    }
    for (walk, walks) in
        [("from the first root to one target", cold), ("again, nothing new", warm), ("every role", all)]
    {
        rows.push(row("sluice", walk, &walks)?);
    }
    if cli.python.is_some() {
        rows.push(row("python-tuf", "from the first root to one target", &peers)?);
    }
    bar.finish_and_clear();
    Ok(Report {
        products: cli.products,
        releases: cli.releases,
        published_in_s: catalogue.published_in.as_secs_f64(),
        rows,
    })
}

/// The shortest of several walks, which must all have fetched the same.
fn row(client: &'static str, walk: &'static str, walks: &[Walk]) -> Result<Row> {
    let first = walks.first().context("no walk")?;
    ensure!(
        walks.iter().all(|walk| (walk.requests, walk.bytes) == (first.requests, first.bytes)),
        "{walk}: two walks differ"
    );
    let ms = |of: fn(&Walk) -> Duration| walks.iter().map(of).min().unwrap_or_default().as_secs_f64() * 1_000.0;
    Ok(Row {
        client,
        walk,
        requests: first.requests,
        bytes: first.bytes,
        wall_ms: ms(|walk| walk.wall),
        cpu_ms: ms(|walk| walk.cpu),
    })
}

fn peer(python: &Path, server: &Server, catalogue: &Catalogue) -> Result<Walk> {
    let folder = tempfile::tempdir()?;
    let root = folder.path().join("root.json");
    std::fs::write(&root, &catalogue.root)?;
    let output = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python/cold.py"))
        .arg(format!("http://{}", server.address()))
        .arg(folder.path())
        .arg(&root)
        .arg(&catalogue.target)
        .output()
        .with_context(|| format!("starting {}", python.display()))?;
    ensure!(output.status.success(), "python-tuf: {}", String::from_utf8_lossy(&output.stderr));
    let peer: Peer = serde_json::from_slice(&output.stdout).context("what python-tuf printed")?;
    ensure!(peer.sha256 == Some(hex::encode(catalogue.digest)), "python-tuf found {:?}", peer.sha256);
    Ok(Walk {
        requests: peer.requests,
        bytes: peer.bytes,
        wall: Duration::from_secs_f64(peer.seconds),
        cpu: Duration::from_secs_f64(peer.cpu_seconds),
    })
}

fn print(report: &Report) {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(["client", "walk", "requests", "bytes", "wall ms", "CPU ms"]);
    for row in &report.rows {
        table.add_row([
            row.client.to_owned(),
            row.walk.to_owned(),
            row.requests.to_string(),
            grouped(row.bytes as u64),
            format!("{:.1}", row.wall_ms),
            format!("{:.1}", row.cpu_ms),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    println!(
        "{} products of {} releases; the server checked, kept and signed all of it in {} s.",
        report.products,
        report.releases,
        duration(Duration::from_secs_f64(report.published_in_s)),
    );
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_its_bounds_hold() {
        Cli::command().debug_assert();
        assert!(Cli::try_parse_from(["repository", "--products", "501"]).is_err());
    }

    #[test]
    fn the_shortest_walk_counts_and_all_must_fetch_the_same() {
        let walk = |bytes, ms| Walk {
            requests: 5,
            bytes,
            wall: Duration::from_millis(ms),
            cpu: Duration::from_millis(ms / 2),
        };
        let row_of = |walks: &[Walk]| row("sluice", "cold", walks);
        let best = row_of(&[walk(10, 30), walk(10, 20)]).unwrap();
        assert_eq!((best.requests, best.bytes, best.wall_ms, best.cpu_ms), (5, 10, 20.0, 10.0));
        assert!(row_of(&[walk(10, 30), walk(11, 20)]).is_err());
    }
}
