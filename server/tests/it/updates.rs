//! What reaches one device sooner or later than its stage: updates that somebody asked for now, rates at sites, a pause before the first stage,
//! approvals that the installation asks for.

use serde_json::{Value, json};
use sluice_catalog::Kind;
use sluice_catalog::audit::AuditEntry;
use sluice_catalog::rollout::{RolloutState, bucket};
use sluice_catalog::wire::admin::DeviceDetail;
use sluice_catalog::wire::rollout::{RolloutDetail, UpdateNowSet};

use crate::harness::world::CAM;
use crate::harness::{Engine, TestServer, World};

both_engines!(
    what_is_asked_for_now_waits_for_no_stage_and_stops_for_every_stop,
    asking_again_changes_nothing_and_nonsense_is_refused,
    a_rate_spreads_a_rollout_over_the_devices_of_a_site,
    a_rollout_pauses_before_it_opens_and_goes_on_preparing,
    an_installation_asks_for_approvals,
    an_installation_that_comes_to_ask_for_approvals_asks_it_of_plans_that_are_there,
);

const NOW: &str = "/api/v1/products/acme-cam/devices/SN-1/update-now";

/// A plan that starts in ten days.
fn later(world: &World) -> Value {
    let start = world.server.now().plus_days(10);
    json!({
        "name": "spring", "product": CAM, "version": "2.4.1", "stages": [{"percent": 100}],
        "rules": {"start_at": start.to_string()},
    })
}

fn what_is_asked_for_now_waits_for_no_stage_and_stops_for_every_stop(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    let mut device = world.device(CAM, "SN-1");
    device.run(&first);
    let mut other = world.device(CAM, "SN-2");
    other.run(&first);
    device.poll().is_nothing("NO_ROLLOUT");
    world.admin.post("/api/v1/rollouts", &later(&world)).expect(201);
    let ask = |body: &Value| world.admin.put_json(NOW, body).expect(200).json::<UpdateNowSet>();
    let wanted = json!({"version": "2.4.1", "reason": "the lobby first"});
    let early = ask(&wanted);
    assert_eq!((early.offered, early.answer.code()), (false, "ROLLOUT_NOT_STARTED"), "nobody has started it");
    device.poll().is_nothing("ROLLOUT_NOT_STARTED");
    world.move_rollout("spring", "start").expect(200);
    assert_eq!(device.poll().path(), second.path(), "while patches are prepared");
    world.server.run_jobs();
    assert_eq!(world.rollout("spring").rollout.state, RolloutState::Scheduled);
    assert_eq!(device.poll().path(), second.path(), "before its start");
    other.poll().is_nothing("ROLLOUT_NOT_STARTED");
    let why = world.why(&device, "");
    let said = |code: &str| why.steps.iter().find(|step| step.reason.code() == code).map(|step| step.detail.as_str());
    assert!(why.offered && said("UPDATE_NOW") == Some("spring"), "{:?}", why.steps);
    assert!(
        said("ALLOWED_BY_POLICY").is_some_and(|text| text.contains("root-admin") && text.contains("the lobby first"))
    );
    let history = world.admin.get(&NOW.replace("update-now", "history")).expect(200).text();
    assert!(history.contains("update to 2.4.1 asked for now: the lobby first"), "{history}");
    let audit: Vec<AuditEntry> = world.list("/api/v1/audit?limit=500");
    assert!(audit.iter().any(|entry| entry.action == "device.update_now" && entry.detail.contains("the lobby first")));
    // What is stopped is stopped for it, too.
    world.admin.put_json("/api/v1/stop-all", &json!({"stopped": true, "reason": "smoke"})).expect(200);
    device.poll().is_nothing("STOPPED_ALL");
    world.admin.put_json("/api/v1/stop-all", &json!({"stopped": false})).expect(200);
    assert_eq!(device.poll().path(), second.path());
    world.move_rollout("spring", "pause").expect(200);
    device.poll().is_nothing("ROLLOUT_PAUSED");
    world.move_rollout("spring", "resume").expect(200);
    world.server.run_jobs();
    assert_eq!(device.poll().path(), second.path());
    // Taken back, and asked for again until it ends by itself.
    world.admin.delete(NOW).expect(204);
    world.server.unchanged(|| world.admin.delete(NOW).expect(204));
    device.poll().is_nothing("ROLLOUT_NOT_STARTED");
    let newest = ask(&json!({"reason": "again"}));
    assert_eq!((newest.version.as_str(), newest.offered), ("2.4.1", true), "the newest that can reach it");
    assert_eq!(device.poll().path(), second.path());
    world.server.advance_s(8 * 24 * 3600);
    device.open_session();
    device.poll().is_nothing("ROLLOUT_NOT_STARTED");
}

