//! `publish`: images first, each by its digest, then all documents in one request that the server takes whole or not
//! at all; with more than 64 documents in several, in the order of trust, and what waits for its moment last. Running it again
//! sends only what the server lacks.

use crate::args::PublishArgs;
use crate::failure::{self, Failure};
use crate::folder::Folder;
use crate::http::{Http, TIMEOUT_S};
use crate::stage::Stage;
use crate::{edge, embargo, output, outside, release, status};
use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sluice_catalog::wire::publish::{
    PublishDocument, PublishOutcome, PublishRepository, PublishRequest, PublishResponse,
};
use sluice_signer::Sha256Digest;
use sluice_signer::publish::{MAX_DOCUMENTS, NewDocument, Repository, batches};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::Duration;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body, SendBody};

/// How often a request is tried when the network or the server is briefly away.
const ATTEMPTS: u32 = 5;
/// Pause before the second attempt; each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time from the end of a request to the answer: the server hashes and stores a large image in it.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(5);
/// Bytes of an answer: a misdirected request must not fill the memory.
const MAX_ANSWER_BYTES: u64 = 16 << 20;

#[derive(Serialize)]
struct PublishReport<'a> {
    /// Images sent now.
    uploaded: usize,
    /// Images that the server had.
    present: usize,
    uploaded_bytes: u64,
    #[serde(flatten)]
    server: &'a PublishResponse,
}

/// `publish`
pub fn run(args: &PublishArgs, now: Timestamp, json: bool) -> anyhow::Result<()> {
    let stage = Stage::load(Folder::open(&args.repo)?)?;
    let (documents, expired) = status::publishable(&stage, now)?;
    let accepted = status::check(&stage, documents.clone(), now).map_err(|error| {
        Failure::refused(format!("the documents would be refused: {error}"), "see `sluice-sign verify`")
    })?;
    for role in expired {
        eprintln!("warning: the document of {role} has expired and is left out: `sluice-sign renew --role {role}`");
    }
    if documents.is_empty() {
        return Err(Failure::refused("no document is complete", "see who must sign with `sluice-sign status`"));
    }
    for (id, _) in &stage.staged {
        eprintln!("note: {} version {} is not complete and stays here", id.name(), id.version);
    }
    embargo::check_first_documents(&stage)?;
    let server = Server::new(args)?;
    let blobs: BTreeMap<Sha256Digest, u64> =
        accepted.targets.iter().chain(&accepted.held).map(|one| (one.target.sha256, one.target.length)).collect();
    let (mut uploaded, mut present, mut uploaded_bytes) = (0, 0, 0u64);
    for (digest, length) in blobs {
        if server.has_blob(&digest)? {
            present += 1;
        } else {
            server.put_blob(&digest, length, &stage.folder.blob(&digest))?;
            uploaded += 1;
            uploaded_bytes = uploaded_bytes.saturating_add(length);
        }
    }
    let http = Http::new(Some(server.token.clone()), TIMEOUT_S);
    // Changes that belong together must travel together, so what the server has already does not take their place.
    let (mut documents, secret) = embargo::parted(&stage, documents, now)?;
    let unseen = if secret.is_empty() { BTreeMap::new() } else { outside::shown(&stage, &server.base, &http)? };
    for document in secret.iter().filter(|document| !unseen.contains_key(&document.role)) {
        // Clients that load every role want one that is shown, and this one is not before its moment.
        documents.extend(embargo::open_before(&stage, document)?);
    }
    let documents = if documents.len() > MAX_DOCUMENTS {
        outside::lacking(&stage, documents, &server.base, &http)?
    } else {
        documents
    };
    let mut answer = PublishResponse::default();
    // A server keeps what was published before the roots of the next epoch for the devices of the ending one.
    let (before, mut documents) = outside::of_ending_epoch(&stage, documents, &server.base, &http)?;
    for batch in batches(before) {
        match server.publish(&batch) {
            Ok(one) => {
                answer.documents.extend(one.documents);
                answer.releases.extend(one.releases);
            }
            // Holders may have changed with the epoch, so that only its roots vouch for them.
            Err(error) => {
                eprintln!("note: not before the next signing epoch begins: {error:#}");
                documents.splice(0..0, batch);
            }
        }
    }
    documents.sort_by_key(|document| document.role != "root");
    for batch in batches(documents).into_iter().chain(batches(secret)) {
        let one = server.publish(&batch)?;
        answer.documents.extend(one.documents);
        answer.releases.extend(one.releases);
    }
    let report = PublishReport { uploaded, present, uploaded_bytes, server: &answer };
    output::print(json, &report, || text(&report))?;
    // As a device would see it now.
    let differences =
        outside::differences(&stage, &server.base, &http, now).map_err(|error| unaccepted(&format!("{error:#}")))?;
    match differences.first() {
        None => Ok(()),
        Some(first) => Err(unaccepted(first)),
    }
}

