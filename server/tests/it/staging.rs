//! Rollouts that move by themselves: gates, stop rules, windows, going back, the switch for all of them.

use std::thread;

use serde_json::{Value, json};
use sluice_catalog::Kind;
use sluice_catalog::rollout::{Cause, RolloutState, StopClass, Waits, bucket, in_stage};
use sluice_catalog::wire::admin::DeviceDetail;
use sluice_catalog::wire::rollout::RolloutDetail;

use crate::harness::world::{CAM, IMAGES};
use crate::harness::{Engine, Release, TestDevice, World};

both_engines!(
    a_gate_opens_on_matured_successes_alone,
    a_failing_canary_pauses_by_itself_and_keeps_its_evidence,
    bad_hardware_is_taken_out_and_the_others_go_on,
    who_goes_back_days_later_was_no_success,
    replicas_that_look_at_once_move_once,
    stop_all_stops_at_the_next_poll,
    windows_wait_for_the_site_and_security_does_not,
    a_rollout_goes_back_by_the_version_that_its_plan_names,
    a_start_that_is_to_come_is_waited_for,
    plans_that_cannot_work_are_refused_and_change_nothing,
    a_ramp_reaches_devices_in_time,
);

/// A plan with one gate and the stop rules of the preset, for a handful of devices.
pub fn plan(rules: Value) -> Value {
    let gate = json!({"minimum": 3, "success": 30, "soak": "1h"});
    json!({
        "name": "spring", "product": CAM, "version": "2.4.1", "preset": "normal",
        "stages": [{"percent": 50, "gate": gate}, {"percent": 100, "gate": gate}],
        "rules": merged(json!({"approvals": 0, "mature": "30m", "stop": {"silent": null}}), rules),
    })
}

fn merged(mut base: Value, over: Value) -> Value {
    for (key, value) in over.as_object().unwrap() {
        base[key] = value.clone();
    }
    base
}

impl World {
    /// Makes the rollout of a plan and lets it open.
    #[track_caller]
    pub fn open(&self, plan: &Value) -> RolloutDetail {
        self.admin.post("/api/v1/rollouts", plan).expect(201);
        self.move_rollout("spring", "start").expect(200);
        self.server.run_jobs();
        self.rollout("spring")
    }

    /// Devices on this release, those in the first half of the cohort first.
    pub fn fleet(
        &self,
        salt: &str,
        release: &Release,
        in_first: usize,
        others: usize,
    ) -> (Vec<TestDevice>, Vec<TestDevice>) {
        let (mut first, mut rest) = (Vec::new(), Vec::new());
        for number in 0..200 {
            if first.len() == in_first && rest.len() == others {
                return (first, rest);
            }
            let mut device = self.device(CAM, &format!("SN-{number}"));
            device.run(release);
            let path = format!("/api/v1/products/{CAM}/devices/{}", device.serial);
            let cohort = self.admin.get(&path).expect(200).json::<DeviceDetail>().device.cohort_id;
            if in_stage(bucket(salt, cohort), 50) {
                if first.len() < in_first {
                    first.push(device);
                }
            } else if rest.len() < others {
                rest.push(device);
            }
        }
        panic!("200 devices and not {in_first} in one half, {others} in the other");
    }

    /// Lets the executor look, as its timer does.
    pub fn look(&self) -> usize {
        self.server.block_on(async { self.server.app.rollouts_look().await.unwrap() })
    }
}

/// Takes the offer, installs it, polls on it and is healthy.
#[track_caller]
pub fn succeed(device: &mut TestDevice, to: &Release) {
    let attempt = device.poll().attempt();
    device.report(attempt, "downloading").expect(200);
    device.run(to);
    device.poll();
    device.report(attempt, "healthy").expect(200);
}

#[track_caller]
pub fn fail(device: &TestDevice, state: &str, failure: &str) {
    let attempt = device.poll().attempt();
    device.report(attempt, "downloading").expect(200);
    device.report_event(json!({"attempt": attempt, "state": state, "failure": failure})).expect(200);
}

