//! Contracts that change, what owners want, swaps, and questions about the past, through HTTP.

use serde_json::{Value, json};
use sluice_catalog::decide::Why;
use sluice_catalog::product::Train;
use sluice_catalog::swap::Swap;
use sluice_catalog::wire::admin::{ContractDetail, Page, ReleaseDetail};
use sluice_catalog::wire::entitlement::{DeviceEntry, DeviceEvent, ImportAnswer, PolicyDetail};
use sluice_catalog::{Kind, Time};
use ureq::http::Method;

use crate::harness::world::{CAM, CAM_PID, IMAGES};
use crate::harness::{Answer, Engine, Release, TestDevice, World};

both_engines!(
    what_was_decided_then_is_what_why_says_of_then,
    a_contract_changes_its_plan_and_counts_no_more_and_again,
    the_narrowest_policy_decides,
    a_policy_that_makes_no_sense_is_refused,
    a_release_is_held_back_by_embargo_and_country,
    a_swap_moves_cover_and_undo_gives_it_back,
    a_replaced_device_gets_security_fixes_alone,
    a_swap_that_cannot_be_is_refused_whole,
    what_somebody_decided_since_a_swap_stays_decided,
    a_life_is_told_in_order,
    an_import_is_taken_in_whole_or_in_its_good_part_and_once,
    a_train_tells_when_its_support_ends_and_takes_nothing,
);

const DAY_S: i64 = 24 * 3600;

pub fn change(world: &World, method: Method, path: &str, body: &Value) -> Answer {
    let bytes = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
    world.admin.send(method, path, &[("Content-Type", "application/json")], &bytes)
}

/// 2.4.0 and 2.5.0, which requires a code and is rolled out to everyone; one device of `globex` that runs the first.
pub fn paid(engine: Engine, rule: &str) -> (World, TestDevice, [Release; 2]) {
    let mut world = World::new(engine);
    let [first, second] = world.free_and_paid();
    world.contract_for_30_days(rule, &["SN-1"]);
    world.register(CAM, "SN-1", &json!({"customer": "globex", "site": "hall", "tags": ["early"]}));
    let mut device = TestDevice::new(&world.server, CAM, "SN-1");
    device.enrol(None).expect(200);
    device.open_session();
    device.run(&first);
    (world, device, [first, second])
}

fn why_then(world: &World, device: &TestDevice, known_at: Time) -> Why {
    world.why(device, &format!("?version=2.5.0&known_at={known_at}"))
}

