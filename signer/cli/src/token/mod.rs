//! Keys in tokens: hardware security modules, smart cards and the like, through PKCS#11. The private key never leaves the
//! token; what comes out is checked as a device checks it.

mod uri;

use crate::failure::Failure;
use anyhow::Context as _;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as TokenError, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use sluice_signer::{PublicKey, key, sha256};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

pub use uri::TokenUri;

/// Variable with the path of the module, for URIs that name none.
pub const MODULE_VARIABLE: &str = "SLUICE_PKCS11_MODULE";
/// The curve of ed25519 by its object identifier 1.3.101.112, in DER.
const ED25519_PARAMS: [u8; 5] = [0x06, 0x03, 0x2b, 0x65, 0x70];
/// The curve P-256 by its object identifier 1.2.840.10045.3.1.7, in DER.
const P256_PARAMS: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// The curve of ed25519 by its name, as PKCS#11 3.0 allows.
const ED25519_NAME: &[u8] = b"\x13\x0cedwards25519";

/// Schemes that keys in tokens can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scheme {
    /// Edwards curve 25519: small, and deterministic.
    Ed25519,
    /// NIST P-256 with SHA-256, which many tokens have alone.
    EcdsaP256,
}

/// Asks for the PIN of a token, by its name.
pub type AskPin<'a> = &'a dyn Fn(&str) -> anyhow::Result<Zeroizing<String>>;

/// An open token, its user logged in.
pub struct Token {
    session: Session,
    /// The token as its own label and serial number name it.
    uri: TokenUri,
}

/// A key in a token.
pub struct TokenKey {
    token: Token,
    uri: TokenUri,
    private: ObjectHandle,
    public: PublicKey,
    scheme: Scheme,
}

/// Where a URI comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UriSource {
    /// Typed by the person at the machine.
    Typed,
    /// Read from a file, which may be somebody else's: the library that it names would run here.
    File,
}

impl Token {
    /// Opens the one token that a URI means.
    pub fn open(uri: &TokenUri, source: UriSource, write: bool, pin: AskPin<'_>) -> anyhow::Result<Self> {
        let module = module(uri, source)?;
        let named = || format!("the PKCS#11 module {}", module.display());
        let library = Pkcs11::new(&module).with_context(named)?;
        library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).with_context(named)?;
        let (slot, found) = choose(&library, uri).with_context(named)??;
        let info = library.get_token_info(slot)?;
        let name = found.token.clone().unwrap_or_default();
        if info.user_pin_locked() {
            return Err(Failure::refused(
                format!("the PIN of token {name:?} is locked after too many wrong ones"),
                "unlock it with the SO PIN and the tool of the token's maker",
            ));
        }
        let session = if write { library.open_rw_session(slot)? } else { library.open_ro_session(slot)? };
        if info.login_required() {
            // With a keypad of its own the token asks by itself.
            let pin = if info.protected_authentication_path() {
                None
            } else {
                if info.user_pin_final_try() {
                    eprintln!("warning: token {name:?} locks itself after one more wrong PIN");
                }
                Some(AuthPin::new(pin(&name)?.as_str().into()))
            };
            match session.login(UserType::User, pin.as_ref()) {
                Ok(()) | Err(TokenError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
                Err(TokenError::Pkcs11(RvError::PinIncorrect | RvError::PinLenRange | RvError::PinInvalid, _)) => {
                    return Err(Failure::file(
                        format!("wrong PIN for token {name:?}"),
                        "try again; the token locks itself after a few wrong ones",
                    ));
                }
                Err(error) => return Err(error).with_context(|| format!("logging in to token {name:?}")),
            }
        }
        Ok(Self { session, uri: TokenUri { module_path: Some(module), ..found } })
    }

    /// Makes a key pair whose private half cannot leave the token. Returns the URI that finds it again.
    pub fn generate(&self, name: &str, id: &[u8], scheme: Scheme) -> anyhow::Result<TokenUri> {
        let uri = TokenUri { object: Some(name.to_owned()), id: Some(id.to_vec()), ..self.uri.clone() };
        if !self.find(ObjectClass::PRIVATE_KEY, &TokenUri { id: None, ..uri.clone() })?.is_empty() {
            let message = format!("the token has a key with the label {name:?} already");
            let next = "choose another name, or take up the key that is there with `sluice-sign key export`; keys are never overwritten";
            return Err(Failure::refused(message, next));
        }
        let common = [Attribute::Token(true), Attribute::Label(name.as_bytes().to_vec()), Attribute::Id(id.to_vec())];
        let (mechanism, params) = match scheme {
            Scheme::Ed25519 => (Mechanism::EccEdwardsKeyPairGen, ED25519_PARAMS.to_vec()),
            Scheme::EcdsaP256 => (Mechanism::EccKeyPairGen, P256_PARAMS.to_vec()),
        };
        let public =
            [common.to_vec(), vec![Attribute::Private(false), Attribute::Verify(true), Attribute::EcParams(params)]]
                .concat();
        let private = [
            common.to_vec(),
            vec![
                Attribute::Private(true),
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::Sign(true),
                Attribute::Decrypt(false),
                Attribute::Unwrap(false),
            ],
        ]
        .concat();
        let (public, private) = self.session.generate_key_pair(&mechanism, &public, &private).with_context(|| {
            format!("the token makes no {scheme:?} key; try the other scheme, or make it with the tool of its maker")
        })?;
        // A token may ignore what it was asked for; a key that can be copied out is none that a ceremony may rest on.
        let told = self.session.get_attributes(
            private,
            &[AttributeType::Sensitive, AttributeType::NeverExtractable, AttributeType::Extractable],
        );
        let wanted = [Attribute::Sensitive(true), Attribute::NeverExtractable(true), Attribute::Extractable(false)];
        if !told.as_ref().is_ok_and(|told| wanted.iter().all(|attribute| told.contains(attribute))) {
            self.session.destroy_object(private)?;
            self.session.destroy_object(public)?;
            told.context("the token does not say whether its key can be copied; it was destroyed")?;
            let message = "the token made a key that could be copied out of it; it was destroyed";
            return Err(Failure::refused(message, "use another token"));
        }
        Ok(uri)
    }

