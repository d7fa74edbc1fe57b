//! TUF clients that nobody here wrote, run as programs of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Variable with the interpreter of an environment that has python-tuf.
const PYTHON_VARIABLE: &str = "SLUICE_TEST_PYTHON";
/// Variable with a folder in which npm installed tuf-js.
const NODE_VARIABLE: &str = "SLUICE_TEST_NODE";
/// Variable with the folder of the programs around the clients in Rust.
const RUST_VARIABLE: &str = "SLUICE_TEST_CLIENTS";

/// A client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StockClient {
    PythonTuf,
    TufJs,
    SigstoreTuf,
    Tough,
}

/// One test function, with every client.
macro_rules! every_client {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use crate::harness::StockClient;

            #[test]
            fn python_tuf() {
                super::$name(StockClient::PythonTuf);
            }

            #[test]
            fn tuf_js() {
                super::$name(StockClient::TufJs);
            }

            #[test]
            fn sigstore_tuf() {
                super::$name(StockClient::SigstoreTuf);
            }

            #[test]
            fn tough() {
                super::$name(StockClient::Tough);
            }
        }
    )+};
}

/// What a variable says that `cargo xtask test` sets.
pub fn prepared(variable: &str) -> PathBuf {
    std::env::var_os(variable)
        .unwrap_or_else(|| panic!("{variable} is not set: run `cargo xtask test`, which prepares what it stands for"))
        .into()
}

/// How one run ended.
#[derive(Debug, PartialEq)]
pub enum Run {
    /// The verified bytes, what was signed about them, and the version of the root that vouches.
    Got { bytes: Vec<u8>, custom: Value, root: u64 },
    /// No role that has a say lists the target.
    Missing,
    /// The client's own words.
    Refused(String),
}

impl StockClient {
    fn command(self) -> Command {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        match self {
            Self::PythonTuf => {
                let mut command = Command::new(prepared(PYTHON_VARIABLE));
                command.arg(scripts.join("python/download.py"));
                command
            }
            Self::TufJs => {
                prepared(NODE_VARIABLE);
                let mut command = Command::new("node");
                command.arg(scripts.join("node/download.mjs"));
                command
            }
            Self::SigstoreTuf => Command::new(prepared(RUST_VARIABLE).join("sigstore-tuf-client")),
            Self::Tough => Command::new(prepared(RUST_VARIABLE).join("tough-client")),
        }
    }
}

/// A device with a stock client: what it keeps, and the root that it was provisioned with.
#[derive(Debug)]
pub struct Installation {
    client: StockClient,
    folder: tempfile::TempDir,
    token: Option<String>,
}

impl Installation {
    pub fn new(client: StockClient, root: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("provisioned-root.json"), root).unwrap();
        Self { client, folder, token: None }
    }

    /// The same with a token for what is not public.
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Refreshes from a server or mirror, finds the target, and downloads it.
    #[track_caller]
    pub fn download(&self, url: &str, target: &str) -> Run {
        let mut command = self.client.command();
        command
            .args([format!("{url}/metadata/"), format!("{url}/targets/")])
            .arg(self.folder.path())
            .arg(self.folder.path().join("provisioned-root.json"))
            .arg(target)
            .args(&self.token);
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("{command:?}: {error}: run `cargo xtask test`, which prepares it"));
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{command:?}: {out}\n{err}");
        let printed: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}\n{err}"));
        let text = |field: &str| printed.get(field).and_then(Value::as_str);
        if let Some(reason) = text("refused") {
            return Run::Refused(reason.to_owned());
        }
        if let Some(missing) = text("missing") {
            assert_eq!(missing, target);
            return Run::Missing;
        }
        let bytes = std::fs::read(text("file").unwrap()).unwrap();
        Run::Got { bytes, custom: printed["custom"].clone(), root: printed["root"].as_u64().unwrap() }
    }

    /// Downloads what is accepted.
    #[track_caller]
    pub fn accepts(&self, url: &str, target: &str) -> (Vec<u8>, Value, u64) {
        match self.download(url, target) {
            Run::Got { bytes, custom, root } => (bytes, custom, root),
            other => panic!("{:?}: {target}: {other:?}", self.client),
        }
    }

    /// Downloads what is not accepted; the client's reason.
    #[track_caller]
    pub fn refuses(&self, url: &str, target: &str) -> String {
        match self.download(url, target) {
            Run::Refused(reason) => {
                // A failed test shows what the client said before.
                println!("{:?} refuses {target}: {reason}", self.client);
                reason
            }
            other => panic!("{:?}: {target}: {other:?}", self.client),
        }
    }
}
