//! The choice itself: greedy, most devices first, each version by the best balance.

use std::{cmp::Reverse, collections::BTreeSet};

use super::{
    Candidate, Decided, Decision, Plan, PlanBudget, PlanError, PlanOptions, Resource, Version, VersionId, WhyFull,
    graph::{Graph, Way},
};

/// Decides what to build so that the devices of `versions` come to `target` with few bytes.
///
/// The order of `versions` and `candidates` makes no difference.
///
/// # Errors
/// Input that contradicts itself, or that is over a limit.
pub fn plan(
    versions: &[Version],
    target: VersionId,
    candidates: &[Candidate],
    options: &PlanOptions,
) -> Result<Plan, PlanError> {
    if options.max_percent > 100 {
        return Err(PlanError::Percent(options.max_percent));
    }
    let graph = Graph::new(versions, target, candidates)?;
    let mut order: Vec<&Version> = versions.iter().collect();
    order.sort_unstable_by_key(|version| (Reverse(version.devices), version.id));

    let mut choice = Choice { graph: &graph, options, built: Built::default(), ended_at: None };
    let wanted: Vec<Result<(), WhyFull>> = order.iter().map(|version| choice.build_for(version)).collect();
    // What was built for later versions may serve earlier ones as well.
    let decisions: Vec<Decided> =
        order.iter().zip(wanted).map(|(version, wanted)| choice.decided(version, wanted)).collect();
    let sum = |len: &dyn Fn(&Decided) -> u64| -> u128 {
        decisions
            .iter()
            .filter(|decided| decided.version != target)
            .map(|decided| u128::from(decided.devices) * u128::from(len(decided)))
            .fold(0, u128::saturating_add)
    };
    let (bytes, full_bytes) = (sum(&|decided| decided.len), sum(&|_| graph.target.full_len));
    let Built { build, spent, .. } = choice.built;
    Ok(Plan { build, decisions, spent, bytes, full_bytes })
}

/// What was decided to build so far.
struct Built {
    build: Vec<Candidate>,
    edges: BTreeSet<(VersionId, VersionId)>,
    spent: PlanBudget,
}

impl Default for Built {
    fn default() -> Self {
        let spent = PlanBudget { patches: 0, cpu_ms: 0, bytes: 0 };
        Self { build: Vec::new(), edges: BTreeSet::new(), spent }
    }
}

impl Built {
    /// Whether a candidate costs something yet.
    fn lacks(&self, candidate: &Candidate) -> bool {
        !candidate.built && !self.edges.contains(&(candidate.from, candidate.to))
    }

    /// What building the rest of a way takes.
    fn price(&self, way: &Way<'_>) -> PlanBudget {
        let mut price = PlanBudget { patches: 0, cpu_ms: 0, bytes: 0 };
        for candidate in way.patches().filter(|candidate| self.lacks(candidate)) {
            price.patches += 1;
            price.cpu_ms = price.cpu_ms.saturating_add(candidate.cpu_ms);
            price.bytes = price.bytes.saturating_add(candidate.len);
        }
        price
    }

    fn add(&mut self, way: &Way<'_>) {
        let price = self.price(way);
        for candidate in way.patches() {
            if self.lacks(candidate) {
                self.build.push(*candidate);
                self.edges.insert((candidate.from, candidate.to));
            }
        }
        self.spent.patches += price.patches;
        self.spent.cpu_ms += price.cpu_ms;
        self.spent.bytes += price.bytes;
    }

    /// The first thing that there is too little of.
    fn exceeds(&self, price: PlanBudget, budget: PlanBudget) -> Option<WhyFull> {
        let resources = [
            (Resource::Patches, price.patches, budget.patches - self.spent.patches),
            (Resource::CpuMs, price.cpu_ms, budget.cpu_ms - self.spent.cpu_ms),
            (Resource::Bytes, price.bytes, budget.bytes - self.spent.bytes),
        ];
        resources
            .into_iter()
            .find(|(_, needed, left)| needed > left)
            .map(|(resource, needed, left)| WhyFull::OverBudget { resource, needed, left })
    }
}

struct Choice<'a> {
    graph: &'a Graph<'a>,
    options: &'a PlanOptions,
    built: Built,
    /// The version whose way did not fit into the budget.
    ended_at: Option<VersionId>,
}

