//! The planner as a specification, and its life cycle under random reports, pauses and clocks.

use proptest::prelude::*;

use super::*;
use crate::rollout::rules::{Preset, Rules, StageGate, StopLimit};
use crate::rollout::tests::sample;
use crate::rollout::{AttemptState, Failure, Observed, Stage, Stages};
use crate::{Period, TextSet};

fn t(minute: i64) -> Time {
    Time::EPOCH.plus_s(60 * minute)
}

fn tally(attempts: u64, bad: &[(StopClass, u64)]) -> Tally {
    let mut tally = Tally { attempts, ..Tally::default() };
    for &(class, count) in bad {
        *match class {
            StopClass::Rejected => &mut tally.rejected,
            StopClass::Failed => &mut tally.failed,
            StopClass::RolledBack => &mut tally.rolled_back,
            StopClass::Silent => &mut tally.silent,
        } += count;
    }
    tally.healthy = attempts - bad.iter().map(|(_, count)| count).sum::<u64>();
    tally
}

fn stats(hardware: &[(&str, Tally)]) -> Stats {
    let counts = |&(id, begun): &(&str, Tally)| {
        (id.to_owned(), Counts { begun, matured: begun, of_stage: begun, controls: 1000, controls_silent: 60 })
    };
    Stats { hardware: hardware.iter().map(counts).collect(), ..Stats::default() }
}

fn normal() -> Rollout {
    sample(Preset::Normal.stages(), Preset::Normal.rules())
}

const DAY: i64 = 24 * 60;

#[test]
fn a_gate_waits_for_soak_then_attempts_then_success_and_then_opens() {
    let rollout = normal();
    let good = |count| stats(&[("cam-r3", tally(count, &[]))]);
    assert_eq!(waits(&rollout, &good(500), t(DAY - 1)), Waits::Soak { until: t(DAY) });
    assert_eq!(waits(&rollout, &good(59), t(DAY)), Waits::Attempts { have: 59, need: 60, coming: 0 });
    let poor = stats(&[("cam-r3", tally(100, &[(StopClass::Failed, 2)]))]);
    let mut gentle = rollout.clone();
    gentle.rules.stop.failed = None;
    let Waits::Success { lower_permille, need_permille: 950 } = ({
        gentle.stages.0[0].gate = Some(StageGate { minimum: 100, success: 95, soak: Period::ZERO });
        waits(&gentle, &poor, t(DAY))
    }) else {
        panic!("two of a hundred are too many for 95 %");
    };
    assert_eq!(lower_permille, 929);
    let moved = plan(&rollout, &good(60), t(DAY)).unwrap();
    assert_eq!((moved.state, moved.stage, &moved.cause), (RolloutState::Running, 1, &Cause::Gate));
    assert_eq!(moved.sentence(), "60 of 60 matured attempts succeeded: at least 93.9 %, 90.0 % asked for");
    let last = Rollout { stage: 6, ..rollout };
    assert_eq!(plan(&last, &good(60), t(DAY)).unwrap().state, RolloutState::Done);
}

#[test]
fn each_class_has_its_own_rule_and_action() {
    for class in StopClass::ALL {
        let bad = stats(&[("cam-r3", tally(20, &[(class, 12)]))]);
        let moved = plan(&normal(), &bad, t(1)).unwrap();
        assert_eq!(moved.state, RolloutState::Paused);
        assert_eq!(moved.cause, Cause::Stop { class, hardware: None });
        let mut halts = normal();
        let limit = Some(StopLimit { percent: 3, action: StopAction::Halt });
        halts.rules.stop.rejected = limit;
        halts.rules.stop.failed = limit;
        halts.rules.stop.rolled_back = limit;
        halts.rules.stop.silent = limit;
        assert_eq!(plan(&halts, &bad, t(1)).unwrap().state, RolloutState::Halted);
        halts.rules.stop = crate::rollout::StopRules::default();
        assert_eq!(plan(&halts, &bad, t(1)), None, "without a rule nothing stops");
    }
}

#[test]
fn two_failures_stop_nothing_and_three_of_three_do() {
    let failed = |count, of| stats(&[("cam-r3", tally(of, &[(StopClass::Failed, count)]))]);
    assert_eq!(plan(&normal(), &failed(2, 2), t(1)), None);
    let moved = plan(&normal(), &failed(3, 3), t(1)).unwrap();
    assert_eq!(moved.sentence(), "3 of 3 attempts are failed: at least 43.8 %, 3.0 % allowed");
    assert_eq!(plan(&normal(), &failed(3, 100), t(1)), None, "three of a hundred may be chance");
    assert!(plan(&normal(), &failed(9, 100), t(1)).is_some());
}

