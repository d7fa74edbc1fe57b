//! What goes wrong with rollouts, by plan, by people, by clocks and by servers: refused, or harmless.

use std::sync::Arc;

use serde_json::{Value, json};
use sluice_catalog::Kind;
use sluice_catalog::job::JobState;
use sluice_catalog::rollout::{RolloutState, Waits};
use sluice_catalog::wire::live::RolloutLive;
use sluice_catalog::wire::rollout::{AudienceCount, StopAll};
use sluice_server::jobs::{self, prepare};
use sluice_server::store::Because;

use crate::harness::world::CAM;
use crate::harness::{Engine, World};
use crate::staging::{fail, plan, succeed};
use crate::store::tables::{alter_stop_all, attempt_of_tomorrow, rename};

both_engines!(
    stages_that_shrink_are_refused_and_change_nothing,
    a_gate_that_never_passes_waits_and_a_hand_leads_on,
    windows_that_never_open_are_refused,
    a_window_that_closes_for_good_offers_nothing_and_fails_nothing,
    an_audience_that_empties_stands_still,
    a_clock_that_jumps_moves_nothing_that_it_should_not,
    a_server_that_was_away_takes_no_silence_for_failure,
    replicas_that_disagree_for_a_second_move_nothing_twice,
    a_move_that_was_counted_before_everything_stopped_is_not_made,
    a_rollout_that_is_resumed_while_its_job_ends_goes_on_preparing,
    one_rollout_that_cannot_be_counted_keeps_no_other_from_being_stopped,
    a_rollout_opens_however_often_its_preparing_failed,
);

const ROLLOUTS: &str = "/api/v1/rollouts";

impl World {
    fn live(&self) -> RolloutLive {
        self.admin.get("/api/v1/rollouts/spring/live").expect(200).json()
    }

    fn state(&self) -> RolloutState {
        self.rollout("spring").rollout.state
    }
}

fn stages_that_shrink_are_refused_and_change_nothing(engine: Engine) {
    let mut world = World::new(engine);
    world.two_releases();
    let with = |stages: Value| {
        let mut written = plan(json!({}));
        written["stages"] = stages;
        written
    };
    let shrinks = with(json!([{"percent": 50}, {"percent": 10}, {"percent": 100}]));
    let refused = |answer: crate::harness::Answer| {
        let detail = answer.refused(Kind::Invalid).detail;
        assert!(detail.contains("stages[1]"), "{detail}");
    };
    world.server.unchanged(|| refused(world.admin.post(ROLLOUTS, &shrinks)));
    world.admin.post(ROLLOUTS, &with(json!([{"percent": 50}, {"percent": 50}, {"percent": 100}]))).expect(201);
    world.server.unchanged(|| refused(world.admin.put_json("/api/v1/rollouts/spring", &shrinks)));
    // Once it has started its stages stay as they are, shrinking or not.
    world.move_rollout("spring", "start").expect(200);
    world.server.unchanged(|| {
        for stages in [json!([{"percent": 10}]), json!([{"percent": 60}, {"percent": 100}])] {
            world.admin.put_json("/api/v1/rollouts/spring", &with(stages)).refused(Kind::WrongState);
        }
    });
}

fn a_gate_that_never_passes_waits_and_a_hand_leads_on(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    let mut written = plan(json!({}));
    written["stages"][0]["gate"] = json!({"minimum": 40, "success": 80, "soak": "1h"});
    let opened = world.open(&written);
    let (mut treated, _) = world.fleet(&opened.rollout.salt, &first, 2, 0);
    for device in &mut treated {
        succeed(device, &second);
    }
    // A year later it waits for the same, says so, and nobody guesses when it will be done.
    for _ in 0..3 {
        world.server.advance_s(120 * 24 * 3600);
        assert_eq!(world.look(), 0);
        let live = world.live();
        assert_eq!((live.state, live.stage, live.completes_at), (RolloutState::Running, 0, None));
        assert_eq!(live.waits, Waits::Attempts { have: 2, need: 40, coming: 0 });
    }
    world.move_rollout("spring", "advance").expect(200);
    assert_eq!(world.rollout("spring").rollout.stage, 1);
}

