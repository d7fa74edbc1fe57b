//! Publishing: all or nothing, the same again changes nothing, and nobody gets in what a device would refuse.

use std::slice::from_ref;

use serde_json::json;
use sluice_catalog::wire::admin::ReleaseDetail;
use sluice_catalog::wire::publish::{PublishDocument, PublishOutcome, PublishResponse};
use sluice_catalog::{Digest, Kind};

use crate::harness::ceremony::holders;
use crate::harness::world::{BAR, CAM, IMAGES};
use crate::harness::{Ceremony, Engine, Place, Release, World};

both_engines!(
    a_release_is_published_and_the_same_again_changes_nothing,
    everything_may_come_in_one_publication,
    blobs_come_before_documents,
    a_flipped_byte_in_any_document_is_refused,
    signatures_below_the_threshold_are_refused,
    expired_documents_are_refused,
    a_version_is_published_once,
    a_version_number_of_a_document_is_taken_once,
    facts_that_contradict_are_refused,
    an_unknown_product_is_refused,
    a_release_that_is_signed_no_more_is_withdrawn,
    a_product_that_nobody_may_sign_for_any_more_loses_its_releases,
    a_counter_does_not_go_below_that_of_a_release_that_was_withdrawn,
    of_two_publications_at_once_one_wins,
    documents_that_are_no_documents,
);

fn camera(version: &str, order: u64) -> Release {
    Release::new(CAM, version, order, &IMAGES[usize::try_from(order % 3).unwrap()])
}

fn a_release_is_published_and_the_same_again_changes_nothing(engine: Engine) {
    let mut world = World::new(engine);
    let release = camera("2.4.0", 20400).requires("FW.CAM.MAJOR").notes("# Sharp\n\nEdges.");
    let answer = world.release(&release);
    assert_eq!(answer.releases.len(), 1);
    assert_eq!(
        (answer.releases[0].outcome, answer.documents[0].outcome),
        (PublishOutcome::Published, PublishOutcome::Published)
    );
    let shown: ReleaseDetail = world.admin.get(&format!("/api/v1/products/{CAM}/releases/2.4.0")).expect(200).json();
    assert_eq!(shown.release.id.to_string(), answer.releases[0].release_id);
    assert_eq!((shown.release.notes_header.as_str(), shown.release.notes_body.as_str()), ("Sharp", "Edges."));
    assert!(shown.release.requires.contains("FW.CAM.MAJOR"));
    assert_eq!((shown.artifacts.len(), shown.artifacts[0].sha256), (1, release.digest()));
    world.server.unchanged(|| {
        let again: PublishResponse =
            world.publish(&[world.ceremony.role(CAM, 1, from_ref(&release))]).expect(200).json();
        assert_eq!(again.releases[0].release_id, answer.releases[0].release_id);
        assert_eq!(
            (again.releases[0].outcome, again.documents[0].outcome),
            (PublishOutcome::Unchanged, PublishOutcome::Unchanged)
        );
        let mut all = world.foundation();
        all.push(world.ceremony.role(CAM, 1, from_ref(&release)));
        world.publish(&all).expect(200);
    });
}

fn everything_may_come_in_one_publication(engine: Engine) {
    let world = World::unsigned(engine, Place::Local);
    let (cam, bar) = (camera("2.4.0", 1), Release::new(BAR, "1.0", 1, &IMAGES[1]));
    world.upload(&cam);
    world.upload(&bar);
    let mut documents = world.foundation();
    documents.push(world.ceremony.role(CAM, 1, &[cam]));
    documents.push(world.ceremony.role(BAR, 1, &[bar]));
    let answer: PublishResponse = world.publish(&documents).expect(200).json();
    assert_eq!((answer.documents.len(), answer.releases.len()), (5, 2));
    assert_eq!(world.status().releases, 2);
}

