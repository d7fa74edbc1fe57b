//! A key of the server, wherever it is: in a file, and then it signs here and at once; or in a PKCS#11 token, which signs by
//! itself, takes its time, and may be away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use sluice_catalog::Time;
use sluice_signer::{PublicKey, SigningKey};
use sluice_token::{Pin, TokenKey, UriSource};
use tokio::sync::Semaphore;

use super::files::Reference;

/// Calls to one key in a token at once: tokens have few sessions, and threads that wait for one are lost for others.
const MAX_CALLS: usize = 4;
/// Signatures that are asked for or waited for at once; with more the token is behind, and devices better come again.
const MAX_WAITING: usize = 256;
/// A signature that takes longer is given up: whoever asked would not wait either.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// A token that failed is left alone for so long, so that a fleet that polls does not keep it from coming back.
const REST_MS: i64 = 1_000;

/// A key of the server.
#[derive(Debug)]
pub enum OnlineKey {
    /// In memory, from a file.
    File(SigningKey),
    /// In a token.
    Token(KeyInToken),
}

/// A key in a token, with what is known about how the token does.
#[derive(Debug)]
pub struct KeyInToken {
    key: TokenKey,
    calls: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    fails: AtomicBool,
    failed_at: AtomicI64,
}

/// A token that gives no signature now.
#[derive(Debug, thiserror::Error)]
pub enum TokenDown {
    /// It failed at this call.
    #[error("the token of the key does not sign: {0}")]
    Failed(String),
    /// It took longer than anybody waits.
    #[error("the token of the key took longer than {} s to sign", MAX_WAIT.as_secs())]
    Slow,
    /// It failed a moment ago.
    #[error("the token of the key failed a moment ago and is left alone")]
    Rests,
    /// It is asked for more than it can sign.
    #[error("the token of the key is behind: {MAX_WAITING} signatures or {} s are waited for", MAX_WAIT.as_secs())]
    Behind,
}

/// What to tell of a token, when that is news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It fails since now.
    Fails,
    /// It signs again.
    Signs,
}

impl From<Reference> for OnlineKey {
    /// Nothing is opened until it signs. The keys folder may be another machine's copy, so the library that it names must be
    /// one that the administrator installed.
    fn from(reference: Reference) -> Self {
        let pin = Pin::of(&reference.uri);
        Self::Token(KeyInToken {
            key: TokenKey::at(reference.uri, UriSource::File, pin, reference.public),
            calls: Arc::new(Semaphore::new(MAX_CALLS)),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            fails: AtomicBool::new(false),
            failed_at: AtomicI64::new(i64::MIN / 2),
        })
    }
}

impl OnlineKey {
    /// The public half.
    pub fn public(&self) -> &PublicKey {
        match self {
            Self::File(key) => key.public(),
            Self::Token(token) => token.key.public(),
        }
    }

    /// The key in a token, if it is in one.
    pub const fn in_token(&self) -> Option<&TokenKey> {
        match self {
            Self::File(_) => None,
            Self::Token(token) => Some(&token.key),
        }
    }

    /// Signs a message. A token does so on a thread of this runtime's that may wait.
    pub async fn sign(
        self: &Arc<Self>,
        message: Vec<u8>,
        runtime: &tokio::runtime::Handle,
        now: Time,
    ) -> (Result<Vec<u8>, TokenDown>, Option<News>) {
        let token = match &**self {
            Self::File(key) => return (Ok(key.sign(&message)), None),
            Self::Token(token) => token,
        };
        let Ok(_waiting) = Arc::clone(&token.waiting).try_acquire_owned() else {
            return (Err(TokenDown::Behind), None);
        };
        let Ok(Ok(call)) = tokio::time::timeout(MAX_WAIT, Arc::clone(&token.calls).acquire_owned()).await else {
            return (Err(TokenDown::Behind), None);
        };
        if token.rests(now) {
            return (Err(TokenDown::Rests), None);
        }
        let this = Arc::clone(self);
        let signing = runtime.spawn_blocking(move || {
            // Held until the token answers, even when nobody waits for that any more.
            let _call = call;
            match &*this {
                Self::File(key) => Ok(key.sign(&message)),
                Self::Token(token) => token.key.sign(&message),
            }
        });
        let signed = match tokio::time::timeout(MAX_WAIT, signing).await {
            Err(_) => Err(TokenDown::Slow),
            Ok(Err(died)) => Err(TokenDown::Failed(died.to_string())),
            Ok(Ok(signed)) => signed.map_err(|error| TokenDown::Failed(error.whole())),
        };
        let news = token.note(signed.is_ok(), now);
        (signed, news)
    }
}

impl KeyInToken {
    fn rests(&self, now: Time) -> bool {
        let since = now.as_ms().saturating_sub(self.failed_at.load(Ordering::Relaxed));
        // A clock that was set back must not lengthen the rest.
        (0..REST_MS).contains(&since)
    }

    fn note(&self, signed: bool, now: Time) -> Option<News> {
        if !signed {
            self.failed_at.store(now.as_ms(), Ordering::Relaxed);
        }
        match (self.fails.swap(!signed, Ordering::Relaxed), signed) {
            (false, false) => Some(News::Fails),
            (true, true) => Some(News::Signs),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_token::TokenUri;

    fn nowhere() -> Arc<OnlineKey> {
        let public = SigningKey::from_seed(&[7; 32]).unwrap().public().clone();
        let uri = TokenUri::parse("pkcs11:token=a?module-path=/nowhere/at-all.so").unwrap();
        Arc::new(OnlineKey::from(Reference { uri, public }))
    }

    #[test]
    fn a_token_that_fails_is_told_of_once_and_left_alone_for_a_moment() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let key = nowhere();
        let sign = |at| runtime.block_on(key.sign(b"x".to_vec(), runtime.handle(), Time::from_ms(at)));
        let (failed, news) = sign(5_000);
        assert!(failed.unwrap_err().to_string().contains("/nowhere/at-all.so"));
        assert_eq!(news, Some(News::Fails));
        assert!(matches!(sign(5_000 + REST_MS - 1), (Err(TokenDown::Rests), None)));
        assert!(matches!(sign(5_000 + REST_MS), (Err(TokenDown::Failed(_)), None)));
        // A clock that was set back.
        assert!(matches!(sign(1_000), (Err(TokenDown::Failed(_)), None)));
        let OnlineKey::Token(token) = &*key else { unreachable!() };
        assert_eq!(token.note(true, Time::from_ms(9_000)), Some(News::Signs));
        assert_eq!(token.note(true, Time::from_ms(9_000)), None);
    }

    #[test]
    fn what_waits_for_a_token_is_bounded() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let key = nowhere();
        let OnlineKey::Token(token) = &*key else { unreachable!() };
        let all = u32::try_from(MAX_WAITING).unwrap();
        let _taken = Arc::clone(&token.waiting).try_acquire_many_owned(all).unwrap();
        let signed = runtime.block_on(key.sign(b"x".to_vec(), runtime.handle(), Time::from_ms(0)));
        assert!(matches!(signed, (Err(TokenDown::Behind), None)));
    }
}
