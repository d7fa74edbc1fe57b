//! Documents in step with the code: what the code names is documented, and what documents name exists.

use std::collections::{BTreeMap, BTreeSet};

use super::source::TokenKind;
use super::{Report, Tree};

/// Documents for users: the folder, the front page, the map, and the page beside each package.
fn is_document(path: &str) -> bool {
    let markdown = path.rsplit_once('.').is_some_and(|(_, ending)| ending == "md");
    markdown && (path.starts_with("docs/") || path == "ARCHITECTURE.md" || path.ends_with("README.md"))
}

/// True when some document contains `name` as a whole word.
fn documented(tree: &Tree, name: &str) -> bool {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    tree.files().filter(|(path, _)| is_document(path)).any(|(_, text)| {
        text.match_indices(name).any(|(at, _)| {
            let before = text.get(..at).and_then(|text| text.chars().next_back());
            let after = text.get(at + name.len()..).and_then(|text| text.chars().next());
            !before.is_some_and(is_part) && !after.is_some_and(is_part)
        })
    })
}

fn missing(tree: &Tree, names: &BTreeMap<String, (String, usize)>, what: &str) -> Report {
    let mut report = Report { scanned: names.len(), ..Report::default() };
    for (name, (path, line)) in names {
        if !documented(tree, name) {
            report.find(path, *line, format!("{what} {name} is in no document under docs/"));
        }
    }
    report
}

fn is_name(text: &str, also: char) -> bool {
    !text.is_empty()
        && text.chars().all(|letter| letter == '_' || letter.is_ascii_digit() || also_or_case(letter, also))
}

/// `also` is a sample letter: upper or lower case.
fn also_or_case(letter: char, also: char) -> bool {
    if also.is_ascii_uppercase() { letter.is_ascii_uppercase() } else { letter.is_ascii_lowercase() }
}

/// Environment variables.
pub fn variables_are_documented(tree: &Tree) -> Report {
    let mut names = BTreeMap::new();
    for file in tree.rust().iter().filter(|file| !file.path.starts_with("deploy/xtask/tests/")) {
        for text in file.texts() {
            let found = text.text.match_indices("SLUICE_").map(|(at, _)| {
                let rest = text.text.get(at..).unwrap_or_default();
                rest.split(|letter: char| letter != '_' && !letter.is_ascii_uppercase() && !letter.is_ascii_digit())
                    .next()
                    .unwrap_or_default()
            });
            for name in found.filter(|name| name.len() > "SLUICE_".len()) {
                names.entry(name.to_owned()).or_insert((file.path.clone(), text.line));
            }
        }
    }
    missing(tree, &names, "the variable")
}

/// Metrics: the names given to a registry. Its prefix is not part of the literal, and counters are exposed with `_total`:
/// the bare name counts, and the name as a scraper sees it.
pub fn metrics_are_documented(tree: &Tree) -> Report {
    let mut report = Report::default();
    for file in tree.rust().iter().filter(|file| file.path.starts_with("server/src/")) {
        for window in file.tokens.windows(3).filter(|window| window.iter().all(|token| !token.test)) {
            let [call, open, name] = window else { continue };
            let registers = ["register", "register_with_unit"].contains(&call.text.as_str()) && open.text == "(";
            if registers && name.kind == TokenKind::Text && is_name(&name.text, 'a') {
                report.scanned += 1;
                let spellings =
                    [name.text.clone(), format!("sluice_{}", name.text), format!("sluice_{}_total", name.text)];
                if !spellings.iter().any(|spelling| documented(tree, spelling)) {
                    let message = format!("the metric {} is in no document under docs/", name.text);
                    report.find(&file.path, name.line, message);
                }
            }
        }
    }
    report
}

/// Reason codes: the upper-case strings of the vocabulary's list.
pub fn reasons_are_documented(tree: &Tree) -> Report {
    let mut names = BTreeMap::new();
    for file in tree.rust().iter().filter(|file| file.path == "server/catalog/src/reason.rs") {
        for text in file.texts().filter(|text| !text.test && text.text.len() > 2 && is_name(&text.text, 'A')) {
            names.entry(text.text.clone()).or_insert((file.path.clone(), text.line));
        }
    }
    missing(tree, &names, "the reason")
}