#[test]
fn silence_is_held_against_that_of_the_controls() {
    let silent = |count, controls_silent| {
        let mut stats = stats(&[("cam-r3", tally(200, &[(StopClass::Silent, count)]))]);
        for counts in stats.hardware.values_mut() {
            counts.controls_silent = controls_silent;
        }
        plan(&normal(), &stats, t(1)).is_some()
    };
    assert!(!silent(20, 100), "a tenth, as of the others");
    assert!(silent(60, 100), "three times as many");
    assert!(!silent(200, 1000), "where everyone is silent it is not the release");
    assert!(!silent(60, 400), "where four of ten are silent anyway, three are none too many");
}

#[test]
fn controls_are_of_the_same_hardware_and_stand_in_the_evidence() {
    let mut fleet = stats(&[
        ("battery", tally(200, &[(StopClass::Silent, 80)])),
        ("mains", tally(800, &[(StopClass::Silent, 40)])),
    ]);
    let controls = |fleet: &mut Stats, hardware: &str, of: (u64, u64)| {
        let counts = fleet.hardware.get_mut(hardware).unwrap();
        (counts.controls, counts.controls_silent) = of;
    };
    controls(&mut fleet, "battery", (1000, 400));
    controls(&mut fleet, "mains", (9000, 450));
    assert_eq!(plan(&normal(), &fleet, t(1)), None, "devices on batteries sleep, with the release and without");
    controls(&mut fleet, "battery", (1000, 50));
    let moved = plan(&normal(), &fleet, t(1)).unwrap();
    assert_eq!(moved.exclude.as_deref(), Some("battery"));
    let counts = moved.figures.unwrap().counts;
    assert_eq!((counts.controls, counts.controls_silent), (1000, 50), "what it was held against");
    controls(&mut fleet, "battery", (MIN_CONTROLS - 1, 0));
    let counts = plan(&normal(), &fleet, t(1)).unwrap().figures.unwrap().counts;
    assert_eq!((counts.controls, counts.controls_silent), (9000 + MIN_CONTROLS - 1, 450), "too few of its own");
    // After a pause that somebody judged the treated are fewer; the controls are the same, and told.
    let judged = Rollout { judged_at: Some(t(0)), ..normal() };
    let begun = tally(60, &[(StopClass::Silent, 50)]);
    let fresh = [("mains".to_owned(), Counts { begun, ..Counts::default() })].into();
    let moved = plan(&judged, &Stats { fresh, ..fleet }, t(1)).unwrap();
    assert_eq!(moved.state, RolloutState::Paused);
    assert_eq!(moved.figures.unwrap().counts.controls, 9000 + MIN_CONTROLS - 1);
}

#[test]
fn old_failures_are_not_hidden_by_a_wave_of_new_attempts() {
    let mut stats = stats(&[("cam-r3", tally(100, &[(StopClass::Silent, 40)]))]);
    for counts in stats.hardware.values_mut() {
        counts.begun.attempts += 2000;
        counts.begun.pending += 2000;
    }
    assert!(plan(&normal(), &stats, t(1)).is_some());
}

#[test]
fn failures_that_somebody_judged_stop_it_no_more_and_new_ones_do() {
    let bad = |count| stats(&[("cam-r3", tally(100, &[(StopClass::Failed, count)]))]);
    let paused = normal().after(&plan(&normal(), &bad(20), t(1)).unwrap(), t(1));
    assert_eq!(paused.state, RolloutState::Paused);
    let going = paused.moved(RolloutState::Running, 0, t(2));
    assert_eq!(plan(&going, &bad(20), t(3)), None);
    let again = Stats { fresh: bad(20).hardware, ..bad(40) };
    assert_eq!(plan(&going, &again, t(4)).unwrap().state, RolloutState::Paused);
}

#[test]
fn a_pause_takes_no_evidence_from_a_stage_and_a_new_stage_begins_without_any() {
    let opened = sample(Preset::Normal.stages(), Preset::Normal.rules()).moved(RolloutState::Running, 1, t(10));
    assert_eq!((opened.opened_at, opened.stage_since), (t(10), t(10)));
    let going = opened.moved(RolloutState::Paused, 1, t(20)).moved(RolloutState::Running, 1, t(30));
    assert_eq!((going.opened_at, going.stage_since), (t(10), t(30)), "soak time begins anew, evidence does not");
    assert_eq!(going.moved(RolloutState::Running, 2, t(40)).opened_at, t(40));
    let scheduled = Rollout { state: RolloutState::Scheduled, ..normal() };
    assert_eq!(
        scheduled.moved(RolloutState::Running, 0, t(50)).opened_at,
        t(50),
        "the first stage opens with the start"
    );
}

