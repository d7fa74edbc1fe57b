//! The command line that both clients share: `METADATA_URL TARGETS_URL FOLDER ROOT_FILE TARGET_PATH [TOKEN]`.
//!
//! Each prints one line of JSON: where the verified target is, that nothing lists it, or why the client refused. What a
//! client keeps between two runs is in FOLDER.

use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::{Value, json};

/// What a run is asked for.
#[derive(Debug)]
pub struct Task {
    /// Base URL of the documents, with `/` at its end.
    pub metadata_url: String,
    /// Base URL of the targets, with `/` at its end.
    pub targets_url: String,
    /// Where the client keeps what it trusts.
    pub kept: PathBuf,
    /// The root that the client was provisioned with.
    pub root: Vec<u8>,
    /// Path of the target.
    pub target: String,
    /// Bearer token, for what is not public.
    pub token: Option<String>,
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// The verified target lies there; `custom` is what was signed about it.
    Got { file: PathBuf, custom: Value, root_version: u64 },
    /// No role that has a say lists it.
    Missing,
}

impl Task {
    /// From the arguments of the program.
    pub fn from_args() -> anyhow::Result<Self> {
        let mut args = std::env::args().skip(1);
        let mut next = |what: &str| args.next().with_context(|| format!("{what} is missing among the arguments"));
        let (metadata_url, targets_url) = (next("METADATA_URL")?, next("TARGETS_URL")?);
        let (folder, root) = (PathBuf::from(next("FOLDER")?), next("ROOT_FILE")?);
        let target = next("TARGET_PATH")?;
        let kept = folder.join("kept");
        std::fs::create_dir_all(&kept).with_context(|| kept.display().to_string())?;
        let root = std::fs::read(&root).with_context(|| root.clone())?;
        Ok(Self { metadata_url, targets_url, kept, root, target, token: args.next() })
    }

    /// Runs the client and prints how it ended. A refusal is an outcome, not a failure of the program.
    pub fn run<E: std::fmt::Display>(&self, client: impl Future<Output = Result<Outcome, E>>) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let printed = match runtime.block_on(client) {
            Ok(Outcome::Got { file, custom, root_version }) => {
                json!({"file": file, "custom": custom, "root": root_version})
            }
            Ok(Outcome::Missing) => json!({"missing": self.target}),
            Err(error) => json!({"refused": format!("{error:#}")}),
        };
        println!("{printed}");
        Ok(())
    }
}
