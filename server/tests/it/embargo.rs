//! Releases that are signed and given to the server in advance: nobody is shown them before their moment, whatever they ask, and
//! everybody from then on.

use std::slice::from_ref;

use futures::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sluice_catalog::Kind;
use sluice_catalog::wire::admin::{Page, ReleaseDetail};
use sluice_catalog::wire::publish::{Held, PublishDocument, PublishOutcome, PublishRequest, PublishResponse};
use sluice_server::app::App;
use sluice_server::clock::Clock;
use sluice_server::store::Repository;

use crate::harness::process::Process;
use crate::harness::wait::until;
use crate::harness::world::{BAR, BAR_PID, CAM, CAM_PID, IMAGES};
use crate::harness::{Client, Database, Engine, Place, Release, Replicas, TestServer, World};

both_engines!(
    nobody_is_shown_anything_before_the_moment_and_everybody_afterwards,
    ordinary_releases_go_on,
    a_later_version_takes_the_place_and_what_waits_can_be_dropped,
    what_was_published_meanwhile_stands_against_it,
    holders_who_were_replaced_publish_nothing,
    what_is_held_is_checked_when_it_comes,
    a_gated_product_stays_gated,
    a_release_changes_hands_and_is_not_withdrawn,
    of_two_replicas_one_publishes_once,
    a_kill_at_the_commit_leaves_it_before_or_after,
);

const ROLE: &str = "embargo-0123456789abcdef";
const OTHER: &str = "embargo-fedcba9876543210";
const HOUR_S: i64 = 3600;

/// Two releases of the camera, and embargo roles of camera and bar whose first documents are empty.
fn world(engine: Engine) -> World {
    let mut world = World::new(engine);
    world.two_releases();
    found(&world);
    world
}

fn found(world: &World) {
    let ceremony = &world.ceremony;
    let top = ceremony.top_with_embargo(2, &[BAR, CAM], &[(ROLE, CAM), (OTHER, BAR)]);
    world.publish(&[top, ceremony.embargo(ROLE, 1, None, &[]), ceremony.embargo(OTHER, 1, None, &[])]).expect(200);
}

fn coming() -> Release {
    Release::new(CAM, "2.5.0", 20500, &IMAGES[2]).train("2.5", "2026-05-01").notes("# Night vision")
}

fn moment(world: &World) -> Timestamp {
    world.ceremony.now + SignedDuration::from_secs(HOUR_S)
}

/// Uploads and gives the server a document of the embargo role.
#[track_caller]
fn hold(world: &World, version: u64, at: Timestamp, releases: &[Release]) -> (PublishDocument, PublishResponse) {
    for release in releases {
        world.upload(release);
    }
    let document = world.ceremony.embargo(ROLE, version, Some(at), releases);
    let answer: PublishResponse = world.publish(from_ref(&document)).expect(200).json();
    assert_eq!(answer.documents[0].outcome, PublishOutcome::Held);
    assert_eq!(answer.documents[0].held_until.unwrap().as_s(), at.as_second());
    (document, answer)
}

/// The clock passes the moment; the server publishes by itself.
#[track_caller]
fn wait_for(world: &World, version: &str) -> ReleaseDetail {
    let path = format!("/api/v1/products/{CAM}/releases/{version}");
    let release = until("the release", || {
        let answer = world.admin.get(&path);
        (answer.status == 200).then(|| answer.json())
    });
    // What is shown follows noun by noun: all of it is there after this.
    world.server.block_on(world.server.app.refresh()).unwrap();
    release
}

fn held(world: &World) -> Vec<Held> {
    world.admin.get("/api/v1/held").expect(200).json::<Page<Held>>().items
}

fn snapshot(client: &Client) -> Value {
    let timestamp: Value = client.get("/metadata/timestamp.json").expect(200).json();
    let version = &timestamp["signed"]["meta"]["snapshot.json"]["version"];
    client.get(&format!("/metadata/{version}.snapshot.json")).expect(200).json()
}

fn role_version(client: &Client, role: &str) -> Value {
    snapshot(client)["signed"]["meta"][format!("{role}.json")]["version"].clone()
}

