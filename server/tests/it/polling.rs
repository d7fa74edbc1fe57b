//! The life of an update through the device API: offer, attempt, steady state, reports, success.

use std::sync::Arc;

use serde_json::json;
use sluice_catalog::device::DecoderProfile;
use sluice_catalog::id::DeviceId;
use sluice_catalog::rollout::{AttemptState, Failure};
use sluice_catalog::wire::admin::DeviceDetail;
use sluice_catalog::wire::device::{PollResponse, ReportResponse};
use sluice_catalog::{Digest, Kind};
use sluice_signer::VerifyError;
use tokio::task::JoinSet;

use crate::harness::device::NONCE;
use crate::harness::world::CAM;
use crate::harness::{Answer, Engine, Release, TestDevice, World};

both_engines!(
    from_offer_to_health,
    a_steady_device_is_told_that_nothing_changed,
    the_entity_tag_is_bound_to_device_and_decision,
    an_offer_lives_an_hour,
    the_nonce_is_repeated_and_the_document_is_for_one_device,
    a_change_never_takes_a_devices_documents_back,
    a_patch_that_is_ready_is_offered_and_makes_the_image,
    a_device_gets_what_it_can_decode,
    reports_move_forward_only,
    health_counts_after_a_poll_on_the_new_version,
    a_release_that_failed_three_times_is_offered_no_more,
    a_wrong_image_from_a_patch_stops_patches_for_the_device,
    polls_at_once_make_one_attempt,
    replicas_at_once_open_one_attempt,
    a_second_that_ends_during_a_poll_spoils_nothing,
    last_seen_times_are_kept,
);

/// Two releases of which 2.4.1 is rolled out to all, and a device that runs 2.4.0.
pub fn updating(engine: Engine) -> (World, Release, Release, TestDevice) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    let mut device = world.device(CAM, "SN-1");
    device.run(&first);
    device.poll().is_nothing("NO_ROLLOUT");
    world.roll_out("spring", &second, &[100]);
    (world, first, second, device)
}

fn detail(world: &World, device: &TestDevice) -> DeviceDetail {
    world.admin.get(&format!("/api/v1/products/{}/devices/{}", device.product, device.serial)).expect(200).json()
}

fn attempt_state(world: &World, device: &TestDevice) -> AttemptState {
    detail(world, device).attempts[0].state
}

fn moved(answer: &Answer) -> u32 {
    answer.json::<ReportResponse>().moved
}

fn from_offer_to_health(engine: Engine) {
    let (world, _, second, mut device) = updating(engine);
    let polled = device.poll();
    assert_eq!((polled.path(), polled.reason(), polled.attempt()), (second.path().as_str(), "NO_CODE_REQUIRED", 1));
    assert_eq!(polled.document.rollout_id, Some(world.rollout("spring").rollout.id.to_string()));
    assert_eq!(polled.response.next_poll_s, 300);
    let target = &polled.document.targets[&second.path()];
    assert_eq!(
        (target.sha256, target.length, target.hw_id.as_str()),
        (second.digest().0, second.image.len() as u64, "cam-r3")
    );
    assert_eq!(attempt_state(&world, &device), AttemptState::Offered);

    let full = Digest(target.full.sha256);
    world.server.client().get(&polled.urls()[&full]).expect(200);
    assert_eq!(attempt_state(&world, &device), AttemptState::Downloading, "with the first blob");
    for state in ["verified", "applied", "booted"] {
        assert_eq!(moved(&device.report(1, state).expect(200)), 1);
    }
    device.run(&second);
    device.poll().is_nothing("UP_TO_DATE");
    let done = json!({"attempt": 1, "state": "healthy", "encoding": "patch", "bytes": 12345});
    assert_eq!(moved(&device.report_event(done.clone()).expect(200)), 1);
    assert_eq!(moved(&device.report_event(done).expect(200)), 0, "a repeat is harmless");
    let detail = detail(&world, &device);
    assert_eq!(detail.device.confirmed_train.as_ref().map(AsRef::as_ref), Some("2.4"));
    assert_eq!(detail.installed[0].sha256, second.digest());
    let attempt = &detail.attempts[0];
    assert_eq!(
        (attempt.state, attempt.encoding.as_deref(), attempt.bytes),
        (AttemptState::Healthy, Some("patch"), Some(12345))
    );
    assert!(attempt.began_at.is_some());
    assert_eq!(world.rollout("spring").attempts, [("healthy".to_owned(), 1)].into());
}

