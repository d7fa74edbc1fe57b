//! What the decision says about itself: gates, their answers, and what each answer rested on, as data.

use serde::{Deserialize, Serialize};

use super::texts;
use crate::cover::{Cover, CoverRule, Standing};
use crate::policy::{Policy, PolicyKind, PolicyScope};
use crate::pool::PoolPlace;
use crate::source::Stale;
use crate::text::{Code, ContractNumber, Slug, TrainName, Version};
use crate::{Reason, Time};

/// The gates, in the order they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Gate {
    /// Is the device in service?
    Identity,
    /// Is the release out, for this device and where it stands?
    Release,
    /// Can the device get there from what it runs?
    Path,
    /// Is it a security fix the device has a right to?
    Security,
    /// Do the plans grant the required codes?
    Grant,
    /// Was the device covered when it mattered?
    Cover,
    /// Does the device's owner want it?
    Policy,
    /// Has a rollout reached the device?
    Rollout,
    /// Did it fail before?
    Attempt,
}

impl Gate {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Release => "release",
            Self::Path => "path",
            Self::Security => "security",
            Self::Grant => "grant",
            Self::Cover => "cover",
            Self::Policy => "policy",
            Self::Rollout => "rollout",
            Self::Attempt => "attempt",
        }
    }
}

/// What an answer rested on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Evidence {
    /// The reason says it all.
    None,
    /// Codes that the version requires.
    Codes {
        /// The codes.
        codes: Vec<String>,
    },
    /// A contract and how its plan decides.
    Cover {
        /// The contract.
        contract: ContractNumber,
        /// Its plan.
        plan: Slug,
        /// The plan's rule.
        rule: CoverRule,
        /// The code asked for.
        code: String,
        /// The moment that the rule looks at.
        reference: Time,
        /// The window that holds it, if one does.
        from: Option<Time>,
        /// Its end.
        to: Option<Time>,
        /// The end of grace, when it is grace that counts.
        grace_until: Option<Time>,
        /// What is known of the contract is old.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stale: Option<Stale>,
        /// The pool in which the device has a place.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pool: Option<PoolPlace>,
    },
    /// A train.
    Train {
        /// Its name.
        train: TrainName,
    },
    /// The oldest version over which it installs.
    Floor {
        /// The version.
        version: Version,
    },
    /// Another version.
    Version {
        /// The version.
        version: Version,
    },
    /// A version of a later signing epoch than the device's verifier knows.
    Epoch {
        /// The version's epoch.
        epoch: i32,
        /// The newest epoch that the verifier knows.
        known: i32,
        /// The floor release, which comes first; none when nothing leads there.
        first: Option<Version>,
    },
    /// A version of a later signing epoch, to which this one is a stepping stone.
    Towards {
        /// That version.
        version: Version,
        /// Its epoch.
        epoch: i32,
    },
    /// A moment.
    Moment {
        /// The moment.
        at: Time,
    },
    /// A country.
    Country {
        /// ISO 3166-1, two letters.
        country: String,
    },
    /// A rollout.
    Rollout {
        /// Its name.
        rollout: Slug,
    },
    /// A rollout whose audience does not hold the device.
    Audience {
        /// Its name.
        rollout: Slug,
        /// The part of its audience that does not hold.
        asks: String,
        /// What the device has instead; empty when that is not one thing.
        has: String,
    },
    /// Attempts that failed.
    Attempts {
        /// How many.
        failed: u32,
    },
    /// A policy of the owner.
    Policy {
        /// How narrow it is.
        scope: PolicyScope,
        /// Who set it.
        owner: Slug,
        /// Why.
        reason: String,
        /// The version it names, if it is a pin.
        pinned: Option<Version>,
        /// When it ends, if it does.
        until: Option<Time>,
    },
}