/// Everything that can be asked, by somebody who may read whatever can be read, and by nobody.
fn everything_shown(world: &World, reader: &Client, device: &str) -> Vec<(String, String)> {
    let anyone = world.server.client();
    let query = format!("{{availableProductSoftwareByPid(pid: \"{CAM_PID}\") {{version productBuild {{url}}}}}}");
    let mut texts = Vec::new();
    for client in [&anyone, reader] {
        for path in [
            "/metadata/timestamp.json".to_owned(),
            format!("/metadata/1.{ROLE}.json"),
            format!("/metadata/2.{ROLE}.json"),
            format!("/metadata/2.{CAM}.json"),
            "/metadata/2.targets.json".to_owned(),
            coming().url(),
            coming().url_by_hash(),
            format!("/{CAM_PID}/2.5.0/0/main.bin"),
            format!("/{BAR_PID}/2.5.0/0/main.bin"),
            format!("/v1/blobs/{}", coming().digest()),
            format!("/api/v1/blobs/{}", coming().digest()),
            format!("/api/v1/products/{CAM}"),
            format!("/api/v1/products/{CAM}/releases"),
            format!("/api/v1/products/{CAM}/releases/2.4.1"),
            format!("/api/v1/products/{CAM}/devices/{device}/why"),
            format!("/api/v1/products/{CAM}/devices/{device}/why?version=2.5.0"),
            "/api/v1/status".to_owned(),
            "/api/v1/jobs".to_owned(),
            "/api/v1/audit".to_owned(),
            "/api/v1/rollouts".to_owned(),
            "/api/v1/held".to_owned(),
        ] {
            let text = client.get(&path).text();
            texts.push((path, text));
        }
        texts.push((query.clone(), client.post("/graphql", &json!({"query": query})).text()));
        texts.push(("snapshot".into(), snapshot(client).to_string()));
    }
    texts.push(("/metrics".into(), anyone.get("/metrics").text()));
    texts
}

fn nobody_is_shown_anything_before_the_moment_and_everybody_afterwards(engine: Engine) {
    let world = world(engine);
    let auditor = world.principal("auditor", "auditor");
    let engineer = world.principal("engineer", "release_engineer");
    let mut device = world.device(CAM, "SN-1");
    device.run(&Release::new(CAM, "2.4.1", 20401, &IMAGES[1]));
    device.poll().is_nothing("UP_TO_DATE");
    let anyone = world.server.client();
    let before = snapshot(&anyone);
    let jobs = world.admin.get("/api/v1/jobs").text();

    let (document, answer) = hold(&world, 2, moment(&world), &[coming()]);
    assert_eq!((answer.releases[0].outcome, answer.releases[0].release_id.as_str()), (PublishOutcome::Held, ""));
    world.server.unchanged(|| {
        let again: PublishResponse = world.publish(from_ref(&document)).expect(200).json();
        assert_eq!(again, answer);
    });
    for at in [0, HOUR_S - 60] {
        world.server.advance_s(at);
        world.server.block_on(world.server.app.publisher_tick()).unwrap();
        let readers = [&auditor, &engineer, &device.client];
        let shown: Vec<_> = readers.iter().flat_map(|reader| everything_shown(&world, reader, "SN-1")).collect();
        // What somebody asks for is named in the answer that it is not there; that alone is left out.
        let secrets = ["2.5.0".to_owned(), "Night vision".to_owned(), coming().digest().to_string()];
        let told: Vec<_> = shown
            .iter()
            .filter(|(_, text)| !text.contains("there is no "))
            .filter(|(_, text)| secrets.iter().any(|secret| text.contains(secret)))
            .collect();
        assert!(told.is_empty(), "{told:#?}");
        assert_eq!(anyone.get(&coming().url()).status, 404);
        assert_eq!(anyone.get(&format!("/metadata/2.{ROLE}.json")).status, 404);
        device.poll().is_nothing("UP_TO_DATE");
    }
    assert_eq!(snapshot(&anyone)["signed"]["version"], before["signed"]["version"], "no snapshot tells of it");
    assert_eq!(world.admin.get("/api/v1/jobs").text(), jobs);
    for reader in [&auditor, &engineer] {
        reader.get("/api/v1/held").refused(Kind::Forbidden);
        reader.delete(&format!("/api/v1/held/{ROLE}")).refused(Kind::Forbidden);
    }
    let waiting = held(&world);
    assert_eq!((waiting.len(), waiting[0].role.as_str(), waiting[0].product.as_str()), (1, ROLE, CAM));
    assert_eq!((&waiting[0].releases, waiting[0].held_by.as_str()), (&vec!["2.5.0".to_owned()], "root-admin"));

    world.server.advance_s(60);
    let release = wait_for(&world, "2.5.0").release;
    assert!(release.published_at.as_s() >= moment(&world).as_second(), "when it was published, not when it was given");
    assert!(held(&world).is_empty());
    assert_eq!(role_version(&anyone, ROLE), 2);
    assert_eq!(anyone.get(&coming().url()).expect(200).body, coming().image);
    assert_eq!(anyone.get(&format!("/metadata/2.{ROLE}.json")).expect(200).status, 200);
    assert_ne!(world.admin.get("/api/v1/jobs").text(), jobs);
    let audit = world.admin.get("/api/v1/audit?limit=500").text();
    assert!(audit.contains("given by root-admin") && audit.contains("embargo.hold"), "{audit}");
    world.server.unchanged(|| {
        let again: PublishResponse = world.publish(from_ref(&document)).expect(200).json();
        assert_eq!(again.documents[0].outcome, PublishOutcome::Unchanged);
    });
    world.roll_out("all", &coming(), &[100]);
    assert_eq!(device.poll().path(), coming().path(), "a device gets it by its rollout");
}

