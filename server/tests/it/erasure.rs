//! Erasure of devices: afterwards no table holds what was erased, and the audit log still proves what it says.

use serde_json::{Value, json};
use sluice_catalog::audit::AuditEntry;
use sluice_catalog::device::DeviceState;
use sluice_catalog::erasure::{LogCheck, LogFault, is_erased};
use sluice_catalog::wire::admin::DeviceDetail;
use sluice_catalog::wire::device::EnrolResponse;
use sluice_catalog::wire::erasure::Erased;
use sluice_catalog::{Digest, Kind};

use crate::harness::world::{BAR, CAM};
use crate::harness::{Answer, Engine, Place, TestDevice, World};
use crate::store::tables::{alter_entry, dump};

both_engines!(
    no_table_holds_what_was_erased,
    only_what_is_out_of_service_is_erased,
    a_retired_device_can_come_back,
    an_erased_device_stays_erased,
    a_serial_of_another_product_is_another_device,
    the_log_holds_over_what_erasures_altered_and_nothing_else,
);

const OLD: &str = "SN-PERSONAL-1";
const FULL: &str = "the disk of ann is full";
/// Stands in a log, beside the serial.
const LOGGED: &str = "the console of ann";
const DAY_S: i64 = 24 * 3600;

fn path(serial: &str, rest: &str) -> String {
    format!("/api/v1/products/{CAM}/devices/{serial}{rest}")
}

fn erase(world: &World, serial: &str) -> Answer {
    world.admin.post(&path(serial, "/erase"), &json!({}))
}

fn retire(world: &World, serial: &str) {
    world.admin.post(&path(serial, "/state"), &json!({"state": "retired"})).expect(200);
}

/// The columns that hold a text.
fn holding(world: &World, text: &str) -> Vec<String> {
    let wanted = hex::encode(text);
    let mut found: Vec<String> = dump(&world.server)
        .into_iter()
        .filter(|(_, value)| value.contains(&wanted))
        .map(|(column, _)| column)
        .collect();
    found.dedup();
    found
}

fn log(world: &World) -> Vec<AuditEntry> {
    world.list("/api/v1/audit?limit=500")
}

fn check(world: &World) -> Result<Vec<i64>, LogFault> {
    let (mut check, mut prev) = (LogCheck::default(), Digest([0; 32]));
    for entry in log(world) {
        check.take(&entry, prev)?;
        prev = entry.hash;
    }
    check.end()
}

