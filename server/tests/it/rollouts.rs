//! Contract and rollout decide together, through HTTP, and every answer has its reason.

use serde_json::json;
use sluice_catalog::Kind;
use sluice_catalog::decide::Gate;
use sluice_catalog::rollout::{RolloutState, bucket, in_stage};
use sluice_catalog::wire::admin::DeviceDetail;

use crate::harness::world::{CAM, IMAGES};
use crate::harness::{Engine, Release, TestDevice, World};

both_engines!(
    a_rollout_goes_through_its_states,
    a_stage_reaches_its_share_of_the_fleet,
    a_pause_stops_offers_at_the_next_poll,
    a_halted_rollout_never_resumes,
    a_withdrawn_release_is_offered_no_more,
    a_device_without_contract_is_told_what_it_may_have,
    a_security_fix_is_free_on_a_train_the_device_is_known_to_own,
    cover_decides_by_the_date_of_the_train,
    a_selector_limits_the_audience,
    a_stale_move_is_a_conflict,
    a_rollout_opens_late_rather_than_never,
    stepping_stones_come_first,
    why_at_another_moment,
);

fn a_rollout_goes_through_its_states(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    world.server.run_jobs();
    let mut device = world.device(CAM, "SN-1");
    device.run(&first);
    device.poll();
    let body =
        json!({"name": "spring", "product": CAM, "version": "2.4.1", "stages": [{"percent": 50}, {"percent": 100}]});
    world.admin.post("/api/v1/rollouts", &body).expect(201);
    assert_eq!(world.rollout("spring").rollout.state, RolloutState::Draft);
    device.poll().is_nothing("ROLLOUT_NOT_STARTED");
    world.server.unchanged(|| {
        world.move_rollout("spring", "advance").refused(Kind::WrongState);
        world.move_rollout("spring", "resume").refused(Kind::WrongState);
    });
    world.move_rollout("spring", "start").expect(200);
    let preparing = world.rollout("spring");
    assert_eq!((preparing.rollout.state, preparing.patches.pending), (RolloutState::Preparing, 1));
    device.poll().is_nothing("ROLLOUT_NOT_STARTED");
    world.server.unchanged(|| world.move_rollout("spring", "start").expect(200));
    world.server.run_jobs();
    let running = world.rollout("spring");
    assert_eq!((running.rollout.state, running.rollout.stage), (RolloutState::Running, 0));
    assert_eq!((running.patches.ready, running.patches.pending), (1, 0), "patches stand before the first offer");
    world.move_rollout("spring", "advance").expect(200);
    assert_eq!(world.rollout("spring").rollout.stage, 1);
    assert_eq!(device.poll().path(), second.path());
    world.move_rollout("spring", "advance").expect(200);
    let done = world.rollout("spring");
    assert_eq!(done.rollout.state, RolloutState::Done);
    assert_eq!(device.poll().path(), second.path(), "a finished rollout goes on making offers");
    let told: Vec<_> =
        done.transitions.iter().map(|t| format!("{} {} {}: {}", t.actor, t.state.as_str(), t.stage, t.cause)).collect();
    assert_eq!(
        told,
        [
            "root-admin draft 0: created",
            "root-admin preparing 0: started",
            "server running 0: patches stand: 1 patches ready, 0 not worth their bytes, 0 pending, 0 failed",
            "root-admin running 1: advanced by hand",
            "root-admin done 1: advanced by hand",
        ]
    );
}

fn a_stage_reaches_its_share_of_the_fleet(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    let rollout = world.roll_out("spring", &second, &[30, 100]).rollout;
    let fleet: Vec<TestDevice> = (0..12)
        .map(|number| {
            let mut device = world.device(CAM, &format!("SN-{number}"));
            device.run(&first);
            device
        })
        .collect();
    let mut waiting = 0;
    for device in &fleet {
        let path = format!("/api/v1/products/{CAM}/devices/{}", device.serial);
        let cohort = world.admin.get(&path).expect(200).json::<DeviceDetail>().device.cohort_id;
        let polled = device.poll();
        let why = world.why(device, "");
        if in_stage(bucket(&rollout.salt, cohort), 30) {
            assert_eq!(polled.path(), second.path());
            assert!(why.offered);
        } else {
            waiting += 1;
            polled.is_nothing("STAGE_WAIT");
            assert_eq!((why.offered, why.reason.code()), (false, "STAGE_WAIT"));
            assert_eq!(why.newest_entitled.as_ref().map(AsRef::as_ref), Some("2.4.1"), "it is entitled, only later");
        }
    }
    world.move_rollout("spring", "advance").expect(200);
    for device in &fleet {
        assert_eq!(device.poll().path(), second.path());
    }
    assert!(waiting <= fleet.len());
}

