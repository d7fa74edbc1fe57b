//! `entitlement`: certificates of what devices may have by contract.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `entitlement`
#[derive(Debug, Subcommand)]
pub enum EntitlementCommand {
    /// Show a certificate, and with a director root say whether it holds now. Exits 1 when it does not.
    Show(ShowArgs),
}

/// `entitlement show`
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The certificate.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The repository folder whose newest director root names the key.
    #[arg(long, value_name = "DIR", conflicts_with = "director_root")]
    pub repo: Option<PathBuf>,
    /// The director root to trust; give those that follow it after it, up to the newest.
    #[arg(long, value_name = "FILE")]
    pub director_root: Vec<PathBuf>,
}
