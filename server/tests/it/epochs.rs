//! Signing epochs: devices with an older verifier are walked over by a release that they can still verify.

use serde_json::json;
use sluice_catalog::wire::publish::{PublishDocument, PublishRepository};
use sluice_catalog::{Kind, Reason};
use sluice_server::clock::Clock;
use sluice_server::keys::{Keys, State};
use sluice_signer::agree::{InstallPolicy, Installed, agree};
use sluice_signer::{
    DirectorDocument, Envelope, Limits, Lookup, OnlineRole, Overrides, Refresh, TrustedRepository, VerifyError,
};

use crate::harness::ceremony::{document, holders, signed};
use crate::harness::device::Polled;
use crate::harness::wait::until;
use crate::harness::world::{BAR, CAM, IMAGES};
use crate::harness::{Client, Database, Engine, Offline, Place, Release, TestAgent, TestDevice, TestServer, World};
use crate::rotation::{files, next_of_all};

both_engines!(
    an_old_device_is_walked_over_by_the_floor,
    an_old_device_that_no_floor_helps_is_told_why,
    the_keys_of_a_branch_stay_as_long_as_it_lives,
    a_key_of_a_branch_that_was_away_is_found_again,
    a_branch_is_served_as_it_stood,
    what_was_embargoed_for_a_gated_product_stays_gated_in_the_branch,
    the_agent_walks_over_by_the_floor,
    an_epoch_that_begins_badly_is_refused,
    what_devices_say_of_their_verifier_is_held_to_its_bounds,
    holders_open_an_epoch_with_the_real_program,
);

const DAY_S: i64 = 24 * 3600;

/// A server that knows two epochs.
fn start(database: Database, data: tempfile::TempDir, clock: Clock) -> TestServer {
    TestServer::start_knowing(2, database, Place::Local, data, clock)
}

/// What an old and a new device may have: 2.4.0 in the field, the floor 2.4.1 for which a contract is needed, and nothing of the
/// next epoch yet. The last documents of the first epoch live for 400 days.
struct Epochs {
    world: World,
    first: Release,
    floor: Release,
}

impl Epochs {
    fn new(engine: Engine) -> Self {
        let server = start(Database::new(engine), tempfile::tempdir().unwrap(), Clock::default());
        let mut world = World::around(server);
        world.publish(&world.foundation()).expect(200);
        let first = Release::new(CAM, "2.4.0", 20400, &IMAGES[0]);
        let floor = Release::new(CAM, "2.4.1", 20401, &IMAGES[1]).requires("FW.CAM.MAJOR");
        world.release(&first);
        world.release(&floor);
        world.release(&Release::new(BAR, "1.0.0", 10000, b"the gated image"));
        for role in [CAM, BAR, "targets"] {
            world.publish(&[lasting(&world, role)]).expect(200);
            if let Some((version, _)) = world.signed.get_mut(role) {
                *version += 1;
            }
        }
        Self { world, first, floor }
    }

    /// The roots with which the second epoch begins.
    fn roots(&self) -> Vec<PublishDocument> {
        let mut ceremony = self.world.ceremony.clone();
        ceremony.online = next_of_all(&self.world.server.app);
        ceremony.epoch = 2;
        ceremony.now = self.world.server.timestamp();
        vec![ceremony.image_root(2), ceremony.director_root(2)]
    }

    fn begin(&self) {
        self.world.publish(&self.roots()).expect(200);
    }

    /// A release of the second epoch, free for everyone, that a rollout brings to all.
    fn next_release(&mut self) -> Release {
        let next = Release::new(CAM, "3.0.0", 30000, &IMAGES[2]).train("3.0", "2026-04-01");
        self.world.ceremony.now = self.world.server.timestamp();
        self.world.release(&next);
        self.world.roll_out("third", &next, &[100]);
        next
    }

    /// The server stops, and another one goes on with what it left.
    fn restart(&mut self) {
        let clock = self.world.server.clock.clone();
        let token = self.world.admin.token().to_owned();
        let idle = TestServer::start(Engine::Sqlite);
        let (database, data) = std::mem::replace(&mut self.world.server, idle).stop();
        self.world.server = start(database, data, clock);
        self.world.admin = self.world.server.client().with(&token);
    }

