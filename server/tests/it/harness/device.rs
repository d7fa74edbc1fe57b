//! A device: its key, what it runs, and the requests it makes. Answers of the director are verified as an agent does.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use sluice_catalog::Digest;
use sluice_catalog::wire::device::{
    ChallengeResponse, EnrolResponse, PollResponse, SessionResponse, enrol_message, session_message,
};
use sluice_server::clock::Clock;
use sluice_signer::{DirectorDocument, DirectorExpect, DirectorTrust, Limits, SigningKey, sha256};

use super::http::{Answer, Client};
use super::{Release, TestServer};

/// The nonce that these devices send.
pub const NONCE: &str = "6e6f6e6365";

/// A device.
pub struct TestDevice {
    pub product: String,
    pub serial: String,
    pub hw_id: String,
    pub key: SigningKey,
    /// After enrolment.
    pub id: String,
    /// With the session token, once there is one.
    pub client: Client,
    /// What it says it runs.
    pub installed: Value,
    /// What it says it can decode.
    pub profile: &'static str,
    /// The newest signing epoch that its verifier knows.
    pub epoch: u64,
    clock: Clock,
}

/// An answer to a poll.
pub struct Polled {
    pub response: PollResponse,
    pub document: DirectorDocument,
    pub etag: String,
}

impl TestDevice {
    /// A device with a key of its own that has said nothing yet.
    pub fn new(server: &TestServer, product: &str, serial: &str) -> Self {
        Self::at(server.client(), server.clock.clone(), product, serial)
    }

    /// The same for any server.
    pub fn at(client: Client, clock: Clock, product: &str, serial: &str) -> Self {
        Self {
            product: product.to_owned(),
            serial: serial.to_owned(),
            hw_id: "cam-r3".to_owned(),
            key: SigningKey::from_seed(&sha256(format!("{product}/{serial}").as_bytes())).unwrap(),
            id: String::new(),
            client,
            installed: json!({}),
            profile: "default",
            epoch: 1,
            clock,
        }
    }

    pub fn public_key(&self) -> String {
        hex::encode(self.key.public().ed25519_bytes().unwrap())
    }

    /// The body of an enrolment.
    pub fn enrolment(&self, token: Option<&str>) -> Value {
        let (product, serial) = (self.product.parse().unwrap(), self.serial.parse().unwrap());
        let key = self.public_key();
        let signature = hex::encode(self.key.sign(&enrol_message(&product, &serial, &key)));
        let mut body = json!({
            "product": self.product, "serial": self.serial, "hw_id": self.hw_id, "public_key": key,
            "installed": self.installed, "signature": signature,
        });
        if let Some(token) = token {
            body["token"] = token.into();
        }
        body
    }

    pub fn enrol(&mut self, token: Option<&str>) -> Answer {
        let answer = self.client.post("/v1/enrol", &self.enrolment(token));
        if answer.status == 200 {
            self.id = answer.json::<EnrolResponse>().device_id.to_string();
        }
        answer
    }

    /// Trades a signed challenge for a session.
    pub fn session(&self) -> Answer {
        let challenge = self.client.post("/v1/challenge", &json!({})).expect(200).json::<ChallengeResponse>().challenge;
        let message = session_message(&self.product.parse().unwrap(), &self.serial.parse().unwrap(), &challenge);
        let signature = hex::encode(self.key.sign(&message));
        let body =
            json!({"product": self.product, "serial": self.serial, "challenge": challenge, "signature": signature});
        self.client.post("/v1/session", &body)
    }

    #[track_caller]
    pub fn open_session(&mut self) {
        let session: SessionResponse = self.session().expect(200).json();
        self.client = self.client.with(&session.token);
    }

    /// It runs this release's image from now on.
    pub fn run(&mut self, release: &Release) {
        self.installed[&release.component] = json!({
            "version": release.version, "sha256": release.digest(), "security_counter": release.security_counter,
        });
    }

    pub fn poll_body(&self) -> Value {
        let mut body = json!({
            "nonce": NONCE, "installed": self.installed, "profile": self.profile,
            "ram_budget": 64 << 20, "scratch_budget": 0,
        });
        if self.epoch != 1 {
            body["epoch"] = self.epoch.into();
        }
        body
    }

    /// Polls, whatever comes.
    pub fn poll_answer(&self) -> Answer {
        self.client.post("/v1/poll", &self.poll_body())
    }

    /// Polls and verifies the answer from the first director root.
    #[track_caller]
    pub fn poll(&self) -> Polled {
        let answer = self.poll_answer().expect(200);
        let etag = answer.header("etag").to_owned();
        let response: PollResponse = answer.json();
        let document = self.verify(&response, Some(NONCE));
        Polled { response, document, etag }
    }

    #[track_caller]
    pub fn verify(&self, response: &PollResponse, nonce: Option<&str>) -> DirectorDocument {
        self.try_verify(&self.id, response, nonce).unwrap()
    }

    /// Verifies an answer as if it were for this device.
    pub fn try_verify(
        &self,
        id: &str,
        response: &PollResponse,
        nonce: Option<&str>,
    ) -> Result<DirectorDocument, sluice_signer::VerifyError> {
        let root = self.client.get("/director/1.root.json").expect(200).body;
        let limits = Limits { newest_epoch: self.epoch, ..Limits::default() };
        let mut trust = DirectorTrust::from_root(&root, &limits).unwrap();
        while self.epoch > trust.root().epoch {
            let next = self.client.get(&format!("/director/{}.root.json", trust.root_version() + 1));
            if next.status == 404 {
                break;
            }
            trust.update_root(&next.body)?;
        }
        let now = Timestamp::from_second(self.clock.now().as_s()).unwrap();
        let expect = DirectorExpect { device_id: id, nonce, now, last_version: 0 };
        trust.verify_director(response.director.get().as_bytes(), &expect).map(|answer| answer.document)
    }

    /// The cheap form of a poll.
    pub fn poll_held(&self, etag: &str) -> Answer {
        self.client.get_with("/v1/poll", &[("If-None-Match", etag)])
    }

    /// Reports one event.
    pub fn report(&self, attempt: i32, state: &str) -> Answer {
        self.report_event(json!({"attempt": attempt, "state": state}))
    }

    pub fn report_event(&self, event: Value) -> Answer {
        self.client.post("/v1/report", &json!({"events": [event]}))
    }
}

impl Polled {
    pub fn reason(&self) -> &str {
        &self.document.reason
    }

    pub fn attempt(&self) -> i32 {
        self.response.attempt.expect("an attempt")
    }

    /// The one path offered.
    #[track_caller]
    pub fn path(&self) -> &str {
        assert_eq!(self.document.targets.len(), 1, "{:?}", self.document);
        self.document.targets.keys().next().unwrap()
    }

    /// The blobs that it names with their URLs.
    pub fn urls(&self) -> &BTreeMap<Digest, String> {
        &self.response.urls
    }

    #[track_caller]
    pub fn is_nothing(&self, reason: &str) {
        assert_eq!(self.reason(), reason);
        assert!(self.document.targets.is_empty() && self.response.urls.is_empty());
        assert_eq!((self.response.attempt, &self.response.blob_token), (None, &None));
    }
}
