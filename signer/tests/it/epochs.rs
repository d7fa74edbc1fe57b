//! Signing epochs: an older verifier refuses what it cannot read and keeps what it has, and the next epoch is begun with care.

use crate::sample::*;
use proptest::prelude::*;
use sluice_signer::embargo::role_name;
use sluice_signer::lint::{Lint, MIN_BRANCH_LIFETIME, lint_ending};
use sluice_signer::publish::{Repository, check_all};
use sluice_signer::{
    Accepted, Delegation, DirectorTrust, Envelope, ImageDocuments, Json, Limits, NamedKeys, NewDocument, OnlineKeys,
    OnlineRole, Overrides, PublishContext, PublishError, ReleaseCustom, RoleKeys, RootMetadata, TargetsMetadata,
    TrustedRepository, VerifyError, publish_check,
};
use std::collections::BTreeMap;

/// What a verifier of this epoch accepts.
fn knows(epoch: u64) -> Limits {
    Limits { newest_epoch: epoch, ..limits() }
}

/// Seeds of the server's keys in an epoch: each has its own.
fn seed(first: u8, epoch: u64) -> u8 {
    first + 10 * (u8::try_from(epoch).unwrap() - 1)
}

fn online_of(epoch: u64) -> OnlineKeys {
    let public = |first| key(seed(first, epoch)).public().clone();
    OnlineKeys {
        snapshot: public(SNAPSHOT),
        timestamp: public(TIMESTAMP),
        director: public(DIRECTOR),
        entitlement: public(ENTITLEMENT),
        next: BTreeMap::new(),
    }
}

/// The root with the keys of an epoch.
fn of_epoch(mut root: RootMetadata, epoch: u64) -> RootMetadata {
    root.epoch = epoch;
    let director = root.entitlement.is_some();
    let mut name = |role: OnlineRole| {
        let key = online_of(epoch).current(role).clone();
        root.keys.insert(key.keyid().to_owned(), key.clone());
        RoleKeys::new([&key], 1)
    };
    let (snapshot, timestamp) = (name(OnlineRole::Snapshot), name(OnlineRole::Timestamp));
    let (targets, entitlement) = (name(OnlineRole::Director), name(OnlineRole::Entitlement));
    root.roles.insert("snapshot".to_owned(), snapshot);
    root.roles.insert("timestamp".to_owned(), timestamp);
    if director {
        root.roles.insert("targets".to_owned(), targets);
        root.entitlement = Some(entitlement);
    }
    let used: Vec<String> =
        root.roles.values().chain(&root.entitlement).flat_map(|role| role.keyids.iter().cloned()).collect();
    root.keys.retain(|keyid, _| used.contains(keyid));
    root
}

fn image(version: u64, epoch: u64) -> Vec<u8> {
    signed(of_epoch(image_root(version), epoch).to_json(), &holders(ROOT)[..2])
}

fn director(version: u64, epoch: u64) -> Vec<u8> {
    signed(of_epoch(director_root(version), epoch).to_json(), &holders(DIRECTOR_ROOT)[..2])
}

/// The root as its holders would sign it, with this in the place of its epoch.
fn stating(epoch: Json) -> Vec<u8> {
    let Json::Object(mut members) = image_root(2).to_json() else { panic!("a root is an object") };
    let custom = Json::object([("epoch", epoch), ("repo_id", REPO_ID.into())]);
    members.insert("custom".to_owned(), custom);
    signed(Json::Object(members), &holders(ROOT)[..2])
}

#[test]
fn a_root_without_an_epoch_is_of_the_first() {
    let root = image_root(1);
    assert_eq!(root.epoch, 1);
    assert!(!String::from_utf8(root.to_json().to_bytes()).unwrap().contains("epoch"));
    let of_second = of_epoch(image_root(2), 2);
    assert_eq!(RootMetadata::from_json(&of_second.to_json(), &limits()).unwrap(), of_second);
}