fn a_pause_stops_offers_at_the_next_poll(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    world.roll_out("spring", &second, &[100]);
    let mut device = world.device(CAM, "SN-1");
    device.run(&first);
    let offered = device.poll();
    world.move_rollout("spring", "pause").expect(200);
    device.poll_held(&offered.etag).expect(200);
    device.poll().is_nothing("ROLLOUT_PAUSED");
    world.server.unchanged(|| world.move_rollout("spring", "pause").expect(200));
    assert_eq!(
        device.report(1, "verified").expect(200).json::<serde_json::Value>()["moved"],
        1,
        "what is under way goes on"
    );
    world.move_rollout("spring", "resume").expect(200);
    let again = device.poll();
    assert_eq!((again.path(), again.attempt()), (second.path().as_str(), 1));
}

fn a_halted_rollout_never_resumes(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    world.roll_out("spring", &second, &[100]);
    let mut device = world.device(CAM, "SN-1");
    device.run(&first);
    device.poll();
    world.move_rollout("spring", "halt").expect(200);
    device.poll().is_nothing("ROLLOUT_HALTED");
    world.server.unchanged(|| {
        for action in ["resume", "start", "advance", "pause"] {
            world.move_rollout("spring", action).refused(Kind::WrongState);
        }
        world.move_rollout("spring", "halt").expect(200);
    });
}

fn a_withdrawn_release_is_offered_no_more(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    world.roll_out("spring", &second, &[100]);
    let mut device = world.device(CAM, "SN-1");
    device.run(&first);
    let offered = device.poll();
    let path = format!("/api/v1/products/{CAM}/releases/2.4.1/withdraw");
    world.admin.post(&path, &json!({})).expect(200);
    device.poll_held(&offered.etag).expect(200);
    device.poll().is_nothing("UP_TO_DATE");
    assert_eq!(world.why(&device, "?version=2.4.1").reason.code(), "WITHDRAWN");
    world.server.unchanged(|| world.admin.post(&path, &json!({})).expect(200));
    world.server.client().get("/431a/2.4.1/0/main.bin").refused(Kind::NotFound);
}

fn a_device_without_contract_is_told_what_it_may_have(engine: Engine) {
    let mut world = World::new(engine);
    let first = Release::new(CAM, "2.4.0", 20400, &IMAGES[0]);
    let paid = Release::new(CAM, "2.5.0", 20500, &IMAGES[1]).train("2.5", "2026-06-01").requires("FW.CAM.MAJOR");
    world.release(&first);
    world.release(&paid);
    world.roll_out("major", &paid, &[100]);
    let mut device = world.device(CAM, "SN-1");
    device.run(&first);
    device.poll().is_nothing("NO_CONTRACT");
    let why = world.why(&device, "");
    assert_eq!((why.reason.code(), why.version.as_ref().map(AsRef::as_ref)), ("NO_CONTRACT", Some("2.5.0")));
    assert_eq!(why.newest_entitled.as_ref().map(AsRef::as_ref), Some("2.4.0"));
    let step = why.steps.iter().find(|step| step.gate == Gate::Grant).unwrap();
    assert_eq!((step.pass, step.detail.as_str()), (false, "requires FW.CAM.MAJOR"));
    world.contract("train-ga", "2026-01-01", "2027-01-01", &["SN-1"]);
    let polled = device.poll();
    assert_eq!((polled.path(), polled.reason()), (paid.path().as_str(), "COVERED_TRAIN_GA"));
    assert!(world.why(&device, "?version=2.5.0").offered);
    let other = Release::new(CAM, "3.0.0", 30000, &IMAGES[2]).train("3.0", "2026-07-01").requires("FW.CAM.PRO");
    world.release(&other);
    world.roll_out("pro", &other, &[100]);
    assert_eq!(world.why(&device, "?version=3.0.0").reason.code(), "CODE_NOT_GRANTED");
    assert_eq!(device.poll().path(), paid.path(), "the newest that it may have");
}

