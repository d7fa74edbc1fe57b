//! Image slots: two files for each component, `main.a` and `main.b`. One runs, the other is written.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sluice_catalog::Digest;
use sluice_catalog::text::Component;

use crate::error::AgentError;

/// Bytes read at a time when a slot is hashed.
const BLOCK_BYTES: usize = 64 << 10;

/// One of the two slots of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The slot that a device is provisioned with.
    A,
    /// The other.
    B,
}

impl Slot {
    /// The other slot.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// The letter in file names.
    pub const fn letter(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.letter())
    }
}

/// The file of a slot.
pub fn path(slots: &Path, component: &Component, slot: Slot) -> PathBuf {
    slots.join(format!("{component}.{slot}"))
}

/// Length and digest of a slot's content; `None` when there is no file.
pub fn digest(path: &Path) -> Result<Option<(u64, Digest)>, AgentError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(AgentError::io(path)(error)),
    };
    let mut hash = Sha256::new();
    let length = hash_into(&mut file, u64::MAX, &mut hash).map_err(AgentError::io(path))?;
    Ok(Some((length, Digest(hash.finalize().into()))))
}

/// Hashes up to `limit` bytes, returns how many there were.
pub fn hash_into(from: &mut impl Read, limit: u64, hash: &mut Sha256) -> std::io::Result<u64> {
    let mut block = vec![0; BLOCK_BYTES];
    let mut done = 0u64;
    while done < limit {
        let want = usize::try_from(limit - done).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
        let Some(room) = block.get_mut(..want) else { break };
        let read = match from.read(room) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(room.get(..read).unwrap_or_default());
        done += read as u64;
    }
    Ok(done)
}

/// Opens the inactive slot for writing, keeping what is in it: an interrupted download goes on there.
pub fn open_for_writing(path: &Path) -> Result<File, AgentError> {
    OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path).map_err(AgentError::io(path))
}

/// Empties a slot.
pub fn erase(path: &Path) -> Result<(), AgentError> {
    let file = open_for_writing(path)?;
    file.set_len(0).and_then(|()| file.sync_all()).map_err(AgentError::io(path))
}
