//! Looking at the keys that are here: what each is good for, and whether the token of one that is in a token has it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use sluice_signer::{NamedKeys, OnlineRole};

use super::{Held, Keys, OnlineKey, files};

/// What a key is good for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It signs.
    Signs,
    /// It signs as soon as a root names it.
    Waits,
    /// It is never used again.
    HadItsTime,
}

impl State {
    /// The words of `keys list`.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Signs => "signs",
            Self::Waits => "waits",
            Self::HadItsTime => "had its time",
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
    /// right; what waits is only told of.
    pub fn check_tokens(&self, named: &NamedKeys) -> anyhow::Result<()> {
        for one in self.held.load().iter() {
            match (self.state(one, named), one.check()) {
                (State::Signs, Err(error)) => return Err(error),
                (State::Waits, Err(error)) => tracing::warn!("{error:#}"),
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

    fn state(&self, one: &Held, named: &NamedKeys) -> State {
        match self.current(one.role, named) {
            Ok(current) if Arc::ptr_eq(&current, &one.key) => State::Signs,
            _ if named.ever.contains(one.key.public().keyid()) => State::HadItsTime,
            _ => State::Waits,
        }
    }
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

/// Opens the token of every key of a folder that is in one, whatever it is for; a line for each. Changes nothing.
pub fn check_folder(folder: &Path) -> anyhow::Result<Vec<String>> {
    files::read(folder, &[])?.iter().filter_map(|one| one.check().transpose()).collect()
}
