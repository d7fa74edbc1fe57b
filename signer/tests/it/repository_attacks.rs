//! What an attacker on the network, or with some of the keys, tries; named after the attacks of the TUF specification.

use crate::sample::*;
use proptest::prelude::*;
use sluice_signer::roles::FileMeta;
use sluice_signer::{Limits, Lookup, TrustedRepository, VerifyError, online, sha256};
use std::collections::BTreeMap;
use std::sync::LazyLock;

fn role(error: &VerifyError) -> &str {
    match error {
        VerifyError::Threshold { role, .. }
        | VerifyError::Expired { role, .. }
        | VerifyError::Version { role, .. }
        | VerifyError::Rollback { role, .. }
        | VerifyError::Equivocation { role, .. }
        | VerifyError::Length { role, .. }
        | VerifyError::Hash { role, .. }
        | VerifyError::OutOfOrder { role, .. }
        | VerifyError::NotInSnapshot { role }
        | VerifyError::RemovedFromSnapshot { role, .. }
        | VerifyError::NotDelegated { role, .. }
        | VerifyError::WrongType { role, .. }
        | VerifyError::WrongRepository { role, .. }
        | VerifyError::Json { role, .. } => role,
        other => panic!("{other}"),
    }
}

#[test]
fn an_honest_repository_is_followed() {
    let sample = Sample::new();
    let device = sample.current_device();
    let Lookup::Found(found) = device.target(&path("2.4.1"), now()).unwrap() else { panic!("not found") };
    assert_eq!(found.role, PRODUCT);
    assert_eq!(found.target.sha256, sha256(&image("2.4.1")));
    assert_eq!(found.target.release(PRODUCT, &limits()).unwrap(), Some(custom("2.4.1", 20401)));
    assert_eq!(device.target(&path("9.9.9"), now()).unwrap(), Lookup::NotFound);
    assert_eq!(device.target("other/1/x", now()).unwrap(), Lookup::NotFound);
    assert_eq!(
        device.version_orders(PRODUCT, "main"),
        BTreeMap::from([("2.4.0".into(), 20400), ("2.4.1".into(), 20401)])
    );
}

#[test]
fn the_device_is_told_what_to_fetch() {
    let sample = Sample::new();
    let mut device = sample.device();
    assert_eq!((device.root_version(), device.wanted_snapshot(), device.wanted_role("targets")), (1, None, None));
    device.update_timestamp(&sample.timestamp_bytes(), now()).unwrap();
    let wanted = device.wanted_snapshot().unwrap();
    assert_eq!((wanted.file.as_str(), wanted.limit), ("1.snapshot.json", sample.snapshot_bytes().len() as u64));
    device.update_snapshot(&sample.snapshot_bytes(), now()).unwrap();
    assert_eq!(device.wanted_snapshot(), None);
    let Lookup::NeedsRole { role, parent, wanted } = device.target(&path("2.4.1"), now()).unwrap() else { panic!() };
    assert_eq!((role.as_str(), parent.as_str(), wanted.file.as_str()), ("targets", "root", "1.targets.json"));
    device.update_targets(&role, &parent, &sample.top_bytes(), now()).unwrap();
    let Lookup::NeedsRole { role, parent, wanted } = device.target(&path("2.4.1"), now()).unwrap() else { panic!() };
    assert_eq!((role.as_str(), parent.as_str(), wanted.file.as_str()), (PRODUCT, "targets", "1.acme-cam.json"));
    device.update_targets(&role, &parent, &sample.product_bytes(), now()).unwrap();
    assert!(finds(&device, &path("2.4.1"), now()));
}

