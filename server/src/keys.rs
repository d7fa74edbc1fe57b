//! Keys that the server holds. None of them can make software: S and T sign which offline-signed documents are current,
//! D signs which of them a device gets, E signs entitlement certificates. A fifth secret authenticates tokens.
//!
//! A role may have a second key beside the one in use, which the next root will name. Which key signs follows from the
//! published roots alone, so every replica decides alike, before and after a crash: the key that the newest root names
//! signs, one that no root has named is the successor, one that only older roots named has had its time; but those that the last
//! roots of an ended epoch name sign for its devices as long as its branch lives. Where a key is, in a file or in a PKCS#11
//! token, makes no difference to that.

mod check;
mod files;
mod make;
mod online;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use sluice_catalog::wire::admin::OnlineKeys;
use sluice_signer::{NamedKeys, OnlineRole, PublicKey};
use zeroize::Zeroizing;

use crate::clock::Dice;
use crate::failpoint::failpoint;

pub use check::{Listed, MissingBranchKey, State, check_folder, end_branches};
pub use files::{Reference, write_secret};
pub use make::Home;
pub use online::{KeyInToken, News, OnlineKey, TokenDown};

/// The folder, under that of the keys, of those that have had their time.
const RETIRED: &str = "retired";

/// The server's keys.
#[derive(Debug)]
pub struct Keys {
    folder: PathBuf,
    held: ArcSwap<Vec<Held>>,
    /// Authenticates session tokens, blob tokens and challenges.
    pub tokens: TokenKey,
}

/// A key with its file in the folder, which holds it or says where it is.
#[derive(Clone, Debug)]
struct Held {
    role: OnlineRole,
    key: Arc<OnlineKey>,
    file: PathBuf,
}

/// The secret behind every token the server can check without the database.
pub struct TokenKey(pub(crate) Zeroizing<[u8; 32]>);

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(…)")
    }
}

/// The published root names a key that this server does not have: it must not sign, because no device would take it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the published root names {} key {keyid}, and the keys folder {} does not have it: copy the folder of the server \
     that made the key, or let the holders sign roots that name this server's (`keys export`, `sluice-sign root rotate`)",
    role.name(), folder.display()
)]
pub struct MissingKey {
    /// The key's role.
    pub role: OnlineRole,
    /// The key's id.
    pub keyid: String,
    /// Where it was looked for.
    pub folder: PathBuf,
}

impl Keys {
    /// Reads the keys of a folder, and makes those that are missing in files. See [`Self::open`].
    pub fn load(folder: &Path, create: bool, dice: Dice) -> anyhow::Result<Self> {
        Self::open(folder, create.then_some(&Home::Files), dice)
    }

