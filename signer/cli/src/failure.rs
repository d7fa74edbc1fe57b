//! Exit codes and messages that say what to do next. `docs/release-engineer.md` lists the codes.

use sluice_token::TokenError;
use std::fmt;

/// `verify`: something is missing or wrong.
pub const INCOMPLETE: u8 = 1;
/// Refused: a mistake that would harm devices or holders, or a key that has no say.
pub const REFUSED: u8 = 3;
/// The server answered and said no.
pub const SERVER: u8 = 4;
/// The server did not answer, after retries.
pub const NETWORK: u8 = 5;
/// A file cannot be read, written or understood.
pub const FILE: u8 = 6;

/// A failure with its exit code.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// What happened.
    pub message: String,
    /// What to do next.
    pub next: Option<String>,
}

impl Failure {
    /// A refusal.
    pub fn refused(message: impl Into<String>, next: &str) -> anyhow::Error {
        Self { code: REFUSED, message: message.into(), next: Some(next.to_owned()) }.into()
    }

    /// A file that is not what it should be.
    pub fn file(message: impl Into<String>, next: &str) -> anyhow::Error {
        Self { code: FILE, message: message.into(), next: Some(next.to_owned()) }.into()
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        let code = match &error {
            TokenError::ForeignModule { .. }
            | TokenError::PinLocked { .. }
            | TokenError::LastTry { .. }
            | TokenError::LabelTaken { .. }
            | TokenError::Extractable { .. }
            | TokenError::AlwaysAuthenticate
            | TokenError::Signature { .. } => REFUSED,
            _ => FILE,
        };
        Self { code, message: error.to_string(), next: Some(error.next()) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
