//! The real program as a process of its own.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::wait::until;

/// SIGKILL.
const KILLED: i32 = 9;

/// The process; killed with the test if it still runs.
pub struct Process {
    child: Child,
    log: PathBuf,
    pub url: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program without what the environment of the tests would tell it.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-server"));
    for variable in [
        "DATABASE_URL",
        "SLUICE_BLOBS",
        "SLUICE_CONFIG",
        "SLUICE_DATA",
        "SLUICE_KEYS_TOKEN",
        "SLUICE_PKCS11_MODULE",
        "SLUICE_PUBLIC_URL",
        "RUST_LOG",
    ] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

impl Process {
    /// Starts the program and waits until it listens. It dies at the failpoint, if one is named.
    pub fn start(data: &Path, database: &str, failpoint: &str) -> Self {
        Self::start_with(data, database, failpoint, &[])
    }

    /// The same with more variables.
    pub fn start_with(data: &Path, database: &str, failpoint: &str, variables: &[(&str, &Path)]) -> Self {
        let mut process = Self::spawn_with(data, database, failpoint, variables);
        let address = data.join("address");
        let url = until("the server's address", || std::fs::read_to_string(&address).ok());
        url.trim().clone_into(&mut process.url);
        process
    }

    /// Starts the program, which may die before it listens.
    pub fn spawn(data: &Path, database: &str, failpoint: &str) -> Self {
        Self::spawn_with(data, database, failpoint, &[])
    }

    fn spawn_with(data: &Path, database: &str, failpoint: &str, variables: &[(&str, &Path)]) -> Self {
        let _ = std::fs::remove_file(data.join("address"));
        let log = data.join("log");
        let mut command = program();
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--database", database, "--data"])
            .arg(data)
            .env("SLUICE_FAILPOINT", failpoint)
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap());
        Self { child: command.spawn().unwrap(), log, url: String::new() }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until it has died at the failpoint.
    #[track_caller]
    pub fn dies_at(mut self, failpoint: &str) {
        let status = until("the end of the process", || self.child.try_wait().unwrap());
        let log = self.log();
        assert_eq!(status.signal(), Some(KILLED), "{failpoint}: {log}");
        assert!(log.contains(&format!("failpoint {failpoint}")), "{log}");
    }
}