fn a_steady_device_is_told_that_nothing_changed(engine: Engine) {
    let (world, _, second, mut device) = updating(engine);
    let offered = device.poll();
    let answer = device.poll_held(&offered.etag).expect(304);
    assert_eq!((answer.body.as_slice(), answer.header("etag")), (b"".as_slice(), offered.etag.as_str()));
    device.run(&second);
    let steady = device.poll();
    steady.is_nothing("UP_TO_DATE");
    assert_ne!(steady.etag, offered.etag);
    let before = world.server.state();
    for _ in 0..20 {
        device.poll_held(&steady.etag).expect(304);
    }
    assert_eq!(world.server.state(), before, "a poll that changes nothing writes nothing");
    let fresh = device.poll_held(&offered.etag).expect(200);
    // An entity tag is an expiry in seconds and what was decided; a second may have passed.
    let decided = |tag: &str| tag.split_once('.').map(|(_, decided)| decided.to_owned());
    assert_eq!(decided(fresh.header("etag")), decided(&steady.etag), "what was held before is answered afresh");
    assert_eq!(fresh.header("cache-control"), "no-store");
    device.poll_held("").expect(200);
    device.poll_held("*").expect(200);
    device.poll_held("\"zz.00\"").expect(200);
}

fn the_entity_tag_is_bound_to_device_and_decision(engine: Engine) {
    let (world, first, _, device) = updating(engine);
    let mut other = world.device(CAM, "SN-2");
    other.run(&first);
    let (mine, theirs) = (device.poll(), other.poll());
    other.poll_held(&mine.etag).expect(200);
    device.poll_held(&theirs.etag).expect(200);
    let (_, fingerprint) = mine.etag.trim_matches('"').split_once('.').unwrap();
    let endless = format!("\"{:x}.{fingerprint}\"", i64::MAX);
    device.poll_held(&endless).expect(200);
    device.poll_held(&mine.etag).expect(304);
    world.move_rollout("spring", "pause").expect(200);
    device.poll_held(&mine.etag).expect(200);
}

fn an_offer_lives_an_hour(engine: Engine) {
    let (world, _, second, mut device) = updating(engine);
    let offered = device.poll();
    world.server.advance_s(3600 - 120);
    device.poll_held(&offered.etag).expect(304);
    world.server.advance_s(90);
    let renewed = device.poll_held(&offered.etag).expect(200);
    assert_ne!(renewed.header("etag"), offered.etag, "renewed before it ends");
    let renewed = device.verify(&renewed.json::<PollResponse>(), None);
    assert!(renewed.version > offered.document.version);
    world.server.advance_s(60);
    let expired = device.try_verify(&device.id, &offered.response, Some(NONCE)).unwrap_err();
    assert!(matches!(expired, VerifyError::Expired { .. }), "{expired}");
    device.run(&second);
    let steady = device.poll();
    world.server.advance_s(23 * 3600);
    device.open_session();
    device.poll_held(&steady.etag).expect(304);
    world.server.advance_s(3600);
    device.poll_held(&steady.etag).expect(200);
}

fn the_nonce_is_repeated_and_the_document_is_for_one_device(engine: Engine) {
    let (world, _, _, device) = updating(engine);
    let other = world.device(CAM, "SN-2");
    let before = world.server.now().as_s();
    let polled = device.poll();
    assert_eq!(polled.document.nonce.as_deref(), Some(NONCE));
    // The second may end during the poll.
    assert!((before..=world.server.now().as_s()).contains(&polled.document.server_time.as_second()));
    let error = other.try_verify(&other.id, &polled.response, Some(NONCE)).unwrap_err();
    assert!(matches!(error, VerifyError::WrongDevice { .. }), "{error}");
    let error = device.try_verify(&device.id, &polled.response, Some("ff")).unwrap_err();
    assert!(matches!(error, VerifyError::WrongNonce { .. }), "{error}");
    let mut tampered: PollResponse = serde_json::from_value(serde_json::to_value(&polled.response).unwrap()).unwrap();
    let text = polled.response.director.get().replace("NO_CODE_REQUIRED", "NO_CODE_REQUIREE");
    tampered.director = serde_json::value::RawValue::from_string(text).unwrap();
    let error = device.try_verify(&device.id, &tampered, Some(NONCE)).unwrap_err();
    assert!(matches!(error, VerifyError::Threshold { .. }), "{error}");
    let mut without = device.poll_body();
    without.as_object_mut().unwrap().remove("nonce");
    let answer: PollResponse = device.client.post("/v1/poll", &without).expect(200).json();
    assert_eq!(device.verify(&answer, None).nonce, None);
    let versions: Vec<_> = (0..3).map(|_| device.poll().document.version).collect();
    assert!(versions.is_sorted_by(|before, after| before < after), "{versions:?}");
}

fn a_change_never_takes_a_devices_documents_back(engine: Engine) {
    let (world, _, _, device) = updating(engine);
    // Several polls in one second put the version ahead of the time; then every copy in memory is dropped.
    let mut versions: Vec<_> = (0..10).map(|_| device.poll().document.version).collect();
    for _ in 0..3 {
        world.server.app.devices.forget_all();
        versions.push(device.poll().document.version);
    }
    assert!(versions.is_sorted_by(|before, after| before < after), "{versions:?}");
}

