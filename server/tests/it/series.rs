//! Figures of rollouts as time goes by: one point for each slot, whoever looks, and fewer as they grow old.

use std::sync::Arc;

use serde_json::{Value, json};
use sluice_catalog::Kind;
use sluice_catalog::rollout::RolloutState;
use sluice_catalog::wire::live::{RolloutLive, SeriesPoint};

use crate::harness::world::{CAM, IMAGES};
use crate::harness::{Engine, Release, TestDevice, World};
use crate::store::tables::alter_points;

both_engines!(
    a_point_is_kept_when_something_has_changed,
    of_servers_that_look_at_once_one_writes,
    old_points_are_thinned_out_and_a_clock_set_back_harms_nothing,
    a_clock_that_ran_ahead_leaves_no_gap,
    what_is_wrong_with_one_rollout_keeps_no_other_from_being_written,
    the_end_is_kept_however_long_the_stage_was_open,
    points_go_with_time_though_no_new_ones_come,
    while_everything_is_stopped_the_reach_stands_still,
    what_is_asked_for_is_held_against_its_limits,
);

const SERIES: &str = "/api/v1/rollouts/spring/series";
const SLOT_S: i64 = 300;

impl World {
    fn keep(&self) -> usize {
        self.server.block_on(async { self.server.app.series_tick().await.unwrap() })
    }

    fn points(&self, query: &str) -> Vec<SeriesPoint> {
        self.list(&format!("{SERIES}?limit=500{query}"))
    }

    /// A rollout that reaches everyone, and a device that is offered it.
    fn rolling(&mut self) -> TestDevice {
        let (first, second) = self.two_releases();
        self.roll_out("spring", &second, &[100]);
        let mut device = self.device(CAM, "SN-1");
        device.run(&first);
        // The slots begin anew: what the server's own timer has kept is behind.
        self.server.advance_s(2 * SLOT_S);
        self.keep();
        device.open_session();
        device
    }
}

fn a_point_is_kept_when_something_has_changed(engine: Engine) {
    let mut world = World::new(engine);
    let device = world.rolling();
    let before = world.points("").len();
    assert_eq!(world.keep(), 0, "once in a slot");
    world.server.advance_s(SLOT_S);
    assert_eq!((world.keep(), world.points("").len()), (0, before), "nothing has changed");
    let attempt = device.poll().attempt();
    let event = json!({"attempt": attempt, "state": "downloading", "encoding": "zstd", "bytes": 77});
    device.report_event(event).expect(200);
    world.server.advance_s(SLOT_S);
    world.keep();
    let points = world.points("");
    let last = points.last().unwrap();
    assert_eq!((last.state, last.stage, last.reach), (RolloutState::Running, 0, 10_000));
    assert_eq!((last.devices.begun, last.devices.downloading, last.bytes.sent), (1, 1, 77));
    assert_eq!(last.at.as_ms() % (SLOT_S * 1000), 0);
    assert_eq!(world.points(&format!("&from={}", last.at)), std::slice::from_ref(last));
    assert_eq!(world.points(&format!("&to={}", last.at)).len(), points.len() - 1);
    // Page by page the same.
    let page: Value = world.admin.get(&format!("{SERIES}?limit=1")).expect(200).json();
    let rest = world.points(&format!("&after={}", page["next"].as_str().unwrap()));
    assert_eq!(rest, points[1..]);
}

fn of_servers_that_look_at_once_one_writes(engine: Engine) {
    let mut world = World::new(engine);
    let device = world.rolling();
    device.poll();
    let before = world.points("").len();
    world.server.advance_s(SLOT_S);
    let app = &world.server.app;
    world.server.block_on(async {
        let looks = (0..8).map(|_| {
            let app = Arc::clone(app);
            async move { app.series_tick().await.unwrap() }
        });
        futures::future::join_all(looks).await;
    });
    assert_eq!(world.points("").len(), before + 1);
    // The same slot by hand, as a server would that has heard of nobody else.
    let last = world.points("").pop().unwrap();
    let id = world.rollout("spring").rollout.id;
    let again = world.server.block_on(async {
        let mut tx = app.store.begin().await.unwrap();
        let again = tx.series_add(id, &SeriesPoint { reach: 1, ..last.clone() }).await.unwrap();
        tx.commit().await.unwrap();
        again
    });
    assert!(!again && world.points("").pop() == Some(last));
}

