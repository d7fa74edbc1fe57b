//! `sign`, `request` and `merge`: signatures made here, or on another machine.

use crate::args::{MergeArgs, RequestArgs, SignArgs};
use crate::describe::{self, Staged};
use crate::failure::Failure;
use crate::folder::{DocumentId, Folder};
use crate::key::HolderKey;
use crate::signing_file::{DetachedSignature, Request, RequestedDocument, Signatures};
use crate::stage::{self, Stage};
use crate::{edge, output, release};
use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;
use sluice_signer::{Envelope, Lints, TargetsMetadata, sha256};
use std::collections::BTreeSet;
use std::path::Path;

#[derive(Serialize)]
struct SignReport {
    #[serde(skip_serializing_if = "Option::is_none")]
    keyid: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    signed: Vec<DocumentName>,
    complete: Vec<DocumentName>,
    waiting: Vec<Staged>,
}

#[derive(Serialize)]
struct DocumentName {
    role: String,
    version: u64,
}

impl From<&DocumentId> for DocumentName {
    fn from(id: &DocumentId) -> Self {
        Self { role: id.name(), version: id.version }
    }
}

impl SignReport {
    fn new(
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

    fn text(&self) -> String {
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
        (None, Some(request), Some(out)) => sign_request(args, request, out, json),
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
        eprintln!("{}", Staged::of(&stage, id, envelope)?.text());
    }
    if !edge::confirm("Sign?", args.yes)? {
        return Err(Failure::refused("not signed", "nothing was changed"));
    }
    let mut signed = Vec::new();
    for index in chosen {
        let Some((id, envelope)) = stage.staged.get_mut(index) else { continue };
        signing_key.sign_envelope(envelope, &stage.folder.limits)?;
        signed.push(id.clone());
    }
    for (id, envelope) in &stage.staged {
        stage.folder.stage(id, envelope)?;
    }
    let complete = stage.settle()?;
    let report = SignReport::new(&stage, Some(keyid), &signed, &complete)?;
    output::print(json, &report, || report.text())
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
    let document = TargetsMetadata::from_json(&id.role, envelope.signed(), &stage.folder.limits)?;
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

/// `request`
pub fn request(args: &RequestArgs, json: bool) -> anyhow::Result<()> {
    let stage = Stage::load(Folder::open(&args.repo)?)?;
    let mut documents = Vec::new();
    for (id, envelope) in &stage.staged {
        if args.role.as_ref().is_some_and(|role| *role != id.name()) {
            continue;
        }
        let keyids: BTreeSet<String> =
            stage.signers(id, envelope)?.iter().flat_map(|signers| signers.role_keys.keyids.iter().cloned()).collect();
        documents.push(RequestedDocument {
            repository: id.repository,
            role: id.role.clone(),
            version: id.version,
            signed: envelope.signed().clone(),
            keyids: keyids.into_iter().collect(),
            previous: stage.previous_signed(id)?,
        });
    }
    if documents.is_empty() {
        return Err(Failure::refused("nothing is staged to ask for", "see `sluice-sign status`"));
    }
    let names: Vec<DocumentName> = documents.iter().map(|document| (&document.id()).into()).collect();
    Request::new(stage.holders, documents).write(&args.out)?;
    output::print(json, &names, || {
        let lines: Vec<String> = names.iter().map(|id| format!("{} version {}", id.role, id.version)).collect();
        format!(
            "{} asks for: {}\nnext: each holder runs `sluice-sign sign --request FILE --key KEY --out NAME.fwsig`, then `sluice-sign merge`",
            args.out.display(),
            lines.join(", ")
        )
    })
}

fn sign_request(args: &SignArgs, file: &Path, out: &Path, json: bool) -> anyhow::Result<()> {
    let request = Request::read(file)?;
    let limits = sluice_signer::Limits::default();
    let signing_key = HolderKey::open(&args.key, args.passphrase_file.as_deref())?;
    let keyid = signing_key.public().keyid();
    let holder =
        |keyid: &str| request.holders.get(keyid).cloned().unwrap_or_else(|| output::short_id(keyid).to_owned());
    let mut signatures = Vec::new();
    let mut names = Vec::new();
    for document in &request.documents {
        let id = document.id();
        let wanted = args.role.as_ref().is_none_or(|role| *role == id.name());
        if !wanted || !document.keyids.iter().any(|known| known == keyid) {
            continue;
        }
        let envelope = Envelope::new(document.signed.clone());
        let (expires, changes) = describe::changes(&id, &envelope, document.previous.as_ref(), &limits, &holder)?;
        check_stated_version(&id, &envelope)?;
        let digest = sha256(&envelope.payload());
        eprintln!("{} version {}, expires {expires}, SHA-256 {}", id.name(), id.version, output::short(&digest));
        for change in changes {
            eprintln!("  {change}");
        }
        signatures.push(detached(&id, &envelope, &signing_key)?);
        names.push(DocumentName::from(&id));
    }
    if signatures.is_empty() {
        let message = format!("key {} may sign nothing of this request", holder(keyid));
        return Err(Failure::refused(message, "check that it is the right key and the right request"));
    }
    if !edge::confirm("Sign?", args.yes)? {
        return Err(Failure::refused("not signed", "nothing was written"));
    }
    Signatures::new(signatures).write(out)?;
    output::print(json, &names, || {
        let lines: Vec<String> =
            names.iter().map(|id| format!("signed   {} version {}", id.role, id.version)).collect();
        format!("{}\nnext: bring {} back and run `sluice-sign merge`", lines.join("\n"), out.display())
    })
}

/// A request states the version beside the document; a holder must not be shown another one than is signed.
fn check_stated_version(id: &DocumentId, envelope: &Envelope) -> anyhow::Result<()> {
    if envelope.signed().get("version") == Some(&id.version.into()) {
        return Ok(());
    }
    let message = format!("{}: the request says version {}, the document another", id.name(), id.version);
    Err(Failure::refused(message, "do not sign this request; ask for a new one"))
}

fn detached(id: &DocumentId, envelope: &Envelope, key: &HolderKey) -> anyhow::Result<DetachedSignature> {
    let payload = envelope.payload();
    Ok(DetachedSignature {
        repository: id.repository,
        role: id.role.clone(),
        version: id.version,
        payload_sha256: hex::encode(sha256(&payload)),
        keyid: key.public().keyid().to_owned(),
        sig: hex::encode(key.sign(&payload)?),
    })
}

#[derive(Serialize)]
struct MergeReport {
    merged: usize,
    known: usize,
    #[serde(flatten)]
    result: SignReport,
}

/// `merge`
pub fn merge(args: &MergeArgs, now: Timestamp, json: bool) -> anyhow::Result<()> {
    let mut stage = Stage::load(Folder::open(&args.repo)?)?;
    let (mut merged, mut known) = (0, 0);
    for file in &args.files {
        for signature in Signatures::read(file)?.signatures {
            let new = merge_one(&mut stage, &signature, now).with_context(|| file.display().to_string())?;
            if new { merged += 1 } else { known += 1 }
        }
    }
    for (id, envelope) in &stage.staged {
        stage.folder.stage(id, envelope)?;
    }
    let complete = stage.settle()?;
    let report = MergeReport { merged, known, result: SignReport::new(&stage, None, &[], &complete)? };
    output::print(json, &report, || {
        format!("merged   {}, {known} known already\n{}", output::count(merged, "signature"), report.result.text())
    })
}

/// Takes one signature in. Returns whether it was new.
fn merge_one(stage: &mut Stage, signature: &DetachedSignature, now: Timestamp) -> anyhow::Result<bool> {
    let id = DocumentId { repository: signature.repository, role: signature.role.clone(), version: signature.version };
    let Some(index) = stage.staged.iter().position(|(staged, _)| *staged == id) else {
        if stage.folder.is_sealed(&id) {
            return Ok(false);
        }
        let message = format!("{} version {} is not staged here", id.name(), id.version);
        return Err(Failure::refused(message, "make a new request; the document was replaced since"));
    };
    let Some((_, envelope)) = stage.staged.get(index).cloned() else { return Ok(false) };
    Lints(stage.lints(&id, &envelope, now)?).into_result().map_err(|lints| stage::refuse(&id, &lints))?;
    if signature.payload_sha256 != hex::encode(sha256(&envelope.payload())) {
        let message = format!("the signature is for another {} version {}", id.name(), id.version);
        return Err(Failure::refused(message, "make a new request; the document was replaced since"));
    }
    let signers = stage.signers(&id, &envelope)?;
    let key = signers.iter().find_map(|signers| {
        signers.role_keys.keyids.contains(&signature.keyid).then(|| signers.keys.get(&signature.keyid)).flatten()
    });
    let Some(key) = key else {
        let message = format!("key {} may not sign {}", stage.holder(&signature.keyid), id.name());
        return Err(Failure::refused(message, "see who must sign with `sluice-sign status`"));
    };
    let sig = hex::decode(&signature.sig).context("the signature is not hexadecimal")?;
    let mut merged = envelope.clone();
    if merged.merge(key, &signature.keyid, &sig, &stage.folder.limits).is_err() {
        let message = format!("the signature of {} over {} is not valid", stage.holder(&signature.keyid), id.name());
        return Err(Failure::refused(message, "ask its holder to sign again"));
    }
    let new = merged != envelope;
    if let Some((_, staged)) = stage.staged.get_mut(index) {
        *staged = merged;
    }
    Ok(new)
}
