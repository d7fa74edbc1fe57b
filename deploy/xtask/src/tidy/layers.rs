//! Walls between layers: where SQL, HTTP and object storage may be named, and what the core never touches.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{RustFile, Token, TokenKind};
use super::{Report, Tree};

/// Beginnings of SQL statements. Upper case: that is how SQL is written here, and prose is not. Long enough to leave HTTP
/// methods alone.
const SQL_BEGINNINGS: [&str; 20] = [
    "SELECT ",
    "INSERT INTO ",
    "INSERT OR ",
    "UPDATE ",
    "DELETE FROM ",
    "WITH ",
    "CREATE TABLE ",
    "CREATE INDEX ",
    "CREATE UNIQUE ",
    "CREATE DATABASE ",
    "CREATE SCHEMA ",
    "ALTER ",
    "DROP ",
    "PRAGMA ",
    "BEGIN IMMEDIATE",
    "LISTEN ",
    "NOTIFY ",
    "TRUNCATE ",
    "VACUUM",
    "ON CONFLICT ",
];

fn in_store(path: &str) -> bool {
    // Tests of the store look at rows that no method returns.
    ["server/src/store/", "server/tests/it/store/"].iter().any(|dir| path.starts_with(dir))
        || ["server/src/store.rs", "server/tests/it/store.rs"].contains(&path)
}

/// The checks themselves quote what they look for.
fn is_check(path: &str) -> bool {
    path.starts_with("deploy/xtask/")
}

/// Uses of a crate's name as a path: `name::…`, `use name;`, `extern crate name`.
fn crate_uses<'a>(file: &'a RustFile, names: &'a [&str]) -> impl Iterator<Item = &'a Token> {
    file.tokens.windows(2).filter_map(move |pair| {
        let [word, next] = pair else { return None };
        let names_it = word.kind == TokenKind::Word && names.contains(&word.text.as_str());
        (names_it && [":", ";", "as"].contains(&next.text.as_str())).then_some(word)
    })
}

/// SQL text and SQL libraries stand only in the store.
pub fn sql_in_store(tree: &Tree) -> Report {
    let mut report = Report::default();
    for file in tree.rust().iter().filter(|file| !is_check(&file.path)) {
        report.scanned += 1;
        if in_store(&file.path) {
            continue;
        }
        for text in file.texts() {
            let trimmed =
                text.text.trim_start_matches(|letter: char| letter.is_whitespace() || "\\n(".contains(letter));
            if SQL_BEGINNINGS.iter().any(|beginning| trimmed.starts_with(beginning)) {
                report.find(&file.path, text.line, "SQL text outside server/src/store");
            }
        }
        // The vocabulary derives row mapping behind a feature: one noun, one struct.
        let names: &[&str] = if file.path.starts_with("server/catalog/src/") {
            &["sea_query", "sea_query_sqlx"]
        } else {
            &["sqlx", "sea_query", "sea_query_sqlx"]
        };
        for word in crate_uses(file, names) {
            report.find(&file.path, word.line, format!("{} outside server/src/store", word.text));
        }
    }
    report
}

/// HTTP types stand only in the surfaces and where the server is put together.
pub fn http_in_surfaces(tree: &Tree) -> Report {
    let mut report = Report::default();
    let allowed = |path: &str| {
        path.starts_with("server/src/http/")
            || path.starts_with("server/tests/")
            || ["server/src/http.rs", "server/src/main.rs", "server/src/serve.rs"].contains(&path)
    };
    for file in tree.rust() {
        report.scanned += 1;
        if allowed(&file.path) {
            continue;
        }
        for word in crate_uses(file, &["actix_web", "actix_http", "utoipa_actix_web"]) {
            report.find(&file.path, word.line, format!("{} outside server/src/http", word.text));
        }
    }
    report
}

/// The object store is named by one file.
pub fn object_store_in_blobs(tree: &Tree) -> Report {
    let mut report = Report::default();
    for file in tree.rust() {
        report.scanned += 1;
        if file.path == "server/src/blobs.rs" || file.path.starts_with("server/src/blobs/") {
            continue;
        }
        for word in crate_uses(file, &["object_store"]) {
            report.find(&file.path, word.line, "object_store outside server/src/blobs.rs");
        }
    }
    report
}

