//! From signed targets to the catalogue's releases and artifacts.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_catalog::decide::ProductView;
use sluice_catalog::id::{ArtifactId, ReleaseId};
use sluice_catalog::product::{Channel, Train};
use sluice_catalog::release::{Artifact, Release, ReleaseKind};
use sluice_catalog::{Kind, TextSet, Time};
use sluice_signer::publish::{AcceptedTarget, Outcome};
use sluice_signer::{Accepted, ReleaseCustom};

use super::{digest, notes};
use crate::app::App;
use crate::error::{Error, Result};
use crate::jobs;
use crate::store::Tx;

/// What a publication adds to the catalogue.
pub(super) struct Entries {
    /// New releases.
    pub releases: Vec<Entry>,
    /// Releases whose targets are signed no more: revoked offline.
    pub withdrawn: Vec<(String, ReleaseId)>,
}

/// A new release with its train and images.
pub(super) struct Entry {
    pub product: Arc<ProductView>,
    pub train: Train,
    pub release: Release,
    pub artifacts: Vec<Artifact>,
}

/// Checks what only the server can know (products, blobs, what was published before) and makes the entries.
pub(super) async fn entries(app: &App, accepted: &Accepted) -> Result<Entries> {
    let mut entries = checked(app, accepted, &accepted.targets).await?;
    withdrawn(app, accepted, &mut entries);
    if !accepted.held.is_empty() {
        // What is held is checked as if it were published now; it is checked again when it is.
        let all = [accepted.targets.as_slice(), accepted.held.as_slice()].concat();
        checked(app, accepted, &all).await?;
    }
    Ok(entries)
}

async fn checked(app: &App, accepted: &Accepted, targets: &[AcceptedTarget]) -> Result<Entries> {
    let mut versions: BTreeMap<(&str, &str), Vec<(&AcceptedTarget, &ReleaseCustom)>> = BTreeMap::new();
    for target in targets {
        if target.outcome == Outcome::Published {
            check_blob(app, target).await?;
        }
        if let Some(custom) = &target.release {
            if custom.product != target.product {
                return Err(unverified(format!(
                    "{}: states product `{}` but role `{}` signed it",
                    target.target.path, custom.product, target.role
                )));
            }
            let images = versions.entry((&custom.product, &custom.version)).or_default();
            // Two roles of a product sign the same image while it changes hands.
            if images.iter().all(|(known, _)| known.target.path != target.target.path) {
                images.push((target, custom));
            }
        }
    }
    let epoch =
        i32::try_from(super::sign::named_by(&accepted.documents_after)?.epoch.max(1)).map_err(Error::internal)?;
    let mut entries = Entries { releases: Vec::new(), withdrawn: Vec::new() };
    for ((product, _), images) in &versions {
        let products = app.live.products();
        let view = products.by_name(product).cloned().ok_or_else(|| {
            Error::new(
                Kind::NotFound,
                format!("there is no product `{product}`: enter it first with `sluicectl product create {product}`"),
            )
        })?;
        if let Some(entry) = entry(app, (accepted, epoch), targets, &view, images).await? {
            entries.releases.push(entry);
        }
    }
    // Orders of new floors may lie in the same publication.
    resolve_floors(&mut entries)?;
    Ok(entries)
}

async fn check_blob(app: &App, target: &AcceptedTarget) -> Result<()> {
    let wanted = digest(&target.target);
    match app.blobs.length(wanted).await? {
        Some(length) if length == target.target.length => Ok(()),
        Some(length) => Err(unverified(format!(
            "{}: signed length {}, the blob {wanted} has {length}",
            target.target.path, target.target.length
        ))),
        None => Err(Error::new(
            Kind::NotFound,
            format!("{}: blob {wanted} was not uploaded; blobs come before documents", target.target.path),
        )),
    }
}

fn unverified(detail: String) -> Error {
    Error::new(Kind::Unverified, detail)
}

