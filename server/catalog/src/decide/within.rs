//! "Why?" as an owner's people may read it: without contracts that are not theirs, and without the names and audiences of rollouts,
//! which may be named after another customer. Outcome and reasons stay: they are about their own device.

use std::collections::BTreeSet;

use super::trace::{Evidence, Remedy};
use super::{Why, texts};
use crate::text::ContractNumber;

impl Remedy {
    /// The contract that it names.
    pub const fn contract(&self) -> Option<&ContractNumber> {
        match self {
            Self::CoverAt { contract, .. }
            | Self::Pool { contract, .. }
            | Self::Renew { contract }
            | Self::Plan { contract, .. } => Some(contract),
            Self::Wait { .. }
            | Self::Cover { .. }
            | Self::ChangePolicy { .. }
            | Self::InstallFirst { .. }
            | Self::FollowChannel
            | Self::DeviceState
            | Self::Rollout
            | Self::Failure => None,
        }
    }
}

impl Why {
    /// The contracts that it names.
    pub fn contracts(&self) -> BTreeSet<ContractNumber> {
        let of_steps = self.steps.iter().filter_map(|step| match &step.evidence {
            Evidence::Cover { contract, .. } => Some(contract),
            _ => None,
        });
        let of_remedies = self.remedies.iter().filter_map(Remedy::contract);
        of_steps.chain(of_remedies).chain(&self.overlaps).cloned().collect()
    }

    /// The same without contracts that are not among these, and without rollouts.
    #[must_use]
    pub fn within(mut self, contracts: &[ContractNumber]) -> Self {
        for step in &mut self.steps {
            let hidden = match &step.evidence {
                Evidence::Cover { contract, .. } => !contracts.contains(contract),
                Evidence::Rollout { .. } | Evidence::Audience { .. } => true,
                Evidence::None
                | Evidence::Codes { .. }
                | Evidence::Train { .. }
                | Evidence::Floor { .. }
                | Evidence::Version { .. }
                | Evidence::Epoch { .. }
                | Evidence::Towards { .. }
                | Evidence::Moment { .. }
                | Evidence::Country { .. }
                | Evidence::Attempts { .. }
                | Evidence::Policy { .. } => false,
            };
            if hidden {
                (step.evidence, step.detail) = (Evidence::None, String::new());
            }
        }
        self.remedies.retain(|remedy| remedy.contract().is_none_or(|contract| contracts.contains(contract)));
        self.advice = self.remedies.iter().map(texts::remedy).collect();
        self.overlaps.retain(|contract| contracts.contains(contract));
        if self.overlaps.len() < 2 {
            self.overlaps.clear();
        }
        self
    }
}