/// A surface calls use cases; it never names the store.
pub fn surfaces_never_touch_store(tree: &Tree) -> Report {
    let mut report = Report::default();
    let surfaces = tree.rust().iter().filter(|file| file.path.starts_with("server/src/http"));
    for file in surfaces {
        report.scanned += 1;
        let mut in_use = false;
        for (at, token) in file.tokens.iter().enumerate() {
            if token.kind == TokenKind::Text {
                continue;
            }
            match token.text.as_str() {
                "use" => in_use = true,
                ";" => in_use = false,
                "store" => {
                    let near = |from: usize| {
                        let pair = file.tokens.get(from..from + 2);
                        pair.is_some_and(|pair| pair.iter().all(|mark| mark.text == ":"))
                    };
                    if in_use || near(at + 1) || at >= 2 && near(at - 2) {
                        report.find(&file.path, token.line, "a surface names the store; call app or poll instead");
                    }
                }
                _ => {}
            }
        }
    }
    report
}

/// Hidden inputs, as sequences of words.
const CLOCKS: [&[&str]; 6] = [
    &["SystemTime"],
    &["Instant"],
    &["Timestamp", "::", "now"],
    &["Zoned", "::", "now"],
    &["Uuid", "::", "now_v7"],
    &["thread", "::", "sleep"],
];
const RANDOMNESS: [&[&str]; 8] = [
    &["rand", "::", "rng"],
    &["rand", "::", "random"],
    &["thread_rng"],
    &["OsRng"],
    &["SysRng"],
    &["getrandom"],
    &["Uuid", "::", "new_v4"],
    &["RandomState"],
];
const NETWORK: [&[&str]; 7] =
    [&["std", "::", "net"], &["TcpStream"], &["UdpSocket"], &["reqwest"], &["ureq"], &["hyper"], &["tokio"]];
const FILES: [&[&str]; 7] = [
    &["std", "::", "fs"],
    &["fs", "::"],
    &["File", "::"],
    &["OpenOptions"],
    &["std", "::", "env"],
    &["std", "::", "process"],
    &["PathBuf"],
];

/// `delta`, `signer` and `catalog` take the clock, randomness and bytes as parameters.
pub fn core_is_pure(tree: &Tree) -> Report {
    let mut report = Report::default();
    for file in tree.rust() {
        let in_core = |core: &str| file.path.strip_prefix(core).is_some_and(|rest| rest.starts_with("/src/"));
        let reads_files = in_core("delta");
        if !(reads_files || in_core("signer") || in_core("server/catalog")) {
            continue;
        }
        report.scanned += 1;
        let files: &[&[&str]] = if reads_files { &[] } else { &FILES };
        for (kind, sequences) in
            [("a clock", &CLOCKS[..]), ("randomness", &RANDOMNESS), ("the network", &NETWORK), ("files", files)]
        {
            for sequence in sequences {
                for token in file.sequences(sequence).filter(|token| !token.test) {
                    let message = format!("{} is {kind}: the core takes it as a parameter", sequence.concat());
                    report.find(&file.path, token.line, message);
                }
            }
        }
    }
    report
}

/// Only the `uptane` command reads documents of the old spelling: a device must have no way to them.
pub fn old_spelling_in_uptane(tree: &Tree) -> Report {
    let mut report = Report::default();
    let allowed = |path: &str| {
        path.starts_with("signer/src/") || ["signer/cli/src/uptane.rs", "signer/tests/it/legacy.rs"].contains(&path)
    };
    for file in tree.rust().iter().filter(|file| !is_check(&file.path)) {
        report.scanned += 1;
        if allowed(&file.path) || !file.tokens.iter().any(|token| token.text == "sluice_signer") {
            continue;
        }
        for token in file.tokens.iter().filter(|token| token.kind == TokenKind::Word && token.text == "legacy") {
            report.find(&file.path, token.line, "sluice_signer::legacy outside signer/cli/src/uptane.rs");
        }
    }
    report
}

/// Every migration exists for both engines under the same name.
pub fn migrations_are_paired(tree: &Tree) -> Report {
    let mut report = Report::default();
    let mut engines: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (path, text) in tree.files() {
        let Some(rest) = path.strip_prefix("server/migrations/") else { continue };
        report.scanned += 1;
        match rest.split_once('/') {
            Some((engine @ ("sqlite" | "postgres"), name)) => {
                engines.entry(engine).or_default().insert(name);
                if text.trim().is_empty() {
                    report.find(path, 0, "an empty migration");
                }
            }
            _ => report.find(path, 0, "a migration belongs to sqlite/ or postgres/"),
        }
    }
    for (engine, other) in [("sqlite", "postgres"), ("postgres", "sqlite")] {
        let empty = BTreeSet::new();
        let theirs = engines.get(other).unwrap_or(&empty);
        for name in engines.get(engine).unwrap_or(&empty).difference(theirs) {
            report.find(&format!("server/migrations/{engine}/{name}"), 0, format!("has no pair for {other}"));
        }
    }
    report
}
