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

fn filtered(filter: &str, order: i64) -> Rollout {
    let mut rollout = rollout_of(order, 100);
    rollout.selector.filter = Some(filter.parse().unwrap());
    rollout
}

fn three() -> Vec<ReleaseView> {
    (1..=3).map(|order| release(Make { order, ..FEATURE })).collect()
}

/// What the rollout gate says of version 3 to a device, and the detail of it.
fn told(filter: &str, change: fn(&mut DeviceView), now: i64) -> (Reason, String) {
    let mut device = device(2, vec![cover(CoverRule::Open, &[])]);
    device.last_seen = Some(day(100));
    change(&mut device);
    let product = product(three(), vec![filtered(filter, 3)]);
    let why = why(&device, &product, Some(&"v3".parse().unwrap()), day(now));
    let step = why.steps.iter().rfind(|step| step.gate == Gate::Rollout).unwrap();
    (step.reason, step.detail.clone())
}

#[test]
fn a_filter_is_asked_of_the_device_and_tells_the_term_that_does_not_hold() {
    let none: fn(&mut DeviceView) = |_| {};
    let no = |filter, change| told(filter, change, 101);
    let yes = |filter, change| assert_eq!(told(filter, change, 101).0, Reason::InStage, "{filter}");
    let not = |detail: &str| (Reason::NotInAudience, detail.to_owned());
    yes(r#"product = "cam" and hardware in ("cam-r2", "cam-r3") and version < "v3" and version >= "v2""#, none);
    assert_eq!(
        no(r#"site = "x" or hardware = "cam-r2""#, none),
        not(r#"r3 asks for site = "x" or hardware = "cam-r2""#)
    );
    assert_eq!(
        no(r#"hardware = "cam-r2" and site = "x""#, none),
        not(r#"r3 asks for hardware = "cam-r2", the device has cam-r3"#)
    );
    assert_eq!(
        no(r#"version not in ("v1", "v2")"#, none),
        not(r#"r3 asks for version not in ("v1", "v2"), the device has v2"#)
    );
    assert_eq!(no(r#"customer = "acme""#, none), not(r#"r3 asks for customer = "acme", the device has none"#));
    yes(r#"customer = "acme" and site != "hall""#, |device| device.customer = Some("acme".parse().unwrap()));
    assert_eq!(
        no(r#"not group = "lab""#, |device| device.device.tags = ["lab", "vip"].into_iter().collect()),
        not(r#"r3 asks for tag != "lab", the device has lab, vip"#)
    );
    yes(r#"plan = "plus""#, none);
    assert_eq!(no(r#"plan = "plus" and plan = "max""#, none), not(r#"r3 asks for plan = "max", the device has plus"#));
    // Of a device that runs nothing known no comparison holds, and its opposite does.
    yes(r#"not version < "v3""#, |device| device.installed.clear());
    assert_eq!(no(r#"version < "v3""#, |device| device.installed.clear()).0, Reason::NotInAudience);
    // The lists stay what they were, and the filter is asked with them.
    let mut rollout = filtered(r#"hardware = "cam-r3""#, 3);
    rollout.selector.sites = ["hall"].into_iter().collect();
    let why = why(&device(2, vec![cover(CoverRule::Open, &[])]), &product(three(), vec![rollout]), None, day(101));
    assert!(why.steps.iter().any(|step| step.detail == "r3 asks for site in (hall), the device has none"), "{why:?}");
}

#[test]
fn versions_compare_by_the_order_that_the_signer_fixed() {
    let mut releases = three();
    releases[0].release.version = "9".parse().unwrap();
    releases[1].release.version = "10".parse().unwrap();
    let product = product(releases, vec![filtered(r#"version > "9""#, 3)]);
    let device = device(2, vec![cover(CoverRule::Open, &[])]);
    assert_eq!(reason(&device, &product, 1).0, Reason::Offered, "10 comes after 9");
}

#[test]
fn last_contact_is_the_age_at_the_moment_and_who_asks_is_heard_of() {
    let at = |filter, now| told(filter, |_| {}, now).0;
    assert_eq!(at("last_seen < 30d", 129), Reason::InStage);
    assert_eq!(at("last_seen < 30d", 130), Reason::NotInAudience);
    assert_eq!(at("last_seen >= 30d", 130), Reason::InStage);
    assert_eq!(told("last_seen > 30d", |device| device.last_seen = None, 1).0, Reason::InStage, "never is long ago");
    assert_eq!(told("last_seen < 1s", |device| device.last_seen = Some(Time::FOREVER), 500).0, Reason::InStage);
    assert_eq!(
        told("last_seen < 1d", |_| {}, 300).1,
        format!("r3 asks for last_seen < 1d, the device has {}", day(100))
    );
    // And it is told when that changes.
    let mut device = device(2, vec![cover(CoverRule::Open, &[])]);
    device.last_seen = Some(day(100));
    let product = product(three(), vec![filtered("last_seen < 30d", 3)]);
    let offered = |at| matches!(decide(&device, &product, at, &mut ()), Decision::Offer { .. });
    assert_eq!(next_change(&device, &product, day(101), day(300), offered), Some(day(130)));
}

#[test]
fn who_leaves_an_audience_by_succeeding_is_done_and_can_still_be_led_back() {
    let covers = || vec![cover(CoverRule::Open, &[])];
    let mut rollout = filtered(r#"version < "v2" and not tag = "lab""#, 2);
    let view = product(three(), vec![rollout.clone()]);
    assert_eq!(reason(&device(1, covers()), &view, 1), (Reason::Offered, Some("v2".to_owned())));
    assert_eq!(
        decide(&device(2, covers()), &view, day(1), &mut ()).reason_of_nothing(),
        Reason::NoRollout,
        "v3 has none"
    );
    rollout.state = RolloutState::RollingBack;
    rollout.rules.rollback_to = Some("v3".parse().unwrap());
    let view = product(three(), vec![rollout]);
    assert_eq!(reason(&device(2, covers()), &view, 1), (Reason::Offered, Some("v3".to_owned())), "it ran v1 once");
    assert_eq!(reason(&device(1, covers()), &view, 1).0, Reason::NoRollout);
    let mut lab = device(2, covers());
    lab.device.tags = ["lab"].into_iter().collect();
    assert_eq!(reason(&lab, &view, 1).0, Reason::NoRollout, "it was never for the lab");
}

#[test]
fn who_was_offered_it_goes_on_when_the_filter_holds_no_more() {
    let going = |device: &mut DeviceView| device.under_way = Some(RolloutId(uuid(3)));
    assert_eq!(told(r#"tag = "vip""#, |_| {}, 101).0, Reason::NotInAudience);
    assert_eq!(told(r#"tag = "vip""#, going, 101).0, Reason::InStage);
    assert_eq!(
        told(r#"tag = "vip""#, |device| device.under_way = Some(RolloutId(uuid(4))), 101).0,
        Reason::NotInAudience
    );
}

fn wish(scope: crate::policy::PolicyScope, kind: crate::policy::PolicyKind, at: i64) -> crate::policy::Policy {
    crate::policy::Policy {
        id: crate::id::FactId(uuid(u128::try_from(at).unwrap())),
        scope,
        kind,
        owner: "ann".parse().unwrap(),
        reason: "because".into(),
        from_at: day(0),
        to_at: day(1000),
        recorded_at: day(at),
    }
}

#[test]
fn what_is_asked_for_now_comes_before_stages_and_weights_and_after_stops_and_narrower_or_later_holds() {
    use crate::policy::{PolicyKind, PolicyScope};
    let now = |version: &str| PolicyKind::UpdateNow { version: version.parse().unwrap() };
    let hold = || PolicyKind::Hold { security: true };
    let ask = |policies: Vec<crate::policy::Policy>, change: fn(&mut Rollout)| {
        let mut device = device(1, vec![cover(CoverRule::Open, &[])]);
        device.policies = policies;
        let mut asked = rollout_of(2, 1);
        change(&mut asked);
        let heavier = Rollout { weight: 10, ..rollout_of(3, 100) };
        reason(&device, &product(three(), vec![asked, heavier]), 10)
    };
    let asked = || vec![wish(PolicyScope::Device, now("v2"), 5)];
    let is = |reason, version: &str| (reason, Some(version.to_owned()));
    assert_eq!(ask(vec![], |_| {}), is(Reason::Offered, "v3"));
    assert_eq!(ask(asked(), |_| {}), is(Reason::Offered, "v2"), "before its stage, and before what weighs more");
    assert_eq!(ask(asked(), |r| r.state = RolloutState::Scheduled), is(Reason::Offered, "v2"));
    for state in [RolloutState::Paused, RolloutState::Halted, RolloutState::Review, RolloutState::Approved] {
        let mut device = device(1, vec![cover(CoverRule::Open, &[])]);
        device.policies = asked();
        let rollout = Rollout { state, ..rollout_of(2, 100) };
        assert_ne!(reason(&device, &product(three(), vec![rollout]), 10).0, Reason::Offered, "{state:?}");
    }
    assert_eq!(ask(asked(), |r| r.excluded = ["cam-r3"].into_iter().collect()), is(Reason::Offered, "v3"));
    assert_eq!(ask(asked(), |r| r.selector.sites = ["x"].into_iter().collect()), is(Reason::Offered, "v3"));
    // By precedence: it is a wish for the device, so it counts before those for customer, site and group.
    let with = |scope, at| [asked(), vec![wish(scope, hold(), at)]].concat();
    assert_eq!(ask(with(PolicyScope::Customer, 9), |_| {}), is(Reason::Offered, "v2"));
    assert_eq!(
        ask(with(PolicyScope::Device, 4), |_| {}),
        is(Reason::Offered, "v2"),
        "held before, and asked for since"
    );
    assert_eq!(ask(with(PolicyScope::Device, 9), |_| {}).0, Reason::HeldByPolicy, "held since");
    // Of what was not asked for the other wishes decide, and without cover nothing comes.
    assert_eq!(
        ask([vec![wish(PolicyScope::Device, now("v9"), 5)], vec![wish(PolicyScope::Site, hold(), 9)]].concat(), |_| {})
            .0,
        Reason::HeldByPolicy
    );
    let mut bare = device(1, vec![]);
    bare.policies = asked();
    assert_eq!(reason(&bare, &product(three(), vec![rollout_of(2, 100)]), 10).0, Reason::NoContract);
}

#[test]
fn a_rate_at_a_site_counts_the_time_in_which_offers_are_made() {
    let mut rollout = rollout_of(2, 100);
    rollout.stage_since = day(1);
    rollout.rules.rates.per_site = Some(crate::Period::hours(100));
    let mut device = device(1, vec![cover(CoverRule::Open, &[])]);
    let bucket = crate::rollout::bucket("salt", CohortId(uuid(7)));
    let at = rollout.rate_at(None, || bucket).unwrap();
    assert_eq!(at.as_ms() - day(1).as_ms(), i64::from(bucket) * 36_000);
    let asked = |device: &DeviceView, rollout: &Rollout, at: Time| {
        let product = product(three(), vec![rollout.clone()]);
        why(device, &product, Some(&"v2".parse().unwrap()), at).reason
    };
    assert_eq!(asked(&device, &rollout, at.plus_ms(-1)), Reason::SiteRate);
    assert_eq!(asked(&device, &rollout, at), Reason::Offered);
    let paused = rollout.moved(RolloutState::Paused, 0, day(1).plus_s(3600));
    assert_eq!(paused.ran_ms, 3_600_000);
    let resumed = paused.moved(RolloutState::Running, 0, day(3));
    assert_eq!(resumed.rate_at(None, || bucket), Some(at.plus_ms(day(3).as_ms() - day(1).as_ms() - 3_600_000)));
    let next = resumed.moved(RolloutState::Done, 0, day(3).plus_s(60));
    assert_eq!(next.rate_at(None, || bucket), resumed.rate_at(None, || bucket), "a stage does not begin it anew");
    // Sites of their own, and who has the offer.
    device.device.site = Some("desk".parse().unwrap());
    rollout.rules.rates.sites.insert("desk".parse().unwrap(), crate::Period::ZERO);
    assert_eq!(asked(&device, &rollout, day(1)), Reason::Offered);
    rollout.rules.rates.sites.clear();
    device.under_way = Some(rollout.id);
    assert_eq!(asked(&device, &rollout, day(1)), Reason::Offered);
}

impl Decision<'_> {
    fn reason_of_nothing(&self) -> Reason {
        match self {
            Decision::Nothing { reason, .. } => *reason,
            Decision::Offer { .. } => Reason::Offered,
        }
    }
}
