//! A throw-away PostgreSQL for tests: own data folder, own port on the loopback interface, gone afterwards.
//!
//! The server is watched by a small shell that holds the reading end of a pipe from us. When we end in any way (return,
//! panic, a signal, even SIGKILL) the pipe closes, and the shell stops the server and removes its folder.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::apt;
use crate::steps::Steps;

/// Variable with the URL of the test server.
pub const URL_VARIABLE: &str = "SLUICE_TEST_POSTGRES";

/// User that runs the server when we are root: `initdb` and `postgres` refuse root. Debian's package makes it.
const USER: &str = "postgres";

/// How often a start is tried: between finding a free port and listening on it, another program may take it.
const START_ATTEMPTS: u32 = 3;

/// How long one start may take, in steps of [`READY_PAUSE`]: a minute, for a machine that is building at the same time.
const READY_CHECKS: u32 = 600;
const READY_PAUSE: Duration = Duration::from_millis(100);

/// Stops the server when its standard input ends. Arguments: program, folder, port.
///
/// Terminal interrupts reach only the foreground group; the trap is for whoever signals this shell itself.
const WATCH: &str = r#"
trap '' INT TERM HUP
"$1" -D "$2/data" -p "$3" -k "$2" -c listen_addresses=127.0.0.1 \
    -c fsync=off -c full_page_writes=off -c max_connections=300 </dev/null >"$2/log" 2>&1 &
server=$!
read -r line
kill -INT "$server" 2>/dev/null
wait "$server"
cd / && rm -rf "$2"
"#;

/// A running server. Dropping it stops it.
pub struct Server {
    url: String,
    watch: Child,
}

impl Server {
    /// Starts a server, installing PostgreSQL before when it is missing and that is ours to do.
    pub fn start(steps: &Steps) -> Result<Self> {
        let programs = programs(steps)?;
        steps.announce("starting a throw-away PostgreSQL");
        let mut last = String::new();
        for _ in 0..START_ATTEMPTS {
            steps.check()?;
            match start_once(steps, &programs)? {
                Ok(server) => return Ok(server),
                Err(log) => last = log,
            }
        }
        bail!("PostgreSQL does not start; its log:\n{last}")
    }

    /// URL of a superuser of an empty database.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops the server. Dropping does the same; a name makes the moment visible where it matters.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.watch.stdin.take());
        // The shell ends when the server has; there is nobody to tell if that fails.
        drop(self.watch.wait());
    }
}

/// Folder with the newest `postgres` and `initdb` below `versions` (Debian's place), else of PATH.
fn find_programs(versions: &Path) -> Option<PathBuf> {
    let number = |path: &Path| path.file_name().and_then(OsStr::to_str).and_then(|name| name.parse::<u32>().ok());
    let newest = fs::read_dir(versions)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| ["postgres", "initdb"].iter().all(|program| path.join("bin").join(program).is_file()))
        .max_by_key(|path| number(path));
    let in_path = || {
        let dir = apt::in_path("initdb")?.parent()?.to_path_buf();
        dir.join("postgres").is_file().then_some(dir)
    };
    newest.map(|path| path.join("bin")).or_else(in_path)
}

fn programs(steps: &Steps) -> Result<PathBuf> {
    let versions = Path::new("/usr/lib/postgresql");
    if let Some(dir) = find_programs(versions) {
        return Ok(dir);
    }
    apt::install(steps, "PostgreSQL", &["postgresql"])?;
    find_programs(versions).context("PostgreSQL was installed, but initdb is still not found")
}

/// A call as the server's user: ourselves, unless we are root.
fn as_server_user(program: &Path) -> Result<Command> {
    if !apt::is_root() {
        return Ok(Command::new(program));
    }
    let (switch, args): (&str, &[&str]) = if apt::in_path("setpriv").is_some() {
        ("setpriv", &["--reuid", USER, "--regid", USER, "--init-groups", "--"])
    } else if apt::in_path("runuser").is_some() {
        ("runuser", &["-u", USER, "--"])
    } else {
        bail!("PostgreSQL refuses root, and neither setpriv nor runuser is there; run: apt-get install util-linux");
    };
    let mut command = Command::new(switch);
    command.args(args).arg(program);
    Ok(command)
}

