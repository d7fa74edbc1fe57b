//! `sluice-delta diff`.

use std::{
    fs,
    io::Write,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::Serialize;
use sluice_delta::{
    ApplyBudget, DiffOptions, Patch, Phase, Progress,
    content::Helpers,
    foreign::{Format, write_bsdiff40, write_zstd},
};

use crate::{apply::folder, args::DiffArgs, failure::Failure, foreign, print, progress_bar};

#[derive(Serialize)]
struct Made {
    patch: String,
    bytes: u64,
    head_len: u32,
    head_sha256: String,
    old_len: u64,
    old_sha256: String,
    new_len: u64,
    new_sha256: String,
    segments: usize,
    ram: u64,
    ram_per_thread: u64,
    scratch: u64,
}

pub fn run(args: &DiffArgs, json: bool) -> Result<()> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let (old, new) = (read(&args.old)?, read(&args.new)?);
    let options = DiffOptions {
        profile: args.profile,
        segment_len: args.segment_len,
        budget: ApplyBudget { ram: u64::from(args.ram), scratch: args.scratch },
        inside: !args.raw,
        memory: args.memory,
        helpers: recoders(&args.recoder)?,
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.threads.map_or(0, usize::from)).build()?;
    let bar = progress_bar(new.len() as u64);
    let progress = |progress: Progress| {
        bar.set_message(match progress.phase {
            Phase::Contents => "looking inside",
            Phase::Blocks => "comparing blocks",
            Phase::Index => "indexing",
            Phase::Segments => "comparing",
            Phase::Code => "coding",
            Phase::Compress => "compressing",
        });
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        ControlFlow::Continue(())
    };
    let write = |bytes: &[u8]| {
        bar.finish_and_clear();
        write_whole(&args.patch, bytes).with_context(|| format!("cannot write {}", args.patch.display()))
    };
    let foreign = match args.format {
        Format::Sluice => {
            let patch = pool.install(|| sluice_delta::diff(&old, &new, &options, &progress)).map_err(Failure::Diff)?;
            write(&patch.bytes)?;
            return report(args, &patch, json);
        }
        Format::Bsdiff40 => pool.install(|| write_bsdiff40(&old, &new, &progress)),
        Format::Zstd => write_zstd(&old, &new, &progress),
    };
    let bytes = foreign.map_err(Failure::Diff)?;
    write(&bytes)?;
    foreign::report_made(args, &bytes, &old, &new, json)
}

/// Starts helper programs.
pub fn recoders(programs: &[PathBuf]) -> Result<Helpers> {
    let programs: Vec<&Path> = programs.iter().map(PathBuf::as_path).collect();
    Helpers::start(&programs).context("a re-encoder does not start, or does not answer as one")
}

/// Writes a file that is either complete or not there.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = tempfile::Builder::new().permissions(ordinary_permissions()).tempfile_in(folder(path))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Read and write for all, less the caller's mask: a patch is no secret.
fn ordinary_permissions() -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    fs::Permissions::from_mode(0o666)
}

fn report(args: &DiffArgs, patch: &Patch, json: bool) -> Result<()> {
    let head = &patch.head;
    let made = Made {
        patch: args.patch.display().to_string(),
        bytes: patch.bytes.len() as u64,
        head_len: patch.head_len,
        head_sha256: hex::encode(patch.head_sha256()),
        old_len: head.old_len,
        old_sha256: hex::encode(head.old_sha256),
        new_len: head.new_len,
        new_sha256: hex::encode(head.new_sha256),
        segments: head.segments.len(),
        ram: head.ram,
        ram_per_thread: head.ram_per_thread,
        scratch: head.scratch,
    };
    let percent = (made.bytes * 1_000).checked_div(made.new_len).unwrap_or(0);
    let text = format!(
        "{}: {} bytes for an image of {} bytes ({}.{} %), {} segments, {} KiB to apply\nhead: {} bytes, sha256 {}",
        made.patch,
        made.bytes,
        made.new_len,
        percent / 10,
        percent % 10,
        made.segments,
        made.ram >> 10,
        made.head_len,
        made.head_sha256,
    );
    print(json, &made, &text)
}
