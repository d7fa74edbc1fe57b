//! Identity: enrolment, sessions, revocation, and who may read what is gated.

use serde_json::{Value, json};
use sluice_catalog::Kind;
use sluice_catalog::device::{Device, DeviceState};
use sluice_catalog::wire::admin::{DeviceDetail, EnrolTokenCreated, Page};
use sluice_catalog::wire::device::EnrolResponse;
use sluice_catalog::wire::entitlement::{DeviceEntry, DeviceEvent};
use sluice_catalog::wire::erasure::Erased;
use sluice_signer::{SigningKey, sha256};
use ureq::http::Method;

use crate::harness::world::{BAR, CAM, IMAGES};
use crate::harness::{Answer, Engine, Release, TestDevice, World};

both_engines!(
    a_registered_serial_becomes_active,
    an_unknown_serial_waits_until_it_is_accepted,
    a_one_use_token_admits_one_device,
    a_batch_token_admits_its_number_and_can_be_revoked,
    a_token_vouches_for_the_train_a_device_was_born_with,
    a_second_key_on_a_serial_is_a_conflict,
    of_two_keys_at_once_one_is_bound,
    an_enrolment_proves_its_key,
    a_session_is_for_the_holder_of_the_key,
    a_session_ends_by_itself_and_by_revocation,
    a_blocked_or_retired_device_gets_no_session,
    gated_metadata_and_images_want_a_token,
    a_device_is_moved_labelled_and_found_by_its_address,
);

fn enrol_token(world: &World, uses: u32) -> EnrolTokenCreated {
    world
        .admin
        .post("/api/v1/enrol-tokens", &json!({"product": CAM, "uses": uses, "label": "line 4"}))
        .expect(201)
        .json()
}

fn state(world: &World, serial: &str) -> DeviceState {
    world.admin.get(&format!("/api/v1/products/{CAM}/devices/{serial}")).expect(200).json::<DeviceDetail>().device.state
}

fn a_registered_serial_becomes_active(engine: Engine) {
    let world = World::new(engine);
    world.register(CAM, "SN-1", &json!({"train": "2.4", "site": "berlin", "tags": ["lab"]}));
    let mut device = TestDevice::new(&world.server, CAM, "SN-1");
    let answer: EnrolResponse = device.enrol(None).expect(200).json();
    assert_eq!(answer.state, DeviceState::Active);
    world.server.unchanged(|| {
        let again: EnrolResponse = device.enrol(None).expect(200).json();
        assert_eq!(again, answer, "the answer to the first request may have been lost");
    });
    let mut other_hardware = TestDevice::new(&world.server, CAM, "SN-2");
    other_hardware.hw_id = "cam-r9".into();
    world.register(CAM, "SN-2", &json!({}));
    world.server.unchanged(|| other_hardware.enrol(None).refused(Kind::Conflict));
}

fn an_unknown_serial_waits_until_it_is_accepted(engine: Engine) {
    let mut world = World::new(engine);
    let (_, second) = world.two_releases();
    world.roll_out("all", &second, &[100]);
    let mut device = TestDevice::new(&world.server, CAM, "SN-9");
    let answer: EnrolResponse = device.enrol(None).expect(200).json();
    assert_eq!(answer.state, DeviceState::Pending);
    device.open_session();
    device.poll().is_nothing("DEVICE_PENDING");
    let path = format!("/api/v1/products/{CAM}/devices/SN-9/state");
    let accepted: Device = world.admin.post(&path, &json!({"state": "active"})).expect(200).json();
    assert_eq!(accepted.state, DeviceState::Active);
    assert_eq!(device.poll().path(), second.path(), "at its next poll");
}

