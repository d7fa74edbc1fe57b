//! `audit`: everything that was ever complete, gone through again: who signed it, under which holders, and whether anything that
//! was published changed afterwards.

use crate::args::AuditArgs;
use crate::folder::{DocumentId, Folder};
use crate::http::Http;
use crate::stage::Stage;
use crate::{edge, failure, output, outside};
use jiff::Timestamp;
use serde::Serialize;
use sluice_signer::advisory::ROLE_SUFFIX;
use sluice_signer::publish::Repository;
use sluice_signer::root::{RoleKeys, RootMetadata};
use sluice_signer::{Envelope, Overrides, PublicKey, RepositoryTarget, TargetsMetadata, sha256, time};
use std::collections::BTreeMap;
use std::process::ExitCode;

/// One document.
#[derive(Serialize)]
struct Entry {
    role: String,
    version: u64,
    expires: String,
    payload_sha256: String,
    /// Holders whose signatures are valid.
    signed_by: Vec<String>,
    /// The document that named them.
    under: Option<String>,
    /// Lints that they overrode, with their reasons.
    overrides: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    documents: Vec<Entry>,
    findings: Vec<String>,
}

/// The keys of a role as one document names them.
struct Voucher {
    name: String,
    keys: BTreeMap<String, PublicKey>,
    role_keys: RoleKeys,
}

/// `audit`
pub fn run(args: &AuditArgs, now: Timestamp, json: bool) -> anyhow::Result<ExitCode> {
    let stage = Stage::load(Folder::open(&args.repo)?)?;
    let mut audit = Audit { stage: &stage, entries: Vec::new(), findings: Vec::new() };
    audit.chains();
    audit.documents()?;
    if let Some(server) = &args.server {
        let token = args.token_file.as_deref().map(edge::secret_file).transpose()?;
        let base = server.trim_end_matches('/');
        audit.findings.extend(outside::differences(&stage, base, &Http::new(token, args.timeout), now)?);
    }
    let Audit { entries, findings, .. } = audit;
    let report = Report { ok: findings.is_empty(), documents: entries, findings };
    output::print(json, &report, || text(&report))?;
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::from(failure::INCOMPLETE) })
}

fn text(report: &Report) -> String {
    let rows = report.documents.iter().map(|entry| {
        vec![
            entry.role.clone(),
            entry.version.to_string(),
            entry.expires.clone(),
            entry.payload_sha256.get(..16).unwrap_or_default().to_owned(),
            entry.under.clone().unwrap_or_else(|| "nobody".to_owned()),
            entry.signed_by.join(" "),
            entry.overrides.keys().cloned().collect::<Vec<_>>().join(" "),
        ]
    });
    let header = ["ROLE", "VERSION", "EXPIRES", "SHA-256", "UNDER", "SIGNED BY", "OVERRIDES"];
    let mut lines = vec![output::table(&header, rows)];
    lines.extend(report.findings.iter().map(|finding| format!("finding: {finding}")));
    if report.ok {
        lines.push(format!("OK: {} hold", output::count(report.documents.len(), "document")));
    }
    lines.join("\n")
}

struct Audit<'a> {
    stage: &'a Stage,
    entries: Vec<Entry>,
    findings: Vec<String>,
}

