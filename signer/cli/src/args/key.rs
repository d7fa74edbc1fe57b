//! `key`: the keys of holders.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use sluice_token::Scheme;
use std::path::PathBuf;

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
    /// `pkcs11:token=LABEL?module-path=FILE`. NAME.key then says where the key is, and the passphrase is the token's PIN,
    /// which `&pin-source=file:/PATH` in the URI may name as well.
    #[arg(long, value_name = "URI", conflicts_with = "no_passphrase")]
    pub token: Option<String>,
    /// Kind of the key; files hold ed25519 keys only.
    #[arg(long, default_value = "ed25519", requires = "token", value_parser = schemes())]
    pub scheme: Scheme,
}

fn schemes() -> impl TypedValueParser<Value = Scheme> {
    PossibleValuesParser::new(Scheme::NAMES).try_map(|name| name.parse::<Scheme>())
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
