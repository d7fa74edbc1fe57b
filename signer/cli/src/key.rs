//! `key`, and reading the keys of holders for the other commands: in files of their own, or in tokens.

use crate::args::{KeyCommand, KeyExportArgs, KeyImportArgs, KeyNewArgs, KeyShowArgs};
use crate::failure::Failure;
use crate::{edge, folder, output};
use anyhow::Context as _;
use serde::Serialize;
use sluice_signer::key_file::{self, EncryptionNonces, MAX_KEY_FILE_BYTES};
use sluice_signer::{Envelope, Json, Limits, PublicKey, SigningKey};
use sluice_token::{Mode, Pin, Token, TokenKey, TokenUri, UriSource};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Bytes of a key file, private or public.
const MAX_FILE_BYTES: u64 = MAX_KEY_FILE_BYTES as u64;

/// A key that its holder signs with.
pub enum HolderKey {
    /// Read from a file.
    File(SigningKey),
    /// In a token, which signs by itself.
    Token(TokenKey),
}

impl HolderKey {
    /// Opens a key: a file with the key itself, a file that says where it is, or a PKCS#11 URI. Asks for its passphrase or
    /// PIN when it needs one.
    pub fn open(key: &Path, secret_file: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(uri) = key.to_str().filter(|text| TokenUri::is_one(text)) {
            return Self::in_token(uri, UriSource::Typed, secret_file);
        }
        let bytes = Zeroizing::new(folder::read_limited(key, MAX_FILE_BYTES)?);
        let text = std::str::from_utf8(&bytes).with_context(|| format!("{}: not a key file", key.display()))?;
        if TokenUri::is_one(text) {
            return Self::in_token(text.trim(), UriSource::File, secret_file)
                .with_context(|| key.display().to_string());
        }
        let passphrase = if key_file::is_encrypted(text) { Some(edge::passphrase(secret_file, key)?) } else { None };
        key_file::from_pem(text, passphrase.as_ref().map(|passphrase| passphrase.as_str()))
            .map(Self::File)
            .with_context(|| key.display().to_string())
    }

    fn in_token(uri: &str, source: UriSource, secret_file: Option<&Path>) -> anyhow::Result<Self> {
        let uri = TokenUri::parse(uri)?;
        let token = Token::open(&uri, source, Mode::Sign, &pin(&uri, source, secret_file)).map_err(Failure::from)?;
        Ok(Self::Token(token.key(&uri).map_err(Failure::from)?))
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        match self {
            Self::File(key) => key.public(),
            Self::Token(key) => key.public(),
        }
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::File(key) => Ok(key.sign(message)),
            Self::Token(key) => Ok(key.sign(message).map_err(Failure::from)?),
        }
    }

    /// Adds the signature of this key to a document.
    pub fn sign_envelope(&self, envelope: &mut Envelope, limits: &Limits) -> anyhow::Result<()> {
        let signature = self.sign(&envelope.payload())?;
        Ok(envelope.merge(self.public(), self.public().keyid(), &signature, limits)?)
    }
}

/// Who knows the PIN: the file of the command line, the one of the URI, or the person. Whose URI it is decides which file is
/// read, so one in a file counts for nothing: it could burn the few tries that a token allows.
fn pin(uri: &TokenUri, source: UriSource, secret_file: Option<&Path>) -> Pin {
    if secret_file.is_none() && source == UriSource::Typed && uri.pin_source.is_some() {
        return Pin::of(uri);
    }
    let secret_file = secret_file.map(Path::to_owned);
    Pin::Ask(Arc::new(move |wanted| {
        if wanted.last_try {
            eprintln!("warning: token {:?} locks itself after one more wrong PIN", wanted.token);
        }
        edge::pin(secret_file.as_deref(), wanted.token).map_err(|error| error.to_string().into())
    }))
}

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
        KeyCommand::Import(args) => import(&args, json),
        KeyCommand::Export(args) => export(&args, json),
    }
}

fn new(args: &KeyNewArgs, json: bool) -> anyhow::Result<()> {
    let files = Files::new(&args.out, &args.name)?;
    if let Some(uri) = &args.token {
        let uri = TokenUri::parse(uri)?;
        let pin = pin(&uri, UriSource::Typed, args.passphrase_file.as_deref());
        let token = Token::open(&uri, UriSource::Typed, Mode::Change, &pin).map_err(Failure::from)?;
        let id = edge::random::<16>()?;
        let uri = token.generate(&args.name, id.as_slice(), args.scheme).map_err(Failure::from)?;
        let key = token.key(&uri).map_err(Failure::from)?;
        files.write(Some(format!("{}\n", place(&key)).as_bytes()), key.public())?;
        return files.report(key.public(), "in the token; the file says where", json);
    }
    let key = SigningKey::from_seed(&*edge::random::<32>()?)?;
    let pem = private_pem(&key, args.passphrase_file.as_deref(), args.no_passphrase)?;
    files.write(Some(pem.as_bytes()), key.public())?;
    files.report(key.public(), kept(args.no_passphrase), json)
}