fn windows_that_never_open_are_refused(engine: Engine) {
    let mut world = World::new(engine);
    world.two_releases();
    let now = world.server.now();
    let date = |days: i64| now.plus_days(days).to_string()[..10].to_owned();
    let never = |schedule: Value| {
        let detail = world.admin.post(ROLLOUTS, &plan(json!({"schedule": schedule}))).refused(Kind::Invalid).detail;
        assert!(detail.contains("rules.schedule"), "{detail}");
    };
    world.server.unchanged(|| {
        never(json!({"blackouts": [{"from": date(-2), "to": date(800)}]}));
        never(json!({"windows": [{"days": ["mon"], "from": "02:00", "to": "04:00"}],
                     "blackouts": [{"from": date(-2), "to": date(200)}, {"from": date(200), "to": date(800)}]}));
        never(json!({"time_zone": "Mars/Olympus", "windows": [{"from": "02:00", "to": "04:00"}]}));
    });
    // A start behind the last opening is as bad as none.
    let later =
        json!({"start_at": now.plus_days(30), "schedule": {"blackouts": [{"from": date(20), "to": date(500)}]}});
    world.server.unchanged(|| world.admin.post(ROLLOUTS, &plan(later)).refused(Kind::Invalid));
}

fn a_window_that_closes_for_good_offers_nothing_and_fails_nothing(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    let now = world.server.now();
    let date = |days: i64| now.plus_days(days).to_string()[..10].to_owned();
    // It is open for two days, and then shut for longer than anybody plans.
    let mut written = plan(
        json!({"schedule": {"blackouts": [{"from": date(2), "to": date(360)}, {"from": date(360), "to": date(700)}]}, "rates": {"per_site": "1h"}}),
    );
    written["stages"] = json!([{"percent": 100, "gate": {"minimum": 3, "success": 30, "soak": "1h"}}]);
    world.open(&written);
    let mut device = world.device(CAM, "SN-1");
    device.run(&first);
    world.server.advance_s(3700);
    assert_eq!(device.poll().path(), second.path());
    for days in [10, 200] {
        world.server.advance_s(days * 24 * 3600);
        device.open_session();
        device.poll().is_nothing("WINDOW_CLOSED");
        assert_eq!(world.look(), 0);
        let live = world.live();
        assert_eq!((live.state, live.completes_at), (RolloutState::Running, None));
    }
    world.why(&device, "");
}

