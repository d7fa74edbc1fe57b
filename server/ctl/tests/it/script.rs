//! A server that expects given requests in order, and the program run against it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread::{self, JoinHandle};

use serde_json::Value;

/// One exchange of the script.
pub struct Exchange {
    request: &'static str,
    status: u16,
    headers: &'static str,
    body: String,
}

/// Expects a request line such as `GET /api/v1/me` and answers with a status and a JSON body.
pub fn answer(request: &'static str, status: u16, body: &Value) -> Exchange {
    Exchange { request, status, headers: "", body: body.to_string() }
}

/// As [`answer`], with further header lines, each ended by `\r\n`.
pub fn answer_with(request: &'static str, status: u16, headers: &'static str, body: &str) -> Exchange {
    Exchange { request, status, headers, body: body.to_owned() }
}

/// A problem as the server tells it.
pub fn problem(request: &'static str, kind: sluice_catalog::Kind, detail: &str) -> Exchange {
    let problem = sluice_catalog::Problem::new(kind, detail, "0198");
    // No test waits: the script asks for a repetition at once.
    let body = serde_json::to_string(&problem).unwrap();
    Exchange { request, status: kind.http_status(), headers: "Retry-After: 0\r\n", body }
}

/// What the server saw.
#[derive(Debug)]
pub struct Seen {
    pub authorization: Option<String>,
    pub last_event_id: Option<String>,
    pub body: Value,
}

/// What the program did.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub seen: Vec<Seen>,
}

impl Run {
    /// Everything in one text, for a snapshot.
    pub fn text(&self) -> String {
        format!("exit {}\n--- stdout\n{}--- stderr\n{}", self.code, self.stdout, self.stderr)
    }

    /// The JSON on standard output.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// The program without a person's settings.
pub fn program(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicectl"));
    command.env_clear().env("HOME", home).env("SLUICE_CTL_CONFIG", home.join("ctl.toml"));
    command
}

/// Runs the program with a token against the script.
pub fn run(arguments: &[&str], script: Vec<Exchange>) -> Run {
    let home = tempfile::tempdir().unwrap();
    run_in(home.path(), &[("SLUICE_TOKEN", "secret-token")], arguments, script)
}

/// Runs the program in a home of its own against the script, which has to be used up.
pub fn run_in(home: &Path, env: &[(&str, &str)], arguments: &[&str], script: Vec<Exchange>) -> Run {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || serve(&listener, script));
    let output = program(home)
        .envs(env.iter().copied())
        .env("SLUICE_SERVER", format!("http://{address}"))
        .args(arguments)
        .output()
        .unwrap();
    // An empty connection tells the server that nothing more comes.
    drop(TcpStream::connect(address));
    let tidy = |bytes: Vec<u8>| {
        String::from_utf8(bytes)
            .unwrap()
            .replace(&address.to_string(), "SERVER")
            .replace(&home.display().to_string(), "HOME")
    };
    Run {
        code: output.status.code().unwrap(),
        stdout: tidy(output.stdout),
        stderr: tidy(output.stderr),
        seen: join(server),
    }
}

fn join(server: JoinHandle<Vec<Seen>>) -> Vec<Seen> {
    server.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn serve(listener: &TcpListener, script: Vec<Exchange>) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut script = script.into_iter();
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        let Some((request, one)) = read_request(&stream) else {
            let left: Vec<&str> = script.map(|exchange| exchange.request).collect();
            assert!(left.is_empty(), "never asked: {left:?}");
            return seen;
        };
        seen.push(one);
        let exchange = script.next().unwrap_or_else(|| panic!("not in the script: {request}"));
        assert_eq!(request, exchange.request);
        write!(
            stream,
            "HTTP/1.1 {} Scripted\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n{}\r\n{}",
            exchange.status,
            exchange.body.len(),
            exchange.headers,
            exchange.body
        )
        .unwrap();
    }
}

/// Method and target, and what came along; nothing when the connection is closed at once.
fn read_request(stream: &TcpStream) -> Option<(String, Seen)> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let request = line.strip_suffix(" HTTP/1.1\r\n")?.to_owned();
    let (mut authorization, mut last_event_id, mut length) = (None, None, 0);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => authorization = Some(value.to_owned()),
            "last-event-id" => last_event_id = Some(value.to_owned()),
            "content-length" => length = value.parse().unwrap(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    Some((request, Seen { authorization, last_event_id, body }))
}
