//! A scripted HTTP server on a socket of this machine: answers as the protocol says, misbehaves as the test says.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use jiff::{SignedDuration, Timestamp};
use sluice_catalog::Digest;
use sluice_catalog::wire::device::{
    EnrolRequest, PollRequest, ReportEvent, ReportRequest, SessionRequest, enrol_message, session_message,
};
use sluice_signer::{DirectorDocument, DirectorTarget, Limits, PublicKey, SigningKey};

use crate::world::key;

pub const DEVICE_ID: &str = "0195a1b2-c3d4-7000-8000-0123456789ab";

/// What arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

type Change = Box<dyn Fn(&mut DirectorDocument) + Send>;
type ChangeBytes = Box<dyn Fn(Vec<u8>) -> Vec<u8> + Send>;

/// What the server knows and how it behaves. A test changes it at any time.
pub struct Script {
    pub now: Timestamp,
    /// Metadata by path.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Blobs by digest. A test may replace the bytes behind a digest.
    pub blobs: BTreeMap<Digest, Vec<u8>>,
    pub offer: Option<DirectorTarget>,
    /// What devices get whose verifier knows this signing epoch, when it is not the first: offer and director key.
    pub next_epoch: Option<(u32, Option<DirectorTarget>, SigningKey)>,
    pub reason: String,
    pub attempt: Option<i32>,
    pub director_key: SigningKey,
    pub version: u64,
    pub next_poll_s: u32,
    pub etag: String,
    /// Changes the document before it is signed.
    pub change: Option<Change>,
    /// Changes the signed bytes.
    pub tamper: Option<ChangeBytes>,
    /// Sent for every poll instead of a fresh envelope.
    pub replay: Option<Vec<u8>>,
    /// The last envelope sent.
    pub last_envelope: Vec<u8>,
    pub public_key: Option<PublicKey>,
    /// The device's certificate: its tag, and the bytes.
    pub certificate: Option<(String, Vec<u8>)>,
    pub token: String,
    pub sessions: u32,
    /// For the next blob answers: bytes of the body after which the connection is cut.
    pub cuts: VecDeque<usize>,
    /// Answers with this status, once each, for paths that begin so.
    pub statuses: VecDeque<(String, u16)>,
    /// Hangs up on every request whose path begins so.
    pub dead: Vec<String>,
    /// Sends a byte now and then, and never ends, for paths that begin so.
    pub slow: Option<String>,
    /// Sends bytes as long as somebody reads, for paths that begin so.
    pub endless: Option<String>,
    /// Signed polls that are still answered; then the server hangs up on every poll.
    pub polls_left: Option<u32>,
    /// Whether it is a server from before logs and closer codes of failures.
    pub older: bool,
    /// Whether metadata asks for a token.
    pub gated: bool,
    pub ignore_ranges: bool,
    pub seen: Vec<Seen>,
    pub reports: Vec<ReportEvent>,
}

impl Script {
    /// Requests for paths that begin so.
    pub fn count(&self, method: &str, path: &str) -> usize {
        self.seen.iter().filter(|seen| seen.method == method && seen.path.starts_with(path)).count()
    }
}

