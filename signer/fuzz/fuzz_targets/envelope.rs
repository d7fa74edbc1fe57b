//! The envelope: what is read is written back, signatures count for the keys that made them alone, and merging them again, in
//! any order, changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_signer::{Envelope, Limits, RootMetadata};
use std::sync::LazyLock;

const FROZEN: &[u8] = include_bytes!("../../../fixtures/frozen/tuf-v1/metadata/1.root.json");
const LIMIT: u64 = 1 << 20;

/// A signed root, and its own view.
static ROOT: LazyLock<(Envelope, RootMetadata)> = LazyLock::new(|| {
    let limits = Limits::default();
    let envelope = Envelope::parse("root", FROZEN, limits.root_bytes, &limits).unwrap();
    let root = RootMetadata::from_json(envelope.signed(), &limits).unwrap();
    (envelope, root)
});

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    let Ok(envelope) = Envelope::parse("fuzz", bytes, LIMIT, &limits) else { return };
    assert_eq!(Envelope::parse("fuzz", &envelope.to_bytes(), LIMIT * 8, &limits), Ok(envelope.clone()));
    let (frozen, root) = &*ROOT;
    let role = root.role("root").unwrap();
    let valid = envelope.valid_signers(&root.keys, role);
    if envelope.signed() == frozen.signed() {
        assert!(valid.is_subset(&frozen.valid_signers(&root.keys, role)), "nobody else signed it");
    } else {
        assert!(valid.is_empty(), "the holders signed the frozen root and nothing else");
    }
    // Signatures of any bytes are taken in only when they are valid, and then change nothing.
    let mut merged = frozen.clone();
    for (keyid, sig) in envelope.signatures() {
        if let Some(key) = root.keys.get(keyid)
            && merged.merge(key, keyid, sig, &limits).is_ok()
        {
            assert!(key.verify(&frozen.payload(), sig));
        }
    }
    assert_eq!(merged.signed(), frozen.signed());
    assert!(merged.valid_signers(&root.keys, role).is_superset(&frozen.valid_signers(&root.keys, role)));
});