impl<'a> Choice<'a> {
    /// Ways that are small enough, and why the best of the others is not.
    fn small_ways(&self, version: VersionId) -> (Vec<Way<'a>>, Option<WhyFull>) {
        let (small, large): (Vec<_>, Vec<_>) =
            self.graph.ways(version).into_iter().partition(|way| self.too_large(way).is_none());
        let nearest = large.iter().min_by_key(|way| way.len());
        (small, nearest.and_then(|way| self.too_large(way)))
    }

    /// The benefit test: of the way as a whole, and of each of its patches for itself.
    fn too_large(&self, way: &Way<'_>) -> Option<WhyFull> {
        let whole = (way.len(), self.graph.target.id);
        let parts = way.patches().map(|patch| (patch.len, patch.to));
        std::iter::once(whole)
            .chain(parts)
            .map(|(len, to)| (len, self.graph.limit(to, self.options.max_percent)))
            .find(|(len, limit)| len > limit)
            .map(|(len, limit)| WhyFull::TooLarge { len, limit })
    }

    /// What a way weighs for one device.
    fn weight(&self, way: &Way<'_>) -> u64 {
        let second = if way.first.is_some() { self.options.second_application } else { 0 };
        way.len().saturating_add(second)
    }

    /// Bytes that the devices of a version save on a way, all together.
    fn saves(&self, version: &Version, way: &Way<'_>) -> u128 {
        u128::from(version.devices) * u128::from(self.graph.target.full_len.saturating_sub(self.weight(way)))
    }

    /// What building and keeping the rest of a way weighs.
    fn costs(&self, way: &Way<'_>) -> u128 {
        let PlanBudget { cpu_ms, bytes, .. } = self.built.price(way);
        let cpu = u128::from(cpu_ms) * u128::from(self.options.bytes_per_cpu_ms);
        cpu.saturating_add(u128::from(bytes) * u128::from(self.options.bytes_per_stored_byte))
    }

    /// Takes what the version's best way lacks into the plan. The refusal counts only if the version has no way in the end.
    fn build_for(&mut self, version: &Version) -> Result<(), WhyFull> {
        if version.id == self.graph.target.id {
            return Ok(());
        }
        let (ways, too_large) = self.small_ways(version.id);
        // Of equal balances the cheaper way, then the earlier in order.
        let balance = |way: &&Way<'_>| {
            let (saves, costs) = (self.saves(version, way), self.costs(way));
            (saves.saturating_sub(costs), Reverse(costs.saturating_sub(saves)), Reverse(costs))
        };
        let best = ways.iter().rev().max_by_key(balance).copied();
        let Some(best) = best else { return Err(too_large.unwrap_or(WhyFull::NoCandidate)) };
        let (saves, costs) = (self.saves(version, &best), self.costs(&best));
        let price = self.built.price(&best);
        if price.patches == 0 {
            return Ok(());
        }
        if saves <= costs {
            return Err(WhyFull::NotWorthIt { saves, costs });
        }
        if let Some(first) = self.ended_at {
            return Err(WhyFull::BehindOverBudget { first });
        }
        if let Some(why) = self.built.exceeds(price, self.options.budget) {
            self.ended_at = Some(version.id);
            return Err(why);
        }
        self.built.add(&best);
        Ok(())
    }

    /// What a version gets from all that exists and is built.
    fn decided(&self, version: &Version, wanted: Result<(), WhyFull>) -> Decided {
        let decide = |len, decision| Decided { version: version.id, devices: version.devices, len, decision };
        let full = self.graph.target.full_len;
        if version.id == self.graph.target.id {
            return decide(0, Decision::Target);
        }
        let (ways, _) = self.small_ways(version.id);
        // Two applications may weigh more than one full image: that is no way, although it is there.
        let ready =
            ways.iter().filter(|way| way.patches().all(|patch| !self.built.lacks(patch)) && self.weight(way) <= full);
        match ready.min_by_key(|way| self.weight(way)) {
            Some(way) => {
                let new = way.patches().filter(|patch| !patch.built).count() as u8;
                let decision = match way.over() {
                    Some(over) => Decision::Chained { over, new },
                    None => Decision::Direct { new: new > 0 },
                };
                decide(way.len(), decision)
            }
            None => {
                let nothing_saved = WhyFull::NotWorthIt { saves: 0, costs: 0 };
                decide(full, Decision::Full(wanted.err().unwrap_or(nothing_saved)))
            }
        }
    }
}
