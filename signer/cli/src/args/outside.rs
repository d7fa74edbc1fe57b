//! `publish`, `audit`, `tuf` and `uptane`: what talks to servers.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `audit`
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// The repository folder.
    #[arg(long, value_name = "DIR")]
    pub repo: PathBuf,
    /// Also compare with what this server shows its devices.
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// File with a token for what is not public, in its first line.
    #[arg(long, value_name = "FILE", requires = "server")]
    pub token_file: Option<PathBuf>,
    /// Seconds to wait for each document.
    #[arg(long, value_name = "SECONDS", default_value_t = crate::http::TIMEOUT_S)]
    pub timeout: u64,
}

/// `publish`
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// The repository folder.
    #[arg(long, value_name = "DIR")]
    pub repo: PathBuf,
    /// The server, for example https://updates.example.org.
    #[arg(long, value_name = "URL")]
    pub server: String,
    /// File with the API token in its first line.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub token_file: Option<PathBuf>,
    /// The API token.
    #[arg(long, env = "SLUICE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
}

/// `tuf`: the command line that the conformance suite of the TUF project asks of a client.
#[derive(Debug, Args)]
pub struct TufArgs {
    /// Folder for the trusted documents.
    #[arg(long, value_name = "DIR", global = true)]
    pub metadata_dir: Option<PathBuf>,
    /// Where the repository's documents are, for example https://updates.example.org/metadata.
    #[arg(long, value_name = "URL", global = true)]
    pub metadata_url: Option<String>,
    /// Path of a target to download; may be given again.
    #[arg(long, value_name = "PATH", global = true)]
    pub target_name: Vec<String>,
    /// Where the repository's targets are.
    #[arg(long, value_name = "URL", global = true)]
    pub target_base_url: Option<String>,
    /// Folder for the target; it is stored there by its path.
    #[arg(long, value_name = "DIR", global = true)]
    pub target_dir: Option<PathBuf>,
    /// File with a token that the repository wants for what is not public, in its first line.
    #[arg(long, value_name = "FILE", global = true)]
    pub token_file: Option<PathBuf>,
    /// Seconds after which a document that is not whole is given up, and a target that came with less than 8 KiB a second.
    #[arg(long, value_name = "SECONDS", global = true, default_value_t = crate::http::TIMEOUT_S)]
    pub timeout: u64,
    /// What to do.
    #[command(subcommand)]
    pub command: TufCommand,
}

/// `tuf`
#[derive(Debug, Clone, Subcommand)]
pub enum TufCommand {
    /// Trust a root document: copy it into the metadata folder.
    Init {
        /// The root document, of any version.
        root: PathBuf,
    },
    /// Fetch and check what is newer: root, timestamp, snapshot, top targets.
    Refresh,
    /// Refresh, find a target, and download it unless it is there.
    Download,
}

/// `uptane`
#[derive(Debug, Args)]
pub struct UptaneArgs {
    /// Folder for the trusted documents of both repositories. An empty one trusts the first roots that the repositories serve.
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// Where the director's documents are.
    #[arg(long, value_name = "URL")]
    pub director_url: String,
    /// Where the image repository's documents are.
    #[arg(long, value_name = "URL")]
    pub image_url: String,
    /// Id of an ECU of the vehicle; may be given again, each with its --hw.
    #[arg(long, value_name = "ID", required = true)]
    pub ecu: Vec<String>,
    /// Hardware id of the ECU.
    #[arg(long, value_name = "ID", required = true)]
    pub hw: Vec<String>,
    /// Where the images are; `targets` under the image repository's documents, or beside them when they are in `metadata`.
    #[arg(long, value_name = "URL")]
    pub targets_url: Option<String>,
    /// Do not download the images to compare them with what was signed.
    #[arg(long)]
    pub no_images: bool,
    /// File with a token that the repositories want, in its first line.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Seconds after which a document that is not whole is given up, and an image that came with less than 8 KiB a second.
    #[arg(long, value_name = "SECONDS", default_value_t = crate::http::TIMEOUT_S)]
    pub timeout: u64,
}