impl Evidence {
    /// A cover with what it says, asked now.
    pub fn of_cover(cover: &Cover, code: &str, (reference, now): (Time, Time), standing: Standing) -> Self {
        let (from, to, grace_until) = match standing {
            Standing::Window(from, to) | Standing::Fallback(from, to) | Standing::CountsOn(from, to) => {
                (Some(from), Some(to), None)
            }
            Standing::Grace(from, to) => (Some(from), Some(to), Some(to.plus_days(i64::from(cover.grace_days)))),
            Standing::Open | Standing::Outside => (None, None, None),
        };
        Self::Cover {
            contract: cover.contract.clone(),
            plan: cover.plan.clone(),
            rule: cover.rule,
            code: code.to_owned(),
            reference,
            from,
            to,
            grace_until,
            stale: cover.stale_at(now),
            pool: cover.origin.pool.as_deref().cloned(),
        }
    }

    /// A policy.
    pub fn of_policy(policy: &Policy) -> Self {
        Self::Policy {
            scope: policy.scope,
            owner: policy.owner.clone(),
            reason: policy.reason.clone(),
            pinned: match &policy.kind {
                PolicyKind::Pin { version } | PolicyKind::UpdateNow { version } => Some(version.clone()),
                PolicyKind::Hold { .. } | PolicyKind::Follow => None,
            },
            until: (policy.to_at < Time::FOREVER).then_some(policy.to_at),
        }
    }
}

/// One gate's answer about one release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Step {
    /// The version asked about.
    pub version: Version,
    /// Which gate.
    pub gate: Gate,
    /// Whether it let the version through.
    pub pass: bool,
    /// Why.
    pub reason: Reason,
    /// What it rested on, as data.
    pub evidence: Evidence,
    /// The same in words.
    pub detail: String,
}

/// Where steps go.
pub trait Trace {
    /// Whether anybody listens. Work that is only for the trace is done only then.
    const LISTENS: bool;

    /// Keeps one gate's answer. The evidence is only made when someone listens.
    fn step(&mut self, version: &Version, gate: Gate, pass: bool, reason: Reason, evidence: impl FnOnce() -> Evidence);
}

/// Nobody listens.
impl Trace for () {
    const LISTENS: bool = false;

    fn step(&mut self, _: &Version, _: Gate, _: bool, _: Reason, _: impl FnOnce() -> Evidence) {}
}

impl Trace for Vec<Step> {
    const LISTENS: bool = true;

    fn step(&mut self, version: &Version, gate: Gate, pass: bool, reason: Reason, evidence: impl FnOnce() -> Evidence) {
        let evidence = evidence();
        let detail = texts::detail(&evidence);
        self.push(Step { version: version.clone(), gate, pass, reason, evidence, detail });
    }
}

/// What would let a device have a version that it cannot have now. Each is one way; several may stand side by side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Remedy {
    /// Wait.
    Wait {
        /// Until then.
        until: Time,
    },
    /// Put the device under a contract that grants these codes.
    Cover {
        /// The codes.
        codes: Vec<String>,
    },
    /// Close the gap in which the moment that counts lies, or renew up to it.
    CoverAt {
        /// The contract.
        contract: ContractNumber,
        /// The moment to be covered.
        at: Time,
    },
    /// Give the device a place in a pool that is full: enlarge it, or let another device leave.
    Pool {
        /// The contract.
        contract: ContractNumber,
        /// What the pool is for.
        place: PoolPlace,
        /// Its places, all taken.
        quantity: u32,
    },
    /// Renew: cover must run now.
    Renew {
        /// The contract.
        contract: ContractNumber,
    },
    /// Move to a plan that grants the code, up to the channel.
    Plan {
        /// The contract.
        contract: ContractNumber,
        /// The code.
        code: Code,
    },
    /// End or change the owner's policy.
    ChangePolicy {
        /// How narrow it is.
        scope: PolicyScope,
        /// Who set it.
        owner: Slug,
    },
    /// Install this version first.
    InstallFirst {
        /// The version.
        version: Version,
    },
    /// Let the device follow a less finished channel.
    FollowChannel,
    /// Accept, unblock or put back the device.
    DeviceState,
    /// Start, resume or widen a rollout.
    Rollout,
    /// Find out why it failed; then let it try again.
    Failure,
}
