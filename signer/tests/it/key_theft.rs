//! What a thief of each key can and cannot do, and how the rightful holders end it. `docs/attacks.md` tells it in words.

use crate::sample::*;
use jiff::Timestamp;
use sluice_signer::roles::FileMeta;
use sluice_signer::{
    DirectorExpect, DirectorTrust, Found, InstallPolicy, Lookup, SigningKey, TargetsMetadata, TrustedRepository,
    VerifyError, agree, online,
};
use std::collections::{BTreeMap, BTreeSet};

fn threshold(error: &VerifyError) -> bool {
    matches!(error, VerifyError::Threshold { .. })
}

/// Targets of a thief: an image that no rightful holder signed.
fn evil_product() -> TargetsMetadata {
    let mut product = TargetsMetadata::new(2, now() + days(9), None);
    let mut target = target(&custom("6.6.6", 60606));
    target.path = path("6.6.6");
    product.targets.insert(path("6.6.6"), target);
    product
}

/// Snapshot and timestamp of the next version over these documents, by these keys.
fn online_by(
    keys: (&SigningKey, &SigningKey),
    documents: &[(&str, u64, &[u8])],
    expires: Timestamp,
) -> (Vec<u8>, Vec<u8>) {
    let roles = documents.iter().map(|(role, version, bytes)| ((*role).to_owned(), FileMeta::of(*version, bytes)));
    let snapshot = online::sign_snapshot(2, expires, roles.collect(), None, keys.0);
    let timestamp = online::sign_timestamp(2, expires, FileMeta::of(2, &snapshot), None, keys.1);
    (snapshot, timestamp)
}

fn take_online(device: &mut TrustedRepository, (snapshot, timestamp): &(Vec<u8>, Vec<u8>)) -> Result<(), VerifyError> {
    device.update_timestamp(timestamp, now())?;
    device.update_snapshot(snapshot, now())
}

/// The next root of the image repository, with other keys for some of its roles.
fn root_with(changes: &[(&str, Vec<SigningKey>, u32)], signers: &[SigningKey]) -> Vec<u8> {
    let mut root = image_root(2);
    for (role, keys, threshold) in changes {
        for key in keys {
            root.keys.insert(key.public().keyid().to_owned(), key.public().clone());
        }
        root.roles.insert((*role).to_owned(), role_of(keys, *threshold));
    }
    signed(root.to_json(), signers)
}

#[test]
fn a_thief_of_one_root_key_can_do_nothing() {
    let mut device = Sample::new().current_device();
    let stolen = [key(ROOT)];
    assert!(threshold(
        &device.update_root(&root_with(&[("root", vec![key(66)], 1)], &[key(ROOT), key(66)])).unwrap_err()
    ));
    assert!(threshold(&device.update_root(&root_with(&[("targets", vec![key(66)], 1)], &stolen)).unwrap_err()));
    // The other two replace it, without it.
    let others = holders(ROOT).split_off(1);
    let next = root_with(&[("root", vec![key(ROOT + 1), key(ROOT + 2), key(67)], 2)], &others);
    device.update_root(&next).unwrap();
    assert!(device.root().role("root").unwrap().keyids.iter().all(|keyid| keyid != stolen[0].public().keyid()));
}

/// Nothing above the root can take it back: that is why its keys lie apart, and why the director has a root of other keys.
#[test]
fn a_thief_of_the_roots_threshold_owns_the_image_repository_and_still_installs_nothing() {
    let mut device = Sample::new().current_device();
    device.update_root(&root_with(&[("root", vec![key(66)], 1)], &[key(ROOT), key(ROOT + 1), key(66)])).unwrap();
    assert!(threshold(&device.update_root(&signed(image_root(3).to_json(), &holders(ROOT))).unwrap_err()));
    let director = director();
    for thief in [key(66), key(ROOT)] {
        let offer = offer("2.4.1").sign(&thief, &limits()).unwrap();
        assert!(threshold(&director.verify_director(&offer, &expect()).unwrap_err()));
    }
}

