//! Private key files: PKCS#8 in PEM, plain or encrypted with a passphrase, as OpenSSL reads and writes them.
//!
//! Encrypted files are PBES2 with PBKDF2 (HMAC-SHA-256) and AES-256-CBC. Files are written in PKCS#8 version 1, without
//! the public key: OpenSSL refuses version 2 for ed25519.

use crate::key::{KeyError, SigningKey};
use pkcs8::der::asn1::OctetStringRef;
use pkcs8::der::pem::LineEnding;
use pkcs8::der::{Decode, SecretDocument};
use pkcs8::pkcs5::pbes2::{EncryptionScheme, Kdf, Parameters, Pbkdf2Params, Pbkdf2Prf};
use pkcs8::{AlgorithmIdentifierRef, EncryptedPrivateKeyInfoRef, ObjectIdentifier, PrivateKeyInfoRef};
use zeroize::Zeroizing;

/// Rounds of PBKDF2 in the files that we write: the cost of one guess at the passphrase.
pub const PBKDF2_ITERATIONS: u32 = 600_000;
/// Fewest rounds accepted on reading: a file below it is a weak file that somebody should re-encrypt.
pub const MIN_PBKDF2_ITERATIONS: u32 = 210_000;
/// Most rounds accepted on reading: a hostile file must not keep a machine busy for hours.
pub const MAX_PBKDF2_ITERATIONS: u32 = 10_000_000;
/// Bytes of a key file; ours have about 400.
pub const MAX_KEY_FILE_BYTES: usize = 16 * 1024;
/// The object identifier of ed25519 (RFC 8410).
const ED25519_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// Why a key file cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// More bytes than any key file has.
    #[error("{length} bytes are over the limit of {limit} for a key file")]
    TooLarge {
        /// Bytes given.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// No PEM file with a PKCS#8 private key.
    #[error("no PKCS#8 private key in PEM")]
    Malformed,
    /// The file is encrypted and no passphrase was given.
    #[error("the key file is encrypted; a passphrase is needed")]
    PassphraseNeeded,
    /// The file is not encrypted though a passphrase was given.
    #[error("the key file is not encrypted, yet a passphrase was given")]
    NotEncrypted,
    /// The passphrase does not open the file.
    #[error("wrong passphrase, or a damaged key file")]
    WrongPassphrase,
    /// An encryption other than PBES2 with PBKDF2-HMAC-SHA-256 and AES-256-CBC.
    #[error("encrypted with an unsupported scheme; re-encrypt it with PBKDF2 (HMAC-SHA-256) and AES-256-CBC")]
    UnsupportedEncryption,
    /// Too few or too many rounds of PBKDF2.
    #[error("{found} PBKDF2 rounds; {min} to {max} are accepted")]
    Iterations {
        /// Rounds in the file.
        found: u32,
        /// Fewest accepted.
        min: u32,
        /// Most accepted.
        max: u32,
    },
    /// A key of another algorithm.
    #[error("key algorithm {oid} is not ed25519")]
    NotEd25519 {
        /// The algorithm's object identifier.
        oid: String,
    },
    /// The key itself is refused.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Randomness for one encrypted file. Never use it twice.
#[derive(Debug, Clone, Copy)]
pub struct EncryptionNonces {
    /// Salt of the key derivation.
    pub salt: [u8; 16],
    /// Initialisation vector of the cipher.
    pub iv: [u8; 16],
}

/// Writes a plain key file. Whoever reads it can sign.
pub fn to_pem(key: &SigningKey) -> Result<Zeroizing<String>, KeyFileError> {
    plain_document(key)?.to_pem("PRIVATE KEY", LineEnding::LF).map_err(|_| KeyFileError::Malformed)
}

/// Writes an encrypted key file.
pub fn to_encrypted_pem(
    key: &SigningKey,
    passphrase: &str,
    nonces: &EncryptionNonces,
) -> Result<Zeroizing<String>, KeyFileError> {
    let parameters = Parameters::generate_pbkdf2_sha256_aes256cbc(PBKDF2_ITERATIONS, &nonces.salt, nonces.iv)
        .map_err(|_| KeyFileError::UnsupportedEncryption)?;
    let plain = plain_document(key)?;
    let encrypted =
        parameters.encrypt(passphrase, plain.as_bytes()).map_err(|_| KeyFileError::UnsupportedEncryption)?;
    let info = EncryptedPrivateKeyInfoRef {
        encryption_algorithm: parameters.into(),
        encrypted_data: OctetStringRef::new(&encrypted).map_err(|_| KeyFileError::Malformed)?,
    };
    SecretDocument::encode_msg(&info)
        .and_then(|document| document.to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF))
        .map_err(|_| KeyFileError::Malformed)
}

