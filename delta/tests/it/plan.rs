//! Which patches are built: the rules one by one, then what holds for every fleet.

use proptest::prelude::*;
use sluice_delta::plan::{
    Candidate, Decision, Plan, PlanBudget, PlanError, PlanOptions, Resource, Version, WhyFull, plan,
};

const FULL: u64 = 1_000_000;
const TARGET: u64 = 9;

fn version(id: u64, devices: u64) -> Version {
    Version { id, devices, full_len: FULL }
}

fn candidate(from: u64, to: u64, len: u64) -> Candidate {
    Candidate { from, to, len, cpu_ms: 100, built: false }
}

fn built(from: u64, to: u64, len: u64) -> Candidate {
    Candidate { built: true, ..candidate(from, to, len) }
}

fn fleet() -> Vec<Version> {
    vec![version(1, 50), version(2, 1_000), version(3, 200), version(TARGET, 7)]
}

fn planned(candidates: &[Candidate], options: &PlanOptions) -> Plan {
    plan(&fleet(), TARGET, candidates, options).unwrap()
}

fn decision(plan: &Plan, version: u64) -> Decision {
    plan.decisions.iter().find(|decided| decided.version == version).unwrap().decision
}

fn with_budget(budget: PlanBudget) -> PlanOptions {
    PlanOptions { budget, ..PlanOptions::default() }
}

#[test]
fn most_devices_first() {
    let candidates = [candidate(1, TARGET, 10_000), candidate(2, TARGET, 20_000), candidate(3, TARGET, 30_000)];
    let plan = planned(&candidates, &PlanOptions::default());
    assert_eq!(plan.build, [candidates[1], candidates[2], candidates[0]]);
    assert_eq!(plan.decisions.iter().map(|decided| decided.version).collect::<Vec<_>>(), [2, 3, 1, TARGET]);
    assert_eq!(plan.bytes, 50 * 10_000 + 1_000 * 20_000 + 200 * 30_000);
    assert_eq!(plan.full_bytes, 1_250 * u128::from(FULL));
    assert_eq!(plan.spent, PlanBudget { patches: 3, cpu_ms: 300, bytes: 60_000 });
    assert_eq!(decision(&plan, TARGET), Decision::Target);
}

#[test]
fn equal_numbers_of_devices_go_by_version() {
    let versions = [version(3, 5), version(1, 5), version(2, 5), version(TARGET, 0)];
    let plan = plan(&versions, TARGET, &[], &PlanOptions::default()).unwrap();
    assert_eq!(plan.decisions.iter().map(|decided| decided.version).collect::<Vec<_>>(), [1, 2, 3, TARGET]);
    assert_eq!(plan.decisions[0].decision, Decision::Full(WhyFull::NoCandidate));
}

#[test]
fn the_benefit_test() {
    let at = |len| decision(&planned(&[candidate(2, TARGET, len)], &PlanOptions::default()), 2);
    assert_eq!(at(700_000), Decision::Direct { new: true });
    assert_eq!(at(700_001), Decision::Full(WhyFull::TooLarge { len: 700_001, limit: 700_000 }));
    // Not even 100 percent lets a patch be as long as the image.
    let all = PlanOptions { max_percent: 100, bytes_per_stored_byte: 0, bytes_per_cpu_ms: 0, ..PlanOptions::default() };
    let plan = planned(&[candidate(2, TARGET, FULL)], &all);
    assert_eq!(decision(&plan, 2), Decision::Full(WhyFull::TooLarge { len: FULL, limit: FULL - 1 }));
    // It holds for patches that exist as well.
    let plan = planned(&[built(2, TARGET, 700_001)], &PlanOptions::default());
    assert!(matches!(decision(&plan, 2), Decision::Full(WhyFull::TooLarge { .. })));
}

#[test]
fn building_has_to_pay() {
    let dear = Candidate { cpu_ms: 40_000, ..candidate(1, TARGET, 200_000) };
    let plan = planned(&[dear], &PlanOptions::default());
    let why = WhyFull::NotWorthIt { saves: 50 * 800_000, costs: 40_000_000 + 2_000_000 };
    assert_eq!(decision(&plan, 1), Decision::Full(why));
    assert!(plan.build.is_empty());
    // What exists costs nothing.
    let plan = planned(&[Candidate { built: true, ..dear }], &PlanOptions::default());
    assert_eq!(decision(&plan, 1), Decision::Direct { new: false });
    assert_eq!((plan.build.len(), plan.spent.cpu_ms), (0, 0));
}