#[test]
fn arbitrary_software_attack_unsigned_documents_are_refused() {
    let sample = Sample::new();
    let mut device = sample.device();
    device.update_timestamp(&sample.timestamp_bytes(), now()).unwrap();
    device.update_snapshot(&sample.snapshot_bytes(), now()).unwrap();
    device.update_targets("targets", "root", &sample.top_bytes(), now()).unwrap();

    // Attacker with snapshot and timestamp keys but with one product key only.
    let mut evil = sample.next();
    evil.product.version = 2;
    let release = custom("6.6.6", 66600);
    evil.product.targets.insert(path("6.6.6"), target(&release));
    let evil_product = signed(evil.product.to_json(), &holders(PRODUCT_ROLE)[..1]);
    let roles = BTreeMap::from([
        ("targets".to_owned(), FileMeta::of(1, &evil.top_bytes())),
        (PRODUCT.to_owned(), FileMeta::of(2, &evil_product)),
    ]);
    let snapshot = online::sign_snapshot(2, now() + days(1), roles, None, &key(SNAPSHOT));
    let timestamp = online::sign_timestamp(2, now() + days(1), FileMeta::of(2, &snapshot), None, &key(TIMESTAMP));
    device.update_timestamp(&timestamp, now()).unwrap();
    device.update_snapshot(&snapshot, now()).unwrap();
    let error = device.update_targets(PRODUCT, "targets", &evil_product, now()).unwrap_err();
    assert!(matches!(error, VerifyError::Threshold { needed: 2, valid: 1, .. }), "{error}");
    assert!(!finds(&device, &path("6.6.6"), now()));
}

#[test]
fn threshold_of_root_one_signature_is_not_enough() {
    let bytes = signed(image_root(1).to_json(), &holders(ROOT)[..1]);
    let error = TrustedRepository::from_root(&bytes, &limits()).unwrap_err();
    assert!(matches!(error, VerifyError::Threshold { needed: 2, valid: 1, .. }), "{error}");
}

#[test]
fn role_confusion_a_key_of_another_role_counts_nothing() {
    let sample = Sample::new();
    for keys in [holders(TARGETS), holders(PRODUCT_ROLE), vec![key(SNAPSHOT), key(TIMESTAMP)]] {
        let error = TrustedRepository::from_root(&signed(sample.root.to_json(), &keys), &limits()).unwrap_err();
        assert!(matches!(error, VerifyError::Threshold { valid: 0, .. }), "{error}");
    }
}

#[test]
fn role_confusion_a_document_of_another_type_is_refused() {
    let sample = Sample::new();
    let mut device = sample.device();
    // A snapshot signed by the timestamp key, as if one key served both roles.
    let mut wrong =
        sluice_signer::SnapshotMetadata { version: 1, expires: now() + days(1), roles: BTreeMap::new(), repo_id: None };
    wrong.roles.insert("targets".into(), FileMeta::of(1, b"x"));
    let error = device.update_timestamp(&signed(wrong.to_json(), &[key(TIMESTAMP)]), now()).unwrap_err();
    assert!(matches!(error, VerifyError::WrongType { expected: "timestamp", .. }), "{error}");
}

/// The same online keys sign for two repositories; their documents must not be exchanged.
#[test]
fn role_confusion_a_timestamp_of_the_director_repository_is_refused() {
    let sample = Sample::new();
    let meta = FileMeta::of(1, &sample.snapshot_bytes());
    let other = Some(DIRECTOR_REPO_ID.to_owned());
    let bytes = online::sign_timestamp(1, now() + days(1), meta, other, &key(TIMESTAMP));
    let error = sample.device().update_timestamp(&bytes, now()).unwrap_err();
    assert!(matches!(error, VerifyError::WrongRepository { .. }), "{error}");
}

#[test]
fn rollback_attack_an_older_timestamp_is_refused() {
    let old = Sample::new();
    let new = old.next();
    let mut device = new.device();
    new.refresh(&mut device, now()).unwrap();
    let error = device.update_timestamp(&old.timestamp_bytes(), now()).unwrap_err();
    assert_eq!(error, VerifyError::Rollback { role: "timestamp".into(), trusted: 2, found: 1 });
    assert_eq!(device.timestamp_version(), Some(2));
}

