//! Rollouts as they go: every change is told once, to whoever watches, and nothing is left of those who went.

use std::io::{BufRead as _, BufReader};

use serde_json::{Value, json};
use sluice_catalog::Kind;
use sluice_catalog::rollout::RolloutState;
use sluice_catalog::wire::live::{RolloutLive, SeriesPoint};
use sluice_server::app::{Actor, LiveEvent, MAX_STREAMS};
use sluice_server::store::Because;

use crate::harness::wait::until;
use crate::harness::world::CAM;
use crate::harness::{Client, Engine, World};
use crate::staging::plan;
use crate::store::tables::rename;

both_engines!(
    every_change_is_told_and_none_twice,
    a_state_is_told_once_to_who_asks_for_json,
    many_who_watch_are_one_look_and_nothing_is_left_of_them,
    a_client_that_goes_away_frees_everything,
    a_client_that_does_not_read_is_left,
    streams_are_bounded_and_end_with_the_server,
    a_stream_ends_with_the_right_to_it_and_others_go_on,
    who_comes_is_told_nothing_from_before_it_asked,
    streams_of_what_cannot_be_looked_at_end,
    bytes_that_cannot_be_are_counted_and_break_nothing,
);

const LIVE: &str = "/api/v1/rollouts/spring/live";

/// A stream that is read event by event.
struct Stream(BufReader<ureq::BodyReader<'static>>);

impl Stream {
    #[track_caller]
    fn open(client: &Client, seen: Option<&str>) -> Self {
        let mut headers = vec![("Accept", "text/event-stream")];
        headers.extend(seen.map(|id| ("Last-Event-ID", id)));
        let response = client.stream(LIVE, &headers);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self(BufReader::new(response.into_body().into_reader()))
    }

    /// The next state and what it is called; nothing when the stream has ended.
    fn next(&mut self) -> Option<(String, RolloutLive)> {
        let (mut id, mut state) = (String::new(), None);
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("id", given)) => given.clone_into(&mut id),
                Some(("data", json)) => state = Some(serde_json::from_str(json).unwrap()),
                Some((field, value)) => assert_eq!((field, value), ("event", "state")),
                None if line == "\n" => {
                    if let Some(state) = state.take() {
                        return Some((id, state));
                    }
                }
                None => assert_eq!(line, ":\n"),
            }
        }
    }

    /// The first state that is as it should be.
    #[track_caller]
    fn wait_for(&mut self, what: impl Fn(&RolloutLive) -> bool) -> (String, RolloutLive) {
        loop {
            let (id, state) = self.next().expect("the stream ended");
            if what(&state) {
                return (id, state);
            }
        }
    }
}

impl World {
    /// A rollout by plan that reaches everyone, opened, and a device that is offered it.
    fn watched(&mut self) -> crate::harness::TestDevice {
        let (first, _) = self.two_releases();
        let mut written = plan(json!({}));
        written["stages"] = json!([{"percent": 100, "gate": {"minimum": 3, "success": 30, "soak": "1h"}}]);
        self.admin.post("/api/v1/rollouts", &written).expect(201);
        self.move_rollout("spring", "start").expect(200);
        let mut device = self.device(CAM, "SN-1");
        device.run(&first);
        device.poll();
        self.server.run_jobs();
        device
    }

    fn is_left(&self) -> Option<()> {
        (self.server.app.lives.open() == (0, 0)).then_some(())
    }
}

