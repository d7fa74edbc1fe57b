//! The applier of every patch, with an allocator.

extern crate alloc;

use alloc::vec::Vec;
use core::{
    alloc::{GlobalAlloc, Layout},
    ffi::c_void,
};

use sluice_delta::{ApplyBudget, ApplyError, ApplyOptions, io::Cursor};

/// Memory that may be used: enough for every profile, and far less than this machine has.
const RAM: u64 = 32 << 20;

#[link(name = "c")]
unsafe extern "C" {
    fn aligned_alloc(align: usize, len: usize) -> *mut c_void;
    fn free(memory: *mut c_void);
}

struct System;

#[global_allocator]
static SYSTEM: System = System;

// SAFETY: the C library's memory is what is asked for: its address is a multiple of `align`, and so is the length given to it.
unsafe impl GlobalAlloc for System {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the alignment is a power of two, of which the length is a multiple.
        unsafe { aligned_alloc(layout.align(), layout.size().next_multiple_of(layout.align())).cast() }
    }

    unsafe fn dealloc(&self, memory: *mut u8, _: Layout) {
        // SAFETY: it came from `alloc`.
        unsafe { free(memory.cast()) }
    }
}

/// Applies a patch whose head has the length and SHA-256 `vouched`.
pub fn apply(old: &[u8], patch: &[u8], vouched: (u32, [u8; 32])) -> Result<Vec<u8>, ApplyError> {
    let mut made = Vec::new();
    let budget = ApplyBudget { ram: RAM, scratch: 0 };
    let options = ApplyOptions { budget, expected_head: Some(vouched), ..ApplyOptions::default() };
    sluice_delta::apply(Cursor::new(old), patch, &mut made, &options)?;
    Ok(made)
}
