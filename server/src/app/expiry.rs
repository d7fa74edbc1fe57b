//! Expiry: how long each role's document lives, and warnings while there is time to sign the next one. A role that
//! expires stops every device that looks at it, so it is told of early, and more than once.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use sluice_catalog::Time;
use sluice_catalog::wire::admin::RoleExpiry;

use super::App;
use super::publish::snapshot_left_s;
use crate::poll::documents::{Documents, RoleDocument};
use crate::store::Repository;

const HOUR_S: i64 = 3600;
const DAY_S: i64 = 24 * HOUR_S;
/// Seconds left at which people are told of a role that they sign, the last when it has expired: they need days to meet.
const OFFLINE_S: [i64; 5] = [30 * DAY_S, 14 * DAY_S, 7 * DAY_S, DAY_S, 0];
/// Of the timestamp, which lives a day and is signed hourly: with two hours gone signing has failed.
const TIMESTAMP_S: [i64; 4] = [22 * HOUR_S, 12 * HOUR_S, HOUR_S, 0];

/// What was told of which role.
#[derive(Debug, Default)]
pub struct Expiries {
    told: Mutex<BTreeMap<(Repository, String), Option<i64>>>,
}

/// The last of these moments, given in seconds before the end, that has come.
fn stage(stages: &[i64], left_s: i64) -> Option<i64> {
    stages.iter().copied().filter(|&stage| left_s <= stage).min()
}

/// The moment to tell of now: one that has come, and is nearer to the end than what was told before.
fn due(stages: &[i64], left_s: i64, told: Option<i64>) -> Option<i64> {
    stage(stages, left_s).filter(|&stage| told.is_none_or(|told| stage < told))
}

/// The moments of a role. Those of the server's own roles come only when signing has failed.
fn stages(document: &RoleDocument, snapshot_renew_percent: u8) -> Vec<i64> {
    match (document.repository, document.role.as_str()) {
        (Repository::Image, "timestamp") => TIMESTAMP_S.to_vec(),
        (Repository::Image, "snapshot") => {
            // An hour after it should have been signed; later again.
            let late = snapshot_left_s(snapshot_renew_percent) - HOUR_S;
            vec![late, late / 2, HOUR_S, 0]
        }
        _ => OFFLINE_S.to_vec(),
    }
}

/// The role as `sluice-sign` calls it.
fn name(document: &RoleDocument) -> String {
    let label = label(document);
    match document.repository {
        Repository::Image => label,
        Repository::Director => format!("director-{label}"),
    }
}

/// The role, with the epoch when that has ended.
fn label(document: &RoleDocument) -> String {
    match document.branch {
        None => document.role.clone(),
        Some(epoch) => format!("epoch-{epoch}-{}", document.role),
    }
}

/// What is looked at: a branch that nobody takes any more is told of for a day, and then never again.
fn looked_at(documents: &Documents, now: Time) -> impl Iterator<Item = &RoleDocument> {
    documents.roles().iter().filter(move |document| {
        let branch = document.branch.and_then(|epoch| documents.branch(epoch));
        branch.is_none_or(|branch| now < branch.until.plus_s(DAY_S))
    })
}

fn next_step(document: &RoleDocument) -> String {
    match (document.repository, document.role.as_str()) {
        (Repository::Image, "snapshot" | "timestamp") => {
            "the server could not sign it again: its log says why, beginning with `what is current`".to_owned()
        }
        _ if document.branch.is_some() => {
            "nobody can sign it again: see that the devices of that epoch install its newest release before".to_owned()
        }
        _ => format!("`sluice-sign renew --role {}`, then let its holders sign, and publish", name(document)),
    }
}

impl App {
    /// When every role expires, the next first.
    pub(super) fn expiries(&self) -> Vec<RoleExpiry> {
        let now = self.now();
        let documents = self.live.documents();
        let one = |document: &RoleDocument| {
            let left_s = document.expires.as_s() - now.as_s();
            let stages = stages(document, self.rules.snapshot_renew_percent);
            RoleExpiry {
                role: name(document),
                version: document.version,
                expires_at: document.expires,
                days_left: left_s.div_euclid(DAY_S),
                next_step: stage(&stages, left_s).map(|_| next_step(document)),
            }
        };
        looked_at(&documents, now).map(one).collect()
    }