fn a_gate_opens_on_matured_successes_alone(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    let opened = world.open(&plan(json!({})));
    assert!(matches!(opened.waits, Waits::Soak { .. }), "{:?}", opened.waits);
    let (mut treated, waiting) = world.fleet(&opened.rollout.salt, &first, 4, 1);
    for device in &mut treated[..3] {
        succeed(device, &second);
    }
    let quick = &treated[3];
    let attempt = quick.poll().attempt();
    quick.report(attempt, "downloading").expect(200);
    waiting[0].poll().is_nothing("STAGE_WAIT");
    // Soak has passed for nobody, maturity for nobody.
    assert_eq!(world.look(), 0);
    world.server.advance_s(29 * 60);
    assert_eq!(world.rollout("spring").counts.matured.attempts, 0);
    world.server.advance_s(32 * 60);
    let before = world.rollout("spring");
    assert_eq!((before.counts.matured.attempts, before.counts.matured.succeeded()), (4, 3));
    // The background looks as well; whoever is first moves it, once.
    world.look();
    let moved = world.rollout("spring");
    assert_eq!((moved.rollout.state, moved.rollout.stage), (RolloutState::Running, 1));
    let transition = moved.transitions.last().unwrap();
    let evidence = transition.evidence.as_ref().unwrap();
    assert_eq!((&evidence.cause, transition.actor.as_str()), (&Cause::Gate, "server"));
    assert_eq!(evidence.figures.as_ref().unwrap().counts.matured.attempts, 4);
    assert_eq!(transition.digest, Some(evidence.digest(&before.rollout, "server", transition.at)));
    waiting[0].poll();
    assert_eq!(world.look(), 0, "the next stage has its own soak time");
}

fn a_failing_canary_pauses_by_itself_and_keeps_its_evidence(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    let opened = world.open(&plan(json!({})));
    let (mut treated, _) = world.fleet(&opened.rollout.salt, &first, 8, 0);
    succeed(&mut treated[4], &second);
    for device in &treated[..2] {
        fail(device, "rolled_back", "unhealthy");
    }
    assert_eq!(world.look(), 0, "two may fail for reasons of their own");
    fail(&treated[2], "rolled_back", "unhealthy");
    world.look();
    let paused = world.rollout("spring");
    assert_eq!(paused.rollout.state, RolloutState::Paused);
    let evidence = paused.transitions.last().unwrap().evidence.clone().unwrap();
    assert_eq!(evidence.cause, Cause::Stop { class: StopClass::RolledBack, hardware: None });
    assert_eq!(evidence.figures.unwrap().counts.begun.rolled_back, 3);
    treated[3].poll().is_nothing("ROLLOUT_PAUSED");
    assert_eq!(world.look(), 0, "it stays paused until somebody resumes it");
    // Whoever lets it go on has judged those failures; as many new ones pause it again.
    world.server.advance_s(60);
    world.move_rollout("spring", "resume").expect(200);
    world.look();
    assert_eq!(world.rollout("spring").rollout.state, RolloutState::Running);
    succeed(&mut treated[3], &second);
    world.look();
    assert_eq!(world.rollout("spring").rollout.state, RolloutState::Running);
    for device in &treated[5..] {
        fail(device, "rolled_back", "unhealthy");
    }
    world.look();
    assert_eq!(world.rollout("spring").rollout.state, RolloutState::Paused);
}

fn bad_hardware_is_taken_out_and_the_others_go_on(engine: Engine) {
    let mut world = World::new(engine);
    let both = |release: Release| Release { hw_ids: vec!["cam-r3".into(), "cam-r4".into()], ..release };
    let first = both(Release::new(CAM, "2.4.0", 20400, &IMAGES[0]));
    let second = both(Release::new(CAM, "2.4.1", 20401, &IMAGES[1]));
    world.release(&first);
    world.release(&second);
    let mut written = plan(json!({}));
    written["stages"] = json!([{"percent": 100}]);
    world.open(&written);
    let mut fleet = Vec::new();
    for number in 0..11 {
        let serial = format!("SN-{number}");
        world.register(CAM, &serial, &json!({"hw_id": if number < 4 { "cam-r4" } else { "cam-r3" }}));
        let mut device = TestDevice::new(&world.server, CAM, &serial);
        device.hw_id = if number < 4 { "cam-r4".into() } else { "cam-r3".into() };
        device.enrol(None).expect(200);
        device.open_session();
        device.run(&first);
        fleet.push(device);
    }
    for device in &mut fleet[4..10] {
        succeed(device, &second);
    }
    for device in &fleet[..3] {
        fail(device, "failed", "unhealthy");
    }
    world.look();
    let going = world.rollout("spring");
    assert_eq!(going.rollout.state, RolloutState::Running, "{:?}", going.transitions);
    assert_eq!(going.rollout.excluded.iter().collect::<Vec<_>>(), ["cam-r4"]);
    fleet[3].poll().is_nothing("HARDWARE_STOPPED");
    assert_eq!(fleet[10].poll().path(), second.path());
    assert_eq!(going.counts.begun.attempts, 6, "its failures count no more");
}

