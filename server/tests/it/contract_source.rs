//! Systems that keep contracts, and what becomes of cover while one of them is silent.

use serde_json::{Value, json};
use sluice_catalog::decide::Evidence;
use sluice_catalog::source::ContractSource;
use sluice_catalog::{Kind, Time};
use ureq::http::Method;

use crate::harness::world::{CAM, IMAGES};
use crate::harness::{Answer, Engine, Release, TestDevice, World};

both_engines!(
    a_window_counts_on_while_its_source_is_silent,
    what_a_source_that_is_back_has_not_told_yet_counts_on,
    words_are_noted_without_noise_and_settings_are_kept,
    an_import_is_heard_of_and_keeps_what_nobody_keeps,
);

const DAY_S: i64 = 24 * 3600;

fn send(world: &World, method: Method, path: &str, body: &Value) -> Answer {
    world.admin.send(method, path, &[("Content-Type", "application/json")], &serde_json::to_vec(body).unwrap())
}

fn touch(world: &World) -> ContractSource {
    world.admin.post("/api/v1/contract-sources/crm", &json!({})).expect(200).json()
}

fn set(world: &World, hours: Option<u32>) -> ContractSource {
    send(world, Method::PUT, "/api/v1/contract-sources/crm", &json!({"stale_after_hours": hours})).expect(200).json()
}

/// One device that runs 2.4.0, under a contract of source `crm` that covers it live for ten days from now on.
fn covered(engine: Engine) -> (World, TestDevice, Release, Time) {
    let mut world = World::new(engine);
    let first = Release::new(CAM, "2.4.0", 20400, &IMAGES[0]);
    let second = Release::new(CAM, "2.5.0", 20500, &IMAGES[1]).requires("FW.CAM.MAJOR");
    world.release(&first);
    world.release(&second);
    world.roll_out("major", &second, &[100]);
    world.admin.post("/api/v1/customers", &json!({"name": "globex"})).expect(201);
    let plan = json!({"name": "plus", "rule": "live", "grace_days": 0, "grants": [{"code": "FW.CAM.MAJOR"}]});
    world.admin.post("/api/v1/plans", &plan).expect(201);
    let now = world.server.now();
    let end = now.plus_days(10);
    let told = json!({"source": "crm", "revision": 1, "customer": "globex", "plan": "plus",
        "windows": [{"from": now.plus_days(-10), "to": end}], "items": [{"product": CAM, "serial": "SN-1"}]});
    send(&world, Method::PUT, "/api/v1/contracts/C-1", &told).expect(201);
    let mut device = world.device(CAM, "SN-1");
    device.run(&first);
    (world, device, second, end)
}

fn reason(world: &World, device: &TestDevice, query: &str) -> String {
    world.why(device, &format!("?version=2.5.0{query}")).reason.code().to_owned()
}

/// Days pass, and the session with them.
fn days(world: &World, device: &mut TestDevice, days: i64) {
    world.server.advance_s(days * DAY_S);
    device.open_session();
}

fn a_window_counts_on_while_its_source_is_silent(engine: Engine) {
    let (world, mut device, second, end) = covered(engine);
    set(&world, Some(48));
    let soon = world.server.now().plus_s(60);
    let why = world.why(&device, &format!("?version=2.5.0&at={soon}"));
    assert_eq!(why.changes_at, Some(end), "a silence that has not come yet is not foretold");
    assert_eq!(reason(&world, &device, &format!("&at={}", end.plus_s(60))), "NOT_LIVE");

    days(&world, &mut device, 11);
    assert_eq!(device.poll().path(), second.path(), "the renewal may stand where nobody is heard of");
    let why = world.why(&device, "?version=2.5.0");
    let told = why.steps.iter().find(|step| step.reason.code() == "COVER_SOURCE_STALE").unwrap();
    let Evidence::Cover { stale: Some(stale), .. } = &told.evidence else { panic!("{told:?}") };
    assert!((11 * DAY_S..11 * DAY_S + 3600).contains(&stale.age_s), "{stale:?}");
    assert!(told.detail.contains("source crm was last heard of 11 days ago"), "{}", told.detail);
    let metrics = world.server.client().get("/metrics").expect(200).text();
    let age = metrics.lines().find(|line| line.starts_with("sluice_contract_source_age_seconds{source=\"crm\"}"));
    assert!(age.is_some_and(|age| age.split(' ').nth(1).unwrap().parse::<i64>().unwrap() >= 11 * DAY_S), "{metrics}");
    let silent = world.server.now();

    world.server.advance_s(60);
    let back = touch(&world);
    assert!(!back.stale && back.age_s == 0, "{back:?}");
    device.poll().is_nothing("NOT_LIVE");
    assert_eq!(reason(&world, &device, &format!("&known_at={silent}")), "OFFERED", "by what was known then");
    let before = world.server.now();
    assert_eq!(reason(&world, &device, &format!("&known_at={before}")), "NOT_LIVE");

    // Its window had ended when it was last heard of: silence does not open it again.
    days(&world, &mut device, 5);
    device.poll().is_nothing("NOT_LIVE");
}

