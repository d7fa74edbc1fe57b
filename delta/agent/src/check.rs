//! The check command: a program of the integrator that says whether the new image is healthy. It is run without a shell, in a process
//! group of its own, and trusted with nothing: it may hang, print without end, or leave processes behind.
//!
//! * It ends when the program itself does. What is left of its group is killed then, so a check leaves nothing behind by accident; a
//!   process that made itself a session of its own (a daemon) is left alone, and its output goes nowhere.
//! * Output is read as it comes, so that a full pipe never holds the program up, and all but its end is dropped.
//! * After the timeout, or when the agent is asked to stop, the group is killed.

use std::ffi::OsStr;
use std::io::{PipeReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use sluice_catalog::rollout::{Failure, MAX_LOG_LEN, clean_log};

use crate::error::shown;
use crate::host::Host;

/// Longest time between two looks at the program.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes read at once: what a pipe holds.
const CHUNK_BYTES: usize = 64 << 10;
/// Bytes of output kept. More than a log has, because colours and other control sequences are taken out of it.
const TAIL_BYTES: usize = 4 * MAX_LOG_LEN;
/// Pieces still read after the end. A process that was left behind and goes on printing does not hold the agent up.
const MAX_LEFT_OVER: u32 = 64;
/// Looks at a killed program that does not go away: one that hangs in a driver cannot be killed, and is not waited for.
const MAX_LOOKS_AFTER_KILL: u32 = 100;

/// How a check ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The program says that the image is healthy.
    Healthy,
    /// It says that it is not, or does not answer.
    Unhealthy {
        /// Which of these.
        failure: Failure,
        /// In words.
        detail: String,
        /// The end of what it printed.
        log: String,
    },
    /// The agent was asked to stop. Nothing is known.
    Stopped,
}

/// Runs the command with these variables added to the environment. An empty command is healthy.
pub fn run(host: &Host<'_>, command: &[String], environment: &[(&str, &OsStr)], timeout: Duration) -> Verdict {
    let Some((program, arguments)) = command.split_first() else { return Verdict::Healthy };
    let unhealthy = |failure, what: &str, output: &Tail| Verdict::Unhealthy {
        failure,
        detail: format!("boot_check {}: {what}", shown(program)),
        log: output.log(),
    };
    let mut output = Tail::default();
    let (mut child, mut reader) = match spawn(program, arguments, environment) {
        Ok(started) => started,
        Err(error) => return unhealthy(Failure::CheckMissing, &error.to_string(), &output),
    };
    let started = (host.uptime)();
    let mut open = true;
    let timed_out = loop {
        if host.stopping() {
            end(&mut child);
            return Verdict::Stopped;
        }
        if has_ended(&child) {
            break false;
        }
        if (host.uptime)().saturating_sub(started) >= timeout {
            break true;
        }
        if open && readable(&reader, LOOK) {
            open = output.read(&mut reader);
        } else if !open {
            std::thread::sleep(LOOK);
        }
    };
    let status = end(&mut child);
    for _ in 0..MAX_LEFT_OVER {
        if !open || !readable(&reader, Duration::ZERO) {
            break;
        }
        open = output.read(&mut reader);
    }
    match status {
        _ if timed_out => {
            unhealthy(Failure::CheckTimeout, &format!("no answer within {} s", timeout.as_secs()), &output)
        }
        Some(Ok(status)) if status.success() => Verdict::Healthy,
        Some(Ok(status)) => unhealthy(Failure::CheckFailed, &status.to_string(), &output),
        Some(Err(error)) => unhealthy(Failure::CheckFailed, &error.to_string(), &output),
        None => unhealthy(Failure::CheckTimeout, "it does not go away", &output),
    }
}

fn spawn(program: &str, arguments: &[String], environment: &[(&str, &OsStr)]) -> std::io::Result<(Child, PipeReader)> {
    let (reader, writer) = std::io::pipe()?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .envs(environment.iter().copied())
        // It admits a device to the server, which is no business of a check.
        .env_remove("SLUICE_ENROL_TOKEN")
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    // The command is dropped here with our ends of the pipe, so that the pipe ends with the last process that has it.
    Ok((command.spawn()?, reader))
}

/// Whether the program has ended. It is not reaped: as long as it is there its number, and that of its group, is nobody else's.
fn has_ended(child: &Child) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::Pid(Pid::from_child(child)), look) {
        Ok(status) => status.is_some(),
        // Who ignores SIGCHLD is told nothing of its children, and this one has gone; the agent's own program handles it.
        Err(error) => error == Errno::CHILD,
    }
}