fn ordinary_releases_go_on(engine: Engine) {
    let mut world = world(engine);
    hold(&world, 2, moment(&world), &[coming()]);
    let ordinary = Release::new(CAM, "2.4.2", 20402, &IMAGES[0]);
    let answer = world.release(&ordinary);
    assert_eq!((answer.documents[0].outcome, answer.releases.len()), (PublishOutcome::Published, 3));
    let anyone = world.server.client();
    assert_eq!((role_version(&anyone, ROLE), role_version(&anyone, CAM)), (json!(1), json!(3)));
    world.server.advance_s(HOUR_S);
    wait_for(&world, "2.5.0");
    assert_eq!((role_version(&anyone, ROLE), role_version(&anyone, CAM)), (json!(2), json!(3)));
    for release in [&ordinary, &coming()] {
        assert_eq!(anyone.get(&release.url()).expect(200).body, release.image);
    }
    assert_eq!(world.status().releases, 4, "and nothing was withdrawn by either");
}

fn a_later_version_takes_the_place_and_what_waits_can_be_dropped(engine: Engine) {
    let world = world(engine);
    let later = moment(&world) + SignedDuration::from_secs(HOUR_S);
    hold(&world, 2, moment(&world), &[coming()]);
    let (postponed, _) = hold(&world, 3, later, &[coming()]);
    assert_eq!(held(&world).iter().map(|held| held.version).collect::<Vec<_>>(), [3]);
    let first = world.ceremony.embargo(ROLE, 2, Some(moment(&world)), &[coming()]);
    world.server.unchanged(|| world.publish(&[first]).refused(Kind::Unverified));
    let other = world.ceremony.embargo(ROLE, 3, Some(moment(&world)), &[coming()]);
    world.server.unchanged(|| world.publish(&[other]).refused(Kind::Unverified));
    world.server.advance_s(HOUR_S + 1);
    world.server.block_on(world.server.app.publisher_tick()).unwrap();
    assert_eq!(world.status().releases, 2, "the first moment does not count any more");

    world.admin.delete(&format!("/api/v1/held/{ROLE}")).expect(204);
    assert!(held(&world).is_empty());
    let gone = world.admin.delete(&format!("/api/v1/held/{ROLE}"));
    gone.refused(Kind::NotFound);
    world.server.advance_s(HOUR_S);
    world.server.block_on(world.server.app.publisher_tick()).unwrap();
    assert_eq!(world.status().releases, 2);
    let audit = world.admin.get("/api/v1/audit?limit=500").text();
    assert!(audit.contains("embargo.drop") && audit.contains("instead_of"), "{audit}");
    // Its holders signed it, so whoever has it may give it to the server once more; now its moment has passed.
    world.publish(&[postponed]).expect(200);
    wait_for(&world, "2.5.0");
}

