//! What a fleet sends, over kept-alive connections: each thread has one connection and its own devices, sends a request,
//! reads the answer, checks it, and goes on (a closed loop), until the time is over.
//!
//! Kinds of requests take turns in short rounds. Whatever else the machine does then falls on all of them alike, so that
//! their ratios hold even where their absolute figures are noisy.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use sluice_catalog::id::DeviceId;
use sluice_catalog::wire::device::{PollRequest, PollResponse};
use sluice_signer::{DirectorExpect, DirectorTrust};

use crate::clock;
use crate::http::{Connection, Response, request};
use crate::latency::{Latencies, Summary};

/// Rounds that the time of each kind is cut into.
pub const ROUNDS: u32 = 5;
/// Requests of one connection in one round after which it stops, whatever the time: bounds a run against a clock that
/// stands.
const ROUND_REQUESTS_MAX: u64 = 5_000_000;
/// Each so many signed documents one is kept and verified after the round: verifying all would measure the client.
const SAMPLE_EVERY: u64 = 64;
/// Documents kept for one connection in one round.
const SAMPLES_MAX: usize = 256;
/// Hexadecimal digits of a nonce.
const NONCE_LEN: usize = 32;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `GET /healthz`: what connection, parser and scheduler cost. The ceiling.
    Health,
    /// `GET /v1/poll` with `If-None-Match`: nothing has changed.
    Unchanged,
    /// `POST /v1/poll` with a nonce: a document signed for this device and this moment.
    Signed,
}

impl Kind {
    /// All, in the order of a round.
    pub const ALL: [Self; 3] = [Self::Health, Self::Unchanged, Self::Signed];

    /// What people read.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Health => "GET /healthz (ceiling)",
            Self::Unchanged => "GET /v1/poll, unchanged (304)",
            Self::Signed => "POST /v1/poll, signed (200)",
        }
    }
}

/// A device that polls. Its requests are written once; only the nonce changes.
#[derive(Debug)]
pub struct Poller {
    id: DeviceId,
    token: String,
    signed: Vec<u8>,
    /// Where the nonce stands in `signed`.
    nonce_at: usize,
    nonces: u64,
    unchanged: Vec<u8>,
    etag: String,
    /// Version of the last document that was verified.
    last_version: u64,
    offered: bool,
}

/// A signed document that waits to be verified.
struct Sample {
    poller: usize,
    nonce: String,
    body: Vec<u8>,
}

impl Poller {
    /// A device with its session, and what it says when it polls.
    pub fn new(id: DeviceId, token: &str, mut poll: PollRequest) -> Result<Self> {
        let nonce = "f".repeat(NONCE_LEN);
        poll.nonce = Some(nonce.clone());
        let body = serde_json::to_vec(&poll)?;
        let signed = request("POST", "/v1/poll", Some(token), &[], Some(("application/json", &body)));
        let body_at = signed.len() - body.len();
        let nonce_at = signed[body_at..].windows(NONCE_LEN).position(|at| at == nonce.as_bytes()).context("a nonce")?;
        Ok(Self {
            id,
            token: token.to_owned(),
            signed,
            nonce_at: body_at + nonce_at,
            nonces: 0,
            unchanged: Vec::new(),
            etag: String::new(),
            last_version: 0,
            offered: false,
        })
    }

    /// The next signed poll, with a nonce that no poll before had.
    fn next_signed(&mut self) -> &[u8] {
        self.nonces += 1;
        let nonce = format!("{:0NONCE_LEN$x}", self.nonces);
        self.signed[self.nonce_at..self.nonce_at + NONCE_LEN].copy_from_slice(nonce.as_bytes());
        &self.signed
    }

    fn nonce(&self) -> &[u8] {
        &self.signed[self.nonce_at..self.nonce_at + NONCE_LEN]
    }