impl Audit<'_> {
    fn chains(&mut self) {
        if let Err(error) = self.stage.verify_roots() {
            self.findings.push(format!("the chain of roots does not hold: {error:#}"));
        }
    }

    fn documents(&mut self) -> anyhow::Result<()> {
        let limits = &self.stage.limits;
        let mut roots: Vec<RootMetadata> = Vec::new();
        let mut tops: Vec<TargetsMetadata> = Vec::new();
        let mut last: BTreeMap<(Repository, String), u64> = BTreeMap::new();
        // What stood under a path when it was first signed.
        let mut first: BTreeMap<String, (DocumentId, RepositoryTarget)> = BTreeMap::new();
        for id in self.stage.folder.history()? {
            let bytes = self.stage.folder.sealed(&id)?;
            let read = Envelope::parse(&id.name(), &bytes, self.stage.limit(&id.role), limits);
            let envelope = match read {
                Ok(envelope) => envelope,
                Err(error) => {
                    self.findings.push(error.to_string());
                    continue;
                }
            };
            self.check_gap(&mut last, &id);
            let mut vouchers = Vec::new();
            let expires = if id.role == "root" {
                let root = RootMetadata::from_json(envelope.signed(), limits)?;
                let voucher = root.role("root")?.clone();
                vouchers.push(Voucher { name: "itself".to_owned(), keys: root.keys.clone(), role_keys: voucher });
                let expires = root.expires;
                if id.repository == Repository::Image {
                    roots.push(root);
                }
                expires
            } else {
                let targets = TargetsMetadata::from_json(&id.role, envelope.signed(), limits)?;
                let expires = targets.expires;
                self.check_content(&mut first, &id, &targets);
                if id.role == "targets" {
                    for root in &roots {
                        let name = format!("root {}", root.version);
                        let role_keys = root.role("targets")?.clone();
                        vouchers.push(Voucher { name, keys: root.keys.clone(), role_keys });
                    }
                    tops.push(targets);
                } else {
                    for top in &tops {
                        let Some(delegation) = top.delegation(&id.role) else { continue };
                        let (name, keys) = (format!("targets {}", top.version), top.delegation_keys.clone());
                        vouchers.push(Voucher { name, keys, role_keys: delegation.keys.clone() });
                    }
                }
                expires
            };
            self.enter(&id, &envelope, &time::format(expires), &vouchers)?;
        }
        Ok(())
    }

    fn check_gap(&mut self, last: &mut BTreeMap<(Repository, String), u64>, id: &DocumentId) {
        let before = last.insert((id.repository, id.role.clone()), id.version).unwrap_or(0);
        if id.version != before + 1 {
            self.findings.push(format!("{}: version {} is missing", id.name(), before + 1));
        }
    }

    /// What was signed under a path stays what it is.
    fn check_content(
        &mut self,
        first: &mut BTreeMap<String, (DocumentId, RepositoryTarget)>,
        id: &DocumentId,
        targets: &TargetsMetadata,
    ) {
        // Advisories change as more becomes known.
        if id.role.ends_with(ROLE_SUFFIX) {
            return;
        }
        for (path, target) in &targets.targets {
            let (when, what) = first.entry(path.clone()).or_insert_with(|| (id.clone(), target.clone()));
            if what != target {
                let finding = format!(
                    "{path}: {} version {} signs something else than version {} did",
                    id.name(),
                    id.version,
                    when.version
                );
                self.findings.push(finding);
            }
        }
    }

    fn enter(
        &mut self,
        id: &DocumentId,
        envelope: &Envelope,
        expires: &str,
        vouchers: &[Voucher],
    ) -> anyhow::Result<()> {
        // The newest that it satisfies: holders change, and what was signed before stays signed.
        let satisfied = vouchers.iter().rev().find(|voucher| {
            envelope.verify_threshold(&id.name(), &voucher.name, &voucher.keys, &voucher.role_keys).is_ok()
        });
        if satisfied.is_none() {
            let finding = format!("{} version {}: not signed by enough holders of its time", id.name(), id.version);
            self.findings.push(finding);
        }
        let valid = satisfied.map(|voucher| envelope.valid_signers(&voucher.keys, &voucher.role_keys));
        let overrides = Overrides::of(envelope.signed())?;
        self.entries.push(Entry {
            role: id.name(),
            version: id.version,
            expires: expires.to_owned(),
            payload_sha256: hex::encode(sha256(&envelope.payload())),
            signed_by: valid.into_iter().flatten().map(|keyid| self.stage.holder(&keyid)).collect(),
            under: satisfied.map(|voucher| voucher.name.clone()),
            overrides: overrides.iter().map(|(code, reason)| (code.to_owned(), reason.to_owned())).collect(),
        });
        Ok(())
    }
}
