//! Twice-dated facts. `from` and `to` say when something was true; `recorded_at` and `superseded_at` when this server held it for
//! true. A correction supersedes a fact and records another, so what was decided then, by what was known then, can be asked
//! for ever.

use std::collections::BTreeSet;

use crate::Time;
use crate::contract::{ContractState, Grant};
use crate::cover::{Cover, CoverRule, Origin, Windows};
use crate::pool::PoolPlace;
use crate::source::{Heard, SourceView};
use crate::text::{ContractNumber, Family, Slug};

/// A fact with the time in which the server held it for true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known<T> {
    /// The fact.
    pub fact: T,
    /// Since when it was known.
    pub recorded_at: Time,
    /// When it was corrected.
    pub superseded_at: Option<Time>,
}

impl<T> Known<T> {
    /// A fact that nobody has corrected.
    pub const fn new(fact: T, recorded_at: Time) -> Self {
        Self { fact, recorded_at, superseded_at: None }
    }

    /// Whether the server held it for true at a moment.
    pub fn at(&self, known_at: Time) -> bool {
        self.recorded_at <= known_at && self.superseded_at.is_none_or(|superseded| known_at < superseded)
    }
}

impl<T: Clone> Known<T> {
    /// The time in which this and another fact were both held for true, if there was one.
    pub fn with<U: Clone, V>(&self, other: &Known<U>, join: impl FnOnce(&T, &U) -> V) -> Option<Known<V>> {
        let recorded_at = self.recorded_at.max(other.recorded_at);
        let superseded_at = match (self.superseded_at, other.superseded_at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let lasted = superseded_at.is_none_or(|end| recorded_at < end);
        lasted.then(|| Known { fact: join(&self.fact, &other.fact), recorded_at, superseded_at })
    }
}

/// What a plan is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanTerms {
    /// Its name.
    pub plan: Slug,
    /// How cover decides.
    pub rule: CoverRule,
    /// Days of grace after each window.
    pub grace_days: i32,
    /// What it grants.
    pub grants: Vec<Grant>,
}

/// Everything ever recorded of one contract that concerns one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractFacts {
    /// Its number.
    pub number: ContractNumber,
    /// Whether it counts.
    pub states: Vec<Known<ContractState>>,
    /// The plans it was sold under, each with what that plan was like.
    pub terms: Vec<Known<PlanTerms>>,
    /// Its windows, `[from, to)`.
    pub windows: Vec<Known<(Time, Time)>>,
    /// When it covered the device, `[from, to)`.
    pub items: Vec<Known<(Time, Time)>>,
    /// The systems that kept it, and when each was last heard of.
    pub sources: Vec<Known<Heard>>,
    /// Places that the device had in its pools; each is an item as well.
    pub pools: Vec<Known<PoolPlace>>,
}

impl ContractFacts {
    /// The contract's cover of the device by what was known at a moment; nothing when it was void, or did not cover it.
    pub fn cover(&self, family: &Family, known_at: Time) -> Option<Cover> {
        let known = |state: &&Known<ContractState>| state.at(known_at);
        if self.states.iter().filter(known).all(|state| state.fact != ContractState::Active) {
            return None;
        }
        let terms = &self.terms.iter().rfind(|terms| terms.at(known_at))?.fact;
        let items: Vec<(Time, Time)> =
            self.items.iter().filter(|item| item.at(known_at)).map(|item| item.fact).collect();
        if items.is_empty() {
            return None;
        }
        let windows = self.windows.iter().filter(|window| window.at(known_at)).map(|window| window.fact);
        // A window counts as far as the item's own dates go.
        let cut = windows.flat_map(|(from, to)| items.iter().map(move |item| (from.max(item.0), to.min(item.1))));
        let source = self.sources.iter().rfind(|source| source.at(known_at)).map(|source| {
            // What was heard later was not known then.
            let heard = Heard { at: source.fact.at.min(known_at), ..source.fact.clone() };
            Box::new(SourceView { heard, judged_at: None })
        });
        let pool = self.pools.iter().rfind(|pool| pool.at(known_at)).map(|pool| Box::new(pool.fact.clone()));
        Some(Cover {
            contract: self.number.clone(),
            plan: terms.plan.clone(),
            rule: terms.rule,
            grace_days: terms.grace_days,
            codes: terms
                .grants
                .iter()
                .filter(|grant| grant.family.as_ref().is_none_or(|granted| granted == family))
                .map(|grant| (grant.code.clone(), grant.channel_ceiling))
                .collect(),
            windows: Windows::new(cut.collect()),
            origin: Origin { source, pool },
        })
    }
}

/// A device's covers by what was known at a moment, in the order of contract numbers.
pub fn covers(contracts: &[ContractFacts], family: &Family, known_at: Time) -> Vec<Cover> {
    let mut covers: Vec<Cover> = contracts.iter().filter_map(|contract| contract.cover(family, known_at)).collect();
    covers.sort_by(|one, other| one.contract.cmp(&other.contract));
    covers
}

