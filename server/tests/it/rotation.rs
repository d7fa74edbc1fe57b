//! Other online keys without a gap: which key signs follows from the published roots, at every instant and on every replica.

use std::path::Path;

use sluice_catalog::Kind;
use sluice_catalog::wire::publish::PublishDocument;
use sluice_server::app::App;
use sluice_server::clock::{Clock, Dice};
use sluice_server::store::Repository;
use sluice_signer::{ImageDocuments, Limits, OnlineKeys, OnlineRole, PublicKey};

use crate::harness::process::{Process, program};
use crate::harness::wait::until;
use crate::harness::world::CAM;
use crate::harness::{Ceremony, Client, Engine, Replicas, World};

both_engines!(
    the_published_root_decides_which_key_signs,
    a_replica_without_the_key_signs_nothing_and_says_so,
    a_server_with_other_keys_does_not_start,
    a_server_that_lost_its_keys_comes_back_with_others,
    what_devices_see_fits_together_all_the_time,
    the_director_root_may_come_first,
    a_root_may_name_no_key_that_has_had_its_time,
);

killed_at!(
    keys_next_after_write => "keys.next.after_write",
    keys_retire_before_move => "keys.retire.before_move",
    keys_retire_after_move => "keys.retire.after_move",
);

/// A rotation killed where a publication is.
mod rotation_before_commit {
    use super::{Engine, killed_at};

    #[test]
    fn sqlite() {
        killed_at("publish.before_commit", Engine::Sqlite);
    }

    #[test]
    fn postgres() {
        killed_at("publish.before_commit", Engine::Postgres);
    }
}

mod rotation_after_commit {
    use super::{Engine, killed_at};

    #[test]
    fn sqlite() {
        killed_at("publish.after_commit", Engine::Sqlite);
    }

    #[test]
    fn postgres() {
        killed_at("publish.after_commit", Engine::Postgres);
    }
}

/// Keys that follow all four.
pub fn next_of_all(app: &App) -> OnlineKeys {
    let named = app.live.documents().named().clone();
    let next = OnlineRole::ALL.map(|role| app.keys.make_next(role, &named, false, Dice).unwrap().0);
    let [snapshot, timestamp, director, entitlement] = next;
    OnlineKeys { snapshot, timestamp, director, entitlement, next: std::collections::BTreeMap::new() }
}

/// Both roots that name them.
pub fn roots(ceremony: &Ceremony, online: &OnlineKeys, version: u64) -> [PublishDocument; 2] {
    let ceremony = Ceremony { online: online.clone(), ..ceremony.clone() };
    [ceremony.image_root(version), ceremony.director_root(version)]
}

/// The key that a replica signs with.
fn signs(app: &App, role: OnlineRole) -> PublicKey {
    app.key(role).unwrap().public().clone()
}

/// Goes through everything as a device does.
fn verify(replicas: &Replicas, app: &App) {
    let documents = replicas.runtime.block_on(async {
        let mut tx = app.store.begin().await.unwrap();
        let mut of = ImageDocuments::default();
        for document in tx.document_chain(Repository::Image, "root").await.unwrap() {
            of.roots.push(document.body);
        }
        let latest = tx.document_latest(Repository::Image).await.unwrap();
        let body = |role: &str| latest.iter().find(|document| document.role == role).unwrap().body.clone();
        of.targets = Some(body("targets"));
        (of, body("snapshot"), body("timestamp"))
    });
    let now = jiff::Timestamp::from_second(app.now().as_s()).unwrap();
    documents.0.verify_as_device(&documents.1, &documents.2, now, &Limits::default()).unwrap();
}