    /// Reads the keys of a folder. Replicas share one folder, or copies of it. Keys that are missing are made where `create`
    /// says: only before any root names keys, because others would be of no use after that. No token is opened for keys that
    /// are there.
    pub fn open(folder: &Path, create: Option<&Home>, dice: Dice) -> anyhow::Result<Self> {
        files::make_folder(folder)?;
        if let Some(home) = create {
            for role in OnlineRole::ALL {
                let held = files::read(folder, &[])?;
                if held.iter().all(|one| one.role != role) {
                    home.make(folder, role, true, &held, dice)?;
                }
            }
        }
        let path = folder.join("tokens.key");
        if !path.exists() {
            write_secret(&path, hex::encode(dice.bytes::<32>()).as_bytes())?;
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let mut secret = Zeroizing::new([0; 32]);
        if hex::decode_to_slice(text.trim(), &mut *secret).is_err() {
            bail!("{}: 64 hexadecimal digits expected", path.display());
        }
        let held = files::read(folder, &[])?;
        for role in OnlineRole::ALL {
            if held.iter().all(|one| one.role != role) {
                bail!(
                    "{} has no {} key: copy the keys folder of the first server, or, when it is lost, make other keys with \
                     `keys export` and let the holders sign roots that name them",
                    folder.display(),
                    role.name()
                );
            }
        }
        Ok(Self { folder: folder.to_owned(), held: ArcSwap::from_pointee(held), tokens: TokenKey(secret) })
    }

    /// Reads the folder again: a key may have been made beside a running server, or copied to it.
    pub fn reread(&self) -> anyhow::Result<()> {
        let held = files::read(&self.folder, &self.held.load())?;
        self.held.store(Arc::new(held));
        Ok(())
    }

    /// The key with which to sign: the one that the published root names. Before there is a root it is the first.
    pub fn current(&self, role: OnlineRole, named: &NamedKeys) -> Result<Arc<OnlineKey>, MissingKey> {
        let held = self.held.load();
        let mut of_role = held.iter().filter(|one| one.role == role);
        let found = match named.now.get(&role) {
            Some(keyid) => of_role.find(|one| one.key.public().keyid() == keyid),
            None => of_role.next(),
        };
        found.map(|one| Arc::clone(&one.key)).ok_or_else(|| MissingKey {
            role,
            keyid: named.now.get(&role).cloned().unwrap_or_default(),
            folder: self.folder.clone(),
        })
    }

    /// The key that is there to follow, if one is.
    fn next(&self, role: OnlineRole, named: &NamedKeys) -> Option<PublicKey> {
        let current = self.current(role, named).ok();
        let is_current = |key: &PublicKey| current.as_ref().is_some_and(|current| current.public() == key);
        let held = self.held.load();
        let mut of_role = held.iter().filter(|one| one.role == role).map(|one| one.key.public());
        of_role.find(|key| !is_current(key) && !named.ever.contains(key.keyid())).cloned()
    }

    /// The first key that the published roots name and that is not here.
    pub fn missing(&self, named: &NamedKeys) -> Option<MissingKey> {
        OnlineRole::ALL.into_iter().find_map(|role| self.current(role, named).err())
    }

    /// The public halves, as offline roots may name them, with those that may follow. Where the current key is lost, the one that
    /// waits stands in its place: roots that name it are the way back.
    pub fn online(&self, named: &NamedKeys) -> Result<sluice_signer::OnlineKeys, MissingKey> {
        let current = |role| match self.current(role, named) {
            Ok(key) => Ok(key.public().clone()),
            Err(missing) => self.next(role, named).ok_or(missing),
        };
        let next = |role| {
            let key = self.current(role, named).ok().and_then(|_| self.next(role, named))?;
            Some((role, key))
        };
        Ok(sluice_signer::OnlineKeys {
            snapshot: current(OnlineRole::Snapshot)?,
            timestamp: current(OnlineRole::Timestamp)?,
            director: current(OnlineRole::Director)?,
            entitlement: current(OnlineRole::Entitlement)?,
            next: OnlineRole::ALL.into_iter().filter_map(next).collect(),
        })
    }

    /// The export that `sluice-sign root init` and `root rotate` read.
    pub fn export(&self, named: &NamedKeys) -> anyhow::Result<OnlineKeys> {
        let online = self.online(named)?;
        let one = |key: &PublicKey| serde_json::to_value(key.to_json());
        let next = online.next.iter().map(|(role, key)| Ok((role.name().to_owned(), one(key)?)));
        Ok(OnlineKeys {
            snapshot: one(&online.snapshot)?,
            timestamp: one(&online.timestamp)?,
            director: one(&online.director)?,
            entitlement: one(&online.entitlement)?,
            next: next.collect::<serde_json::Result<_>>()?,
        })
    }

    /// Whether some role has more than one key, so that only the roots tell which is which.
    pub fn is_rotating(&self) -> bool {
        let held = self.held.load();
        OnlineRole::ALL.into_iter().any(|role| held.iter().filter(|one| one.role == role).count() > 1)
    }

    /// Makes the key that is to follow the current one; the same again gives the one that is there already, unless `again`
    /// takes that away and makes another. Its public half and its file.
    pub fn make_next(
        &self,
        role: OnlineRole,
        named: &NamedKeys,
        again: bool,
        dice: Dice,
    ) -> anyhow::Result<(PublicKey, PathBuf)> {
        self.make_next_in(&Home::Files, role, named, again, dice)
    }

    /// The same, in a home of the caller's choice.
    pub fn make_next_in(
        &self,
        home: &Home,
        role: OnlineRole,
        named: &NamedKeys,
        again: bool,
        dice: Dice,
    ) -> anyhow::Result<(PublicKey, PathBuf)> {
        let held = self.held.load_full();
        let waits = self.next(role, named);
        if let Some(one) = held.iter().find(|one| waits.as_ref() == Some(one.key.public())) {
            let key = one.key.public();
            if again {
                self.put_away(&one.file, role, key)?;
            } else if home.holds(&one.key) {
                return Ok((key.clone(), one.file.clone()));
            } else {
                bail!(
                    "{} key {} in {} waits already, and is elsewhere than where one was asked for: `--again` puts it away \
                     and makes another",
                    role.name(),
                    key.keyid(),
                    one.file.display()
                );
            }
        }
        let made = home.make(&self.folder, role, false, &held, dice)?;
        failpoint("keys.next.after_write");
        self.reread()?;
        Ok(made)
    }

    /// Lets go of keys that have had their time, and puts their files away. What could not be put away is not used, either.
    pub fn retire(&self, named: &NamedKeys) -> anyhow::Result<Vec<String>> {
        let held = self.held.load_full();
        let (gone, stay): (Vec<Held>, Vec<Held>) =
            held.iter().cloned().partition(|one| named.is_retired(one.key.public().keyid()));
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        self.held.store(Arc::new(stay));
        failpoint("keys.retire.before_move");
        for one in &gone {
            self.put_away(&one.file, one.role, one.key.public())?;
            failpoint("keys.retire.after_move");
        }
        Ok(gone.iter().map(|one| format!("{} {}", one.role.name(), one.key.public().keyid())).collect())
    }

    /// Each key has a name of its own there, so two replicas that do this at once do not harm each other.
    fn put_away(&self, file: &Path, role: OnlineRole, key: &PublicKey) -> anyhow::Result<()> {
        let retired = self.folder.join(RETIRED);
        files::make_folder(&retired)?;
        let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or(files::PRIVATE);
        match std::fs::rename(file, retired.join(files::name(role, Some(key), ending))) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.with_context(|| format!("moving {} to {}", file.display(), retired.display())),
        }
    }

