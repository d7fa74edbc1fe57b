//! The few things that a program gets from its system: files, memory for a whole image, a place to complain.

use core::{
    ffi::{CStr, c_char, c_int, c_long, c_void},
    fmt::{self, Write as _},
    ops::{Deref, DerefMut},
    panic::PanicInfo,
    ptr, slice,
};

#[link(name = "c")]
unsafe extern "C" {
    fn abort() -> !;
    fn fclose(file: *mut c_void) -> c_int;
    fn fileno(file: *mut c_void) -> c_int;
    fn fopen(name: *const c_char, mode: *const c_char) -> *mut c_void;
    fn fseek(file: *mut c_void, by: c_long, from: c_int) -> c_int;
    fn ftell(file: *mut c_void) -> c_long;
    fn fwrite(from: *const c_void, size: usize, count: usize, file: *mut c_void) -> usize;
    fn mmap(at: *mut c_void, len: usize, access: c_int, flags: c_int, file: c_int, offset: c_long) -> *mut c_void;
    #[link_name = "write"]
    fn write_to(file: c_int, from: *const c_void, len: usize) -> isize;
}

/// Arguments of `fseek` and `mmap`, as Linux has them.
const SEEK_END: c_int = 2;
const PROT_READ: c_int = 1;
const PROT_WRITE: c_int = 2;
const MAP_PRIVATE: c_int = 2;
const MAP_ANONYMOUS: c_int = 0x20;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    say(format_args!("{info}\n"));
    // SAFETY: it takes nothing and does not return.
    unsafe { abort() }
}

/// Compiled crates of the toolchain know how to unwind. Here panics abort, so nothing ever calls these two.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    // SAFETY: it takes nothing and does not return.
    unsafe { abort() }
}

struct Complaints;

impl fmt::Write for Complaints {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: the text is as long as stated. Nobody can be told if complaining fails.
        unsafe { write_to(2, text.as_ptr().cast(), text.len()) };
        Ok(())
    }
}

/// Complains.
pub fn say(text: fmt::Arguments<'_>) {
    // It never fails.
    let _ = Complaints.write_fmt(text);
}

/// All bytes of a file, mapped for as long as the program runs.
pub fn map(name: &CStr) -> Option<&'static [u8]> {
    // SAFETY: both are strings.
    let file = unsafe { fopen(name.as_ptr(), c"rb".as_ptr()) };
    if file.is_null() {
        return None;
    }
    // SAFETY: the file is open, here and below.
    let len = unsafe {
        fseek(file, 0, SEEK_END);
        ftell(file)
    };
    let len = usize::try_from(len).ok()?;
    if len == 0 {
        return Some(&[]);
    }
    // SAFETY: a new mapping of a file that is open.
    let bytes = unsafe { mmap(ptr::null_mut(), len, PROT_READ, MAP_PRIVATE, fileno(file), 0) };
    // SAFETY: the mapping has as many bytes, which nobody writes, and is never undone.
    (bytes.addr() != usize::MAX).then(|| unsafe { slice::from_raw_parts(bytes.cast(), len) })
}

/// Memory for an image, from the system.
pub struct Room(&'static mut [u8]);

/// Room for `len` bytes.
#[cfg_attr(feature = "alloc", expect(dead_code, reason = "an allocator has it"))]
pub fn room(len: usize) -> Room {
    let (access, flags) = (PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    // SAFETY: a new mapping of nothing.
    let bytes = unsafe { mmap(ptr::null_mut(), len.max(1), access, flags, -1, 0) };
    assert!(bytes.addr() != usize::MAX, "no memory");
    // SAFETY: the mapping has as many bytes, is nobody else's, and is never undone.
    Room(unsafe { slice::from_raw_parts_mut(bytes.cast(), len) })
}

impl Deref for Room {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0
    }
}

impl DerefMut for Room {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0
    }
}

/// Makes a file of `bytes`; whether that worked.
pub fn write(name: &CStr, bytes: &[u8]) -> bool {
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
