//! `status` and `verify`: what is there, what is missing, and whether devices will take it.

use crate::args::FolderArgs;
use crate::describe::Staged;
use crate::failure;
use crate::folder::Folder;
use crate::output;
use crate::stage::Stage;
use jiff::Timestamp;
use serde::Serialize;
use sluice_signer::publish::{Accepted, NewDocument, PublishContext, Repository, check_all};
use sluice_signer::root::RootMetadata;
use sluice_signer::{Envelope, PublishError, TargetsMetadata, embargo, time};
use std::collections::BTreeSet;
use std::process::ExitCode;

#[derive(Serialize)]
struct StatusReport {
    /// The signing epoch of the complete roots.
    epoch: u64,
    /// Earlier epochs, while devices take their documents.
    branches: Vec<Branch>,
    complete: Vec<Complete>,
    staged: Vec<Staged>,
}

#[derive(Serialize)]
struct Complete {
    role: String,
    version: u64,
    expires: String,
    expires_days: i64,
    signatures: usize,
}

/// An epoch that has ended.
#[derive(Serialize)]
struct Branch {
    epoch: u64,
    /// When its last roots end. Its other documents may end sooner.
    ends: String,
    ends_days: i64,
}

fn branches(stage: &Stage, now: Timestamp) -> anyhow::Result<Vec<Branch>> {
    let one = |(epoch, ends)| Branch {
        epoch,
        ends: time::format(ends),
        ends_days: now.duration_until(ends).as_hours().div_euclid(24),
    };
    Ok(stage.branches()?.into_iter().map(one).collect())
}

/// Nothing as long as there is but the first.
fn epoch_lines(epoch: u64, branches: &[Branch]) -> Vec<String> {
    if epoch == 1 {
        return Vec::new();
    }
    let ended = branches.iter().map(|branch| match branch.ends_days {
        ..=-1 => format!("epoch {} is over since {}", branch.epoch, branch.ends),
        days => format!(
            "epoch {} ends at {} ({days} days): until then older devices must have its newest release",
            branch.epoch, branch.ends
        ),
    });
    std::iter::once(format!("signing epoch {epoch}")).chain(ended).collect()
}

/// `status`
pub fn status(args: &FolderArgs, now: Timestamp, json: bool) -> anyhow::Result<()> {
    let stage = Stage::load(Folder::open(&args.repo)?)?;
    let mut complete = Vec::new();
    for document in newest(&stage)? {
        complete.push(describe_complete(&stage, &document, now)?);
    }
    let staged =
        stage.staged.iter().map(|(id, envelope)| Staged::of(&stage, id, envelope)).collect::<Result<_, _>>()?;
    let report = StatusReport {
        epoch: stage.complete_epoch(Repository::Image)?,
        branches: branches(&stage, now)?,
        complete,
        staged,
    };
    output::print(json, &report, || {
        let complete = report.complete.iter().map(|document| {
            vec![
                document.role.clone(),
                document.version.to_string(),
                "complete".to_owned(),
                document.signatures.to_string(),
                format!("{} ({} days)", document.expires, document.expires_days),
                String::new(),
            ]
        });
        let staged = report.staged.iter().map(|document| {
            vec![
                document.role.clone(),
                document.version.to_string(),
                "staged".to_owned(),
                document.signatures.to_string(),
                document.expires.clone(),
                document.waits_for(),
            ]
        });
        let header = ["ROLE", "VERSION", "STATE", "SIGNATURES", "EXPIRES", "WAITS FOR"];
        let mut lines = vec![output::table(&header, complete.chain(staged))];
        lines.extend(epoch_lines(report.epoch, &report.branches));
        lines.join("\n")
    })
}

fn describe_complete(stage: &Stage, document: &NewDocument, now: Timestamp) -> anyhow::Result<Complete> {
    let limits = &stage.limits;
    let envelope = Envelope::parse(&document.role, &document.bytes, stage.limit(&document.role), limits)?;
    let expires = if document.role == "root" {
        RootMetadata::from_json(envelope.signed(), limits)?.expires
    } else {
        TargetsMetadata::from_json(&document.role, envelope.signed(), limits)?.expires
    };
    let role = match document.repository {
        Repository::Image => document.role.clone(),
        Repository::Director => format!("director-{}", document.role),
    };
    Ok(Complete {
        role,
        version: document.version,
        expires: time::format(expires),
        expires_days: now.duration_until(expires).as_hours() / 24,
        signatures: envelope.signatures().count(),
    })
}

/// The newest complete document of every role, in the order of trust.
fn newest(stage: &Stage) -> anyhow::Result<Vec<NewDocument>> {
    let mut documents = complete(stage)?;
    let mut newest: Vec<NewDocument> = Vec::new();
    for document in documents.drain(..) {
        newest.retain(|known| (known.repository, &known.role) != (document.repository, &document.role));
        newest.push(document);
    }
    Ok(newest)
}

