//! `sluice-delta bench`: patches of this engine and of other programs on the same pairs, made, applied and compared.
//!
//! Everything runs in child processes, this engine too, so that times and memory mean the same for all.

mod child;
mod pinned;
mod programs;
mod row;

use std::{
    fs::{self, File},
    io::{BufReader, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use sluice_delta::{Profile, foreign::Format};

use self::{
    child::{Outcome, Took},
    pinned::best_peer,
    programs::{Files, Peer, Program},
    row::{Figures, Row},
};
use crate::{
    args::{BenchArgs, PeerName},
    failure::Failure,
};

/// A pair of images.
struct Pair {
    name: String,
    old: PathBuf,
    new: PathBuf,
    old_len: u64,
    new_len: u64,
}

pub fn run(args: &BenchArgs, json: bool) -> Result<()> {
    let pairs = pairs(args)?;
    let peers = peers(args);
    let mut csv = match &args.csv {
        Some(path) => Some(File::create(path).with_context(|| format!("cannot write {}", path.display()))?),
        None => None,
    };
    if let Some(csv) = &mut csv {
        writeln!(csv, "{}", Row::CSV_HEADER)?;
    }
    // Lines for people go beside the one JSON document.
    let say = |line: &str| if json { eprintln!("{line}") } else { println!("{line}") };
    say(&Row::header());
    let mut rows: Vec<Row> = Vec::new();
    for pair in &pairs {
        let folder = tempfile::tempdir()?;
        let pinned = best_peer(&pair.name).map(|peer| peer.bytes);
        let mut of_peers = Vec::new();
        for peer in &peers {
            let mut row = measure(pair, &Program::Peer(peer.clone()), folder.path(), args)?;
            row.compare(None, pinned);
            say(&row.line());
            of_peers.push(row);
        }
        // Only now it is known which peer is the best.
        let best = of_peers.iter().filter(|row| row.is_ok()).filter_map(|row| row.patch_bytes).min();
        let mut keep = |mut row: Row, said: bool| -> Result<()> {
            row.compare(best, pinned);
            if !said {
                say(&row.line());
            }
            if let Some(csv) = &mut csv {
                writeln!(csv, "{}", row.csv())?;
            }
            rows.push(row);
            Ok(())
        };
        for row in of_peers {
            keep(row, true)?;
        }
        for program in ours(args)? {
            keep(measure(pair, &program, folder.path(), args)?, false)?;
        }
    }
    if json {
        let mut out = std::io::stdout().lock();
        serde_json::to_writer_pretty(&mut out, &rows)?;
        writeln!(out)?;
    }
    match rows.iter().filter(|row| row.ours && !row.is_ok()).count() {
        0 => Ok(()),
        wrong => Err(Failure::Bench(wrong).into()),
    }
}

/// The pairs of the folder, by name.
fn pairs(args: &BenchArgs) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for entry in fs::read_dir(&args.dir).with_context(|| format!("cannot read {}", args.dir.display()))? {
        let old = entry?.path();
        let Some(name) = old.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".old"))
        else {
            continue;
        };
        let (name, new) = (name.to_owned(), old.with_extension("new"));
        if new.is_file() && (args.pairs.is_empty() || args.pairs.contains(&name)) {
            let len = |path: &Path| fs::metadata(path).map(|metadata| metadata.len());
            pairs.push(Pair { name, old_len: len(&old)?, new_len: len(&new)?, old, new });
        }
    }
    pairs.sort_by(|a, b| a.name.cmp(&b.name));
    for name in &args.pairs {
        if !pairs.iter().any(|pair| pair.name == *name) {
            bail!("{} has no {name}.old and {name}.new", args.dir.display());
        }
    }
    if pairs.is_empty() {
        bail!("{} has no NAME.old and NAME.new", args.dir.display());
    }
    Ok(pairs)
}

