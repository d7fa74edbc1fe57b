//! Signing epochs as a specification: which hop a device with an older verifier is offered, and what it never gets by it.

use proptest::prelude::*;

use super::tests::*;
use super::*;
use crate::TextSet;
use crate::cover::{Cover, CoverRule};
use crate::device::DeviceState;
use crate::id::ReleaseId;
use crate::rollout::RolloutState;

const FREE: Make = Make { requires: &[], ..FEATURE };

/// Runs v1 and knows the first epoch.
fn old(covers: Vec<Cover>) -> DeviceView {
    device(1, covers)
}

fn open() -> Vec<Cover> {
    vec![cover(CoverRule::Open, &[])]
}

/// v1 and the floor v2 of the first epoch, v3 of the second; v2 and v3 need `CAM`.
fn two_epochs() -> Vec<ReleaseView> {
    vec![release(FREE), release(Make { order: 2, ..FEATURE }), release(Make { order: 3, epoch: 2, ..FEATURE })]
}

fn offer(device: &DeviceView, product: &ProductView) -> (Reason, String, String) {
    match decide(device, product, day(10), &mut ()) {
        Decision::Offer { release, rollout, reason, .. } => {
            (reason, release.release.version.to_string(), rollout.name.to_string())
        }
        Decision::Nothing { reason, about, .. } => {
            (reason, about.map(|about| about.release.version.to_string()).unwrap_or_default(), String::new())
        }
    }
}

fn text(text: &str) -> String {
    text.to_owned()
}

#[test]
fn a_verifier_of_the_newest_epoch_sees_no_epochs() {
    let product = product(two_epochs(), vec![rollout_of(3, 100)]);
    for epoch in [2, 3, 1000] {
        let mut device = old(open());
        device.device.signing_epoch = epoch;
        assert_eq!(offer(&device, &product), (Reason::CoveredOpen, text("v3"), text("r3")));
        assert!(why(&device, &product, None, day(10)).path.is_empty());
    }
}

#[test]
fn an_older_verifier_is_offered_the_floor_of_its_epoch_first() {
    let product = product(two_epochs(), vec![rollout_of(2, 100), rollout_of(3, 100)]);
    assert_eq!(offer(&old(open()), &product), (Reason::CoveredOpen, text("v2"), text("r2")));
    let why = why(&old(open()), &product, None, day(10));
    let path: Vec<&str> = why.path.iter().map(AsRef::as_ref).collect();
    assert_eq!(path, ["v2", "v3"]);
    assert_eq!((why.steps[0].gate, why.steps[0].reason), (Gate::Path, Reason::EpochNotReached));
    assert_eq!(why.steps[0].detail, "epoch 2, the device knows 1: v2 comes first");
}

#[test]
fn the_floor_needs_no_cover_when_something_beyond_it_has_it() {
    let free_beyond =
        || vec![release(FREE), release(Make { order: 2, ..FEATURE }), release(Make { order: 3, epoch: 2, ..FREE })];
    let on = product(free_beyond(), vec![rollout_of(2, 100), rollout_of(3, 100)]);
    assert_eq!(offer(&old(vec![]), &on), (Reason::EpochPath, text("v2"), text("r2")));
    let steps = why(&old(vec![]), &on, Some(&"v2".parse().unwrap()), day(10)).steps;
    let last = steps.last().unwrap();
    assert_eq!(steps[0].reason, Reason::NoContract, "by itself it would not get it");
    assert!(steps.iter().any(|step| step.reason == Reason::EpochPath && step.detail == "towards v3 of epoch 2"));
    assert!(last.pass);
    let without = product(two_epochs(), vec![rollout_of(2, 100), rollout_of(3, 100)]);
    assert_eq!(offer(&old(vec![]), &without).0, Reason::EpochNotReached, "entitled to nothing beyond");
    let fix = Make { order: 3, epoch: 2, kind: crate::release::ReleaseKind::Security, ..FEATURE };
    let fixed =
        product(vec![release(FREE), release(Make { order: 2, ..FEATURE }), release(fix)], vec![rollout_of(3, 100)]);
    assert_eq!(offer(&old(vec![]), &fixed), (Reason::EpochPath, text("v2"), text("r3")), "a security fix lies beyond");
}

