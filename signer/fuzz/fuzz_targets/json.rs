//! The parser and the envelope: whatever is read is written back to the same value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_signer::{Envelope, Json, Limits};

const LIMIT: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = Json::parse(bytes, LIMIT) {
        assert_eq!(Json::parse(&value.to_bytes(), LIMIT * 8), Ok(value));
    }
    let limits = Limits::default();
    if let Ok(envelope) = Envelope::parse("fuzz", bytes, LIMIT, &limits) {
        assert_eq!(Envelope::parse("fuzz", &envelope.to_bytes(), LIMIT * 8, &limits), Ok(envelope));
    }
});
