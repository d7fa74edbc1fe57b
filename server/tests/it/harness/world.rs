//! An installation with an administrator, two products, and a company that signs: `acme-cam` is public, `acme-bar` gated.

use std::collections::BTreeMap;

use serde_json::json;
use sluice_catalog::wire::admin::{Page, Status, TokenCreated};
use sluice_catalog::wire::publish::{PublishDocument, PublishRequest, PublishResponse};
use sluice_catalog::wire::rollout::RolloutDetail;
use sluice_fixtures::firmware::{Change, evolve, image};
use sluice_signer::OnlineKeys;
use std::sync::LazyLock;

use super::{Answer, Ceremony, Client, Engine, Place, Release, TestDevice, TestServer};

/// The public product.
pub const CAM: &str = "acme-cam";
/// The gated product.
pub const BAR: &str = "acme-bar";
/// The id by which Lens-style clients ask for [`CAM`].
pub const CAM_PID: &str = "431a";
/// The id by which Lens-style clients ask for [`BAR`].
pub const BAR_PID: &str = "92b2";

/// Three versions of one image, each a small change of the one before.
pub static IMAGES: LazyLock<[Vec<u8>; 3]> = LazyLock::new(|| {
    let first = image(7, 64 << 10).unwrap();
    let second = evolve(&first, 8, Change::Patchlevel).unwrap();
    let third = evolve(&second, 9, Change::Patchlevel).unwrap();
    [first, second, third]
});

/// The installation.
pub struct World {
    pub server: TestServer,
    pub admin: Client,
    pub ceremony: Ceremony,
    /// What each product role lists, in the order of publication, and its last version.
    pub signed: BTreeMap<String, (u64, Vec<Release>)>,
}

impl World {
    /// Roots and the top document are published; there are no releases.
    pub fn new(engine: Engine) -> Self {
        Self::new_on(engine, Place::Local)
    }

    pub fn new_on(engine: Engine, place: Place) -> Self {
        let world = Self::unsigned(engine, place);
        world.publish(&world.foundation()).expect(200);
        world
    }

    /// With administrator and products, and without a single document.
    pub fn unsigned(engine: Engine, place: Place) -> Self {
        Self::around(TestServer::start_on(engine, place))
    }

    /// The same around a server that has nothing.
    pub fn around(server: TestServer) -> Self {
        let made: TokenCreated = server
            .client()
            .with(&server.bootstrap_token())
            .post("/api/v1/bootstrap", &json!({"name": "root-admin"}))
            .expect(201)
            .json();
        let admin = server.client().with(&made.token);
        Self::with_products(server, admin)
    }

    /// Around a server that has an administrator.
    pub fn with_products(server: TestServer, admin: Client) -> Self {
        let cam =
            json!({"name": CAM, "title": "Acme Cam", "family": "cameras", "pid": CAM_PID, "visibility": "public"});
        let bar = json!({"name": BAR, "title": "Acme Bar", "family": "bars", "pid": BAR_PID, "visibility": "gated"});
        admin.post("/api/v1/products", &cam).expect(201);
        admin.post("/api/v1/products", &bar).expect(201);
        let online = OnlineKeys::from_bytes(&admin.get("/api/v1/online-keys").expect(200).body).unwrap();
        let ceremony = Ceremony { online, now: server.timestamp(), epoch: 1 };
        Self { server, admin, ceremony, signed: BTreeMap::new() }
    }

    /// Both roots and the top document.
    pub fn foundation(&self) -> Vec<PublishDocument> {
        vec![self.ceremony.image_root(1), self.ceremony.director_root(1), self.ceremony.top(1, &[BAR, CAM])]
    }

    /// Sends documents.
    pub fn publish(&self, documents: &[PublishDocument]) -> Answer {
        self.admin.post("/api/v1/publish", &PublishRequest { documents: documents.to_vec() })
    }

    /// Uploads a release's files.
    #[track_caller]
    pub fn upload(&self, release: &Release) {
        for blob in release.blobs() {
            let answer = self.admin.put(&format!("/api/v1/blobs/{}", sluice_catalog::Digest::of(&blob)), &blob);
            assert!([200, 201].contains(&answer.status), "{}", answer.text());
        }
    }

    /// Uploads and publishes a release beside those of its product that were published before.
    #[track_caller]
    pub fn release(&mut self, release: &Release) -> PublishResponse {
        self.upload(release);
        let (version, releases) = self.signed.entry(release.product.clone()).or_default();
        *version += 1;
        releases.push(release.clone());
        let document = self.ceremony.role(&release.product, *version, releases);
        self.publish(&[document]).expect(200).json()
    }

    /// 2.4.0 and 2.4.1 of the camera, free for everyone.
    pub fn two_releases(&mut self) -> (Release, Release) {
        let first = Release::new(CAM, "2.4.0", 20400, &IMAGES[0]);
        let second = Release::new(CAM, "2.4.1", 20401, &IMAGES[1]).notes("# Sharper\n\nEdges are sharper.\n");
        self.release(&first);
        self.release(&second);
        (first, second)
    }

