//! What holds for every device, contract and moment.

use proptest::prelude::*;

use super::*;
use crate::source::{Heard, MAX_COUNTS_ON_DAYS, SourceView};
use crate::time::DAY_MS;

fn any_windows() -> impl Strategy<Value = Vec<(i64, i64)>> {
    prop::collection::vec((0i64..200, 1i64..60).prop_map(|(from, len)| (from, from + len)), 0..4)
}

fn any_rule() -> impl Strategy<Value = CoverRule> {
    prop::sample::select(vec![
        CoverRule::TrainGa,
        CoverRule::Live,
        CoverRule::ReleaseDate,
        CoverRule::Fallback(1),
        CoverRule::Open,
    ])
}

#[derive(Clone, Debug)]
struct Contract {
    rule: CoverRule,
    windows: Vec<(i64, i64)>,
    codes: Vec<&'static str>,
    /// When its source was last heard of, after how many days of silence it is stale, and by what day it is judged.
    source: Option<(i64, i64, Option<i64>)>,
}

impl Contract {
    fn cover(&self, grace_days: i32) -> Cover {
        let codes = self.codes.iter().map(|code| (code.parse().unwrap(), Channel::Stable)).collect();
        let source = self.source.map(|(heard, after, judged)| {
            let heard = Heard {
                source: "crm".parse().unwrap(),
                at: day(heard),
                stale_after_ms: Some(after * DAY_MS),
                silence: None,
            };
            Box::new(SourceView { heard, judged_at: judged.map(day) })
        });
        Cover { grace_days, codes, origin: Origin { source, pool: None }, ..cover(self.rule, &self.windows) }
    }
}

fn any_source() -> impl Strategy<Value = Option<(i64, i64, Option<i64>)>> {
    prop::option::of((0i64..250, 1i64..30, prop::option::of(0i64..400)))
}

fn any_codes() -> impl Strategy<Value = Vec<&'static str>> {
    prop::sample::subsequence(vec!["A", "B"], 0..=2)
}

fn any_contracts() -> impl Strategy<Value = Vec<Contract>> {
    let contract = (any_rule(), any_windows(), any_codes(), any_source());
    let made = contract.prop_map(|(rule, windows, codes, source)| Contract { rule, windows, codes, source });
    prop::collection::vec(made, 0..4)
}

