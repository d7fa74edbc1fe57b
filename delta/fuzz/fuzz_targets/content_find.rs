//! Any bytes as an image: the walker does not panic, and finds streams in order that do not overlap.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_delta::content::{FindLimits, Found, Helpers, Side, find};

fn check(found: &[Found], holder_len: u64) {
    let mut free = 0;
    for stream in found {
        assert!(stream.start >= free);
        free = stream.start + stream.len;
        assert!(free <= holder_len);
        check(&stream.inner, stream.content.len() as u64);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let limits = FindLimits { total_content: 8 << 20, stream_ram: 32 << 20, ..FindLimits::default() };
    check(&find(bytes, &limits, Side::Old), bytes.len() as u64);
    let side = Side::New { unchanged: &|_| false, helpers: &Helpers::none(), whole_files: false };
    check(&find(bytes, &limits, side), bytes.len() as u64);
});
