//! `sluice-sign`: the release engineer's command line. It keeps a repository folder, makes keys, stages documents,
//! signs them on as many machines as there are holders, and publishes what is complete. Only `publish`, `tuf` and `uptane`
//! use a network.
//!
//! A library so that what it reads from others, [`examine`] and [`signatures_in`], can be fuzzed; the program is [`main`].

mod advisory;
mod args;
mod audit;
mod ceremony;
mod client;
mod describe;
mod detached;
mod documents;
mod drill;
mod edge;
mod embargo;
mod entitlement;
mod failure;
mod folder;
mod http;
mod key;
mod output;
mod outside;
mod product;
mod publish;
mod release;
mod rotate;
mod sign;
mod signing_file;
mod stage;
mod status;
mod tuf;
mod uptane;

pub use crate::detached::examine;
pub use crate::signing_file::signatures_in;

use crate::args::{Cli, Command};
use crate::failure::Failure;
use clap::{CommandFactory as _, Parser as _};
use std::process::ExitCode;

/// The program: reads the command line and carries it out. Returns what `docs/release-engineer.md`, section 7, says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            let failure = error.downcast_ref::<Failure>();
            if let Some(next) = failure.and_then(|failure| failure.next.as_deref()) {
                eprintln!("next: {next}");
            }
            ExitCode::from(failure.map_or(failure::FILE, |failure| failure.code))
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let now = edge::now(cli.now.as_deref())?;
    let json = cli.json;
    match cli.command {
        Command::Key(command) => key::run(command, json)?,
        Command::Root(args::RootCommand::Init(init)) => ceremony::root_init(&init, now, json)?,
        Command::Root(args::RootCommand::Rotate(change)) => rotate::root(&change, now, json)?,
        Command::Delegate(args::DelegateCommand::Rotate(change)) => rotate::delegate(&change, now, json)?,
        Command::Delegate(args::DelegateCommand::Revoke(args)) => rotate::revoke(&args, now, json)?,
        Command::Delegate(args::DelegateCommand::Add(add)) => ceremony::delegate_add(&add, now, json)?,
        Command::Product(command) => product::run(&command, json)?,
        Command::Release(args::ReleaseCommand::New(new)) => release::new(&new, now, json)?,
        Command::Release(args::ReleaseCommand::Withdraw(args)) => release::withdraw(&args, now, json)?,
        Command::Release(args::ReleaseCommand::Adopt(args)) => embargo::adopt(&args, now, json)?,
        Command::Advisory(args::AdvisoryCommand::Add(add)) => advisory::add(&add, now, json)?,
        Command::Sign(args) => sign::run(&args, now, json)?,
        Command::Request(args) => detached::request(&args, now, json)?,
        Command::Merge(args) => detached::merge(&args, now, json)?,
        Command::Renew(args) => ceremony::renew(&args, now, json)?,
        Command::Discard(args) => stage::discard(&args, json)?,
        Command::Status(args) => status::status(&args, now, json)?,
        Command::Verify(args) => return status::verify(&args, now, json),
        Command::Audit(args) => return audit::run(&args, now, json),
        Command::Publish(args) => publish::run(&args, now, json)?,
        Command::Drill(command) => return drill::run(&command, now, json),
        Command::Entitlement(args::EntitlementCommand::Show(args)) => return entitlement::show(&args, now, json),
        Command::Tuf(args) => return Ok(tuf::run(&args, now, json)),
        Command::Uptane(args) => return uptane::run(&args, now, json),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "sluice-sign", &mut std::io::stdout());
        }
    }
    Ok(ExitCode::SUCCESS)
}
