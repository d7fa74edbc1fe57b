//! `sluice-delta apply`: the target appears complete and verified, or not at all.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{BufReader, Read, Seek, SeekFrom},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    thread::available_parallelism,
};

use anyhow::{Context, Result};
use serde::Serialize;
use sluice_delta::{Applier, ApplyBudget, ApplyError, Head, Limits, ResumePoint, foreign::Format, read_head};

use crate::{args::ApplyArgs, diff::recoders, failure::Failure, foreign, print, progress_bar};

#[derive(Serialize)]
struct Made {
    new: String,
    bytes: u64,
    sha256: String,
    segments: usize,
    segments_resumed: u32,
}

pub fn run(args: &ApplyArgs, json: bool) -> Result<()> {
    let open = |path: &Path| File::open(path).with_context(|| format!("cannot open {}", path.display()));
    let mut old = open(&args.old)?;
    let mut patch = BufReader::new(open(&args.patch)?);
    let partial = partial(&args.new);
    let format = args.format.map_or_else(|| foreign::recognise(&mut patch), Ok)?;
    if format != Format::Sluice {
        return foreign::apply(args, format, &mut old, &mut patch, &partial, json);
    }
    let head = read_head(&mut patch, &Limits::default(), None).map_err(Failure::Apply)?;
    if args.new_sha256.is_some_and(|expected| expected != head.new_sha256) {
        return Err(Failure::NotExpected(hex::encode(head.new_sha256)).into());
    }
    if !head.in_order() {
        return Err(Failure::Apply(ApplyError::NeedsSeek).into());
    }
    let budget = ApplyBudget { ram: u64::from(args.ram), scratch: args.scratch };
    let scratch = tempfile::tempfile_in(folder(&args.new)).context("cannot make a file for scratch storage")?;
    let applier = Applier::with_scratch(&head, budget, scratch).map_err(Failure::Apply)?;
    let mut applier = applier.helped_by(recoders(&args.recoder)?);
    applier.check_old(&mut old).map_err(Failure::Apply)?;

    let mut out = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(!args.resume)
        .open(&partial)
        .with_context(|| format!("cannot write {}", partial.display()))?;
    let from = applier.resume_point(&mut out).map_err(Failure::Apply)?;
    out.set_len(from.new_offset).and_then(|()| out.seek(SeekFrom::Start(from.new_offset)))?;
    let finished = segments(&head, applier, from, &mut patch, args, &mut out);
    if let Err(error) = finished {
        return Err(anyhow::Error::from(Failure::Apply(error))
            .context(format!("{} is not complete; what is verified of it stays", partial.display())));
    }
    out.sync_all()?;
    drop(out);
    fs::rename(&partial, &args.new).with_context(|| format!("cannot write {}", args.new.display()))?;

    let made = Made {
        new: args.new.display().to_string(),
        bytes: head.new_len,
        sha256: hex::encode(head.new_sha256),
        segments: head.segments.len(),
        segments_resumed: from.segments_done,
    };
    let text = format!("{}: {} bytes, sha256 {} as promised", made.new, made.bytes, made.sha256);
    print(json, &made, &text)
}

/// Applies what is left and checks the whole.
fn segments(
    head: &Head,
    mut applier: Applier<'_, File>,
    from: ResumePoint,
    patch: &mut BufReader<File>,
    args: &ApplyArgs,
    out: &mut File,
) -> Result<(), ApplyError> {
    if let Some(lead) = &head.lead {
        // The table was held against the memory budget.
        let mut coded = vec![0; lead.coded_len as usize];
        read(patch, &mut coded, "lead")?;
        applier.lead(&coded)?;
    }
    patch.seek(SeekFrom::Start(from.patch_offset)).map_err(ApplyError::ReadPatch)?;
    let bar = progress_bar(head.new_len);
    bar.set_message("applying");
    let wanted = args.threads.map_or_else(|| available_parallelism().unwrap_or(NonZeroUsize::MIN), NonZeroUsize::from);
    let budget = ApplyBudget { ram: u64::from(args.ram), scratch: args.scratch };
    let threads = applier.threads(wanted, budget);
    applier.segments(threads, || File::open(&args.old), patch, out, |done| bar.set_position(done))?;
    if patch.read(&mut [0]).map_err(ApplyError::ReadPatch)? != 0 {
        return Err(ApplyError::Malformed { field: "patch", reason: "bytes follow the last segment" });
    }
    bar.finish_and_clear();
    applier.finish()
}

fn read(patch: &mut impl Read, bytes: &mut [u8], field: &'static str) -> Result<(), ApplyError> {
    patch.read_exact(bytes).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => ApplyError::Truncated { field },
        _ => ApplyError::ReadPatch(error),
    })
}

/// The folder that a file stands in.
pub fn folder(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Where the work stands until it is complete.
fn partial(new: &Path) -> PathBuf {
    let mut name = OsString::from(new);
    name.push(".partial");
    PathBuf::from(name)
}