#[test]
fn two_patches_where_one_is_missing_or_dear() {
    let between = [built(1, 2, 30_000), candidate(2, TARGET, 20_000)];
    let plan = planned(&between, &PlanOptions::default());
    assert_eq!(decision(&plan, 1), Decision::Chained { over: 2, new: 1 });
    assert_eq!(decision(&plan, 2), Decision::Direct { new: true });
    assert_eq!(plan.build, [between[1]]);

    // A direct patch saves 5 MB for fifty devices: worth two seconds, not ten.
    let direct = |cpu_ms| Candidate { cpu_ms, ..candidate(1, TARGET, 15_000) };
    let cheap = planned(&[between[0], between[1], direct(2_000)], &PlanOptions::default());
    assert_eq!(decision(&cheap, 1), Decision::Direct { new: true });
    let dear = planned(&[between[0], between[1], direct(10_000)], &PlanOptions::default());
    assert_eq!(decision(&dear, 1), Decision::Chained { over: 2, new: 1 });
}

#[test]
fn two_patches_pass_the_benefit_test_together_and_each() {
    let together = planned(&[built(1, 2, 400_000), built(2, TARGET, 400_000)], &PlanOptions::default());
    assert_eq!(decision(&together, 1), Decision::Full(WhyFull::TooLarge { len: 800_000, limit: 700_000 }));
    let mut versions = fleet();
    versions[1].full_len = 100_000;
    let candidates = [built(1, 2, 90_000), built(2, TARGET, 1_000)];
    let each = plan(&versions, TARGET, &candidates, &PlanOptions::default()).unwrap();
    assert_eq!(decision(&each, 1), Decision::Full(WhyFull::TooLarge { len: 90_000, limit: 70_000 }));
}

#[test]
fn no_way_leads_over_the_target() {
    let round = [built(TARGET, 2, 10), built(2, TARGET, 10), candidate(TARGET, 3, 10), candidate(3, TARGET, 10)];
    let plan = planned(&round, &PlanOptions::default());
    assert_eq!(decision(&plan, TARGET), Decision::Target);
    assert_eq!(plan.build, [round[3]]);
}

#[test]
fn the_budget_ends_the_building() {
    let candidates = [candidate(1, TARGET, 10_000), candidate(2, TARGET, 20_000), candidate(3, TARGET, 30_000)];
    let unlimited = PlanBudget::UNLIMITED;
    for (budget, resource, needed, left) in [
        (PlanBudget { patches: 1, ..unlimited }, Resource::Patches, 1, 0),
        (PlanBudget { cpu_ms: 150, ..unlimited }, Resource::CpuMs, 100, 50),
        (PlanBudget { bytes: 49_999, ..unlimited }, Resource::Bytes, 30_000, 29_999),
    ] {
        let plan = planned(&candidates, &with_budget(budget));
        assert_eq!(plan.build, [candidates[1]]);
        assert_eq!(decision(&plan, 3), Decision::Full(WhyFull::OverBudget { resource, needed, left }));
        // The third would fit into the rest of two of them, and waits: a larger budget then only adds.
        assert_eq!(decision(&plan, 1), Decision::Full(WhyFull::BehindOverBudget { first: 3 }));
    }
    let nothing = planned(&candidates, &with_budget(PlanBudget { patches: 0, cpu_ms: 0, bytes: 0 }));
    assert_eq!((nothing.build.len(), nothing.bytes), (0, nothing.full_bytes));
}

#[test]
fn every_decision_says_why() {
    let candidates = [built(1, 2, 30_000), candidate(2, TARGET, 20_000), candidate(3, TARGET, 900_000)];
    let plan = planned(&candidates, &PlanOptions::default());
    assert_eq!(
        plan.decisions.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "2 (1000 devices): new patch, 20000 bytes",
            "3 (200 devices): full image: the best way has 900000 bytes, over the limit of 700000",
            "1 (50 devices): two patches over 2, 1 of them new, 50000 bytes",
            "9 (7 devices): is the target",
        ]
    );
}