fn no_table_holds_what_was_erased(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    let now = world.server.now();
    let (from, to) = (now.plus_days(-400).to_string(), now.plus_days(300).to_string());
    world.contract("live", &from, &to, &[OLD, "SN-OTHER-1"]);
    world.register(
        CAM,
        OLD,
        &json!({"customer": "globex", "site": "attic-of-ann", "tags": ["anns-own"], "train": "2.4"}),
    );
    world.register(CAM, "SN-OTHER-1", &json!({"customer": "globex", "site": "hall"}));
    let mut device = TestDevice::new(&world.server, CAM, OLD);
    device.enrol(None).expect(200);
    device.open_session();
    device.run(&first);
    let hold = json!({"customer": "globex", "scope": "device", "target": OLD, "product": CAM, "kind": "pin",
        "version": second.version, "reason": format!("certified for {OLD}")});
    world.admin.post("/api/v1/policies", &hold).expect(201);
    let rollout = json!({"name": "one", "product": CAM, "version": second.version, "stages": [{"percent": 100}],
        "selector": {"serials": [OLD]}});
    world.admin.post("/api/v1/rollouts", &rollout).expect(201);
    world.move_rollout("one", "start").expect(200);
    world.server.run_jobs();
    let attempt = device.poll().attempt();
    let failed = json!({"attempt": attempt, "state": "failed", "failure": "out_of_space", "detail": FULL,
        "log": format!("{LOGGED} of {OLD}")});
    device.report_event(failed).expect(200);
    world.admin.post(&path(OLD, "/registration-code"), &json!({"days": 30})).expect(201);
    world.admin.post(&path(OLD, "/transfer"), &json!({"customer": "globex"})).expect(200);
    world
        .admin
        .post("/api/v1/swaps", &json!({"rma": "RMA-7", "product": CAM, "old": OLD, "new": "SN-NEW-1"}))
        .expect(201);
    world.server.advance_s(31 * DAY_S);
    let key = device.public_key();
    for column in [
        "device.serial",
        "covered_item.serial",
        "policy.target",
        "policy.reason",
        "rollout.selector",
        "device_history.device",
        "device_history.cause",
        "outbox.key",
        "outbox.subject",
        "outbox.data",
        "audit_entry.subject",
        "audit_entry.actor",
        "audit_entry.detail",
    ] {
        assert!(holding(&world, OLD).iter().any(|found| found == column), "{column} names it before");
    }
    for text in [&key, "attic-of-ann", "anns-own", FULL, LOGGED] {
        assert!(!holding(&world, text).is_empty(), "{text} is there before");
    }
    let before = log(&world).len();
    let erased: Erased = erase(&world, OLD).expect(200).json();
    assert!(is_erased(&erased.serial));
    assert_eq!(holding(&world, OLD), [] as [&str; 0]);
    for text in [&key, FULL, LOGGED] {
        assert_eq!(holding(&world, text), [] as [&str; 0], "{text}");
    }
    // The device that replaces it stands where it stood; nothing else says so.
    for text in ["attic-of-ann", "anns-own"] {
        let columns = holding(&world, text);
        assert!(
            columns.iter().all(|column| column.starts_with("device.") || column == "device_history.device"),
            "{columns:?}"
        );
    }
    let shown: DeviceDetail = world.admin.get(&path(erased.serial.as_str(), "")).expect(200).json();
    assert_eq!((shown.device.customer_id, shown.device.site, shown.device.public_key), (None, None, None));
    assert!(!holding(&world, "SN-OTHER-1").is_empty() && !holding(&world, "SN-NEW-1").is_empty(), "others stay");
    let entries = log(&world);
    assert_eq!(entries.len(), before + 1);
    assert_eq!(entries.last().unwrap().action, "device.erase");
    assert!(check(&world).unwrap().len() >= 5);
    let history: Value = world.admin.get(&path("SN-NEW-1", "/history")).expect(200).json();
    assert!(history.to_string().contains(erased.serial.as_str()), "{history}");
    world.admin.get(&path(erased.serial.as_str(), "/history")).expect(200);
    world.admin.get("/api/v1/swaps/RMA-7").expect(200);
    world.admin.get("/api/v1/events").expect(200);
    world.admin.get(&path(OLD, "")).refused(Kind::NotFound);
    world.server.unchanged(|| {
        assert_eq!(erase(&world, OLD).expect(200).json::<Erased>(), erased);
        assert_eq!(erase(&world, erased.serial.as_str()).expect(200).json::<Erased>(), erased);
    });
}

fn only_what_is_out_of_service_is_erased(engine: Engine) {
    let world = World::unsigned(engine, Place::Local);
    let admin = &world.admin;
    world.register(CAM, OLD, &json!({"site": "hall"}));
    let before = dump(&world.server);
    erase(&world, OLD).refused(Kind::WrongState);
    erase(&world, "SN-UNKNOWN").refused(Kind::NotFound);
    erase(&world, "erased-0123456789abcdef01234567").refused(Kind::NotFound);
    assert_eq!(dump(&world.server), before);
    admin.post(&path(OLD, "/state"), &json!({"state": "blocked"})).expect(200);
    erase(&world, OLD).refused(Kind::WrongState);
}

fn a_retired_device_can_come_back(engine: Engine) {
    let world = World::unsigned(engine, Place::Local);
    let mut device = world.device(CAM, OLD);
    retire(&world, OLD);
    world.admin.post(&path(OLD, "/state"), &json!({"state": "active"})).expect(200);
    device.open_session();
    let shown: DeviceDetail = world.admin.get(&path(OLD, "")).expect(200).json();
    assert_eq!(shown.device.state, DeviceState::Active);
    assert!(shown.device.public_key.is_some(), "and needs no new key");
}

