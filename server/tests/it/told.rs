//! What a device is told: why, without a word of its contract, and ever since, in its history.

use serde_json::{Value, json};
use sluice_catalog::Kind;
use sluice_catalog::wire::entitlement::{DeviceEntry, DeviceEvent};
use sluice_server::clock::Clock;
use ureq::http::Method;

use crate::entitlement::{change, paid};
use crate::harness::process::Process;
use crate::harness::world::{CAM, IMAGES};
use crate::harness::{Answer, Client, Engine, Place, Release, TestDevice, TestServer, World};

both_engines!(
    a_device_hears_why_and_nothing_of_its_contract,
    every_answer_that_differs_is_in_the_history,
    what_a_crash_loses_of_the_history_the_next_poll_notes,
    old_answers_go_but_for_the_one_that_held_on,
    a_device_that_asks_why_all_the_time_is_refused_for_a_while,
    no_expiry_tells_when_an_embargo_ends,
    who_holds_a_document_hears_of_another_interval,
);

fn a_device_hears_why_and_nothing_of_its_contract(engine: Engine) {
    let (mut world, device, _) = paid(engine, "live");
    device.poll();
    let ask = |query: &str| device.client.get(&format!("/v1/why{query}"));
    let told = |query: &str| -> Value { ask(query).expect(200).json() };
    let offered = told("");
    assert_eq!(
        (&offered["version"], &offered["offered"], &offered["reason"]),
        (&json!("2.5.0"), &json!(true), &json!("OFFERED"))
    );
    assert!(offered["changes_at"].is_string(), "cover ends: {offered}");
    let hold = json!({"customer": "globex", "scope": "site", "target": "hall", "kind": "hold", "security": false,
        "reason": "the fair of the secret bidder", "until": world.server.now().plus_days(6)});
    world.admin.post("/api/v1/policies", &hold).expect(201);
    let mut answers = vec![offered, told(""), told("?version=2.5.0"), told("?version=2.4.0")];
    assert_eq!(answers[1]["reason"], "HELD_BY_POLICY");
    assert_eq!(answers[3]["reason"], "NOT_NEWER");
    change(&world, Method::PATCH, "/api/v1/contracts/C-1", &json!({"state": "void"})).expect(200);
    answers.push(told(""));
    assert_eq!((&answers[4]["reason"], &answers[4]["may_have"]), (&json!("NO_CONTRACT"), &json!("2.4.0")));
    for answer in &answers {
        let members: Vec<&String> = answer.as_object().unwrap().keys().collect();
        assert_eq!(members, ["at", "changes_at", "may_have", "offered", "reason", "sentence", "version"]);
        let text = answer.to_string();
        for secret in
            ["C-1", "plus", "globex", "FW.CAM.MAJOR", "hall", "early", "bidder", "root-admin", "live", "major"]
        {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    // Under embargo, not known, and not there at all are one and the same.
    let third = Release::new(CAM, "2.6.0", 20600, &IMAGES[2]).train("2.6", "2026-07-01");
    world.release(&third);
    let until = world.server.now().plus_days(10);
    let path = format!("/api/v1/products/{CAM}/releases/2.6.0/embargo");
    assert_eq!(told("")["may_have"], "2.6.0");
    change(&world, Method::PUT, &path, &json!({"until": until})).expect(204);
    let (hidden, missing) = (ask("?version=2.6.0"), ask("?version=2.7.0"));
    assert_eq!((hidden.status, missing.status), (404, 404));
    let same = |answer: &Answer, version: &str| {
        let mut problem: Value = answer.json();
        problem["id"] = Value::Null;
        problem.to_string().replace(version, "VERSION")
    };
    assert_eq!(same(&hidden, "2.6.0"), same(&missing, "2.7.0"));
    assert_eq!(told("")["may_have"], "2.4.0");
    // It is not told when either: neither end of an embargo is a change that the device hears of.
    assert_eq!(told("")["changes_at"], Value::Null);
    assert_eq!(ask("?version=..%2Fetc").status, 400);
    device.client.with("sls_nonsense").get("/v1/why").refused(Kind::Unauthenticated);
    let mut waiting = TestDevice::new(&world.server, CAM, "SN-WAITS");
    waiting.enrol(None).expect(200);
    waiting.open_session();
    for query in ["", "?version=2.5.0", "?version=2.6.0", "?version=9.9.9"] {
        let told: Value = waiting.client.get(&format!("/v1/why{query}")).expect(200).json();
        assert_eq!((&told["reason"], &told["may_have"]), (&json!("DEVICE_PENDING"), &Value::Null), "{query}");
    }
}

/// What a device was told by its history, page by page.
fn decisions(world: &World, page: usize) -> Vec<String> {
    let (mut after, mut all) = (String::new(), Vec::<DeviceEntry>::new());
    loop {
        let path = format!("/api/v1/products/{CAM}/devices/SN-1/history?limit={page}&after={after}");
        let entries: Vec<DeviceEntry> = world.admin.get(&path).expect(200).json();
        all.extend(entries.clone());
        match entries.last() {
            Some(last) if entries.len() == page => after.clone_from(&last.key),
            _ => break,
        }
    }
    assert!(all.is_sorted_by(|one, other| one.key < other.key && one.at <= other.at), "each once, in order");
    let told = all.into_iter().filter_map(|entry| match entry.event {
        DeviceEvent::Decision { offered, version, reason, .. } => {
            let version = version.map(|version| version.to_string()).unwrap_or_default();
            Some(format!("{} {version} {reason}", if offered { "yes" } else { "no" }))
        }
        _ => None,
    });
    told.collect()
}

fn every_answer_that_differs_is_in_the_history(engine: Engine) {
    let (world, device, _) = paid(engine, "live");
    let flush = || world.server.block_on(async { world.server.app.decisions_flush().await.unwrap() });
    let poll = || {
        world.server.advance_s(60);
        device.poll();
    };
    let set = |state: &str| {
        change(&world, Method::PATCH, "/api/v1/contracts/C-1", &json!({"state": state})).expect(200);
    };
    poll();
    poll();
    flush();
    let offered = "yes 2.5.0 COVERED_LIVE".to_owned();
    assert_eq!(decisions(&world, 100), ["yes 2.5.0 COVERED_LIVE"]);
    // Two changes before anything is written, and the same answer again and again.
    set("void");
    poll();
    set("active");
    poll();
    poll();
    flush();
    let denied = "no 2.5.0 NO_CONTRACT".to_owned();
    assert_eq!(decisions(&world, 100), [offered.clone(), denied.clone(), offered.clone()]);
    for page in [1, 2, 3] {
        assert_eq!(decisions(&world, page), [offered.clone(), denied.clone(), offered.clone()], "pages of {page}");
    }
    // Remembered for a while, then asked of the database: it is not told twice.
    world.server.advance_s(3600);
    poll();
    flush();
    assert_eq!(decisions(&world, 100).len(), 3);
    let history = format!("/api/v1/products/{CAM}/devices/SN-1/history");
    world.admin.get(&format!("{history}?limit=0")).refused(Kind::Invalid);
    world.admin.get(&format!("{history}?limit=10&after=soon")).refused(Kind::Invalid);
}

/// What was said shortly before a crash is said at the next poll again, and once.
fn what_a_crash_loses_of_the_history_the_next_poll_notes(engine: Engine) {
    let (world, device, _) = paid(engine, "live");
    change(&world, Method::PATCH, "/api/v1/contracts/C-1", &json!({"state": "void"})).expect(200);
    let World { server, admin, ceremony, signed } = world;
    let (database, data) = server.stop();
    let process = Process::start(data.path(), &database.url(), "");
    let told = || {
        let client = Client::new(&process.url).with(device.client.token());
        client.post("/v1/poll", &device.poll_body()).expect(200);
    };
    told();
    told();
    // SIGKILL.
    drop(process);
    let server = TestServer::start_with(database, Place::Local, data, Clock::default());
    let (admin, client) = (server.client().with(admin.token()), server.client().with(device.client.token()));
    let world = World { server, admin, ceremony, signed };
    for _ in 0..2 {
        client.post("/v1/poll", &device.poll_body()).expect(200);
        world.server.block_on(async { world.server.app.decisions_flush().await.unwrap() });
    }
    assert_eq!(decisions(&world, 100), ["no 2.5.0 NO_CONTRACT"]);
}

fn old_answers_go_but_for_the_one_that_held_on(engine: Engine) {
    let (world, mut device, _) = paid(engine, "open");
    let look = || world.server.block_on(async { world.server.app.notices_tick().await.unwrap() });
    let tell = |device: &TestDevice, state: &str| {
        change(&world, Method::PATCH, "/api/v1/contracts/C-1", &json!({"state": state})).expect(200);
        world.server.advance_s(60);
        device.poll();
        world.server.block_on(async { world.server.app.decisions_flush().await.unwrap() });
    };
    for state in ["active", "void", "active"] {
        tell(&device, state);
    }
    world.server.advance_s(200 * 24 * 3600);
    device.open_session();
    for state in ["void", "active"] {
        tell(&device, state);
    }
    let of = |reasons: &[bool]| -> Vec<String> {
        let said = |offered: &bool| if *offered { "yes 2.5.0 COVERED_OPEN" } else { "no 2.5.0 NO_CONTRACT" };
        reasons.iter().map(|offered| said(offered).to_owned()).collect()
    };
    look();
    assert_eq!(decisions(&world, 100), of(&[true, false, true, false, true]));
    world.server.advance_s(201 * 24 * 3600);
    look();
    assert_eq!(
        decisions(&world, 100),
        of(&[true, false, true]),
        "the answer that held when the kept time begins stays"
    );
    world.server.advance_s(1000 * 24 * 3600);
    look();
    look();
    assert_eq!(decisions(&world, 100), of(&[true]));
}

fn a_device_that_asks_why_all_the_time_is_refused_for_a_while(engine: Engine) {
    let mut world = World::new(engine);
    world.two_releases();
    let (device, other) = (world.device(CAM, "SN-1"), world.device(CAM, "SN-2"));
    let answers: Vec<u16> = (0..40).map(|_| device.client.get("/v1/why").status).collect();
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 30, "{answers:?}");
    device.client.get("/v1/why").refused(Kind::RateLimited);
    other.client.get("/v1/why").expect(200);
    device.poll();
    world.server.advance_s(2);
    device.client.get("/v1/why").expect(200);
}

fn no_expiry_tells_when_an_embargo_ends(engine: Engine) {
    let mut world = World::new(engine);
    let (_, second) = world.two_releases();
    world.roll_out("all", &second, &[100]);
    let device = world.device(CAM, "SN-1");
    assert_eq!(device.poll().path(), second.path());
    let lives_h = |device: &TestDevice| {
        let document = device.poll().document;
        (document.expires.as_second() - document.server_time.as_second() + 1800) / 3600
    };
    let until = world.server.now().plus_s(6 * 3600);
    let path = format!("/api/v1/products/{CAM}/releases/2.4.1/embargo");
    change(&world, Method::PUT, &path, &json!({"until": until})).expect(204);
    assert_eq!((device.poll().document.targets.len(), lives_h(&device)), (0, 24));
    // What the device may know of ends such an answer early.
    change(&world, Method::DELETE, &path, &Value::Null).expect(204);
    world.admin.post("/api/v1/customers", &json!({"name": "globex"})).expect(201);
    world.register(CAM, "SN-2", &json!({"customer": "globex"}));
    let mut held = TestDevice::new(&world.server, CAM, "SN-2");
    held.enrol(None).expect(200);
    held.open_session();
    let hold = json!({"customer": "globex", "scope": "customer", "kind": "hold", "security": false, "reason": "the fair",
        "until": until});
    world.admin.post("/api/v1/policies", &hold).expect(201);
    assert_eq!((held.poll().reason(), lives_h(&held)), ("HELD_BY_POLICY", 6));
}

fn who_holds_a_document_hears_of_another_interval(engine: Engine) {
    let mut world = World::new(engine);
    let (_, second) = world.two_releases();
    let device = world.device(CAM, "SN-1");
    let open = |name: &str, poll: Value| {
        let rollout = json!({"name": name, "product": CAM, "version": second.version, "rules": {"poll": poll},
            "stages": [{"percent": 1, "ramp": "30d"}, {"percent": 100}]});
        world.admin.post("/api/v1/rollouts", &rollout).expect(201);
        world.move_rollout(name, "start").expect(200);
        world.server.run_jobs();
    };
    open("usual", Value::Null);
    let polled = device.poll();
    polled.is_nothing("STAGE_WAIT");
    assert_eq!(device.poll_held(&polled.etag).status, 304);
    // The document stays the same to the letter, but the device is asked to come sooner.
    open("soon", json!("1m"));
    let sooner: Value = device.poll_held(&polled.etag).expect(200).json();
    assert_eq!((&sooner["next_poll_s"], polled.response.next_poll_s > 60), (&json!(60), true));
    device.poll().is_nothing("STAGE_WAIT");
}
