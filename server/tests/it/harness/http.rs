//! A blocking HTTP client that shows every answer as it is: refusals are answers too.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sluice_catalog::{Kind, Problem};
use ureq::http::{Method, Request};

/// Longest body that a test reads.
const MAX_BODY_LEN: u64 = 64 << 20;

/// A client with a base URL and, perhaps, a token.
#[derive(Clone, Debug)]
pub struct Client {
    agent: ureq::Agent,
    url: String,
    token: Option<String>,
}

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub body: Vec<u8>,
}

impl Client {
    pub fn new(url: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(Duration::from_mins(1)))
            .build();
        Self { agent: config.into(), url: url.to_owned(), token: None }
    }

    /// The same with a token.
    pub fn with(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The same for another server.
    pub fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    pub fn token(&self) -> &str {
        self.token.as_deref().expect("this client has no token")
    }

    /// Sends a request with these headers and this body.
    #[track_caller]
    pub fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_send(&method, path, headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Sends a request that nobody may answer.
    pub fn try_send(
        &self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, ureq::Error> {
        let mut request = Request::builder().method(method.clone()).uri(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let has_body = !matches!(*method, Method::GET | Method::HEAD) || !body.is_empty();
        let mut response = if has_body {
            self.agent.run(request.body(body).unwrap())?
        } else {
            self.agent.run(request.body(()).unwrap())?
        };
        let body = response.body_mut().with_config().limit(MAX_BODY_LEN).read_to_vec()?;
        Ok(Answer { status: response.status().as_u16(), headers: response.headers().clone(), body })
    }

    /// A good answer that is read while it is made.
    #[track_caller]
    pub fn stream(&self, path: &str, headers: &[(&str, &str)]) -> ureq::http::Response<ureq::Body> {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.header("Authorization", format!("Bearer {}", self.token())).call().unwrap();
        assert_eq!(response.status().as_u16(), 200);
        response
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], &[])
    }

    #[track_caller]
    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, path, headers, &[])
    }

    #[track_caller]
    pub fn head(&self, path: &str) -> Answer {
        self.send(Method::HEAD, path, &[], &[])
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &impl Serialize) -> Answer {
        self.post_raw(path, &serde_json::to_vec(body).unwrap())
    }

    /// Sends bytes that claim to be JSON.
    #[track_caller]
    pub fn post_raw(&self, path: &str, body: &[u8]) -> Answer {
        self.send(Method::POST, path, &[("Content-Type", "application/json")], body)
    }

    #[track_caller]
    pub fn put_json(&self, path: &str, body: &impl Serialize) -> Answer {
        self.send(Method::PUT, path, &[("Content-Type", "application/json")], &serde_json::to_vec(body).unwrap())
    }

    #[track_caller]
    pub fn put(&self, path: &str, body: &[u8]) -> Answer {
        self.send(Method::PUT, path, &[("Content-Type", "application/octet-stream")], body)
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], &[])
    }
}

impl Answer {
    /// The answer, which has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no header {name} in {self:?}")).to_str().unwrap()
    }

    /// The problem, which is of this kind, has the status that belongs to it, and an id for the log.
    #[track_caller]
    pub fn refused(&self, kind: Kind) -> Problem {
        assert!(self.status >= 400, "{} was no refusal: {}", self.status, self.text());
        let problem: Problem = self.json();
        assert_eq!(problem.kind, kind, "{}", problem.detail);
        assert_eq!(problem.status, self.status);
        assert_eq!(self.status, kind.http_status());
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(problem.id.len(), 16);
        problem
    }
}

/// Sends bytes as they are, ends the sending side, and returns what comes back until the server hangs up.
pub fn raw(url: &str, request: &[u8]) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    stream.write_all(request).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    // A connection that is reset has been answered too.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