    fn device(&self, serial: &str, runs: &Release, epoch: u64) -> TestDevice {
        let mut device = self.world.device(CAM, serial);
        device.run(runs);
        device.epoch = epoch;
        device
    }
}

/// The next document of a role with the same content, for 400 days; of a product that is longer than usual, and signed so.
fn lasting(world: &World, role: &str) -> PublishDocument {
    let latest = world.server.block_on(world.server.app.store.document_latest(sluice_server::store::Repository::Image));
    let before = latest.unwrap().into_iter().find(|document| document.role == role).unwrap();
    let envelope = Envelope::parse(role, &before.body, 5_000_000, &Limits::default()).unwrap();
    let mut metadata = sluice_signer::TargetsMetadata::from_json(role, envelope.signed(), &Limits::default()).unwrap();
    metadata.version += 1;
    metadata.expires = world.server.timestamp() + jiff::SignedDuration::from_hours(24 * 400);
    let mut overrides = Overrides::default();
    if role != "targets" {
        overrides.add("lifetime", "The last of its epoch.").unwrap();
    }
    let bytes = signed(overrides.write(metadata.to_json()), &holders(role)[..2]);
    document(PublishRepository::Image, role, metadata.version, &bytes)
}

/// A device's verifier of the image repository, with what it keeps.
struct Verifier {
    image: TrustedRepository,
}

impl Verifier {
    fn new(client: &Client, epoch: u64) -> Self {
        let limits = Limits { newest_epoch: epoch, ..Limits::default() };
        let first = client.get("/metadata/1.root.json").expect(200).body;
        Self { image: TrustedRepository::from_root(&first, &limits).unwrap() }
    }

    /// The same state under the verifier that another image brought.
    fn updated(&self, epoch: u64) -> Self {
        let limits = Limits { newest_epoch: epoch, ..Limits::default() };
        Self { image: TrustedRepository::from_state(&self.image.state(), &limits).unwrap() }
    }

    fn refresh(&mut self, device: &TestDevice, prefix: &str, now: jiff::Timestamp) -> Result<(), VerifyError> {
        let mut refresh = Refresh::new();
        while let Some(ask) = refresh.next(&self.image, now)? {
            let answer = device.client.get(&format!("{prefix}/{}", ask.file));
            let body = (answer.status != 404).then(|| answer.expect(200).body);
            assert!(body.is_some() || ask.optional, "{prefix} has no {}", ask.file);
            refresh.give(&mut self.image, body.as_deref(), now)?;
        }
        Ok(())
    }

    /// Whether both repositories agree on the one image that was offered.
    fn takes(&mut self, device: &TestDevice, prefix: &str, polled: &Polled, now: jiff::Timestamp) -> bool {
        self.refresh(device, prefix, now).unwrap();
        let DirectorDocument { targets, .. } = &polled.document;
        let (path, target) = targets.iter().next().unwrap();
        loop {
            match self.image.target(path, now).unwrap() {
                Lookup::Found(found) => {
                    let policy = InstallPolicy {
                        product: CAM.into(),
                        component: "main".into(),
                        hw_id: "cam-r3".into(),
                        security_counter_floor: 1,
                        channels: ["stable".to_owned()].into(),
                        installed: None::<Installed>,
                        known_orders: std::collections::BTreeMap::new(),
                    };
                    return agree(target, &found, &policy, &Limits::default()).is_ok();
                }
                Lookup::NeedsRole { role, parent, wanted } => {
                    let body = device.client.get(&format!("{prefix}/{}", wanted.file)).expect(200).body;
                    self.image.update_targets(&role, &parent, &body, now).unwrap();
                }
                Lookup::NotFound => return false,
            }
        }
    }
}

