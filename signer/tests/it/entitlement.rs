//! Entitlement certificates: for one device, by the key that the director root names, never older than the one that is kept.

use crate::sample::*;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use sluice_signer::entitlement::MAX_CERTIFICATE_LIFETIME;
use sluice_signer::{
    Certificate, CertificateExpect, CertifiedCover, CertifiedState, DirectorTrust, Json, SigningKey, VerifyError,
};
use std::collections::BTreeMap;
use std::sync::LazyLock;

static DEVICE_KEY: LazyLock<String> = LazyLock::new(|| certificate().device_key);

fn trust() -> DirectorTrust {
    DirectorTrust::from_root(&signed(director_root(1).to_json(), &holders(DIRECTOR_ROOT)[..2]), &limits()).unwrap()
}

fn expect(kept: Option<&[u8]>) -> CertificateExpect<'_> {
    CertificateExpect { product: PRODUCT, serial: "SN-0001", device_key: &DEVICE_KEY, now: now(), kept }
}

fn verify(bytes: &[u8], kept: Option<&[u8]>) -> Result<Certificate, VerifyError> {
    trust().verify_certificate(bytes, &expect(kept))
}

/// A director root that names another key E.
fn rotated() -> (DirectorTrust, SigningKey) {
    let new = key(114);
    let mut next = director_root(2);
    next.keys.insert(new.public().keyid().to_owned(), new.public().clone());
    next.entitlement = Some(role_of(std::slice::from_ref(&new), 1));
    let mut trust = trust();
    trust.update_root(&signed(next.to_json(), &holders(DIRECTOR_ROOT)[..2])).unwrap();
    (trust, new)
}

#[test]
fn a_certificate_is_read_back() {
    assert_eq!(verify(&certified(&certificate()), None), Ok(certificate()));
    let plain = Certificate {
        state: CertifiedState::Replaced,
        replaced_at: None,
        confirmed_train: None,
        covers: Vec::new(),
        published: BTreeMap::new(),
        ..certificate()
    };
    assert_eq!(verify(&certified(&plain), None), Ok(plain));
}

#[test]
fn a_copied_certificate_attack_is_refused_by_product_serial_and_key() {
    let bytes = certified(&certificate());
    let other = hex::encode([7; 32]);
    for (field, expect) in [
        ("product", CertificateExpect { product: "acme-dome", ..expect(None) }),
        ("serial", CertificateExpect { serial: "SN-0002", ..expect(None) }),
        ("key", CertificateExpect { device_key: &other, ..expect(None) }),
    ] {
        let error = trust().verify_certificate(&bytes, &expect).unwrap_err();
        assert!(matches!(error, VerifyError::WrongHolder { field: found, .. } if found == field), "{error}");
    }
}

#[test]
fn an_expired_certificate_says_nothing() {
    let (bytes, end) = (certified(&certificate()), certificate().expires);
    let at = |now| trust().verify_certificate(&bytes, &CertificateExpect { now, ..expect(None) });
    assert!(at(end - SignedDuration::from_secs(1)).is_ok());
    assert!(matches!(at(end), Err(VerifyError::Expired { ref role, .. }) if role == "entitlement"));
    let after_root = director_root(1).expires;
    assert!(matches!(at(after_root), Err(VerifyError::Expired { ref role, .. }) if role == "root"));
}

#[test]
fn a_replay_attack_with_an_older_certificate_is_refused() {
    let older = Certificate { issued: now() - days(1), ..certificate() };
    let kept = certified(&certificate());
    let error = verify(&certified(&older), Some(&kept)).unwrap_err();
    assert!(matches!(error, VerifyError::Rollback { ref role, .. } if role == "entitlement"), "{error}");
    assert!(verify(&certified(&certificate()), Some(&kept)).is_ok(), "the same again");
    let newer = Certificate { issued: now() + SignedDuration::from_secs(1), ..certificate() };
    assert!(verify(&certified(&newer), Some(&kept)).is_ok());
    // However fresh it is: the device was revoked since.
    let revoked = Certificate { device_epoch: 2, ..newer };
    let error = verify(&certified(&revoked), Some(&kept)).unwrap_err();
    assert_eq!(error, VerifyError::OldDeviceEpoch { kept: 3, found: 2 });
}