#[test]
fn an_older_verifier_refuses_a_later_epoch_and_keeps_what_it_has() {
    let mut device = Sample::new().current_device();
    let before = device.state();
    let error = device.update_root(&image(2, 2)).unwrap_err();
    assert_eq!(error, VerifyError::LaterEpoch { version: 2, found: 2, known: 1 });
    assert!(error.to_string().contains("install that release by hand"), "{error}");
    assert_eq!(device.state(), before);
    assert!(finds(&device, &path("2.4.1"), now()), "it goes on with what it trusts");
    // The same for the director, and for a root that is trusted because it was provisioned or kept.
    let mut trust = DirectorTrust::from_root(&director(1, 1), &knows(1)).unwrap();
    assert!(matches!(trust.update_root(&director(2, 2)), Err(VerifyError::LaterEpoch { .. })));
    assert_eq!(trust.root_version(), 1);
    let error = TrustedRepository::from_root(&image(1, 2), &knows(1)).unwrap_err();
    assert!(matches!(error, VerifyError::LaterEpoch { found: 2, known: 1, .. }), "{error}");
}

/// What the next epoch brings may be anything: all that the older verifier reads of it are its epoch and the old holders'
/// signatures.
#[test]
fn a_root_that_cannot_be_read_is_known_by_its_epoch() {
    let Json::Object(mut members) = of_epoch(image_root(2), 2).to_json() else { panic!("a root is an object") };
    members.insert("keys".to_owned(), Json::from("in another form"));
    members.remove("roles");
    let unreadable = signed(Json::Object(members), &holders(ROOT)[..2]);
    let mut device = Sample::new().device();
    let error = device.update_root(&unreadable).unwrap_err();
    assert_eq!(error, VerifyError::LaterEpoch { version: 2, found: 2, known: 1 });
}

#[test]
fn nobody_else_can_claim_a_later_epoch() {
    let forged = signed(of_epoch(image_root(2), 2).to_json(), &holders(41)[..2]);
    let error = Sample::new().device().update_root(&forged).unwrap_err();
    assert!(matches!(error, VerifyError::Threshold { .. }), "{error}");
}

#[test]
fn a_newer_verifier_walks_over() {
    let mut device = Sample::new().current_device().state();
    device.timestamp = Some(String::from_utf8(Sample::new().timestamp_bytes()).unwrap());
    let mut device = TrustedRepository::from_state(&device, &knows(2)).unwrap();
    let update = device.update_root(&image(2, 2)).unwrap();
    assert!(update.rotated.contains("timestamp") && update.rotated.contains("snapshot"));
    assert_eq!((device.root().epoch, device.timestamp_version()), (2, None), "the branch counts for itself");
    let error = device.update_timestamp(&Sample::new().next().timestamp_bytes(), now()).unwrap_err();
    assert!(matches!(error, VerifyError::Threshold { .. }), "the branch's timestamp is no good any more: {error}");
}

/// The roots of a branch are the last of it: nobody can name other keys for the devices that stay.
#[test]
fn a_thief_of_the_online_keys_of_a_branch_ends_with_the_next_epoch_alone() {
    let mut device = Sample::new().current_device();
    let far = Sample { timestamp_version: 1_000_000, ..Sample::new() };
    device.update_timestamp(&far.timestamp_bytes(), now()).unwrap();
    let error = device.update_timestamp(&Sample::new().next().timestamp_bytes(), now()).unwrap_err();
    assert!(matches!(error, VerifyError::Rollback { .. }), "nothing of the server's is taken any more: {error}");
    assert!(matches!(device.update_root(&image(2, 2)), Err(VerifyError::LaterEpoch { .. })));
    assert_eq!(device.timestamp_version(), Some(1_000_000));
    // Under the verifier that the floor brought.
    let kept = device.state();
    let mut device = TrustedRepository::from_state(&kept, &knows(2)).unwrap();
    device.update_root(&image(2, 2)).unwrap();
    assert_eq!(device.timestamp_version(), None);
    let error = device.update_timestamp(&far.timestamp_bytes(), now()).unwrap_err();
    assert!(matches!(error, VerifyError::Threshold { .. }), "{error}");
}