    fn find(&self, class: ObjectClass, uri: &TokenUri) -> anyhow::Result<Vec<ObjectHandle>> {
        let mut template = vec![Attribute::Class(class), Attribute::Token(true)];
        template.extend(uri.object.iter().map(|label| Attribute::Label(label.as_bytes().to_vec())));
        template.extend(uri.id.iter().map(|id| Attribute::Id(id.clone())));
        Ok(self.session.find_objects(&template)?)
    }

    /// The one key that a URI means.
    pub fn key(self, uri: &TokenUri) -> anyhow::Result<TokenKey> {
        let private = match self.find(ObjectClass::PRIVATE_KEY, uri)?[..] {
            [one] => one,
            [] => {
                return Err(Failure::file(
                    format!("{uri}: no such private key in the token"),
                    "see its keys with `pkcs11-tool --list-objects --login`",
                ));
            }
            _ => {
                return Err(Failure::file(
                    format!("{uri}: more than one key in the token"),
                    "name one by object= or id=",
                ));
            }
        };
        let (mut id, mut label) = (Vec::new(), None);
        for attribute in self.session.get_attributes(private, &[AttributeType::Id, AttributeType::Label])? {
            match attribute {
                Attribute::Id(bytes) => id = bytes,
                Attribute::Label(bytes) => label = String::from_utf8(bytes).ok().filter(|label| !label.is_empty()),
                _ => {}
            }
        }
        if id.is_empty() {
            let next = "give it one with the tool of the token's maker";
            return Err(Failure::file(format!("{uri}: the key has no id"), next));
        }
        let halves = self
            .find(ObjectClass::PUBLIC_KEY, &TokenUri { object: None, id: Some(id.clone()), ..TokenUri::default() })?;
        let [public] = halves[..] else {
            let message =
                format!("{uri}: {} public keys beside the private one, which needs one of the same id", halves.len());
            return Err(Failure::file(message, "write the public key into the token with the tool of its maker"));
        };
        let (public, scheme) = self.public(public).with_context(|| uri.to_string())?;
        let uri = TokenUri { object: label, id: Some(id), ..self.uri.clone() };
        Ok(TokenKey { token: self, uri, private, public, scheme })
    }

    fn public(&self, handle: ObjectHandle) -> anyhow::Result<(PublicKey, Scheme)> {
        let (mut point, mut params, mut kind) = (Vec::new(), Vec::new(), None);
        let wanted = [AttributeType::KeyType, AttributeType::EcParams, AttributeType::EcPoint];
        for attribute in self.session.get_attributes(handle, &wanted)? {
            match attribute {
                Attribute::EcPoint(bytes) => point = bytes,
                Attribute::EcParams(bytes) => params = bytes,
                Attribute::KeyType(found) => kind = Some(found),
                _ => {}
            }
        }
        let edwards = params == ED25519_PARAMS || params == ED25519_NAME;
        let (scheme, point) = match kind {
            Some(KeyType::EC_EDWARDS) if edwards => (Scheme::Ed25519, raw_point(&point, 32)),
            Some(KeyType::EC) if params == P256_PARAMS => (Scheme::EcdsaP256, raw_point(&point, 65)),
            _ => anyhow::bail!("the key is neither ed25519 nor P-256"),
        };
        let point = point.context("the token tells no public key that can be read")?;
        let public = match scheme {
            Scheme::Ed25519 => PublicKey::ed25519(&point.try_into().map_err(|_| anyhow::anyhow!("no ed25519 key"))?)?,
            Scheme::EcdsaP256 => PublicKey::ecdsa_p256_point(&point)?,
        };
        Ok((public, scheme))
    }
}

impl TokenKey {
    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The URI that finds the key again, token and id named by what they say themselves.
    pub fn uri(&self) -> &TokenUri {
        &self.uri
    }

