//! What the server takes, and the mistakes it refuses.

use crate::sample::*;
use sluice_signer::lint::Lint;
use sluice_signer::publish::{MAX_BATCH_BYTES, MAX_DOCUMENTS, Outcome, Repository, batches, check_all};
use sluice_signer::{
    Accepted, ImageDocuments, NewDocument, PublishContext, PublishError, ReleaseKind, SigningKey, TargetsMetadata,
    VerifyError, online, publish_check, sha256,
};

fn document(repository: Repository, role: &str, version: u64, bytes: Vec<u8>) -> NewDocument {
    NewDocument { repository, role: role.to_owned(), version, bytes }
}

fn publication(sample: &Sample) -> Vec<NewDocument> {
    vec![
        document(Repository::Image, "root", 1, sample.root_bytes()),
        document(Repository::Director, "root", 1, director_root_bytes()),
        document(Repository::Image, "targets", sample.top.version, sample.top_bytes()),
        document(Repository::Image, PRODUCT, sample.product.version, sample.product_bytes()),
    ]
}

fn director_root_bytes() -> Vec<u8> {
    signed(director_root(1).to_json(), &holders(DIRECTOR_ROOT)[..2])
}

fn publish(current: &ImageDocuments, new: &[NewDocument]) -> Result<Accepted, PublishError> {
    publish_check(current, new, &PublishContext { online_keys: &online_keys(), now: now(), limits: &limits() })
}

fn published(sample: &Sample) -> ImageDocuments {
    publish(&ImageDocuments::default(), &publication(sample)).unwrap().documents_after
}

/// The lints of a first publication of the sample.
fn lints(sample: &Sample) -> Vec<Lint> {
    match publish(&ImageDocuments::default(), &publication(sample)) {
        Ok(_) => Vec::new(),
        Err(PublishError::Lints(lints)) => lints.0,
        Err(other) => panic!("{other}"),
    }
}

fn product_update(sample: &Sample) -> Vec<NewDocument> {
    vec![document(Repository::Image, PRODUCT, sample.product.version, sample.product_bytes())]
}

#[test]
fn a_first_publication_brings_everything() {
    let sample = Sample::new();
    let accepted = publish(&ImageDocuments::default(), &publication(&sample)).unwrap();
    assert!(accepted.documents.iter().all(|document| document.outcome == Outcome::Published));
    assert_eq!(accepted.documents.len(), 4);
    let versions: Vec<_> =
        accepted.targets.iter().map(|target| target.release.as_ref().unwrap().version.as_str()).collect();
    assert_eq!(versions, ["2.4.0", "2.4.1"]);
    assert_eq!(accepted.documents_after.repo_id(&limits()).unwrap().as_deref(), Some(REPO_ID));
}

#[test]
fn publishing_again_changes_nothing() {
    let sample = Sample::new();
    let current = published(&sample);
    let again = publish(&current, &publication(&sample)).unwrap();
    assert!(again.documents.iter().all(|document| document.outcome == Outcome::Unchanged));
    assert!(again.targets.iter().all(|target| target.outcome == Outcome::Unchanged));
    assert_eq!(again.documents_after, current);
}

#[test]
fn the_next_release_comes_alone() {
    let mut sample = Sample::new();
    let current = published(&sample);
    let release = custom("2.4.2", 20402);
    sample.product.version = 2;
    sample.product.targets.insert(path("2.4.2"), target(&release));
    let accepted = publish(&current, &product_update(&sample)).unwrap();
    let outcomes: Vec<_> = accepted.targets.iter().map(|target| target.outcome).collect();
    assert_eq!(outcomes, [Outcome::Unchanged, Outcome::Unchanged, Outcome::Published]);
}

/// The server signs snapshot and timestamp over what it took, and then goes the whole way of a device.
#[test]
fn what_was_taken_verifies_as_a_device_verifies() {
    let documents = published(&Sample::new());
    let repo_id = documents.repo_id(&limits()).unwrap();
    let files = documents.snapshot_files(&limits()).unwrap();
    let snapshot = online::sign_snapshot(1, now() + online::SNAPSHOT_LIFETIME, files, repo_id.clone(), &key(SNAPSHOT));
    let meta = sluice_signer::FileMeta::of(1, &snapshot);
    let timestamp = online::sign_timestamp(1, now() + online::TIMESTAMP_LIFETIME, meta, repo_id, &key(TIMESTAMP));
    let device = documents.verify_as_device(&snapshot, &timestamp, now(), &limits()).unwrap();
    assert!(finds(&device, &path("2.4.1"), now()));
    let error = ImageDocuments::default().verify_as_device(&snapshot, &timestamp, now(), &limits()).unwrap_err();
    assert!(matches!(error, VerifyError::OutOfOrder { .. }), "{error}");
}

