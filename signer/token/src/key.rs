//! A key in a token, which signs by itself. Sessions are kept for the next signature; one that the token dropped, because it
//! was reset, pulled out or logged out, is opened again once before that is an error.

use std::sync::{Mutex, PoisonError};

use cryptoki::error::{Error as CallError, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::ObjectHandle;
use sluice_signer::{PublicKey, key, sha256};

use crate::error::TokenError;
use crate::module::{Live, UriSource};
use crate::pin::Pin;
use crate::token::{Mode, Token};
use crate::uri::TokenUri;

/// Sessions of one key that wait for the next signature; tokens have room for few.
const MAX_IDLE_SESSIONS: usize = 8;

/// Schemes that keys in tokens can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Edwards curve 25519: small, and deterministic.
    Ed25519,
    /// NIST P-256 with SHA-256, which many tokens have alone.
    EcdsaP256,
}

impl Scheme {
    /// Their names on command lines, and in settings.
    pub const NAMES: [&'static str; 2] = ["ed25519", "ecdsa-p256"];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::EcdsaP256 => "ecdsa-p256",
        }
    }
}

impl std::str::FromStr for Scheme {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = [Self::Ed25519, Self::EcdsaP256].into_iter().find(|scheme| scheme.name() == text);
        known.ok_or_else(|| format!("scheme {text:?}: one of {}", Self::NAMES.join(", ")))
    }
}

/// A key in a token.
pub struct TokenKey {
    uri: TokenUri,
    source: UriSource,
    pin: Pin,
    public: PublicKey,
    idle: Mutex<Vec<Opened>>,
}

/// A session that is logged in, and the key as this session calls it.
pub(crate) struct Opened {
    pub(crate) session: Live,
    pub(crate) private: ObjectHandle,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "TokenKey({} {:?})", self.uri, self.public)
    }
}

impl TokenKey {
    /// The key that should be at a URI. Nothing is opened until it signs or is checked.
    pub fn at(uri: TokenUri, source: UriSource, pin: Pin, public: PublicKey) -> Self {
        Self { uri, source, pin, public, idle: Mutex::new(Vec::new()) }
    }

    pub(crate) fn opened(self, opened: Opened) -> Self {
        self.keep(opened);
        self
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The URI that finds the key.
    pub fn uri(&self) -> &TokenUri {
        &self.uri
    }

    /// Opens the token, and sees that the key there is this one.
    pub fn check(&self) -> Result<(), TokenError> {
        let opened = self.open()?;
        self.keep(opened);
        Ok(())
    }

    /// Signs a message inside the token.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        let waiting = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(opened) = waiting {
            if let Ok(signature) = self.sign_in(&opened, message) {
                self.keep(opened);
                return Ok(signature);
            }
            drop(opened);
            // What is true of one session is most likely true of the others.
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        let opened = self.open()?;
        let signature = self.sign_in(&opened, message)?;
        self.keep(opened);
        Ok(signature)
    }

    fn keep(&self, opened: Opened) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE_SESSIONS {
            idle.push(opened);
        }
    }

    fn open(&self) -> Result<Opened, TokenError> {
        let token = Token::open(&self.uri, self.source, Mode::Sign, &self.pin)?;
        let (private, found) = token.pair(&self.uri)?;
        let public = token.public(&self.uri, found.public)?;
        if public.material() != self.public.material() {
            return Err(TokenError::OtherKey {
                uri: self.uri.to_string(),
                found: public.keyid().to_owned(),
                expected: self.public.keyid().to_owned(),
            });
        }
        Ok(Opened { session: token.into_session(), private })
    }

    fn sign_in(&self, opened: &Opened, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        let (session, private) = (&opened.session, opened.private);
        let edwards = self.public.ed25519_bytes().is_some();
        let signed = if edwards {
            let pure = EddsaParams::new(EddsaSignatureScheme::Ed25519);
            session.call(|session| session.sign(&Mechanism::Eddsa(pure), private, message))
        } else {
            // Every token hashes nothing in this mechanism, and not all have the one that hashes.
            session.call(|session| session.sign(&Mechanism::Ecdsa, private, &sha256(message)))
        };
        let failed = || TokenError::Signature { uri: self.uri.to_string() };
        let signature = match signed {
            // Of a session that was logged in a moment ago, and of any other it is opened again.
            Err(CallError::Pkcs11(RvError::UserNotLoggedIn, _)) => return Err(TokenError::AlwaysAuthenticate),
            Err(source) => {
                return Err(TokenError::Call { token: self.uri.to_string(), what: "sign", source });
            }
            Ok(raw) if edwards => raw,
            Ok(raw) => key::p256_der_signature(&raw).ok_or_else(failed)?,
        };
        if self.public.verify(message, &signature) { Ok(signature) } else { Err(failed()) }
    }
}
