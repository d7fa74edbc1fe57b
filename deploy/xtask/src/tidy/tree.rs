//! The text files of a repository, in memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::RustFile;

/// Endings of the files that rules look at.
const ENDINGS: [&str; 4] = ["rs", "md", "sql", "toml"];

/// Folders that hold nothing of ours, by the end of their path: build results, version control, what fuzzing collected.
const SKIPPED: [&str; 3] = ["target", ".git", "fuzz/corpus"];

/// Deepest folder that is read; sources are nested far less, and a loop of links must end.
const DEPTH_MAX: usize = 16;

/// Paths from the root, with `/`, and the text of each file.
#[derive(Debug, Default)]
pub struct Tree {
    files: BTreeMap<String, String>,
    rust: Vec<RustFile>,
}

impl Tree {
    /// Reads the repository at `root`.
    pub fn read(root: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        read_dir(root, "", 0, &mut files)?;
        Ok(Self::build(files))
    }

    /// A tree of the given files, for tests.
    pub fn of(files: &[(&str, &str)]) -> Self {
        Self::build(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
    }

    fn build(files: BTreeMap<String, String>) -> Self {
        let is_rust = |path: &str| Path::new(path).extension().is_some_and(|ending| ending == "rs");
        let rust =
            files.iter().filter(|(path, _)| is_rust(path)).map(|(path, text)| RustFile::parse(path, text)).collect();
        Self { files, rust }
    }

    /// All files, in order of their paths.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// All Rust sources, read as tokens.
    pub fn rust(&self) -> &[RustFile] {
        &self.rust
    }

    /// Text of one file.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// True when a file has this path or lies in a folder of this path.
    pub fn has(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        self.files.contains_key(path) || self.files.keys().any(|file| file.starts_with(&folder))
    }
}

fn read_dir(dir: &Path, prefix: &str, depth: usize, files: &mut BTreeMap<String, String>) -> Result<()> {
    if depth > DEPTH_MAX {
        return Ok(());
    }
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        let kind = entry.file_type()?;
        if kind.is_dir() {
            let is_skipped = |end: &&str| path == **end || path.ends_with(&format!("/{end}"));
            if !SKIPPED.iter().any(is_skipped) {
                read_dir(&entry.path(), &path, depth + 1, files)?;
            }
        } else if kind.is_file() {
            let wanted = Path::new(&name).extension().and_then(|ending| ending.to_str());
            let text = if wanted.is_some_and(|ending| ENDINGS.contains(&ending)) {
                fs::read_to_string(entry.path()).with_context(|| path.clone())?
            } else {
                // Only that it exists: documents may link to it.
                String::new()
            };
            files.insert(path, text);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_and_what_is_not_ours_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let kept = ["a/src/corpus/mod.rs", "README.md", "a/logo.bin"];
        for path in ["target/x.rs", "a/target/y.rs", ".git/config", "a/fuzz/corpus/seed.rs"].iter().chain(&kept) {
            fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
            fs::write(dir.path().join(path), "mod a;").unwrap();
        }
        let tree = Tree::read(dir.path()).unwrap();
        let paths: Vec<_> = tree.files().map(|(path, _)| path).collect();
        assert_eq!(paths, ["README.md", "a/logo.bin", "a/src/corpus/mod.rs"]);
        assert_eq!((tree.text("a/logo.bin"), tree.rust().len()), (Some(""), 1));
        assert!(tree.has("a/src") && tree.has("a/src/") && tree.has("README.md") && !tree.has("a/s"));
    }
}
