//! Questions about a whole fleet: each device is told what it alone would be told, a page after the other, however many there are.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use sluice_catalog::device::{Device, DeviceState};
use sluice_catalog::id::{CohortId, DeviceId};
use sluice_catalog::wire::fleet::{DeviceShift, FleetDevice, FleetLine, FleetSummary, ShiftSummary};
use sluice_catalog::{Kind, TextSet, Time};
use sluice_server::app::{Actor, DeviceFilter};
use sluice_server::store::{DeviceChoice, Store};

use crate::harness::wait::until;
use crate::harness::world::CAM;
use crate::harness::{Engine, TestDevice, World};

both_engines!(
    each_device_of_a_fleet_is_told_what_it_alone_is_told,
    a_fleet_of_many_pages_is_told_whole_and_once,
    a_client_that_goes_away_ends_the_work,
    a_forecast_is_what_comes,
);

/// 2.4.0 free for all and 2.5.0 for a code, which a rollout brings to everyone; `SN-1` and `SN-2` are under a contract that ends in
/// 30 days, `SN-3` under none, `SN-4` waits, `SN-5` is of another customer, and `SN-1` runs 2.4.0.
fn fleet(engine: Engine) -> (World, Vec<TestDevice>) {
    let mut world = World::new(engine);
    let [first, _] = world.free_and_paid();
    world.contract_for_30_days("live", &["SN-1", "SN-2"]);
    world.admin.post("/api/v1/customers", &json!({"name": "initech"})).expect(201);
    let owned = [
        ("SN-1", json!({"customer": "globex", "site": "hall", "tags": ["early", "lab"]})),
        ("SN-2", json!({"customer": "globex", "site": "roof", "tags": ["late"]})),
        ("SN-3", json!({})),
        ("SN-5", json!({"customer": "initech", "site": "hall"})),
    ];
    for (serial, more) in &owned {
        world.register(CAM, serial, more);
    }
    let hold = json!({"customer": "globex", "scope": "site", "target": "roof", "kind": "hold", "security": false,
        "reason": "the fair", "until": world.server.now().plus_days(6)});
    world.admin.post("/api/v1/policies", &hold).expect(201);
    let site = ureq::http::Method::PUT;
    let body = serde_json::to_vec(&json!({"country": "NL"})).unwrap();
    world.admin.send(site, "/api/v1/customers/initech/sites/hall", &[("Content-Type", "application/json")], &body);
    let mut devices: Vec<TestDevice> = ["SN-1", "SN-2", "SN-3", "SN-5"]
        .iter()
        .map(|serial| {
            let mut device = TestDevice::new(&world.server, CAM, serial);
            device.enrol(None).expect(200);
            device.open_session();
            device
        })
        .collect();
    devices[0].run(&first);
    devices[0].poll();
    let mut waiting = TestDevice::new(&world.server, CAM, "SN-4");
    waiting.enrol(None).expect(200);
    devices.push(waiting);
    (world, devices)
}

