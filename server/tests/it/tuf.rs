//! The served documents, walked by the verifier of the agent from the first root on.

use jiff::Timestamp;
use sluice_catalog::Kind;
use sluice_signer::{Limits, Lookup, Refresh, RepositoryState, TrustedRepository};

use crate::harness::ceremony::bytes_of;
use crate::harness::world::{BAR, CAM, IMAGES};
use crate::harness::{Client, Engine, Release, World};

both_engines!(
    a_device_from_a_warehouse_reaches_every_target,
    documents_are_served_as_they_were_signed,
    what_does_not_exist_is_not_found,
    the_timestamp_is_signed_again_before_it_ends,
    an_expired_product_role_holds_nobody_else_back,
    a_new_director_root_reaches_devices,
    consistent_snapshots_keep_old_versions,
    the_status_tells_what_expires_next,
);

/// Refreshes as the specification says; the versions of timestamp and snapshot afterwards.
fn refresh(repository: &mut TrustedRepository, client: &Client, now: Timestamp) -> (u64, u64) {
    let mut refresh = Refresh::new();
    while let Some(ask) = refresh.next(repository, now).unwrap() {
        let answer = client.get(&format!("/metadata/{}", ask.file));
        let document = (!ask.optional || answer.status != 404).then(|| answer.expect(200).body);
        refresh.give(repository, document.as_deref(), now).unwrap();
    }
    (repository.timestamp_version().unwrap(), repository.snapshot_version().unwrap())
}

/// The signed digest of a target.
fn find(repository: &mut TrustedRepository, client: &Client, path: &str, now: Timestamp) -> Option<[u8; 32]> {
    loop {
        match repository.target(path, now).unwrap() {
            Lookup::Found(found) => return Some(found.target.sha256),
            Lookup::NotFound => return None,
            Lookup::NeedsRole { role, parent, wanted } => {
                let body = client.get(&format!("/metadata/{}", wanted.file)).expect(200).body;
                repository.update_targets(&role, &parent, &body, now).unwrap();
            }
        }
    }
}

fn device(world: &World) -> TrustedRepository {
    TrustedRepository::from_root(&bytes_of(&world.ceremony.image_root(1)), &Limits::default()).unwrap()
}

fn a_device_from_a_warehouse_reaches_every_target(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    let bar = Release::new(BAR, "1.0", 1, &IMAGES[2]);
    world.release(&bar);
    for version in [2, 3] {
        world.publish(&[world.ceremony.image_root(version)]).expect(200);
    }
    let now = world.server.timestamp();
    let client = world.server.client();
    let mut repository = device(&world);
    assert_eq!(refresh(&mut repository, &client, now), (6, 6), "one for each publication");
    assert_eq!(repository.root_version(), 3);
    for release in [&first, &second] {
        assert_eq!(find(&mut repository, &client, &release.path(), now), Some(release.digest().0));
    }
    assert_eq!(find(&mut repository, &client, "acme-cam/9.9/main.bin", now), None);
    let member = world.device(BAR, "SN-1").client;
    assert_eq!(find(&mut repository, &member, &bar.path(), now), Some(bar.digest().0));
    // After a restart it goes on from what it kept.
    let kept: RepositoryState = repository.state();
    let mut again = TrustedRepository::from_state(&kept, &Limits::default()).unwrap();
    let third = Release::new(CAM, "2.4.2", 20402, &IMAGES[2]);
    world.release(&third);
    refresh(&mut again, &client, now);
    assert_eq!(find(&mut again, &client, &third.path(), now), Some(third.digest().0));
}

fn documents_are_served_as_they_were_signed(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    let client = world.server.client();
    let signed = [
        ("/metadata/1.root.json", world.ceremony.image_root(1)),
        ("/director/1.root.json", world.ceremony.director_root(1)),
        ("/metadata/1.targets.json", world.ceremony.top(1, &[BAR, CAM])),
        ("/metadata/1.acme-cam.json", world.ceremony.role(CAM, 1, std::slice::from_ref(&first))),
        ("/metadata/2.acme-cam.json", world.ceremony.role(CAM, 2, &[first, second])),
    ];
    for (path, document) in signed {
        let answer = client.get(path).expect(200);
        assert_eq!(answer.body, bytes_of(&document), "{path}");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("cache-control"), "public, max-age=31536000, immutable");
        client.get_with(path, &[("If-None-Match", answer.header("etag"))]).expect(304);
    }
    assert_eq!(client.get("/metadata/timestamp.json").expect(200).header("cache-control"), "no-cache");
}

fn what_does_not_exist_is_not_found(engine: Engine) {
    let mut world = World::new(engine);
    let (first, _) = world.two_releases();
    let client = world.server.client();
    for path in [
        "/metadata/2.root.json",
        "/director/2.root.json",
        "/director/timestamp.json",
        "/metadata/01.root.json",
        "/metadata/+1.root.json",
        "/metadata/-1.root.json",
        "/metadata/0.root.json",
        "/metadata/99999999999999999999.root.json",
        "/metadata/root.json",
        "/metadata/1.root",
        "/metadata/1.acme-none.json",
        "/metadata/..%2f1.root.json",
        "/targets/acme-cam/2.4.0/main.bin",
        "/targets/main.bin",
        "/targets/",
        &format!("/targets/acme-cam/2.4.0/{}.main.bin", "0".repeat(64)),
        &format!("/targets/{}.acme-cam/2.4.0/main.bin", "0".repeat(64)),
        &format!("/targets/{}.acme-cam/2.4.1/main.bin", first.digest()),
        "/431a/9.9/0/main.bin",
        "/ffff/2.4.0/0/main.bin",
        "/431a/2.4.0/0/other.bin",
    ] {
        client.get(path).refused(Kind::NotFound);
    }
}