/// The server said yes, and yet devices would not see what was published.
fn unaccepted(reason: &str) -> anyhow::Error {
    Failure {
        code: failure::SERVER,
        message: format!("published, but a device that asks the server now would not accept it: {reason}"),
        next: Some("look at the server and at what stands between it and you, then run the command again".to_owned()),
    }
    .into()
}

fn text(report: &PublishReport<'_>) -> String {
    let word = |outcome: PublishOutcome| match outcome {
        PublishOutcome::Published => "published",
        PublishOutcome::Unchanged => "unchanged",
        PublishOutcome::Held => "held     ",
    };
    let mut lines = vec![format!(
        "images     {} sent ({} bytes), {} known already",
        report.uploaded, report.uploaded_bytes, report.present
    )];
    for document in &report.server.documents {
        let director = if document.repository == PublishRepository::Director { "director-" } else { "" };
        let until = document.held_until.map(|moment| format!(", until {moment}")).unwrap_or_default();
        let word = word(document.outcome);
        lines.push(format!("{word}  {director}{} version {}{until}", document.role, document.version));
    }
    for release in &report.server.releases {
        let id = if release.release_id.is_empty() { String::new() } else { format!(" ({})", release.release_id) };
        lines.push(format!("{}  release {} {}{id}", word(release.outcome), release.product, release.version));
    }
    lines.join("\n")
}

/// A problem as the server tells it (RFC 9457).
#[derive(Deserialize)]
struct Problem {
    title: String,
    #[serde(default)]
    detail: Option<String>,
    #[serde(default)]
    id: Option<String>,
}

struct Server {
    agent: Agent,
    base: String,
    token: zeroize::Zeroizing<String>,
}

