//! Where new keys are made: in a file, or in a token, where nothing can copy the private half.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use sluice_signer::{OnlineRole, PublicKey, SigningKey};
use sluice_token::{Mode, Pin, Scheme, Token, TokenError, TokenUri, UriSource};

use super::files::{self, Reference};
use super::{Held, OnlineKey};
use crate::clock::Dice;

/// Where a key is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Home {
    /// In a file of the keys folder.
    Files,
    /// In a token; the folder gets a file that says where.
    Token {
        /// The token. `object` becomes the key's label; without it the role and some digits do.
        uri: TokenUri,
        /// Which kind of key.
        scheme: Scheme,
        /// Take up the key of this URI, which is there, instead of making one.
        adopt: bool,
    },
}

/// A token's error, with what to do.
fn told(error: &TokenError) -> anyhow::Error {
    anyhow!(error.whole())
}

impl Home {
    /// Makes a key, and its file as the last step: a process that dies before has made a key that nothing uses.
    pub(super) fn make(
        &self,
        folder: &Path,
        role: OnlineRole,
        first: bool,
        held: &[Held],
        dice: Dice,
    ) -> anyhow::Result<(PublicKey, PathBuf)> {
        match self {
            Self::Files => {
                let key = SigningKey::from_seed(&dice.bytes())?;
                let path = folder.join(files::name(role, (!first).then_some(key.public()), files::PRIVATE));
                files::write_private(&path, &key)?;
                Ok((key.public().clone(), path))
            }
            Self::Token { uri, scheme, adopt } => {
                let reference = if *adopt { take_up(uri, held)? } else { make_in_token(uri, *scheme, role, dice)? };
                let named = (!first).then_some(&reference.public);
                let path = folder.join(files::name(role, named, files::IN_TOKEN));
                files::write_secret(&path, &reference.to_bytes())?;
                Ok((reference.public, path))
            }
        }
    }

    /// Whether a key is where this home would have made it.
    pub(super) fn holds(&self, key: &OnlineKey) -> bool {
        match (self, key.in_token()) {
            (Self::Files, None) => true,
            (Self::Token { uri, .. }, Some(key)) => uri.covers(key.uri()),
            _ => false,
        }
    }

    /// Opens the token, if it is one.
    pub fn check(&self) -> anyhow::Result<()> {
        match self {
            Self::Files => Ok(()),
            Self::Token { uri, .. } => {
                Token::open(uri, UriSource::Typed, Mode::Sign, &Pin::of(uri)).map(drop).map_err(|error| told(&error))
            }
        }
    }
}

fn make_in_token(uri: &TokenUri, scheme: Scheme, role: OnlineRole, dice: Dice) -> anyhow::Result<Reference> {
    let token = Token::open(uri, UriSource::Typed, Mode::Change, &Pin::of(uri)).map_err(|error| told(&error))?;
    let digits = || format!("sluice-{}-{}", role.name(), hex::encode(dice.bytes::<4>()));
    let label = uri.object.clone().unwrap_or_else(digits);
    let made = token.generate(&label, &dice.bytes::<16>(), scheme).map_err(|error| told(&error))?;
    let key = token.key(&made).map_err(|error| told(&error))?;
    Ok(Reference { uri: key.uri().clone(), public: key.public().clone() })
}

/// A key that somebody else made, such as the tool of the token's maker.
fn take_up(uri: &TokenUri, held: &[Held]) -> anyhow::Result<Reference> {
    let token = Token::open(uri, UriSource::Typed, Mode::Sign, &Pin::of(uri)).map_err(|error| told(&error))?;
    let key = token.secret_key(uri).map_err(|error| told(&error))?;
    if let Some(other) = held.iter().find(|one| one.key.public().material() == key.public().material()) {
        bail!(
            "{uri}: this key is in use as the {} key of {} already; each role needs its own",
            other.role.name(),
            other.file.display()
        );
    }
    Ok(Reference { uri: key.uri().clone(), public: key.public().clone() })
}

/// Destroys a key in its token. One that is not there any more was destroyed by another replica.
pub(super) fn destroy(reference: &Reference) -> anyhow::Result<()> {
    let uri = &reference.uri;
    let token = Token::open(uri, UriSource::File, Mode::Change, &Pin::of(uri)).map_err(|error| told(&error))?;
    token.destroy(uri, &reference.public).map(drop).map_err(|error| told(&error))
}
