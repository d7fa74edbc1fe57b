//! Sets the real server up as people and devices do: an administrator, a product, a contract, a publication, devices that
//! enrol with a batch token and poll for the first time, patches, a rollout.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::de::IgnoredAny;
use serde_json::json;
use sluice_catalog::Digest;
use sluice_catalog::device::{DecoderProfile, DeviceState};
use sluice_catalog::rollout::RolloutState;
use sluice_catalog::text::{ProductName, Serial};
use sluice_catalog::wire::admin::{EnrolTokenCreated, MAX_FACTS, OnlineKeys as OnlineKeysBody, TokenCreated};
use sluice_catalog::wire::device::{
    ChallengeResponse, EnrolRequest, EnrolResponse, InstalledReport, PollRequest, SessionRequest, SessionResponse,
    enrol_message, session_message,
};
use sluice_catalog::wire::publish::PublishResponse;
use sluice_catalog::wire::rollout::RolloutDetail;
use sluice_fixtures::{Change, Firmware};
use sluice_signer::{DirectorTrust, Limits, OnlineKeys};

use crate::clock;
use crate::documents::{self, Image, Product};
use crate::http::Connection;
use crate::load::Poller;
use crate::server::Server;

/// Most devices of a fleet: one contract lists them all in one request.
pub const DEVICES_MAX: u32 = 10_000;
const _: () = assert!(DEVICES_MAX as usize <= MAX_FACTS);

/// The product of the fleet.
pub const PRODUCT: &str = "bench-cam";
const HARDWARE: &str = "cam-r3";
const CODE: &str = "FW.CAM.MAJOR";
const OLD: &str = "1.0.0";
/// The version that is rolled out.
pub const NEW: &str = "1.1.0";
/// The images are of a size that a microcontroller has.
const IMAGE_LEN: usize = 256 << 10;
const IMAGE_SEED: u64 = 7;
/// Memory that each device gives to patching.
const RAM_BUDGET: u32 = 64 << 20;
/// Looks at whether the rollout runs, and the pause between two: two minutes in all.
const ROLLOUT_LOOKS: u32 = 600;
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// A fleet that polls, and what its devices were provisioned with.
pub struct Fleet {
    /// The devices.
    pub pollers: Vec<Poller>,
    /// The director's root.
    pub trust: DirectorTrust,
    /// How long setting up each device took: enrolment, session, first poll.
    pub enrolled_in: Duration,
}

/// An administrator of the server.
pub struct Setup<'a> {
    connection: Connection,
    admin: String,
    server: &'a Server,
}

impl Setup<'_> {
    /// Connects again: the server hangs up on who says nothing for a while.
    pub fn reconnect(&mut self) -> Result<()> {
        self.connection = Connection::open(self.server.address())?;
        Ok(())
    }

    /// Posts as the administrator.
    pub fn post<T: serde::de::DeserializeOwned>(&mut self, path: &str, body: &impl serde::Serialize) -> Result<T> {
        self.connection.json("POST", path, Some(&self.admin), Some(body))
    }

    /// Posts and wants no answer.
    pub fn post_quietly(&mut self, path: &str, body: &impl serde::Serialize) -> Result<()> {
        self.connection.quietly("POST", path, &self.admin, body)
    }

    /// Gets.
    pub fn get<T: serde::de::DeserializeOwned>(&mut self, path: &str) -> Result<T> {
        self.connection.json("GET", path, Some(&self.admin), None::<&()>)
    }
}

/// Sets a fresh server up with this many devices on the old version, and opens a rollout of the new one to so many
/// percent of them.
pub fn set_up(server: &Server, devices: u32, percent: u8, connections: usize) -> Result<Fleet> {
    let (mut setup, enrolled) = foundation(server, devices, connections)?;
    let Enrolled { mut pollers, director_root, took: enrolled_in } = enrolled;
    rollout(&mut setup, "bench", &json!([{"percent": percent}]))?;
    // The first poll after the rollout opened makes the attempts and the documents that devices then hold.
    each(server.address(), &mut pollers, connections, Poller::hold)?;
    let trust = DirectorTrust::from_root(&director_root, &Limits::default())?;
    Ok(Fleet { pollers, trust, enrolled_in })
}

