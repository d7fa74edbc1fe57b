//! Pools beside everything else that moves: contracts that change, name a serial, lapse and are renewed, swaps and their undoing.

use serde_json::json;
use sluice_catalog::Time;
use sluice_catalog::wire::admin::ContractDetail;
use ureq::http::Method;

use crate::harness::world::CAM;
use crate::harness::{Engine, Release, TestDevice, World};

both_engines!(
    who_is_named_by_the_contract_leaves_its_place_to_another,
    a_contract_that_counts_no_more_keeps_nobody_from_another,
    a_renewal_under_another_number_takes_over_before_the_first_ends,
    two_swaps_are_undone_one_after_the_other,
    a_swap_is_undone_though_its_place_is_gone,
    a_pool_that_ends_leaves_no_place_to_a_swapped_device,
    the_place_of_a_device_that_replaces_one_elsewhere_is_free,
    states_that_change_at_one_site_at_once_wait_for_each_other,
    a_device_that_moves_leaves_its_place_and_waits_behind_the_others_where_it_comes,
);

/// Devices stand at sites of `globex` and run 2.4.0; 2.5.0 requires a code of plan `plus`.
fn world(engine: Engine) -> (World, Release) {
    let mut world = World::new(engine);
    let [first, _] = world.free_and_paid();
    world.contract("live", "2020-01-01", "2036-01-01", &[]);
    (world, first)
}

fn pool(world: &World, contract: &str, places: u32) {
    let pools = json!({"pools": [{"family": "cameras", "site": "hall", "quantity": places}]});
    world.admin.post(&format!("/api/v1/contracts/{contract}/facts"), &pools).expect(200);
}

fn contract(world: &World, number: &str, from: Time, to: Time) {
    let body = json!({"number": number, "customer": "globex", "plan": "plus", "windows": [{"from": from, "to": to}]});
    world.admin.post("/api/v1/contracts", &body).expect(201);
}

fn stand(world: &World, serials: &[&str]) {
    for serial in serials {
        world.register(CAM, serial, &json!({"customer": "globex", "site": "hall"}));
        world.server.advance_s(1);
    }
}

fn detail(world: &World, number: &str) -> ContractDetail {
    world.admin.get(&format!("/api/v1/contracts/{number}")).expect(200).json()
}

/// Who has a place for good.
fn placed(world: &World, number: &str) -> Vec<String> {
    let items = detail(world, number).items;
    let places = items.iter().filter(|item| item.pool_id.is_some() && item.to_at == Time::FOREVER);
    places.map(|item| item.serial.to_string()).collect()
}

fn patch(world: &World, number: &str, change: &serde_json::Value) {
    let body = serde_json::to_vec(change).unwrap();
    let path = format!("/api/v1/contracts/{number}");
    world.admin.send(Method::PATCH, &path, &[("Content-Type", "application/json")], &body).expect(200);
}

fn swap(world: &World, rma: &str, old: &str, new: &str) {
    let body = json!({"rma": rma, "product": CAM, "old": old, "new": new});
    world.admin.post("/api/v1/swaps", &body).expect(201);
}

fn undo(world: &World, rma: &str) {
    world.admin.post(&format!("/api/v1/swaps/{rma}/undo"), &json!({})).expect(200);
}

fn who_is_named_by_the_contract_leaves_its_place_to_another(engine: Engine) {
    let (world, _) = world(engine);
    pool(&world, "C-1", 1);
    stand(&world, &["SN-1", "SN-2", "SN-3"]);
    assert_eq!(placed(&world, "C-1"), ["SN-1"]);
    let items = json!({"items": [{"product": CAM, "serial": "SN-1"}]});
    world.admin.post("/api/v1/contracts/C-1/facts", &items).expect(200);
    assert_eq!(placed(&world, "C-1"), ["SN-2"], "a place beside an item would cover nobody");
    let row =
        json!({"line": 1, "contract": "C-1", "customer": "globex", "plan": "plus", "product": CAM, "serial": "SN-2"});
    world.admin.post("/api/v1/contract-imports", &json!({"rows": [row]})).expect(200);
    assert_eq!(placed(&world, "C-1"), ["SN-3"]);
    let told = json!({"source": "crm", "revision": 1, "customer": "globex", "plan": "plus",
        "windows": [{"from": "2020-01-01", "to": "2036-01-01"}], "items": [{"product": CAM, "serial": "SN-3"}],
        "pools": [{"family": "cameras", "site": "hall", "quantity": 1}]});
    let bytes = serde_json::to_vec(&told).unwrap();
    world.admin.send(Method::PUT, "/api/v1/contracts/C-1", &[("Content-Type", "application/json")], &bytes).expect(200);
    assert_eq!(placed(&world, "C-1"), ["SN-1"], "the two others are named no more");
    world
        .admin
        .post("/api/v1/contracts/C-1/facts", &json!({"items": [{"product": CAM, "serial": "SN-1"}]}))
        .expect(200);
    assert_eq!(placed(&world, "C-1"), ["SN-2"]);
    pool(&world, "C-1", 2);
    let item = detail(&world, "C-1").items.iter().find(|item| item.serial.as_str() == "SN-3").unwrap().id;
    let path = format!("/api/v1/contracts/C-1/items/{item}");
    world.admin.send(Method::DELETE, &path, &[], &[]).expect(200);
    assert_eq!(placed(&world, "C-1"), ["SN-2", "SN-3"], "whose item was taken back comes in");
}

