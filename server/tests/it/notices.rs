//! Notices: what is told of cover, swaps and denied versions; once, by one replica of many, whatever dies in between.

use serde_json::json;
use sluice_catalog::wire::admin::{ContractDetail, Page};
use sluice_catalog::wire::event::{CoverNotice, Event, EventData};
use sluice_catalog::{Kind, Reason, Time};
use sluice_server::app::NOTICES_LEASE_S;
use sluice_server::clock::Clock;
use ureq::http::Method;

use crate::harness::process::Process;
use crate::harness::wait::until;
use crate::harness::world::CAM;
use crate::harness::{Engine, Place, TestServer, World};

both_engines!(
    the_end_of_cover_is_told_of_at_its_days,
    who_renews_in_time_is_told_of_the_later_end_alone,
    what_passed_while_no_server_ran_is_told_in_order,
    devices_with_dates_of_their_own_are_told_of_by_themselves,
    a_day_is_told_of_once_however_many_devices_end_on_it,
    cover_that_is_gained_is_told_of,
    a_swap_is_told_of_from_start_to_end,
    a_version_that_was_promised_and_is_denied_is_told_of,
    events_are_read_by_number_kind_and_customer,
    a_question_waits_for_an_event,
    old_events_go_and_are_not_told_again,
    two_replicas_tell_once,
);

killed_at!(
    notices_after_lease => "notices.after_lease",
    notices_before_commit => "notices.before_commit",
    notices_after_commit => "notices.after_commit",
);

const DAY_S: i64 = 24 * 3600;

fn look(server: &TestServer) {
    server.block_on(async { server.app.notices_tick().await.unwrap() });
}

fn pass(world: &World, days: i64) {
    world.server.advance_s(days * DAY_S);
    look(&world.server);
}

fn events(world: &World) -> Vec<Event> {
    world.list("/api/v1/events?limit=500")
}

/// What is told of cover that ends: kind, days, and the day of the moment relative to `start`.
fn told(world: &World, start: Time) -> Vec<(String, u8, i64)> {
    let days = |event: &Event| (event.at.as_ms() - start.as_ms()).div_euclid(DAY_S * 1000);
    let of = |event: Event| match &event.data {
        EventData::CoverEnds(notice) | EventData::CoverEnded(notice) | EventData::GraceEnded(notice) => {
            Some((event.data.kind().to_owned(), notice.days, days(&event)))
        }
        _ => None,
    };
    events(world).into_iter().filter_map(of).collect()
}

/// A contract `C-1` of `globex` that ends in so many days, with a fortnight of grace.
fn covered(world: &World, days: i64, items: serde_json::Value) -> Time {
    let start = world.server.now();
    world.admin.post("/api/v1/customers", &json!({"name": "globex"})).expect(201);
    let plan = json!({"name": "plus", "rule": "live", "grace_days": 14, "grants": [{"code": "FW.CAM.MAJOR"}]});
    world.admin.post("/api/v1/plans", &plan).expect(201);
    let contract = json!({
        "number": "C-1", "customer": "globex", "plan": "plus", "items": items,
        "windows": [{"from": start.plus_days(-300), "to": start.plus_days(days)}],
    });
    world.admin.post("/api/v1/contracts", &contract).expect(201);
    look(&world.server);
    start
}

fn ends(days: [i64; 3], end: i64) -> Vec<(String, u8, i64)> {
    days.into_iter().map(|day| ("cover_ends".to_owned(), u8::try_from(end - day).unwrap(), day)).collect()
}

fn the_end_of_cover_is_told_of_at_its_days(engine: Engine) {
    let world = World::unsigned(engine, Place::Local);
    let start = covered(&world, 100, json!([{"product": CAM, "serial": "SN-1"}, {"product": CAM, "serial": "SN-2"}]));
    let mut expected = Vec::new();
    for day in 0..=120 {
        if day > 0 {
            pass(&world, 1);
            look(&world.server);
        }
        match day {
            40 | 70 | 93 => expected.push(("cover_ends".to_owned(), u8::try_from(100 - day).unwrap(), day)),
            100 => expected.push(("cover_ended".to_owned(), 0, 100)),
            114 => expected.push(("grace_ended".to_owned(), 0, 114)),
            _ => {}
        }
        if [39, 40, 69, 93, 100, 113, 114, 120].contains(&day) {
            assert_eq!(told(&world, start), expected, "day {day}");
        }
    }
    let first = events(&world).into_iter().find(|event| event.data.kind() == "cover_ends").unwrap();
    assert_eq!((first.subject.as_str(), first.customer.as_ref().unwrap().as_str()), ("contract:C-1", "globex"));
    let EventData::CoverEnds(CoverNotice { devices, named, zone, grace_until, .. }) = first.data else { panic!() };
    assert_eq!((devices, named.len(), zone.as_str()), (2, 2, "UTC"));
    assert_eq!(grace_until, Some(start.plus_days(114)));
}

