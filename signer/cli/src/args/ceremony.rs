//! `root`, `delegate`, `renew`, `discard` and `drill`: who holds which role, for how long, and what if not.

use super::{FolderArgs, OverrideArgs};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `root`
#[derive(Debug, Subcommand)]
pub enum RootCommand {
    /// Stage version 1 of both roots: images and director.
    Init(RootInitArgs),
    /// Stage the next root with other holders, another threshold or other keys of the server. Old and new holders must sign it.
    Rotate(RootRotateArgs),
}

/// `root init`
#[derive(Debug, Args)]
pub struct RootInitArgs {
    /// The repository folder; it is made when missing.
    #[arg(long, value_name = "DIR")]
    pub repo: PathBuf,
    /// Public key of a holder of the image root; three at least.
    #[arg(long = "holder", required = true, num_args = 1.., value_name = "PUB")]
    pub holders: Vec<PathBuf>,
    /// Public key of a holder of the top targets role; three at least, other keys.
    #[arg(long = "targets-holder", required = true, num_args = 1.., value_name = "PUB")]
    pub targets_holders: Vec<PathBuf>,
    /// Public key of a holder of the director root; three at least, other keys.
    #[arg(long = "director-holder", required = true, num_args = 1.., value_name = "PUB")]
    pub director_holders: Vec<PathBuf>,
    /// Signatures needed in each of these roles.
    #[arg(long, default_value_t = 2)]
    pub threshold: u32,
    /// The server's public keys, from `sluice-server keys export` or GET /api/v1/online-keys.
    #[arg(long, value_name = "FILE")]
    pub online_keys: PathBuf,
    /// Name of the installation; documents carry it, so that those of two installations cannot be exchanged.
    #[arg(long, default_value = "sluice")]
    pub id: String,
    /// Days until the roots expire.
    #[arg(long, default_value_t = 365, value_name = "DAYS")]
    pub expires_days: u32,
    /// What is overridden.
    #[command(flatten)]
    pub overrides: OverrideArgs,
}

/// What changes about the holders of a role.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct HolderChange {
    /// Public key of a new holder; may be given again.
    #[arg(long, num_args = 1.., value_name = "PUB")]
    pub add: Vec<PathBuf>,
    /// Holder who leaves, by name or by the first eight or more digits of the key id; may be given again.
    #[arg(long, num_args = 1.., value_name = "NAME")]
    pub remove: Vec<String>,
    /// Signatures needed from now on.
    #[arg(long)]
    pub threshold: Option<u32>,
}

/// `root rotate`
#[derive(Debug, Args)]
pub struct RootRotateArgs {
    /// The repository folder.
    #[arg(long, value_name = "DIR")]
    pub repo: PathBuf,
    /// Whose holders change: `root`, `targets` or `director-root`.
    #[arg(long, default_value = "root")]
    pub role: String,
    /// What changes.
    #[command(flatten)]
    pub change: HolderChange,
    /// Other keys of the server instead, from `sluice-server keys export` after `keys rotate`: both roots are staged as far as
    /// they name others.
    #[arg(long, value_name = "FILE", group = "HolderChange", conflicts_with_all = ["role", "add", "remove", "threshold"])]
    pub online_keys: Option<PathBuf>,
    /// Begin the next signing epoch with these keys: both roots rise, and older verifiers go on with the documents as they are now.
    #[arg(long, requires = "online_keys", conflicts_with_all = ["add", "remove", "threshold"])]
    pub new_epoch: bool,
    /// Days until the new documents expire.
    #[arg(long, default_value_t = 365, value_name = "DAYS")]
    pub expires_days: u32,
    /// What is overridden.
    #[command(flatten)]
    pub overrides: OverrideArgs,
}

/// `delegate rotate`
#[derive(Debug, Args)]
pub struct DelegateRotateArgs {
    /// The repository folder.
    #[arg(long, value_name = "DIR")]
    pub repo: PathBuf,
    /// Product line, or another role: that of its advisories, or an embargo role by its name.
    #[arg(long)]
    pub product: String,
    /// Of the product's embargo role, when it has one only.
    #[arg(long)]
    pub embargo: bool,
    /// The version of an embargo role with whose content its new holders go on, when the newest waits for its moment: the one that
    /// is shown now, 1 for the empty first one. What waits is given up, and signed anew for its moment afterwards.
    #[arg(long, value_name = "VERSION")]
    pub go_on_from: Option<u64>,
    /// What changes.
    #[command(flatten)]
    pub change: HolderChange,
    /// Days until the top targets document expires.
    #[arg(long, default_value_t = 365, value_name = "DAYS")]
    pub expires_days: u32,
    /// What is overridden.
    #[command(flatten)]
    pub overrides: OverrideArgs,
}

