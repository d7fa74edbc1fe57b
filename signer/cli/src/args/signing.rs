//! `sign`, `request` and `merge`: by whom, and where.

use clap::Args;
use std::path::PathBuf;

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
    /// With --request: a root that you hold yourself, of the repository whose documents you sign; the request must go on from
    /// it. Give one of each repository to sign documents of both.
    #[arg(long = "root", value_name = "FILE", requires = "request")]
    pub roots: Vec<PathBuf>,
    /// With --request: your own copy of the product registry, products.json; without it the request's is taken, and said so.
    #[arg(long, value_name = "FILE", requires = "request")]
    pub products: Option<PathBuf>,
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
