//! `tuf`: a client for any TUF repository, on the verifier that devices have. It keeps each trusted document in a file of its
//! own, named by its role, and takes nothing that it has not checked.
//!
//! The command line is the one that the TUF project's conformance suite drives (its CLIENT-CLI): exit code 0, or 1.

use crate::args::{TufArgs, TufCommand};
use crate::failure::Failure;
use crate::folder::{read_limited, write_atomic};
use crate::{edge, failure, output, release};
use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use sluice_signer::path::quoted;
use sluice_signer::{Found, Limits, Lookup, RepositoryTarget, TrustedRepository, VerifyError, Wanted};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use ureq::Agent;
use ureq::http::StatusCode;

/// Time for a document, and for a target before [`SLOWEST`] is counted: an attacker who sends a byte a minute must not hold a
/// client for ever.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Bytes a second below which a download is given up.
const SLOWEST: u64 = 8 << 10;

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
        let limits = Limits::default();
        let bytes = read_limited(root, limits.root_bytes)?;
        let trusted = TrustedRepository::from_root(&bytes, &limits)?;
        write_atomic(&folder.join("root.json"), &bytes)?;
        return output::print(json, &report(&trusted, Vec::new()), || {
            format!("root version {}", trusted.root_version())
        });
    }
    let mut client = Client::open(args, folder, now)?;
    client.refresh()?;
    let downloads = match &args.command {
        TufCommand::Download => client.download(args)?,
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

struct Client<'a> {
    trusted: TrustedRepository,
    limits: Limits,
    now: Timestamp,
    folder: &'a Path,
    metadata_url: &'a str,
    http: Http,
}

impl<'a> Client<'a> {
    /// Takes up what the folder has. Of what does not verify, the root ends it; the others are told of, because they no longer
    /// guard against older ones.
    fn open(args: &'a TufArgs, folder: &'a Path, now: Timestamp) -> anyhow::Result<Self> {
        let metadata_url = given(args.metadata_url.as_ref(), "--metadata-url")?;
        let limits = Limits::default();
        let root = folder.join("root.json");
        if !root.exists() {
            let message = format!("{} does not exist", root.display());
            return Err(Failure::file(message, "trust a root first: `sluice-sign tuf --metadata-dir DIR init ROOT`"));
        }
        let mut trusted = TrustedRepository::from_root(&read_limited(&root, limits.root_bytes)?, &limits)?;
        let kept = [
            ("timestamp", limits.timestamp_bytes),
            ("snapshot", limits.snapshot_bytes),
            ("targets", limits.targets_bytes),
        ];
        for (role, limit) in kept {
            let file = file_of(folder, role);
            if file.exists()
                && let Err(error) = trusted.restore(role, &read_limited(&file, limit)?)
            {
                eprintln!("warning: {} is not trusted any more: {error}", file.display());
            }
        }
        let token = args.token_file.as_deref().map(edge::secret_file).transpose()?;
        Ok(Self { trusted, limits, now, folder, metadata_url, http: Http::new(token) })
    }

    /// The client workflow of the TUF specification, section 5. Each document is kept as soon as it is trusted.
    fn refresh(&mut self) -> anyhow::Result<()> {
        // The verifier refuses more rotations than the limit in one go; the range bounds the requests as well.
        for _ in 0..=self.limits.root_rotations {
            let name = format!("{}.root.json", self.trusted.root_version() + 1);
            let Some(bytes) = self.document(&name, self.limits.root_bytes)? else { break };
            let update = self.trusted.update_root(&bytes)?;
            if update.rotated.contains("timestamp") || update.rotated.contains("snapshot") {
                // Whoever had the old keys may have set their versions to anything.
                self.forget("timestamp")?;
                self.forget("snapshot")?;
            }
            // Last: a run that is cut before starts from the old root, and forgets them again.
            self.keep("root", &bytes)?;
        }
        self.trusted.check_root_expiry(self.now)?;
        let bytes = self.needed("timestamp.json", self.limits.timestamp_bytes)?;
        match self.trusted.update_timestamp(&bytes, self.now) {
            Ok(()) => self.keep("timestamp", &bytes)?,
            // The specification goes on with the one that it has. Two of one version are a publisher's mistake, or worse.
            Err(error @ VerifyError::Equivocation { .. }) => eprintln!("warning: {error}; the trusted one is kept"),
            Err(error) => return Err(error.into()),
        }
        if let Some(wanted) = self.trusted.wanted_snapshot() {
            let bytes = self.needed(&wanted.file, wanted.limit)?;
            self.trusted.update_snapshot(&bytes, self.now)?;
            self.keep("snapshot", &bytes)?;
        }
        if let Some(wanted) = self.trusted.wanted_role("targets") {
            self.role("targets", "root", &wanted)?;
        }
        Ok(self.trusted.check_current(self.now)?)
    }

