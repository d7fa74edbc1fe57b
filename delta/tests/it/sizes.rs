//! Patches are no larger than those of the classic algorithm, and their head is short.

use sluice_delta::DiffOptions;

use crate::images::{code_like, patch, patch_with};

/// The `bsdiff` crate writes one interleaved stream; the best this repository's encoders make of it is its size.
fn bsdiff_size(old: &[u8], new: &[u8]) -> usize {
    let mut raw = Vec::new();
    bsdiff::diff(old, new, &mut raw).unwrap();
    let zstd = zstd::bulk::compress(&raw, 19).unwrap().len();
    let mut xz = Vec::new();
    std::io::Read::read_to_end(&mut liblzma::read::XzEncoder::new(&raw[..], 9), &mut xz).unwrap();
    zstd.min(xz.len())
}

#[test]
fn not_larger_than_bsdiff() {
    for functions in [200, 900, 3_000] {
        let (old, new) = (code_like(functions, 0), code_like(functions, 1));
        // In one piece, as the oracle has it.
        let options = DiffOptions { segment_len: Some(4 << 20), ..DiffOptions::default() };
        let (ours, oracle) = (patch_with(&old, &new, &options).bytes.len(), bsdiff_size(&old, &new));
        assert!(ours <= oracle, "{functions} functions: {ours} bytes against {oracle}");
    }
}

#[test]
fn the_head_of_one_segment_is_short() {
    for functions in [10, 200, 700] {
        let patch = patch(&code_like(functions, 0), &code_like(functions, 1));
        assert_eq!(patch.head.segments.len(), 1);
        assert!(patch.head_len <= 112, "{} bytes", patch.head_len);
    }
}
