//! Keys that the server holds. None of them can make software: S and T sign which offline-signed documents are current,
//! D signs which of them a device gets, E signs entitlement certificates. A fifth secret authenticates tokens.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sluice_catalog::wire::admin::OnlineKeys;
use sluice_signer::{PublicKey, SigningKey, key_file};
use zeroize::Zeroizing;

use crate::clock::Dice;

/// The server's keys.
#[derive(Debug)]
pub struct Keys {
    /// S: image repository `snapshot`.
    pub snapshot: SigningKey,
    /// T: image repository `timestamp`.
    pub timestamp: SigningKey,
    /// D: director `targets`.
    pub director: SigningKey,
    /// E: entitlement certificates.
    pub entitlement: SigningKey,
    /// Authenticates session tokens, blob tokens and challenges.
    pub tokens: TokenKey,
}

/// The secret behind every token the server can check without the database.
pub struct TokenKey(pub(crate) Zeroizing<[u8; 32]>);

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(…)")
    }
}

impl Keys {
    /// Reads the keys of a folder, and makes those that are missing when `create` is set. Replicas share one folder.
    pub fn load(dir: &Path, create: bool, dice: Dice) -> anyhow::Result<Self> {
        if create {
            std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
            restrict(dir, 0o700)?;
        }
        let one = |name: &str| -> anyhow::Result<SigningKey> {
            let path = dir.join(format!("{name}.pem"));
            if create && !path.exists() {
                let key = SigningKey::from_seed(&dice.bytes())?;
                write_secret(&path, key_file::to_pem(&key)?.as_bytes())?;
            }
            let pem = std::fs::read_to_string(&path)
                .with_context(|| format!("reading {}: copy the keys folder of the first server", path.display()))?;
            key_file::from_pem(&pem, None).with_context(|| format!("reading {}", path.display()))
        };
        let path = dir.join("tokens.key");
        if create && !path.exists() {
            write_secret(&path, hex::encode(dice.bytes::<32>()).as_bytes())?;
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let mut secret = Zeroizing::new([0; 32]);
        if hex::decode_to_slice(text.trim(), &mut *secret).is_err() {
            bail!("{}: 64 hexadecimal digits expected", path.display());
        }
        Ok(Self {
            snapshot: one("snapshot")?,
            timestamp: one("timestamp")?,
            director: one("director")?,
            entitlement: one("entitlement")?,
            tokens: TokenKey(secret),
        })
    }

    /// The public halves, as offline roots name them.
    pub fn online(&self) -> sluice_signer::OnlineKeys {
        sluice_signer::OnlineKeys {
            snapshot: self.snapshot.public().clone(),
            timestamp: self.timestamp.public().clone(),
            director: self.director.public().clone(),
            entitlement: self.entitlement.public().clone(),
        }
    }

    /// The export that `sluice-sign root init` reads.
    pub fn export(&self) -> serde_json::Result<OnlineKeys> {
        let one = |key: &PublicKey| serde_json::to_value(key.to_json());
        Ok(OnlineKeys {
            snapshot: one(self.snapshot.public())?,
            timestamp: one(self.timestamp.public())?,
            director: one(self.director.public())?,
            entitlement: one(self.entitlement.public())?,
        })
    }
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
    std::fs::rename(&partial, path).with_context(|| format!("writing {}", path.display()))
}

#[cfg(unix)]
fn restrict(path: &Path, mode: u32) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("restricting {}", path.display()))
}

#[cfg(not(unix))]
fn restrict(_: &Path, _: u32) -> anyhow::Result<()> {
    Ok(())
}