fn who_renews_in_time_is_told_of_the_later_end_alone(engine: Engine) {
    let world = World::unsigned(engine, Place::Local);
    let start = covered(&world, 100, json!([]));
    pass(&world, 50);
    assert_eq!(told(&world, start), [("cover_ends".to_owned(), 60, 40)]);
    let renewal = json!({"windows": [{"from": start.plus_days(100), "to": start.plus_days(200)}]});
    world.admin.post("/api/v1/contracts/C-1/facts", &renewal).expect(200);
    pass(&world, 70);
    assert_eq!(told(&world, start).len(), 1, "nothing of the end that was renewed");
    pass(&world, 30);
    let mut expected = ends([40, 140, 170], 200);
    expected[0].1 = 60;
    assert_eq!(told(&world, start), expected[..2]);
    // Taken back: the earlier end stands again, and its last day and the end of its grace have passed.
    let detail: ContractDetail = world.admin.get("/api/v1/contracts/C-1").expect(200).json();
    let later = detail.windows.iter().find(|window| window.to_at == start.plus_days(200)).unwrap();
    world.admin.delete(&format!("/api/v1/contracts/C-1/windows/{}", later.id)).expect(200);
    look(&world.server);
    let kinds: Vec<_> = told(&world, start).into_iter().skip(2).map(|(kind, ..)| kind).collect();
    assert_eq!(kinds, ["cover_ends", "cover_ends", "cover_ended", "grace_ended"]);
}

fn what_passed_while_no_server_ran_is_told_in_order(engine: Engine) {
    let world = World::unsigned(engine, Place::Local);
    let start = covered(&world, 100, json!([]));
    pass(&world, 150);
    let mut expected = ends([40, 70, 93], 100);
    expected.extend([("cover_ended".to_owned(), 0, 100), ("grace_ended".to_owned(), 0, 114)]);
    assert_eq!(told(&world, start), expected);
    look(&world.server);
    assert_eq!(told(&world, start), expected);
}

fn devices_with_dates_of_their_own_are_told_of_by_themselves(engine: Engine) {
    let world = World::unsigned(engine, Place::Local);
    let until = |days: i64| world.server.now().plus_days(days).to_string();
    let items = json!([
        {"product": CAM, "serial": "SN-1", "to": until(80)},
        {"product": CAM, "serial": "SN-2", "to": until(90)},
        {"product": CAM, "serial": "SN-3", "to": until(90)},
        {"product": CAM, "serial": "SN-4"},
    ]);
    let start = covered(&world, 300, items);
    let zone = json!({"zone": "Europe/Amsterdam"});
    world
        .admin
        .send(
            Method::PUT,
            "/api/v1/contracts/C-1/zone",
            &[("Content-Type", "application/json")],
            &serde_json::to_vec(&zone).unwrap(),
        )
        .expect(200);
    pass(&world, 89);
    pass(&world, 1);
    let of = |days: i64| -> Vec<Event> {
        let end = start.plus_days(days);
        let is_of = |event: &Event| matches!(&event.data, EventData::CoverEnds(n) | EventData::CoverEnded(n) if n.ends_at.as_s().abs_diff(end.as_s()) < 60);
        events(&world).into_iter().filter(is_of).collect()
    };
    let (one, two) = (of(80), of(90));
    assert!(one.iter().all(|event| event.subject == format!("device:{CAM}/SN-1")), "{one:?}");
    assert_eq!((one.len(), two.len()), (4, 4));
    assert!(two.iter().all(|event| event.subject == "contract:C-1"), "{two:?}");
    let EventData::CoverEnds(notice) = &two[0].data else { panic!() };
    assert_eq!((notice.devices, notice.zone.as_str()), (2, "Europe/Amsterdam"));
    assert_eq!(of(300).len(), 0);
}