/// A place for the server's folder that its user can reach: the usual one, or `/tmp`.
fn reachable_temp_dir() -> PathBuf {
    let usual = std::env::temp_dir();
    let open = |dir: &Path| fs::metadata(dir).is_ok_and(|metadata| metadata.mode() & 0o001 != 0);
    // A socket's path may have 107 bytes; the rest of ours takes about 40.
    if usual.is_absolute() && usual.as_os_str().len() < 60 && usual.ancestors().all(open) {
        usual
    } else {
        PathBuf::from("/tmp")
    }
}

/// Sixteen random bytes in hexadecimal: other users of the machine must not get in while tests run.
fn password() -> Result<String> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("/dev/urandom")?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

fn server_user_ids() -> Result<(u32, u32)> {
    let id = |option: &str| -> Result<u32> {
        let output = Command::new("id").args([option, USER]).output().context("running id")?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.trim().parse().with_context(|| format!("there is no user {USER:?}; run: adduser --system --group {USER}"))
    };
    Ok((id("-u")?, id("-g")?))
}

/// One attempt: the server, or its log when it ended by itself.
fn start_once(steps: &Steps, programs: &Path) -> Result<Result<Server, String>> {
    let dir = tempfile::Builder::new().prefix("sluice-pg-").tempdir_in(reachable_temp_dir()).context("a folder")?;
    let path = dir.path();
    let password = password()?;
    let password_file = path.join("password");
    fs::write(&password_file, &password)?;
    fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600))?;
    if apt::is_root() {
        let (user, group) = server_user_ids()?;
        for owned in [path, &password_file] {
            chown(owned, Some(user), Some(group)).with_context(|| owned.display().to_string())?;
        }
    }

    let mut initdb = as_server_user(&programs.join("initdb"))?;
    initdb.args(["-U", USER, "-A", "scram-sha-256", "-E", "UTF8", "--no-sync", "--no-instructions", "--pwfile"]);
    initdb.arg(&password_file).arg("-D").arg(path.join("data")).args(["--locale", "C.UTF-8"]);
    if supports_icu(programs) {
        // Not byte order, as on most installations: a query that forgets to say its order shows here.
        initdb.args(["--locale-provider", "icu", "--icu-locale", "en-US"]);
    }
    let output = initdb.current_dir("/").stdin(Stdio::null()).output().context("running initdb")?;
    if !output.status.success() {
        bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }

    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).context("a port")?.port();
    let mut watch = as_server_user(Path::new("sh"))?
        .args(["-c", WATCH, "sluice-postgres"])
        .arg(programs.join("postgres"))
        .arg(path)
        .arg(port.to_string())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A group of its own: an interrupt at the terminal is for the tests, the server ends after them.
        .process_group(0)
        .spawn()
        .context("starting PostgreSQL")?;
    let log = path.join("log");
    let url = format!("postgres://{USER}:{password}@127.0.0.1:{port}/postgres");
    for _ in 0..READY_CHECKS {
        if fs::read_to_string(&log).is_ok_and(|text| text.contains("ready to accept connections")) {
            // From here on the shell owns the folder.
            let _ = dir.keep();
            return Ok(Ok(Server { url, watch }));
        }
        let pid_file = path.join("data").join("postmaster.pid");
        let ended = fs::read_to_string(&log).is_ok_and(|text| text.contains("FATAL")) && !pid_file.exists();
        if ended || steps.check().is_err() || watch.try_wait()?.is_some() {
            break;
        }
        std::thread::sleep(READY_PAUSE);
    }
    let said = fs::read_to_string(&log).unwrap_or_default();
    drop(watch.stdin.take());
    drop(watch.wait());
    steps.check()?;
    Ok(Err(said))
}

/// `initdb` takes ICU locales from version 15 on.
fn supports_icu(programs: &Path) -> bool {
    Command::new(programs.join("initdb"))
        .arg("--help")
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("--icu-locale"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_complete_version_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        for (version, programs) in
            [("9", ["postgres", "initdb"]), ("15", ["postgres", "initdb"]), ("17", ["psql", "initdb"])]
        {
            let bin = dir.path().join(version).join("bin");
            fs::create_dir_all(&bin).unwrap();
            for program in programs {
                fs::write(bin.join(program), "").unwrap();
            }
        }
        assert_eq!(find_programs(dir.path()), Some(dir.path().join("15/bin")));
    }

    #[test]
    fn passwords_differ() {
        assert_ne!(password().unwrap(), password().unwrap());
        assert_eq!(password().unwrap().len(), 32);
    }
}
