//! `advisory add`: what is known of a product's vulnerabilities, in a role beside the product's.

use crate::args::AdvisoryAddArgs;
use crate::failure::Failure;
use crate::folder::{DocumentId, Folder, read_limited};
use crate::stage::Stage;
use crate::{describe, edge, output, release};
use jiff::Timestamp;
use sluice_signer::advisory::{Advisory, AdvisoryFormat, MAX_ADVISORY_BYTES, role_of};
use sluice_signer::publish::Repository;
use sluice_signer::{RepositoryTarget, TargetsMetadata};

/// `advisory add`
pub fn add(args: &AdvisoryAddArgs, now: Timestamp, json: bool) -> anyhow::Result<()> {
    let mut stage = Stage::load(Folder::open(&args.repo)?)?;
    stage.overrides = args.overrides.read()?;
    let role = role_of(&args.product);
    if stage.targets("targets")?.is_none_or(|top| top.delegation(&role).is_none()) {
        let message = format!("nobody signs advisories of product {}", args.product);
        return Err(Failure::refused(message, "name its holders with `sluice-sign delegate add --advisories`"));
    }
    let refuse = |message: String| Failure::refused(message, "correct the advisory and run the command again");
    let bytes = read_limited(&args.file, MAX_ADVISORY_BYTES as u64)?;
    let advisory = Advisory::read(&bytes).map_err(|error| refuse(format!("{}: {error}", args.file.display())))?;
    // A CSAF document has the id that releases name; that of a VEX document is an address.
    if advisory.format == AdvisoryFormat::Csaf && advisory.id != args.id {
        return Err(refuse(format!("{}: its id is {:?}, not {:?}", args.file.display(), advisory.id, args.id)));
    }
    let path = format!("advisories/{}/{}.json", args.product, args.id);
    if !sluice_signer::path::is_target_path(&path) || args.id.contains('/') {
        return Err(refuse(format!("--id {:?} cannot be a file name", args.id)));
    }
    let mut document = match stage.base(&role)? {
        Some(document) => document,
        None => TargetsMetadata::new(1, now, stage.root(Repository::Image)?.and_then(|root| root.repo_id)),
    };
    document.version = stage.next_version(&role);
    document.expires = edge::in_days(now, args.expires_days)?;
    let (sha256, length) = release::hash(&args.file)?;
    document.targets.insert(path.clone(), RepositoryTarget { path, length, sha256, custom: None });
    stage.put(&DocumentId::image(&role, document.version), document.to_json(), now)?;
    release::keep(&stage.folder, &sha256, &args.file)?;
    eprintln!("{}: {}", args.id, output::plain(&advisory.summary));
    describe::print_staged(
        &stage,
        json,
        |id| id.role == role,
        "let one of its holders sign with `sluice-sign sign`, then `sluice-sign publish`",
    )
}
