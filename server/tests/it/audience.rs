//! Audiences: filters decide, are counted, and name what may be a mistake.

use serde_json::{Value, json};
use sluice_catalog::Kind;
use sluice_catalog::Time;
use sluice_catalog::decide::audience_has;
use sluice_catalog::rollout::{RolloutState, Selector};
use sluice_catalog::wire::rollout::{AudienceCount, RolloutDetail};

use crate::harness::world::{CAM, IMAGES};
use crate::harness::{Engine, Release, TestDevice, World};

both_engines!(
    a_filter_decides_who_is_offered_it_and_who_leaves_by_succeeding_counts,
    an_audience_is_counted_by_hardware_and_version,
    an_audience_of_nobody_is_refused_unless_it_is_meant,
    the_database_leaves_out_nobody_whom_the_decision_would_choose,
    controls_are_of_the_same_audience,
    a_thousand_tags_are_one_audience,
    who_prefers_no_content_moves_a_rollout_all_the_same,
);

const COUNT: &str = "/api/v1/products/acme-cam/audience/count";

fn registered(world: &World, serial: &str, more: &Value, runs: &Release) -> TestDevice {
    world.register(CAM, serial, more);
    let mut device = TestDevice::new(&world.server, CAM, serial);
    if let Some(hardware) = more["hw_id"].as_str() {
        hardware.clone_into(&mut device.hw_id);
    }
    device.enrol(None).expect(200);
    device.open_session();
    device.run(runs);
    device.poll();
    device
}

/// 2.4.0, 2.9.0 and 2.10.0: the last two are in another order as texts.
fn releases(world: &mut World) -> [Release; 3] {
    let releases = [("2.4.0", 20_400), ("2.9.0", 20_900), ("2.10.0", 21_000)];
    let mut images = IMAGES.iter();
    let releases = releases.map(|(version, order)| Release::new(CAM, version, order, images.next().unwrap()));
    for release in &releases {
        world.release(release);
    }
    releases
}

fn plan(filter: &str) -> Value {
    json!({
        "name": "spring", "product": CAM, "version": "2.10.0", "stages": [{"percent": 100}],
        "selector": {"filter": filter},
    })
}

