//! Theft of each online key, as it would be lived through: the real server, the real `sluice-sign`, and a device with the
//! verifier of the agent. What the thief signs is shown, then the keys are rotated, then the same device works again and
//! takes nothing of the thief any more.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use sluice_catalog::wire::device::PollResponse;
use sluice_signer::online::{sign_snapshot, sign_timestamp};
use sluice_signer::{
    Certificate, CertificateExpect, DirectorAnswer, DirectorDocument, DirectorExpect, DirectorTarget, DirectorTrust,
    FileMeta, FullEncoding, FullImage, Limits, Lookup, OnlineRole, SigningKey, SnapshotMetadata, TrustedRepository,
    VerifyError, key_file, sha256,
};

use crate::harness::device::NONCE;
use crate::harness::process::program;
use crate::harness::world::{CAM, IMAGES};
use crate::harness::{Engine, Offline, Place, TestDevice, World};

both_engines!(
    theft_of_the_timestamp_key,
    theft_of_the_snapshot_key,
    theft_of_snapshot_and_timestamp_keys,
    theft_of_the_director_key,
    theft_of_the_entitlement_key,
);

/// The version that the thief gives his documents: whoever took it refuses every honest one for ages.
const FAR_AHEAD: u64 = 1 << 40;

/// An installation with a published release, and its offline side.
struct Scene {
    world: World,
    offline: Offline,
}

impl Scene {
    fn new(engine: Engine) -> Self {
        let world = World::unsigned(engine, Place::Local);
        let offline = Offline::new(&world.admin.get("/api/v1/online-keys").expect(200).body);
        offline.found(CAM);
        offline.release(CAM, "2.4.0", 20_400, &IMAGES[0]);
        offline.publish(&world.server.url, world.admin.token());
        Self { world, offline }
    }

    fn now(&self) -> Timestamp {
        self.world.server.timestamp()
    }

    /// What the thief copied from the server's folder.
    fn steal(&self, role: OnlineRole) -> SigningKey {
        let path = self.world.server.folder().join("keys").join(format!("{}.pem", role.name()));
        key_file::from_pem(&std::fs::read_to_string(path).unwrap(), None).unwrap()
    }

