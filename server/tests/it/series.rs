//! Figures of rollouts as time goes by: one point for each slot, whoever looks, and fewer as they grow old.

use std::sync::Arc;

use serde_json::{Value, json};
use sluice_catalog::Kind;
use sluice_catalog::rollout::RolloutState;
use sluice_catalog::wire::live::SeriesPoint;

use crate::harness::world::CAM;
use crate::harness::{Engine, TestDevice, World};

both_engines!(
    a_point_is_kept_when_something_has_changed,
    of_servers_that_look_at_once_one_writes,
    old_points_are_thinned_out_and_a_clock_set_back_harms_nothing,
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
    // The clock is set back by a day: nothing is written into what was.
    let before = all.len();
    world.server.advance_s(-24 * 3600);
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