/// Kills what is left of the program and its group. `None` when it cannot be killed.
fn end(child: &mut Child) -> Option<std::io::Result<std::process::ExitStatus>> {
    // The group may be empty already.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    for _ in 0..MAX_LOOKS_AFTER_KILL {
        if has_ended(child) {
            return Some(child.wait());
        }
        std::thread::sleep(LOOK);
    }
    None
}

/// Waits for something to read. Also true when the other end was closed.
fn readable(reader: &PipeReader, patience: Duration) -> bool {
    let patience = Timespec::try_from(patience).ok();
    // A signal cuts the wait short; the caller looks again.
    poll(&mut [PollFd::new(reader, PollFlags::IN)], patience.as_ref()).is_ok_and(|ready| ready > 0)
}

/// The end of what was printed.
#[derive(Debug, Default)]
struct Tail {
    bytes: Vec<u8>,
    cut: bool,
}

impl Tail {
    /// Reads what there is, without waiting for more than that. `false` when there will be nothing more.
    fn read(&mut self, reader: &mut PipeReader) -> bool {
        let mut chunk = vec![0; CHUNK_BYTES];
        match reader.read(&mut chunk) {
            Ok(0) => false,
            Ok(read) => {
                self.push(chunk.get(..read).unwrap_or_default());
                true
            }
            Err(error) => error.kind() == std::io::ErrorKind::Interrupted,
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let over = self.bytes.len().saturating_sub(TAIL_BYTES);
        if over > 0 {
            self.bytes.drain(..over);
            self.cut = true;
        }
    }

    /// As text that can be kept.
    fn log(&self) -> String {
        // Cut within a character, its rest is not worth a mark.
        let from = if self.cut { self.bytes.iter().take_while(|&&byte| byte & 0xc0 == 0x80).count() } else { 0 };
        let text = String::from_utf8_lossy(self.bytes.get(from..).unwrap_or_default());
        clean_log(&text, MAX_LOG_LEN)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicBool, Ordering};

    use proptest::prelude::*;

    use super::*;

    /// Runs a script by a clock that goes on by a second with each look.
    fn sh(script: &str, timeout_s: u64) -> Verdict {
        let uptime = Cell::new(0);
        let stop = AtomicBool::new(false);
        run(&host(&|| tick(&uptime), &stop), &command(script), &[], Duration::from_secs(timeout_s))
    }

    fn tick(uptime: &Cell<u64>) -> Duration {
        uptime.set(uptime.get() + 1);
        Duration::from_secs(uptime.get())
    }

    fn command(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    fn host<'a>(uptime: &'a dyn Fn() -> Duration, stop: &'a AtomicBool) -> Host<'a> {
        Host {
            now: &|| jiff::Timestamp::UNIX_EPOCH,
            random: &|| [0; 32],
            sleep: &|_| (),
            uptime,
            boot: "test",
            stop,
            log: &|_| (),
            progress: &|_| (),
        }
    }

    const HOUR_S: u64 = 3600;

    fn is_gone(pid: &str) -> bool {
        // Killed, and for a while perhaps not reaped by whoever inherited it.
        for _ in 0..200 {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if state.is_empty() || state.contains(") Z ") {
                return true;
            }
            std::thread::sleep(LOOK);
        }
        false
    }

    #[track_caller]
    fn unhealthy(verdict: Verdict) -> (Failure, String, String) {
        match verdict {
            Verdict::Unhealthy { failure, detail, log } => (failure, detail, log),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_exit_status_is_the_verdict_and_the_output_its_log() {
        assert_eq!(sh("true", HOUR_S), Verdict::Healthy);
        assert_eq!(sh("echo fine; echo too >&2", HOUR_S), Verdict::Healthy);
        let (failure, detail, log) =
            unhealthy(sh("echo out; echo err >&2; printf 'nul\\0\\033[31mred\\377'; exit 3", HOUR_S));
        assert_eq!((failure, detail.as_str()), (Failure::CheckFailed, "boot_check sh: exit status: 3"));
        assert_eq!(log, "out\nerr\nnulred\u{fffd}");
        let (failure, detail, _) = unhealthy(sh("kill -SEGV $$", HOUR_S));
        assert_eq!(failure, Failure::CheckFailed);
        assert!(detail.contains("signal: 11"), "{detail}");
    }

    #[test]
    fn a_program_that_is_not_there_or_is_none_is_missing() {
        let stop = AtomicBool::new(false);
        let uptime = || Duration::ZERO;
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("text");
        std::fs::write(&text, "no program").unwrap();
        for program in ["/nowhere/probe", text.to_str().unwrap(), folder.path().to_str().unwrap(), "a\0b"] {
            let verdict = run(&host(&uptime, &stop), &[program.to_owned()], &[], Duration::from_secs(1));
            let (failure, detail, log) = unhealthy(verdict);
            assert_eq!((failure, log.as_str()), (Failure::CheckMissing, ""), "{detail}");
            assert!(!detail.contains('\0'));
        }
    }

    #[test]
    fn a_hanging_check_is_killed_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let begun = folder.path().join("begun");
        let script = format!("trap '' TERM; sleep 1000 & echo $!; > {}; while :; do sleep 1000; done", begun.display());
        // The clock goes on once there is somebody to be killed, however slow the machine is.
        let ticks = Cell::new(0);
        let uptime = || if begun.exists() { tick(&ticks) } else { Duration::ZERO };
        let stop = AtomicBool::new(false);
        let verdict = run(&host(&uptime, &stop), &command(&script), &[], Duration::from_secs(20));
        let (failure, detail, log) = unhealthy(verdict);
        assert_eq!((failure, detail.as_str()), (Failure::CheckTimeout, "boot_check sh: no answer within 20 s"));
        assert!(is_gone(log.trim()), "process {log} lives");
    }

    #[test]
    fn what_a_check_leaves_behind_is_killed_and_does_not_hold_the_agent_up() {
        // The child has the pipe, and never ends by itself.
        let (_, _, log) = unhealthy(sh("sleep 1000 & echo $!; exit 1", HOUR_S));
        assert!(is_gone(log.trim()), "process {log} lives");
    }

    /// Leaves a session of its own behind, once that is one.
    fn with_daemon(program: &str) -> String {
        let folder = tempfile::tempdir().unwrap().keep();
        let ready = folder.join("ready").display().to_string();
        format!(
            "setsid sh -c 'echo $$; mkdir {ready}; exec {program}' & while ! test -d {ready}; do sleep 0.1; done; \
             rm -r {}; exit 1",
            folder.display()
        )
    }

    #[test]
    fn a_daemon_is_left_alone_and_does_not_hold_the_agent_up() {
        let (failure, _, log) = unhealthy(sh(&with_daemon("sleep 1000"), HOUR_S));
        assert_eq!(failure, Failure::CheckFailed);
        let pid = log.trim().parse().unwrap();
        assert!(std::fs::exists(format!("/proc/{pid}")).unwrap(), "it is a session of its own");
        rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }

    #[test]
    fn a_daemon_that_prints_without_end_is_not_listened_to() {
        let (_, _, log) = unhealthy(sh(&with_daemon("yes"), HOUR_S));
        assert!(log.len() <= MAX_LOG_LEN && log.contains("y\ny\n"));
        // It had nobody to write to any more, which has ended it.
    }

    #[test]
    fn megabytes_of_output_are_read_and_their_end_is_kept() {
        let script = "i=0; while [ $i -lt 40 ]; do head -c 65536 /dev/zero | tr '\\0' x; i=$((i+1)); done; echo; echo end; exit 1";
        let (failure, _, log) = unhealthy(sh(script, HOUR_S));
        assert_eq!(failure, Failure::CheckFailed, "it was never held up by a full pipe");
        assert!(log.ends_with("x\nend\n") && log.len() == MAX_LOG_LEN);
    }

    #[test]
    fn a_check_that_closes_its_output_is_waited_for() {
        assert_eq!(sh("exec >&- 2>&-; sleep 0.3; exit 0", HOUR_S), Verdict::Healthy);
    }

    #[test]
    fn whoever_is_asked_to_stop_kills_the_check_and_knows_nothing() {
        let stop = AtomicBool::new(false);
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let uptime = || {
            // The first looks are before it has begun.
            if std::fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n')) {
                stop.store(true, Ordering::Relaxed);
            }
            Duration::ZERO
        };
        let script = format!("echo $$ > {}; sleep 1000", pid.display());
        let verdict = run(&host(&uptime, &stop), &command(&script), &[], Duration::from_secs(1));
        assert_eq!(verdict, Verdict::Stopped);
        assert!(is_gone(std::fs::read_to_string(&pid).unwrap().trim()));
    }

    proptest! {
        /// However the output comes in pieces, the log is bounded, clean, and the end of it.
        #[test]
        fn any_output_makes_a_log(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9000), 0..8)) {
            let mut tail = Tail::default();
            for piece in &pieces {
                tail.push(piece);
                prop_assert!(tail.bytes.len() <= TAIL_BYTES);
            }
            let log = tail.log();
            prop_assert!(log.len() <= MAX_LOG_LEN);
            prop_assert_eq!(clean_log(&log, MAX_LOG_LEN), log);
            let whole = pieces.concat();
            prop_assert!(whole.ends_with(&tail.bytes));
        }
    }
}
