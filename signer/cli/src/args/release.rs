//! `product`, `release` and `advisory`: what is signed.

use super::OverrideArgs;
use crate::product::Evidence;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `product`
#[derive(Debug, Subcommand)]
pub enum ProductCommand {
    /// Enter a product into the registry, or change what is given.
    Set(ProductSetArgs),
    /// Show the registry.
    Show(ProductShowArgs),
}

/// `product set`
#[derive(Debug, Args)]
pub struct ProductSetArgs {
    /// The repository folder.
    #[arg(long, value_name = "DIR")]
    pub repo: PathBuf,
    /// Product line.
    #[arg(long)]
    pub product: String,
    /// Hardware id that there is; may be given again, and replaces the list.
    #[arg(long = "hw-id", value_name = "ID")]
    pub hw_ids: Vec<String>,
    /// Last day of support, YYYY-MM-DD; later on only security and recovery releases are signed.
    #[arg(long, value_name = "DAY")]
    pub support_end: Option<String>,
    /// Lowest security counter of a new release.
    #[arg(long)]
    pub security_counter: Option<u64>,
    /// What every new release must come with; may be given again, and replaces the list.
    #[arg(long, value_enum)]
    pub require: Vec<Evidence>,
    /// Builder whose provenance is believed: its id and its public key; may be given again.
    #[arg(long = "builder", value_name = "ID=PUB")]
    pub builders: Vec<String>,
}

/// `product show`
#[derive(Debug, Args)]
pub struct ProductShowArgs {
    /// The repository folder.
    #[arg(long, value_name = "DIR")]
    pub repo: PathBuf,
    /// Show this product line only.
    #[arg(long)]
    pub product: Option<String>,
}

/// `release`
#[derive(Debug, Subcommand)]
pub enum ReleaseCommand {
    /// Hash the images of a release and stage the product's next document.
    New(Box<ReleaseNewArgs>),
    /// Stage the product's next document without a release, which devices are then offered no more.
    Withdraw(ReleaseWithdrawArgs),
    /// Take a release that was announced over from the product's embargo role into its own: stages the next document of both.
    Adopt(ReleaseAdoptArgs),
}

/// `release adopt`
#[derive(Debug, Args)]
pub struct ReleaseAdoptArgs {
    /// The repository folder.
    #[arg(long, value_name = "DIR")]
    pub repo: PathBuf,
    /// Product line.
    #[arg(long)]
    pub product: String,
    /// Version of the release.
    #[arg(long)]
    pub version: String,
    /// Days until both documents expire.
    #[arg(long, default_value_t = 120, value_name = "DAYS")]
    pub expires_days: u32,
    /// What is overridden.
    #[command(flatten)]
    pub overrides: OverrideArgs,
}

/// `release withdraw`
#[derive(Debug, Args)]
pub struct ReleaseWithdrawArgs {
    /// The repository folder.
    #[arg(long, value_name = "DIR")]
    pub repo: PathBuf,
    /// Product line.
    #[arg(long)]
    pub product: String,
    /// Version of the release.
    #[arg(long)]
    pub version: String,
    /// Days until the product's document expires.
    #[arg(long, default_value_t = 120, value_name = "DAYS")]
    pub expires_days: u32,
    /// What is overridden.
    #[command(flatten)]
    pub overrides: OverrideArgs,
}

/// `release new`
#[derive(Debug, Args)]
pub struct ReleaseNewArgs {
    /// The repository folder.
    #[arg(long, value_name = "DIR")]
    pub repo: PathBuf,
    /// Product line.
    #[arg(long)]
    pub product: String,
    /// Version as people know it. It becomes part of target paths.
    #[arg(long)]
    pub version: String,
    /// Place in the order of versions; a greater number is newer.
    #[arg(long)]
    pub order: u64,
    /// Train, usually major.minor.
    #[arg(long)]
    pub train: String,
    /// Day on which the train became generally available, YYYY-MM-DD.
    #[arg(long, value_name = "DAY")]
    pub train_ga: String,
    /// Why it exists: security, maintenance, feature or recovery.
    #[arg(long)]
    pub kind: String,
    /// Hardware id that the images run on; may be given again.
    #[arg(long = "hw-id", required = true, value_name = "ID")]
    pub hw_ids: Vec<String>,
    /// Anti-rollback counter; it may never go down.
    #[arg(long)]
    pub security_counter: u64,
    /// Oldest version from which this one may be installed.
    #[arg(long, value_name = "VERSION")]
    pub min_installed: Option<String>,
    /// Channel that carries the release; may be given again.
    #[arg(long = "channel", default_value = "stable", value_name = "NAME")]
    pub channels: Vec<String>,
    /// Entitlement code that a contract must grant; may be given again.
    #[arg(long = "requires", value_name = "CODE")]
    pub requires: Vec<String>,
    /// Advisory that the release answers; may be given again, required for kind security.
    #[arg(long = "advisory", value_name = "ID")]
    pub advisories: Vec<String>,
    /// Release notes in Markdown.
    #[arg(long, value_name = "FILE")]
    pub notes: Option<PathBuf>,
    /// Software bill of materials: CycloneDX or SPDX in JSON.
    #[arg(long, value_name = "FILE")]
    pub sbom: Option<PathBuf>,
    /// Provenance statement: SLSA in a DSSE envelope, by a builder that the product registry knows.
    #[arg(long, value_name = "FILE")]
    pub provenance: Option<PathBuf>,
    /// Raw image of a component, for example main=build/cam.bin; may be given again.
    #[arg(long = "component", required = true, value_name = "NAME=FILE")]
    pub components: Vec<String>,
    /// Keep the release secret until this moment, in the product's embargo role: 2026-12-01T09:00:00Z, or with a time zone
    /// 2026-12-01T10:00[Europe/Berlin].
    #[arg(long, value_name = "MOMENT")]
    pub embargo_until: Option<String>,
    /// The embargo role, when the product has several.
    #[arg(long, value_name = "ROLE", requires = "embargo_until")]
    pub embargo_role: Option<String>,
    /// Days until the product's document expires.
    #[arg(long, default_value_t = 120, value_name = "DAYS")]
    pub expires_days: u32,
    /// What is overridden.
    #[command(flatten)]
    pub overrides: OverrideArgs,
}

/// `advisory`
#[derive(Debug, Subcommand)]
pub enum AdvisoryCommand {
    /// Stage the next document with this advisory, or with its next revision.
    Add(AdvisoryAddArgs),
}

/// `advisory add`
#[derive(Debug, Args)]
pub struct AdvisoryAddArgs {
    /// The repository folder.
    #[arg(long, value_name = "DIR")]
    pub repo: PathBuf,
    /// Product line.
    #[arg(long)]
    pub product: String,
    /// Id by which releases name it; a CSAF document must state the same.
    #[arg(long)]
    pub id: String,
    /// The advisory: CSAF or OpenVEX in JSON.
    #[arg(long, value_name = "FILE")]
    pub file: PathBuf,
    /// Days until the document expires.
    #[arg(long, default_value_t = 30, value_name = "DAYS")]
    pub expires_days: u32,
    /// What is overridden.
    #[command(flatten)]
    pub overrides: OverrideArgs,
}
