//! Any bytes as a head: no panic, and what is accepted is consistent.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_delta::{Head, Limits};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    // The length of the head is set right, so that the fuzzer need not find it.
    let mut bytes = bytes.to_vec();
    if bytes.len() >= 8 && bytes.len() < 0x80 {
        let len = bytes.len() as u8;
        bytes[..5].copy_from_slice(&[0xf5, b'S', b'L', 1, len]);
    }
    let Ok(head) = Head::parse(&bytes, &limits) else { return };
    assert_eq!(head.head_len as usize, bytes.len());
    assert_eq!(head.segments.iter().map(|s| u64::from(s.len)).sum::<u64>(), head.views.new_len);
    for segment in &head.segments {
        let coded: u64 = segment.streams.iter().map(|s| u64::from(s.coded_len)).sum();
        assert_eq!(coded, u64::from(segment.coded_len));
        assert!(segment.new_offset + u64::from(segment.len) <= head.views.new_len);
        assert_eq!(segment.image_end.is_some(), segment.check.is_some());
    }
    assert_eq!(head.views.image_offset(head.views.new_len), Some(head.new_len));
    assert!(head.patch_len() >= bytes.len() as u64);
});
