//! The decision: one pure function joins contract, rollout and patch, and says why.
//!
//! [`decide`] walks a product's releases from the newest down. Each passes its gates in a fixed order (identity,
//! release, path, security, grant, cover, rollout, attempt); the best that passes all is offered, in the smallest
//! encoding the device can take. With a [`Vec<Step>`] as trace every gate's answer is kept; with `()` nothing is
//! allocated for it.

mod encoding;
mod entitlement;
mod epochs;
mod rollouts;
mod views;

pub use encoding::{Encodings, choose};
pub use entitlement::{Verdict, admits, entitled, reachable};
pub use epochs::{Hop, hop};
pub use rollouts::rollout_gate;
pub use views::{DeviceView, ProductView, ReleaseView};

use serde::{Deserialize, Serialize};

use crate::release::Artifact;
use crate::rollout::Rollout;
use crate::text::{ProductName, Version};
use crate::{Reason, Time};

/// Attempts at one release that may fail before it is offered no more to that device.
pub const MAX_FAILED_ATTEMPTS: u32 = 3;

/// The gates, in the order they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Gate {
    /// Is the device in service?
    Identity,
    /// Is the release out?
    Release,
    /// Can the device get there from what it runs?
    Path,
    /// Is it a security fix the device has a right to?
    Security,
    /// Do the plans grant the required codes?
    Grant,
    /// Was the device covered when it mattered?
    Cover,
    /// Has a rollout reached the device?
    Rollout,
    /// Did it fail before?
    Attempt,
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
    /// The contract, rollout or rule it rested on.
    pub detail: String,
}

/// Where steps go.
pub trait Trace {
    /// Keeps one gate's answer. `detail` is only made when someone listens.
    fn step(&mut self, version: &Version, gate: Gate, pass: bool, reason: Reason, detail: impl FnOnce() -> String);
}

/// Nobody listens.
impl Trace for () {
    fn step(&mut self, _: &Version, _: Gate, _: bool, _: Reason, _: impl FnOnce() -> String) {}
}

impl Trace for Vec<Step> {
    fn step(&mut self, version: &Version, gate: Gate, pass: bool, reason: Reason, detail: impl FnOnce() -> String) {
        self.push(Step { version: version.clone(), gate, pass, reason, detail: detail() });
    }
}

/// What a device gets.
#[derive(Clone, Debug)]
pub enum Decision<'a> {
    /// Nothing, and why: the reason of the newest version that is for this device at all.
    Nothing {
        /// Why.
        reason: Reason,
        /// The version the reason is about, if it is about one.
        about: Option<&'a ReleaseView>,
        /// When that answer changes by itself, if it does.
        changes_at: Option<Time>,
    },
    /// A release.
    Offer {
        /// The release.
        release: &'a ReleaseView,
        /// Its images that this device needs: right hardware, not installed yet.
        artifacts: Vec<&'a Artifact>,
        /// The rollout that brings it.
        rollout: &'a Rollout,
        /// Why it is entitled.
        reason: Reason,
    },
}

