//! What devices say of failures: codes and logs, bounded and clean, shown to whom they are for; and devices that say odd things: that
//! flap between versions, or report for what has ended.

use serde_json::{Value, json};
use sluice_agent::{BootControl, Config, FileBoot, Outcome};
use sluice_catalog::Kind;
use sluice_catalog::rollout::{Attempt, AttemptState, Failure, MAX_LOG_LEN, RolloutState};
use sluice_catalog::wire::admin::{DeviceDetail, Page};
use sluice_catalog::wire::device::ReportResponse;
use sluice_catalog::wire::entitlement::{DeviceEntry, DeviceEvent};
use sluice_catalog::wire::failure::RolloutFailure;

use crate::harness::agent::TestAgent;
use crate::harness::http::Client;
use crate::harness::world::{CAM, IMAGES};
use crate::harness::{Answer, Engine, Release, TestDevice, World};
use crate::polling::updating;

both_engines!(
    a_log_comes_with_a_failure_and_is_shown_clean,
    a_log_that_is_too_long_changes_nothing,
    reports_of_older_agents_and_of_unknown_codes,
    failures_of_a_rollout_are_listed_newest_first,
    a_new_owner_reads_no_log_of_the_former,
    a_device_that_flaps_is_offered_no_more,
    reports_for_a_rollout_that_ended_are_taken_and_move_nothing_else,
    a_late_report_of_an_older_attempt_changes_nothing,
    a_wrong_patch_that_is_reported_again_is_one_report,
    the_agent_soaks_and_the_server_hears_of_each_step,
    the_log_of_the_agents_check_reaches_the_server,
    an_agent_whose_boot_loader_goes_back_after_success_flaps_three_times_and_no_more,
);

fn detail(client: &Client, device: &TestDevice) -> DeviceDetail {
    client.get(&format!("/api/v1/products/{}/devices/{}", device.product, device.serial)).expect(200).json()
}

fn state(world: &World, device: &TestDevice, attempt: i32) -> AttemptState {
    let attempts = detail(&world.admin, device).attempts;
    attempts.iter().find(|one| one.seq == attempt).unwrap().state
}

fn history(client: &Client, device: &TestDevice) -> Vec<DeviceEntry> {
    client.get(&format!("/api/v1/products/{CAM}/devices/{}/history?limit=100", device.serial)).expect(200).json()
}

fn failures(world: &World, query: &str) -> Page<RolloutFailure> {
    world.admin.get(&format!("/api/v1/rollouts/spring/failures{query}")).expect(200).json()
}

fn moved(answer: &Answer) -> u32 {
    answer.json::<ReportResponse>().moved
}

fn went_back(attempt: i32, log: &str) -> Value {
    json!({"attempt": attempt, "state": "rolled_back", "failure": "check_failed", "detail": "exit status: 3", "log": log})
}

fn a_log_comes_with_a_failure_and_is_shown_clean(engine: Engine) {
    let (world, _, _, device) = updating(engine);
    let attempt = device.poll().attempt();
    let log = "probe: \u{1b}[31mno link\u{1b}[0m\r\nnul\0 and bell\u{7}\n";
    assert_eq!(moved(&device.report_event(went_back(attempt, log)).expect(200)), 1);
    let clean = Some("probe: no link\nnul and bell\n");
    let shown = detail(&world.admin, &device).attempts[0].clone();
    assert_eq!((shown.state, shown.failure), (AttemptState::RolledBack, Some(Failure::CheckFailed)));
    assert_eq!((shown.detail.as_deref(), shown.log.as_deref()), (Some("exit status: 3"), clean));
    let told: Vec<_> = history(&world.admin, &device)
        .into_iter()
        .filter_map(|entry| match entry.event {
            DeviceEvent::Attempt { state, failure, detail, log, .. } => Some((state, failure, detail, log)),
            _ => None,
        })
        .collect();
    assert_eq!(told[0], ("offered".to_owned(), None, None, None));
    let words = |text: &str| Some(text.to_owned());
    let ended = ("rolled_back".to_owned(), words("check_failed"), words("exit status: 3"), clean.map(str::to_owned));
    assert_eq!(told[1], ended);
    let listed = failures(&world, "").items;
    assert_eq!((listed.len(), listed[0].log.as_deref()), (1, clean));
    // Repeats, and a late report, find the attempt over and change no word of it.
    world.server.unchanged(|| {
        assert_eq!(moved(&device.report_event(went_back(attempt, "another")).expect(200)), 0);
    });
    assert_eq!(world.rollout("spring").counts.begun.rolled_back, 1, "every unhealthy image is of one class");
}

