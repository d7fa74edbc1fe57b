//! What a world looks like to the decision: as it is, and by what was known.

use super::*;
use crate::facts::{ContractFacts, covers};
use crate::pool::PoolPlace;
use crate::source::SourceView;

/// Covers by what was known at a moment, sources judged by that.
pub(in crate::decide) fn judged(contracts: &[ContractFacts], known_at: Time) -> Vec<Cover> {
    let mut covers = covers(contracts, &"cameras".parse().unwrap(), known_at);
    covers
        .iter_mut()
        .filter_map(|cover| cover.origin.source.as_mut())
        .for_each(|source| source.judged_at = Some(known_at));
    covers
}

impl World {
    /// The product as it is.
    pub(in crate::decide) fn product(&self) -> ProductView {
        product(self.releases.clone(), self.rollouts.clone())
    }

    /// The product by what was known at a moment.
    pub(in crate::decide) fn product_known(&self, known_at: Time) -> ProductView {
        let rows = self.rollout_rows.iter().rfind(|(at, _)| *at <= known_at);
        let rollouts = rows.map(|(_, rollouts)| rollouts.clone()).unwrap_or_default();
        self.product().known_at(&self.said, rollouts, known_at)
    }

    /// How many places the pool has, who stands in one, and who is wrong there: inside and out of service, or waiting although one is free.
    pub(in crate::decide) fn places(&self) -> (usize, Vec<usize>, Vec<usize>) {
        let (at, book) = (self.at(), &self.books[POOLED]);
        let quantity = if book.plain.active { self.places } else { 0 };
        let standing = |item: &&Fact<(usize, Interval)>| item.1.superseded_at.is_none();
        let named = |serial: usize| book.items.iter().filter(standing).any(|(_, item)| item.fact.0 == serial);
        let serves = |serial: usize| {
            let fenced = |unit: &Unit| unit.device.fence_at.is_some_and(|fence| fence <= at);
            self.units[serial].as_ref().is_some_and(|unit| !fenced(unit))
        };
        let inside = book.items.iter().filter(standing).filter(|(id, _)| self.placed.contains(id));
        let inside = inside.filter(|(_, item)| item.fact.1.1 == Time::FOREVER).map(|(_, item)| item.fact.0);
        let inside: Vec<usize> = inside.collect();
        let active =
            |serial: usize| self.units[serial].as_ref().is_some_and(|unit| unit.device.state == DeviceState::Active);
        let waits = (0..SERIALS.len()).filter(|serial| active(*serial) && serves(*serial) && !named(*serial));
        let waiting: Vec<usize> = if inside.len() < quantity { waits.collect() } else { vec![] };
        let gone = inside.iter().copied().filter(|serial| !serves(*serial));
        let wrong = gone.chain(waiting).collect();
        (quantity, inside, wrong)
    }

    fn place() -> PoolPlace {
        PoolPlace { family: "cameras".parse().unwrap(), site: "hall".parse().unwrap() }
    }

    fn view(serial: usize, unit: Unit, covers: Vec<Cover>, policies: Vec<Policy>) -> DeviceView {
        DeviceView {
            installed: unit.installed,
            policies,
            failed: unit.failed,
            device: unit.device,
            last_seen: unit.last_seen,
            under_way: unit.under_way,
            country: (serial % 2 == 1).then(|| COUNTRY.to_owned()),
            ..device(1, covers)
        }
    }

    /// A device as it is, from what is plain.
    pub(in crate::decide) fn device(&self, serial: usize) -> Option<DeviceView> {
        let unit = self.units[serial].clone()?;
        let mut covers = Vec::new();
        for (contract, book) in self.books.iter().enumerate() {
            let Plain { active, terms, windows, items } = &book.plain;
            let spans = || items.iter().filter(|item| item.0 == serial).map(|item| item.1);
            if !active || spans().next().is_none() {
                continue;
            }
            let cut =
                windows.iter().flat_map(|window| spans().map(|item| (window.0.max(item.0), window.1.min(item.1))));
            covers.push(Cover {
                contract: number(contract).parse().unwrap(),
                plan: terms.plan.clone(),
                rule: terms.rule,
                grace_days: terms.grace_days,
                codes: terms.grants.iter().map(|grant| (grant.code.clone(), grant.channel_ceiling)).collect(),
                windows: Windows::new(cut.collect()),
                origin: Origin {
                    source: (contract == KEPT)
                        .then(|| Box::new(SourceView { heard: heard(self.heard_at), judged_at: Some(self.at()) })),
                    pool: (contract == POOLED && self.has_place(serial)).then(|| Box::new(Self::place())),
                },
            });
        }
        let concerns = |of: &Option<usize>| of.is_none_or(|of| of == serial);
        let policies = self.plain_policies.iter().filter(|(of, _)| concerns(of)).map(|(_, policy)| policy.clone());
        Some(Self::view(serial, unit, covers, policies.collect()))
    }

    fn has_place(&self, serial: usize) -> bool {
        let items = &self.books[POOLED].items;
        items.iter().any(|(id, item)| item.fact.0 == serial && item.superseded_at.is_none() && self.placed.contains(id))
    }

    /// What the facts say of the contracts of a serial.
    pub(in crate::decide) fn contracts(&self, serial: usize) -> Vec<ContractFacts> {
        let book = |(contract, book): (usize, &Book)| ContractFacts {
            number: number(contract).parse().unwrap(),
            states: book.states.clone(),
            terms: book.terms.clone(),
            windows: book.windows.iter().map(|(_, window)| window.clone()).collect(),
            items: book
                .items
                .iter()
                .filter(|(_, item)| item.fact.0 == serial)
                .map(|(_, item)| Known {
                    fact: item.fact.1,
                    recorded_at: item.recorded_at,
                    superseded_at: item.superseded_at,
                })
                .collect(),
            sources: if contract == KEPT { self.heard.clone() } else { vec![] },
            pools: book
                .items
                .iter()
                .filter(|(id, item)| contract == POOLED && item.fact.0 == serial && self.placed.contains(id))
                .map(|(_, item)| Known {
                    fact: Self::place(),
                    recorded_at: item.recorded_at,
                    superseded_at: item.superseded_at,
                })
                .collect(),
        };
        self.books.iter().enumerate().map(book).collect()
    }

    /// A device by what was known at a moment.
    pub(in crate::decide) fn device_known(&self, serial: usize, known_at: Time) -> Option<DeviceView> {
        let row = self.unit_rows.iter().rfind(|(at, of, _)| *of == serial && *at <= known_at);
        let unit = row.map(|(_, _, unit)| unit.clone())?;
        let covers = judged(&self.contracts(serial), known_at);
        let concerns = |of: &Option<usize>| of.is_none_or(|of| of == serial);
        let known = self.policies.iter().filter(|(of, policy)| concerns(of) && policy.at(known_at));
        Some(Self::view(serial, unit, covers, known.map(|(_, policy)| policy.fact.clone()).collect()))
    }
}