    /// The operator makes new keys, the holders sign the roots that name them, and publish those.
    fn rotate(&self, roles: &[OnlineRole], holders: &[&str]) {
        for role in roles {
            let data = self.world.server.folder().to_str().unwrap();
            let database = self.world.server.database_url();
            let made = program()
                .args(["keys", "rotate", role.name(), "--data", data, "--database", &database])
                .output()
                .unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        self.offline.write("next.json", &self.world.admin.get("/api/v1/online-keys").expect(200).body);
        self.offline.run("root rotate --repo repo --online-keys next.json");
        for role in holders {
            self.offline.sign(&[&format!("{role}-a"), &format!("{role}-c")]);
        }
        self.offline.publish(&self.world.server.url, self.world.admin.token());
    }

    fn victim(&self) -> Victim {
        let limits = Limits::default();
        Victim {
            image: TrustedRepository::from_root(&self.offline.document("1.root.json"), &limits).unwrap(),
            director: DirectorTrust::from_root(&self.offline.director_document("1.root.json"), &limits).unwrap(),
            last_version: 0,
            device: self.world.device(CAM, "SN-1"),
        }
    }

    fn get(&self, path: &str) -> Vec<u8> {
        self.world.server.client().get(path).expect(200).body
    }

    /// The snapshot that the server shows, with another version and another key's signature.
    fn forged_snapshot(&self, key: &SigningKey, version: u64) -> Vec<u8> {
        let limits = Limits::default();
        let envelope =
            sluice_signer::Envelope::parse("snapshot", &self.snapshot(), limits.snapshot_bytes, &limits).unwrap();
        let honest = SnapshotMetadata::from_json(envelope.signed(), &limits).unwrap();
        sign_snapshot(version, self.now() + SignedDuration::from_hours(24), honest.roles, honest.repo_id, key)
    }

    fn forged_timestamp(&self, key: &SigningKey, version: u64, snapshot: FileMeta) -> Vec<u8> {
        let ends = second(self.now() + SignedDuration::from_hours(12));
        sign_timestamp(version, ends, snapshot, Some("acme-image".to_owned()), key)
    }

    /// The snapshot that the server shows.
    fn snapshot(&self) -> Vec<u8> {
        let mut fresh = self.victim_image();
        fresh.update_timestamp(&self.get("/metadata/timestamp.json"), self.now()).unwrap();
        self.get(&format!("/metadata/{}", fresh.wanted_snapshot().unwrap().file))
    }

    fn victim_image(&self) -> TrustedRepository {
        let root = self.offline.document("1.root.json");
        let mut image = TrustedRepository::from_root(&root, &Limits::default()).unwrap();
        follow(&mut image, self);
        image
    }

    /// An answer of the thief to the device: an offer that nobody decided, from a time that has not come.
    fn forged_answer(&self, key: &SigningKey, victim: &Victim, path: &str, image: &[u8]) -> Vec<u8> {
        let later = second(self.now() + SignedDuration::from_hours(24 * 365 * 50));
        let target = DirectorTarget {
            path: path.to_owned(),
            length: image.len() as u64,
            sha256: sha256(image),
            hw_id: "cam-r3".to_owned(),
            delta: None,
            full: FullImage { encoding: FullEncoding::Raw, length: image.len() as u64, sha256: sha256(image) },
        };
        let document = DirectorDocument {
            device_id: victim.device.id.clone(),
            nonce: Some(NONCE.to_owned()),
            server_time: later,
            version: FAR_AHEAD,
            expires: later + SignedDuration::from_hours(1),
            rollout_id: None,
            reason: "SECURITY_FREE".to_owned(),
            targets: BTreeMap::from([(path.to_owned(), target)]),
            repo_id: Some("acme-director".to_owned()),
        };
        document.sign(key, &Limits::default()).unwrap()
    }
}

fn second(moment: Timestamp) -> Timestamp {
    Timestamp::from_second(moment.as_second()).unwrap()
}

fn follow(image: &mut TrustedRepository, scene: &Scene) {
    loop {
        let next = format!("/metadata/{}.root.json", image.root_version() + 1);
        let answer = scene.world.server.client().get(&next);
        if answer.status == 404 {
            return;
        }
        image.update_root(&answer.expect(200).body).unwrap();
    }
}

/// A device with its memory.
struct Victim {
    image: TrustedRepository,
    director: DirectorTrust,
    last_version: u64,
    device: TestDevice,
}

impl Victim {
    /// Goes from the roots to the release, as the specification says.
    fn refresh(&mut self, scene: &Scene) -> Result<(), VerifyError> {
        follow(&mut self.image, scene);
        let now = scene.now();
        self.image.update_timestamp(&scene.get("/metadata/timestamp.json"), now)?;
        if let Some(wanted) = self.image.wanted_snapshot() {
            self.image.update_snapshot(&scene.get(&format!("/metadata/{}", wanted.file)), now)?;
        }
        if let Some(wanted) = self.image.wanted_role("targets") {
            self.image.update_targets("targets", "root", &scene.get(&format!("/metadata/{}", wanted.file)), now)?;
        }
        self.find(scene, "acme-cam/2.4.0/main.bin").map(|found| assert!(found, "the release is there"))
    }

    /// Whether holders have signed an image of this path.
    fn find(&mut self, scene: &Scene, path: &str) -> Result<bool, VerifyError> {
        loop {
            match self.image.target(path, scene.now())? {
                Lookup::Found(_) => return Ok(true),
                Lookup::NotFound => return Ok(false),
                Lookup::NeedsRole { role, parent, wanted } => {
                    let body = scene.get(&format!("/metadata/{}", wanted.file));
                    self.image.update_targets(&role, &parent, &body, scene.now())?;
                }
            }
        }
    }

    /// Takes an answer, after it has looked for newer roots.
    fn take(&mut self, scene: &Scene, bytes: &[u8], now: Timestamp) -> Result<DirectorAnswer, VerifyError> {
        loop {
            let next = format!("/director/{}.root.json", self.director.root_version() + 1);
            let answer = scene.world.server.client().get(&next);
            if answer.status == 404 {
                break;
            }
            if self.director.update_root(&answer.expect(200).body)?.rotated.contains("targets") {
                // The old key may have set it to anything.
                self.last_version = 0;
            }
        }
        let expect =
            DirectorExpect { device_id: &self.device.id, nonce: Some(NONCE), now, last_version: self.last_version };
        let answer = self.director.verify_director(bytes, &expect)?;
        self.last_version = answer.document.version;
        Ok(answer)
    }

