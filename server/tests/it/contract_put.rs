//! Contracts that a sales system tells whole, and everything that it may tell wrongly.

use serde_json::{Value, json};
use sluice_catalog::contract::{ContractState, Revision};
use sluice_catalog::wire::admin::ContractDetail;
use sluice_catalog::wire::contracts::OverlapPage;
use sluice_catalog::wire::entitlement::ImportAnswer;
use sluice_catalog::{Kind, Time};
use ureq::http::Method;

use crate::harness::world::{BAR, CAM, IMAGES};
use crate::harness::{Answer, Engine, Release, TestDevice, World};

both_engines!(
    a_contract_becomes_what_its_source_says_and_keeps_what_it_was,
    the_same_again_changes_nothing,
    a_contract_revised_backwards_is_refused,
    another_source_takes_a_contract_over_only_when_it_says_so,
    bad_input_names_its_field_and_changes_nothing,
    after_a_swap_either_serial_means_both,
    a_serial_under_two_contracts_is_reported,
    zones_come_with_rows_that_are_taken_in,
    more_than_is_read_is_not_taken_in,
    a_serial_that_nobody_knows_is_covered_when_it_comes,
);

fn put(world: &World, number: &str, body: &Value) -> Answer {
    let bytes = serde_json::to_vec(body).unwrap();
    let path = format!("/api/v1/contracts/{number}");
    world.admin.send(Method::PUT, &path, &[("Content-Type", "application/json")], &bytes)
}

fn told(revision: u64, windows: &[(&str, &str)], serials: &[&str]) -> Value {
    let windows: Vec<Value> = windows.iter().map(|(from, to)| json!({"from": from, "to": to})).collect();
    let items: Vec<Value> = serials.iter().map(|serial| json!({"product": CAM, "serial": serial})).collect();
    json!({"source": "crm", "revision": revision, "customer": "globex", "plan": "plus", "windows": windows, "items": items})
}

const YEARS: [(&str, &str); 2] = [("2020-01-01", "2021-01-01"), ("2021-01-01", "2036-01-01")];

/// 2.4.0 and 2.5.0, which requires a code of plan `plus`; one device that runs the first.
fn world(engine: Engine) -> (World, TestDevice, [Release; 2]) {
    let mut world = World::new(engine);
    let first = Release::new(CAM, "2.4.0", 20400, &IMAGES[0]);
    let second = Release::new(CAM, "2.5.0", 20500, &IMAGES[1]).requires("FW.CAM.MAJOR");
    world.release(&first);
    world.release(&second);
    world.roll_out("major", &second, &[100]);
    for name in ["globex", "initech"] {
        world.admin.post("/api/v1/customers", &json!({"name": name})).expect(201);
    }
    for (name, code) in [("plus", "FW.CAM.MAJOR"), ("basic", "FW.CAM.MINOR")] {
        let plan = json!({"name": name, "rule": "live", "grace_days": 0, "grants": [{"code": code}]});
        world.admin.post("/api/v1/plans", &plan).expect(201);
    }
    let mut device = world.device(CAM, "SN-1");
    device.run(&first);
    (world, device, [first, second])
}