fn old_points_are_thinned_out_and_a_clock_set_back_harms_nothing(engine: Engine) {
    let mut world = World::new(engine);
    let device = world.rolling();
    let id = world.rollout("spring").rollout.id;
    let now = world.server.now();
    let sample = world.points("").pop().unwrap();
    // Three days in slots, each of them different, and one point of two years ago.
    let app = &world.server.app;
    world.server.block_on(async {
        let mut tx = app.store.begin().await.unwrap();
        let hour = sluice_catalog::Time::from_ms(now.as_ms().div_euclid(3_600_000) * 3_600_000);
        for slot in 0..3 * 24 * 12 {
            let at = hour.plus_s(-SLOT_S * (slot + 1));
            tx.series_add(id, &SeriesPoint { at, ..sample.clone() }).await.unwrap();
        }
        tx.series_add(id, &SeriesPoint { at: hour.plus_days(-700), ..sample.clone() }).await.unwrap();
        tx.commit().await.unwrap();
    });
    device.poll();
    world.server.advance_s(SLOT_S);
    world.keep();
    let points = world.points("&to=2000-01-01");
    assert_eq!(points, [], "nothing is that old");
    let all: Vec<SeriesPoint> = {
        let first = world.points("");
        let after = first.last().unwrap().at.as_ms();
        let rest = world.points(&format!("&after={after}"));
        first.into_iter().chain(rest).collect()
    };
    let limit = world.server.now().plus_days(-2);
    let (old, young): (Vec<_>, Vec<_>) = all.iter().partition(|point| point.at < limit);
    assert!((23..=26).contains(&old.len()), "a day of hours: {}", old.len());
    assert!(old.iter().all(|point| point.at > now.plus_days(-4)), "{:?}", old.first());
    // The hour that is not over has no points but the last.
    assert!(young.len() > 2 * 24 * 12 - 12, "two days in slots: {}", young.len());
    // The clock is set back by half an hour: nothing is written into what was.
    let before = all.len();
    world.server.advance_s(-1800);
    world.server.block_on(async { app.series_tick().await.unwrap() });
    let first = world.points("");
    let rest = world.points(&format!("&after={}", first.last().unwrap().at.as_ms()));
    assert_eq!(first.len() + rest.len(), before);
}

fn what_is_asked_for_is_held_against_its_limits(engine: Engine) {
    let mut world = World::new(engine);
    world.rolling();
    let get = |query: &str| world.admin.get(&format!("{SERIES}?{query}"));
    let problem = get("from=2027-01-02&to=2027-01-01").refused(Kind::Invalid);
    assert!(problem.detail.starts_with("to: "), "{}", problem.detail);
    get("after=yesterday").refused(Kind::Invalid);
    get("limit=501").refused(Kind::Invalid);
    get("from=soon").refused(Kind::Malformed);
    world.admin.get("/api/v1/rollouts/none/series").refused(Kind::NotFound);
}

fn a_clock_that_ran_ahead_leaves_no_gap(engine: Engine) {
    let mut world = World::new(engine);
    let device = world.rolling();
    world.server.advance_s(300 * 24 * 3600);
    world.move_rollout("spring", "pause").expect(200);
    world.keep();
    world.server.advance_s(-300 * 24 * 3600 + 2 * SLOT_S);
    world.move_rollout("spring", "resume").expect(200);
    device.poll();
    world.keep();
    let now = world.server.now();
    let points = world.points(&format!("&to={}", now.plus_s(1)));
    let last = points.last().unwrap();
    assert!(last.at > now.plus_s(-SLOT_S) && last.devices.offered == 1, "{last:?}");
    assert_eq!(world.points(&format!("&from={}", now.plus_days(200))).len(), 1, "what was written then stays");
}

