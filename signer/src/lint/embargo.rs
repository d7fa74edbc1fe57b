//! Lints of embargo roles: that they reach one product and hide nothing else, that their moment can be kept, and that they agree
//! with the other roles of the product.

use super::Lint;
use crate::embargo::{MAX_EMBARGO, is_secret, product_of};
use crate::limits::Limits;
use crate::release::ReleaseCustom;
use crate::targets::{Delegation, RepositoryTarget, TargetsMetadata};
use crate::time;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// The document of another role of the same product.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// Its role.
    pub role: &'a str,
    /// The document.
    pub document: &'a TargetsMetadata,
}

/// Checks an entry of the top document that has the name of an embargo role.
pub(super) fn lint_delegation(top: &TargetsMetadata, delegation: &Delegation, lints: &mut Vec<Lint>) {
    let role = || crate::error::quote(&delegation.name);
    let Some(product) = product_of(delegation) else {
        let found = delegation.paths.iter().collect::<Vec<_>>().join(" ");
        lints.push(Lint::EmbargoReach { role: role(), found });
        return;
    };
    let before = top.delegations.iter().take_while(|one| one.name != delegation.name);
    if before.into_iter().any(|one| one.name == product) {
        lints.push(Lint::EmbargoOrder { role: role(), product: product.to_owned() });
    }
}

/// Refuses a moment in a document that is shown as soon as it is published.
pub(super) fn lint_elsewhere(role: &str, document: &TargetsMetadata, lints: &mut Vec<Lint>) {
    if let Some(moment) = document.not_before {
        lints.push(Lint::EmbargoElsewhere { role: role.to_owned(), found: time::format(moment) });
    }
}

/// Checks from when on a document may be shown.
pub(super) fn lint_moment(
    delegation: &Delegation,
    previous: Option<&TargetsMetadata>,
    new: &TargetsMetadata,
    now: Timestamp,
    lints: &mut Vec<Lint>,
) {
    let role = || delegation.name.clone();
    if product_of(delegation).is_none() {
        return lint_elsewhere(&delegation.name, new, lints);
    }
    let Some(moment) = new.not_before else {
        // What is empty hides nothing, and clients that want a document of every role get one.
        if !new.targets.is_empty() {
            lints.push(Lint::EmbargoMoment { role: role() });
        }
        return;
    };
    let found = || time::format(moment);
    if now.duration_until(moment) > MAX_EMBARGO {
        lints.push(Lint::EmbargoLength { role: role(), found: found(), limit: MAX_EMBARGO.as_hours() / 24 });
    }
    if new.expires <= moment {
        lints.push(Lint::EmbargoExpiry { role: role(), found: found(), expires: time::format(new.expires) });
    }
    // Of a document that is not shown yet either, nobody misses anything.
    if is_secret(new, now)
        && let Some(shown) = previous.filter(|previous| !is_secret(previous, now) && previous.expires < moment)
    {
        let (version, expires) = (shown.version, time::format(shown.expires));
        lints.push(Lint::EmbargoGap { role: role(), version, found: found(), expires });
    }
}

/// Where the releases of one role are, by what must be theirs alone.
type Places<'a> = BTreeMap<(&'static str, String, String), (&'a str, &'a str)>;

fn places(release: &ReleaseCustom) -> [(&'static str, String, String); 2] {
    let component = || release.component.clone();
    [("version", component(), release.version.clone()), ("order", component(), release.order.to_string())]
}

/// Holds the new targets of a document against those of the product's other roles: the same path is the same target, a version and
/// an order are taken once, and a train has one day.
pub(super) fn lint_peers(
    (role, previous, new): (&str, Option<&TargetsMetadata>, &TargetsMetadata),
    peers: &[Peer<'_>],
    limits: &Limits,
    lints: &mut Vec<Lint>,
) {
    let mut taken: Places<'_> = BTreeMap::new();
    let mut trains: BTreeMap<String, (jiff::civil::Date, &str, &str)> = BTreeMap::new();
    for peer in peers {
        for (path, target) in &peer.document.targets {
            let Some(release) = read(peer.role, target, limits) else { continue };
            for place in places(&release) {
                taken.insert(place, (peer.role, path));
            }
            trains.insert(release.train, (release.train_ga, peer.role, path));
        }
    }
    let mut collide = |path: &str, what, other: &str, other_path: &str| {
        lints.push(Lint::Collision {
            role: role.to_owned(),
            path: path.to_owned(),
            what,
            other: other.to_owned(),
            other_path: other_path.to_owned(),
        });
    };
    for (path, target) in &new.targets {
        if previous.is_some_and(|previous| previous.targets.get(path) == Some(target)) {
            continue;
        }
        let same_path = || peers.iter().find_map(|peer| Some((peer.role, peer.document.targets.get(path)?)));
        if let Some((other, there)) = same_path() {
            if there != target {
                collide(path, "path and not the content", other, path);
            }
            continue;
        }
        let Some(release) = read(role, target, limits) else { continue };
        for place in places(&release) {
            if let Some((other, other_path)) = taken.get(&place) {
                collide(path, place.0, other, other_path);
            }
        }
        if let Some((day, other, other_path)) = trains.get(&release.train)
            && *day != release.train_ga
        {
            collide(path, "train and not its day", other, other_path);
        }
    }
}

/// The facts of a target; what cannot be read is for other lints to name.
fn read(role: &str, target: &RepositoryTarget, limits: &Limits) -> Option<ReleaseCustom> {
    target.release(role, limits).ok()?
}
