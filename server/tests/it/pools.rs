//! Pools of places: who gets one, who waits, and what is said of it.

use serde_json::{Value, json};
use sluice_catalog::Kind;
use sluice_catalog::decide::{Evidence, Remedy};
use sluice_catalog::wire::admin::ContractDetail;
use ureq::http::Method;

use crate::harness::world::{CAM, IMAGES};
use crate::harness::{Answer, Engine, Release, TestDevice, World};

both_engines!(
    places_are_kept_and_a_free_one_goes_to_the_longest_waiting,
    a_swap_hands_its_place_on_and_undo_takes_it_back,
    a_pool_is_told_whole_in_rows_and_wrongly,
    one_place_under_a_plan_and_none_beside_an_item,
    devices_that_come_at_once_share_no_place_and_leave_none_empty,
);

/// 2.5.0 requires a code of plan `plus`; contract C-1 covers `places` cameras at the hall.
fn world(engine: Engine, places: u32) -> (World, [Release; 2]) {
    let mut world = World::new(engine);
    let first = Release::new(CAM, "2.4.0", 20400, &IMAGES[0]);
    let second = Release::new(CAM, "2.5.0", 20500, &IMAGES[1]).requires("FW.CAM.MAJOR");
    world.release(&first);
    world.release(&second);
    world.roll_out("major", &second, &[100]);
    world.contract("live", "2020-01-01", "2036-01-01", &[]);
    pool(&world, places).expect(200);
    (world, [first, second])
}

fn pool(world: &World, places: u32) -> Answer {
    let pools = json!([{"family": "cameras", "site": "hall", "quantity": places}]);
    world.admin.post("/api/v1/contracts/C-1/facts", &json!({"pools": pools}))
}

fn camera(world: &World, release: &Release, serial: &str, site: &str) -> TestDevice {
    world.register(CAM, serial, &json!({"customer": "globex", "site": site}));
    let mut device = TestDevice::new(&world.server, CAM, serial);
    device.enrol(None).expect(200);
    device.open_session();
    device.run(release);
    device
}

/// Who has a place, and how many places of how many are taken.
fn places(world: &World) -> (Vec<String>, u32, u32) {
    let shown: ContractDetail = world.admin.get("/api/v1/contracts/C-1").expect(200).json();
    let serials =
        shown.items.iter().filter(|item| item.pool_id.is_some() && item.to_at == sluice_catalog::Time::FOREVER);
    let (used, quantity) = shown.pools.first().map_or((0, 0), |pool| (pool.used, pool.quantity));
    (serials.map(|item| item.serial.to_string()).collect(), used, quantity)
}

fn retire(world: &World, serial: &str) {
    world
        .admin
        .post(&format!("/api/v1/products/{CAM}/devices/{serial}/state"), &json!({"state": "retired"}))
        .expect(200);
}

fn places_are_kept_and_a_free_one_goes_to_the_longest_waiting(engine: Engine) {
    let (world, [first, second]) = world(engine, 2);
    let devices: Vec<TestDevice> =
        ["SN-1", "SN-2", "SN-3", "SN-4"].iter().map(|serial| camera(&world, &first, serial, "hall")).collect();
    let attic = camera(&world, &first, "SN-9", "attic");
    assert_eq!(places(&world), (vec!["SN-1".into(), "SN-2".into()], 2, 2));
    assert_eq!(devices[0].poll().path(), second.path());
    devices[2].poll().is_nothing("NO_CONTRACT");
    attic.poll().is_nothing("NO_CONTRACT");
    let before = world.server.now();

    let why = world.why(&devices[0], "?version=2.5.0");
    let placed = why.steps.iter().find_map(|step| match &step.evidence {
        Evidence::Cover { pool: Some(place), .. } => Some((place.site.to_string(), step.detail.clone())),
        _ => None,
    });
    let (site, detail) = placed.unwrap();
    assert!(site == "hall" && detail.contains("a place in the pool of cameras at hall"), "{detail}");
    let why = world.why(&devices[2], "?version=2.5.0");
    let full =
        |remedy: &&Remedy| matches!(remedy, Remedy::Pool { contract, quantity: 2, .. } if contract.as_str() == "C-1");
    assert_eq!(why.remedies.iter().filter(full).count(), 1, "{:?}", why.remedies);
    assert!(why.advice.iter().any(|advice| advice.contains("2 places are taken")), "{:?}", why.advice);
    assert!(!world.why(&attic, "?version=2.5.0").remedies.iter().any(|remedy| full(&remedy)), "another site");

    world.server.advance_s(60);
    retire(&world, "SN-1");
    assert_eq!(places(&world), (vec!["SN-2".into(), "SN-3".into()], 2, 2));
    assert_eq!(devices[2].poll().path(), second.path(), "the next poll knows");
    let then = world.why(&devices[2], &format!("?version=2.5.0&known_at={before}"));
    assert_eq!(then.reason.code(), "NO_CONTRACT", "by what was known then");
    // Back in service it stands behind whoever has a place.
    let active = json!({"state": "active"});
    world.admin.post(&format!("/api/v1/products/{CAM}/devices/SN-1/state"), &active).expect(200);
    assert_eq!(places(&world).0, ["SN-2", "SN-3"]);

    pool(&world, 1).expect(200);
    assert_eq!(places(&world), (vec!["SN-2".into()], 1, 1), "the last to come is the first to go");
    devices[2].poll().is_nothing("NO_CONTRACT");
    world.server.unchanged(|| pool(&world, 1).expect(200));
    pool(&world, 9).expect(200);
    assert_eq!(places(&world).1, 4);
    pool(&world, 0).expect(200);
    assert_eq!(places(&world), (vec![], 0, 0));
}

