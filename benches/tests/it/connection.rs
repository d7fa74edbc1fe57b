//! The HTTP client against a server that answers by script, byte by byte where that is mean.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};
use sluice_benches::http::{Connection, request};

/// Answers one connection's requests with these pieces, one list for each request, each piece sent by itself. Gives back
/// what it was sent.
fn server(answers: Vec<Vec<&'static str>>) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut heard = String::new();
        let mut block = [0; 4096];
        for pieces in answers {
            let read = stream.read(&mut block).unwrap();
            heard.push_str(std::str::from_utf8(&block[..read]).unwrap());
            for piece in pieces {
                stream.write_all(piece.as_bytes()).unwrap();
                stream.flush().unwrap();
                // Lets the client read each piece alone more often than not; the result is the same either way.
                thread::yield_now();
            }
        }
        heard
    });
    (address, thread)
}

#[test]
fn answers_on_one_connection_are_read_however_they_are_cut() {
    let (address, heard) = server(vec![
        vec!["HTTP/1.1 20", "0 OK\r\ncontent-length: 3\r\n\r", "\n", "ok", "\n"],
        vec!["HTTP/1.1 304 Not Modified\r\netag: \"1.a\"\r\n\r\n"],
        vec!["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"a\": ", "42}"],
    ]);
    let mut connection = Connection::open(address).unwrap();
    let get = request("GET", "/healthz", None, &[], None);
    let answer = connection.exchange(&get).unwrap();
    assert_eq!((answer.status, answer.body), (200, &b"ok\n"[..]));
    let answer = connection.exchange(&get).unwrap();
    assert_eq!((answer.status, answer.etag, answer.body), (304, Some("\"1.a\""), &b""[..]));
    let value: Value = connection.json("POST", "/v1/poll", Some("token"), Some(&json!({"b": 1}))).unwrap();
    assert_eq!(value, json!({"a": 42}));
    let heard = heard.join().unwrap();
    assert!(heard.ends_with(
        "authorization: Bearer token\r\ncontent-type: application/json\r\ncontent-length: 7\r\n\r\n{\"b\":1}"
    ));
}

#[test]
fn what_no_server_of_ours_answers_is_an_error() {
    for (answer, reason) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort", "closed the connection"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nlonger", "bytes follow"),
        ("SSH-2.0-OpenSSH\r\n\r\n", "does not begin as HTTP/1.1 does"),
    ] {
        let (address, heard) = server(vec![vec![answer]]);
        let mut connection = Connection::open(address).unwrap();
        let error = connection.exchange(&request("GET", "/", None, &[], None)).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        drop(connection);
        heard.join().unwrap();
    }
}

#[test]
fn a_refusal_is_an_error_with_what_the_server_said() {
    let (address, heard) = server(vec![vec!["HTTP/1.1 409 Conflict\r\ncontent-length: 5\r\n\r\ntaken"]]);
    let mut connection = Connection::open(address).unwrap();
    let error = connection.json::<Value>("POST", "/api/v1/products", None, Some(&json!({}))).unwrap_err().to_string();
    assert_eq!(error, "POST /api/v1/products: 409 taken");
    heard.join().unwrap();
}
