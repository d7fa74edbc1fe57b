//! Mistakes in valid documents that a careful publisher refuses: what locks holders out, confuses roles, breaks
//! clients or strands devices. The command line runs them before people sign, the server again on ingest.

mod embargo;
mod epoch;
mod kind;

use crate::advisory;
use crate::json::Json;
use crate::key::PublicKey;
use crate::limits::Limits;
use crate::online::{OnlineKeys, OnlineRole};
use crate::path::is_delegated_role_name;
use crate::publish::Repository;
use crate::release::{ReleaseCustom, ReleaseKind};
use crate::root::{RoleKeys, RootMetadata};
use crate::targets::{Delegation, Paths, TargetsMetadata};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

pub use embargo::Peer;
pub use epoch::{MIN_BRANCH_LIFETIME, MIN_BRANCH_LIFETIME_PUBLISHED, lint_ending, lint_epochs};
pub use kind::{Lint, Lints};

/// Longest life of root and top targets documents, with a little room for the ceremony.
pub const MAX_ROOT_LIFETIME: SignedDuration = SignedDuration::from_hours(24 * 400);
/// Longest life of a product role's document.
pub const MAX_ROLE_LIFETIME: SignedDuration = SignedDuration::from_hours(24 * 130);
/// Longest life of a document of advisories: what is said of security must not be kept from devices for long.
pub const MAX_ADVISORIES_LIFETIME: SignedDuration = SignedDuration::from_hours(24 * 40);
/// Fewest holders of an offline role: with a threshold of two, one of three keys may be lost.
pub const MIN_HOLDERS: usize = 3;
/// Fewest holders of a role of advisories, of whom one signs: it can install nothing, and must be quick.
pub const MIN_ADVISORIES_HOLDERS: usize = 2;

/// Checks an offline role: enough holders, a threshold that neither one thief nor one loss can decide, honest key ids.
fn lint_holders(role: &str, keys: &BTreeMap<String, PublicKey>, role_keys: &RoleKeys, lints: &mut Vec<Lint>) {
    lint_quorum(role, keys, role_keys, (MIN_HOLDERS, 2), lints);
}

/// The same for so many holders and so many signatures at least.
fn lint_quorum(
    role: &str,
    keys: &BTreeMap<String, PublicKey>,
    role_keys: &RoleKeys,
    (min_holders, min_threshold): (usize, u32),
    lints: &mut Vec<Lint>,
) {
    let holders = role_keys.materials(keys).len();
    let threshold = role_keys.threshold;
    let needed = usize::try_from(threshold).unwrap_or(usize::MAX);
    if threshold < min_threshold {
        lints.push(Lint::ThresholdOne { role: role.to_owned(), threshold });
    }
    if holders < min_holders {
        lints.push(Lint::TooFewHolders { role: role.to_owned(), holders, min: min_holders });
    }
    if needed >= holders {
        lints.push(Lint::ThresholdTooHigh { role: role.to_owned(), threshold, holders });
    }
    let mut seen: BTreeMap<Vec<u8>, &str> = BTreeMap::new();
    for keyid in &role_keys.keyids {
        match keys.get(keyid) {
            Some(key) if key.keyid() == keyid => {
                if let Some(first) = seen.insert(key.material(), keyid) {
                    lints.push(Lint::DuplicateKey {
                        role: role.to_owned(),
                        first: first.to_owned(),
                        second: keyid.clone(),
                    });
                }
            }
            _ => lints.push(Lint::KeyId { role: role.to_owned(), keyid: keyid.clone() }),
        }
    }
}

fn lint_online(
    name: &str,
    keys: &BTreeMap<String, PublicKey>,
    role_keys: Option<&RoleKeys>,
    (online, role): (&OnlineKeys, OnlineRole),
    lints: &mut Vec<Lint>,
) {
    let names = |key: &PublicKey| {
        role_keys.is_some_and(|role| {
            role.threshold == 1
                && role.keyids.len() == 1
                && role.keyids.contains(key.keyid())
                && keys.get(key.keyid()).is_some_and(|listed| listed.material() == key.material())
        })
    };
    if !online.allowed(role).any(names) {
        let expected: Vec<&str> = online.allowed(role).map(PublicKey::keyid).collect();
        lints.push(Lint::OnlineKey { role: name.to_owned(), expected: expected.join(" or ") });
    }
}