/// The running server.
pub struct Server {
    pub address: SocketAddr,
    script: Arc<Mutex<Script>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(now: Timestamp, files: BTreeMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Mutex::new(Script {
            now,
            files,
            blobs: BTreeMap::new(),
            offer: None,
            next_epoch: None,
            reason: "UP_TO_DATE".to_owned(),
            attempt: None,
            director_key: key("director"),
            version: 0,
            etag: "\"e0\"".to_owned(),
            change: None,
            tamper: None,
            replay: None,
            last_envelope: Vec::new(),
            public_key: None,
            certificate: None,
            token: String::new(),
            sessions: 0,
            cuts: VecDeque::new(),
            statuses: VecDeque::new(),
            dead: Vec::new(),
            slow: None,
            endless: None,
            polls_left: None,
            older: false,
            next_poll_s: 300,
            gated: true,
            ignore_ranges: false,
            seen: Vec::new(),
            reports: Vec::new(),
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, ending) = (Arc::clone(&script), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ending.load(Ordering::SeqCst) {
                    break;
                }
                let shared = Arc::clone(&shared);
                if let Ok(stream) = stream {
                    // One thread a connection: a client that was killed must not hold up the next.
                    std::thread::spawn(move || drop(serve(stream, &shared)));
                }
            }
        });
        Self { address, script, stop, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// Offers a release under a number.
    pub fn offer(&self, attempt: i32, (target, blobs): (DirectorTarget, Vec<Vec<u8>>)) {
        let mut script = self.script();
        script.offer = Some(target);
        script.attempt = Some(attempt);
        script.blobs.extend(blobs.into_iter().map(|blob| (Digest::of(&blob), blob)));
        script.etag = format!("\"e{attempt}\"");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the accept.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    cut: Option<usize>,
}

fn answer(status: u16, body: impl Into<Vec<u8>>) -> Answer {
    Answer { status, headers: Vec::new(), body: body.into(), cut: None }
}

fn serve(stream: TcpStream, script: &Mutex<Script>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let seen = Seen { method, path, headers, body };
    let answer = {
        let mut script = script.lock().unwrap();
        script.seen.push(seen.clone());
        let dead_poll = script.polls_left == Some(0) && seen.path == "/v1/poll";
        if dead_poll || script.dead.iter().any(|dead| seen.path.starts_with(dead.as_str())) {
            return Ok(());
        }
        let begins = |path: &Option<String>| path.as_ref().is_some_and(|path| seen.path.starts_with(path.as_str()));
        match (begins(&script.slow), begins(&script.endless)) {
            (true, _) => Err(Some(respond(&mut script, &seen).body)),
            (_, true) => Err(None),
            _ => Ok(respond(&mut script, &seen)),
        }
    };
    match answer {
        Ok(answer) => write_answer(stream, &answer),
        Err(Some(body)) => drip(stream, body),
        Err(None) => flood(stream),
    }
}

/// What was asked for, a byte at a time, and no end to it.
fn drip(mut stream: TcpStream, body: Vec<u8>) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 X\r\nconnection: close\r\n\r\n")?;
    for byte in body.into_iter().chain(std::iter::repeat(b' ')) {
        stream.write_all(&[byte])?;
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    Ok(())
}

fn flood(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 X\r\nconnection: close\r\n\r\n")?;
    loop {
        stream.write_all(&[b' '; 4096])?;
    }
}

fn write_answer(mut stream: TcpStream, answer: &Answer) -> std::io::Result<()> {
    use std::fmt::Write as _;
    let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", answer.status);
    if answer.status != 304 {
        write!(head, "content-length: {}\r\n", answer.body.len()).unwrap();
    }
    for (name, value) in &answer.headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    let end = answer.cut.unwrap_or(answer.body.len()).min(answer.body.len());
    stream.write_all(&answer.body[..end])
}

fn respond(script: &mut Script, seen: &Seen) -> Answer {
    if let Some(at) = script.statuses.iter().position(|(path, _)| seen.path.starts_with(path.as_str())) {
        let (_, status) = script.statuses.remove(at).unwrap();
        return answer(status, "");
    }
    let path = seen.path.split('?').next().unwrap();
    match (seen.method.as_str(), path) {
        ("POST", "/v1/enrol") => enrol(script, seen),
        ("POST", "/v1/challenge") => answer(200, r#"{"challenge":"c0ffee"}"#),
        ("POST", "/v1/session") => session(script, seen),
        (_, path) if path.starts_with("/v1/blobs/") => blob(script, seen, path),
        ("GET", path) if !script.gated && script.files.contains_key(path) => answer(200, script.files[path].clone()),
        _ if seen.headers.get("authorization") != Some(&format!("Bearer {}", script.token)) => answer(
            401,
            r#"{"type":"x","title":"x","status":401,"kind":"unauthenticated","detail":"the token ended","id":"1"}"#,
        ),
        ("POST", "/v1/poll") => {
            let request: PollRequest = serde_json::from_slice(&seen.body).unwrap();
            script.polls_left = script.polls_left.map(|left| left - 1);
            poll(script, &request)
        }
        ("GET", "/v1/poll") => {
            if seen.headers.get("if-none-match") == Some(&script.etag) {
                answer(304, "")
            } else {
                poll(
                    script,
                    &PollRequest {
                        nonce: None,
                        installed: BTreeMap::new(),
                        profile: sluice_catalog::device::DecoderProfile::Default,
                        ram_budget: 0,
                        scratch_budget: 0,
                        epoch: 1,
                    },
                )
            }
        }
        ("GET", "/v1/entitlement") => {
            let Some((tag, bytes)) = script.certificate.clone() else { return answer(404, "") };
            let etag = format!("\"1.{tag}\"");
            if seen.headers.get("if-none-match") == Some(&etag) {
                return answer(304, "");
            }
            let mut answer = answer(200, bytes);
            answer.headers.push(("etag".to_owned(), etag));
            answer
        }
        ("POST", "/v1/report") => {
            let request: ReportRequest = serde_json::from_slice(&seen.body).unwrap();
            let is_new = |event: &ReportEvent| {
                event.log.is_some() || event.failure.is_some_and(|failure| failure.broad() != failure)
            };
            if script.older && request.events.iter().any(is_new) {
                return answer(400, r#"{"title":"unknown field `log`"}"#);
            }
            script.reports.extend(request.events);
            answer(200, r#"{"moved":1}"#)
        }
        ("GET", path) => match script.files.get(path) {
            Some(bytes) => answer(200, bytes.clone()),
            None => answer(404, ""),
        },
        _ => answer(405, ""),
    }
}

fn enrol(script: &mut Script, seen: &Seen) -> Answer {
    let request: EnrolRequest = serde_json::from_slice(&seen.body).unwrap();
    let raw: [u8; 32] = hex::decode(&request.public_key).unwrap().try_into().unwrap();
    let public = PublicKey::ed25519(&raw).unwrap();
    let message = enrol_message(&request.product, &request.serial, &request.public_key);
    assert!(public.verify(&message, &hex::decode(&request.signature).unwrap()), "proof of possession");
    script.public_key = Some(public);
    answer(200, format!(r#"{{"device_id":"{DEVICE_ID}","state":"active"}}"#))
}

fn session(script: &mut Script, seen: &Seen) -> Answer {
    let request: SessionRequest = serde_json::from_slice(&seen.body).unwrap();
    let message = session_message(&request.product, &request.serial, &request.challenge);
    let signature = hex::decode(&request.signature).unwrap();
    if !script.public_key.as_ref().is_some_and(|key| key.verify(&message, &signature)) {
        return answer(401, "");
    }
    script.sessions += 1;
    script.token = format!("token-{}", script.sessions);
    answer(200, format!(r#"{{"device_id":"{DEVICE_ID}","token":"{}","expires_in_s":86400}}"#, script.token))
}

fn poll(script: &mut Script, request: &PollRequest) -> Answer {
    if let Some(replay) = script.replay.clone() {
        return answer(200, replay);
    }
    let running = request.installed.values().next().map(|installed| installed.sha256.0);
    let next = script.next_epoch.as_ref().filter(|(epoch, ..)| request.epoch >= *epoch);
    let offer = next.map_or(&script.offer, |(_, offer, _)| offer);
    let key = SigningKey::from_seed(&next.map_or(&script.director_key, |(.., key)| key).seed()).unwrap();
    let branch = (script.next_epoch.is_some() && next.is_none()).then_some(request.epoch);
    let offer = offer.clone().filter(|target| Some(target.sha256) != running);
    script.version = sluice_signer::director::next_version(script.now, script.version);
    let lifetime = if offer.is_some() { SignedDuration::from_hours(1) } else { SignedDuration::from_hours(24) };
    let reason = if offer.is_some() { "OFFERED".to_owned() } else { script.reason.clone() };
    let mut document = DirectorDocument {
        device_id: DEVICE_ID.to_owned(),
        nonce: request.nonce.clone(),
        server_time: script.now,
        version: script.version,
        expires: script.now + lifetime,
        rollout_id: None,
        reason,
        targets: offer.iter().map(|target| (target.path.clone(), target.clone())).collect(),
        repo_id: None,
    };
    if let Some(change) = &script.change {
        change(&mut document);
    }
    let mut signed = document.sign(&key, &Limits::default()).unwrap();
    if let Some(tamper) = &script.tamper {
        signed = tamper(signed);
    }
    let mut urls = BTreeMap::new();
    for target in document.targets.values() {
        urls.insert(hex::encode(target.full.sha256), format!("/v1/blobs/{}?token=t", hex::encode(target.full.sha256)));
        if let Some(delta) = &target.delta {
            urls.insert(hex::encode(delta.sha256), format!("/v1/blobs/{}?token=t", hex::encode(delta.sha256)));
        }
    }
    let mut envelope = serde_json::json!({
        "director": serde_json::value::RawValue::from_string(String::from_utf8(signed).unwrap()).unwrap(),
        "urls": urls,
        "attempt": offer.as_ref().and(script.attempt),
        "next_poll_s": script.next_poll_s,
    });
    if let Some((tag, _)) = &script.certificate {
        envelope["entitlement"] = tag.clone().into();
    }
    if let Some(branch) = branch {
        envelope["epoch"] = branch.into();
    }
    script.last_envelope = serde_json::to_vec(&envelope).unwrap();
    let mut answer = answer(200, script.last_envelope.clone());
    answer.headers.push(("etag".to_owned(), script.etag.clone()));
    answer
}

fn blob(script: &mut Script, seen: &Seen, path: &str) -> Answer {
    let digest: Digest = path.trim_start_matches("/v1/blobs/").parse().unwrap();
    assert!(!seen.headers.contains_key("authorization"), "a blob URL carries its own token");
    let Some(bytes) = script.blobs.get(&digest).cloned() else { return answer(404, "") };
    let from: usize = seen
        .headers
        .get("range")
        .filter(|_| !script.ignore_ranges)
        .map_or(0, |range| range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap());
    if from >= bytes.len() {
        return answer(416, "");
    }
    let mut answer = answer(if from > 0 { 206 } else { 200 }, &bytes[from..]);
    if from > 0 {
        let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
        answer.headers.push(("content-range".to_owned(), range));
    }
    answer.cut = script.cuts.pop_front();
    answer
}
