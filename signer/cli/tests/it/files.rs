//! A web server of files in memory, which may also be slow or never end.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Clone)]
pub enum Body {
    Whole(Vec<u8>),
    /// A promise of many bytes, of which one comes now and then.
    Trickle,
    /// Bytes as long as somebody reads.
    Endless,
}

#[derive(Default)]
struct Served {
    files: BTreeMap<String, Body>,
    requests: Vec<String>,
}

pub struct FileServer {
    pub url: String,
    served: Arc<Mutex<Served>>,
}

impl FileServer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = Arc::new(Mutex::new(Served::default()));
        let shared = Arc::clone(&served);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream.unwrap(), &shared));
            }
        });
        Self { url, served }
    }

    pub fn put(&self, path: &str, bytes: Vec<u8>) {
        self.served.lock().unwrap().files.insert(path.to_owned(), Body::Whole(bytes));
    }

    pub fn trickle(&self, path: &str) {
        self.served.lock().unwrap().files.insert(path.to_owned(), Body::Trickle);
    }

    pub fn endless(&self, path: &str) {
        self.served.lock().unwrap().files.insert(path.to_owned(), Body::Endless);
    }

    /// Serves another body, and returns the one that was there.
    pub fn swap(&self, path: &str, body: Option<Body>) -> Option<Body> {
        let files = &mut self.served.lock().unwrap().files;
        let before = files.remove(path);
        if let Some(body) = body {
            files.insert(path.to_owned(), body);
        }
        before
    }

    pub fn clear(&self) {
        self.served.lock().unwrap().files.clear();
    }

    pub fn get(&self, path: &str) -> Vec<u8> {
        match &self.served.lock().unwrap().files[path] {
            Body::Whole(bytes) => bytes.clone(),
            Body::Trickle | Body::Endless => panic!("{path} has no end"),
        }
    }

    /// The paths asked for since the last call.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.served.lock().unwrap().requests)
    }
}

/// One request on one connection.
fn serve(mut stream: TcpStream, served: &Mutex<Served>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let Some(path) = line.split_whitespace().nth(1).map(str::to_owned) else { return };
    while reader.read_line(&mut line).unwrap() > 2 {}
    let body = {
        let mut served = served.lock().unwrap();
        let body = served.files.get(&path).cloned();
        served.requests.push(path);
        body
    };
    // A client that has seen enough may have closed.
    let _ = match body {
        None => stream.write_all(&head("404 Not Found", Some(0))),
        Some(Body::Whole(bytes)) => {
            stream.write_all(&head("200 OK", Some(bytes.len()))).and_then(|()| stream.write_all(&bytes))
        }
        Some(Body::Trickle) => trickle(&mut stream),
        Some(Body::Endless) => endless(&mut stream),
    };
}

fn head(status: &str, length: Option<usize>) -> Vec<u8> {
    let length = length.map_or(String::new(), |length| format!("Content-Length: {length}\r\n"));
    format!("HTTP/1.1 {status}\r\n{length}Connection: close\r\n\r\n").into_bytes()
}

/// Never silent for long, and never done.
fn trickle(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(&head("200 OK", Some(1_000)))?;
    loop {
        stream.write_all(b" ")?;
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn endless(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(&head("200 OK", None))?;
    loop {
        stream.write_all(&[b' '; 4_096])?;
    }
}