fn a_one_use_token_admits_one_device(engine: Engine) {
    let world = World::new(engine);
    let made = enrol_token(&world, 1);
    let mut first = TestDevice::new(&world.server, CAM, "SN-1");
    assert_eq!(first.enrol(Some(&made.token)).expect(200).json::<EnrolResponse>().state, DeviceState::Active);
    first.enrol(Some(&made.token)).expect(200);
    let mut second = TestDevice::new(&world.server, CAM, "SN-2");
    world.server.unchanged(|| {
        second.enrol(Some(&made.token)).refused(Kind::Unauthenticated);
        second.enrol(Some("sle_guess")).refused(Kind::Unauthenticated);
        second.enrol(Some(&"x".repeat(1000))).refused(Kind::Unauthenticated);
    });
    let mut elsewhere = TestDevice::new(&world.server, BAR, "SN-2");
    let made = enrol_token(&world, 1);
    world.server.unchanged(|| elsewhere.enrol(Some(&made.token)).refused(Kind::Unauthenticated));
    world.server.advance_s(31 * 24 * 3600);
    world.server.unchanged(|| second.enrol(Some(&made.token)).refused(Kind::Unauthenticated));
}

fn a_batch_token_admits_its_number_and_can_be_revoked(engine: Engine) {
    let world = World::new(engine);
    let made = enrol_token(&world, 2);
    let enrol = |serial: &str| TestDevice::new(&world.server, CAM, serial).enrol(Some(&made.token));
    enrol("SN-1").expect(200);
    enrol("SN-2").expect(200);
    world.server.unchanged(|| enrol("SN-3").refused(Kind::Unauthenticated));
    let made = enrol_token(&world, 100);
    world.admin.delete(&format!("/api/v1/enrol-tokens/{}", made.enrol_token.id)).expect(204);
    let mut late = TestDevice::new(&world.server, CAM, "SN-4");
    world.server.unchanged(|| late.enrol(Some(&made.token)).refused(Kind::Unauthenticated));
    // A device that came without a token is accepted by one that arrives later.
    world.register(CAM, "SN-5", &json!({}));
    assert_eq!(state(&world, "SN-5"), DeviceState::Active);
}

fn a_token_vouches_for_the_train_a_device_was_born_with(engine: Engine) {
    let mut world = World::new(engine);
    let (first, _) = world.two_releases();
    let made = enrol_token(&world, 1);
    let train = |serial: &str| {
        let path = format!("/api/v1/products/{CAM}/devices/{serial}");
        world.admin.get(&path).expect(200).json::<DeviceDetail>().device.confirmed_train.map(String::from)
    };
    let mut vouched = TestDevice::new(&world.server, CAM, "SN-1");
    vouched.run(&first);
    vouched.enrol(Some(&made.token)).expect(200);
    assert_eq!(train("SN-1").as_deref(), Some("2.4"));
    let mut claims = TestDevice::new(&world.server, CAM, "SN-2");
    claims.run(&first);
    claims.enrol(None).expect(200);
    assert_eq!(train("SN-2"), None, "a mere claim");
}

fn a_second_key_on_a_serial_is_a_conflict(engine: Engine) {
    let world = World::new(engine);
    let device = world.device(CAM, "SN-1");
    device.poll().is_nothing("NO_RELEASE");
    let mut thief = TestDevice::new(&world.server, CAM, "SN-1");
    thief.key = SigningKey::from_seed(&sha256(b"thief")).unwrap();
    let made = enrol_token(&world, 1);
    world.server.unchanged(|| {
        thief.enrol(None).refused(Kind::Conflict);
        thief.enrol(Some(&made.token)).refused(Kind::Conflict);
        thief.session().refused(Kind::Unauthenticated);
        device.poll_answer().expect(200);
    });
    world.admin.post(&format!("/api/v1/products/{CAM}/devices/SN-1/revoke"), &json!({})).expect(200);
    thief.enrol(None).expect(200);
    world.server.unchanged(|| device.session().refused(Kind::Unauthenticated));
}

fn of_two_keys_at_once_one_is_bound(engine: Engine) {
    let world = World::new(engine);
    for round in 0..5 {
        let serial = format!("SN-{round}");
        world.register(CAM, &serial, &json!({}));
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let enrolling: Vec<_> = (0..4)
                .map(|number| {
                    let mut device = TestDevice::new(&world.server, CAM, &serial);
                    device.key = SigningKey::from_seed(&sha256(format!("{serial} {number}").as_bytes())).unwrap();
                    scope.spawn(move || device.enrol(None).status)
                })
                .collect();
            enrolling.into_iter().map(|enrolled| enrolled.join().unwrap()).collect()
        });
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 3, "{statuses:?}");
    }
}

