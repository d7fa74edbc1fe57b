//! Any bytes as regions, commands and coded data of a segment: the old-aware decoder ends, stays in bounds, never panics.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| sluice_delta::fuzz_mix(bytes));
