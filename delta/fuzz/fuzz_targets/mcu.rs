//! The consumer of this name in `delta/fuzz/src/lib.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    sluice_delta_fuzz::consume("mcu", bytes);
});