fn what_was_published_meanwhile_stands_against_it(engine: Engine) {
    let mut world = world(engine);
    hold(&world, 2, moment(&world), &[coming()]);
    let taken = Release::new(CAM, "2.4.9", coming().order, &IMAGES[0]);
    assert_eq!(world.release(&taken).documents[0].outcome, PublishOutcome::Published, "nobody is told of what waits");
    world.server.advance_s(HOUR_S);
    let waiting = until("the reason", || held(&world).into_iter().find(|held| held.refused.is_some()));
    let reason = waiting.refused.unwrap();
    assert!(reason.contains("order") && reason.contains("2.4.9"), "{reason}");
    assert_eq!(role_version(&world.server.client(), ROLE), 1);
    let audit = world.admin.get("/api/v1/audit?limit=500").text();
    assert!(audit.contains("embargo.refuse"), "{audit}");
    let metrics = || world.server.client().get("/metrics").text();
    assert!(metrics().contains("sluice_embargo_refused_total 1"), "{}", metrics());
    // It is not tried again by itself; a later version takes its place.
    world.server.advance_s(HOUR_S);
    world.server.block_on(world.server.app.publisher_tick()).unwrap();
    assert!(metrics().contains("sluice_embargo_refused_total 1"), "{}", metrics());
    let better = Release { order: 20501, ..coming() };
    let document = world.ceremony.embargo(ROLE, 3, Some(moment(&world)), &[better]);
    world.publish(&[document]).expect(200);
    wait_for(&world, "2.5.0");
    assert!(held(&world).is_empty());
}

fn holders_who_were_replaced_publish_nothing(engine: Engine) {
    let world = world(engine);
    hold(&world, 2, moment(&world), &[coming()]);
    let top = world.ceremony.top(3, &[BAR, CAM]);
    world.publish(&[top]).expect(200);
    world.server.advance_s(HOUR_S);
    let waiting = until("the reason", || held(&world).into_iter().find(|held| held.refused.is_some()));
    assert!(waiting.refused.unwrap().contains("does not delegate"), "the role is gone");
    assert_eq!(world.status().releases, 2);
    assert_eq!(world.server.client().get(&format!("/metadata/1.{ROLE}.json")).status, 404, "and shown to nobody");
}

fn what_is_held_is_checked_when_it_comes(engine: Engine) {
    let mut world = World::new(engine);
    world.two_releases();
    let at = Some(moment(&world));
    let undelegated = world.ceremony.embargo(ROLE, 2, at, &[]);
    world.server.unchanged(|| world.publish(&[undelegated]).refused(Kind::Unverified));
    // Without a first document that is shown, tough would find nothing of any product.
    let top = world.ceremony.top_with_embargo(2, &[BAR, CAM], &[(ROLE, CAM), (OTHER, BAR)]);
    let unseen = world.ceremony.embargo(ROLE, 1, at, &[]);
    let problem = world.server.unchanged(|| world.publish(&[top, unseen]).refused(Kind::Unverified));
    assert!(problem.detail.contains("nothing of it is shown yet"), "{}", problem.detail);
    found(&world);

    let refuse = |what: &str, kind: Kind, document: PublishDocument| {
        let problem = world.server.unchanged(|| world.publish(&[document]).refused(kind));
        assert!(problem.detail.contains(what), "{what}: {}", problem.detail);
    };
    refuse("was not uploaded", Kind::NotFound, world.ceremony.embargo(ROLE, 2, at, &[coming()]));
    world.upload(&coming());
    refuse("custom.not_before is missing", Kind::Unverified, world.ceremony.embargo(ROLE, 2, None, &[coming()]));
    let far = world.ceremony.now + SignedDuration::from_hours(24 * 101);
    refuse("is not before", Kind::Unverified, world.ceremony.embargo(ROLE, 2, Some(far), &[coming()]));
    let order = Release { order: 20401, ..coming() };
    refuse("order", Kind::Unverified, world.ceremony.embargo(ROLE, 2, at, &[order]));
    let train = coming().train("2.4", "2026-03-02");
    refuse("train", Kind::Unverified, world.ceremony.embargo(ROLE, 2, at, &[train]));
    let counter = Release { security_counter: 0, ..coming() };
    refuse("security counter 0", Kind::Unverified, world.ceremony.embargo(ROLE, 2, at, &[counter]));
    let elsewhere = Release { product: BAR.into(), ..coming() };
    refuse("outside of the paths", Kind::Unverified, world.ceremony.embargo(ROLE, 2, at, &[elsewhere]));
    let floor = Release { min_installed: Some("2.4.1".into()), ..coming() };
    let document = world.ceremony.embargo(ROLE, 2, at, &[floor]);
    world.publish(&[document]).expect(200);
}

