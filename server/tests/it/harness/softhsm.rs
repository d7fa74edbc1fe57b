//! Tokens of SoftHSM, and the server's program with a way to them. The library reads its configuration from the environment,
//! so only processes of their own have tokens.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use super::process::program;

/// The PIN of every token.
pub const PIN: &str = "4711-0815";
/// The variable by which SoftHSM is told of its tokens.
pub const CONFIGURATION: &str = "SOFTHSM2_CONF";
/// Where Debian's package softhsm2 keeps its module, on one or on several architectures.
const MODULES: [&str; 2] = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"];

/// Tokens in a folder of their own.
pub struct SoftHsm {
    folder: TempDir,
}

impl SoftHsm {
    /// With tokens of these labels.
    pub fn new(labels: &[&str]) -> Self {
        let hsm = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(hsm.path("tokens")).unwrap();
        let text = format!("directories.tokendir = {}\nlog.level = ERROR\n", hsm.path("tokens").display());
        std::fs::write(hsm.configuration(), text).unwrap();
        hsm.set_pin(PIN);
        for label in labels {
            hsm.tool(
                "softhsm2-util",
                &["--init-token", "--free", "--so-pin", "12345678", "--pin", PIN, "--label", label],
            );
        }
        hsm
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn configuration(&self) -> PathBuf {
        self.path("softhsm2.conf")
    }

    /// What stands in the file that URIs name.
    pub fn set_pin(&self, pin: &str) {
        std::fs::write(self.path("pin"), format!("{pin}\n")).unwrap();
    }

    /// The URI of a token, or of a key in it: `LABEL` or `LABEL;object=NAME`.
    pub fn uri(&self, token: &str) -> String {
        let module = MODULES.into_iter().find(|path| Path::new(path).exists());
        let module = module.expect("SoftHSM is missing: run `cargo xtask test`, or apt-get install softhsm2");
        format!("pkcs11:token={token}?module-path={module}&pin-source=file:{}", self.path("pin").display())
    }

    /// Runs another program that must succeed; what it prints.
    pub fn tool(&self, program: &str, args: &[&str]) -> String {
        let output = Command::new(program).env(CONFIGURATION, self.configuration()).args(args).output().unwrap_or_else(
            |error| panic!("{program}: {error}; run `cargo xtask test`, or apt-get install softhsm2 opensc"),
        );
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The labels of the private keys in a token, as OpenSC's tool sees them.
    pub fn keys(&self, token: &str) -> Vec<String> {
        let module = MODULES.into_iter().find(|path| Path::new(path).exists()).unwrap();
        let args = ["--module", module, "--token-label", token, "--login", "--pin", PIN, "--list-objects"];
        let listed = self.tool("pkcs11-tool", &[&args[..], &["--type", "privkey"]].concat());
        assert_eq!(
            listed.matches("Private Key Object").count(),
            listed.matches("sensitive, always sensitive, never extractable").count(),
            "no private key can leave the token: {listed}"
        );
        let labels = listed.lines().filter_map(|line| line.trim().strip_prefix("label:"));
        let mut labels: Vec<String> = labels.map(|label| label.trim().to_owned()).collect();
        labels.sort();
        labels
    }

    /// Runs the server's program.
    pub fn program(&self, args: &[&str]) -> Output {
        program().env(CONFIGURATION, self.configuration()).args(args).output().unwrap()
    }

    /// Takes all tokens away, or brings them back.
    pub fn away(&self, away: bool) {
        let (here, there) = (self.path("tokens"), self.path("away"));
        if away {
            std::fs::rename(&here, there).unwrap();
            std::fs::create_dir(here).unwrap();
        } else {
            std::fs::remove_dir(&here).unwrap();
            std::fs::rename(there, here).unwrap();
        }
    }
}
