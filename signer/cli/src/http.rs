//! Fetching from a server that is not trusted: every body has a limit, and every answer a time by which it must be whole.

use crate::failure::{self, Failure};
use crate::release;
use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use sluice_signer::RepositoryTarget;
use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::Agent;
use ureq::http::StatusCode;

/// Seconds for a document, and for a target on top of those that [`SLOWEST`] gives it: an attacker who sends a byte now and then
/// must not hold a client for ever. `--timeout` sets another number.
pub const TIMEOUT_S: u64 = 60;
/// Bytes a second below which the download of a target is given up.
const SLOWEST: u64 = 8 << 10;

/// A client without a state.
pub struct Http {
    agent: Agent,
    patience: Duration,
    token: Option<zeroize::Zeroizing<String>>,
}

impl Http {
    /// Prepares it; nothing is sent.
    pub fn new(token: Option<zeroize::Zeroizing<String>>, timeout_s: u64) -> Self {
        let patience = Duration::from_secs(timeout_s);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(patience))
            .user_agent(concat!("sluice-sign/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.into(), patience, token }
    }

    /// A document of at most `limit` bytes; `None` when there is none.
    pub fn document(&self, url: &str, limit: u64) -> anyhow::Result<Option<Vec<u8>>> {
        let mut response = self.get(url, self.patience)?;
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
    pub fn target(&self, url: &str, target: &RepositoryTarget, file: &Path) -> anyhow::Result<()> {
        let mut response = self.open_target(url, target)?;
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

    /// Downloads a target only to see whether it is the signed one.
    pub fn check_target(&self, url: &str, target: &RepositoryTarget) -> anyhow::Result<()> {
        let mut response = self.open_target(url, target)?;
        receive(&mut response, target, &mut std::io::sink()).with_context(|| url.to_owned())
    }

    fn open_target(&self, url: &str, target: &RepositoryTarget) -> anyhow::Result<ureq::http::Response<ureq::Body>> {
        let time = self.patience + Duration::from_secs(target.length / SLOWEST);
        let response = self.get(url, time)?;
        if response.status() == StatusCode::OK { Ok(response) } else { Err(unexpected(url, response.status())) }
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
    receive(response, target, &mut out)?;
    Ok(out.flush().and_then(|()| out.sync_all())?)
}

/// Writes a body that must be the target.
fn receive(
    response: &mut ureq::http::Response<ureq::Body>,
    target: &RepositoryTarget,
    out: &mut impl std::io::Write,
) -> anyhow::Result<()> {
    let bar = release::progress(target.length, "downloading");
    let reader = response.body_mut().with_config().limit(target.length.saturating_add(2)).reader();
    let found = copy(bar.wrap_read(reader), out, target.length);
    bar.finish_and_clear();
    let found = found?;
    anyhow::ensure!(
        found == target.sha256,
        "SHA-256 {} was signed, {} came",
        hex::encode(target.sha256),
        hex::encode(found)
    );
    Ok(())
}

fn unexpected(url: &str, status: StatusCode) -> anyhow::Error {
    let next = Some("check the address; a token may be needed (--token-file)".to_owned());
    Failure { code: failure::SERVER, message: format!("{url}: {status}"), next }.into()
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