fn a_contract_that_counts_no_more_keeps_nobody_from_another(engine: Engine) {
    let (world, _) = world(engine);
    let now = world.server.now();
    contract(&world, "C-2", now.plus_days(-10), now.plus_days(300));
    pool(&world, "C-1", 1);
    stand(&world, &["SN-1"]);
    pool(&world, "C-2", 1);
    assert_eq!((placed(&world, "C-1"), placed(&world, "C-2")), (vec!["SN-1".into()], vec![]));
    patch(&world, "C-1", &json!({"state": "void"}));
    assert_eq!(placed(&world, "C-2"), ["SN-1"]);
    patch(&world, "C-1", &json!({"state": "active"}));
    assert_eq!(placed(&world, "C-2"), ["SN-1"], "who has a place keeps it");

    // Under another plan it is another cover.
    let plan = json!({"name": "basic", "rule": "live", "grace_days": 0, "grants": [{"code": "OTHER"}]});
    world.admin.post("/api/v1/plans", &plan).expect(201);
    contract(&world, "C-3", now.plus_days(-10), now.plus_days(300));
    pool(&world, "C-3", 1);
    assert_eq!(placed(&world, "C-3"), [""; 0]);
    patch(&world, "C-3", &json!({"plan": "basic"}));
    assert_eq!(placed(&world, "C-3"), ["SN-1"]);
}

fn a_renewal_under_another_number_takes_over_before_the_first_ends(engine: Engine) {
    let mut world = World::new(engine);
    let [first, second] = world.free_and_paid();
    world.contract_for_30_days("live", &[]);
    pool(&world, "C-1", 2);
    let end = detail(&world, "C-1").windows[0].to_at;
    stand(&world, &["SN-1"]);
    let mut device = TestDevice::new(&world.server, CAM, "SN-1");
    device.enrol(None).expect(200);
    device.open_session();
    device.run(&first);
    contract(&world, "C-2", end, end.plus_days(365));
    pool(&world, "C-2", 1);
    stand(&world, &["SN-2"]);
    assert_eq!(placed(&world, "C-1"), ["SN-1", "SN-2"]);
    for _ in 0..31 {
        world.server.advance_s(24 * 3600);
        world.server.block_on(async { world.server.app.notices_tick().await.unwrap() });
        device.open_session();
        assert_eq!(device.poll().path(), second.path(), "covered without a gap");
    }
    assert_eq!(placed(&world, "C-2"), ["SN-1"], "one place, for who stands there longest");
}

fn two_swaps_are_undone_one_after_the_other(engine: Engine) {
    let (world, _) = world(engine);
    let items = json!({"items": [{"product": CAM, "serial": "SN-1"}]});
    world.admin.post("/api/v1/contracts/C-1/facts", &items).expect(200);
    stand(&world, &["SN-1"]);
    let spans = || {
        let items = detail(&world, "C-1").items;
        items.iter().map(|item| (item.serial.to_string(), item.from_at, item.to_at)).collect::<Vec<_>>()
    };
    let before = spans();
    swap(&world, "RMA-1", "SN-1", "SN-5");
    let between = spans();
    world.server.advance_s(60);
    swap(&world, "RMA-2", "SN-5", "SN-6");
    world.server.advance_s(60);
    undo(&world, "RMA-2");
    assert_eq!(spans(), between);
    world.server.advance_s(60);
    undo(&world, "RMA-1");
    assert_eq!(spans(), before);
}

fn a_swap_is_undone_though_its_place_is_gone(engine: Engine) {
    let (world, _) = world(engine);
    pool(&world, "C-1", 1);
    stand(&world, &["SN-1", "SN-2"]);
    swap(&world, "RMA-1", "SN-1", "SN-5");
    pool(&world, "C-1", 0);
    assert_eq!(placed(&world, "C-1"), [""; 0]);
    undo(&world, "RMA-1");
    assert_eq!(placed(&world, "C-1"), [""; 0]);
    pool(&world, "C-1", 1);
    assert_eq!(placed(&world, "C-1"), ["SN-1"], "it stands there longest again");
    // And when somebody else has it.
    swap(&world, "RMA-2", "SN-1", "SN-6");
    let state = json!({"state": "retired"});
    world.admin.post(&format!("/api/v1/products/{CAM}/devices/SN-6/state"), &state).expect(200);
    assert_eq!(placed(&world, "C-1"), ["SN-2"]);
    undo(&world, "RMA-2");
    assert_eq!(placed(&world, "C-1"), ["SN-2"], "who has a place keeps it");
}