#[test]
fn more_products_than_fit_in_one_publication_go_in_several() {
    let mut sample = Sample::new();
    let lines: Vec<(String, Vec<SigningKey>)> = (0..150_u32)
        .map(|line| {
            let key = |holder: u32| SigningKey::from_seed(&sha256(format!("{line} {holder}").as_bytes())).unwrap();
            (format!("line-{line:03}"), (0..4).map(key).collect())
        })
        .collect();
    let delegations = lines.iter().map(|(name, keys)| {
        let keys: Vec<SigningKey> = keys.iter().map(|key| SigningKey::from_seed(&key.seed()).unwrap()).collect();
        (delegation(name, &keys, &format!("{name}/*/*")), keys)
    });
    sample.top = top(1, delegations.collect());
    let mut documents = publication(&sample);
    documents.pop();
    for (name, keys) in &lines {
        let role = TargetsMetadata::new(1, now() + days(100), Some(REPO_ID.to_owned()));
        documents.push(document(Repository::Image, name, 1, signed(role.to_json(), &keys[..2])));
    }
    let batches = batches(documents.clone());
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [64, 64, 25]);
    assert_eq!(batches.concat(), documents, "the order of trust stays");
    let (online_keys, limits) = (online_keys(), limits());
    let context = PublishContext { online_keys: &online_keys, now: now(), limits: &limits };
    assert!(matches!(
        publish_check(&ImageDocuments::default(), &documents, &context),
        Err(PublishError::TooManyDocuments { count: 153, .. })
    ));
    let accepted = check_all(documents, &context).unwrap();
    assert_eq!((accepted.documents.len(), accepted.documents_after.roles.len()), (153, 150));
}

