//! The command line.

use std::{num::NonZeroU16, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use sluice_delta::{Profile, foreign::Format};

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
    /// Measure this engine and other programs on pairs of images.
    Bench(BenchArgs),
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
    /// `sluice`; or for devices with other software `bsdiff40` (bspatch) or `zstd` (zstd -d --patch-from=OLD --long=31).
    #[arg(long, default_value_t = Format::Sluice)]
    pub format: Format,
    /// `fast` applies quickest, `default` is smaller, `small` is smallest and takes longer, `mcu` is for microcontrollers.
    #[arg(long, default_value_t = Profile::Default)]
    pub profile: Profile,
    /// Bytes of the new image in one segment: a power of two, with an optional KiB or MiB. Shorter segments need less
    /// memory on the device. [default: by the size of the image]
    #[arg(long, value_parser = bytes)]
    pub segment_len: Option<u32>,
    /// Memory that the device can spare, with an optional KiB or MiB.
    #[arg(long, value_parser = bytes, default_value = "64MiB")]
    pub ram: u32,
    /// Scratch storage that the device can spare for old contents, with an optional KiB, MiB or GiB.
    #[arg(long, value_parser = long_bytes, default_value = "0")]
    pub scratch: u64,
    /// A helper program that encodes with another version of Zstandard, and that the device has too. May be repeated.
    #[arg(long, value_name = "PROGRAM")]
    pub recoder: Vec<PathBuf>,
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
    /// Format of the patch. [default: told from its first bytes]
    #[arg(long)]
    pub format: Option<Format>,
    /// SHA-256 that the new image must have. Formats of other programs do not state it themselves.
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    pub new_sha256: Option<[u8; 32]>,
    /// Go on with NEW.partial of an interrupted run.
    #[arg(long)]
    pub resume: bool,
    /// Most memory to use, with an optional KiB or MiB.
    #[arg(long, value_parser = bytes, default_value = "64MiB")]
    pub ram: u32,
    /// Most scratch storage to use, with an optional KiB, MiB or GiB. It stands in a temporary file beside NEW.
    #[arg(long, value_parser = long_bytes, default_value = "0")]
    pub scratch: u64,
    /// Threads, as far as the memory is enough for them. [default: as many as there are processors]
    #[arg(long)]
    pub threads: Option<NonZeroU16>,
    /// A helper program that encodes with another version of Zstandard. May be repeated.
    #[arg(long, value_name = "PROGRAM")]
    pub recoder: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct InfoArgs {
    /// The patch.
    pub patch: PathBuf,
}

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Folder with NAME.old and NAME.new for each pair.
    pub dir: PathBuf,
    /// Only these pairs.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub pairs: Vec<String>,
    /// Only these profiles of this engine. [default: all]
    #[arg(long, value_name = "PROFILE,…", value_delimiter = ',')]
    pub profile: Vec<Profile>,
    /// Measure the patches that this engine writes for other programs as well.
    #[arg(long)]
    pub formats: bool,
    /// Only these other programs; `none` for none at all. [default: all that are installed]
    #[arg(long, value_name = "PROGRAM,…", value_delimiter = ',')]
    pub peers: Vec<PeerName>,
    /// How often each step runs; the best of each figure counts.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub repeat: u32,
    /// Threads of this engine. The other programs use one.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
    /// Helper programs that encode with other versions of Zstandard. May be repeated.
    #[arg(long, value_name = "PROGRAM")]
    pub recoder: Vec<PathBuf>,
    /// Python interpreter that has the module hdiffpatch.
    #[arg(long, default_value = "python3")]
    pub python: PathBuf,
    /// File to write all figures to, a line for each row, as they come.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
}

/// A program that makes patches, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PeerName {
    /// No other program.
    None,
    /// bsdiff 4 with bspatch.
    Bsdiff,
    /// xdelta3 with LZMA behind it.
    Xdelta3,
    /// zstd -19 --patch-from.
    Zstd,
    /// The Python module hdiffpatch.
    Hdiffpatch,
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

/// Reads a digest of 64 hexadecimal digits.
fn sha256(text: &str) -> Result<[u8; 32], String> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).map_err(|_| format!("{text:?} is not 64 hexadecimal digits"))?;
    Ok(digest)
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

    #[test]
    fn digests() {
        assert_eq!(sha256(&"0a".repeat(32)), Ok([10; 32]));
        assert!(sha256("0a").is_err());
        assert!(sha256(&"zz".repeat(32)).is_err());
    }
}