fn an_old_device_is_walked_over_by_the_floor(engine: Engine) {
    let mut epochs = Epochs::new(engine);
    let mut old = epochs.device("SN-1", &epochs.first, 1);
    old.poll().is_nothing("NO_CONTRACT");
    let mut verifier = Verifier::new(&old.client, 1);
    verifier.refresh(&old, "/metadata", epochs.world.server.timestamp()).unwrap();
    epochs.begin();
    let next = epochs.next_release();
    // The fleet, whose verifiers are new, goes on as ever.
    let fleet = epochs.device("SN-2", &epochs.floor, 2);
    let polled = fleet.poll();
    assert_eq!((polled.path(), polled.response.epoch), (next.path().as_str(), None));
    let now = epochs.world.server.timestamp();
    assert!(Verifier::new(&fleet.client, 2).takes(&fleet, "/metadata", &polled, now));

    // The old device cannot read the new root, loses nothing, and is told where its documents are.
    let error = verifier.refresh(&old, "/metadata", now).unwrap_err();
    assert_eq!(error, VerifyError::LaterEpoch { version: 2, found: 2, known: 1 });
    let polled = old.poll();
    assert_eq!((polled.path(), polled.reason()), (epochs.floor.path().as_str(), Reason::EpochPath.code()));
    assert_eq!(polled.response.epoch, Some(1));
    assert!(verifier.takes(&old, "/metadata/epoch-1", &polled, now));
    let why = epochs.world.why(&old, "");
    let path: Vec<&str> = why.path.iter().map(AsRef::as_ref).collect();
    assert_eq!(path, ["2.4.1", "3.0.0"]);
    let step = why.steps.iter().find(|step| step.reason == Reason::EpochNotReached).unwrap();
    assert_eq!(step.detail, "epoch 2, the device knows 1: 2.4.1 comes first");
    // The cheap form confirms what is held, and only while it stands.
    assert_eq!(old.poll_held(&polled.etag).status, 304);

    // After a restart, and after the timestamp has been signed again by the keys of its epoch, it goes on.
    epochs.restart();
    old.client = epochs.world.server.client();
    old.open_session();
    let before = verifier.image.timestamp_version().unwrap();
    epochs.world.server.advance_until_signed_s(3700);
    let now = epochs.world.server.timestamp();
    let polled = old.poll();
    assert!(verifier.takes(&old, "/metadata/epoch-1", &polled, now));
    assert!(verifier.image.timestamp_version().unwrap() > before, "signed again");
    // Timestamp and snapshot of both lines.
    epochs.world.server.advance_until_signed_s(20 * DAY_S);
    old.open_session();
    let polled = old.poll();
    assert!(verifier.takes(&old, "/metadata/epoch-1", &polled, epochs.world.server.timestamp()));
    old.report(polled.attempt(), "healthy").expect(200);

    // The floor runs: its verifier says what it knows, walks the rest of the roots, and is as any other.
    old.run(&epochs.floor);
    old.epoch = 2;
    let polled = old.poll();
    assert_eq!((polled.path(), polled.response.epoch), (next.path().as_str(), None));
    let mut verifier = verifier.updated(2);
    assert!(verifier.takes(&old, "/metadata", &polled, epochs.world.server.timestamp()));
    assert_eq!((verifier.image.root_version(), verifier.image.root().epoch), (2, 2));
    old.run(&next);
    old.poll().is_nothing("UP_TO_DATE");
    assert!(epochs.world.why(&old, "").path.is_empty());
}

fn an_old_device_that_no_floor_helps_is_told_why(engine: Engine) {
    let mut epochs = Epochs::new(engine);
    epochs.begin();
    let next = epochs.next_release();
    // It runs the newest of its epoch already, and still knows no later one.
    let stuck = epochs.device("SN-1", &epochs.floor, 1);
    let polled = stuck.poll();
    polled.is_nothing("EPOCH_NOT_REACHED");
    assert_eq!(polled.response.epoch, Some(1));
    let why = epochs.world.why(&stuck, &format!("?version={}", next.version));
    assert_eq!(why.steps[0].detail, "epoch 2, the device knows 1: no release of epoch 1 leads to it");
    // Withdrawn offline, the floor is none: the branch lists it, and nobody is offered it.
    let (version, releases) = epochs.world.signed.get_mut(CAM).unwrap();
    releases.retain(|release| release.version != "2.4.1");
    *version += 1;
    let without = epochs.world.ceremony.role(CAM, *version, releases);
    epochs.world.publish(&[without]).expect(200);
    let old = epochs.device("SN-2", &epochs.first, 1);
    old.poll().is_nothing("EPOCH_NOT_REACHED");
}