#[test]
fn a_thief_of_the_targets_keys_needs_the_online_keys_and_ends_with_the_next_root() {
    let sample = Sample::new();
    let mut device = sample.current_device();
    let thief = holders(66);
    let evil_top = top(2, vec![(delegation(PRODUCT, &thief, "acme-cam/*/*"), holders(66))]);
    let evil_top = signed(evil_top.to_json(), &holders(TARGETS)[..2]);
    // Alone: the snapshot names another document.
    let error = device.update_targets("targets", "root", &evil_top, now()).unwrap_err();
    assert!(matches!(error, VerifyError::Length { .. } | VerifyError::Hash { .. }), "{error}");
    // With the server's keys: devices would find the thief's image.
    let evil = signed(evil_product().to_json(), &thief);
    let online = online_by(
        (&key(SNAPSHOT), &key(TIMESTAMP)),
        &[("targets", 2, &evil_top), (PRODUCT, 2, &evil)],
        now() + days(1),
    );
    take_online(&mut device, &online).unwrap();
    device.update_targets("targets", "root", &evil_top, now()).unwrap();
    device.update_targets(PRODUCT, "targets", &evil, now()).unwrap();
    assert!(finds(&device, &path("6.6.6"), now()));
    // The root names other leads and other online keys: nothing of the thief's is left, and nothing of it is taken again.
    let changes = [("targets", holders(71), 2), ("snapshot", vec![key(111)], 1), ("timestamp", vec![key(112)], 1)];
    device.update_root(&root_with(&changes, &holders(ROOT))).unwrap();
    assert!(device.targets("targets").is_none() && device.targets(PRODUCT).is_none());
    let good_top = sample.top.to_json();
    let (good_top, good) = (signed(good_top, &holders(71)), sample.product_bytes());
    let online = online_by((&key(111), &key(112)), &[("targets", 1, &good_top), (PRODUCT, 1, &good)], now() + days(1));
    take_online(&mut device, &online).unwrap();
    assert!(device.update_targets("targets", "root", &evil_top, now()).is_err());
    device.update_targets("targets", "root", &good_top, now()).unwrap();
    device.update_targets(PRODUCT, "targets", &good, now()).unwrap();
    assert!(finds(&device, &path("2.4.1"), now()) && !finds(&device, &path("6.6.6"), now()));
}

/// Two product teams: the thief of one's keys cannot speak for the other's devices.
#[test]
fn a_thief_of_a_product_roles_keys_speaks_for_that_product_only() {
    let (mine, other) = (holders(PRODUCT_ROLE), holders(71));
    let top = top(
        1,
        vec![
            (delegation("acme-phone", &other, "acme-phone/*/*"), holders(71)),
            (delegation(PRODUCT, &mine, "acme-cam/*/*"), holders(PRODUCT_ROLE)),
        ],
    );
    let mut evil = evil_product();
    evil.version = 1;
    let mut phone = target(&custom("6.6.6", 60606));
    phone.path = "acme-phone/6.6.6/main.bin".to_owned();
    evil.targets.insert(phone.path.clone(), phone);
    let (top, evil) = (signed(top.to_json(), &holders(TARGETS)), signed(evil.to_json(), &mine));
    let honest = signed(TargetsMetadata::new(1, now() + days(9), None).to_json(), &other);
    let documents = [("targets", 1, top.as_slice()), (PRODUCT, 1, &evil), ("acme-phone", 1, &honest)];
    let online = online_by((&key(SNAPSHOT), &key(TIMESTAMP)), &documents, now() + days(1));
    let mut device = Sample::new().device();
    take_online(&mut device, &online).unwrap();
    device.update_targets("targets", "root", &top, now()).unwrap();
    device.update_targets(PRODUCT, "targets", &evil, now()).unwrap();
    device.update_targets("acme-phone", "targets", &honest, now()).unwrap();
    assert!(finds(&device, &path("6.6.6"), now()), "its own product it can speak for");
    assert_eq!(device.target("acme-phone/6.6.6/main.bin", now()).unwrap(), Lookup::NotFound);
}