fn a_pool_that_ends_leaves_no_place_to_a_swapped_device(engine: Engine) {
    let (world, _) = world(engine);
    pool(&world, "C-1", 1);
    stand(&world, &["SN-1"]);
    swap(&world, "RMA-1", "SN-1", "SN-5");
    assert_eq!(detail(&world, "C-1").items.len(), 2, "both work for a while");
    pool(&world, "C-1", 0);
    assert_eq!(detail(&world, "C-1").items, []);
}

fn the_place_of_a_device_that_replaces_one_elsewhere_is_free(engine: Engine) {
    let (world, _) = world(engine);
    world.register(CAM, "SN-9", &json!({"customer": "globex", "site": "attic"}));
    pool(&world, "C-1", 1);
    stand(&world, &["SN-1", "SN-2"]);
    assert_eq!(placed(&world, "C-1"), ["SN-1"]);
    swap(&world, "RMA-1", "SN-9", "SN-1");
    assert_eq!(placed(&world, "C-1"), ["SN-2"]);
    undo(&world, "RMA-1");
    assert_eq!(placed(&world, "C-1"), ["SN-2"], "who has a place keeps it");
}

fn states_that_change_at_one_site_at_once_wait_for_each_other(engine: Engine) {
    let (world, _) = world(engine);
    pool(&world, "C-1", 2);
    let serials: Vec<String> = (0..6).map(|number| format!("SN-{number}")).collect();
    stand(&world, &serials.iter().map(String::as_str).collect::<Vec<_>>());
    let world = &world;
    std::thread::scope(|scope| {
        for serial in &serials {
            scope.spawn(move || {
                for round in 0..10 {
                    let state = if round % 2 == 0 { "blocked" } else { "active" };
                    let state = if serial.ends_with(['0', '1', '2']) && state == "blocked" { "retired" } else { state };
                    let path = format!("/api/v1/products/{CAM}/devices/{serial}/state");
                    world.admin.post(&path, &json!({"state": state})).expect(200);
                }
            });
        }
        scope.spawn(move || {
            for round in 0..10 {
                patch(world, "C-1", &json!({"state": if round % 2 == 0 { "void" } else { "active" }}));
            }
        });
        scope.spawn(move || {
            for round in 0..10 {
                let row = json!({"line": 1, "contract": format!("C-{}", 10 + round), "customer": "globex", "plan": "plus",
                    "product": CAM, "serial": format!("SN-{}", round % 6), "from": "2020-01-01", "to": "2036-01-01", "family": "cameras", "site": "hall", "quantity": "1"});
                world.admin.post("/api/v1/contract-imports", &json!({"rows": [row]})).expect(200);
            }
        });
        scope.spawn(move || {
            for _ in 0..10 {
                let hold = json!({"customer": "globex", "scope": "site", "target": "hall", "kind": "hold", "security": false,
                    "reason": "the fair"});
                let answer = world.admin.post("/api/v1/policies", &hold);
                assert!([200, 201].contains(&answer.status), "{}", answer.text());
            }
        });
    });
    assert!(placed(world, "C-1").len() <= 2);
}

fn a_device_that_moves_leaves_its_place_and_waits_behind_the_others_where_it_comes(engine: Engine) {
    let (world, _) = world(engine);
    pool(&world, "C-1", 1);
    stand(&world, &["SN-1", "SN-2"]);
    let to = |serial: &str, site: &str| {
        let path = format!("/api/v1/products/{CAM}/devices/{serial}");
        let body = serde_json::to_vec(&json!({"site": site})).unwrap();
        world.admin.send(Method::PATCH, &path, &[("Content-Type", "application/json")], &body).expect(200);
        world.server.advance_s(1);
    };
    assert_eq!(placed(&world, "C-1"), ["SN-1"]);
    to("SN-1", "attic");
    assert_eq!(placed(&world, "C-1"), ["SN-2"]);
    stand(&world, &["SN-3"]);
    to("SN-1", "hall");
    assert_eq!(placed(&world, "C-1"), ["SN-2"], "who has the place keeps it");
    to("SN-2", "attic");
    assert_eq!(placed(&world, "C-1"), ["SN-3"], "who stood there before comes first");
}