fn every_change_is_told_and_none_twice(engine: Engine) {
    let mut world = World::new(engine);
    let device = world.watched();
    let mut stream = Stream::open(&world.admin, None);
    let (_, open) = stream.next().unwrap();
    assert_eq!((open.state, open.stage, open.reach), (RolloutState::Running, 0, 10_000));
    assert_eq!((open.name.as_str(), open.version.as_str()), ("spring", "2.4.1"));
    let gate = open.gate.unwrap();
    assert!(gate.sentence.starts_with("0 of 3 matured attempts; lower bound 0.000 of 0.300; soak until "), "{gate:?}");
    assert_eq!(open.completes_at, None, "nothing has begun");

    let attempt = device.poll().attempt();
    let (_, offered) = stream.wait_for(|state| state.devices.offered == 1);
    assert_eq!((offered.devices.begun, offered.by_stage.len(), offered.by_stage[0].offered), (0, 1, 1));
    let event = |state: &str, bytes: u64| {
        let event = json!({"attempt": attempt, "state": state, "encoding": "patch", "bytes": bytes});
        device.report_event(event).expect(200);
    };
    event("downloading", 10);
    let (_, begun) = stream.wait_for(|state| state.devices.downloading == 1);
    assert_eq!((begun.devices.offered, begun.devices.begun, begun.by_hardware["cam-r3"].begun), (0, 1, 1));
    assert_eq!((begun.bytes.sent, begun.counts.begun.pending), (10, 1));
    assert!(begun.bytes.saved > 0, "a full image takes more than ten bytes");
    event("verified", 20);
    let (seen, verified) = stream.wait_for(|state| state.devices.verified == 1);
    assert_eq!((verified.bytes.sent, verified.bytes.saved), (20, begun.bytes.saved - 10));

    // Who comes again with what it has is told nothing of it, but what comes after it.
    let mut again = Stream::open(&world.admin, Some(&seen));
    let mut anew = Stream::open(&world.admin, Some("what nobody sent"));
    assert_eq!(anew.next().unwrap().1.devices, verified.devices);
    world.move_rollout("spring", "pause").expect(200);
    let (id, paused) = again.next().unwrap();
    assert_eq!((paused.state, paused.gate, paused.completes_at), (RolloutState::Paused, None, None));
    assert_eq!(stream.wait_for(|state| state.state == RolloutState::Paused).0, id, "one name for one state");

    // Its detail tells the gate as well.
    world.move_rollout("spring", "resume").expect(200);
    assert!(world.rollout("spring").gate.is_some());
}

fn a_state_is_told_once_to_who_asks_for_json(engine: Engine) {
    let mut world = World::new(engine);
    world.watched();
    let state: RolloutLive = world.admin.get(LIVE).expect(200).json();
    assert_eq!(state.state, RolloutState::Running);
    let watch = [("Accept", "text/event-stream")];
    world.admin.get_with("/api/v1/rollouts/none/live", &watch).refused(Kind::NotFound);
    world.server.client().get_with(LIVE, &watch).refused(Kind::Unauthenticated);
    assert_eq!(world.server.app.lives.open(), (0, 0));
}

fn many_who_watch_are_one_look_and_nothing_is_left_of_them(engine: Engine) {
    let mut world = World::new(engine);
    world.watched();
    let app = &world.server.app;
    let name = "spring".parse().unwrap();
    let mut streams: Vec<_> = (0..5)
        .map(|_| world.server.block_on(async { app.rollout_live(&Actor::Server, None, &name, None).await.unwrap() }))
        .collect();
    assert_eq!(app.lives.open(), (5, 1));
    for stream in &mut streams {
        let told = world.server.block_on(async {
            loop {
                if let LiveEvent::State { json, .. } = stream.recv().await.unwrap() {
                    return json;
                }
            }
        });
        assert!(serde_json::from_str::<Value>(&told).unwrap()["state"] == "running", "{told}");
    }
    drop(streams);
    until("everything to be freed", || world.is_left());
}

fn a_client_that_goes_away_frees_everything(engine: Engine) {
    let mut world = World::new(engine);
    world.watched();
    let mut stream = Stream::open(&world.admin, None);
    stream.next().unwrap();
    assert_eq!(world.server.app.lives.open(), (1, 1));
    drop(stream);
    let mut action = "resume";
    until("everything to be freed", || {
        // Something to tell, to whom nobody listens.
        action = if action == "pause" { "resume" } else { "pause" };
        world.move_rollout("spring", action).expect(200);
        world.is_left()
    });
}

fn a_client_that_does_not_read_is_left(engine: Engine) {
    let mut world = World::new(engine);
    world.watched();
    let app = &world.server.app;
    let name = "spring".parse().unwrap();
    let stream = world.server.block_on(async { app.rollout_live(&Actor::Server, None, &name, None).await.unwrap() });
    let mut action = "resume";
    until("it to be left", || {
        action = if action == "pause" { "resume" } else { "pause" };
        world.move_rollout("spring", action).expect(200);
        stream.is_closed().then_some(())
    });
    until("everything to be freed", || world.is_left());
    assert!(stream.len() < 10, "no more is kept than a few events: {}", stream.len());
}

fn streams_are_bounded_and_end_with_the_server(engine: Engine) {
    let mut world = World::new(engine);
    world.watched();
    let mut stream = Stream::open(&world.admin, None);
    let app = &world.server.app;
    let name = "spring".parse().unwrap();
    let open = || world.server.block_on(async { app.rollout_live(&Actor::Server, None, &name, None).await });
    let others: Vec<_> = (1..MAX_STREAMS).map(|_| open().unwrap()).collect();
    assert_eq!(open().unwrap_err().kind, Kind::Unavailable);
    drop(others);
    until("places to be free", || open().ok());
    app.lives.close();
    while stream.next().is_some() {}
    until("everything to be freed", || world.is_left());
    assert_eq!(open().unwrap_err().kind, Kind::Unavailable, "a server that stops opens no more");
}

