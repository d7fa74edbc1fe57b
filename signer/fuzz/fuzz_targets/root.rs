//! Root documents, provisioned and next in line, and the typed view of any signed part.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_signer::{DirectorTrust, Envelope, Limits, RootMetadata, TrustedRepository};
use std::sync::LazyLock;

/// Verified once: a case should spend its time on its own bytes.
static TRUSTED: LazyLock<TrustedRepository> = LazyLock::new(|| {
    let root = include_bytes!("../../../fixtures/frozen/tuf-v1/metadata/1.root.json");
    TrustedRepository::from_root(root, &Limits::default()).unwrap()
});

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    let _ = TrustedRepository::from_root(bytes, &limits);
    let _ = DirectorTrust::from_root(bytes, &limits);
    assert!(TRUSTED.clone().update_root(bytes).is_err(), "nobody but the holders can sign the next root");
    if let Ok(envelope) = Envelope::parse("root", bytes, limits.root_bytes, &limits)
        && let Ok(root) = RootMetadata::from_json(envelope.signed(), &limits)
    {
        assert_eq!(RootMetadata::from_json(&root.to_json(), &limits), Ok(root));
    }
});
