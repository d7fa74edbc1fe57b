//! What goes wrong with tokens. Each error says which token or key it is about and what does not hold; [`TokenError::next`]
//! says what to do.

use std::path::PathBuf;

use crate::module::MODULE_VARIABLE;
use crate::uri::UriError;

/// A token that does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// A URI that cannot be read.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// Nothing says which library knows the token.
    #[error("{uri} does not say which PKCS#11 module knows the token")]
    NoModule {
        /// The URI.
        uri: String,
    },
    /// A library that others could have put where it is.
    #[error("{}: a file names this library, and it is not one that the system installed", module.display())]
    ForeignModule {
        /// The library.
        module: PathBuf,
    },
    /// The library does not load, or does not start.
    #[error("the PKCS#11 module {}: {source}", module.display())]
    Module {
        /// The library.
        module: PathBuf,
        /// What it says.
        source: cryptoki::error::Error,
    },
    /// No token is meant.
    #[error("{uri}: no such token is there; found: {found}")]
    NoToken {
        /// The URI.
        uri: String,
        /// Labels of those that are there.
        found: String,
    },
    /// More than one token is meant.
    #[error("{uri}: {count} tokens are meant; found: {found}")]
    ManyTokens {
        /// The URI.
        uri: String,
        /// How many.
        count: usize,
        /// Labels of those that are there.
        found: String,
    },
    /// The token takes no PIN any more.
    #[error("the PIN of token {token:?} is locked after too many wrong ones")]
    PinLocked {
        /// Label of the token.
        token: String,
    },
    /// The PIN is not the token's.
    #[error("wrong PIN for token {token:?}")]
    WrongPin {
        /// Label of the token.
        token: String,
    },
    /// One more wrong PIN locks the token, and no person is there to be careful.
    #[error("token {token:?} locks itself after one more wrong PIN, so the one from a file is not tried")]
    LastTry {
        /// Label of the token.
        token: String,
    },
    /// Nobody gives a PIN.
    #[error("the PIN of token {token:?}: {source}")]
    Pin {
        /// Label of the token.
        token: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A label that a key of the token has already.
    #[error("the token has a key with the label {label:?} already")]
    LabelTaken {
        /// The label.
        label: String,
    },
    /// No key is meant.
    #[error("{uri}: no such private key in the token")]
    NoKey {
        /// The URI.
        uri: String,
    },
    /// More than one key is meant.
    #[error("{uri}: more than one key in the token")]
    ManyKeys {
        /// The URI.
        uri: String,
    },
    /// A key whose halves cannot be brought together.
    #[error("{uri}: the key has no id")]
    NoId {
        /// The URI.
        uri: String,
    },
    /// Not one public half of the same id.
    #[error("{uri}: {count} public keys beside the private one, which needs one of the same id")]
    PublicHalves {
        /// The URI.
        uri: String,
        /// How many there are.
        count: usize,
    },
    /// A public key of another kind, or in a form that nobody knows.
    #[error("{uri}: the public key is neither ed25519 nor P-256, or the token tells it in a form that cannot be read")]
    PublicKey {
        /// The URI.
        uri: String,
    },
    /// Another key than that which should be there.
    #[error("{uri}: the token has key {found} there, and it should be {expected}")]
    OtherKey {
        /// The URI.
        uri: String,
        /// Id of the key in the token.
        found: String,
        /// Id of the key that should be there.
        expected: String,
    },
    /// The token does not make keys of this kind.
    #[error("the token makes no {scheme} key: {source}")]
    Generate {
        /// The kind.
        scheme: &'static str,
        /// What the token says.
        source: cryptoki::error::Error,
    },
    /// A key that can be copied, or of which the token does not say that it cannot.
    #[error("{uri}: the key could be copied out of the token")]
    Extractable {
        /// The URI.
        uri: String,
    },
    /// A key that asks for its PIN each time.
    #[error("the token wants the PIN again for each signature of this key, which is not supported")]
    AlwaysAuthenticate,
    /// The token refuses, or is away.
    #[error("{token} does not {what}: {source}")]
    Call {
        /// The token.
        token: String,
        /// What it should do.
        what: &'static str,
        /// What it says.
        source: cryptoki::error::Error,
    },
    /// A signature that is not by the key beside it.
    #[error("{uri}: the token's signature is not by the public key beside it; nothing was signed")]
    Signature {
        /// The URI.
        uri: String,
    },
}

impl TokenError {
    /// What to do.
    pub fn next(&self) -> String {
        match self {
            Self::Uri(_) => "correct the URI; RFC 7512 says what one looks like".to_owned(),
            Self::NoModule { .. } => format!("add ?module-path=/usr/lib/….so, or set {MODULE_VARIABLE}"),
            Self::ForeignModule { .. } => {
                format!("if you trust it, set {MODULE_VARIABLE} to it, or type the URI")
            }
            Self::Module { .. } => "install the library of the token's maker, or correct module-path".to_owned(),
            Self::NoToken { .. } => "plug it in, or correct the URI".to_owned(),
            Self::ManyTokens { .. } => "name one by token= or serial=".to_owned(),
            Self::PinLocked { .. } => "unlock it with the SO PIN and the tool of the token's maker".to_owned(),
            Self::WrongPin { .. } => {
                "give the right one; the token locks itself after a few wrong ones, so the same is not tried again"
                    .to_owned()
            }
            Self::LastTry { .. } => {
                "log in by hand once with the right PIN (`pkcs11-tool --login --list-objects`), and correct the file"
                    .to_owned()
            }
            Self::Pin { .. } => {
                "name a file with it: by pin-source=file:/PATH in the URI, or `sluice-sign --passphrase-file`".to_owned()
            }
            Self::LabelTaken { .. } => {
                "choose another name, or take up the key that is there with `sluice-sign key export` (the server: `keys \
                 rotate --adopt`); keys are never overwritten"
                    .to_owned()
            }
            Self::NoKey { .. } => "see its keys with `pkcs11-tool --list-objects --login`".to_owned(),
            Self::ManyKeys { .. } => "name one by object= or id=".to_owned(),
            Self::NoId { .. } => "give it one with the tool of the token's maker".to_owned(),
            Self::PublicHalves { .. } => "write the public key into the token with the tool of its maker".to_owned(),
            Self::PublicKey { .. } => "use a key of one of the two kinds".to_owned(),
            Self::OtherKey { .. } => "plug in the right token, or correct the URI".to_owned(),
            Self::Generate { .. } => "try the other scheme, or make it with the tool of the token's maker".to_owned(),
            Self::Extractable { .. } => "make a key that cannot; if this token makes none, use another".to_owned(),
            Self::AlwaysAuthenticate => {
                "use a key without CKA_ALWAYS_AUTHENTICATE, on a PIV card any slot but 9C".to_owned()
            }
            Self::Call { .. } => "see whether it is plugged in and answers, with the tool of its maker".to_owned(),
            Self::Signature { .. } => "let the token's maker look at it; do not trust this key".to_owned(),
        }
    }

    /// What happened and what to do, in one line.
    pub fn whole(&self) -> String {
        format!("{self}; {}", self.next())
    }
}