fn a_security_fix_is_free_on_a_train_the_device_is_known_to_own(engine: Engine) {
    let mut world = World::new(engine);
    let first = Release::new(CAM, "2.4.0", 20400, &IMAGES[0]);
    let fix = Release::new(CAM, "2.4.1", 20401, &IMAGES[1]).requires("FW.CAM.MAJOR").security("ACME-2026-1");
    world.release(&first);
    world.release(&fix);
    world.roll_out("fix", &fix, &[100]);
    let mut claims = world.device(CAM, "SN-1");
    claims.run(&first);
    claims.poll().is_nothing("NO_CONTRACT");
    let trace = world.why(&claims, "?version=2.4.1");
    let security = trace.steps.iter().find(|step| step.gate == Gate::Security).unwrap();
    assert_eq!(security.reason.code(), "TRAIN_UNPROVEN", "a claim is no proof");
    world.register(CAM, "SN-2", &json!({"train": "2.4"}));
    let mut born = TestDevice::new(&world.server, CAM, "SN-2");
    born.enrol(None).expect(200);
    born.open_session();
    born.run(&first);
    let polled = born.poll();
    assert_eq!((polled.path(), polled.reason()), (fix.path().as_str(), "SECURITY_FREE"));
}

fn cover_decides_by_the_date_of_the_train(engine: Engine) {
    let mut world = World::new(engine);
    let first = Release::new(CAM, "2.4.0", 20400, &IMAGES[0]);
    let owned = Release::new(CAM, "2.4.1", 20401, &IMAGES[1]).requires("FW.CAM.MAJOR");
    let later = Release::new(CAM, "2.5.0", 20500, &IMAGES[2]).train("2.5", "2026-06-01").requires("FW.CAM.MAJOR");
    for release in [&first, &owned, &later] {
        world.release(release);
    }
    world.roll_out("owned", &owned, &[100]);
    world.roll_out("later", &later, &[100]);
    // Cover ended before 2.5 came out: fixes of 2.4 stay the customer's.
    world.contract("train-ga", "2026-02-01", "2026-05-01", &["SN-1"]);
    let mut device = world.device(CAM, "SN-1");
    device.run(&first);
    let polled = device.poll();
    assert_eq!((polled.path(), polled.reason()), (owned.path().as_str(), "COVERED_TRAIN_GA"));
    let why = world.why(&device, "?version=2.5.0");
    assert_eq!((why.offered, why.reason.code()), (false, "TRAIN_GA_NOT_COVERED"));
    assert!(
        why.steps
            .iter()
            .any(|step| step.detail == "FW.CAM.MAJOR: contract C-1, plan plus, rule train-ga at 2026-06-01"),
        "{:?}",
        why.steps
    );
    let more = json!({"windows": [{"from": "2026-05-20", "to": "2026-07-01", "kind": "backdated"}]});
    world.admin.post("/api/v1/contracts/C-1/facts", &more).expect(200);
    assert_eq!(device.poll().path(), later.path(), "bought later, and the next poll knows");
}

fn a_selector_limits_the_audience(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    world.register(CAM, "SN-1", &json!({"tags": ["lab"], "site": "berlin"}));
    let mut lab = TestDevice::new(&world.server, CAM, "SN-1");
    lab.enrol(None).expect(200);
    lab.open_session();
    lab.run(&first);
    let mut field = world.device(CAM, "SN-2");
    field.run(&first);
    let body = json!({
        "name": "lab", "product": CAM, "version": "2.4.1", "stages": [{"percent": 100}],
        "selector": {"tags": ["lab", "vip"], "sites": ["berlin"]},
    });
    world.admin.post("/api/v1/rollouts", &body).expect(201);
    world.move_rollout("lab", "start").expect(200);
    world.server.run_jobs();
    assert_eq!(lab.poll().path(), second.path());
    field.poll().is_nothing("NOT_IN_AUDIENCE");
}