    fn takes_certificate(&self, scene: &Scene, bytes: &[u8], kept: Option<&[u8]>) -> Result<Certificate, VerifyError> {
        let (product, serial, key) = (&self.device.product, &self.device.serial, self.device.public_key());
        let expect = CertificateExpect { product, serial, device_key: &key, now: scene.now(), kept };
        self.director.verify_certificate(bytes, &expect)
    }

    /// The server's certificate, as a device takes it that keeps another.
    fn certificate(&self, scene: &Scene, kept: Option<&[u8]>) -> Result<Certificate, VerifyError> {
        let answer = self.device.client.get("/v1/entitlement").expect(200);
        self.takes_certificate(scene, &answer.body, kept)
    }

    fn poll(&mut self, scene: &Scene) -> Result<DirectorAnswer, VerifyError> {
        let response: PollResponse = self.device.poll_answer().expect(200).json();
        self.take(scene, response.director.get().as_bytes(), scene.now())
    }
}

#[track_caller]
fn rolled_back<T: std::fmt::Debug>(result: Result<T, VerifyError>) {
    assert!(matches!(result, Err(VerifyError::Rollback { .. })), "{result:?}");
}

#[track_caller]
fn no_say<T: std::fmt::Debug>(result: Result<T, VerifyError>) {
    assert!(matches!(result, Err(VerifyError::Threshold { .. })), "{result:?}");
}

fn theft_of_the_timestamp_key(engine: Engine) {
    let scene = Scene::new(engine);
    let mut victim = scene.victim();
    victim.refresh(&scene).unwrap();
    let stolen = scene.steal(OnlineRole::Timestamp);
    let genuine = FileMeta::of(victim.image.snapshot_version().unwrap(), &scene.snapshot());
    let forged = scene.forged_timestamp(&stolen, FAR_AHEAD, genuine);
    victim.image.update_timestamp(&forged, scene.now()).unwrap();
    rolled_back(victim.refresh(&scene));

    scene.rotate(&[OnlineRole::Timestamp], &["root", "director"]);
    victim.refresh(&scene).unwrap();
    assert!(victim.image.timestamp_version().unwrap() < FAR_AHEAD);
    no_say(victim.image.update_timestamp(&forged, scene.now()));
    // A device that was away all the time is not met by the thief either.
    no_say(scene.victim_image().update_timestamp(&forged, scene.now()));
    victim.poll(&scene).unwrap();
}

fn theft_of_the_snapshot_key(engine: Engine) {
    let scene = Scene::new(engine);
    let mut victim = scene.victim();
    let stolen = scene.steal(OnlineRole::Snapshot);
    let forged = scene.forged_snapshot(&stolen, FAR_AHEAD);
    victim.image.update_timestamp(&scene.get("/metadata/timestamp.json"), scene.now()).unwrap();
    assert!(victim.image.update_snapshot(&forged, scene.now()).is_err(), "no timestamp names it");
    victim.refresh(&scene).unwrap();

    let timestamp = scene.steal(OnlineRole::Timestamp);
    scene.rotate(&[OnlineRole::Snapshot], &["root", "director"]);
    victim.refresh(&scene).unwrap();
    // Even if a timestamp named it.
    let naming = scene.forged_timestamp(&timestamp, FAR_AHEAD, FileMeta::of(FAR_AHEAD, &forged));
    let mut fresh = scene.victim_image();
    fresh.update_timestamp(&naming, scene.now()).unwrap();
    no_say(fresh.update_snapshot(&forged, scene.now()));
    victim.poll(&scene).unwrap();
}

fn theft_of_snapshot_and_timestamp_keys(engine: Engine) {
    let scene = Scene::new(engine);
    let mut victim = scene.victim();
    victim.refresh(&scene).unwrap();
    let forged = scene.forged_snapshot(&scene.steal(OnlineRole::Snapshot), FAR_AHEAD);
    let naming =
        scene.forged_timestamp(&scene.steal(OnlineRole::Timestamp), FAR_AHEAD, FileMeta::of(FAR_AHEAD, &forged));
    victim.image.update_timestamp(&naming, scene.now()).unwrap();
    victim.image.update_snapshot(&forged, scene.now()).unwrap();
    rolled_back(victim.refresh(&scene));

    scene.rotate(&[OnlineRole::Snapshot, OnlineRole::Timestamp], &["root", "director"]);
    victim.refresh(&scene).unwrap();
    assert!(victim.image.snapshot_version().unwrap() < FAR_AHEAD);
    no_say(victim.image.update_timestamp(&naming, scene.now()));
    victim.poll(&scene).unwrap();
    // It stays well when the next release comes and the server signs on.
    scene.world.server.advance_until_signed_s(3700);
    victim.refresh(&scene).unwrap();
}

fn theft_of_the_director_key(engine: Engine) {
    let scene = Scene::new(engine);
    let mut victim = scene.victim();
    victim.refresh(&scene).unwrap();
    victim.poll(&scene).unwrap();
    let stolen = scene.steal(OnlineRole::Director);
    // He offers a release that no rollout brings to the device, far in the future.
    let forged = scene.forged_answer(&stolen, &victim, "acme-cam/2.4.0/main.bin", &IMAGES[0]);
    let taken = victim.take(&scene, &forged, scene.now()).unwrap();
    let root_ends = victim.director.root().expires;
    assert_eq!(taken.attested_time, Some(root_ends), "he cannot push the clock past the root");
    assert!(victim.find(&scene, "acme-cam/2.4.0/main.bin").unwrap(), "he may choose among what holders signed");
    rolled_back(victim.poll(&scene));
    // What holders have not signed is none of his.
    let own = scene.forged_answer(&stolen, &victim, "acme-cam/6.6.6/main.bin", b"malware");
    victim.take(&scene, &own, scene.now()).unwrap();
    assert!(!victim.find(&scene, "acme-cam/6.6.6/main.bin").unwrap());

    scene.rotate(&[OnlineRole::Director], &["director"]);
    victim.poll(&scene).unwrap();
    no_say(victim.take(&scene, &forged, scene.now()));
    victim.refresh(&scene).unwrap();
}

fn theft_of_the_entitlement_key(engine: Engine) {
    let scene = Scene::new(engine);
    let mut victim = scene.victim();
    victim.poll(&scene).unwrap();
    let stolen = scene.steal(OnlineRole::Entitlement);
    let names = |victim: &Victim, key: &SigningKey| {
        victim.director.root().entitlement_keys().iter().any(|named| named.material() == key.public().material())
    };
    assert!(names(&victim, &stolen));
    // As an answer it is worth nothing: each key signs for one role.
    let forged = scene.forged_answer(&stolen, &victim, "acme-cam/2.4.0/main.bin", &IMAGES[0]);
    no_say(victim.take(&scene, &forged, scene.now()));
    // As a certificate it counts: cover that nobody sold, from a time that has not come.
    let honest = victim.certificate(&scene, None).unwrap();
    let later = honest.issued + SignedDuration::from_hours(24 * 30);
    let expires = later + SignedDuration::from_hours(24 * 90);
    let bought = Certificate { device_epoch: FAR_AHEAD, issued: later, expires, ..honest };
    let forged = bought.unsigned(&Limits::default()).unwrap().signed_by(&stolen);
    victim.takes_certificate(&scene, &forged, None).unwrap();
    let refused = victim.certificate(&scene, Some(&forged)).unwrap_err();
    assert!(matches!(refused, VerifyError::OldDeviceEpoch { .. }), "{refused}");

    scene.rotate(&[OnlineRole::Entitlement], &["director"]);
    victim.poll(&scene).unwrap();
    assert_eq!(victim.director.root_version(), 2);
    assert!(!names(&victim, &stolen), "certificates of the stolen key count for nothing");
    no_say(victim.takes_certificate(&scene, &forged, None));
    // What the device kept of the thief sets no floor any more.
    victim.certificate(&scene, Some(&forged)).unwrap();
    victim.refresh(&scene).unwrap();
}