fn asking_again_changes_nothing_and_nonsense_is_refused(engine: Engine) {
    let mut world = World::new(engine);
    world.two_releases();
    world.device(CAM, "SN-1");
    world.admin.post("/api/v1/customers", &json!({"name": "globex"})).expect(201);
    let wanted = json!({"version": "2.4.1", "reason": "why not"});
    world.admin.put_json(NOW, &wanted).expect(200);
    world.server.unchanged(|| {
        world.admin.put_json(NOW, &wanted).expect(200);
        let refused = |body: &Value, kind| world.admin.put_json(NOW, body).refused(kind).detail;
        assert!(refused(&json!({"version": "9", "reason": "x"}), Kind::NotFound).contains('9'));
        assert!(refused(&json!({"reason": " "}), Kind::Invalid).contains("reason"));
        for days in [0, 91] {
            let body =
                json!({"reason": "x", "version": "2.4.1", "expires": world.server.now().plus_days(days).to_string()});
            assert!(refused(&body, Kind::Invalid).contains("90 days ahead at most"));
        }
        assert!(refused(&json!({"reason": "x"}), Kind::WrongState).contains("no version can reach"));
        let policy =
            json!({"customer": "globex", "scope": "customer", "kind": "update_now", "version": "2.4.1", "reason": "x"});
        assert!(world.admin.post("/api/v1/policies", &policy).refused(Kind::Invalid).detail.contains("update-now"));
    });
}

fn a_rate_spreads_a_rollout_over_the_devices_of_a_site(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    let plan = json!({
        "name": "spring", "product": CAM, "version": "2.4.1", "stages": [{"percent": 100}],
        "rules": {"rates": {"per_site": "20h", "sites": {"desk": "0s"}}},
    });
    let mut devices = Vec::new();
    for (serial, site) in [("SN-1", "hall"), ("SN-2", "hall"), ("SN-3", "desk")] {
        world.register(CAM, serial, &json!({"site": site}));
        let mut device = crate::harness::TestDevice::new(&world.server, CAM, serial);
        device.enrol(None).expect(200);
        device.open_session();
        device.run(&first);
        devices.push(device);
    }
    world.admin.post("/api/v1/rollouts", &plan).expect(201);
    world.move_rollout("spring", "start").expect(200);
    world.server.run_jobs();
    assert_eq!(devices[2].poll().path(), second.path(), "no limit there");
    let opens = |serial: &str| {
        let path = format!("/api/v1/products/{CAM}/devices/{serial}");
        let device = world.admin.get(&path).expect(200).json::<DeviceDetail>().device;
        let rollout = world.rollout("spring").rollout;
        rollout.rate_at(device.site.as_ref(), || bucket(&rollout.salt, device.cohort_id)).unwrap()
    };
    let now = world.server.now();
    for device in &devices[..2] {
        if opens(&device.serial) > now {
            device.poll().is_nothing("SITE_RATE");
            assert_eq!(world.why(device, "").changes_at, Some(opens(&device.serial)));
        }
    }
    // Half of the time, a pause that does not count, and the rest.
    world.server.advance_s(10 * 3600);
    let before = [opens("SN-1"), opens("SN-2")];
    world.move_rollout("spring", "pause").expect(200);
    world.server.advance_s(3600);
    world.move_rollout("spring", "resume").expect(200);
    for (device, before) in devices.iter().zip(before) {
        let after = opens(&device.serial);
        // The time that the requests took runs on beside the hour.
        let moved = after.as_ms() - before.as_ms();
        assert!((3_600_000..3_660_000).contains(&moved), "the pause moves what is to come: {moved} ms");
        if after > world.server.now() {
            device.poll().is_nothing("SITE_RATE");
        } else {
            assert_eq!(device.poll().path(), second.path());
        }
    }
    world.server.advance_s(10 * 3600);
    for device in &devices {
        assert_eq!(device.poll().path(), second.path());
    }
}

