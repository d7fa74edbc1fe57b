//! The programs that are measured, and how each is called: with the settings that make its smallest patches, on one thread.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use sluice_delta::{Profile, foreign::Format};

use crate::args::PeerName;

/// What our patches are made for: a device with an operating system that can spare this much while it updates.
const DEVICE_RAM: &str = "256MiB";

/// Most memory that our applier may use: the largest amount that the option takes, for formats of other programs.
const OUR_RAM: &str = "4095MiB";

/// Largest source window that xdelta3 works with: beyond 2 GiB it finds nothing.
const XDELTA3_MAX_WINDOW: u64 = 1 << 31;

/// Makes a patch; the arguments are files: old, new, patch.
const HDIFFPATCH_DIFF: &str = "\
import sys, hdiffpatch
old, new = (open(name, 'rb').read() for name in sys.argv[1:3])
lzma2 = hdiffpatch.Lzma2Config(level=9, window=25, threads=1)
open(sys.argv[3], 'wb').write(hdiffpatch.diff(old, new, lzma2, validate=False))
";

/// Applies one; the arguments are files: old, patch, made.
const HDIFFPATCH_APPLY: &str = "\
import sys, hdiffpatch
old, patch = (open(name, 'rb').read() for name in sys.argv[1:3])
open(sys.argv[3], 'wb').write(hdiffpatch.apply(old, patch))
";

/// The files of one measurement.
pub struct Files<'a> {
    pub old: &'a Path,
    pub new: &'a Path,
    pub patch: &'a Path,
    /// Where the new image is made.
    pub made: &'a Path,
    pub old_len: u64,
}

/// Another program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    Bsdiff,
    Xdelta3,
    Zstd,
    Hdiffpatch { python: PathBuf },
}

impl Peer {
    pub fn all(python: &Path) -> Vec<Self> {
        vec![Self::Bsdiff, Self::Xdelta3, Self::Zstd, Self::Hdiffpatch { python: python.to_owned() }]
    }

    pub fn choice(&self) -> PeerName {
        match self {
            Self::Bsdiff => PeerName::Bsdiff,
            Self::Xdelta3 => PeerName::Xdelta3,
            Self::Zstd => PeerName::Zstd,
            Self::Hdiffpatch { .. } => PeerName::Hdiffpatch,
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Bsdiff => "bsdiff",
            Self::Xdelta3 => "xdelta3 -9 -S lzma",
            Self::Zstd => "zstd -19 --patch-from",
            Self::Hdiffpatch { .. } => "hdiffpatch, lzma2",
        }
    }

    /// The command that installs it.
    pub fn install(&self) -> String {
        match self {
            Self::Bsdiff => "apt-get install bsdiff".to_owned(),
            Self::Xdelta3 => "apt-get install xdelta3".to_owned(),
            Self::Zstd => "apt-get install zstd".to_owned(),
            Self::Hdiffpatch { python } => {
                format!("{} -m pip install hdiffpatch (another interpreter: --python PATH)", python.display())
            }
        }
    }

    pub fn is_there(&self) -> bool {
        match self {
            Self::Bsdiff => in_path("bsdiff") && in_path("bspatch"),
            Self::Xdelta3 => in_path("xdelta3"),
            Self::Zstd => in_path("zstd"),
            Self::Hdiffpatch { python } => {
                let mut import = Command::new(python);
                import.args(["-c", "import hdiffpatch"]).stdout(Stdio::null()).stderr(Stdio::null());
                import.status().is_ok_and(|status| status.success())
            }
        }
    }

    fn diff(&self, files: &Files<'_>) -> Command {
        let Files { old, new, patch, old_len, .. } = *files;
        match self {
            Self::Bsdiff => command("bsdiff", &[], &[old, new, patch]),
            Self::Xdelta3 => {
                let window = old_len.next_power_of_two().clamp(1 << 20, XDELTA3_MAX_WINDOW).to_string();
                let mut command = command("xdelta3", &["-e", "-q", "-f", "-D", "-9", "-S", "lzma", "-B", &window], &[]);
                command.arg("-s").args([old, new, patch]);
                command
            }
            Self::Zstd => {
                let mut command = command("zstd", &["-q", "-f", "-19", "--single-thread", "--long=31"], &[]);
                command.arg(format!("--patch-from={}", old.display())).arg(new).arg("-o").arg(patch);
                command
            }
            Self::Hdiffpatch { python } => command(python, &["-c", HDIFFPATCH_DIFF], &[old, new, patch]),
        }
    }

    fn apply(&self, files: &Files<'_>) -> Command {
        let Files { old, patch, made, old_len, .. } = *files;
        match self {
            Self::Bsdiff => command("bspatch", &[], &[old, made, patch]),
            Self::Xdelta3 => {
                let window = old_len.next_power_of_two().clamp(1 << 20, XDELTA3_MAX_WINDOW).to_string();
                let mut command = command("xdelta3", &["-d", "-q", "-f", "-D", "-R", "-B", &window], &[]);
                command.arg("-s").args([old, patch, made]);
                command
            }
            Self::Zstd => {
                let mut command = command("zstd", &["-q", "-f", "-d", "--long=31"], &[]);
                command.arg(format!("--patch-from={}", old.display())).arg(patch).arg("-o").arg(made);
                command
            }
            Self::Hdiffpatch { python } => command(python, &["-c", HDIFFPATCH_APPLY], &[old, patch, made]),
        }
    }
}

/// Something that makes and applies patches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    Ours { program: PathBuf, format: Format, profile: Profile, threads: u16, recoders: Vec<PathBuf> },
    Peer(Peer),
}

impl Program {
    pub fn name(&self) -> String {
        match self {
            Self::Ours { format: Format::Sluice, profile, .. } => format!("sluice {profile}"),
            Self::Ours { format, .. } => format!("sluice as {format}"),
            Self::Peer(peer) => peer.name().to_owned(),
        }
    }

    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Ours { .. })
    }

    pub fn diff(&self, files: &Files<'_>) -> Command {
        match self {
            Self::Ours { program, format, profile, threads, recoders } => {
                let mut command = command(program, &["diff"], &[files.old, files.new, files.patch]);
                command.args(["--format", format.name(), "--profile", profile.name(), "--ram", DEVICE_RAM]);
                command.args(["--threads", &threads.to_string()]);
                command.args(recoders.iter().flat_map(|recoder| [Path::new("--recoder"), recoder]));
                command
            }
            Self::Peer(peer) => peer.diff(files),
        }
    }

    pub fn apply(&self, files: &Files<'_>) -> Command {
        match self {
            Self::Ours { program, recoders, .. } => {
                let mut command = command(program, &["apply"], &[files.old, files.patch, files.made]);
                command.args(["--ram", OUR_RAM]);
                command.args(recoders.iter().flat_map(|recoder| [Path::new("--recoder"), recoder]));
                command
            }
            Self::Peer(peer) => peer.apply(files),
        }
    }
}

fn command(program: impl AsRef<Path>, args: &[&str], files: &[&Path]) -> Command {
    let mut command = Command::new(program.as_ref());
    command.args(args).args(files);
    command
}

fn in_path(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}
