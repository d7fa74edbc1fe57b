//! Applies a patch without the standard library: `sluice-bare OLD PATCH NEW`. If anything that it is made of used `std`, there
//! would be two panic handlers, and it would not link.
//!
//! It runs on the machine that builds it, so the C library reads the files. Exit codes: 0 done; 1 refused; 2 wrong usage or
//! trouble with a file.

#![no_std]
#![no_main]

extern crate alloc;

mod system;

use core::ffi::{CStr, c_char, c_int};

use sluice_delta::{ApplyBudget, ApplyOptions, apply, io::Cursor};
use system::say;

/// Memory that may be used: enough for every profile, and far less than this machine has.
const RAM: u64 = 32 << 20;

/// Entry point.
///
/// # Safety
/// The C library calls it with `count` strings in `words`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(count: c_int, words: *const *const c_char) -> c_int {
    if count != 4 {
        say("usage: sluice-bare OLD PATCH NEW\n");
        return 2;
    }
    // SAFETY: there are four words, each a string.
    let [old, patch, new] = [1, 2, 3].map(|n| unsafe { CStr::from_ptr(*words.add(n)) });
    let (Some(old), Some(patch)) = (system::read(old), system::read(patch)) else {
        say("cannot read the old image or the patch\n");
        return 2;
    };
    let mut made = alloc::vec::Vec::new();
    let options = ApplyOptions { budget: ApplyBudget { ram: RAM, scratch: 0 }, ..ApplyOptions::default() };
    if let Err(error) = apply(Cursor::new(&old), &patch[..], &mut made, &options) {
        say(&alloc::format!("refused: {error}\n"));
        return 1;
    }
    if system::write_file(new, &made) {
        0
    } else {
        say("cannot write the new image\n");
        2
    }
}
