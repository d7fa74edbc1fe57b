//! Formats of other programs, against those programs: what they write is applied, and they apply what we write.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use crate::{json, sluice_delta, text};

/// Runs a program of Debian in `folder`; it must be there and succeed.
fn program(folder: &Path, name: &str, args: &[&str]) -> Output {
    let output = Command::new(name)
        .current_dir(folder)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{name} cannot be run ({error}); install it: apt-get install bsdiff zstd"));
    assert!(output.status.success(), "{name} {args:?}: {}", text(&output.stderr));
    output
}

/// Bytes like code: words of a small alphabet with calls between, which move when something is inserted.
fn code(words: u32, release: u32) -> Vec<u8> {
    let mut state = 1u64;
    let mut code = Vec::new();
    for at in 0..words {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = u32::try_from(state >> 40).unwrap();
        if release > 0 && at % 997 == 0 {
            code.extend((0..9).map(|n| random.wrapping_mul(n + release)));
        }
        code.push(match random % 5 {
            0 => 0x9400_0000 | (random % 512 + release * (at / 997)),
            1 => 0xf940_0000 | (random & 0x3f) << 10,
            _ => 0xaa00_03e0 | (random & 0xf) << 16,
        });
    }
    code.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// A folder with `old` and `new`, for each shape of a pair.
fn pairs() -> Vec<tempfile::TempDir> {
    let (first, second) = (code(60_000, 0), code(60_000, 1));
    let turned = [&first[100_000..], &first[..100_000]].concat();
    [
        (&first[..], &second[..]),
        (&first, &turned),
        (&first, &first[..1_000]),
        (&first[..1_000], &second),
        (&first, b""),
        (b"", &second),
        (b"", b""),
    ]
    .into_iter()
    .map(|(old, new)| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("old"), old).unwrap();
        fs::write(folder.path().join("new"), new).unwrap();
        folder
    })
    .collect()
}

/// The pairs that Debian's own writers take: bsdiff and zstd fail on empty images.
fn pairs_for_others() -> Vec<tempfile::TempDir> {
    let len = |folder: &tempfile::TempDir, name: &str| fs::metadata(folder.path().join(name)).unwrap().len();
    pairs().into_iter().filter(|folder| len(folder, "old") > 0 && len(folder, "new") > 0).collect()
}

fn same(folder: &Path, made: &str) {
    let [made, new] = [made, "new"].map(|name| fs::read(folder.join(name)).unwrap());
    assert!(made == new, "another image of {} instead of {} bytes", made.len(), new.len());
}

#[test]
fn bspatch_applies_what_we_write() {
    for folder in pairs() {
        let folder = folder.path();
        let made = json(&sluice_delta(folder, &["diff", "old", "new", "patch", "--format", "bsdiff40", "--json"]));
        assert_eq!(made["format"], "bsdiff40");
        assert_eq!(made["bytes"], fs::metadata(folder.join("patch")).unwrap().len());
        program(folder, "bspatch", &["old", "made", "patch"]);
        same(folder, "made");
    }
}

#[test]
fn we_apply_what_bsdiff_writes() {
    for folder in pairs_for_others() {
        let folder = folder.path();
        program(folder, "bsdiff", &["old", "new", "patch"]);
        let applied = json(&sluice_delta(folder, &["apply", "old", "patch", "made", "--json"]));
        assert_eq!((&applied["format"], &applied["sha256_expected"]), (&"bsdiff40".into(), &false.into()));
        same(folder, "made");
    }
}

#[test]
fn zstd_applies_what_we_write() {
    for folder in pairs() {
        let folder = folder.path();
        json(&sluice_delta(folder, &["diff", "old", "new", "patch", "--format", "zstd", "--json"]));
        if fs::metadata(folder.join("old")).unwrap().len() == 0 {
            // zstd takes no empty file to patch from, and needs none.
            program(folder, "zstd", &["-q", "-d", "patch", "-o", "made"]);
        } else {
            program(folder, "zstd", &["-q", "-d", "--patch-from=old", "--long=31", "patch", "-o", "made"]);
        }
        same(folder, "made");
    }
}