    /// Sets the metrics, and warns of every role that comes near its end: once at each of its moments.
    pub fn expiry_tick(&self) {
        let now = self.now();
        let documents = self.live.documents_full();
        let mut told = self.expiries.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|(repository, role), _| {
            let stays = looked_at(&documents, now).any(|one| one.repository == *repository && label(one) == *role);
            if !stays {
                self.metrics.role_expires(repository.as_str(), role, None);
            }
            stays
        });
        for document in looked_at(&documents, now) {
            let left_s = document.expires.as_s() - now.as_s();
            self.metrics.role_expires(document.repository.as_str(), &label(document), Some(left_s));
            let stages = stages(document, self.rules.snapshot_renew_percent);
            let told = told.entry((document.repository, label(document))).or_default();
            if due(&stages, left_s, *told).is_some() {
                warn(document, left_s, now);
            }
            // A document that was signed anew is told of again when its own time has come.
            *told = stage(&stages, left_s);
        }
    }
}

fn warn(document: &RoleDocument, left_s: i64, now: Time) {
    let (role, expires) = (name(document), document.expires);
    let when = match left_s {
        ..=0 => "has expired: devices refuse it".to_owned(),
        1..DAY_S => format!("expires in {} hours", left_s / HOUR_S),
        _ => format!("expires in {} days", left_s / DAY_S),
    };
    let version = document.version;
    tracing::warn!(role, version, %expires, %now, "role {role} {when}; next: {}", next_step(document));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is told, second by second, as the end comes nearer.
    fn told_at(stages: &[i64], seconds: impl IntoIterator<Item = i64>) -> Vec<(i64, i64)> {
        let mut told = None;
        let mut all = Vec::new();
        for left in seconds {
            all.extend(due(stages, left, told).map(|stage| (left, stage)));
            told = stage(stages, left);
        }
        all
    }

    #[test]
    fn warnings_come_at_30_14_7_and_1_days_and_at_the_end() {
        let around = [30, 14, 7, 1, 0].into_iter().flat_map(|day| (-1..=1).rev().map(move |s| day * DAY_S + s));
        let expected: Vec<_> = [30, 14, 7, 1, 0].map(|day| (day * DAY_S, day * DAY_S)).to_vec();
        assert_eq!(told_at(&OFFLINE_S, around), expected);
        assert_eq!(told_at(&OFFLINE_S, [31 * DAY_S, 30 * DAY_S + 1]), []);
    }

    #[test]
    fn who_comes_late_is_told_once_and_of_the_nearest() {
        assert_eq!(told_at(&OFFLINE_S, [3 * DAY_S, 3 * DAY_S - 1, 2 * DAY_S]), [(3 * DAY_S, 7 * DAY_S)]);
        assert_eq!(told_at(&OFFLINE_S, [-5, -6]), [(-5, 0)]);
    }

    #[test]
    fn a_document_signed_anew_is_told_of_again_in_its_own_time() {
        let seconds = [7 * DAY_S, 365 * DAY_S, 7 * DAY_S, 7 * DAY_S - 1];
        assert_eq!(told_at(&OFFLINE_S, seconds), [(7 * DAY_S, 7 * DAY_S), (7 * DAY_S, 7 * DAY_S)]);
    }

    #[test]
    fn the_servers_own_roles_are_told_of_only_when_signing_failed() {
        let document = |role: &str| RoleDocument {
            repository: Repository::Image,
            role: role.to_owned(),
            version: 1,
            expires: Time::EPOCH,
            branch: None,
        };
        assert_eq!(told_at(&stages(&document("timestamp"), 50), [24 * HOUR_S, 23 * HOUR_S - 60]), []);
        assert_eq!(told_at(&stages(&document("timestamp"), 50), [22 * HOUR_S]).len(), 1);
        assert_eq!(told_at(&stages(&document("snapshot"), 50), [7 * DAY_S, 84 * HOUR_S]), []);
        assert_eq!(told_at(&stages(&document("snapshot"), 50), [83 * HOUR_S]).len(), 1);
        assert_eq!(told_at(&stages(&document("snapshot"), 90), [16 * HOUR_S]), []);
    }

    proptest! {
        #[test]
        fn no_moment_is_told_twice_while_time_passes(mut seconds in prop::collection::vec(-DAY_S..40 * DAY_S, 1..50)) {
            seconds.sort_by_key(|left| -left);
            let told = told_at(&OFFLINE_S, seconds);
            prop_assert!(told.is_sorted_by(|(_, one), (_, next)| one > next), "{:?}", told);
            prop_assert!(told.iter().all(|(left, stage)| left <= stage));
        }
    }
}
