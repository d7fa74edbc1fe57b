//! The `Range` header: whatever it says, parts lie within the body, and several never add up to more than it has.
#![no_main]

// The module itself: it needs nothing of the server, whose hundreds of dependencies would take an hour to instrument.
#[path = "../../src/http/ranges.rs"]
mod ranges;

use libfuzzer_sys::fuzz_target;
use ranges::{MAX_RANGES, Wanted, wanted};

fuzz_target!(|input: (u64, &str)| {
    let (length, header) = input;
    // Without the prefix most inputs would end at the first comparison.
    let with_unit = format!("bytes={header}");
    for header in [header, &with_unit] {
        match wanted(Some(header), length) {
            Wanted::Whole => {}
            Wanted::Unsatisfiable => assert!(header.trim().starts_with("bytes=")),
            Wanted::Parts(parts) => {
                assert!((1..=MAX_RANGES).contains(&parts.len()));
                assert!(parts.iter().all(|part| part.start < part.end && part.end <= length));
                let total: u128 = parts.iter().map(|part| u128::from(part.end - part.start)).sum();
                assert!(total <= u128::from(length));
            }
        }
    }
});
