//! What can be typed.

use crate::failure::Failure;
use crate::product::Evidence;
use crate::token::Scheme;
use clap::{Args, Parser, Subcommand};
use sluice_signer::Overrides;
use std::path::PathBuf;

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

/// `key`
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key pair: NAME.key (private, stays with its holder) and NAME.pub (public, for the ceremony).
    New(KeyNewArgs),
    /// Show the id and the public half of a key.
    Show(KeyShowArgs),
    /// Take in a private key that another program made, such as OpenSSL: NAME.key, encrypted anew, and NAME.pub.
    Import(KeyImportArgs),
    /// Write the public half of a key to NAME.pub; for a key in a token NAME.key too, which only says where it is.
    Export(KeyExportArgs),
}

/// `key new`
#[derive(Debug, Args)]
pub struct KeyNewArgs {
    /// Name of the holder; it becomes the file name.
    pub name: String,
    /// Folder for both files.
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub out: PathBuf,
    /// Read the passphrase from the first line of this file instead of asking.
    #[arg(long, value_name = "FILE", conflicts_with = "no_passphrase")]
    pub passphrase_file: Option<PathBuf>,
    /// Write the private key unencrypted.
    #[arg(long)]
    pub no_passphrase: bool,
    /// Make the key in a token, which it can never leave: a PKCS#11 URI such as
    /// `pkcs11:token=LABEL?module-path=FILE`. NAME.key then says where the key is, and the passphrase is the token's PIN.
    #[arg(long, value_name = "URI", conflicts_with = "no_passphrase")]
    pub token: Option<String>,
    /// Kind of the key; files hold ed25519 keys only.
    #[arg(long, value_enum, default_value = "ed25519", requires = "token")]
    pub scheme: Scheme,
}

/// `key show`
#[derive(Debug, Args)]
pub struct KeyShowArgs {
    /// A .pub or .key file, or the PKCS#11 URI of a key in a token.
    #[arg(value_name = "KEY")]
    pub key: PathBuf,
    /// Read the passphrase of a .key file, or the token's PIN, from the first line of this file.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// `key import`
#[derive(Debug, Args)]
pub struct KeyImportArgs {
    /// The private key to take in: ed25519 in PKCS#8, PEM.
    #[arg(value_name = "FILE")]
    pub from: PathBuf,
    /// Name of the holder; it becomes the file name.
    pub name: String,
    /// Folder for both files.
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub out: PathBuf,
    /// Read the passphrase of the file to take in from the first line of this file.
    #[arg(long, value_name = "FILE")]
    pub from_passphrase_file: Option<PathBuf>,
    /// Read the new passphrase from the first line of this file instead of asking.
    #[arg(long, value_name = "FILE", conflicts_with = "no_passphrase")]
    pub passphrase_file: Option<PathBuf>,
    /// Write the private key unencrypted.
    #[arg(long)]
    pub no_passphrase: bool,
}

/// `key export`
#[derive(Debug, Args)]
pub struct KeyExportArgs {
    /// A .key file, or the PKCS#11 URI of a key in a token.
    #[arg(value_name = "KEY")]
    pub key: PathBuf,
    /// Name of the holder; it becomes the file name.
    pub name: String,
    /// Folder for the files.
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub out: PathBuf,
    /// Read the passphrase, or the token's PIN, from the first line of this file.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// `root`
#[derive(Debug, Subcommand)]
pub enum RootCommand {
    /// Stage version 1 of both roots: images and director.
    Init(RootInitArgs),
    /// Stage the next root with other holders or another threshold. Old and new holders must sign it.
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
    /// Product line.
    #[arg(long)]
    pub product: String,
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
    /// Product line.
    #[arg(long)]
    pub product: String,
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
    /// Public key of a holder of the role; three at least, keys of no other role.
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

/// `sign`
#[derive(Debug, Args)]
pub struct SignArgs {
    /// The repository folder.
    #[arg(long, value_name = "DIR", required_unless_present = "request", conflicts_with = "request")]
    pub repo: Option<PathBuf>,
    /// A request file, to sign without the repository.
    #[arg(long, value_name = "FILE", requires = "out")]
    pub request: Option<PathBuf>,
    /// Where to write the signatures for a request.
    #[arg(long, value_name = "FILE", requires = "request")]
    pub out: Option<PathBuf>,
    /// The private key file, or the PKCS#11 URI of a key in a token.
    #[arg(long, value_name = "KEY")]
    pub key: PathBuf,
    /// Read the passphrase, or the token's PIN, from the first line of this file instead of asking.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// With --request: a root of the repository that you hold yourself; the request must go on from it.
    #[arg(long, value_name = "FILE", requires = "request")]
    pub root: Option<PathBuf>,
    /// With --request: a folder with your own copies of the images and what comes with them, which must be those to be
    /// signed.
    #[arg(long, value_name = "DIR", requires = "request")]
    pub images: Option<PathBuf>,
    /// Sign this role only: `root`, `director-root`, `targets` or a product.
    #[arg(long)]
    pub role: Option<String>,
    /// Do not ask for confirmation (asked only at a terminal).
    #[arg(long)]
    pub yes: bool,
    /// Agree to an override of the documents to be signed, by its code; may be given again. Without it you are asked at a
    /// terminal to type it.
    #[arg(long = "agree-to-override", value_name = "CODE")]
    pub agreed: Vec<String>,
}

/// `request`
#[derive(Debug, Args)]
pub struct RequestArgs {
    /// The repository folder.
    #[arg(long, value_name = "DIR")]
    pub repo: PathBuf,
    /// The request file to write, usually *.fwreq.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Ask for this role only.
    #[arg(long)]
    pub role: Option<String>,
    /// A word to the holders, shown before they sign.
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// Days until the request is void.
    #[arg(long, default_value_t = 14, value_name = "DAYS")]
    pub valid_days: u32,
}

/// `merge`
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// The repository folder.
    #[arg(long, value_name = "DIR")]
    pub repo: PathBuf,
    /// Signature files, usually *.fwsig.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
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
    /// Days until the new document expires; 365, or 120 for a product.
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

/// Commands that need the folder only.
#[derive(Debug, Args)]
pub struct FolderArgs {
    /// The repository folder.
    #[arg(long, value_name = "DIR")]
    pub repo: PathBuf,
}

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