fn who_goes_back_days_later_was_no_success(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    let opened = world.open(&plan(json!({})));
    let (mut treated, _) = world.fleet(&opened.rollout.salt, &first, 3, 0);
    for device in &mut treated {
        succeed(device, &second);
    }
    assert_eq!(world.rollout("spring").counts.begun.healthy, 3);
    for device in &mut treated {
        device.run(&first);
        device.poll();
    }
    world.look();
    let paused = world.rollout("spring");
    assert_eq!(paused.attempts.get("rolled_back"), Some(&3), "{:?}", paused.attempts);
    assert_eq!(paused.rollout.state, RolloutState::Paused);
    // A report that comes late changes nothing of it.
    treated[0].report(1, "healthy").expect(200);
    assert_eq!(world.rollout("spring").attempts.get("rolled_back"), Some(&3));
}

fn replicas_that_look_at_once_move_once(engine: Engine) {
    let mut world = World::new(engine);
    let (first, _) = world.two_releases();
    let opened = world.open(&plan(json!({})));
    let (treated, _) = world.fleet(&opened.rollout.salt, &first, 3, 0);
    for device in &treated {
        fail(device, "failed", "out_of_space");
    }
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| world.look());
        }
    });
    world.look();
    let paused = world.rollout("spring");
    let stops = paused.transitions.iter().filter(|one| one.evidence.is_some()).count();
    assert_eq!((paused.rollout.state, stops), (RolloutState::Paused, 1), "{:?}", paused.transitions);
}

fn stop_all_stops_at_the_next_poll(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    world.roll_out("spring", &second, &[100]);
    let mut device = world.device(CAM, "SN-1");
    device.run(&first);
    assert_eq!(device.poll().path(), second.path());
    let set = |stopped: bool, reason: &str| {
        let body = json!({"stopped": stopped, "reason": reason});
        world.admin.put_json("/api/v1/stop-all", &body)
    };
    world.server.unchanged(|| set(true, " ").refused(Kind::Invalid));
    set(true, "fire in the lab").expect(200);
    device.poll().is_nothing("STOPPED_ALL");
    let shown = world.rollout("spring");
    assert!(shown.gate.is_none() && shown.completes_at.is_none(), "nothing opens and nothing ends meanwhile");
    assert_eq!(world.why(&device, "").reason.code(), "STOPPED_ALL");
    world.server.unchanged(|| set(true, "again").expect(200));
    let told: Value = world.admin.get("/api/v1/stop-all").expect(200).json();
    assert_eq!((told["reason"].as_str(), told["by"].as_str()), (Some("fire in the lab"), Some("root-admin")));
    set(false, "").expect(200);
    assert_eq!(device.poll().path(), second.path());
}

fn windows_wait_for_the_site_and_security_does_not(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    // An hour that begins two hours from now in UTC, whenever this runs.
    let clock = |hours: i64| world.server.now().plus_s(3600 * hours).to_string()[11..16].to_owned();
    let windows = json!({"schedule": {"windows": [{"from": clock(2), "to": clock(3)}]}});
    let mut written = plan(windows);
    written["stages"] = json!([{"percent": 100}]);
    world.open(&written);
    world.admin.post("/api/v1/customers", &json!({"name": "globex"})).expect(201);
    let site = json!({"time_zone": "Etc/GMT+1"});
    world.admin.put_json("/api/v1/customers/globex/sites/west", &site).expect(201);
    let mut here = world.device(CAM, "SN-1");
    here.run(&first);
    world.register(CAM, "SN-2", &json!({"customer": "globex", "site": "west"}));
    let mut west = TestDevice::new(&world.server, CAM, "SN-2");
    west.enrol(None).expect(200);
    west.open_session();
    west.run(&first);
    here.poll().is_nothing("WINDOW_CLOSED");
    let why = world.why(&here, "");
    let opens = why.changes_at.expect("it says when it opens");
    assert!(opens > world.server.now().plus_s(3600) && opens < world.server.now().plus_s(3 * 3600));
    world.server.advance_s(2 * 3600 + 90);
    assert_eq!(here.poll().path(), second.path());
    west.poll().is_nothing("WINDOW_CLOSED");
    world.server.advance_s(3600);
    here.poll().is_nothing("WINDOW_CLOSED");
    assert_eq!(west.poll().path(), second.path(), "an hour later in its zone");
}

