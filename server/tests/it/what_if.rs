//! What a change of contracts would do is what it does; and a change that would take cover from many is refused.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sluice_catalog::Kind;
use sluice_catalog::wire::admin::ContractDetail;
use sluice_catalog::wire::fleet::{DeviceShift, FleetLine, ShiftSummary};
use ureq::http::Method;

use crate::harness::world::{CAM, IMAGES};
use crate::harness::{Engine, Release, TestDevice, World};

both_engines!(
    what_is_foretold_is_what_comes,
    a_change_that_takes_cover_from_many_is_refused,
    a_contract_told_whole_that_takes_cover_from_many_is_refused,
    what_people_change_by_hand_is_held_to_the_same,
    a_loss_that_comes_later_is_a_loss,
    many_small_losses_are_a_large_one,
    what_cannot_be_done_cannot_be_foretold,
);

/// 2.4.0 free for all and 2.5.0 for a code; so many devices under contract `C-1` of plan `plus`, and a plan `basic` that grants nothing
/// of it.
fn covered(engine: Engine, devices: usize) -> (World, Vec<TestDevice>) {
    let mut world = World::new(engine);
    world.release(&Release::new(CAM, "2.4.0", 20400, &IMAGES[0]));
    world.release(&Release::new(CAM, "2.5.0", 20500, &IMAGES[1]).train("2.5", "2026-06-01").requires("FW.CAM.MAJOR"));
    let serials: Vec<String> = (0..devices).map(|number| format!("SN-{number:02}")).collect();
    let now = world.server.now();
    let (from, to) = (now.plus_days(-400).to_string(), now.plus_days(300).to_string());
    world.contract("live", &from, &to, &serials.iter().map(String::as_str).collect::<Vec<_>>());
    let plan = json!({"name": "basic", "rule": "live", "grace_days": 0, "grants": [{"code": "OTHER"}]});
    world.admin.post("/api/v1/plans", &plan).expect(201);
    let devices = serials.iter().map(|serial| {
        world.register(CAM, serial, &json!({"customer": "globex"}));
        TestDevice::new(&world.server, CAM, serial)
    });
    let devices = devices.collect();
    (world, devices)
}

fn foretold(world: &World, change: &Value) -> (BTreeMap<String, DeviceShift>, ShiftSummary) {
    let answer = world.server.unchanged(|| world.admin.post("/api/v1/what-if", change)).expect(200);
    let text = answer.text();
    let mut lines: Vec<FleetLine> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let Some(FleetLine::Shifts(summary)) = lines.pop() else { panic!("no summary at the end") };
    let shifts = lines.into_iter().map(|line| match line {
        FleetLine::Shift(shift) => (shift.serial.to_string(), shift),
        other => panic!("{other:?}"),
    });
    (shifts.collect(), summary)
}

fn newest(world: &World, devices: &[TestDevice]) -> BTreeMap<String, Option<String>> {
    let ask = |device: &TestDevice| world.why(device, "").newest_entitled.map(|version| version.to_string());
    devices.iter().map(|device| (device.serial.clone(), ask(device))).collect()
}