fn an_erased_device_stays_erased(engine: Engine) {
    let world = World::unsigned(engine, Place::Local);
    world.admin.post("/api/v1/customers", &json!({"name": "globex"})).expect(201);
    let device = world.device(CAM, OLD);
    retire(&world, OLD);
    let erased: Erased = erase(&world, OLD).expect(200).json();
    let pseudonym = erased.serial.as_str();
    device.session().refused(Kind::Unauthenticated);
    let mut thief = TestDevice::new(&world.server, CAM, pseudonym);
    world.server.unchanged(|| {
        thief.enrol(None).refused(Kind::WrongState);
        for (rest, body) in [
            ("/state", json!({"state": "active"})),
            ("/revoke", json!({})),
            ("/transfer", json!({"customer": "globex"})),
            ("/release", json!({})),
            ("/registration-code", json!({})),
        ] {
            world.admin.post(&path(pseudonym, rest), &body).refused(Kind::WrongState);
        }
    });
    // Under its serial it is unknown; when that one goes, too, it gets another pseudonym.
    let mut back = TestDevice::new(&world.server, CAM, OLD);
    assert_eq!(back.enrol(None).expect(200).json::<EnrolResponse>().state, DeviceState::Pending);
    retire(&world, OLD);
    let second: Erased = erase(&world, OLD).expect(200).json();
    assert_ne!(second, erased);
    world.server.unchanged(|| assert_eq!(erase(&world, OLD).expect(200).json::<Erased>(), second));
    assert_eq!(holding(&world, OLD), [] as [&str; 0]);
    check(&world).unwrap();
}

fn a_serial_of_another_product_is_another_device(engine: Engine) {
    let world = World::unsigned(engine, Place::Local);
    world.register(CAM, OLD, &json!({}));
    world.register(BAR, OLD, &json!({"site": "hall"}));
    retire(&world, OLD);
    let other = format!("/api/v1/products/{BAR}/devices/{OLD}");
    let before: DeviceDetail = world.admin.get(&other).expect(200).json();
    erase(&world, OLD).expect(200);
    assert_eq!(world.admin.get(&other).expect(200).json::<DeviceDetail>(), before);
    let about = format!("device:{BAR}/{OLD}");
    let entry = log(&world).into_iter().find(|entry| entry.subject == about).unwrap();
    assert!(entry.detail.contains("hall") && entry.content_hash() == entry.hash);
}

fn the_log_holds_over_what_erasures_altered_and_nothing_else(engine: Engine) {
    let world = World::unsigned(engine, Place::Local);
    for serial in [OLD, "SN-OTHER-1"] {
        world.register(CAM, serial, &json!({"site": "attic-of-ann", "tags": ["anns-own"]}));
        retire(&world, serial);
    }
    assert_eq!(check(&world), Ok(vec![]));
    erase(&world, OLD).expect(200);
    let redacted = check(&world).unwrap();
    assert_eq!(redacted.len(), 2);
    let entries = log(&world);
    let other = entries.iter().find(|entry| entry.subject.contains("SN-OTHER-1")).unwrap();
    let first = entries.iter().find(|entry| entry.seq == redacted[0]).unwrap();
    for entry in [other, first] {
        alter_entry(&world.server, entry.seq, r#"{"by":"an intruder"}"#);
        assert_eq!(check(&world), Err(LogFault::Altered(entry.seq)));
        alter_entry(&world.server, entry.seq, &entry.detail);
        assert_eq!(check(&world), Ok(redacted.clone()));
    }
    erase(&world, "SN-OTHER-1").expect(200);
    assert_eq!(check(&world).unwrap().len(), 4);
    for text in ["attic-of-ann", "anns-own"] {
        assert_eq!(holding(&world, text), [] as [&str; 0], "{text}");
    }
}
