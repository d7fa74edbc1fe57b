//! Embargo roles: what is signed in advance is shown from its moment on and not before, and agrees with the rest of the product.

use crate::sample::*;
use jiff::Timestamp;
use proptest::prelude::*;
use sluice_signer::embargo::role_name;
use sluice_signer::lint::Lint;
use sluice_signer::publish::{Outcome, Repository};
use sluice_signer::{
    Accepted, Delegation, FileMeta, ImageDocuments, Lookup, NewDocument, PublishContext, PublishError, ReleaseCustom,
    TargetsMetadata, TrustedRepository, VerifyError, online, publish_check, time,
};

const EMBARGO_ROLE: u8 = 61;

fn role() -> String {
    role_name([0xab; 8])
}

fn embargo_delegation() -> Delegation {
    Delegation { terminating: false, ..delegation(&role(), &holders(EMBARGO_ROLE), "acme-cam/*/*") }
}

fn document(role: &str, metadata: &TargetsMetadata, keys: u8) -> NewDocument {
    let bytes = signed(metadata.to_json(), &holders(keys)[..2]);
    NewDocument { repository: Repository::Image, role: role.to_owned(), version: metadata.version, bytes }
}

/// A document of the embargo role.
fn embargo(version: u64, not_before: Option<Timestamp>, releases: &[ReleaseCustom]) -> TargetsMetadata {
    let mut metadata = TargetsMetadata::new(version, now() + days(120), Some(REPO_ID.to_owned()));
    metadata.not_before = not_before;
    for release in releases {
        metadata.targets.insert(path(&release.version), target(release));
    }
    metadata
}

fn coming() -> ReleaseCustom {
    custom("2.5.0", 20500)
}

fn product(version: u64, releases: &[ReleaseCustom]) -> NewDocument {
    let mut metadata = Sample::new().product;
    metadata.version = version;
    for release in releases {
        metadata.targets.insert(path(&release.version), target(release));
    }
    document(PRODUCT, &metadata, PRODUCT_ROLE)
}

fn hold(metadata: &TargetsMetadata) -> NewDocument {
    document(&role(), metadata, EMBARGO_ROLE)
}

fn publish(current: &ImageDocuments, new: &[NewDocument], at: Timestamp) -> Result<Accepted, PublishError> {
    publish_check(current, new, &PublishContext { online_keys: &online_keys(), now: at, limits: &limits() })
}

/// The sample with an embargo role in front of the product, whose first document is empty.
fn sample() -> Sample {
    let mut sample = Sample::new();
    let keys = || holders(PRODUCT_ROLE);
    let own = (delegation(PRODUCT, &keys(), "acme-cam/*/*"), keys());
    sample.top = top(1, vec![(embargo_delegation(), holders(EMBARGO_ROLE)), own]);
    sample
}

fn founded() -> ImageDocuments {
    let sample = sample();
    let at = |repository, role: &str, bytes| NewDocument { repository, role: role.to_owned(), version: 1, bytes };
    let new = [
        at(Repository::Image, "root", sample.root_bytes()),
        at(Repository::Director, "root", signed(director_root(1).to_json(), &holders(DIRECTOR_ROOT)[..2])),
        at(Repository::Image, "targets", sample.top_bytes()),
        hold(&embargo(1, None, &[])),
        product(1, &[]),
    ];
    publish(&ImageDocuments::default(), &new, now()).unwrap().documents_after
}

