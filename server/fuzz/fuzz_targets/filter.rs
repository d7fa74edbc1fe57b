//! A filter of an audience: read or refused with a column that it has, and what was read is printed to the same value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_catalog::rollout::Filter;

fuzz_target!(|text: &str| {
    match text.parse::<Filter>() {
        Ok(filter) => {
            let printed = filter.to_string();
            assert_eq!(printed.parse::<Filter>(), Ok(filter));
        }
        Err(error) => assert!(error.column >= 1 && error.column <= text.chars().count() + 1),
    }
});
