//! A dishonest network: passes HTTP/1.1 on between one agent and the server, and flips one bit in the middle of the
//! first blob that comes by.
//!
//! Knows of HTTP what it needs to find the body: request line, `Content-Length`, chunks. One exchange at a time on a
//! connection, which is how our agent talks.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// Longest head of a request or answer, bytes. Both sides are ours; this only stops a loop.
const HEAD_MAX_LEN: u64 = 64 << 10;
/// Bytes copied at a time.
const BLOCK_LEN: usize = 64 << 10;
/// A peer that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_mins(1);

/// The proxy. It ends with the process.
pub struct Proxy {
    address: SocketAddr,
    flipped: Arc<AtomicU64>,
    armed: Arc<AtomicBool>,
}

impl Proxy {
    /// Listens on the loopback interface and passes on to the server. Honest until armed.
    pub fn start(server_url: &str) -> Result<Self> {
        let upstream = server_url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").context("the proxy")?;
        let address = listener.local_addr()?;
        let (flipped, armed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let shared = (Arc::clone(&flipped), Arc::clone(&armed));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (upstream, (flipped, armed)) = (upstream.clone(), shared.clone());
                // A connection that breaks is the agent's to repeat.
                thread::spawn(move || drop(connection(&client, &upstream, &flipped, &armed)));
            }
        });
        Ok(Self { address, flipped, armed })
    }

    /// Where the agent takes it for the server.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Flips a bit in the next blob.
    pub fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// How many bits it flipped.
    pub fn flipped(&self) -> u64 {
        self.flipped.load(Ordering::SeqCst)
    }
}

fn connection(client: &TcpStream, upstream: &str, flipped: &AtomicU64, armed: &AtomicBool) -> io::Result<()> {
    let server = TcpStream::connect(upstream)?;
    for stream in [client, &server] {
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_nodelay(true)?;
    }
    let (mut from_client, mut from_server) = (BufReader::new(client), BufReader::new(&server));
    let (mut to_client, mut to_server) = (client, &server);
    while let Some(request) = head(&mut from_client)? {
        let is_blob = request.starts_with(b"GET /v1/blobs/");
        let is_head = request.starts_with(b"HEAD ");
        to_server.write_all(&request)?;
        copy_body(&mut from_client, &mut to_server, body_of(&request, true), &mut None)?;

        let Some(answer) = head(&mut from_server)? else { return Ok(()) };
        to_client.write_all(&answer)?;
        let body = if is_head { Body::Empty } else { body_of(&answer, false) };
        let tampers =
            is_blob && status(&answer) / 100 == 2 && body != Body::Empty && armed.swap(false, Ordering::SeqCst);
        if tampers {
            flipped.fetch_add(1, Ordering::SeqCst);
        }
        // In the middle, if there is one to be known: not the first bytes, which any program would notice.
        let mut flip = tampers.then_some(if let Body::Exact(length) = body { length / 2 } else { 0 });
        copy_body(&mut from_server, &mut to_client, body, &mut flip)?;
        if body == Body::UntilClose {
            return Ok(());
        }
    }
    Ok(())
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Empty,
    Exact(u64),
    Chunked,
    UntilClose,
}

/// Everything up to the empty line; none when the peer has closed.
fn head(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let mut limited = reader.take(HEAD_MAX_LEN);
    loop {
        let before = bytes.len();
        limited.read_until(b'\n', &mut bytes)?;
        match &bytes[before..] {
            b"" if before == 0 => return Ok(None),
            b"" => return Err(io::ErrorKind::UnexpectedEof.into()),
            b"\r\n" => return Ok(Some(bytes)),
            _ => {}
        }
    }
}

fn field(head: &[u8], name: &str) -> Option<String> {
    String::from_utf8_lossy(head).lines().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim().to_ascii_lowercase())
    })
}