fn blobs_come_before_documents(engine: Engine) {
    let world = World::new(engine);
    let release = camera("2.4.0", 20400).notes("# Notes");
    let document = world.ceremony.role(CAM, 1, from_ref(&release));
    world.server.unchanged(|| {
        let problem = world.publish(from_ref(&document)).refused(Kind::NotFound);
        assert!(problem.detail.contains("was not uploaded"), "{}", problem.detail);
    });
    let [image, notes] = release.blobs().try_into().unwrap();
    world.admin.put(&format!("/api/v1/blobs/{}", Digest::of(&image)), &image).expect(201);
    world.server.unchanged(|| world.publish(from_ref(&document)).refused(Kind::NotFound));
    world.admin.put(&format!("/api/v1/blobs/{}", Digest::of(&notes)), &notes).expect(201);
    world.publish(&[document]).expect(200);
}

fn a_flipped_byte_in_any_document_is_refused(engine: Engine) {
    let world = World::unsigned(engine, Place::Local);
    let release = camera("2.4.0", 20400);
    world.upload(&release);
    let mut documents = world.foundation();
    documents.push(world.ceremony.role(CAM, 1, &[release]));
    for index in 0..documents.len() {
        let mut tampered = documents.clone();
        // A digit of the expiry: the document stays well-formed, its signatures do not fit.
        tampered[index] = Ceremony::altered(&documents[index], |bytes| {
            let text = String::from_utf8(std::mem::take(bytes)).unwrap();
            let at = text.find("\"expires\":\"20").unwrap() + 14;
            *bytes = text.into_bytes();
            bytes[at] ^= 1;
        });
        assert_ne!(tampered[index].body, documents[index].body);
        world.server.unchanged(|| world.publish(&tampered).refused(Kind::Unverified));
        tampered[index] = Ceremony::altered(&documents[index], |bytes| bytes[0] = b'[');
        world.server.unchanged(|| world.publish(&tampered).refused(Kind::Unverified));
    }
    world.publish(&documents).expect(200);
}

fn signatures_below_the_threshold_are_refused(engine: Engine) {
    let world = World::new(engine);
    let release = camera("2.4.0", 20400);
    world.upload(&release);
    let metadata = world.ceremony.role_metadata(1, &[release]);
    let keys = holders(CAM);
    let twice = [holders(CAM).remove(0), holders(CAM).remove(0)];
    let strangers = holders("strangers");
    let other_role = holders(BAR);
    for keys in [&[][..], &keys[..1], &twice, &strangers, &other_role] {
        let document = Ceremony::sign_role(CAM, &metadata, keys);
        world.server.unchanged(|| world.publish(&[document]).refused(Kind::Unverified));
    }
    world.publish(&[Ceremony::sign_role(CAM, &metadata, &keys[1..])]).expect(200);
}

fn expired_documents_are_refused(engine: Engine) {
    let world = World::new(engine);
    let release = camera("2.4.0", 20400);
    world.upload(&release);
    let mut metadata = world.ceremony.role_metadata(1, &[release]);
    metadata.expires = world.server.timestamp();
    let expired = Ceremony::sign_role(CAM, &metadata, &holders(CAM)[..2]);
    let problem = world.server.unchanged(|| world.publish(&[expired]).refused(Kind::Unverified));
    assert!(problem.detail.contains("expired"), "{}", problem.detail);
    metadata.expires = world.ceremony.now + jiff::SignedDuration::from_hours(24 * 1000);
    let endless = Ceremony::sign_role(CAM, &metadata, &holders(CAM)[..2]);
    world.server.unchanged(|| world.publish(&[endless]).refused(Kind::Unverified));
}

fn a_version_is_published_once(engine: Engine) {
    let mut world = World::new(engine);
    let first = camera("2.4.0", 20400);
    world.release(&first);
    let other_bytes = Release { image: IMAGES[2].clone(), ..first.clone() };
    let other_facts = Release { security_counter: 9, ..first.clone() };
    let one_more_image = Release { component: "radio".into(), image: IMAGES[2].clone(), ..first.clone() };
    for release in [&other_bytes, &other_facts, &one_more_image] {
        world.upload(release);
        let mut releases = vec![release.clone()];
        if release.component == "radio" {
            releases.push(first.clone());
        }
        let document = world.ceremony.role(CAM, 2, &releases);
        world.server.unchanged(|| world.publish(&[document]).refused(Kind::Unverified));
    }
    let same_order = Release::new(CAM, "2.4.9", 20400, &IMAGES[2]);
    let document = world.ceremony.role(CAM, 2, &[first, same_order]);
    world.server.unchanged(|| world.publish(&[document]).refused(Kind::Unverified));
}

