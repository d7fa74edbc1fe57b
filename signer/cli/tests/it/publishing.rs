//! `publish` against a small server that keeps blobs by digest and answers as the real one does.

use crate::sandbox::{Run, Sandbox};
use base64::Engine as _;
use insta::assert_snapshot;
use sluice_signer::roles::FileMeta;
use sluice_signer::{SigningKey, online, sha256};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

const TOKEN: &str = "slc_test-token";

/// What the server saw and how it shall misbehave.
#[derive(Default)]
struct Seen {
    blobs: BTreeMap<String, Vec<u8>>,
    requests: Vec<String>,
    /// Answers to give first, before the right ones.
    trouble: Vec<u16>,
    /// The answer to a publication.
    refusal: Option<(u16, String)>,
    /// What it shows devices, by path.
    shown: BTreeMap<String, Vec<u8>>,
    /// Publications taken.
    publications: u64,
}

impl Seen {
    /// Takes documents in and signs the next snapshot and timestamp, as the real server does.
    fn show(&mut self, body: &[u8]) {
        let request: serde_json::Value = serde_json::from_slice(body).unwrap();
        let mut targets = BTreeMap::new();
        for document in request["documents"].as_array().unwrap() {
            let bytes = base64::engine::general_purpose::STANDARD.decode(document["body"].as_str().unwrap()).unwrap();
            let (role, version) = (document["role"].as_str().unwrap(), document["version"].as_u64().unwrap());
            let folder = if document["repository"] == "director" { "director" } else { "metadata" };
            if role != "root" {
                targets.insert(role.to_owned(), FileMeta::of(version, &bytes));
            }
            self.shown.insert(format!("/{folder}/{version}.{role}.json"), bytes);
        }
        self.publications += 1;
        let key = |seed: u8| SigningKey::from_seed(&[seed; 32]).unwrap();
        let (version, expires, repo) =
            (self.publications, "2026-06-02T12:00:00Z".parse().unwrap(), Some("acme-image".to_owned()));
        let snapshot = online::sign_snapshot(version, expires, targets, repo.clone(), &key(101));
        let timestamp = online::sign_timestamp(version, expires, FileMeta::of(version, &snapshot), repo, &key(102));
        self.shown.insert(format!("/metadata/{version}.snapshot.json"), snapshot);
        self.shown.insert("/metadata/timestamp.json".to_owned(), timestamp);
    }
}

struct Server {
    address: String,
    seen: Arc<Mutex<Seen>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &shared);
            }
        });
        Self { address, seen }
    }

    fn publish(&self, sandbox: &Sandbox) -> Run {
        sandbox.write("token", format!("{TOKEN}\n").as_bytes());
        sandbox.run(&format!("publish --repo repo --server {} --token-file token", self.address))
    }

    fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap().requests)
    }
}

/// One request on one connection.
fn serve(mut stream: TcpStream, seen: &Mutex<Seen>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let mut parts = line.split_whitespace();
    let (method, path) = (parts.next().unwrap().to_owned(), parts.next().unwrap().to_owned());
    let (mut length, mut authorised) = (0, false);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "authorization" => authorised = value == format!("Bearer {TOKEN}"),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let (status, answer) = answer(&mut seen.lock().unwrap(), &method, &path, authorised, &body);
    let length = if method == "HEAD" { 0 } else { answer.len() };
    let kind = if status < 400 { "application/json" } else { "application/problem+json" };
    let head =
        format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    if length > 0 {
        stream.write_all(answer.as_bytes()).unwrap();
    }
}

