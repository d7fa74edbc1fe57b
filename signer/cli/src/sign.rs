//! `sign` where the repository folder is, and what all that sign and merge report.

use crate::args::SignArgs;
use crate::describe::Staged;
use crate::detached;
use crate::documents::Documents;
use crate::failure::Failure;
use crate::folder::{DocumentId, Folder};
use crate::key::HolderKey;
use crate::stage::{self, Stage};
use crate::{edge, output, release};
use jiff::Timestamp;
use serde::Serialize;
use sluice_signer::{Envelope, Lints, Overrides, TargetsMetadata};
use std::path::Path;

#[derive(Serialize)]
pub struct SignReport {
    #[serde(skip_serializing_if = "Option::is_none")]
    keyid: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    signed: Vec<DocumentName>,
    complete: Vec<DocumentName>,
    waiting: Vec<Staged>,
}

#[derive(Serialize)]
pub struct DocumentName {
    pub role: String,
    pub version: u64,
}

impl From<&DocumentId> for DocumentName {
    fn from(id: &DocumentId) -> Self {
        Self { role: id.name(), version: id.version }
    }
}

impl SignReport {
    pub fn new(
        stage: &Stage,
        keyid: Option<String>,
        signed: &[DocumentId],
        complete: &[DocumentId],
    ) -> anyhow::Result<Self> {
        let waiting = stage.staged.iter().map(|(id, envelope)| Staged::of(stage, id, envelope));
        Ok(Self {
            keyid,
            signed: signed.iter().map(DocumentName::from).collect(),
            complete: complete.iter().map(DocumentName::from).collect(),
            waiting: waiting.collect::<anyhow::Result<_>>()?,
        })
    }

    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        lines.extend(self.signed.iter().map(|id| format!("signed   {} version {}", id.role, id.version)));
        lines.extend(self.complete.iter().map(|id| format!("complete {} version {}", id.role, id.version)));
        lines.extend(
            self.waiting.iter().map(|staged| {
                format!("waiting  {} version {} for {}", staged.role, staged.version, staged.waits_for())
            }),
        );
        let next = if self.waiting.is_empty() {
            "check everything with `sluice-sign verify`, then `sluice-sign publish`"
        } else {
            "let the next holder sign"
        };
        lines.push(format!("next: {next}"));
        lines.join("\n")
    }
}

/// `sign`
pub fn run(args: &SignArgs, now: Timestamp, json: bool) -> anyhow::Result<()> {
    match (&args.repo, &args.request, &args.out) {
        (Some(repo), ..) => sign_folder(args, repo, now, json),
        (None, Some(request), Some(out)) => detached::sign(args, request, out, now, json),
        _ => Err(Failure::refused("nothing to sign", "give --repo DIR, or --request FILE with --out FILE")),
    }
}

fn sign_folder(args: &SignArgs, repo: &Path, now: Timestamp, json: bool) -> anyhow::Result<()> {
    let mut stage = Stage::load(Folder::open(repo)?)?;
    let signing_key = HolderKey::open(&args.key, args.passphrase_file.as_deref())?;
    let keyid = signing_key.public().keyid().to_owned();
    let mut chosen = Vec::new();
    for (index, (id, envelope)) in stage.staged.iter().enumerate() {
        let wanted = args.role.as_ref().is_none_or(|role| *role == id.name());
        let authorised = stage.signers(id, envelope)?.iter().any(|signers| signers.role_keys.keyids.contains(&keyid));
        if wanted && authorised {
            chosen.push(index);
        }
    }
    if chosen.is_empty() {
        return Err(nothing_for(&stage, &keyid));
    }
    for &index in &chosen {
        let Some((id, envelope)) = stage.staged.get(index) else { continue };
        Lints(stage.lints(id, envelope, now)?).into_result().map_err(|lints| stage::refuse(id, &lints))?;
        check_blobs(&stage, id, envelope)?;
        eprint!("{}", Staged::of(&stage, id, envelope)?.text());
        for lint in stage.overridden_lints(id, envelope, now)? {
            eprintln!("  ! {lint}");
        }
        if !stage.is_previous_vouched_for(id)? {
            eprintln!(
                "  warning: today's holders have not signed the document before it; look at what it calls unchanged, too"
            );
        }
        for line in stage.check_products(id, envelope, now)? {
            eprintln!("  {line}");
        }
        eprintln!();
    }
    agree(args, chosen.iter().filter_map(|&index| stage.staged.get(index)).map(|(id, envelope)| (id, envelope)))?;
    if !edge::confirm("Sign?", args.yes)? {
        return Err(Failure::refused("not signed", "nothing was changed"));
    }
    let mut signed = Vec::new();
    for index in chosen {
        let Documents { staged, limits, .. } = &mut stage.documents;
        let Some((id, envelope)) = staged.get_mut(index) else { continue };
        signing_key.sign_envelope(envelope, limits)?;
        signed.push(id.clone());
    }
    for (id, envelope) in &stage.staged {
        stage.folder.stage(id, envelope)?;
    }
    let complete = stage.settle()?;
    let report = SignReport::new(&stage, Some(keyid), &signed, &complete)?;
    output::print(json, &report, || report.text())
}

/// Every holder agrees to what a document overrides: by typing it, or beforehand on the command line.
pub fn agree<'a>(
    args: &SignArgs,
    documents: impl Iterator<Item = (&'a DocumentId, &'a Envelope)>,
) -> anyhow::Result<()> {
    for (id, envelope) in documents {
        for (code, reason) in Overrides::of(envelope.signed())?.iter() {
            if args.agreed.iter().any(|agreed| agreed == code) || edge::typed(&format!("override {code}"))? {
                continue;
            }
            let message = format!("{} overrides {code} ({reason}), and you did not agree", id.name());
            return Err(Failure::refused(message, "do not sign it, or give --agree-to-override CODE"));
        }
    }
    Ok(())
}

fn nothing_for(stage: &Stage, keyid: &str) -> anyhow::Error {
    let holder = stage.holder(keyid);
    if stage.staged.is_empty() {
        return Failure::refused("nothing is staged", "prepare something with `sluice-sign release new`");
    }
    let message = format!("key {holder} may sign nothing of what is staged");
    Failure::refused(message, "see who must sign with `sluice-sign status`")
}

/// Nobody signs for an image that is not the one on disk.
fn check_blobs(stage: &Stage, id: &DocumentId, envelope: &Envelope) -> anyhow::Result<()> {
    if id.role == "root" || id.role == "targets" {
        return Ok(());
    }
    let document = TargetsMetadata::from_json(&id.role, envelope.signed(), &stage.limits)?;
    let previous = stage.previous(&id.role)?;
    for (path, target) in &document.targets {
        if previous.as_ref().is_some_and(|previous| previous.targets.get(path) == Some(target)) {
            continue;
        }
        let file = stage.folder.blob(&target.sha256);
        let next = "stage the release again with `sluice-sign release new`";
        if !file.exists() {
            return Err(Failure::refused(format!("{path}: the image is not in the folder"), next));
        }
        if release::hash(&file)? != (target.sha256, target.length) {
            return Err(Failure::refused(format!("{path}: {} is not the image to be signed", file.display()), next));
        }
    }
    Ok(())
}
