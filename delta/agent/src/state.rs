//! The state directory: where everything lies, and how files are replaced so that a power cut leaves the old or the new.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::AgentError;
use crate::failpoint::failpoint;

/// Longest file the agent reads back from its own state, bytes: the trusted documents of a large repository stay well
/// below, and a damaged file system cannot make the agent allocate without end.
pub const MAX_STATE_FILE_BYTES: u64 = 32 << 20;

/// The directory and its layout.
#[derive(Debug, Clone)]
pub struct StateDir {
    root: PathBuf,
}

/// Held while an agent works on the directory; the system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would leave the lock with a child process that is just being started and still shares the file.
        // Nothing can be done about a failure, and the next agent would say so.
        let _ = self.file.unlock();
    }
}

impl StateDir {
    /// A directory, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `agent.toml`: who the device is and how it behaves.
    pub fn config(&self) -> PathBuf {
        self.root.join("agent.toml")
    }

    /// `device.key`: the device's ed25519 key, PKCS#8 in PEM.
    pub fn key(&self) -> PathBuf {
        self.root.join("device.key")
    }

    /// `identity.json`: the id that the server gave.
    pub fn identity(&self) -> PathBuf {
        self.root.join("identity.json")
    }

    /// `session.json`: the current session token.
    pub fn session(&self) -> PathBuf {
        self.root.join("session.json")
    }

    /// `metadata/image.json`: the trusted documents of the image repository.
    pub fn image_metadata(&self) -> PathBuf {
        self.root.join("metadata").join("image.json")
    }

    /// `metadata/director.json`: the trusted director root, the floors, and the answer that is held.
    pub fn director_metadata(&self) -> PathBuf {
        self.root.join("metadata").join("director.json")
    }

    /// `entitlement.json`: the certificate of what the device may have by contract.
    pub fn entitlement(&self) -> PathBuf {
        self.root.join("entitlement.json")
    }

    /// `slots/`: the image slots and the boot pointers.
    pub fn slots(&self) -> PathBuf {
        self.root.join("slots")
    }

    /// `journal`: the steps of the attempt under way.
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// `outbox/`: reports that the server has not got yet.
    pub fn outbox(&self) -> PathBuf {
        self.root.join("outbox")
    }

    /// `soak.json`: how far the soak of the new image is.
    pub fn soak(&self) -> PathBuf {
        self.root.join("soak.json")
    }

    /// `failure.json`: why the last attempt failed, and the log that goes with the report.
    pub fn failure(&self) -> PathBuf {
        self.root.join("failure.json")
    }

    /// `installed.json`: what each slot holds, and the floors against rollback.
    pub fn installed(&self) -> PathBuf {
        self.root.join("installed.json")
    }

    /// Makes the directories, readable by their owner alone.
    pub fn create(&self) -> Result<(), AgentError> {
        for folder in [self.root.clone(), self.root.join("metadata"), self.slots(), self.outbox()] {
            fs::create_dir_all(&folder).map_err(AgentError::io(&folder))?;
            restrict(&folder, 0o700)?;
        }
        Ok(())
    }

    /// Takes the lock, or says who has it.
    pub fn lock(&self) -> Result<Lock, AgentError> {
        let path = self.root.join("lock");
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(AgentError::NotProvisioned { path: self.root.clone() });
            }
            Err(error) => return Err(AgentError::io(&path)(error)),
        };
        match file.try_lock() {
            Ok(()) => Ok(Lock { file }),
            Err(TryLockError::WouldBlock) => Err(AgentError::Locked { path }),
            Err(TryLockError::Error(source)) => Err(AgentError::Io { path, source }),
        }
    }
}

#[cfg(unix)]
fn restrict(path: &Path, mode: u32) -> Result<(), AgentError> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(AgentError::io(path))
}

#[cfg(not(unix))]
fn restrict(_path: &Path, _mode: u32) -> Result<(), AgentError> {
    Ok(())
}

/// Reads a file of at most `limit` bytes; `None` when there is none.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, AgentError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(AgentError::io(path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(AgentError::io(path))?;
    if bytes.len() as u64 > limit {
        return Err(AgentError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(Some(bytes))
}

/// Reads a JSON file of our own; `None` when there is none.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, AgentError> {
    let Some(bytes) = read_bounded(path, MAX_STATE_FILE_BYTES)? else { return Ok(None) };
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(AgentError::Corrupt { path: path.to_owned(), reason: error.to_string() }),
    }
}

/// Replaces a file: written beside it, synced, renamed over it, and the folder synced. At every instant the path names
/// the whole old content or the whole new one.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), AgentError> {
    let mut temp = path.as_os_str().to_owned();
    temp.push(".new");
    let temp = PathBuf::from(temp);
    let write = || -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true);
        // Keys and tokens go this way too, so no file is ever readable by others.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&temp)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(AgentError::io(&temp))?;
    failpoint("agent.file.temp");
    fs::rename(&temp, path).map_err(AgentError::io(path))?;
    sync_folder(path)
}

/// Replaces a JSON file.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), AgentError> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| AgentError::Corrupt { path: path.to_owned(), reason: error.to_string() })?;
    bytes.push(b'\n');
    write_atomic(path, &bytes)
}

/// Removes a file; none there is fine.
pub fn remove(path: &Path) -> Result<(), AgentError> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(AgentError::io(path)(error)),
    }
}

/// Makes a rename or removal in the folder of `path` durable.
pub fn sync_folder(path: &Path) -> Result<(), AgentError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(AgentError::io(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path());
        let first = state.lock().unwrap();
        assert!(matches!(state.lock(), Err(AgentError::Locked { .. })));
        drop(first);
        assert!(state.lock().is_ok());
    }

    #[test]
    fn an_oversized_file_is_refused_unread() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"12345").unwrap();
        assert!(matches!(read_bounded(&path, 4), Err(AgentError::TooLarge { limit: 4, .. })));
        assert_eq!(read_bounded(&path, 5).unwrap().unwrap(), b"12345");
        assert_eq!(read_bounded(&folder.path().join("none"), 5).unwrap(), None);
    }

    #[test]
    fn replaced_files_are_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("device.key");
        write_atomic(&path, b"secret").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