fn a_version_number_of_a_document_is_taken_once(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    let same_version = world.ceremony.role(CAM, 2, from_ref(&first));
    let rollback = world.ceremony.role(CAM, 1, &[first.clone(), second.clone()]);
    let stated = PublishDocument { version: 4, ..world.ceremony.role(CAM, 3, &[first.clone(), second.clone()]) };
    let twice = world.ceremony.role(CAM, 3, &[first, second]);
    for documents in [vec![same_version], vec![rollback], vec![stated], vec![twice.clone(), twice]] {
        world.server.unchanged(|| world.publish(&documents).refused(Kind::Unverified));
    }
}

fn facts_that_contradict_are_refused(engine: Engine) {
    let mut world = World::new(engine);
    let first = camera("2.4.0", 20400);
    world.release(&first);
    let new = || Release::new(CAM, "2.4.1", 20401, &IMAGES[1]);
    let cases = [
        ("another date for a train", new().train("2.4", "2026-03-02")),
        ("an unknown floor", Release { min_installed: Some("2.3.0".into()), ..new() }),
        ("a floor that is itself", Release { min_installed: Some("2.4.1".into()), ..new() }),
        ("a channel that is none of ours", Release { channels: vec!["nightly".into()], ..new() }),
        ("a counter that goes down", Release { security_counter: 0, ..new() }),
        ("a security release without advisory", Release { kind: sluice_signer::ReleaseKind::Security, ..new() }),
        ("notes that are no text", Release { notes: Some("#\u{0}".repeat(40_000)), ..new() }),
    ];
    for (what, release) in cases {
        world.upload(&release);
        let document = world.ceremony.role(CAM, 2, &[first.clone(), release]);
        world.server.unchanged(|| {
            let answer = world.publish(&[document]);
            assert_eq!(answer.status, 422, "{what}: {}", answer.text());
            answer.refused(Kind::Unverified);
        });
    }
    let document = world.ceremony.role(CAM, 2, &[first, new()]);
    world.upload(&new());
    world.publish(&[document]).expect(200);
}

fn an_unknown_product_is_refused(engine: Engine) {
    let world = World::new(engine);
    let release = Release::new("acme-new", "1.0", 1, &IMAGES[0]);
    world.upload(&release);
    let documents = [world.ceremony.top(2, &[BAR, CAM, "acme-new"]), world.ceremony.role("acme-new", 1, &[release])];
    let problem = world.server.unchanged(|| world.publish(&documents).refused(Kind::NotFound));
    assert!(problem.detail.contains("sluicectl product create acme-new"), "{}", problem.detail);
    world.admin.post("/api/v1/products", &json!({"name": "acme-new", "visibility": "public"})).expect(201);
    world.publish(&documents).expect(200);
    let undelegated = world.ceremony.role("acme-other", 1, &[]);
    world.server.unchanged(|| world.publish(&[undelegated]).refused(Kind::Unverified));
}

fn a_release_that_is_signed_no_more_is_withdrawn(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    world.publish(&[world.ceremony.role(CAM, 3, std::slice::from_ref(&first))]).expect(200);
    // It does not come back under its version: devices were told that it is gone.
    let again = world.publish(&[world.ceremony.role(CAM, 4, &[first.clone(), second.clone()])]);
    assert!(again.refused(Kind::Unverified).detail.contains("was withdrawn"));
    let other = Release::new(CAM, "2.4.1", 20401, &IMAGES[2]);
    world.upload(&other);
    let exchanged = world.publish(&[world.ceremony.role(CAM, 4, &[first, other])]).refused(Kind::Unverified);
    assert!(exchanged.detail.contains("was withdrawn"), "{}", exchanged.detail);
    let release = |version: &str| -> ReleaseDetail {
        world.admin.get(&format!("/api/v1/products/{CAM}/releases/{version}")).expect(200).json()
    };
    assert!(release("2.4.1").release.withdrawn_at.is_some());
    assert!(release("2.4.0").release.withdrawn_at.is_none());
}