fn what_was_decided_then_is_what_why_says_of_then(engine: Engine) {
    let (world, mut device, _) = paid(engine, "live");
    let contract: ContractDetail = world.admin.get("/api/v1/contracts/C-1").expect(200).json();
    let window = contract.windows[0].id;
    let hold = json!({"customer": "globex", "scope": "site", "target": "hall", "kind": "hold", "security": false,
        "reason": "the fair", "until": world.server.now().plus_days(6)});
    let steps: Vec<(Method, String, Value)> = vec![
        (Method::PATCH, "/api/v1/contracts/C-1".into(), json!({"state": "void"})),
        (Method::PATCH, "/api/v1/contracts/C-1".into(), json!({"state": "active"})),
        (Method::POST, "/api/v1/policies".into(), hold),
        (Method::PUT, "/api/v1/plans/plus".into(), json!({"rule": "open", "grace_days": 0, "grants": []})),
        (
            Method::PUT,
            "/api/v1/plans/plus".into(),
            json!({"rule": "live", "grace_days": 0, "grants": [{"code": "FW.CAM.MAJOR"}]}),
        ),
        (Method::DELETE, format!("/api/v1/contracts/C-1/windows/{window}"), Value::Null),
        (
            Method::POST,
            "/api/v1/contracts/C-1/facts".into(),
            json!({"windows": [{"from": "2020-01-01", "to": "2036-01-01"}]}),
        ),
        (Method::PUT, "/api/v1/stop-all".into(), json!({"stopped": true, "reason": "smoke"})),
        (Method::PUT, "/api/v1/stop-all".into(), json!({"stopped": false})),
        (Method::PUT, format!("/api/v1/products/{CAM}/releases/2.5.0/blocked-countries"), json!({"countries": ["NL"]})),
        (Method::PUT, "/api/v1/customers/globex/sites/hall".into(), json!({"country": "NL"})),
        (Method::PATCH, format!("/api/v1/products/{CAM}/devices/SN-1"), json!({"site": "attic"})),
        (Method::PUT, "/api/v1/stop-all".into(), json!({"stopped": true, "reason": "smoke again"})),
        (Method::POST, "/api/v1/rollouts/major/move".into(), json!({"action": "halt", "cause": "smoke"})),
    ];
    let mut seen = Vec::new();
    let mut note = |world: &World, device: &mut TestDevice| {
        device.open_session();
        let polled = device.poll();
        seen.push((
            world.server.now(),
            polled.reason().to_owned(),
            polled.response.director.get().contains("2.5.0/main.bin"),
        ));
    };
    note(&world, &mut device);
    for (method, path, body) in &steps {
        world.server.advance_s(DAY_S);
        let status = change(&world, method.clone(), path, body).status;
        assert!((200..300).contains(&status), "{method} {path}: {status}");
        note(&world, &mut device);
    }
    world.server.advance_s(DAY_S);
    let reasons: Vec<&str> = seen.iter().map(|(_, reason, _)| reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "COVERED_LIVE",
            "NO_CONTRACT",
            "COVERED_LIVE",
            "HELD_BY_POLICY",
            "CODE_NOT_GRANTED",
            "HELD_BY_POLICY",
            "NOT_LIVE",
            "COVERED_LIVE",
            "STOPPED_ALL",
            "COVERED_LIVE",
            "COVERED_LIVE",
            "COUNTRY_BLOCKED",
            "COVERED_LIVE",
            "STOPPED_ALL",
            "STOPPED_ALL",
        ]
    );
    for (at, reason, offered) in seen {
        let why = why_then(&world, &device, at);
        assert_eq!(why.offered, offered, "{at} {reason}");
        if !offered {
            assert_eq!(why.reason.code(), reason, "{at}");
        }
        assert_eq!(why.known_at, Some(at));
    }
    let tomorrow = world.server.now().plus_days(1);
    let path = format!("/api/v1/products/{CAM}/devices/SN-1/why?known_at={tomorrow}");
    world.admin.get(&path).refused(Kind::Invalid);
    let before = world.server.now().plus_days(-400);
    world.admin.get(&format!("/api/v1/products/{CAM}/devices/SN-1/why?known_at={before}")).refused(Kind::NotFound);
}

fn a_contract_changes_its_plan_and_counts_no_more_and_again(engine: Engine) {
    let (world, device, releases) = paid(engine, "live");
    assert_eq!(device.poll().path(), releases[1].path());
    let plan = json!({"name": "basic", "rule": "train-ga", "grace_days": 0, "grants": [{"code": "OTHER"}]});
    world.admin.post("/api/v1/plans", &plan).expect(201);
    let set = |body: Value| change(&world, Method::PATCH, "/api/v1/contracts/C-1", &body);
    let detail: ContractDetail = set(json!({"plan": "basic"})).expect(200).json();
    assert_eq!(detail.plan.as_ref(), "basic");
    device.poll().is_nothing("CODE_NOT_GRANTED");
    let advice = world.why(&device, "?version=2.5.0").advice;
    assert_eq!(advice, ["move contract C-1 to a plan that grants FW.CAM.MAJOR"]);
    set(json!({"plan": "plus", "state": "void"})).expect(200);
    device.poll().is_nothing("NO_CONTRACT");
    set(json!({"state": "active"})).expect(200);
    assert_eq!(device.poll().path(), releases[1].path());
    world.server.unchanged(|| {
        set(json!({"state": "active"})).expect(200);
        set(json!({"plan": "none"})).refused(Kind::NotFound);
        change(&world, Method::PATCH, "/api/v1/contracts/C-9", &json!({})).refused(Kind::NotFound);
        let rule = json!({"rule": "fallback-0", "grace_days": 0, "grants": []});
        let refused = change(&world, Method::PUT, "/api/v1/plans/plus", &rule);
        assert_eq!(refused.status, 400, "{}", refused.text());
        assert!(refused.text().contains("fallback-N with N from 1 to 120"), "{}", refused.text());
    });
}