fn a_stale_move_is_a_conflict(engine: Engine) {
    let mut world = World::new(engine);
    let (_, second) = world.two_releases();
    world.roll_out("spring", &second, &[10, 50, 100]);
    let advance =
        |from: i32| world.admin.post("/api/v1/rollouts/spring/move", &json!({"action": "advance", "from_stage": from}));
    advance(0).expect(200);
    world.server.unchanged(|| {
        advance(0).refused(Kind::Conflict);
        let long = json!({"action": "advance", "cause": "x".repeat(201)});
        world.admin.post("/api/v1/rollouts/spring/move", &long).refused(Kind::Invalid);
        world.admin.post("/api/v1/rollouts/spring/move", &json!({"action": "explode"})).refused(Kind::Malformed);
    });
    let world = &world;
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let moving: Vec<_> = (0..4).map(|_| scope.spawn(|| advance(1).status)).collect();
        moving.into_iter().map(|moved| moved.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(world.rollout("spring").rollout.stage, 2);
}

fn a_rollout_opens_late_rather_than_never(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    world.server.run_jobs();
    let mut device = world.device(CAM, "SN-1");
    device.run(&first);
    device.poll();
    // The patch cannot be built: its source is gone from the store.
    std::fs::remove_file(world.server.blob_file(first.digest())).unwrap();
    let detail = world.roll_out("spring", &second, &[100]);
    assert_eq!((detail.rollout.state, detail.patches.parked), (RolloutState::Running, 1));
    let polled = device.poll();
    assert!(polled.document.targets[&second.path()].delta.is_none(), "the full image; it never waits");
    assert_eq!(world.status().jobs_parked, 1, "someone has to look");
    let jobs: Vec<sluice_catalog::job::Job> = world.list("/api/v1/jobs?state=parked");
    assert!(jobs[0].last_error.as_deref().unwrap().contains("there is no blob"), "{jobs:?}");
}

fn stepping_stones_come_first(engine: Engine) {
    let mut world = World::new(engine);
    let first = Release::new(CAM, "2.4.0", 20400, &IMAGES[0]);
    let stone = Release::new(CAM, "2.4.1", 20401, &IMAGES[1]);
    let last = Release { min_installed: Some("2.4.1".into()), ..Release::new(CAM, "2.4.2", 20402, &IMAGES[2]) };
    for release in [&first, &stone, &last] {
        world.release(release);
    }
    world.roll_out("stone", &stone, &[100]);
    world.roll_out("last", &last, &[100]);
    let mut device = world.device(CAM, "SN-1");
    device.run(&first);
    assert_eq!(device.poll().path(), stone.path());
    assert_eq!(world.why(&device, "?version=2.4.2").reason.code(), "FLOOR_NOT_MET");
    device.run(&stone);
    assert_eq!(device.poll().path(), last.path());
}

fn why_at_another_moment(engine: Engine) {
    let mut world = World::new(engine);
    let first = Release::new(CAM, "2.4.0", 20400, &IMAGES[0]);
    let paid = Release::new(CAM, "2.5.0", 20500, &IMAGES[1]).train("2.5", "2026-06-01").requires("FW.CAM.MAJOR");
    world.release(&first);
    world.release(&paid);
    world.roll_out("major", &paid, &[100]);
    let (now, end) = (world.server.now(), world.server.now().plus_days(30));
    world.contract("live", &now.plus_days(-30).to_string(), &end.to_string(), &["SN-1"]);
    let mut device = world.device(CAM, "SN-1");
    device.run(&first);
    assert_eq!(device.poll().reason(), "COVERED_LIVE");
    let at = |moment: sluice_catalog::Time| world.why(&device, &format!("?version=2.5.0&at={moment}"));
    assert!(at(end.plus_ms(-1)).offered);
    let ended = at(end);
    assert_eq!((ended.offered, ended.reason.code()), (false, "NOT_LIVE"));
    assert_eq!(at(now.plus_days(-1)).reason.code(), "NOT_PUBLISHED");
    world.server.advance_s(30 * 24 * 3600);
    device.open_session();
    device.poll().is_nothing("NOT_LIVE");
}
