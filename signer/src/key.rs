//! TUF keys: public key objects, their ids, signature checks, and ed25519 private keys.
//!
//! Two schemes are known: `ed25519`, always checked strictly (no malleable signatures, no weak keys), and
//! `ecdsa-sha2-nistp256`, which many hardware tokens and public test data have instead.

use crate::digest::{parse_hex_bytes, sha256};
use crate::error::quote;
use crate::json::Json;
use p256::pkcs8::{DecodePublicKey as _, EncodePublicKey as _};
use std::fmt;
use zeroize::Zeroizing;

/// Bytes of a PEM public key: a P-256 key needs 180.
const MAX_PEM_BYTES: usize = 1_024;

/// Why a key is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key object lacks a field or has it in the wrong shape.
    #[error("key object: field {field} is missing or malformed")]
    Malformed {
        /// The field.
        field: &'static str,
    },
    /// A key type or scheme that this verifier does not know.
    #[error("key type {keytype:?} with scheme {scheme:?} is not supported; use ed25519 or ecdsa-sha2-nistp256")]
    Unsupported {
        /// The `keytype` found, shortened.
        keytype: String,
        /// The `scheme` found, shortened.
        scheme: String,
    },
    /// The bytes are no point of the curve, or one that makes forgeries easy.
    #[error("{scheme}: not a valid public key")]
    Invalid {
        /// The scheme.
        scheme: &'static str,
    },
}

#[derive(Clone, PartialEq, Eq)]
enum Verifier {
    Ed25519(ed25519_dalek::VerifyingKey),
    EcdsaP256(p256::ecdsa::VerifyingKey),
}

/// A public key with its TUF key object.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    verifier: Verifier,
    object: Json,
    keyid: String,
}

impl PublicKey {
    /// Makes the key object of a raw ed25519 public key.
    pub fn ed25519(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let object = key_object("ed25519", "ed25519", hex::encode(bytes));
        Self::from_json(&object)
    }

    /// Makes the key object of a P-256 public key in PEM (`SubjectPublicKeyInfo`).
    pub fn ecdsa_p256_pem(pem: &str) -> Result<Self, KeyError> {
        Self::from_json(&key_object("ecdsa", "ecdsa-sha2-nistp256", pem.to_owned()))
    }

    /// Makes the key object of a P-256 public key as a point (SEC 1), which is how tokens tell it.
    pub fn ecdsa_p256_point(point: &[u8]) -> Result<Self, KeyError> {
        let invalid = KeyError::Invalid { scheme: "ecdsa-sha2-nistp256" };
        let key = p256::PublicKey::from_sec1_bytes(point).map_err(|_| invalid.clone())?;
        Self::ecdsa_p256_pem(&key.to_public_key_pem(p256::pkcs8::LineEnding::LF).map_err(|_| invalid)?)
    }

    /// Reads a TUF key object. Unknown fields are kept: they are part of what the key id is hashed from.
    pub fn from_json(object: &Json) -> Result<Self, KeyError> {
        let field =
            |name: &'static str| object.get(name).and_then(Json::as_str).ok_or(KeyError::Malformed { field: name });
        let (keytype, scheme) = (field("keytype")?, field("scheme")?);
        let public = object
            .get("keyval")
            .and_then(|keyval| keyval.get("public"))
            .and_then(Json::as_str)
            .ok_or(KeyError::Malformed { field: "keyval.public" })?;
        let verifier = match (keytype, scheme) {
            ("ed25519", "ed25519") => Verifier::Ed25519(read_ed25519(public)?),
            ("ecdsa" | "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256") => Verifier::EcdsaP256(read_p256(public)?),
            _ => return Err(KeyError::Unsupported { keytype: quote(keytype), scheme: quote(scheme) }),
        };
        let keyid = hex::encode(sha256(&object.canonical()));
        Ok(Self { verifier, object: object.clone(), keyid })
    }

    /// The TUF key object.
    pub fn to_json(&self) -> &Json {
        &self.object
    }

