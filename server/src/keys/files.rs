//! The files of the keys folder: `ROLE.pem` or `ROLE-ID.pem` with a private key, `ROLE.p11` or `ROLE-ID.p11` with the place of
//! one in a token and its public half. Everything that is written is whole or not there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use sluice_signer::{Json, OnlineRole, PublicKey, SigningKey, key_file};
use sluice_token::TokenUri;
use zeroize::Zeroizing;

use super::Held;
use super::online::OnlineKey;

/// Digits of a key's id in its file name: enough to tell a few apart.
const NAME_DIGITS: usize = 16;
/// Bytes of a file that says where a key is: a URI of 4 kB at most, and a public key.
const MAX_REFERENCE_BYTES: u64 = 16 * 1024;
/// Ending of a file with a private key.
pub(super) const PRIVATE: &str = "pem";
/// Ending of a file that says where in a token a key is.
pub(super) const IN_TOKEN: &str = "p11";

/// Where a key is, and which one should be there. The private half stays in the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The key in its token, with the file of the PIN.
    pub uri: TokenUri,
    /// The public half.
    pub public: PublicKey,
}

impl Reference {
    fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        let value = Json::parse(bytes, MAX_REFERENCE_BYTES)?;
        let Some(uri) = value.get("uri").and_then(Json::as_str) else { bail!("uri: a PKCS#11 URI is missing") };
        let Some(key) = value.get("key") else { bail!("key: the public key, a TUF key object, is missing") };
        Ok(Self { uri: TokenUri::parse(uri)?, public: PublicKey::from_json(key).context("key")? })
    }

    /// The text of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let members = [("key", self.public.to_json().clone()), ("uri", self.uri.to_string().into())];
        Json::object(members).to_bytes()
    }
}

/// The name of a key's file. The first of its role has the role's name alone.
pub(super) fn name(role: OnlineRole, key: Option<&PublicKey>, ending: &str) -> String {
    let Some(key) = key else { return format!("{}.{ending}", role.name()) };
    let keyid = key.keyid();
    format!("{}-{}.{ending}", role.name(), keyid.get(..NAME_DIGITS).unwrap_or(keyid))
}

/// The key files of a folder; none when there is no folder.
pub(super) fn list(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| format!("listing {}", folder.display()))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("listing {}", folder.display()))?.path();
        if path.extension().is_some_and(|ending| ending == PRIVATE || ending == IN_TOKEN) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads every key of a folder; of a role, the first comes first. What is known already about a key in a token, and the
/// sessions with it, stay.
pub(super) fn read(folder: &Path, known: &[Held]) -> anyhow::Result<Vec<Held>> {
    let mut held = Vec::new();
    for file in list(folder)? {
        let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let (name, later) = stem.split_once('-').map_or((stem, false), |(name, _)| (name, true));
        let Ok(role) = name.parse::<OnlineRole>() else { continue };
        if let Some(key) = read_key(&file, known).with_context(|| format!("reading {}", file.display()))? {
            held.push((later, Held { role, key, file }));
        }
    }
    held.sort_by_key(|(later, one)| (one.role, *later));
    Ok(held.into_iter().map(|(_, one)| one).collect())
}

/// The key of a file, unless another replica has put it away meanwhile.
fn read_key(file: &Path, known: &[Held]) -> anyhow::Result<Option<Arc<OnlineKey>>> {
    let bytes = match read_limited(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => Zeroizing::new(other?),
    };
    if file.extension().is_some_and(|ending| ending == PRIVATE) {
        let key = key_file::from_pem(std::str::from_utf8(&bytes)?, None)?;
        return Ok(Some(Arc::new(OnlineKey::File(key))));
    }
    let reference = Reference::parse(&bytes)?;
    let same = |one: &&Held| {
        one.key.in_token().is_some_and(|key| *key.uri() == reference.uri && *key.public() == reference.public)
    };
    Ok(Some(match known.iter().find(same) {
        Some(one) => Arc::clone(&one.key),
        None => Arc::new(reference.into()),
    }))
}

fn read_limited(file: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(MAX_REFERENCE_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What a key that was put away says of a token; nothing when it was in a file.
pub(super) fn reference(file: &Path) -> anyhow::Result<Option<Reference>> {
    if file.extension().is_none_or(|ending| ending != IN_TOKEN) {
        return Ok(None);
    }
    let named = || format!("reading {}", file.display());
    Reference::parse(&read_limited(file).with_context(named)?).with_context(named).map(Some)
}

/// Writes a private key.
pub(super) fn write_private(path: &Path, key: &SigningKey) -> anyhow::Result<()> {
    write_secret(path, key_file::to_pem(key)?.as_bytes())
}

/// Writes a secret that only its owner reads: temporary file, then rename, so that no half-written key is ever found.
pub fn write_secret(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    use std::io::Write as _;
    let partial = PathBuf::from(format!("{}.partial", path.display()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(&partial).with_context(|| format!("writing {}", partial.display()))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&partial, path).with_context(|| format!("writing {}", path.display()))?;
    // The name is as durable as the bytes: a key that a root names must not be gone after a power cut.
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        std::fs::File::open(folder)
            .and_then(|folder| folder.sync_all())
            .with_context(|| format!("syncing {}", folder.display()))?;
    }
    Ok(())
}

/// Makes a folder that only its owner enters.
pub(super) fn make_folder(path: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
            .with_context(|| format!("restricting {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_read_as_it_was_written_and_nothing_else_is() {
        let public = SigningKey::from_seed(&[7; 32]).unwrap().public().clone();
        let uri = TokenUri::parse("pkcs11:token=a;object=b?pin-source=file:/run/pin").unwrap();
        let reference = Reference { uri, public };
        assert_eq!(Reference::parse(&reference.to_bytes()).unwrap(), reference);
        for (text, reason) in [
            ("no json", "json"),
            (r#"{"uri": "pkcs11:token=a"}"#, "key: the public key"),
            (r#"{"uri": "/a/file", "key": {}}"#, "begins with pkcs11:"),
            (r#"{"uri": "pkcs11:token=a", "key": {}}"#, "key"),
        ] {
            let error = format!("{:#}", Reference::parse(text.as_bytes()).unwrap_err());
            assert!(error.to_lowercase().contains(reason), "{text}: {error}");
        }
    }
}
