//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use sluice_delta::Profile;

/// Binary patches for firmware images.
#[derive(Debug, Parser)]
#[command(
    name = "sluice-delta",
    version,
    after_help = "Exit codes: 0 done, 1 refused or damaged, 2 wrong usage, 3 trouble with a file."
)]
pub struct Cli {
    /// Print one JSON document instead of lines for people.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the patch that turns one image into another.
    Diff(DiffArgs),
    /// Apply a patch, and check every byte of the result.
    Apply(ApplyArgs),
    /// Show what a patch says about itself.
    Info(InfoArgs),
    /// Print a completion script for a shell.
    Completion {
        /// The shell.
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub struct DiffArgs {
    /// Image to start from.
    pub old: PathBuf,
    /// Image to make.
    pub new: PathBuf,
    /// File to write the patch to.
    pub patch: PathBuf,
    /// `fast` applies quickest, `default` is smaller.
    #[arg(long, default_value_t = Profile::Default)]
    pub profile: Profile,
    /// Bytes of the new image in one segment: a power of two, with an optional KiB or MiB. Shorter segments need less
    /// memory on the device. [default: by the size of the image]
    #[arg(long, value_parser = bytes)]
    pub segment_len: Option<u32>,
    /// Memory that the device can spare, with an optional KiB or MiB.
    #[arg(long, value_parser = bytes, default_value = "64MiB")]
    pub ram: u32,
    /// Do not look inside compressed streams: for devices without this program's re-encoders.
    #[arg(long)]
    pub raw: bool,
    /// Memory that making the patch may use beyond both images, with an optional KiB, MiB or GiB. With less, old is indexed in
    /// parts, which takes longer. [default: no bound]
    #[arg(long, value_parser = long_bytes)]
    pub memory: Option<u64>,
    /// Threads to use. The patch is the same for any number. [default: one for each core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
}

#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// Image to start from.
    pub old: PathBuf,
    /// The patch.
    pub patch: PathBuf,
    /// File to write. It appears only when it is complete and verified; until then the work stands in NEW.partial.
    pub new: PathBuf,
    /// Go on with NEW.partial of an interrupted run.
    #[arg(long)]
    pub resume: bool,
    /// Most memory to use, with an optional KiB or MiB.
    #[arg(long, value_parser = bytes, default_value = "64MiB")]
    pub ram: u32,
}

#[derive(Debug, Args)]
pub struct InfoArgs {
    /// The patch.
    pub patch: PathBuf,
}

/// Reads an amount like `262144`, `256KiB` or `4MiB`.
fn bytes(text: &str) -> Result<u32, String> {
    u32::try_from(long_bytes(text)?).map_err(|_| format!("{text} is 4 GiB or more"))
}

/// Reads an amount that may be `4GiB` or more.
fn long_bytes(text: &str) -> Result<u64, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let unit = units.into_iter().find_map(|(unit, shift)| text.strip_suffix(unit).map(|digits| (digits, shift)));
    let (digits, shift) = unit.unwrap_or((text, 0));
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is no number of bytes, KiB, MiB or GiB"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text} is too much"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        assert_eq!(bytes("4096"), Ok(4_096));
        assert_eq!(bytes("256KiB"), Ok(256 << 10));
        assert_eq!(bytes("4MiB"), Ok(4 << 20));
        assert!(bytes("4096MiB").is_err());
        assert_eq!(long_bytes("6GiB"), Ok(6 << 30));
        assert!(long_bytes("99999999999GiB").is_err());
        assert!(bytes("four").is_err());
        assert!(bytes("-1").is_err());
    }
}
