//! An entitlement certificate, verified and as a typed view.
#![no_main]

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use sluice_signer::{Certificate, CertificateExpect, DirectorTrust, Envelope, Limits};
use std::sync::LazyLock;

/// Verified once: a case should spend its time on its own bytes.
static TRUSTED: LazyLock<DirectorTrust> = LazyLock::new(|| {
    let root = include_bytes!("../../../fixtures/frozen/tuf-v1/director/1.root.json");
    DirectorTrust::from_root(root, &Limits::default()).unwrap()
});
const KEPT: &[u8] = include_bytes!("../../../fixtures/frozen/entitlement-v1/active.json");

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    let expect = CertificateExpect {
        product: "acme-cam",
        serial: "SN-0001",
        device_key: "",
        now: Timestamp::constant(1_780_315_200, 0),
        kept: Some(KEPT),
    };
    let _ = TRUSTED.verify_certificate(bytes, &expect);
    let _ = TRUSTED.verify_certificate(KEPT, &CertificateExpect { kept: Some(bytes), ..expect });
    if let Ok(envelope) = Envelope::parse("entitlement", bytes, limits.entitlement_bytes, &limits)
        && let Ok(certificate) = Certificate::from_json(envelope.signed(), &limits)
    {
        assert_eq!(Certificate::from_json(&certificate.to_json(), &limits), Ok(certificate.clone()));
        assert!(certificate.renew_at() <= certificate.expires.max(certificate.issued));
        let _ = certificate.unsigned(&limits);
    }
});
