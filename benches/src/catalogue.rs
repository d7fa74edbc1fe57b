//! A large image repository on the real server, and what a device fetches and computes to trust a part of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::de::IgnoredAny;
use serde_json::json;
use sluice_catalog::Digest;
use sluice_catalog::wire::admin::{OnlineKeys as OnlineKeysBody, TokenCreated};
use sluice_catalog::wire::publish::{PublishRequest, PublishResponse};
use sluice_signer::{Limits, Lookup, OnlineKeys, Refresh, TrustedRepository};

use crate::clock;
use crate::documents::{self, Image, Product};
use crate::http::{Connection, request};
use crate::server::Server;

/// Product roles in one publication: the body of a request is limited to 2 MiB, a role of 50 releases takes 37 kB of it.
const ROLES_AT_ONCE: usize = 30;
/// A hardware id that every product of this repository runs on.
const HARDWARE: &str = "cam-r3";

/// A repository that the server has taken in.
#[derive(Debug)]
pub struct Catalogue {
    /// The first root, which clients are provisioned with.
    pub root: Vec<u8>,
    /// Path of the newest image of the product in the middle.
    pub target: String,
    /// Its digest.
    pub digest: [u8; 32],
    /// Names of all products.
    pub products: Vec<String>,
    /// How long the server took to check, keep and sign all of it.
    pub published_in: Duration,
}

/// What a client fetched and how long it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Requests.
    pub requests: u32,
    /// Bytes of documents.
    pub bytes: usize,
    /// Time from the first request until the target was found.
    pub wall: Duration,
    /// Processor time of it, the server's not included.
    pub cpu: Duration,
}

/// Sets a fresh server up with so many products of so many releases each. Every image is 32 bytes: what is measured is what
/// stands in documents.
pub fn set_up(server: &Server, products: u32, releases: u32, step: impl Fn(&str)) -> Result<Catalogue> {
    let mut connection = Connection::open(server.address())?;
    let body = json!({"name": "bench"});
    let bootstrap = server.bootstrap_token()?;
    let admin: TokenCreated = connection.json("POST", "/api/v1/bootstrap", Some(&bootstrap), Some(&body))?;
    let token = Some(admin.token.as_str());
    let exported: OnlineKeysBody = connection.json("GET", "/api/v1/online-keys", token, None::<&()>)?;
    let online = OnlineKeys::from_bytes(&serde_json::to_vec(&exported)?)?;

    let lines: Vec<Product> = (0..products).map(|number| product(number, releases)).collect();
    for (number, line) in lines.iter().enumerate() {
        step(&format!("product {} of {products}: images", number + 1));
        let body = json!({"name": line.name, "visibility": "public"});
        let _: IgnoredAny = connection.json("POST", "/api/v1/products", token, Some(&body))?;
        for image in &line.images {
            connection.put(&format!("/api/v1/blobs/{}", Digest::of(&image.bytes)), &admin.token, &image.bytes)?;
        }
    }
    step("signing");
    let signed = documents::sign_all(&lines, &online, clock::now())?;
    // Roots and top targets go with the first roles.
    let (first, roles) = signed.request.documents.split_at(3);
    let started = clock::instant();
    let mut taken = 0;
    for (number, roles) in roles.chunks(ROLES_AT_ONCE).enumerate() {
        step(&format!("publication {} of {}", number + 1, lines.len().div_ceil(ROLES_AT_ONCE)));
        let documents = if number == 0 { [first, roles].concat() } else { roles.to_vec() };
        let published: PublishResponse =
            connection.json("POST", "/api/v1/publish", token, Some(&PublishRequest { documents }))?;
        taken += published.releases.len();
    }
    let published_in = started.elapsed();
    ensure!(taken == products as usize * releases as usize, "the server took {taken} releases");
    let middle = lines.get(lines.len() / 2).context("no product")?;
    let newest = middle.images.last().context("no release")?;
    Ok(Catalogue {
        root: signed.image_root,
        target: format!("{}/{}/main.bin", middle.name, newest.version),
        digest: Digest::of(&newest.bytes).0,
        products: lines.into_iter().map(|line| line.name).collect(),
        published_in,
    })
}

fn product(number: u32, releases: u32) -> Product {
    let name = format!("bench-cam-{number:03}");
    let images = (1..=releases).map(|order| Image {
        version: format!("2.{}.{}", order / 10, order % 10),
        order: u64::from(order),
        requires: Some("FW.CAM.MAJOR".to_owned()),
        bytes: Digest::of(format!("{name} {order}").as_bytes()).0.to_vec(),
    });
    Product { images: images.collect(), name, hw_id: HARDWARE.to_owned() }
}

/// A device that walks the served documents with the verifier of the agent.
#[derive(Debug)]
pub struct Device {
    repository: TrustedRepository,
    connection: Connection,
    walk: Walk,
}

impl Device {
    /// A device that knows nothing but the first root.
    pub fn cold(server: &Server, root: &[u8]) -> Result<Self> {
        Ok(Self {
            repository: TrustedRepository::from_root(root, &Limits::default())?,
            connection: Connection::open(server.address())?,
            walk: Walk { requests: 0, bytes: 0, wall: Duration::ZERO, cpu: Duration::ZERO },
        })
    }

    /// Fetches a document; `None` when there is none.
    fn fetch(&mut self, file: &str) -> Result<Option<Vec<u8>>> {
        let path = format!("/metadata/{file}");
        let answer = self.connection.exchange(&request("GET", &path, None, &[], None))?;
        self.walk.requests += 1;
        match answer.status {
            200 => {
                self.walk.bytes += answer.body.len();
                Ok(Some(answer.body.to_vec()))
            }
            404 => Ok(None),
            status => anyhow::bail!("{path}: status {status}"),
        }
    }

    /// Does something and says what it took.
    pub fn walk(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<Walk> {
        self.walk = Walk { requests: 0, bytes: 0, wall: Duration::ZERO, cpu: Duration::ZERO };
        let (result, took) = clock::timed(|| work(self));
        result?;
        Ok(Walk { wall: took.wall, cpu: took.cpu, ..self.walk })
    }

    /// Follows root, timestamp, snapshot and top targets to what is current.
    pub fn refresh(&mut self) -> Result<()> {
        let now = clock::now();
        let mut refresh = Refresh::new();
        while let Some(ask) = refresh.next(&self.repository, now)? {
            let document = self.fetch(&ask.file)?;
            refresh.give(&mut self.repository, document.as_deref(), now)?;
        }
        Ok(())
    }

    /// The signed digest of a target.
    pub fn find(&mut self, target: &str) -> Result<[u8; 32]> {
        let now = clock::now();
        loop {
            match self.repository.target(target, now)? {
                Lookup::Found(found) => return Ok(found.target.sha256),
                Lookup::NotFound => anyhow::bail!("{target} is not in the repository"),
                Lookup::NeedsRole { role, parent, wanted } => {
                    let document = self.fetch(&wanted.file)?.with_context(|| format!("{} is missing", wanted.file))?;
                    self.repository.update_targets(&role, &parent, &document, now)?;
                }
            }
        }
    }
}
