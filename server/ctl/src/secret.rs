//! Files that hold secrets: tokens and the configuration with the token in it. Readable by their owner alone from the
//! first byte on.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::failure::Failure;

/// Longest token in a file, bytes: our own have below 100; more is a wrong file.
pub const TOKEN_MAX_LEN: usize = 4096;

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Replaces a file in one step: a reader, or a crash, sees the old content or the new one.
pub fn replace(path: &Path, content: &str) -> anyhow::Result<()> {
    let shown = || path.display().to_string();
    let mut name = path.file_name().with_context(|| format!("{}: no file name", path.display()))?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let fresh = path.with_file_name(name);
    let write = || -> std::io::Result<()> {
        let mut file = options().create_new(true).open(&fresh)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&fresh))).with_context(shown)
}

/// A token as it stands in a file: one line of visible ASCII.
pub fn read_token(path: &Path) -> Result<String, Failure> {
    let shown = || path.display().to_string();
    let mut text = String::new();
    let file = File::open(path).with_context(shown)?;
    file.take(TOKEN_MAX_LEN as u64 + 1).read_to_string(&mut text).with_context(shown)?;
    parse_token(&text).map_err(|rule| Failure::Usage(format!("{}: {rule}", path.display())))
}

/// Checks that a text can stand in an `Authorization` header.
pub fn parse_token(text: &str) -> Result<String, &'static str> {
    let token = text.trim();
    if token.is_empty() {
        return Err("no token in it");
    }
    if token.len() > TOKEN_MAX_LEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("not a token: one line of at most 4096 visible ASCII characters");
    }
    Ok(token.to_owned())
}

/// A file kept ready for a secret that is shown only once: made before the request, so that a full disk or a missing
/// folder is told before the secret exists.
pub struct Reserved {
    path: PathBuf,
    file: Option<File>,
}

impl Reserved {
    /// Makes the file. An existing one is never overwritten: it may be the only copy of another secret.
    pub fn new(path: &Path) -> Result<Self, Failure> {
        let file = options()
            .create_new(true)
            .open(path)
            .with_context(|| format!("{}: the secret goes to a new file", path.display()))?;
        Ok(Self { path: path.to_owned(), file: Some(file) })
    }

    /// Writes the secret and keeps the file.
    pub fn fill(mut self, secret: &str) -> Result<PathBuf, Failure> {
        if let Some(mut file) = self.file.take() {
            file.write_all(secret.as_bytes())
                .and_then(|()| file.write_all(b"\n"))
                .and_then(|()| file.sync_all())
                .with_context(|| self.path.display().to_string())?;
        }
        Ok(std::mem::take(&mut self.path))
    }
}

impl Drop for Reserved {
    /// Nothing came: the empty file goes.
    fn drop(&mut self) {
        if self.file.take().is_some() {
            drop(fs::remove_file(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_file_stays_only_when_filled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        drop(Reserved::new(&path).unwrap());
        assert!(!path.exists());
        Reserved::new(&path).unwrap().fill("s3cret").unwrap();
        assert_eq!(read_token(&path).unwrap(), "s3cret");
        assert!(Reserved::new(&path).is_err(), "a secret is never overwritten");
    }

    #[cfg(unix)]
    #[test]
    fn a_replaced_file_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ctl.toml");
        replace(&path, "one").unwrap();
        replace(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_token_is_one_visible_line() {
        assert_eq!(parse_token(" abc\n").unwrap(), "abc");
        assert!(parse_token("").is_err());
        assert!(parse_token("two words").is_err());
        assert!(parse_token(&"x".repeat(TOKEN_MAX_LEN + 1)).is_err());
    }
}
