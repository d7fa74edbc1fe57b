//! Which slot boots. [`BootControl`] is the seam where a device's boot loader stands: U-Boot's environment, MCUboot's
//! trailers, an EFI variable. [`FileBoot`] keeps it in a pointer file.

use std::io;
use std::path::{Path, PathBuf};

use sluice_catalog::text::Component;

use crate::slot::Slot;
use crate::state::{read_bounded, write_atomic};

/// What a boot loader must do for an update that cannot brick.
///
/// A switch must be atomic: after a power cut the device boots the old slot or the new one, never neither. A new slot
/// is on trial until it is confirmed; a boot loader that counts failed boots goes back to the other slot on its own.
pub trait BootControl {
    /// The slot that boots now.
    fn active(&self, component: &Component) -> io::Result<Slot>;

    /// Lets this slot boot from now on, on trial.
    fn switch(&self, component: &Component, slot: Slot) -> io::Result<()>;

    /// Ends the trial of the active slot: it came up and is healthy.
    fn confirm(&self, component: &Component) -> io::Result<()>;
}

/// Longest pointer file, bytes: a letter and a word.
const MAX_POINTER_BYTES: u64 = 32;

/// The pointer as a file of one line, `b trial` or `b good`, replaced atomically.
#[derive(Debug, Clone)]
pub struct FileBoot {
    slots: PathBuf,
}

impl FileBoot {
    /// Pointers in the slots' folder.
    pub fn new(slots: impl Into<PathBuf>) -> Self {
        Self { slots: slots.into() }
    }

    fn pointer(&self, component: &Component) -> PathBuf {
        self.slots.join(format!("{component}.pointer"))
    }

    fn write(&self, component: &Component, slot: Slot, word: &str) -> io::Result<()> {
        write_atomic(&self.pointer(component), format!("{slot} {word}\n").as_bytes()).map_err(io::Error::other)
    }
}

fn parse(path: &Path) -> io::Result<Slot> {
    let bytes = read_bounded(path, MAX_POINTER_BYTES).map_err(io::Error::other)?;
    match bytes.as_deref() {
        Some(b"a good\n" | b"a trial\n") => Ok(Slot::A),
        Some(b"b good\n" | b"b trial\n") => Ok(Slot::B),
        Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "neither `a` nor `b` with `good` or `trial`")),
        None => Err(io::Error::new(io::ErrorKind::NotFound, "no pointer file")),
    }
}

impl BootControl for FileBoot {
    fn active(&self, component: &Component) -> io::Result<Slot> {
        parse(&self.pointer(component))
    }

    fn switch(&self, component: &Component, slot: Slot) -> io::Result<()> {
        self.write(component, slot, "trial")
    }

    fn confirm(&self, component: &Component) -> io::Result<()> {
        let slot = self.active(component)?;
        self.write(component, slot, "good")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_on_trial_until_confirmed() {
        let folder = tempfile::tempdir().unwrap();
        let boot = FileBoot::new(folder.path());
        let main: Component = "main".parse().unwrap();
        let pointer = || std::fs::read_to_string(folder.path().join("main.pointer")).unwrap();
        assert_eq!(boot.active(&main).unwrap_err().kind(), io::ErrorKind::NotFound);
        boot.switch(&main, Slot::B).unwrap();
        assert_eq!((boot.active(&main).unwrap(), pointer().as_str()), (Slot::B, "b trial\n"));
        boot.confirm(&main).unwrap();
        assert_eq!((boot.active(&main).unwrap(), pointer().as_str()), (Slot::B, "b good\n"));
    }

    #[test]
    fn a_damaged_pointer_is_an_error_not_a_guess() {
        let folder = tempfile::tempdir().unwrap();
        let boot = FileBoot::new(folder.path());
        std::fs::write(folder.path().join("main.pointer"), "c good\n").unwrap();
        assert_eq!(boot.active(&"main".parse().unwrap()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
