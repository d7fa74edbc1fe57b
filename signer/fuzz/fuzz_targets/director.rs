//! The director's answer, verified and as a typed view.
#![no_main]

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use sluice_signer::{DirectorDocument, DirectorExpect, DirectorTrust, Envelope, Limits};
use std::sync::LazyLock;

/// Verified once: a case should spend its time on its own bytes.
static TRUSTED: LazyLock<DirectorTrust> = LazyLock::new(|| {
    let root = include_bytes!("../../../fixtures/frozen/tuf-v1/director/1.root.json");
    DirectorTrust::from_root(root, &Limits::default()).unwrap()
});

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    let expect = DirectorExpect {
        device_id: "cam-0001",
        nonce: None,
        now: Timestamp::constant(1_780_315_200, 0),
        last_version: 0,
    };
    let _ = TRUSTED.verify_director(bytes, &expect);
    if let Ok(envelope) = Envelope::parse("director", bytes, limits.director_bytes, &limits)
        && let Ok(document) = DirectorDocument::from_json(envelope.signed(), &limits)
    {
        assert_eq!(DirectorDocument::from_json(&document.to_json(), &limits), Ok(document));
    }
});
