//! The decision as a specification: who gets what, and the reason that is given.

mod histories;
mod offline;
mod properties;
mod rollouts;
mod scenarios;
mod security;
mod staged;
mod world;

use uuid::Uuid;

use super::*;
use crate::cover::{Cover, CoverRule, Origin, Windows};
use crate::device::{DecoderProfile, Device, DeviceState, Installed};
use crate::id::{ArtifactId, CohortId, DeviceId, ProductId, ReleaseId, RolloutId};
use crate::patch::{Full, FullEncoding, Patch, PatchState};
use crate::product::{Channel, Product, Visibility};
use crate::release::{Release, ReleaseKind};
use crate::rollout::{RolloutState, Rules, Selector, Stage, Stages};
use crate::{Digest, TextSet};

pub(super) fn day(day: i64) -> Time {
    Time::EPOCH.plus_days(day)
}

pub(super) fn uuid(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

pub(super) fn digest(order: i64) -> Digest {
    Digest::of(&order.to_be_bytes())
}

#[derive(Clone, Copy)]
pub(super) struct Make {
    pub order: i64,
    pub train: (&'static str, i64),
    pub kind: ReleaseKind,
    pub requires: &'static [&'static str],
    pub floor: Option<i64>,
    pub epoch: i32,
}

pub(super) const FEATURE: Make =
    Make { order: 1, train: ("1.0", 0), kind: ReleaseKind::Feature, requires: &["CAM"], floor: None, epoch: 1 };

pub(super) fn release(make: Make) -> ReleaseView {
    let id = ReleaseId(uuid(u128::try_from(make.order).unwrap()));
    ReleaseView::new(
        Release {
            id,
            product_id: ProductId(uuid(1)),
            version: format!("v{}", make.order).parse().unwrap(),
            order: make.order,
            kind: make.kind,
            train: make.train.0.parse().unwrap(),
            requires: make.requires.iter().copied().collect(),
            channel: Channel::Stable,
            advisories: TextSet::default(),
            notes_header: String::new(),
            notes_body: String::new(),
            published_at: day(make.train.1),
            withdrawn_at: None,
            signing_epoch: make.epoch,
        },
        vec![Artifact {
            id: ArtifactId(uuid(9)),
            release_id: id,
            component: "main".parse().unwrap(),
            hw_ids: ["cam-r3"].into_iter().collect(),
            requires: TextSet::default(),
            path: format!("cam/v{}/image.bin", make.order),
            sha256: digest(make.order),
            length: 1000,
            security_counter: 1,
            min_installed: make.floor.map(|floor| format!("v{floor}").parse().unwrap()),
            min_installed_order: make.floor,
        }],
        day(make.train.1),
    )
}

pub(super) fn rollout_of(order: i64, percent: u8) -> Rollout {
    Rollout {
        id: RolloutId(uuid(u128::try_from(order).unwrap())),
        release_id: ReleaseId(uuid(u128::try_from(order).unwrap())),
        name: format!("r{order}").parse().unwrap(),
        author: String::new(),
        state: RolloutState::Running,
        salt: "salt".into(),
        weight: 0,
        stages: Stages(vec![Stage::of(percent)]),
        stage: 0,
        opened_at: day(0),
        stage_since: day(0),
        reached: 0,
        ran_ms: 0,
        judged_at: None,
        excluded: TextSet::default(),
        rules: Rules::default(),
        selector: Selector::default(),
        created_at: day(0),
    }
}

pub(super) fn product(releases: Vec<ReleaseView>, rollouts: Vec<Rollout>) -> ProductView {
    let product = Product {
        id: ProductId(uuid(1)),
        name: "cam".parse().unwrap(),
        title: "Camera".into(),
        family: "cameras".parse().unwrap(),
        pid: None,
        visibility: Visibility::Gated,
        created_at: day(0),
    };
    ProductView::new(product, releases, rollouts)
}

pub(super) fn device(runs: i64, covers: Vec<Cover>) -> DeviceView {
    DeviceView {
        device: Device {
            id: DeviceId(uuid(7)),
            product_id: ProductId(uuid(1)),
            serial: "SN7".parse().unwrap(),
            hw_id: "cam-r3".parse().unwrap(),
            mac: None,
            customer_id: None,
            site: None,
            tags: TextSet::default(),
            state: DeviceState::Active,
            fence_at: None,
            public_key: None,
            epoch: 1,
            signing_epoch: 1,
            cohort_id: CohortId(uuid(7)),
            channel: Channel::Stable,
            confirmed_train: Some("1.0".parse().unwrap()),
            attempt_seq: 0,
            profile: DecoderProfile::Default,
            ram_budget: 64 << 20,
            scratch_budget: 0,
            patches_off: false,
            created_at: day(0),
        },
        customer: None,
        installed: vec![Installed {
            component: "main".parse().unwrap(),
            version: format!("v{runs}").parse().unwrap(),
            sha256: digest(runs),
            security_counter: 1,
        }],
        covers,
        policies: vec![],
        country: None,
        time_zone: None,
        full_pools: vec![],
        failed: vec![],
        last_seen: None,
        under_way: None,
    }
}

pub(super) fn cover(rule: CoverRule, windows: &[(i64, i64)]) -> Cover {
    Cover {
        contract: "C-1".parse().unwrap(),
        plan: "plus".parse().unwrap(),
        rule,
        grace_days: 14,
        codes: vec![("CAM".parse().unwrap(), Channel::Stable)],
        windows: Windows::new(windows.iter().map(|&(from, to)| (day(from), day(to))).collect()),
        origin: Origin::default(),
    }
}

pub(super) fn reason(device: &DeviceView, product: &ProductView, now: i64) -> (Reason, Option<String>) {
    let why = why(device, product, None, day(now));
    (why.reason, why.version.map(String::from))
}

#[test]
fn a_covered_device_in_stage_is_offered_the_newest() {
    let product = product(
        vec![
            release(Make { order: 1, ..FEATURE }),
            release(Make { order: 2, ..FEATURE }),
            release(Make { order: 3, ..FEATURE }),
        ],
        vec![rollout_of(2, 100), rollout_of(3, 100)],
    );
    let device = device(1, vec![cover(CoverRule::TrainGa, &[(0, 30)])]);
    assert_eq!(reason(&device, &product, 400), (Reason::Offered, Some("v3".into())), "a train owned stays owned");
}

#[test]
fn without_a_contract_the_answer_names_the_reason_and_the_newest_entitled() {
    let product = product(
        vec![release(Make { order: 1, requires: &[], ..FEATURE }), release(Make { order: 2, ..FEATURE })],
        vec![rollout_of(2, 100)],
    );
    let why = why(&device(1, vec![]), &product, None, day(10));
    assert!(!why.offered);
    assert_eq!(why.reason, Reason::NoContract);
    assert_eq!(why.version.unwrap().as_str(), "v2");
    assert_eq!(why.newest_entitled.unwrap().as_str(), "v1");
    assert_eq!(why.steps[0].detail, "requires CAM");
    assert_eq!(why.advice, ["put the device under a contract that grants CAM"]);
}

#[test]
fn a_security_fix_reaches_the_confirmed_train_without_cover_and_no_other() {
    let fix = |train| release(Make { order: 2, kind: ReleaseKind::Security, train, ..FEATURE });
    let device = device(1, vec![]);
    let same = product(vec![release(FEATURE), fix(("1.0", 0))], vec![rollout_of(2, 100)]);
    assert_eq!(reason(&device, &same, 10), (Reason::Offered, Some("v2".into())));
    let other = product(vec![release(FEATURE), fix(("2.0", 5))], vec![rollout_of(2, 100)]);
    assert_eq!(reason(&device, &other, 10), (Reason::NoContract, Some("v2".into())));
    let steps = why(&device, &other, None, day(10)).steps;
    assert!(steps.iter().any(|step| step.reason == Reason::TrainUnproven), "the claim is named as unproven");
}

#[test]
fn the_stepping_stone_to_a_security_fix_is_free_too() {
    let product = product(
        vec![
            release(FEATURE),
            release(Make { order: 2, ..FEATURE }),
            release(Make { order: 3, kind: ReleaseKind::Security, floor: Some(2), ..FEATURE }),
        ],
        vec![rollout_of(2, 100), rollout_of(3, 100)],
    );
    assert_eq!(reason(&device(1, vec![]), &product, 10), (Reason::Offered, Some("v2".into())));
    assert_eq!(reason(&device(2, vec![]), &product, 10), (Reason::Offered, Some("v3".into())));
}

#[test]
fn train_ga_before_at_and_after_each_edge_of_a_window() {
    for (ga, want) in [
        (9, Reason::TrainGaNotCovered),
        (10, Reason::Offered),
        (19, Reason::Offered),
        (20, Reason::Offered), // first day of grace
        (33, Reason::Offered), // last day of grace
        (34, Reason::TrainGaNotCovered),
    ] {
        let product = product(
            vec![release(FEATURE), release(Make { order: 2, train: ("2.0", ga), ..FEATURE })],
            vec![rollout_of(2, 100)],
        );
        let device = device(1, vec![cover(CoverRule::TrainGa, &[(10, 20)])]);
        assert_eq!(reason(&device, &product, 100).0, want, "train GA on day {ga}");
    }
}

#[test]
fn a_gap_is_real_until_a_backdated_window_closes_it() {
    let product = product(
        vec![release(FEATURE), release(Make { order: 2, train: ("2.0", 25), ..FEATURE })],
        vec![rollout_of(2, 100)],
    );
    let gap = device(1, vec![cover(CoverRule::TrainGa, &[(0, 10), (30, 90)])]);
    assert_eq!(reason(&gap, &product, 50).0, Reason::TrainGaNotCovered, "a day after grace");
    let grace = device(1, vec![cover(CoverRule::TrainGa, &[(0, 12), (30, 90)])]);
    assert_eq!(reason(&grace, &product, 50).0, Reason::Offered, "what grace allowed, a renewal does not take away");
    let closed = device(1, vec![cover(CoverRule::TrainGa, &[(0, 10), (10, 30), (30, 90)])]);
    assert_eq!(reason(&closed, &product, 50).0, Reason::Offered);
}

#[test]
fn a_live_plan_says_when_its_answer_changes() {
    let product = product(vec![release(FEATURE), release(Make { order: 2, ..FEATURE })], vec![rollout_of(2, 100)]);
    let device = device(1, vec![cover(CoverRule::Live, &[(10, 20), (40, 50)])]);
    let at = |now| why(&device, &product, None, day(now));
    assert_eq!((at(5).reason, at(5).changes_at), (Reason::NotLive, Some(day(10))));
    assert_eq!(at(5).remedies, [Remedy::Wait { until: day(10) }, Remedy::Renew { contract: "C-1".parse().unwrap() }]);
    assert_eq!((at(15).reason, at(15).changes_at), (Reason::Offered, Some(day(34))), "the end of grace");
    assert_eq!((at(35).reason, at(35).changes_at), (Reason::NotLive, Some(day(40))));
    assert_eq!((at(55).reason, at(55).changes_at), (Reason::Offered, Some(day(64))));
    assert_eq!((at(64).reason, at(64).changes_at), (Reason::NotLive, None));
}

#[test]
fn the_heavier_rollout_wins_over_the_newer_version() {
    let mut heavy = rollout_of(2, 100);
    heavy.weight = 5;
    let product = product(
        vec![release(FEATURE), release(Make { order: 2, ..FEATURE }), release(Make { order: 3, ..FEATURE })],
        vec![heavy, rollout_of(3, 100)],
    );
    assert_eq!(reason(&device(1, vec![cover(CoverRule::Open, &[])]), &product, 1).1.unwrap(), "v2");
}

#[test]
fn device_states_decide_first() {
    let releases = vec![
        release(FEATURE),
        release(Make { order: 2, requires: &[], ..FEATURE }),
        release(Make { order: 3, requires: &[], ..FEATURE }),
    ];
    let free = product(releases, vec![rollout_of(2, 100), rollout_of(3, 100)]);
    let state = |state| {
        let mut device = device(1, vec![]);
        device.device.state = state;
        reason(&device, &free, 1).0
    };
    assert_eq!(state(DeviceState::Active), Reason::Offered);
    assert_eq!(state(DeviceState::RmaPending), Reason::Offered);
    assert_eq!(state(DeviceState::Pending), Reason::DevicePending);
    assert_eq!(state(DeviceState::Blocked), Reason::DeviceBlocked);
    assert_eq!(state(DeviceState::Retired), Reason::DeviceRetired);
    assert_eq!(state(DeviceState::Replaced), Reason::DeviceReplaced);
}

#[test]
fn a_release_that_failed_three_times_is_offered_no_more() {
    let product =
        product(vec![release(FEATURE), release(Make { order: 2, requires: &[], ..FEATURE })], vec![rollout_of(2, 100)]);
    let mut device = device(1, vec![]);
    device.failed = vec![(ReleaseId(uuid(2)), 2)];
    assert_eq!(reason(&device, &product, 1).0, Reason::Offered);
    device.failed = vec![(ReleaseId(uuid(2)), 3)];
    assert_eq!(reason(&device, &product, 1).0, Reason::AttemptFailed);
}

#[test]
fn images_for_other_hardware_and_lower_counters_are_never_offered() {
    let mut wrong = release(Make { order: 2, requires: &[], ..FEATURE });
    wrong.artifacts[0].hw_ids = ["cam-r9"].into_iter().collect();
    let mut low = release(Make { order: 3, requires: &[], ..FEATURE });
    low.artifacts[0].security_counter = 0;
    let device = device(1, vec![]);
    let product = product(vec![release(FEATURE), wrong, low], vec![rollout_of(2, 100), rollout_of(3, 100)]);
    assert_eq!(reason(&device, &product, 1), (Reason::SecurityCounterLower, Some("v3".into())));
    let steps = why(&device, &product, Some(&"v2".parse().unwrap()), day(1));
    assert_eq!(steps.reason, Reason::HardwareMismatch);
}

fn patch(profile: DecoderProfile, length: i64, ram: i64) -> Patch {
    Patch {
        id: crate::id::PatchId(uuid(1)),
        from_sha256: digest(1),
        to_sha256: digest(2),
        profile,
        state: PatchState::Ready,
        sha256: digest(99),
        length,
        head_length: 100,
        head_sha256: digest(98),
        ram,
        scratch: 0,
        created_at: day(0),
    }
}

#[test]
fn the_smallest_encoding_the_device_can_take() {
    let target = release(Make { order: 2, ..FEATURE }).artifacts[0].clone();
    let fulls = [Full { of_sha256: digest(2), encoding: FullEncoding::Zstd, sha256: digest(50), length: 600 }];
    let patches = [patch(DecoderProfile::Fast, 120, 1 << 20), patch(DecoderProfile::Default, 80, 8 << 20)];
    let ask = |change: fn(&mut Device), from: Option<Digest>| {
        let mut device = device(1, vec![]).device;
        change(&mut device);
        let (patch, full, reason) = choose(&device, from, &target, Encodings { patches: &patches, fulls: &fulls });
        (patch.map(|p| p.length), full.length, reason)
    };
    assert_eq!(ask(|_| {}, Some(digest(1))), (Some(80), 600, Reason::PatchChosen));
    assert_eq!(ask(|d| d.profile = DecoderProfile::Fast, Some(digest(1))), (Some(120), 600, Reason::PatchChosen));
    assert_eq!(ask(|d| d.ram_budget = 4 << 20, Some(digest(1))), (Some(120), 600, Reason::PatchChosen));
    assert_eq!(ask(|d| d.ram_budget = 1, Some(digest(1))), (None, 600, Reason::FullOverBudget));
    assert_eq!(ask(|d| d.profile = DecoderProfile::Raw, Some(digest(1))), (None, 1000, Reason::FullProfile));
    assert_eq!(ask(|d| d.patches_off = true, Some(digest(1))), (None, 600, Reason::FullPatchesOff));
    assert_eq!(ask(|_| {}, Some(digest(7))), (None, 600, Reason::FullNoPatch));
    assert_eq!(ask(|_| {}, None), (None, 600, Reason::FullNoPatch));
}

#[test]
fn what_an_owner_lets_through_is_reached_over_stepping_stones() {
    let security = Make { order: 3, kind: ReleaseKind::Security, floor: Some(2), ..FEATURE };
    let product = product(
        vec![
            release(FEATURE),
            release(Make { order: 2, ..FEATURE }),
            release(security),
            release(Make { order: 4, ..FEATURE }),
        ],
        (2..=4).map(|order| rollout_of(order, 100)).collect(),
    );
    let with = |runs: i64, kind: crate::policy::PolicyKind| {
        let mut device = device(runs, vec![cover(CoverRule::Open, &[])]);
        device.policies = vec![crate::policy::Policy {
            id: crate::id::FactId(uuid(1)),
            scope: crate::policy::PolicyScope::Device,
            kind,
            owner: "it".parse().unwrap(),
            reason: "x".to_owned(),
            from_at: day(0),
            to_at: Time::FOREVER,
            recorded_at: day(0),
        }];
        reason(&device, &product, 10)
    };
    let hold = || crate::policy::PolicyKind::Hold { security: false };
    assert_eq!(with(1, hold()), (Reason::Offered, Some("v2".into())), "the way to the fix");
    assert_eq!(with(2, hold()), (Reason::Offered, Some("v3".into())));
    assert_eq!(with(3, hold()), (Reason::HeldByPolicy, Some("v4".into())));
    let pin = || crate::policy::PolicyKind::Pin { version: "v3".parse().unwrap() };
    assert_eq!(with(1, pin()), (Reason::Offered, Some("v2".into())));
    assert_eq!(with(2, pin()), (Reason::Offered, Some("v3".into())));
    assert_eq!(with(3, pin()), (Reason::PinnedByPolicy, Some("v4".into())));
}