impl Server {
    fn new(args: &PublishArgs) -> anyhow::Result<Self> {
        let token = match (&args.token_file, &args.token) {
            (Some(file), _) => edge::secret_file(file)?,
            (None, Some(token)) => zeroize::Zeroizing::new(token.trim().to_owned()),
            (None, None) => {
                return Err(Failure::refused("no token", "give --token-file FILE or set SLUICE_TOKEN"));
            }
        };
        let base = args.server.trim_end_matches('/').to_owned();
        let loopback =
            ["http://127.", "http://localhost", "http://[::1]"].iter().any(|prefix| base.starts_with(prefix));
        if base.starts_with("http://") && !loopback {
            eprintln!("warning: {base} is not encrypted; the token can be read on the way");
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .max_redirects(0)
            .user_agent(concat!("sluice-sign/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { agent: config.into(), base, token })
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token.as_str())
    }

    fn blob_url(&self, digest: &Sha256Digest) -> String {
        format!("{}/api/v1/blobs/{}", self.base, hex::encode(digest))
    }

    fn has_blob(&self, digest: &Sha256Digest) -> anyhow::Result<bool> {
        let url = self.blob_url(digest);
        let response = self.retry(|| self.agent.head(&url).header("Authorization", self.bearer()).call())?;
        match response.status() {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(refusal(&url, response)),
        }
    }

    fn put_blob(&self, digest: &Sha256Digest, length: u64, file: &Path) -> anyhow::Result<()> {
        let url = self.blob_url(digest);
        let found = file.metadata().map(|metadata| metadata.len());
        if !matches!(found, Ok(found) if found == length) {
            let message = format!("{} is missing or damaged, and the server does not have it", file.display());
            return Err(Failure::file(message, "stage the release again with `sluice-sign release new`"));
        }
        let bar = release::progress(length, "sending");
        let response = self.retry(|| {
            bar.set_position(0);
            let reader = bar.wrap_read(File::open(file)?);
            self.agent
                .put(&url)
                .header("Authorization", self.bearer())
                .header("Content-Type", "application/octet-stream")
                .header("Content-Length", length)
                .send(SendBody::from_owned_reader(reader))
        })?;
        bar.finish_and_clear();
        match response.status() {
            StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT => Ok(()),
            _ => Err(refusal(&url, response)),
        }
    }

    fn publish(&self, documents: &[NewDocument]) -> anyhow::Result<PublishResponse> {
        let url = format!("{}/api/v1/publish", self.base);
        let documents = documents
            .iter()
            .map(|document| PublishDocument {
                repository: match document.repository {
                    Repository::Image => PublishRepository::Image,
                    Repository::Director => PublishRepository::Director,
                },
                role: document.role.clone(),
                version: document.version,
                body: STANDARD.encode(&document.bytes),
            })
            .collect();
        let body = serde_json::to_vec(&PublishRequest { documents })?;
        let mut response = self.retry(|| {
            self.agent
                .post(&url)
                .header("Authorization", self.bearer())
                .header("Content-Type", "application/json")
                .send(body.as_slice())
        })?;
        if !response.status().is_success() {
            return Err(refusal(&url, response));
        }
        let answer = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec();
        let answer = answer.with_context(|| format!("{url}: the answer broke off; run the command again"))?;
        serde_json::from_slice(&answer).with_context(|| format!("{url}: the answer is not understood"))
    }

    /// Tries again after network trouble and answers that say "later". Every request here may be repeated.
    fn retry(
        &self,
        mut request: impl FnMut() -> Result<Response<Body>, ureq::Error>,
    ) -> anyhow::Result<Response<Body>> {
        let mut pause = FIRST_PAUSE;
        let mut attempt = 1;
        loop {
            let result = request();
            let again = match &result {
                Ok(response) => is_passing(response.status()),
                Err(ureq::Error::BadUri(_) | ureq::Error::Http(_)) => false,
                Err(_) => true,
            };
            if !again || attempt >= ATTEMPTS {
                return result.map_err(|error| {
                    let message = format!("{} does not answer: {error}", self.base);
                    let next = Some("check the address and the network; running the command again is safe".to_owned());
                    Failure { code: failure::NETWORK, message, next }.into()
                });
            }
            std::thread::sleep(pause);
            pause = pause.saturating_mul(2);
            attempt += 1;
        }
    }
}

/// Whether the server may take the same request a moment later.
fn is_passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// What the server said, as a failure.
fn refusal(url: &str, mut response: Response<Body>) -> anyhow::Error {
    let status = response.status();
    let body = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec().unwrap_or_default();
    let message = match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => {
            let detail = problem.detail.map(|detail| format!(": {detail}")).unwrap_or_default();
            let id = problem.id.map(|id| format!(" (id {id})")).unwrap_or_default();
            format!("{}{detail}{id}", problem.title)
        }
        Err(_) => format!("{url}: {status}"),
    };
    let next = match status {
        StatusCode::UNAUTHORIZED => "check the token",
        StatusCode::FORBIDDEN => "ask an administrator for a token that may publish",
        StatusCode::CONFLICT => "compare with the server: somebody else may have published this version",
        _ if status.is_server_error() => "run the command again later; the id finds the cause in the server's log",
        _ => "correct what is named and run the command again; nothing was published",
    };
    Failure { code: failure::SERVER, message, next: Some(next.to_owned()) }.into()
}