#[test]
fn a_batch_is_no_larger_than_its_limit() {
    let half = vec![b' '; MAX_BATCH_BYTES / 2];
    let documents = ["a", "b", "c"].map(|role| document(Repository::Image, role, 1, half.clone()));
    assert_eq!(batches(documents.to_vec()).iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
    assert!(batches(Vec::new()).is_empty());
}

#[test]
fn versions_only_rise() {
    let mut sample = Sample::new();
    sample.product.version = 5;
    let current = published(&sample);
    sample.product.targets.remove(&path("2.4.0"));
    let conflict = publish(&current, &product_update(&sample)).unwrap_err();
    assert_eq!(conflict, PublishError::Conflict { role: PRODUCT.into(), version: 5 });
    sample.product.version = 4;
    let rollback = publish(&current, &product_update(&sample)).unwrap_err();
    assert_eq!(rollback, VerifyError::Rollback { role: PRODUCT.into(), trusted: 5, found: 4 }.into());
    for version in [6, 8] {
        sample.product.version = version;
        assert!(publish(&current, &product_update(&sample)).is_ok(), "8 when 6 and 7 were superseded unpublished");
    }
}

#[test]
fn a_document_that_a_device_refuses_is_refused() {
    let sample = Sample::new();
    let current = published(&sample);
    let one_signature = signed(sample.next().product.to_json(), &holders(PRODUCT_ROLE)[..1]);
    let error = publish(&current, &[document(Repository::Image, PRODUCT, 2, one_signature)]).unwrap_err();
    assert!(matches!(error, PublishError::Verify(VerifyError::Threshold { needed: 2, valid: 1, .. })), "{error}");

    let mut expired = sample.clone();
    expired.product.version = 2;
    expired.product.expires = now();
    let error = publish(&current, &product_update(&expired)).unwrap_err();
    assert!(matches!(error, PublishError::Verify(VerifyError::Expired { .. })), "{error}");

    let error = publish(&current, &[document(Repository::Image, "acme-phone", 1, sample.product_bytes())]).unwrap_err();
    assert!(matches!(error, PublishError::Verify(VerifyError::NotDelegated { .. })), "{error}");

    let mut foreign = sample.clone();
    foreign.product.version = 2;
    foreign.product.repo_id = Some("other".into());
    let error = publish(&current, &product_update(&foreign)).unwrap_err();
    assert!(matches!(error, PublishError::Verify(VerifyError::WrongRepository { .. })), "{error}");
}

#[test]
fn documents_that_do_not_belong_together_are_refused() {
    let sample = Sample::new();
    let nothing = ImageDocuments::default();
    let targets = document(Repository::Image, "targets", 1, sample.top_bytes());
    let product = document(Repository::Image, PRODUCT, 1, sample.product_bytes());
    let missing = |role: &str, needs: &str| PublishError::Missing { role: role.into(), needs: needs.into() };
    assert_eq!(publish(&nothing, std::slice::from_ref(&targets)).unwrap_err(), missing("targets", "image root"));
    assert_eq!(publish(&nothing, std::slice::from_ref(&product)).unwrap_err(), missing(PRODUCT, "targets"));
    let twice = publish(&nothing, &[targets.clone(), targets.clone()]).unwrap_err();
    assert_eq!(twice, PublishError::Twice { role: "targets".into(), version: 1 });
    let stated = publish(&published(&sample), &[NewDocument { version: 2, ..product }]).unwrap_err();
    assert_eq!(stated, PublishError::StatedVersion { role: PRODUCT.into(), stated: 2, found: 1 });
    let online = publish(&nothing, &[NewDocument { repository: Repository::Director, ..targets.clone() }]).unwrap_err();
    assert_eq!(online, PublishError::DirectorRole { role: "targets".into() });
    let many = vec![targets; MAX_DOCUMENTS + 1];
    let limit = MAX_DOCUMENTS;
    assert_eq!(publish(&nothing, &many).unwrap_err(), PublishError::TooManyDocuments { count: limit + 1, limit });
}

#[test]
fn a_root_chain_begins_at_one_and_never_forks() {
    let sample = Sample::new();
    let at = |version| {
        document(Repository::Image, "root", version, signed(image_root(version).to_json(), &holders(ROOT)[..2]))
    };
    let error = publish(&ImageDocuments::default(), &[at(2)]).unwrap_err();
    assert_eq!(error, VerifyError::Version { role: "root".into(), expected: 1, found: 2 }.into());
    let current = published(&sample);
    let accepted = publish(&current, &[at(3), at(2), at(1)]).unwrap();
    assert_eq!(accepted.documents_after.roots.len(), 3);
    let other = signed(image_root(1).to_json(), &holders(ROOT)[1..]);
    let error = publish(&current, &[document(Repository::Image, "root", 1, other)]).unwrap_err();
    assert_eq!(error, PublishError::Conflict { role: "root".into(), version: 1 });
}

/// A root that takes the targets keys away must bring a targets document of the new keys.
#[test]
fn a_rotation_that_would_orphan_documents_is_refused() {
    let current = published(&Sample::new());
    let new_root = root(2, ROOT, &holders(81), 2, REPO_ID);
    let root = document(Repository::Image, "root", 2, signed(new_root.to_json(), &holders(ROOT)[..2]));
    let error = publish(&current, std::slice::from_ref(&root)).unwrap_err();
    assert!(
        matches!(error, PublishError::Verify(VerifyError::Threshold { ref role, .. }) if role == "targets"),
        "{error}"
    );
    let mut sample = Sample::new();
    sample.top.version = 2;
    let top = document(Repository::Image, "targets", 2, signed(sample.top.to_json(), &holders(81)[..2]));
    publish(&current, &[root, top]).unwrap();
}

#[test]
fn lint_threshold_of_one_or_of_all() {
    let mut sample = Sample::new();
    let keys = holders(PRODUCT_ROLE);
    for (threshold, expected) in [
        (1, Lint::ThresholdOne { role: PRODUCT.into(), threshold: 1 }),
        (3, Lint::ThresholdTooHigh { role: PRODUCT.into(), threshold: 3, holders: 3 }),
    ] {
        let mut role = delegation(PRODUCT, &keys, "acme-cam/*/*");
        role.keys.threshold = threshold;
        sample.top = top(1, vec![(role, holders(PRODUCT_ROLE))]);
        let bytes = signed(sample.product.to_json(), &keys);
        let mut new = publication(&sample);
        new[3].bytes = bytes;
        let PublishError::Lints(lints) = publish(&ImageDocuments::default(), &new).unwrap_err() else { panic!() };
        assert_eq!(lints.0, [expected]);
    }
    sample.top = top(1, vec![(delegation(PRODUCT, &keys[..2], "acme-cam/*/*"), holders(PRODUCT_ROLE))]);
    assert_eq!(
        lints(&sample),
        [
            Lint::TooFewHolders { role: PRODUCT.into(), holders: 2, min: 3 },
            Lint::ThresholdTooHigh { role: PRODUCT.into(), threshold: 2, holders: 2 },
        ]
    );
}

#[test]
fn lint_one_key_in_two_roles() {
    let mut sample = Sample::new();
    let shared: Vec<SigningKey> = [TARGETS, PRODUCT_ROLE, PRODUCT_ROLE + 1].map(key).into();
    let delegation = delegation(PRODUCT, &shared, "acme-cam/*/*");
    sample.top = top(1, vec![(delegation, shared)]);
    let lints = lints_of_product_signed_by(&sample, &[PRODUCT_ROLE, PRODUCT_ROLE + 1]);
    let keyid = key(TARGETS).public().keyid().to_owned();
    assert_eq!(lints, [Lint::SharedKey { keyid, first: "image targets".into(), second: PRODUCT.into() }]);
}

fn lints_of_product_signed_by(sample: &Sample, keys: &[u8]) -> Vec<Lint> {
    let mut new = publication(sample);
    new[3].bytes = signed(sample.product.to_json(), &keys.iter().map(|&number| key(number)).collect::<Vec<_>>());
    match publish(&ImageDocuments::default(), &new) {
        Err(PublishError::Lints(lints)) => lints.0,
        other => panic!("{other:?}"),
    }
}

#[test]
fn lint_the_roots_must_name_this_servers_keys() {
    let mut sample = Sample::new();
    sample.root.keys.insert(key(200).public().keyid().into(), key(200).public().clone());
    sample.root.roles.insert("snapshot".into(), role_of(&[key(200)], 1));
    let expected = key(SNAPSHOT).public().keyid().to_owned();
    assert!(lints(&sample).contains(&Lint::OnlineKey { role: "image snapshot".into(), expected }));

    let mut director = director_root(1);
    director.entitlement = None;
    let mut new = publication(&Sample::new());
    new[1].bytes = signed(director.to_json(), &holders(DIRECTOR_ROOT)[..2]);
    let PublishError::Lints(lints) = publish(&ImageDocuments::default(), &new).unwrap_err() else { panic!() };
    let expected = key(ENTITLEMENT).public().keyid().to_owned();
    assert_eq!(lints.0, [Lint::OnlineKey { role: "director entitlement".into(), expected }]);
}

#[test]
fn lint_lifetimes_and_naming_of_the_repository() {
    let mut sample = Sample::new();
    sample.root.expires = now() + days(500);
    sample.root.consistent_snapshot = false;
    sample.top.expires = now() + days(401);
    sample.product.expires = now() + days(131);
    assert_eq!(
        lints(&sample),
        [
            Lint::ConsistentSnapshot { role: "image root".into() },
            Lint::Lifetime { role: "image root".into(), days: 500, limit: 400 },
            Lint::Lifetime { role: "targets".into(), days: 401, limit: 400 },
            Lint::Lifetime { role: PRODUCT.into(), days: 131, limit: 130 },
        ]
    );
}

#[test]
fn lint_images_in_the_top_document_and_outside_of_the_roles_reach() {
    let mut sample = Sample::new();
    sample.top.targets.insert(path("2.4.0"), target(&custom("2.4.0", 20400)));
    assert_eq!(lints(&sample), [Lint::TopTargets { path: path("2.4.0") }]);

    let mut sample = Sample::new();
    let mut stray = target(&custom("2.4.9", 20409));
    stray.path = "acme-phone/2.4.9/main.bin".into();
    sample.product.targets.insert(stray.path.clone(), stray.clone());
    assert_eq!(
        lints(&sample),
        [
            Lint::Path { role: PRODUCT.into(), path: stray.path.clone() },
            Lint::PathMismatch { role: PRODUCT.into(), path: stray.path, expected: "acme-cam/2.4.9/".into() },
        ]
    );
}

#[test]
fn lint_a_product_role_does_not_delegate_further() {
    let mut sample = Sample::new();
    let keys = holders(91);
    for key in &keys {
        sample.product.delegation_keys.insert(key.public().keyid().into(), key.public().clone());
    }
    sample.product.delegations.push(delegation("child", &keys, "acme-cam/*/*"));
    assert_eq!(lints(&sample), [Lint::NestedDelegation { role: PRODUCT.into(), child: "child".into() }]);
}

#[test]
fn lint_a_product_role_has_a_name_that_is_a_file_name() {
    for name in ["..%2F", "a/b", ".hidden"] {
        let mut sample = Sample::new();
        sample.top.delegations.push(delegation(name, &holders(PRODUCT_ROLE), "acme-cam/*/*"));
        assert!(lints(&sample).contains(&Lint::RoleName { role: name.to_owned() }), "{name}");
    }
}

#[test]
fn lint_releases() {
    let with = |change: &dyn Fn(&mut sluice_signer::ReleaseCustom)| {
        let mut sample = Sample::new();
        let mut release = custom("2.4.2", 20402);
        change(&mut release);
        sample.product.targets.insert(path("2.4.2"), target(&release));
        lints(&sample)
    };
    let (role, at) = (PRODUCT.to_owned(), path("2.4.2"));
    assert_eq!(with(&|_| {}), []);
    assert_eq!(
        with(&|release| release.kind = ReleaseKind::Security),
        [Lint::SecurityWithoutAdvisory { role: role.clone(), path: at.clone() }]
    );
    assert_eq!(
        with(&|release| release.order = 20401),
        [Lint::Ambiguous { role: role.clone(), first: path("2.4.1"), second: at.clone(), what: "order" }]
    );
    for (field, value) in [("notes", "acme-cam/2.4.2/notes.md"), ("min_installed", "1.0.0")] {
        let expected = Lint::Dangling { role: role.clone(), path: at.clone(), field, value: value.into() };
        let change = |release: &mut sluice_signer::ReleaseCustom| match field {
            "notes" => release.notes = Some(value.into()),
            _ => release.min_installed = Some(value.into()),
        };
        assert_eq!(with(&change), [expected]);
    }
    assert_eq!(with(&|release| release.product = "acme-phone".into()).len(), 1);
    assert!(matches!(with(&|release| release.hw_ids.clear())[..], [Lint::Custom { .. }]));
}

#[test]
fn lint_published_content_and_counters_stand() {
    let sample = Sample::new();
    let current = published(&sample);
    let next = |change: &dyn Fn(&mut Sample)| {
        let mut next = sample.clone();
        next.product.version = 2;
        change(&mut next);
        match publish(&current, &product_update(&next)) {
            Err(PublishError::Lints(lints)) => lints.0,
            Ok(_) => Vec::new(),
            Err(other) => panic!("{other}"),
        }
    };
    let changed = next(&|sample| sample.product.targets.get_mut(&path("2.4.1")).unwrap().sha256[0] ^= 1);
    assert_eq!(changed, [Lint::ContentChanged { role: PRODUCT.into(), path: path("2.4.1") }]);
    let mut other = custom("2.4.1", 20401);
    other.requires.clear();
    let facts = next(&|sample| drop(sample.product.targets.insert(path("2.4.1"), target(&other))));
    assert_eq!(facts, changed, "what a contract must grant is as fixed as the bytes");
    let lower = next(&|sample| {
        let mut release = custom("2.4.2", 20402);
        release.security_counter = 6;
        sample.product.targets.insert(path("2.4.2"), target(&release));
    });
    assert_eq!(lower, [Lint::SecurityCounter { role: PRODUCT.into(), path: path("2.4.2"), found: 6, highest: 7 }]);
    assert_eq!(next(&|sample| drop(sample.product.targets.remove(&path("2.4.0")))), [], "revocation is allowed");
}

#[test]
fn lint_ascii_only() {
    let mut sample = Sample::new();
    let sluice_signer::Json::Object(mut members) = sample.product.to_json() else { panic!() };
    members.insert("comment".into(), "naïve".into());
    let mut new = publication(&sample);
    new[3].bytes = signed(sluice_signer::Json::Object(members), &holders(PRODUCT_ROLE)[..2]);
    let PublishError::Lints(lints) = publish(&ImageDocuments::default(), &new).unwrap_err() else { panic!() };
    assert_eq!(lints.0, [Lint::NonAscii { role: PRODUCT.into() }]);
    sample.product.version = 2;
}