    /// Polls for a document and holds it: later polls of the cheap kind ask whether it still says the truth.
    pub fn hold(&mut self, connection: &mut Connection) -> Result<()> {
        let answer = connection.exchange(self.next_signed())?;
        ensure!(
            answer.status == 200,
            "a poll was answered {}: {}",
            answer.status,
            String::from_utf8_lossy(answer.body)
        );
        answer.etag.context("a poll was answered without an entity tag")?.clone_into(&mut self.etag);
        let parsed: PollResponse = serde_json::from_slice(answer.body).context("a poll's answer")?;
        self.offered = parsed.attempt.is_some();
        self.unchanged = request("GET", "/v1/poll", Some(&self.token), &[("if-none-match", &self.etag)], None);
        Ok(())
    }

    /// Whether the document it holds offers an update.
    pub fn is_offered(&self) -> bool {
        self.offered
    }

    /// Whether another tag stands for the same decision: tags are an expiry and what was decided.
    fn same_decision(&self, etag: &str) -> bool {
        let decided = |tag: &str| tag.split_once('.').map(|(_, decided)| decided.to_owned());
        decided(etag).is_some_and(|decided_now| Some(decided_now) == decided(&self.etag))
    }

    fn verify(&mut self, sample: &Sample, trust: &DirectorTrust, now: jiff::Timestamp) -> Result<()> {
        let answer: PollResponse = serde_json::from_slice(&sample.body).context("a poll's answer")?;
        let device_id = self.id.to_string();
        let expect =
            DirectorExpect { device_id: &device_id, nonce: Some(&sample.nonce), now, last_version: self.last_version };
        let verified = trust.verify_director(answer.director.get().as_bytes(), &expect)?;
        self.last_version = verified.document.version;
        ensure!(
            verified.document.targets.is_empty() != self.offered,
            "the document for {device_id} says {}, the one before said otherwise",
            verified.document.reason
        );
        Ok(())
    }
}

/// What was counted of one kind.
#[derive(Debug, Default)]
pub struct Counted {
    latencies: Latencies,
    elapsed: Duration,
    /// Signed documents verified.
    verified: u64,
}

/// One kind's figures.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// What was sent.
    pub kind: Kind,
    /// Requests answered as they must be; a single wrong answer ends the run.
    pub requests: u64,
    /// Seconds measured.
    pub seconds: f64,
    /// Requests a second over all connections.
    pub per_second: f64,
    /// That, divided by the ceiling of the same run.
    pub of_ceiling: f64,
    /// Latencies.
    pub latency: Summary,
    /// Signed documents of the sample, each verified as a device does.
    pub verified: u64,
}