fn words_are_noted_without_noise_and_settings_are_kept(engine: Engine) {
    let (world, ..) = covered(engine);
    let off = touch(&world);
    assert_eq!((off.stale_after_hours, off.stale), (None, false), "off until it is set");
    assert_eq!(set(&world, Some(1)).stale_after_hours, Some(1));
    world.server.advance_s(1800);
    let entries = || world.list::<Value>("/api/v1/audit?limit=500").len();
    let before = entries();
    touch(&world);
    set(&world, Some(1));
    assert_eq!(entries(), before, "a word, and what is set already, is no noise");
    world.server.advance_s(3600);
    let shown: Vec<ContractSource> = world.list("/api/v1/contract-sources");
    assert_eq!((shown.len(), shown[0].name.as_str(), shown[0].stale), (1, "crm", true));
    touch(&world);
    assert_eq!(entries(), before + 1, "that it is back is told");
    assert_eq!(set(&world, None).stale_after_hours, None);
    world.server.unchanged(|| {
        world.admin.post("/api/v1/contract-sources/cmr", &json!({})).refused(Kind::NotFound);
        for hours in [0, 8_785] {
            let body = json!({"stale_after_hours": hours});
            let answer = send(&world, Method::PUT, "/api/v1/contract-sources/crm", &body).refused(Kind::Invalid);
            assert!(answer.detail.contains("stale_after_hours"), "{}", answer.detail);
        }
    });
}

fn an_import_is_heard_of_and_keeps_what_nobody_keeps(engine: Engine) {
    let (world, ..) = covered(engine);
    let row = |line: u64, contract: &str| json!({"line": line, "contract": contract, "customer": "globex", "plan": "plus", "product": CAM, "serial": "SN-2"});
    let rows = json!({"rows": [row(1, "C-1"), row(2, "C-2")], "source": "erp"});
    world.admin.post("/api/v1/contract-imports", &rows).expect(200);
    let kept = |number: &str| {
        let shown: Value = world.admin.get(&format!("/api/v1/contracts/{number}")).expect(200).json();
        shown["kept"]["source"].clone()
    };
    assert_eq!((kept("C-1"), kept("C-2")), (json!("crm"), json!("erp")));
    world.server.advance_s(60);
    world.admin.post("/api/v1/contract-imports", &rows).expect(200);
    let shown: Vec<ContractSource> = world.list("/api/v1/contract-sources");
    let erp = shown.iter().find(|source| source.name.as_str() == "erp").unwrap();
    assert_eq!(erp.age_s, 0, "the same file again says that it lives");
    let mut dry = rows.clone();
    dry["dry_run"] = true.into();
    dry["source"] = "nobody".into();
    world.server.unchanged(|| {
        world.admin.post("/api/v1/contract-imports", &dry).expect(200);
    });
}

fn what_a_source_that_is_back_has_not_told_yet_counts_on(engine: Engine) {
    let (world, mut device, second, _) = covered(engine);
    let put = |number: &str, serial: &str, revision: u64, from: Time, to: Time| {
        let told = json!({"source": "crm", "revision": revision, "customer": "globex", "plan": "plus",
            "windows": [{"from": from, "to": to}], "items": [{"product": CAM, "serial": serial}]});
        let answer = send(&world, Method::PUT, &format!("/api/v1/contracts/{number}"), &told);
        assert!([200, 201].contains(&answer.status), "{}", answer.text());
    };
    let start = world.server.now();
    let contract: sluice_catalog::wire::admin::ContractDetail =
        world.admin.get("/api/v1/contracts/C-1").expect(200).json();
    let window = &contract.windows[0];
    put("C-2", "SN-2", 1, start.plus_days(-10), start.plus_days(10));
    let more = world.device(CAM, "SN-2");
    set(&world, Some(48));
    world.server.block_on(async { world.server.app.notices_tick().await.unwrap() });

    days(&world, &mut device, 11);
    world.server.block_on(async { world.server.app.notices_tick().await.unwrap() });
    let told: Vec<Value> = world.list("/api/v1/events?kind=cover_ended");
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|event| event.to_string().contains("counts_until\":\"")), "{told:?}");

    // Its first word is about another contract.
    put("C-2", "SN-2", 2, start.plus_days(-10), start.plus_days(300));
    assert_eq!(device.poll().path(), second.path());
    assert_eq!(reason(&world, &device, ""), "OFFERED");
    assert!(!world.list::<ContractSource>("/api/v1/contract-sources")[0].stale);
    let between = world.server.now();
    // It falls silent again before it comes to this one.
    days(&world, &mut device, 5);
    put("C-2", "SN-2", 3, start.plus_days(-10), start.plus_days(301));
    assert_eq!(device.poll().path(), second.path());
    world.server.advance_s(3600);
    put("C-1", "SN-1", 1, window.from_at, window.to_at);
    device.poll().is_nothing("NOT_LIVE");
    assert_eq!(reason(&world, &device, &format!("&known_at={between}")), "OFFERED", "by what was known then");
    assert_eq!(reason(&world, &more, ""), "OFFERED");

    // What is not told by a source that is heard of for as long as it may be silent has not changed.
    put("C-2", "SN-2", 4, start.plus_days(-10), start.plus_days(20));
    days(&world, &mut device, 6);
    let words: [i64; 3] = [0, 25, 24];
    for (index, hours) in words.into_iter().enumerate() {
        world.server.advance_s(hours * 3600);
        let expected = if index < 2 { "OFFERED" } else { "NOT_LIVE" };
        put("C-1", "SN-1", 2 + index as u64, window.from_at, window.to_at);
        assert_eq!(reason(&world, &more, ""), expected, "{index}");
    }
}
