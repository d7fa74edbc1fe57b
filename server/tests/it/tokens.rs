//! Online keys in PKCS#11 tokens, with SoftHSM for the tokens: the real program serves from them, changes between files and
//! tokens without a gap, says what is wrong with one, and goes on when one was away.

use std::path::Path;
use std::process::Output;

use serde_json::json;
use sluice_catalog::Kind;
use sluice_catalog::wire::admin::TokenCreated;
use sluice_catalog::wire::device::PollResponse;
use sluice_catalog::wire::publish::{PublishDocument, PublishRequest};
use sluice_server::clock::Clock;
use sluice_server::keys::Reference;
use sluice_server::store::Repository;
use sluice_signer::{CertificateExpect, DirectorExpect, DirectorTrust, Limits, OnlineKeys, OnlineRole, PublicKey};
use sluice_token::TokenUri;
use tempfile::TempDir;

use crate::harness::device::NONCE;
use crate::harness::process::Process;
use crate::harness::softhsm::{CONFIGURATION, PIN, SoftHsm};
use crate::harness::wait::until;
use crate::harness::world::{CAM, IMAGES};
use crate::harness::{Answer, Ceremony, Client, Database, Engine, Release, Replicas, TestDevice};
use crate::rotation::{files, roots, walk};

both_engines!(a_server_with_all_keys_in_a_token, keys_move_between_files_and_tokens_without_a_gap,);

/// The program on a database and folder of its own, with a way to tokens.
struct Scene {
    hsm: SoftHsm,
    data: TempDir,
    database: Database,
    process: Option<Process>,
    admin: Client,
    ceremony: Ceremony,
}

impl Scene {
    /// Set up from nothing, with the first keys where this setting says, and one device of a product.
    fn new(engine: Engine, tokens: &[&str], setting: impl Fn(&SoftHsm) -> String) -> (Self, TestDevice) {
        let (hsm, data, database) = (SoftHsm::new(tokens), tempfile::tempdir().unwrap(), Database::new(engine));
        let settings = format!("worker_threads = 0\n{}\n", setting(&hsm));
        std::fs::write(data.path().join("sluice.toml"), settings).unwrap();
        let process = start(&hsm, data.path(), &database);
        let client = Client::new(&process.url);
        let bootstrap = std::fs::read_to_string(data.path().join("bootstrap-token")).unwrap();
        let made: TokenCreated =
            client.with(&bootstrap).post("/api/v1/bootstrap", &json!({"name": "root-admin"})).expect(201).json();
        let admin = client.with(&made.token);
        let product = json!({"name": CAM, "title": "Acme Cam", "family": "cameras", "visibility": "public"});
        admin.post("/api/v1/products", &product).expect(201);
        admin.post("/api/v1/devices", &json!({"product": CAM, "serial": "SN-1", "hw_id": "cam-r3"})).expect(201);
        let online = OnlineKeys::from_bytes(&admin.get("/api/v1/online-keys").expect(200).body).unwrap();
        let ceremony = Ceremony { online, now: now(), epoch: 1 };
        let scene = Self { hsm, data, database, process: Some(process), admin, ceremony };
        let foundation = [scene.ceremony.image_root(1), scene.ceremony.director_root(1), scene.ceremony.top(1, &[CAM])];
        scene.publish(&foundation).expect(200);
        let mut device = TestDevice::at(client, Clock::default(), CAM, "SN-1");
        device.enrol(None).expect(200);
        device.open_session();
        (scene, device)
    }

    fn publish(&self, documents: &[PublishDocument]) -> Answer {
        self.admin.post("/api/v1/publish", &PublishRequest { documents: documents.to_vec() })
    }

    fn online(&self) -> OnlineKeys {
        OnlineKeys::from_bytes(&self.admin.get("/api/v1/online-keys").expect(200).body).unwrap()
    }