#[test]
fn rollback_attack_a_newer_timestamp_of_an_older_snapshot_is_refused() {
    let old = Sample::new();
    let new = old.next();
    let mut device = new.device();
    new.refresh(&mut device, now()).unwrap();
    let mut evil = old.clone();
    evil.timestamp_version = 3;
    let error = device.update_timestamp(&evil.timestamp_bytes(), now()).unwrap_err();
    assert_eq!(error, VerifyError::Rollback { role: "snapshot".into(), trusted: 2, found: 1 });
}

#[test]
fn rollback_attack_an_older_product_document_in_a_newer_snapshot_is_refused() {
    let old = Sample::new();
    let mut new = old.next();
    new.product.version = 2;
    let mut device = old.device();
    new.refresh(&mut device, now()).unwrap();
    let mut evil = new.next();
    evil.product = old.product.clone();
    device.update_timestamp(&evil.timestamp_bytes(), now()).unwrap();
    let error = device.update_snapshot(&evil.snapshot_bytes(), now()).unwrap_err();
    assert_eq!(error, VerifyError::Rollback { role: PRODUCT.into(), trusted: 2, found: 1 });
}

#[test]
fn rollback_attack_a_role_cannot_vanish_from_the_snapshot() {
    let sample = Sample::new();
    let mut device = sample.current_device();
    let roles = BTreeMap::from([("targets".to_owned(), FileMeta::of(1, &sample.top_bytes()))]);
    let snapshot = online::sign_snapshot(2, now() + days(7), roles, None, &key(SNAPSHOT));
    let timestamp = online::sign_timestamp(2, now() + days(1), FileMeta::of(2, &snapshot), None, &key(TIMESTAMP));
    device.update_timestamp(&timestamp, now()).unwrap();
    let error = device.update_snapshot(&snapshot, now()).unwrap_err();
    assert_eq!(error, VerifyError::RemovedFromSnapshot { role: PRODUCT.into(), version: 2 });
}

#[test]
fn equivocation_the_same_timestamp_version_with_other_content_is_refused() {
    let sample = Sample::new();
    let mut device = sample.current_device();
    device.update_timestamp(&sample.timestamp_bytes(), now()).unwrap();
    let mut evil = sample.clone();
    evil.timestamp_expires = now() + days(2);
    let error = device.update_timestamp(&evil.timestamp_bytes(), now()).unwrap_err();
    assert_eq!(error, VerifyError::Equivocation { role: "timestamp".into(), version: 1 });
}

#[test]
fn freeze_attack_every_expired_document_is_refused() {
    let sample = Sample::new();
    let expired = |when| sample.refresh(&mut sample.device(), when).map_err(|error| role(&error).to_owned());
    assert_eq!(expired(now()), Ok(()));
    assert_eq!(expired(sample.timestamp_expires), Err("timestamp".into()), "the second of expiry is too late");
    assert_eq!(expired(sample.root.expires), Err("root".into()));

    let mut long = sample.clone();
    long.timestamp_expires = now() + days(1000);
    let expired =
        |sample: &Sample, when| sample.refresh(&mut sample.device(), when).map_err(|error| role(&error).to_owned());
    assert_eq!(expired(&long, now() + days(8)), Err("snapshot".into()));
    long.snapshot_expires = now() + days(1000);
    assert_eq!(expired(&long, now() + days(101)), Err(PRODUCT.into()));
    long.product.expires = now() + days(1000);
    assert_eq!(expired(&long, now() + days(301)), Err("targets".into()));
}

#[test]
fn freeze_attack_what_is_loaded_expires_too() {
    let sample = Sample::new();
    let device = sample.current_device();
    assert!(finds(&device, &path("2.4.1"), now()));
    let error = device.target(&path("2.4.1"), now() + days(2)).unwrap_err();
    assert_eq!(role(&error), "timestamp");
}

