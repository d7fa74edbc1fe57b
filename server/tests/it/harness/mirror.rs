//! A static copy of a repository on a port of its own, to be changed as an attacker between server and device would.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_catalog::Digest;
use sluice_server::keys::{Keys, OnlineKey};
use sluice_signer::{Envelope, Json, NamedKeys, OnlineRole, SigningKey};

use super::Client;

/// Longest document that is signed anew.
const DOCUMENT_LIMIT: u64 = 5_000_000;
/// How long a client may take to send its request.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

type Files = BTreeMap<String, Vec<u8>>;

/// The copy, served until it is dropped.
pub struct Mirror {
    pub url: String,
    files: Arc<Mutex<Files>>,
    ends: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
}

impl Mirror {
    /// Of the documents that the server's timestamp leads to, of all roots, and of these paths.
    pub fn copy(server: &Client, paths: &[String]) -> Self {
        let mut files = Files::new();
        let mut take = |path: String| -> Vec<u8> {
            let body = server.get(&path).expect(200).body;
            files.insert(path, body.clone());
            body
        };
        let signed = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap()["signed"].clone();
        let timestamp = signed(&take("/metadata/timestamp.json".to_owned()));
        let snapshot = &timestamp["meta"]["snapshot.json"]["version"];
        let snapshot = signed(&take(format!("/metadata/{snapshot}.snapshot.json")));
        for (name, entry) in snapshot["meta"].as_object().unwrap() {
            take(format!("/metadata/{}.{name}", entry["version"]));
        }
        for version in 1.. {
            let root = format!("/metadata/{version}.root.json");
            if server.get(&root).status == 404 {
                break;
            }
            take(root);
        }
        for path in paths {
            take(path.clone());
        }

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (files, ends) = (Arc::new(Mutex::new(files)), Arc::new(AtomicBool::new(false)));
        let (served, ended) = (Arc::clone(&files), Arc::clone(&ends));
        let serving = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                // A client that hangs up has its reasons: it may have read enough.
                let _ = answer(&stream.unwrap(), &served);
            }
        });
        Self { url, files, ends, serving: Some(serving) }
    }

    /// Paths of all files.
    pub fn paths(&self) -> Vec<String> {
        self.files.lock().unwrap().keys().cloned().collect()
    }

    /// Serves these files instead of the true ones while `during` runs.
    pub fn with<T>(&self, files: Files, during: impl FnOnce() -> T) -> T {
        let before = self.files.lock().unwrap().clone();
        self.files.lock().unwrap().extend(files);
        let result = during();
        *self.files.lock().unwrap() = before;
        result
    }

    /// Serves these files with changed bytes while `during` runs.
    pub fn changed<T>(&self, paths: &[String], change: impl Fn(&mut Vec<u8>), during: impl FnOnce() -> T) -> T {
        let mut files = Files::new();
        for path in paths {
            let mut bytes = self.files.lock().unwrap()[path].clone();
            change(&mut bytes);
            files.insert(path.clone(), bytes);
        }
        self.with(files, during)
    }

    fn document(&self, end: &str) -> (String, Value) {
        let files = self.files.lock().unwrap();
        let (path, bytes) = files.iter().find(|(path, _)| path.ends_with(end)).unwrap();
        (path.clone(), serde_json::from_slice(bytes).unwrap())
    }

    /// What a thief of the server's keys could serve: a changed document of a role, which snapshot and timestamp vouch for.
    pub fn forged(&self, keys: &Keys, role: &str, change: impl FnOnce(&mut Value)) -> Files {
        let (path, mut document) = self.document(&format!(".{role}.json"));
        change(&mut document);
        let mut vouched = serde_json::to_vec(&document).unwrap();
        let mut files = Files::from([(path, vouched.clone())]);
        let mut file = format!("{role}.json");
        for (end, role) in [(".snapshot.json", OnlineRole::Snapshot), ("/timestamp.json", OnlineRole::Timestamp)] {
            // There has been one key of each role only.
            let key = keys.current(role, &NamedKeys::default()).unwrap();
            let OnlineKey::File(key) = &*key else { panic!("there is nothing to steal") };
            let (path, mut voucher) = self.document(end);
            let entry = &mut voucher["signed"]["meta"][&file];
            entry["length"] = json!(vouched.len());
            entry["hashes"] = json!({"sha256": Digest::of(&vouched)});
            vouched = signed(&voucher["signed"], key);
            files.insert(path, vouched.clone());
            end[1..].clone_into(&mut file);
        }
        files
    }
}

fn signed(document: &Value, key: &SigningKey) -> Vec<u8> {
    let document = serde_json::to_vec(document).unwrap();
    let mut envelope = Envelope::new(Json::parse(&document, DOCUMENT_LIMIT).unwrap());
    envelope.sign(key);
    envelope.to_bytes()
}

fn answer(mut stream: &TcpStream, files: &Mutex<Files>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let path = request.split(' ').nth(1).unwrap_or_default();
    let body = files.lock().unwrap().get(path).cloned();
    let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
    let body = body.unwrap_or_default();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(&body)
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        // The thread waits for a connection.
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
        if let Some(serving) = self.serving.take() {
            let ended = serving.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the mirror did not end well");
        }
    }
}