#[test]
fn we_apply_what_zstd_writes() {
    for folder in pairs_for_others() {
        let folder = folder.path();
        for level in ["-3", "-19"] {
            program(folder, "zstd", &["-q", "-f", level, "--patch-from=old", "new", "-o", "patch"]);
            json(&sluice_delta(folder, &["apply", "old", "patch", "made", "--json"]));
            same(folder, "made");
        }
    }
}

#[test]
fn zstd_checks_our_checksum() {
    let folder = &pairs()[0];
    let folder = folder.path();
    json(&sluice_delta(folder, &["diff", "old", "new", "patch", "--format", "zstd", "--json"]));
    let listed = program(folder, "zstd", &["-l", "-v", "patch"]);
    assert!(text(&listed.stdout).contains("XXH64"), "{}", text(&listed.stdout));
}

#[test]
fn the_image_that_is_expected() {
    let folder = &pairs()[0];
    let folder = folder.path();
    let path = |name: &str| folder.join(name);
    for format in ["sluice", "bsdiff40", "zstd"] {
        let made = json(&sluice_delta(folder, &["diff", "old", "new", "patch", "--format", format, "--json"]));
        let digest = made["new_sha256"].as_str().unwrap().to_owned();
        let apply = |digest: &str| sluice_delta(folder, &["apply", "old", "patch", "made", "--new-sha256", digest]);
        assert!(apply(&digest).status.success());
        fs::remove_file(path("made")).unwrap();
        let refused = apply(&"00".repeat(32));
        assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stderr));
        assert!(!path("made").exists() && !path("made.partial").exists());
        assert_eq!(apply("00").status.code(), Some(2));
    }
}

#[test]
fn the_wrong_old_image() {
    let folder = &pairs()[0];
    let folder = folder.path();
    fs::write(folder.join("other"), code(60_000, 2)).unwrap();
    json(&sluice_delta(folder, &["diff", "old", "new", "patch", "--format", "zstd", "--json"]));
    let refused = sluice_delta(folder, &["apply", "other", "patch", "made"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("checksum"), "{}", text(&refused.stderr));
}

#[test]
fn a_format_can_be_forced() {
    let folder = &pairs()[0];
    let folder = folder.path();
    json(&sluice_delta(folder, &["diff", "old", "new", "patch", "--format", "zstd", "--json"]));
    assert!(sluice_delta(folder, &["apply", "old", "patch", "made", "--format", "zstd"]).status.success());
    let refused = sluice_delta(folder, &["apply", "old", "patch", "made", "--format", "bsdiff40"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(sluice_delta(folder, &["diff", "old", "new", "patch", "--format", "vcdiff"]).status.code(), Some(2));
    let resumed = sluice_delta(folder, &["apply", "old", "patch", "made", "--resume"]);
    assert_eq!(resumed.status.code(), Some(2));
    assert!(text(&resumed.stderr).contains("--resume"), "{}", text(&resumed.stderr));
}

#[test]
fn info_describes_them() {
    let folder = &pairs()[0];
    let folder = folder.path();
    for format in ["bsdiff40", "zstd"] {
        json(&sluice_delta(folder, &["diff", "old", "new", "patch", "--format", format, "--json"]));
        let info = json(&sluice_delta(folder, &["info", "patch", "--json"]));
        assert_eq!(info["format"], format);
        assert_eq!(info["new_len"], fs::metadata(folder.join("new")).unwrap().len());
        assert_eq!(info["bytes"], fs::metadata(folder.join("patch")).unwrap().len());
        let told = text(&sluice_delta(folder, &["info", "patch"]).stdout);
        assert!(told.contains("it states no sha256"), "{told}");
    }
}
