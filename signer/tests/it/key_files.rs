//! Private key files, and that OpenSSL's are read.

use proptest::prelude::*;
use sluice_signer::SigningKey;
use sluice_signer::key_file::{
    EncryptionNonces, KeyFileError, MAX_KEY_FILE_BYTES, MAX_PBKDF2_ITERATIONS, MIN_PBKDF2_ITERATIONS, from_pem,
    is_encrypted, to_encrypted_pem, to_pem,
};

const PLAIN: &str = include_str!("../openssl/ed25519.pem");
const ENCRYPTED: &str = include_str!("../openssl/ed25519-pbkdf2.pem");
const FEW_ROUNDS: &str = include_str!("../openssl/ed25519-2048-rounds.pem");
const SCRYPT: &str = include_str!("../openssl/ed25519-scrypt.pem");
const P256: &str = include_str!("../openssl/p256.pem");
const PASSPHRASE: &str = "correct horse";
const NONCES: EncryptionNonces = EncryptionNonces { salt: [3; 16], iv: [4; 16] };

#[test]
fn openssl_files_open() {
    let public = "84563b8258ea6c695539d91874502527a03d0eaab023b22d714363d23e5b7c5c";
    for (pem, passphrase) in [(PLAIN, None), (ENCRYPTED, Some(PASSPHRASE))] {
        let key = from_pem(pem, passphrase).unwrap();
        assert_eq!(hex::encode(key.public().ed25519_bytes().unwrap()), public);
    }
}

#[test]
fn a_plain_file_is_written_byte_for_byte_as_openssl_does() {
    let key = from_pem(PLAIN, None).unwrap();
    assert_eq!(to_pem(&key).unwrap().as_str(), PLAIN);
}

#[test]
fn an_encrypted_file_opens_with_its_passphrase_only() {
    let key = SigningKey::from_seed(&[9; 32]).unwrap();
    let pem = to_encrypted_pem(&key, "žluťoučký kůň", &NONCES).unwrap();
    assert!(is_encrypted(&pem) && !is_encrypted(PLAIN));
    assert_eq!(from_pem(&pem, Some("žluťoučký kůň")).unwrap().public(), key.public());
    assert_eq!(from_pem(&pem, Some("wrong")).unwrap_err(), KeyFileError::WrongPassphrase);
    assert_eq!(from_pem(&pem, None).unwrap_err(), KeyFileError::PassphraseNeeded);
    assert_eq!(from_pem(PLAIN, Some("any")).unwrap_err(), KeyFileError::NotEncrypted);
}

#[test]
fn weak_costly_and_foreign_encryption_is_refused() {
    let iterations = KeyFileError::Iterations { found: 2048, min: MIN_PBKDF2_ITERATIONS, max: MAX_PBKDF2_ITERATIONS };
    assert_eq!(from_pem(FEW_ROUNDS, Some(PASSPHRASE)).unwrap_err(), iterations);
    assert_eq!(from_pem(SCRYPT, Some(PASSPHRASE)).unwrap_err(), KeyFileError::UnsupportedEncryption);
}

#[test]
fn other_keys_and_other_files_are_refused() {
    assert!(matches!(from_pem(P256, None), Err(KeyFileError::NotEd25519 { .. })));
    assert_eq!(from_pem("", None).unwrap_err(), KeyFileError::Malformed);
    assert_eq!(from_pem(&PLAIN.replace("PRIVATE KEY", "CERTIFICATE"), None).unwrap_err(), KeyFileError::Malformed);
    let length = MAX_KEY_FILE_BYTES + 1;
    let limit = MAX_KEY_FILE_BYTES;
    assert_eq!(from_pem(&"x".repeat(length), None).unwrap_err(), KeyFileError::TooLarge { length, limit });
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(body in "[A-Za-z0-9+/=\n]{0,200}") {
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
        prop_assert!(from_pem(&pem, None).is_err());
    }

    #[test]
    fn a_plain_file_reads_back(seed in any::<[u8; 32]>()) {
        let key = SigningKey::from_seed(&seed).unwrap();
        prop_assert_eq!(from_pem(&to_pem(&key).unwrap(), None).unwrap().seed(), key.seed());
    }
}
