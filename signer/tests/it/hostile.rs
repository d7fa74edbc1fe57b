//! Repositories that are built to cost time and memory: each is refused by a limit that has a name, before its size is paid for.

use crate::sample::*;
use sluice_signer::roles::FileMeta;
use sluice_signer::{
    Delegation, Envelope, Json, JsonError, Lookup, Paths, SigningKey, TargetsMetadata, TrustedRepository, VerifyError,
    online,
};
use std::collections::BTreeMap;

const WANTED: &str = "a/b/c";

fn delegating(to: &[String], signers: &SigningKey) -> TargetsMetadata {
    let mut document = TargetsMetadata::new(1, now() + days(9), None);
    document.delegation_keys.insert(signers.public().keyid().to_owned(), signers.public().clone());
    for name in to {
        let keys = role_of(std::slice::from_ref(signers), 1);
        let paths = Paths::pattern("*/*/*");
        document.delegations.push(Delegation { name: name.clone(), keys, paths, terminating: false });
    }
    document
}

/// Searches in a repository of these roles, loading what is asked for; how many were, and how it ended.
fn search(roles: &BTreeMap<String, TargetsMetadata>) -> (usize, Result<Lookup, VerifyError>) {
    let signer = key(66);
    let bytes: BTreeMap<String, Vec<u8>> = roles
        .iter()
        .map(|(name, document)| {
            let by_leads = || signed(document.to_json(), &holders(TARGETS)[..2]);
            let by_one = || signed(document.to_json(), std::slice::from_ref(&signer));
            (name.clone(), if name == "targets" { by_leads() } else { by_one() })
        })
        .collect();
    let files = bytes.iter().map(|(name, bytes)| (name.clone(), FileMeta::of(1, bytes))).collect();
    let snapshot = online::sign_snapshot(1, now() + days(7), files, None, &key(SNAPSHOT));
    let timestamp = online::sign_timestamp(1, now() + days(1), FileMeta::of(1, &snapshot), None, &key(TIMESTAMP));
    let mut device = Sample::new().device();
    device.update_timestamp(&timestamp, now()).unwrap();
    device.update_snapshot(&snapshot, now()).unwrap();
    let mut loaded = 0;
    loop {
        match device.target(WANTED, now()) {
            Ok(Lookup::NeedsRole { role, parent, .. }) => {
                loaded += 1;
                device.update_targets(&role, &parent, &bytes[&role], now()).unwrap();
            }
            end => return (loaded, end),
        }
    }
}

fn name(number: usize) -> String {
    format!("role-{number}")
}

#[test]
fn a_chain_of_delegations_ends_at_the_limit() {
    let signer = key(66);
    let mut roles = BTreeMap::from([("targets".to_owned(), delegating(&[name(0)], &signer))]);
    roles.extend((0..200).map(|number| (name(number), delegating(&[name(number + 1)], &signer))));
    roles.insert(name(200), delegating(&[], &signer));
    let (loaded, end) = search(&roles);
    assert_eq!(end, Err(VerifyError::SearchTooWide { path: WANTED.into(), limit: limits().visited_roles }));
    assert_eq!(loaded, limits().visited_roles);
}

#[test]
fn a_wide_tree_of_delegations_ends_at_the_limit() {
    let signer = key(66);
    let names: Vec<String> = (0..limits().delegations).map(name).collect();
    let mut roles = BTreeMap::from([("targets".to_owned(), delegating(&names, &signer))]);
    roles.extend(names.iter().map(|name| (name.clone(), delegating(&[], &signer))));
    let (loaded, end) = search(&roles);
    assert!(matches!(end, Err(VerifyError::SearchTooWide { .. })), "{end:?}");
    assert_eq!(loaded, limits().visited_roles);
}

#[test]
fn a_cycle_of_delegations_is_walked_once() {
    let signer = key(66);
    let roles = BTreeMap::from([
        ("targets".to_owned(), delegating(&[name(0)], &signer)),
        (name(0), delegating(&[name(1), name(0)], &signer)),
        (name(1), delegating(&[name(0), name(1)], &signer)),
    ]);
    assert_eq!(search(&roles), (3, Ok(Lookup::NotFound)));
}

fn too_many(error: &VerifyError, limit: usize) -> bool {
    matches!(error, VerifyError::TooMany { limit: found, .. } if *found == limit)
}

#[test]
fn thousands_of_keys_are_counted_before_one_is_read() {
    let mut root = image_root(1).to_json();
    let Json::Object(members) = &mut root else { panic!() };
    // Not one of them is a key: reading any would be another error.
    let keys = (0..5_000).map(|number: u64| (format!("{number:064x}"), Json::from("no key"))).collect();
    members.insert("keys".into(), Json::Object(keys));
    let error = TrustedRepository::from_root(&signed(root, &holders(ROOT)), &limits()).unwrap_err();
    assert!(too_many(&error, limits().keys), "{error}");
    let mut root = image_root(1).to_json();
    let keyids: Vec<Json> = (0..5_000).map(|number: u64| number.to_string().into()).collect();
    let Json::Object(members) = &mut root else { panic!() };
    let Some(Json::Object(roles)) = members.get_mut("roles") else { panic!() };
    roles.insert("targets".into(), Json::object([("keyids", Json::List(keyids)), ("threshold", 1u64.into())]));
    let error = TrustedRepository::from_root(&signed(root, &holders(ROOT)), &limits()).unwrap_err();
    assert!(too_many(&error, limits().keys), "{error}");
}