fn the_narrowest_policy_decides(engine: Engine) {
    let (world, device, releases) = paid(engine, "live");
    let set = |scope: &str, target: Value, kind: Value| -> PolicyDetail {
        let mut body =
            json!({"customer": "globex", "scope": scope, "target": target, "product": CAM, "reason": "exams"});
        body.as_object_mut().unwrap().extend(kind.as_object().unwrap().clone());
        world.admin.post("/api/v1/policies", &body).expect(201).json()
    };
    set("customer", Value::Null, json!({"kind": "hold", "security": false}));
    device.poll().is_nothing("HELD_BY_POLICY");
    let group = set("group", "early".into(), json!({"kind": "pin", "version": "2.5.0"}));
    assert_eq!(device.poll().path(), releases[1].path());
    set("site", "hall".into(), json!({"kind": "hold", "security": true}));
    assert_eq!(device.poll().path(), releases[1].path(), "a group is narrower than a site");
    set("device", "SN-1".into(), json!({"kind": "pin", "version": "2.4.0"}));
    device.poll().is_nothing("PINNED_BY_POLICY");
    let why = world.why(&device, "?version=2.5.0");
    assert_eq!(why.newest_entitled.unwrap().as_str(), "2.5.0", "cover is there; the owner holds it back");
    assert_eq!(why.advice, ["ask root-admin to lift or change the policy for this device"]);
    set("device", "SN-1".into(), json!({"kind": "follow"}));
    assert_eq!(device.poll().path(), releases[1].path(), "the newer of two for one device");
    let list: Vec<PolicyDetail> = world.admin.get("/api/v1/policies?customer=globex").expect(200).json();
    assert_eq!(list.len(), 5);
    for policy in list.iter().filter(|policy| policy.policy.id != group.policy.id) {
        let path = format!("/api/v1/policies/{}?customer=globex", policy.policy.id);
        world.admin.delete(&path).expect(204);
        world.admin.delete(&path).refused(Kind::NotFound);
    }
    assert_eq!(device.poll().path(), releases[1].path());
}

fn a_policy_that_makes_no_sense_is_refused(engine: Engine) {
    let (world, ..) = paid(engine, "live");
    let good = json!({"customer": "globex", "scope": "device", "target": "SN-1", "product": CAM, "kind": "hold",
        "security": false, "reason": "exams"});
    world.server.unchanged(|| {
        for (field, value, named) in [
            ("customer", json!("nobody"), "customer"),
            ("target", json!("SN-9"), "device"),
            ("target", Value::Null, "target"),
            ("product", Value::Null, "product"),
            ("scope", json!("customer"), "target"),
            ("reason", json!(" "), "reason"),
            ("reason", json!("x".repeat(501)), "reason"),
            ("until", json!("2001-01-01"), "until"),
        ] {
            let mut body = good.clone();
            body[field] = value;
            let refused = world.admin.post("/api/v1/policies", &body);
            assert!([400, 404, 422].contains(&refused.status), "{field}: {}", refused.text());
            assert!(refused.text().contains(named), "{field}: {}", refused.text());
        }
        let pin = json!({"customer": "globex", "scope": "customer", "kind": "pin", "version": "2.5.0", "reason": "x"});
        world.admin.post("/api/v1/policies", &pin).refused(Kind::Invalid);
        let mut unknown = pin;
        unknown["product"] = CAM.into();
        unknown["version"] = "9.9".into();
        world.admin.post("/api/v1/policies", &unknown).refused(Kind::NotFound);
        let site = |body: &Value| change(&world, Method::PUT, "/api/v1/customers/globex/sites/hall", body);
        site(&json!({"country": "nl"})).refused(Kind::Invalid);
        site(&json!({"time_zone": "Mars/Olympus"})).refused(Kind::Invalid);
    });
    world.admin.post("/api/v1/policies", &good).expect(201);
    world.server.unchanged(|| world.admin.post("/api/v1/policies", &good).expect(200));
}

