//! `cargo xtask test`: the product's test command, from a fresh clone on.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::steps::{Steps, cargo};
use crate::{apt, clients, postgres, python};

/// Variable with the folder of the programs that integration tests run.
pub const BIN_DIR_VARIABLE: &str = "SLUICE_BIN_DIR";

/// Cargo's target folder.
pub fn target_dir() -> Result<PathBuf> {
    let output =
        cargo(&["metadata", "--no-deps", "--format-version", "1"]).output().context("running cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    let dir =
        metadata.get("target_directory").and_then(Value::as_str).context("cargo metadata names no target folder")?;
    Ok(PathBuf::from(dir))
}

/// The package whose tests need the signer and other people's clients.
const SERVER: &str = "sluice-server";
/// The package of the program with which they sign.
const SIGNER: &str = "sluice-sign";

/// Programs that tests call: those that make patches and images, and tokens for keys.
const PROGRAMS: [&str; 10] =
    ["bsdiff", "bspatch", "gzip", "mksquashfs", "openssl", "pkcs11-tool", "softhsm2-util", "xz", "zip", "zstd"];
/// Debian's packages of them.
const PACKAGES: [&str; 9] =
    ["bsdiff", "gzip", "opensc", "openssl", "softhsm2", "squashfs-tools", "xz-utils", "zip", "zstd"];

/// Prepares what the tests need, runs them, and ends with their status.
pub fn run(steps: &Steps, args: &[String]) -> Result<ExitCode> {
    let target = target_dir()?;
    let python = python::environment(steps, &target)?;
    if PROGRAMS.iter().any(|program| apt::in_path(program).is_none()) {
        apt::install(steps, "programs that make patches, images and tokens", &PACKAGES)?;
    }
    // Cargo ignores `-p` beside `--workspace` without a word, so a chosen package takes its place.
    let chosen = chosen_packages(args);
    let server_is_tested = chosen.is_empty() || chosen.iter().any(|word| word.ends_with(SERVER));
    let scope = if chosen.is_empty() { vec!["--workspace"] } else { chosen };
    // With the same targets and features that `cargo test` takes, so that nothing is built twice.
    let mut build = cargo(&["build", "--bins", "--tests"]);
    let (profile, folder) = if is_release(args) { (Some("--release"), "release") } else { (None, "debug") };
    steps.run("building programs and tests (cargo build)", build.args(&scope).args(profile))?;
    let mut test = cargo(&["test"]);
    if server_is_tested {
        // Its tests sign with the real program, and let clients read that others wrote.
        if scope != ["--workspace"] {
            let mut build = cargo(&["build", "--package", SIGNER]);
            steps.run("building the signer (cargo build)", build.args(profile))?;
        }
        test.env(clients::NODE_VARIABLE, clients::node(steps, &target)?);
        test.env(clients::RUST_VARIABLE, clients::rust(steps, &target)?);
    }
    let server = postgres::Server::start(steps)?;
    steps.announce("running tests (cargo test)");
    if scope == ["--workspace"] {
        test.arg("--workspace");
    }
    test.args(args)
        .env(postgres::URL_VARIABLE, server.url())
        .env(python::PYTHON_VARIABLE, &python)
        .env(BIN_DIR_VARIABLE, target.join(folder));
    let code = steps.status(&mut test);
    server.stop();
    code
}

/// True when the tests are to run optimised: the programs that they start must be built alike.
fn is_release(args: &[String]) -> bool {
    args.iter().take_while(|word| *word != "--").any(|word| ["-r", "--release"].contains(&word.as_str()))
}

/// The `-p NAME` and `--package NAME` among arguments for cargo; what stands behind `--` is for the tests.
fn chosen_packages(args: &[String]) -> Vec<&str> {
    let mut chosen = Vec::new();
    let mut words = args.iter().map(String::as_str).take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        if ["-p", "--package"].contains(&word) {
            chosen.push(word);
            chosen.extend(words.next());
        } else if word.starts_with("-p") || word.starts_with("--package=") {
            chosen.push(word);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_argument_for_cargo_chooses_the_profile() {
        let release = |line: &str| is_release(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert!(release("--release") && release("-p a -r"));
        assert!(!release("--lib -- --release"));
    }

    #[test]
    fn chosen_packages_are_found_in_every_spelling() {
        let chosen = |line: &str| -> String {
            let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
            chosen_packages(&args).join(" ")
        };
        assert_eq!(chosen("-p a --package b --package=c -pd --lib x"), "-p a --package b --package=c -pd");
        assert_eq!(chosen("--lib -- -p a"), "");
    }
}
