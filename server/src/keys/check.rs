//! Looking at the keys that are here: what each is good for, and whether the token of one that is in a token has it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use arc_swap::ArcSwap;
use sluice_catalog::Time;
use sluice_signer::{BranchKeys, NamedKeys, OnlineRole};
use zeroize::Zeroizing;

use super::{Held, Keys, MissingKey, OnlineKey, TokenKey, files};

/// What a key is good for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It signs.
    Signs,
    /// It signs as soon as a root names it.
    Waits,
    /// It signs for devices of an epoch that has ended, as long as its branch lives.
    SignsForEpoch(u64),
    /// It is never used again.
    HadItsTime,
}

impl State {
    /// The words of `keys list`.
    pub fn words(self) -> String {
        match self {
            Self::Signs => "signs".to_owned(),
            Self::Waits => "waits".to_owned(),
            Self::SignsForEpoch(epoch) => format!("signs for epoch {epoch}"),
            Self::HadItsTime => "had its time".to_owned(),
        }
    }
}

/// A key as `keys list` tells of it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its role.
    pub role: OnlineRole,
    /// What it is good for.
    pub state: State,
    /// The key.
    pub key: Arc<OnlineKey>,
    /// Its file.
    pub file: PathBuf,
    /// What is wrong with its token, if something is.
    pub trouble: Option<String>,
}