fn what_is_foretold_is_what_comes(engine: Engine) {
    let (world, devices) = covered(engine, 3);
    let contract: ContractDetail = world.admin.get("/api/v1/contracts/C-1").expect(200).json();
    let (window, item) = (contract.windows[0].id, contract.items[1].id);
    let row = |serial: &str, plan: &str| {
        json!({"line": 2, "contract": "C-2", "customer": "globex", "plan": plan, "from": "2020-01-01", "to": "2040-01-01",
            "product": CAM, "serial": serial})
    };
    let grants = |code: &str| json!({"rule": "live", "grace_days": 0, "grants": [{"code": code}]});
    // Each change, how it is made, and which devices it touches and how.
    let mut changes: Vec<(Value, Method, String, Value, [u64; 3])> = vec![
        (
            json!({"contract": {"number": "C-1", "change": {"plan": "basic"}}}),
            Method::PATCH,
            "/api/v1/contracts/C-1".into(),
            json!({"plan": "basic"}),
            [3, 3, 0],
        ),
        (
            json!({"contract": {"number": "C-1", "change": {"plan": "plus"}}}),
            Method::PATCH,
            "/api/v1/contracts/C-1".into(),
            json!({"plan": "plus"}),
            [3, 3, 0],
        ),
        (
            json!({"item": {"number": "C-1", "id": item}}),
            Method::DELETE,
            format!("/api/v1/contracts/C-1/items/{item}"),
            Value::Null,
            [3, 1, 0],
        ),
        (
            json!({"import": {"rows": [row("SN-01", "plus")]}}),
            Method::POST,
            "/api/v1/contract-imports".into(),
            json!({"rows": [row("SN-01", "plus")]}),
            [1, 0, 1],
        ),
        (
            json!({"plan": {"name": "plus", "change": grants("OTHER")}}),
            Method::PUT,
            "/api/v1/plans/plus".into(),
            grants("OTHER"),
            [3, 3, 0],
        ),
        (
            json!({"plan": {"name": "plus", "change": grants("FW.CAM.MAJOR")}}),
            Method::PUT,
            "/api/v1/plans/plus".into(),
            grants("FW.CAM.MAJOR"),
            [3, 3, 0],
        ),
        (
            json!({"window": {"number": "C-1", "id": window}}),
            Method::DELETE,
            format!("/api/v1/contracts/C-1/windows/{window}"),
            Value::Null,
            [2, 2, 0],
        ),
    ];
    let told = |revision: u64, serials: &[&str]| {
        let items: Vec<Value> = serials.iter().map(|serial| json!({"product": CAM, "serial": serial})).collect();
        json!({"source": "crm", "revision": revision, "customer": "globex", "plan": "plus", "items": items,
            "windows": [{"from": "2020-01-01", "to": "2040-01-01"}]})
    };
    let put = |revision: u64, serials: &[&str], counts: [u64; 3]| {
        let told = told(revision, serials);
        let what_if = json!({"put": {"number": "C-3", "contract": told.clone()}});
        (what_if, Method::PUT, "/api/v1/contracts/C-3".to_owned(), told, counts)
    };
    changes.push(put(1, &["SN-00", "SN-02"], [2, 0, 2]));
    changes.push(put(2, &["SN-02"], [2, 1, 0]));
    let mut all = Vec::new();
    for (what_if, method, path, body, [touched, losses, gains]) in changes {
        world.server.advance_s(60);
        let (shifts, summary) = foretold(&world, &what_if);
        assert_eq!((summary.devices, summary.losses, summary.gains), (touched, losses, gains), "{what_if}");
        assert!(!summary.cut);
        let before = newest(&world, &devices);
        let bytes = if body.is_null() { Vec::new() } else { serde_json::to_vec(&body).unwrap() };
        let done = world.admin.send(method, &path, &[("Content-Type", "application/json")], &bytes);
        assert!(matches!(done.status, 200 | 201), "{path}: {}", done.text());
        let after = newest(&world, &devices);
        for serial in before.keys() {
            let text = |version: &Option<sluice_catalog::text::Version>| version.as_ref().map(ToString::to_string);
            let told = shifts.get(serial).map(|shift| (text(&shift.before), text(&shift.after)));
            let changed = before[serial] != after[serial];
            assert_eq!(told.as_ref().is_some_and(|(old, new)| old != new), changed, "{serial} {what_if}");
            if let Some(told) = told {
                assert_eq!(told, (before[serial].clone(), after[serial].clone()), "{serial} {what_if}");
            }
        }
        all.push(after);
        // Made already, it would do nothing more.
        if !what_if.to_string().contains("\"id\"") {
            let (shifts, summary) = foretold(&world, &what_if);
            assert_eq!((shifts.len(), summary.losses + summary.gains), (0, 0), "{what_if}");
        }
    }
    assert_eq!(all[0]["SN-00"].as_deref(), Some("2.4.0"));
    assert_eq!(all[5]["SN-00"].as_deref(), Some("2.5.0"));
}

