//! The applier for microcontrollers, with the memory it takes: one `static`, and a stack that is painted to see how much of
//! it was used.

use core::cell::UnsafeCell;

use sluice_delta::{ApplyError, Limits, mcu};

use crate::system::{Room, room, say};

/// Bytes of stack that are painted: more than is used.
const PAINTED: usize = 32 << 10;

/// Bytes below a frame that belong to the painter.
const PAINTER: usize = 512;

const PAINT: u8 = 0xa5;

struct Static(UnsafeCell<mcu::Memory>);

// SAFETY: there is one thread.
unsafe impl Sync for Static {}

static MEMORY: Static = Static(UnsafeCell::new(mcu::Memory::new()));

/// Applies a patch whose head has the length and SHA-256 `vouched`.
pub fn apply(old: &[u8], patch: &[u8], vouched: (u32, [u8; 32])) -> Result<Room, ApplyError> {
    // SAFETY: this function is called once.
    let memory = unsafe { &mut *MEMORY.0.get() };
    let top = (&raw const old).cast::<u8>().cast_mut();
    paint(top);
    let made = run(memory, old, patch, vouched);
    let stack = used(top);
    say(format_args!("{} bytes of memory, {stack} bytes of stack\n", size_of::<mcu::Memory>()));
    made
}

#[inline(never)]
fn run(memory: &mut mcu::Memory, old: &[u8], patch: &[u8], vouched: (u32, [u8; 32])) -> Result<Room, ApplyError> {
    let mut applier = mcu::Applier::new(memory, mcu::mapped(patch), vouched, &Limits::default())?;
    applier.check_old(u32::try_from(old.len()).unwrap_or(u32::MAX), mcu::mapped(old))?;
    let mut new = room(applier.header().new_len as usize);
    let mut at = 0;
    while applier.segment(mcu::mapped(old), |bytes| {
        new[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
        Ok(())
    })? {}
    applier.finish()?;
    Ok(new)
}

/// Fills the stack below the painter with paint.
#[inline(never)]
fn paint(top: *mut u8) {
    for below in PAINTER..PAINTED {
        // SAFETY: this is stack of which nothing is used now; the system gives more of it when it is touched.
        unsafe { top.sub(below).write_volatile(PAINT) }
    }
}

/// Bytes of stack on which the paint did not last.
#[inline(never)]
fn used(top: *mut u8) -> usize {
    // SAFETY: it was painted.
    let lasts = |below: &usize| unsafe { top.sub(*below).read_volatile() } == PAINT;
    let untouched = (PAINTER..PAINTED).rev().take_while(lasts).count();
    PAINTED - untouched
}
