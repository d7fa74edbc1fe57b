//! What can be typed.

mod ceremony;
mod entitlement;
mod key;
mod outside;
mod release;
mod signing;

use crate::failure::Failure;
use clap::{Args, Parser, Subcommand};
use sluice_signer::Overrides;
use std::path::PathBuf;

pub use ceremony::*;
pub use entitlement::*;
pub use key::*;
pub use outside::*;
pub use release::*;
pub use signing::*;

/// Sign firmware releases offline, with several holders, and publish them.
#[derive(Debug, Parser)]
#[command(name = "sluice-sign", version, max_term_width = 100)]
pub struct Cli {
    /// Print results as JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// Take this as the time, `YYYY-MM-DDTHH:MM:SSZ` (for tests).
    #[arg(long, global = true, hide = true, value_name = "TIME")]
    pub now: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make and show keys.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Make the roots of trust.
    #[command(subcommand)]
    Root(RootCommand),
    /// Give a product line to its holders.
    #[command(subcommand)]
    Delegate(DelegateCommand),
    /// Write down what releases of a product must be like.
    #[command(subcommand)]
    Product(ProductCommand),
    /// Prepare releases.
    #[command(subcommand)]
    Release(ReleaseCommand),
    /// Stage a security advisory of a product in the role of its advisories.
    #[command(subcommand)]
    Advisory(AdvisoryCommand),
    /// Sign every staged document that a key is authorised for.
    Sign(SignArgs),
    /// Write a request file, for signing on a machine without the repository.
    Request(RequestArgs),
    /// Take in signature files; any order, and again, is fine.
    Merge(MergeArgs),
    /// Stage a role's next document with the same content and a new expiry.
    Renew(RenewArgs),
    /// Drop staged documents that are not complete.
    Discard(DiscardArgs),
    /// Show every document, its signatures and its expiry.
    Status(FolderArgs),
    /// Check everything as the server and every device will. Exits 1 when something is missing or wrong.
    Verify(FolderArgs),
    /// Go through everything that was ever complete: who signed it, and whether anything changed since. Exits 1 when
    /// something did.
    Audit(AuditArgs),
    /// Send images and complete documents to a server.
    Publish(PublishArgs),
    /// Rehearse the loss of a holder's key, or the theft of the server's, in a copy with throwaway keys. Exits 1 when the
    /// repository would not survive it.
    #[command(subcommand)]
    Drill(DrillCommand),
    /// Look at certificates of what devices may have by contract.
    #[command(subcommand)]
    Entitlement(EntitlementCommand),
    /// Fetch a target from any TUF repository, as a client does that trusts its root.
    Tuf(TufArgs),
    /// Say whether an ECU would install what a director and an image repository offer it: Uptane's full verification. Exits 1
    /// when it would not.
    Uptane(UptaneArgs),
    /// Print a completion script.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// What is done although a lint speaks against it.
#[derive(Debug, Args)]
pub struct OverrideArgs {
    /// Override a lint, by the code that its message ends with and a reason. Both are recorded in the document, and
    /// every holder who signs it must agree. May be given again.
    #[arg(long = "override", value_name = "CODE=REASON")]
    list: Vec<String>,
}

impl OverrideArgs {
    /// The overrides as they were typed.
    pub fn read(&self) -> anyhow::Result<Overrides> {
        let mut overrides = Overrides::default();
        for one in &self.list {
            let (code, reason) = one.split_once('=').unwrap_or((one, ""));
            let next = "give --override CODE=REASON";
            overrides.add(code, reason).map_err(|error| Failure::refused(error.to_string(), next))?;
        }
        Ok(overrides)
    }
}

/// Commands that need the folder only.
#[derive(Debug, Args)]
pub struct FolderArgs {
    /// The repository folder.
    #[arg(long, value_name = "DIR")]
    pub repo: PathBuf,
}