#[test]
fn one_bad_hardware_is_taken_out_and_the_others_go_on() {
    let bad = stats(&[
        ("cam-r2", tally(900, &[(StopClass::RolledBack, 2)])),
        ("cam-r3", tally(100, &[(StopClass::RolledBack, 50)])),
    ]);
    let moved = plan(&normal(), &bad, t(DAY)).unwrap();
    assert_eq!(moved.exclude.as_deref(), Some("cam-r3"));
    assert_eq!((moved.state, moved.stage), (RolloutState::Running, 0));
    let without = Rollout { excluded: ["cam-r3"].into_iter().collect(), ..normal() };
    let next = plan(&without, &bad, t(DAY)).unwrap();
    assert_eq!((next.cause, next.stage), (Cause::Gate, 1), "its failures count no more");
    let all = stats(&[
        ("cam-r2", tally(900, &[(StopClass::RolledBack, 450)])),
        ("cam-r3", tally(100, &[(StopClass::RolledBack, 50)])),
    ]);
    assert_eq!(plan(&normal(), &all, t(DAY)).unwrap().state, RolloutState::Paused, "that is the release");
    let mut unknown = all.clone();
    let others = unknown.hardware.get_mut("cam-r2").unwrap();
    others.begun = Tally { attempts: 900, pending: 900, ..Tally::default() };
    others.matured = Tally::default();
    let moved = plan(&normal(), &unknown, t(DAY)).unwrap();
    assert_eq!((moved.state, moved.exclude), (RolloutState::Paused, None), "nothing good is known of the others");
    let mut one = normal();
    one.rules.by_hardware = false;
    assert_eq!(plan(&one, &bad, t(DAY)).unwrap().state, RolloutState::Paused, "five in a hundred of all");
}

#[test]
fn stages_by_hand_move_by_hand_and_a_start_is_kept() {
    let by_hand = sample(Stages(vec![Stage::of(10), Stage::of(100)]), Rules::default());
    let good = stats(&[("cam-r3", tally(1000, &[]))]);
    assert_eq!((plan(&by_hand, &good, t(DAY)), waits(&by_hand, &good, t(DAY))), (None, Waits::Hand));
    let mut later = Rollout { state: RolloutState::Scheduled, ..normal() };
    later.rules.start_at = Some(t(60));
    assert_eq!((plan(&later, &good, t(59)), waits(&later, &good, t(59))), (None, Waits::Start { at: t(60) }));
    assert_eq!(plan(&later, &good, t(60)).unwrap().cause, Cause::Start);
}

#[test]
fn evidence_has_a_digest_that_depends_on_all_of_it() {
    let rollout = normal();
    let moved = plan(&rollout, &stats(&[("cam-r3", tally(60, &[]))]), t(DAY)).unwrap();
    let digest = moved.digest(&rollout, "server", t(DAY));
    assert_eq!(digest, moved.digest(&rollout, "server", t(DAY)));
    assert_ne!(digest, moved.digest(&rollout, "someone", t(DAY)));
    assert_ne!(digest, moved.digest(&rollout, "server", t(DAY + 1)));
    let other = plan(&rollout, &stats(&[("cam-r3", tally(61, &[]))]), t(DAY)).unwrap();
    assert_ne!(digest, other.digest(&rollout, "server", t(DAY)));
}

#[derive(Clone, Debug)]
enum Event {
    /// Time goes on, by minutes.
    Wait(i64),
    /// The clock is set, by minutes.
    Clock(i64),
    /// Some devices in stage begin.
    Begin(u8),
    /// A device reports: an index and how far it is.
    Report(usize, u8),
    /// A device is heard of.
    Poll(usize),
    /// Somebody pauses or resumes.
    Toggle,
    /// The planner looks, as often as a crash and a second replica make it.
    Look(u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (1i64..600).prop_map(Event::Wait),
        1 => (-300i64..300).prop_map(Event::Clock),
        3 => (1u8..40).prop_map(Event::Begin),
        6 => (any::<usize>(), 0u8..9).prop_map(|(device, state)| Event::Report(device, state)),
        3 => any::<usize>().prop_map(Event::Poll),
        1 => Just(Event::Toggle),
        5 => (1u8..3).prop_map(Event::Look),
    ]
}

/// A rollout with its devices, moved as an executor moves it.
struct World {
    rollout: Rollout,
    devices: Vec<(String, Observed)>,
    now: Time,
}

impl World {
    fn stats(&self) -> Stats {
        let before = self.rollout.mature_before(self.now);
        let mut stats = Stats::default();
        for (hardware, observed) in &self.devices {
            let since = self.rollout.opened_at;
            stats.hardware.entry(hardware.clone()).or_default().observe(observed, before, since);
            if self.rollout.judged_at.is_some_and(|judged| judged <= observed.began_at) {
                stats.fresh.entry(hardware.clone()).or_default().observe(observed, before, since);
            }
        }
        stats
    }