proptest! {
    /// Codes A and B, each perhaps granted, by contracts of any rule.
    #[test]
    fn more_cover_never_means_less_access(
        contracts in any_contracts(), more in any_contracts(), longer in any_windows(), at in 0usize..4,
        release_of in (0i64..250, 0i64..60, any_codes()), now in 0i64..400, grace in 0i32..30,
    ) {
        let (ga, after, requires) = release_of;
        let mut target = release(Make { order: 2, train: ("2.0", ga), ..FEATURE });
        target.release.published_at = day(ga + after);
        target.release.requires = requires.iter().copied().collect();
        let product = product(vec![release(FEATURE), target], vec![]);
        let before: Vec<Cover> = contracts.iter().map(|contract| contract.cover(grace)).collect();
        let mut after = before.clone();
        // Another contract, a longer or another window of one, and a longer grace: each is more cover.
        after.extend(more.iter().map(|contract| contract.cover(grace)));
        if let Some(cover) = after.get_mut(at) {
            let windows = cover.windows.iter().chain(longer.iter().map(|&(from, to)| (day(from), day(to)))).collect();
            cover.windows = Windows::new(windows);
            cover.grace_days += 5;
        }
        let pass = |covers: Vec<Cover>| {
            let device = device(1, covers);
            entitled(&device, &product, &product.releases()[0], day(now), &mut ()).pass
        };
        prop_assert!(!pass(before) || pass(after));
    }

    /// The same of the whole decision, with images that require codes of their own, floors and what runs.
    #[test]
    fn more_cover_never_offers_less(
        contracts in any_contracts(), more in any_contracts(), runs in 0i64..3, radio in prop::option::of(1i64..4),
        floors in (prop::option::of(1i64..3), prop::option::of(1i64..3)), kinds in (0usize..2, 0usize..2), now in 100i64..300,
    ) {
        let kind = |kind: usize| [ReleaseKind::Feature, ReleaseKind::Security][kind];
        let make = |order: i64, kind: ReleaseKind, floor: Option<i64>| {
            let mut made = release(Make { order, kind, requires: &[], ..FEATURE });
            let add_on = Artifact {
                component: "radio".parse().unwrap(),
                requires: ["A"].into_iter().collect(),
                sha256: digest(900 + order),
                min_installed: floor.map(|floor| format!("v{floor}").parse().unwrap()),
                min_installed_order: floor,
                ..made.artifacts[0].clone()
            };
            made.artifacts.push(add_on);
            made
        };
        let releases = vec![release(FEATURE), make(2, kind(kinds.0), floors.0), make(3, kind(kinds.1), floors.1)];
        let product = product(releases, (1..=3).map(|order| rollout_of(order, 100)).collect());
        let offered = |contracts: &[Contract]| {
            let mut asked = device(runs, contracts.iter().map(|contract| contract.cover(14)).collect());
            if let Some(order) = radio {
                asked.installed.push(Installed {
                    component: "radio".parse().unwrap(),
                    version: format!("v{order}").parse().unwrap(),
                    sha256: digest(900 + order),
                    security_counter: 1,
                });
            }
            match decide(&asked, &product, day(now), &mut ()) {
                Decision::Offer { release, artifacts, .. } => {
                    assert!(!artifacts.is_empty(), "an offer of nothing");
                    release.release.order
                }
                Decision::Nothing { .. } => 0,
            }
        };
        let all: Vec<Contract> = contracts.iter().chain(&more).cloned().collect();
        prop_assert!(offered(&contracts) <= offered(&all));
    }

    /// The same whatever the order in which contracts are read.
    #[test]
    fn the_order_of_contracts_decides_nothing(contracts in any_contracts(), ga in 0i64..250, codes in any_codes(), now in 0i64..400) {
        let mut target = release(Make { order: 2, train: ("2.0", ga), ..FEATURE });
        target.release.requires = codes.iter().copied().collect();
        let product = product(vec![release(FEATURE), target], vec![]);
        let covers: Vec<Cover> = contracts.iter().map(|contract| contract.cover(14)).collect();
        let ask = |covers: Vec<Cover>| entitled(&device(1, covers), &product, &product.releases()[0], day(now), &mut ()).pass;
        let mut turned = covers.clone();
        turned.reverse();
        prop_assert_eq!(ask(covers), ask(turned));
    }

    /// A fenced serial gets security fixes of its trains, the way to them, and nothing else.
    #[test]
    fn a_fenced_serial_gets_only_security(
        contracts in any_contracts(), ga in 0i64..250, kind in 0usize..4, codes in any_codes(), fence in 0i64..300, later in 0i64..100,
    ) {
        let kind = [ReleaseKind::Security, ReleaseKind::Maintenance, ReleaseKind::Feature, ReleaseKind::Recovery][kind];
        let mut target = release(Make { order: 2, train: ("2.0", ga), kind, ..FEATURE });
        target.release.requires = codes.iter().copied().collect();
        let product = product(vec![release(FEATURE), target], vec![]);
        let mut fenced = device(1, contracts.iter().map(|contract| contract.cover(14)).collect());
        fenced.device.state = DeviceState::RmaPending;
        fenced.device.fence_at = Some(day(fence));
        let verdict = entitled(&fenced, &product, &product.releases()[0], day(fence + later), &mut ());
        prop_assert!(!verdict.pass || kind == ReleaseKind::Security);
        prop_assert!(!verdict.pass || verdict.reason == Reason::SecurityFree);
    }

    /// What nobody listens to is decided as what is traced.
    #[test]
    fn a_decision_is_the_same_with_and_without_a_trace(
        contracts in any_contracts(), runs in 0i64..7, kinds in prop::collection::vec(0usize..4, 6), add_on in 0usize..7, now in 0i64..300,
    ) {
        let kind = |at: usize| [ReleaseKind::Security, ReleaseKind::Maintenance, ReleaseKind::Feature, ReleaseKind::Recovery][kinds[at]];
        let releases = (0..6usize).map(|at| {
            let order = i64::try_from(at).unwrap() + 1;
            let mut made = release(Make { order, kind: kind(at), train: ("1.0", order * 20), ..FEATURE });
            made.release.requires = ["A"].into_iter().collect();
            if at == add_on {
                let radio = Artifact { component: "radio".parse().unwrap(), sha256: digest(900), ..made.artifacts[0].clone() };
                made.artifacts.push(radio);
            }
            made
        });
        let product = product(releases.collect(), (1..=6).map(|order| rollout_of(order, 100)).collect());
        let asked = device(runs, contracts.iter().map(|contract| contract.cover(14)).collect());
        let told = |decision: Decision<'_>| match decision {
            Decision::Offer { release, artifacts, reason, .. } => (reason, Some(release.release.order), artifacts.len()),
            Decision::Nothing { reason, about } => (reason, about.map(|about| about.release.order), 0),
        };
        let traced = told(decide(&asked, &product, day(now), &mut Vec::new()));
        prop_assert_eq!(told(decide(&asked, &product, day(now), &mut ())), traced);
        for release in product.releases() {
            let why = why(&asked, &product, Some(&release.release.version), day(now));
            let last = why.steps.last().unwrap();
            prop_assert!(why.offered || why.reason == last.reason, "{} {:?}", release.release.version, last);
            prop_assert!(!why.offered || traced.1 == Some(release.release.order));
        }
    }

    /// What a device is told is the same whether a version is under embargo for it, not out yet, or not there at all.
    #[test]
    fn a_device_hears_nothing_of_what_is_not_out_for_it(
        contracts in any_contracts(), runs in 0i64..6, hidden in 1i64..6, ends in 1i64..200, unpublished in any::<bool>(), now in 0i64..200,
        percent in 1u8..=100, kinds in prop::array::uniform5(any::<bool>()), floors in prop::array::uniform5(prop::option::of(1i64..5)),
        counters in prop::array::uniform5(1i64..3),
    ) {
        let with = (1..=5i64).map(|order| {
            let at = usize::try_from(order - 1).unwrap();
            let kind = if kinds[at] { ReleaseKind::Security } else { ReleaseKind::Feature };
            let floor = floors[at].filter(|floor| *floor < order);
            let mut made = release(Make { order, train: ("1.0", 0), kind, floor, ..FEATURE });
            made.release.requires = ["A"].into_iter().collect();
            made.artifacts[0].security_counter = counters[at];
            if order == hidden {
                let until = day(now + ends);
                if unpublished {
                    made.release.published_at = until;
                } else {
                    made.embargo = Some(crate::release::Embargo { codes: ["NOBODY"].into_iter().collect(), until });
                }
            }
            made
        });
        let rollouts: Vec<Rollout> = (1..=5).map(|order| rollout_of(order, percent)).collect();
        let with = product(with.collect(), rollouts);
        let without = with.without(|release| release.release.order == hidden);
        // What it runs exists, so that is not what is hidden.
        let runs = if runs == hidden { 0 } else { runs };
        let asked = device(runs, contracts.iter().map(|contract| contract.cover(14)).collect());
        prop_assert_eq!(told(&asked, &with, None, day(now)), told(&asked, &without, None, day(now)));
        for order in 1..=6 {
            let version = format!("v{order}").parse().unwrap();
            let said = told(&asked, &with, Some(&version), day(now));
            prop_assert_eq!(said.is_some(), order != hidden && order != 6);
            prop_assert_eq!(said, told(&asked, &without, Some(&version), day(now)));
        }
    }

    /// A shift is empty for the same device, and taking a contract away is never a gain.
    #[test]
    fn less_cover_is_no_gain(contracts in any_contracts(), gone in 0usize..4, runs in 0i64..4, now in 0i64..300) {
        let releases = (1..=3i64).map(|order| {
            let mut made = release(Make { order, train: ("1.0", order * 30), ..FEATURE });
            made.release.requires = [["A", "B", "A"][usize::try_from(order).unwrap() - 1]].into_iter().collect();
            made
        });
        let product = product(releases.collect(), vec![]);
        let before = device(runs, contracts.iter().map(|contract| contract.cover(14)).collect());
        let mut after = before.clone();
        if gone < after.covers.len() {
            after.covers.remove(gone);
        }
        prop_assert_eq!(shift((&before, day(now)), (&before, day(now)), &product), None);
        if let Some(less) = shift((&before, day(now)), (&after, day(now)), &product) {
            prop_assert!(less.is_loss() && !less.is_gain(), "{less:?}");
            let more = shift((&after, day(now)), (&before, day(now)), &product).unwrap();
            prop_assert!(more.is_gain() && !more.is_loss());
            prop_assert_eq!((more.before, more.lost), (less.after, less.gained));
        }
    }

    /// Between now and the moment that is told, asking at any time gives the same answer; at that moment another.
    #[test]
    fn the_next_change_is_the_next_change(
        contracts in any_contracts(), ga in 0i64..250, published in 0i64..60, now in 0i64..300, between in 0i64..100,
        until in 0i64..400, held in prop::option::of((0i64..300, 1i64..60)),
    ) {
        let mut target = release(Make { order: 2, train: ("2.0", ga), ..FEATURE });
        target.release.published_at = day(ga + published);
        target.release.requires = ["A"].into_iter().collect();
        target.embargo = Some(crate::release::Embargo { codes: TextSet::default(), until: day(until) });
        let product = product(vec![release(FEATURE), target], vec![rollout_of(2, 100)]);
        let mut asked = device(1, contracts.iter().map(|contract| contract.cover(14)).collect());
        if let Some((from, days)) = held {
            asked.policies = vec![crate::policy::Policy {
                id: crate::id::FactId(uuid(1)),
                scope: crate::policy::PolicyScope::Customer,
                kind: crate::policy::PolicyKind::Hold { security: false },
                owner: "it".parse().unwrap(),
                reason: "x".to_owned(),
                from_at: day(from),
                to_at: day(from + days),
                recorded_at: day(0),
            }];
        }
        let only = "v2".parse().unwrap();
        let at = |moment: Time| {
            let why = why(&asked, &product, Some(&only), moment);
            (why.offered, why.reason, why.changes_at)
        };
        let (offered, reason, changes_at) = at(day(now));
        let moment = day(now + between);
        if changes_at.is_none_or(|change| moment < change) {
            prop_assert_eq!((at(moment).0, at(moment).1), (offered, reason));
        }
        if let Some(change) = changes_at {
            prop_assert!(change > day(now));
            prop_assert_ne!((at(change).0, at(change).1), (offered, reason));
        }
    }

    /// A source that is silent takes nothing away that was allowed when it was last heard of, for as long as cover counts on.
    #[test]
    fn a_silent_source_never_denies_what_was_allowed(
        contracts in any_contracts(), heard in 0i64..200, after in 1i64..30, silent in 0i64..MAX_COUNTS_ON_DAYS,
    ) {
        let mut target = release(Make { order: 2, ..FEATURE });
        target.release.requires = ["A"].into_iter().collect();
        let product = product(vec![release(FEATURE), target], vec![]);
        let covers: Vec<Cover> = contracts
            .into_iter()
            .map(|contract| Contract { source: Some((heard, after, None)), ..contract }.cover(14))
            .collect();
        let pass = |at: i64| entitled(&device(1, covers.clone()), &product, &product.releases()[0], day(at), &mut ()).pass;
        // Until it is stale the plain rule holds; then what was allowed is allowed again.
        prop_assert!(!pass(heard) || silent < after || pass(heard + silent));
    }

    /// Whatever is known of sources, a security fix is judged alike.
    #[test]
    fn security_does_not_depend_on_sources(contracts in any_contracts(), ga in 0i64..250, now in 0i64..400) {
        let fix = release(Make { order: 2, kind: ReleaseKind::Security, train: ("2.0", ga), requires: &["A"], ..FEATURE });
        let product = product(vec![release(FEATURE), fix], vec![]);
        let free = |contracts: &[Contract]| {
            let covers = contracts.iter().map(|contract| contract.cover(14)).collect();
            let verdict = entitled(&device(1, covers), &product, &product.releases()[0], day(now), &mut ());
            verdict.reason == Reason::SecurityFree
        };
        let plain: Vec<Contract> = contracts.iter().map(|contract| Contract { source: None, ..contract.clone() }).collect();
        prop_assert_eq!(free(&contracts), free(&plain));
    }

    /// Silence gives no more than a window that goes on, and takes nothing: it only ever adds to the plain rule, and ends.
    #[test]
    fn a_source_adds_to_the_plain_rule_and_not_for_ever(contracts in any_contracts(), ga in 0i64..250, now in 0i64..400) {
        let mut target = release(Make { order: 2, train: ("2.0", ga), ..FEATURE });
        target.release.requires = ["A"].into_iter().collect();
        let product = product(vec![release(FEATURE), target], vec![]);
        let pass = |contracts: &[Contract]| {
            let covers = contracts.iter().map(|contract| contract.cover(14)).collect();
            entitled(&device(1, covers), &product, &product.releases()[0], day(now), &mut ())
        };
        let plain: Vec<Contract> = contracts.iter().map(|contract| Contract { source: None, ..contract.clone() }).collect();
        let (with, without) = (pass(&contracts), pass(&plain));
        prop_assert!(!without.pass || with.pass);
        if with.pass && !without.pass {
            prop_assert_eq!(with.reason, Reason::CoverSourceStale);
            let last = contracts.iter().filter_map(|contract| contract.source).map(|(heard, ..)| heard).max().unwrap();
            prop_assert!(now.min(ga) < last + MAX_COUNTS_ON_DAYS || ga < last + MAX_COUNTS_ON_DAYS);
        }
    }

    #[test]
    fn another_contract_never_takes_access_away(
        first in any_windows(), second in any_windows(), rules in (any_rule(), any_rule()), ga in 0i64..250, now in 0i64..300,
    ) {
        let target = release(Make { order: 2, train: ("2.0", ga), ..FEATURE });
        let product = product(vec![release(FEATURE), target], vec![]);
        let one = device(1, vec![cover(rules.0, &first)]);
        let both = device(1, vec![cover(rules.0, &first), cover(rules.1, &second)]);
        let pass = |device: &DeviceView| entitled(device, &product, &product.releases()[0], day(now), &mut ()).pass;
        prop_assert!(!pass(&one) || pass(&both));
    }

    #[test]
    fn a_security_fix_on_the_confirmed_train_is_never_denied_for_lack_of_cover(
        windows in any_windows(), rule in any_rule(), contracts in 0usize..3, now in 10i64..300,
    ) {
        let fix = release(Make { order: 2, kind: ReleaseKind::Security, ..FEATURE });
        let product = product(vec![release(FEATURE), fix], vec![]);
        let device = device(1, vec![cover(rule, &windows); contracts]);
        prop_assert!(entitled(&device, &product, &product.releases()[0], day(now), &mut ()).pass);
    }

    #[test]
    fn the_trace_supports_the_outcome(contracts in any_contracts(), codes in any_codes(), ga in 0i64..250, now in 0i64..300, percent in 1u8..=100) {
        let mut target = release(Make { order: 2, train: ("2.0", ga), ..FEATURE });
        target.release.requires = codes.iter().copied().collect();
        let product = product(vec![release(FEATURE), target], vec![rollout_of(2, percent)]);
        let covers = contracts.iter().map(|contract| contract.cover(14)).collect();
        let why = why(&device(1, covers), &product, Some(&"v2".parse().unwrap()), day(now));
        let last = why.steps.last().unwrap();
        prop_assert_eq!(why.offered, last.pass);
        if !why.offered {
            prop_assert_eq!(why.reason, last.reason);
        }
    }
}
