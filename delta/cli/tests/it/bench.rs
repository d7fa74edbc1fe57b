//! The bench on a small pair: every patch is made, applied and compared, in child processes.

use std::{fs, path::Path};

use crate::{frozen, json, sluice_delta, text};

/// A folder with two pairs, and something that is none.
fn pairs() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for pair in ["one", "two"] {
        for name in ["old", "new"] {
            fs::copy(frozen().join(name), folder.path().join(format!("{pair}.{name}"))).unwrap();
        }
    }
    fs::write(folder.path().join("half.old"), "no new image").unwrap();
    folder
}

fn bench(folder: &Path, args: &[&str]) -> serde_json::Value {
    json(&sluice_delta(folder, &[&["bench", ".", "--json"], args].concat()))
}

#[test]
fn every_profile_and_peer_has_a_row() {
    let folder = pairs();
    let rows = bench(folder.path(), &["--pairs", "two", "--peers", "bsdiff,zstd", "--formats", "--csv", "rows.csv"]);
    let rows = rows.as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["program"].as_str().unwrap()).collect();
    let expected = ["bsdiff", "zstd -19 --patch-from", "sluice fast", "sluice default", "sluice as bsdiff40"];
    assert!(
        expected.iter().all(|name| names.contains(name)),
        "{names:?}; install the others: apt-get install bsdiff zstd"
    );
    for row in rows {
        assert_eq!(row["status"], "ok", "{row}");
        assert_eq!(row["pair"], "two");
        assert_eq!(row["new_bytes"], 40_000);
        assert!(row["of_best_peer_permille"].as_u64().unwrap() > 0 && row["of_pinned_permille"].is_null());
        for step in ["generate", "apply"] {
            assert!(row[step]["wall_us"].as_u64().unwrap() > 0 && row[step]["rss_kib"].as_u64().unwrap() > 0, "{row}");
        }
    }
    let best = rows.iter().filter(|row| row["ours"] == false).map(|row| row["patch_bytes"].as_u64().unwrap()).min();
    let of_best = rows.iter().find(|row| row["patch_bytes"].as_u64() == best).unwrap();
    assert_eq!(of_best["of_best_peer_permille"], 1_000);

    let csv = fs::read_to_string(folder.path().join("rows.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + rows.len());
    assert!(csv.starts_with("pair,program,"));
}

#[test]
fn lines_come_for_people() {
    let folder = pairs();
    let args = ["bench", ".", "--peers", "none", "--profile", "fast", "--repeat", "2", "--threads", "2"];
    let output = sluice_delta(folder.path(), &args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = text(&output.stdout);
    let pairs: Vec<&str> = lines.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(pairs, ["one", "two"], "{lines}");
}

#[test]
fn a_missing_peer_is_named_and_the_run_goes_on() {
    let folder = pairs();
    let args = ["bench", ".", "--pairs", "one", "--peers", "hdiffpatch", "--python", "/no/python", "--profile", "fast"];
    let output = sluice_delta(folder.path(), &args);
    assert!(output.status.success());
    let told = text(&output.stderr);
    assert!(told.contains("/no/python -m pip install hdiffpatch"), "{told}");
    assert_eq!(text(&output.stdout).lines().count(), 2);
}

#[test]
fn what_is_not_there() {
    let folder = pairs();
    for args in [&["bench", "none"][..], &["bench", ".", "--pairs", "three"], &["bench", ".", "--pairs", "half"]] {
        let output = sluice_delta(folder.path(), args);
        assert_eq!(output.status.code(), Some(3), "{args:?}: {}", text(&output.stderr));
    }
    assert_eq!(sluice_delta(folder.path(), &["bench", ".", "--peers", "courgette"]).status.code(), Some(2));
}