fn what_is_wrong_with_one_rollout_keeps_no_other_from_being_written(engine: Engine) {
    let mut world = World::new(engine);
    world.rolling();
    let third = Release::new(CAM, "2.4.2", 20402, &IMAGES[2]);
    world.release(&third);
    world.roll_out("autumn", &third, &[100]);
    world.server.advance_s(SLOT_S);
    world.keep();
    let last = |name: &str| world.list::<SeriesPoint>(&format!("/api/v1/rollouts/{name}/series")).pop();
    for (broken, whole) in [("spring", "autumn"), ("autumn", "spring")] {
        world.move_rollout(broken, "pause").expect(200);
        world.move_rollout(whole, "pause").expect(200);
        let id = world.rollout(broken).rollout.id;
        let spoil = |point: &str| alter_points(&world.server, id, point);
        let good = serde_json::to_string(&last(broken).unwrap()).unwrap();
        spoil("{");
        world.server.advance_s(SLOT_S);
        world.keep();
        let slot = last(whole).unwrap();
        assert_eq!(slot.state, RolloutState::Paused, "{whole} beside {broken}");
        assert_eq!(world.keep(), 0, "and nobody looks at it again and again");
        spoil(&good);
        for name in [broken, whole] {
            world.move_rollout(name, "resume").expect(200);
        }
        world.server.advance_s(SLOT_S);
        world.keep();
    }
}

fn the_end_is_kept_however_long_the_stage_was_open(engine: Engine) {
    let mut world = World::new(engine);
    world.rolling();
    world.server.advance_s(30 * 24 * 3600);
    world.keep();
    world.move_rollout("spring", "halt").expect(200);
    world.server.advance_s(SLOT_S);
    world.keep();
    assert_eq!(world.points("").pop().unwrap().state, RolloutState::Halted);
}

fn points_go_with_time_though_no_new_ones_come(engine: Engine) {
    let mut world = World::new(engine);
    world.rolling();
    world.move_rollout("spring", "halt").expect(200);
    world.server.advance_s(SLOT_S);
    world.keep();
    assert_ne!(world.points(""), []);
    world.server.advance_s(401 * 24 * 3600);
    world.keep();
    assert_eq!(world.points(""), []);
}

fn while_everything_is_stopped_the_reach_stands_still(engine: Engine) {
    let mut world = World::new(engine);
    world.two_releases();
    let plan = json!({
        "name": "spring", "product": CAM, "version": "2.4.1", "stages": [{"percent": 100, "ramp": "1000m"}],
        "rules": {"rates": {"per_site": "1000m"}},
    });
    world.admin.post("/api/v1/rollouts", &plan).expect(201);
    world.move_rollout("spring", "start").expect(200);
    world.server.run_jobs();
    world.server.advance_s(100 * 60);
    let stop = |stopped: bool| {
        world.admin.put_json("/api/v1/stop-all", &json!({"stopped": stopped, "reason": "fire"})).expect(200);
    };
    let reach = || {
        let live: RolloutLive = world.admin.get("/api/v1/rollouts/spring/live").expect(200).json();
        live.reach
    };
    stop(true);
    let reached = reach();
    // Ten minutes are a hundredth; the requests take a part of one.
    let stands = |what: &str| assert!(reach() - reached < 10, "{what}: {reached} became {}", reach());
    assert!((1000..1010).contains(&reached), "{reached}");
    world.server.advance_s(300 * 60);
    stands("it is stopped");
    world.keep();
    assert_eq!(world.points("").pop().unwrap().reach, reach());
    // Whoever moves it meanwhile counts no time in which nobody was offered anything.
    world.move_rollout("spring", "pause").expect(200);
    stands("it was paused while it was stopped");
    world.server.advance_s(100 * 60);
    world.move_rollout("spring", "resume").expect(200);
    world.server.advance_s(100 * 60);
    stands("it was resumed while it was stopped");
    stop(false);
    stands("it goes on from there");
    let ran = world.rollout("spring").rollout.ran_ms_at(world.server.now());
    assert!((100 * 60_000..101 * 60_000).contains(&ran), "and so do rates at sites: {ran} ms");
    world.server.advance_s(100 * 60);
    assert!((1999..2010).contains(&reach()), "{}", reach());
}
