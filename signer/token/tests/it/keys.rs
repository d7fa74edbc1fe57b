//! A key signs from several threads, and goes on when its token was away. SoftHSM reads its configuration from the
//! environment of its process, so each test runs itself again in a process with tokens of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use sluice_token::{Mode, Pin, Scheme, Token, TokenError, TokenKey, TokenUri, UriSource};

const PIN: &str = "4711-0815";
/// Where Debian's package softhsm2 keeps its module, on one or on several architectures.
const MODULES: [&str; 2] = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"];
/// The variable by which SoftHSM is told of its tokens.
const CONFIGURATION: &str = "SOFTHSM2_CONF";

/// Tokens in a folder.
struct Tokens {
    folder: PathBuf,
}

/// Runs the test of this name in a process of its own; what to go on with inside of that.
fn inside(test: &str) -> Option<Tokens> {
    if let Some(configuration) = std::env::var_os(CONFIGURATION).map(PathBuf::from)
        && let Some(folder) = configuration.parent().filter(|folder| folder.join(test).exists())
    {
        return Some(Tokens { folder: folder.to_owned() });
    }
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    std::fs::write(folder.path().join(test), "").unwrap();
    std::fs::write(folder.path().join("pin"), PIN).unwrap();
    let configuration = folder.path().join("softhsm2.conf");
    let text = format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display());
    std::fs::write(&configuration, text).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("keys::{test}"), "--nocapture"])
        .env(CONFIGURATION, configuration)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    None
}

impl Tokens {
    fn make(&self, label: &str) {
        let output = Command::new("softhsm2-util")
            .env(CONFIGURATION, self.folder.join("softhsm2.conf"))
            .args(["--init-token", "--free", "--so-pin", "12345678", "--pin", PIN, "--label", label])
            .output()
            .unwrap_or_else(|error| {
                panic!("softhsm2-util: {error}; run `cargo xtask test`, or apt-get install softhsm2")
            });
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn uri(&self, label: &str) -> TokenUri {
        let module = MODULES.into_iter().find(|path| Path::new(path).exists());
        let module = module.expect("SoftHSM is missing: run `cargo xtask test`, or apt-get install softhsm2");
        let pin = self.folder.join("pin");
        TokenUri::parse(&format!("pkcs11:token={label}?module-path={module}&pin-source=file:{}", pin.display()))
            .unwrap()
    }

    fn open(&self, label: &str, mode: Mode) -> Result<Token, TokenError> {
        let uri = self.uri(label);
        Token::open(&uri, UriSource::Typed, mode, &Pin::of(&uri))
    }

    fn key(&self, label: &str, name: &str, scheme: Scheme) -> TokenKey {
        let token = self.open(label, Mode::Change).unwrap();
        let uri = token.generate(name, name.as_bytes(), scheme).unwrap();
        token.key(&uri).unwrap()
    }

    fn away(&self, away: bool) {
        let (here, there) = (self.folder.join("tokens"), self.folder.join("away"));
        if away {
            std::fs::rename(&here, &there).unwrap();
            std::fs::create_dir(here).unwrap();
        } else {
            std::fs::remove_dir(&here).unwrap();
            std::fs::rename(there, here).unwrap();
        }
    }
}

#[test]
fn a_key_signs_from_several_threads() {
    let Some(tokens) = inside("a_key_signs_from_several_threads") else { return };
    tokens.make("acme");
    for scheme in [Scheme::Ed25519, Scheme::EcdsaP256] {
        let key = tokens.key("acme", scheme.name(), scheme);
        std::thread::scope(|threads| {
            for thread in 0..12_u8 {
                let key = &key;
                threads.spawn(move || {
                    for round in 0..20_u8 {
                        let message = [thread, round];
                        assert!(key.public().verify(&message, &key.sign(&message).unwrap()));
                    }
                });
            }
        });
    }
}

#[test]
fn a_key_comes_back_with_its_token() {
    let Some(tokens) = inside("a_key_comes_back_with_its_token") else { return };
    for label in ["acme", "other"] {
        tokens.make(label);
    }
    let key = tokens.key("acme", "k", Scheme::Ed25519);
    let other = tokens.key("other", "k", Scheme::EcdsaP256);
    for _ in 0..2 {
        key.sign(b"before").unwrap();
        other.sign(b"before").unwrap();
        tokens.away(true);
        let error = key.sign(b"meanwhile").unwrap_err();
        assert!(matches!(error, TokenError::NoToken { .. }), "{error:?}");
        assert!(error.whole().contains("plug it in"), "{}", error.whole());
        tokens.away(false);
        // Both at once, from many threads: one of them starts the module again.
        std::thread::scope(|threads| {
            for _ in 0..6 {
                for key in [&key, &other] {
                    threads.spawn(move || while key.sign(b"after").is_err() {});
                }
            }
        });
    }
}

#[test]
fn another_key_in_its_place_signs_nothing() {
    let Some(tokens) = inside("another_key_in_its_place_signs_nothing") else { return };
    tokens.make("acme");
    let key = tokens.key("acme", "k", Scheme::Ed25519);
    let at = |public| TokenKey::at(key.uri().clone(), UriSource::Typed, Pin::of(key.uri()), public);
    at(key.public().clone()).check().unwrap();
    let stranger = tokens.key("acme", "stranger", Scheme::Ed25519);
    let error = at(stranger.public().clone()).sign(b"x").unwrap_err();
    assert!(matches!(error, TokenError::OtherKey { .. }), "{error:?}");
    assert!(error.to_string().contains(key.public().keyid()), "{error}");
    // Nor is it destroyed.
    let token = tokens.open("acme", Mode::Change).unwrap();
    assert!(token.destroy(key.uri(), stranger.public()).is_err());
    assert!(token.destroy(key.uri(), key.public()).unwrap());
    assert!(!token.destroy(key.uri(), key.public()).unwrap());
    assert!(matches!(at(key.public().clone()).check(), Err(TokenError::NoKey { .. })));
    assert!(matches!(token.generate("stranger", b"1", Scheme::Ed25519), Err(TokenError::LabelTaken { .. })));
}

#[test]
fn a_wrong_pin_is_tried_once() {
    let Some(tokens) = inside("a_wrong_pin_is_tried_once") else { return };
    tokens.make("acme");
    std::fs::write(tokens.folder.join("pin"), "0000").unwrap();
    for _ in 0..20 {
        let error = tokens.open("acme", Mode::Sign).map(drop).unwrap_err();
        assert!(matches!(error, TokenError::WrongPin { .. }), "{error:?}");
    }
    // The file is read again at each login.
    std::fs::write(tokens.folder.join("pin"), format!("{PIN}\n")).unwrap();
    tokens.open("acme", Mode::Sign).unwrap();
}

#[test]
fn a_key_that_can_be_copied_is_not_taken_up() {
    let Some(tokens) = inside("a_key_that_can_be_copied_is_not_taken_up") else { return };
    tokens.make("acme");
    let key = tokens.folder.join("key.pem");
    for (program, args) in [
        ("openssl", vec!["genpkey", "-algorithm", "ed25519", "-out", key.to_str().unwrap()]),
        (
            "softhsm2-util",
            vec!["--import", key.to_str().unwrap(), "--token", "acme", "--pin", PIN, "--label", "k", "--id", "01"],
        ),
    ] {
        let output = Command::new(program).args(args).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let uri = TokenUri { object: Some("k".to_owned()), ..tokens.uri("acme") };
    let error = tokens.open("acme", Mode::Sign).unwrap().secret_key(&uri).map(drop).unwrap_err();
    assert!(matches!(error, TokenError::Extractable { .. }), "{error:?}");
}