#[test]
fn mix_and_match_attack_documents_of_two_moments_do_not_combine() {
    let old = Sample::new();
    let mut new = old.next();
    new.product.version = 2;
    new.product.targets.remove(&path("2.4.0"));
    let mut device = old.device();
    device.update_timestamp(&new.timestamp_bytes(), now()).unwrap();
    let error = device.update_snapshot(&old.snapshot_bytes(), now()).unwrap_err();
    assert!(matches!(error, VerifyError::Hash { .. } | VerifyError::Length { .. }), "{error}");
    device.update_snapshot(&new.snapshot_bytes(), now()).unwrap();
    device.update_targets("targets", "root", &new.top_bytes(), now()).unwrap();
    let error = device.update_targets(PRODUCT, "targets", &old.product_bytes(), now()).unwrap_err();
    assert!(matches!(error, VerifyError::Length { .. }), "{error}");
}

/// Between a new timestamp and its snapshot the old set must not be used.
#[test]
fn mix_and_match_attack_an_outdated_snapshot_finds_nothing() {
    let sample = Sample::new();
    let mut device = sample.current_device();
    device.update_timestamp(&sample.next().timestamp_bytes(), now()).unwrap();
    let error = device.target(&path("2.4.1"), now()).unwrap_err();
    assert!(matches!(error, VerifyError::OutOfOrder { .. }), "{error}");
}

#[test]
fn endless_data_attack_sizes_are_limited() {
    let sample = Sample::new();
    let limits = Limits { timestamp_bytes: 100, ..limits() };
    let mut device = TrustedRepository::from_root(&sample.root_bytes(), &limits).unwrap();
    let error = device.update_timestamp(&sample.timestamp_bytes(), now()).unwrap_err();
    assert!(matches!(error, VerifyError::Json { ref role, .. } if role == "timestamp"), "{error}");
    let limits = Limits { root_bytes: 100, ..limits };
    assert!(matches!(TrustedRepository::from_root(&sample.root_bytes(), &limits), Err(VerifyError::Json { .. })));
}

#[test]
fn documents_are_taken_in_their_order_only() {
    let sample = Sample::new();
    let mut device = sample.device();
    let out_of_order = |result: Result<(), VerifyError>| matches!(result, Err(VerifyError::OutOfOrder { .. }));
    assert!(out_of_order(device.update_snapshot(&sample.snapshot_bytes(), now())));
    assert!(out_of_order(device.update_targets("targets", "root", &sample.top_bytes(), now())));
    device.update_timestamp(&sample.timestamp_bytes(), now()).unwrap();
    assert!(out_of_order(device.update_targets("targets", "root", &sample.top_bytes(), now())));
    device.update_snapshot(&sample.snapshot_bytes(), now()).unwrap();
    assert!(out_of_order(device.update_targets(PRODUCT, "targets", &sample.product_bytes(), now())));
}

#[test]
fn a_role_is_taken_from_its_parent_only() {
    let sample = Sample::new();
    let mut device = sample.current_device();
    let product = sample.product_bytes();
    for (role, parent, bytes) in
        [(PRODUCT, "root", &product), (PRODUCT, PRODUCT, &product), ("targets", "targets", &sample.top_bytes())]
    {
        let error = device.update_targets(role, parent, bytes, now()).unwrap_err();
        assert!(matches!(error, VerifyError::NotDelegated { .. }), "{role} from {parent}: {error}");
    }
    let error = device.update_targets("unknown", "targets", &product, now()).unwrap_err();
    assert_eq!(error, VerifyError::NotInSnapshot { role: "unknown".into() });
}