fn a_rollout_pauses_before_it_opens_and_goes_on_preparing(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    let mut device = world.device(CAM, "SN-1");
    device.run(&first);
    device.poll();
    let plan = json!({"name": "spring", "product": CAM, "version": "2.4.1", "stages": [{"percent": 100}]});
    world.admin.post("/api/v1/rollouts", &plan).expect(201);
    world.move_rollout("spring", "start").expect(200);
    world.move_rollout("spring", "pause").expect(200);
    assert_eq!(world.rollout("spring").rollout.state, RolloutState::Paused);
    world.server.run_jobs();
    assert_eq!(world.rollout("spring").rollout.state, RolloutState::Paused, "what was preparing it leaves it alone");
    device.poll().is_nothing("ROLLOUT_PAUSED");
    world.move_rollout("spring", "resume").expect(200);
    assert_eq!(world.rollout("spring").rollout.state, RolloutState::Preparing);
    world.server.unchanged(|| world.move_rollout("spring", "resume").expect(200));
    world.server.run_jobs();
    assert_eq!(world.rollout("spring").rollout.state, RolloutState::Running);
    assert_eq!(device.poll().path(), second.path());
    world.move_rollout("spring", "pause").expect(200);
    world.move_rollout("spring", "resume").expect(200);
    assert_eq!(world.rollout("spring").rollout.state, RolloutState::Running, "what was open opens again");
}

fn an_installation_asks_for_approvals(engine: Engine) {
    let mut world = World::around(TestServer::start_approving(engine, 2));
    world.publish(&world.foundation()).expect(200);
    world.two_releases();
    let plan = |approvals: u8| {
        json!({
            "name": "spring", "product": CAM, "version": "2.4.1", "stages": [{"percent": 100}],
            "rules": {"approvals": approvals},
        })
    };
    world.server.unchanged(|| {
        for few in [0, 1] {
            let detail = world.admin.post("/api/v1/rollouts", &plan(few)).refused(Kind::Invalid).detail;
            assert!(detail.contains("rules.approvals") && detail.contains("2 at least"), "{detail}");
        }
        let emergency = json!({"name": "spring", "product": CAM, "version": "2.4.1", "preset": "emergency"});
        world.admin.post("/api/v1/rollouts", &emergency).refused(Kind::Invalid);
    });
    world.admin.post("/api/v1/rollouts", &plan(2)).expect(201);
    world.server.unchanged(|| world.admin.put_json("/api/v1/rollouts/spring", &plan(1)).refused(Kind::Invalid));
    world.move_rollout("spring", "start").refused(Kind::WrongState);
}

fn an_installation_that_comes_to_ask_for_approvals_asks_it_of_plans_that_are_there(engine: Engine) {
    let mut world = World::new(engine);
    world.two_releases();
    let plan = |name: &str| json!({"name": name, "product": CAM, "version": "2.4.1", "stages": [{"percent": 100}]});
    for name in ["spring", "summer", "autumn"] {
        world.admin.post("/api/v1/rollouts", &plan(name)).expect(201);
    }
    world.move_rollout("summer", "submit").expect(200);
    world.move_rollout("autumn", "start").expect(200);
    let World { server, admin, .. } = world;
    let clock = server.clock.clone();
    let (database, data) = server.stop();
    let server = TestServer::start_approving_with(2, database, data, clock);
    let admin = server.client().with(admin.token());
    let go =
        |name: &str, action: &str| admin.post(&format!("/api/v1/rollouts/{name}/move"), &json!({"action": action}));
    server.unchanged(|| {
        for (name, action) in [("spring", "submit"), ("spring", "start"), ("summer", "start")] {
            let detail = go(name, action).refused(Kind::Invalid).detail;
            assert!(detail.contains("min_approvals"), "{name} {action}: {detail}");
        }
    });
    // What was started by those who might is not taken back.
    server.run_jobs();
    let autumn: RolloutDetail = admin.get("/api/v1/rollouts/autumn").expect(200).json();
    assert_eq!(autumn.rollout.state, RolloutState::Running);
}