fn a_log_that_is_too_long_changes_nothing(engine: Engine) {
    let (world, _, _, device) = updating(engine);
    let attempt = device.poll().attempt();
    let long = "é".repeat(MAX_LOG_LEN / 2);
    world.server.unchanged(|| {
        let events =
            json!({"events": [{"attempt": attempt, "state": "applied"}, went_back(attempt, &format!("{long}x"))]});
        let answer = device.client.post("/v1/report", &events);
        assert!(answer.refused(Kind::Invalid).detail.contains("events[1].log: at most 4096 bytes"), "{answer:?}");
    });
    assert_eq!(moved(&device.report_event(went_back(attempt, &long)).expect(200)), 1);
    assert_eq!(detail(&world.admin, &device).attempts[0].log.as_deref(), Some(long.as_str()));
}

fn reports_of_older_agents_and_of_unknown_codes(engine: Engine) {
    let (world, _, _, device) = updating(engine);
    let attempt = device.poll().attempt();
    world.server.unchanged(|| {
        let unknown = json!({"attempt": attempt, "state": "failed", "failure": "gremlins"});
        assert_eq!(device.report_event(unknown).status, 400);
    });
    let older =
        json!({"attempt": attempt, "state": "rolled_back", "failure": "unhealthy", "detail": "boot_check false"});
    assert_eq!(moved(&device.report_event(older).expect(200)), 1);
    let shown = detail(&world.admin, &device).attempts[0].clone();
    assert_eq!((shown.failure, shown.log), (Some(Failure::Unhealthy), None));
    assert_eq!(world.rollout("spring").counts.begun.rolled_back, 1);
}

fn failures_of_a_rollout_are_listed_newest_first(engine: Engine) {
    let (world, first, _, device) = updating(engine);
    let mut others = vec![device];
    for number in 2..=4 {
        let mut device = world.device(CAM, &format!("SN-{number}"));
        device.run(&first);
        others.push(device);
    }
    for (index, device) in others.iter().enumerate() {
        let attempt = device.poll().attempt();
        if index == 3 {
            // Under way: no failure.
            device.report(attempt, "applied").expect(200);
            continue;
        }
        // The last two at one moment.
        world.server.advance_s(if index == 2 { 0 } else { 60 });
        let code = if index == 0 { "out_of_space" } else { "check_timeout" };
        let event = json!({"attempt": attempt, "state": "failed", "failure": code, "detail": format!("at {index}")});
        device.report_event(event).expect(200);
    }
    let all = failures(&world, "");
    assert_eq!((all.items.len(), all.next.clone()), (3, None));
    assert_eq!(all.items[2].serial.as_str(), "SN-1", "the oldest comes last");
    // Pages of one come to the same, though two ended at one moment.
    let (mut paged, mut query) = (Vec::new(), "?limit=1".to_owned());
    loop {
        let page = failures(&world, &query);
        paged.extend(page.items);
        let Some(next) = page.next else { break };
        query = format!("?limit=1&after={next}");
    }
    assert_eq!(paged, all.items);
    let counted = world.rollout("spring").failures;
    assert_eq!(counted, [("check_timeout".to_owned(), 2), ("out_of_space".to_owned(), 1)].into());
    let of_one = failures(&world, "?failure=out_of_space").items;
    assert_eq!((of_one.len(), of_one[0].detail.as_deref()), (1, Some("at 0")));
    assert_eq!(failures(&world, "?failure=no_answer").items, []);
    // Without a code it is counted and listed as another; what it says cannot move a terminal.
    let mut silent = world.device(CAM, "SN-5");
    silent.run(&first);
    let event = json!({"attempt": silent.poll().attempt(), "state": "failed", "detail": "\u{1b}[31mred\u{202e}"});
    silent.report_event(event).expect(200);
    let other = failures(&world, "?failure=other").items;
    assert_eq!((other.len(), other[0].failure, other[0].detail.as_deref()), (1, None, Some("red")));
    assert_eq!(world.rollout("spring").failures["other"], 1);
    for wrong in ["after=x", "after=1.2.3", "limit=0", "limit=501"] {
        world.admin.get(&format!("/api/v1/rollouts/spring/failures?{wrong}")).refused(Kind::Invalid);
    }
    assert_eq!(world.admin.get("/api/v1/rollouts/spring/failures?failure=gremlins").status, 400);
    world.admin.get("/api/v1/rollouts/none/failures").refused(Kind::NotFound);
}

