//! SIGKILL of the real process at every failpoint. Whatever was under way, the slot that boots is one that was signed, and
//! the next start ends where an undisturbed one would have.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;

use jiff::Timestamp;
use sluice_agent::failpoint::FAILPOINTS;
use sluice_agent::status;
use sluice_catalog::Digest;
use sluice_catalog::rollout::AttemptState;
use sluice_signer::FullEncoding;

use crate::device::{Device, setting_at};
use crate::server::Server;
use crate::world::World;

const SIGKILL: i32 = 9;
/// Most times that one failpoint is met in one run; stops a test that would never end.
const MAX_TIMES: u32 = 60;

#[expect(clippy::disallowed_methods, reason = "the real binary reads the real clock, so the documents must too")]
pub fn real_now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap()
}

/// Which story a device lives through, and which version it must run in the end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Story {
    Patch,
    Raw,
    TamperedPatch,
    Unhealthy,
    LyingImage,
}

impl Story {
    const fn ends_with(self) -> (&'static str, AttemptState) {
        match self {
            Self::Patch | Self::Raw | Self::TamperedPatch => ("2.0", AttemptState::Healthy),
            Self::Unhealthy => ("1.0", AttemptState::RolledBack),
            Self::LyingImage => ("1.0", AttemptState::Failed),
        }
    }

    fn setting(self) -> (World, Server, Device) {
        let (world, server, device) = setting_at(real_now(), |wanted| {
            if self == Self::Unhealthy {
                wanted.boot_check = vec!["false".to_owned()];
            }
        });
        let patch = (self != Self::Raw && self != Self::LyingImage).then(|| world.patch("1.0", "2.0"));
        let full = if self == Self::Raw { FullEncoding::Raw } else { FullEncoding::Zstd };
        let (target, blobs) = world.offer("2.0", patch.as_ref(), full);
        let full_digest = Digest(target.full.sha256);
        server.offer(7, (target, blobs));
        let spoilt = match (self, patch) {
            (Self::TamperedPatch, Some(patch)) => Some((Digest::of(&patch.bytes), patch.bytes)),
            (Self::LyingImage, _) => Some((full_digest, server.script().blobs[&full_digest].clone())),
            _ => None,
        };
        if let Some((digest, mut bytes)) = spoilt {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            server.script().blobs.insert(digest, bytes);
        }
        (world, server, device)
    }
}

fn once(device: &Device, failpoint: Option<&str>) -> Output {
    let mut command = device.command(&["--json", "once"]);
    if let Some(name) = failpoint {
        command.env("SLUICE_FAILPOINT", name);
    }
    command.output().unwrap()
}

/// Kills a device of this story the `time`-th time that it meets the failpoint, then lets it go on. `false` when the
/// failpoint is not met so often.
fn kill_at(story: Story, failpoint: &str, time: u32) -> bool {
    let (world, server, device) = story.setting();
    let named = format!("{failpoint}#{time}");
    let killed = once(&device, Some(&named));
    if killed.status.signal() != Some(SIGKILL) {
        assert!(killed.status.code().is_some(), "{named}: {killed:?}");
        return false;
    }
    device.assert_boots_one_of(&world, &["1.0", "2.0"]);
    let (version, state) = story.ends_with();
    let again = once(&device, None);
    assert!(matches!(again.status.code(), Some(0 | 10)), "{named}: {again:?}");
    device.assert_runs(&world, version);
    assert_eq!(status::status(&device.state, &device.boot()).unwrap().outbox, 0, "{named}");
    let script = server.script();
    let last = script.reports.last().unwrap_or_else(|| panic!("{named}: nothing was reported"));
    assert_eq!((last.attempt, last.state), (7, state), "{named}: {:?}", script.reports);
    true
}

