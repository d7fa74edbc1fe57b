//! The rollout gate as a specification: states, stages, windows, ramps, going back, the switch for all.

use super::*;

#[test]
fn rollout_gates_give_their_own_reasons() {
    let releases = || vec![release(FEATURE), release(Make { order: 2, ..FEATURE })];
    let device = device(1, vec![cover(CoverRule::Open, &[])]);
    assert_eq!(reason(&device, &product(releases(), vec![]), 1).0, Reason::NoRollout);
    let with = |change: fn(&mut Rollout)| {
        let mut rollout = rollout_of(2, 100);
        change(&mut rollout);
        reason(&device, &product(releases(), vec![rollout]), 1).0
    };
    assert_eq!(with(|r| r.state = RolloutState::Draft), Reason::RolloutNotStarted);
    assert_eq!(with(|r| r.state = RolloutState::Paused), Reason::RolloutPaused);
    assert_eq!(with(|r| r.state = RolloutState::Halted), Reason::RolloutHalted);
    assert_eq!(with(|r| r.selector.sites = ["hall"].into_iter().collect()), Reason::NotInAudience);
    assert_eq!(with(|r| r.selector.serials = ["SN7"].into_iter().collect()), Reason::Offered);
    // Bucket of cohort 7 under "salt" is fixed; one percent does not reach it.
    assert!(crate::rollout::bucket("salt", CohortId(uuid(7))) >= 100);
    assert_eq!(with(|r| r.stages = Stages(vec![Stage::of(1)])), Reason::StageWait);
    for state in [RolloutState::Review, RolloutState::Approved, RolloutState::Preparing, RolloutState::Scheduled] {
        let mut rollout = rollout_of(2, 100);
        rollout.state = state;
        assert_eq!(reason(&device, &product(releases(), vec![rollout]), 1).0, Reason::RolloutNotStarted);
    }
    assert_eq!(with(|r| r.excluded = ["cam-r3"].into_iter().collect()), Reason::HardwareStopped);
    assert_eq!(with(|r| r.excluded = ["cam-r2"].into_iter().collect()), Reason::Offered);
}

#[test]
fn stop_all_stops_every_rollout_at_once() {
    let device = device(1, vec![cover(CoverRule::Open, &[])]);
    let mut product = product(vec![release(FEATURE), release(Make { order: 2, ..FEATURE })], vec![rollout_of(2, 100)]);
    assert_eq!(reason(&device, &product, 1).0, Reason::Offered);
    product.stopped = true;
    assert_eq!(reason(&device, &product, 1).0, Reason::StoppedAll);
}

#[test]
fn a_window_decides_in_the_zone_of_the_site_and_security_does_not_wait() {
    let schedule = |security_too| crate::rollout::Schedule {
        windows: vec![crate::rollout::WeeklyWindow {
            days: vec![],
            from: "22:00".parse().unwrap(),
            to: "04:00".parse().unwrap(),
        }],
        security_too,
        ..crate::rollout::Schedule::default()
    };
    let at = |kind, zone: Option<&str>, security_too, hour: i64| {
        let mut device = device(1, vec![cover(CoverRule::Open, &[])]);
        device.time_zone = zone.map(str::to_owned);
        device.device.confirmed_train = Some("1.0".parse().unwrap());
        let mut rollout = rollout_of(2, 100);
        rollout.rules.schedule = schedule(security_too);
        let product = product(vec![release(FEATURE), release(Make { order: 2, kind, ..FEATURE })], vec![rollout]);
        let now = day(1).plus_s(3600 * hour);
        let answer = |at| matches!(decide(&device, &product, at, &mut ()), Decision::Offer { .. });
        let reason = match decide(&device, &product, now, &mut ()) {
            Decision::Offer { .. } => Reason::Offered,
            Decision::Nothing { reason, .. } => reason,
        };
        (reason, next_change(&device, &product, now, day(30), answer).map(|at| (at.as_s() - day(1).as_s()) / 3600))
    };
    let feature = ReleaseKind::Feature;
    assert_eq!(at(feature, None, false, 12), (Reason::WindowClosed, Some(22)), "and when it opens");
    assert_eq!(at(feature, None, false, 23).0, Reason::Offered);
    assert_eq!(at(feature, Some("Asia/Tokyo"), false, 12), (Reason::WindowClosed, Some(13)), "21:00 in Tokyo");
    assert_eq!(at(feature, Some("Asia/Tokyo"), false, 13).0, Reason::Offered);
    assert_eq!(at(ReleaseKind::Security, None, false, 12).0, Reason::Offered, "a security fix does not wait");
    assert_eq!(at(ReleaseKind::Security, None, true, 12).0, Reason::WindowClosed, "unless the plan says so");
}

#[test]
fn a_ramp_comes_to_each_device_and_says_when() {
    let mut rollout = rollout_of(2, 100);
    rollout.stages = Stages(vec![Stage { percent: 100, ramp: crate::Period::minutes(1000), gate: None }]);
    rollout.stage_since = day(1);
    let device = device(1, vec![cover(CoverRule::Open, &[])]);
    let bucket = crate::rollout::bucket("salt", CohortId(uuid(7)));
    let product = product(vec![release(FEATURE), release(Make { order: 2, ..FEATURE })], vec![rollout]);
    assert_eq!(reason(&device, &product, 1).0, Reason::StageWait);
    let offered = |at| matches!(decide(&device, &product, at, &mut ()), Decision::Offer { .. });
    let at = next_change(&device, &product, day(1), day(30), offered).unwrap();
    assert_eq!((at.as_s() - day(1).as_s()) / 6, i64::from(bucket) + 1, "a bucket every six seconds");
    assert!(offered(at) && !offered(at.plus_s(-1)));
}

#[test]
fn going_back_leads_those_who_run_the_release_to_the_version_that_the_rules_name() {
    let mut rollout = rollout_of(2, 100);
    rollout.state = RolloutState::RollingBack;
    rollout.rules.rollback_to = Some("v3".parse().unwrap());
    let releases = || (1..=3).map(|order| release(Make { order, ..FEATURE })).collect();
    let product = product(releases(), vec![rollout]);
    let covers = || vec![cover(CoverRule::Open, &[])];
    assert_eq!(reason(&device(2, covers()), &product, 1), (Reason::Offered, Some("v3".to_owned())));
    assert_eq!(reason(&device(1, covers()), &product, 1).0, Reason::NoRollout, "it never ran the bad one");
    assert_eq!(reason(&device(2, vec![]), &product, 1).0, Reason::NoContract, "and only along entitled paths");
}