#[test]
fn root_rotation_needs_the_old_and_the_new_holders() {
    let mut next = image_root(2);
    let new = holders(51);
    for key in &new {
        next.keys.insert(key.public().keyid().to_owned(), key.public().clone());
    }
    next.roles.insert("root".into(), role_of(&new, 2));
    let signed_by = |keys: &[u8]| signed(next.to_json(), &keys.iter().map(|&number| key(number)).collect::<Vec<_>>());
    for keys in [&[1, 2][..], &[51, 52], &[1, 51], &[1, 2, 51], &[1, 51, 52]] {
        let mut device = Sample::new().device();
        let error = device.update_root(&signed_by(keys)).unwrap_err();
        assert!(matches!(error, VerifyError::Threshold { valid: 0..=1, .. }), "{keys:?}: {error}");
        assert_eq!(device.root_version(), 1);
    }
    let mut device = Sample::new().device();
    let update = device.update_root(&signed_by(&[1, 2, 51, 52])).unwrap();
    assert_eq!((update.version, update.rotated.into_iter().collect::<Vec<_>>()), (2, vec!["root".to_owned()]));
}

#[test]
fn root_versions_go_up_by_one() {
    let mut device = Sample::new().device();
    let at = |version| signed(image_root(version).to_json(), &holders(ROOT)[..2]);
    let error = device.update_root(&at(3)).unwrap_err();
    assert_eq!(error, VerifyError::Version { role: "root".into(), expected: 2, found: 3 });
    let error = device.update_root(&at(1)).unwrap_err();
    assert_eq!(error, VerifyError::Version { role: "root".into(), expected: 2, found: 1 });
    device.update_root(&at(2)).unwrap();
    device.update_root(&at(3)).unwrap();
    let error = device.update_root(&at(1)).unwrap_err();
    assert_eq!(error, VerifyError::Rollback { role: "root".into(), trusted: 3, found: 1 });
}

#[test]
fn root_rotations_are_limited() {
    let limits = Limits { root_rotations: 2, ..limits() };
    let at = |version| signed(image_root(version).to_json(), &holders(ROOT)[..2]);
    let mut device = TrustedRepository::from_root(&at(1), &limits).unwrap();
    device.update_root(&at(2)).unwrap();
    device.update_root(&at(3)).unwrap();
    assert_eq!(device.update_root(&at(4)).unwrap_err(), VerifyError::TooManyRotations { limit: 2 });
}

#[test]
fn an_expired_root_on_the_way_is_fine_an_expired_last_root_is_not() {
    let mut old = image_root(1);
    old.expires = now() - days(400);
    let mut device = TrustedRepository::from_root(&signed(old.to_json(), &holders(ROOT)[..2]), &limits()).unwrap();
    assert!(matches!(device.check_root_expiry(now()), Err(VerifyError::Expired { .. })));
    let error = device.update_timestamp(&Sample::new().timestamp_bytes(), now()).unwrap_err();
    assert_eq!(role(&error), "root");
    device.update_root(&signed(image_root(2).to_json(), &holders(ROOT)[..2])).unwrap();
    device.check_root_expiry(now()).unwrap();
}

/// A stolen online key signs the highest version there is; after its rotation the repository works again.
#[test]
fn fast_forward_attack_rotating_the_online_keys_recovers() {
    let sample = Sample::new();
    let mut device = sample.current_device();
    let mut evil = sample.clone();
    evil.timestamp_version = (1 << 53) - 1;
    evil.snapshot_version = (1 << 53) - 1;
    device.update_timestamp(&evil.timestamp_bytes(), now()).unwrap();
    device.update_snapshot(&evil.snapshot_bytes(), now()).unwrap();
    assert!(matches!(
        device.update_timestamp(&sample.next().timestamp_bytes(), now()),
        Err(VerifyError::Rollback { .. })
    ));

    let mut root = image_root(2);
    let new_timestamp = key(112);
    root.keys.insert(new_timestamp.public().keyid().to_owned(), new_timestamp.public().clone());
    root.roles.insert("timestamp".into(), role_of(&[key(112)], 1));
    let update = device.update_root(&signed(root.to_json(), &holders(ROOT)[..2])).unwrap();
    assert!(update.rotated.contains("timestamp"));
    assert_eq!((device.timestamp_version(), device.snapshot_version()), (None, None));
    let error = device.update_timestamp(&sample.next().timestamp_bytes(), now()).unwrap_err();
    assert!(matches!(error, VerifyError::Threshold { valid: 0, .. }), "the stolen key is worthless now: {error}");
    let next = sample.next();
    let meta = FileMeta::of(2, &next.snapshot_bytes());
    let timestamp = online::sign_timestamp(2, now() + days(1), meta, Some(REPO_ID.into()), &new_timestamp);
    device.update_timestamp(&timestamp, now()).unwrap();
    device.update_snapshot(&next.snapshot_bytes(), now()).unwrap();
    assert!(finds(&device, &path("2.4.1"), now()));
}

