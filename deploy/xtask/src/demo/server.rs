//! The server as a background process that never outlives the demo.
//!
//! It is watched by a small shell that holds the reading end of a pipe from us. When we end in any way (return, panic, a
//! signal, even SIGKILL) the pipe closes, and the shell stops the server.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::programs::Programs;
use crate::steps::Steps;

/// Runs `"$@"` until it ends or standard input does. No trap: an ignored signal would be ignored by the server too, and
/// the terminal's signals do not come here, because the shell has a process group of its own.
const WATCH: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
{ read -r line <&3; kill -TERM "$server"; } 2>/dev/null &
watch=$!
wait "$server"
code=$?
kill "$watch" 2>/dev/null
exit "$code"
"#;

/// Looks at whether the server listens, and the pause between two: a minute, for a database far away.
const START_LOOKS: u32 = 1200;
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// Looks at whether the server has ended: 45 seconds, longer than the 30 it gives to running requests; then it is killed.
const STOP_LOOKS: u32 = 900;
/// Lines of the log that are shown when the server does not start.
const LOG_LINES: usize = 20;

/// A running server. Dropping it stops it.
pub struct Server {
    watch: Child,
    url: String,
}

impl Server {
    /// Starts the server and waits until it has written its address.
    pub fn start(programs: &Programs<'_>, command: &[&str], data: &str) -> Result<Self> {
        let (program, args) = command.split_first().context("an empty command")?;
        programs.say_command(command);
        let data = programs.work().join(data);
        let log_path = programs.work().join("server.log");
        let log = File::create(&log_path).with_context(|| log_path.display().to_string())?;
        let inner = programs.command(program, args);
        let mut shell = Command::new("sh");
        shell.args(["-c", WATCH, "sh"]).arg(inner.get_program()).args(inner.get_args()).current_dir(programs.work());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let mut watch = shell
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // The terminal's Control-C reaches us; the server ends when we let go of the pipe.
            .process_group(0)
            .spawn()
            .context("cannot run sh")?;
        let address = data.join("address");
        for _ in 0..START_LOOKS {
            if let Some(status) = watch.try_wait()? {
                bail!("the server ended at once ({status}); its log:\n{}", tail(&log_path));
            }
            let interrupted = programs.check();
            let url = fs::read_to_string(&address).unwrap_or_default().trim().to_owned();
            if interrupted.is_ok() && url.is_empty() {
                thread::sleep(LOOK_PAUSE);
                continue;
            }
            let server = Self { watch, url };
            interrupted?;
            return Ok(server);
        }
        drop(Self { watch, url: String::new() });
        bail!("the server did not listen in time; its log:\n{}", tail(&log_path))
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits until the user wants to stop, or the server ends by itself.
    pub fn wait(&self, steps: &Steps) -> Result<()> {
        let pid = self.watch.id().to_string();
        while steps.check().is_ok() {
            // The shell lives as long as the server.
            if !PathBuf::from("/proc").join(&pid).join("exe").exists() {
                bail!("the server ended by itself");
            }
            thread::sleep(LOOK_PAUSE);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.watch.stdin.take());
        for _ in 0..STOP_LOOKS {
            match self.watch.try_wait() {
                Ok(None) => thread::sleep(LOOK_PAUSE),
                Ok(Some(_)) | Err(_) => return,
            }
        }
        eprintln!("the server does not stop; killing it");
        // The group holds the shell and the server.
        drop(Command::new("kill").args(["-KILL", "--", &format!("-{}", self.watch.id())]).status());
        drop(self.watch.wait());
    }
}

/// The last lines of a log.
fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", WATCH, "sh", "sh", "-c", script]).stdin(Stdio::piped()).process_group(0);
        command
    }

    #[test]
    fn the_server_ends_when_we_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let pid_file = folder.path().join("pid");
        let script = format!("echo $$ >{0}.new; mv {0}.new {0}; exec sleep 600", pid_file.display());
        let mut watch = watched(&script).spawn().unwrap();
        let mut looks = 0;
        let pid = loop {
            match fs::read_to_string(&pid_file) {
                Ok(pid) => break pid.trim().to_owned(),
                Err(_) => thread::sleep(LOOK_PAUSE),
            }
            looks += 1;
            assert!(looks < START_LOOKS, "it never started");
        };
        assert!(Path::new("/proc").join(&pid).exists());
        drop(watch.stdin.take());
        watch.wait().unwrap();
        assert!(!Path::new("/proc").join(&pid).exists(), "the shell ends after the server");
    }

    #[test]
    fn a_server_that_ends_by_itself_is_noticed() {
        let mut watch = watched("exit 3").spawn().unwrap();
        // `wait` closes what it holds of the input, which would be the sign to let go.
        let input = watch.stdin.take();
        assert_eq!(watch.wait().unwrap().code(), Some(3), "while we still hold the pipe");
        drop(input);
    }
}