fn a_new_owner_reads_no_log_of_the_former(engine: Engine) {
    let (world, _, _, device) = updating(engine);
    for name in ["globex", "initech"] {
        world.admin.post("/api/v1/customers", &json!({"name": name})).expect(201);
    }
    let give = |customer: &str| {
        let path = format!("/api/v1/products/{CAM}/devices/SN-1/transfer");
        world.admin.post(&path, &json!({"customer": customer})).expect(200);
        world.server.advance_s(60);
    };
    give("globex");
    let (globex, initech) = (world.bound("ann", "support", "globex"), world.bound("bob", "support", "initech"));
    let attempt = device.poll().attempt();
    initech.get(&format!("/api/v1/products/{CAM}/devices/SN-1")).refused(Kind::NotFound);
    initech.get(&format!("/api/v1/products/{CAM}/devices/SN-1/history")).refused(Kind::NotFound);
    for bound in [&globex, &initech] {
        bound.get("/api/v1/rollouts/spring/failures").refused(Kind::Forbidden);
    }
    world.server.advance_s(60);
    give("initech");
    // It was offered while it was globex's, and told of it late.
    device.report_event(went_back(attempt, "the network of globex")).expect(200);
    assert_eq!(detail(&initech, &device).attempts, []);
    let told = serde_json::to_string(&history(&initech, &device)).unwrap();
    assert!(told.contains("check_failed") && !told.contains("of globex") && !told.contains("exit status"), "{told}");
    globex.get(&format!("/api/v1/products/{CAM}/devices/SN-1")).refused(Kind::NotFound);
    assert!(detail(&world.admin, &device).attempts[0].log.as_deref().unwrap().contains("of globex"));
    // What it says from now on is for who has it.
    let again = device.poll().attempt();
    device.report_event(went_back(again, "the network of initech")).expect(200);
    assert_eq!(detail(&initech, &device).attempts[0].log.as_deref(), Some("the network of initech"));
}

fn a_device_that_flaps_is_offered_no_more(engine: Engine) {
    let (world, first, second, mut device) = updating(engine);
    for number in 1..=3 {
        let attempt = device.poll().attempt();
        assert_eq!(attempt, number);
        device.report(attempt, "booted").expect(200);
        device.run(&second);
        device.poll();
        device.report(attempt, "healthy").expect(200);
        assert_eq!(state(&world, &device, attempt), AttemptState::Healthy);
        world.server.advance_s(60);
        device.run(&first);
        let offered = device.poll();
        assert_eq!(state(&world, &device, attempt), AttemptState::RolledBack, "its success was none");
        if number == 3 {
            offered.is_nothing("ATTEMPT_FAILED");
        }
        // It goes on flapping: an attempt that ended is not moved by polls or by what it says again.
        device.run(&second);
        device.poll();
        assert_eq!(moved(&device.report(attempt, "healthy").expect(200)), 0);
        device.run(&first);
        device.poll();
        assert_eq!(state(&world, &device, attempt), AttemptState::RolledBack);
    }
    let counts = world.rollout("spring").counts.begun;
    assert_eq!((counts.attempts, counts.rolled_back), (1, 1), "a device that flaps is one device");
    assert_eq!(failures(&world, "").items.len(), 3);
}