fn a_release_is_held_back_by_embargo_and_country(engine: Engine) {
    let (world, mut device, releases) = paid(engine, "live");
    let path = |what: &str| format!("/api/v1/products/{CAM}/releases/2.5.0/{what}");
    let until = world.server.now().plus_days(3);
    let embargo =
        |codes: &[&str]| change(&world, Method::PUT, &path("embargo"), &json!({"codes": codes, "until": until}));
    // What a Lens-style client without a token is shown.
    let shown = || -> Value {
        let query = format!("{{ availableProductSoftwareByPid(pid: \"{CAM_PID}\") {{ version }} }}");
        let answer: Value = world.server.client().post("/graphql", &json!({"query": query})).expect(200).json();
        answer["data"]["availableProductSoftwareByPid"]["version"].clone()
    };
    assert_eq!(shown(), "2.5.0");
    embargo(&[]).expect(204);
    assert_eq!(shown(), Value::Null, "nothing of it is told");
    device.poll().is_nothing("UP_TO_DATE");
    let why = world.why(&device, "?version=2.5.0");
    assert_eq!((why.reason.code(), why.changes_at), ("EMBARGOED", Some(until)));
    embargo(&["FW.CAM.MAJOR"]).expect(204);
    assert_eq!(device.poll().path(), releases[1].path(), "let in by a code it is covered for");
    embargo(&["EARLY"]).expect(204);
    device.poll().is_nothing("UP_TO_DATE");
    world.server.advance_s(3 * DAY_S);
    device.open_session();
    assert_eq!(device.poll().path(), releases[1].path(), "the embargo ended by itself");
    world.server.unchanged(|| embargo(&[]).refused(Kind::Invalid));
    change(&world, Method::PUT, "/api/v1/customers/globex/sites/hall", &json!({"country": "NL"})).expect(201);
    let block =
        |countries: &[&str]| change(&world, Method::PUT, &path("blocked-countries"), &json!({"countries": countries}));
    block(&["BE", "NL"]).expect(204);
    device.poll().is_nothing("COUNTRY_BLOCKED");
    world.server.unchanged(|| block(&["Netherlands"]).refused(Kind::Invalid));
    block(&[]).expect(204);
    assert_eq!(device.poll().path(), releases[1].path());
}

fn swap(world: &World, rma: &str, old: &str, new: &str) -> Answer {
    world.admin.post("/api/v1/swaps", &json!({"rma": rma, "product": CAM, "old": old, "new": new}))
}

fn enrolled(world: &World, serial: &str, runs: &Release) -> TestDevice {
    let mut device = TestDevice::new(&world.server, CAM, serial);
    device.enrol(None).expect(200);
    device.open_session();
    device.run(runs);
    device
}

fn a_swap_moves_cover_and_undo_gives_it_back(engine: Engine) {
    let (world, old, releases) = paid(engine, "train-ga");
    let hold = json!({"customer": "globex", "scope": "device", "target": "SN-1", "product": CAM, "kind": "pin",
        "version": "2.5.0", "reason": "certified"});
    world.admin.post("/api/v1/policies", &hold).expect(201);
    assert_eq!(old.poll().path(), releases[1].path());
    let before = world.why(&old, "?version=2.5.0");
    swap(&world, "RMA-7", "SN-1", "SN-2").expect(201);
    world.server.unchanged(|| swap(&world, "RMA-7", "SN-1", "SN-2").expect(200));
    let mut new = enrolled(&world, "SN-2", &releases[0]);
    assert_eq!(new.poll().path(), releases[1].path(), "a train that was owned before the swap");
    assert_eq!(old.poll().path(), releases[1].path(), "both work while the overlap lasts");
    let shown: Value = world.admin.get(&format!("/api/v1/products/{CAM}/devices/SN-2")).expect(200).json();
    assert_eq!((&shown["device"]["site"], &shown["device"]["tags"]), (&json!("hall"), &json!(["early"])));
    let why = world.why(&new, "?version=2.5.0");
    assert!(why.steps.iter().any(|step| step.detail.contains("pinned to 2.5.0")), "the pin came along");
    world.admin.post("/api/v1/swaps/RMA-7/undo", &json!({})).expect(200);
    world.server.unchanged(|| world.admin.post("/api/v1/swaps/RMA-7/undo", &json!({})).expect(200));
    let after = world.why(&old, "?version=2.5.0");
    assert_eq!((after.reason, after.steps), (before.reason, before.steps));
    new.open_session();
    new.poll().is_nothing("DEVICE_PENDING");
    world.server.unchanged(|| swap(&world, "RMA-7", "SN-1", "SN-2").refused(Kind::Conflict));
    swap(&world, "RMA-8", "SN-1", "SN-2").expect(201);
    assert_eq!(new.poll().path(), releases[1].path());
}