#[test]
fn thousands_of_signatures_are_counted_before_one_is_checked() {
    let signature = |number: u64| Json::object([("keyid", number.to_string().into()), ("sig", "00".into())]);
    let signatures = Json::List((0..5_000).map(signature).collect());
    let document = Json::object([("signatures", signatures), ("signed", Json::object([]))]).to_bytes();
    let error = Envelope::parse("root", &document, limits().root_bytes, &limits()).unwrap_err();
    assert!(too_many(&error, limits().signatures), "{error}");
}

/// One key that appears under many ids is one signature, and each signature of a document costs one check at most.
#[test]
fn one_key_under_many_ids_is_one_signer() {
    let one = key(66);
    let ids: Vec<String> = (0..60).map(|number| format!("id-{number}")).collect();
    let keys = ids.iter().map(|id| (id.clone(), one.public().clone())).collect();
    let payload = Envelope::new(Json::object([("a", 1u64.into())]));
    let sig = hex::encode(one.sign(&payload.payload()));
    let signatures =
        ids.iter().map(|id| Json::object([("keyid", id.clone().into()), ("sig", sig.clone().into())])).collect();
    let bytes = Json::object([("signatures", Json::List(signatures)), ("signed", payload.signed().clone())]).to_bytes();
    let envelope = Envelope::parse("x", &bytes, 1 << 20, &limits()).unwrap();
    let role = sluice_signer::RoleKeys { keyids: ids.into_iter().collect(), threshold: 2 };
    assert_eq!(envelope.valid_signers(&keys, &role).len(), 1);
}

#[test]
fn thousands_of_delegations_targets_and_files_are_counted() {
    let signer = key(66);
    let names: Vec<String> = (0..=limits().delegations).map(name).collect();
    let read = |json: &Json| TargetsMetadata::from_json("targets", json, &limits()).unwrap_err();
    assert!(too_many(&read(&delegating(&names, &signer).to_json()), limits().delegations));
    let mut many = TargetsMetadata::new(1, now(), None);
    let entry = target(&custom("2.4.1", 20401));
    many.targets = (0..=limits().targets).map(|number| (format!("a/{number}"), entry.clone())).collect();
    assert!(too_many(&read(&many.to_json()), limits().targets));
    let mut wide = delegating(&[name(0)], &signer);
    wide.delegations[0].paths = Paths::HashPrefixes((0..=limits().hash_prefixes).map(|n| format!("{n:06x}")).collect());
    assert!(too_many(&read(&wide.to_json()), limits().hash_prefixes));
    wide.delegations[0].paths = Paths::Patterns((0..=limits().paths).map(|n| format!("a/{n}")).collect());
    assert!(too_many(&read(&wide.to_json()), limits().paths));
    let files = (0..=limits().snapshot_files).map(|number| (name(number), FileMeta::of(1, b""))).collect();
    let snapshot = online::sign_snapshot(1, now() + days(1), files, None, &key(SNAPSHOT));
    let envelope = Envelope::parse("snapshot", &snapshot, limits().snapshot_bytes, &limits()).unwrap();
    let error = sluice_signer::SnapshotMetadata::from_json(envelope.signed(), &limits()).unwrap_err();
    assert!(too_many(&error, limits().snapshot_files), "{error}");
}

#[test]
fn huge_numbers_are_refused_as_text() {
    for number in ["9007199254740992", "-9007199254740992", "18446744073709551616", "1e400", "1e2", "0.5"] {
        let text = format!(r#"{{"version":{number}}}"#);
        let error = Json::parse(text.as_bytes(), 1 << 10).unwrap_err();
        assert!(
            matches!(error, JsonError::IntegerRange { .. } | JsonError::NotInteger { .. } | JsonError::Syntax { .. }),
            "{number}: {error}"
        );
    }
    let digits = "9".repeat(400_000);
    assert!(Json::parse(digits.as_bytes(), limits().root_bytes).is_err());
    for threshold in [0u64, 1 << 32, 1 << 52] {
        let mut root = image_root(1).to_json();
        let Json::Object(members) = &mut root else { panic!() };
        let Some(Json::Object(roles)) = members.get_mut("roles") else { panic!() };
        let Some(Json::Object(role)) = roles.get_mut("root") else { panic!() };
        role.insert("threshold".into(), Json::from(threshold));
        let error = TrustedRepository::from_root(&signed(root, &holders(ROOT)), &limits()).unwrap_err();
        assert!(matches!(error, VerifyError::Field { .. }), "{threshold}: {error}");
    }
}

#[test]
fn deep_nesting_uses_no_stack() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let text = format!("{}1{}", open.repeat(50_000), close.repeat(50_000));
        let error = Json::parse(text.as_bytes(), 1 << 20).unwrap_err();
        assert!(matches!(error, JsonError::TooDeep { .. } | JsonError::Syntax { .. }), "{error}");
    }
}