fn lint_lifetime(role: &str, expires: Timestamp, now: Timestamp, limit: SignedDuration, lints: &mut Vec<Lint>) {
    let lifetime = now.duration_until(expires);
    if lifetime > limit {
        let days = |duration: SignedDuration| duration.as_hours() / 24;
        lints.push(Lint::Lifetime { role: role.to_owned(), days: days(lifetime), limit: days(limit) });
    }
}

/// Refuses anything but printable ASCII, and a document beyond the limit of stock clients.
pub fn lint_document(role: &str, signed: &Json, length: usize, limit: u64) -> Vec<Lint> {
    let mut lints = Vec::new();
    // The PEM of an ECDSA key has line ends.
    if !signed.canonical().iter().all(|&byte| byte == b'\n' || (b' '..=b'~').contains(&byte)) {
        lints.push(Lint::NonAscii { role: role.to_owned() });
    }
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    if length > limit {
        lints.push(Lint::Size { role: role.to_owned(), length, limit });
    }
    lints
}

/// Checks a root of the image repository.
pub fn lint_image_root(root: &RootMetadata, online: &OnlineKeys, now: Timestamp) -> Vec<Lint> {
    let mut lints = lint_any_root("image root", root, now);
    if let Some(role_keys) = root.roles.get("targets") {
        lint_holders("image targets", &root.keys, role_keys, &mut lints);
    }
    for (name, role) in [("image snapshot", OnlineRole::Snapshot), ("image timestamp", OnlineRole::Timestamp)] {
        lint_online(name, &root.keys, role.in_root(root, Repository::Image), (online, role), &mut lints);
    }
    lints
}

/// Checks a root of the director repository.
pub fn lint_director_root(root: &RootMetadata, online: &OnlineKeys, now: Timestamp) -> Vec<Lint> {
    let mut lints = lint_any_root("director root", root, now);
    for (name, role) in [
        ("director targets", OnlineRole::Director),
        ("director snapshot", OnlineRole::Snapshot),
        ("director timestamp", OnlineRole::Timestamp),
        ("director entitlement", OnlineRole::Entitlement),
    ] {
        lint_online(name, &root.keys, role.in_root(root, Repository::Director), (online, role), &mut lints);
    }
    lints
}

fn lint_any_root(name: &str, root: &RootMetadata, now: Timestamp) -> Vec<Lint> {
    let mut lints = Vec::new();
    if let Some(role_keys) = root.roles.get("root") {
        lint_holders(name, &root.keys, role_keys, &mut lints);
    }
    if !root.consistent_snapshot {
        lints.push(Lint::ConsistentSnapshot { role: name.to_owned() });
    }
    if root.repo_id.is_none() {
        lints.push(Lint::RepoId { role: name.to_owned() });
    }
    lint_lifetime(name, root.expires, now, MAX_ROOT_LIFETIME, &mut lints);
    lints
}

/// Holds the repository that a document is for against that of the root it stands under, or follows.
pub fn lint_repository(name: &str, found: Option<&str>, expected: Option<&str>) -> Option<Lint> {
    match (expected, found) {
        (Some(expected), Some(found)) if found != expected => Some(Lint::OtherRepository {
            role: name.to_owned(),
            expected: crate::error::quote(expected),
            found: crate::error::quote(found),
        }),
        _ => None,
    }
}

/// Whether a role signs a product's advisories and nothing else.
pub fn is_of_advisories(delegation: &Delegation) -> bool {
    let product = delegation.name.strip_suffix(advisory::ROLE_SUFFIX);
    product.is_some_and(|product| delegation.paths == Paths::pattern(advisory::pattern_of(product)))
}