#[test]
fn what_is_kept_of_another_device_sets_no_floor() {
    let other = Certificate { serial: "SN-0002".to_owned(), device_epoch: 9, ..certificate() };
    assert!(verify(&certified(&certificate()), Some(&certified(&other))).is_ok());
    assert!(verify(&certified(&certificate()), Some(b"damaged")).is_ok());
}

/// The floors that a thief set go with the key, so that a device is not shut out for ever.
#[test]
fn a_fast_forward_attack_by_a_thief_of_key_e_ends_with_the_next_root() {
    let far = now() + days(80);
    let forged = Certificate { device_epoch: 1 << 40, issued: far, expires: far + days(90), ..certificate() };
    let bytes = certified(&forged);
    assert!(verify(&bytes, None).is_ok(), "until the root names another key it counts");
    assert!(verify(&certified(&certificate()), Some(&bytes)).is_err());

    let (trust, new) = rotated();
    let error = trust.verify_certificate(&bytes, &expect(None)).unwrap_err();
    assert!(matches!(error, VerifyError::Threshold { valid: 0, .. }), "{error}");
    let fresh = certificate().unsigned(&limits()).unwrap().signed_by(&new);
    assert_eq!(trust.verify_certificate(&fresh, &expect(Some(&bytes))), Ok(certificate()));
}

#[test]
fn a_role_confusion_attack_takes_neither_kind_for_the_other() {
    // Under the right key, a document of another kind.
    let answer = signed(offer("2.4.1").to_json(), &[key(ENTITLEMENT)]);
    assert!(matches!(verify(&answer, None), Err(VerifyError::WrongType { .. })));
    // The right kind, under every other key.
    for number in [SNAPSHOT, TIMESTAMP, DIRECTOR, DIRECTOR_ROOT, TARGETS, DEVICE, 200] {
        let error = verify(&signed(certificate().to_json(), &[key(number)]), None).unwrap_err();
        assert!(matches!(error, VerifyError::Threshold { valid: 0, .. }), "{error}");
    }
}

#[test]
fn a_root_that_names_no_key_takes_no_certificate() {
    let root = sluice_signer::RootMetadata { entitlement: None, ..director_root(1) };
    let trust = DirectorTrust::from_root(&signed(root.to_json(), &holders(DIRECTOR_ROOT)[..2]), &limits()).unwrap();
    let error = trust.verify_certificate(&certified(&certificate()), &expect(None)).unwrap_err();
    assert!(matches!(error, VerifyError::NotDelegated { .. }), "{error}");
}

#[test]
fn the_threshold_of_the_root_counts() {
    let keys = [key(ENTITLEMENT), key(115)];
    let mut root = director_root(1);
    root.keys.insert(keys[1].public().keyid().to_owned(), keys[1].public().clone());
    root.entitlement = Some(role_of(&keys, 2));
    let trust = DirectorTrust::from_root(&signed(root.to_json(), &holders(DIRECTOR_ROOT)[..2]), &limits()).unwrap();
    let one = trust.verify_certificate(&certified(&certificate()), &expect(None)).unwrap_err();
    assert!(matches!(one, VerifyError::Threshold { needed: 2, valid: 1, .. }), "{one}");
    assert!(trust.verify_certificate(&signed(certificate().to_json(), &keys), &expect(None)).is_ok());
}

#[test]
fn a_certificate_is_for_one_repository_and_one_signing_epoch() {
    let elsewhere = Certificate { repo_id: Some("other".to_owned()), ..certificate() };
    assert!(matches!(verify(&certified(&elsewhere), None), Err(VerifyError::WrongRepository { .. })));
    let later = Certificate { signing_epoch: 2, ..certificate() };
    let error = verify(&certified(&later), None).unwrap_err();
    assert_eq!(error, VerifyError::CertificateEpoch { trusted: 1, found: 2 });
}