fn problem(title: &str, detail: &str) -> String {
    format!(r#"{{"type":"about:blank","title":"{title}","status":0,"kind":"x","detail":"{detail}","id":"0197a0de"}}"#)
}

fn answer(seen: &mut Seen, method: &str, path: &str, authorised: bool, body: &[u8]) -> (u16, String) {
    let short = path.split('/').map(|part| part.get(..16).filter(|_| part.len() == 64).unwrap_or(part));
    seen.requests.push(format!("{method} {}", short.collect::<Vec<_>>().join("/")));
    if !authorised {
        return (401, problem("A valid token is needed", "the token is unknown"));
    }
    if !seen.trouble.is_empty() {
        return (seen.trouble.remove(0), problem("The service is unavailable", "try later"));
    }
    let digest = path.rsplit('/').next().unwrap().to_owned();
    match method {
        "HEAD" => (if seen.blobs.contains_key(&digest) { 200 } else { 404 }, String::new()),
        "PUT" if hex::encode(sha256(body)) == digest => {
            seen.blobs.insert(digest, body.to_vec());
            (201, "{}".to_owned())
        }
        "POST" if path == "/api/v1/publish" => match &seen.refusal {
            Some((status, body)) => (*status, body.clone()),
            None => {
                seen.show(body);
                (200, published(body))
            }
        },
        "GET" => match seen.shown.get(path) {
            Some(document) => (200, String::from_utf8(document.clone()).unwrap()),
            None => (404, problem("There is no such document", path)),
        },
        _ => (400, problem("The request is malformed", path)),
    }
}

/// The answer of a server for which everything is new; it checks that bodies are the documents they say they are.
fn published(body: &[u8]) -> String {
    let request: serde_json::Value = serde_json::from_slice(body).unwrap();
    let documents: Vec<serde_json::Value> = request["documents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|document| {
            let bytes = base64::engine::general_purpose::STANDARD.decode(document["body"].as_str().unwrap()).unwrap();
            let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(value["signed"]["version"], document["version"]);
            serde_json::json!({
                "repository": document["repository"], "role": document["role"], "version": document["version"],
                "outcome": "published",
            })
        })
        .collect();
    let release = serde_json::json!({
        "product": "acme-cam", "version": "2.4.0", "release_id": "0197a0de-0000-7000-8000-000000000001",
        "outcome": "published",
    });
    serde_json::json!({ "releases": [release], "documents": documents }).to_string()
}

#[test]
fn images_go_first_then_all_documents_at_once() {
    let (sandbox, server) = (Sandbox::with_first_release(), Server::start());
    assert_snapshot!("publish", server.publish(&sandbox).ok().transcript());
    assert_snapshot!("publish_requests", server.take_requests().join("\n"));
    let digest = hex::encode(sha256(&sandbox.read("cam-2.4.0.bin")));
    assert_eq!(server.seen.lock().unwrap().blobs.get(&digest), Some(&sandbox.read("cam-2.4.0.bin")));
}

#[test]
fn publishing_again_sends_no_image_again() {
    let (sandbox, server) = (Sandbox::with_first_release(), Server::start());
    server.publish(&sandbox).ok();
    server.take_requests();
    server.publish(&sandbox).ok();
    assert!(server.take_requests().iter().all(|request| !request.starts_with("PUT")));
}

#[test]
fn an_old_image_that_only_the_server_has_is_no_obstacle() {
    let (sandbox, server) = (Sandbox::with_first_release(), Server::start());
    server.publish(&sandbox).ok();
    std::fs::remove_dir_all(sandbox.path("repo/targets")).unwrap();
    server.publish(&sandbox).ok();
    server.seen.lock().unwrap().blobs.clear();
    let run = server.publish(&sandbox);
    assert_eq!(run.code, 6, "{}", run.transcript());
}

#[test]
fn passing_trouble_is_retried() {
    let (sandbox, server) = (Sandbox::with_first_release(), Server::start());
    server.seen.lock().unwrap().trouble = vec![503, 429, 502];
    server.publish(&sandbox).ok();
    assert_eq!(server.take_requests().iter().filter(|request| request.starts_with("HEAD")).count(), 4);
}

#[test]
fn what_the_server_says_is_shown_with_its_id() {
    let (sandbox, server) = (Sandbox::with_first_release(), Server::start());
    let body =
        problem("It contradicts what is there", "acme-cam version 1 was published before with different content");
    server.seen.lock().unwrap().refusal = Some((409, body));
    assert_snapshot!("publish_conflict", server.publish(&sandbox).transcript());
    server.seen.lock().unwrap().refusal = Some((500, "no json".to_owned()));
    assert_eq!(server.publish(&sandbox).code, 4);
}

#[test]
fn a_wrong_token_is_refused() {
    let (sandbox, server) = (Sandbox::with_first_release(), Server::start());
    sandbox.write("other", b"slc_other\n");
    let run = sandbox.run(&format!("publish --repo repo --server {} --token-file other", server.address));
    assert_eq!(run.code, 4, "{}", run.transcript());
    assert!(!run.transcript().contains("slc_other"), "a token is never printed");
    let none = sandbox.run(&format!("publish --repo repo --server {}", server.address));
    assert_eq!(none.code, 3, "{}", none.transcript());
}