fn a_patch_that_is_ready_is_offered_and_makes_the_image(engine: Engine) {
    let (world, first, second, device) = updating(engine);
    let polled = device.poll();
    let target = &polled.document.targets[&second.path()];
    let delta = target.delta.as_ref().expect("the patch was built before the rollout opened");
    assert_eq!((delta.from_sha256, delta.format.as_str()), (first.digest().0, "sluice-1"));
    let patch = world.server.client().get(&polled.urls()[&Digest(delta.sha256)]).expect(200).body;
    assert_eq!((patch.len() as u64, Digest::of(&patch).0), (delta.length, delta.sha256));
    assert!(delta.length * 100 <= target.full.length * 70, "{} of {}", delta.length, target.full.length);
    let mut made = Vec::new();
    let options = sluice_delta::ApplyOptions {
        budget: sluice_delta::ApplyBudget { ram: 64 << 20, scratch: 0 },
        expected_head: Some((u32::try_from(delta.head_length).unwrap(), delta.head_sha256)),
        ..sluice_delta::ApplyOptions::default()
    };
    sluice_delta::apply(std::io::Cursor::new(&first.image), &patch[..], &mut made, &options).unwrap();
    assert_eq!(made, second.image);
    let full = world.server.client().get(&polled.urls()[&Digest(target.full.sha256)]).expect(200).body;
    assert_eq!(zstd::decode_all(&full[..]).unwrap(), second.image);
    assert_eq!(polled.urls().len(), 2);
    let progress = world.rollout("spring").patches;
    assert_eq!((progress.ready, progress.pending, progress.parked), (1, 0, 0));
}

fn a_device_gets_what_it_can_decode(engine: Engine) {
    let (world, _, second, mut device) = updating(engine);
    let encodings = |device: &TestDevice| {
        let target = &device.poll().document.targets[&second.path()];
        (target.delta.is_some(), target.full.encoding)
    };
    assert_eq!(encodings(&device), (true, sluice_signer::FullEncoding::Zstd));
    device.profile = "raw";
    assert_eq!(encodings(&device), (false, sluice_signer::FullEncoding::Raw));
    device.profile = "fast";
    assert_eq!(encodings(&device), (false, sluice_signer::FullEncoding::Zstd), "no patch for it yet");
    world.server.run_jobs();
    assert_eq!(encodings(&device), (true, sluice_signer::FullEncoding::Zstd), "its poll asked for one");
    assert_eq!(detail(&world, &device).device.profile, DecoderProfile::Fast);
    let mut small = device.poll_body();
    small["ram_budget"] = json!(1000);
    let answer: PollResponse = device.client.post("/v1/poll", &small).expect(200).json();
    assert!(device.verify(&answer, Some(NONCE)).targets[&second.path()].delta.is_none(), "over its budget");
    let mut elsewhere = world.device(CAM, "SN-3");
    elsewhere.installed = json!({"main": {"version": "0.9", "sha256": Digest::of(b"unknown"), "security_counter": 0}});
    assert_eq!(encodings(&elsewhere), (false, sluice_signer::FullEncoding::Zstd), "from an image that we do not know");
}

fn reports_move_forward_only(engine: Engine) {
    let (world, _, _, device) = updating(engine);
    device.poll();
    assert_eq!(moved(&device.report(1, "applied").expect(200)), 1);
    world.server.unchanged(|| {
        assert_eq!(moved(&device.report(1, "downloading").expect(200)), 0);
        assert_eq!(moved(&device.report(1, "applied").expect(200)), 0);
        device.report(2, "booted").refused(Kind::NotFound);
        device.report(0, "booted").refused(Kind::NotFound);
        device.report(-1, "booted").refused(Kind::NotFound);
        // One bad event, and nothing of the report counts.
        let events = json!({"events": [{"attempt": 1, "state": "booted"}, {"attempt": 9, "state": "booted"}]});
        device.client.post("/v1/report", &events).refused(Kind::NotFound);
    });
    let events = json!({"events": [{"attempt": 1, "state": "booted"}, {"attempt": 1, "state": "rolled_back", "failure": "unhealthy"}]});
    assert_eq!(moved(&device.client.post("/v1/report", &events).expect(200)), 2);
    let attempt = detail(&world, &device).attempts[0].clone();
    assert_eq!((attempt.state, attempt.failure), (AttemptState::RolledBack, Some(Failure::Unhealthy)));
    world.server.unchanged(|| assert_eq!(moved(&device.report(1, "healthy").expect(200)), 0, "it is over"));
    assert_eq!(device.poll().attempt(), 2, "the next offer is a new attempt");
}