fn import(args: &KeyImportArgs, json: bool) -> anyhow::Result<()> {
    let files = Files::new(&args.out, &args.name)?;
    let HolderKey::File(key) = HolderKey::open(&args.from, args.from_passphrase_file.as_deref())? else {
        let message = format!("{} is a key in a token, which it cannot leave", args.from.display());
        return Err(Failure::refused(message, "write its public half with `sluice-sign key export`"));
    };
    let pem = private_pem(&key, args.passphrase_file.as_deref(), args.no_passphrase)?;
    files.write(Some(pem.as_bytes()), key.public())?;
    files.report(key.public(), kept(args.no_passphrase), json)
}

/// The same again changes nothing, and what a run that was cut left out is written: so a key that was made in a token is not lost
/// for want of its files.
fn export(args: &KeyExportArgs, json: bool) -> anyhow::Result<()> {
    let files = Files::named(&args.out, &args.name)?;
    let key = HolderKey::open(&args.key, args.passphrase_file.as_deref())?;
    let place = match &key {
        HolderKey::File(_) => None,
        HolderKey::Token(key) => Some(format!("{}\n", place(key))),
    };
    if let Some(place) = &place {
        folder::write_once(&files.private, place.as_bytes(), 0o600)?;
    }
    folder::write_once(&files.public, Files::public_text(key.public()).as_bytes(), 0o644)?;
    files.report(key.public(), if place.is_some() { "in the token; the file says where" } else { "" }, json)
}

/// Where a key is, as its file says it: where its PIN is stays with who typed that.
fn place(key: &TokenKey) -> TokenUri {
    TokenUri { pin_source: None, ..key.uri().clone() }
}

fn private_pem(key: &SigningKey, secret_file: Option<&Path>, plain: bool) -> anyhow::Result<Zeroizing<String>> {
    if plain {
        return Ok(key_file::to_pem(key)?);
    }
    let passphrase = edge::new_passphrase(secret_file)?;
    let nonces = EncryptionNonces { salt: *edge::random::<16>()?, iv: *edge::random::<16>()? };
    Ok(key_file::to_encrypted_pem(key, &passphrase, &nonces)?)
}

fn kept(plain: bool) -> &'static str {
    if plain {
        "not encrypted; keep it, and a copy in another place"
    } else {
        "encrypted; keep it, and a copy in another place"
    }
}

/// The files of a new key.
struct Files {
    private: PathBuf,
    public: PathBuf,
}

impl Files {
    fn named(out: &Path, name: &str) -> anyhow::Result<Self> {
        if !sluice_signer::path::is_delegated_role_name(name) {
            let message = format!("{name:?} cannot be a file name");
            return Err(Failure::refused(message, "use letters, digits, '-', '_' and '.'"));
        }
        std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
        Ok(Self { private: out.join(format!("{name}.key")), public: out.join(format!("{name}.pub")) })
    }

    /// The same for a key that is yet to be made.
    fn new(out: &Path, name: &str) -> anyhow::Result<Self> {
        let files = Self::named(out, name)?;
        // Before a token makes a key, or a person thinks of a passphrase.
        for file in [&files.private, &files.public] {
            if file.exists() {
                let message = format!("{} exists", file.display());
                return Err(Failure::refused(message, "choose another name; keys are never overwritten"));
            }
        }
        Ok(files)
    }

    fn write(&self, private: Option<&[u8]>, public: &PublicKey) -> anyhow::Result<()> {
        if let Some(bytes) = private {
            folder::write_new(&self.private, bytes, 0o600)?;
        }
        folder::write_new(&self.public, Self::public_text(public).as_bytes(), 0o644)
    }

    fn public_text(public: &PublicKey) -> String {
        format!("{}\n", public.to_json())
    }

    fn report(&self, key: &PublicKey, kept: &str, json: bool) -> anyhow::Result<()> {
        let private = self.private.exists().then(|| self.private.clone());
        let report = KeyReport {
            keyid: key.keyid(),
            scheme: key.scheme(),
            key: key.to_json(),
            private: private.clone(),
            public: Some(self.public.clone()),
        };
        output::print(json, &report, || {
            let private = private.map(|file| format!("private  {} ({kept})\n", file.display())).unwrap_or_default();
            format!(
                "key id   {}\n{private}public   {} (give it to whoever runs the ceremony)",
                key.keyid(),
                self.public.display()
            )
        })
    }
}

fn show(args: &KeyShowArgs, json: bool) -> anyhow::Result<()> {
    let is_uri = args.key.to_str().is_some_and(TokenUri::is_one);
    let private = is_uri || {
        let bytes = Zeroizing::new(folder::read_limited(&args.key, MAX_FILE_BYTES)?);
        bytes.starts_with(b"pkcs11:") || bytes.windows(12).any(|window| window == b"PRIVATE KEY-")
    };
    let key = if private {
        HolderKey::open(&args.key, args.passphrase_file.as_deref())?.public().clone()
    } else {
        public(&args.key)?
    };
    let report =
        KeyReport { keyid: key.keyid(), scheme: key.scheme(), key: key.to_json(), private: None, public: None };
    output::print(json, &report, || {
        format!("key id  {}\nscheme  {}\nkey     {}", key.keyid(), key.scheme(), key.to_json())
    })
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
