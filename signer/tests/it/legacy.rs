//! Documents of the old spelling are read where somebody asks for it, and nowhere else.

use crate::sample::{ROOT, holders, image_root, key, limits, now, signed};
use sluice_signer::{DirectorTrust, Envelope, Json, RepositoryState, TrustedRepository, VerifyError, legacy};
use std::collections::BTreeMap;

/// A root in the old spelling, signed by its two holders.
fn old_root() -> Vec<u8> {
    let Json::Object(mut signed) = image_root(1).to_json() else { panic!() };
    signed.insert("_type".into(), "Root".into());
    signed.remove("spec_version");
    let mut envelope = Envelope::new(Json::Object(signed));
    holders(ROOT)[..2].iter().for_each(|key| envelope.sign(key));
    envelope.to_bytes()
}

#[test]
fn a_device_refuses_the_old_spelling_however_it_is_given() {
    let root = old_root();
    assert_eq!(legacy::trust(&root, &limits()).unwrap().root().keys, image_root(1).keys);
    let wrong = |error: VerifyError| matches!(error, VerifyError::WrongType { .. });
    assert!(wrong(TrustedRepository::from_root(&root, &limits()).unwrap_err()));
    assert!(wrong(DirectorTrust::from_root(&root, &limits()).unwrap_err()));
    let text = String::from_utf8(root.clone()).unwrap();
    let state = RepositoryState { root: text, timestamp: None, snapshot: None, roles: BTreeMap::new() };
    assert!(wrong(TrustedRepository::from_state(&state, &limits()).unwrap_err()));
    let mut device = TrustedRepository::from_root(&signed(image_root(1).to_json(), &holders(ROOT)), &limits()).unwrap();
    assert!(wrong(device.update_root(&root).unwrap_err()));
}

#[test]
fn a_root_of_today_is_read_as_today_wherever_it_is_trusted() {
    let root = signed(image_root(1).to_json(), &holders(ROOT));
    assert!(!legacy::is_legacy(&root, &limits()));
    let mut device = legacy::trust(&root, &limits()).unwrap();
    assert!(matches!(device.update_root(&old_root()).unwrap_err(), VerifyError::WrongType { .. }));
    device.check_root_expiry(now()).unwrap();
}

#[test]
fn the_old_spelling_does_not_loosen_what_is_signed() {
    let mut bytes = old_root();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    assert!(legacy::trust(&bytes, &limits()).is_err());
    let mut envelope = Envelope::new(Json::object([("_type", "Root".into())]));
    envelope.sign(&key(ROOT));
    assert!(legacy::trust(&envelope.to_bytes(), &limits()).is_err());
    for bytes in [&b""[..], b"{}", b"[]", br#"{"signed":{"_type":"Root"},"signatures":[]}"#] {
        assert!(legacy::trust(bytes, &limits()).is_err());
    }
}
