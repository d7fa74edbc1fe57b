//! Opening tokens, and making, finding and destroying keys in them.

use std::path::Path;
use std::sync::Arc;

use cryptoki::context::Pkcs11;
use cryptoki::error::{Error as CallError, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;
use sluice_signer::PublicKey;

use crate::error::TokenError;
use crate::key::{Opened, Scheme, TokenKey};
use crate::module::{self, Live, Module, UriSource};
use crate::pin::{Pin, PinWanted, Tried};
use crate::uri::TokenUri;

/// The curve of ed25519 by its object identifier 1.3.101.112, in DER.
const ED25519_PARAMS: [u8; 5] = [0x06, 0x03, 0x2b, 0x65, 0x70];
/// The curve P-256 by its object identifier 1.2.840.10045.3.1.7, in DER.
const P256_PARAMS: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// The curve of ed25519 by its name, as PKCS#11 3.0 allows.
const ED25519_NAME: &[u8] = b"\x13\x0cedwards25519";

/// What a token is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// To sign with keys that are there.
    Sign,
    /// To make or destroy keys.
    Change,
}

/// An open token, its user logged in.
pub struct Token {
    session: Live,
    /// The token as its own label and serial number name it.
    uri: TokenUri,
    source: UriSource,
    pin: Pin,
}

/// The public half of a pair, and how its pair is named.
pub(crate) struct Found {
    pub(crate) public: ObjectHandle,
    id: Vec<u8>,
    label: Option<String>,
}

impl Token {
    /// Opens the one token that a URI means.
    pub fn open(uri: &TokenUri, source: UriSource, mode: Mode, pin: &Pin) -> Result<Self, TokenError> {
        let module = Module::load(&module::path(uri, source)?)?;
        let run = module.run();
        match Self::open_in(&module, uri, source, mode, pin) {
            Err(TokenError::NoToken { .. } | TokenError::Module { .. } | TokenError::Call { .. }) => {
                module.restart(run)?;
                Self::open_in(&module, uri, source, mode, pin)
            }
            other => other,
        }
    }

    fn open_in(
        module: &Arc<Module>,
        uri: &TokenUri,
        source: UriSource,
        mode: Mode,
        pin: &Pin,
    ) -> Result<Self, TokenError> {
        let (slot, info) = choose(module, uri)?;
        let name = info.label().to_owned();
        if info.user_pin_locked() {
            return Err(TokenError::PinLocked { token: name });
        }
        let token = Self {
            session: module.open(slot, mode == Mode::Change)?,
            uri: TokenUri {
                token: Some(name),
                serial: Some(info.serial_number().to_owned()),
                module_path: Some(module.path.clone()),
                pin_source: uri.pin_source.clone(),
                ..TokenUri::default()
            },
            source,
            pin: pin.clone(),
        };
        token.login(&module.path, &info)?;
        Ok(token)
    }