    /// Takes the document of a targets role: the kept one when it is the one wanted, else the repository's.
    fn role(&mut self, role: &str, parent: &str, wanted: &Wanted) -> anyhow::Result<()> {
        if let Ok(bytes) = read_limited(&file_of(self.folder, role), self.limits.targets_bytes)
            && self.trusted.update_targets(role, parent, &bytes, self.now).is_ok()
        {
            return Ok(());
        }
        let bytes = self.needed(&wanted.file, wanted.limit)?;
        self.trusted.update_targets(role, parent, &bytes, self.now)?;
        self.keep(role, &bytes)
    }

    /// Downloads the targets in the order of the command line; the first one that fails ends it.
    fn download(&mut self, args: &TufArgs) -> anyhow::Result<Vec<Fetched>> {
        let base = given(args.target_base_url.as_ref(), "--target-base-url")?;
        let Some(folder) = &args.target_dir else { return Err(not_given("--target-dir")) };
        if args.target_name.is_empty() {
            return Err(not_given("--target-name"));
        }
        args.target_name.iter().map(|path| self.fetch(path, base, folder)).collect()
    }

    fn fetch(&mut self, path: &str, base: &str, folder: &Path) -> anyhow::Result<Fetched> {
        let Found { role, target } = self.find(path)?;
        // The verifier takes relative paths without `..` only.
        let file = folder.join(&target.path);
        let cached = file_is(&file, &target)?;
        if !cached {
            let url = format!("{}/{}", base.trim_end_matches('/'), self.place(&target));
            self.http.target(&url, &target, &file)?;
        }
        let sha256 = hex::encode(target.sha256);
        Ok(Fetched { path: target.path, role, length: target.length, sha256, file, cached })
    }

    fn find(&mut self, path: &str) -> anyhow::Result<Found> {
        // The verifier bounds the roles visited; one more round than that finds or fails.
        for _ in 0..=self.limits.visited_roles {
            match self.trusted.target(path, self.now)? {
                Lookup::Found(found) => return Ok(*found),
                Lookup::NeedsRole { role, parent, wanted } => self.role(&role, &parent, &wanted)?,
                Lookup::NotFound => break,
            }
        }
        let message = format!("no role that may speak for it lists {path:?}");
        Err(Failure::refused(message, "check the path; it is the whole path, without a leading slash"))
    }

    /// Where a target is under the base URL.
    fn place(&self, target: &RepositoryTarget) -> String {
        let (folder, name) =
            target.path.rsplit_once('/').map_or((None, target.path.as_str()), |(folder, name)| (Some(folder), name));
        let name = if self.trusted.root().consistent_snapshot {
            format!("{}.{}", hex::encode(target.sha256), quoted(name))
        } else {
            quoted(name)
        };
        let folders = folder.into_iter().flat_map(|folder| folder.split('/')).map(quoted);
        folders.chain([name]).collect::<Vec<_>>().join("/")
    }

    fn needed(&self, name: &str, limit: u64) -> anyhow::Result<Vec<u8>> {
        self.document(name, limit)?.with_context(|| format!("the repository has no {name}"))
    }

    fn document(&self, name: &str, limit: u64) -> anyhow::Result<Option<Vec<u8>>> {
        self.http.document(&format!("{}/{name}", self.metadata_url.trim_end_matches('/')), limit)
    }

    fn keep(&self, role: &str, bytes: &[u8]) -> anyhow::Result<()> {
        write_atomic(&file_of(self.folder, role), bytes)
    }

    fn forget(&self, role: &str) -> anyhow::Result<()> {
        match fs::remove_file(file_of(self.folder, role)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).context("cannot remove what is not trusted any more")
            }
            _ => Ok(()),
        }
    }
}

fn file_of(folder: &Path, role: &str) -> PathBuf {
    folder.join(format!("{}.json", quoted(role)))
}