#[test]
fn input_that_contradicts_itself() {
    let refused = |candidates: &[Candidate]| plan(&fleet(), TARGET, candidates, &PlanOptions::default()).unwrap_err();
    assert_eq!(refused(&[candidate(1, 4, 1)]), PlanError::UnknownVersion { from: 1, to: 4 });
    assert_eq!(refused(&[candidate(1, 1, 1)]), PlanError::ToItself(1));
    assert_eq!(refused(&[candidate(1, 2, 1), built(1, 2, 3)]), PlanError::CandidateTwice { from: 1, to: 2 });
    let options = PlanOptions::default();
    assert_eq!(plan(&fleet(), 8, &[], &options), Err(PlanError::UnknownTarget(8)));
    assert_eq!(plan(&[version(1, 1), version(1, 2)], 1, &[], &options), Err(PlanError::VersionTwice(1)));
    assert_eq!(plan(&fleet(), TARGET, &[], &PlanOptions { max_percent: 101, ..options }), Err(PlanError::Percent(101)));
    let many: Vec<_> = (0..70_000).map(|id| version(id, 1)).collect();
    assert!(matches!(plan(&many, 1, &[], &options), Err(PlanError::TooMany { what: "versions", .. })));
}

#[test]
fn extreme_numbers() {
    let most = |id| Version { id, devices: u64::MAX, full_len: u64::MAX };
    let candidates = [
        Candidate { from: 1, to: 2, len: u64::MAX / 2, cpu_ms: u64::MAX, built: false },
        Candidate { from: 2, to: 3, len: u64::MAX / 2, cpu_ms: u64::MAX, built: false },
    ];
    let plan = plan(&[most(1), most(2), most(3)], 3, &candidates, &PlanOptions::default()).unwrap();
    assert!(plan.bytes <= plan.full_bytes);
}

/// Six versions, the last of which is the target, and candidates between them.
fn fleets() -> impl Strategy<Value = (Vec<Version>, Vec<Candidate>)> {
    let versions = prop::collection::vec((0u64..2_000, 1u64..1_000_000), 6);
    let edge = (0u64..600_000, 0u64..20_000, any::<bool>());
    let edges = prop::collection::vec(prop::option::of(edge), 36);
    (versions, edges).prop_map(|(versions, edges)| {
        let versions = (0..).zip(versions).map(|(id, (devices, full_len))| Version { id, devices, full_len }).collect();
        let candidates = (0..)
            .zip(edges)
            .filter_map(|(at, edge)| edge.map(|edge| (at / 6, at % 6, edge)))
            .filter(|(from, to, _)| from != to)
            .map(|(from, to, (len, cpu_ms, built))| Candidate { from, to, len, cpu_ms, built })
            .collect();
        (versions, candidates)
    })
}

fn budgets() -> impl Strategy<Value = PlanBudget> {
    (0u64..6, 0u64..60_000, 0u64..2_000_000).prop_map(|(patches, cpu_ms, bytes)| PlanBudget { patches, cpu_ms, bytes })
}

/// What the devices of a plan download, with a second application weighed in.
fn weight(plan: &Plan, options: &PlanOptions) -> u128 {
    let second = |decision: Decision| match decision {
        Decision::Chained { .. } => options.second_application,
        _ => 0,
    };
    plan.decisions.iter().map(|it| u128::from(it.devices) * u128::from(it.len + second(it.decision))).sum()
}