fn a_rollout_goes_back_by_the_version_that_its_plan_names(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    let again = Release::new(CAM, "2.4.2", 20402, &IMAGES[2]);
    world.release(&again);
    let written = |to: &str| plan(json!({"rollback_to": to}));
    world.server.unchanged(|| {
        world.admin.post("/api/v1/rollouts", &written("2.4.0")).refused(Kind::Invalid);
        world.admin.post("/api/v1/rollouts", &written("9.9")).refused(Kind::NotFound);
    });
    let opened = world.open(&written("2.4.2"));
    let (mut treated, waiting) = world.fleet(&opened.rollout.salt, &first, 1, 1);
    succeed(&mut treated[0], &second);
    world.move_rollout("spring", "roll_back").expect(200);
    assert_eq!(world.rollout("spring").rollout.state, RolloutState::RollingBack);
    let polled = treated[0].poll();
    assert_eq!(polled.path(), again.path());
    waiting[0].poll().is_nothing("NO_ROLLOUT");
    world.server.unchanged(|| world.move_rollout("spring", "roll_back").expect(200));
    world.move_rollout("spring", "resume").refused(Kind::WrongState);
}

fn a_start_that_is_to_come_is_waited_for(engine: Engine) {
    let mut world = World::new(engine);
    world.two_releases();
    let at = world.server.now().plus_s(3600);
    let opened = world.open(&plan(json!({"start_at": at})));
    assert_eq!((opened.rollout.state, opened.waits), (RolloutState::Scheduled, Waits::Start { at }));
    assert_eq!(world.look(), 0);
    world.server.advance_s(3600);
    world.look();
    let running = world.rollout("spring");
    assert_eq!(running.rollout.state, RolloutState::Running);
    assert!(running.rollout.stage_since >= at, "its soak time begins with the start");
}

fn plans_that_cannot_work_are_refused_and_change_nothing(engine: Engine) {
    let mut world = World::new(engine);
    world.two_releases();
    let post = |plan: &Value| world.admin.post("/api/v1/rollouts", plan);
    world.server.unchanged(|| {
        let with = |field: &str, value: Value| merged(plan(json!({})), json!({field: value}));
        let gate = json!({"minimum": 10, "success": 95});
        let never = post(&with("stages", json!([{"percent": 100, "gate": gate}]))).refused(Kind::Invalid);
        assert!(never.detail.contains("stages[0].gate.minimum"), "{}", never.detail);
        post(&with("stages", json!([{"percent": 50}, {"percent": 10}]))).refused(Kind::Invalid);
        post(&plan(json!({"mature": "0s"}))).refused(Kind::Invalid);
        post(&plan(json!({"stop": {"failed": {"percent": 0}}}))).refused(Kind::Invalid);
        post(&plan(json!({"stop": {"failed": {"percent": 5, "action": "roll_back"}}}))).refused(Kind::Invalid);
        post(&plan(json!({"nonsense": 1}))).refused(Kind::Invalid);
        let year = json!([{"from": "2020-01-01", "to": "2020-12-30"}]);
        post(&plan(json!({"schedule": {"blackouts": year, "windows": [{"from": "25:00", "to": "26:00"}]}})))
            .refused(Kind::Invalid);
        post(&merged(plan(json!({})), json!({"preset": null, "stages": []}))).refused(Kind::Invalid);
    });
    world.open(&plan(json!({})));
    world.server.unchanged(|| {
        let edited = plan(json!({"mature": "2h"}));
        let answer = world.admin.put_json("/api/v1/rollouts/spring", &edited);
        answer.refused(Kind::WrongState);
    });
}

fn a_ramp_reaches_devices_in_time(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    let mut written = plan(json!({"poll": "1m"}));
    written["stages"] = json!([{"percent": 100, "ramp": "1000m"}]);
    let opened = world.open(&written);
    let mut device = world.device(CAM, "SN-1");
    device.run(&first);
    let path = format!("/api/v1/products/{CAM}/devices/SN-1");
    let cohort = world.admin.get(&path).expect(200).json::<DeviceDetail>().device.cohort_id;
    let reached_at = i64::from(bucket(&opened.rollout.salt, cohort)) * 6;
    let polled = device.poll();
    assert_eq!(polled.response.next_poll_s, 60, "the rollout asks for it");
    if reached_at > 60 {
        polled.is_nothing("STAGE_WAIT");
        world.move_rollout("spring", "pause").expect(200);
        world.server.advance_s(20_000);
        world.move_rollout("spring", "resume").expect(200);
        device.poll().is_nothing("STAGE_WAIT");
    }
    world.server.advance_s(reached_at + 12);
    assert_eq!(device.poll().path(), second.path());
}