fn a_contract_becomes_what_its_source_says_and_keeps_what_it_was(engine: Engine) {
    let (world, device, releases) = world(engine);
    device.poll().is_nothing("NO_CONTRACT");
    let made: ContractDetail = put(&world, "C-1", &told(1, &YEARS, &["SN-1", "SN-2"])).expect(201).json();
    assert_eq!((made.windows.len(), made.items.len()), (2, 2));
    let kept = made.kept.unwrap();
    assert_eq!((kept.source.as_str(), kept.revision), ("crm", Some(Revision::Number(1))));
    assert_eq!(device.poll().path(), releases[1].path(), "the next poll knows");
    let covered = world.server.now();

    world.server.advance_s(60);
    let shorter: ContractDetail = put(&world, "C-1", &told(2, &YEARS[..1], &["SN-1"])).expect(200).json();
    assert_eq!((shorter.windows.len(), shorter.items.len()), (1, 1));
    assert_eq!(shorter.windows[0], made.windows[0], "what is the same stays as it is, with its time");
    device.poll().is_nothing("NOT_LIVE");
    let shortened = world.server.now();

    world.server.advance_s(60);
    let mut void = told(3, &YEARS, &["SN-1"]);
    void["state"] = "void".into();
    let void: ContractDetail = put(&world, "C-1", &void).expect(200).json();
    assert_eq!(void.contract.state, ContractState::Void);
    device.poll().is_nothing("NO_CONTRACT");

    let then = world.why(&device, &format!("?version=2.5.0&known_at={covered}"));
    assert!(then.offered, "{then:?}");
    let then = world.why(&device, &format!("?version=2.5.0&known_at={shortened}"));
    assert_eq!(then.reason.code(), "NOT_LIVE");
}

fn the_same_again_changes_nothing(engine: Engine) {
    let (world, ..) = world(engine);
    let body = told(7, &YEARS, &["SN-1"]);
    let made: ContractDetail = put(&world, "C-1", &body).expect(201).json();
    world.server.unchanged(|| {
        assert_eq!(put(&world, "C-1", &body).expect(200).json::<ContractDetail>(), made);
        let mut turned = told(7, &[YEARS[1], YEARS[0], YEARS[1]], &["SN-1", "SN-1"]);
        turned["items"][0]["to"] = "9999-12-30T00:00:00Z".into();
        assert_eq!(put(&world, "C-1", &turned).expect(200).json::<ContractDetail>(), made, "in another order");
    });
    // A newer revision of the same content is news to the revision alone.
    world.server.advance_s(60);
    let before: usize = world.list::<Value>("/api/v1/audit").len();
    let newer: ContractDetail = put(&world, "C-1", &told(8, &YEARS, &["SN-1"])).expect(200).json();
    assert_eq!((&newer.windows, &newer.items), (&made.windows, &made.items));
    assert_eq!(newer.kept.unwrap().revision, Some(Revision::Number(8)));
    assert_eq!(world.list::<Value>("/api/v1/audit").len(), before, "no noise");
}

fn a_contract_revised_backwards_is_refused(engine: Engine) {
    let (world, ..) = world(engine);
    put(&world, "C-1", &told(7, &YEARS, &["SN-1"])).expect(201);
    world.server.unchanged(|| {
        let older = put(&world, "C-1", &told(6, &YEARS[..1], &["SN-1"])).refused(Kind::Conflict);
        assert!(older.detail.contains("revised backwards") && older.detail.contains('7'), "{}", older.detail);
        let other = put(&world, "C-1", &told(7, &YEARS[..1], &["SN-1"])).refused(Kind::Conflict);
        assert!(other.detail.contains("other content"), "{}", other.detail);
        let mut moment = told(8, &YEARS, &["SN-1"]);
        moment.as_object_mut().unwrap().remove("revision");
        moment["revised_at"] = world.server.now().to_string().into();
        let mixed = put(&world, "C-1", &moment).refused(Kind::Invalid);
        assert!(mixed.detail.contains("revised_at") && mixed.detail.contains("revision 7"), "{}", mixed.detail);
    });
    // The order of arrival decides nothing: the newest revision stands.
    put(&world, "C-1", &told(9, &YEARS[..1], &["SN-1"])).expect(200);
    put(&world, "C-1", &told(8, &YEARS, &["SN-1"])).refused(Kind::Conflict);
}

