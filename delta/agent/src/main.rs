//! `sluice-agent`: the command line around the agent, and the one place that reads the clock and draws random numbers.

mod cli;

use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use clap::{CommandFactory, Parser};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use serde::Serialize;
use sluice_agent::error::{EXIT_LOCAL, EXIT_OK, EXIT_SLOT_DAMAGED};
use sluice_agent::provision::provision;
use sluice_agent::{Agent, AgentError, CycleReport, FileBoot, Host, Progress, StateDir, failpoint, offline, status};

use crate::cli::{Cli, Command};

/// Slice of a wait after which the stop flag is looked at again, should its wake-up be missed.
const MAX_SLEEP_SLICE: Duration = Duration::from_secs(5);
/// Downloads shorter than this draw no progress bar, bytes.
const MIN_BAR_BYTES: u64 = 256 << 10;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(&cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("sluice-agent: {error:#}");
            ExitCode::from(EXIT_LOCAL)
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
fn system_clock() -> Timestamp {
    Timestamp::now()
}

#[expect(clippy::disallowed_methods, reason = "the one place that draws random numbers")]
fn system_random() -> [u8; 32] {
    rand::random()
}

/// The kernel's name for this start of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Longest such name, bytes.
const MAX_BOOT_ID_BYTES: u64 = 64;

/// Time for which the machine has been running, without what it slept: the same clock for every process of this start.
fn uptime() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// Empty where the kernel has none: starts are told apart by the running time alone then.
fn boot_id() -> String {
    let mut text = String::new();
    let read = std::fs::File::open(BOOT_ID).and_then(|file| file.take(MAX_BOOT_ID_BYTES).read_to_string(&mut text));
    if read.is_err() {
        text.clear();
    }
    text.trim().to_owned()
}

fn dispatch(cli: &Cli) -> anyhow::Result<u8> {
    let stop = Arc::new(AtomicBool::new(false));
    let waker = Arc::new((Mutex::new(()), Condvar::new()));
    let bar = Mutex::new(None);
    let sleep = |duration: Duration| interruptible_sleep(&stop, &waker, duration);
    let log = |line: &str| eprintln!("sluice-agent: {line}");
    let progress = |progress: Progress| draw(&bar, progress);
    let boot_id = boot_id();
    let host = Host {
        now: &system_clock,
        random: &system_random,
        sleep: &sleep,
        uptime: &uptime,
        boot: &boot_id,
        stop: &stop,
        log: &log,
        progress: &progress,
    };
    let state = StateDir::new(&cli.state);
    let boot = FileBoot::new(state.slots());
    match &cli.command {
        Command::Init(options) => {
            let config = match provision(&state, &options.provision(), &host) {
                Ok(config) => config,
                Err(error) => return Ok(fail(&error)),
            };
            let text = format!(
                "provisioned {} {} in {}\nnext: sluice-agent --state {} enrol",
                config.product,
                config.serial,
                cli.state.display(),
                cli.state.display()
            );
            print(cli.json, &config, &text)?;
        }
        Command::Enrol { token } => {
            let enrolled = Agent::open(state, &boot, host).and_then(|mut agent| agent.enrol(token.clone()));
            match enrolled {
                Ok(response) => {
                    let text = format!("device {}, {}", response.device_id, response.state.as_str());
                    print(cli.json, &response, &text)?;
                }
                Err(error) => return Ok(fail(&error)),
            }
        }
        Command::Once => {
            stop_on_signals(&stop, &waker)?;
            let ended = Agent::open(state, &boot, host).and_then(|mut agent| agent.cycle());
            clear(&bar);
            return show(cli.json, &ended);
        }
        Command::Run { interval } => {
            stop_on_signals(&stop, &waker)?;
            let mut agent = match Agent::open(state, &boot, host) {
                Ok(agent) => agent,
                Err(error) => return Ok(fail(&error)),
            };
            let ended = agent.run(*interval, |ended| {
                clear(&bar);
                if let Err(error) = show(cli.json, ended) {
                    eprintln!("sluice-agent: {error:#}");
                }
            });
            if let Err(error) = ended {
                return Ok(error.exit_code());
            }
        }
        Command::Status => match status::status(&state, &boot) {
            Ok(status) => print(cli.json, &status, &cli::status_text(&status))?,
            Err(error) => return Ok(fail(&error)),
        },
        Command::Why { version } => {
            let told = Agent::open(state, &boot, host).and_then(|mut agent| agent.why(version.as_ref()));
            match told {
                Ok(told) => print(cli.json, &told, &cli::why_text(&told))?,
                Err(error) => return Ok(fail(&error)),
            }
        }
        Command::Verify => match status::verify(&state, &boot) {
            Ok(checks) => {
                print(cli.json, &checks, &cli::checks_text(&checks))?;
                if !checks.iter().all(|check| check.ok) {
                    return Ok(EXIT_SLOT_DAMAGED);
                }
            }
            Err(error) => return Ok(fail(&error)),
        },
        Command::Entitlement { document } => {
            match offline::entitlement(&state, &boot, system_clock(), document.as_deref()) {
                Ok(entitlement) => print(cli.json, &entitlement, &cli::entitlement_text(&entitlement))?,
                Err(error) => return Ok(fail(&error)),
            }
        }
        Command::Completion { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "sluice-agent", &mut std::io::stdout());
        }
        Command::Failpoints => print(cli.json, &failpoint::FAILPOINTS, &failpoint::FAILPOINTS.join("\n"))?,
    }
    Ok(EXIT_OK)
}