fn the_timestamp_is_signed_again_before_it_ends(engine: Engine) {
    let mut world = World::new(engine);
    world.two_releases();
    let client = world.server.client();
    let mut repository = device(&world);
    let before = refresh(&mut repository, &client, world.server.timestamp());
    let tick = || world.server.block_on(world.server.app.publisher_tick()).unwrap();
    assert!(!tick(), "it is young");
    world.server.advance_s(3500);
    assert!(!tick());
    // An hour old.
    world.server.advance_until_signed_s(200);
    assert!(!tick(), "once");
    let after = refresh(&mut repository, &client, world.server.timestamp());
    assert_eq!(after, (before.0 + 1, before.1), "the snapshot is young");
    // Half of its week has gone.
    world.server.advance_until_signed_s(7 * 24 * 3600 / 2 - 3500);
    let later = refresh(&mut repository, &client, world.server.timestamp());
    assert_eq!(later, (after.0 + 1, after.1 + 1));
    // A server that slept for a week recovers by itself.
    let expired = client.get("/metadata/timestamp.json").expect(200).body;
    world.server.advance_until_signed_s(8 * 24 * 3600);
    assert!(repository.update_timestamp(&expired, world.server.timestamp()).is_err());
    refresh(&mut repository, &client, world.server.timestamp());
}

fn an_expired_product_role_holds_nobody_else_back(engine: Engine) {
    let mut world = World::new(engine);
    world.two_releases();
    let bar = Release::new(BAR, "1.0", 1, &IMAGES[2]);
    world.release(&bar);
    // A hundred days later the camera's role has expired; the bar's is signed anew.
    world.server.advance_s(99 * 24 * 3600);
    world.ceremony.now = world.server.timestamp();
    world.publish(&[world.ceremony.role(BAR, 2, std::slice::from_ref(&bar))]).expect(200);
    world.server.advance_until_signed_s(2 * 24 * 3600);
    let now = world.server.timestamp();
    let mut repository = device(&world);
    let member = world.device(BAR, "SN-1").client;
    refresh(&mut repository, &member, now);
    assert_eq!(find(&mut repository, &member, &bar.path(), now), Some(bar.digest().0));
    let next = Release::new(BAR, "1.1", 2, &IMAGES[1]);
    world.upload(&next);
    world.publish(&[world.ceremony.role(BAR, 3, &[bar, next])]).expect(200);
    assert!(
        repository.target("acme-cam/2.4.0/main.bin", now).is_ok_and(|found| matches!(found, Lookup::NeedsRole { .. }))
    );
    let stale = member.get("/metadata/2.acme-cam.json").expect(200).body;
    assert!(repository.update_targets(CAM, "targets", &stale, now).is_err(), "a device refuses what has expired");
}

fn a_new_director_root_reaches_devices(engine: Engine) {
    let mut world = World::new(engine);
    world.two_releases();
    let client = world.server.client();
    client.get("/director/2.root.json").refused(Kind::NotFound);
    world.publish(&[world.ceremony.director_root(2)]).expect(200);
    assert_eq!(client.get("/director/2.root.json").expect(200).body, bytes_of(&world.ceremony.director_root(2)));
    let device = world.device(CAM, "SN-1");
    device.poll().is_nothing("NO_ROLLOUT");
}

fn consistent_snapshots_keep_old_versions(engine: Engine) {
    let mut world = World::new(engine);
    let (first, _) = world.two_releases();
    let client = world.server.client();
    let slow = client.get("/metadata/timestamp.json").expect(200).body;
    let now = world.server.timestamp();
    world.release(&Release::new(CAM, "2.4.2", 20402, &IMAGES[2]));
    // A slow client that fetched its timestamp before the publication finds every file of that moment.
    let mut repository = device(&world);
    repository.update_timestamp(&slow, now).unwrap();
    let wanted = repository.wanted_snapshot().unwrap();
    repository.update_snapshot(&client.get(&format!("/metadata/{}", wanted.file)).expect(200).body, now).unwrap();
    let wanted = repository.wanted_role("targets").unwrap();
    let top = client.get(&format!("/metadata/{}", wanted.file)).expect(200).body;
    repository.update_targets("targets", "root", &top, now).unwrap();
    assert_eq!(find(&mut repository, &client, &first.path(), now), Some(first.digest().0));
    assert_eq!(find(&mut repository, &client, "acme-cam/2.4.2/main.bin", now), None);
}

fn the_status_tells_what_expires_next(engine: Engine) {
    let mut world = World::new(engine);
    world.two_releases();
    let expiries = world.status().expiries;
    let roles: Vec<&str> = expiries.iter().map(|one| one.role.as_str()).collect();
    assert_eq!(roles, ["timestamp", "snapshot", "acme-cam", "targets", "root", "director-root"]);
    assert!(expiries.iter().all(|one| one.next_step.is_none()), "there is time: {expiries:?}");
    assert_eq!(expiries[2].version, 2);
    world.server.advance_until_signed_s(75 * 24 * 3600);
    let expiries = world.status().expiries;
    let cam = expiries.iter().find(|one| one.role == CAM).unwrap();
    assert!([24, 25].contains(&cam.days_left), "{cam:?}");
    assert!(cam.next_step.as_ref().unwrap().contains("sluice-sign renew --role acme-cam"), "{cam:?}");
    assert!(expiries.iter().filter(|one| one.role != CAM).all(|one| one.next_step.is_none()), "{expiries:?}");
}