fn lines(world: &World, path: &str) -> Vec<FleetLine> {
    let answer = world.admin.get(path).expect(200);
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    answer
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

fn told(world: &World, query: &str) -> (BTreeMap<String, FleetDevice>, FleetSummary) {
    let mut lines = lines(world, &format!("/api/v1/products/{CAM}/why{query}"));
    let Some(FleetLine::Summary(summary)) = lines.pop() else { panic!("no summary at the end") };
    let devices = lines.into_iter().map(|line| match line {
        FleetLine::Device(device) => (device.serial.to_string(), device),
        other => panic!("{other:?}"),
    });
    (devices.collect(), summary)
}

fn each_device_of_a_fleet_is_told_what_it_alone_is_told(engine: Engine) {
    let (world, devices) = fleet(engine);
    for version in ["2.4.0", "2.5.0", ""] {
        for days in [0, 3, 29, 60] {
            // A moment to come, so that both questions are about the same one.
            let at = world.server.now().plus_days(days).plus_s(600);
            let version_of = if version.is_empty() { String::new() } else { format!("&version={version}") };
            let (fleet, summary) = told(&world, &format!("?at={at}{version_of}"));
            assert_eq!((summary.devices, summary.at), (5, at));
            let mut reasons = BTreeMap::new();
            for device in &devices {
                let alone = world.why(device, &format!("?at={at}{version_of}"));
                let told = &fleet[&device.serial];
                assert_eq!(
                    (told.pass, told.reason, &told.version, &told.newest_entitled, told.changes_at),
                    (alone.offered, alone.reason, &alone.version, &alone.newest_entitled, alone.changes_at),
                    "{} {version} in {days} days",
                    device.serial
                );
                *reasons.entry(alone.reason.code().to_owned()).or_default() += 1;
            }
            assert_eq!(summary.reasons, reasons);
        }
    }
    let (fleet, summary) = told(&world, "?version=2.5.0");
    let reason = |serial: &str| fleet[serial].reason.code();
    assert_eq!(
        ["SN-1", "SN-2", "SN-3", "SN-4", "SN-5"].map(reason),
        ["OFFERED", "HELD_BY_POLICY", "NO_CONTRACT", "DEVICE_PENDING", "NO_CONTRACT"]
    );
    assert_eq!(summary.pass, 1);
    assert_eq!(fleet["SN-1"].runs.as_ref().unwrap().as_str(), "2.4.0");
    for (query, serials) in [
        ("?customer=globex", &["SN-1", "SN-2"][..]),
        ("?customer=globex&site=hall", &["SN-1"]),
        ("?site=hall", &["SN-1", "SN-5"]),
        ("?tag=lab", &["SN-1"]),
        ("?tag=la", &[]),
        ("?state=pending", &["SN-4"]),
        ("?customer=none", &[]),
    ] {
        let (fleet, summary) = told(&world, query);
        assert_eq!(fleet.keys().collect::<Vec<_>>(), serials, "{query}");
        assert_eq!(summary.devices, serials.len() as u64);
    }
    let path = |query: &str| format!("/api/v1/products/{CAM}/why{query}");
    world.admin.get(&path("?version=9.9.9")).refused(Kind::NotFound);
    let past = world.server.now().plus_days(-1);
    let problem = world.admin.get(&path(&format!("?at={past}"))).refused(Kind::Invalid);
    assert!(problem.detail.contains("at:") && problem.detail.contains("one device"), "{}", problem.detail);
    world.admin.get("/api/v1/products/none/why").refused(Kind::NotFound);
}

/// Enters devices at once, as a long history of registrations would have.
fn enter(world: &World, count: usize) {
    world.server.block_on(async {
        let store: &Store = &world.server.app.store;
        let like = store.device_list(&DeviceChoice::default(), None, 1).await.unwrap().remove(0);
        let mut tx = store.begin().await.unwrap();
        for number in 0..count {
            let id = DeviceId(uuid::Uuid::from_u128((1 << 126) + number as u128));
            let device = Device {
                id,
                cohort_id: CohortId(id.0),
                serial: format!("MANY-{number:05}").parse().unwrap(),
                customer_id: None,
                site: None,
                tags: TextSet::default(),
                state: DeviceState::Active,
                public_key: None,
                ..like.clone()
            };
            tx.device_add(&device, world.server.now()).await.unwrap();
        }
        tx.commit().await.unwrap();
    });
}

fn a_fleet_of_many_pages_is_told_whole_and_once(engine: Engine) {
    let (world, _) = fleet(engine);
    enter(&world, 1_100);
    let all = lines(&world, &format!("/api/v1/products/{CAM}/why?version=2.5.0"));
    let serials = all.iter().filter_map(|line| match line {
        FleetLine::Device(device) => Some(device.serial.to_string()),
        _ => None,
    });
    let (serials, unique): (Vec<_>, BTreeSet<_>) = serials.map(|serial| (serial.clone(), serial)).unzip();
    assert_eq!((serials.len(), unique.len(), all.len()), (1_105, 1_105, 1_106));
    let Some(FleetLine::Summary(summary)) = all.last() else { panic!("no summary") };
    assert_eq!((summary.devices, summary.reasons["NO_CONTRACT"]), (1_105, 1_102));
}

fn a_client_that_goes_away_ends_the_work(engine: Engine) {
    let (world, _) = fleet(engine);
    // More than what waits for a client that does not read.
    enter(&world, 3_000);
    let app = &world.server.app;
    let product = CAM.parse().unwrap();
    let ask = || app.fleet_why(&Actor::Server, &product, None, None, DeviceFilter::default());
    let mut asked = Vec::new();
    let refused = loop {
        match ask() {
            Ok(lines) => asked.push(lines),
            Err(error) => break error,
        }
    };
    assert_eq!((asked.len(), refused.kind), (sluice_server::app::FLEETS_AT_ONCE, Kind::Unavailable));
    assert!(refused.detail.contains("try again"), "{}", refused.detail);
    drop(asked);
    until("the work of those who went away ends", || ask().is_ok().then_some(()));
}

fn a_forecast_is_what_comes(engine: Engine) {
    let (world, devices) = fleet(engine);
    let (from, to) = (world.server.now().plus_s(600), world.server.now().plus_days(31));
    let mut all = lines(&world, &format!("/api/v1/products/{CAM}/forecast?from={from}&to={to}"));
    let Some(FleetLine::Shifts(summary)) = all.pop() else { panic!("no summary at the end") };
    let shifts: Vec<DeviceShift> = all
        .into_iter()
        .map(|line| match line {
            FleetLine::Shift(shift) => shift,
            other => panic!("{other:?}"),
        })
        .collect();
    let newest = |at: Time, device: &TestDevice| world.why(device, &format!("?at={at}")).newest_entitled;
    for device in &devices {
        let shift = shifts.iter().find(|shift| shift.serial.as_str() == device.serial);
        let (before, after) = (newest(from, device), newest(to, device));
        match shift {
            Some(shift) => assert_eq!((&shift.before, &shift.after), (&before, &after)),
            None => assert_eq!(before, after),
        }
    }
    let serials: Vec<&str> = shifts.iter().map(|shift| shift.serial.as_str()).collect();
    assert_eq!(serials, ["SN-1", "SN-2"]);
    assert!(shifts.iter().all(|shift| shift.loss && shift.codes_lost == ["FW.CAM.MAJOR"]));
    let ShiftSummary { devices, covered, losses, gains, cut, moves, losses_ahead: _ } = summary;
    assert_eq!((devices, covered, losses, gains, cut, moves.len()), (5, 2, 2, 0, false, 1));
    assert_eq!(
        (moves[0].before.as_ref().unwrap().as_str(), moves[0].after.as_ref().unwrap().as_str()),
        ("2.5.0", "2.4.0")
    );
    let path = format!("/api/v1/products/{CAM}/forecast?from={to}&to={from}");
    assert!(world.admin.get(&path).refused(Kind::Invalid).detail.contains("not after"));
}