fn a_day_is_told_of_once_however_many_devices_end_on_it(engine: Engine) {
    let world = World::unsigned(engine, Place::Local);
    let end = world.server.now().plus_days(50);
    let item = |serial: &str| json!({"product": CAM, "serial": serial, "to": end});
    let start = covered(&world, 300, json!([item("SN-1")]));
    let ends = || -> Vec<(u8, u64, String)> {
        let of = |event: Event| match event.data {
            EventData::CoverEnds(notice) | EventData::CoverEnded(notice) => {
                Some((notice.days, notice.devices, event.subject))
            }
            _ => None,
        };
        events(&world).into_iter().filter(|event| event.at > start).filter_map(of).collect()
    };
    pass(&world, 21);
    let one = format!("device:{CAM}/SN-1");
    assert_eq!(ends(), [(30, 1, one.clone())]);
    world.admin.post("/api/v1/contracts/C-1/facts", &json!({"items": [item("SN-2"), item("SN-3")]})).expect(200);
    pass(&world, 1);
    look(&world.server);
    assert_eq!(ends(), [(30, 1, one.clone())], "more devices on a day of which was told: not told again");
    pass(&world, 22);
    assert_eq!(ends()[1..], [(7, 3, "contract:C-1".to_owned())]);
    let shown: ContractDetail = world.admin.get("/api/v1/contracts/C-1").expect(200).json();
    for item in shown.items.iter().filter(|item| item.serial.as_str() != "SN-1") {
        world.admin.delete(&format!("/api/v1/contracts/C-1/items/{}", item.id)).expect(200);
    }
    pass(&world, 1);
    assert_eq!(ends().len(), 2, "nor when fewer are left");
    pass(&world, 8);
    assert_eq!(ends()[2..], [(0, 1, one)]);
}

fn cover_that_is_gained_is_told_of(engine: Engine) {
    let world = World::unsigned(engine, Place::Local);
    covered(&world, 100, json!([{"product": CAM, "serial": "SN-1"}]));
    let gained = || -> Vec<(Time, u64, usize)> {
        let of = |event: Event| match event.data {
            EventData::CoverGained(gained) => Some((gained.until, gained.devices, gained.named.len())),
            _ => None,
        };
        events(&world).into_iter().filter_map(of).collect()
    };
    assert_eq!(gained().len(), 1, "a new contract is one event, with its window and its device");
    world.server.advance_s(60);
    let more = json!({"items": [{"product": CAM, "serial": "SN-2"}, {"product": CAM, "serial": "SN-3"}]});
    world.admin.post("/api/v1/contracts/C-1/facts", &more).expect(200);
    look(&world.server);
    assert_eq!(gained()[1..].iter().map(|(_, devices, _)| *devices).collect::<Vec<_>>(), [2]);
    world.server.advance_s(60);
    let until = world.server.now().plus_days(400);
    let renewal = json!({"windows": [{"from": world.server.now(), "to": until}]});
    world.admin.post("/api/v1/contracts/C-1/facts", &renewal).expect(200);
    world.admin.post("/api/v1/contracts/C-1/facts", &renewal).expect(200);
    look(&world.server);
    look(&world.server);
    assert_eq!(gained()[2..], [(until, 3, 3)]);
}

fn a_swap_is_told_of_from_start_to_end(engine: Engine) {
    let world = World::unsigned(engine, Place::Local);
    covered(&world, 400, json!([{"product": CAM, "serial": "SN-1"}, {"product": CAM, "serial": "SN-2"}]));
    for serial in ["SN-1", "SN-2"] {
        world.register(CAM, serial, &json!({"customer": "globex"}));
    }
    let swap = |rma: &str, old: &str, new: &str| {
        let body = json!({"rma": rma, "product": CAM, "old": old, "new": new});
        world.admin.post("/api/v1/swaps", &body)
    };
    swap("R-1", "SN-1", "SN-8").expect(201);
    swap("R-1", "SN-1", "SN-8").expect(200);
    swap("R-2", "SN-2", "SN-9").expect(201);
    world.admin.post("/api/v1/swaps/R-2/undo", &json!({})).expect(200);
    world.admin.post("/api/v1/swaps/R-2/undo", &json!({})).expect(200);
    for _ in 0..40 {
        pass(&world, 1);
    }
    let swaps: Vec<(String, String)> = events(&world)
        .iter()
        .filter_map(|event| match &event.data {
            EventData::SwapStarted(swap) | EventData::SwapFenced(swap) | EventData::SwapUndone(swap) => {
                assert_eq!(event.customer.as_ref().unwrap().as_str(), "globex");
                assert_eq!(event.subject, format!("device:{CAM}/{}", swap.old));
                Some((event.data.kind().to_owned(), swap.rma.to_string()))
            }
            _ => None,
        })
        .collect();
    let expected = [("swap_started", "R-1"), ("swap_started", "R-2"), ("swap_undone", "R-2"), ("swap_fenced", "R-1")];
    assert_eq!(swaps, expected.map(|(kind, rma)| (kind.to_owned(), rma.to_owned())));
    assert!(told(&world, world.server.now()).is_empty(), "of the old serial's cover the swap tells");
}