fn a_change_that_takes_cover_from_many_is_refused(engine: Engine) {
    let (world, devices) = covered(engine, 21);
    let change = |more: Value| {
        let mut body = json!({"rule": "live", "grace_days": 0, "grants": [{"code": "OTHER"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let bytes = serde_json::to_vec(&body).unwrap();
        world.admin.send(Method::PUT, "/api/v1/plans/plus", &[("Content-Type", "application/json")], &bytes)
    };
    let import = |more: Value| {
        let row = json!({"line": 2, "contract": "C-1", "customer": "globex", "plan": "basic", "product": CAM, "serial": "SN-00"});
        let mut body = json!({"rows": [row]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.admin.post("/api/v1/contract-imports", &body)
    };
    world.server.unchanged(|| {
        for refused in [
            change(json!({})),
            change(json!({"accept_loss": 20})),
            import(json!({})),
            import(json!({"accept_loss": 20})),
        ] {
            let detail = refused.refused(Kind::Conflict).detail;
            assert!(detail.contains("21 of the 21") && detail.contains("--accept-loss 21"), "{detail}");
        }
    });
    assert!(newest(&world, &devices).values().all(|newest| newest.as_deref() == Some("2.5.0")));
    import(json!({"accept_loss": 21})).expect(200);
    assert!(newest(&world, &devices).values().all(|newest| newest.as_deref() == Some("2.4.0")));
    // What takes nothing away from anybody needs no leave: the plan has no contract any more.
    change(json!({})).expect(200);
}

fn a_contract_told_whole_that_takes_cover_from_many_is_refused(engine: Engine) {
    let (world, devices) = covered(engine, 21);
    let put = |revision: u64, serials: usize, more: Value| {
        let items: Vec<Value> =
            devices.iter().take(serials).map(|device| json!({"product": CAM, "serial": device.serial})).collect();
        let mut body = json!({"source": "crm", "revision": revision, "customer": "globex", "plan": "plus", "items": items,
            "windows": [{"from": "2020-01-01", "to": "2040-01-01"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let bytes = serde_json::to_vec(&body).unwrap();
        world.admin.send(Method::PUT, "/api/v1/contracts/C-1", &[("Content-Type", "application/json")], &bytes)
    };
    put(1, 21, json!({})).expect(200);
    world.server.unchanged(|| {
        for refused in
            [put(2, 0, json!({})), put(2, 1, json!({"accept_loss": 19})), put(2, 21, json!({"state": "void"}))]
        {
            let detail = refused.refused(Kind::Conflict).detail;
            assert!(detail.contains("of the 21") && detail.contains("accept_loss"), "{detail}");
        }
    });
    assert!(newest(&world, &devices).values().all(|newest| newest.as_deref() == Some("2.5.0")));
    // A few are everyday business; leave is no part of what a revision says, so the same again is no other revision.
    put(2, 18, json!({})).expect(200);
    put(3, 0, json!({"accept_loss": 18})).expect(200);
    put(3, 0, json!({})).expect(200);
    assert!(newest(&world, &devices).values().all(|newest| newest.as_deref() == Some("2.4.0")));
}

fn what_cannot_be_done_cannot_be_foretold(engine: Engine) {
    let (world, _) = covered(engine, 1);
    let ask = |body: Value| world.admin.post("/api/v1/what-if", &body);
    world.server.unchanged(|| {
        ask(json!({"contract": {"number": "C-9", "change": {"state": "void"}}})).refused(Kind::NotFound);
        ask(json!({"plan": {"name": "plus", "change": {"rule": "live", "grace_days": 999, "grants": []}}}))
            .refused(Kind::Invalid);
        let row = json!({"line": 7, "contract": "C-1", "customer": "nobody", "plan": "plus"});
        let detail = ask(json!({"import": {"rows": [row]}})).refused(Kind::Invalid).detail;
        assert!(detail.contains("line 7, customer"), "{detail}");
        ask(json!({"something": {}})).refused(Kind::Malformed);
    });
}

fn send(world: &World, method: Method, path: &str, body: &Value) -> crate::harness::Answer {
    let bytes = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
    world.admin.send(method, path, &[("Content-Type", "application/json")], &bytes)
}

fn what_people_change_by_hand_is_held_to_the_same(engine: Engine) {
    let (world, _) = covered(engine, 21);
    for number in 0..21 {
        world.register(CAM, &format!("P-{number:02}"), &json!({"customer": "globex", "site": "hall"}));
    }
    let pool = |quantity: u32, more: Value| {
        let mut body = json!({"pools": [{"family": "cameras", "site": "hall", "quantity": quantity}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.admin.post("/api/v1/contracts/C-1/facts", &body)
    };
    pool(21, json!({})).expect(200);
    let contract: ContractDetail = world.admin.get("/api/v1/contracts/C-1").expect(200).json();
    let window = format!("/api/v1/contracts/C-1/windows/{}", contract.windows[0].id);
    world.server.unchanged(|| {
        for refused in [
            pool(0, json!({})),
            pool(0, json!({"accept_loss": 20})),
            send(&world, Method::PATCH, "/api/v1/contracts/C-1", &json!({"state": "void"})),
            send(&world, Method::PATCH, "/api/v1/contracts/C-1", &json!({"plan": "basic", "accept_loss": 41})),
            send(&world, Method::DELETE, &window, &Value::Null),
            send(&world, Method::DELETE, &format!("{window}?accept_loss=41"), &Value::Null),
        ] {
            let detail = refused.refused(Kind::Conflict).detail;
            assert!(detail.contains("accept_loss"), "{detail}");
        }
    });
    pool(0, json!({"accept_loss": 21})).expect(200);
    send(&world, Method::DELETE, &format!("{window}?accept_loss=21"), &Value::Null).expect(200);
}

fn a_loss_that_comes_later_is_a_loss(engine: Engine) {
    let (world, devices) = covered(engine, 21);
    let items: Vec<Value> = devices.iter().map(|device| json!({"product": CAM, "serial": device.serial})).collect();
    let now = world.server.now();
    let put = |revision: u64, days: i64, more: Value| {
        let mut body = json!({"source": "crm", "revision": revision, "customer": "globex", "plan": "plus", "items": items,
            "windows": [{"from": now.plus_days(-400), "to": now.plus_days(days)}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        send(&world, Method::PUT, "/api/v1/contracts/C-1", &body)
    };
    put(1, 300, json!({})).expect(200);
    send(&world, Method::PUT, "/api/v1/contract-sources/crm", &json!({"stale_after_hours": 48})).expect(200);
    world.server.unchanged(|| {
        let detail = put(2, 30, json!({})).refused(Kind::Conflict).detail;
        assert!(detail.contains("21 of the 21") && detail.contains("within 60 days"), "{detail}");
    });
    let what_if = json!({"put": {"number": "C-1", "contract": {"source": "crm", "revision": 2, "customer": "globex", "plan": "plus",
        "items": items, "windows": [{"from": now.plus_days(-400), "to": now.plus_days(30)}]}}});
    let (_, summary) = foretold(&world, &what_if);
    assert_eq!((summary.losses, summary.losses_ahead), (0, 21));
    put(2, 200, json!({})).expect(200);
    put(3, 30, json!({"accept_loss": 21})).expect(200);
}

fn many_small_losses_are_a_large_one(engine: Engine) {
    let (world, devices) = covered(engine, 30);
    let put = |number: usize, revision: u64, state: &str, more: Value| {
        let mut body = json!({"source": "crm", "revision": revision, "customer": "globex", "plan": "plus", "state": state,
            "items": [{"product": CAM, "serial": devices[number].serial}], "windows": [{"from": "2020-01-01", "to": "2040-01-01"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        send(&world, Method::PUT, &format!("/api/v1/contracts/D-{number}"), &body)
    };
    for number in 0..30 {
        put(number, 1, "active", json!({})).expect(201);
    }
    // The devices are covered by these contracts alone.
    send(&world, Method::PATCH, "/api/v1/contracts/C-1", &json!({"state": "void"})).expect(200);
    for number in 0..19 {
        put(number, 2, "void", json!({})).expect(200);
    }
    world.server.unchanged(|| {
        let detail = put(19, 2, "void", json!({})).refused(Kind::Conflict).detail;
        assert!(detail.contains("source crm") && detail.contains("from 20 devices today"), "{detail}");
    });
    put(19, 2, "void", json!({"accept_loss": 1})).expect(200);
    put(20, 2, "void", json!({})).refused(Kind::Conflict);
    world.server.advance_s(24 * 3600);
    put(20, 2, "void", json!({})).expect(200);
}