    /// Carries one transition out, if the rollout is still as it was looked at.
    fn carry_out(&mut self, seen: &Rollout, moved: &Transition) -> bool {
        if (seen.state, seen.stage, &seen.excluded) != (self.rollout.state, self.rollout.stage, &self.rollout.excluded)
        {
            return false;
        }
        self.rollout = seen.after(moved, self.now);
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn a_rollout_lives_by_its_rules(
        events in prop::collection::vec(event(), 1..120), minimum in 60u32..80, soak in 0u32..300, ramp in 0u32..300,
    ) {
        let gate = Some(StageGate { minimum, success: 90, soak: Period::minutes(soak) });
        let stage = |percent| Stage { percent, ramp: Period::minutes(ramp), gate };
        let rules = Preset::Accelerated.rules();
        let stages = Stages(vec![stage(10), stage(50), stage(100)]);
        prop_assert_eq!(rules.check(&stages), Ok(()));
        let mut world = World { rollout: sample(stages, rules), devices: vec![], now: t(0) };
        for event in events {
            match event {
                Event::Wait(minutes) | Event::Clock(minutes) => world.now = world.now.plus_s(60 * minutes),
                Event::Begin(count) => {
                    // Nobody begins what is not offered.
                    if world.rollout.state.makes_offers() {
                        for number in 0..count {
                            let hardware = if number % 4 == 0 { "cam-r2" } else { "cam-r3" };
                            let state = AttemptState::Downloading;
                            let observed = Observed { state, failure: None, began_at: world.now, last_seen: world.now };
                            world.devices.push((hardware.to_owned(), observed));
                        }
                    }
                }
                Event::Report(device, state) => {
                    let count = world.devices.len().max(1);
                    let now = world.now;
                    if let Some((_, observed)) = world.devices.get_mut(device % count) {
                        let next = AttemptState::ALL[usize::from(state)];
                        if observed.state.may_become(next) {
                            observed.state = next;
                            observed.failure = (next == AttemptState::Failed).then_some(Failure::Other);
                        }
                        observed.last_seen = observed.last_seen.max(now);
                    }
                }
                Event::Poll(device) => {
                    let (count, now) = (world.devices.len().max(1), world.now);
                    if let Some((_, observed)) = world.devices.get_mut(device % count) {
                        observed.last_seen = observed.last_seen.max(now);
                    }
                }
                Event::Toggle => match world.rollout.state {
                    RolloutState::Running => {
                        world.rollout = world.rollout.moved(RolloutState::Paused, world.rollout.stage, world.now);
                    }
                    RolloutState::Paused => {
                        world.rollout = world.rollout.moved(RolloutState::Running, world.rollout.stage, world.now);
                    }
                    _ => {}
                },
                Event::Look(replicas) => {
                    // Replicas look at the same state; one of them carries the transition out.
                    let seen = world.rollout.clone();
                    let stats = world.stats();
                    let planned = plan(&seen, &stats, world.now);
                    prop_assert_eq!(&planned, &plan(&seen, &stats, world.now), "the same figures, the same answer");
                    let Some(planned) = planned else { continue };
                    let reach = seen.reach(world.now);
                    let mut carried = 0;
                    for _ in 0..replicas {
                        carried += u32::from(world.carry_out(&seen, &planned));
                    }
                    prop_assert_eq!(carried, 1, "a transition runs once");
                    let after = &world.rollout;
                    prop_assert!(planned.figures.is_some() || planned.cause == Cause::Start, "no move without its evidence");
                    match &planned.cause {
                        Cause::Gate => {
                            let seen_in_stage = stats.total(&seen.excluded).of_stage;
                            prop_assert!(seen_in_stage.attempts >= u64::from(minimum), "gates never open on fewer");
                            prop_assert!(world.now >= seen.stage_since.plus_s(60 * i64::from(soak)));
                            prop_assert!(after.stage == seen.stage + 1 || after.state == RolloutState::Done);
                            prop_assert!(after.reach(world.now) >= reach, "nobody leaves the cohort");
                        }
                        Cause::Stop { hardware: Some(hardware), .. } => {
                            prop_assert!(after.excluded.contains(hardware));
                            prop_assert!(!seen.excluded.contains(hardware), "taken out once");
                            prop_assert_eq!(after.state, seen.state);
                        }
                        Cause::Stop { hardware: None, .. } => prop_assert!(!after.state.makes_offers()),
                        Cause::Start => prop_assert_eq!(after.state, RolloutState::Running),
                    }
                    prop_assert_eq!(&after.excluded, &seen.excluded.iter().chain(planned.exclude.as_deref()).collect::<TextSet>());
                }
            }
            // What it waits for is nothing exactly when it would move or has ended.
            if world.rollout.state == RolloutState::Running {
                let stats = world.stats();
                let moves = plan(&world.rollout, &stats, world.now);
                if moves.is_none() {
                    prop_assert_ne!(waits(&world.rollout, &stats, world.now), Waits::Nothing);
                }
            }
        }
    }
}
