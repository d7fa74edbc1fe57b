//! TUF clients of other people that the interoperability tests run: tuf-js from npm, tough and sigstore-tuf from crates.io.
//! python-tuf has a module of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::apt;
use crate::steps::{Steps, cargo, workspace_root};

/// Variable with the folder in which npm installed tuf-js.
pub const NODE_VARIABLE: &str = "SLUICE_TEST_NODE";
/// Variable with the folder of the programs around the clients in Rust.
pub const RUST_VARIABLE: &str = "SLUICE_TEST_CLIENTS";

/// Package with those programs: a workspace with a lock file of its own.
const RUST_MANIFEST: &str = "server/clients/Cargo.toml";
/// What npm is told.
const PACKAGE: &str = include_str!("../../../server/tests/node/package.json");
/// Every package with its digest.
const LOCK: &str = include_str!("../../../server/tests/node/package-lock.json");
/// Written last: an installation without it was left by a run that did not finish.
const COMPLETE: &str = "sluice-lock.json";

/// A folder below `target` with exactly the locked packages of tuf-js.
pub fn node(steps: &Steps, target: &Path) -> Result<PathBuf> {
    if apt::in_path("node").is_none() || apt::in_path("npm").is_none() {
        apt::install(steps, "Node.js with npm", &["nodejs", "npm"])?;
    }
    let dir = target.join("xtask").join("node");
    let complete = dir.join(COMPLETE);
    if fs::read_to_string(&complete).is_ok_and(|text| text == LOCK) {
        return Ok(dir);
    }
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
    }
    fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    for (name, text) in [("package.json", PACKAGE), ("package-lock.json", LOCK)] {
        fs::write(dir.join(name), text).with_context(|| dir.join(name).display().to_string())?;
    }
    let mut install = Command::new("npm");
    // No package may run a program of its own while it is installed.
    install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(&dir);
    steps.run("installing tuf-js (npm ci, locked with digests)", &mut install)?;
    fs::write(&complete, LOCK).with_context(|| complete.display().to_string())?;
    Ok(dir)
}

/// The folder with the programs around tough and sigstore-tuf. They are not optimised: they read a few small documents.
pub fn rust(steps: &Steps, target: &Path) -> Result<PathBuf> {
    let mut build = cargo(&["build", "--locked", "--manifest-path"]);
    // In our own target folder, so that what both workspaces need is built once.
    build.arg(workspace_root().join(RUST_MANIFEST)).arg("--target-dir").arg(target);
    steps.run("building tough and sigstore-tuf (cargo build)", &mut build)?;
    Ok(target.join("debug"))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_package_is_locked_with_a_digest_and_names_no_host() {
        let lock: Value = serde_json::from_str(LOCK).unwrap();
        // Ours stands there too, without a name.
        let packages: Vec<_> =
            lock["packages"].as_object().unwrap().iter().filter(|(path, _)| !path.is_empty()).collect();
        assert!(packages.iter().any(|(path, _)| *path == "node_modules/tuf-js"));
        for (path, package) in packages {
            assert!(package["integrity"].as_str().unwrap().starts_with("sha512-"), "{path}");
            assert_eq!(package.get("resolved"), None, "{path}: made with --omit-lockfile-registry-resolved");
        }
    }
}