fn an_enrolment_proves_its_key(engine: Engine) {
    let world = World::new(engine);
    world.register(CAM, "SN-1", &json!({}));
    let device = TestDevice::new(&world.server, CAM, "SN-1");
    let other = TestDevice::new(&world.server, CAM, "SN-2");
    let with = |field: &str, value: String| {
        let mut body = device.enrolment(None);
        body[field] = value.into();
        device.client.post("/v1/enrol", &body)
    };
    let signature_of = |device: &TestDevice| device.enrolment(None)["signature"].as_str().unwrap().to_owned();
    world.server.unchanged(|| {
        with("signature", signature_of(&other)).refused(Kind::Unauthenticated);
        with("signature", "00".repeat(64)).refused(Kind::Unauthenticated);
        with("signature", "zz".into()).refused(Kind::Invalid);
        with("public_key", other.public_key()).refused(Kind::Unauthenticated);
        with("public_key", "abcd".into()).refused(Kind::Invalid);
        // The neutral element: every signature would verify under it.
        with("public_key", format!("01{}", "00".repeat(31))).refused(Kind::Invalid);
        with("serial", "SN-2".into()).refused(Kind::Unauthenticated);
    });
}

fn a_session_is_for_the_holder_of_the_key(engine: Engine) {
    let world = World::new(engine);
    let device = world.device(CAM, "SN-1");
    let other = world.device(CAM, "SN-2");
    let challenge = || -> String {
        let answer: serde_json::Value = device.client.post("/v1/challenge", &json!({})).expect(200).json();
        answer["challenge"].as_str().unwrap().to_owned()
    };
    let open = |serial: &str, challenge: &str, key: &SigningKey| {
        let message =
            sluice_catalog::wire::device::session_message(&CAM.parse().unwrap(), &serial.parse().unwrap(), challenge);
        let body = json!({
            "product": CAM, "serial": serial, "challenge": challenge, "signature": hex::encode(key.sign(&message)),
        });
        world.server.client().post("/v1/session", &body)
    };
    world.server.unchanged(|| {
        open("SN-1", &challenge(), &device.key).expect(200);
        let answers = [
            open("SN-1", &challenge(), &other.key).refused(Kind::Unauthenticated),
            open("SN-0", &challenge(), &other.key).refused(Kind::Unauthenticated),
        ];
        assert_eq!(answers[0].detail, answers[1].detail, "an outsider learns nothing about serials");
        open("SN-1", "made-up", &device.key).refused(Kind::Unauthenticated);
        open("SN-1", device.client.token(), &device.key).refused(Kind::Unauthenticated);
        let old = challenge();
        world.server.advance_s(301);
        open("SN-1", &old, &device.key).refused(Kind::Unauthenticated);
    });
}

fn a_session_ends_by_itself_and_by_revocation(engine: Engine) {
    let mut world = World::new(engine);
    world.release(&Release::new(BAR, "1.0", 1, &IMAGES[0]));
    let stolen = world.device(BAR, "SN-1");
    let gated = "/metadata/1.acme-bar.json";
    stolen.client.get(gated).expect(200);
    let held = stolen.poll().etag;
    world.admin.post(&format!("/api/v1/products/{BAR}/devices/SN-1/revoke"), &json!({})).expect(200);
    world.server.unchanged(|| {
        stolen.poll_answer().refused(Kind::Unauthenticated);
        stolen.poll_held(&held).refused(Kind::Unauthenticated);
        stolen.report(1, "verified").refused(Kind::Unauthenticated);
        stolen.client.get(gated).refused(Kind::Unauthenticated);
    });
    let mut device = TestDevice::new(&world.server, BAR, "SN-1");
    device.enrol(None).expect(200);
    device.open_session();
    device.poll_answer().expect(200);
    world.server.advance_s(24 * 3600);
    device.poll_answer().refused(Kind::Unauthenticated);
    for token in ["", "x", "Bearer", &"A".repeat(5000)] {
        world.server.client().with(token).post("/v1/poll", &device.poll_body()).refused(Kind::Unauthenticated);
    }
    world.admin.post("/v1/poll", &device.poll_body()).refused(Kind::Unauthenticated);
}