/// Decides what a device gets now.
pub fn decide<'a>(device: &DeviceView, product: &'a ProductView, now: Time, trace: &mut impl Trace) -> Decision<'a> {
    let mut best: Option<(&'a ReleaseView, &'a Rollout, Reason)> = None;
    let mut denial: Option<(Reason, &'a ReleaseView, Option<Time>)> = None;
    let hop = hop(device, product, now);
    for release in product.releases() {
        let mut verdict = epochs::admits(device, product, release, hop.as_ref(), now, trace);
        let hop = hop.as_ref().filter(|hop| std::ptr::eq(hop.floor, release));
        if let Some(hop) = hop
            && !verdict.pass
        {
            trace.step(&release.release.version, Gate::Path, true, Reason::EpochPath, || hop.detail());
            verdict = Verdict { pass: true, reason: Reason::EpochPath, changes_at: None };
        }
        if !verdict.pass {
            // A version for other hardware, another channel or an older one says nothing to this device's owner.
            let silent = matches!(
                verdict.reason,
                Reason::HardwareMismatch | Reason::ChannelNotFollowed | Reason::NotNewer | Reason::Withdrawn
            );
            if denial.is_none() && !silent {
                denial = Some((verdict.reason, release, verdict.changes_at));
            }
            continue;
        }
        let (rollout, reason) = epochs::rollout(device, product, release, hop);
        trace.step(&release.release.version, Gate::Rollout, rollout.is_some(), reason, || {
            rollout.map(|rollout| rollout.name.to_string()).unwrap_or_default()
        });
        let Some(rollout) = rollout else {
            if denial.is_none() {
                denial = Some((reason, release, None));
            }
            continue;
        };
        let failed = device.failed_attempts(release.release.id);
        if failed >= MAX_FAILED_ATTEMPTS {
            trace.step(&release.release.version, Gate::Attempt, false, Reason::AttemptFailed, || {
                format!("{failed} attempts failed")
            });
            if denial.is_none() {
                denial = Some((Reason::AttemptFailed, release, None));
            }
            continue;
        }
        // Releases come newest first, so among equal weights the first stays.
        if best.is_none_or(|(_, chosen, _)| rollout.weight > chosen.weight) {
            best = Some((release, rollout, verdict.reason));
        }
    }
    match (best, denial) {
        (Some((release, rollout, reason)), _) => {
            let artifacts = release
                .artifacts
                .iter()
                .filter(|artifact| {
                    artifact.hw_ids.contains(device.device.hw_id.as_str())
                        && device.installed(&artifact.component).is_none_or(|have| have.sha256 != artifact.sha256)
                })
                .collect();
            Decision::Offer { release, artifacts, rollout, reason }
        }
        (None, Some((reason, release, changes_at))) => Decision::Nothing { reason, about: Some(release), changes_at },
        (None, None) => {
            let runs_one = product.releases().iter().any(|release| release.fits(device));
            let reason = if runs_one { Reason::UpToDate } else { Reason::NoRelease };
            Decision::Nothing { reason, about: None, changes_at: None }
        }
    }
}

/// The newest version a device is entitled to, whether it runs it, and whether or not a rollout has reached it.
pub fn newest_entitled<'a>(device: &DeviceView, product: &'a ProductView, now: Time) -> Option<&'a ReleaseView> {
    product.releases().iter().find(|release| entitled(device, product, release, now, &mut ()).pass)
}

/// The answer to "why?": outcome, the newest entitled version, and every gate's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Why {
    /// The product.
    pub product: ProductName,
    /// The moment asked about.
    pub at: Time,
    /// Whether the device is offered a version at that moment.
    pub offered: bool,
    /// The version offered, or the one the reason is about.
    pub version: Option<Version>,
    /// The reason.
    pub reason: Reason,
    /// The reason as a sentence.
    pub sentence: String,
    /// The newest version the device is entitled to.
    pub newest_entitled: Option<Version>,
    /// When the answer changes by itself, if it does.
    pub changes_at: Option<Time>,
    /// Of a device whose verifier is older than the documents of what it is on the way to: the versions that it installs one after
    /// the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<Version>,
    /// Every gate's answer, newest version first.
    pub steps: Vec<Step>,
}

/// Explains the decision for a device at a moment; about one version only, when one is named.
pub fn why(device: &DeviceView, product: &ProductView, only: Option<&Version>, at: Time) -> Why {
    let mut steps = Vec::new();
    let decision = decide(device, product, at, &mut steps);
    let (mut offered, mut version, mut reason, mut changes_at) = match &decision {
        Decision::Offer { release, .. } => (true, Some(release.release.version.clone()), Reason::Offered, None),
        Decision::Nothing { reason, about, changes_at } => {
            (false, about.map(|about| about.release.version.clone()), *reason, *changes_at)
        }
    };
    if let Some(only) = only {
        steps.retain(|step| step.version == *only);
        let chosen = offered && version.as_ref() == Some(only);
        version = Some(only.clone());
        offered = chosen;
        if !chosen {
            changes_at = None;
            if let Some(last) = steps.last() {
                reason = last.reason;
            }
        }
    }
    Why {
        product: product.product.name.clone(),
        at,
        offered,
        version,
        reason,
        sentence: reason.sentence().to_owned(),
        newest_entitled: newest_entitled(device, product, at).map(|release| release.release.version.clone()),
        changes_at,
        path: epochs::path(device, product, at),
        steps,
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_epochs;
