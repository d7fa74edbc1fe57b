//! Entry point of `cargo xtask`. Each command is a module of the library.

use std::process::{Command, ExitCode};

use clap::{CommandFactory, Parser, Subcommand};
use xtask::steps::{Steps, workspace_root};
use xtask::{demo, lint, postgres, test, tidy};

/// Developer commands. They say each step, and what to install when something is missing.
///
/// Exit codes: that of the command that was run; 1 when a step failed; 2 wrong usage; 130 or 143 when interrupted.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Play the whole story with the real programs: sign, publish, enrol, patch, roll out, deny, tamper, recover.
    Demo(demo::Options),
    /// Run all tests: starts PostgreSQL, prepares TUF clients of other people, builds the programs, runs cargo test.
    Test {
        /// Passed on to cargo test, such as `-p sluice-server` or `-- name_of_a_test`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Check the rules of ARCHITECTURE.md on all sources.
    Tidy {
        /// Print findings as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check formatting and lints; warnings are errors.
    Lint,
    /// Start a throw-away PostgreSQL, run a command with SLUICE_TEST_POSTGRES set to its URL, stop it.
    Postgres {
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Print a completion script for a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<ExitCode> {
    match task {
        Task::Demo(options) => demo::run(&Steps::new()?, &options),
        Task::Test { args } => test::run(&Steps::new()?, &args),
        Task::Tidy { json } => tidy::command(&workspace_root(), json),
        Task::Lint => lint::run(&Steps::new()?),
        Task::Postgres { command } => {
            let steps = Steps::new()?;
            let server = postgres::Server::start(&steps)?;
            let mut words = command.iter();
            let mut child = Command::new(words.next().map_or("true", String::as_str));
            child.args(words).env(postgres::URL_VARIABLE, server.url());
            let code = steps.status(&mut child);
            server.stop();
            code
        }
        Task::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "xtask", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    }
}