fn given<'a>(option: Option<&'a String>, name: &str) -> anyhow::Result<&'a str> {
    option.map(String::as_str).ok_or_else(|| not_given(name))
}

fn not_given(name: &str) -> anyhow::Error {
    Failure::refused(format!("{name} is missing"), "see `sluice-sign tuf --help`")
}

/// Whether a file is the target.
fn file_is(file: &Path, target: &RepositoryTarget) -> anyhow::Result<bool> {
    Ok(file.exists() && release::hash(file)? == (target.sha256, target.length))
}

/// Copies `length` bytes and returns their digest. More or fewer are an error.
fn copy(from: impl Read, to: &mut impl std::io::Write, length: u64) -> anyhow::Result<[u8; 32]> {
    let mut from = from.take(length.saturating_add(1));
    let (mut block, mut digest, mut done) = (vec![0; 64 << 10], Sha256::new(), 0u64);
    loop {
        let read = from.read(&mut block)?;
        let Some(bytes) = block.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        done += read as u64;
        if done > length {
            break;
        }
        digest.update(bytes);
        to.write_all(bytes)?;
    }
    anyhow::ensure!(
        done == length,
        "{} bytes were signed, {} came",
        length,
        if done > length { "more" } else { "fewer" }
    );
    Ok(digest.finalize().into())
}

struct Http {
    agent: Agent,
    token: Option<zeroize::Zeroizing<String>>,
}

impl Http {
    fn new(token: Option<zeroize::Zeroizing<String>>) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            .user_agent(concat!("sluice-sign/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.into(), token }
    }

    /// A document of at most `limit` bytes; `None` when there is none.
    fn document(&self, url: &str, limit: u64) -> anyhow::Result<Option<Vec<u8>>> {
        let mut response = self.get(url, TIMEOUT)?;
        match response.status() {
            StatusCode::OK => {
                // The reader takes a body that reaches its limit for one that goes on.
                let read = response.body_mut().with_config().limit(limit.saturating_add(1)).read_to_vec();
                Ok(Some(read.with_context(|| format!("{url}: no document of at most {limit} bytes"))?))
            }
            // Some stores say that what does not exist is forbidden.
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => Ok(None),
            status => Err(unexpected(url, status)),
        }
    }

    /// Downloads a target beside its place and moves it there when it is whole and right.
    fn target(&self, url: &str, target: &RepositoryTarget, file: &Path) -> anyhow::Result<()> {
        let time = TIMEOUT + Duration::from_secs(target.length / SLOWEST);
        let mut response = self.get(url, time)?;
        if response.status() != StatusCode::OK {
            return Err(unexpected(url, response.status()));
        }
        let folder = file.parent().context("a target without a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut partial = file.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let result = download(&mut response, target, &partial).with_context(|| url.to_owned());
        if result.is_err() {
            let _ = fs::remove_file(&partial);
        }
        result?;
        fs::rename(&partial, file).with_context(|| format!("cannot write {}", file.display()))
    }

    fn get(&self, url: &str, time: Duration) -> anyhow::Result<ureq::http::Response<ureq::Body>> {
        let mut request = self.agent.get(url).config().timeout_global(Some(time)).build();
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {}", token.as_str()));
        }
        request.call().map_err(|error| {
            let next = Some("check the address and the network; running the command again is safe".to_owned());
            Failure { code: failure::NETWORK, message: format!("{url}: {error}"), next }.into()
        })
    }
}

fn download(
    response: &mut ureq::http::Response<ureq::Body>,
    target: &RepositoryTarget,
    partial: &Path,
) -> anyhow::Result<()> {
    let mut out = File::create(partial).with_context(|| format!("cannot write {}", partial.display()))?;
    let bar = release::progress(target.length, "downloading");
    let reader = response.body_mut().with_config().limit(target.length.saturating_add(2)).reader();
    let found = copy(bar.wrap_read(reader), &mut out, target.length);
    bar.finish_and_clear();
    let found = found?;
    anyhow::ensure!(
        found == target.sha256,
        "SHA-256 {} was signed, {} came",
        hex::encode(target.sha256),
        hex::encode(found)
    );
    Ok(out.flush().and_then(|()| out.sync_all())?)
}

fn unexpected(url: &str, status: StatusCode) -> anyhow::Error {
    let next = Some("check the address; a token may be needed (--token-file)".to_owned());
    Failure { code: failure::SERVER, message: format!("{url}: {status}"), next }.into()
}
