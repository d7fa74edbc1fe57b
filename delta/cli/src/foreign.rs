//! Patches of other programs: recognised, made, applied and described.

use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, Seek, SeekFrom},
    path::Path,
};

use anyhow::{Context, Result};
use serde::Serialize;
use sha2::{Digest, Sha256};
use sluice_delta::{
    ApplyBudget,
    foreign::{Bsdiff40Header, ForeignOptions, Format, ZstdHeader, apply_bsdiff40, apply_zstd},
};

use crate::{
    args::{ApplyArgs, DiffArgs},
    failure::Failure,
    print,
};

#[derive(Serialize)]
struct Made {
    format: &'static str,
    patch: String,
    bytes: u64,
    sha256: String,
    old_len: u64,
    old_sha256: String,
    new_len: u64,
    new_sha256: String,
}

#[derive(Serialize)]
struct Applied {
    format: &'static str,
    new: String,
    bytes: u64,
    sha256: String,
    sha256_expected: bool,
}

#[derive(Serialize)]
struct Bsdiff40Info {
    format: &'static str,
    bytes: u64,
    new_len: u64,
    control_len: u64,
    diff_len: u64,
    extra_len: u64,
}

#[derive(Serialize)]
struct ZstdInfo {
    format: &'static str,
    bytes: u64,
    new_len: Option<u64>,
    window: u64,
    checksum: bool,
}

/// The format of the patch, which stays at its beginning.
pub fn recognise(patch: &mut BufReader<File>) -> Result<Format> {
    let first = std::io::BufRead::fill_buf(patch).context("cannot read the patch")?;
    Ok(Format::recognise(first).ok_or(Failure::NoFormat)?)
}

pub fn report_made(args: &DiffArgs, bytes: &[u8], old: &[u8], new: &[u8], json: bool) -> Result<()> {
    let digest = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    let made = Made {
        format: args.format.name(),
        patch: args.patch.display().to_string(),
        bytes: bytes.len() as u64,
        sha256: digest(bytes),
        old_len: old.len() as u64,
        old_sha256: digest(old),
        new_len: new.len() as u64,
        new_sha256: digest(new),
    };
    let percent = (made.bytes * 1_000).checked_div(made.new_len).unwrap_or(0);
    let text = format!(
        "{}: {} bytes of {} for an image of {} bytes ({}.{} %)\nfrom sha256 {}, to sha256 {}: the patch states neither",
        made.patch,
        made.bytes,
        made.format,
        made.new_len,
        percent / 10,
        percent % 10,
        made.old_sha256,
        made.new_sha256,
    );
    print(json, &made, &text)
}

/// Applies into `partial`, which takes the name of the new image only when all went well.
pub fn apply(
    args: &ApplyArgs,
    format: Format,
    old: &mut File,
    patch: &mut BufReader<File>,
    partial: &Path,
    json: bool,
) -> Result<()> {
    if args.resume {
        return Err(Failure::NoResume(format).into());
    }
    let options = ForeignOptions {
        budget: ApplyBudget { ram: u64::from(args.ram), scratch: 0 },
        new_sha256: args.new_sha256,
        ..ForeignOptions::default()
    };
    let mut out = File::create(partial).with_context(|| format!("cannot write {}", partial.display()))?;
    let new = BufWriter::new(&mut out);
    let made = match format {
        Format::Zstd => apply_zstd(old, patch, new, &options),
        _ => apply_bsdiff40(old, patch, new, &options),
    };
    let made = match made {
        Ok(made) => made,
        Err(error) => {
            drop(out);
            fs::remove_file(partial).with_context(|| format!("cannot remove {}", partial.display()))?;
            return Err(Failure::Foreign(error).into());
        }
    };
    out.sync_all()?;
    drop(out);
    fs::rename(partial, &args.new).with_context(|| format!("cannot write {}", args.new.display()))?;
    let applied = Applied {
        format: format.name(),
        new: args.new.display().to_string(),
        bytes: made.new_len,
        sha256: hex::encode(made.new_sha256),
        sha256_expected: args.new_sha256.is_some(),
    };
    let known = if applied.sha256_expected { "as expected" } else { "which the patch does not promise" };
    let text = format!("{}: {} bytes, sha256 {}, {known}", applied.new, applied.bytes, applied.sha256);
    print(json, &applied, &text)
}

pub fn info(format: Format, patch: &mut BufReader<File>, json: bool) -> Result<()> {
    let options = ForeignOptions::default();
    let bytes = patch.seek(SeekFrom::End(0))?;
    patch.seek(SeekFrom::Start(0))?;
    if format == Format::Bsdiff40 {
        let Bsdiff40Header { control_len, diff_len, extra_len, new_len } =
            Bsdiff40Header::read(patch, &options).map_err(Failure::Foreign)?;
        let info = Bsdiff40Info { format: format.name(), bytes, new_len, control_len, diff_len, extra_len };
        let text = format!(
            "patch     {bytes} bytes of BSDIFF40, for `bspatch OLD NEW PATCH`\n\
             to        {new_len} bytes; it states no sha256, neither of the old image nor of the new one\n\
             streams   {control_len} bytes of control, {diff_len} of diff, {extra_len} of extra, all bzip2"
        );
        return print(json, &info, &text);
    }
    let header = ZstdHeader::read(patch, &options).map_err(Failure::Foreign)?;
    let ZstdHeader { window, content_len, checksum, .. } = header;
    let info = ZstdInfo { format: format.name(), bytes, new_len: content_len, window, checksum };
    let to = content_len.map_or_else(|| "an unstated number of".to_owned(), |len| len.to_string());
    let checked = if checksum { "with a checksum of the content" } else { "without a checksum" };
    let text = format!(
        "patch     {bytes} bytes, one Zstandard frame, for `zstd -d --long=31 --patch-from=OLD PATCH -o NEW`\n\
         to        {to} bytes, {checked}; it states no sha256, neither of the old image nor of the new one\n\
         to apply  a window of {} KiB, and the old image",
        window.div_ceil(1 << 10)
    );
    print(json, &info, &text)
}
