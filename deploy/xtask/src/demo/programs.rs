//! Builds the programs and runs them, showing each command as a user would type it.

use std::cell::Cell;
use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::steps::{Steps, cargo, workspace_root};

/// The programs that take part.
pub const NAMES: [&str; 5] = ["sluice-server", "sluice-sign", "sluicectl", "sluice-agent", "sluice-fixtures"];

/// How long a child may be silent before we look whether the user wants to stop.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// Most lines of a command's output that the transcript shows.
const SHOWN_LINES_MAX: usize = 24;

/// Where the transcript goes.
#[derive(Clone, Copy, Debug)]
pub struct Transcript {
    to_stderr: bool,
}

impl Transcript {
    /// Standard output, unless that is wanted for JSON.
    pub const fn new(json: bool) -> Self {
        Self { to_stderr: json }
    }

    /// One paragraph.
    pub fn say(self, text: &str) {
        if self.to_stderr {
            eprintln!("{text}");
        } else {
            println!("{text}");
        }
    }
}

/// What a program said.
#[derive(Debug)]
pub struct Said {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Said {
    /// Standard output as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("not JSON: {}{}", self.stdout, self.stderr))
    }
}

/// The built programs, and the folder they run in.
pub struct Programs<'a> {
    steps: &'a Steps,
    /// Where the transcript goes.
    pub transcript: Transcript,
    folder: PathBuf,
    work: PathBuf,
    act: Cell<u32>,
}

impl<'a> Programs<'a> {
    /// Builds the programs in release mode, or takes them from a folder.
    pub fn new(steps: &'a Steps, transcript: Transcript, given: Option<&Path>, work: &Path) -> Result<Self> {
        let folder = match given {
            Some(folder) => folder.canonicalize().with_context(|| folder.display().to_string())?,
            None => build(steps)?,
        };
        for name in NAMES {
            if !folder.join(name).is_file() {
                bail!("{} is missing in {}", name, folder.display());
            }
        }
        Ok(Self { steps, transcript, folder, work: work.to_owned(), act: Cell::new(0) })
    }

    /// The folder the programs run in; paths in the transcript are relative to it.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// A heading of the story.
    pub fn act(&self, title: &str) {
        self.act.set(self.act.get() + 1);
        self.transcript.say(&format!("\n== {}. {title}\n", self.act.get()));
    }

    /// One sentence of the story.
    pub fn say(&self, text: &str) {
        self.transcript.say(text);
    }

    /// Runs a command that has to succeed, showing it and what it says, line by line as it comes.
    pub fn show(&self, command: &[&str]) -> Result<Said> {
        self.say_command(command);
        let mut lines = 0;
        let said = self.run_with(command, |line| {
            lines += 1;
            if lines <= SHOWN_LINES_MAX {
                self.say(&format!("    {line}"));
            }
        })?;
        if lines > SHOWN_LINES_MAX {
            self.say(&format!("    … {} more lines", lines - SHOWN_LINES_MAX));
        }
        ok(command, said)
    }

    /// Runs a command that has to succeed, without a word.
    pub fn quiet(&self, command: &[&str]) -> Result<Said> {
        ok(command, self.run(command)?)
    }

    /// Shows a command as a user types it.
    pub fn say_command(&self, command: &[&str]) {
        let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
        self.say(&format!("$ {}", words.join(" ")));
    }

    /// The process of a program, not started yet.
    pub fn command<S: AsRef<OsStr>>(&self, program: &str, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(self.folder.join(program));
        command.args(args).current_dir(&self.work).stdin(Stdio::null());
        // Settings of the person who runs the demo are not part of the story.
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SLUICE_")) {
            command.env_remove(name);
        }
        command.env_remove("DATABASE_URL").env("SLUICE_CTL_CONFIG", super::story::ADMIN_CONFIG);
        command
    }

    /// Runs a command to its end, whatever that is.
    pub fn run(&self, command: &[&str]) -> Result<Said> {
        self.run_with(command, |_| ())
    }

    /// Runs a command to its end and hands over each line as it comes.
    fn run_with(&self, command: &[&str], mut each_line: impl FnMut(&str)) -> Result<Said> {
        let (program, args) = command.split_first().context("an empty command")?;
        self.steps.check()?;
        let mut child = self
            .command(program, args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {program}"))?;
        let (sender, lines) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            send_lines(stdout, Pipe::Stdout, sender.clone());
        }
        if let Some(stderr) = child.stderr.take() {
            send_lines(stderr, Pipe::Stderr, sender);
        }
        let mut said = Said { code: None, stdout: String::new(), stderr: String::new() };
        loop {
            match lines.recv_timeout(LOOK_PAUSE) {
                Ok((pipe, line)) => {
                    each_line(line.trim_end());
                    match pipe {
                        Pipe::Stdout => said.stdout.push_str(&line),
                        Pipe::Stderr => said.stderr.push_str(&line),
                    }
                }
                // Both pipes are closed: it has ended, or will in a moment.
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(interrupted) = self.steps.check() {
                        child.kill()?;
                        child.wait()?;
                        return Err(interrupted);
                    }
                }
            }
        }
        said.code = child.wait()?.code();
        Ok(said)
    }

    /// An error once the user wants to stop.
    pub fn check(&self) -> Result<()> {
        self.steps.check()
    }
}

/// The output, if the command succeeded.
fn ok(command: &[&str], said: Said) -> Result<Said> {
    if said.code == Some(0) {
        return Ok(said);
    }
    let code = said.code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
    bail!("{} ended with {code}:\n{}{}", command.join(" "), said.stdout, said.stderr)
}

/// Which of a child's pipes.
#[derive(Clone, Copy)]
enum Pipe {
    Stdout,
    Stderr,
}

/// Hands a pipe's lines over until it ends, beside the other one, so that no child waits for a full pipe.
fn send_lines(pipe: impl Read + Send + 'static, name: Pipe, lines: mpsc::Sender<(Pipe, String)>) {
    thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        // A pipe that breaks ends what there is to show; so does a listener who has gone.
        while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            if lines.send((name, String::from_utf8_lossy(&line).into_owned())).is_err() {
                return;
            }
            line.clear();
        }
    });
}

/// A word as a shell wants it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

/// Builds every program of the workspace and says where they are.
fn build(steps: &Steps) -> Result<PathBuf> {
    steps.run("building the programs", &mut cargo(&["build", "--release", "--workspace", "--bins", "--quiet"]))?;
    let output = cargo(&["metadata", "--no-deps", "--format-version", "1"]).stderr(Stdio::inherit()).output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let target = metadata["target_directory"].as_str().map_or_else(|| workspace_root().join("target"), PathBuf::from);
    Ok(target.join("release"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_with_spaces_is_quoted() {
        assert_eq!(quoted("--key=a/b.key"), "--key=a/b.key");
        assert_eq!(quoted("two words"), "'two words'");
        assert_eq!(quoted(""), "''");
    }
}
