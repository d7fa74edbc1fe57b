//! The command line as its users see it.

mod bench;
mod formats;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn sluice_delta(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluice-delta")).current_dir(folder).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn frozen() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/frozen/patch-v1")
}

/// A folder with `old` and `new`.
fn images() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["old", "new"] {
        fs::copy(frozen().join(name), folder.path().join(name)).unwrap();
    }
    folder
}

fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn help() {
    let output = sluice_delta(&frozen(), &["--help"]);
    insta::assert_snapshot!("help", text(&output.stdout));
    for command in ["diff", "apply", "info", "bench"] {
        let output = sluice_delta(&frozen(), &[command, "--help"]);
        insta::assert_snapshot!(format!("help_{command}"), text(&output.stdout));
    }
}

#[test]
fn info_of_the_frozen_patch() {
    insta::assert_snapshot!("info", text(&sluice_delta(&frozen(), &["info", "patch.default"]).stdout));
    insta::assert_snapshot!("info_json", text(&sluice_delta(&frozen(), &["info", "patch.fast", "--json"]).stdout));
}

#[test]
fn diff_then_apply() {
    let folder = images();
    let made = json(&sluice_delta(folder.path(), &["diff", "old", "new", "patch", "--json", "--threads", "2"]));
    assert_eq!(made["bytes"], fs::metadata(folder.path().join("patch")).unwrap().len());
    assert_eq!(made["new_len"], 40_000);
    let applied = json(&sluice_delta(folder.path(), &["apply", "old", "patch", "made", "--json"]));
    assert_eq!(applied["sha256"], made["new_sha256"]);
    assert_eq!(fs::read(folder.path().join("made")).unwrap(), fs::read(folder.path().join("new")).unwrap());
    assert!(!folder.path().join("made.partial").exists());
}

#[test]
fn profiles_and_segments() {
    let folder = images();
    let args = ["diff", "old", "new", "patch", "--profile", "fast", "--segment-len", "8KiB", "--json"];
    assert_eq!(json(&sluice_delta(folder.path(), &args))["segments"], 5);
    let output = sluice_delta(folder.path(), &["diff", "old", "new", "patch", "--segment-len", "5000"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    let output = sluice_delta(folder.path(), &["diff", "old", "new", "patch", "--profile", "huge"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_damaged_patch_keeps_what_is_verified_and_resumes() {
    let folder = images();
    let path = |name: &str| folder.path().join(name);
    let good = fs::read(frozen().join("patch.default")).unwrap();
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(path("patch"), &damaged).unwrap();
    let output = sluice_delta(folder.path(), &["apply", "old", "patch", "made"]);
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!("damaged", text(&output.stderr));
    assert!(!path("made").exists());

    fs::write(path("patch"), &good).unwrap();
    let applied = json(&sluice_delta(folder.path(), &["apply", "old", "patch", "made", "--resume", "--json"]));
    assert_eq!(applied["segments_resumed"], 2);
    assert_eq!(fs::read(path("made")).unwrap(), fs::read(path("new")).unwrap());
}

#[test]
fn the_wrong_image_is_refused() {
    let folder = images();
    fs::copy(frozen().join("patch.fast"), folder.path().join("patch")).unwrap();
    let output = sluice_delta(folder.path(), &["apply", "new", "patch", "made"]);
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!("wrong_image", text(&output.stderr));
    assert!(!folder.path().join("made.partial").exists(), "nothing was begun");
}

#[test]
fn what_is_not_there_is_trouble_with_a_file() {
    let folder = images();
    for args in [&["info", "none"][..], &["diff", "none", "new", "patch"], &["apply", "none", "none", "made"]] {
        assert_eq!(sluice_delta(folder.path(), args).status.code(), Some(3), "{args:?}");
    }
    assert_eq!(sluice_delta(folder.path(), &["info", "old"]).status.code(), Some(1), "not a patch");
}

#[test]
fn too_little_memory_is_refused() {
    let folder = images();
    fs::copy(frozen().join("patch.default"), folder.path().join("patch")).unwrap();
    let output = sluice_delta(folder.path(), &["apply", "old", "patch", "made", "--ram", "64KiB"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("--ram"), "{}", text(&output.stderr));
}

#[test]
fn completion() {
    let output = sluice_delta(&frozen(), &["completion", "bash"]);
    assert!(text(&output.stdout).contains("sluice-delta"));
}