fn another_source_takes_a_contract_over_only_when_it_says_so(engine: Engine) {
    let (world, ..) = world(engine);
    put(&world, "C-1", &told(7, &YEARS, &["SN-1"])).expect(201);
    let mut other = told(1, &YEARS, &["SN-1"]);
    other["source"] = "erp".into();
    world.server.unchanged(|| {
        let refused = put(&world, "C-1", &other).refused(Kind::Conflict);
        assert!(refused.detail.contains("source crm"), "{}", refused.detail);
    });
    other["take_over"] = true.into();
    let taken: ContractDetail = put(&world, "C-1", &other).expect(200).json();
    assert_eq!(taken.kept.unwrap().source.as_str(), "erp");
    put(&world, "C-1", &told(8, &YEARS, &["SN-1"])).refused(Kind::Conflict);
    // One that was entered here belongs to nobody until a source tells it.
    let entered = json!({"number": "C-2", "customer": "globex", "plan": "plus"});
    world.admin.post("/api/v1/contracts", &entered).expect(201);
    put(&world, "C-2", &told(1, &YEARS, &[])).expect(200);
}

fn bad_input_names_its_field_and_changes_nothing(engine: Engine) {
    let (world, ..) = world(engine);
    put(&world, "C-1", &told(1, &YEARS, &["SN-1"])).expect(201);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = told(2, &YEARS, &["SN-1", "SN-2"]);
        change(&mut body);
        body
    };
    let window = |from: &str, to: &str| with(&|body| body["windows"][1] = json!({"from": from, "to": to}));
    let ahead = world.server.now().plus_days(2).to_string();
    world.server.unchanged(|| {
        for (body, field, rule) in [
            (with(&|body| body["customer"] = "umbrella".into()), "customer", "no customer umbrella"),
            (with(&|body| body["customer"] = "initech".into()), "customer", "of customer globex already"),
            (with(&|body| body["plan"] = "gold".into()), "plan", "no plan gold"),
            (with(&|body| body["items"][1]["product"] = "acme-fax".into()), "items[1].product", "no product acme-fax"),
            (window("2027-01-01", "2026-01-01"), "windows[1].to", "before it starts"),
            (window("2026-01-01", "2026-01-01"), "windows[1].to", "before it starts"),
            (window("2026-01-01", "2126-01-01"), "windows[1].to", "40 years"),
            (window("1926-01-01", "1981-01-01"), "windows[1].from", "before 1980-01-01"),
            (
                with(&|body| {
                    body["items"][1]["from"] = "2027-01-01".into();
                    body["items"][1]["to"] = "2026-01-01".into();
                }),
                "items[1].to",
                "not after",
            ),
            (with(&|body| body["revision"] = Value::Null), "revised_at", "one of them"),
            (
                with(&|body| {
                    body["revision"] = Value::Null;
                    body["revised_at"] = ahead.as_str().into();
                }),
                "revised_at",
                "clock",
            ),
        ] {
            let problem = put(&world, "C-1", &body).refused(Kind::Invalid);
            let told = &problem.detail;
            assert!(told.contains(field) && told.contains(rule), "{field} {rule}: {told}");
        }
        for body in [
            with(&|body| body["windows"][0]["from"] = "2026-02-30".into()),
            with(&|body| body["windows"][0]["kind"] = "gift".into()),
            with(&|body| body["items"][0]["serial"] = "../x".into()),
            with(&|body| body["surprise"] = 1.into()),
        ] {
            put(&world, "C-1", &body).refused(Kind::Malformed);
        }
    });
    // Time zones and leap days: a moment with an offset is that moment.
    let zoned = with(&|body| {
        body["windows"] = json!([{"from": "2028-02-29T00:00:00+01:00", "to": "2028-03-01T00:00:00+01:00"}]);
    });
    let shown: ContractDetail = put(&world, "C-1", &zoned).expect(200).json();
    assert_eq!(shown.windows[0].from_at.to_string(), "2028-02-28T23:00:00Z");
}