#[test]
fn a_floor_is_no_way_around_what_holds_it_back() {
    let on = |change: fn(&mut DeviceView, &mut ReleaseView)| {
        let mut device = old(vec![]);
        let mut floor = release(Make { order: 2, ..FEATURE });
        change(&mut device, &mut floor);
        let releases = vec![release(FREE), floor, release(Make { order: 3, epoch: 2, ..FREE })];
        let product = product(releases, vec![rollout_of(2, 100), rollout_of(3, 100)]);
        offer(&device, &product)
    };
    let hold = |device: &mut DeviceView| {
        device.policies = vec![crate::policy::Policy {
            id: crate::id::FactId(uuid(1)),
            scope: crate::policy::PolicyScope::Customer,
            kind: crate::policy::PolicyKind::Hold { security: false },
            owner: "it".parse().unwrap(),
            reason: "exams".to_owned(),
            from_at: day(0),
            to_at: Time::FOREVER,
            recorded_at: day(0),
        }];
    };
    assert_eq!(on(|_, _| {}).0, Reason::EpochPath);
    assert_eq!(
        on(|device, floor| {
            device.country = Some("NL".to_owned());
            floor.blocked_countries = ["NL"].into_iter().collect();
        })
        .2,
        "",
        "blocked in its country"
    );
    assert_eq!(
        on(|_, floor| {
            floor.embargo = Some(crate::release::Embargo { codes: TextSet::default(), until: day(50) });
        })
        .2,
        "",
        "under embargo"
    );
    let mut held = old(vec![]);
    hold(&mut held);
    let mut fix = Make { order: 3, epoch: 2, ..FREE };
    let releases = |fix| vec![release(FREE), release(Make { order: 2, ..FEATURE }), release(fix)];
    let rollouts = || vec![rollout_of(2, 100), rollout_of(3, 100)];
    assert_eq!(offer(&held, &product(releases(fix), rollouts())).2, "", "its owner wants nothing new");
    fix.kind = crate::release::ReleaseKind::Security;
    assert_eq!(
        offer(&held, &product(releases(fix), rollouts())).0,
        Reason::EpochPath,
        "but security fixes, and the way to them"
    );
}

#[test]
fn a_hop_follows_its_own_rollout_or_that_of_where_it_leads() {
    let with = |rollouts| offer(&old(open()), &product(two_epochs(), rollouts));
    assert_eq!(with(vec![rollout_of(2, 100)]), (Reason::CoveredOpen, text("v2"), text("r2")));
    assert_eq!(with(vec![rollout_of(3, 100)]), (Reason::CoveredOpen, text("v2"), text("r3")));
    assert_eq!(with(vec![]).0, Reason::EpochNotReached);
    let stopped = |state| {
        let mut own = rollout_of(2, 100);
        own.state = state;
        with(vec![own, rollout_of(3, 100)])
    };
    assert_eq!(stopped(RolloutState::Halted).1, text("v3"), "nothing is offered: v2 was stopped");
    assert_eq!(stopped(RolloutState::Paused).2, "");
    assert_eq!(stopped(RolloutState::Draft).2, text("r3"));
}

#[test]
fn a_device_at_the_end_of_its_epoch_is_told_that_nothing_leads_on() {
    let product = product(two_epochs(), vec![rollout_of(2, 100), rollout_of(3, 100)]);
    let device = device(2, open());
    let why = why(&device, &product, None, day(10));
    assert_eq!((why.reason, why.version.unwrap().as_str()), (Reason::EpochNotReached, "v3"));
    assert_eq!(why.steps[0].detail, "epoch 2, the device knows 1: no release of epoch 1 leads to it");
}