fn a_blocked_or_retired_device_gets_no_session(engine: Engine) {
    let mut world = World::new(engine);
    let (_, second) = world.two_releases();
    world.roll_out("all", &second, &[100]);
    let device = world.device(CAM, "SN-1");
    for (state, reason) in [("blocked", "DEVICE_BLOCKED"), ("retired", "DEVICE_RETIRED")] {
        world.admin.post(&format!("/api/v1/products/{CAM}/devices/SN-1/state"), &json!({"state": state})).expect(200);
        world.server.unchanged(|| device.session().refused(Kind::Forbidden));
        device.poll().is_nothing(reason);
    }
}

fn gated_metadata_and_images_want_a_token(engine: Engine) {
    let mut world = World::new(engine);
    let (cam, _) = world.two_releases();
    let bar = Release::new(BAR, "1.0", 1, &IMAGES[2]);
    world.release(&bar);
    let own = world.device(BAR, "SN-1");
    let other = world.device(CAM, "SN-1");
    let auditor = world.principal("auditor", "auditor");
    let mut stranger = TestDevice::new(&world.server, BAR, "SN-7");
    stranger.enrol(None).expect(200);
    stranger.open_session();
    let anyone = world.server.client();
    for path in ["/metadata/1.acme-bar.json", &bar.url(), &bar.url_by_hash(), "/92b2/1.0/0/main.bin"] {
        let shown = own.client.get(path).expect(200);
        assert_eq!(auditor.get(path).expect(200).body, shown.body);
        world.server.unchanged(|| {
            anyone.get(path).refused(Kind::Forbidden);
            anyone.with("slp_guess").get(path).refused(Kind::Forbidden);
            other.client.get(path).refused(Kind::Forbidden);
            // Anyone can register itself: that opens nothing.
            stranger.client.get(path).refused(Kind::Forbidden);
        });
    }
    for path in ["/metadata/1.root.json", "/metadata/timestamp.json", "/metadata/2.acme-cam.json", &cam.url()] {
        anyone.get(path).expect(200);
    }
    // A public product's path does not open a gated one's bytes.
    anyone.get(&format!("/targets/acme-cam/1.0/{}.main.bin", bar.digest())).refused(Kind::NotFound);
    anyone.get(&format!("/targets/acme-cam/2.4.0/{}.main.bin", bar.digest())).refused(Kind::NotFound);
    anyone.get(&format!("/targets/{}.acme-cam/2.4.0/main.bin", bar.digest())).refused(Kind::NotFound);
    // Nor does a second digest open them.
    let twice = format!("/targets/{}.acme-bar/1.0/{}.main.bin", cam.digest(), bar.digest());
    anyone.get(&twice).refused(Kind::Forbidden);
    own.client.get(&twice).refused(Kind::NotFound);
    let path = format!("/api/v1/products/{BAR}/devices/SN-1/state");
    world.admin.post(&path, &json!({"state": "blocked"})).expect(200);
    own.client.get("/metadata/1.acme-bar.json").refused(Kind::Forbidden);
}

fn patch(world: &World, serial: &str, change: &Value) -> Answer {
    let path = format!("/api/v1/products/{CAM}/devices/{serial}");
    let body = serde_json::to_vec(change).unwrap();
    world.admin.send(Method::PATCH, &path, &[("Content-Type", "application/json")], &body)
}