/// Devices that enrolled and have polled once.
pub struct Enrolled {
    pollers: Vec<Poller>,
    director_root: Vec<u8>,
    took: Duration,
}

/// Makes an administrator, publishes both versions, and enrols so many devices on the old one.
pub fn foundation(server: &Server, devices: u32, connections: usize) -> Result<(Setup<'_>, Enrolled)> {
    let mut connection = Connection::open(server.address())?;
    let bootstrap = server.bootstrap_token()?;
    let body = json!({"name": "bench"});
    let admin: TokenCreated = connection.json("POST", "/api/v1/bootstrap", Some(&bootstrap), Some(&body))?;
    let mut setup = Setup { connection, admin: admin.token, server };

    let (images, director_root) = publish(&mut setup)?;
    let serials = (0..devices).map(serial).collect::<Result<Vec<_>>>()?;
    contract(&mut setup, &serials)?;
    let body = json!({"product": PRODUCT, "customer": "bench-customer", "label": "bench", "uses": devices});
    let token: EnrolTokenCreated = setup.post("/api/v1/enrol-tokens", &body)?;

    let running = images.first().context("no image")?;
    let started = clock::instant();
    let pollers = enrol(server.address(), &serials, &token.token, running, connections)?;
    let took = started.elapsed();
    Ok((setup, Enrolled { pollers, director_root, took }))
}

fn serial(number: u32) -> Result<Serial> {
    Ok(format!("BENCH-{number:06}").parse()?)
}

/// Product, images and signed documents.
fn publish(setup: &mut Setup<'_>) -> Result<(Vec<Image>, Vec<u8>)> {
    let _: IgnoredAny = setup.post("/api/v1/products", &json!({"name": PRODUCT, "visibility": "gated"}))?;
    let first = Firmware::new(IMAGE_SEED, IMAGE_LEN)?;
    let old = first.to_bytes();
    let new = first.evolved(IMAGE_SEED, Change::Minor)?.to_bytes();
    let images = vec![
        Image { version: OLD.to_owned(), order: 1, requires: None, bytes: old },
        Image { version: NEW.to_owned(), order: 2, requires: Some(CODE.to_owned()), bytes: new },
    ];
    let exported: OnlineKeysBody = setup.get("/api/v1/online-keys")?;
    let online = OnlineKeys::from_bytes(&serde_json::to_vec(&exported)?)?;
    for image in &images {
        let path = format!("/api/v1/blobs/{}", Digest::of(&image.bytes));
        setup.connection.put(&path, &setup.admin, &image.bytes)?;
    }
    let product = Product { name: PRODUCT.to_owned(), hw_id: HARDWARE.to_owned(), images: images.clone() };
    let signed = documents::sign(&product, &online, clock::now())?;
    let published: PublishResponse = setup.post("/api/v1/publish", &signed.request)?;
    ensure!(published.releases.len() == images.len(), "the server took {} releases", published.releases.len());
    Ok((images, signed.director_root))
}

/// A plan that grants the new version's code, and one contract over all devices.
fn contract(setup: &mut Setup<'_>, serials: &[Serial]) -> Result<()> {
    let _: IgnoredAny = setup.post("/api/v1/customers", &json!({"name": "bench-customer"}))?;
    let _: IgnoredAny = setup.post("/api/v1/plans", &json!({"name": "bench-plan", "grants": [{"code": CODE}]}))?;
    let items: Vec<_> = serials.iter().map(|serial| json!({"product": PRODUCT, "serial": serial})).collect();
    let body = json!({
        "number": "BENCH-1", "customer": "bench-customer", "plan": "bench-plan", "items": items,
        "windows": [{"from": "2025-01-01T00:00:00Z", "to": "2060-01-01T00:00:00Z"}],
    });
    let _: IgnoredAny = setup.post("/api/v1/contracts", &body)?;
    Ok(())
}