/// Checks the top targets document: it delegates and signs nothing itself.
pub fn lint_top_targets(targets: &TargetsMetadata, now: Timestamp) -> Vec<Lint> {
    let mut lints = Vec::new();
    if let Some(path) = targets.targets.keys().next() {
        lints.push(Lint::TopTargets { path: path.clone() });
    }
    for delegation in &targets.delegations {
        let quorum = if is_of_advisories(delegation) { (MIN_ADVISORIES_HOLDERS, 1) } else { (MIN_HOLDERS, 2) };
        lint_quorum(&delegation.name, &targets.delegation_keys, &delegation.keys, quorum, &mut lints);
        let expected = match delegation.name.strip_suffix(advisory::ROLE_SUFFIX) {
            Some(product) => advisory::pattern_of(product),
            None => format!("{}/*/*", delegation.name),
        };
        if crate::embargo::is_role_name(&delegation.name) {
            embargo::lint_delegation(targets, delegation, &mut lints);
        } else if delegation.paths != Paths::pattern(expected.clone()) || !delegation.terminating {
            lints.push(Lint::Reach {
                role: crate::error::quote(&delegation.name),
                found: delegation.paths.iter().collect::<Vec<_>>().join(" "),
                expected,
            });
        }
        // Its paths would be those of all advisories.
        if delegation.name == "advisories" || !is_delegated_role_name(&delegation.name) {
            lints.push(Lint::RoleName { role: crate::error::quote(&delegation.name) });
        }
    }
    embargo::lint_elsewhere("targets", targets, &mut lints);
    lint_lifetime("targets", targets.expires, now, MAX_ROOT_LIFETIME, &mut lints);
    lints
}

/// Refuses one key in two roles, over both repositories. Snapshot and timestamp of both are the server's same two
/// keys: there the documents name their repository (`custom.repo_id`).
pub fn lint_shared_keys(
    image_root: Option<&RootMetadata>,
    director_root: Option<&RootMetadata>,
    top_targets: Option<&TargetsMetadata>,
) -> Vec<Lint> {
    let mut uses: Vec<(String, &PublicKey)> = Vec::new();
    for (repository, root) in [("image", image_root), ("director", director_root)] {
        let Some(root) = root else { continue };
        for role in root.roles.keys() {
            let online = matches!(role.as_str(), "snapshot" | "timestamp");
            let name = if online { role.clone() } else { format!("{repository} {role}") };
            uses.extend(root.role_keys(role).into_iter().map(|key| (name.clone(), key)));
        }
        uses.extend(root.entitlement_keys().into_iter().map(|key| ("entitlement".to_owned(), key)));
    }
    if let Some(targets) = top_targets {
        for delegation in &targets.delegations {
            let keys = delegation.keys.keyids.iter().filter_map(|keyid| targets.delegation_keys.get(keyid));
            uses.extend(keys.map(|key| (delegation.name.clone(), key)));
        }
    }
    let mut seen: BTreeMap<Vec<u8>, String> = BTreeMap::new();
    let mut lints = Vec::new();
    for (role, key) in uses {
        let first = seen.entry(key.material()).or_insert_with(|| role.clone());
        if *first != role {
            lints.push(Lint::SharedKey { keyid: key.keyid().to_owned(), first: first.clone(), second: role });
        }
    }
    lints
}

