//! The rules of ARCHITECTURE.md as checks over the sources. `cargo xtask tidy` runs them, and so does an ordinary test.
//!
//! A rule is a pure function over a [`Tree`], so its test shows on a few synthetic files what it catches. It also counts
//! what it looked at: on the real tree each rule must have seen a minimum, because a check that saw nothing says nothing.

pub mod arrows;
pub mod docs;
pub mod layers;
pub mod source;
pub mod style;
pub mod tree;

use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use serde_json::{Value, json};

pub use source::RustFile;
pub use tree::Tree;

/// A place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Path from the repository's root.
    pub path: String,
    /// Line, from 1; 0 when the whole file is meant.
    pub line: usize,
    /// What is wrong, and what to do.
    pub message: String,
}

/// What a rule saw.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many things of the rule's kind it looked at.
    pub scanned: usize,
    /// What it found.
    pub findings: Vec<Finding>,
}

impl Report {
    fn find(&mut self, path: &str, line: usize, message: impl Into<String>) {
        self.findings.push(Finding { path: path.to_owned(), line, message: message.into() });
    }
}

/// A rule over the sources.
pub struct Rule {
    /// Short name, shown with findings.
    pub name: &'static str,
    /// Fewest things that it sees on the real tree. Raise it as the tree grows; lower it only with the thing itself.
    pub minimum: usize,
    /// The check.
    pub check: fn(&Tree) -> Report,
}

/// All rules over sources. The dependency arrows stand in [`arrows`]: they look at `cargo metadata`.
pub const RULES: &[Rule] = &[
    Rule { name: "sql-in-store", minimum: 80, check: layers::sql_in_store },
    Rule { name: "http-in-surfaces", minimum: 80, check: layers::http_in_surfaces },
    Rule { name: "object-store-in-blobs", minimum: 80, check: layers::object_store_in_blobs },
    Rule { name: "surfaces-use-cases-only", minimum: 3, check: layers::surfaces_never_touch_store },
    Rule { name: "pure-core", minimum: 30, check: layers::core_is_pure },
    Rule { name: "old-spelling-in-uptane", minimum: 80, check: layers::old_spelling_in_uptane },
    Rule { name: "migration-pairs", minimum: 2, check: layers::migrations_are_paired },
    Rule { name: "reasoned-exceptions", minimum: 80, check: style::exceptions_have_reasons },
    Rule { name: "nothing-unfinished", minimum: 80, check: style::nothing_unfinished },
    Rule { name: "file-length", minimum: 80, check: style::files_are_short },
    Rule { name: "modules-wired", minimum: 60, check: style::modules_are_wired },
    Rule { name: "variables-documented", minimum: 3, check: docs::variables_are_documented },
    Rule { name: "metrics-documented", minimum: 3, check: docs::metrics_are_documented },
    Rule { name: "reasons-documented", minimum: 30, check: docs::reasons_are_documented },
    Rule { name: "kinds-documented", minimum: 12, check: docs::kinds_are_documented },
    Rule { name: "attacks-tested", minimum: 60, check: docs::attacks_are_tested },
    Rule { name: "links-resolve", minimum: 10, check: docs::links_resolve },
];

/// Runs one rule and adds a finding when it saw less than its minimum.
pub fn check_rule(rule: &Rule, tree: &Tree) -> Vec<Finding> {
    let mut report = (rule.check)(tree);
    if report.scanned < rule.minimum {
        let message =
            format!("saw only {} of at least {}: the rule no longer fits the tree", report.scanned, rule.minimum);
        report.find("", 0, message);
    }
    report.findings
}

/// Every rule with what it found on the repository at `root`.
pub fn check_all(root: &Path) -> Result<Vec<(&'static str, Finding)>> {
    let tree = Tree::read(root)?;
    let mut findings: Vec<_> =
        arrows::check(&cargo_metadata(root)?).findings.into_iter().map(|finding| ("arrows", finding)).collect();
    for rule in RULES {
        findings.extend(check_rule(rule, &tree).into_iter().map(|finding| (rule.name, finding)));
    }
    Ok(findings)
}

/// `cargo metadata` of the packages of this workspace.
pub fn cargo_metadata(root: &Path) -> Result<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("running cargo metadata")?;
    serde_json::from_slice(&output.stdout).context("reading cargo metadata")
}

/// `cargo xtask tidy`.
pub fn command(root: &Path, as_json: bool) -> Result<ExitCode> {
    let findings = check_all(root)?;
    let mut out = std::io::stdout().lock();
    if as_json {
        let list: Vec<_> = findings
            .iter()
            .map(|(rule, found)| {
                json!({ "rule": rule, "path": found.path, "line": found.line, "message": found.message })
            })
            .collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&list)?)?;
    } else {
        for (rule, found) in &findings {
            writeln!(out, "{}", line_of(rule, found))?;
        }
        writeln!(out, "tidy: {} rules, {} findings", RULES.len() + 1, findings.len())?;
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A finding as compilers print theirs.
pub fn line_of(rule: &str, found: &Finding) -> String {
    let place = match (found.path.as_str(), found.line) {
        ("", _) => "repository".to_owned(),
        (path, 0) => path.to_owned(),
        (path, line) => format!("{path}:{line}"),
    };
    format!("{place}: {} [{rule}]", found.message)
}
