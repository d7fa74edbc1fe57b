//! What applying patches of other programs reserves, counted by the allocator. A test binary of its own, because the count
//! covers the whole process.

#![cfg(all(feature = "generate", feature = "foreign"))]

use std::{
    hint::black_box,
    io::{Cursor, Result, Write},
    ops::ControlFlow,
};

use peak_alloc::PeakAlloc;
use sluice_delta::{
    ApplyBudget,
    foreign::{
        ForeignApplied, ForeignError, ForeignOptions, ZstdHeader, apply_bsdiff40, apply_zstd, write_bsdiff40,
        write_zstd,
    },
};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Bytes that `work` holds at most, beyond what was held before.
fn peak<T>(work: impl FnOnce() -> T) -> (T, u64) {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let result = black_box(work());
    (result, (ALLOCATOR.peak_usage() - before) as u64)
}

/// Holds nothing, compares everything.
struct Expect<'a>(&'a [u8]);

impl Write for Expect<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let (now, later) = self.0.split_at(bytes.len());
        assert!(now == bytes, "another image");
        self.0 = later;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        assert!(self.0.is_empty(), "the image is not complete");
        Ok(())
    }
}

/// Noise, of which every release changes some.
fn image(len: usize, release: u64) -> Vec<u8> {
    let mut state = 1u64;
    (0..len as u64)
        .map(|at| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let changed = if at % 701 < 3 { release } else { 0 };
            (state >> 56).wrapping_add(changed).to_le_bytes()[0]
        })
        .collect()
}

/// Applies with exactly the memory that the refusal of a smaller budget asks for.
fn within_budget(apply: impl Fn(u64) -> std::result::Result<ForeignApplied, ForeignError>) -> (u64, u64) {
    let Err(ForeignError::OverBudget { needed, .. }) = apply(0) else { panic!("nothing needs no memory") };
    let (result, used) = peak(|| apply(needed));
    result.unwrap();
    (needed, used)
}

#[test]
fn memory_is_what_the_reader_asks_for() {
    let options = |ram| ForeignOptions { budget: ApplyBudget { ram, scratch: 0 }, ..ForeignOptions::default() };
    for len in [50_000, 600_000, 2_200_000] {
        let (old, new) = (image(len, 0), image(len + 3_000, 1));
        let bsdiff40 = write_bsdiff40(&old, &new, &|_| ControlFlow::Continue(())).unwrap();
        let (needed, used) =
            within_budget(|ram| apply_bsdiff40(Cursor::new(&old), Cursor::new(&bsdiff40), Expect(&new), &options(ram)));
        assert!(used <= needed, "{len} bytes: bsdiff40 uses {used} of {needed}");
        assert!(needed < 12 << 20, "{needed}, however long the images are");

        let zstd = write_zstd(&old, &new, &|_| ControlFlow::Continue(())).unwrap();
        let (needed, used) = within_budget(|ram| apply_zstd(Cursor::new(&old), &zstd[..], Expect(&new), &options(ram)));
        assert!(used <= needed, "{len} bytes: zstd uses {used} of {needed}");
        let header = ZstdHeader::read(&mut &zstd[..], &options(0)).unwrap();
        assert_eq!(header.memory(old.len() as u64), needed);
        assert!(needed < 4 * used + (2 << 20), "{len} bytes: zstd asks for {needed} and uses {used}");
    }
}