/// Every failpoint that a story meets, each time that it meets it.
fn kill_everywhere(story: Story, failpoints: &[&'static str]) -> BTreeSet<&'static str> {
    let mut met = BTreeSet::new();
    for failpoint in failpoints {
        for time in 1..=MAX_TIMES {
            if !kill_at(story, failpoint, time) {
                break;
            }
            met.insert(*failpoint);
        }
    }
    met
}

const FALLBACK: [&str; 2] = ["agent.journal.fallback", "agent.full.part"];
const ROLLBACK: [&str; 4] =
    ["agent.failure.noted", "agent.journal.rolling_back", "agent.pointer.restored", "agent.journal.rolled_back"];
const FAILED: [&str; 2] = ["agent.failure.noted", "agent.journal.failed"];
const SOAK: [&str; 3] = ["agent.soak.begun", "agent.soak.checking", "agent.soak.checked"];
/// Met on the way to every end.
const ALWAYS: [&str; 2] = ["agent.journal.torn", "agent.journal.ended"];

#[test]
fn an_update_by_patch_survives_a_kill_at_every_failpoint() {
    let elsewhere: BTreeSet<_> = FALLBACK.into_iter().chain(ROLLBACK).chain(FAILED).chain(SOAK).collect();
    let expected: Vec<_> = FAILPOINTS.iter().copied().filter(|name| !elsewhere.contains(name)).collect();
    let met = kill_everywhere(Story::Patch, &expected);
    assert_eq!(met, expected.into_iter().collect(), "a failpoint was never met");
}

#[test]
fn a_raw_download_survives_a_kill_in_every_block() {
    assert_eq!(kill_everywhere(Story::Raw, &["agent.full.part"]).len(), 1);
}

#[test]
fn a_fallback_survives_a_kill_at_its_failpoints() {
    assert_eq!(kill_everywhere(Story::TamperedPatch, &FALLBACK).len(), FALLBACK.len());
}

#[test]
fn a_rollback_survives_a_kill_at_its_failpoints() {
    let failpoints: Vec<_> = ROLLBACK.into_iter().chain(ALWAYS).chain(["agent.file.temp"]).collect();
    assert_eq!(kill_everywhere(Story::Unhealthy, &failpoints).len(), failpoints.len());
}

#[test]
fn a_failed_update_survives_a_kill_at_its_failpoints() {
    let failpoints: Vec<_> = FAILED.into_iter().chain(ALWAYS).collect();
    assert_eq!(kill_everywhere(Story::LyingImage, &failpoints).len(), failpoints.len());
}

/// A device whose check passes and whose soak lasts a second.
fn soaking() -> (World, Server, Device) {
    let (world, server, device) = setting_at(real_now(), |wanted| {
        wanted.boot_check = vec!["true".to_owned()];
        wanted.check.soak_s = 1;
    });
    server.offer(7, world.offer("2.0", None, FullEncoding::Zstd));
    (world, server, device)
}

/// Lets an image that soaks have run for two seconds more: the agent is a process of its own, and its running time is the machine's.
fn age(device: &Device) {
    let Ok(text) = std::fs::read(device.state.soak()) else { return };
    let mut soak: serde_json::Value = serde_json::from_slice(&text).unwrap();
    soak["seen_ms"] = soak["seen_ms"].as_u64().unwrap().saturating_sub(2000).into();
    std::fs::write(device.state.soak(), soak.to_string()).unwrap();
}

/// Soaks to the end, however often it has to begin.
#[track_caller]
fn soaks_to_the_end((world, server, device): &(World, Server, Device), what: &str) {
    let is_healthy = || server.script().reports.last().is_some_and(|event| event.state == AttemptState::Healthy);
    for _ in 0..4 {
        if is_healthy() {
            break;
        }
        age(device);
        once(device, None);
    }
    device.assert_runs(world, "2.0");
    assert!(is_healthy(), "{what}: {:?}", server.script().reports);
}

#[test]
fn a_soak_survives_a_kill_at_its_failpoints() {
    for failpoint in SOAK.into_iter().chain(["agent.journal.booted", "agent.journal.healthy"]) {
        let setting = soaking();
        let (world, _, device) = &setting;
        // Once for the update and once for the soak: a failpoint of either is met in one of them.
        let mut killed = 0;
        for failpoint in [Some(failpoint), Some(failpoint), None] {
            age(device);
            killed += u32::from(once(device, failpoint).status.signal() == Some(SIGKILL));
            device.assert_boots_one_of(world, &["1.0", "2.0"]);
        }
        assert!(killed > 0, "{failpoint} was not met");
        soaks_to_the_end(&setting, failpoint);
    }
}

#[test]
fn a_soak_survives_a_kill_at_every_file_that_it_writes() {
    let mut met = 0;
    for time in 1..=MAX_TIMES {
        let setting = soaking();
        let (world, _, device) = &setting;
        assert!(once(device, None).status.success());
        age(device);
        let named = format!("agent.file.temp#{time}");
        if once(device, Some(&named)).status.signal() != Some(SIGKILL) {
            break;
        }
        met += 1;
        device.assert_boots_one_of(world, &["1.0", "2.0"]);
        soaks_to_the_end(&setting, &named);
    }
    assert!(met >= 3, "before the check, after it, and the report: {met}");
}