fn a_replaced_device_gets_security_fixes_alone(engine: Engine) {
    let (mut world, mut old, releases) = paid(engine, "train-ga");
    let done: Swap = swap(&world, "RMA-7", "SN-1", "SN-2").expect(201).json();
    let mut new = enrolled(&world, "SN-2", &releases[0]);
    let changes = world.why(&old, "?version=2.5.0").changes_at;
    assert_eq!(changes, Some(done.fence_at), "the overlap ends by itself");
    world.server.advance_s(30 * DAY_S);
    for device in [&mut old, &mut new] {
        device.open_session();
    }
    old.poll().is_nothing("DEVICE_REPLACED");
    assert_eq!(new.poll().path(), releases[1].path());
    world.server.unchanged(|| world.admin.post("/api/v1/swaps/RMA-7/undo", &json!({})).refused(Kind::Conflict));
    let fix = Release::new(CAM, "2.5.1", 20501, &IMAGES[2])
        .train("2.5", "2026-06-01")
        .requires("FW.CAM.MAJOR")
        .security("ACME-2026-0009");
    world.release(&fix);
    world.roll_out("fix", &fix, &[100]);
    let polled = old.poll();
    assert_eq!((polled.path(), polled.reason()), (fix.path().as_str(), "SECURITY_FREE"));
}

fn a_swap_that_cannot_be_is_refused_whole(engine: Engine) {
    let (world, ..) = paid(engine, "train-ga");
    world.admin.post("/api/v1/customers", &json!({"name": "initech"})).expect(201);
    world.register(CAM, "SN-3", &json!({"customer": "initech"}));
    world.register(CAM, "SN-4", &json!({"customer": "globex"}));
    world
        .admin
        .post("/api/v1/contracts/C-1/facts", &json!({"items": [{"product": CAM, "serial": "SN-5"}]}))
        .expect(200);
    let blocked = format!("/api/v1/products/{CAM}/devices/SN-4/state");
    world.admin.post(&blocked, &json!({"state": "blocked"})).expect(200);
    world.server.unchanged(|| {
        swap(&world, "R-1", "SN-1", "SN-1").refused(Kind::Invalid);
        swap(&world, "R-1", "SN-9", "SN-2").refused(Kind::NotFound);
        swap(&world, "R-1", "SN-1", "SN-3").refused(Kind::Conflict);
        swap(&world, "R-1", "SN-1", "SN-4").refused(Kind::Conflict);
        swap(&world, "R-1", "SN-1", "SN-5").refused(Kind::Conflict);
        swap(&world, "R-1", "SN-4", "SN-2").refused(Kind::Conflict);
        world.admin.get("/api/v1/swaps/R-1").refused(Kind::NotFound);
        let long = json!({"rma": "R-1", "product": CAM, "old": "SN-1", "new": "SN-2", "overlap_days": 181});
        world.admin.post("/api/v1/swaps", &long).refused(Kind::Invalid);
    });
    swap(&world, "R-1", "SN-1", "SN-2").expect(201);
    world.server.unchanged(|| {
        swap(&world, "R-1", "SN-1", "SN-6").refused(Kind::Conflict);
        swap(&world, "R-2", "SN-1", "SN-6").refused(Kind::Conflict);
    });
    swap(&world, "R-3", "SN-2", "SN-6").expect(201);
    let undo = |rma: &str| world.admin.post(&format!("/api/v1/swaps/{rma}/undo"), &json!({}));
    world.server.unchanged(|| undo("R-1").refused(Kind::Conflict));
    undo("R-3").expect(200);
    // What the later one had moved is back as it was, so the earlier one can be taken back in turn.
    undo("R-1").expect(200);
}