/// Every complete document as it is published: all roots, and the newest of every other role to which somebody delegates.
pub fn complete(stage: &Stage) -> anyhow::Result<Vec<NewDocument>> {
    let mut documents = Vec::new();
    for (repository, roots) in [(Repository::Image, &stage.image_roots), (Repository::Director, &stage.director_roots)]
    {
        documents.extend((1..).zip(roots).map(|(version, bytes)| NewDocument {
            repository,
            role: "root".to_owned(),
            version,
            bytes: bytes.clone(),
        }));
    }
    let top = stage.previous("targets")?;
    let delegated = |role: &str| role == "targets" || top.as_ref().is_some_and(|top| top.delegation(role).is_some());
    let mut others: Vec<_> = stage.sealed.values().filter(|(id, _)| delegated(&id.role)).collect();
    // An embargo role may name versions that the product's own role signed.
    others.sort_by_key(|(id, _)| (id.role != "targets", embargo::is_role_name(&id.role), id.role.clone()));
    documents.extend(others.into_iter().map(|(id, bytes)| NewDocument {
        repository: id.repository,
        role: id.role.clone(),
        version: id.version,
        bytes: bytes.clone(),
    }));
    Ok(documents)
}

/// The complete documents that can be published: without those of products that ran out, which hold nobody else back. Those are
/// named beside.
pub fn publishable(stage: &Stage, now: Timestamp) -> anyhow::Result<(Vec<NewDocument>, Vec<String>)> {
    let (mut documents, mut expired) = (Vec::new(), Vec::new());
    for document in complete(stage)? {
        if !matches!(document.role.as_str(), "root" | "targets") {
            let envelope =
                Envelope::parse(&document.role, &document.bytes, stage.limit(&document.role), &stage.limits)?;
            if TargetsMetadata::from_json(&document.role, envelope.signed(), &stage.limits)?.expires <= now {
                expired.push(document.role);
                continue;
            }
        }
        documents.push(document);
    }
    Ok((documents, expired))
}

/// Checks documents with the code that the server and devices run.
pub fn check(stage: &Stage, documents: Vec<NewDocument>, now: Timestamp) -> Result<Accepted, PublishError> {
    let context = PublishContext { online_keys: &stage.online_keys, now, limits: &stage.limits };
    check_all(documents, &context)
}

#[derive(Serialize)]
struct VerifyReport {
    ok: bool,
    /// The signing epoch of the complete roots.
    epoch: u64,
    /// Earlier epochs, while devices take their documents.
    branches: Vec<Branch>,
    /// Releases that devices will find.
    releases: usize,
    /// Why complete documents are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    /// Roles that must exist and are neither complete nor staged.
    missing: Vec<String>,
    /// Documents that lack signatures.
    staged: Vec<Staged>,
}

/// `verify`
pub fn verify(args: &FolderArgs, now: Timestamp, json: bool) -> anyhow::Result<ExitCode> {
    let stage = Stage::load(Folder::open(&args.repo)?)?;
    let staged: Vec<Staged> =
        stage.staged.iter().map(|(id, envelope)| Staged::of(&stage, id, envelope)).collect::<Result<_, _>>()?;
    let mut missing = Vec::new();
    for (role, absent) in [
        ("root", stage.image_roots.is_empty()),
        ("director-root", stage.director_roots.is_empty()),
        ("targets", !stage.sealed.contains_key("targets")),
    ] {
        if absent && staged.iter().all(|staged| staged.role != role) {
            missing.push(role.to_owned());
        }
    }
    let (releases, refused) = match check(&stage, complete(&stage)?, now) {
        Ok(accepted) => {
            // While a release changes hands two roles sign it.
            let images = accepted.targets.iter().chain(&accepted.held).filter(|target| target.release.is_some());
            (images.map(|target| &target.target.path).collect::<BTreeSet<_>>().len(), None)
        }
        Err(error) => (0, Some(error.to_string())),
    };
    let ok = staged.is_empty() && missing.is_empty() && refused.is_none();
    let report = VerifyReport {
        ok,
        epoch: stage.complete_epoch(Repository::Image)?,
        branches: branches(&stage, now)?,
        releases,
        refused,
        missing,
        staged,
    };
    output::print(json, &report, || {
        let mut lines = Vec::new();
        if let Some(refused) = &report.refused {
            lines.push(format!("refused: {refused}"));
        }
        lines.extend(report.missing.iter().map(|role| format!("missing: {role}")));
        for document in &report.staged {
            lines.push(format!(
                "staged: {} version {} waits for {}",
                document.role,
                document.version,
                document.waits_for()
            ));
        }
        if report.ok {
            lines.push(format!(
                "OK: devices will accept every document; {} signed",
                output::count(report.releases, "image")
            ));
        }
        lines.extend(epoch_lines(report.epoch, &report.branches));
        lines.join("\n")
    })?;
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::from(failure::INCOMPLETE) })
}