fn fail(error: &AgentError) -> u8 {
    eprintln!("sluice-agent: {error}");
    error.exit_code()
}

/// Prints a round's result: JSON or a line on stdout, and what went wrong on stderr.
fn show(json: bool, ended: &Result<CycleReport, AgentError>) -> anyhow::Result<u8> {
    match ended {
        Ok(report) => {
            print_line(json, report, &cli::cycle_text(report))?;
            Ok(report.exit_code())
        }
        Err(error) => {
            eprintln!("sluice-agent: {error}");
            if json {
                print_line(true, &CycleReport::of_error(error), "")?;
            }
            Ok(error.exit_code())
        }
    }
}

fn print<T: Serialize + ?Sized>(json: bool, value: &T, text: &str) -> anyhow::Result<()> {
    let text = if json { serde_json::to_string_pretty(value)? } else { text.to_owned() };
    writeln!(std::io::stdout(), "{text}").context("standard output")
}

/// One line of JSON, so that the output of `run` can be read line by line.
fn print_line<T: Serialize>(json: bool, value: &T, text: &str) -> anyhow::Result<()> {
    let text = if json { serde_json::to_string(value)? } else { text.to_owned() };
    writeln!(std::io::stdout(), "{text}").context("standard output")
}

/// SIGTERM and SIGINT set the flag and wake a sleeper; the work stops at the next safe place.
fn stop_on_signals(stop: &Arc<AtomicBool>, waker: &Arc<(Mutex<()>, Condvar)>) -> anyhow::Result<()> {
    use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
    // Whoever starts the agent may ignore children that end; it would be told no exit status then, and take every check for failed.
    signal_hook::flag::register(SIGCHLD, Arc::default()).context("signal handlers")?;
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT]).context("signal handlers")?;
    let (stop, waker) = (Arc::clone(stop), Arc::clone(waker));
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            let _guard = waker.0.lock().unwrap_or_else(PoisonError::into_inner);
            waker.1.notify_all();
        }
    });
    Ok(())
}

fn interruptible_sleep(stop: &AtomicBool, waker: &(Mutex<()>, Condvar), duration: Duration) {
    let mut left = duration;
    while !left.is_zero() && !stop.load(std::sync::atomic::Ordering::Relaxed) {
        let slice = left.min(MAX_SLEEP_SLICE);
        let guard = waker.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = waker.1.wait_timeout(guard, slice);
        left = left.saturating_sub(slice);
    }
}

fn draw(bar: &Mutex<Option<ProgressBar>>, progress: Progress) {
    if progress.total < MIN_BAR_BYTES || !std::io::stderr().is_terminal() {
        return;
    }
    let mut bar = bar.lock().unwrap_or_else(PoisonError::into_inner);
    let bar = bar.get_or_insert_with(|| {
        let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
        let bar = ProgressBar::with_draw_target(Some(progress.total), ProgressDrawTarget::stderr());
        bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    });
    bar.set_length(progress.total);
    bar.set_position(progress.done);
}

fn clear(bar: &Mutex<Option<ProgressBar>>) {
    if let Some(bar) = bar.lock().unwrap_or_else(PoisonError::into_inner).take() {
        bar.finish_and_clear();
    }
}