#[test]
fn a_thief_of_the_snapshot_key_needs_the_timestamp_key() {
    let sample = Sample::new();
    let mut device = sample.current_device();
    let top = sample.top_bytes();
    let (snapshot, _) = online_by((&key(SNAPSHOT), &key(SNAPSHOT)), &[("targets", 1, &top)], now() + days(9));
    let error = device.update_snapshot(&snapshot, now()).unwrap_err();
    assert!(matches!(error, VerifyError::Length { .. } | VerifyError::Hash { .. }), "{error}");
    let timestamp = online::sign_timestamp(2, now() + days(9), FileMeta::of(2, &snapshot), None, &key(SNAPSHOT));
    assert!(threshold(&device.update_timestamp(&timestamp, now()).unwrap_err()));
}

/// It can hold devices where they are until the root names another key, and can make nothing.
#[test]
fn a_thief_of_the_timestamp_key_can_freeze_and_nothing_else() {
    let sample = Sample::new();
    let mut device = sample.current_device();
    let thief = key(TIMESTAMP);
    let frozen = online::sign_timestamp(2, now() + days(300), FileMeta::of(1, &sample.snapshot_bytes()), None, &thief);
    device.update_timestamp(&frozen, now()).unwrap();
    let late = now() + days(8);
    let error = device.check_current(late).unwrap_err();
    assert!(matches!(error, VerifyError::Expired { .. }), "no longer than the snapshot lives: {error}");
    let (snapshot, _) = online_by((&thief, &thief), &[("targets", 1, &sample.top_bytes())], now() + days(9));
    let own = online::sign_timestamp(3, now() + days(1), FileMeta::of(2, &snapshot), None, &thief);
    device.update_timestamp(&own, now()).unwrap();
    assert!(threshold(&device.update_snapshot(&snapshot, now()).unwrap_err()), "the snapshot has a key of its own");
    device.update_root(&root_with(&[("timestamp", vec![key(112)], 1)], &holders(ROOT))).unwrap();
    assert_eq!(device.timestamp_version(), None);
    assert!(threshold(&device.update_timestamp(&own, now()).unwrap_err()));
}

#[test]
fn a_thief_of_both_online_keys_makes_no_image_and_brings_no_old_one_back() {
    let sample = Sample::new();
    let mut device = sample.current_device();
    let mut newer = sample.next();
    newer.product.version = 2;
    newer.product.targets.remove(&path("2.4.0"));
    newer.refresh(&mut device, now()).unwrap();
    let keys = (&key(SNAPSHOT), &key(TIMESTAMP));
    let (top, old, evil) =
        (sample.top_bytes(), sample.product_bytes(), signed(evil_product().to_json(), &[key(SNAPSHOT)]));
    let at = |version: u64, product: (u64, &[u8])| {
        let roles = [("targets", FileMeta::of(1, &top)), (PRODUCT, FileMeta::of(product.0, product.1))]
            .map(|(role, meta)| (role.to_owned(), meta));
        let snapshot = online::sign_snapshot(version, now() + days(1), BTreeMap::from(roles), None, keys.0);
        let timestamp =
            online::sign_timestamp(version, now() + days(1), FileMeta::of(version, &snapshot), None, keys.1);
        (snapshot, timestamp)
    };
    let error = take_online(&mut device.clone(), &at(3, (1, &old))).unwrap_err();
    assert!(matches!(error, VerifyError::Rollback { .. }), "{error}");
    take_online(&mut device, &at(3, (2, &evil))).unwrap();
    assert!(threshold(&device.update_targets(PRODUCT, "targets", &evil, now()).unwrap_err()));
    assert!(!finds(&device, &path("6.6.6"), now()));
}

fn director() -> DirectorTrust {
    DirectorTrust::from_root(&signed(director_root(1).to_json(), &holders(DIRECTOR_ROOT)[..2]), &limits()).unwrap()
}

fn expect() -> DirectorExpect<'static> {
    DirectorExpect { device_id: "cam-0001", nonce: Some("6e6f6e6365"), now: now(), last_version: 0 }
}

