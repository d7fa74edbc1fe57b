//! The director's answer: for this device, this question and this hour only.

use crate::sample::*;
use jiff::SignedDuration;
use proptest::prelude::*;
use sluice_signer::director::{MAX_NOTHING_LIFETIME, MAX_OFFER_LIFETIME, next_version};
use sluice_signer::{DirectorDocument, DirectorExpect, DirectorTrust, SigningKey, VerifyError};
use std::sync::LazyLock;

const NONCE: &str = "6e6f6e6365";

fn trust() -> DirectorTrust {
    let root = signed(director_root(1).to_json(), &holders(DIRECTOR_ROOT)[..2]);
    DirectorTrust::from_root(&root, &limits()).unwrap()
}

fn expect() -> DirectorExpect<'static> {
    DirectorExpect { device_id: "cam-0001", nonce: Some(NONCE), now: now(), last_version: 0 }
}

fn sign(document: &DirectorDocument) -> Vec<u8> {
    document.sign(&key(DIRECTOR), &limits()).unwrap()
}

#[test]
fn an_offer_and_a_nothing_are_read_back() {
    for document in [offer("2.4.1"), nothing()] {
        let answer = trust().verify_director(&sign(&document), &expect()).unwrap();
        assert_eq!(answer.document, document);
        assert_eq!(answer.attested_time, Some(now()));
    }
}

#[test]
fn a_document_for_another_device_is_refused() {
    let expect = DirectorExpect { device_id: "cam-0002", ..expect() };
    let error = trust().verify_director(&sign(&offer("2.4.1")), &expect).unwrap_err();
    assert_eq!(error, VerifyError::WrongDevice { expected: "cam-0002".into(), found: "cam-0001".into() });
}

#[test]
fn a_replayed_answer_does_not_carry_the_new_nonce() {
    for (document, found) in
        [(offer("2.4.1"), NONCE), (nothing(), NONCE), (DirectorDocument { nonce: None, ..offer("2.4.1") }, "")]
    {
        let expect = DirectorExpect { nonce: Some("667265736820"), ..expect() };
        let error = trust().verify_director(&sign(&document), &expect).unwrap_err();
        assert_eq!(error, VerifyError::WrongNonce { expected: "667265736820".into(), found: found.into() });
    }
}

#[test]
fn without_a_nonce_the_answer_attests_no_time() {
    let expect = DirectorExpect { nonce: None, ..expect() };
    assert_eq!(trust().verify_director(&sign(&offer("2.4.1")), &expect).unwrap().attested_time, None);
}

/// A stolen director key must not push a clock so far ahead that every document is expired for ever.
#[test]
fn the_attested_time_never_passes_the_expiry_of_the_trusted_root() {
    let far = "2100-01-01T00:00:00Z".parse().unwrap();
    let document = DirectorDocument { server_time: far, expires: far + SignedDuration::from_mins(1), ..offer("2.4.1") };
    let answer = trust().verify_director(&sign(&document), &expect()).unwrap();
    assert_eq!(answer.attested_time, Some(director_root(1).expires));
}

#[test]
fn versions_do_not_go_back() {
    let document = offer("2.4.1");
    for (last_version, good) in [(document.version - 1, true), (document.version, true), (document.version + 1, false)]
    {
        let result = trust().verify_director(&sign(&document), &DirectorExpect { last_version, ..expect() });
        assert_eq!(result.is_ok(), good, "{last_version}");
        if let Err(error) = result {
            assert!(matches!(error, VerifyError::Rollback { .. }), "{error}");
        }
    }
}

#[test]
fn the_next_version_survives_a_restored_database_and_a_slow_clock() {
    let unix = u64::try_from(now().as_second()).unwrap();
    assert_eq!(next_version(now(), 0), unix);
    assert_eq!(next_version(now(), unix), unix + 1);
    assert_eq!(next_version(now() - days(1), unix + 7), unix + 8);
}

#[test]
fn an_answer_expires() {
    let document = offer("2.4.1");
    let at = |now| trust().verify_director(&sign(&document), &DirectorExpect { now, ..expect() });
    assert!(at(document.expires - SignedDuration::from_secs(1)).is_ok());
    assert!(matches!(at(document.expires), Err(VerifyError::Expired { ref role, .. }) if role == "director"));
    let after_root = director_root(1).expires;
    assert!(matches!(at(after_root), Err(VerifyError::Expired { ref role, .. }) if role == "root"));
}

