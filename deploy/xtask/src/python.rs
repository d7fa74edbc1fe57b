//! The Python environment with python-tuf, the reference client that the interoperability tests run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::apt;
use crate::steps::Steps;

/// Variable with the path of the interpreter.
pub const PYTHON_VARIABLE: &str = "SLUICE_TEST_PYTHON";

const REQUIREMENTS: &str = include_str!("../python/requirements.txt");

/// Written last: an environment without it was left by a run that did not finish.
const COMPLETE: &str = "sluice-requirements.txt";

/// The interpreter of an environment below `target` that holds exactly the pinned packages.
pub fn environment(steps: &Steps, target: &Path) -> Result<PathBuf> {
    let dir = target.join("xtask").join("python");
    let python = dir.join("bin").join("python");
    let complete = dir.join(COMPLETE);
    if fs::read_to_string(&complete).is_ok_and(|text| text == REQUIREMENTS) && works(&python, "import tuf") {
        return Ok(python);
    }
    // Debian's python3 comes without the part that makes environments.
    if !works(Path::new("python3"), "import venv, ensurepip") {
        apt::install(steps, "Python with venv", &["python3", "python3-venv"])?;
    }
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
    }
    fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    steps.run("making a Python environment", Command::new("python3").args(["-m", "venv"]).arg(&dir))?;
    let requirements = dir.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS).with_context(|| requirements.display().to_string())?;
    let mut install = Command::new(&python);
    install
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--require-hashes", "--only-binary=:all:", "-r"])
        .arg(&requirements);
    steps.run("installing python-tuf (pip, pinned with digests)", &mut install)?;
    fs::write(&complete, REQUIREMENTS).with_context(|| complete.display().to_string())?;
    Ok(python)
}

fn works(python: &Path, program: &str) -> bool {
    let mut command = Command::new(python);
    command.args(["-c", program]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_requirement_is_pinned_with_a_digest() {
        let pins = REQUIREMENTS.lines().filter(|line| line.contains("==")).count();
        let lines: Vec<_> = REQUIREMENTS.lines().collect();
        let followed_by_digest =
            lines.windows(2).filter(|pair| pair[0].contains("==") && pair[1].contains("--hash=sha256:")).count();
        assert_eq!(followed_by_digest, pins);
        assert!(pins >= 6 && REQUIREMENTS.contains("\ntuf=="));
    }
}