fn policy() -> InstallPolicy {
    InstallPolicy {
        product: PRODUCT.into(),
        component: "main".into(),
        hw_id: "cam-r3".into(),
        security_counter_floor: 7,
        channels: BTreeSet::from(["stable".to_owned()]),
        installed: None,
        known_orders: BTreeMap::new(),
    }
}

/// It can choose among what offline keys signed for this hardware and not below the floor, and can withhold.
#[test]
fn a_thief_of_the_director_key_can_choose_and_withhold_and_make_nothing() {
    let device = Sample::new().current_device();
    let mut trust = director();
    let by_thief = |change: fn(&mut sluice_signer::DirectorTarget)| {
        let mut document = offer("2.4.0");
        let mut target = document.targets.pop_first().unwrap().1;
        change(&mut target);
        document.targets.insert(target.path.clone(), target);
        document.sign(&key(DIRECTOR), &limits()).unwrap()
    };
    let decide = |bytes: &[u8], floor: u64| {
        let answer = director().verify_director(bytes, &expect()).unwrap();
        let target = answer.document.targets.into_values().next().unwrap();
        let found: Found = match device.target(&target.path, now()).unwrap() {
            Lookup::Found(found) => *found,
            _ => return Err("not in the image repository"),
        };
        let policy = InstallPolicy { security_counter_floor: floor, ..policy() };
        agree(&target, &found, &policy, &limits()).map(drop).map_err(|error| error.rule())
    };
    assert_eq!(decide(&by_thief(|_| ()), 7), Ok(()), "an older release that is still signed");
    assert_eq!(decide(&by_thief(|_| ()), 8), Err("security_counter"), "not below the floor");
    assert_eq!(decide(&by_thief(|target| target.sha256[0] ^= 1), 7), Err("hash"));
    assert_eq!(decide(&by_thief(|target| target.length += 1), 7), Err("length"));
    assert_eq!(decide(&by_thief(|target| target.path = path("6.6.6")), 7), Err("not in the image repository"));
    // The next director root names another key.
    let mut next = director_root(2);
    let new = key(113);
    next.keys.insert(new.public().keyid().to_owned(), new.public().clone());
    next.roles.insert("targets".into(), role_of(std::slice::from_ref(&new), 1));
    let update = trust.update_root(&signed(next.to_json(), &holders(DIRECTOR_ROOT)[..2])).unwrap();
    assert!(update.rotated.contains("targets"), "so that the floors it may have set are void");
    assert!(threshold(&trust.verify_director(&by_thief(|_| ()), &expect()).unwrap_err()));
    trust.verify_director(&offer("2.4.1").sign(&new, &limits()).unwrap(), &expect()).unwrap();
}

/// It signs cover, which is commerce and not safety: for documents that bring software it is no key.
#[test]
fn a_thief_of_the_entitlement_key_signs_no_document_that_brings_software() {
    let thief = key(ENTITLEMENT);
    assert!(threshold(
        &director().verify_director(&offer("2.4.1").sign(&thief, &limits()).unwrap(), &expect()).unwrap_err()
    ));
    let mut device = Sample::new().current_device();
    let thieves = [key(ENTITLEMENT)];
    assert!(threshold(&device.update_root(&signed(image_root(2).to_json(), &thieves)).unwrap_err()));
    let evil = signed(evil_product().to_json(), &thieves);
    let (snapshot, timestamp) = online_by((&thief, &thief), &[("targets", 1, &evil)], now() + days(1));
    assert!(threshold(&device.update_timestamp(&timestamp, now()).unwrap_err()));
    assert!(device.update_snapshot(&snapshot, now()).is_err());
    // The next director root names another one, and nothing else changes for devices.
    let mut next = director_root(2);
    let new = key(114);
    next.keys.insert(new.public().keyid().to_owned(), new.public().clone());
    next.entitlement = Some(role_of(std::slice::from_ref(&new), 1));
    let mut trust = director();
    assert!(trust.update_root(&signed(next.to_json(), &holders(DIRECTOR_ROOT)[..2])).unwrap().rotated.is_empty());
    assert_eq!(trust.root().entitlement_keys(), [new.public()]);
}
