//! What a document says and changes, in words, so that nobody signs a blob.

use crate::documents::Signers;
use crate::folder::DocumentId;
use crate::output;
use crate::stage::Stage;
use serde::Serialize;
use sluice_signer::publish::Repository;
use sluice_signer::root::{RoleKeys, RootMetadata};
use sluice_signer::{Envelope, Json, Limits, Overrides, TargetsMetadata, embargo, sha256, time};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A staged document and what it still needs.
#[derive(Debug, Serialize)]
pub struct Staged {
    pub role: String,
    pub version: u64,
    pub expires: String,
    pub payload_sha256: String,
    pub signatures: usize,
    pub missing: usize,
    /// What it changes, one line each.
    pub changes: Vec<String>,
    /// The role whose document must be complete first.
    pub vouched_by: Option<&'static str>,
    /// Who can still sign.
    pub waiting_for: Vec<String>,
}

impl Staged {
    pub fn of(stage: &Stage, id: &DocumentId, envelope: &Envelope) -> anyhow::Result<Self> {
        let previous = stage.previous_signed(id)?;
        let (expires, changes) = changes(id, envelope, previous.as_ref(), &stage.limits, &|keyid| stage.holder(keyid))?;
        let signers = stage.signers(id, envelope)?;
        let valid = |signers: &Signers| envelope.valid_signers(&signers.keys, &signers.role_keys);
        let mut waiting_for = Vec::new();
        for signers in signers.iter().filter(|signers| signers.missing(envelope) > 0) {
            let have = valid(signers);
            let names = signers.role_keys.keyids.iter().filter(|keyid| !have.contains(*keyid));
            waiting_for.extend(names.map(|keyid| stage.holder(keyid)));
        }
        waiting_for.sort();
        waiting_for.dedup();
        Ok(Self {
            role: id.name(),
            version: id.version,
            expires,
            payload_sha256: hex::encode(sha256(&envelope.payload())),
            signatures: envelope.signatures().count(),
            missing: signers.iter().map(|signers| signers.missing(envelope)).max().unwrap_or(0),
            changes,
            vouched_by: id.vouched_by(),
            waiting_for,
        })
    }

    /// What the document waits for, in words.
    pub fn waits_for(&self) -> String {
        match (self.missing, self.vouched_by) {
            (0, Some(role)) => format!("{role}, which must be complete first"),
            (0, None) => "the next `sluice-sign sign` or `merge`".to_owned(),
            (missing, _) => format!("{missing} more of: {}", self.waiting_for.join(", ")),
        }
    }

    pub fn text(&self) -> String {
        let mut text = format!(
            "{} version {}, expires {}, SHA-256 {}\n",
            self.role,
            self.version,
            self.expires,
            short_hex(&self.payload_sha256)
        );
        for change in &self.changes {
            let _ = writeln!(text, "  {change}");
        }
        match self.missing {
            0 => text.push_str("  has all its signatures\n"),
            missing => {
                let _ = writeln!(text, "  needs {missing} more of: {}", self.waiting_for.join(", "));
            }
        }
        text
    }
}

fn short_hex(hex: &str) -> String {
    sluice_signer::digest::parse_hex(hex).map(|digest| output::short(&digest)).unwrap_or_default()
}

/// Prints the staged documents that a command touched, and what to do next.
pub fn print_staged(
    stage: &Stage,
    json: bool,
    touched: impl Fn(&DocumentId) -> bool,
    next: &str,
) -> anyhow::Result<()> {
    let mut staged = Vec::new();
    for (id, envelope) in stage.staged.iter().filter(|(id, _)| touched(id)) {
        staged.push(Staged::of(stage, id, envelope)?);
    }
    let report = BTreeMap::from([("staged", &staged)]);
    output::print(json, &report, || {
        let texts: Vec<String> = staged.iter().map(Staged::text).collect();
        format!("staged:\n{}\nnext: {next}", texts.join("\n"))
    })
}

/// The expiry of a document, and its changes against the signed part of the one before it.
pub fn changes(
    id: &DocumentId,
    envelope: &Envelope,
    previous: Option<&Json>,
    limits: &Limits,
    holder: &dyn Fn(&str) -> String,
) -> anyhow::Result<(String, Vec<String>)> {
    let overridden = Overrides::of(envelope.signed())?;
    let overridden = overridden.iter().map(|(code, reason)| format!("! overrides {code}: {reason}"));
    if id.role == "root" {
        let root = RootMetadata::from_json(envelope.signed(), limits)?;
        let previous = previous.map(|previous| RootMetadata::from_json(previous, limits)).transpose()?;
        let lines = overridden.chain(root_lines(id, &root, previous.as_ref(), holder)).collect();
        return Ok((time::format(root.expires), lines));
    }
    let previous = previous.map(|previous| TargetsMetadata::from_json(&id.role, previous, limits)).transpose()?;
    let previous = previous.as_ref();
    let targets = TargetsMetadata::from_json(&id.role, envelope.signed(), limits)?;
    let mut lines: Vec<String> = overridden.collect();
    lines.extend(moment_line(&targets, previous));
    for delegation in &targets.delegations {
        let known = previous.and_then(|previous| previous.delegation(&delegation.name));
        let mark = match known {
            Some(known) if known == delegation => '=',
            Some(_) => '~',
            None => '+',
        };
        let paths: Vec<&str> = delegation.paths.iter().collect();
        let was = known.filter(|known| known.keys != delegation.keys);
        let was = was.map(|was| format!(" (was {})", holders(&was.keys, holder))).unwrap_or_default();
        let kind = if embargo::product_of(delegation).is_some() { "embargo role" } else { "product" };
        lines.push(format!(
            "{mark} {kind} {} ({}): {}{was}",
            delegation.name,
            paths.join(" "),
            holders(&delegation.keys, holder)
        ));
    }
    for gone in previous.iter().flat_map(|previous| &previous.delegations) {
        if targets.delegation(&gone.name).is_none() {
            lines.push(format!("- product {}", gone.name));
        }
    }
    lines.extend(target_lines(&id.role, &targets, previous, limits));
    if lines.is_empty() {
        lines.push("no releases yet".to_owned());
    }
    Ok((time::format(targets.expires), lines))
}