fn after_a_swap_either_serial_means_both(engine: Engine) {
    let (world, ..) = world(engine);
    put(&world, "C-1", &told(1, &YEARS, &["SN-1"])).expect(201);
    let swap = json!({"rma": "RMA-1", "product": CAM, "old": "SN-1", "new": "SN-9", "overlap_days": 10});
    world.admin.post("/api/v1/swaps", &swap).expect(201);
    let swapped: ContractDetail = world.admin.get("/api/v1/contracts/C-1").expect(200).json();
    assert_eq!(swapped.items.len(), 2);
    for (revision, serials) in [(2, &["SN-1"][..]), (3, &["SN-9"]), (4, &["SN-9", "SN-1"])] {
        let shown: ContractDetail = put(&world, "C-1", &told(revision, &YEARS, serials)).expect(200).json();
        assert_eq!(shown.items, swapped.items, "{serials:?}");
    }
    // Rows of an import are read in the same way: nothing gives the fenced serial its whole cover back.
    let rows = json!({"rows": [{"line": 1, "contract": "C-1", "customer": "globex", "plan": "plus", "product": CAM, "serial": "SN-1"}]});
    world.server.unchanged(|| {
        world.admin.post("/api/v1/contract-imports", &rows).expect(200);
    });
    // A serial of the same name in another product is another device.
    let mut other = told(5, &YEARS, &["SN-1"]);
    other["items"][0]["product"] = BAR.into();
    let shown: ContractDetail = put(&world, "C-1", &other).expect(200).json();
    assert_eq!(shown.items.len(), 1);
}

fn a_serial_under_two_contracts_is_reported(engine: Engine) {
    let (world, device, releases) = world(engine);
    put(&world, "C-1", &told(1, &[("2020-01-01", "2021-06-01")], &["SN-1", "SN-2"])).expect(201);
    put(&world, "C-2", &told(1, &YEARS[1..], &["SN-1", "SN-3"])).expect(201);
    put(&world, "C-3", &told(1, &[("2010-01-01", "2011-01-01")], &["SN-1"])).expect(201);
    let page: OverlapPage = world.admin.get("/api/v1/contract-overlaps").expect(200).json();
    assert_eq!((page.items.len(), &page.next), (1, &None));
    let one = &page.items[0];
    let numbers: Vec<&str> = one.contracts.iter().map(sluice_catalog::text::ContractNumber::as_str).collect();
    assert_eq!((one.serial.as_str(), numbers), ("SN-1", vec!["C-1", "C-2"]), "C-3 had ended before");
    assert_eq!((one.from.date().as_str(), one.to.date().as_str()), ("2021-01-01", "2021-06-01"));
    assert_eq!(device.poll().path(), releases[1].path(), "the better cover counts");
    let last: OverlapPage = world.admin.get("/api/v1/contract-overlaps?after=acme-cam/SN-1").expect(200).json();
    assert_eq!(last.items, []);

    let row = |line: u64, contract: &str, serial: &str| json!({"line": line, "contract": contract, "customer": "globex", "plan": "plus", "product": CAM, "serial": serial});
    let rows = [row(1, "C-4", "SN-3"), row(2, "C-4", "SN-8"), row(3, "C-5", "SN-8"), row(4, "C-5", "SN-9")];
    let ask = json!({"rows": rows, "dry_run": true});
    let answer: ImportAnswer =
        world.server.unchanged(|| world.admin.post("/api/v1/contract-imports", &ask).expect(200).json());
    let told: Vec<(String, Vec<String>)> = answer
        .overlapping
        .iter()
        .map(|one| (one.serial.to_string(), one.contracts.iter().map(ToString::to_string).collect()))
        .collect();
    let under = |serial: &str, numbers: [&str; 2]| (serial.to_owned(), numbers.map(str::to_owned).to_vec());
    assert_eq!(told, [under("SN-3", ["C-2", "C-4"]), under("SN-8", ["C-4", "C-5"])]);
    assert_eq!(answer.overlaps, 2);
}