#[test]
fn a_revoked_product_key_signs_nothing_any_more() {
    let sample = Sample::new();
    let mut device = sample.current_device();
    let mut next = sample.next();
    let new_keys = holders(61);
    next.top = top(2, vec![(delegation(PRODUCT, &new_keys, "acme-cam/*/*"), new_keys)]);
    device.update_timestamp(&next.timestamp_bytes(), now()).unwrap();
    device.update_snapshot(&next.snapshot_bytes(), now()).unwrap();
    assert!(device.targets(PRODUCT).is_some());
    device.update_targets("targets", "root", &next.top_bytes(), now()).unwrap();
    assert!(device.targets(PRODUCT).is_none(), "the document of the revoked keys is forgotten");
    let error = device.update_targets(PRODUCT, "targets", &next.product_bytes(), now()).unwrap_err();
    assert!(matches!(error, VerifyError::Threshold { valid: 0, .. }), "{error}");
}

/// Two roles may speak for a path: the first in order wins, and a terminating one ends the search.
#[test]
fn delegations_are_searched_in_order_and_terminating_ends_the_search() {
    let (first_keys, second_keys) = (holders(PRODUCT_ROLE), holders(71));
    for (terminating, expected) in [(true, false), (false, true)] {
        let mut first = delegation("first", &first_keys, "acme-cam/*/*");
        first.terminating = terminating;
        let second = delegation("second", &second_keys, "acme-cam/*/*");
        let top = top(1, vec![(first, holders(PRODUCT_ROLE)), (second, holders(71))]);
        let empty = sluice_signer::TargetsMetadata::new(1, now() + days(9), None);
        let full = Sample::new().product;
        let documents = [
            ("targets", "root", signed(top.to_json(), &holders(TARGETS))),
            ("first", "targets", signed(empty.to_json(), &first_keys)),
            ("second", "targets", signed(full.to_json(), &second_keys)),
        ];
        let device = load(&documents);
        assert_eq!(finds(&device, &path("2.4.1"), now()), expected, "terminating: {terminating}");
    }
}

/// A device that loaded these targets documents (role, parent, bytes).
fn load(documents: &[(&str, &str, Vec<u8>)]) -> TrustedRepository {
    let mut device = Sample::new().device();
    let roles = documents.iter().map(|(role, _, bytes)| ((*role).to_owned(), FileMeta::of(1, bytes))).collect();
    let snapshot = online::sign_snapshot(1, now() + days(7), roles, None, &key(SNAPSHOT));
    let timestamp = online::sign_timestamp(1, now() + days(1), FileMeta::of(1, &snapshot), None, &key(TIMESTAMP));
    device.update_timestamp(&timestamp, now()).unwrap();
    device.update_snapshot(&snapshot, now()).unwrap();
    for (role, parent, bytes) in documents {
        device.update_targets(role, parent, bytes, now()).unwrap();
    }
    device
}

#[test]
fn a_role_speaks_for_its_own_paths_only() {
    let keys = holders(PRODUCT_ROLE);
    let top = top(1, vec![(delegation("phone", &keys, "acme-phone/*/*"), holders(PRODUCT_ROLE))]);
    let device = load(&[
        ("targets", "root", signed(top.to_json(), &holders(TARGETS))),
        ("phone", "targets", signed(Sample::new().product.to_json(), &keys)),
    ]);
    assert_eq!(device.target(&path("2.4.1"), now()).unwrap(), Lookup::NotFound);
}

