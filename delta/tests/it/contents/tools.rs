//! Real programs that make the inputs.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use tempfile::TempDir;

use crate::images::Seeded;

/// Text-like bytes that compress about as well as configuration files and scripts do.
pub fn text(seed: u64, len: usize) -> Vec<u8> {
    let mut seeded = Seeded::new(seed);
    let words: Vec<Vec<u8>> = (0..700)
        .map(|_| (0..2 + seeded.below(9)).map(|_| b'a' + (seeded.below(26) * seeded.below(26) / 26) as u8).collect())
        .collect();
    let mut bytes = Vec::with_capacity(len + 16);
    while bytes.len() < len {
        let word = (seeded.below(700) * seeded.below(700) / 700) as usize;
        bytes.extend(&words[word]);
        bytes.push(if seeded.below(9) == 0 { b'\n' } else { b' ' });
        if seeded.below(60) == 0 {
            bytes.extend(seeded.next().to_le_bytes());
        }
    }
    bytes.truncate(len);
    bytes
}

/// Bytes that do not compress.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut seeded = Seeded::new(seed);
    (0..len).map(|_| seeded.next() as u8).collect()
}

/// What a program makes of `input`.
pub fn pipe(program: &str, package: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; install it with `apt-get install -y {package}`"));
    let mut stdin = child.stdin.take().expect("there is an input");
    let input = input.to_vec();
    let feeder = thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("the program ends");
    feeder.join().expect("the input is read").expect("the input is read");
    assert!(output.status.success(), "{program} {arguments:?} failed");
    output.stdout
}

/// From a file: how a pipe is cut into reads depends on the moment, and what gzip stores depends on that.
pub fn gzip(level: &str, input: &[u8]) -> Vec<u8> {
    let root = tree(&[("input", input.to_vec())]);
    let name = root.path().join("input.gz");
    made("gzip", "gzip", &["-k", "-n", level, "input"], root.path(), &name)
}

/// A gzip member of another encoder than zlib.
pub fn miniz(input: &[u8]) -> Vec<u8> {
    let real = gzip("-1", input);
    let deflated = miniz_oxide::deflate::compress_to_vec(input, 7);
    [&real[..10], &deflated, &real[real.len() - 8..]].concat()
}

pub fn xz(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    pipe("xz", "xz-utils", &[&["-c"], arguments].concat(), input)
}

pub fn zstd(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    pipe("zstd", "zstd", &[&["-c", "-q"], arguments].concat(), input)
}

/// A directory of files.
pub fn tree(files: &[(&str, Vec<u8>)]) -> TempDir {
    let root = TempDir::new().expect("a temporary directory");
    for (name, bytes) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().expect("the name is inside")).expect("a directory is made");
        fs::write(path, bytes).expect("a file is written");
    }
    root
}

/// Runs a program that makes the file `name` from the directory `root`.
pub fn made(program: &str, package: &str, arguments: &[&str], root: &Path, name: &Path) -> Vec<u8> {
    let status = Command::new(program)
        .args(arguments)
        .current_dir(root)
        .stdout(Stdio::null())
        .status()
        .unwrap_or_else(|error| panic!("{program}: {error}; install it with `apt-get install -y {package}`"));
    assert!(status.success(), "{program} {arguments:?} failed");
    fs::read(name).expect("the program made the file")
}

pub fn zip(arguments: &[&str], files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let (root, out) = (tree(files), TempDir::new().expect("a temporary directory"));
    let name = out.path().join("a.zip");
    let all = [&["-q", "-r"], arguments, &[name.to_str().expect("the name is text"), "."]].concat();
    made("zip", "zip", &all, root.path(), &name)
}

pub fn squashfs(arguments: &[&str], files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let (root, out) = (tree(files), TempDir::new().expect("a temporary directory"));
    let name = out.path().join("a.sqfs");
    let fixed = ["-quiet", "-no-progress", "-all-root", "-mkfs-time", "0", "-all-time", "0", "-processors", "1"];
    let all = [&[".", name.to_str().expect("the name is text")], fixed.as_slice(), arguments].concat();
    made("mksquashfs", "squashfs-tools", &all, root.path(), &name)
}