async fn entry(
    app: &App,
    (accepted, epoch): (&Accepted, i32),
    all: &[AcceptedTarget],
    product: &Arc<ProductView>,
    targets: &[(&AcceptedTarget, &ReleaseCustom)],
) -> Result<Option<Entry>> {
    let Some((first, custom)) = targets.first().copied() else { return Ok(None) };
    let known = product.releases().iter().find(|view| view.release.version.as_str() == custom.version);
    if let Some(known) = known {
        for (target, _) in targets {
            if known.release.withdrawn_at.is_some() && target.outcome == Outcome::Published {
                return Err(unverified(format!(
                    "{} {} was withdrawn: devices are offered it no more, publish a new version",
                    custom.product, custom.version
                )));
            }
            let same =
                |artifact: &Artifact| artifact.path == target.target.path && artifact.sha256 == digest(&target.target);
            if !known.artifacts.iter().any(same) {
                return Err(unverified(format!(
                    "{} {} was published before without this {}: a version never changes, publish a new one",
                    custom.product, custom.version, target.target.path
                )));
            }
        }
        return Ok(None);
    }
    for (target, other) in targets {
        let same = other.order == custom.order
            && other.kind == custom.kind
            && other.train == custom.train
            && other.train_ga == custom.train_ga
            && other.channels == custom.channels
            && other.advisories == custom.advisories;
        if !same {
            return Err(unverified(format!(
                "{} and {}: images of one version must agree on order, kind, train, channels and advisories",
                first.target.path, target.target.path
            )));
        }
    }
    let now = app.now();
    let bad =
        |field: &str, error: &dyn std::fmt::Display| unverified(format!("{}: {field}: {error}", first.target.path));
    let order = i64::try_from(custom.order).map_err(|error| bad("order", &error))?;
    if let Some(taken) = product.releases().iter().find(|view| view.release.order == order) {
        return Err(unverified(format!(
            "{}: order {order} is that of version {}: every version has an order of its own",
            first.target.path, taken.release.version
        )));
    }
    let names = custom.channels.iter().map(String::as_str);
    let channel = Channel::of_all(names).map_err(|error| bad("channels", &error))?;
    let train = Train {
        product_id: product.product.id,
        name: custom.train.parse().map_err(|error| bad("train", &error))?,
        ga_at: Time::from_date(&custom.train_ga.to_string()).map_err(|error| bad("train_ga", &error))?,
        support_end: None,
    };
    if let Some(other) = product.releases().iter().find(|view| view.release.train == train.name)
        && other.train_ga != train.ga_at
    {
        return Err(unverified(format!(
            "{}: train {} became generally available on {}, not {}",
            first.target.path,
            train.name,
            other.train_ga.date(),
            train.ga_at.date()
        )));
    }
    // What every image requires is the release's; the rest, such as an add-on's code, stays with its image.
    let mut required = Vec::new();
    for (_, other) in targets {
        let codes = texts::<sluice_catalog::text::Code>(&other.requires);
        required.push(codes.map_err(|error| bad("requires", &error))?);
    }
    let common = TextSet::common(required.iter());
    let (notes_header, notes_body) = notes::read(app, all, custom.notes.as_deref()).await?;
    let release = Release {
        id: ReleaseId::new(now, app.dice.id()),
        product_id: product.product.id,
        version: custom.version.parse().map_err(|error| bad("version", &error))?,
        order,
        kind: custom.kind.to_string().parse::<ReleaseKind>().map_err(|error| bad("kind", &error))?,
        train: train.name.clone(),
        requires: common.clone(),
        channel,
        advisories: custom.advisories.iter().cloned().collect(),
        notes_header,
        notes_body,
        published_at: now,
        withdrawn_at: None,
        signing_epoch: epoch,
    };
    let mut artifacts = Vec::new();
    for (target, custom) in targets {
        let bad = |field: &str, error: &dyn std::fmt::Display| {
            unverified(format!("{}: {field}: {error}", target.target.path))
        };
        artifacts.push(Artifact {
            id: ArtifactId::new(now, app.dice.id()),
            release_id: release.id,
            component: custom.component.parse().map_err(|error| bad("component", &error))?,
            requires: custom.requires.iter().filter(|code| !common.contains(code)).cloned().collect(),
            hw_ids: texts::<sluice_catalog::text::HardwareId>(&custom.hw_ids).map_err(|error| bad("hw_ids", &error))?,
            path: target.target.path.clone(),
            sha256: digest(&target.target),
            length: i64::try_from(target.target.length).map_err(|error| bad("length", &error))?,
            security_counter: i64::try_from(custom.security_counter)
                .map_err(|error| bad("security_counter", &error))?,
            min_installed: match &custom.min_installed {
                Some(version) => Some(version.parse().map_err(|error| bad("min_installed", &error))?),
                None => None,
            },
            min_installed_order: None,
        });
    }
    check_counters(accepted, &first.role, product, &artifacts)?;
    Ok(Some(Entry { product: Arc::clone(product), train, release, artifacts }))
}

