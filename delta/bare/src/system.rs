//! The few things that a program gets from its system: memory, files, a place to complain.

use alloc::vec::Vec;
use core::{
    alloc::{GlobalAlloc, Layout},
    ffi::{CStr, c_char, c_int, c_void},
    panic::PanicInfo,
};

#[link(name = "c")]
unsafe extern "C" {
    fn abort() -> !;
    fn aligned_alloc(align: usize, len: usize) -> *mut c_void;
    fn free(memory: *mut c_void);
    fn fopen(name: *const c_char, mode: *const c_char) -> *mut c_void;
    fn fread(to: *mut c_void, size: usize, count: usize, file: *mut c_void) -> usize;
    fn fwrite(from: *const c_void, size: usize, count: usize, file: *mut c_void) -> usize;
    fn fclose(file: *mut c_void) -> c_int;
    fn write(file: c_int, from: *const c_void, len: usize) -> isize;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    say("panicked\n");
    // SAFETY: it takes nothing and does not return.
    unsafe { abort() }
}

/// The compiled `alloc` crate knows how to unwind. Here panics abort, so nothing ever calls these two.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    // SAFETY: it takes nothing and does not return.
    unsafe { abort() }
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

/// Complains.
pub fn say(text: &str) {
    // SAFETY: the text is as long as stated. Nobody can be told if complaining fails.
    unsafe { write(2, text.as_ptr().cast(), text.len()) };
}

/// All bytes of a file.
pub fn read(name: &CStr) -> Option<Vec<u8>> {
    // SAFETY: both are strings.
    let file = unsafe { fopen(name.as_ptr(), c"rb".as_ptr()) };
    if file.is_null() {
        return None;
    }
    let (mut bytes, mut block) = (Vec::new(), [0u8; 4096]);
    loop {
        // SAFETY: the file is open, and the block is as long as stated.
        let read = unsafe { fread(block.as_mut_ptr().cast(), 1, block.len(), file) };
        if read == 0 {
            break;
        }
        bytes.extend_from_slice(&block[..read]);
    }
    // SAFETY: the file is open.
    unsafe { fclose(file) };
    Some(bytes)
}

/// Makes a file of `bytes`; whether that worked.
pub fn write_file(name: &CStr, bytes: &[u8]) -> bool {
    // SAFETY: both are strings.
    let file = unsafe { fopen(name.as_ptr(), c"wb".as_ptr()) };
    if file.is_null() {
        return false;
    }
    // SAFETY: the file is open, and the bytes are as many as stated.
    let written = unsafe { fwrite(bytes.as_ptr().cast(), 1, bytes.len(), file) };
    // SAFETY: the file is open.
    let closed = unsafe { fclose(file) };
    written == bytes.len() && closed == 0
}