fn what_somebody_decided_since_a_swap_stays_decided(engine: Engine) {
    let (world, mut old, releases) = paid(engine, "train-ga");
    swap(&world, "R-1", "SN-1", "SN-2").expect(201);
    let state = |state: &str| {
        let path = format!("/api/v1/products/{CAM}/devices/SN-1/state");
        world.admin.post(&path, &json!({"state": state})).expect(200);
    };
    state("blocked");
    world.admin.post("/api/v1/swaps/R-1/undo", &json!({})).expect(200);
    let shown: Value = world.admin.get(&format!("/api/v1/products/{CAM}/devices/SN-1")).expect(200).json();
    assert_eq!(shown["device"]["state"], "blocked", "an undone swap does not take a thief's device back");
    state("active");
    old.open_session();
    assert_eq!(old.poll().path(), releases[1].path());
    // Accepting a fenced device once more does not lift the fence.
    swap(&world, "R-2", "SN-1", "SN-3").expect(201);
    state("blocked");
    state("active");
    world.server.unchanged(|| swap(&world, "R-4", "SN-1", "SN-5").refused(Kind::Conflict));
    world.server.advance_s(31 * DAY_S);
    old.open_session();
    old.poll().is_nothing("DEVICE_REPLACED");
}

fn a_life_is_told_in_order(engine: Engine) {
    let (world, mut device, releases) = paid(engine, "live");
    device.poll();
    world.server.advance_s(60);
    device.run(&releases[1]);
    device.poll();
    swap(&world, "RMA-7", "SN-1", "SN-2").expect(201);
    let story: Vec<DeviceEntry> =
        world.admin.get(&format!("/api/v1/products/{CAM}/devices/SN-1/history")).expect(200).json();
    assert!(story.is_sorted_by_key(|entry| entry.at));
    let told: Vec<String> = story
        .iter()
        .map(|entry| match &entry.event {
            DeviceEvent::Changed { actor, cause, installed, .. } => {
                let runs: Vec<_> = installed.iter().map(|one| one.version.to_string()).collect();
                format!("{actor} {cause} [{}]", runs.join(" "))
            }
            DeviceEvent::Attempt { attempt, version, state, .. } => format!("attempt {attempt} {version} {state}"),
            DeviceEvent::Cover { contract, change, .. } => format!("{contract} {change}"),
            DeviceEvent::Swap { rma, new, change, .. } => format!("{rma} {new} {change}"),
            DeviceEvent::Decision { reason, .. } => panic!("{reason} is told to those who ask for pages"),
        })
        .collect();
    for expected in [
        "root-admin registered []",
        "device enrolled []",
        "device reported [2.4.0]",
        "C-1 recorded",
        "attempt 1 2.5.0 offered",
        "device reported [2.5.0]",
        "root-admin replaced by SN-2, RMA RMA-7 [2.5.0]",
        "RMA-7 SN-2 swapped",
    ] {
        assert!(told.iter().any(|line| line == expected), "{expected} is not told: {told:#?}");
    }
}

