//! A minimal HTTP/1.1 client: one kept-alive connection, requests written as they are given, answers parsed just far
//! enough to check them. It must cost little beside the server that it measures, for both share the machine.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest head of an answer. A server that sends more is not the one that is measured.
const HEAD_MAX_LEN: usize = 16 << 10;
/// Longest body of an answer: director documents are 1 kB, lists 100 kB.
const BODY_MAX_LEN: usize = 4 << 20;
/// Longest wait for any answer: a server that hangs ends the measurement instead of being waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes read at once.
const READ_LEN: usize = 16 << 10;

/// One kept-alive connection to a server on this machine.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// The answer being read. Grows to the longest one and stays.
    buffer: Vec<u8>,
}

/// An answer, in the connection's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// The status.
    pub status: u16,
    /// The entity tag, with its quotes.
    pub etag: Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
}

/// What the head of an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head<'a> {
    status: u16,
    etag: Option<&'a str>,
    body_len: usize,
}

impl Connection {
    /// Connects. Only to this machine: a load generator has no business elsewhere.
    pub fn open(address: SocketAddr) -> Result<Self> {
        ensure!(address.ip().is_loopback(), "{address}: load is only put on a server of this machine");
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)
            .with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self { stream, buffer: Vec::with_capacity(READ_LEN) })
    }

    /// Sends a request, head and body in one piece, and reads its answer.
    pub fn exchange(&mut self, request: &[u8]) -> Result<Response<'_>> {
        self.stream.write_all(request).context("sending a request")?;
        self.buffer.clear();
        let mut looked = 0usize;
        let head_len = loop {
            // The end of the head may lie across two reads.
            let from = looked.saturating_sub(3);
            if let Some(at) = self.buffer[from..].windows(4).position(|four| four == b"\r\n\r\n") {
                break from + at + 4;
            }
            ensure!(self.buffer.len() <= HEAD_MAX_LEN, "the head of an answer is longer than {HEAD_MAX_LEN} bytes");
            looked = self.buffer.len();
            self.more()?;
        };
        let body_len = parse_head(&self.buffer[..head_len])?.body_len;
        while self.buffer.len() < head_len + body_len {
            self.more()?;
        }
        ensure!(self.buffer.len() == head_len + body_len, "bytes follow an answer that nothing asked for");
        let Head { status, etag, .. } = parse_head(&self.buffer[..head_len])?;
        Ok(Response { status, etag, body: &self.buffer[head_len..] })
    }

    fn more(&mut self) -> Result<()> {
        let held = self.buffer.len();
        self.buffer.resize(held + READ_LEN, 0);
        let read = self.stream.read(&mut self.buffer[held..]).context("reading an answer")?;
        self.buffer.truncate(held + read);
        ensure!(read > 0, "the server closed the connection in the middle of an answer");
        Ok(())
    }

    /// Sends a JSON body (or none) and reads a JSON answer; any status but 2xx is an error with what the server said.
    pub fn json<T: DeserializeOwned>(
        &mut self,
        method: &str,
        path: &str,
        bearer: Option<&str>,
        body: Option<&impl Serialize>,
    ) -> Result<T> {
        let body = body.map(serde_json::to_vec).transpose()?;
        let content = body.as_deref().map(|body| ("application/json", body));
        let answer = self.successful(method, path, &request(method, path, bearer, &[], content))?;
        serde_json::from_slice(answer).with_context(|| format!("{method} {path}: the answer is not what was expected"))
    }

    /// Sends JSON and wants no answer (RFC 7240).
    pub fn quietly(&mut self, method: &str, path: &str, bearer: &str, body: &impl Serialize) -> Result<()> {
        let body = serde_json::to_vec(body)?;
        let minimal = [("prefer", "return=minimal")];
        let request = request(method, path, Some(bearer), &minimal, Some(("application/json", &body)));
        self.successful(method, path, &request).map(drop)
    }

    /// Sends raw bytes.
    pub fn put(&mut self, path: &str, bearer: &str, body: &[u8]) -> Result<()> {
        let request = request("PUT", path, Some(bearer), &[], Some(("application/octet-stream", body)));
        self.successful("PUT", path, &request).map(drop)
    }

    fn successful(&mut self, method: &str, path: &str, request: &[u8]) -> Result<&[u8]> {
        let answer = self.exchange(request).with_context(|| format!("{method} {path}"))?;
        if !(200..300).contains(&answer.status) {
            bail!("{method} {path}: {} {}", answer.status, String::from_utf8_lossy(answer.body));
        }
        Ok(answer.body)
    }
}

/// A request as bytes, for [`Connection::exchange`].
pub fn request(
    method: &str,
    path: &str,
    bearer: Option<&str>,
    headers: &[(&str, &str)],
    content: Option<(&str, &[u8])>,
) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
    let mut line = |name: &str, value: &str| head.extend([name, ": ", value, "\r\n"]);
    if let Some(token) = bearer {
        line("authorization", &format!("Bearer {token}"));
    }
    for (name, value) in headers {
        line(name, value);
    }
    if let Some((media, body)) = content {
        line("content-type", media);
        line("content-length", &body.len().to_string());
    } else if method != "GET" {
        line("content-length", "0");
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(content.map_or(&[], |(_, body)| body));
    bytes
}

fn parse_head(head: &[u8]) -> Result<Head<'_>> {
    let text = std::str::from_utf8(head).context("the head of an answer is no text")?;
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 "))
        .and_then(|rest| rest.get(..3)?.parse::<u16>().ok())
        .context("the answer does not begin as HTTP/1.1 does")?;
    let (mut etag, mut length) = (None, None);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        if name.eq_ignore_ascii_case("etag") {
            etag = Some(value);
        } else if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.parse::<usize>().context("the answer's Content-Length is no number")?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            bail!("the answer is {value}; this client reads answers with a Content-Length only");
        } else if name.eq_ignore_ascii_case("connection") && value.eq_ignore_ascii_case("close") {
            bail!("the server closes the connection (status {status})");
        }
    }
    // These have no body, whatever their length says.
    let body_len = if matches!(status, 204 | 304) {
        0
    } else {
        length.with_context(|| format!("the answer (status {status}) has no Content-Length"))?
    };
    ensure!(body_len <= BODY_MAX_LEN, "an answer of {body_len} bytes is over the limit of {BODY_MAX_LEN}");
    Ok(Head { status, etag, body_len })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_written_with_its_length() {
        let bytes =
            request("POST", "/v1/poll", Some("t"), &[("if-none-match", "\"a\"")], Some(("application/json", b"{}")));
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(
            text,
            "POST /v1/poll HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer t\r\nif-none-match: \"a\"\r\n\
             content-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
        );
    }

    #[test]
    fn heads_are_read_and_bad_ones_refused() {
        let head = parse_head(b"HTTP/1.1 200 OK\r\nETag: \"5.ab\"\r\nContent-Length: 12\r\n\r\n").unwrap();
        assert_eq!(head, Head { status: 200, etag: Some("\"5.ab\""), body_len: 12 });
        assert_eq!(parse_head(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 12\r\n\r\n").unwrap().body_len, 0);
        for (bad, reason) in [
            (&b"HTTP/1.0 200 OK\r\n\r\n"[..], "begin"),
            (b"HTTP/1.1 200 OK\r\n\r\n", "no Content-Length"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n", "over the limit"),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "chunked"),
            (b"HTTP/1.1 400 Bad\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", "closes"),
        ] {
            let error = parse_head(bad).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn load_is_refused_beyond_this_machine() {
        let error = Connection::open("192.0.2.1:80".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("only put on a server of this machine"));
    }
}