#[test]
fn the_floor_is_reached_by_the_stones_before_it() {
    let releases = vec![
        release(FREE),
        release(Make { order: 2, ..FEATURE }),
        release(Make { order: 3, floor: Some(2), ..FEATURE }),
        release(Make { order: 4, epoch: 2, floor: Some(3), ..FREE }),
        release(Make { order: 5, epoch: 3, floor: Some(4), ..FREE }),
    ];
    let rollouts = (2..=5).map(|order| rollout_of(order, 100)).collect();
    let product = product(releases, rollouts);
    assert_eq!(offer(&old(vec![]), &product), (Reason::EpochPath, text("v2"), text("r2")));
    let path = |runs: i64, epoch: i32| -> Vec<String> {
        let mut device = device(runs, vec![]);
        device.device.signing_epoch = epoch;
        why(&device, &product, None, day(10)).path.iter().map(ToString::to_string).collect()
    };
    assert_eq!(path(1, 1), ["v2", "v3", "v4", "v5"]);
    assert_eq!(path(2, 1), ["v3", "v4", "v5"]);
    assert_eq!(path(3, 2), ["v4", "v5"]);
    assert_eq!(path(4, 3), [] as [&str; 0]);
}

#[test]
fn what_cannot_be_installed_over_the_floor_makes_no_hop_free() {
    let beyond = |make: Make| {
        product(
            vec![release(FREE), release(Make { order: 2, ..FEATURE }), release(Make { order: 4, epoch: 2, ..make })],
            vec![rollout_of(2, 100), rollout_of(4, 100)],
        )
    };
    assert_eq!(offer(&old(vec![]), &beyond(FREE)).0, Reason::EpochPath);
    assert_eq!(offer(&old(vec![]), &beyond(Make { floor: Some(3), ..FREE })).0, Reason::EpochNotReached);
    let mut other = release(Make { order: 4, epoch: 2, ..FREE });
    other.artifacts[0].hw_ids = ["cam-r9"].into_iter().collect();
    let other = product(vec![release(FREE), release(Make { order: 2, ..FEATURE }), other], vec![rollout_of(2, 100)]);
    assert_eq!(offer(&old(vec![]), &other).0, Reason::NoContract, "for other hardware");
}

#[test]
fn withdrawn_and_failed_floors_are_no_floors() {
    let mut releases =
        vec![release(FREE), release(Make { order: 2, ..FEATURE }), release(Make { order: 3, ..FEATURE })];
    releases.push(release(Make { order: 4, epoch: 2, ..FREE }));
    let rollouts = || vec![rollout_of(4, 100)];
    assert_eq!(offer(&old(vec![]), &product(releases.clone(), rollouts())).1, text("v3"));
    releases[2].release.withdrawn_at = Some(day(5));
    assert_eq!(offer(&old(vec![]), &product(releases.clone(), rollouts())).1, text("v2"));
    let mut failed = old(vec![]);
    failed.failed = vec![(ReleaseId(uuid(2)), MAX_FAILED_ATTEMPTS)];
    let product = product(releases, rollouts());
    assert_eq!(offer(&failed, &product).2, "");
    for (state, reason) in [(DeviceState::Blocked, ""), (DeviceState::Retired, ""), (DeviceState::Pending, "")] {
        let mut device = old(vec![]);
        device.device.state = state;
        assert_eq!(offer(&device, &product).2, reason, "{state:?}");
    }
}

/// Releases in the order of their epochs, as they are published.
fn any_releases() -> impl Strategy<Value = Vec<ReleaseView>> {
    let one = (0i32..2, prop::bool::ANY, prop::option::of(0i64..3), 0i64..200, prop::bool::weighted(0.1));
    prop::collection::vec(one, 1..8).prop_map(|facts| {
        let mut epoch = 1;
        let mut releases = vec![release(FREE)];
        for (order, (rise, free, back, ga, withdrawn)) in (2i64..).zip(facts) {
            epoch += rise;
            let requires: &'static [&'static str] = if free { &[] } else { &["CAM"] };
            let floor = back.map(|back| (order - 1 - back).max(1));
            let mut made = release(Make { order, requires, floor, epoch, train: ("2.0", ga), ..FEATURE });
            made.release.published_at = day(0);
            made.release.withdrawn_at = withdrawn.then(|| day(1));
            releases.push(made);
        }
        releases
    })
}