fn of_two_publications_at_once_one_wins(engine: Engine) {
    let mut world = World::new(engine);
    let first = camera("2.4.0", 20400);
    world.release(&first);
    let candidates: Vec<_> = (1..=4)
        .map(|number| {
            let release = Release::new(CAM, &format!("2.5.{number}"), 20500 + number, &IMAGES[1]);
            world.upload(&release);
            world.ceremony.role(CAM, 2, &[first.clone(), release])
        })
        .collect();
    let (world, documents) = (&world, &candidates);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let publishing: Vec<_> =
            documents.iter().map(|document| scope.spawn(|| world.publish(from_ref(document)).status)).collect();
        publishing.into_iter().map(|published| published.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 409, 422].contains(status)), "{statuses:?}");
    assert_eq!(world.status().releases, 2);
}

fn documents_that_are_no_documents(engine: Engine) {
    let world = World::new(engine);
    world.server.unchanged(|| {
        let document =
            |body: &str| json!({"documents": [{"repository": "image", "role": "targets", "version": 2, "body": body}]});
        let send = |body: &serde_json::Value| world.admin.post("/api/v1/publish", body);
        send(&document("%%%")).refused(Kind::Invalid);
        for body in ["", "e30=", "bnVsbA==", "W1tbW1tbW1tbW1tbW1tb"] {
            send(&document(body)).refused(Kind::Unverified);
        }
        let one = document("e30=")["documents"][0].clone();
        send(&json!({"documents": vec![one.clone(); 65]})).refused(Kind::Invalid);
        let director =
            json!({"documents": [{"repository": "director", "role": "targets", "version": 1, "body": "e30="}]});
        send(&director).refused(Kind::Unverified);
        let elsewhere = json!({"documents": [{"repository": "moon", "role": "root", "version": 1, "body": ""}]});
        send(&elsewhere).refused(Kind::Malformed);
    });
}

fn a_product_that_nobody_may_sign_for_any_more_loses_its_releases(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    let bar = Release::new(BAR, "1.0", 1, &IMAGES[2]);
    world.release(&bar);
    world.publish(&[world.ceremony.top(2, &[BAR])]).expect(200);
    let withdrawn = |product: &str, version: &str| {
        let path = format!("/api/v1/products/{product}/releases/{version}");
        world.admin.get(&path).expect(200).json::<ReleaseDetail>().release.withdrawn_at.is_some()
    };
    assert!(withdrawn(CAM, &first.version) && withdrawn(CAM, &second.version) && !withdrawn(BAR, "1.0"));
    // Clients that hold the snapshot want every role in the next one; they find no target in it any more.
    let device = world.server.client();
    let snapshot: serde_json::Value = {
        let timestamp: serde_json::Value = device.get("/metadata/timestamp.json").expect(200).json();
        let version = &timestamp["signed"]["meta"]["snapshot.json"]["version"];
        device.get(&format!("/metadata/{version}.snapshot.json")).expect(200).json()
    };
    assert!(snapshot["signed"]["meta"].get("acme-cam.json").is_some());
    for release in [&first, &second] {
        assert!(device.get(&release.url()).status >= 400, "{}", release.url());
    }
}

fn a_counter_does_not_go_below_that_of_a_release_that_was_withdrawn(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    let raised = Release { security_counter: 5, ..Release::new(CAM, "2.4.2", 20402, &IMAGES[2]) };
    world.release(&raised);
    world.publish(&[world.ceremony.role(CAM, 4, &[first.clone(), second.clone()])]).expect(200);
    // Devices that ran it would refuse what is below.
    let with = |security_counter: u64| {
        let next = Release { security_counter, ..Release::new(CAM, "2.4.3", 20403, &IMAGES[1]) };
        world.upload(&next);
        world.publish(&[world.ceremony.role(CAM, 5, &[first.clone(), second.clone(), next])])
    };
    assert!(with(3).refused(Kind::Unverified).detail.contains("5 was published once"));
    with(5).expect(200);
}