#[test]
fn a_role_that_is_not_published_yet_hides_nothing_else() {
    let keys = holders(PRODUCT_ROLE);
    let mut embargo = delegation("k7x2", &holders(71), "acme-cam/*/*");
    embargo.terminating = false;
    let product = delegation(PRODUCT, &keys, "acme-cam/*/*");
    let top = top(1, vec![(embargo, holders(71)), (product, holders(PRODUCT_ROLE))]);
    let device = load(&[
        ("targets", "root", signed(top.to_json(), &holders(TARGETS))),
        (PRODUCT, "targets", signed(Sample::new().product.to_json(), &keys)),
    ]);
    assert!(finds(&device, &path("2.4.1"), now()));
}

#[test]
fn one_bad_release_entry_does_not_hide_the_others() {
    let mut sample = Sample::new();
    let mut bad = target(&custom("2.4.2", 20402));
    bad.custom = Some(sluice_signer::Json::object([("schema", 9u64.into())]));
    bad.path = path("2.4.2");
    sample.product.targets.insert(path("2.4.2"), bad);
    let device = sample.current_device();
    assert!(finds(&device, &path("2.4.1"), now()));
    let Lookup::Found(found) = device.target(&path("2.4.2"), now()).unwrap() else { panic!() };
    let error = found.target.release(PRODUCT, &limits()).unwrap_err();
    assert_eq!(error.to_string(), "acme-cam: field targets.acme-cam/2.4.2/main.bin.custom.schema must be 1, found 9");
}

/// Signed once: a property test checks hundreds of cases.
static DOCUMENTS: LazyLock<[Vec<u8>; 5]> = LazyLock::new(|| {
    let sample = Sample::new();
    [sample.root_bytes(), sample.timestamp_bytes(), sample.snapshot_bytes(), sample.top_bytes(), sample.product_bytes()]
});
static CURRENT: LazyLock<TrustedRepository> = LazyLock::new(|| Sample::new().current_device());

proptest! {
    /// Every byte of every document is under a signature or a hash.
    #[test]
    fn any_flipped_bit_is_refused(which in 0usize..5, position in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut documents = DOCUMENTS.clone();
        let at = position.index(documents[which].len());
        documents[which][at] ^= 1 << bit;
        let [root, timestamp, snapshot, top, product] = documents;
        let result = TrustedRepository::from_root(&root, &limits()).and_then(|mut device| {
            device.update_timestamp(&timestamp, now())?;
            device.update_snapshot(&snapshot, now())?;
            device.update_targets("targets", "root", &top, now())?;
            device.update_targets(PRODUCT, "targets", &product, now())
        });
        prop_assert!(result.is_err());
    }

    #[test]
    fn arbitrary_bytes_change_nothing(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let mut device = CURRENT.clone();
        let before = device.state();
        prop_assert!(TrustedRepository::from_root(&bytes, &limits()).is_err());
        prop_assert!(device.update_root(&bytes).is_err());
        prop_assert!(device.update_timestamp(&bytes, now()).is_err());
        prop_assert!(device.update_snapshot(&bytes, now()).is_err());
        prop_assert!(device.update_targets("targets", "root", &bytes, now()).is_err());
        prop_assert_eq!(device.state(), before);
    }
}

