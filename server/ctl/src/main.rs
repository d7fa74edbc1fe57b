//! `sluicectl`: the admin command line over the REST API of a Sluice server.
//!
//! Arguments are read in two stages: `cli` says what can be typed, `settings` says what was meant. Each noun has a
//! file under `noun` with its commands; the wire types are the catalog's own.

mod args;
mod cli;
mod client;
mod failure;
mod noun;
mod output;
mod secret;
mod settings;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let json = cli.global.json;
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error, json),
    }
}
