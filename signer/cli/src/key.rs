//! `key new` and `key show`, and reading key files for the other commands.

use crate::args::{KeyCommand, KeyNewArgs, KeyShowArgs};
use crate::failure::Failure;
use crate::{edge, folder, output};
use anyhow::Context as _;
use serde::Serialize;
use sluice_signer::key_file::{self, EncryptionNonces, MAX_KEY_FILE_BYTES};
use sluice_signer::{Json, PublicKey, SigningKey};
use std::path::{Path, PathBuf};

/// Bytes of a key file, private or public.
const MAX_FILE_BYTES: u64 = MAX_KEY_FILE_BYTES as u64;

#[derive(Serialize)]
struct KeyReport<'a> {
    keyid: &'a str,
    scheme: &'a str,
    key: &'a Json,
    #[serde(skip_serializing_if = "Option::is_none")]
    private: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    public: Option<PathBuf>,
}

pub fn run(command: KeyCommand, json: bool) -> anyhow::Result<()> {
    match command {
        KeyCommand::New(args) => new(&args, json),
        KeyCommand::Show(args) => show(&args, json),
    }
}

fn new(args: &KeyNewArgs, json: bool) -> anyhow::Result<()> {
    if !sluice_signer::path::is_delegated_role_name(&args.name) {
        let message = format!("{:?} cannot be a file name", args.name);
        return Err(Failure::refused(message, "use letters, digits, '-', '_' and '.'"));
    }
    let key = SigningKey::from_seed(&*edge::random::<32>()?)?;
    let pem = if args.no_passphrase {
        key_file::to_pem(&key)?
    } else {
        let passphrase = edge::new_passphrase(args.passphrase_file.as_deref())?;
        let nonces = EncryptionNonces { salt: *edge::random::<16>()?, iv: *edge::random::<16>()? };
        key_file::to_encrypted_pem(&key, &passphrase, &nonces)?
    };
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let private = args.out.join(format!("{}.key", args.name));
    let public = args.out.join(format!("{}.pub", args.name));
    folder::write_new(&private, pem.as_bytes(), 0o600)?;
    folder::write_new(&public, format!("{}\n", key.public().to_json()).as_bytes(), 0o644)?;
    let report = KeyReport {
        keyid: key.public().keyid(),
        scheme: key.public().scheme(),
        key: key.public().to_json(),
        private: Some(private.clone()),
        public: Some(public.clone()),
    };
    output::print(json, &report, || {
        format!(
            "key id   {}\nprivate  {} ({}; keep it, and a copy in another place)\npublic   {} (give it to whoever runs the ceremony)",
            key.public().keyid(),
            private.display(),
            if args.no_passphrase { "not encrypted" } else { "encrypted" },
            public.display(),
        )
    })
}

fn show(args: &KeyShowArgs, json: bool) -> anyhow::Result<()> {
    let bytes = folder::read_limited(&args.file, MAX_FILE_BYTES)?;
    let key = if bytes.starts_with(b"-----BEGIN ") {
        private(&args.file, args.passphrase_file.as_deref())?.public().clone()
    } else {
        public(&args.file)?
    };
    let report =
        KeyReport { keyid: key.keyid(), scheme: key.scheme(), key: key.to_json(), private: None, public: None };
    output::print(json, &report, || {
        format!("key id  {}\nscheme  {}\nkey     {}", key.keyid(), key.scheme(), key.to_json())
    })
}

/// Reads a private key, asking for its passphrase when it is encrypted.
pub fn private(path: &Path, passphrase_file: Option<&Path>) -> anyhow::Result<SigningKey> {
    let bytes = zeroize::Zeroizing::new(folder::read_limited(path, MAX_FILE_BYTES)?);
    let pem = std::str::from_utf8(&bytes).with_context(|| format!("{}: not a PEM file", path.display()))?;
    let passphrase = if key_file::is_encrypted(pem) { Some(edge::passphrase(passphrase_file, path)?) } else { None };
    key_file::from_pem(pem, passphrase.as_ref().map(|passphrase| passphrase.as_str()))
        .with_context(|| path.display().to_string())
}

/// Reads a public key: a TUF key object in JSON, or an ECDSA P-256 key in PEM.
pub fn public(path: &Path) -> anyhow::Result<PublicKey> {
    let bytes = folder::read_limited(path, MAX_FILE_BYTES)?;
    let named = || path.display().to_string();
    if bytes.starts_with(b"-----BEGIN PUBLIC KEY-----") {
        return PublicKey::ecdsa_p256_pem(&String::from_utf8(bytes).with_context(named)?).with_context(named);
    }
    let object = Json::parse(&bytes, MAX_FILE_BYTES).with_context(named)?;
    PublicKey::from_json(&object).with_context(named)
}

/// The name of a holder: the file's name without its extension.
pub fn holder_name(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}
