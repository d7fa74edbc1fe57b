//! Signing keys in PKCS#11 tokens: hardware security modules, smart cards and the like. The private key never leaves the
//! token; what comes out is checked as a device checks it.
//!
//! * [`uri`] reads and writes the URIs that name tokens and keys (RFC 7512).
//! * [`module`] loads the library that knows a token, once for the process.
//! * [`pin`] says who knows a PIN, and never tries one twice that was refused.
//! * [`token`] opens tokens, and makes, finds and destroys keys in them.
//! * [`key`] signs, from several threads, and opens again what the token has dropped.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

pub mod error;
pub mod key;
pub mod module;
pub mod pin;
pub mod token;
pub mod uri;

pub use error::TokenError;
pub use key::{Scheme, TokenKey};
pub use module::{MODULE_VARIABLE, UriSource};
pub use pin::{Pin, PinWanted};
pub use token::{Mode, Token};
pub use uri::{TokenUri, UriError};
