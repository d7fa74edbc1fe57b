//! A download as a stream that heals itself: when the connection breaks or stalls it goes on with a `Range` request from
//! the first missing byte. It is bounded by the length that was signed, never by what the server claims.

use std::io::{self, Read};

use jiff::Timestamp;
use ureq::http::Response;
use ureq::{Body, BodyReader};

use crate::host::{Host, Progress};
use crate::http::{Http, backoff, is_retryable};

/// Connections in a row that may bring next to nothing before the download is given up for this cycle.
const MAX_FAILURES: u32 = 6;
/// A connection that brought fewer bytes counts as failed: a server that drips a byte at a time cannot keep us for ever.
const MIN_PROGRESS_BYTES: u64 = 1024;

/// Why a download ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobFailure {
    /// The network or the server failed too often in a row; what came so far is good.
    Unreachable(String),
    /// The URL's token is no longer good: poll again for another.
    Expired,
    /// The server will not give it.
    Gone(String),
    /// What the server has is not as long as what was signed.
    WrongLength(String),
    /// The process was asked to stop.
    Stopped,
}

/// A blob being downloaded.
pub struct Blob<'b> {
    http: &'b Http,
    host: Host<'b>,
    url: String,
    total: u64,
    position: u64,
    /// Bytes to throw away, when the server ignored the range.
    skip: u64,
    reader: Option<BodyReader<'static>>,
    since_connect: u64,
    failures: u32,
    received: u64,
    /// When the rest must have come: a server that drips is given up, and the next round goes on from what came.
    deadline: Timestamp,
    failure: Option<BlobFailure>,
}

impl<'b> Blob<'b> {
    /// A blob of `total` bytes, from byte `position` on. Nothing is sent yet.
    pub fn new(http: &'b Http, host: Host<'b>, url: &str, total: u64, position: u64) -> Self {
        Self {
            http,
            host,
            url: url.to_owned(),
            total,
            position,
            skip: 0,
            reader: None,
            since_connect: 0,
            failures: 0,
            received: 0,
            deadline: http.deadline((host.now)(), total.saturating_sub(position)),
            failure: None,
        }
    }

    /// Bytes that came over the network.
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Offset of the next byte.
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Why reading failed, if it did.
    pub fn failure(&self) -> Option<&BlobFailure> {
        self.failure.as_ref()
    }

    /// Goes to another offset; the connection is kept only when it stands there already.
    pub fn seek_to(&mut self, position: u64) {
        if self.position != position {
            self.reader = None;
            self.position = position;
        }
    }

    fn fail<T>(&mut self, failure: BlobFailure) -> io::Result<T> {
        self.reader = None;
        let text = format!("{failure:?}");
        self.failure = Some(failure);
        Err(io::Error::other(text))
    }

    /// The connection is of no more use: wait and let the next read connect again, or give up.
    fn broke(&mut self, detail: String) -> io::Result<()> {
        self.reader = None;
        if self.since_connect >= MIN_PROGRESS_BYTES {
            self.failures = 0;
        }
        self.failures += 1;
        self.since_connect = 0;
        if self.failures >= MAX_FAILURES {
            return self.fail(BlobFailure::Unreachable(detail));
        }
        (self.host.log)(&format!("download broke at byte {} of {}: {detail}; resuming", self.position, self.total));
        (self.host.sleep)(backoff(&self.host, self.failures));
        Ok(())
    }

    fn connect(&mut self) -> io::Result<()> {
        let response = match self.http.open_blob(&self.url, self.position) {
            Ok(response) => response,
            Err(error) => return self.broke(crate::error::shown(&error.to_string())),
        };
        let status = response.status().as_u16();
        match status {
            200 => {
                let length = response.body().content_length();
                if length.is_some_and(|length| length != self.total) {
                    let text = format!("{} bytes, signed were {}", length.unwrap_or(0), self.total);
                    return self.fail(BlobFailure::WrongLength(text));
                }
                self.skip = self.position;
            }
            206 => match content_range(&response) {
                Some((from, total)) if from == self.position && total.is_none_or(|total| total == self.total) => {
                    self.skip = 0;
                }
                other => return self.fail(BlobFailure::WrongLength(format!("content range {other:?}"))),
            },
            401 | 403 => return self.fail(BlobFailure::Expired),
            416 => return self.fail(BlobFailure::WrongLength(format!("nothing at byte {}", self.position))),
            status if is_retryable(status) => return self.broke(format!("status {status}")),
            status => return self.fail(BlobFailure::Gone(format!("status {status}"))),
        }
        self.reader = Some(response.into_body().into_with_config().limit(u64::MAX).reader());
        self.since_connect = 0;
        Ok(())
    }
}

/// First byte and whole length of a `Content-Range: bytes 100-199/200`.
fn content_range(response: &Response<Body>) -> Option<(u64, Option<u64>)> {
    let text = response.headers().get("content-range")?.to_str().ok()?;
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, _) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((from.parse().ok()?, total))
}

impl Read for Blob<'_> {
    /// Never returns [`io::ErrorKind::Interrupted`]; after an error [`Blob::failure`] tells why.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.host.stopping() {
                return self.fail(BlobFailure::Stopped);
            }
            let left = self.total.saturating_sub(self.position);
            if left > 0 && (self.host.now)() > self.deadline {
                let detail = format!("slower than the configuration allows, {left} bytes are left");
                return self.fail(BlobFailure::Unreachable(detail));
            }
            if left == 0 || buffer.is_empty() {
                return Ok(0);
            }
            let Some(reader) = &mut self.reader else {
                self.connect()?;
                continue;
            };
            let limit = if self.skip > 0 { self.skip } else { left };
            let want = usize::try_from(limit).unwrap_or(usize::MAX).min(buffer.len());
            let Some(room) = buffer.get_mut(..want) else { return Ok(0) };
            match reader.read(room) {
                Ok(0) => self.broke("the connection ended early".to_owned())?,
                Ok(read) => {
                    let bytes = read as u64;
                    self.since_connect += bytes;
                    self.received += bytes;
                    if self.skip > 0 {
                        self.skip -= bytes;
                        continue;
                    }
                    self.position += bytes;
                    (self.host.progress)(Progress { done: self.position, total: self.total });
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.broke(crate::error::shown(&error.to_string()))?,
            }
        }
    }
}
