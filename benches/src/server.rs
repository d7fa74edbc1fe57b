//! The real server as a child process in a temporary folder.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// Looks at whether it listens yet, and the pause between two: half a minute in all.
const START_LOOKS: u32 = 600;
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// Lines of its log that are shown when it does not start.
const LOG_LINES: usize = 20;

/// A running server with its folder. Dropping it stops the one and removes the other.
#[derive(Debug)]
pub struct Server {
    child: Child,
    data: TempDir,
    address: SocketAddr,
}

impl Server {
    /// Starts the program on an empty folder, on any free port of the loopback interface.
    pub fn start(program: &Path) -> Result<Self> {
        Self::start_with(program, "")
    }

    /// The same with a configuration file.
    pub fn start_with(program: &Path, configuration: &str) -> Result<Self> {
        let data = TempDir::with_prefix("sluice-bench-").context("making a folder for the server")?;
        fs::write(data.path().join("sluice.toml"), configuration)?;
        let log = File::create(data.path().join("server.log"))?;
        let child = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data.path())
            // What this shell has set for some other server is not meant here.
            .env_remove("DATABASE_URL")
            .env_remove("SLUICE_BLOBS")
            .env_remove("SLUICE_CONFIG")
            .env_remove("SLUICE_PUBLIC_URL")
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let mut server = Self { child, data, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        server.address = server.wait()?;
        Ok(server)
    }

    /// Waits until it has written where it listens.
    fn wait(&mut self) -> Result<SocketAddr> {
        let file = self.data.path().join("address");
        for _ in 0..START_LOOKS {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended at once ({status}):\n{}", self.log());
            }
            // It is renamed into place, so what can be read is whole.
            if let Ok(url) = fs::read_to_string(&file) {
                let address = url.trim().trim_start_matches("http://");
                return address.parse().with_context(|| format!("the server's address `{address}`"));
            }
            thread::sleep(LOOK_PAUSE);
        }
        bail!("the server did not listen in time:\n{}", self.log())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.data.path()
    }

    /// Its resident memory in bytes.
    pub fn resident(&self) -> Result<u64> {
        crate::large::resident(self.child.id())
    }

    /// The token that makes the first administrator.
    pub fn bootstrap_token(&self) -> Result<String> {
        let path = self.data.path().join("bootstrap-token");
        Ok(fs::read_to_string(&path).with_context(|| path.display().to_string())?.trim().to_owned())
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.data.path().join("server.log")).unwrap_or_default();
        let skip = log.lines().count().saturating_sub(LOG_LINES);
        log.lines().skip(skip).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its data is thrown away with it, so there is nothing that a gentle stop would save.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Builds the release server of this workspace and says where it is.
pub fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--release", "--package", "sluice-server", "--bin", "sluice-server"])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .context("running cargo")?;
    if !output.status.success() {
        bail!("sluice-server does not build; name a program with --server-bin");
    }
    executable(&String::from_utf8_lossy(&output.stdout))
        .context("cargo built sluice-server and did not say where it is")
}

/// The program that cargo's messages name.
fn executable(messages: &str) -> Option<PathBuf> {
    let found = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let ours = message["target"]["name"] == "sluice-server" && message["target"]["kind"][0] == "bin";
        ours.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
    };
    messages.lines().find_map(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_in_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"sluice-server","kind":["lib"]},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"sluice-server","kind":["bin"]},"executable":"/b/sluice-server"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(executable(messages), Some(PathBuf::from("/b/sluice-server")));
        assert_eq!(executable("not json"), None);
    }

    #[test]
    fn a_program_that_ends_at_once_is_an_error_with_its_log() {
        let error = Server::start(Path::new("/bin/false")).unwrap_err().to_string();
        assert!(error.starts_with("the server ended at once"), "{error}");
    }
}