#[test]
fn a_certificate_that_lives_too_long_is_neither_made_nor_taken() {
    let long =
        Certificate { expires: now() + MAX_CERTIFICATE_LIFETIME + SignedDuration::from_secs(1), ..certificate() };
    for wrong in [long, Certificate { expires: now(), ..certificate() }] {
        assert!(matches!(wrong.unsigned(&limits()), Err(VerifyError::CertificateLifetime { .. })));
        let forced = signed(wrong.to_json(), &[key(ENTITLEMENT)]);
        assert!(matches!(verify(&forced, None), Err(VerifyError::CertificateLifetime { .. })));
    }
}

#[test]
fn a_third_of_the_life_is_left_when_it_is_renewed() {
    assert_eq!(certificate().renew_at(), now() + days(20));
}

#[test]
fn the_contents_do_not_tell_one_copy_from_the_next() {
    let later = Certificate { issued: now() + days(1), expires: now() + days(31), ..certificate() };
    assert_eq!(later.contents(), certificate().contents());
    let revoked = Certificate { device_epoch: 4, ..certificate() };
    assert_ne!(revoked.contents(), certificate().contents());
}

/// The sample with one text in place of another, under the right key.
fn spelled(from: &str, to: &str) -> Result<Certificate, VerifyError> {
    let text = String::from_utf8(certificate().to_json().to_bytes()).unwrap();
    assert!(text.contains(from), "{from}: {text}");
    let value = Json::parse(text.replacen(from, to, 1).as_bytes(), 1 << 20).unwrap();
    verify(&signed(value, &[key(ENTITLEMENT)]), None)
}

#[test]
fn every_field_has_its_shape() {
    for (from, to, at) in [
        ("\"version\":1780315200", "\"version\":1780315201", "version"),
        ("\"signing_epoch\":1", "\"signing_epoch\":0", "signing_epoch"),
        ("\"signing_epoch\":1", "\"signing_epoch\":1001", "signing_epoch"),
        ("\"state\":\"active\"", "\"state\":\"paused\"", "device.state"),
        ("\"grace_days\":14", "\"grace_days\":3661", "covers.grace_days"),
        ("\"grace_days\":14", "\"grace_days\":\"14\"", "covers.grace_days"),
        ("\"from\":\"2026-02-01T00:00:00Z\"", "\"from\":\"2026-01-01T00:00:00Z\"", "covers.windows.from"),
        ("\"from\":\"2025-01-01T00:00:00Z\"", "\"from\":\"2026-01-01T00:00:00Z\"", "covers.windows.from"),
        ("\"from\":\"2025-01-01T00:00:00Z\"", "\"from\":\"2025-01-01\"", "covers.windows.from"),
        ("\"rule\":\"train-ga\"", "\"rule\":\"train ga\"", "covers.rule"),
        ("\"contract\":\"C-1001\"", "\"contract\":\"\"", "covers.contract"),
        ("\"FW.CAM.MAJOR\":", "\"FW CAM\":", "covers.codes."),
        ("\"2.4.0\":", "\"\":", "published."),
        ("\"replaced_at\":\"2026-07-01T00:00:00Z\"", "\"replaced_at\":null", "device.replaced_at"),
        ("\"key\":\"", "\"key\":\"AA", "device.key"),
        ("\"serial\":\"SN-0001\"", "\"serial\":1", "device.serial"),
    ] {
        let error = spelled(from, to).unwrap_err();
        assert!(matches!(error, VerifyError::Field { ref field, .. } if field == at), "{to}: {error}");
    }
    assert!(
        spelled("\"signing_epoch\":1", "\"signing_epoch\":1,\"more\":[]").is_ok(),
        "unknown fields are passed over"
    );
}