/// Both `first` and `second` delegate to `shared`, each for its own folder and to its own holders.
#[test]
fn each_role_that_delegates_wants_its_own_signatures() {
    let (first_keys, second_keys, shared_keys, other_keys) =
        (holders(PRODUCT_ROLE), holders(71), holders(81), holders(91));
    let opened = |name: &str, keys: &[_], pattern: &str| {
        let mut delegation = delegation(name, keys, pattern);
        delegation.terminating = false;
        delegation
    };
    let parents = [("first", &first_keys, "a/*", &shared_keys), ("second", &second_keys, "b/*", &other_keys)];
    let top = top(
        1,
        parents.iter().map(|(name, keys, pattern, _)| (opened(name, keys, pattern), holders(PRODUCT_ROLE))).collect(),
    );
    let mut top = top;
    for key in &second_keys {
        top.delegation_keys.insert(key.public().keyid().to_owned(), key.public().clone());
    }
    let middle = |pattern: &str, keys: &[sluice_signer::SigningKey]| {
        let mut middle = sluice_signer::TargetsMetadata::new(1, now() + days(9), None);
        middle.delegations.push(opened("shared", keys, pattern));
        for key in keys {
            middle.delegation_keys.insert(key.public().keyid().to_owned(), key.public().clone());
        }
        middle
    };
    let mut shared = sluice_signer::TargetsMetadata::new(1, now() + days(9), None);
    for path in ["a/x", "b/x"] {
        let mut target = target(&custom("2.4.1", 20401));
        target.path = path.to_owned();
        shared.targets.insert(path.to_owned(), target);
    }
    let documents = |signers: &[_]| {
        load(&[
            ("targets", "root", signed(top.to_json(), &holders(TARGETS))),
            ("first", "targets", signed(middle("a/*", &shared_keys).to_json(), &first_keys)),
            ("second", "targets", signed(middle("b/*", &other_keys).to_json(), &second_keys)),
            ("shared", "first", signed(shared.to_json(), signers)),
        ])
    };
    let by_one = documents(&shared_keys);
    assert!(finds(&by_one, "a/x", now()));
    let error = by_one.target("b/x", now()).unwrap_err();
    assert_eq!(error.to_string(), "shared: 0 of 2 required signatures by keys of second");
    let both: Vec<_> = shared_keys.into_iter().chain(other_keys).collect();
    let by_both = load(&[
        ("targets", "root", signed(top.to_json(), &holders(TARGETS))),
        ("first", "targets", signed(middle("a/*", &holders(81)).to_json(), &first_keys)),
        ("second", "targets", signed(middle("b/*", &holders(91)).to_json(), &second_keys)),
        ("shared", "first", signed(shared.to_json(), &both)),
    ]);
    assert!(finds(&by_both, "a/x", now()) && finds(&by_both, "b/x", now()));
}

#[test]
fn a_key_of_an_unknown_kind_counts_for_nothing_and_harms_nothing() {
    let sample = Sample::new();
    let mut root = sample.root.to_json();
    let unknown = r#"{"keytype":"rsa","scheme":"rsassa-pss-sha256","keyval":{"public":"-"}}"#;
    let unknown = sluice_signer::Json::parse(unknown.as_bytes(), 1_000).unwrap();
    let sluice_signer::Json::Object(members) = &mut root else { panic!() };
    let Some(sluice_signer::Json::Object(keys)) = members.get_mut("keys") else { panic!() };
    keys.insert("ab".repeat(32), unknown);
    let device = TrustedRepository::from_root(&signed(root, &holders(ROOT)), &limits()).unwrap();
    assert_eq!(device.root().keys, sample.root.keys);
}

#[test]
fn a_trusted_set_is_current_when_all_of_it_is_there_and_in_date() {
    let sample = Sample::new();
    let mut device = sample.device();
    assert!(matches!(device.check_current(now()), Err(VerifyError::OutOfOrder { .. })));
    sample.refresh(&mut device, now()).unwrap();
    device.check_current(now()).unwrap();
    let late = device.check_current(now() + days(2)).unwrap_err();
    assert_eq!(role(&late), "timestamp");
    // Documents kept in files come back; signatures of others do not.
    let mut again = sample.device();
    again.restore("timestamp", &sample.timestamp_bytes()).unwrap();
    again.restore("snapshot", &sample.snapshot_bytes()).unwrap();
    again.restore("targets", &sample.top_bytes()).unwrap();
    again.check_current(now()).unwrap();
    assert!(again.restore("snapshot", &sample.timestamp_bytes()).is_err());
    again.check_current(now()).unwrap();
}