/// `delegate`
#[derive(Debug, Subcommand)]
pub enum DelegateCommand {
    /// Stage a product role with its holders, and the top targets document that names it.
    Add(DelegateAddArgs),
    /// Stage the top targets document with other holders of a product, or another threshold.
    Rotate(DelegateRotateArgs),
    /// Stage the top targets document without a product line: its keys then sign nothing any more, and its releases are
    /// withdrawn.
    Revoke(DelegateRevokeArgs),
}

/// `delegate revoke`
#[derive(Debug, Args)]
pub struct DelegateRevokeArgs {
    /// The repository folder.
    #[arg(long, value_name = "DIR")]
    pub repo: PathBuf,
    /// Product line, or another role: that of its advisories, or an embargo role by its name.
    #[arg(long)]
    pub product: String,
    /// The product's embargo role, when it has one only.
    #[arg(long)]
    pub embargo: bool,
    /// Days until the top targets document expires.
    #[arg(long, default_value_t = 365, value_name = "DAYS")]
    pub expires_days: u32,
    /// What is overridden.
    #[command(flatten)]
    pub overrides: OverrideArgs,
}

/// `delegate add`
#[derive(Debug, Args)]
pub struct DelegateAddArgs {
    /// The repository folder.
    #[arg(long, value_name = "DIR")]
    pub repo: PathBuf,
    /// Product line, for example `acme-cam`.
    #[arg(long)]
    pub product: String,
    /// Give the product's advisories to these holders, in a role of its own: two at least, of whom one signs.
    #[arg(long)]
    pub advisories: bool,
    /// Give releases of the product that are not announced yet to these holders, in a role of its own with a name that says nothing.
    #[arg(long, conflicts_with = "advisories")]
    pub embargo: bool,
    /// Public key of a holder of the role; three at least (two for advisories), keys of no other role.
    #[arg(long = "holder", required = true, num_args = 1.., value_name = "PUB")]
    pub holders: Vec<PathBuf>,
    /// Signatures needed: 2 for releases, 1 for advisories, unless given.
    #[arg(long)]
    pub threshold: Option<u32>,
    /// Days until the top targets document expires.
    #[arg(long, default_value_t = 365, value_name = "DAYS")]
    pub expires_days: u32,
    /// What is overridden.
    #[command(flatten)]
    pub overrides: OverrideArgs,
}

/// `renew`
#[derive(Debug, Args)]
pub struct RenewArgs {
    /// The repository folder.
    #[arg(long, value_name = "DIR")]
    pub repo: PathBuf,
    /// The role: `root`, `director-root`, `targets` or a product.
    #[arg(long)]
    pub role: String,
    /// Days until the new document expires; 365, 120 for a product, 30 for its advisories.
    #[arg(long, value_name = "DAYS")]
    pub expires_days: Option<u32>,
    /// What is overridden.
    #[command(flatten)]
    pub overrides: OverrideArgs,
}

/// `discard`
#[derive(Debug, Args)]
pub struct DiscardArgs {
    /// The repository folder.
    #[arg(long, value_name = "DIR")]
    pub repo: PathBuf,
    /// The role: `root`, `director-root`, `targets` or a product.
    #[arg(long)]
    pub role: String,
}

/// `drill`
#[derive(Debug, Subcommand)]
pub enum DrillCommand {
    /// Each holder of a role loses the key in turn: can the others still replace it?
    Holder(DrillHolderArgs),
    /// The server's keys are stolen: who must sign what, and do devices recover?
    Online(FolderArgs),
}

/// `drill holder`
#[derive(Debug, Args)]
pub struct DrillHolderArgs {
    /// The repository folder. It is only read.
    #[arg(long, value_name = "DIR")]
    pub repo: PathBuf,
    /// The role: `root`, `director-root`, `targets` or a product.
    #[arg(long)]
    pub role: String,
}
