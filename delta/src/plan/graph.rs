//! Candidates by where they start, checked; and the ways from a version to the target.

use std::collections::{BTreeMap, BTreeSet};

use super::{Candidate, MAX_CANDIDATES, MAX_VERSIONS, PlanError, Version, VersionId};

/// Versions and candidates that belong together.
pub(super) struct Graph<'a> {
    versions: BTreeMap<VersionId, &'a Version>,
    pub target: &'a Version,
    /// Candidates that make the target, by where they start.
    last: BTreeMap<VersionId, &'a Candidate>,
    /// Candidates that make something else, by where they start.
    first: BTreeMap<VersionId, Vec<&'a Candidate>>,
}

/// One patch to the target, or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way<'a> {
    /// The first of two.
    pub first: Option<&'a Candidate>,
    pub last: &'a Candidate,
}

impl<'a> Way<'a> {
    /// Bytes that a device downloads.
    pub(super) fn len(&self) -> u64 {
        self.last.len.saturating_add(self.first.map_or(0, |first| first.len))
    }

    pub(super) fn patches(&self) -> impl Iterator<Item = &'a Candidate> + use<'a> {
        self.first.into_iter().chain([self.last])
    }

    /// The version between.
    pub(super) fn over(&self) -> Option<VersionId> {
        self.first.map(|first| first.to)
    }
}

impl<'a> Graph<'a> {
    pub(super) fn new(
        versions: &'a [Version],
        target: VersionId,
        candidates: &'a [Candidate],
    ) -> Result<Self, PlanError> {
        for (what, count, limit) in
            [("versions", versions.len(), MAX_VERSIONS), ("candidates", candidates.len(), MAX_CANDIDATES)]
        {
            if count > limit {
                return Err(PlanError::TooMany { what, count, limit });
            }
        }
        let mut by_id = BTreeMap::new();
        for version in versions {
            if by_id.insert(version.id, version).is_some() {
                return Err(PlanError::VersionTwice(version.id));
            }
        }
        let target = *by_id.get(&target).ok_or(PlanError::UnknownTarget(target))?;
        let mut seen = BTreeSet::new();
        let (mut first, mut last) = (BTreeMap::<VersionId, Vec<&Candidate>>::new(), BTreeMap::new());
        for candidate in candidates {
            let Candidate { from, to, .. } = *candidate;
            if from == to {
                return Err(PlanError::ToItself(from));
            }
            if !by_id.contains_key(&from) || !by_id.contains_key(&to) {
                return Err(PlanError::UnknownVersion { from, to });
            }
            if !seen.insert((from, to)) {
                return Err(PlanError::CandidateTwice { from, to });
            }
            if to == target.id {
                last.insert(from, candidate);
            } else {
                first.entry(from).or_default().push(candidate);
            }
        }
        Ok(Self { versions: by_id, target, last, first })
    }

    /// Every way from `version` to the target: the direct one first, then by the number of the version between.
    pub(super) fn ways(&self, version: VersionId) -> Vec<Way<'a>> {
        let direct = self.last.get(&version).map(|last| Way { first: None, last });
        let firsts = self.first.get(&version).map_or(&[][..], Vec::as_slice);
        let mut chained: Vec<Way<'a>> = firsts
            .iter()
            .filter_map(|first| Some(Way { first: Some(first), last: self.last.get(&first.to)? }))
            .collect();
        chained.sort_unstable_by_key(Way::over);
        direct.into_iter().chain(chained).collect()
    }

    /// The most that a patch to this version may have; always less than its full image.
    pub(super) fn limit(&self, to: VersionId, max_percent: u8) -> u64 {
        let full = self.versions.get(&to).map_or(0, |version| version.full_len);
        // At most 100 percent, so it fits again.
        let share = u64::try_from(u128::from(full) * u128::from(max_percent) / 100).unwrap_or(u64::MAX);
        share.min(full.saturating_sub(1))
    }
}
