//! `cargo xtask lint`: formatting and clippy over the whole workspace.

use std::process::ExitCode;

use anyhow::Result;

use crate::steps::{Steps, cargo};

/// Runs both checks; the second only when the first is clean.
pub fn run(steps: &Steps) -> Result<ExitCode> {
    steps.run("checking formatting (cargo fmt)", &mut cargo(&["fmt", "--all", "--check"]))?;
    steps.announce("checking lints (cargo clippy)");
    steps.status(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}
