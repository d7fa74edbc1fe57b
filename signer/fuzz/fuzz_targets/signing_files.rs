//! Signing requests and signatures, which come from other machines, and advisories, which other programs make.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_signer::advisory::{Advisory, MAX_ADVISORY_BYTES};

/// 2026-06-01T12:00:00Z, when the seeds were made.
const NOW: i64 = 1_780_315_200;

fuzz_target!(|bytes: &[u8]| {
    let now = jiff::Timestamp::from_second(NOW).unwrap();
    let read = |bytes: &[u8]| sluice_sign::examine(bytes, now).map_err(|error| format!("{error:#}"));
    assert_eq!(read(bytes), read(bytes), "one file, one answer");
    let _ = sluice_sign::signatures_in(bytes);
    if let Ok(advisory) = Advisory::read(bytes) {
        assert!(!advisory.id.is_empty() && bytes.len() <= MAX_ADVISORY_BYTES);
    }
});