    /// `sluice-server WORDS --data … --database …`.
    fn run(&self, words: &[&str]) -> Output {
        let database = self.database.url();
        let place = ["--data", self.data.path().to_str().unwrap(), "--database", &database];
        self.hsm.program(&[words, &place].concat())
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn refused(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(!output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }

    fn keys(&self) -> std::path::PathBuf {
        self.data.path().join("keys")
    }

    /// Kills the process, and starts it again for the same device and administrator.
    fn restart(&mut self, device: &mut TestDevice) {
        self.process = None;
        let process = start(&self.hsm, self.data.path(), &self.database);
        self.admin = Client::new(&process.url).with(self.admin.token());
        device.client = Client::new(&process.url).with(device.client.token());
        self.process = Some(process);
    }

    fn log(&self) -> String {
        self.process.as_ref().unwrap().log()
    }

    /// Publishes both roots with the keys that wait.
    fn name_what_waits(&mut self, version: u64) {
        let shown = self.online();
        let [snapshot, timestamp, director, entitlement] = OnlineRole::ALL.map(|role| shown.wanted(role).clone());
        let next = OnlineKeys { snapshot, timestamp, director, entitlement, next: std::collections::BTreeMap::new() };
        self.publish(&roots(&self.ceremony, &next, version)).expect(200);
        self.ceremony.online = next;
    }
}

/// Goes from the first roots to what is current, as a device does, and gives the version of the image root: the answer of the
/// director, and the certificate of its key E, hold.
fn walk_all(device: &TestDevice) -> u64 {
    let newest = walk(&device.client, now());
    let root = |version: u64| device.client.get(&format!("/director/{version}.root.json"));
    let mut trust = DirectorTrust::from_root(&root(1).expect(200).body, &Limits::default()).unwrap();
    while root(trust.root_version() + 1).status == 200 {
        trust.update_root(&root(trust.root_version() + 1).body).unwrap();
    }
    let answer: PollResponse = device.poll_answer().expect(200).json();
    let expect = DirectorExpect { device_id: &device.id, nonce: Some(NONCE), now: now(), last_version: 0 };
    trust.verify_director(answer.director.get().as_bytes(), &expect).unwrap();
    let key = device.public_key();
    let expect = CertificateExpect {
        product: &device.product,
        serial: &device.serial,
        device_key: &key,
        now: now(),
        kept: None,
    };
    let certificate = device.client.get("/v1/entitlement").expect(200);
    trust.verify_certificate(&certificate.body, &expect).unwrap();
    newest
}
fn start(hsm: &SoftHsm, data: &Path, database: &Database) -> Process {
    Process::start_with(data, &database.url(), "", &[(CONFIGURATION, &hsm.configuration())])
}

fn now() -> jiff::Timestamp {
    jiff::Timestamp::from_second(Clock::default().now().as_s()).unwrap()
}

fn in_token(hsm: &SoftHsm) -> String {
    format!("keys_token = {:?}", hsm.uri("acme"))
}

fn a_server_with_all_keys_in_a_token(engine: Engine) {
    let (mut scene, mut device) = Scene::new(engine, &["acme"], in_token);
    assert_eq!(files(&scene.keys(), "pem"), [] as [&str; 0], "no private key is in a file");
    assert_eq!(files(&scene.keys(), "p11"), ["director.p11", "entitlement.p11", "snapshot.p11", "timestamp.p11"]);
    assert_eq!(scene.hsm.keys("acme").len(), 4);
    assert_eq!(walk_all(&device), 1);
    device.poll().is_nothing("NO_RELEASE");
    let release = Release::new(CAM, "2.4.0", 20400, &IMAGES[0]);
    for blob in release.blobs() {
        scene.admin.put(&format!("/api/v1/blobs/{}", sluice_catalog::Digest::of(&blob)), &blob);
    }
    scene.publish(&[scene.ceremony.role(CAM, 1, &[release])]).expect(200);
    assert_eq!(walk_all(&device), 1);
    // What the operator sees, without the PIN.
    let listed = scene.ok(&["keys", "list", "--measure"]);
    assert_eq!(listed.matches(" signs ").count(), 4, "{listed}");
    assert_eq!(listed.matches("pkcs11:token=acme;serial=").count(), 4, "{listed}");
    assert_eq!(listed.matches("signatures a second").count(), 4, "{listed}");
    let checked = scene.ok(&["check-config"]);
    assert_eq!(checked.matches("is in its token: pkcs11:token=acme").count(), 4, "{checked}");
    assert!(toml::from_str::<toml::Table>(&checked).is_ok(), "{checked}");
    assert!(!listed.contains(PIN) && !checked.contains(PIN) && !scene.log().contains(PIN));
    let exported = OnlineKeys::from_bytes(scene.ok(&["keys", "export"]).as_bytes()).unwrap();
    assert_eq!(exported, scene.ceremony.online);
    // Killed and started again, it has the same keys, and signs on.
    scene.restart(&mut device);
    assert_eq!(scene.online(), exported);
    assert_eq!(walk_all(&device), 1);
    assert_eq!(scene.hsm.keys("acme").len(), 4, "none was made anew");
}

fn keys_move_between_files_and_tokens_without_a_gap(engine: Engine) {
    let (mut scene, mut device) = Scene::new(engine, &["acme", "other"], |_| String::new());
    let uri = scene.hsm.uri("acme");
    // Killed between the key and what follows, and asked again: one key waits.
    let made = scene.hsm.program(&[
        "keys",
        "rotate",
        "timestamp",
        "--token",
        &uri,
        "--data",
        scene.data.path().to_str().unwrap(),
        "--database",
        &scene.database.url(),
    ]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert_eq!(scene.ok(&["keys", "rotate", "timestamp", "--token", &uri]).as_bytes(), made.stdout);
    let elsewhere = scene.refused(&["keys", "rotate", "timestamp", "--file"]);
    assert!(elsewhere.contains("waits already") && elsewhere.contains("--again"), "{elsewhere}");
    scene.ok(&["keys", "rotate", "director", "--token", &scene.hsm.uri("acme;object=D"), "--scheme", "ecdsa-p256"]);
    let keys = scene.hsm.keys("acme");
    assert!(keys.contains(&"D".to_owned()) && keys[1].starts_with("sluice-timestamp-"), "{keys:?}");
    let taken = scene.refused(&["keys", "rotate", "snapshot", "--token", &scene.hsm.uri("acme;object=D")]);
    assert!(taken.contains("a key with the label \"D\" already") && taken.contains("--adopt"), "{taken}");
    let adopted = ["keys", "rotate", "snapshot", "--adopt", "--token"];
    let shared = scene.refused(&[&adopted[..], &[&scene.hsm.uri("acme;object=D")]].concat());
    assert!(shared.contains("in use as the director key"), "{shared}");

    // From files to the token, while devices poll.
    let before = scene.online();
    let client = device.client.clone();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|threads| {
        let polls = threads.spawn(|| {
            let mut polls = 0;
            while !stop.load(std::sync::atomic::Ordering::Acquire) {
                client.post("/v1/poll", &device.poll_body()).expect(200);
                polls += 1;
            }
            polls
        });
        scene.name_what_waits(2);
        stop.store(true, std::sync::atomic::Ordering::Release);
        assert!(polls.join().unwrap() > 0);
    });
    let after = scene.online();
    assert!(
        after.timestamp == before.next[&OnlineRole::Timestamp] && after.director == before.next[&OnlineRole::Director]
    );
    assert_eq!(after.director.scheme(), "ecdsa-sha2-nistp256");
    assert_eq!((after.snapshot, after.next.len()), (before.snapshot, 0));
    assert_eq!(walk_all(&device), 2);
    until("the old keys to be put away", || (files(&scene.keys(), "pem").len() == 2).then_some(()));

    // From token to token, with a key that another tool has made; and back to a file.
    let module = uri.split("module-path=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    scene.hsm.tool(
        "pkcs11-tool",
        &[
            "--module",
            &module,
            "--token-label",
            "other",
            "--login",
            "--pin",
            PIN,
            "--keypairgen",
            "--key-type",
            "EC:prime256v1",
            "--label",
            "made by hand",
            "--id",
            "0b",
            "--sensitive",
        ],
    );
    let by_hand = scene.hsm.uri("other;object=made%20by%20hand");
    scene.ok(&["keys", "rotate", "director", "--adopt", "--token", &by_hand]);
    scene.ok(&["keys", "rotate", "timestamp"]);
    scene.name_what_waits(3);
    assert_eq!(walk_all(&device), 3);
    until("the old keys to be put away", || files(&scene.keys(), "p11").len().eq(&1).then_some(()));
    scene.restart(&mut device);
    assert_eq!(walk_all(&device), 3);
    // What has had its time is destroyed where it is.
    assert_eq!(files(&scene.keys().join("retired"), "p11").len(), 2);
    assert_eq!(scene.ok(&["keys", "forget"]), "4 deleted\n");
    assert_eq!(scene.hsm.keys("acme"), [] as [&str; 0]);
    assert_eq!(scene.hsm.keys("other"), ["made by hand"]);
    assert_eq!(walk_all(&device), 3);
}

#[test]
fn a_rotation_that_is_killed_leaves_one_key_that_waits() {
    let (scene, _) = Scene::new(Engine::Sqlite, &["acme"], in_token);
    let data = scene.data.path().to_str().unwrap();
    let line = ["keys", "rotate", "director", "--data", data, "--database", &scene.database.url()].map(str::to_owned);
    let killed = crate::harness::process::program()
        .args(line)
        .env(CONFIGURATION, scene.hsm.configuration())
        .env("SLUICE_FAILPOINT", "keys.next.after_write")
        .output()
        .unwrap();
    assert!(!killed.status.success());
    let waits = scene.online().next[&OnlineRole::Director].clone();
    assert!(scene.ok(&["keys", "rotate", "director"]).contains(waits.keyid()), "asked again, the same key");
    assert_eq!(scene.hsm.keys("acme").len(), 5);
}

#[test]
fn a_token_that_is_not_right_is_refused_at_the_start() {
    let (mut scene, mut device) = Scene::new(Engine::Sqlite, &["acme"], in_token);
    scene.process = None;
    let refused = |scene: &Scene, reason: &str, next: &str| {
        for mode in [&["serve", "--listen", "127.0.0.1:0"][..], &["check-config"]] {
            let error = scene.refused(mode);
            assert!(error.contains(reason) && error.contains(next), "{mode:?}: {error}");
        }
    };
    scene.hsm.set_pin("0000");
    refused(&scene, "wrong PIN for token \"acme\"", "locks itself");
    scene.hsm.set_pin(PIN);
    scene.hsm.away(true);
    refused(&scene, "no such token is there; found: none", "plug it in");
    let listed = scene.ok(&["keys", "list"]);
    assert_eq!(listed.matches("but the ").count(), 4, "what can be told is told: {listed}");
    scene.hsm.away(false);
    // The place of another key.
    let file = scene.keys().join("director.p11");
    let right = std::fs::read(&file).unwrap();
    let mut wrong: serde_json::Value = serde_json::from_slice(&right).unwrap();
    let other: serde_json::Value =
        serde_json::from_slice(&std::fs::read(scene.keys().join("snapshot.p11")).unwrap()).unwrap();
    wrong["uri"] = other["uri"].clone();
    std::fs::write(&file, wrong.to_string()).unwrap();
    let expected = format!("and it should be {}", scene.ceremony.online.director.keyid());
    refused(&scene, &expected, "plug in the right token, or correct the URI");
    assert!(scene.refused(&["check-config"]).contains("director.p11"));
    std::fs::write(&file, right).unwrap();
    scene.restart(&mut device);
    assert_eq!(walk_all(&device), 1);
}

#[test]
fn a_token_that_was_away_is_found_again() {
    let (scene, device) = Scene::new(Engine::Sqlite, &["acme"], in_token);
    let held = device.poll().etag;
    let next = scene.ceremony.top(2, &[CAM]);
    for round in 1..=2 {
        scene.hsm.away(true);
        for _ in 0..5 {
            let answer = device.poll_answer();
            let problem = answer.refused(Kind::Unavailable);
            assert!(problem.detail.contains("director key does not sign at the moment"), "{}", problem.detail);
            assert_eq!(answer.header("retry-after"), "5");
            assert_eq!(device.poll_held(&held).status, 304, "what has not changed needs no signature");
        }
        // Nothing is published without a signature.
        scene.publish(std::slice::from_ref(&next)).refused(Kind::Unavailable);
        assert_eq!(device.client.get("/metadata/2.targets.json").status, 404);
        device.client.get("/readyz").expect(200);
        let metrics = device.client.get("/metrics").expect(200).text();
        for role in ["director", "snapshot"] {
            assert!(metrics.contains(&format!("sluice_token_errors_total{{role=\"{role}\"}} ")), "{metrics}");
        }
        let told = |what: &str| scene.log().matches(what).count();
        assert_eq!(told("until it does, what the director key signs is not made"), round, "{}", scene.log());
        scene.hsm.away(false);
        until("an answer", || (device.poll_answer().status == 200).then_some(()));
        assert_eq!(walk_all(&device), 1);
        assert_eq!(told("the token of the director key signs again"), round, "{}", scene.log());
        assert!(!scene.log().contains(PIN));
    }
    until("the publication", || (scene.publish(std::slice::from_ref(&next)).status == 200).then_some(()));
    assert_eq!(walk_all(&device), 1);
}

#[test]
fn a_publisher_whose_token_is_away_leaves_it_to_others_and_tries_again() {
    let clock = Clock::default();
    let replicas = Replicas::new(Engine::Sqlite, &clock);
    let app = replicas.start(&clock);
    let public: PublicKey = replicas.ceremony.online.timestamp.clone();
    // Of this token nobody knows the library.
    let uri = TokenUri::parse("pkcs11:token=a?module-path=/nowhere/at-all.so").unwrap();
    let (file, in_token) = (replicas.keys().join("timestamp.pem"), replicas.keys().join("timestamp.p11"));
    let private = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&in_token, Reference { uri, public }.to_bytes()).unwrap();
    app.keys.reread().unwrap();
    clock.advance_ms(3_700_000);
    for _ in 0..2 {
        let error = replicas.runtime.block_on(app.publisher_tick()).unwrap_err();
        assert_eq!(error.kind, Kind::Unavailable, "{error:?}");
        assert!(replicas.runtime.block_on(app.store.lease_get(sluice_server::app::LEASE)).unwrap().is_none());
    }
    assert_eq!(replicas.versions(&app), (1, 1));
    let shown = replicas.runtime.block_on(app.store.document_latest(Repository::Image)).unwrap();
    assert_eq!(shown.iter().filter(|document| document.role == "timestamp").count(), 1);
    std::fs::remove_file(&in_token).unwrap();
    std::fs::write(&file, private).unwrap();
    app.keys.reread().unwrap();
    assert!(replicas.tick(&app));
    assert_eq!(replicas.versions(&app), (2, 1));
}
