//! The order in which a client asks, and what it may do without.

use crate::sample::{
    DIRECTOR, DIRECTOR_ROOT, REPO_ID, ROOT, SNAPSHOT, Sample, TIMESTAMP, days, director_root, holders, image_root, key,
    limits, now, role_of, signed,
};
use sluice_signer::{FileMeta, Refresh, TargetsMetadata, TrustedRepository, VerifyError, online};
use std::collections::BTreeMap;

type Files = BTreeMap<String, Vec<u8>>;

fn served(sample: &Sample) -> Files {
    let version = |role: &str, version: u64| format!("{version}.{role}.json");
    BTreeMap::from([
        ("timestamp.json".to_owned(), sample.timestamp_bytes()),
        (version("snapshot", sample.snapshot_version), sample.snapshot_bytes()),
        (version("targets", sample.top.version), sample.top_bytes()),
    ])
}

/// Refreshes from these files; the names asked for.
fn run(device: &mut TrustedRepository, mut refresh: Refresh, files: &Files) -> Result<Vec<String>, VerifyError> {
    let mut asked = Vec::new();
    while let Some(ask) = refresh.next(device, now())? {
        let file = files.get(&ask.file);
        asked.push(ask.file);
        refresh.give(device, file.map(Vec::as_slice), now())?;
    }
    Ok(asked)
}

#[test]
fn a_refresh_asks_in_order_and_then_only_for_what_could_be_newer() {
    let sample = Sample::new();
    let (mut device, files) = (sample.device(), served(&sample));
    let all = ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"];
    assert_eq!(run(&mut device, Refresh::new(), &files).unwrap(), all);
    assert_eq!(run(&mut device, Refresh::new(), &files).unwrap(), ["2.root.json", "timestamp.json"]);
    let next = sample.next();
    let asked = run(&mut device, Refresh::new(), &served(&next)).unwrap();
    assert_eq!(asked, ["2.root.json", "timestamp.json", "2.snapshot.json"], "the targets are the same");
}

#[test]
fn what_an_image_repository_must_have_is_missed() {
    let sample = Sample::new();
    for (file, role) in
        [("timestamp.json", "timestamp"), ("1.snapshot.json", "snapshot"), ("1.targets.json", "targets")]
    {
        let mut files = served(&sample);
        files.remove(file);
        let error = run(&mut sample.device(), Refresh::new(), &files).unwrap_err();
        assert_eq!(error, VerifyError::Missing { role: role.to_owned(), file: file.to_owned() });
    }
}

#[test]
fn a_new_root_says_which_kept_documents_are_void_before_it_is_kept() {
    for (role, forgotten) in [
        ("timestamp", &["timestamp", "snapshot"][..]),
        ("snapshot", &["timestamp", "snapshot"]),
        ("targets", &["targets"]),
    ] {
        let mut root = image_root(2);
        let other = key(112);
        root.keys.insert(other.public().keyid().to_owned(), other.public().clone());
        root.roles.insert(role.to_owned(), role_of(&[other], 1));
        let mut device = Sample::new().current_device();
        let mut refresh = Refresh::new();
        refresh.next(&device, now()).unwrap();
        let given = refresh.give(&mut device, Some(&signed(root.to_json(), &holders(ROOT))), now()).unwrap();
        assert_eq!((given.trusted, given.forgotten.as_slice()), (true, forgotten), "{role}");
    }
}

#[test]
fn a_refused_document_is_asked_for_again_and_another_timestamp_may_be_passed_over() {
    let sample = Sample::new();
    let mut device = sample.current_device();
    let mut refresh = Refresh::new();
    refresh.give(&mut device, None, now()).unwrap();
    let same = online::sign_timestamp(1, now() + days(1), FileMeta::of(9, b""), Some(REPO_ID.into()), &key(TIMESTAMP));
    assert!(matches!(refresh.give(&mut device, Some(&same), now()), Err(VerifyError::Equivocation { .. })));
    assert_eq!(refresh.next(&device, now()).unwrap().unwrap().role, "timestamp");
    refresh.keep_timestamp();
    assert_eq!(refresh.next(&device, now()).unwrap(), None);
}

fn director() -> TrustedRepository {
    let root = signed(director_root(1).to_json(), &holders(DIRECTOR_ROOT));
    TrustedRepository::from_root(&root, &limits()).unwrap()
}

fn director_targets(version: u64) -> TargetsMetadata {
    TargetsMetadata::new(version, now() + days(1), None)
}

fn lone(targets: &TargetsMetadata) -> Files {
    BTreeMap::from([("targets.json".to_owned(), signed(targets.to_json(), &[key(DIRECTOR)]))])
}

#[test]
fn a_director_may_have_root_and_targets_only() {
    let mut device = director();
    let asked = run(&mut device, Refresh::of_director(), &lone(&director_targets(5))).unwrap();
    assert_eq!(asked, ["2.root.json", "timestamp.json", "targets.json"]);
    let error = run(&mut device, Refresh::of_director(), &lone(&director_targets(4))).unwrap_err();
    assert_eq!(error, VerifyError::Rollback { role: "targets".into(), trusted: 5, found: 4 });
    let mut other = director_targets(5);
    other.expires = now() + days(2);
    let error = run(&mut device, Refresh::of_director(), &lone(&other)).unwrap_err();
    assert_eq!(error, VerifyError::Equivocation { role: "targets".into(), version: 5 });
    let mut expired = director_targets(6);
    expired.expires = now();
    let error = run(&mut device, Refresh::of_director(), &lone(&expired)).unwrap_err();
    assert!(matches!(error, VerifyError::Expired { .. }), "{error}");
    let mut image = Sample::new().device();
    let error = run(&mut image, Refresh::new(), &lone(&director_targets(5))).unwrap_err();
    assert!(matches!(error, VerifyError::Missing { .. }), "an image repository may not: {error}");
}

/// Without this a thief of the network could take the snapshot away and with it the protection that it gives.
#[test]
fn a_director_that_had_a_timestamp_must_have_one_for_ever() {
    let targets = signed(director_targets(1).to_json(), &[key(DIRECTOR)]);
    let roles = BTreeMap::from([("targets".to_owned(), FileMeta::of(1, &targets))]);
    let snapshot = online::sign_snapshot(1, now() + days(1), roles, None, &key(SNAPSHOT));
    let timestamp = online::sign_timestamp(1, now() + days(1), FileMeta::of(1, &snapshot), None, &key(TIMESTAMP));
    let mut files: Files = [("timestamp.json", timestamp), ("1.snapshot.json", snapshot), ("1.targets.json", targets)]
        .map(|(name, bytes)| (name.to_owned(), bytes))
        .into();
    let mut device = director();
    assert_eq!(run(&mut device, Refresh::of_director(), &files).unwrap().len(), 4);
    files.remove("timestamp.json");
    files.extend(lone(&director_targets(2)));
    let error = run(&mut device, Refresh::of_director(), &files).unwrap_err();
    assert_eq!(error, VerifyError::Missing { role: "timestamp".into(), file: "timestamp.json".into() });
}
