//! Applies patches on a microcontroller: no allocation, and all memory in one [`Memory`] that the caller has, such as a
//! `static`.
//!
//! It takes what the generator makes with the profile `mcu`, and of other patches those that need no more: streams raw or
//! mixed, commands raw, no views. Old image and patch are read through functions from offset and buffer, which fill the buffer;
//! the new image goes to another, piece by piece from front to back. The patch must stay as it is meanwhile.
//!
//! ```
//! # #[cfg(feature = "generate")] {
//! use sluice_delta::{Limits, mcu};
//! # use sluice_delta::{DiffOptions, Profile, diff};
//! # let (old, new) = ([7; 9_000], [8; 9_000]);
//! # let options = DiffOptions { profile: Profile::Mcu, ..DiffOptions::default() };
//! # let made = diff(&old, &new, &options, &|_| std::ops::ControlFlow::Continue(())).unwrap();
//! # let (patch, vouched) = (&made.bytes, (made.head_len, made.head_sha256()));
//! let mut memory = mcu::Memory::new(); // on a device: a `static` of 59 KiB
//! let mut slot = Vec::new(); // on a device: flash
//!
//! let mut applier = mcu::Applier::new(&mut memory, mcu::mapped(patch), vouched, &Limits::default())?;
//! applier.check_old(old.len() as u32, mcu::mapped(&old))?;
//! while applier.segment(mcu::mapped(&old), |bytes| {
//!     slot.extend_from_slice(bytes);
//!     Ok(())
//! })? {}
//! applier.finish()?;
//! assert_eq!(slot, new);
//! # }
//! # Ok::<(), sluice_delta::ApplyError>(())
//! ```

mod applier;
mod commands;
mod forward;
mod memory;
mod segment;
mod table;

#[cfg(feature = "generate")]
pub(crate) use self::memory::{REGIONS, SPANS};
pub use self::{
    applier::{Applier, Header, Progress},
    memory::Memory,
};

use crate::io;

/// Reads memory that is mapped.
pub fn mapped(bytes: &[u8]) -> impl Fn(u32, &mut [u8]) -> io::Result<()> {
    move |offset, out| {
        let from = bytes.get(offset as usize..).and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}
