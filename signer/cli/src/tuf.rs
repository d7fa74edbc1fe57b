//! `tuf`: a client for any TUF repository, on the verifier that devices have. It keeps each trusted document in a file of its
//! own, named by its role, and takes nothing that it has not checked.
//!
//! The command line is the one that the TUF project's conformance suite drives (its CLIENT-CLI): exit code 0, or 1.

use crate::args::{TufArgs, TufCommand};
use crate::client::{Client, file_is};
use crate::failure::Failure;
use crate::folder::{read_limited, write_atomic};
use crate::http::Http;
use crate::{edge, failure, output};
use jiff::Timestamp;
use serde::Serialize;
use sluice_signer::{Found, Refresh, TrustedRepository};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Serialize)]
struct Report {
    root: u64,
    timestamp: Option<u64>,
    snapshot: Option<u64>,
    targets: Option<u64>,
    /// The targets that were asked for.
    downloads: Vec<Fetched>,
}

#[derive(Serialize)]
struct Fetched {
    /// Its path in the repository.
    path: String,
    /// The role that signed it.
    role: String,
    length: u64,
    sha256: String,
    file: PathBuf,
    /// Whether it was there already.
    cached: bool,
}

/// `tuf`. Every failure is exit code 1, because programs for other clients know no other.
pub fn run(args: &TufArgs, now: Timestamp, json: bool) -> ExitCode {
    match act(args, now, json) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            if let Some(next) = error.downcast_ref::<Failure>().and_then(|failure| failure.next.as_deref()) {
                eprintln!("next: {next}");
            }
            ExitCode::from(failure::INCOMPLETE)
        }
    }
}

fn act(args: &TufArgs, now: Timestamp, json: bool) -> anyhow::Result<()> {
    let Some(folder) = args.metadata_dir.as_deref() else { return Err(not_given("--metadata-dir")) };
    if let TufCommand::Init { root } = &args.command {
        let limits = edge::limits();
        let bytes = read_limited(root, limits.root_bytes)?;
        let trusted = TrustedRepository::from_root(&bytes, &limits)?;
        write_atomic(&folder.join("root.json"), &bytes)?;
        return output::print(json, &report(&trusted, Vec::new()), || {
            format!("root version {}", trusted.root_version())
        });
    }
    let metadata_url = given(args.metadata_url.as_ref(), "--metadata-url")?;
    let token = args.token_file.as_deref().map(edge::secret_file).transpose()?;
    let http = Http::new(token, args.timeout);
    let Some(mut client) = Client::open(folder, (metadata_url, &http), now, TrustedRepository::from_root)? else {
        let message = format!("{} does not exist", folder.join("root.json").display());
        return Err(Failure::file(message, "trust a root first: `sluice-sign tuf --metadata-dir DIR init ROOT`"));
    };
    client.refresh(Refresh::new())?;
    let downloads = match &args.command {
        TufCommand::Download => download(&mut client, args, &http)?,
        TufCommand::Init { .. } | TufCommand::Refresh => Vec::new(),
    };
    let report = report(&client.trusted, downloads);
    output::print(json, &report, || text(&report))
}

fn report(trusted: &TrustedRepository, downloads: Vec<Fetched>) -> Report {
    Report {
        root: trusted.root_version(),
        timestamp: trusted.timestamp_version(),
        snapshot: trusted.snapshot_version(),
        targets: trusted.targets("targets").map(|targets| targets.version),
        downloads,
    }
}

fn text(report: &Report) -> String {
    let version = |version: Option<u64>| version.map_or("-".to_owned(), |version| version.to_string());
    let mut lines = vec![format!(
        "root {}, timestamp {}, snapshot {}, targets {}",
        report.root,
        version(report.timestamp),
        version(report.snapshot),
        version(report.targets)
    )];
    for target in &report.downloads {
        let how = if target.cached { "was there" } else { "downloaded" };
        lines.push(format!("{} {how}: {} bytes, signed by {}", target.file.display(), target.length, target.role));
    }
    lines.join("\n")
}

/// Downloads the targets in the order of the command line; the first one that fails ends it.
fn download(client: &mut Client<'_>, args: &TufArgs, http: &Http) -> anyhow::Result<Vec<Fetched>> {
    let base = given(args.target_base_url.as_ref(), "--target-base-url")?;
    let Some(folder) = &args.target_dir else { return Err(not_given("--target-dir")) };
    if args.target_name.is_empty() {
        return Err(not_given("--target-name"));
    }
    args.target_name.iter().map(|path| fetch(client, http, path, base, folder)).collect()
}

fn fetch(client: &mut Client<'_>, http: &Http, path: &str, base: &str, folder: &Path) -> anyhow::Result<Fetched> {
    let Some(Found { role, target, .. }) = client.find(path)? else {
        let message = format!("no role that may speak for it lists {path:?}");
        return Err(Failure::refused(message, "check the path; it is the whole path, without a leading slash"));
    };
    // The verifier takes relative paths without `..` only.
    let file = folder.join(&target.path);
    let cached = file_is(&file, &target)?;
    if !cached {
        http.target(&format!("{}/{}", base.trim_end_matches('/'), client.place(&target)), &target, &file)?;
    }
    let sha256 = hex::encode(target.sha256);
    Ok(Fetched { path: target.path, role, length: target.length, sha256, file, cached })
}

fn given<'a>(option: Option<&'a String>, name: &str) -> anyhow::Result<&'a str> {
    option.map(String::as_str).ok_or_else(|| not_given(name))
}

fn not_given(name: &str) -> anyhow::Error {
    Failure::refused(format!("{name} is missing"), "see `sluice-sign tuf --help`")
}