#[test]
fn an_answer_that_lives_too_long_is_neither_made_nor_accepted() {
    for (document, limit) in [(offer("2.4.1"), MAX_OFFER_LIFETIME), (nothing(), MAX_NOTHING_LIFETIME)] {
        let long =
            DirectorDocument { expires: document.server_time + limit + SignedDuration::from_secs(1), ..document };
        let error = long.sign(&key(DIRECTOR), &limits()).unwrap_err();
        assert!(matches!(error, VerifyError::DirectorLifetime { .. }), "{error}");
        let forced = signed(long.to_json(), &[key(DIRECTOR)]);
        let error = trust().verify_director(&forced, &expect()).unwrap_err();
        assert!(matches!(error, VerifyError::DirectorLifetime { .. }), "{error}");
    }
    let backwards = DirectorDocument { expires: now(), ..nothing() };
    assert!(matches!(backwards.sign(&key(DIRECTOR), &limits()), Err(VerifyError::DirectorLifetime { found_s: 0, .. })));
}

#[test]
fn only_the_director_key_speaks() {
    let document = offer("2.4.1");
    let others: Vec<SigningKey> = [SNAPSHOT, TIMESTAMP, ENTITLEMENT, DIRECTOR_ROOT, TARGETS, 200].map(key).into();
    for other in others {
        let error = trust().verify_director(&signed(document.to_json(), &[other]), &expect()).unwrap_err();
        assert!(matches!(error, VerifyError::Threshold { valid: 0, .. }), "{error}");
    }
}

/// Product roles have the same document type as the director's answer.
#[test]
fn role_confusion_a_product_document_is_no_answer_even_under_the_director_key() {
    let product = signed(Sample::new().product.to_json(), &[key(DIRECTOR)]);
    let error = trust().verify_director(&product, &expect()).unwrap_err();
    assert!(matches!(error, VerifyError::Field { .. }), "{error}");
}

#[test]
fn rotating_the_director_key_is_reported_so_that_floors_can_be_reset() {
    let mut trust = trust();
    let mut next = director_root(2);
    next.keys.insert(key(113).public().keyid().to_owned(), key(113).public().clone());
    next.roles.insert("targets".into(), role_of(&[key(113)], 1));
    let update = trust.update_root(&signed(next.to_json(), &holders(DIRECTOR_ROOT)[..2])).unwrap();
    assert_eq!(update.rotated.into_iter().collect::<Vec<_>>(), ["targets"]);
    let error = trust.verify_director(&sign(&offer("2.4.1")), &expect()).unwrap_err();
    assert!(matches!(error, VerifyError::Threshold { valid: 0, .. }), "{error}");
    let new = offer("2.4.1").sign(&key(113), &limits()).unwrap();
    assert!(trust.verify_director(&new, &expect()).is_ok());
}

#[test]
fn the_director_root_names_the_entitlement_key() {
    assert_eq!(trust().root().entitlement_keys(), [key(ENTITLEMENT).public()]);
}

#[test]
fn the_hardware_entry_must_be_for_the_device_itself() {
    let text = String::from_utf8(offer("2.4.1").to_json().to_bytes()).unwrap();
    let moved = text.replace("\"ecu\":{\"cam-0001\"", "\"ecu\":{\"cam-0002\"");
    let value = sluice_signer::Json::parse(moved.as_bytes(), 1 << 20).unwrap();
    let error = trust().verify_director(&signed(value, &[key(DIRECTOR)]), &expect()).unwrap_err();
    assert!(matches!(error, VerifyError::Field { .. }), "{error}");
}

#[test]
fn a_patch_head_is_part_of_the_patch() {
    let mut document = offer("2.4.1");
    for target in document.targets.values_mut() {
        let delta = target.delta.as_mut().unwrap();
        delta.head_length = delta.length + 1;
    }
    assert!(matches!(document.sign(&key(DIRECTOR), &limits()), Err(VerifyError::Field { .. })));
}

/// Readers in other languages would round it, and then refuse the signature.
#[test]
fn a_number_that_some_readers_round_is_not_signed() {
    let document = DirectorDocument { version: 1 << 53, ..offer("2.4.1") };
    let error = document.sign(&key(DIRECTOR), &limits()).unwrap_err();
    assert!(matches!(error, VerifyError::Field { ref field, .. } if field == "version"), "{error}");
}

#[test]
fn more_images_than_a_device_has_components_are_refused() {
    let mut document = offer("2.4.1");
    let target = document.targets.values().next().unwrap().clone();
    for number in 0..16 {
        let path = format!("acme-cam/2.4.1/part{number}.bin");
        document.targets.insert(path.clone(), sluice_signer::DirectorTarget { path, ..target.clone() });
    }
    let error = document.sign(&key(DIRECTOR), &limits()).unwrap_err();
    assert!(matches!(error, VerifyError::TooMany { count: 17, limit: 16, .. }), "{error}");
}

/// Signed once: a property test checks hundreds of cases.
static OFFER: LazyLock<Vec<u8>> = LazyLock::new(|| sign(&offer("2.4.1")));
static TRUST: LazyLock<DirectorTrust> = LazyLock::new(trust);

proptest! {
    #[test]
    fn any_flipped_bit_is_refused(position in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut bytes = OFFER.clone();
        let at = position.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(TRUST.verify_director(&bytes, &expect()).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(TRUST.verify_director(&bytes, &expect()).is_err());
    }
}