fn status(head: &[u8]) -> u16 {
    String::from_utf8_lossy(head).split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

fn body_of(head: &[u8], is_request: bool) -> Body {
    if field(head, "transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        return Body::Chunked;
    }
    match field(head, "content-length").and_then(|length| length.parse().ok()) {
        Some(0) => Body::Empty,
        Some(length) => Body::Exact(length),
        None if is_request || matches!(status(head), 100..=199 | 204 | 304) => Body::Empty,
        None => Body::UntilClose,
    }
}

fn copy_body(from: &mut impl BufRead, to: &mut impl Write, body: Body, flip: &mut Option<u64>) -> io::Result<()> {
    match body {
        Body::Empty => Ok(()),
        Body::Exact(length) => copy(from, to, length, flip),
        Body::UntilClose => copy(from, to, u64::MAX, flip),
        Body::Chunked => loop {
            let mut line = Vec::new();
            from.take(HEAD_MAX_LEN).read_until(b'\n', &mut line)?;
            to.write_all(&line)?;
            let text = String::from_utf8_lossy(&line);
            let digits = text.split(';').next().unwrap_or_default().trim();
            let length = u64::from_str_radix(digits, 16).map_err(io::Error::other)?;
            // The chunk and its line end; after the last one the trailer's empty line.
            copy(from, to, length, flip)?;
            copy(from, to, 2, &mut None)?;
            if length == 0 {
                return Ok(());
            }
        },
    }
}

/// Copies so many bytes, or all there are, and flips a bit in the one at `flip`, counted from here; then `flip` is none.
fn copy(from: &mut impl Read, to: &mut impl Write, length: u64, flip: &mut Option<u64>) -> io::Result<()> {
    let mut block = vec![0; BLOCK_LEN];
    let mut left = length;
    while left > 0 {
        let wanted = BLOCK_LEN.min(usize::try_from(left).unwrap_or(BLOCK_LEN));
        let count = from.read(&mut block[..wanted])?;
        if count == 0 {
            return if length == u64::MAX { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        if let Some(at) = flip.take() {
            match usize::try_from(at).ok().filter(|at| *at < count) {
                Some(at) => block[at] ^= 0x10,
                None => *flip = Some(at - count as u64),
            }
        }
        to.write_all(&block[..count])?;
        left -= count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_is_flipped_where_asked() {
        let input = vec![0_u8; 200_000];
        let mut output = Vec::new();
        let mut flip = Some(150_000);
        copy(&mut &input[..], &mut output, 200_000, &mut flip).unwrap();
        assert_eq!(output.len(), input.len());
        let changed: Vec<usize> = (0..input.len()).filter(|at| input[*at] != output[*at]).collect();
        assert_eq!((changed, flip), (vec![150_000], None));
    }

    #[test]
    fn chunks_pass_unchanged_but_for_the_bit() {
        let wire = b"5\r\nhello\r\n3;x=y\r\nyou\r\n0\r\n\r\nnext";
        let mut from = &wire[..];
        let mut output = Vec::new();
        copy_body(&mut from, &mut output, Body::Chunked, &mut None).unwrap();
        assert_eq!(output, &wire[..wire.len() - 4]);
        assert_eq!(from, b"next", "the next exchange begins where this one ends");
        let mut tampered = Vec::new();
        copy_body(&mut &wire[..], &mut tampered, Body::Chunked, &mut Some(6)).unwrap();
        assert_eq!(tampered.iter().zip(&output).filter(|(a, b)| a != b).count(), 1);
    }

    #[test]
    fn a_body_is_as_long_as_its_head_says() {
        assert_eq!(body_of(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", false), Body::Exact(7));
        assert_eq!(body_of(b"HTTP/1.1 304 Not Modified\r\n\r\n", false), Body::Empty);
        assert_eq!(body_of(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false), Body::Chunked);
        assert_eq!(body_of(b"HTTP/1.1 200 OK\r\n\r\n", false), Body::UntilClose);
        assert_eq!(body_of(b"GET / HTTP/1.1\r\n\r\n", true), Body::Empty);
    }

    #[test]
    fn a_whole_exchange_passes_through() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", server.local_addr().unwrap());
        let answering = thread::spawn(move || {
            let (stream, _) = server.accept().unwrap();
            let mut reader = BufReader::new(&stream);
            for _ in 0..2 {
                head(&mut reader).unwrap().unwrap();
                (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabcdef").unwrap();
            }
        });
        let proxy = Proxy::start(&url).unwrap();
        proxy.arm();
        let client = TcpStream::connect(proxy.address).unwrap();
        let mut reader = BufReader::new(&client);
        let mut ask = |path: &str| {
            (&client).write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
            head(&mut reader).unwrap().unwrap();
            let mut body = [0; 6];
            reader.read_exact(&mut body).unwrap();
            body
        };
        assert_eq!(&ask("/v1/poll"), b"abcdef", "only blobs are touched");
        assert_eq!(&ask("/v1/blobs/00"), b"abctef");
        answering.join().unwrap();
        assert_eq!(proxy.flipped(), 1);
    }
}