fn a_swap_hands_its_place_on_and_undo_takes_it_back(engine: Engine) {
    let (world, [first, _]) = world(engine, 1);
    camera(&world, &first, "SN-1", "hall");
    camera(&world, &first, "SN-2", "hall");
    let swap = json!({"rma": "RMA-1", "product": CAM, "old": "SN-1", "new": "SN-5"});
    world.admin.post("/api/v1/swaps", &swap).expect(201);
    assert_eq!(places(&world), (vec!["SN-5".into()], 1, 1));
    world.admin.post("/api/v1/swaps/RMA-1/undo", &json!({})).expect(200);
    assert_eq!(places(&world), (vec!["SN-1".into()], 1, 1));
    // One that has a place of its own can replace another: its place is free then.
    pool(&world, 2).expect(200);
    camera(&world, &first, "SN-3", "hall");
    assert_eq!(places(&world).0, ["SN-1", "SN-2"]);
    let swap = json!({"rma": "RMA-2", "product": CAM, "old": "SN-1", "new": "SN-2"});
    world.admin.post("/api/v1/swaps", &swap).expect(201);
    assert_eq!(places(&world), (vec!["SN-2".into(), "SN-3".into()], 2, 2));
}

fn a_pool_is_told_whole_in_rows_and_wrongly(engine: Engine) {
    let (world, [first, _]) = world(engine, 1);
    camera(&world, &first, "SN-1", "hall");
    let put = |revision: u64, pools: Value| {
        let body = json!({"source": "crm", "revision": revision, "customer": "globex", "plan": "plus",
            "windows": [{"from": "2020-01-01", "to": "2036-01-01"}], "pools": pools});
        let bytes = serde_json::to_vec(&body).unwrap();
        world.admin.send(Method::PUT, "/api/v1/contracts/C-1", &[("Content-Type", "application/json")], &bytes)
    };
    let hall = |quantity: u32| json!({"family": "cameras", "site": "hall", "quantity": quantity});
    put(1, json!([hall(3)])).expect(200);
    assert_eq!(places(&world), (vec!["SN-1".into()], 1, 3), "who has a place keeps it: nothing else is named");
    world.server.unchanged(|| {
        let refused = put(2, json!([hall(1), hall(2)])).refused(Kind::Invalid);
        assert!(refused.detail.contains("pools[1].quantity"), "{}", refused.detail);
        let refused = put(2, json!([hall(100_001)])).refused(Kind::Invalid);
        assert!(refused.detail.contains("at most 100000"), "{}", refused.detail);
        let refused = pool(&world, 100_001).refused(Kind::Invalid);
        assert!(refused.detail.contains("pools[0].quantity"), "{}", refused.detail);
    });
    put(2, json!([])).expect(200);
    assert_eq!(places(&world), (vec![], 0, 0), "what is not named ends");
    let rows = json!({"rows": [{"line": 1, "contract": "C-1", "customer": "globex", "plan": "plus", "family": "cameras",
        "site": "hall", "quantity": "2"}]});
    let taken: Value = world.admin.post("/api/v1/contract-imports", &rows).expect(200).json();
    assert_eq!(taken["pools"], 1);
    assert_eq!(places(&world), (vec!["SN-1".into()], 1, 2));
    world.server.unchanged(|| {
        let again: Value = world.admin.post("/api/v1/contract-imports", &rows).expect(200).json();
        assert_eq!(again["pools"], 0);
    });
}

fn one_place_under_a_plan_and_none_beside_an_item(engine: Engine) {
    let (world, [first, _]) = world(engine, 1);
    let other = json!({"number": "C-2", "customer": "globex", "plan": "plus",
        "windows": [{"from": "2020-01-01", "to": "2036-01-01"}], "items": [{"product": CAM, "serial": "SN-1"}]});
    world.admin.post("/api/v1/contracts", &other).expect(201);
    let pools = json!({"pools": [{"family": "cameras", "site": "hall", "quantity": 1}]});
    world.admin.post("/api/v1/contracts/C-2/facts", &pools).expect(200);
    for serial in ["SN-1", "SN-2", "SN-3"] {
        camera(&world, &first, serial, "hall");
    }
    assert_eq!(places(&world), (vec!["SN-1".into()], 1, 1));
    let second: ContractDetail = world.admin.get("/api/v1/contracts/C-2").expect(200).json();
    let placed: Vec<_> =
        second.items.iter().filter(|item| item.pool_id.is_some()).map(|item| item.serial.as_str()).collect();
    assert_eq!(placed, ["SN-2"], "two contracts of one plan cover two devices and not one twice");
}

fn devices_that_come_at_once_share_no_place_and_leave_none_empty(engine: Engine) {
    let (world, _) = world(engine, 1);
    let world = &world;
    std::thread::scope(|scope| {
        for number in 0..6 {
            let body = json!({"product": CAM, "serial": format!("SN-{number}"), "hw_id": "cam-r3", "customer": "globex", "site": "hall"});
            scope.spawn(move || world.admin.post("/api/v1/devices", &body).expect(201));
        }
        scope.spawn(move || pool(world, 3).expect(200));
    });
    let (serials, used, quantity) = places(world);
    assert_eq!((serials.len(), used, quantity), (3, 3, 3), "{serials:?}");
}