fn any_windows() -> impl Strategy<Value = Vec<(i64, i64)>> {
    prop::collection::vec((0i64..200, 1i64..90).prop_map(|(from, len)| (from, from + len)), 0..3)
}

/// All rollouts at 100 %, but for those left out.
fn rollouts(releases: &[ReleaseView], without: i64) -> Vec<Rollout> {
    let orders = releases.iter().map(|release| release.release.order);
    orders.filter(|order| *order != without).map(|order| rollout_of(order, 100)).collect()
}

proptest! {
    #[test]
    fn more_cover_never_means_less(
        releases in any_releases(), first in any_windows(), second in any_windows(), known in 1i32..4, without in 0i64..9,
    ) {
        let product = product(releases.clone(), rollouts(&releases, without));
        let offered = |covers: Vec<Cover>| {
            let mut device = old(covers);
            device.device.signing_epoch = known;
            match decide(&device, &product, day(100), &mut ()) {
                Decision::Offer { release, .. } => release.release.order,
                Decision::Nothing { .. } => 0,
            }
        };
        let one = vec![cover(CoverRule::TrainGa, &first)];
        let both = vec![cover(CoverRule::TrainGa, &first), cover(CoverRule::TrainGa, &second)];
        prop_assert!(offered(vec![]) <= offered(one.clone()));
        prop_assert!(offered(one) <= offered(both));
    }

    #[test]
    fn nothing_is_free_without_a_claim_to_something_beyond_it(
        releases in any_releases(), windows in any_windows(), known in 1i32..4,
    ) {
        let product = product(releases.clone(), rollouts(&releases, 0));
        let mut device = old(vec![cover(CoverRule::TrainGa, &windows)]);
        device.device.signing_epoch = known;
        if let Decision::Offer { release, reason, .. } = decide(&device, &product, day(100), &mut ()) {
            let of = |release: &ReleaseView| entitled(&device, &product, release, day(100), &mut ()).pass;
            prop_assert!(release.release.signing_epoch <= known, "its verifier could not read it");
            prop_assert!(reachable(&device, &product, release, day(100)).pass);
            prop_assert_eq!(reason == Reason::EpochPath, !of(release));
            if reason == Reason::EpochPath {
                let beyond = |other: &&ReleaseView| other.release.signing_epoch > known && other.release.order > release.release.order;
                prop_assert!(product.releases().iter().filter(beyond).any(of));
            }
        }
    }

    /// Each device that follows its offers, and takes up the next epoch with each floor, ends where its path said.
    #[test]
    fn whoever_follows_the_path_arrives(releases in any_releases()) {
        let product = product(releases.clone(), rollouts(&releases, 0));
        let mut device = old(open());
        let path = why(&device, &product, None, day(100)).path;
        for (at, version) in path.iter().enumerate() {
            let Decision::Offer { release, .. } = decide(&device, &product, day(100), &mut ()) else {
                return Err(TestCaseError::fail(format!("no offer at step {at} of {path:?}")));
            };
            prop_assert_eq!(&release.release.version, version, "step {} of {:?}", at, path);
            let order = release.release.order;
            device.installed[0].sha256 = digest(order);
            device.installed[0].version = format!("v{order}").parse().unwrap();
            // The end of an epoch brings a verifier of the next one.
            let known = device.device.signing_epoch;
            let further = product.releases().iter().any(|next| next.release.signing_epoch <= known
                && next.release.withdrawn_at.is_none() && reachable(&device, &product, next, day(100)).pass);
            if !further {
                let next = path.get(at + 1).and_then(|version| product.release_of_version(version));
                device.device.signing_epoch = next.map_or(known, |next| next.release.signing_epoch.max(known));
            }
        }
    }
}