fn an_audience_that_empties_stands_still(engine: Engine) {
    let mut world = World::new(engine);
    let (first, _) = world.two_releases();
    world.register(CAM, "SN-1", &json!({"tags": ["a"]}));
    let mut device = crate::harness::TestDevice::new(&world.server, CAM, "SN-1");
    device.enrol(None).expect(200);
    device.open_session();
    device.run(&first);
    let mut written = plan(json!({"stop": {"silent": {"percent": 5}}}));
    written["selector"] = json!({"filter": r#"tag = "a""#});
    written["stages"] = json!([{"percent": 100, "gate": {"minimum": 3, "success": 30, "soak": "1h"}}]);
    world.open(&written);
    let path = format!("/api/v1/products/{CAM}/devices/SN-1/state");
    world.admin.post(&path, &json!({"state": "blocked"})).expect(200);
    let count = world.admin.get("/api/v1/rollouts/spring/audience").expect(200).json::<AudienceCount>();
    assert_eq!(count.devices, 0);
    for _ in 0..3 {
        world.server.advance_s(24 * 3600);
        assert_eq!(world.look(), 0);
        let live = world.live();
        assert_eq!((live.state, live.devices.begun, live.completes_at), (RolloutState::Running, 0, None));
        assert_eq!(live.waits, Waits::Attempts { have: 0, need: 3, coming: 0 });
    }
}

fn a_clock_that_jumps_moves_nothing_that_it_should_not(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    let mut written = plan(json!({"mature": "30m", "stop": {"silent": {"percent": 5}}}));
    let gate = json!({"minimum": 3, "success": 30, "soak": "1h"});
    written["stages"] = json!([{"percent": 50, "ramp": "10h", "gate": gate}, {"percent": 100, "gate": gate}]);
    let opened = world.open(&written);
    world.server.advance_s(5 * 3600);
    let reach = world.live().reach;
    assert!((2500..2510).contains(&reach), "{reach}");
    // Set back by months: nothing that was reached is lost, no gate opens, no time is told that is not.
    world.server.advance_s(-100 * 24 * 3600);
    assert_eq!(world.look(), 0);
    let live = world.live();
    assert_eq!((live.state, live.stage), (RolloutState::Running, 0));
    // A pause and a resume in that time keep what was reached before.
    world.move_rollout("spring", "pause").expect(200);
    world.move_rollout("spring", "resume").expect(200);
    let rollout = world.rollout("spring").rollout;
    assert!(rollout.ran_ms >= 0 && rollout.reach(world.server.now()) < 10_000);
    // And forward again: half a year at once is one look, and no move without attempts.
    world.server.advance_s(180 * 24 * 3600);
    assert_eq!(world.look(), 0);
    let live = world.live();
    assert_eq!((live.state, live.stage, live.reach), (RolloutState::Running, 0, 5000));
    let (mut treated, _) = world.fleet(&opened.rollout.salt, &first, 3, 0);
    for device in &mut treated {
        succeed(device, &second);
    }
    // Their success is an hour old when the clock jumps by a week: who could not be heard meanwhile is not silent.
    world.server.advance_s(7 * 24 * 3600);
    world.look();
    let moved = world.rollout("spring");
    assert_eq!((moved.rollout.state, moved.rollout.stage), (RolloutState::Running, 1), "{:?}", moved.transitions);
}

fn a_server_that_was_away_takes_no_silence_for_failure(engine: Engine) {
    let mut world = World::new(engine);
    let (first, _) = world.two_releases();
    let opened = world.open(&plan(json!({"mature": "30m", "stop": {"silent": {"percent": 5}}})));
    let (treated, _) = world.fleet(&opened.rollout.salt, &first, 4, 0);
    for device in &treated {
        let attempt = device.poll().attempt();
        device.report(attempt, "downloading").expect(200);
    }
    world.server.advance_s(24 * 3600);
    world.look();
    assert_eq!(world.rollout("spring").counts.begun.silent, 4);
    assert_eq!(world.state(), RolloutState::Running, "nobody could be heard");
    // Half an hour of looks later they are silent in earnest.
    for _ in 0..40 {
        world.server.advance_s(50);
        world.look();
    }
    assert_eq!(world.state(), RolloutState::Paused);
}

fn replicas_that_disagree_for_a_second_move_nothing_twice(engine: Engine) {
    let mut world = World::new(engine);
    let (first, _) = world.two_releases();
    let opened = world.open(&plan(json!({})));
    let (treated, _) = world.fleet(&opened.rollout.salt, &first, 3, 0);
    // The other one has read the rollout as it runs, and hears of nothing after it.
    let other = world.server.replica();
    for device in &treated {
        fail(device, "failed", "out_of_space");
    }
    world.look();
    let paused = world.rollout("spring");
    assert_eq!(paused.rollout.state, RolloutState::Paused);
    let look = |app: &Arc<sluice_server::app::App>| {
        world.server.block_on(async {
            app.store.lease_give("rollouts", world.server.app.publisher.replica.as_str()).await.unwrap();
            app.rollouts_look().await.unwrap()
        })
    };
    assert_eq!(look(&other), 0, "it sees three failures in a rollout that it takes to be running");
    assert_eq!(world.rollout("spring").transitions, paused.transitions);
    // Resumed here, and taken by the other for what it was before anybody judged.
    world.server.advance_s(20);
    world.move_rollout("spring", "resume").expect(200);
    let going = world.rollout("spring");
    assert!(other.live.is_fresh(world.server.now()), "else it would not look at all");
    assert_eq!(look(&other), 0);
    assert_eq!(world.rollout("spring").transitions, going.transitions);
    assert_eq!(world.state(), RolloutState::Running);
    // What it shows is what is, all the same.
    let actor = sluice_server::app::Actor::Server;
    let shown = world.server.block_on(other.rollout_live_once(&actor, &"spring".parse().unwrap())).unwrap();
    assert_eq!(shown.state, RolloutState::Running);
    world.server.block_on(other.store.close());
}

fn a_move_that_was_counted_before_everything_stopped_is_not_made(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    let opened = world.open(&plan(json!({})));
    let (mut treated, _) = world.fleet(&opened.rollout.salt, &first, 3, 0);
    for device in &mut treated {
        succeed(device, &second);
    }
    // Everything stops on another server, in the moment after this one has looked at what it has in memory.
    let set = |stopped: bool| {
        let stop = StopAll { stopped, reason: "fire".into(), by: "ann".into(), at: Some(world.server.now()) };
        alter_stop_all(&world.server, &stop);
    };
    set(true);
    world.server.advance_s(3700);
    assert_eq!(world.look(), 0);
    assert_eq!(world.rollout("spring").rollout.stage, 0);
    set(false);
    world.look();
    assert_eq!(world.rollout("spring").rollout.stage, 1);
}

fn a_rollout_that_is_resumed_while_its_job_ends_goes_on_preparing(engine: Engine) {
    let mut world = World::new(engine);
    world.two_releases();
    world.admin.post(ROLLOUTS, &plan(json!({}))).expect(201);
    world.move_rollout("spring", "start").expect(200);
    world.move_rollout("spring", "pause").expect(200);
    let app = &world.server.app;
    world.server.block_on(async {
        // A resume that is under way: what it writes is not seen yet, and no second job is made, as one is there.
        let mut tx = app.store.begin().await.unwrap();
        let paused = tx.rollout_lock(&"spring".parse().unwrap()).await.unwrap().unwrap();
        let resumed = paused.moved(RolloutState::Preparing, 0, app.now());
        let because = Because { actor: "ann", cause: "resumed", evidence: None };
        assert!(tx.rollout_move(&paused, &resumed, app.now(), because).await.unwrap());
        prepare::enqueue(app, &mut tx, paused.id, app.now()).await.unwrap();
        let working = tokio::spawn({
            let app = Arc::clone(app);
            async move { while jobs::step(&app, "other").await.unwrap() {} }
        });
        // PostgreSQL lets the job begin meanwhile, and wait for the rollout; SQLite has one writer, and the job comes after it anyway.
        while app.store.engine_name() != "sqlite" && !working.is_finished() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            if !app.store.job_list(Some(JobState::Running), None, 1).await.unwrap().is_empty() {
                break;
            }
        }
        // Long enough for a job that does not wait to have read the rollout: no clock of ours stands between.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        tx.commit().await.unwrap();
        working.await.unwrap();
    });
    world.server.advance_s(1);
    world.server.run_jobs();
    assert_eq!(world.state(), RolloutState::Running);
}

fn one_rollout_that_cannot_be_counted_keeps_no_other_from_being_stopped(engine: Engine) {
    let mut world = World::new(engine);
    let (first, _) = world.two_releases();
    // The one that cannot be counted is the older one, and looked at first.
    let opened = world.open(&plan(json!({})));
    let mut other = plan(json!({}));
    (other["name"], other["weight"]) = (json!("autumn"), json!(5));
    other["stages"] = json!([{"percent": 100}]);
    world.admin.post(ROLLOUTS, &other).expect(201);
    world.move_rollout("autumn", "start").expect(200);
    world.server.run_jobs();
    let (treated, _) = world.fleet(&opened.rollout.salt, &first, 3, 0);
    for device in &treated {
        fail(device, "failed", "out_of_space");
    }
    let (broken, whole) = ("spring", "autumn");
    assert_eq!(world.rollout(whole).counts.begun.failed, 3, "the heavier one has them all");
    // An attempt of the other is of a state that no program knows.
    let device = world.device(CAM, "SN-X");
    attempt_of_tomorrow(&world.server, &device.serial, world.rollout(broken).rollout.id);
    world.look();
    assert_eq!(world.rollout(whole).rollout.state, RolloutState::Paused);
}

fn a_rollout_opens_however_often_its_preparing_failed(engine: Engine) {
    let mut world = World::new(engine);
    world.two_releases();
    world.admin.post(ROLLOUTS, &plan(json!({}))).expect(201);
    world.move_rollout("spring", "start").expect(200);
    // Patches cannot be counted for ten minutes.
    rename(&world.server, "patch", "patch_aside");
    let app = &world.server.app;
    for _ in 0..10 {
        world.server.block_on(async { while jobs::step(app, "test").await.unwrap() {} });
        world.server.clock.advance_ms(60_000);
    }
    let jobs = world.server.block_on(async { app.store.job_list(None, None, 50).await.unwrap() });
    let failed = jobs.iter().filter(|job| job.kind == prepare::KIND).map(|job| job.attempts).max();
    assert_eq!(failed, Some(10));
    rename(&world.server, "patch_aside", "patch");
    world.server.advance_s(60);
    world.server.run_jobs();
    assert_eq!(world.state(), RolloutState::Running);
}