#[test]
fn an_oversized_certificate_attack_is_counted_before_it_is_read() {
    let cover = certificate().covers[0].clone();
    let many = |count: usize| Certificate { covers: vec![cover.clone(); count], ..certificate() };
    assert!(verify(&certified(&many(limits().covers)), None).is_ok());
    let refused = |certificate: &Certificate, wanted: &str| {
        assert!(certificate.unsigned(&limits()).is_err());
        let error = verify(&signed(certificate.to_json(), &[key(ENTITLEMENT)]), None).unwrap_err();
        assert!(matches!(error, VerifyError::TooMany { ref field, .. } if field == wanted), "{error}");
    };
    refused(&many(limits().covers + 1), "covers");
    let hour = |hour: i64| now() + SignedDuration::from_hours(hour);
    let count = i64::try_from(limits().windows).unwrap() + 1;
    let windows = (0..count).map(|at| (hour(2 * at), hour(2 * at + 1))).collect();
    let wide = CertifiedCover { windows, ..cover.clone() };
    refused(&Certificate { covers: vec![wide], ..certificate() }, "covers.windows");
    let codes = (0..=limits().list_entries).map(|code| (format!("C{code}"), "stable".to_owned())).collect();
    refused(&Certificate { covers: vec![CertifiedCover { codes, ..cover }], ..certificate() }, "covers.codes.");
    let published = (0..=limits().published).map(|version| (format!("1.{version}"), now())).collect();
    refused(&Certificate { published, ..certificate() }, "published.");
    let padded = [certified(&certificate()), vec![b' '; usize::try_from(limits().entitlement_bytes).unwrap()]].concat();
    assert!(matches!(verify(&padded, None), Err(VerifyError::Json { .. })));
}

#[test]
fn frozen_certificates_verify_for_ever_and_are_still_written_so() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/frozen/entitlement-v1/");
    for (name, bytes) in frozen_certificates() {
        let frozen = std::fs::read(format!("{folder}{name}")).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(String::from_utf8(frozen.clone()).unwrap(), String::from_utf8(bytes).unwrap(), "{name}");
        verify(&frozen, None).unwrap();
    }
}

static SIGNED: LazyLock<Vec<u8>> = LazyLock::new(|| certified(&certificate()));
static TRUST: LazyLock<DirectorTrust> = LazyLock::new(trust);

fn second(from: i64) -> impl Strategy<Value = Timestamp> {
    (from..from + 100_000_000).prop_map(|second| Timestamp::from_second(second).unwrap())
}

fn any_cover() -> impl Strategy<Value = CertifiedCover> {
    let word = "[!-~]{1,20}";
    let windows = prop::collection::btree_set(second(1_700_000_000), 0..8).prop_map(|edges| {
        let edges: Vec<Timestamp> = edges.into_iter().collect();
        edges.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect::<Vec<_>>()
    });
    (word, word, word, 0u64..400, prop::collection::btree_map(word, word, 0..4), windows).prop_map(
        |(contract, plan, rule, grace_days, codes, windows)| CertifiedCover {
            contract,
            plan,
            rule,
            grace_days,
            codes,
            windows,
        },
    )
}

fn any_certificate() -> impl Strategy<Value = Certificate> {
    let train = prop::option::of("[!-~]{1,20}");
    let published = prop::collection::btree_map("[!-~]{1,20}", second(1_700_000_000), 0..5);
    (
        prop::collection::vec(any_cover(), 0..5),
        prop::sample::select(CertifiedState::ALL.to_vec()),
        prop::option::of(second(1_750_000_000)),
        train,
        published,
        second(1_750_000_000),
        1i64..90 * 86_400,
        0u64..1 << 53,
    )
        .prop_map(|(covers, state, replaced_at, confirmed_train, published, issued, life, device_epoch)| {
            Certificate {
                device_epoch,
                state,
                replaced_at,
                confirmed_train,
                covers,
                published,
                issued,
                expires: issued + SignedDuration::from_secs(life),
                ..certificate()
            }
        })
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_it_was(certificate in any_certificate()) {
        prop_assert_eq!(Certificate::from_json(&certificate.to_json(), &limits()), Ok(certificate.clone()));
        let unsigned = certificate.unsigned(&limits()).unwrap();
        prop_assert_eq!(unsigned.signed(), &certificate.to_json());
    }

    #[test]
    fn any_flipped_bit_is_refused(position in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut bytes = SIGNED.clone();
        let at = position.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(TRUST.verify_certificate(&bytes, &expect(None)).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(TRUST.verify_certificate(&bytes, &expect(Some(&bytes))).is_err());
    }
}