#[test]
fn an_image_that_has_not_proven_itself_can_be_held_back() {
    let mut device = TrustedRepository::from_root(&image(1, 1), &knows(2)).unwrap();
    device.set_newest_epoch(1);
    assert!(matches!(device.update_root(&image(2, 2)), Err(VerifyError::LaterEpoch { .. })));
    device.set_newest_epoch(2);
    device.update_root(&image(2, 2)).unwrap();
}

#[test]
fn an_epoch_never_falls_and_rises_by_one() {
    let mut device = TrustedRepository::from_root(&image(1, 1), &knows(9)).unwrap();
    let error = device.update_root(&image(2, 3)).unwrap_err();
    assert_eq!(error, VerifyError::EpochOrder { trusted: 1, found: 3 });
    assert_eq!(device.root_version(), 1);
    device.update_root(&image(2, 2)).unwrap();
    let error = device.update_root(&image(3, 1)).unwrap_err();
    assert_eq!(error, VerifyError::EpochOrder { trusted: 2, found: 1 });
    assert_eq!((device.root_version(), device.root().epoch), (2, 2));
}

#[test]
fn what_is_no_epoch_is_refused() {
    for epoch in [Json::Int(0), Json::Int(-1), Json::Int(1001), Json::Int(i64::MAX), "2".into(), Json::Bool(true)] {
        let mut device = Sample::new().device();
        let bytes = match &epoch {
            // No parser of ours reads it.
            Json::Int(i64::MAX) => continue,
            _ => stating(epoch),
        };
        let error = device.update_root(&bytes).unwrap_err();
        assert!(error.to_string().contains("custom.epoch"), "{error}");
        assert_eq!(device.root_version(), 1);
    }
    let huge =
        String::from_utf8(stating(Json::Int(7))).unwrap().replace("\"epoch\":7", "\"epoch\":9223372036854775808");
    assert!(matches!(Sample::new().device().update_root(huge.as_bytes()), Err(VerifyError::Json { .. })));
}

fn document(repository: Repository, role: &str, version: u64, bytes: Vec<u8>) -> NewDocument {
    NewDocument { repository, role: role.to_owned(), version, bytes }
}

/// An installation of the first epoch whose documents live so many days.
fn published(days_left: i64) -> ImageDocuments {
    let mut sample = Sample::new();
    sample.root.expires = now() + days(days_left.min(400));
    sample.top.expires = now() + days(days_left);
    sample.product.expires = now() + days(days_left);
    let mut overrides = Overrides::default();
    overrides.add("lifetime", "The last documents of epoch 1.").unwrap();
    let with = |json: Json, keys: u8| signed(overrides.write(json), &holders(keys)[..2]);
    let documents = [
        document(Repository::Image, "root", 1, sample.root_bytes()),
        document(Repository::Director, "root", 1, director(1, 1)),
        document(Repository::Image, "targets", 1, with(sample.top.to_json(), TARGETS)),
        document(Repository::Image, PRODUCT, 1, with(sample.product.to_json(), PRODUCT_ROLE)),
    ];
    let context = PublishContext { online_keys: &online_of(1), now: now(), limits: &limits() };
    publish_check(&ImageDocuments::default(), &documents, &context).unwrap().documents_after
}

fn begin(current: &ImageDocuments, roots: [Vec<u8>; 2], online: &OnlineKeys) -> Result<Accepted, PublishError> {
    let [image, director] = roots;
    let documents =
        [document(Repository::Image, "root", 2, image), document(Repository::Director, "root", 2, director)];
    publish_check(current, &documents, &PublishContext { online_keys: online, now: now(), limits: &knows(2) })
}