fn an_import_is_taken_in_whole_or_in_its_good_part_and_once(engine: Engine) {
    let (world, device, releases) = paid(engine, "live");
    let row = |line: u64, contract: &str, serial: &str| {
        json!({"line": line, "contract": contract, "customer": "globex", "plan": "plus", "from": "2026-01-01",
            "last_day": "2035-12-31", "zone": "Europe/Amsterdam", "product": CAM, "serial": serial})
    };
    let mut bad = row(4, "C-7", "SN-3");
    bad["plan"] = "gold".into();
    let rows = vec![row(2, "C-7", "SN-2"), row(3, "C-8", "SN-1"), bad];
    let import = |rows: &[Value], more: Value| -> ImportAnswer {
        let mut body = json!({"rows": rows});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.admin.post("/api/v1/contract-imports", &body).expect(200).json()
    };
    world.server.unchanged(|| {
        let refused = import(&rows, json!({}));
        assert!(!refused.applied);
        assert_eq!((refused.errors.len(), refused.errors[0].line, refused.errors[0].field.as_str()), (1, 4, "plan"));
        let dry = import(&rows, json!({"on_error": "skip", "dry_run": true}));
        assert_eq!((dry.applied, dry.contracts, dry.windows, dry.items), (false, 2, 2, 2));
    });
    change(&world, Method::PATCH, "/api/v1/contracts/C-1", &json!({"state": "void"})).expect(200);
    device.poll().is_nothing("NO_CONTRACT");
    let taken = import(&rows, json!({"on_error": "skip"}));
    assert_eq!((taken.applied, taken.contracts, taken.windows, taken.items, taken.errors.len()), (true, 2, 2, 2, 1));
    assert_eq!(device.poll().path(), releases[1].path(), "the next poll knows");
    world.server.unchanged(|| {
        let again = import(&[row(9, "C-8", "SN-1"), row(1, "C-7", "SN-2")], json!({}));
        assert_eq!((again.applied, again.contracts, again.windows, again.items), (true, 0, 0, 0));
    });
    let more = import(&[row(1, "C-8", "SN-2")], json!({}));
    assert_eq!((more.contracts, more.windows, more.items), (0, 0, 1));
    let shown: ContractDetail = world.admin.get("/api/v1/contracts/C-8").expect(200).json();
    assert_eq!((shown.windows.len(), shown.items.len()), (1, 2));
    assert_eq!(shown.windows[0].from_at.to_string(), "2025-12-31T23:00:00Z", "days begin where the contract is");
    let many: Vec<Value> = (0..5_001).map(|line| row(line, "C-9", "SN-9")).collect();
    world.admin.post("/api/v1/contract-imports", &json!({"rows": many})).refused(Kind::Invalid);
}

fn a_train_tells_when_its_support_ends_and_takes_nothing(engine: Engine) {
    let mut world = World::new(engine);
    let [first, second] = world.free_and_paid();
    world.register(CAM, "SN-1", &json!({}));
    let device = enrolled(&world, "SN-1", &first);
    world.contract("live", "2020-01-01", "2036-01-01", &["SN-1"]);
    let path = |train: &str| format!("/api/v1/products/{CAM}/trains/{train}/support-end");
    let put = |train: &str, end: Value| world.admin.put_json(&path(train), &json!({"support_end": end}));
    assert_eq!(world.why(&device, "").newest_support_end, None);
    world.server.unchanged(|| {
        put("9.9", json!("2027-01-01")).refused(Kind::NotFound);
        put("2.5", json!("2026-06-01")).refused(Kind::Invalid);
        put("2.5", json!(null)).expect(200);
    });
    let train: Train = put("2.5", json!("2026-06-02")).expect(200).json();
    assert_eq!(train.support_end.map(Time::date), Some("2026-06-02".to_owned()));
    world.server.unchanged(|| {
        put("2.5", json!("2026-06-02")).expect(200);
    });
    let why = world.why(&device, "");
    let told = (why.newest_train.map(|train| train.to_string()), why.newest_support_end);
    assert_eq!(told, (Some("2.5".to_owned()), train.support_end));
    assert_eq!(device.poll().path(), second.path(), "support has ended, and the device gets what it is entitled to");
    let page: Page<Train> = world.admin.get(&format!("/api/v1/products/{CAM}/trains?limit=1")).expect(200).json();
    assert_eq!(page.items.iter().map(|train| train.name.to_string()).collect::<Vec<_>>(), ["2.4"]);
    let next = format!("/api/v1/products/{CAM}/trains?after={}", page.next.unwrap());
    let rest: Page<Train> = world.admin.get(&next).expect(200).json();
    assert_eq!(rest.items, [train], "in the order of their names");
    let shown: ReleaseDetail = world.admin.get(&format!("/api/v1/products/{CAM}/releases/2.5.0")).expect(200).json();
    assert_eq!(shown.support_end, rest.items[0].support_end);
}