fn zones_come_with_rows_that_are_taken_in(engine: Engine) {
    let (world, ..) = world(engine);
    let row = |line: u64, contract: &str, customer: &str, zone: &str| {
        json!({"line": line, "contract": contract, "customer": customer, "plan": "plus", "from": "2026-01-01T00:00:00Z",
            "to": "2030-01-01T00:00:00Z", "zone": zone})
    };
    let import = |rows: Value, more: Value| -> ImportAnswer {
        let mut body = json!({"rows": rows});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.admin.post("/api/v1/contract-imports", &body).expect(200).json()
    };
    let plain = json!([row(1, "C-1", "globex", "UTC"), row(2, "C-2", "globex", "UTC")]);
    assert_eq!(import(plain, json!({})).zones, 0, "a contract counts its days in UTC anyway");
    let zoned = json!([row(1, "C-1", "globex", "Asia/Tokyo"), row(2, "C-2", "nobody", "Asia/Tokyo")]);
    world.server.unchanged(|| {
        assert_eq!(import(zoned.clone(), json!({})).zones, 0, "rows that are refused set nothing");
        let answer = import(zoned.clone(), json!({"dry_run": true, "on_error": "skip"}));
        assert_eq!((answer.zones, answer.applied), (1, false));
    });
    // A file in which nothing but zones is new.
    let answer = import(zoned.clone(), json!({"on_error": "skip"}));
    assert_eq!((answer.zones, answer.windows, answer.errors.len(), answer.applied), (1, 0, 1, true));
    let alone =
        json!([{"line": 1, "contract": "C-2", "customer": "globex", "plan": "plus", "zone": "Europe/Amsterdam"}]);
    assert_eq!(import(alone.clone(), json!({})).zones, 1);
    world.server.unchanged(|| {
        assert_eq!(import(alone.clone(), json!({})).zones + import(zoned, json!({"on_error": "skip"})).zones, 0);
    });
}

fn more_than_is_read_is_not_taken_in(engine: Engine) {
    let (world, device, _) = world(engine);
    let days = |from: i64, count: i64| -> Vec<Value> {
        let first: Time = "2000-01-01".parse().unwrap();
        let day = |day: i64| json!({"from": first.plus_days(2 * day), "to": first.plus_days(2 * day + 1)});
        (from..from + count).map(day).collect()
    };
    let mut many = told(1, &[], &["SN-1"]);
    many["windows"] = days(0, 1_001).into();
    world.server.unchanged(|| put(&world, "C-1", &many).refused(Kind::Invalid));
    many["windows"] = days(0, 1_000).into();
    put(&world, "C-1", &many).expect(201);
    world.server.unchanged(|| {
        let more = json!({"windows": days(1_000, 1)});
        let refused = world.admin.post("/api/v1/contracts/C-1/facts", &more).refused(Kind::Conflict);
        assert!(refused.detail.contains("more than 1000 windows"), "{}", refused.detail);
    });
    let items: Vec<Value> = (0..256)
        .map(|day| json!({"product": CAM, "serial": "SN-7", "to": Time::EPOCH.plus_days(10_000 + day)}))
        .collect();
    let contract = json!({"number": "C-2", "customer": "globex", "plan": "plus", "items": items,
        "windows": [{"from": "2020-01-01", "to": "2036-01-01"}]});
    world.admin.post("/api/v1/contracts", &contract).expect(201);
    world.server.unchanged(|| {
        let refused = put(&world, "C-1", &told(2, &YEARS, &["SN-7"])).refused(Kind::Conflict);
        assert!(refused.detail.contains("acme-cam/SN-7 would be named more than 256 times"), "{}", refused.detail);
    });
    device.poll();
}

fn a_serial_that_nobody_knows_is_covered_when_it_comes(engine: Engine) {
    let (world, _, releases) = world(engine);
    put(&world, "C-1", &told(1, &YEARS, &["SN-77"])).expect(201);
    let mut late = world.device(CAM, "SN-77");
    late.run(&releases[0]);
    assert_eq!(late.poll().path(), releases[1].path());
}