fn a_version_that_was_promised_and_is_denied_is_told_of(engine: Engine) {
    let mut world = World::new(engine);
    let [first, second] = world.free_and_paid();
    covered(
        &world,
        30,
        json!([{"product": CAM, "serial": "SN-1"}, {"product": CAM, "serial": "SN-2"}, {"product": CAM, "serial": "SN-3"}]),
    );
    let mut devices = Vec::new();
    for serial in ["SN-1", "SN-2", "SN-3"] {
        let mut device = world.device(CAM, serial);
        device.run(if serial == "SN-3" { &second } else { &first });
        devices.push(device);
    }
    // The first asks and is offered it, the second's rollout has reached it, the third runs it.
    assert_eq!(devices[0].poll().path(), second.path());
    devices[2].poll();
    let denied = || -> Vec<(String, Reason, Option<i32>)> {
        let of = |event: Event| match event.data {
            EventData::VersionDenied(denied) => {
                assert_eq!((denied.version.as_str(), denied.rollout.unwrap().as_str()), ("2.5.0", "major"));
                Some((denied.serial.to_string(), denied.reason, denied.attempt))
            }
            _ => None,
        };
        events(&world).into_iter().filter_map(of).collect()
    };
    pass(&world, 29);
    assert_eq!(denied(), []);
    pass(&world, 5);
    assert_eq!(denied(), [], "grace counts");
    pass(&world, 11);
    look(&world.server);
    let mut all = denied();
    all.sort();
    assert_eq!(all, [("SN-1".to_owned(), Reason::NotLive, Some(1)), ("SN-2".to_owned(), Reason::NotLive, None)]);
}

fn events_are_read_by_number_kind_and_customer(engine: Engine) {
    let world = World::unsigned(engine, Place::Local);
    covered(&world, 100, json!([]));
    pass(&world, 150);
    let all = events(&world);
    assert_eq!(all.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=6).collect::<Vec<_>>(), "no gap");
    let mut paged: Vec<Event> = Vec::new();
    let mut after = String::new();
    loop {
        let page: Page<Event> = world.admin.get(&format!("/api/v1/events?limit=4{after}")).expect(200).json();
        paged.extend(page.items);
        let Some(next) = page.next else { break };
        after = format!("&after={next}");
    }
    assert_eq!(paged, all);
    assert_eq!(world.list::<Event>("/api/v1/events?kind=cover_ends&customer=globex").len(), 3);
    world.admin.post("/api/v1/customers", &json!({"name": "other"})).expect(201);
    assert_eq!(world.list::<Event>("/api/v1/events?customer=other").len(), 0);
    world.admin.get("/api/v1/events?customer=nobody").refused(Kind::NotFound);
    let problem = world.admin.get("/api/v1/events?kind=cover").refused(Kind::Invalid);
    assert!(problem.detail.contains("cover_ends, cover_ended"), "{}", problem.detail);
    world.admin.get("/api/v1/events?wait=26").refused(Kind::Invalid);
    let metrics = world.server.client().get("/metrics").expect(200).text();
    assert!(metrics.contains("sluice_events_newest 6"), "{metrics}");
}