/// A counter below one that was ever published, withdrawn since or not: devices that were raised to that one would refuse the
/// image. The lint compares with the document before alone.
fn check_counters(accepted: &Accepted, role: &str, product: &ProductView, artifacts: &[Artifact]) -> Result<()> {
    let overridden = accepted
        .documents
        .iter()
        .filter(|document| document.role == role)
        .any(|document| document.overrides.iter().any(|(code, _)| code == "security-counter"));
    for artifact in artifacts.iter().filter(|_| !overridden) {
        let published = product.releases().iter().flat_map(|view| &view.artifacts);
        let of_component = published.filter(|known| known.component == artifact.component);
        let highest = of_component.map(|known| known.security_counter).max().unwrap_or(0);
        if artifact.security_counter < highest {
            return Err(unverified(format!(
                "{}: security counter {}, {highest} was published once; it must not go down",
                artifact.path, artifact.security_counter
            )));
        }
    }
    Ok(())
}

fn texts<T: std::str::FromStr>(set: &std::collections::BTreeSet<String>) -> Result<TextSet, T::Err> {
    for text in set {
        text.parse::<T>()?;
    }
    Ok(set.iter().cloned().collect())
}

/// A release of a product that no role of it signs any more is withdrawn, be it that its role was published anew without it, or that
/// the new top targets document does not delegate to the role any more: that is how offline keys revoke.
fn withdrawn(app: &App, accepted: &Accepted, entries: &mut Entries) {
    let products = app.live.products();
    let new = || accepted.documents.iter().filter(|document| document.outcome == Outcome::Published);
    let top = new().any(|document| document.role == "targets");
    let published = |product: &str| new().any(|document| document.product.as_deref() == Some(product));
    for view in products.all().filter(|view| top || published(view.product.name.as_str())) {
        let signed = accepted.signed.get(view.product.name.as_str());
        for release in view.releases().iter().filter(|release| release.release.withdrawn_at.is_none()) {
            let path_signed = |artifact: &Artifact| signed.is_some_and(|signed| signed.contains(&artifact.path));
            if !release.artifacts.iter().any(path_signed) {
                let name = format!("{} {}", view.product.name, release.release.version);
                entries.withdrawn.push((name, release.release.id));
            }
        }
    }
}

fn resolve_floors(entries: &mut Entries) -> Result<()> {
    let new: Vec<(sluice_catalog::id::ProductId, String, i64)> = entries
        .releases
        .iter()
        .map(|entry| (entry.release.product_id, entry.release.version.to_string(), entry.release.order))
        .collect();
    for entry in &mut entries.releases {
        for artifact in &mut entry.artifacts {
            let Some(floor) = &artifact.min_installed else { continue };
            let known =
                entry.product.releases().iter().find(|view| view.release.version == *floor).map(|v| v.release.order);
            let order = known.or_else(|| {
                new.iter()
                    .find(|(product, version, _)| *product == entry.release.product_id && version == floor.as_str())
                    .map(|(_, _, order)| *order)
            });
            let Some(order) = order else {
                return Err(unverified(format!("{}: min_installed {floor} was never published", artifact.path)));
            };
            if order >= entry.release.order {
                return Err(unverified(format!(
                    "{}: min_installed {floor} is not older than {}",
                    artifact.path, entry.release.version
                )));
            }
            artifact.min_installed_order = Some(order);
        }
    }
    Ok(())
}

/// Writes the entries and the jobs they need.
pub(super) async fn write(app: &App, tx: &mut Tx, entries: &Entries, now: Time) -> Result<()> {
    for entry in &entries.releases {
        if tx.train_by_name(entry.train.product_id, &entry.train.name).await?.is_none() {
            tx.train_add(&entry.train).await?;
        }
        tx.release_add(&entry.release).await?;
        for artifact in &entry.artifacts {
            tx.artifact_add(artifact).await?;
            jobs::full::enqueue(app, tx, artifact, now).await?;
        }
    }
    for (_, release) in &entries.withdrawn {
        tx.release_withdraw(*release, now).await?;
    }
    for entry in &entries.releases {
        for artifact in &entry.artifacts {
            jobs::patch::enqueue_artifact(app, tx, entry.release.product_id, entry.release.order, artifact, now)
                .await?;
        }
    }
    Ok(())
}