fn a_gated_product_stays_gated(engine: Engine) {
    let mut world = world(engine);
    let coming = Release::new(BAR, "1.1", 2, &IMAGES[2]);
    world.release(&Release::new(BAR, "1.0", 1, &IMAGES[0]));
    world.upload(&coming);
    let document = world.ceremony.embargo(OTHER, 2, Some(moment(&world)), from_ref(&coming));
    world.publish(&[document]).expect(200);
    let anyone = world.server.client();
    let (member, stranger) = (world.device(BAR, "SN-1").client, world.device(CAM, "SN-2").client);
    let path = |version: u64| format!("/metadata/{version}.{OTHER}.json");
    for client in [&anyone, &stranger] {
        client.get(&path(1)).refused(Kind::Forbidden);
    }
    member.get(&path(1)).expect(200);
    member.get(&path(2)).refused(Kind::NotFound);
    world.server.advance_s(HOUR_S);
    until("the release", || (member.get(&path(2)).status == 200).then_some(()));
    for client in [&anyone, &stranger] {
        client.get(&path(2)).refused(Kind::Forbidden);
        client.get(&coming.url()).refused(Kind::Forbidden);
    }
    assert_eq!(member.get(&coming.url()).expect(200).body, coming.image);
    // Revoked, its documents are read by nobody.
    world.publish(&[world.ceremony.top(3, &[BAR, CAM])]).expect(200);
    for client in [&anyone, &member] {
        client.get(&path(2)).refused(Kind::NotFound);
    }
}

fn a_release_changes_hands_and_is_not_withdrawn(engine: Engine) {
    for together in [false, true] {
        let mut world = world(engine);
        hold(&world, 2, moment(&world), &[coming()]);
        world.server.advance_s(HOUR_S);
        let id = wait_for(&world, "2.5.0").release.id;
        let mut releases = world.signed[CAM].1.clone();
        releases.push(coming());
        let adopted = world.ceremony.role(CAM, 3, &releases);
        let dropped = world.ceremony.embargo(ROLE, 3, Some(moment(&world)), &[]);
        let publications = if together { vec![vec![dropped, adopted]] } else { vec![vec![adopted], vec![dropped]] };
        for publication in publications {
            let answer: PublishResponse = world.publish(&publication).expect(200).json();
            for release in answer.releases {
                assert_eq!(release.outcome, PublishOutcome::Unchanged, "{release:?}");
            }
            let release = wait_for(&world, "2.5.0").release;
            assert_eq!((release.id, release.withdrawn_at), (id, None));
        }
        assert_eq!(world.server.client().get(&coming().url()).expect(200).body, coming().image);
        // And the product's own holders withdraw it like any other.
        let (_, before) = world.signed.remove(CAM).unwrap();
        world.publish(&[world.ceremony.role(CAM, 4, &before)]).expect(200);
        assert!(wait_for(&world, "2.5.0").release.withdrawn_at.is_some());
    }
}

