//! `sluice-delta`: makes, applies and describes patches on files.
//!
//! Results go to standard output, progress and errors to standard error. Exit codes: 0 done, 1 refused or damaged, 2 wrong
//! usage, 3 trouble with a file.

mod apply;
mod args;
mod bench;
mod diff;
mod failure;
mod foreign;
mod info;

use std::{
    io::{IsTerminal, Write, stdout},
    process::ExitCode,
    time::Duration,
};

use clap::{CommandFactory, Parser};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::{
    args::{Cli, Command},
    failure::Failure,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            let failure = error.downcast_ref::<Failure>();
            if let Some(hint) = failure.and_then(Failure::hint) {
                eprintln!("hint: {hint}");
            }
            ExitCode::from(failure.map_or(failure::FILE, Failure::code))
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    match &cli.command {
        Command::Diff(args) => diff::run(args, cli.json),
        Command::Apply(args) => apply::run(args, cli.json),
        Command::Info(args) => info::run(args, cli.json),
        Command::Bench(args) => bench::run(args, cli.json),
        Command::Completion { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "sluice-delta", &mut stdout());
            Ok(())
        }
    }
}

/// Prints a result: one JSON document, or lines for people.
fn print(json: bool, result: &impl Serialize, text: &str) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, result)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{text}")?;
    }
    Ok(())
}

/// A bar on standard error when that is a terminal, else nothing.
fn progress_bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
        return bar;
    }
    if let Ok(style) = ProgressStyle::with_template("{msg:12} {bar:40} {bytes} of {total_bytes}, {eta} left") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