/// Enrols every device, opens its session and polls once, over several connections at a time.
fn enrol(
    address: SocketAddr,
    serials: &[Serial],
    token: &str,
    running: &Image,
    connections: usize,
) -> Result<Vec<Poller>> {
    let mut slots: Vec<(Serial, Option<Poller>)> = serials.iter().map(|serial| (serial.clone(), None)).collect();
    each(address, &mut slots, connections, |(serial, poller), connection| {
        *poller = Some(enrol_one(connection, serial, token, running)?);
        Ok(())
    })?;
    slots.into_iter().map(|(serial, poller)| poller.with_context(|| format!("{serial} did not enrol"))).collect()
}

fn enrol_one(connection: &mut Connection, serial: &Serial, token: &str, running: &Image) -> Result<Poller> {
    let key = documents::key(&format!("device {serial}"))?;
    let public_key = hex::encode(key.public().ed25519_bytes().context("an ed25519 key")?);
    let product: ProductName = PRODUCT.parse()?;
    let report =
        InstalledReport { version: running.version.parse()?, sha256: Digest::of(&running.bytes), security_counter: 1 };
    let installed = BTreeMap::from([("main".parse()?, report)]);
    let enrolment = EnrolRequest {
        signature: hex::encode(key.sign(&enrol_message(&product, serial, &public_key))),
        product: product.clone(),
        serial: serial.clone(),
        hw_id: HARDWARE.parse()?,
        public_key,
        token: Some(token.to_owned()),
        installed: installed.clone(),
    };
    let enrolled: EnrolResponse = connection.json("POST", "/v1/enrol", None, Some(&enrolment))?;
    ensure!(enrolled.state == DeviceState::Active, "{serial} is {} after enrolment", enrolled.state.as_str());
    let ChallengeResponse { challenge } = connection.json("POST", "/v1/challenge", None, None::<&()>)?;
    let signature = hex::encode(key.sign(&session_message(&product, serial, &challenge)));
    let request = SessionRequest { product, serial: serial.clone(), challenge, signature };
    let session: SessionResponse = connection.json("POST", "/v1/session", None, Some(&request))?;
    let poll = PollRequest {
        nonce: None,
        installed,
        profile: DecoderProfile::Default,
        ram_budget: RAM_BUDGET,
        scratch_budget: 0,
        epoch: 1,
    };
    let mut poller = Poller::new(enrolled.device_id, &session.token, poll)?;
    // What it runs is known from here on: the server builds patches for it.
    poller.hold(connection)?;
    Ok(poller)
}

/// Makes a rollout, starts it and waits until its patches stand and it runs.
pub fn rollout(setup: &mut Setup<'_>, name: &str, stages: &serde_json::Value) -> Result<()> {
    let body = json!({"name": name, "product": PRODUCT, "version": NEW, "stages": stages});
    let _: RolloutDetail = setup.post("/api/v1/rollouts", &body)?;
    let path = format!("/api/v1/rollouts/{name}");
    let mut detail: RolloutDetail = setup.post(&format!("{path}/move"), &json!({"action": "start"}))?;
    for _ in 0..ROLLOUT_LOOKS {
        if detail.rollout.state == RolloutState::Running {
            ensure!(detail.patches.ready > 0, "the rollout runs without a patch: {:?}", detail.patches);
            return Ok(());
        }
        thread::sleep(LOOK_PAUSE);
        detail = setup.get(&path)?;
    }
    bail!("the rollout is still {}; the server's log:\n{}", detail.rollout.state.as_str(), setup.server.log())
}

/// Does something for each item, shared out over so many connections.
fn each<T: Send>(
    address: SocketAddr,
    items: &mut [T],
    connections: usize,
    work: impl Fn(&mut T, &mut Connection) -> Result<()> + Sync,
) -> Result<()> {
    let share = items.len().div_ceil(connections.max(1)).max(1);
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = items
            .chunks_mut(share)
            .map(|chunk| {
                scope.spawn(move || {
                    let mut connection = Connection::open(address)?;
                    chunk.iter_mut().try_for_each(|item| work(item, &mut connection))
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}