#[test]
fn a_chain_that_weighs_more_than_the_full_image_is_no_way() {
    // The patch to 3 is there, that from 3 to the target is built for 3; together they weigh more than the full image.
    let versions = [(1, 1_000, 1), (3, 453, 2_862), (5, 0, 68_070)].map(|(id, devices, full_len)| Version {
        id,
        devices,
        full_len,
    });
    let candidates = [
        Candidate { from: 1, to: 3, len: 0, cpu_ms: 0, built: true },
        Candidate { from: 3, to: 5, len: 18_928, cpu_ms: 0, built: false },
    ];
    let options = PlanOptions { second_application: 60_000, ..PlanOptions::default() };
    let plan = plan(&versions, 5, &candidates, &options).unwrap();
    let of = |id| plan.decisions.iter().find(|it| it.version == id).unwrap();
    assert_eq!(of(3).decision, Decision::Direct { new: true });
    assert!(matches!(of(1).decision, Decision::Full(WhyFull::NotWorthIt { saves: 0, .. })), "{:?}", of(1).decision);
    assert_eq!(of(1).len, 68_070);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn never_over_the_budget((versions, candidates) in fleets(), budget in budgets()) {
        let plan = plan(&versions, 5, &candidates, &with_budget(budget)).unwrap();
        let sum = |of: fn(&Candidate) -> u64| plan.build.iter().map(of).sum::<u64>();
        prop_assert_eq!(
            plan.spent,
            PlanBudget { patches: plan.build.len() as u64, cpu_ms: sum(|it| it.cpu_ms), bytes: sum(|it| it.len) }
        );
        prop_assert!(plan.spent.patches <= budget.patches);
        prop_assert!(plan.spent.cpu_ms <= budget.cpu_ms);
        prop_assert!(plan.spent.bytes <= budget.bytes);
        prop_assert!(plan.build.iter().all(|it| !it.built));
    }

    #[test]
    fn nothing_that_fails_the_benefit_test((versions, candidates) in fleets(), max_percent in 0u8..=100) {
        let options = PlanOptions { max_percent, ..PlanOptions::default() };
        let plan = plan(&versions, 5, &candidates, &options).unwrap();
        let limit = |to: u64| versions[to as usize].full_len * u64::from(max_percent) / 100;
        for patch in &plan.build {
            prop_assert!(patch.len <= limit(patch.to));
        }
        for decided in &plan.decisions {
            match decided.decision {
                Decision::Direct { .. } | Decision::Chained { .. } => prop_assert!(decided.len <= limit(5)),
                Decision::Target => prop_assert_eq!(decided.version, 5),
                Decision::Full(_) => prop_assert_eq!(decided.len, versions[5].full_len),
            }
        }
    }

    #[test]
    fn never_worse_than_full_images((versions, candidates) in fleets(), budget in budgets()) {
        let plan = plan(&versions, 5, &candidates, &with_budget(budget)).unwrap();
        prop_assert!(plan.bytes <= plan.full_bytes);
        prop_assert!(plan.decisions.iter().all(|it| it.len <= versions[5].full_len));
    }

    #[test]
    fn a_larger_budget_only_adds((versions, candidates) in fleets(), small in budgets(), more in budgets()) {
        let large = PlanBudget {
            patches: small.patches + more.patches,
            cpu_ms: small.cpu_ms + more.cpu_ms,
            bytes: small.bytes + more.bytes,
        };
        let options = PlanOptions::default();
        let [small, large] = [small, large].map(|budget| plan(&versions, 5, &candidates, &with_budget(budget)).unwrap());
        prop_assert!(large.build.starts_with(&small.build));
        prop_assert!(weight(&large, &options) <= weight(&small, &options));
    }

    #[test]
    fn the_order_of_the_input_makes_no_difference((versions, candidates) in fleets(), budget in budgets()) {
        let options = with_budget(budget);
        let one = plan(&versions, 5, &candidates, &options).unwrap();
        let (mut versions, mut candidates) = (versions, candidates);
        versions.reverse();
        candidates.reverse();
        prop_assert_eq!(one, plan(&versions, 5, &candidates, &options).unwrap());
    }

    #[test]
    fn every_patch_that_is_built_is_used((versions, candidates) in fleets(), budget in budgets()) {
        // Not by everyone, but by the version that it was built for, unless a later patch serves that one better.
        let plan = plan(&versions, 5, &candidates, &with_budget(budget)).unwrap();
        let any_new = plan.decisions.iter().any(|it| matches!(it.decision,
            Decision::Direct { new: true } | Decision::Chained { new: 1.., .. }));
        prop_assert_eq!(any_new, !plan.build.is_empty());
    }
}