/// From when on a document of an embargo role may be shown.
fn moment_line(targets: &TargetsMetadata, previous: Option<&TargetsMetadata>) -> Option<String> {
    let (is, was) = (targets.not_before?, previous.and_then(|previous| previous.not_before));
    let mark = if was == Some(is) { '=' } else { '+' };
    let was = was.filter(|was| *was != is).map(|was| format!(" (was {})", time::format(was))).unwrap_or_default();
    Some(format!("{mark} shown from {} on, and not before{was}", time::format(is)))
}

fn root_lines(
    id: &DocumentId,
    root: &RootMetadata,
    previous: Option<&RootMetadata>,
    holder: &dyn Fn(&str) -> String,
) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(before) = previous.map(|previous| previous.epoch).filter(|before| *before != root.epoch) {
        lines.push(format!(
            "! signing epoch {} (was {before}): verifiers that know no later one go on with the documents as they are now",
            root.epoch
        ));
    }
    for (name, role) in &root.roles {
        let offline = name == "root" || (name == "targets" && id.repository == Repository::Image);
        let who = |role: &RoleKeys| if offline { holders(role, holder) } else { online(role) };
        let was = previous.and_then(|previous| previous.roles.get(name)).filter(|was| *was != role);
        let was = was.map(|was| format!(" (was {})", who(was))).unwrap_or_default();
        lines.push(format!("role {name}: {}{was}", who(role)));
    }
    if let Some(entitlement) = &root.entitlement {
        let was = previous.and_then(|previous| previous.entitlement.as_ref()).filter(|was| *was != entitlement);
        let was = was.map(|was| format!(" (was {})", online(was))).unwrap_or_default();
        lines.push(format!("role entitlement: {}{was}", online(entitlement)));
    }
    lines.push(format!("repository {}", root.repo_id.as_deref().unwrap_or("unnamed")));
    lines
}

fn holders(role: &RoleKeys, holder: &dyn Fn(&str) -> String) -> String {
    let mut names: Vec<String> = role.keyids.iter().map(|keyid| holder(keyid)).collect();
    names.sort();
    format!("{} of {}", role.threshold, names.join(", "))
}

fn online(role: &RoleKeys) -> String {
    let ids: Vec<String> = role.keyids.iter().map(|keyid| output::long_id(keyid)).collect();
    format!("server key {}", ids.join(", "))
}

fn target_lines(
    role: &str,
    targets: &TargetsMetadata,
    previous: Option<&TargetsMetadata>,
    limits: &Limits,
) -> Vec<String> {
    let mut lines = Vec::new();
    let mut same = 0;
    for (path, target) in &targets.targets {
        let known = previous.and_then(|previous| previous.targets.get(path));
        let mark = match known {
            Some(known) if known == target => {
                same += 1;
                continue;
            }
            Some(_) => '~',
            None => '+',
        };
        let mut line = format!("{mark} {path}, {} bytes, SHA-256 {}", target.length, output::short(&target.sha256));
        if let Ok(Some(release)) = target.release(role, limits) {
            let join = |set: &std::collections::BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(" ");
            let _ = write!(
                line,
                "\n      {} release, order {}, train {} (GA {}), counter {}, hardware {}, channels {}",
                release.kind,
                release.order,
                release.train,
                release.train_ga,
                release.security_counter,
                join(&release.hw_ids),
                join(&release.channels),
            );
            for (name, set) in [("requires", &release.requires), ("advisories", &release.advisories)] {
                if !set.is_empty() {
                    let _ = write!(line, ", {name} {}", join(set));
                }
            }
            if let Some(min) = &release.min_installed {
                let _ = write!(line, ", from {min}");
            }
        }
        lines.push(line);
    }
    for path in previous.iter().flat_map(|previous| previous.targets.keys()) {
        if !targets.targets.contains_key(path) {
            lines.push(format!("- {path}"));
        }
    }
    if same > 0 {
        lines.push(format!("= {} unchanged", output::count(same, "target")));
    }
    lines
}