fn reports_for_a_rollout_that_ended_are_taken_and_move_nothing_else(engine: Engine) {
    let (world, first, second, mut device) = updating(engine);
    let mut other = world.device(CAM, "SN-2");
    other.run(&first);
    let (attempt, of_other) = (device.poll().attempt(), other.poll().attempt());
    device.report(attempt, "verified").expect(200);
    other.report(of_other, "verified").expect(200);
    world.move_rollout("spring", "halt").expect(200);
    let halted = world.rollout("spring");
    assert_eq!(halted.rollout.state, RolloutState::Halted);
    device.report(attempt, "booted").expect(200);
    device.run(&second);
    device.poll();
    assert_eq!(moved(&device.report(attempt, "healthy").expect(200)), 1);
    assert_eq!(moved(&other.report_event(went_back(of_other, "no link")).expect(200)), 1);
    world.server.block_on(async { world.server.app.rollouts_look().await.unwrap() });
    let after = world.rollout("spring");
    assert_eq!((after.rollout, after.transitions), (halted.rollout, halted.transitions), "it has ended");
    assert_eq!((after.counts.begun.healthy, after.counts.begun.rolled_back), (1, 1), "and its figures are true");
    assert_eq!(failures(&world, "").items.len(), 1);
    other.poll().is_nothing("ROLLOUT_HALTED");
}

fn a_late_report_of_an_older_attempt_changes_nothing(engine: Engine) {
    let (mut world, first, _, mut device) = updating(engine);
    let old = device.poll().attempt();
    device.report(old, "downloading").expect(200);
    let third = Release::new(CAM, "2.4.2", 20402, &IMAGES[2]);
    world.release(&third);
    world.roll_out("summer", &third, &[100]);
    let new = device.poll().attempt();
    assert_eq!((old, new), (1, 2));
    assert_eq!(state(&world, &device, old), AttemptState::Superseded);
    device.report(new, "applied").expect(200);
    world.server.unchanged(|| {
        for late in ["verified", "booted", "healthy"] {
            assert_eq!(moved(&device.report(old, late).expect(200)), 0, "{late}");
        }
        assert_eq!(moved(&device.report_event(went_back(old, "late")).expect(200)), 0);
    });
    device.run(&third);
    device.poll();
    // The late one comes in one report with one that counts.
    let events = json!({"events": [went_back(old, "late"), {"attempt": new, "state": "healthy"}]});
    assert_eq!(moved(&device.client.post("/v1/report", &events).expect(200)), 1);
    assert_eq!(
        (state(&world, &device, old), state(&world, &device, new)),
        (AttemptState::Superseded, AttemptState::Healthy)
    );
    let shown = detail(&world.admin, &device);
    assert_eq!(shown.attempts.iter().find(|attempt| attempt.seq == old).unwrap().log, None);
    let (spring, summer) = (world.rollout("spring"), world.rollout("summer"));
    assert_eq!((spring.counts.begun.attempts, summer.counts.begun.healthy), (0, 1));
    device.run(&first);
    device.poll();
    assert_eq!(state(&world, &device, new), AttemptState::RolledBack);
}

fn a_wrong_patch_that_is_reported_again_is_one_report(engine: Engine) {
    let (world, _, _, device) = updating(engine);
    let attempt = device.poll().attempt();
    let mismatch = json!({"attempt": attempt, "state": "downloading", "failure": "delta_mismatch", "log": "segment 3"});
    assert_eq!(moved(&device.report_event(mismatch.clone()).expect(200)), 1);
    world.server.advance_s(60);
    world.server.unchanged(|| assert_eq!(moved(&device.report_event(mismatch.clone()).expect(200)), 0));
    assert_eq!(detail(&world.admin, &device).attempts[0].log.as_deref(), Some("segment 3"));
}