/// Problem kinds: the variants of `enum Kind`, as they stand in JSON. Many are plain English words, so only a mention in
/// code type counts.
pub fn kinds_are_documented(tree: &Tree) -> Report {
    let mut report = Report::default();
    for file in tree.rust().iter().filter(|file| file.path == "server/catalog/src/problem.rs") {
        let start = file.tokens.windows(3).position(|window| {
            let words: Vec<_> = window.iter().map(|token| token.text.as_str()).collect();
            words == ["enum", "Kind", "{"]
        });
        let body = start.and_then(|start| file.tokens.get(start + 2..)).unwrap_or_default();
        let end = body.iter().position(|token| token.text == "}").unwrap_or(body.len());
        // A variant follows the opening brace, a comma, or the end of an attribute.
        let variants = body.get(..end).unwrap_or_default().windows(2).filter_map(|pair| match pair {
            [before, name] if name.kind == TokenKind::Word => {
                ["{", ",", "]"].contains(&before.text.as_str()).then_some(name)
            }
            _ => None,
        });
        for variant in variants {
            report.scanned += 1;
            let name = snake_case(&variant.text);
            let mention = format!("`{name}`");
            if !tree.files().any(|(path, text)| is_document(path) && text.contains(&mention)) {
                let message = format!("the problem kind {mention} is in no document under docs/");
                report.find(&file.path, variant.line, message);
            }
        }
    }
    report
}

/// The page of attacks: every test that it names exists, and every test that is called an attack is named by it.
pub fn attacks_are_tested(tree: &Tree) -> Report {
    const PAGE: &str = "docs/attacks.md";
    let mut report = Report::default();
    let Some((_, page)) = tree.files().find(|(path, _)| *path == PAGE) else {
        report.find(PAGE, 0, "is missing");
        return report;
    };
    let mut functions: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
    for file in tree.rust().iter().filter(|file| !file.path.starts_with("deploy/xtask/")) {
        for pair in file.tokens.windows(2) {
            if let [keyword, name] = pair
                && keyword.text == "fn"
                && (file.path.contains("/tests/") || keyword.test)
            {
                functions.insert(&name.text, (&file.path, name.line));
            }
        }
    }
    let mut named = BTreeSet::new();
    for (number, line) in page.lines().enumerate().filter(|(_, line)| line.starts_with('|')) {
        let tests = line.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap_or_default();
        for name in tests.split('`').skip(1).step_by(2) {
            report.scanned += 1;
            named.insert(name);
            if !functions.contains_key(name) {
                report.find(PAGE, number + 1, format!("there is no test {name}"));
            }
        }
    }
    for (name, (path, line)) in functions {
        if name.contains("_attack_") && !named.contains(name) {
            report.find(path, line, format!("the test {name} is not in {PAGE}"));
        }
    }
    report
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// Relative links of documents, and paths in code type in the map and on the front page, lead to something.
pub fn links_resolve(tree: &Tree) -> Report {
    let mut report = Report::default();
    for (path, text) in tree.files().filter(|(path, _)| is_document(path)) {
        let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
        let mut fenced = false;
        for (index, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
                continue;
            }
            if fenced {
                continue;
            }
            for target in link_targets(line) {
                report.scanned += 1;
                if !resolve(dir, target).is_some_and(|target| tree.has(&target)) {
                    report.find(path, index + 1, format!("the link {target} leads nowhere"));
                }
            }
            if ["ARCHITECTURE.md", "README.md"].contains(&path) {
                for named in code_paths(tree, line) {
                    report.scanned += 1;
                    if !tree.has(named) {
                        report.find(path, index + 1, format!("there is no {named}"));
                    }
                }
            }
        }
    }
    report
}

/// Targets of `[text](target)` that are files: no other site, no place on the same page.
fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("](").filter_map(|(at, mark)| {
        let target = line.get(at + mark.len()..)?.split(')').next()?;
        let target = target.split('#').next()?.trim();
        (!target.is_empty() && !target.contains("://") && !target.starts_with("mailto:")).then_some(target)
    })
}

/// A target relative to `dir` as a path from the root; none when it leaves the repository.
fn resolve(dir: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = if target.starts_with('/') { Vec::new() } else { dir.split('/').collect() };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().filter(|part| !part.is_empty())?;
            }
            part => parts.push(part),
        }
    }
    parts.retain(|part| !part.is_empty());
    Some(parts.join("/"))
}

/// Words in code type that look like paths of this repository: they begin with one of its top folders.
fn code_paths<'a>(tree: &'a Tree, line: &'a str) -> impl Iterator<Item = &'a str> {
    line.split('`').skip(1).step_by(2).filter(move |word| {
        let top = word.split('/').next().unwrap_or_default();
        let plain = word.chars().all(|letter| letter.is_ascii_alphanumeric() || "/._-".contains(letter));
        plain
            && word.contains('/')
            && !top.is_empty()
            && tree.files().any(|(path, _)| path.starts_with(&format!("{top}/")))
    })
}