fn the_keys_of_a_branch_stay_as_long_as_it_lives(engine: Engine) {
    let mut epochs = Epochs::new(engine);
    let old_keys = epochs.world.ceremony.online.clone();
    let keys = epochs.world.server.folder().join("keys");
    // The new roots outlive the branch.
    epochs.world.server.advance_s(20 * DAY_S);
    epochs.begin();
    let device = epochs.device("SN-1", &epochs.first, 1);
    assert_eq!(files(&keys, "pem").len(), 8, "those of both epochs");
    assert_eq!(Keys::forget(&keys).unwrap(), 0, "nothing was put away that could be deleted");
    assert_eq!(files(&keys, "pem").len(), 8);
    let app = &epochs.world.server.app;
    let branch = app.key_of_epoch(OnlineRole::Director, Some(1)).unwrap();
    assert_eq!(*branch.public(), old_keys.director);
    assert_ne!(*app.key(OnlineRole::Director).unwrap().public(), old_keys.director);
    let listed = app.keys.list(app.live.documents().named());
    for (state, count) in [(State::Signs, 4), (State::SignsForEpoch(1), 4)] {
        assert_eq!(listed.iter().filter(|one| one.state == state).count(), count, "{state:?}");
    }
    let expiries = epochs.world.status().expiries;
    let of_branch: Vec<&str> =
        expiries.iter().map(|one| one.role.as_str()).filter(|role| role.contains("epoch-1-")).collect();
    for role in ["epoch-1-root", "director-epoch-1-root", "epoch-1-targets", "epoch-1-acme-cam", "epoch-1-timestamp"] {
        assert!(of_branch.contains(&role), "{of_branch:?}");
    }
    epochs.world.server.app.expiry_tick();
    let metrics = epochs.world.server.app.metrics.text().unwrap();
    assert!(metrics.contains(r#"role="epoch-1-targets""#), "{metrics}");
    // The last root of the first epoch ends after 365 days: then the branch is over.
    epochs.world.server.advance_s(344 * DAY_S);
    assert_eq!(files(&keys, "pem").len(), 8);
    let mut waiting = epochs.device("SN-2", &epochs.first, 1);
    waiting.poll_answer().expect(200);
    epochs.world.server.advance_s(DAY_S);
    assert_eq!((files(&keys, "pem").len(), files(&keys.join("retired"), "pem").len()), (4, 4));
    waiting.open_session();
    let problem = waiting.poll_answer().refused(Kind::WrongState);
    assert!(problem.detail.contains("knows signing epochs to 1, whose documents ended on"), "{}", problem.detail);
    epochs.world.server.advance_s(2 * DAY_S);
    let expiries = epochs.world.status().expiries;
    assert!(expiries.iter().all(|one| !one.role.contains("epoch-1-")), "what is over is told of no more");
    epochs.restart();
    assert_eq!(files(&keys, "pem").len(), 4);
    drop(device);
}

fn a_key_of_a_branch_that_was_away_is_found_again(engine: Engine) {
    let mut epochs = Epochs::new(engine);
    epochs.begin();
    let keys = epochs.world.server.folder().join("keys");
    let (file, aside) = (keys.join("director.pem"), keys.join("aside"));
    std::fs::rename(&file, &aside).unwrap();
    // It starts all the same, and serves everybody else.
    epochs.restart();
    let old = epochs.device("SN-1", &epochs.first, 1);
    let new = epochs.device("SN-2", &epochs.first, 2);
    old.poll_answer().refused(Kind::Unavailable);
    new.poll_answer().expect(200);
    std::fs::rename(&aside, &file).unwrap();
    let server = &epochs.world.server;
    server.block_on(server.app.refresh()).unwrap();
    old.poll_answer().expect(200);
    assert!(server.app.keys.missing_of_branches(server.app.live.documents().named()).is_empty());
}

fn a_branch_is_served_as_it_stood(engine: Engine) {
    let mut epochs = Epochs::new(engine);
    let client = epochs.world.server.client();
    let main = |file: &str| client.get(&format!("/metadata/{file}"));
    let before = ["1.root.json", "2.targets.json", "3.acme-cam.json"].map(|file| main(file).expect(200).body);
    assert_eq!(client.get("/metadata/epoch-1/timestamp.json").status, 404, "there is no branch yet");
    epochs.begin();
    epochs.next_release();
    let branch = |file: &str| client.get(&format!("/metadata/epoch-1/{file}"));
    for (file, body) in ["1.root.json", "2.targets.json", "3.acme-cam.json"].iter().zip(&before) {
        assert_eq!(branch(file).expect(200).body, *body, "{file}");
    }
    assert_eq!(branch("1.acme-cam.json").status, 200, "and what came before it");
    for file in
        ["2.root.json", "4.acme-cam.json", "3.targets.json", "01.root.json", "1.toot.json", "timestamp", "0.root.json"]
    {
        branch(file).refused(Kind::NotFound);
    }
    assert_eq!(main("2.root.json").status, 200, "who knows all epochs sees the whole chain");
    assert_eq!(main("4.acme-cam.json").status, 200);
    assert_eq!(client.get("/director/epoch-1/1.root.json").status, 200);
    for path in [
        "/director/epoch-1/2.root.json",
        "/director/epoch-1/timestamp.json",
        "/metadata/epoch-2/1.root.json",
        "/metadata/epoch-0/1.root.json",
        "/metadata/epoch-01/1.root.json",
        "/metadata/epoch-99999999999/1.root.json",
        "/metadata/epoch-/1.root.json",
    ] {
        client.get(path).refused(Kind::NotFound);
    }
    // Snapshots by version; the newest is what the timestamp names.
    let first = branch("timestamp.json").expect(200);
    assert_eq!(first.header("cache-control"), "no-cache");
    let named = |body: &[u8]| -> i64 {
        let value: serde_json::Value = serde_json::from_slice(body).unwrap();
        value["signed"]["meta"]["snapshot.json"]["version"].as_i64().unwrap()
    };
    let version = named(&first.body);
    branch(&format!("{version}.snapshot.json")).expect(200);
    branch(&format!("{}.snapshot.json", version + 1)).refused(Kind::NotFound);
    epochs.world.server.advance_until_signed_s(5 * DAY_S);
    let later = named(&branch("timestamp.json").expect(200).body);
    assert!(later > version);
    branch(&format!("{version}.snapshot.json")).expect(200);
    branch(&format!("{later}.snapshot.json")).expect(200);
    // What a gated product's documents say is for its own devices there, too.
    branch("1.acme-bar.json").refused(Kind::Forbidden);
    assert_eq!(epochs.world.admin.get("/metadata/epoch-1/1.acme-bar.json").status, 200);
}

/// The embargo role of the gated product, and what it signed once it was announced.
fn what_was_embargoed_for_a_gated_product_stays_gated_in_the_branch(engine: Engine) {
    const ROLE: &str = "embargo-fedcba9876543210";
    let epochs = Epochs::new(engine);
    let world = &epochs.world;
    let top = world.ceremony.top_with_embargo(3, &[BAR, CAM], &[(ROLE, BAR)]);
    world.publish(&[top, world.ceremony.embargo(ROLE, 1, None, &[])]).expect(200);
    world.publish(&[lasting(world, "targets"), lasting(world, ROLE)]).expect(200);
    let secret = Release::new(BAR, "2.0.0", 20000, b"the next gated image").train("2.0", "2026-05-01");
    world.upload(&secret);
    let mut metadata = world.ceremony.role_metadata(3, &[secret]);
    metadata.not_before = Some(world.server.timestamp() + jiff::SignedDuration::from_hours(1));
    metadata.expires = world.server.timestamp() + jiff::SignedDuration::from_hours(24 * 400);
    let mut overrides = Overrides::default();
    overrides.add("lifetime", "The last of its epoch.").unwrap();
    let bytes = signed(overrides.write(metadata.to_json()), &holders(ROLE)[..2]);
    world.publish(&[document(PublishRepository::Image, ROLE, 3, &bytes)]).expect(200);
    world.server.advance_s(3601);
    // The server publishes it by itself.
    let release = format!("/api/v1/products/{BAR}/releases/2.0.0");
    until("the release", || (world.admin.get(&release).status == 200).then_some(()));
    world.server.block_on(world.server.app.refresh()).unwrap();
    epochs.begin();

    let anyone = world.server.client();
    let own = world.device(BAR, "BAR-1").client;
    let other = world.device(CAM, "CAM-1").client;
    for version in 1..=3 {
        let path = format!("/metadata/epoch-1/{version}.{ROLE}.json");
        anyone.get(&path).refused(Kind::Forbidden);
        other.get(&path).refused(Kind::Forbidden);
        assert_eq!(own.get(&path).status, 200, "{path}");
    }
    anyone.get(&format!("/metadata/epoch-1/4.{ROLE}.json")).refused(Kind::Forbidden);
}

/// The real agent, as two programs: one that knows the first epoch, and the one that the floor brings.
fn the_agent_walks_over_by_the_floor(engine: Engine) {
    let mut epochs = Epochs::new(engine);
    epochs.world.register(CAM, "SN-1", &json!({}));
    let mut agent = TestAgent::new(&epochs.world, "SN-1", &epochs.first);
    let version = |report: sluice_agent::CycleReport| (report.outcome, report.to.map(String::from));
    assert_eq!(agent.once().unwrap().outcome, sluice_agent::Outcome::NothingOffered);
    epochs.begin();
    let next = epochs.next_release();
    let report = agent.once().unwrap();
    assert_eq!(report.reason.as_deref(), Some(Reason::EpochPath.code()));
    assert_eq!(version(report), (sluice_agent::Outcome::Updated, Some(epochs.floor.version.clone())));
    assert_eq!(agent.trusted_epoch(), 1, "the older program cannot read the next root");
    assert!(agent.entitlement().holds, "key E of its epoch signs for it");
    assert_eq!(agent.once().unwrap().outcome, sluice_agent::Outcome::NothingOffered, "there is no other floor");

    agent.newest_epoch = 2;
    let report = agent.once().unwrap();
    assert_eq!(version(report), (sluice_agent::Outcome::Updated, Some(next.version)));
    assert_eq!(agent.trusted_epoch(), 2);
    assert!(agent.entitlement().holds, "and that of the next, once it is there");
    assert_eq!(agent.once().unwrap().outcome, sluice_agent::Outcome::UpToDate);
}

fn an_epoch_that_begins_badly_is_refused(engine: Engine) {
    let epochs = Epochs::new(engine);
    let [image, director] = &epochs.roots()[..] else { panic!("two roots") };
    for alone in [image, director] {
        let problem = epochs
            .world
            .server
            .unchanged(|| epochs.world.publish(std::slice::from_ref(alone)))
            .refused(Kind::Unverified);
        assert!(problem.detail.contains("both repositories rise together"), "{}", problem.detail);
    }
    // With the keys of the first epoch, devices of both would take each other's timestamps.
    let mut same = epochs.world.ceremony.clone();
    same.epoch = 2;
    let problem = epochs.world.publish(&[same.image_root(2), same.director_root(2)]).refused(Kind::Unverified);
    assert!(problem.detail.contains("signs for epoch 1; a later epoch names other keys"), "{}", problem.detail);
    let mut far = same.clone();
    far.epoch = 3;
    let problem = epochs.world.publish(&[far.image_root(2), far.director_root(2)]).refused(Kind::Unverified);
    assert!(problem.detail.contains("verifier knows epochs to 2"), "{}", problem.detail);
    // When the documents have not long to live any more; an instant after the full day, however fast this ran.
    epochs.world.server.advance_s(100 * DAY_S + 1);
    let problem = epochs.world.publish(&epochs.roots()).refused(Kind::Unverified);
    // 264 days and a little, by whole seconds.
    assert!(problem.detail.contains("root: expires in 26"), "{}", problem.detail);
    assert!(problem.detail.contains("days, 330 at least are required"), "{}", problem.detail);
    // A server that is older than the epoch.
    let world = World::new(engine);
    let problem = world.publish(&[same.image_root(2), same.director_root(2)]).refused(Kind::Unverified);
    assert!(problem.detail.contains("is of signing epoch 2, this verifier knows epochs to 1"), "{}", problem.detail);
}

fn what_devices_say_of_their_verifier_is_held_to_its_bounds(engine: Engine) {
    let mut epochs = Epochs::new(engine);
    epochs.begin();
    let next = epochs.next_release();
    let mut device = epochs.device("SN-1", &epochs.first, 1);
    for (epoch, kind) in [
        (json!(0), Kind::Invalid),
        (json!(1001), Kind::Invalid),
        (json!(-1), Kind::Malformed),
        (json!(1.5), Kind::Malformed),
        (json!("2"), Kind::Malformed),
        (json!(4_294_967_296_u64), Kind::Malformed),
    ] {
        let mut body = device.poll_body();
        body["epoch"] = epoch;
        epochs.world.server.unchanged(|| device.client.post("/v1/poll", &body)).refused(kind);
    }
    device.epoch = 7;
    let polled = device.poll();
    assert_eq!((polled.path(), polled.response.epoch), (next.path().as_str(), None), "the newest there is");
    let shown: serde_json::Value =
        epochs.world.admin.get(&format!("/api/v1/products/{CAM}/devices/SN-1")).expect(200).json();
    assert_eq!(shown["device"]["signing_epoch"], 7, "kept as it was said: {shown}");
}

/// As `docs/release-engineer.md` tells it, and everything published at once at the end.
fn holders_open_an_epoch_with_the_real_program(engine: Engine) {
    let world = World::around(start(Database::new(engine), tempfile::tempdir().unwrap(), Clock::default()));
    let online = |world: &World| world.admin.get("/api/v1/online-keys").expect(200).body;
    let mut offline = Offline::new(&online(&world));
    offline.newest_epoch = 2;
    offline.found(CAM);
    offline.release(CAM, "2.4.0", 20_400, &IMAGES[0]);
    offline.publish(&world.server.url, world.admin.token());
    let device = {
        let mut device = world.device(CAM, "SN-1");
        device.run(&Release::new(CAM, "2.4.0", 20_400, &IMAGES[0]));
        device
    };
    offline.release(CAM, "2.4.1", 20_401, &IMAGES[1]);
    for role in ["root", "director-root", "targets", CAM] {
        let reason = if role == CAM { " --override lifetime=last" } else { "" };
        offline.run(&format!("renew --repo repo --role {role} --expires-days 400{reason}"));
    }
    offline.sign(&["root-a", "root-b", "director-a", "director-b", "lead-a", "lead-b"]);
    for holder in ["acme-cam-a", "acme-cam-b"] {
        offline.run(&format!("sign --repo repo --key keys/{holder}.key --yes --agree-to-override lifetime"));
    }
    next_of_all(&world.server.app);
    offline.write("next.json", &online(&world));
    offline.run("root rotate --repo repo --new-epoch --online-keys next.json");
    offline.sign(&["root-a", "root-b", "director-a"]);
    offline.sign_elsewhere("director-b");
    offline.publish(&world.server.url, world.admin.token());
    let client = world.server.client();
    assert_eq!(client.get("/metadata/3.root.json").status, 200);
    let branch = |file: &str| client.get(&format!("/metadata/epoch-1/{file}")).expect(200).body;
    assert_eq!(branch("2.root.json"), offline.document("2.root.json"));
    assert_eq!(branch("3.acme-cam.json"), offline.document("3.acme-cam.json"), "the one that lives long");
    client.get("/metadata/epoch-1/3.root.json").refused(Kind::NotFound);
    let mut verifier = Verifier::new(&device.client, 1);
    let now = world.server.timestamp();
    verifier.refresh(&device, "/metadata/epoch-1", now).unwrap();
    assert_eq!(verifier.image.root_version(), 2);
    // Again, it changes nothing; later releases are of the second epoch.
    offline.publish(&world.server.url, world.admin.token());
    offline.release(CAM, "3.0.0", 30_000, &IMAGES[2]);
    offline.publish(&world.server.url, world.admin.token());
    let newest = Release::new(CAM, "3.0.0", 30_000, &IMAGES[2]);
    world.roll_out("third", &newest, &[100]);
    let polled = device.poll();
    assert_eq!(polled.path(), "acme-cam/2.4.1/main.bin");
    assert!(verifier.takes(&device, "/metadata/epoch-1", &polled, now));
}