fn health_counts_after_a_poll_on_the_new_version(engine: Engine) {
    let (world, _, second, mut device) = updating(engine);
    device.poll();
    assert_eq!(moved(&device.report(1, "healthy").expect(200)), 1);
    assert_eq!(attempt_state(&world, &device), AttemptState::Booted, "written to disk is not success");
    assert_eq!(detail(&world, &device).device.confirmed_train, None);
    device.run(&second);
    device.poll();
    assert_eq!(moved(&device.report(1, "healthy").expect(200)), 1);
    assert_eq!(attempt_state(&world, &device), AttemptState::Healthy);
}

fn a_release_that_failed_three_times_is_offered_no_more(engine: Engine) {
    let (world, _, _, device) = updating(engine);
    for number in 1..=3 {
        assert_eq!(device.poll().attempt(), number);
        let failed = json!({"attempt": number, "state": "failed", "failure": "digest_mismatch"});
        assert_eq!(moved(&device.report_event(failed).expect(200)), 1);
    }
    device.poll().is_nothing("ATTEMPT_FAILED");
    assert_eq!(world.rollout("spring").attempts, [("failed".to_owned(), 3)].into());
}

fn a_wrong_image_from_a_patch_stops_patches_for_the_device(engine: Engine) {
    let (world, first, second, device) = updating(engine);
    let mut neighbour = world.device(CAM, "SN-2");
    neighbour.run(&first);
    let has_patch = |device: &TestDevice| device.poll().document.targets[&second.path()].delta.is_some();
    assert!(has_patch(&device) && has_patch(&neighbour));
    let mismatch = json!({"attempt": 1, "state": "downloading", "failure": "delta_mismatch"});
    assert_eq!(moved(&device.report_event(mismatch.clone()).expect(200)), 1);
    assert!(!has_patch(&device), "the full image from now on");
    assert_eq!(device.poll().attempt(), 1, "within the same attempt");
    world.server.run_jobs();
    assert!(has_patch(&neighbour), "one report withdraws nothing: the patch was tried again and is right");
    for serial in ["SN-3", "SN-4"] {
        let mut witness = world.device(CAM, serial);
        witness.run(&first);
        witness.poll();
        witness.report_event(mismatch.clone()).expect(200);
    }
    world.server.run_jobs();
    assert!(!has_patch(&neighbour), "three devices are believed");
}

fn polls_at_once_make_one_attempt(engine: Engine) {
    let (world, _, _, device) = updating(engine);
    let device = &device;
    let attempts: Vec<i32> = std::thread::scope(|scope| {
        let polling: Vec<_> = (0..8).map(|_| scope.spawn(|| device.poll().attempt())).collect();
        polling.into_iter().map(|polled| polled.join().unwrap()).collect()
    });
    assert_eq!(attempts, [1; 8]);
    assert_eq!(detail(&world, device).attempts.len(), 1);
}

fn replicas_at_once_open_one_attempt(engine: Engine) {
    // As several replicas would: without what one process does for its own requests.
    let (world, ..) = updating(engine);
    let rollout = world.rollout("spring").rollout;
    for number in 0..5 {
        let device = world.device(CAM, &format!("SN-1{number}"));
        let id: DeviceId = device.id.parse().unwrap();
        world.server.block_on(async {
            let mut opening = JoinSet::new();
            for _ in 0..8 {
                let app = Arc::clone(&world.server.app);
                opening.spawn(async move { app.attempt_open(id, rollout.release_id, rollout.id).await });
            }
            while let Some(opened) = opening.join_next().await {
                opened.unwrap().unwrap();
            }
        });
        assert_eq!(detail(&world, &device).attempts.len(), 1);
    }
}

fn a_second_that_ends_during_a_poll_spoils_nothing(engine: Engine) {
    // A document states when it was made and when it ends: both must come from one look at the clock.
    const STEPS: usize = 200;
    let (world, first, second, _) = updating(engine);
    let fleet: Vec<TestDevice> = (10..16)
        .map(|number| {
            let mut device = world.device(CAM, &format!("SN-{number}"));
            device.run(&first);
            device
        })
        .collect();
    let clock = world.server.clock.clone();
    std::thread::scope(|scope| {
        // Time runs a hundred times faster, for less long than a snapshot may be old.
        scope.spawn(move || {
            for _ in 0..STEPS {
                clock.advance_ms(100);
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        for device in &fleet {
            assert_eq!(device.poll().path(), second.path());
        }
    });
}

fn last_seen_times_are_kept(engine: Engine) {
    let (world, _, _, device) = updating(engine);
    let etag = device.poll().etag;
    world.server.advance_s(60);
    let now = world.server.now();
    device.poll_held(&etag).expect(304);
    let seen =
        crate::harness::wait::until("the flush", || detail(&world, &device).last_seen_at.filter(|at| *at >= now));
    assert!(seen <= world.server.now());
}
