//! Provenance statements and bills of materials, which other programs make.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_signer::{Builder, Provenance, Sbom, SigningKey};
use std::sync::LazyLock;

static BUILDERS: LazyLock<[Builder; 1]> = LazyLock::new(|| {
    let key = SigningKey::from_seed(&[1; 32]).unwrap().public().clone();
    [Builder { id: "https://builds.example.org/runner@v2".to_owned(), key }]
});

fuzz_target!(|bytes: &[u8]| {
    assert!(Provenance::verify(bytes, &*BUILDERS).is_err(), "nobody else has the builder's key");
    if let Ok(bill) = Sbom::read(bytes) {
        assert!(bill.components > 0);
    }
});
