//! A child process with a clock, a scale and a leash.

use std::{
    fmt, fs,
    io::{Read, Seek, SeekFrom},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use wait4::Wait4;

/// A program that takes longer is stopped.
const MAX_WALL: Duration = Duration::from_mins(10);

/// So is one that holds more memory, in KiB: 8 GiB.
const MAX_RSS_KIB: u64 = 8 << 20;

/// Longest pause between two looks at the child; the first ones are shorter.
const MAX_PAUSE: Duration = Duration::from_millis(20);

/// What a child took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Took {
    pub wall: Duration,
    /// Processor time, of the user and of the system on his behalf.
    pub cpu: Duration,
    /// Most memory that it held.
    pub rss_kib: u64,
}

impl Took {
    /// The smaller of each: what the work itself needs is what it needs when nothing disturbs it.
    pub fn best(self, other: Self) -> Self {
        Self { wall: self.wall.min(other.wall), cpu: self.cpu.min(other.cpu), rss_kib: self.rss_kib.min(other.rss_kib) }
    }
}

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Failed(String),
    TooLong,
    TooLarge,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("ok"),
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::TooLong => write!(f, "stopped after {} s", MAX_WALL.as_secs()),
            Self::TooLarge => write!(f, "stopped at {} GiB", MAX_RSS_KIB >> 20),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "measuring is what this command is for")]
fn now() -> Instant {
    Instant::now()
}

/// Runs a program to its end, or to the end of what it may use.
pub fn run(command: Command) -> Result<(Took, Outcome)> {
    run_within(command, MAX_WALL, MAX_RSS_KIB)
}

fn run_within(mut command: Command, max_wall: Duration, max_rss_kib: u64) -> Result<(Took, Outcome)> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut complaints = tempfile::tempfile()?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(complaints.try_clone()?);
    let started = now();
    let mut child = command.spawn().with_context(|| format!("cannot run {name}"))?;
    let mut stopped = None;
    let mut pause = Duration::from_micros(100);
    let used = loop {
        if let Some(used) = child.try_wait4()? {
            break used;
        }
        if stopped.is_none() {
            if started.elapsed() > max_wall {
                stopped = Some(Outcome::TooLong);
            } else if rss_kib(child.id()) > max_rss_kib {
                stopped = Some(Outcome::TooLarge);
            }
            if stopped.is_some() {
                // It has not been waited for, so the number is still its own.
                child.kill()?;
            }
        }
        thread::sleep(pause);
        pause = (pause * 5 / 4).min(MAX_PAUSE);
    };
    let took =
        Took { wall: started.elapsed(), cpu: used.rusage.utime + used.rusage.stime, rss_kib: used.rusage.maxrss >> 10 };
    let outcome = match stopped {
        Some(stopped) => stopped,
        None if used.status.success() => Outcome::Done,
        None => {
            let mut text = String::new();
            complaints.seek(SeekFrom::Start(0))?;
            complaints.take(1 << 16).read_to_string(&mut text).ok();
            let last = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it said nothing");
            Outcome::Failed(format!("{} ({last})", used.status))
        }
    };
    Ok((took, outcome))
}

/// Memory that a process holds now; 0 when it has just ended.
fn rss_kib(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_is_measured_to_its_end() {
        let (took, outcome) = run(shell("i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done")).unwrap();
        assert_eq!(outcome, Outcome::Done);
        assert!(took.cpu > Duration::ZERO && took.rss_kib > 100, "{took:?}");
    }

    #[test]
    fn a_failure_says_why() {
        let (_, outcome) = run(shell("echo first >&2; echo it is broken >&2; exit 3")).unwrap();
        assert!(outcome.to_string().contains("it is broken"), "{outcome}");
        assert!(run(Command::new("no-such-program-anywhere")).is_err());
    }

    #[test]
    fn what_takes_too_much_is_stopped() {
        let (_, outcome) = run_within(shell("exec sleep 600"), Duration::from_millis(30), u64::MAX).unwrap();
        assert_eq!(outcome, Outcome::TooLong);
        let (_, outcome) = run_within(shell("exec sleep 600"), Duration::from_mins(5), 10).unwrap();
        assert_eq!(outcome, Outcome::TooLarge);
    }
}
