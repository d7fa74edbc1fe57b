//! `release new` and `release withdraw`: hashing images, keeping them by digest, staging the product's next document.

use crate::args::{ReleaseNewArgs, ReleaseWithdrawArgs};
use crate::failure::Failure;
use crate::folder::{DocumentId, Folder};
use crate::stage::Stage;
use crate::{describe, edge, embargo, product};
use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use sluice_signer::advisory::ROLE_SUFFIX;
use sluice_signer::release::{ReleaseCustom, ReleaseKind, parse_date};
use sluice_signer::{Envelope, RepositoryTarget, Sha256Digest, TargetsMetadata};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;

/// Days that a product's document lives by default.
const EXPIRES_DAYS: u32 = 120;
/// Days that a document of advisories lives by default.
const ADVISORIES_EXPIRES_DAYS: u32 = 30;

/// Days that the document of a delegated role lives by default.
pub fn expires_days(role: &str) -> u32 {
    if role.ends_with(ROLE_SUFFIX) { ADVISORIES_EXPIRES_DAYS } else { EXPIRES_DAYS }
}
/// Bytes of one image: the order of magnitude of the largest firmware, and a stop for a file given by mistake.
const MAX_IMAGE_BYTES: u64 = 16 << 30;
/// Bytes read at a time.
const BLOCK_BYTES: usize = 1 << 16;

/// `release new`
pub fn new(args: &ReleaseNewArgs, now: Timestamp, json: bool) -> anyhow::Result<()> {
    let mut stage = Stage::load(Folder::open(&args.repo)?)?;
    stage.overrides = args.overrides.read()?;
    if stage.targets("targets")?.is_none_or(|top| top.delegation(&args.product).is_none()) {
        let message = format!("product {} is given to nobody", args.product);
        return Err(Failure::refused(message, "give it to its holders with `sluice-sign delegate add`"));
    }
    let (role, moment) = match &args.embargo_until {
        Some(text) => {
            let (role, moment) = embargo::role_and_moment(&stage, args, text, now)?;
            (role, Some(moment))
        }
        None => (args.product.clone(), None),
    };
    let mut release = facts(args)?;
    let mut document = match stage.base(&role)? {
        Some(document) => document,
        None => TargetsMetadata::new(
            1,
            now,
            stage.root(sluice_signer::publish::Repository::Image)?.and_then(|root| root.repo_id),
        ),
    };
    document.version = stage.next_version(&role);
    document.expires = edge::in_days(now, args.expires_days)?;
    document.not_before = moment;

    let mut files = Vec::new();
    for (file, name, field) in [
        (&args.notes, "notes.md", &mut release.notes),
        (&args.sbom, sbom_name(args.sbom.as_deref())?, &mut release.sbom),
        (&args.provenance, "provenance.dsse.json", &mut release.provenance),
    ] {
        if let Some(file) = file {
            let path = format!("{}/{}/{name}", args.product, args.version);
            *field = Some(path.clone());
            files.push((path, file.as_path(), None));
        }
    }
    let mut components = BTreeSet::new();
    for given in &args.components {
        let Some((component, file)) = given.split_once('=') else {
            let message = format!("--component {given}: no '='");
            return Err(Failure::refused(message, "write the component's name, '=' and the file: main=build/cam.bin"));
        };
        if !components.insert(component) {
            let message = format!("component {component} is given twice");
            return Err(Failure::refused(message, "give each component once"));
        }
        let path = format!("{}/{}/{component}.bin", args.product, args.version);
        let custom = ReleaseCustom { component: component.to_owned(), ..release.clone() };
        files.push((path, Path::new(file), Some(custom)));
    }

    let mut kept = BTreeMap::new();
    for (path, file, custom) in &files {
        let (sha256, length) = hash(file)?;
        let custom = custom.as_ref().map(ReleaseCustom::to_json);
        let target = RepositoryTarget { path: path.clone(), length, sha256, custom };
        document.targets.insert(path.clone(), target);
        kept.insert(sha256, *file);
    }
    let id = DocumentId::image(&role, document.version);
    product::check(&stage, &id, &Envelope::new(document.to_json()), now, &mut |digest, _| {
        Ok(kept.get(digest).map(|file| file.to_path_buf()))
    })?;
    stage.put(&id, document.to_json(), now)?;
    for (sha256, file) in kept {
        keep(&stage.folder, &sha256, file)?;
    }
    let next = if moment.is_some() {
        "let the holders sign with `sluice-sign sign`, then `sluice-sign publish`: the server holds it until then"
    } else {
        "let the holders sign with `sluice-sign sign`, then `sluice-sign publish`"
    };
    describe::print_staged(&stage, json, |id| id.role == role, next)
}

