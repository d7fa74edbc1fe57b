//! Which package may depend on which of ours.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Report;

/// Packages and those of ours that each may use. Tests of any of them may also use the fixtures, and those of the server run the agent.
const ARROWS: [(&str, &[&str]); 12] = [
    ("sluice-signer", &[]),
    ("sluice-delta", &[]),
    ("sluice-catalog", &[]),
    ("sluice-fixtures", &[]),
    ("xtask", &[]),
    ("sluice-token", &["sluice-signer"]),
    ("sluice-sign", &["sluice-signer", "sluice-token", "sluice-catalog"]),
    ("sluice-delta-cli", &["sluice-delta"]),
    ("sluice-agent", &["sluice-delta", "sluice-signer", "sluice-catalog"]),
    ("sluice-server", &["sluice-delta", "sluice-signer", "sluice-token", "sluice-catalog"]),
    ("sluicectl", &["sluice-catalog"]),
    ("sluice-benches", &["sluice-delta", "sluice-signer", "sluice-catalog", "sluice-server", "sluice-fixtures"]),
];

/// Checks the output of `cargo metadata --no-deps`.
pub fn check(metadata: &Value) -> Report {
    let mut report = Report::default();
    let list = |value: &Value, name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let packages = list(metadata, "packages");
    let ours: BTreeSet<String> = packages.iter().map(|package| text(package, "name")).collect();
    for (expected, _) in ARROWS {
        if !ours.contains(expected) {
            report.find("Cargo.toml", 0, format!("the package {expected} is gone; correct the list of arrows"));
        }
    }
    for package in &packages {
        report.scanned += 1;
        let name = text(package, "name");
        let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == name) else {
            report.find("Cargo.toml", 0, format!("the package {name} has no place in the list of arrows"));
            continue;
        };
        for dependency in list(package, "dependencies") {
            let target = text(&dependency, "name");
            let only_tests = text(&dependency, "kind") == "dev";
            let fixtures_in_tests = only_tests && target == "sluice-fixtures" && name != "xtask";
            let agent_in_tests = only_tests && target == "sluice-agent" && name == "sluice-server";
            let in_tests = fixtures_in_tests || agent_in_tests;
            if ours.contains(&target) && target != name && !allowed.contains(&target.as_str()) && !in_tests {
                report.find("Cargo.toml", 0, format!("{name} must not depend on {target}"));
            }
        }
    }
    report
}
