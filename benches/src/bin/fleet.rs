//! A fleet against the real server: how many polls it answers in a second, beside the most that its HTTP stack can do.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use comfy_table::{CellAlignment, Table, presets};
use indicatif::ProgressBar;
use serde::Serialize;
use sluice_benches::fleet::{DEVICES_MAX, set_up};
use sluice_benches::large;
use sluice_benches::load::{Figures, ROUNDS, run};
use sluice_benches::pairs::{duration, grouped};
use sluice_benches::server::{Server, build};

/// Measures a fleet of devices against the real server on this machine.
///
/// Exit codes: 0 measured; 1 something failed or any answer was wrong, the message says which; 2 wrong usage.
#[derive(Debug, Parser)]
#[command(name = "fleet", version, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Polls a second: unchanged and signed, beside `GET /healthz` over the same connections.
    Polls(Polls),
    /// A rollout over a million devices: milliseconds to make it and to raise its stage, beside the cheapest change.
    Rollouts(Rollouts),
}

#[derive(Debug, clap::Args)]
struct Rollouts {
    /// The server's program; without it this workspace's is built in release mode.
    #[arg(long, value_name = "FILE")]
    server_bin: Option<PathBuf>,
    /// Devices of the fleet.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(100..=i64::from(large::DEVICES_MAX)))]
    devices: u32,
    /// Percent of them that have tried the release when its stage is raised: the answer counts them.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=100))]
    tried: u8,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Polls {
    /// The server's program; without it this workspace's is built in release mode.
    #[arg(long, value_name = "FILE")]
    server_bin: Option<PathBuf>,
    /// Devices that enrol and poll.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=i64::from(DEVICES_MAX)))]
    devices: u32,
    /// Seconds for each kind of request.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Kept-alive connections, each with a thread; at most one for each device.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    connections: u16,
    /// Percent of the devices that the rollout has reached: they are offered a patch, the others wait for their stage.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=100))]
    percent: u8,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    devices: u32,
    connections: u16,
    offered: usize,
    enrolled_in_s: f64,
    figures: Vec<Figures>,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Polls(polls) => {
            let report = measure(&polls)?;
            if polls.json {
                println!("{}", serde_json::to_string_pretty(&report)?);
            } else {
                print(&report);
            }
        }
        Command::Rollouts(rollouts) => {
            let report = measure_rollouts(&rollouts)?;
            if rollouts.json {
                println!("{}", serde_json::to_string_pretty(&report)?);
            } else {
                print_rollouts(&report);
            }
        }
    }
    Ok(())
}

fn measure_rollouts(rollouts: &Rollouts) -> Result<large::Report> {
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(200));
    bar.set_message("building the server");
    let program = rollouts.server_bin.clone().map_or_else(build, Ok)?;
    let server = Server::start(&program)?;
    let report = large::measure(&server, rollouts.devices, rollouts.tried, |what| bar.set_message(what.to_owned()))?;
    bar.finish_and_clear();
    Ok(report)
}

fn print_rollouts(report: &large::Report) {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(["change", "median ms", "longest ms", "of the cheapest"]);
    for change in &report.changes {
        table.add_row([
            change.what.to_owned(),
            format!("{:.1}", change.median_ms),
            format!("{:.1}", change.longest_ms),
            format!("{:.2}", change.of_cheapest),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    println!(
        "{} devices, {} attempts at the rollout that is raised. Each rollout that was made took {} bytes of memory; the server has {} MiB.",
        grouped(u64::from(report.devices)),
        grouped(u64::from(report.attempts)),
        grouped(report.bytes_per_rollout),
        report.resident >> 20,
    );
}

fn measure(polls: &Polls) -> Result<Report> {
    let connections = usize::from(polls.connections);
    ensure!(
        u32::from(polls.connections) <= polls.devices,
        "--connections {} is more than --devices {}: give each connection a device",
        polls.connections,
        polls.devices
    );
    // Hidden by itself where standard error is no terminal.
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(200));
    bar.set_message("building the server");
    let program = polls.server_bin.clone().map_or_else(build, Ok)?;
    bar.set_message(format!("setting up {} devices", polls.devices));
    let server = Server::start(&program)?;
    let mut fleet = set_up(&server, polls.devices, polls.percent, connections)?;
    let offered = fleet.pollers.iter().filter(|poller| poller.is_offered()).count();
    let time = Duration::from_secs(polls.seconds);
    let figures = run(server.address(), &mut fleet.pollers, &fleet.trust, connections, time, |round, kind| {
        bar.set_message(format!("round {round} of {ROUNDS}: {}", kind.title()));
    })?;
    bar.finish_and_clear();
    Ok(Report {
        devices: polls.devices,
        connections: polls.connections,
        offered,
        enrolled_in_s: fleet.enrolled_in.as_secs_f64(),
        figures,
    })
}

/// A rate without its fraction.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "requests a second, rounded for people")]
fn whole(rate: f64) -> String {
    grouped(rate.round() as u64)
}

fn print(report: &Report) {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(["request", "a second", "of the ceiling", "p50 µs", "p90 µs", "p99 µs", "p99.9 µs", "verified"]);
    for figures in &report.figures {
        table.add_row([
            figures.kind.title().to_owned(),
            whole(figures.per_second),
            format!("{:.2}", figures.of_ceiling),
            grouped(figures.latency.p50_us),
            grouped(figures.latency.p90_us),
            grouped(figures.latency.p99_us),
            grouped(figures.latency.p999_us),
            grouped(figures.verified),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    println!(
        "{} devices, {} offered a patch, {} connections; client and server share the machine. Enrolment, session and \
         first poll of all devices took {} s.",
        report.devices,
        report.offered,
        report.connections,
        duration(Duration::from_secs_f64(report.enrolled_in_s)),
    );
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_its_bounds_hold() {
        Cli::command().debug_assert();
        assert!(Cli::try_parse_from(["fleet", "polls", "--devices", "0"]).is_err());
        assert!(Cli::try_parse_from(["fleet", "polls", "--connections", "257"]).is_err());
        assert!(Cli::try_parse_from(["fleet", "rollouts", "--devices", "99"]).is_err());
        let Command::Polls(polls) = Cli::try_parse_from(["fleet", "polls", "--devices", "3"]).unwrap().command else {
            panic!("another command");
        };
        let error = measure(&polls).unwrap_err().to_string();
        assert_eq!(error, "--connections 8 is more than --devices 3: give each connection a device");
    }
}