#[test]
fn a_server_that_is_not_there_is_a_network_failure() {
    let sandbox = Sandbox::with_first_release();
    sandbox.write("token", TOKEN.as_bytes());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let run = sandbox.run(&format!("publish --repo repo --server http://127.0.0.1:{port} --token-file token"));
    assert_eq!(run.code, 5, "{}", run.transcript());
}

#[test]
fn nothing_is_sent_before_everything_verifies() {
    let (sandbox, server) = (Sandbox::with_first_release(), Server::start());
    let path = "repo/metadata/1.acme-cam.json";
    let text = String::from_utf8(sandbox.read(path)).unwrap();
    sandbox.write(path, text.replace("\"security_counter\":7", "\"security_counter\":9").as_bytes());
    let run = server.publish(&sandbox);
    assert_eq!(run.code, 3, "{}", run.transcript());
    assert_eq!(server.take_requests(), Vec::<String>::new());
}

#[test]
fn an_incomplete_release_stays_at_home() {
    let (sandbox, server) = (Sandbox::with_first_release(), Server::start());
    sandbox.run(Sandbox::V2).ok();
    let run = server.publish(&sandbox).ok();
    assert!(run.stderr.contains("acme-cam version 2 is not complete and stays here"), "{}", run.stderr);
    assert_eq!(server.seen.lock().unwrap().blobs.len(), 1);
}

#[test]
fn what_a_device_would_not_see_is_told_after_publishing() {
    let (sandbox, server) = (Sandbox::with_first_release(), Server::start());
    server.publish(&sandbox).ok();
    // A proxy that keeps the timestamp of yesterday for ever.
    let stale = server.seen.lock().unwrap().shown["/metadata/timestamp.json"].clone();
    sandbox.run(Sandbox::V2).ok();
    sandbox.sign_by(&["cam-a", "cam-b"]);
    server.publish(&sandbox).ok();
    let fresh =
        std::mem::replace(server.seen.lock().unwrap().shown.get_mut("/metadata/timestamp.json").unwrap(), stale);
    let audit =
        |more: &str| sandbox.run(&format!("audit --repo repo --server {} --token-file token{more}", server.address));
    let run = audit("");
    assert_eq!(run.code, 1, "{}", run.transcript());
    assert!(run.stdout.contains("acme-cam: the server has another document than version 2 here"), "{}", run.stdout);
    server.seen.lock().unwrap().shown.insert("/metadata/timestamp.json".to_owned(), fresh);
    audit("").ok();
    // A server that shows documents that nobody signed.
    let path = "/metadata/2.acme-cam.json";
    let text = String::from_utf8(server.seen.lock().unwrap().shown[path].clone()).unwrap();
    let forged = text.replace("\"security_counter\":8", "\"security_counter\":9");
    server.seen.lock().unwrap().shown.insert(path.to_owned(), forged.into_bytes());
    let run = audit("");
    assert!(run.code != 0 && run.stderr.contains("acme-cam"), "{}", run.transcript());
    // The same seen by publish: it said yes, and devices would not take it.
    server.seen.lock().unwrap().shown.remove("/metadata/1.targets.json");
    let run = sandbox.run(&format!("audit --repo repo --server {} --token-file token", server.address));
    assert_ne!(run.code, 0, "{}", run.transcript());
}

#[test]
fn a_product_whose_document_ran_out_holds_nobody_else_back() {
    let (mut sandbox, server) = (Sandbox::with_first_release(), Server::start());
    for (seed, name) in (81..).zip(["phone-a", "phone-b", "phone-c"]) {
        sandbox.holder(name, seed);
    }
    let line =
        "delegate add --repo repo --product acme-phone --holder keys/phone-a.pub keys/phone-b.pub keys/phone-c.pub";
    sandbox.run(line).ok();
    sandbox.sign_by(&["lead-a", "lead-b", "phone-a", "phone-b"]);
    // Four months later one of them is renewed, and the other is not.
    sandbox.now = "2026-10-01T12:00:00Z";
    sandbox.run("renew --repo repo --role acme-cam").ok();
    sandbox.sign_by(&["cam-a", "cam-b"]);
    assert_eq!(sandbox.run("verify --repo repo").code, 1, "somebody should know");
    let run = server.publish(&sandbox);
    assert!(run.stderr.contains("the document of acme-phone has expired and is left out"), "{}", run.transcript());
    assert!(run.stdout.contains("acme-cam version 2"), "{}", run.transcript());
}