/// Whether the file says that it is encrypted, so that a caller knows to ask for a passphrase.
pub fn is_encrypted(pem: &str) -> bool {
    pem.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
}

/// Reads a key file. The passphrase must be given exactly when the file is encrypted.
pub fn from_pem(pem: &str, passphrase: Option<&str>) -> Result<SigningKey, KeyFileError> {
    if pem.len() > MAX_KEY_FILE_BYTES {
        return Err(KeyFileError::TooLarge { length: pem.len(), limit: MAX_KEY_FILE_BYTES });
    }
    let (label, document) = SecretDocument::from_pem(pem.trim()).map_err(|_| KeyFileError::Malformed)?;
    match (label, passphrase) {
        ("PRIVATE KEY", None) => read_plain(document.as_bytes()),
        ("PRIVATE KEY", Some(_)) => Err(KeyFileError::NotEncrypted),
        ("ENCRYPTED PRIVATE KEY", None) => Err(KeyFileError::PassphraseNeeded),
        ("ENCRYPTED PRIVATE KEY", Some(passphrase)) => {
            let info =
                EncryptedPrivateKeyInfoRef::from_der(document.as_bytes()).map_err(|_| KeyFileError::Malformed)?;
            check_encryption(&info)?;
            let plain = info.decrypt(passphrase).map_err(|_| KeyFileError::WrongPassphrase)?;
            read_plain(plain.as_bytes())
        }
        _ => Err(KeyFileError::Malformed),
    }
}

fn plain_document(key: &SigningKey) -> Result<SecretDocument, KeyFileError> {
    let seed = key.seed();
    // RFC 8410: the private key is itself an OCTET STRING inside the field.
    let mut inner = Zeroizing::new(vec![0x04, 0x20]);
    inner.extend_from_slice(seed.as_slice());
    let algorithm = AlgorithmIdentifierRef { oid: ED25519_OID, parameters: None };
    let inner = OctetStringRef::new(&inner).map_err(|_| KeyFileError::Malformed)?;
    SecretDocument::encode_msg(&PrivateKeyInfoRef::new(algorithm, inner)).map_err(|_| KeyFileError::Malformed)
}

fn read_plain(der: &[u8]) -> Result<SigningKey, KeyFileError> {
    let info = PrivateKeyInfoRef::from_der(der).map_err(|_| KeyFileError::Malformed)?;
    if info.algorithm.oid != ED25519_OID {
        return Err(KeyFileError::NotEd25519 { oid: info.algorithm.oid.to_string() });
    }
    let seed = match info.private_key.as_bytes() {
        [0x04, 0x20, seed @ ..] => <[u8; 32]>::try_from(seed).map_err(|_| KeyFileError::Malformed)?,
        _ => return Err(KeyFileError::Malformed),
    };
    Ok(SigningKey::from_seed(&Zeroizing::new(seed))?)
}

fn check_encryption(info: &EncryptedPrivateKeyInfoRef<'_>) -> Result<(), KeyFileError> {
    let parameters = info.encryption_algorithm.pbes2().ok_or(KeyFileError::UnsupportedEncryption)?;
    let (Kdf::Pbkdf2(kdf), EncryptionScheme::Aes256Cbc { .. }) = (&parameters.kdf, &parameters.encryption) else {
        return Err(KeyFileError::UnsupportedEncryption);
    };
    let Pbkdf2Params { prf: Pbkdf2Prf::HmacWithSha256, iteration_count, .. } = *kdf else {
        return Err(KeyFileError::UnsupportedEncryption);
    };
    if !(MIN_PBKDF2_ITERATIONS..=MAX_PBKDF2_ITERATIONS).contains(&iteration_count) {
        return Err(KeyFileError::Iterations {
            found: iteration_count,
            min: MIN_PBKDF2_ITERATIONS,
            max: MAX_PBKDF2_ITERATIONS,
        });
    }
    Ok(())
}
