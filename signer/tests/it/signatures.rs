//! Detached signatures, merging, and thresholds.

use crate::sample::{Sample, holders, key, limits};
use proptest::prelude::*;
use sluice_signer::envelope::MergeError;
use sluice_signer::root::RoleKeys;
use sluice_signer::{Envelope, Json, PublicKey, VerifyError};
use std::collections::{BTreeMap, BTreeSet};

fn document() -> Envelope {
    Envelope::new(Sample::new().product.to_json())
}

#[test]
fn a_detached_signature_merges_once() {
    let key = key(1);
    let mut envelope = document();
    let signature = document().detached(&key);
    for _ in 0..2 {
        envelope.merge(key.public(), &signature.keyid, &signature.sig, &limits()).unwrap();
    }
    let mut direct = document();
    direct.sign(&key);
    assert_eq!(envelope.to_bytes(), direct.to_bytes());
}

#[test]
fn a_signature_over_something_else_does_not_merge() {
    let key = key(1);
    let other = Envelope::new(Json::object([("other", Json::Null)])).detached(&key);
    let mut envelope = document();
    let error = envelope.merge(key.public(), &other.keyid, &other.sig, &limits()).unwrap_err();
    assert_eq!(error, MergeError::Invalid { keyid: other.keyid });
    assert_eq!(envelope.signatures().count(), 0);
}

#[test]
fn merging_stops_at_the_limit() {
    let mut limits = limits();
    limits.signatures = 1;
    let mut envelope = document();
    for (number, expected) in [(1, Ok(())), (2, Err(MergeError::TooMany { limit: 1 })), (1, Ok(()))] {
        let key = key(number);
        let signature = envelope.detached(&key);
        assert_eq!(envelope.merge(key.public(), &signature.keyid, &signature.sig, &limits), expected);
    }
}

#[test]
fn a_bad_signature_is_replaced_by_a_good_one() {
    let key = key(1);
    let mut forged = document();
    let signature = forged.detached(&key);
    let bytes = String::from_utf8({
        forged.sign(&key);
        forged.to_bytes()
    })
    .unwrap()
    .replace(&hex::encode(&signature.sig), &"0".repeat(128));
    let mut envelope = Envelope::parse("x", bytes.as_bytes(), 1 << 20, &limits()).unwrap();
    envelope.merge(key.public(), &signature.keyid, &signature.sig, &limits()).unwrap();
    assert_eq!(envelope.signatures().next(), Some((signature.keyid.as_str(), signature.sig.as_slice())));
}

/// One key listed under two ids must count once.
#[test]
fn a_threshold_counts_key_material_not_key_ids() {
    let key = key(1);
    let Json::Object(mut object) = key.public().to_json().clone() else { panic!("an object") };
    object.insert("comment".into(), "twin".into());
    let twin = PublicKey::from_json(&Json::Object(object)).unwrap();
    let keys: BTreeMap<String, PublicKey> =
        [key.public().clone(), twin.clone()].into_iter().map(|key| (key.keyid().to_owned(), key)).collect();
    let role = RoleKeys { keyids: keys.keys().cloned().collect(), threshold: 2 };

    let mut envelope = document();
    envelope.sign(&key);
    let signature = envelope.detached(&key);
    envelope.merge(&twin, twin.keyid(), &signature.sig, &limits()).unwrap();
    assert_eq!(envelope.signatures().count(), 2);
    let error = envelope.verify_threshold("acme-cam", "targets", &keys, &role).unwrap_err();
    assert!(matches!(error, VerifyError::Threshold { needed: 2, valid: 1, .. }), "{error}");
}

#[test]
fn a_threshold_of_zero_accepts_nothing() {
    let role = RoleKeys { keyids: BTreeSet::new(), threshold: 0 };
    let error = document().verify_threshold("x", "y", &BTreeMap::new(), &role).unwrap_err();
    assert!(matches!(error, VerifyError::Threshold { needed: 0, valid: 0, .. }));
}

#[test]
fn one_key_id_may_stand_once_in_a_file() {
    let mut envelope = document();
    envelope.sign(&key(1));
    let text = String::from_utf8(envelope.to_bytes()).unwrap();
    let start = text.find("{\"keyid\"").unwrap();
    let end = text.find("],\"signed\"").unwrap();
    let doubled = format!("{},{}{}", &text[..end], &text[start..end], &text[end..]);
    let error = Envelope::parse("x", doubled.as_bytes(), 1 << 20, &limits()).unwrap_err();
    assert!(matches!(error, VerifyError::Field { ref field, .. } if field == "signatures.keyid"), "{error}");
}

#[test]
fn too_many_signatures_are_refused_before_any_is_checked() {
    let mut envelope = document();
    for number in 1..=65 {
        envelope.sign(&key(number));
    }
    let error = Envelope::parse("x", &envelope.to_bytes(), 1 << 20, &limits()).unwrap_err();
    assert!(matches!(error, VerifyError::TooMany { count: 65, limit: 64, .. }), "{error}");
}

proptest! {
    /// People sign on their own machines; whoever merges, and in whatever order, gets the same file.
    #[test]
    fn the_order_of_merging_does_not_matter(order in Just(vec![0, 1, 2, 0, 2]).prop_shuffle()) {
        let holders = holders(1);
        let mut all = document();
        for holder in &holders {
            all.sign(holder);
        }
        let mut merged = document();
        for index in order {
            let signature = document().detached(&holders[index]);
            merged.merge(holders[index].public(), &signature.keyid, &signature.sig, &limits()).unwrap();
        }
        prop_assert_eq!(merged.to_bytes(), all.to_bytes());
    }
}