    /// Signs a message inside the token.
    pub fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let session = &self.token.session;
        let signed = match self.scheme {
            Scheme::Ed25519 => {
                let pure = EddsaParams::new(EddsaSignatureScheme::Ed25519);
                session.sign(&Mechanism::Eddsa(pure), self.private, message)
            }
            // Every token hashes nothing in this mechanism, and not all have the one that hashes.
            Scheme::EcdsaP256 => session.sign(&Mechanism::Ecdsa, self.private, &sha256(message)),
        };
        let signature = match signed {
            Err(TokenError::Pkcs11(RvError::UserNotLoggedIn, _)) => {
                return Err(Failure::refused(
                    "the token wants the PIN again for each signature of this key, which is not supported",
                    "use a key without CKA_ALWAYS_AUTHENTICATE, on a PIV card any slot but 9C",
                ));
            }
            other => other.context("the token does not sign")?,
        };
        let signature = match self.scheme {
            Scheme::Ed25519 => signature,
            Scheme::EcdsaP256 => {
                key::p256_der_signature(&signature).context("the token's signature has another form")?
            }
        };
        if !self.public.verify(message, &signature) {
            anyhow::bail!("the token's signature is not by the public key beside it; nothing was signed");
        }
        Ok(signature)
    }
}

/// The module of a URI, or of the environment.
fn module(uri: &TokenUri, source: UriSource) -> anyhow::Result<PathBuf> {
    if let Some(path) = &uri.module_path {
        let own = std::env::var_os(MODULE_VARIABLE).is_some_and(|own| Path::new(&own) == path);
        if source == UriSource::File && !own && !is_of_the_system(path) {
            let message =
                format!("{}: a file names this library, and it is not one that the system installed", path.display());
            return Err(Failure::refused(
                message,
                &format!("if you trust it, set {MODULE_VARIABLE} to it, or type the URI"),
            ));
        }
        return Ok(path.clone());
    }
    std::env::var_os(MODULE_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from).ok_or_else(|| {
        let message = format!("{uri} does not say which PKCS#11 module knows the token");
        Failure::file(message, &format!("add ?module-path=/usr/lib/….so, or set {MODULE_VARIABLE}"))
    })
}

/// Whether nobody but the administrator can have put a file there. One that is missing is reported when it is loaded.
#[cfg(unix)]
fn is_of_the_system(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let fixed = |path: &Path| match std::fs::metadata(path) {
        Ok(metadata) => metadata.uid() == 0 && metadata.mode() & 0o022 == 0,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    path.is_absolute() && path.ancestors().all(fixed)
}

#[cfg(not(unix))]
fn is_of_the_system(_: &Path) -> bool {
    false
}

/// The slot of the one token that a URI means, and the token as it names itself.
fn choose(library: &Pkcs11, uri: &TokenUri) -> Result<anyhow::Result<(Slot, TokenUri)>, TokenError> {
    let mut fitting = Vec::new();
    let mut seen = Vec::new();
    for slot in library.get_slots_with_initialized_token()? {
        let info = library.get_token_info(slot)?;
        let fits = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        seen.push(format!("{:?}", info.label()));
        if fits(&uri.token, info.label())
            && fits(&uri.serial, info.serial_number())
            && fits(&uri.manufacturer, info.manufacturer_id())
            && fits(&uri.model, info.model())
        {
            let found = TokenUri {
                token: Some(info.label().to_owned()),
                serial: Some(info.serial_number().to_owned()),
                ..TokenUri::default()
            };
            fitting.push((slot, found));
        }
    }
    let known = if seen.is_empty() { "none".to_owned() } else { seen.join(", ") };
    Ok(match (fitting.pop(), fitting.len()) {
        (Some(one), 0) => Ok(one),
        (None, _) => Err(Failure::file(
            format!("{uri}: no such token is there; found: {known}"),
            "plug it in, or correct the URI",
        )),
        (Some(_), more) => Err(Failure::file(
            format!("{uri}: {} tokens are meant; found: {known}", more + 1),
            "name one by token= or serial=",
        )),
    })
}

/// The bytes of a public key without what tokens wrap them in: a DER octet string (PKCS#11 2.40), a DER bit string, or
/// nothing (both seen with PKCS#11 3).
fn raw_point(bytes: &[u8], len: usize) -> Option<Vec<u8>> {
    let short = u8::try_from(len).ok()?;
    match bytes {
        raw if raw.len() == len => Some(raw.to_vec()),
        [0x04, length, raw @ ..] if *length == short && raw.len() == len => Some(raw.to_vec()),
        [0x03, length, 0, raw @ ..] if *length == short + 1 && raw.len() == len => Some(raw.to_vec()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read_however_a_token_wraps_them() {
        let raw = [7; 32];
        for wrapped in [raw.to_vec(), [&[4, 32][..], &raw].concat(), [&[3, 33, 0][..], &raw].concat()] {
            assert_eq!(raw_point(&wrapped, 32).as_deref(), Some(&raw[..]));
        }
        for other in [&[4, 31][..], &raw[..31], &[][..]] {
            assert_eq!(raw_point(other, 32), None);
        }
    }
}