    fn login(&self, module: &Path, info: &TokenInfo) -> Result<(), TokenError> {
        // All sessions of a process are logged in together.
        let state = self.call("tell of the session", Session::get_session_info)?.session_state();
        if !info.login_required() || matches!(state, SessionState::RoUser | SessionState::RwUser) {
            return Ok(());
        }
        let token = info.label();
        // With a keypad of its own the token asks by itself.
        let (pin, tried) = if info.protected_authentication_path() {
            (None, None)
        } else {
            let pin = self.pin.get(&PinWanted { token, last_try: info.user_pin_final_try() })?;
            let tried = Tried::new(module, info.serial_number(), token, &pin);
            if tried.was_refused() {
                return Err(TokenError::WrongPin { token: token.to_owned() });
            }
            (Some(AuthPin::new(pin.as_str().into())), Some(tried))
        };
        match self.session.call(|session| session.login(UserType::User, pin.as_ref())) {
            Ok(()) | Err(CallError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(CallError::Pkcs11(RvError::PinIncorrect | RvError::PinLenRange | RvError::PinInvalid, _)) => {
                if let Some(tried) = tried {
                    tried.refuse();
                }
                Err(TokenError::WrongPin { token: token.to_owned() })
            }
            Err(CallError::Pkcs11(RvError::PinLocked, _)) => Err(TokenError::PinLocked { token: token.to_owned() }),
            Err(source) => Err(failed(&self.uri, "log in", source)),
        }
    }

    fn call<T>(
        &self,
        what: &'static str,
        call: impl FnOnce(&Session) -> Result<T, CallError>,
    ) -> Result<T, TokenError> {
        self.session.call(call).map_err(|source| failed(&self.uri, what, source))
    }

    pub(crate) fn into_session(self) -> Live {
        self.session
    }

    /// Makes a key pair whose private half cannot leave the token. Returns the URI that finds it again.
    pub fn generate(&self, name: &str, id: &[u8], scheme: Scheme) -> Result<TokenUri, TokenError> {
        let uri = TokenUri { object: Some(name.to_owned()), id: Some(id.to_vec()), ..self.uri.clone() };
        if !self.find(ObjectClass::PRIVATE_KEY, &TokenUri { id: None, ..uri.clone() })?.is_empty() {
            return Err(TokenError::LabelTaken { label: name.to_owned() });
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
        let (public, private) = self
            .session
            .call(|session| session.generate_key_pair(&mechanism, &public, &private))
            .map_err(|source| TokenError::Generate { scheme: scheme.name(), source })?;
        // A token may ignore what it was asked for.
        if let Err(error) = self.check_secret(&uri, private) {
            self.destroy_pair([private, public])?;
            return Err(error);
        }
        Ok(uri)
    }

    /// Refuses a key that can be copied out of the token: nothing may rest on it.
    fn check_secret(&self, uri: &TokenUri, private: ObjectHandle) -> Result<(), TokenError> {
        let asked = [AttributeType::Sensitive, AttributeType::NeverExtractable, AttributeType::Extractable];
        let told = self.session.call(|session| session.get_attributes(private, &asked));
        let wanted = [Attribute::Sensitive(true), Attribute::NeverExtractable(true), Attribute::Extractable(false)];
        if told.is_ok_and(|told| wanted.iter().all(|attribute| told.contains(attribute))) {
            return Ok(());
        }
        Err(TokenError::Extractable { uri: uri.to_string() })
    }

    fn find(&self, class: ObjectClass, uri: &TokenUri) -> Result<Vec<ObjectHandle>, TokenError> {
        let mut template = vec![Attribute::Class(class), Attribute::Token(true)];
        template.extend(uri.object.iter().map(|label| Attribute::Label(label.as_bytes().to_vec())));
        template.extend(uri.id.iter().map(|id| Attribute::Id(id.clone())));
        self.call("look for keys", |session| session.find_objects(&template))
    }

    fn destroy_pair(&self, pair: [ObjectHandle; 2]) -> Result<(), TokenError> {
        pair.into_iter().try_for_each(|object| self.call("destroy a key", |session| session.destroy_object(object)))
    }

    /// Both halves of the one key that a URI means.
    pub(crate) fn pair(&self, uri: &TokenUri) -> Result<(ObjectHandle, Found), TokenError> {
        let named = || uri.to_string();
        let private = match self.find(ObjectClass::PRIVATE_KEY, uri)?[..] {
            [one] => one,
            [] => return Err(TokenError::NoKey { uri: named() }),
            _ => return Err(TokenError::ManyKeys { uri: named() }),
        };
        let (mut id, mut label) = (Vec::new(), None);
        let asked = [AttributeType::Id, AttributeType::Label];
        for attribute in self.call("tell of the key", |session| session.get_attributes(private, &asked))? {
            match attribute {
                Attribute::Id(bytes) => id = bytes,
                Attribute::Label(bytes) => label = String::from_utf8(bytes).ok().filter(|label| !label.is_empty()),
                _ => {}
            }
        }
        if id.is_empty() {
            return Err(TokenError::NoId { uri: named() });
        }
        let halves = self.find(ObjectClass::PUBLIC_KEY, &TokenUri { id: Some(id.clone()), ..TokenUri::default() })?;
        let [public] = halves[..] else {
            return Err(TokenError::PublicHalves { uri: named(), count: halves.len() });
        };
        Ok((private, Found { public, id, label }))
    }

    /// The one key that a URI means.
    pub fn key(self, uri: &TokenUri) -> Result<TokenKey, TokenError> {
        let (private, found) = self.pair(uri)?;
        let public = self.public(uri, found.public)?;
        let uri = TokenUri { object: found.label, id: Some(found.id), ..self.uri.clone() };
        let key = TokenKey::at(uri, self.source, self.pin.clone(), public);
        Ok(key.opened(Opened { session: self.session, private }))
    }

    /// The same for a key that somebody else made, if it cannot be copied.
    pub fn secret_key(self, uri: &TokenUri) -> Result<TokenKey, TokenError> {
        let (private, _) = self.pair(uri)?;
        self.check_secret(uri, private)?;
        self.key(uri)
    }

    /// Destroys the key at a URI, both halves, if it is the one that is meant. Whether there was one.
    pub fn destroy(&self, uri: &TokenUri, meant: &PublicKey) -> Result<bool, TokenError> {
        let (private, found) = match self.pair(uri) {
            Err(TokenError::NoKey { .. }) => return Ok(false),
            other => other?,
        };
        let public = self.public(uri, found.public)?;
        if public.material() != meant.material() {
            return Err(TokenError::OtherKey {
                uri: uri.to_string(),
                found: public.keyid().to_owned(),
                expected: meant.keyid().to_owned(),
            });
        }
        self.destroy_pair([private, found.public])?;
        Ok(true)
    }

    pub(crate) fn public(&self, uri: &TokenUri, handle: ObjectHandle) -> Result<PublicKey, TokenError> {
        let (mut point, mut params, mut kind) = (Vec::new(), Vec::new(), None);
        let asked = [AttributeType::KeyType, AttributeType::EcParams, AttributeType::EcPoint];
        for attribute in self.call("tell of the key", |session| session.get_attributes(handle, &asked))? {
            match attribute {
                Attribute::EcPoint(bytes) => point = bytes,
                Attribute::EcParams(bytes) => params = bytes,
                Attribute::KeyType(found) => kind = Some(found),
                _ => {}
            }
        }
        let edwards = params == ED25519_PARAMS || params == ED25519_NAME;
        let public = match kind {
            Some(KeyType::EC_EDWARDS) if edwards => raw_point(&point, 32)
                .and_then(|point| <[u8; 32]>::try_from(point).ok())
                .and_then(|point| PublicKey::ed25519(&point).ok()),
            Some(KeyType::EC) if params == P256_PARAMS => {
                raw_point(&point, 65).and_then(|point| PublicKey::ecdsa_p256_point(&point).ok())
            }
            _ => None,
        };
        public.ok_or_else(|| TokenError::PublicKey { uri: uri.to_string() })
    }
}

fn failed(uri: &TokenUri, what: &'static str, source: CallError) -> TokenError {
    TokenError::Call { token: uri.to_string(), what, source }
}

/// The slot of the one token that a URI means, and what it says of itself.
fn choose(module: &Module, uri: &TokenUri) -> Result<(Slot, TokenInfo), TokenError> {
    let mut fitting = Vec::new();
    let mut seen = Vec::new();
    for slot in module.call(Pkcs11::get_slots_with_initialized_token)? {
        // One token that is out of order is no reason to leave the others alone.
        let Ok(info) = module.call(|library| library.get_token_info(slot)) else {
            seen.push("one that does not answer".to_owned());
            continue;
        };
        let fits = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        seen.push(format!("{:?}", info.label()));
        if fits(&uri.token, info.label())
            && fits(&uri.serial, info.serial_number())
            && fits(&uri.manufacturer, info.manufacturer_id())
            && fits(&uri.model, info.model())
        {
            fitting.push((slot, info));
        }
    }
    let found = if seen.is_empty() { "none".to_owned() } else { seen.join(", ") };
    let uri = uri.to_string();
    match (fitting.pop(), fitting.len()) {
        (Some(one), 0) => Ok(one),
        (None, _) => Err(TokenError::NoToken { uri, found }),
        (Some(_), more) => Err(TokenError::ManyTokens { uri, count: more + 1, found }),
    }
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