fn lints(result: Result<Accepted, PublishError>) -> Vec<Lint> {
    match result {
        Ok(_) => Vec::new(),
        Err(PublishError::Lints(lints)) => lints.0,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn an_epoch_begins_in_both_repositories_with_other_keys() {
    let current = published(400);
    let accepted = begin(&current, [image(2, 2), director(2, 2)], &online_of(2)).unwrap();
    let after = &accepted.documents_after;
    let named = NamedKeys::of(&after.roots, &after.director_roots, &limits()).unwrap();
    assert_eq!((named.epoch, named.branches.len()), (2, 1));
    for role in OnlineRole::ALL {
        let (old, new) = (online_of(1), online_of(2));
        assert!(!named.is_retired(old.current(role).keyid()), "{role:?} signs for the branch");
        assert_eq!(named.of_epoch(1).unwrap().now[&role], old.current(role).keyid());
        assert_eq!(named.of_epoch(2).unwrap().now[&role], new.current(role).keyid());
        assert_eq!(named.of_epoch(7).unwrap().now[&role], new.current(role).keyid(), "who knows more gets the newest");
    }
    let mut over = named.clone();
    over.end_branches(named.branches[&1].until);
    assert_eq!(over.of_epoch(1), None);
    assert!(over.is_retired(online_of(1).timestamp.keyid()), "a branch that is over needs no keys");
}

#[test]
fn one_repository_alone_does_not_begin_an_epoch() {
    let current = published(400);
    let mut both = online_of(1);
    both.next = OnlineRole::ALL.map(|role| (role, online_of(2).current(role).clone())).into();
    assert_eq!(
        lints(begin(&current, [image(2, 2), director(2, 1)], &both)),
        [Lint::EpochApart { image: 2, director: 1 }]
    );
    assert_eq!(
        lints(begin(&current, [image(2, 1), director(2, 2)], &both)),
        [Lint::EpochApart { image: 1, director: 2 }]
    );
}

/// More roots than go into one publication: those of the next epoch come together all the same.
#[test]
fn a_long_chain_of_roots_is_cut_where_an_epoch_does_not_part() {
    let online = online_of(2);
    let context = PublishContext { online_keys: &online, now: now(), limits: &knows(2) };
    for (first, second) in [(40, 1), (70, 3), (31, 40), (63, 1)] {
        let epoch = |version| if version <= first { 1 } else { 2 };
        let chain = |repository, root: fn(u64, u64) -> Vec<u8>| {
            (1..=first + second)
                .map(move |version| document(repository, "root", version, root(version, epoch(version))))
        };
        let mut documents: Vec<NewDocument> = chain(Repository::Image, image).collect();
        documents.extend(chain(Repository::Director, director));
        let mut sample = Sample::new();
        sample.top.expires = now() + days(300);
        documents.push(document(Repository::Image, "targets", 1, sample.top_bytes()));
        documents.push(document(Repository::Image, PRODUCT, 1, sample.product_bytes()));
        let count = documents.len();
        let accepted = check_all(documents, &context).unwrap_or_else(|error| panic!("{first} {second}: {error}"));
        assert_eq!(accepted.documents.len(), count);
        let after = &accepted.documents_after;
        let length = usize::try_from(first + second).unwrap();
        assert_eq!((after.roots.len(), after.director_roots.len()), (length, length));
    }
}

/// A device walks over each of several new roots, so each is looked at, and what its holders overrode is told.
#[test]
fn of_several_new_roots_each_is_linted() {
    let current = published(400);
    let weak = |version: u64| {
        let mut root = of_epoch(image_root(version), 1);
        root.roles.insert("targets".to_owned(), role_of(&holders(TARGETS), 1));
        root
    };
    let publish = |second: Json| {
        let documents = [
            document(Repository::Image, "root", 2, signed(second, &holders(ROOT)[..2])),
            document(Repository::Image, "root", 3, image(3, 1)),
        ];
        publish_check(
            &current,
            &documents,
            &PublishContext { online_keys: &online_of(1), now: now(), limits: &limits() },
        )
    };
    let found = lints(publish(weak(2).to_json()));
    assert!(matches!(found[..], [Lint::ThresholdOne { .. }]), "{found:?}");
    let mut overrides = Overrides::default();
    overrides.add("threshold-one", "One lead was left that day.").unwrap();
    let accepted = publish(overrides.write(weak(2).to_json())).unwrap();
    assert_eq!(accepted.documents[0].overrides, overrides);
    assert_eq!(accepted.documents[1].overrides, Overrides::default());
    // Keys of the server are told by the newest alone: one on the way may name others.
    publish(of_epoch(image_root(2), 2).to_json()).unwrap_err();
    let mut other = of_epoch(image_root(2), 2);
    other.epoch = 1;
    publish(other.to_json()).unwrap();
}

#[test]
fn a_key_signs_for_one_epoch() {
    let current = published(400);
    let same = |root: RootMetadata| RootMetadata { epoch: 2, ..root };
    let roots = [
        signed(same(image_root(2)).to_json(), &holders(ROOT)[..2]),
        signed(same(director_root(2)).to_json(), &holders(DIRECTOR_ROOT)[..2]),
    ];
    let found = lints(begin(&current, roots, &online_of(1)));
    let roles: Vec<&str> = found
        .iter()
        .map(|lint| match lint {
            Lint::EpochKey { role, epoch: 1, .. } => *role,
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(roles, ["snapshot", "timestamp", "director"]);
}

#[test]
fn documents_that_die_soon_are_refused_unless_holders_say_why() {
    let current = published(200);
    let found = lints(begin(&current, [image(2, 2), director(2, 2)], &online_of(2)));
    let about: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 3, "{about:?}");
    for (text, role) in about.iter().zip(["root", "targets", PRODUCT]) {
        assert!(text.starts_with(&format!("{role}: expires in 200 days, 330 at least")), "{text}");
    }
    let mut overrides = Overrides::default();
    overrides.add("epoch-short", "Nothing of epoch 1 is in the field.").unwrap();
    let root = overrides.write(of_epoch(image_root(2), 2).to_json());
    let accepted = begin(&current, [signed(root, &holders(ROOT)[..2]), director(2, 2)], &online_of(2)).unwrap();
    assert_eq!(accepted.documents[0].overrides, overrides);
}

#[test]
fn the_newest_release_for_each_hardware_must_do_as_a_floor() {
    let problems = |sample: &Sample| -> Vec<String> {
        let ending = ImageDocuments {
            roots: vec![sample.root_bytes()],
            targets: Some(sample.top_bytes()),
            roles: [(PRODUCT.to_owned(), sample.product_bytes())].into(),
            director_roots: vec![director(1, 1)],
            held: std::collections::BTreeMap::new(),
        };
        let lints = lint_ending(&ending, now(), MIN_BRANCH_LIFETIME - days(300), &limits()).unwrap();
        lints.iter().map(ToString::to_string).collect()
    };
    let mut sample = Sample::new();
    assert_eq!(problems(&sample), [] as [&str; 0]);
    let mut beta = custom("2.5.0-b1", 20500);
    beta.channels = ["beta".to_owned()].into();
    beta.hw_ids = ["cam-r4".to_owned()].into();
    sample.product.targets.insert(path("2.5.0-b1"), target(&beta));
    let found = problems(&sample);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("cam-r4, 2.5.0-b1, is not on channel stable"), "{found:?}");
    sample.product.targets.clear();
    assert!(problems(&sample)[0].contains("there is none"));
}

/// What is wrong with the floor of a product that has an embargo role with this release, when it has one.
fn floor_of_both_roles(own: &[ReleaseCustom], advance: &[ReleaseCustom], embargo_life: i64) -> Vec<String> {
    let role = role_name([7; 8]);
    let mut sample = Sample::new();
    let keys = || holders(PRODUCT_ROLE);
    let embargo = Delegation { terminating: false, ..delegation(&role, &holders(61), "acme-cam/*/*") };
    sample.top = top(1, vec![(embargo, holders(61)), (delegation(PRODUCT, &keys(), "acme-cam/*/*"), keys())]);
    let targets = |releases: &[ReleaseCustom]| releases.iter().map(|one| (path(&one.version), target(one))).collect();
    sample.product.targets = targets(own);
    let mut document = TargetsMetadata::new(2, now() + days(embargo_life), Some(REPO_ID.to_owned()));
    document.targets = targets(advance);
    let roles =
        [(PRODUCT.to_owned(), sample.product_bytes()), (role.clone(), signed(document.to_json(), &holders(61)[..2]))];
    let ending = ImageDocuments {
        roots: vec![sample.root_bytes()],
        targets: Some(sample.top_bytes()),
        roles: roles.into(),
        director_roots: vec![director(1, 1)],
        held: BTreeMap::new(),
    };
    let lints = lint_ending(&ending, now(), MIN_BRANCH_LIFETIME - days(300), &limits()).unwrap();
    lints.iter().map(|lint| lint.to_string().replace(&role, "embargo")).collect()
}

fn beta(version: &str, order: u64) -> ReleaseCustom {
    ReleaseCustom { channels: ["beta".to_owned()].into(), ..custom(version, order) }
}

#[test]
fn a_floor_may_stand_in_any_role_of_its_product() {
    let none = [] as [&str; 0];
    let stable = custom("2.4.1", 20401);
    assert_eq!(floor_of_both_roles(std::slice::from_ref(&stable), &[], 120), none, "the embargo role is empty");
    assert_eq!(floor_of_both_roles(&[], std::slice::from_ref(&stable), 120), none, "the floor is in the embargo role");
    let found = floor_of_both_roles(&[], &[], 120);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with(&format!("{PRODUCT}: no release could be a floor")), "{found:?}");
    // Each role's document must live, whatever it says.
    let found = floor_of_both_roles(&[stable], &[], 20);
    assert!(found.len() == 1 && found[0].starts_with("embargo: expires in 20 days"), "{found:?}");
}

#[test]
fn the_newest_release_of_a_product_is_the_newest_of_all_its_roles() {
    let (older, newer) = (custom("2.4.1", 20401), custom("2.6.0", 20600));
    let between = [beta("2.5.0-b1", 20500)];
    for found in [
        floor_of_both_roles(std::slice::from_ref(&older), &between, 120),
        floor_of_both_roles(&between, std::slice::from_ref(&older), 120),
    ] {
        assert_eq!(found.len(), 2, "one for each hardware: {found:?}");
        for text in &found {
            assert!(text.starts_with(PRODUCT) && text.contains("2.5.0-b1, is not on channel stable"), "{text}");
        }
    }
    let none = [] as [&str; 0];
    assert_eq!(floor_of_both_roles(std::slice::from_ref(&newer), &between, 120), none);
    assert_eq!(floor_of_both_roles(&between, &[newer], 120), none);
}

proptest! {
    /// Whatever epochs a chain states, a device ends at the last root that it may take, and nothing is lost on the way.
    #[test]
    fn a_chain_is_followed_as_far_as_it_rises_by_one_and_is_known(steps in prop::collection::vec(0u64..3, 1..8), known in 1u64..5) {
        let mut device = TrustedRepository::from_root(&image(1, 1), &knows(known)).unwrap();
        let (mut version, mut epoch) = (1, 1);
        for step in steps {
            let next = epoch + step;
            let before = device.state();
            let taken = device.update_root(&image(version + 1, next));
            if next <= known && step <= 1 {
                prop_assert!(taken.is_ok(), "{taken:?}");
                (version, epoch) = (version + 1, next);
            } else {
                prop_assert!(taken.is_err());
                prop_assert_eq!(device.state(), before);
            }
            prop_assert_eq!((device.root_version(), device.root().epoch), (version, epoch));
        }
    }

    #[test]
    fn an_epoch_is_read_or_refused_and_never_panics(number in any::<i64>()) {
        let text = String::from_utf8(stating(Json::Int(7))).unwrap().replace("\"epoch\":7", &format!("\"epoch\":{number}"));
        if let Ok(envelope) = Envelope::parse("root", text.as_bytes(), 1 << 20, &limits()) {
            let read = RootMetadata::from_json(envelope.signed(), &limits());
            prop_assert_eq!(read.is_ok(), (1..=1000).contains(&number));
        }
    }
}
