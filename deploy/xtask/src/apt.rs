//! Programs that must be there: looked for, installed where that is ours to do, named with their command elsewhere.

use std::env;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::steps::Steps;

/// True for the administrator, the only one who may install packages and for whom servers need another user.
pub fn is_root() -> bool {
    // The owner of our own entry in /proc is the effective user.
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// The program's place in PATH.
pub fn in_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(program)).find(|candidate| candidate.is_file())
}

/// Installs Debian packages, or fails with the command that would.
pub fn install(steps: &Steps, what: &str, packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if !is_root() || in_path("apt-get").is_none() {
        bail!(
            "{what} is missing; run as administrator: apt-get update && apt-get install -y --no-install-recommends {list}"
        );
    }
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive").current_dir(Path::new("/"));
        command
    };
    steps.run(&format!("{what} is missing: reading package lists"), &mut apt(&["update", "-qq"]))?;
    let mut command = apt(&["install", "-y", "-qq", "--no-install-recommends"]);
    steps.run(&format!("installing {list}"), command.args(packages))
}