    /// SHA-256 of the canonical key object, in hexadecimal.
    pub fn keyid(&self) -> &str {
        &self.keyid
    }

    /// The bytes that make two keys the same key, whatever their objects say. Thresholds count these, so that one
    /// holder cannot appear as two by adding a field to the key object.
    pub fn material(&self) -> Vec<u8> {
        match &self.verifier {
            Verifier::Ed25519(key) => [b"ed25519:".as_slice(), key.as_bytes()].concat(),
            Verifier::EcdsaP256(key) => [b"p256:".as_slice(), key.to_sec1_point(true).as_bytes()].concat(),
        }
    }

    /// The scheme's name.
    pub fn scheme(&self) -> &'static str {
        match &self.verifier {
            Verifier::Ed25519(_) => "ed25519",
            Verifier::EcdsaP256(_) => "ecdsa-sha2-nistp256",
        }
    }

    /// The raw public key, when this is an ed25519 key.
    pub fn ed25519_bytes(&self) -> Option<[u8; 32]> {
        match &self.verifier {
            Verifier::Ed25519(key) => Some(key.to_bytes()),
            Verifier::EcdsaP256(_) => None,
        }
    }

    /// Whether `signature` over `message` is this key's. Malformed signatures are simply not valid.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.verifier {
            Verifier::Ed25519(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
            Verifier::EcdsaP256(key) => {
                use p256::ecdsa::signature::Verifier as _;
                p256::ecdsa::DerSignature::from_bytes(signature)
                    .is_ok_and(|signature| key.verify(message, &signature).is_ok())
            }
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PublicKey({} {})", self.scheme(), self.keyid)
    }
}

fn key_object(keytype: &str, scheme: &str, public: String) -> Json {
    Json::object([
        ("keytype", keytype.into()),
        ("scheme", scheme.into()),
        ("keyval", Json::object([("public", public.into())])),
    ])
}

fn read_ed25519(public: &str) -> Result<ed25519_dalek::VerifyingKey, KeyError> {
    let invalid = KeyError::Invalid { scheme: "ed25519" };
    let bytes: [u8; 32] = parse_hex_bytes(public).and_then(|bytes| bytes.try_into().ok()).ok_or(invalid.clone())?;
    let key = ed25519_dalek::VerifyingKey::from_bytes(&bytes).map_err(|_| invalid.clone())?;
    // A key of small order verifies almost anything.
    if key.is_weak() { Err(invalid) } else { Ok(key) }
}

fn read_p256(public: &str) -> Result<p256::ecdsa::VerifyingKey, KeyError> {
    let invalid = KeyError::Invalid { scheme: "ecdsa-sha2-nistp256" };
    if public.len() > MAX_PEM_BYTES {
        return Err(invalid);
    }
    p256::PublicKey::from_public_key_pem(public).map(Into::into).map_err(|_| invalid)
}

/// An ed25519 private key. It is wiped from memory when dropped and never printed.
pub struct SigningKey {
    key: ed25519_dalek::SigningKey,
    public: PublicKey,
}

impl SigningKey {
    /// Makes the key of a 32-byte seed. The caller brings the randomness.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, KeyError> {
        let key = ed25519_dalek::SigningKey::from_bytes(seed);
        let public = PublicKey::ed25519(key.verifying_key().as_bytes())?;
        Ok(Self { key, public })
    }

    /// The seed, for writing a key file.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.key.to_bytes())
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        use ed25519_dalek::Signer as _;
        self.key.sign(message).to_bytes().to_vec()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SigningKey({})", self.public.keyid)
    }
}

/// The DER form of a P-256 signature that a token gives as two numbers of 32 bytes. `None` when it is no such pair.
pub fn p256_der_signature(raw: &[u8]) -> Option<Vec<u8>> {
    p256::ecdsa::Signature::from_slice(raw).ok().map(|signature| signature.to_der().as_bytes().to_vec())
}
