//! The command line as its users see it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use sluice_signer::FullEncoding;

use crate::device::{Device, setting_at};
use crate::server::Server;
use crate::world::World;

#[expect(clippy::disallowed_methods, reason = "the real binary reads the real clock, so the documents must too")]
fn real_now() -> jiff::Timestamp {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second()).unwrap()
}

fn text(output: &Output) -> String {
    format!(
        "exit {}\n--- stdout\n{}--- stderr\n{}",
        output.status.code().unwrap(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// What differs from run to run is named instead.
fn stable(device: &Device, server: &Server, text: &str) -> String {
    text.replace(&device.state.root().display().to_string(), "STATE").replace(&server.url(), "SERVER")
}

#[test]
fn help_names_every_command_and_exit_code() {
    let output = Command::new(env!("CARGO_BIN_EXE_sluice-agent")).arg("--help").env_remove("COLUMNS").output().unwrap();
    insta::assert_snapshot!("help", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn what_init_takes_is_an_interface_too() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-agent"));
    let output =
        command.args(["init", "--help"]).env_remove("COLUMNS").env_remove("SLUICE_AGENT_STATE").output().unwrap();
    insta::assert_snapshot!("help_init", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_device_from_birth_to_its_first_update() {
    let (world, server, device) = setting_at(real_now(), |_| ());
    let patch = world.patch("1.0", "2.0");
    let (target, blobs) = world.offer("2.0", Some(&patch), FullEncoding::Zstd);
    // How well the coders do is not what this test is about.
    let lengths = [(patch.bytes.len(), "PATCH_BYTES"), (blobs[0].len(), "FULL_BYTES")];
    let shown = |arguments: &[&str]| {
        let text = stable(&device, &server, &text(&device.run(arguments)));
        lengths.iter().fold(text, |text, (length, name)| text.replace(&length.to_string(), name))
    };
    insta::assert_snapshot!("status_new", shown(&["status"]));
    insta::assert_snapshot!("once_up_to_date", shown(&["once"]));
    server.offer(1, (target, blobs));
    insta::assert_snapshot!("once_updated_json", shown(&["--json", "once"]));
    insta::assert_snapshot!("status_updated", shown(&["status"]));
    insta::assert_snapshot!("status_updated_json", shown(&["--json", "status"]));
    insta::assert_snapshot!("verify", shown(&["verify"]));
    insta::assert_snapshot!("verify_json", shown(&["--json", "verify"]));
}

#[test]
fn init_and_enrol_say_what_comes_next() {
    let world = World::new(real_now());
    let server = Server::start(world.now, world.files(1));
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let image = write("v1.bin", &world.release("1.0").image);
    let (root, director) = (write("root.json", &world.image_root(1)), write("director.json", &world.director_root(1)));
    let state = folder.path().join("state").display().to_string();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-agent"));
        let output = command.args(["--state", &state]).args(arguments).output().unwrap();
        text(&output).replace(&state, "STATE").replace(&server.url(), "SERVER")
    };
    let common = ["init", "--server", &server.url(), "--product", "acme-cam", "--serial", "SN-1", "--hw-id", "cam-r3"];
    let rest = ["--image", &image, "--version", "1.0", "--security-counter", "3"];
    let roots = ["--root", &root, "--director-root", &director];
    insta::assert_snapshot!("once_before_init", run(&["once"]));
    insta::assert_snapshot!("init_without_roots", run(&[&common[..], &rest[..]].concat()));
    insta::assert_snapshot!("init", run(&[&common[..], &rest[..], &roots[..]].concat()));
    insta::assert_snapshot!("init_twice", run(&[&common[..], &rest[..], &roots[..]].concat()));
    insta::assert_snapshot!("once_before_enrol", run(&["once"]));
    insta::assert_snapshot!("enrol", run(&["enrol", "--token", "batch-1"]));
    let enrolled = server.script().seen.iter().find(|seen| seen.path == "/v1/enrol").unwrap().body.clone();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&enrolled).unwrap()["token"], "batch-1");
}

#[test]
fn roots_may_be_trusted_on_first_use_when_asked_for() {
    let world = World::new(real_now());
    let server = Server::start(world.now, world.files(1));
    server.script().gated = false;
    let device = Device::provisioned(&world, &server, |wanted| {
        wanted.roots = sluice_agent::provision::Roots::FirstUse;
    });
    device.with_agent(|agent| agent.enrol(None)).unwrap();
    server.offer(1, world.offer("2.0", None, FullEncoding::Zstd));
    assert_eq!(device.run(&["once"]).status.code(), Some(0));
    device.assert_runs(&world, "2.0");
}

#[test]
fn a_refusal_and_an_outage_have_exit_codes_of_their_own() {
    let (_world, server, device) = setting_at(real_now(), |_| ());
    server.script().director_key = crate::world::key("thief");
    let output = device.run(&["--json", "once"]);
    assert_eq!(output.status.code(), Some(11));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["outcome"], "refused");
    drop(server);
    let output = device.run(&["--json", "once"]);
    assert_eq!(output.status.code(), Some(12));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["outcome"], "unreachable");
}

#[test]
fn verify_finds_a_damaged_slot() {
    let (_world, server, device) = setting_at(real_now(), |_| ());
    let path = device.slot(sluice_agent::slot::Slot::A);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[99] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let output = device.run(&["verify"]);
    assert_eq!(output.status.code(), Some(14));
    insta::assert_snapshot!("verify_damaged", stable(&device, &server, &text(&output)));
}

#[test]
fn run_goes_on_until_it_is_told_to_stop() {
    let (_world, _server, device) = setting_at(real_now(), |_| ());
    let mut child = device.command(&["--json", "run", "--interval", "3600"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&first).unwrap()["outcome"], "up_to_date");
    // While it waits for the next round it holds the lock, and one word ends the wait.
    let output = device.run(&["once"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("another agent holds the lock"));
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn completion_scripts_and_failpoints_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(env!("CARGO_BIN_EXE_sluice-agent")).args(["completion", shell]).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("sluice-agent"), "{shell}");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_sluice-agent")).arg("failpoints").output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(printed.lines().collect::<Vec<_>>(), sluice_agent::failpoint::FAILPOINTS);
}