impl Keys {
    /// Opens the tokens of keys that are in one, and holds what is there against what should be. A key that signs must be
    /// right; of one that waits it is only told, and of one of a branch, without which everybody else is served.
    pub fn check_tokens(&self, named: &NamedKeys) -> anyhow::Result<()> {
        for one in self.held.load().iter() {
            match (self.state(one, named), one.check()) {
                (State::Signs, Err(error)) => return Err(error),
                (State::Waits, Err(error)) => tracing::warn!("{error:#}"),
                (State::SignsForEpoch(epoch), Err(error)) => {
                    tracing::warn!(epoch, "{error:#}; until its token is right, {}", stops(one.role, epoch));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// All keys that are here. Opens tokens.
    pub fn list(&self, named: &NamedKeys) -> Vec<Listed> {
        let listed = |one: &Held| Listed {
            role: one.role,
            state: self.state(one, named),
            key: Arc::clone(&one.key),
            file: one.file.clone(),
            trouble: one.check().err().map(|error| format!("{error:#}")),
        };
        self.held.load().iter().map(listed).collect()
    }

    /// The first key of each branch that is not here.
    pub fn missing_of_branches(&self, named: &NamedKeys) -> Vec<MissingBranchKey> {
        let missing = |(&epoch, branch): (&u64, &BranchKeys)| {
            let mut named = branch.keys.iter();
            let held = self.held.load();
            let (&role, keyid) = named.find(|(role, keyid)| {
                held.iter().all(|one| one.role != **role || one.key.public().keyid() != *keyid)
            })?;
            let missing = MissingKey { role, keyid: keyid.clone(), folder: self.folder.clone() };
            Some(MissingBranchKey { epoch, missing })
        };
        named.branches.iter().filter_map(missing).collect()
    }

    fn state(&self, one: &Held, named: &NamedKeys) -> State {
        let keyid = one.key.public().keyid();
        // A key that does not change with the epoch may have signed for several: the last branch lives longest.
        let of_branch = |branch: &BranchKeys| branch.keys.get(&one.role).is_some_and(|named| named == keyid);
        let branch = named.branches.iter().rev().find(|(_, branch)| of_branch(branch));
        match (self.current(one.role, named), branch) {
            (Ok(current), _) if Arc::ptr_eq(&current, &one.key) => State::Signs,
            (_, Some((&epoch, _))) => State::SignsForEpoch(epoch),
            _ if named.ever.contains(keyid) => State::HadItsTime,
            _ => State::Waits,
        }
    }
}

/// Lets go of branches that no device takes any more.
pub fn end_branches(named: &mut NamedKeys, now: Time) {
    if let Ok(now) = jiff::Timestamp::from_second(now.as_s()) {
        named.end_branches(now);
    }
}

/// What is not signed without the key of a branch.
fn stops(role: OnlineRole, epoch: u64) -> String {
    let what = match role {
        OnlineRole::Snapshot | OnlineRole::Timestamp => "snapshot and timestamp are not signed again",
        OnlineRole::Director => "no poll is answered",
        OnlineRole::Entitlement => "no entitlement is certified",
    };
    format!("{what} for devices of epoch {epoch}")
}

/// The last roots of an ended epoch name a key that this server does not have, and nothing can replace it any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the last root of epoch {epoch} names {} key {}, and the keys folder {} does not have it: copy its file from another \
     replica or from the backup; until then {}",
    missing.role.name(), missing.keyid, missing.folder.display(), stops(missing.role, *epoch)
)]
pub struct MissingBranchKey {
    /// The epoch.
    pub epoch: u64,
    /// The key, and where it was looked for.
    pub missing: MissingKey,
}

impl Held {
    /// Opens the token of a key that is in one, and holds its key against the file. What was looked at; nothing for files.
    fn check(&self) -> anyhow::Result<Option<String>> {
        let Some(key) = self.key.in_token() else { return Ok(None) };
        let named = format!("the {} key of {}", self.role.name(), self.file.display());
        key.check().map_err(|error| anyhow!("{named}: {}", error.whole()))?;
        Ok(Some(format!("{named} is in its token: {}", key.uri())))
    }
}

/// Opens the token of every key of a folder that is in one; a line for each. What keeps a server from starting is an error, and what
/// it starts with a warning is a line that says so. Which keys sign is asked for only when one is not right.
pub fn check_folder(folder: &Path, named: impl FnOnce() -> anyhow::Result<NamedKeys>) -> anyhow::Result<Vec<String>> {
    let held = files::read(folder, &[])?;
    let checked: Vec<_> = held.iter().map(|one| (one, one.check())).collect();
    if checked.iter().all(|(_, checked)| checked.is_ok()) {
        return Ok(checked.into_iter().filter_map(|(_, line)| line.ok().flatten()).collect());
    }
    let named = named()?;
    // For looking alone: no token of ours is checked with it.
    let tokens = TokenKey(Zeroizing::new([0; 32]));
    let keys = Keys { folder: folder.to_owned(), held: ArcSwap::from_pointee(held.clone()), tokens };
    let mut lines = Vec::new();
    for (one, checked) in checked {
        match (keys.state(one, &named), checked) {
            (_, Ok(line)) => lines.extend(line),
            (State::Signs, Err(error)) => return Err(error),
            (state, Err(error)) => lines.push(format!("warning: {error:#}; this key {}", state.words())),
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Dice;
    use crate::keys::Reference;
    use sluice_token::TokenUri;

    const ENDS_S: i64 = 2_000_000_000;

    /// Keys of a second epoch in use, and those of the first, which its branch still needs. The timestamp key changed within the
    /// first epoch, and the entitlement key not at all.
    fn second_epoch(folder: &Path) -> (Keys, NamedKeys) {
        let keys = Keys::load(folder, true, Dice).unwrap();
        let nothing = NamedKeys::default();
        let id = |key: &sluice_signer::PublicKey| key.keyid().to_owned();
        let first = OnlineRole::ALL.map(|role| (role, id(keys.current(role, &nothing).unwrap().public())));
        let mut named = NamedKeys { now: first.clone().into(), ..NamedKeys::default() };
        named.ever.extend(named.now.values().cloned());
        let follow = |named: &mut NamedKeys, role| {
            let next = id(&keys.make_next(role, named, false, Dice).unwrap().0);
            named.ever.insert(next.clone());
            named.now.insert(role, next);
        };
        follow(&mut named, OnlineRole::Timestamp);
        named.epoch = 2;
        let until = jiff::Timestamp::from_second(ENDS_S).unwrap();
        named.branches.insert(1, BranchKeys { keys: named.now.clone(), until });
        for role in [OnlineRole::Snapshot, OnlineRole::Timestamp, OnlineRole::Director] {
            follow(&mut named, role);
        }
        keys.make_next(OnlineRole::Director, &named, false, Dice).unwrap();
        (keys, named)
    }

    fn states(keys: &Keys, named: &NamedKeys) -> Vec<(&'static str, String)> {
        let mut all: Vec<_> = keys.list(named).iter().map(|one| (one.role.name(), one.state.words())).collect();
        all.sort();
        all
    }

    fn expected(of_branch: &str) -> Vec<(&'static str, String)> {
        let all = [
            ("director", "signs"),
            ("director", of_branch),
            ("director", "waits"),
            ("entitlement", "signs"),
            ("snapshot", "signs"),
            ("snapshot", of_branch),
            ("timestamp", "had its time"),
            ("timestamp", "signs"),
            ("timestamp", of_branch),
        ];
        let mut all = all.map(|(role, words)| (role, words.to_owned()));
        all.sort();
        all.into()
    }

    #[test]
    fn a_key_signs_for_the_epoch_that_ended_as_long_as_its_branch_lives() {
        let folder = tempfile::tempdir().unwrap();
        let (keys, mut named) = second_epoch(folder.path());
        end_branches(&mut named, Time::from_ms((ENDS_S - 1) * 1000));
        assert_eq!(states(&keys, &named), expected("signs for epoch 1"));
        end_branches(&mut named, Time::from_ms(ENDS_S * 1000));
        assert_eq!(states(&keys, &named), expected("had its time"));
    }

    #[test]
    fn a_key_of_a_branch_that_is_not_here_is_told_of_with_what_stops() {
        let folder = tempfile::tempdir().unwrap();
        let (keys, mut named) = second_epoch(folder.path());
        assert_eq!(keys.missing_of_branches(&named), []);
        let listed = keys.list(&named);
        let branch = |one: &&Listed| one.role == OnlineRole::Director && one.state == State::SignsForEpoch(1);
        let one = listed.iter().find(branch).unwrap();
        let aside = folder.path().join("aside");
        std::fs::rename(&one.file, &aside).unwrap();
        keys.reread().unwrap();
        assert_eq!(keys.missing(&named), None, "everybody else is served");
        let missing = keys.missing_of_branches(&named);
        assert_eq!(missing.len(), 1);
        let text = missing[0].to_string();
        let keyid = one.key.public().keyid();
        assert!(text.starts_with(&format!("the last root of epoch 1 names director key {keyid}")), "{text}");
        assert!(text.ends_with("until then no poll is answered for devices of epoch 1"), "{text}");

        // In a token that is away: no reason not to start. For the key that signs it is one.
        let away = |role: OnlineRole, public: &sluice_signer::PublicKey| {
            let uri = TokenUri::parse("pkcs11:token=a?module-path=/nowhere/at-all.so").unwrap();
            let reference = Reference { uri, public: public.clone() };
            std::fs::write(folder.path().join(files::name(role, Some(public), files::IN_TOKEN)), reference.to_bytes())
                .unwrap();
            keys.reread().unwrap();
        };
        away(OnlineRole::Director, one.key.public());
        assert_eq!(keys.missing_of_branches(&named), []);
        let listed = keys.list(&named);
        let trouble = listed.iter().find(branch).unwrap().trouble.clone().unwrap();
        assert!(trouble.contains("/nowhere/at-all.so"), "{trouble}");
        keys.check_tokens(&named).unwrap();
        let lines = check_folder(folder.path(), || Ok(named.clone())).unwrap();
        assert!(lines.len() == 1 && lines[0].starts_with("warning: the director key of "), "{lines:?}");
        assert!(lines[0].ends_with("this key signs for epoch 1"), "{lines:?}");
        named.now = named.branches[&1].keys.clone();
        keys.check_tokens(&named).unwrap_err();
        check_folder(folder.path(), || Ok(named.clone())).unwrap_err();
    }
}