/// Checks a product role's document against the one published before it, and against what the other roles of the product sign.
pub fn lint_role(
    delegation: &Delegation,
    previous: Option<&TargetsMetadata>,
    new: &TargetsMetadata,
    peers: &[Peer<'_>],
    now: Timestamp,
    limits: &Limits,
) -> Vec<Lint> {
    let role = delegation.name.as_str();
    let mut lints = Vec::new();
    if let Some(child) = new.delegations.first() {
        lints.push(Lint::NestedDelegation { role: role.to_owned(), child: child.name.clone() });
    }
    let advisories = is_of_advisories(delegation);
    let lifetime = if advisories { MAX_ADVISORIES_LIFETIME } else { MAX_ROLE_LIFETIME };
    lint_lifetime(role, new.expires, now, lifetime, &mut lints);
    embargo::lint_moment(delegation, previous, new, now, &mut lints);
    embargo::lint_peers((role, previous, new), peers, limits, &mut lints);
    // What nobody may be shown yet has raised no device's floor, and no device can have it installed.
    let shown = || peers.iter().filter(|peer| !crate::embargo::is_secret(peer.document, now));
    let mut highest = BTreeMap::new();
    // Of a first document nobody knows what in it is older than what the others signed.
    if let Some(previous) = previous {
        for document in shown().map(|peer| peer.document).chain([previous]) {
            raise_counters(role, document, limits, &mut highest);
        }
    }
    let orders = shown().map(|peer| peer.document).chain([new]).flat_map(|document| document.targets.values());
    let orders = orders.filter_map(|target| target.release(role, limits).ok()?);
    let known: BTreeMap<(String, String), u64> =
        orders.map(|release| ((release.component, release.version), release.order)).collect();
    let mut places: BTreeMap<(String, String), &str> = BTreeMap::new();
    let releases = new.targets.values().filter_map(|target| target.release(role, limits).ok()?);
    let named: BTreeSet<String> =
        releases.flat_map(|release| [release.notes, release.sbom, release.provenance]).flatten().collect();
    for (path, target) in &new.targets {
        if advisories && target.custom.is_some() {
            lints.push(Lint::ReleaseInAdvisories { role: role.to_owned(), path: path.clone() });
        }
        if !advisories && target.custom.is_none() && !named.contains(path) {
            lints.push(Lint::Loose { role: role.to_owned(), path: path.clone() });
        }
        if !delegation.covers(path) {
            lints.push(Lint::Path { role: role.to_owned(), path: path.clone() });
        }
        let before = previous.and_then(|previous| previous.targets.get(path));
        // What is known of a vulnerability changes; what an image is does not.
        if !advisories && before.is_some_and(|before| before != target) {
            lints.push(Lint::ContentChanged { role: role.to_owned(), path: path.clone() });
        }
        let release = match target.release(role, limits) {
            Ok(Some(release)) => release,
            Ok(None) => continue,
            Err(error) => {
                lints.push(Lint::Custom { problem: error.to_string() });
                continue;
            }
        };
        for (what, place) in [("version", release.version.clone()), ("order", release.order.to_string())] {
            if let Some(first) = places.insert((format!("{what} {}", release.component), place), path) {
                lints.push(Lint::Ambiguous {
                    role: role.to_owned(),
                    first: first.to_owned(),
                    second: path.clone(),
                    what,
                });
            }
        }
        lint_release(role, path, &release, new, &known, &mut lints);
        // What another role of the product signed already is no new image.
        let taken_over = shown().any(|peer| peer.document.targets.get(path) == Some(target));
        if before.is_none()
            && !taken_over
            && let Some(&highest) = highest.get(&release.component)
            && release.security_counter < highest
        {
            lints.push(Lint::SecurityCounter {
                role: role.to_owned(),
                path: path.clone(),
                found: release.security_counter,
                highest,
            });
        }
    }
    lints
}

fn lint_release(
    role: &str,
    path: &str,
    release: &ReleaseCustom,
    document: &TargetsMetadata,
    known: &BTreeMap<(String, String), u64>,
    lints: &mut Vec<Lint>,
) {
    let expected = format!("{}/{}/", release.product, release.version);
    if !path.starts_with(&expected) {
        lints.push(Lint::PathMismatch { role: role.to_owned(), path: path.to_owned(), expected });
    }
    if release.kind == ReleaseKind::Security && release.advisories.is_empty() {
        lints.push(Lint::SecurityWithoutAdvisory { role: role.to_owned(), path: path.to_owned() });
    }
    let dangling = |field, value: &String| Lint::Dangling {
        role: role.to_owned(),
        path: path.to_owned(),
        field,
        value: value.clone(),
    };
    for (field, value) in [("sbom", &release.sbom), ("provenance", &release.provenance), ("notes", &release.notes)] {
        if let Some(value) = value
            && !document.targets.contains_key(value)
        {
            lints.push(dangling(field, value));
        }
    }
    if let Some(min) = &release.min_installed {
        // A minimum that nothing orders could never be compared; one above the release itself never met.
        let order = known.get(&(release.component.clone(), min.clone()));
        if order.is_none_or(|&order| order > release.order) {
            lints.push(dangling("min_installed", min));
        }
    }
}

fn raise_counters(role: &str, document: &TargetsMetadata, limits: &Limits, highest: &mut BTreeMap<String, u64>) {
    for release in document.targets.values().filter_map(|target| target.release(role, limits).ok()?) {
        let counter = highest.entry(release.component).or_insert(0);
        *counter = release.security_counter.max(*counter);
    }
}