fn a_question_waits_for_an_event(engine: Engine) {
    let world = World::unsigned(engine, Place::Local);
    covered(&world, 400, json!([{"product": CAM, "serial": "SN-1"}]));
    world.register(CAM, "SN-1", &json!({"customer": "globex"}));
    let last = events(&world).last().unwrap().seq;
    let path = format!("/api/v1/events?after={last}&wait=25");
    let admin = world.admin.clone();
    let waiting = std::thread::spawn(move || {
        loop {
            // A machine under load may take longer than one question waits.
            let page: Page<Event> = admin.get(&path).expect(200).json();
            if !page.items.is_empty() {
                return page.items;
            }
        }
    });
    let swap = json!({"rma": "R-1", "product": CAM, "old": "SN-1", "new": "SN-8"});
    world.admin.post("/api/v1/swaps", &swap).expect(201);
    let found = waiting.join().unwrap();
    assert_eq!((found[0].seq, found[0].data.kind()), (last + 1, "swap_started"));
}

fn old_events_go_and_are_not_told_again(engine: Engine) {
    let world = World::unsigned(engine, Place::Local);
    covered(&world, 100, json!([]));
    pass(&world, 150);
    assert_eq!(events(&world).len(), 6);
    pass(&world, 390);
    assert_eq!(events(&world).iter().map(|event| event.seq).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
    pass(&world, 200);
    look(&world.server);
    assert_eq!(events(&world).len(), 0);
    let renewal = json!({"windows": [{"from": world.server.now(), "to": world.server.now().plus_days(10)}]});
    world.admin.post("/api/v1/contracts/C-1/facts", &renewal).expect(200);
    look(&world.server);
    assert_eq!(events(&world).iter().map(|event| event.seq).collect::<Vec<_>>(), [7], "numbers go on");
}

/// An installation of two days ago, with a contract of which the notice of 60 days came due yesterday.
fn due_since_yesterday(engine: Engine) -> World {
    let clock = Clock::default();
    clock.advance_ms(-2 * DAY_S * 1000);
    let database = crate::harness::Database::new(engine);
    let server = TestServer::start_with(database, Place::Local, tempfile::tempdir().unwrap(), clock);
    let world = World::around(server);
    covered(&world, 61, json!([]));
    assert_eq!(events(&world).len(), 1);
    world
}

fn two_replicas_tell_once(engine: Engine) {
    let World { server, admin, .. } = due_since_yesterday(engine);
    let (database, data) = server.stop();
    let other = tempfile::tempdir().unwrap();
    let keys = format!("keys = {:?}\nworker_threads = 0\n", data.path().join("keys").to_str().unwrap());
    std::fs::write(other.path().join("sluice.toml"), keys).unwrap();
    std::fs::write(data.path().join("sluice.toml"), "worker_threads = 0\n").unwrap();
    let processes = [data.path(), other.path()].map(|folder| Process::start(folder, &database.url(), ""));
    let clients = processes.iter().map(|process| crate::harness::Client::new(&process.url).with(admin.token()));
    for client in clients {
        let page: Page<Event> = until("the notice", || {
            let page: Page<Event> = client.get("/api/v1/events").expect(200).json();
            (page.items.len() > 1).then_some(page)
        });
        assert_eq!(
            page.items.iter().map(|event| event.data.kind()).collect::<Vec<_>>(),
            ["cover_gained", "cover_ends"]
        );
    }
}

fn killed_at(failpoint: &str, engine: Engine) {
    let World { server, admin, .. } = due_since_yesterday(engine);
    let (database, data) = server.stop();
    std::fs::write(data.path().join("sluice.toml"), "worker_threads = 0\n").unwrap();
    Process::spawn(data.path(), &database.url(), failpoint).dies_at(failpoint);
    let server = TestServer::start_with(database, Place::Local, data, Clock::default());
    let admin = server.client().with(admin.token());
    let kinds = || -> Vec<String> {
        let page: Page<Event> = admin.get("/api/v1/events").expect(200).json();
        page.items.iter().map(|event| event.data.kind().to_owned()).collect()
    };
    assert_eq!(kinds().len(), 1 + usize::from(failpoint == "notices.after_commit"), "all or nothing");
    look(&server);
    assert_eq!(kinds().len(), 1 + usize::from(failpoint == "notices.after_commit"), "the dead process has the lease");
    server.advance_s(NOTICES_LEASE_S + 1);
    look(&server);
    look(&server);
    assert_eq!(kinds(), ["cover_gained", "cover_ends"]);
}