fn of_two_replicas_one_publishes_once(engine: Engine) {
    let clock = Clock::default();
    let replicas = Replicas::new(engine, &clock);
    let (one, other) = (replicas.start(&clock), replicas.start(&clock));
    let ceremony = &replicas.ceremony;
    let top = ceremony.top_with_embargo(2, &[CAM], &[(ROLE, CAM)]);
    replicas.publish(&one, &[top, ceremony.embargo(ROLE, 1, None, &[])]).unwrap();
    let at = ceremony.now + SignedDuration::from_secs(60);
    replicas.publish(&one, &[ceremony.embargo(ROLE, 2, Some(at), &[])]).unwrap();
    let versions = replicas.versions(&one);
    replicas.tick(&other);
    assert_eq!(replicas.versions(&other), versions);
    let woken = |app: &App| {
        replicas.runtime.block_on(app.refresh()).unwrap();
        app.wake_at_the_moment();
        app.publisher.moment.notified().now_or_never().is_some()
    };
    assert!(!woken(&one) && !woken(&other));
    clock.advance_ms(61_000);
    assert!(woken(&one) && woken(&other), "every replica wakes; one has the lease");
    let ticks: Vec<bool> = std::thread::scope(|scope| {
        let ticking: Vec<_> = [&one, &other].map(|app| scope.spawn(|| replicas.tick(app))).into();
        ticking.into_iter().map(|ticked| ticked.join().unwrap()).collect()
    });
    assert_eq!(ticks.iter().filter(|published| **published).count(), 1, "{ticks:?}");
    assert_eq!(replicas.versions(&one), (versions.0 + 1, versions.1 + 1), "one snapshot tells of it");
    clock.advance_ms(100_000);
    assert!(!replicas.tick(&one) && !replicas.tick(&other));
    assert!(!woken(&one) && !woken(&other));
}

/// What stands: the role's version, releases, jobs, what waits, and publications in the audit log.
fn standing(server: &TestServer) -> (i64, usize, usize, usize, usize) {
    server.block_on(async {
        let store = &server.app.store;
        let documents = store.document_latest(Repository::Image).await.unwrap();
        let audit = store.audit_list(0, 1000).await.unwrap();
        (
            documents.iter().find(|document| document.role == ROLE).unwrap().version,
            store.release_all().await.unwrap().len(),
            store.job_list(None, None, 500).await.unwrap().len(),
            store.held_all().await.unwrap().len(),
            audit.iter().filter(|entry| entry.action == "publish").count(),
        )
    })
}

fn a_kill_at_the_commit_leaves_it_before_or_after(engine: Engine) {
    for failpoint in ["publish.before_commit", "publish.after_commit"] {
        // It was given to the server two hours ago, and its moment came while the server was down.
        let clock = Clock::default();
        clock.advance_ms(-2 * 1000 * HOUR_S);
        let server = TestServer::start_with(Database::new(engine), Place::Local, tempfile::tempdir().unwrap(), clock);
        let bootstrap = server.client().with(&server.bootstrap_token());
        let made: Value = bootstrap.post("/api/v1/bootstrap", &json!({"name": "root-admin"})).expect(201).json();
        let admin = server.client().with(made["token"].as_str().unwrap());
        let mut world = World::with_products(server, admin);
        world.publish(&world.foundation()).expect(200);
        world.two_releases();
        found(&world);
        let (document, _) = hold(&world, 2, moment(&world), &[coming()]);
        let World { server, admin, .. } = world;
        let before = standing(&server);
        let (database, data) = server.stop();

        std::fs::write(data.path().join("sluice.toml"), "worker_threads = 0\n").unwrap();
        Process::spawn(data.path(), &database.url(), failpoint).dies_at(failpoint);
        // One whose clock does not know of the moment yet: it shows what the other one left.
        let clock = Clock::default();
        clock.advance_ms(-2 * 1000 * HOUR_S);
        let server = TestServer::start_with(database, Place::Local, data, clock);
        let after = (before.0 + 1, before.1 + 1, before.2 + 1, 0, before.4 + 1);
        let left = standing(&server);
        if failpoint == "publish.before_commit" {
            assert_eq!(left, before);
            server.advance_s(3 * HOUR_S);
            until("the publication", || (standing(&server).3 == 0).then_some(()));
        }
        let (role, releases, jobs, waits, publications) = standing(&server);
        assert!(jobs > before.2, "{jobs}");
        assert_eq!((role, releases, waits, publications), (after.0, after.1, after.3, after.4), "{failpoint}");
        let admin = server.client().with(admin.token());
        let again = PublishRequest { documents: vec![document] };
        let again: PublishResponse = admin.post("/api/v1/publish", &again).expect(200).json();
        assert_eq!(again.documents[0].outcome, PublishOutcome::Unchanged);
        assert_eq!(server.client().get(&coming().url()).expect(200).body, coming().image);
    }
}