/// The real agent on the first of two releases, with ten minutes of soak and this check.
fn soaking(engine: Engine, check: &str) -> (World, TestAgent) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    world.register(CAM, "SN-1", &json!({}));
    let agent = TestAgent::new(&world, "SN-1", &first);
    let mut config = Config::load(&agent.state).unwrap();
    config.boot_check = ["sh", "-c", check].map(str::to_owned).to_vec();
    config.check.soak_s = 600;
    config.save(&agent.state).unwrap();
    world.roll_out("spring", &second, &[100]);
    (world, agent)
}

fn attempt(world: &World) -> Attempt {
    let path = format!("/api/v1/products/{CAM}/devices/SN-1");
    world.admin.get(&path).expect(200).json::<DeviceDetail>().attempts[0].clone()
}

fn the_agent_soaks_and_the_server_hears_of_each_step(engine: Engine) {
    let (world, agent) = soaking(engine, "test $SLUICE_VERSION = 2.4.1");
    assert_eq!(agent.once().unwrap().outcome, Outcome::Soaking);
    assert_eq!(attempt(&world).state, AttemptState::Booted);
    world.server.advance_s(599);
    assert_eq!(agent.once().unwrap().outcome, Outcome::Soaking);
    assert_eq!(
        attempt(&world).state,
        AttemptState::Booted,
        "it runs the new version and polls, and is not healthy yet"
    );
    world.server.advance_s(1);
    assert_eq!(agent.once().unwrap().outcome, Outcome::Updated);
    assert_eq!(attempt(&world).state, AttemptState::Healthy);
    assert_eq!(agent.once().unwrap().outcome, Outcome::UpToDate);
    assert_eq!(world.rollout("spring").counts.begun.healthy, 1);
}

fn the_log_of_the_agents_check_reaches_the_server(engine: Engine) {
    let (world, agent) = soaking(engine, "test $SLUICE_PHASE = boot || { echo the link is down; exit 7; }");
    assert_eq!(agent.once().unwrap().outcome, Outcome::Soaking);
    world.server.advance_s(60);
    assert_eq!(agent.once().unwrap().outcome, Outcome::RolledBack);
    let told = attempt(&world);
    assert_eq!((told.state, told.failure), (AttemptState::RolledBack, Some(Failure::CheckFailed)));
    assert_eq!(told.detail.as_deref(), Some("boot_check sh: exit status: 7, after 60 s of soak"));
    assert_eq!(told.log.as_deref(), Some("the link is down\n"));
    assert_eq!(failures(&world, "?failure=check_failed").items[0].log, told.log);
    // Three times, and it is offered no more.
    for _ in 0..2 {
        assert_eq!(agent.once().unwrap().outcome, Outcome::Soaking);
        world.server.advance_s(60);
        assert_eq!(agent.once().unwrap().outcome, Outcome::RolledBack);
    }
    let last = agent.once().unwrap();
    assert_eq!((last.outcome, last.reason.as_deref()), (Outcome::NothingOffered, Some("ATTEMPT_FAILED")));
}

fn an_agent_whose_boot_loader_goes_back_after_success_flaps_three_times_and_no_more(engine: Engine) {
    let (world, agent) = soaking(engine, "true");
    let boot = FileBoot::new(agent.state.slots());
    let main = "main".parse().unwrap();
    for number in 1..=3 {
        assert_eq!(agent.once().unwrap().outcome, Outcome::Soaking);
        world.server.advance_s(600);
        assert_eq!(agent.once().unwrap().outcome, Outcome::Updated);
        assert_eq!((attempt(&world).seq, attempt(&world).state), (number, AttemptState::Healthy));
        // Some days later it does not come up any more.
        world.server.advance_s(600);
        boot.switch(&main, boot.active(&main).unwrap().other()).unwrap();
    }
    let last = agent.once().unwrap();
    assert_eq!((last.outcome, last.reason.as_deref()), (Outcome::NothingOffered, Some("ATTEMPT_FAILED")));
    assert_eq!(attempt(&world).state, AttemptState::RolledBack);
    let counts = world.rollout("spring").counts.begun;
    assert_eq!((counts.attempts, counts.rolled_back), (1, 1));
}