    /// 2.4.0, free for everyone, and 2.5.0 of a later train, which requires `FW.CAM.MAJOR` and is rolled out to everyone.
    pub fn free_and_paid(&mut self) -> [Release; 2] {
        let first = Release::new(CAM, "2.4.0", 20400, &IMAGES[0]);
        let second = Release::new(CAM, "2.5.0", 20500, &IMAGES[1]).train("2.5", "2026-06-01").requires("FW.CAM.MAJOR");
        self.release(&first);
        self.release(&second);
        self.roll_out("major", &second, &[100]);
        [first, second]
    }

    /// A contract as [`World::contract`] makes it, which covers from 400 days ago for 30 days more.
    #[track_caller]
    pub fn contract_for_30_days(&self, rule: &str, serials: &[&str]) {
        let now = self.server.now();
        self.contract(rule, &now.plus_days(-400).to_string(), &now.plus_days(30).to_string(), serials);
    }

    /// Makes and starts a rollout and lets its patches be built: it runs.
    #[track_caller]
    pub fn roll_out(&self, name: &str, release: &Release, percents: &[u8]) -> RolloutDetail {
        let stages: Vec<_> = percents.iter().map(|percent| json!({"percent": percent})).collect();
        let rollout = json!({"name": name, "product": release.product, "version": release.version, "stages": stages});
        self.admin.post("/api/v1/rollouts", &rollout).expect(201);
        self.move_rollout(name, "start").expect(200);
        self.server.run_jobs();
        self.rollout(name)
    }

    pub fn move_rollout(&self, name: &str, action: &str) -> Answer {
        self.admin.post(&format!("/api/v1/rollouts/{name}/move"), &json!({"action": action}))
    }

    #[track_caller]
    pub fn rollout(&self, name: &str) -> RolloutDetail {
        self.admin.get(&format!("/api/v1/rollouts/{name}")).expect(200).json()
    }

    /// Registers a device and lets it enrol and open a session.
    #[track_caller]
    pub fn device(&self, product: &str, serial: &str) -> TestDevice {
        self.register(product, serial, &json!({}));
        let mut device = TestDevice::new(&self.server, product, serial);
        device.enrol(None).expect(200);
        device.open_session();
        device
    }

    /// Registers a serial; `more` has fields beyond product, serial and hardware.
    #[track_caller]
    pub fn register(&self, product: &str, serial: &str, more: &serde_json::Value) {
        let mut body = json!({"product": product, "serial": serial, "hw_id": "cam-r3"});
        for (field, value) in more.as_object().unwrap() {
            body[field] = value.clone();
        }
        self.admin.post("/api/v1/devices", &body).expect(201);
    }

    /// A principal of this role with a token.
    #[track_caller]
    pub fn principal(&self, name: &str, role: &str) -> Client {
        self.principal_of(json!({"name": name, "kind": "person", "role": role}))
    }

    /// A principal of this role, bound to a customer, with a token.
    #[track_caller]
    pub fn bound(&self, name: &str, role: &str, customer: &str) -> Client {
        self.principal_of(json!({"name": name, "kind": "person", "role": role, "customer": customer}))
    }

    #[track_caller]
    fn principal_of(&self, principal: serde_json::Value) -> Client {
        self.admin.post("/api/v1/principals", &principal).expect(201);
        let name = principal["name"].as_str().unwrap();
        let made: TokenCreated =
            self.admin.post(&format!("/api/v1/principals/{name}/tokens"), &json!({"label": "test"})).expect(201).json();
        self.server.client().with(&made.token)
    }

    /// A contract of customer `globex` with plan `plus`, which grants `FW.CAM.MAJOR` under this rule and without grace.
    #[track_caller]
    pub fn contract(&self, rule: &str, from: &str, to: &str, serials: &[&str]) {
        self.admin.post("/api/v1/customers", &json!({"name": "globex"})).expect(201);
        let plan = json!({"name": "plus", "rule": rule, "grace_days": 0, "grants": [{"code": "FW.CAM.MAJOR"}]});
        self.admin.post("/api/v1/plans", &plan).expect(201);
        let items: Vec<_> = serials.iter().map(|serial| json!({"product": CAM, "serial": serial})).collect();
        let contract = json!({
            "number": "C-1", "customer": "globex", "plan": "plus",
            "windows": [{"from": from, "to": to}], "items": items,
        });
        self.admin.post("/api/v1/contracts", &contract).expect(201);
    }

    #[track_caller]
    pub fn status(&self) -> Status {
        self.admin.get("/api/v1/status").expect(200).json()
    }

    #[track_caller]
    pub fn list<T: serde::de::DeserializeOwned>(&self, path: &str) -> Vec<T> {
        self.admin.get(path).expect(200).json::<Page<T>>().items
    }

    /// Why the device gets, or does not get, a version.
    #[track_caller]
    pub fn why(&self, device: &TestDevice, query: &str) -> sluice_catalog::decide::Why {
        let path = format!("/api/v1/products/{}/devices/{}/why{query}", device.product, device.serial);
        self.admin.get(&path).expect(200).json()
    }
}