fn a_stream_ends_with_the_right_to_it_and_others_go_on(engine: Engine) {
    let mut world = World::new(engine);
    world.watched();
    let (ann, bob) = (world.principal("ann", "auditor"), world.principal("bob", "auditor"));
    let mut of_admin = Stream::open(&world.admin, None);
    let (mut of_ann, mut of_bob) = (Stream::open(&ann, None), Stream::open(&bob, None));
    for stream in [&mut of_admin, &mut of_ann, &mut of_bob] {
        stream.next().unwrap();
    }
    world.admin.post("/api/v1/principals/ann/disable", &json!({})).expect(200);
    world.server.advance_s(16);
    while of_ann.next().is_some() {}
    ann.get_with(LIVE, &[("Accept", "text/event-stream")]).refused(Kind::Unauthenticated);
    world.move_rollout("spring", "pause").expect(200);
    for stream in [&mut of_admin, &mut of_bob] {
        stream.wait_for(|state| state.state == RolloutState::Paused);
    }
}

fn who_comes_is_told_nothing_from_before_it_asked(engine: Engine) {
    let mut world = World::new(engine);
    world.watched();
    // Somebody watches all the while, so there always is a state of a moment ago.
    let mut first = Stream::open(&world.admin, None);
    let (seen, _) = first.next().unwrap();
    for (action, state) in [("pause", RolloutState::Paused), ("resume", RolloutState::Running)] {
        world.move_rollout("spring", action).expect(200);
        let (id, told) = Stream::open(&world.admin, Some("of long ago")).next().unwrap();
        assert_eq!(told.state, state);
        assert_ne!(id, seen);
    }
    // Nor what the executor counted before, though it is a moment old.
    world.look();
    let device = world.device(CAM, "SN-2");
    device.report(device.poll().attempt(), "downloading").expect(200);
    let (_, told) = Stream::open(&world.admin, None).next().unwrap();
    assert_eq!(told.devices.downloading, 1);
    // Nor from before another server moved it, of which this one has not heard.
    let app = &world.server.app;
    world.server.block_on(async {
        let mut tx = app.store.begin().await.unwrap();
        let was = tx.rollout_lock(&"spring".parse().unwrap()).await.unwrap().unwrap();
        let is = was.moved(RolloutState::Halted, was.stage, app.now());
        let because = Because { actor: "other", cause: "there", evidence: None };
        assert!(tx.rollout_move(&was, &is, app.now(), because).await.unwrap());
        tx.commit().await.unwrap();
    });
    let once: RolloutLive = world.admin.get(LIVE).expect(200).json();
    assert_eq!(once.state, RolloutState::Halted);
    assert_eq!(Stream::open(&world.admin, None).next().unwrap().1.state, RolloutState::Halted);
}

fn streams_of_what_cannot_be_looked_at_end(engine: Engine) {
    let mut world = World::new(engine);
    world.watched();
    let mut stream = Stream::open(&world.admin, None);
    stream.next().unwrap();
    rename(&world.server, "attempt", "attempt_away");
    world.server.advance_s(31);
    while stream.next().is_some() {}
    until("everything to be freed", || world.is_left());
    rename(&world.server, "attempt_away", "attempt");
    assert_eq!(Stream::open(&world.admin, None).next().unwrap().1.state, RolloutState::Running);
}

fn bytes_that_cannot_be_are_counted_and_break_nothing(engine: Engine) {
    let mut world = World::new(engine);
    let first = world.watched();
    let mut second = world.device(CAM, "SN-2");
    second.installed = first.installed.clone();
    for device in [&first, &second] {
        let attempt = device.poll().attempt();
        let event = json!({"attempt": attempt, "state": "downloading", "encoding": "raw", "bytes": i64::MAX});
        device.report_event(event).expect(200);
    }
    let state: RolloutLive = world.admin.get(LIVE).expect(200).json();
    assert_eq!((state.devices.downloading, state.bytes.sent), (2, 2 << 40));
    world.server.advance_s(600);
    world.server.block_on(async { world.server.app.series_tick().await.unwrap() });
    let points: Vec<SeriesPoint> = world.list("/api/v1/rollouts/spring/series");
    assert_eq!(points.last().unwrap().bytes.sent, 2 << 40);
}
