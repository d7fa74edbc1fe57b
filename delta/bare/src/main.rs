//! Applies a patch without the standard library: `sluice-bare OLD PATCH NEW LENGTH SHA256`, of which the last two are those of
//! the head. If anything that it is made of used `std`, there would be two panic handlers, and it would not link.
//!
//! Built without the feature `alloc` it is what a microcontroller does: there is no allocator at all, and it says how much
//! memory and stack it took. It runs on the machine that builds it, so the C library maps the files.
//! Exit codes: 0 done; 1 refused; 2 wrong usage or trouble with a file.

#![no_std]
#![no_main]

#[cfg(feature = "alloc")]
mod any;
#[cfg(not(feature = "alloc"))]
mod small;
mod system;

use core::ffi::{CStr, c_char, c_int};

use system::say;

/// Entry point.
///
/// # Safety
/// The C library calls it with `count` strings in `words`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(count: c_int, words: *const *const c_char) -> c_int {
    let usage = || {
        say(format_args!("usage: sluice-bare OLD PATCH NEW LENGTH SHA256\n"));
        2
    };
    if count != 6 {
        return usage();
    }
    // SAFETY: there are six words, each a string.
    let [old, patch, new, len, sha256] = [1, 2, 3, 4, 5].map(|n| unsafe { CStr::from_ptr(*words.add(n)) });
    let Some(vouched) = number(len).zip(digest(sha256)) else { return usage() };
    let (Some(old), Some(patch)) = (system::map(old), system::map(patch)) else {
        say(format_args!("cannot read the old image or the patch\n"));
        return 2;
    };
    #[cfg(feature = "alloc")]
    let made = any::apply(old, patch, vouched);
    #[cfg(not(feature = "alloc"))]
    let made = small::apply(old, patch, vouched);
    match made {
        Err(error) => {
            say(format_args!("refused: {error}\n"));
            1
        }
        Ok(made) if system::write(new, &made) => 0,
        Ok(_) => {
            say(format_args!("cannot write the new image\n"));
            2
        }
    }
}

fn number(text: &CStr) -> Option<u32> {
    text.to_str().ok()?.parse().ok()
}

fn digest(text: &CStr) -> Option<[u8; 32]> {
    let text = text.to_str().ok().filter(|text| text.len() == 64 && text.is_ascii())?;
    let mut digest = [0; 32];
    for (n, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * n..2 * n + 2], 16).ok()?;
    }
    Some(digest)
}
