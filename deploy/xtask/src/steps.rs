//! Announced steps, and one place where interruption is handled.
//!
//! A signal is passed on to the child that runs, and ends the command after that child: servers that a command started
//! are then stopped by their guards, as at any other end.

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The repository: two folders above this package.
pub fn workspace_root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .components()
        .collect::<PathBuf>()
        .join("../..")
        .canonicalize()
        .unwrap_or_else(|_| PathBuf::from(env!("CARGO_MANIFEST_DIR")))
}

/// A call of the cargo that runs us, in the repository.
pub fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(workspace_root());
    command
}

/// Runs children one after the other, until a signal arrives.
pub struct Steps {
    /// The first signal that arrived, or zero.
    signal: Arc<AtomicI32>,
    /// Process id of the child that runs. Held while a child is started, so that no signal falls between.
    child: Arc<Mutex<Option<u32>>>,
}

impl Steps {
    /// Takes over the signals that end a program.
    pub fn new() -> Result<Self> {
        let steps = Self { signal: Arc::default(), child: Arc::default() };
        let (signal, child) = (Arc::clone(&steps.signal), Arc::clone(&steps.child));
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("taking over signals")?;
        std::thread::spawn(move || {
            for number in signals.forever() {
                // Only the first counts for the exit code; each is passed on, for a child that needs to be asked twice.
                let _ = signal.compare_exchange(0, number, Ordering::SeqCst, Ordering::SeqCst);
                let running = *child.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(pid) = running {
                    // A child that has just ended needs no signal.
                    drop(Command::new("kill").args([format!("-{number}"), pid.to_string()]).status());
                }
            }
        });
        Ok(steps)
    }

    /// Says what happens next.
    pub fn announce(&self, what: &str) {
        eprintln!("==> {what}");
    }

    /// An error when a signal has arrived.
    pub fn check(&self) -> Result<()> {
        match self.signal.load(Ordering::SeqCst) {
            0 => Ok(()),
            number => bail!("interrupted by signal {number}"),
        }
    }

    fn wait(&self, command: &mut Command) -> Result<ExitStatus> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut process = {
            let mut running = self.child.lock().unwrap_or_else(PoisonError::into_inner);
            self.check()?;
            let process = command.spawn().with_context(|| format!("cannot run {name}"))?;
            *running = Some(process.id());
            process
        };
        let status = process.wait().with_context(|| format!("waiting for {name}"));
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = None;
        status
    }

    /// Runs a child whose success is needed for the next step.
    pub fn run(&self, what: &str, command: &mut Command) -> Result<()> {
        self.announce(what);
        let status = self.wait(command)?;
        self.check()?;
        if status.success() { Ok(()) } else { bail!("{what}: {status}") }
    }

    /// Runs a child whose exit code becomes ours.
    pub fn status(&self, command: &mut Command) -> Result<ExitCode> {
        let status = self.wait(command)?;
        let number = self.signal.load(Ordering::SeqCst);
        if number != 0 {
            // As a shell reports it: 130 for SIGINT, 143 for SIGTERM.
            return Ok(ExitCode::from(128 + u8::try_from(number).unwrap_or_default()));
        }
        // A child that died of a signal of its own has no code; that is a failure.
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
    }
}