/// The peers that are there; the others are named with what installs them.
fn peers(args: &BenchArgs) -> Vec<Peer> {
    let wanted = |peer: &Peer| args.peers.is_empty() || args.peers.contains(&peer.choice());
    let none = args.peers.contains(&PeerName::None);
    let (there, missing): (Vec<_>, Vec<_>) =
        Peer::all(&args.python).into_iter().filter(|peer| !none && wanted(peer)).partition(Peer::is_there);
    for peer in missing {
        eprintln!("{} is not installed and left out; install it: {}", peer.name(), peer.install());
    }
    there
}

fn ours(args: &BenchArgs) -> Result<Vec<Program>> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let profiles: &[Profile] = if args.profile.is_empty() { &Profile::ALL } else { &args.profile };
    let mut ours: Vec<(Format, Profile)> = profiles.iter().map(|profile| (Format::Sluice, *profile)).collect();
    if args.formats {
        ours.extend([Format::Bsdiff40, Format::Zstd].map(|format| (format, Profile::default())));
    }
    Ok(ours
        .into_iter()
        .map(|(format, profile)| Program::Ours {
            program: program.clone(),
            format,
            profile,
            threads: args.threads,
            recoders: args.recoder.clone(),
        })
        .collect())
}

fn measure(pair: &Pair, program: &Program, folder: &Path, args: &BenchArgs) -> Result<Row> {
    let (patch, made) = (folder.join("patch"), folder.join("made"));
    let files = Files { old: &pair.old, new: &pair.new, patch: &patch, made: &made, old_len: pair.old_len };
    let mut row = Row::new(&pair.name, program, pair.old_len, pair.new_len);
    let Some(took) = best(args.repeat, &patch, &mut row, || child::run(program.diff(&files)))? else { return Ok(row) };
    row.generate = Some(Figures::from(took));
    row.patch_bytes = Some(fs::metadata(&patch).context("the patch is not there")?.len());
    let Some(took) = best(args.repeat, &made, &mut row, || child::run(program.apply(&files)))? else { return Ok(row) };
    row.apply = Some(Figures::from(took));
    if !same(&made, &pair.new)? {
        "wrong output".clone_into(&mut row.status);
    }
    fs::remove_file(&made)?;
    Ok(row)
}

/// The best of each figure of several runs; none when one of them failed, which the row then says.
fn best(
    repeat: u32,
    makes: &Path,
    row: &mut Row,
    mut work: impl FnMut() -> Result<(Took, Outcome)>,
) -> Result<Option<Took>> {
    let mut best: Option<Took> = None;
    for _ in 0..repeat {
        if makes.exists() {
            fs::remove_file(makes)?;
        }
        let (took, outcome) = work()?;
        if outcome != Outcome::Done {
            row.status = outcome.to_string();
            return Ok(None);
        }
        best = Some(best.map_or(took, |best| best.best(took)));
    }
    Ok(best)
}

/// Compares two files without holding them: the memory of this process would be counted to its children.
fn same(one: &Path, other: &Path) -> Result<bool> {
    let open = |path: &Path| File::open(path).with_context(|| format!("cannot open {}", path.display()));
    let (mut one, mut other) = (BufReader::new(open(one)?), BufReader::new(open(other)?));
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let len = one.read(&mut left)?;
        if len == 0 {
            return Ok(other.read(&mut right[..1])? == 0);
        }
        match other.read_exact(&mut right[..len]) {
            Ok(()) if left[..len] == right[..len] => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_compared_to_their_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let long = vec![7; 200_000];
        let (a, b) = (file("a", &long), file("b", &long));
        let (shorter, empty) = (file("shorter", &long[1..]), file("empty", b""));
        assert!(same(&a, &b).unwrap() && same(&empty, &empty).unwrap());
        for (one, other) in [(&a, &shorter), (&shorter, &a), (&a, &empty), (&empty, &a)] {
            assert!(!same(one, other).unwrap());
        }
    }
}
