//! PINs: who knows one. A PIN is asked for at each login, kept nowhere, and wiped. One that a token refused is not tried on
//! it again by this process, because tokens lock themselves after a few.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sluice_signer::sha256;
use zeroize::Zeroizing;

use crate::error::TokenError;

/// Bytes of a file that holds a PIN: PKCS#11 tokens take some dozens.
const MAX_PIN_FILE_BYTES: u64 = 4_096;
/// Refused PINs that are remembered; beyond it the oldest knowledge is of no use to anybody.
const MAX_REFUSED: usize = 1_024;

/// Which PIN is wanted.
#[derive(Debug, Clone, Copy)]
pub struct PinWanted<'a> {
    /// Label of the token.
    pub token: &'a str,
    /// The token locks itself when this one is wrong.
    pub last_try: bool,
}

/// Why no PIN is given.
pub type PinError = Box<dyn std::error::Error + Send + Sync>;
type Ask = dyn Fn(&PinWanted<'_>) -> Result<Zeroizing<String>, PinError> + Send + Sync;

/// Who knows the PIN.
#[derive(Clone)]
pub enum Pin {
    /// A file, in its first line. It is read at each login.
    File(PathBuf),
    /// A person, or whatever else answers.
    Ask(Arc<Ask>),
    /// Nobody: the token must go without, or have a keypad of its own.
    Nobody,
}

impl std::fmt::Debug for Pin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(formatter, "Pin::File({})", path.display()),
            Self::Ask(_) => formatter.write_str("Pin::Ask"),
            Self::Nobody => formatter.write_str("Pin::Nobody"),
        }
    }
}

impl Pin {
    /// The file that a URI names by `pin-source`, or nobody.
    pub fn of(uri: &crate::TokenUri) -> Self {
        uri.pin_source.clone().map_or(Self::Nobody, Self::File)
    }

    pub(crate) fn get(&self, wanted: &PinWanted<'_>) -> Result<Zeroizing<String>, TokenError> {
        let failed = |source: PinError| TokenError::Pin { token: wanted.token.to_owned(), source };
        match self {
            Self::File(_) if wanted.last_try => Err(TokenError::LastTry { token: wanted.token.to_owned() }),
            Self::File(path) => read(path).map_err(failed),
            Self::Ask(ask) => ask(wanted).map_err(failed),
            Self::Nobody => Err(failed("the token wants one, and the URI has no pin-source".into())),
        }
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, PinError> {
    use std::io::Read as _;
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = std::fs::File::open(path).map_err(|error| named(&error))?;
    // Room for all of it from the start: growing would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(MAX_PIN_FILE_BYTES)? + 1));
    file.take(MAX_PIN_FILE_BYTES).read_to_string(&mut text).map_err(|error| named(&error))?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(named(&"its first line is empty, and should be the PIN").into());
    }
    Ok(Zeroizing::new(line.to_owned()))
}

/// PINs that tokens refused, by digest.
static REFUSED: Mutex<BTreeSet<[u8; 32]>> = Mutex::new(BTreeSet::new());

/// A PIN at one token, as it is remembered.
pub(crate) struct Tried([u8; 32]);

impl Tried {
    pub(crate) fn new(module: &Path, serial: &str, token: &str, pin: &str) -> Self {
        let text = Zeroizing::new(format!("{}\0{serial}\0{token}\0{pin}", module.display()));
        Self(sha256(text.as_bytes()))
    }

    pub(crate) fn was_refused(&self) -> bool {
        REFUSED.lock().unwrap_or_else(PoisonError::into_inner).contains(&self.0)
    }

    pub(crate) fn refuse(self) {
        let mut refused = REFUSED.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() >= MAX_REFUSED {
            refused.clear();
        }
        refused.insert(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &Path, last_try: bool) -> Result<String, String> {
        let wanted = PinWanted { token: "acme", last_try };
        Pin::File(path.to_owned()).get(&wanted).map(|pin| pin.to_string()).map_err(|error| error.whole())
    }

    #[test]
    fn a_file_gives_its_first_line_anew_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pin");
        assert!(get(&path, false).unwrap_err().contains("pin-source"));
        for text in ["4711\n", "0815\r\nmore"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(get(&path, false).unwrap(), text.lines().next().unwrap());
        }
        std::fs::write(&path, "\n4711").unwrap();
        assert!(get(&path, false).unwrap_err().contains("first line is empty"));
    }

    #[test]
    fn the_last_try_is_left_to_a_person() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pin"), "4711").unwrap();
        assert!(get(&folder.path().join("pin"), true).unwrap_err().contains("log in by hand once"));
    }

    #[test]
    fn a_refused_pin_is_remembered_for_its_token_only() {
        let tried = |token, pin| Tried::new(Path::new("/m.so"), "1", token, pin);
        tried("unit", "0000").refuse();
        assert!(tried("unit", "0000").was_refused());
        assert!(!tried("unit", "1111").was_refused() && !tried("other", "0000").was_refused());
    }
}
