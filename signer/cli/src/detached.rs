//! Signing apart from the repository: `request` writes what travels, `sign --request` signs it on a machine that has nothing
//! else, `merge` takes the signatures in.

use crate::args::{MergeArgs, RequestArgs, SignArgs};
use crate::describe;
use crate::documents::Documents;
use crate::failure::Failure;
use crate::folder::{DocumentId, Folder, read_limited};
use crate::key::HolderKey;
use crate::sign::{DocumentName, SignReport, agree};
use crate::signing_file::{DetachedSignature, Request, Signatures};
use crate::stage::{self, Stage};
use crate::{edge, output, product, release};
use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;
use sluice_signer::publish::Repository;
use sluice_signer::{
    Envelope, Lints, Overrides, RepositoryTarget, RootMetadata, Sha256Digest, TargetsMetadata, sha256,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Files of a folder of images that are looked at: with more it is the wrong folder.
const MAX_IMAGE_FILES: usize = 10_000;

/// `request`
pub fn request(args: &RequestArgs, now: Timestamp, json: bool) -> anyhow::Result<()> {
    let stage = Stage::load(Folder::open(&args.repo)?)?;
    let secret = stage.secret_roles(now)?;
    // What is not announced travels in a request of its own, unless nothing else is staged.
    let alone = secret.len() == stage.staged.len();
    let asked = |id: &DocumentId| match &args.role {
        Some(role) => *role == id.name(),
        None => alone || !secret.contains(&id.role),
    };
    if args.role.is_none() && !alone {
        for role in &secret {
            eprintln!("note: {role} is not announced and left out: ask for it alone with --role {role}");
        }
    }
    let names: Vec<DocumentName> =
        stage.staged.iter().map(|(id, _)| id).filter(|id| asked(id)).map(DocumentName::from).collect();
    if names.is_empty() {
        return Err(Failure::refused("nothing is staged to ask for", "see `sluice-sign status`"));
    }
    let expires = edge::in_days(now, args.valid_days)?;
    Request::new(&stage, asked, args.note.clone(), (now, expires))?.write(&args.out)?;
    output::print(json, &names, || {
        let lines: Vec<String> = names.iter().map(|id| format!("{} version {}", id.role, id.version)).collect();
        format!(
            "{} asks for: {}\nnext: each holder runs `sluice-sign sign --request FILE --key KEY --out NAME.fwsig`, then `sluice-sign merge`",
            args.out.display(),
            lines.join(", ")
        )
    })
}

/// `sign --request`. Everything that would be checked beside the repository is checked here, from what the request carries:
/// whoever made it may be the thief.
pub fn sign(args: &SignArgs, file: &Path, out: &Path, now: Timestamp, json: bool) -> anyhow::Result<()> {
    let request = Request::read(file)?;
    let (mut documents, dropped) = judge(&request, now).with_context(|| file.display().to_string())?;
    let registry = own_registry(&mut documents, args.products.as_deref())?;
    let signing_key = HolderKey::open(&args.key, args.passphrase_file.as_deref())?;
    let keyid = signing_key.public().keyid();

    let mut chosen = Vec::new();
    for (id, envelope) in documents.staged.iter().map(|(id, envelope)| (id, envelope)) {
        let wanted = request.asks_for(id) && args.role.as_ref().is_none_or(|role| *role == id.name());
        let authorised = documents.signers(id, envelope)?.iter().any(|one| one.role_keys.keyids.contains(keyid));
        if wanted && authorised {
            chosen.push((id, envelope));
        }
    }
    if chosen.is_empty() {
        let message = format!("key {} may sign nothing of this request", documents.holder(keyid));
        return Err(Failure::refused(message, "check that it is the right key and the right request"));
    }
    for line in anchors(&documents, &args.roots, chosen.iter().map(|(id, _)| id.repository))? {
        eprintln!("{line}");
    }
    eprintln!("{registry}");
    if let Some(note) = &request.note {
        eprintln!("note: {}", note.escape_debug());
    }
    for (id, envelope) in &chosen {
        check_own_role(&documents, id, keyid)?;
        check(&documents, id, envelope, now)?;
        show(&documents, id, envelope, dropped.iter().any(|dropped| dropped.role == id.role), now)?;
        check_images(&documents, id, envelope, now, args.images.as_deref())?;
    }
    agree(args, chosen.iter().copied())?;
    if !edge::confirm("Sign?", args.yes)? {
        return Err(Failure::refused("not signed", "nothing was written"));
    }
    let signatures = chosen.iter().map(|(id, envelope)| detached(id, envelope, &signing_key));
    Signatures::new(signatures.collect::<anyhow::Result<_>>()?).write(out)?;
    let names: Vec<DocumentName> = chosen.iter().map(|(id, _)| DocumentName::from(*id)).collect();
    output::print(json, &names, || {
        let lines: Vec<String> =
            names.iter().map(|id| format!("signed   {} version {}", id.role, id.version)).collect();
        format!("{}\nnext: bring {} back and run `sluice-sign merge`", lines.join("\n"), out.display())
    })
}

/// What a request says, when its roots lead from one to the next; with the complete documents that are not believed.
fn judge(request: &Request, now: Timestamp) -> anyhow::Result<(Documents, Vec<DocumentId>)> {
    request.check_expiry(now)?;
    let mut documents = request.documents()?;
    documents
        .verify_roots()
        .map_err(|error| Failure::refused(format!("{error:#}"), "do not sign this request; ask for a new one"))?;
    let dropped = documents.drop_unvouched()?;
    Ok((documents, dropped))
}

/// What a document must pass before a holder is asked about it, whoever the holder is.
fn check(documents: &Documents, id: &DocumentId, envelope: &Envelope, now: Timestamp) -> anyhow::Result<()> {
    check_stated_version(id, envelope)?;
    check_plain(documents, id, envelope)?;
    Lints(documents.lints(id, envelope, now)?).into_result().map_err(|lints| stage::refuse(id, &lints))
}

/// What `sign --request` makes of a file before it asks its user anything. Returns how many documents the user would be asked
/// about; an error names the document, the rule and what to do.
pub fn examine(request: &[u8], now: Timestamp) -> anyhow::Result<usize> {
    let request = Request::from_bytes(request)?;
    let (documents, _) = judge(&request, now)?;
    for (id, envelope) in &documents.staged {
        check(&documents, id, envelope, now)?;
        documents.signers(id, envelope)?;
        let previous = documents.previous_signed(id)?;
        describe::changes(id, envelope, previous.as_ref(), &documents.limits, &|keyid| documents.holder(keyid))?;
    }
    Ok(documents.staged.len())
}

/// What a holder compares to know that the request is about the right repositories: by the roots of them that they hold, or by
/// eye. Only the chain of the repository to which a document belongs speaks for it.
fn anchors(
    documents: &Documents,
    held: &[PathBuf],
    repositories: impl Iterator<Item = Repository>,
) -> anyhow::Result<Vec<String>> {
    let read = |bytes: &[u8]| Envelope::parse("root", bytes, documents.limits.root_bytes, &documents.limits);
    let digest = |bytes: &[u8]| Ok::<_, anyhow::Error>(output::short(&sha256(&read(bytes)?.payload())));
    let mut own = Vec::new();
    for path in held {
        let bytes = read_limited(path, documents.limits.root_bytes)?;
        own.push((path, digest(&bytes).with_context(|| path.display().to_string())?));
    }
    let mut lines = Vec::new();
    for repository in repositories.collect::<BTreeSet<_>>() {
        let name = match repository {
            Repository::Image => "image",
            Repository::Director => "director",
        };
        let mut chain = Vec::new();
        for root in documents.roots(repository) {
            chain.push(digest(root)?);
        }
        let known = own.iter().find(|(_, digest)| chain.contains(digest));
        lines.push(match (known, chain.first()) {
            (Some((path, digest)), _) => {
                format!("the {name} repository goes on from {}, SHA-256 {digest}", path.display())
            }
            (None, _) if !own.is_empty() => {
                let files: Vec<String> = held.iter().map(|path| path.display().to_string()).collect();
                let message =
                    format!("{}: no root of the {name} repository that the request is about", files.join(", "));
                return Err(Failure::refused(message, "do not sign; ask whoever sent the request"));
            }
            (None, Some(first)) => format!(
                "{name} repository whose first root has SHA-256 {first}; compare it, or give the root that you hold with --root FILE"
            ),
            (None, None) => format!(
                "the first root of the {name} repository is still being signed: compare its digest with the other holders"
            ),
        });
    }
    Ok(lines)
}

/// Takes the holder's own product registry in place of the request's. Says whose it is.
fn own_registry(documents: &mut Documents, own: Option<&Path>) -> anyhow::Result<String> {
    if let Some(path) = own {
        documents.products = crate::folder::read_registry(path)?;
        return Ok(format!("products are held against {}", path.display()));
    }
    let digest = output::short(&sha256(&serde_json::to_vec(&documents.products)?));
    Ok(format!(
        "products are held against the registry that the request carries, SHA-256 {digest}; --products FILE takes your own"
    ))
}

/// Documents of product roles do not name their role, so a signature for one is good for every role that names the key.
fn check_own_role(documents: &Documents, id: &DocumentId, keyid: &str) -> anyhow::Result<()> {
    if id.role == "root" || id.role == "targets" {
        return Ok(());
    }
    let Some(top) = documents.previous("targets")? else { return Ok(()) };
    let other = top.delegations.iter().find(|one| one.name != id.role && one.keys.keyids.contains(keyid));
    let Some(other) = other else { return Ok(()) };
    let message =
        format!("your key serves {}, and a signature for {} would be good for it, too", other.name, id.name());
    Err(Failure::refused(message, "do not sign; a role gets keys of its own"))
}

/// Refuses a document in which something stands that this program does not understand and so cannot show.
fn check_plain(documents: &Documents, id: &DocumentId, envelope: &Envelope) -> anyhow::Result<()> {
    let signed = envelope.signed();
    let limits = &documents.limits;
    let mut odd = None;
    let understood = if id.role == "root" {
        RootMetadata::from_json(signed, limits)?.to_json()
    } else {
        let targets = TargetsMetadata::from_json(&id.role, signed, limits)?;
        for (path, target) in &targets.targets {
            // Facts that cannot be read are for the lints to name.
            let release = target.release(&id.role, limits).ok().flatten();
            if release.is_some_and(|release| target.custom.as_ref() != Some(&release.to_json())) {
                odd = Some(path.clone());
            }
        }
        targets.to_json()
    };
    if odd.is_none() && Overrides::of(signed)?.write(understood) == *signed {
        return Ok(());
    }
    let place = odd.map(|path| format!(" under {path}")).unwrap_or_default();
    let message = format!("{} version {} has fields{place} that this program does not know", id.name(), id.version);
    Err(Failure::refused(message, "do not sign what cannot be shown; ask for a request by a program of this version"))
}

/// Shows a document as the signer's own program understands it.
fn show(
    documents: &Documents,
    id: &DocumentId,
    envelope: &Envelope,
    unvouched: bool,
    now: Timestamp,
) -> anyhow::Result<()> {
    let previous = documents.previous_signed(id)?;
    let (expires, changes) =
        describe::changes(id, envelope, previous.as_ref(), &documents.limits, &|keyid| documents.holder(keyid))?;
    let digest = output::short(&sha256(&envelope.payload()));
    eprintln!("{} version {}, expires {expires}, SHA-256 {digest}", id.name(), id.version);
    if unvouched {
        eprintln!("  warning: today's holders have not signed the document before it, so all of it is shown as new");
    }
    if !matches!(id.role.as_str(), "root" | "targets") && documents.find_staged(Repository::Image, "targets").is_some()
    {
        eprintln!(
            "  note: a document that names the holders of products is being signed as well; without it this one counts by the old"
        );
    }
    for lint in documents.overridden_lints(id, envelope, now)? {
        eprintln!("  ! {lint}");
    }
    for change in changes {
        eprintln!("  {change}");
    }
    Ok(())
}

/// Holds new images against the signer's own copies of them, when there are any.
fn check_images(
    documents: &Documents,
    id: &DocumentId,
    envelope: &Envelope,
    now: Timestamp,
    folder: Option<&Path>,
) -> anyhow::Result<()> {
    if id.role == "root" || id.role == "targets" {
        return Ok(());
    }
    let document = TargetsMetadata::from_json(&id.role, envelope.signed(), &documents.limits)?;
    let previous = documents.previous(&id.role)?;
    let known = |target: &RepositoryTarget| {
        previous.as_ref().is_some_and(|previous| previous.targets.get(&target.path) == Some(target))
    };
    let new: Vec<&RepositoryTarget> = document.targets.values().filter(|target| !known(target)).collect();
    let Some(folder) = folder else {
        if !new.is_empty() {
            eprintln!("  the images were not looked at; --images DIR holds them against copies of your own");
        }
        for line in product::check(documents, id, envelope, now, &mut |_, _| Ok(None))? {
            eprintln!("  {line}");
        }
        return Ok(());
    };
    let mut images = Images::list(folder)?;
    for target in new {
        if images.find(&target.sha256, target.length)?.is_none() {
            let message = format!("{}: no file in {} is this image", target.path, folder.display());
            return Err(Failure::refused(message, "build the images yourself, or do not sign"));
        }
        eprintln!("  {} is in {}", target.path, folder.display());
    }
    for line in product::check(documents, id, envelope, now, &mut |digest, length| images.find(digest, length))? {
        eprintln!("  {line}");
    }
    Ok(())
}

/// Files of a folder by length; they are hashed only when an image of this length is looked for.
struct Images {
    files: BTreeMap<u64, Vec<PathBuf>>,
    hashed: BTreeMap<PathBuf, Sha256Digest>,
}

impl Images {
    fn list(folder: &Path) -> anyhow::Result<Self> {
        let mut files: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
        let context = || format!("cannot list {}", folder.display());
        for (number, entry) in std::fs::read_dir(folder).with_context(context)?.enumerate() {
            if number >= MAX_IMAGE_FILES {
                let message = format!("{} has more than {MAX_IMAGE_FILES} files", folder.display());
                return Err(Failure::file(message, "give a folder with the images alone"));
            }
            let path = entry.with_context(context)?.path();
            let metadata = std::fs::metadata(&path).with_context(|| path.display().to_string())?;
            if metadata.is_file() {
                files.entry(metadata.len()).or_default().push(path);
            }
        }
        Ok(Self { files, hashed: BTreeMap::new() })
    }

    fn find(&mut self, digest: &Sha256Digest, length: u64) -> anyhow::Result<Option<PathBuf>> {
        for path in self.files.get(&length).into_iter().flatten() {
            let found = match self.hashed.get(path) {
                Some(found) => *found,
                None => release::hash(path)?.0,
            };
            self.hashed.insert(path.clone(), found);
            if found == *digest {
                return Ok(Some(path.clone()));
            }
        }
        Ok(None)
    }
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
    if merged.merge(key, &signature.keyid, &sig, &stage.limits).is_err() {
        let message = format!("the signature of {} over {} is not valid", stage.holder(&signature.keyid), id.name());
        return Err(Failure::refused(message, "ask its holder to sign again"));
    }
    let new = merged != envelope;
    if let Some((_, staged)) = stage.staged.get_mut(index) {
        *staged = merged;
    }
    Ok(new)
}
