//! A folder with keys of fixed seeds, and the program run in it at a fixed time, so that every digest is the same in
//! every run.

use sluice_signer::{OnlineKeys, SigningKey, key_file};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The holders by name; the position is the seed.
pub const HOLDERS: [&str; 12] = [
    "root-a",
    "root-b",
    "root-c",
    "lead-a",
    "lead-b",
    "lead-c",
    "director-a",
    "director-b",
    "director-c",
    "cam-a",
    "cam-b",
    "cam-c",
];

pub struct Sandbox {
    folder: TempDir,
    pub now: &'static str,
    /// The newest signing epoch that the program knows.
    pub newest_epoch: u64,
}

/// What a run printed.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// Everything a person sees, with the exit code.
    pub fn transcript(&self) -> String {
        let part = |name, text: &str| if text.is_empty() { String::new() } else { format!("--- {name}\n{text}") };
        format!("{}{}--- exit {}", part("stdout", &self.stdout), part("stderr", &self.stderr), self.code)
    }

    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.transcript());
        self
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.transcript()))
    }
}

impl Sandbox {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = Self { folder, now: "2026-06-01T12:00:00Z", newest_epoch: 1 };
        std::fs::create_dir(sandbox.path("keys")).unwrap();
        for (seed, name) in (1u8..).zip(HOLDERS) {
            sandbox.holder(name, seed);
        }
        let online = |seed: u8| SigningKey::from_seed(&[seed; 32]).unwrap().public().clone();
        let keys = OnlineKeys {
            snapshot: online(101),
            timestamp: online(102),
            director: online(103),
            entitlement: online(104),
            next: std::collections::BTreeMap::new(),
        };
        sandbox.write("online.json", &keys.to_json().to_bytes());
        for version in ["2.4.0", "2.4.1"] {
            sandbox.write(&format!("cam-{version}.bin"), format!("firmware {version}").repeat(100).as_bytes());
        }
        sandbox.write("notes.md", b"# 2.4.1\n\nCloses ACME-2026-0012.\n");
        sandbox
    }

    /// Makes the key pair of one more holder.
    pub fn holder(&self, name: &str, seed: u8) {
        let key = SigningKey::from_seed(&[seed; 32]).unwrap();
        self.write(&format!("keys/{name}.key"), key_file::to_pem(&key).unwrap().as_bytes());
        self.write(&format!("keys/{name}.pub"), &key.public().to_json().to_bytes());
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Runs a command line as it would be typed, in this folder.
    pub fn run(&self, line: &str) -> Run {
        self.run_with(line, &[])
    }

    pub fn run_with(&self, line: &str, more: &[&str]) -> Run {
        let output = Command::new(env!("CARGO_BIN_EXE_sluice-sign"))
            .current_dir(self.folder.path())
            .args(line.split_whitespace())
            .args(more)
            .args(["--now", self.now])
            .env_remove("SLUICE_TOKEN")
            .env_remove("SLUICE_PKCS11_MODULE")
            .env("SLUICE_NEWEST_EPOCH", self.newest_epoch.to_string())
            .env("SOFTHSM2_CONF", self.path("softhsm2.conf"))
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Run { code: output.status.code().unwrap(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    pub fn sign(&self, holder: &str) -> Run {
        self.run(&format!("sign --repo repo --key keys/{holder}.key"))
    }

    pub const INIT: &str = "root init --repo repo --online-keys online.json --id acme \
        --holder keys/root-a.pub keys/root-b.pub keys/root-c.pub \
        --targets-holder keys/lead-a.pub keys/lead-b.pub keys/lead-c.pub \
        --director-holder keys/director-a.pub keys/director-b.pub keys/director-c.pub";
    pub const DELEGATE: &str =
        "delegate add --repo repo --product acme-cam --holder keys/cam-a.pub keys/cam-b.pub keys/cam-c.pub";
    pub const V1: &str = "release new --repo repo --product acme-cam --version 2.4.0 --order 20400 --train 2.4 \
        --train-ga 2026-03-01 --kind feature --hw-id cam-r3 --hw-id cam-r4 --security-counter 7 \
        --requires FW.CAM.MAJOR --component main=cam-2.4.0.bin";
    pub const V2: &str = "release new --repo repo --product acme-cam --version 2.4.1 --order 20401 --train 2.4 \
        --train-ga 2026-03-01 --kind security --hw-id cam-r3 --security-counter 8 --min-installed 2.4.0 \
        --advisory ACME-2026-0012 --notes notes.md --component main=cam-2.4.1.bin";

    /// Roots, product and first release, signed by two holders each.
    pub fn with_first_release() -> Self {
        let sandbox = Self::new();
        for line in [Self::INIT, Self::DELEGATE, Self::V1] {
            sandbox.run(line).ok();
        }
        sandbox.sign_by(&["root-a", "root-b", "lead-a", "lead-b", "director-a", "director-b", "cam-a", "cam-b"]);
        sandbox
    }

    pub fn sign_by(&self, holders: &[&str]) {
        for holder in holders {
            self.sign(holder).ok();
        }
    }

    /// All files of the repository folder with their bytes.
    pub fn tree(&self) -> Vec<(PathBuf, Vec<u8>)> {
        fn walk(folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, files);
                } else {
                    files.push((path.clone(), std::fs::read(path).unwrap()));
                }
            }
        }
        let mut files = Vec::new();
        walk(&self.path("repo"), &mut files);
        files.sort();
        files
    }
}
