//! The ceremony with the real program: every holder signs with `sluice-sign`, some on a machine without the repository.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::clients::prepared;

/// Variable with the folder of the programs that are built.
const BIN_DIR_VARIABLE: &str = "SLUICE_BIN_DIR";

/// A folder with a repository, the holders' keys, and images.
#[derive(Debug)]
pub struct Offline {
    folder: TempDir,
    program: PathBuf,
    /// The newest signing epoch that the program knows.
    pub newest_epoch: u64,
}

impl Offline {
    /// With the server's public keys.
    pub fn new(online_keys: &[u8]) -> Self {
        let program = prepared(BIN_DIR_VARIABLE).join("sluice-sign");
        assert!(program.is_file(), "{} is missing: run `cargo xtask test`, which builds it", program.display());
        let offline = Self { folder: tempfile::tempdir().unwrap(), program, newest_epoch: 1 };
        offline.write("online-keys.json", online_keys);
        offline
    }

    /// Writes a file into the folder.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.folder.path().join(name), bytes).unwrap();
    }

    /// Runs a command line as it would be typed, in this folder. It succeeds.
    #[track_caller]
    pub fn run(&self, line: &str) -> String {
        let output = Command::new(&self.program)
            .current_dir(self.folder.path())
            .args(line.split_whitespace())
            .env_remove("SLUICE_TOKEN")
            .env("SLUICE_NEWEST_EPOCH", self.newest_epoch.to_string())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "sluice-sign {line}: {out}\n{err}");
        out.into_owned()
    }

    /// Makes the keys of holders.
    pub fn holders(&self, names: &[&str]) {
        for name in names {
            self.run(&format!("key new {name} --out keys --no-passphrase"));
        }
    }

    /// Both roots with three holders each, and the product with its own.
    pub fn found(&self, product: &str) {
        for role in ["root", "lead", "director", product] {
            self.holders(&[&format!("{role}-a"), &format!("{role}-b"), &format!("{role}-c")]);
        }
        let keys = |role: &str| format!("keys/{role}-a.pub keys/{role}-b.pub keys/{role}-c.pub");
        self.run(&format!(
            "root init --repo repo --id acme --online-keys online-keys.json --threshold 2 --holder {} \
             --targets-holder {} --director-holder {}",
            keys("root"),
            keys("lead"),
            keys("director")
        ));
        self.run(&format!("delegate add --repo repo --product {product} --threshold 2 --holder {}", keys(product)));
        self.sign(&["root-a", "root-b", "lead-a", "director-b", "director-c"]);
        self.sign_elsewhere("lead-c");
    }

    /// Stages a release of one image, and lets two holders sign it.
    pub fn release(&self, product: &str, version: &str, order: u32, image: &[u8]) {
        let file = format!("{product}-{version}.bin");
        self.write(&file, image);
        self.run(&format!(
            "release new --repo repo --product {product} --version {version} --order {order} --train 2.4 \
             --train-ga 2026-03-01 --kind feature --hw-id cam-r3 --security-counter 1 --component main={file}"
        ));
        self.sign(&[&format!("{product}-b")]);
        self.sign_elsewhere(&format!("{product}-c"));
    }

    /// Lets holders sign whatever waits for them, at the repository.
    pub fn sign(&self, holders: &[&str]) {
        for holder in holders {
            self.run(&format!("sign --repo repo --key keys/{holder}.key --yes"));
        }
    }

    /// Lets a holder sign on a machine of their own: a request out, signatures back.
    pub fn sign_elsewhere(&self, holder: &str) {
        self.run(&format!("request --repo repo --out {holder}.fwreq"));
        self.run(&format!("sign --request {holder}.fwreq --key keys/{holder}.key --out {holder}.fwsig --yes"));
        self.run(&format!("merge --repo repo {holder}.fwsig"));
    }

    /// Checks everything as devices will, and sends it.
    pub fn publish(&self, url: &str, token: &str) {
        self.run("verify --repo repo");
        self.write("token", token.as_bytes());
        self.run(&format!("publish --repo repo --server {url} --token-file token"));
    }

    /// A complete document of the image repository.
    pub fn document(&self, name: &str) -> Vec<u8> {
        self.read(&format!("repo/metadata/{name}"))
    }

    /// A complete root of the director.
    pub fn director_document(&self, name: &str) -> Vec<u8> {
        self.read(&format!("repo/director/metadata/{name}"))
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}