/// Two or more contracts that cover one device at once: the better one counts, and somebody may pay twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The contracts with their plans, in the order of their numbers.
    pub contracts: Vec<(ContractNumber, Slug)>,
    /// When the first such time begins and when the last one ends.
    pub span: (Time, Time),
}

/// Where covers of one device overlap, if any do.
pub fn overlap(covers: &[Cover]) -> Option<Overlap> {
    let mut contracts = BTreeSet::new();
    let mut span: Option<(Time, Time)> = None;
    for (index, one) in covers.iter().enumerate() {
        for other in covers.iter().skip(index + 1) {
            let both = one.windows.iter().flat_map(|(from, to)| {
                other.windows.iter().map(move |(their_from, their_to)| (from.max(their_from), to.min(their_to)))
            });
            for (from, to) in both.filter(|(from, to)| from < to) {
                contracts.extend([one, other].map(|cover| (cover.contract.clone(), cover.plan.clone())));
                span = Some(span.map_or((from, to), |span| (span.0.min(from), span.1.max(to))));
            }
        }
    }
    span.map(|span| Overlap { contracts: contracts.into_iter().collect(), span })
}

/// What changes when a set of facts is to be another: which are superseded, and which are recorded anew. What is in both
/// stays as it is, with the time since when it was known.
pub fn replace<I: Copy, T: Ord + Clone>(current: &[(I, T)], wanted: &BTreeSet<T>) -> (Vec<I>, Vec<T>) {
    let mut there: BTreeSet<&T> = BTreeSet::new();
    // A fact that stands twice is kept once.
    let gone = current.iter().filter(|(_, fact)| !wanted.contains(fact) || !there.insert(fact)).map(|(id, _)| *id);
    let gone = gone.collect();
    (gone, wanted.iter().filter(|fact| !there.contains(fact)).cloned().collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::product::Channel;

    fn t(day: i64) -> Time {
        Time::EPOCH.plus_days(day)
    }

    fn terms(rule: CoverRule) -> PlanTerms {
        let grant = |code: &str, family: Option<&str>| Grant {
            code: code.parse().unwrap(),
            family: family.map(|family| family.parse().unwrap()),
            channel_ceiling: Channel::Stable,
        };
        PlanTerms {
            plan: "plus".parse().unwrap(),
            rule,
            grace_days: 14,
            grants: vec![grant("CAM", Some("cameras")), grant("ALL", None), grant("PHONE", Some("phones"))],
        }
    }

    fn contract() -> ContractFacts {
        ContractFacts {
            number: "C-1".parse().unwrap(),
            states: vec![Known::new(ContractState::Active, t(0))],
            terms: vec![Known::new(terms(CoverRule::Live), t(0))],
            windows: vec![],
            items: vec![Known::new((t(0), t(1000)), t(0))],
            sources: vec![],
            pools: vec![],
        }
    }

    fn family() -> Family {
        "cameras".parse().unwrap()
    }

    #[test]
    fn windows_count_as_far_as_the_item_goes_and_grants_as_far_as_the_family() {
        let mut contract = contract();
        contract.windows = vec![Known::new((t(10), t(20)), t(0)), Known::new((t(18), t(40)), t(0))];
        contract.items = vec![Known::new((t(0), t(15)), t(0)), Known::new((t(30), t(60)), t(0))];
        let cover = contract.cover(&family(), t(1)).unwrap();
        assert_eq!(cover.windows, Windows::new(vec![(t(10), t(15)), (t(30), t(40))]));
        assert_eq!(cover.code_set().iter().collect::<Vec<_>>(), ["ALL", "CAM"]);
    }

    #[test]
    fn what_a_source_said_later_was_not_known_before() {
        let mut contract = contract();
        let heard = |day| Heard { source: "crm".parse().unwrap(), at: t(day), stale_after_ms: Some(1), silence: None };
        contract.windows = vec![Known::new((t(0), t(100)), t(0))];
        contract.sources = vec![
            Known { fact: heard(20), recorded_at: t(10), superseded_at: Some(t(40)) },
            Known::new(heard(60), t(40)),
        ];
        let ask = |known: i64| contract.cover(&family(), t(known)).unwrap().origin.source.map(|source| source.heard.at);
        assert_eq!(
            [ask(9), ask(15), ask(30), ask(40), ask(99)],
            [None, Some(t(15)), Some(t(20)), Some(t(40)), Some(t(60))]
        );
    }

    #[test]
    fn covers_overlap_where_both_cover() {
        let cover = |number: &str, windows: &[(i64, i64)]| {
            let mut facts = contract();
            facts.number = number.parse().unwrap();
            facts.windows = windows.iter().map(|&(from, to)| Known::new((t(from), t(to)), t(0))).collect();
            facts.cover(&family(), t(1)).unwrap()
        };
        let told = |covers: &[Cover]| {
            overlap(covers).map(|overlap| {
                (overlap.contracts.iter().map(|(number, _)| number.to_string()).collect::<Vec<_>>(), overlap.span)
            })
        };
        let (one, two, three) =
            (cover("C-1", &[(0, 10), (20, 30)]), cover("C-2", &[(10, 25)]), cover("C-3", &[(40, 50)]));
        assert_eq!(told(&[one.clone(), three.clone()]), None);
        assert_eq!(told(&[one, two, three]), Some((vec!["C-1".into(), "C-2".into()], (t(20), t(25)))));
    }

    #[test]
    fn a_void_contract_covers_nothing_from_the_moment_that_is_known() {
        let mut contract = contract();
        contract.states[0].superseded_at = Some(t(5));
        contract.states.push(Known::new(ContractState::Void, t(5)));
        assert!(contract.cover(&family(), t(4)).is_some());
        assert!(contract.cover(&family(), t(5)).is_none());
    }

    #[derive(Clone, Debug)]
    enum Change {
        AddWindow(i64, i64),
        CorrectWindow(usize),
        Plan(CoverRule),
        Void,
        Reactivate,
        RemoveItem,
        AddItem(i64, i64),
    }

    fn any_change() -> impl Strategy<Value = Change> {
        prop_oneof![
            4 => (0i64..300, 1i64..90).prop_map(|(from, days)| Change::AddWindow(from, from + days)),
            2 => (0usize..6).prop_map(Change::CorrectWindow),
            1 => prop::sample::select(vec![CoverRule::Live, CoverRule::TrainGa, CoverRule::Fallback(2), CoverRule::Open]).prop_map(Change::Plan),
            1 => Just(Change::Void),
            1 => Just(Change::Reactivate),
            1 => Just(Change::RemoveItem),
            2 => (0i64..300, 1i64..200).prop_map(|(from, days)| Change::AddItem(from, from + days)),
        ]
    }

    fn supersede<T>(facts: &mut [Known<T>], at: Time) {
        for fact in facts.iter_mut().filter(|fact| fact.superseded_at.is_none()) {
            fact.superseded_at = Some(at);
        }
    }

    fn apply(contract: &mut ContractFacts, change: &Change, at: Time) {
        match change {
            Change::AddWindow(from, to) => contract.windows.push(Known::new((t(*from), t(*to)), at)),
            Change::CorrectWindow(index) => {
                if let Some(window) = contract.windows.get_mut(*index).filter(|window| window.superseded_at.is_none()) {
                    window.superseded_at = Some(at);
                }
            }
            Change::Plan(rule) => {
                supersede(&mut contract.terms, at);
                contract.terms.push(Known::new(terms(*rule), at));
            }
            Change::Void | Change::Reactivate => {
                let state = if matches!(change, Change::Void) { ContractState::Void } else { ContractState::Active };
                supersede(&mut contract.states, at);
                contract.states.push(Known::new(state, at));
            }
            Change::RemoveItem => supersede(&mut contract.items, at),
            Change::AddItem(from, to) => contract.items.push(Known::new((t(*from), t(*to)), at)),
        }
    }

    proptest! {
        #[test]
        fn what_was_known_then_is_what_is_known_of_then(changes in prop::collection::vec(any_change(), 0..20)) {
            let mut contract = contract();
            let mut seen = vec![(t(0), contract.cover(&family(), t(0)))];
            for (day, change) in (1..).zip(&changes) {
                apply(&mut contract, change, t(day * 10));
                seen.push((t(day * 10), contract.cover(&family(), t(day * 10))));
            }
            for (known_at, cover) in seen {
                prop_assert_eq!(contract.cover(&family(), known_at), cover.clone());
                prop_assert_eq!(contract.cover(&family(), known_at.plus_days(9)), cover, "until the next change");
            }
        }

        #[test]
        fn facts_become_what_is_wanted_and_nothing_else(
            current in prop::collection::vec(0u8..8, 0..8), wanted in prop::collection::vec(0u8..8, 0..8),
        ) {
            let current: Vec<(usize, u8)> = current.into_iter().enumerate().collect();
            let wanted: BTreeSet<u8> = wanted.into_iter().collect();
            let (gone, new) = replace(&current, &wanted);
            let mut left: Vec<u8> = current.iter().filter(|(id, _)| !gone.contains(id)).map(|(_, fact)| *fact).collect();
            left.extend(&new);
            left.sort_unstable();
            prop_assert_eq!(&left, &wanted.iter().copied().collect::<Vec<u8>>(), "each once");
            let after: Vec<(usize, u8)> = left.into_iter().enumerate().collect();
            prop_assert_eq!(replace(&after, &wanted), (vec![], vec![]), "again changes nothing");
        }
    }
}