fn a_filter_decides_who_is_offered_it_and_who_leaves_by_succeeding_counts(engine: Engine) {
    let mut world = World::new(engine);
    let [first, nine, ten] = releases(&mut world);
    let lab = registered(&world, "SN-LAB", &json!({"tags": ["lab"]}), &first);
    let mut field = registered(&world, "SN-FIELD", &json!({"site": "hall"}), &first);
    let newer = registered(&world, "SN-NEWER", &json!({}), &nine);
    let filter = r#"version<"2.9.0" and not (tag = "lab") and last_seen < 30d"#;
    let made: RolloutDetail = world.admin.post("/api/v1/rollouts", &plan(filter)).expect(201).json();
    let canonical = r#"version < "2.9.0" and tag != "lab" and last_seen < 30d"#;
    assert_eq!(made.rollout.selector.filter.as_ref().unwrap().to_string(), canonical);
    world.server.unchanged(|| world.admin.post("/api/v1/rollouts", &plan(canonical)).expect(200));
    let told = audience_of(&world);
    assert_eq!((told.devices, told.entitled, told.warnings.len()), (1, Some(1), 0), "{:?}", told.warnings);
    world.move_rollout("spring", "start").expect(200);
    world.server.run_jobs();
    for (device, detail) in [
        (&lab, r#"spring asks for tag != "lab", the device has lab"#),
        (&newer, r#"spring asks for version < "2.9.0", the device has 2.9.0"#),
    ] {
        device.poll().is_nothing("NOT_IN_AUDIENCE");
        let why = world.why(device, "?version=2.10.0");
        assert!(why.steps.iter().any(|step| step.detail == detail), "{:?}", why.steps);
    }
    let offered = field.poll();
    assert_eq!(offered.path(), ten.path());
    field.report(offered.attempt(), "downloading").expect(200);
    field.run(&ten);
    field.poll().is_nothing("UP_TO_DATE");
    field.report(offered.attempt(), "healthy").expect(200);
    let left: AudienceCount = world.admin.post(COUNT, &json!({"selector": {"filter": filter}})).expect(200).json();
    assert_eq!(left.devices, 0, "it left by succeeding");
    let detail = world.rollout("spring");
    assert_eq!((detail.counts.begun.attempts, detail.counts.begun.healthy), (1, 1), "and is counted all the same");
    field.poll().is_nothing("UP_TO_DATE");
    // A device that was silent for longer than the filter allows is heard of when it polls.
    world.server.advance_s(40 * 24 * 3600);
    let mut late = lab;
    late.open_session();
    late.poll().is_nothing("NOT_IN_AUDIENCE");
}

/// Whom the rollout `spring` is for.
fn audience_of(world: &World) -> AudienceCount {
    world.admin.get("/api/v1/rollouts/spring/audience").expect(200).json()
}

fn a_thousand_tags_are_one_audience(engine: Engine) {
    let mut world = World::new(engine);
    let [first, ..] = releases(&mut world);
    registered(&world, "SN-1", &json!({"tags": ["t999"]}), &first);
    registered(&world, "SN-2", &json!({"tags": ["t1000"]}), &first);
    let tags: Vec<String> = (0..1000).map(|number| format!("t{number}")).collect();
    let count: AudienceCount = world.admin.post(COUNT, &json!({"selector": {"tags": tags}})).expect(200).json();
    assert_eq!(count.devices, 1);
}

fn who_prefers_no_content_moves_a_rollout_all_the_same(engine: Engine) {
    let mut world = World::new(engine);
    let [first, ..] = releases(&mut world);
    registered(&world, "SN-1", &json!({}), &first);
    world.admin.post("/api/v1/rollouts", &plan(r#"version < "2.9.0""#)).expect(201);
    let send = |action: &str, prefer: &str| {
        let body = json!({"action": action}).to_string();
        let headers = [("content-type", "application/json"), ("prefer", prefer)];
        world.admin.send(ureq::http::Method::POST, "/api/v1/rollouts/spring/move", &headers, body.as_bytes())
    };
    let start = |prefer: &str| send("start", prefer);
    let quiet = start("respond-async, return=minimal");
    assert_eq!((quiet.status, quiet.body.len(), quiet.header("preference-applied")), (204, 0, "return=minimal"));
    world.server.run_jobs();
    let detail: RolloutDetail = start("return=representation").expect(200).json();
    assert_eq!(detail.rollout.state, RolloutState::Running, "doing it again changes nothing");
    world.server.unchanged(|| {
        send("submit", "return=minimal").refused(Kind::WrongState);
    });
}

fn an_audience_is_counted_by_hardware_and_version(engine: Engine) {
    let mut world = World::new(engine);
    let [first, nine, _] = releases(&mut world);
    for (serial, runs) in [("SN-1", &first), ("SN-2", &first), ("SN-3", &nine)] {
        registered(&world, serial, &json!({"site": "hall"}), runs);
    }
    world.register(CAM, "SN-4", &json!({"site": "other"}));
    let count = |body: &Value| world.admin.post(COUNT, body).expect(200).json::<AudienceCount>();
    let all = count(&json!({"version": "2.9.0"}));
    let versions: Vec<(&str, u64)> = all.by_version.iter().map(|(version, count)| (version.as_str(), *count)).collect();
    assert_eq!(versions, [("", 1), ("2.4.0", 2), ("2.9.0", 1)]);
    assert_eq!((all.devices, all.by_hardware.values().sum::<u64>(), all.entitled, all.cut), (4, 4, Some(4), false));
    let some = count(&json!({"selector": {"sites": ["hall"], "filter": r#"version >= "2.9.0" or site = "mars""#}}));
    assert_eq!((some.devices, some.entitled), (1, None));
    assert_eq!(some.warnings, ["nobody knows site mars"]);
    let odd = r#"customer = "c9" or tag in ("t1", "t2") or plan = "p9" or hardware = "cam-r99""#;
    let warnings = count(&json!({"selector": {"filter": odd}})).warnings.join("; ");
    assert_eq!(
        warnings,
        "nobody knows customer c9; nobody knows tag t1, t2; nobody knows plan p9; nobody knows hardware cam-r99"
    );
    world.server.unchanged(|| {
        let bad = |filter: &str| world.admin.post(COUNT, &json!({"selector": {"filter": filter}}));
        let error = bad("sight = \"a\"").refused(Kind::Malformed);
        assert!(error.detail.contains("column 1: there is no field `sight`"), "{}", error.detail);
        let error = bad(r#"version < "7""#).refused(Kind::Invalid);
        assert!(error.detail.contains("there is no version 7"), "{}", error.detail);
        world.admin.post(COUNT, &json!({"version": "7"})).refused(Kind::NotFound);
    });
}

fn an_audience_of_nobody_is_refused_unless_it_is_meant(engine: Engine) {
    let mut world = World::new(engine);
    let [first, ..] = releases(&mut world);
    registered(&world, "SN-1", &json!({"tags": ["vip"]}), &first);
    let mut written = plan(r#"tag = "vip" and version >= "2.9.0""#);
    written["rules"] = json!({"approvals": 1});
    written["stages"] = json!([{"percent": 100, "gate": {"minimum": 10, "success": 50, "soak": "1h"}}]);
    world.admin.post("/api/v1/rollouts", &written).expect(201);
    assert_eq!(audience_of(&world).warnings, ["no device is in its audience now"]);
    let send = |body: &Value| world.admin.post("/api/v1/rollouts/spring/move", body);
    world.server.unchanged(|| {
        let error = send(&json!({"action": "submit"})).refused(Kind::WrongState);
        assert!(error.detail.contains("--allow-empty"), "{}", error.detail);
    });
    let sent: RolloutDetail = send(&json!({"action": "submit", "allow_empty": true})).expect(200).json();
    assert_eq!(sent.rollout.state, RolloutState::Review);
    written["selector"] = json!({"filter": r#"tag = "vip""#});
    world.admin.put_json("/api/v1/rollouts/spring", &written).expect(200);
    send(&json!({"action": "submit"})).expect(200);
    let told = audience_of(&world);
    assert_eq!(told.devices, 1);
    assert!(told.warnings[0].starts_with("the gate of stage 0 asks for 10 matured attempts"), "{:?}", told.warnings);
}

fn the_database_leaves_out_nobody_whom_the_decision_would_choose(engine: Engine) {
    use sluice_server::store::{DeviceFilter, On, device_page};
    let mut world = World::new(engine);
    let [first, nine, ten] = releases(&mut world);
    world.admin.post("/api/v1/customers", &json!({"name": "globex"})).expect(201);
    registered(&world, "SN-1", &json!({"tags": ["lab", "a"], "site": "hall"}), &first);
    registered(&world, "SN-2", &json!({"tags": ["lab-2"], "customer": "globex"}), &nine);
    registered(&world, "SN-3", &json!({"hw_id": "cam-r2"}), &ten);
    world.register(CAM, "SN-4", &json!({"site": "other"}));
    let app = &world.server.app;
    let product = app.live.products_full().by_name(CAM).unwrap().clone();
    let now = world.server.now();
    for (filter, open) in [
        (r#"version < "2.10.0""#, false),
        (r#"not version < "2.10.0""#, false),
        (r#"version in ("2.4.0", "2.10.0") and hardware != "cam-r2""#, false),
        (r#"version != "2.9.0""#, false),
        (r#"tag = "lab" or customer = "globex""#, false),
        (r#"not (tag = "lab" or site = "other")"#, false),
        (r#"site != "hall" and customer not in ("globex", "acme") and product = "acme-cam""#, false),
        (r#"site = "hall" and plan = "none""#, true),
        (r#"not plan = "none" and last_seen < 30d"#, true),
    ] {
        let selector = Selector { filter: Some(filter.parse().unwrap()), ..Selector::default() };
        let audience = Some((selector.clone(), product.clone()));
        let chosen = DeviceFilter { product: Some(product.product.id), audience, ..DeviceFilter::default() };
        let all = DeviceFilter { product: Some(product.product.id), ..DeviceFilter::default() };
        let (chosen, views) = world.server.block_on(async {
            let mut on = On::from(&app.store);
            let chosen = device_page(&mut on, &chosen, None, 100).await.unwrap();
            let rows = device_page(&mut on, &all, None, 100).await.unwrap();
            (chosen, sluice_server::poll::views::of_rows(&mut on, &app.live, rows).await.unwrap())
        });
        for view in views {
            let has = audience_has(&selector, &view, &product, now);
            let found = chosen.iter().any(|row| row.device.id == view.device.id);
            assert!(found == has || (open && found), "{filter} of {}: {found}, {has}", view.device.serial);
        }
    }
}

fn controls_are_of_the_same_audience(engine: Engine) {
    let mut world = World::new(engine);
    let [first, nine, _] = releases(&mut world);
    let now = world.server.now();
    world.contract("live", &now.plus_days(-400).to_string(), &now.plus_days(-3).to_string(), &["SN-1", "SN-5"]);
    let plans = |grace: u32| json!({"rule": "live", "grace_days": grace, "grants": []});
    for (serial, tag, runs) in [
        ("SN-1", "a", &first),
        ("SN-2", "a", &first),
        ("SN-3", "lab", &first),
        ("SN-4", "a", &nine),
        ("SN-5", "lab", &first),
    ] {
        registered(&world, serial, &json!({"tags": [tag]}), runs);
    }
    let mut rollout = None;
    let mut controls = |filter: &str| {
        if rollout.is_none() {
            world.admin.post("/api/v1/rollouts", &plan(filter)).expect(201);
            world.move_rollout("spring", "start").expect(200);
            world.server.run_jobs();
            rollout = Some(world.rollout("spring").rollout);
        }
        let mut rollout = rollout.clone().unwrap();
        rollout.selector.filter = Some(filter.parse().unwrap());
        let app = &world.server.app;
        world.server.block_on(async {
            let products = app.live.products_full();
            let seen: Vec<_> = app.store.device_changes(Time::EPOCH, 100).await.unwrap();
            let later = app.now().plus_s(60);
            app.store.device_seen(&seen.iter().map(|(id, _)| (*id, later)).collect::<Vec<_>>()).await.unwrap();
            let product = products.by_name(CAM).unwrap();
            let found = app.store.attempt_controls(&rollout, product, (app.now(), later)).await.unwrap();
            found.iter().map(|of| of.controls).sum::<i64>()
        })
    };
    assert_eq!(controls(r#"tag != "lab" and version < "2.9.0""#), 2, "neither the lab nor who runs a newer version");
    // The cover has ended three days ago, without grace.
    assert_eq!(controls(r#"plan = "plus""#), 0);
    assert_eq!(controls(r#"plan != "plus""#), 5);
    world.admin.put_json("/api/v1/plans/plus", &plans(4)).expect(200);
    assert_eq!(controls(r#"plan = "plus""#), 2, "days of grace are cover");
    assert_eq!(controls(r#"plan = "plus" and tag = "lab""#), 1);
    assert_eq!(controls(r#"plan in ("plus", "none") or version = "2.9.0""#), 3);
    assert_eq!(controls(r#"not plan = "plus" and tag = "a""#), 2);
    world.admin.put_json("/api/v1/plans/plus", &plans(3)).expect(200);
    world.server.advance_s(3600);
    assert_eq!(controls(r#"plan = "plus""#), 0, "and end with the day");
    // Who is treated was heard of when it was asked; so are those that stand beside it, however long ago that was.
    assert_eq!(controls("last_seen < 1d"), 5);
    assert_eq!(controls("last_seen > 30d"), 0);
    assert_eq!(controls(r#"not last_seen > 30d and tag = "lab""#), 2);
}
