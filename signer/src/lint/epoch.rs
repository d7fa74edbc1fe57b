//! Lints of signing epochs: what devices of an epoch are left with when the next one begins, and which keys part the two.

use super::{Lint, is_of_advisories};
use crate::embargo::signs_for;
use crate::envelope::Envelope;
use crate::error::VerifyError;
use crate::limits::Limits;
use crate::online::{NamedKeys, OnlineRole};
use crate::publish::ImageDocuments;
use crate::root::RootMetadata;
use crate::targets::TargetsMetadata;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// Least life of the last documents of an epoch when the next one is staged: a device may lie in a warehouse for a year.
pub const MIN_BRANCH_LIFETIME: SignedDuration = SignedDuration::from_hours(24 * 365);
/// The same when it is published: gathering signatures takes days, and must not make a good ceremony a bad one.
pub const MIN_BRANCH_LIFETIME_PUBLISHED: SignedDuration = SignedDuration::from_hours(24 * 330);
/// The channel that every device follows.
const STABLE: &str = "stable";

/// Checks chains of roots, each from the first on: both repositories are in one epoch, and S, T and D sign for one epoch each.
/// A timestamp of the branch that devices of the newest epoch would take could hide everything newer from them.
pub fn lint_epochs(image: &[Vec<u8>], director: &[Vec<u8>], limits: &Limits) -> Result<Vec<Lint>, VerifyError> {
    let mut lints = Vec::new();
    if let (Some(image), Some(director)) = (image.last(), director.last()) {
        let (image, director) = (read_root(image, limits)?.epoch, read_root(director, limits)?.epoch);
        if image != director {
            lints.push(Lint::EpochApart { image, director });
        }
    }
    let named = NamedKeys::of(image, director, limits)?;
    for role in [OnlineRole::Snapshot, OnlineRole::Timestamp, OnlineRole::Director] {
        let Some(keyid) = named.now.get(&role) else { continue };
        let earlier = named.branches.iter().find(|(_, branch)| branch.keys.values().any(|key| key == keyid));
        if let Some((&epoch, _)) = earlier {
            lints.push(Lint::EpochKey { role: role.name(), keyid: keyid.clone(), epoch });
        }
    }
    Ok(lints)
}

/// Checks the documents of an epoch that is about to end: they are signed no more, so each must live for `at_least`, and the
/// newest release of each product for each hardware is the floor that every device must be able to follow.
pub fn lint_ending(
    ending: &ImageDocuments,
    now: Timestamp,
    at_least: SignedDuration,
    limits: &Limits,
) -> Result<Vec<Lint>, VerifyError> {
    let mut lints = Vec::new();
    let mut lives = |role: &str, expires: Timestamp| {
        let left = now.duration_until(expires);
        if left < at_least {
            let (left, wanted) = (left.as_hours().div_euclid(24), at_least.as_hours() / 24);
            lints.push(short(role, format!("expires in {left} days, {wanted} at least are required")));
        }
    };
    for (name, chain) in [("root", &ending.roots), ("director-root", &ending.director_roots)] {
        if let Some(bytes) = chain.last() {
            lives(name, read_root(bytes, limits)?.expires);
        }
    }
    let Some(bytes) = &ending.targets else {
        return Ok(vec![short("targets", "there is no document yet".to_owned())]);
    };
    let top = read_targets("targets", bytes, limits)?;
    lives("targets", top.expires);
    // A floor may stand in any role of its product: an embargo role is empty most of the time, and has the newest release at others.
    let mut products: BTreeMap<&str, Vec<TargetsMetadata>> = BTreeMap::new();
    for delegation in top.delegations.iter().filter(|delegation| !is_of_advisories(delegation)) {
        let role = delegation.name.as_str();
        let document = ending.roles.get(role).map(|bytes| read_targets(role, bytes, limits)).transpose()?;
        if let Some(document) = &document {
            lives(role, document.expires);
        }
        products.entry(signs_for(delegation)).or_default().extend(document);
    }
    lints.extend(products.iter().flat_map(|(product, documents)| no_floor(product, documents, limits)));
    Ok(lints)
}

/// Why no release of a product, in the documents of all its roles, could be the floor of its devices.
fn no_floor(product: &str, documents: &[TargetsMetadata], limits: &Limits) -> Vec<Lint> {
    let mut newest: BTreeMap<(String, String), (u64, bool, String)> = BTreeMap::new();
    let targets = documents.iter().flat_map(|document| document.targets.values());
    for release in targets.filter_map(|target| target.release(product, limits).ok()?) {
        let stable = release.channels.contains(STABLE);
        for hw_id in &release.hw_ids {
            let place = newest.entry((release.component.clone(), hw_id.clone())).or_default();
            if release.order >= place.0 {
                *place = (release.order, stable, release.version.clone());
            }
        }
    }
    if newest.is_empty() {
        return vec![short(product, "no release could be a floor: there is none".to_owned())];
    }
    let unstable = newest.into_iter().filter(|(_, (_, stable, _))| !stable);
    unstable
        .map(|((component, hw_id), (_, _, version))| {
            let problem = format!(
                "the newest release for {component} of {hw_id}, {version}, is not on channel {STABLE} and could be no floor"
            );
            short(product, problem)
        })
        .collect()
}

fn short(role: &str, problem: String) -> Lint {
    Lint::EpochShort { role: role.to_owned(), problem }
}

fn read_root(bytes: &[u8], limits: &Limits) -> Result<RootMetadata, VerifyError> {
    let envelope = Envelope::parse("root", bytes, limits.root_bytes, limits)?;
    RootMetadata::from_json(envelope.signed(), limits)
}

fn read_targets(role: &str, bytes: &[u8], limits: &Limits) -> Result<TargetsMetadata, VerifyError> {
    let envelope = Envelope::parse(role, bytes, limits.targets_bytes, limits)?;
    TargetsMetadata::from_json(role, envelope.signed(), limits)
}
