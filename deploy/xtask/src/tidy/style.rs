//! Rules that hold in every file: reasons for exceptions, nothing unfinished, short files, no forgotten module.

use super::source::{RustFile, TokenKind};
use super::{Report, Tree};

/// Longest source in lines. Above this a file holds more than one subject.
const LINES_MAX: usize = 700;

/// `allow` and `expect` say why.
pub fn exceptions_have_reasons(tree: &Tree) -> Report {
    let mut report = Report::default();
    for file in tree.rust() {
        report.scanned += 1;
        for (at, token) in file.tokens.iter().enumerate() {
            let is_word = token.kind == TokenKind::Word && ["allow", "expect"].contains(&token.text.as_str());
            if !is_word || !in_attribute(file, at) {
                continue;
            }
            // Its own parentheses: from the next token to the bracket that closes it.
            let mut depth = 0_usize;
            let mut reasoned = false;
            for inner in file.tokens.iter().skip(at + 1) {
                match (inner.kind, inner.text.as_str()) {
                    (TokenKind::Mark, "(") => depth += 1,
                    (TokenKind::Mark, ")") => depth = depth.saturating_sub(1),
                    (TokenKind::Word, "reason") if depth == 1 => reasoned = true,
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
            if !reasoned {
                report.find(&file.path, token.line, format!("{}(…) without a reason", token.text));
            }
        }
    }
    report
}

/// True when the word at `at` is the name of an attribute, or is inside `cfg_attr`.
fn in_attribute(file: &RustFile, at: usize) -> bool {
    let before =
        |back: usize| at.checked_sub(back).and_then(|index| file.tokens.get(index)).map_or("", |token| &token.text);
    if before(1) == "[" {
        return before(2) == "#" || before(2) == "!" && before(3) == "#";
    }
    // `#[cfg_attr(condition, allow(…))]`: look back to the attribute's beginning.
    let start = file.tokens.get(..at).and_then(|tokens| tokens.iter().rposition(|token| token.text == "["));
    before(1) == ","
        && start.is_some_and(|start| {
            file.tokens.get(start + 1).is_some_and(|token| token.text == "cfg_attr")
                && file.tokens.get(start..at).is_some_and(|tokens| tokens.iter().all(|token| token.text != "]"))
        })
}

/// No placeholder, no skipped test.
pub fn nothing_unfinished(tree: &Tree) -> Report {
    let mut report = Report::default();
    for file in tree.rust() {
        report.scanned += 1;
        for macro_name in ["todo", "unimplemented", "dbg"] {
            for token in file.sequences(&[macro_name, "!"]) {
                report.find(&file.path, token.line, format!("{macro_name}!"));
            }
        }
        for token in file.sequences(&["#", "[", "ignore"]) {
            report.find(&file.path, token.line, "a test that does not run");
        }
    }
    report
}

/// Sources stay short.
pub fn files_are_short(tree: &Tree) -> Report {
    let mut report = Report::default();
    for file in tree.rust() {
        report.scanned += 1;
        let lines = tree.text(&file.path).unwrap_or_default().lines().count();
        if lines > LINES_MAX {
            report.find(&file.path, 0, format!("{lines} lines, more than {LINES_MAX}; divide it by subject"));
        }
    }
    report
}

/// Every source belongs to a crate: a file whose `mod` line was forgotten compiles never and tests nothing.
pub fn modules_are_wired(tree: &Tree) -> Report {
    let mut report = Report::default();
    for file in tree.rust() {
        let Some((package, root, inside)) = place(tree, &file.path) else { continue };
        report.scanned += 1;
        let stem = inside.trim_end_matches(".rs");
        let (parents, module) = match stem.rsplit_once('/') {
            // Directly below the root: roots themselves, or modules that a root declares.
            None => {
                if is_root(root, stem) {
                    continue;
                }
                let roots = ["lib.rs", "main.rs"].map(|name| format!("{package}{root}/{name}"));
                (roots.to_vec(), stem)
            }
            Some((dir, "mod")) => match dir.rsplit_once('/') {
                None => (["lib.rs", "main.rs"].map(|name| format!("{package}{root}/{name}")).to_vec(), dir),
                Some((outer, module)) => (module_files(package, root, outer), module),
            },
            Some((_, "main")) if root != "src" || inside.starts_with("bin/") => continue,
            Some(("bin", _)) if root == "src" => continue,
            Some((dir, module)) => (module_files(package, root, dir), module),
        };
        let declares = |parent: &String| {
            tree.rust().iter().any(|other| other.path == *parent && other.sequences(&["mod", module]).next().is_some())
        };
        if !parents.iter().any(declares) {
            report.find(&file.path, 0, format!("no `mod {module};` in {}", parents.join(" or ")));
        }
    }
    report
}

/// Files that may declare the modules of folder `dir`.
fn module_files(package: &str, root: &str, dir: &str) -> Vec<String> {
    let mut files = vec![format!("{package}{root}/{dir}/mod.rs"), format!("{package}{root}/{dir}.rs")];
    // `tests/it/main.rs` is the root of one test binary.
    if root != "src" && !dir.contains('/') {
        files.push(format!("{package}{root}/{dir}/main.rs"));
    }
    files
}

/// Package folder (ending with `/`), kind of root, and path inside it. None for files outside packages.
fn place<'a>(tree: &Tree, path: &'a str) -> Option<(&'a str, &'a str, &'a str)> {
    // The workspace has no package at its root, so a package's folder always stands before.
    ["src", "tests", "benches", "examples"].into_iter().find_map(|root| {
        let at = path.find(&format!("/{root}/"))? + 1;
        let (package, rest) = path.split_at(at);
        let inside = rest.get(root.len() + 1..)?;
        let root = rest.get(..root.len())?;
        tree.text(&format!("{package}Cargo.toml")).map(|_| (package, root, inside))
    })
}

/// Files that cargo finds by itself.
fn is_root(root: &str, stem: &str) -> bool {
    root != "src" || ["lib", "main", "build"].contains(&stem)
}