/// `release withdraw`
pub fn withdraw(args: &ReleaseWithdrawArgs, now: Timestamp, json: bool) -> anyhow::Result<()> {
    let mut stage = Stage::load(Folder::open(&args.repo)?)?;
    stage.overrides = args.overrides.read()?;
    let prefix = format!("{}/{}/", args.product, args.version);
    let signs = |document: &TargetsMetadata| document.targets.keys().any(|path| path.starts_with(&prefix));
    let mut documents = Vec::new();
    // It is withdrawn when no role of the product signs it any more.
    for role in std::iter::once(args.product.clone()).chain(stage.embargo_roles(&args.product)?) {
        if !stage.targets(&role)?.is_some_and(|document| signs(&document)) {
            continue;
        }
        let Some(mut document) = stage.base(&role)? else { continue };
        document.targets.retain(|path, _| !path.starts_with(&prefix));
        document.version = stage.next_version(&role);
        document.expires = edge::in_days(now, args.expires_days)?;
        if sluice_signer::embargo::is_secret(&document, now) {
            eprintln!("note: {role} is shown anew at its moment; until then a release that is shown already stays");
        }
        documents.push((DocumentId::image(&role, document.version), document.to_json()));
    }
    if documents.is_empty() {
        let message = format!("{} {} is no signed release", args.product, args.version);
        return Err(Failure::refused(message, "see the releases with `sluice-sign status`, or give another version"));
    }
    stage.put_all(&documents, now)?;
    describe::print_staged(
        &stage,
        json,
        |id| documents.iter().any(|(staged, _)| staged == id),
        "let the holders sign with `sluice-sign sign`, then `sluice-sign publish`",
    )
}

/// The usual file name of a bill of materials, which is read and checked for it.
fn sbom_name(file: Option<&Path>) -> anyhow::Result<&'static str> {
    Ok(file.map(product::read_sbom).transpose()?.map_or("bom.cdx.json", |bill| bill.format.file_name()))
}

/// The signed facts, from what was typed. The component is set for each image.
fn facts(args: &ReleaseNewArgs) -> anyhow::Result<ReleaseCustom> {
    let Some(train_ga) = parse_date(&args.train_ga) else {
        return Err(Failure::refused(format!("--train-ga {}: not a day", args.train_ga), "write YYYY-MM-DD"));
    };
    let Some(kind) = ReleaseKind::parse(&args.kind) else {
        let message = format!("--kind {}: no such kind", args.kind);
        return Err(Failure::refused(message, "use security, maintenance, feature or recovery"));
    };
    if args.version.contains('/') {
        let message = format!("--version {:?} has a slash", args.version);
        return Err(Failure::refused(message, "the version is one segment of target paths; leave the slash out"));
    }
    let set = |items: &[String]| items.iter().cloned().collect();
    Ok(ReleaseCustom {
        product: args.product.clone(),
        component: String::new(),
        version: args.version.clone(),
        order: args.order,
        train: args.train.clone(),
        train_ga,
        hw_ids: set(&args.hw_ids),
        security_counter: args.security_counter,
        min_installed: args.min_installed.clone(),
        channels: set(&args.channels),
        kind,
        requires: set(&args.requires),
        advisories: set(&args.advisories),
        sbom: None,
        provenance: None,
        notes: None,
    })
}

/// Digest and length of a file, read once from end to end.
pub fn hash(file: &Path) -> anyhow::Result<(Sha256Digest, u64)> {
    let context = || format!("cannot read {}", file.display());
    let mut reader = File::open(file).with_context(context)?;
    let total = reader.metadata().with_context(context)?.len();
    if total > MAX_IMAGE_BYTES {
        anyhow::bail!("{} is larger than {MAX_IMAGE_BYTES} bytes", file.display());
    }
    let bar = progress(total, "hashing");
    let mut hasher = Sha256::new();
    let mut block = vec![0; BLOCK_BYTES];
    let mut length = 0u64;
    loop {
        let count = reader.read(&mut block).with_context(context)?;
        let Some(read) = block.get(..count).filter(|read| !read.is_empty()) else { break };
        hasher.update(read);
        length = length.saturating_add(u64::try_from(count)?);
        bar.set_position(length);
    }
    bar.finish_and_clear();
    Ok((hasher.finalize().into(), length))
}

/// A progress bar on standard error, shown only at a terminal.
pub fn progress(total: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(total).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {eta}") {
        bar.set_style(style);
    }
    bar
}

/// Keeps a copy under its digest; the copy is hashed again, so that a file changed meanwhile is noticed.
pub fn keep(folder: &Folder, sha256: &Sha256Digest, file: &Path) -> anyhow::Result<()> {
    let to = folder.blob(sha256);
    if to.exists() {
        return Ok(());
    }
    let context = || format!("cannot keep {} as {}", file.display(), to.display());
    let parent = to.parent().with_context(context)?;
    fs::create_dir_all(parent).with_context(context)?;
    let partial = to.with_extension("partial");
    let mut writer = File::create(&partial).with_context(context)?;
    std::io::copy(&mut File::open(file).with_context(context)?, &mut writer).with_context(context)?;
    writer.flush().and_then(|()| writer.sync_all()).with_context(context)?;
    if hash(&partial)?.0 != *sha256 {
        let message = format!("{} changed while it was read", file.display());
        return Err(Failure::refused(message, "let the build finish and run the command again"));
    }
    fs::rename(&partial, &to).with_context(context)
}