/// Sends each kind for a time, in rounds, after a short warm-up. Every answer is checked.
pub fn run(
    address: SocketAddr,
    pollers: &mut [Poller],
    trust: &DirectorTrust,
    connections: usize,
    time: Duration,
    progress: impl Fn(u32, Kind),
) -> Result<Vec<Figures>> {
    ensure!((1..=pollers.len()).contains(&connections), "{connections} connections for {} devices", pollers.len());
    let round = time / ROUNDS;
    let mut counted = Kind::ALL.map(|kind| (kind, Counted::default()));
    for (kind, _) in &counted {
        progress(0, *kind);
        one_round(address, pollers, trust, connections, round.min(Duration::from_secs(1)), *kind)?;
    }
    for number in 1..=ROUNDS {
        for (kind, sum) in &mut counted {
            progress(number, *kind);
            let more = one_round(address, pollers, trust, connections, round, *kind)?;
            sum.latencies.merge(&more.latencies);
            sum.elapsed += more.elapsed;
            sum.verified += more.verified;
        }
    }
    Ok(figures(&counted))
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52, for people to read")]
fn figures(counted: &[(Kind, Counted)]) -> Vec<Figures> {
    let rate = |sum: &Counted| sum.latencies.count() as f64 / sum.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
    let ceiling = counted.iter().find(|(kind, _)| *kind == Kind::Health).map_or(f64::NAN, |(_, sum)| rate(sum));
    counted
        .iter()
        .map(|(kind, sum)| Figures {
            kind: *kind,
            requests: sum.latencies.count(),
            seconds: sum.elapsed.as_secs_f64(),
            per_second: rate(sum),
            of_ceiling: rate(sum) / ceiling,
            latency: sum.latencies.summary(),
            verified: sum.verified,
        })
        .collect()
}

fn one_round(
    address: SocketAddr,
    pollers: &mut [Poller],
    trust: &DirectorTrust,
    connections: usize,
    time: Duration,
    kind: Kind,
) -> Result<Counted> {
    let share = pollers.len().div_ceil(connections);
    // Connecting is no part of what is measured.
    let mut shares = Vec::new();
    for chunk in pollers.chunks_mut(share) {
        shares.push((chunk, Connection::open(address)?));
    }
    let started = clock::instant();
    let results: Vec<Result<(Latencies, Vec<Sample>)>> = thread::scope(|scope| {
        let threads: Vec<_> = shares
            .iter_mut()
            .map(|(chunk, connection)| scope.spawn(move || send(chunk, connection, time, kind)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut counted = Counted { elapsed: started.elapsed(), ..Counted::default() };
    let now = clock::now();
    for ((chunk, _), result) in shares.iter_mut().zip(results) {
        let (latencies, samples) = result?;
        counted.latencies.merge(&latencies);
        counted.verified += samples.len() as u64;
        for sample in &samples {
            chunk[sample.poller].verify(sample, trust, now)?;
        }
    }
    Ok(counted)
}

/// One connection: its devices take turns.
fn send(
    pollers: &mut [Poller],
    connection: &mut Connection,
    time: Duration,
    kind: Kind,
) -> Result<(Latencies, Vec<Sample>)> {
    let health = request("GET", "/healthz", None, &[], None);
    let (mut latencies, mut samples) = (Latencies::default(), Vec::new());
    let started = clock::instant();
    while latencies.count() < ROUND_REQUESTS_MAX {
        let number = usize::try_from(latencies.count() % pollers.len() as u64)?;
        let poller = &mut pollers[number];
        let bytes: &[u8] = match kind {
            Kind::Health => &health,
            Kind::Unchanged => &poller.unchanged,
            Kind::Signed => poller.next_signed(),
        };
        let sent = clock::instant();
        let answer = connection.exchange(bytes)?;
        let answered = clock::instant();
        check(kind, poller, &answer).with_context(|| format!("{}: a wrong answer", kind.title()))?;
        if kind == Kind::Signed && latencies.count().is_multiple_of(SAMPLE_EVERY) && samples.len() < SAMPLES_MAX {
            let nonce = String::from_utf8_lossy(poller.nonce()).into_owned();
            samples.push(Sample { poller: number, nonce, body: answer.body.to_vec() });
        }
        latencies.add(answered - sent);
        if answered - started >= time {
            break;
        }
    }
    Ok((latencies, samples))
}

fn check(kind: Kind, poller: &Poller, answer: &Response<'_>) -> Result<()> {
    let shown = || String::from_utf8_lossy(answer.body).chars().take(200).collect::<String>();
    match kind {
        Kind::Health => ensure!(answer.status == 200 && answer.body == b"ok\n", "{} {}", answer.status, shown()),
        Kind::Unchanged => {
            ensure!(answer.status == 304 && answer.body.is_empty(), "{} {}", answer.status, shown());
            ensure!(answer.etag == Some(poller.etag.as_str()), "another tag: {:?}", answer.etag);
        }
        Kind::Signed => {
            ensure!(answer.status == 200, "{} {}", answer.status, shown());
            ensure!(
                answer.etag.is_some_and(|etag| poller.same_decision(etag)),
                "another decision: {:?} after {}",
                answer.etag,
                poller.etag
            );
            ensure!(
                answer.body.windows(NONCE_LEN).any(|at| at == poller.nonce()),
                "the nonce is not repeated: {}",
                shown()
            );
        }
    }
    Ok(())
}