    /// Deletes the keys that were put away, in their tokens, too; how many.
    pub fn forget(folder: &Path) -> anyhow::Result<usize> {
        let retired = files::list(&folder.join(RETIRED))?;
        for file in &retired {
            if let Some(reference) = files::reference(file)? {
                make::destroy(&reference).with_context(|| {
                    format!("{} stays: when its token is gone for good, delete the file by hand", file.display())
                })?;
            }
            std::fs::remove_file(file).with_context(|| format!("deleting {}", file.display()))?;
        }
        Ok(retired.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let files = files::list(folder).unwrap();
        files.iter().map(|file| file.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_key_that_waits_is_the_same_until_another_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::load(folder.path(), true, Dice).unwrap();
        let nothing = NamedKeys::default();
        let make = |again| keys.make_next(OnlineRole::Director, &nothing, again, Dice).unwrap();
        let (first, file) = make(false);
        assert_eq!((first.clone(), file.clone()), make(false));
        assert!(file.exists() && keys.is_rotating());
        let (other, _) = make(true);
        assert_ne!(first, other);
        assert_eq!(keys.online(&nothing).unwrap().next[&OnlineRole::Director], other);
        assert!(!file.exists());
        assert_eq!(
            names(&folder.path().join(RETIRED)),
            [files::name(OnlineRole::Director, Some(&first), files::PRIVATE)]
        );
        assert_eq!(Keys::forget(folder.path()).unwrap(), 1);
        assert_eq!(Keys::forget(folder.path()).unwrap(), 0);
    }

    #[test]
    fn before_there_is_a_root_the_first_keys_stay_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::load(folder.path(), true, Dice).unwrap();
        let nothing = NamedKeys::default();
        let before = keys.online(&nothing).unwrap();
        for role in OnlineRole::ALL {
            keys.make_next(role, &nothing, false, Dice).unwrap();
        }
        let again = Keys::load(folder.path(), true, Dice).unwrap();
        for role in OnlineRole::ALL {
            assert_eq!(again.online(&nothing).unwrap().current(role), before.current(role));
        }
        assert_eq!(keys.retire(&nothing).unwrap(), [] as [String; 0]);
    }

    #[test]
    fn what_is_no_key_of_ours_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["server.pem", "snapshot.pem.partial", "snapshot-old.txt"] {
            std::fs::write(folder.path().join(name), "anything").unwrap();
        }
        let keys = Keys::load(folder.path(), true, Dice).unwrap();
        assert!(!keys.is_rotating());
        std::fs::write(folder.path().join("snapshot-0.pem"), "no key").unwrap();
        let error = format!("{:#}", keys.reread().unwrap_err());
        assert!(error.contains("snapshot-0.pem"), "{error}");
        assert!(keys.current(OnlineRole::Snapshot, &NamedKeys::default()).is_ok(), "what was read before stays");
    }

    #[cfg(unix)]
    #[test]
    fn keys_are_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::load(folder.path(), true, Dice).unwrap();
        let (_, file) = keys.make_next(OnlineRole::Snapshot, &NamedKeys::default(), false, Dice).unwrap();
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