/// The files of this ending, sorted.
pub fn files(folder: &Path, ending: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    let names = paths.filter(|path| path.extension().is_some_and(|extension| extension == ending));
    let mut names: Vec<String> = names.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn the_published_root_decides_which_key_signs(engine: Engine) {
    let clock = Clock::default();
    let replicas = Replicas::new(engine, &clock);
    let (one, other) = (replicas.start(&clock), replicas.start(&clock));
    let old = replicas.ceremony.online.clone();
    let next = next_of_all(&one);
    assert_eq!(next, next_of_all(&one), "asked again, the same keys");
    for role in OnlineRole::ALL {
        assert_eq!(signs(&one, role), *old.current(role), "no root names the next one");
    }
    clock.advance_ms(3_700_000);
    assert!(replicas.tick(&one), "meanwhile everything goes on");
    verify(&replicas, &one);
    replicas.publish(&one, &roots(&replicas.ceremony, &next, 2)).unwrap();
    verify(&replicas, &one);
    replicas.runtime.block_on(other.refresh()).unwrap();
    for app in [&one, &other] {
        for role in OnlineRole::ALL {
            assert_eq!(signs(app, role), *next.current(role));
        }
    }
    assert_eq!(files(&replicas.keys(), "pem").len(), 4, "the old ones were put away");
    assert_eq!(files(&replicas.keys().join("retired"), "pem").len(), 4);
    clock.advance_ms(3_700_000);
    assert!(replicas.tick(&one));
    verify(&replicas, &one);
    // After a restart nothing is different, and the next rotation begins from here.
    let again = replicas.start(&clock);
    assert_eq!(signs(&again, OnlineRole::Snapshot), next.snapshot);
    let third = next_of_all(&again);
    replicas.publish(&again, &roots(&replicas.ceremony, &third, 3)).unwrap();
    verify(&replicas, &again);
    assert_eq!(sluice_server::keys::Keys::forget(&replicas.keys()).unwrap(), 8);
    assert_eq!(files(&replicas.keys().join("retired"), "pem"), [] as [&str; 0]);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

fn a_replica_without_the_key_signs_nothing_and_says_so(engine: Engine) {
    let clock = Clock::default();
    let replicas = Replicas::new(engine, &clock);
    // Its keys folder is a copy that was made too early.
    let apart = tempfile::tempdir().unwrap();
    copy(&replicas.keys(), &apart.path().join("keys"));
    let (one, other) = (replicas.start(&clock), replicas.start_in(apart.path(), &clock).unwrap());
    assert!(!replicas.tick(&other), "it has the lease");
    replicas.runtime.block_on(other.ready()).unwrap();
    let next = next_of_all(&one);
    replicas.publish(&one, &roots(&replicas.ceremony, &next, 2)).unwrap();
    replicas.runtime.block_on(other.refresh()).unwrap();
    let error = replicas.runtime.block_on(other.ready()).unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(error.detail.contains("does not have the snapshot key that the published root names"), "{error}");
    let cause = error.cause.unwrap().to_string();
    assert!(cause.contains(next.snapshot.keyid()) && cause.contains("copy the folder"), "{cause}");
    assert!(other.key(OnlineRole::Director).is_err(), "no answers to devices either");
    clock.advance_ms(3_700_000);
    assert!(replicas.runtime.block_on(other.publisher_tick()).is_err());
    assert!(replicas.tick(&one), "the lease went to who has the keys");
    let apart_from = replicas.start_in(apart.path(), &clock).unwrap_err().to_string();
    assert!(apart_from.contains("copy the keys folder"), "{apart_from}");
    // With the files it goes on by itself.
    copy(&replicas.keys(), &apart.path().join("keys"));
    replicas.runtime.block_on(other.refresh()).unwrap();
    replicas.runtime.block_on(other.ready()).unwrap();
    assert_eq!(signs(&other, OnlineRole::Director), next.director);
    assert_eq!(files(&apart.path().join("keys"), "pem").len(), 4, "and has put the old ones away");
}

fn a_server_with_other_keys_does_not_start(engine: Engine) {
    let clock = Clock::default();
    let replicas = Replicas::new(engine, &clock);
    let empty = tempfile::tempdir().unwrap();
    let error = replicas.start_in(empty.path(), &clock).unwrap_err().to_string();
    assert!(error.contains("copy the keys folder of the first server"), "{error}");
    assert_eq!(files(&empty.path().join("keys"), "pem"), [] as [&str; 0], "keys that no root names are not made");
}

fn a_server_that_lost_its_keys_comes_back_with_others(engine: Engine) {
    let clock = Clock::default();
    let replicas = Replicas::new(engine, &clock);
    let fresh = tempfile::tempdir().unwrap();
    let keys = sluice_server::keys::Keys::load(&fresh.path().join("keys"), true, Dice).unwrap();
    let made = keys.online(&sluice_signer::NamedKeys::default()).unwrap();
    let app = replicas.start_in(fresh.path(), &clock).unwrap();
    assert!(replicas.runtime.block_on(app.ready()).is_err());
    clock.advance_ms(3_700_000);
    assert!(replicas.runtime.block_on(app.publisher_tick()).is_err(), "it signs nothing");
    replicas.publish(&app, &roots(&replicas.ceremony, &made, 2)).unwrap();
    replicas.runtime.block_on(app.ready()).unwrap();
    assert_eq!(signs(&app, OnlineRole::Director), made.director);
    verify(&replicas, &app);
}

fn what_devices_see_fits_together_all_the_time(engine: Engine) {
    let mut world = World::new(engine);
    world.two_releases();
    let device = world.device(CAM, "SN-1");
    let next = next_of_all(&world.server.app);
    let shown = OnlineKeys::from_bytes(&world.admin.get("/api/v1/online-keys").expect(200).body).unwrap();
    assert_eq!(shown.next[&OnlineRole::Director], next.director);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (client, now) = (world.server.client(), world.server.timestamp());
    let documents = roots(&world.ceremony, &next, 2);
    std::thread::scope(|scope| {
        let seen = scope.spawn(|| {
            let mut newest = 0;
            let mut done = false;
            while !done {
                // Once more after the last publication.
                done = stop.load(std::sync::atomic::Ordering::Acquire);
                newest = walk(&client, now);
            }
            newest
        });
        world.publish(&documents).expect(200);
        stop.store(true, std::sync::atomic::Ordering::Release);
        assert_eq!(seen.join().unwrap(), 2);
    });
    let answer = device.poll_answer().expect(200);
    let bytes = answer.json::<sluice_catalog::wire::device::PollResponse>().director;
    let mut trust = sluice_signer::DirectorTrust::from_root(
        &client.get("/director/1.root.json").expect(200).body,
        &Limits::default(),
    )
    .unwrap();
    trust.update_root(&client.get("/director/2.root.json").expect(200).body).unwrap();
    let expect = sluice_signer::DirectorExpect {
        device_id: &device.id,
        nonce: Some(crate::harness::device::NONCE),
        now: world.server.timestamp(),
        last_version: 0,
    };
    trust.verify_director(bytes.get().as_bytes(), &expect).unwrap();
}

/// A device from a warehouse; the version of the root that it arrives at.
pub fn walk(client: &Client, now: jiff::Timestamp) -> u64 {
    let first = client.get("/metadata/1.root.json").expect(200).body;
    let mut repository = sluice_signer::TrustedRepository::from_root(&first, &Limits::default()).unwrap();
    // The timestamp may be of a publication that came after the last root was looked for: then that root is there now.
    for _ in 0..3 {
        loop {
            let answer = client.get(&format!("/metadata/{}.root.json", repository.root_version() + 1));
            if answer.status == 404 {
                break;
            }
            repository.update_root(&answer.expect(200).body).unwrap();
        }
        let timestamp = client.get("/metadata/timestamp.json").expect(200).body;
        let next = client.get(&format!("/metadata/{}.root.json", repository.root_version() + 1));
        if repository.update_timestamp(&timestamp, now).is_err() {
            assert_eq!(next.status, 200, "a timestamp that no root vouches for");
            continue;
        }
        let wanted = repository.wanted_snapshot().unwrap();
        let snapshot = client.get(&format!("/metadata/{}", wanted.file)).expect(200).body;
        repository.update_snapshot(&snapshot, now).unwrap();
        return repository.root_version();
    }
    panic!("no state that fits together");
}

fn the_director_root_may_come_first(engine: Engine) {
    let clock = Clock::default();
    let replicas = Replicas::new(engine, &clock);
    let app = replicas.start(&clock);
    let next = next_of_all(&app);
    let [image, director] = roots(&replicas.ceremony, &next, 2);
    replicas.publish(&app, &[director]).unwrap();
    assert_eq!(signs(&app, OnlineRole::Director), next.director);
    assert_eq!(signs(&app, OnlineRole::Snapshot), replicas.ceremony.online.snapshot, "the image root decides");
    assert_eq!(files(&replicas.keys(), "pem").len(), 6);
    verify(&replicas, &app);
    replicas.publish(&app, &[image]).unwrap();
    assert_eq!(signs(&app, OnlineRole::Snapshot), next.snapshot);
    verify(&replicas, &app);
}

fn a_root_may_name_no_key_that_has_had_its_time(engine: Engine) {
    let clock = Clock::default();
    let replicas = Replicas::new(engine, &clock);
    let app = replicas.start(&clock);
    let next = next_of_all(&app);
    replicas.publish(&app, &roots(&replicas.ceremony, &next, 2)).unwrap();
    let error = replicas.publish(&app, &roots(&replicas.ceremony, &replicas.ceremony.online, 3)).unwrap_err();
    assert_eq!(error.kind, Kind::Unverified);
    assert!(error.detail.contains("must name the server's key"), "{error}");
    // Even when its file is put back.
    let retired = replicas.keys().join("retired");
    copy(&retired, &replicas.keys());
    assert!(replicas.publish(&app, &roots(&replicas.ceremony, &replicas.ceremony.online, 3)).is_err());
    assert_eq!(signs(&app, OnlineRole::Timestamp), next.timestamp);
}

fn killed_at(failpoint: &str, engine: Engine) {
    // An installation whose server has made the next key of its snapshot role.
    let world = World::new(engine);
    let (admin, ceremony) = (world.admin.token().to_owned(), world.ceremony.clone());
    let (database, data) = world.server.stop();
    let rotate = |failpoint: &str| {
        let data = data.path().to_str().unwrap();
        let line = ["keys", "rotate", "snapshot", "--data", data, "--database", &database.url()].map(str::to_owned);
        program().args(line).env("SLUICE_FAILPOINT", failpoint).output().unwrap()
    };
    let made = rotate(if failpoint == "keys.next.after_write" { failpoint } else { "" });
    assert_eq!(made.status.success(), failpoint != "keys.next.after_write");
    let text = rotate("");
    assert!(text.status.success(), "{}", String::from_utf8_lossy(&text.stderr));
    assert_eq!(files(&data.path().join("keys"), "pem").len(), 5, "one key waits, whatever happened");

    std::fs::write(data.path().join("sluice.toml"), "worker_threads = 0\n").unwrap();
    let process = Process::start(data.path(), &database.url(), failpoint);
    let client = Client::new(&process.url).with(&admin);
    let shown = OnlineKeys::from_bytes(&client.get("/api/v1/online-keys").expect(200).body).unwrap();
    let next = OnlineKeys { snapshot: shown.next[&OnlineRole::Snapshot].clone(), ..shown };
    let documents = roots(&ceremony, &next, 2);
    let body = serde_json::to_vec(&serde_json::json!({ "documents": documents })).unwrap();
    let json = [("Content-Type", "application/json")];
    let answer = client.try_send(&ureq::http::Method::POST, "/api/v1/publish", &json, &body);
    if failpoint == "keys.next.after_write" {
        assert_eq!(answer.unwrap().status, 200);
        drop(process);
    } else {
        process.dies_at(failpoint);
    }
    let process = Process::start(data.path(), &database.url(), "");
    let client = Client::new(&process.url).with(&admin);
    let now = jiff::Timestamp::from_second(Clock::default().now().as_s()).unwrap();
    let committed = failpoint != "publish.before_commit";
    assert_eq!(walk(&client, now), if committed { 2 } else { 1 });
    let shown = OnlineKeys::from_bytes(&client.get("/api/v1/online-keys").expect(200).body).unwrap();
    assert_eq!(shown.snapshot == next.snapshot, committed);
    assert_eq!(shown.next.is_empty(), committed, "the next one waits as long as no root names it");
    // The same publication again ends in the same state.
    client.send(ureq::http::Method::POST, "/api/v1/publish", &json, &body).expect(200);
    assert_eq!(walk(&client, now), 2);
    until("the old key to be put away", || (files(&data.path().join("keys"), "pem").len() == 4).then_some(()));
    assert_eq!(files(&data.path().join("keys/retired"), "pem").len(), 1);
}