fn a_device_is_moved_labelled_and_found_by_its_address(engine: Engine) {
    let mut world = World::new(engine);
    world.two_releases();
    world.register(CAM, "SN-1", &json!({"site": "berlin", "tags": ["lab"], "mac": "00-1B-44-11-3A-B7"}));
    world.register(CAM, "SN-2", &json!({}));
    let found = |mac: &str| -> Vec<String> {
        let page: Page<Device> = world.admin.get(&format!("/api/v1/devices?mac={mac}")).expect(200).json();
        page.items.into_iter().map(|device| device.serial.to_string()).collect()
    };
    assert_eq!(found("001b.4411.3ab7"), ["SN-1"], "in whatever form it is written");
    let before = world.server.now();
    world.server.advance_s(60);
    let device: Device = patch(&world, "SN-1", &json!({"site": "hall", "tags": ["canary"]})).expect(200).json();
    let is = |device: &Device| {
        let tags: Vec<String> = device.tags.iter().map(str::to_owned).collect();
        (device.site.as_ref().map(ToString::to_string), tags, device.mac.as_ref().map(ToString::to_string))
    };
    let moved = (Some("hall".to_owned()), vec!["canary".to_owned()], Some("00:1b:44:11:3a:b7".to_owned()));
    assert_eq!(is(&device), moved, "what is not named stays");
    world.server.unchanged(|| {
        assert_eq!(is(&patch(&world, "SN-1", &json!({"site": "hall"})).expect(200).json()), moved, "the same again");
        assert_eq!(is(&patch(&world, "SN-1", &json!({})).expect(200).json()), moved);
        patch(&world, "SN-1", &json!({"mac": "01:00:5e:00:00:01"})).refused(Kind::Malformed);
        patch(&world, "SN-1", &json!({"tags": ["a b"]})).refused(Kind::Invalid);
        let many: Vec<String> = (0..33).map(|tag| format!("t{tag}")).collect();
        patch(&world, "SN-1", &json!({"tags": many})).refused(Kind::Invalid);
        patch(&world, "SN-1", &json!({"state": "blocked"})).refused(Kind::Malformed);
        patch(&world, "SN-9", &json!({"site": "hall"})).refused(Kind::NotFound);
    });
    let none: Device = patch(&world, "SN-1", &json!({"site": null, "mac": null, "tags": []})).expect(200).json();
    assert_eq!(is(&none), (None, vec![], None));
    assert_eq!(found("00:1b:44:11:3a:b7"), Vec::<String>::new());
    // What it was then can still be told.
    let path = format!("/api/v1/products/{CAM}/devices/SN-1/history");
    let story: Vec<DeviceEntry> = world.admin.get(&path).expect(200).json();
    let sites: Vec<Option<String>> = story
        .iter()
        .filter_map(|entry| match &entry.event {
            DeviceEvent::Changed { device, .. } => Some(device.site.as_ref().map(ToString::to_string)),
            _ => None,
        })
        .collect();
    assert_eq!(sites, [Some("berlin".to_owned()), Some("hall".to_owned()), None]);
    assert!(story.first().is_some_and(|entry| entry.at <= before));
    let audit = world.admin.get("/api/v1/audit?limit=500").expect(200).text();
    assert!(audit.contains("device.patch"), "{audit}");
    // What is erased is forgotten with the rest.
    patch(&world, "SN-2", &json!({"mac": "00:1b:44:11:3a:b8"})).expect(200);
    let path = format!("/api/v1/products/{CAM}/devices/SN-2");
    world.admin.post(&format!("{path}/state"), &json!({"state": "retired"})).expect(200);
    let erased: Erased = world.admin.post(&format!("{path}/erase"), &json!({})).expect(200).json();
    for path in [
        format!("/api/v1/products/{CAM}/devices/{}", erased.serial),
        format!("/api/v1/products/{CAM}/devices/{}/history", erased.serial),
        "/api/v1/audit?limit=500".to_owned(),
    ] {
        let text = world.admin.get(&path).expect(200).text();
        assert!(!text.contains("3a:b8"), "{path}: {text}");
    }
    world.server.unchanged(|| patch(&world, erased.serial.as_str(), &json!({"site": "x"})).refused(Kind::WrongState));
}