fn lints(result: Result<Accepted, PublishError>) -> Vec<Lint> {
    match result {
        Ok(_) => Vec::new(),
        Err(PublishError::Lints(lints)) => lints.0,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_document_is_held_until_its_moment_and_shown_from_then_on() {
    let (before, moment) = (founded(), now() + days(30));
    let new = hold(&embargo(2, Some(moment), &[coming()]));
    let held = publish(&before, std::slice::from_ref(&new), now()).unwrap();
    assert_eq!((held.documents[0].outcome, held.documents[0].held_until), (Outcome::Held, Some(moment)));
    assert_eq!((held.targets.len(), held.held.len()), (0, 1));
    assert_eq!(held.documents_after.roles, before.roles);
    assert_eq!(held.documents_after.snapshot_files(&limits()).unwrap(), before.snapshot_files(&limits()).unwrap());
    assert_eq!(held.documents_after.held[&role()], new.bytes);
    assert!(!held.signed[PRODUCT].contains(&path("2.5.0")));

    // The same again changes nothing; a second before the moment it still does not.
    let again = publish(&held.documents_after, std::slice::from_ref(&new), moment - days(1)).unwrap();
    assert_eq!((again.documents[0].outcome, &again.documents_after), (Outcome::Held, &held.documents_after));

    let shown = publish(&held.documents_after, std::slice::from_ref(&new), moment).unwrap();
    assert_eq!(shown.documents[0].outcome, Outcome::Published);
    assert_eq!((shown.targets[0].product.as_str(), shown.targets[0].outcome), (PRODUCT, Outcome::Published));
    assert!(shown.documents_after.held.is_empty() && shown.signed[PRODUCT].contains(&path("2.5.0")));
    // And what is shown is not hidden again by a clock that is behind.
    let behind = publish(&shown.documents_after, &[new], moment - days(1)).unwrap();
    assert_eq!((behind.documents[0].outcome, &behind.documents_after), (Outcome::Unchanged, &shown.documents_after));
}

#[test]
fn a_later_version_takes_the_place_of_the_one_that_is_held() {
    let moment = now() + days(30);
    let first = publish(&founded(), &[hold(&embargo(3, Some(moment), &[coming()]))], now()).unwrap().documents_after;
    for at in [now() + days(2), now() + days(60)] {
        let later = hold(&embargo(4, Some(at), &[coming()]));
        let after = publish(&first, std::slice::from_ref(&later), now()).unwrap().documents_after;
        assert_eq!(after.held[&role()], later.bytes);
    }
    let dropped = publish(&first, &[hold(&embargo(4, None, &[]))], now()).unwrap();
    assert!(dropped.documents_after.held.is_empty(), "a document that is shown at once takes its place, too");
    let older = publish(&first, &[hold(&embargo(2, Some(moment), &[coming()]))], now()).unwrap_err();
    assert_eq!(older, VerifyError::Rollback { role: role(), trusted: 3, found: 2 }.into());
    let other = publish(&first, &[hold(&embargo(3, Some(now() + days(9)), &[coming()]))], now()).unwrap_err();
    assert_eq!(other, PublishError::Conflict { role: role(), version: 3 });
}

#[test]
fn what_was_published_meanwhile_decides_at_the_moment() {
    let moment = now() + days(30);
    let new = hold(&embargo(2, Some(moment), &[coming()]));
    let held = publish(&founded(), std::slice::from_ref(&new), now()).unwrap().documents_after;
    let at_the_moment = |meanwhile: NewDocument| {
        // Whoever publishes meanwhile is told nothing.
        let current = publish(&held, &[meanwhile], now() + days(1)).unwrap().documents_after;
        publish(&current, std::slice::from_ref(&new), moment)
    };
    assert_eq!(lints(at_the_moment(product(2, &[custom("2.4.2", 20402)]))), []);
    let taken = |what: &'static str, other: &str| Lint::Collision {
        role: role(),
        path: path("2.5.0"),
        what,
        other: PRODUCT.into(),
        other_path: path(other),
    };
    assert_eq!(lints(at_the_moment(product(2, &[custom("2.5.1", 20500)]))), [taken("order", "2.5.1")]);
    let mut other = coming();
    other.requires.clear();
    assert_eq!(lints(at_the_moment(product(2, &[other]))), [taken("path and not the content", "2.5.0")]);
    let mut raised = custom("2.4.2", 20402);
    raised.security_counter = 8;
    let lower = Lint::SecurityCounter { role: role(), path: path("2.5.0"), found: 7, highest: 8 };
    assert_eq!(lints(at_the_moment(product(2, &[raised]))), [lower]);
    let mut train = custom("2.4.2", 20402);
    (train.train, train.train_ga) = ("2.6".into(), "2026-04-01".parse().unwrap());
    assert_eq!(lints(at_the_moment(product(2, &[train]))), []);

    // Its holders were replaced, the role was revoked, or the document has expired.
    let mut rotated = sample();
    rotated.top.version = 2;
    rotated.top.delegations[0].keys = role_of(&holders(71), 2);
    for key in holders(71) {
        rotated.top.delegation_keys.insert(key.public().keyid().into(), key.public().clone());
    }
    let renewed = document(&role(), &embargo(2, None, &[]), 71);
    let top = NewDocument { version: 2, bytes: rotated.top_bytes(), role: "targets".into(), ..new.clone() };
    let current = publish(&held, &[top, NewDocument { version: 2, ..renewed }], now() + days(1));
    assert_eq!(current.unwrap_err(), PublishError::Conflict { role: role(), version: 2 }, "that version is held");
    let renewed = document(&role(), &embargo(3, None, &[]), 71);
    let top = NewDocument { version: 2, bytes: rotated.top_bytes(), role: "targets".into(), ..new.clone() };
    let current = publish(&held, &[top, renewed], now() + days(1)).unwrap().documents_after;
    assert!(publish(&current, std::slice::from_ref(&new), moment).is_err());
    let mut revoked = Sample::new();
    revoked.top.version = 2;
    let top = NewDocument { version: 2, bytes: revoked.top_bytes(), role: "targets".into(), ..new.clone() };
    let current = publish(&held, &[top], now() + days(1)).unwrap().documents_after;
    let gone = publish(&current, std::slice::from_ref(&new), moment).unwrap_err();
    assert!(matches!(gone, PublishError::Verify(VerifyError::NotDelegated { .. })), "{gone}");
    let late = publish(&held, &[new], now() + days(121)).unwrap_err();
    assert!(matches!(late, PublishError::Verify(VerifyError::Expired { .. })), "{late}");
}

#[test]
fn lint_the_moment() {
    let ask = |metadata: &TargetsMetadata| lints(publish(&founded(), &[hold(metadata)], now()));
    let found = |at: Timestamp| time::format(at);
    assert_eq!(ask(&embargo(2, None, &[coming()])), [Lint::EmbargoMoment { role: role() }]);
    assert_eq!(ask(&embargo(2, None, &[])), []);
    let expires = now() + days(120);
    let at = expires;
    let expected = Lint::EmbargoExpiry { role: role(), found: found(at), expires: found(expires) };
    let gap = Lint::EmbargoGap { role: role(), version: 1, found: found(at + days(61)), expires: found(expires) };
    assert_eq!(ask(&embargo(2, Some(at), &[coming()])), [expected]);
    let mut long = embargo(2, Some(at + days(61)), &[coming()]);
    long.expires = now() + days(182);
    let length = Lint::EmbargoLength { role: role(), found: found(at + days(61)), limit: 180 };
    let lifetime = Lint::Lifetime { role: role(), days: 182, limit: 130 };
    assert_eq!(ask(&long), [lifetime, length, gap], "and until then nothing of the product would be found");
    // In other roles it is refused.
    let mut own = Sample::new().product;
    (own.version, own.not_before) = (2, Some(at));
    let result = publish(&founded(), &[document(PRODUCT, &own, PRODUCT_ROLE)], now());
    assert_eq!(lints(result), [Lint::EmbargoElsewhere { role: PRODUCT.into(), found: found(at) }]);
    let mut top = sample();
    (top.top.version, top.top.not_before) = (2, Some(at));
    let top = NewDocument { bytes: top.top_bytes(), role: "targets".into(), ..product(2, &[]) };
    assert_eq!(
        lints(publish(&founded(), &[top], now())),
        [Lint::EmbargoElsewhere { role: "targets".into(), found: found(at) }]
    );
}

#[test]
fn lint_the_delegation() {
    let with = |change: &dyn Fn(&mut TargetsMetadata), more: &[NewDocument]| {
        let mut sample = sample();
        sample.top.version = 2;
        change(&mut sample.top);
        let top = NewDocument { bytes: sample.top_bytes(), role: "targets".into(), ..product(2, &[]) };
        lints(publish(&founded(), &[&[top], more].concat(), now()))
    };
    let ask = |change: &dyn Fn(&mut TargetsMetadata)| with(change, &[]);
    assert_eq!(ask(&|_| {}), []);
    assert_eq!(ask(&|top| top.delegations.swap(0, 1)), [Lint::EmbargoOrder { role: role(), product: PRODUCT.into() }]);
    let reach = |found: &str| [Lint::EmbargoReach { role: role(), found: found.into() }];
    assert_eq!(ask(&|top| top.delegations[0].terminating = true), reach("acme-cam/*/*"));
    let paths = |pattern: &str| sluice_signer::Paths::pattern(pattern);
    assert_eq!(ask(&|top| top.delegations[0].paths = paths("*/*/*")), reach("*/*/*"));
    let signed_anew = document(&role(), &embargo(2, None, &[]), PRODUCT_ROLE);
    let shared = with(&|top| top.delegations[0].keys = role_of(&holders(PRODUCT_ROLE), 2), &[signed_anew]);
    assert!(matches!(shared[0], Lint::SharedKey { .. }), "a document could be shown as the other role's: {shared:?}");
    let quorum = ask(&|top| top.delegations[0].keys.threshold = 1);
    assert_eq!(quorum, [Lint::ThresholdOne { role: role(), threshold: 1 }]);
}

#[test]
fn a_floor_may_be_a_version_of_another_role_of_the_product_that_is_shown() {
    let mut release = coming();
    release.min_installed = Some("2.4.1".into());
    let moment = now() + days(30);
    let new = hold(&embargo(2, Some(moment), &[release]));
    let held = publish(&founded(), std::slice::from_ref(&new), now()).unwrap().documents_after;
    let mut next = custom("2.6.0", 20600);
    next.min_installed = Some("2.5.0".into());
    let secret = lints(publish(&held, &[product(2, std::slice::from_ref(&next))], now()));
    assert!(matches!(secret[0], Lint::Dangling { field: "min_installed", .. }), "{secret:?}");
    let shown = publish(&held, &[new], moment).unwrap().documents_after;
    publish(&shown, &[product(2, &[next])], moment).unwrap();
}

#[test]
fn a_release_changes_hands_in_either_order() {
    let moment = now() + days(30);
    let new = hold(&embargo(2, Some(moment), &[coming()]));
    let shown = publish(&founded(), &[new], moment).unwrap().documents_after;
    let (adopted, dropped) = (product(2, &[coming()]), hold(&embargo(3, Some(moment), &[])));
    let both = publish(&shown, &[adopted.clone(), dropped.clone()], moment).unwrap();
    assert!(both.signed[PRODUCT].contains(&path("2.5.0")));
    let first = publish(&shown, &[adopted], moment).unwrap();
    let second = publish(&first.documents_after, std::slice::from_ref(&dropped), moment).unwrap();
    assert!(second.signed[PRODUCT].contains(&path("2.5.0")), "the product's own role signs it");
    assert_eq!(second.documents_after, both.documents_after);
    let alone = publish(&shown, &[dropped], moment).unwrap();
    assert!(!alone.signed[PRODUCT].contains(&path("2.5.0")));
}

/// A device that has seen what is shown of these documents.
fn device(documents: &ImageDocuments, at: Timestamp) -> TrustedRepository {
    let files = documents.snapshot_files(&limits()).unwrap();
    let repo_id = Some(REPO_ID.to_owned());
    let snapshot = online::sign_snapshot(1, at + days(7), files, repo_id.clone(), &key(SNAPSHOT));
    let timestamp = online::sign_timestamp(1, at + days(1), FileMeta::of(1, &snapshot), repo_id, &key(TIMESTAMP));
    documents.verify_as_device(&snapshot, &timestamp, at, &limits()).unwrap()
}

#[test]
fn a_device_finds_what_is_shown_and_knows_for_which_product() {
    let moment = now() + days(30);
    let mut release = coming();
    release.min_installed = Some("2.4.1".into());
    let held = publish(&founded(), &[hold(&embargo(2, Some(moment), &[release]))], now()).unwrap().documents_after;
    let early = device(&held, now());
    assert_eq!(early.target(&path("2.5.0"), now()).unwrap(), Lookup::NotFound);
    let Lookup::Found(own) = early.target(&path("2.4.1"), now()).unwrap() else { panic!() };
    assert_eq!((own.role.as_str(), own.embargo_of), (PRODUCT, None), "behind the embargo role the search goes on");

    let new = NewDocument { bytes: held.held[&role()].clone(), ..hold(&embargo(2, Some(moment), &[])) };
    let shown = publish(&held, &[new], moment).unwrap().documents_after;
    let late = device(&shown, moment);
    let Lookup::Found(found) = late.target(&path("2.5.0"), moment).unwrap() else { panic!() };
    assert_eq!((found.role.as_str(), found.embargo_of.as_deref()), (role().as_str(), Some(PRODUCT)));
    let orders = late.version_orders(PRODUCT, "main");
    assert_eq!(orders.into_values().collect::<Vec<_>>(), [20400, 20401, 20500], "of all roles of the product");
}

#[test]
fn a_device_asks_for_the_other_roles_of_its_product() {
    let documents = founded();
    let mut fresh = TrustedRepository::from_root(&documents.roots[0], &limits()).unwrap();
    assert_eq!(fresh.wanted_of_product(PRODUCT), None, "before it knows the top document");
    let (snapshot, timestamp) = {
        let files = documents.snapshot_files(&limits()).unwrap();
        let repo_id = Some(REPO_ID.to_owned());
        let snapshot = online::sign_snapshot(1, now() + days(7), files, repo_id.clone(), &key(SNAPSHOT));
        let meta = FileMeta::of(1, &snapshot);
        let timestamp = online::sign_timestamp(1, now() + days(1), meta, repo_id, &key(TIMESTAMP));
        (snapshot, timestamp)
    };
    fresh.update_timestamp(&timestamp, now()).unwrap();
    fresh.update_snapshot(&snapshot, now()).unwrap();
    fresh.update_targets("targets", "root", documents.targets.as_ref().unwrap(), now()).unwrap();
    let mut asked = Vec::new();
    while let Some((role, _)) = fresh.wanted_of_product(PRODUCT) {
        fresh.update_targets(&role, "targets", &documents.roles[&role], now()).unwrap();
        asked.push(role);
    }
    assert_eq!(asked, [role(), PRODUCT.to_owned()]);
    assert_eq!(fresh.wanted_of_product("acme-phone"), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is published in whichever order while time passes: nothing is shown before its moment, and versions only rise.
    #[test]
    fn nothing_is_shown_before_its_moment(steps in prop::collection::vec((0_i64..6, 1_u64..6, prop::option::of(-3_i64..9)), 1..14)) {
        let mut documents = founded();
        let (mut at, mut version) = (now(), 1);
        for (pass, number, moment) in steps {
            at += days(pass);
            let releases = if moment.is_some() { vec![coming()] } else { Vec::new() };
            let new = hold(&embargo(number, moment.map(|moment| at + days(moment)), &releases));
            // A refusal changes nothing.
            if let Ok(accepted) = publish(&documents, &[new], at) {
                documents = accepted.documents_after;
            }
            if let Some(bytes) = documents.held.get(&role()).cloned()
                && let Ok(accepted) = publish(&documents, &[NewDocument { bytes, version: held_version(&documents), ..hold(&embargo(1, None, &[])) }], at)
            {
                documents = accepted.documents_after;
            }
            let shown = read(&documents.roles[&role()]);
            prop_assert!(shown.not_before.is_none_or(|moment| moment <= at), "{shown:?} at {at}");
            prop_assert!(shown.version >= version);
            version = shown.version;
            if documents.held.contains_key(&role()) {
                prop_assert!(held_version(&documents) > version);
            }
        }
    }
}

fn read(bytes: &[u8]) -> TargetsMetadata {
    let envelope = sluice_signer::Envelope::parse("embargo", bytes, limits().targets_bytes, &limits()).unwrap();
    TargetsMetadata::from_json("embargo", envelope.signed(), &limits()).unwrap()
}

fn held_version(documents: &ImageDocuments) -> u64 {
    read(&documents.held[&role()]).version
}
