//! The decision: one pure function joins contract, rollout and patch, and says why.
//!
//! [`decide`] walks a product's releases from the newest down. Each passes its gates in a fixed order (path, identity,
//! release, security, grant, cover, policy, rollout, attempt); the best that passes all is offered, in the smallest
//! encoding the device can take. With a [`Vec<Step>`] as trace every gate's answer is kept; with `()` nothing is
//! allocated for it.

mod audience;
mod encoding;
mod entitlement;
mod epochs;
mod moments;
mod outcome;
mod owner;
mod path;
mod rollouts;
mod shift;
mod texts;
mod told;
mod trace;
mod views;
mod why;
mod within;

use path::is_offered;

pub use audience::{audience_has, runs};
pub use encoding::{Encodings, choose};
pub use entitlement::{Verdict, admits, entitled, is_hidden, is_out};
pub use epochs::{Hop, hop};
pub use moments::next_change;
pub use outcome::{Outcome, outcome};
pub use path::{has_image, reachable};
pub use rollouts::{poll_within, rollout_gate};
pub use shift::{Shift, codes_in_force, shift};
pub use told::told;
pub use trace::{Evidence, Gate, Remedy, Step, Trace};
pub use views::{DeviceView, ProductView, ReleaseView};
pub use why::{Why, newest_entitled, why};

use crate::release::Artifact;
use crate::rollout::Rollout;
use crate::{Reason, Time};

/// Attempts at one release that may fail before it is offered no more to that device.
pub const MAX_FAILED_ATTEMPTS: u32 = 3;

/// What a device gets.
#[derive(Clone, Debug)]
pub enum Decision<'a> {
    /// Nothing, and why: the reason of the newest version that is for this device at all.
    Nothing {
        /// Why.
        reason: Reason,
        /// The version the reason is about, if it is about one.
        about: Option<&'a ReleaseView>,
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
pub fn decide<'a, T: Trace>(device: &DeviceView, product: &'a ProductView, now: Time, trace: &mut T) -> Decision<'a> {
    let mut best: Option<(&'a ReleaseView, &'a Rollout, Reason, bool)> = None;
    let asks_now = owner::asks_now(device, now);
    let mut denial: Option<(Reason, &'a ReleaseView)> = None;
    let oldest = device.oldest_running(product);
    let hop = hop(device, product, now);
    for release in product.releases() {
        // From here on every release is older than all that runs. A trace has an answer for each of them all the same.
        if !T::LISTENS && release.release.order <= oldest {
            break;
        }
        match gates(device, product, release, hop.as_ref(), now, trace) {
            // Releases come newest first, so among equal weights the first stays.
            Passed::All { rollout, reason, asked } => {
                // What somebody asked for now comes before everything else.
                if best.is_none_or(|(_, chosen, _, was)| (asked, rollout.weight) > (was, chosen.weight)) {
                    best = Some((release, rollout, reason, asked));
                    // Nothing that is older can weigh more: a device that is far behind is asked about no further release.
                    if !T::LISTENS
                        && asked == asks_now
                        && product.rollouts.iter().all(|other| other.weight <= rollout.weight)
                    {
                        break;
                    }
                }
            }
            Passed::Stopped(reason) if denial.is_none() && !is_silent(reason) && is_spoken_of(device, release, now) => {
                denial = Some((reason, release));
            }
            Passed::Stopped(_) | Passed::Empty => {}
        }
    }
    match (best, denial) {
        (Some((release, rollout, reason, _)), _) => {
            let artifacts = release
                .artifacts
                .iter()
                .filter(|artifact| is_offered(device, product, release, artifact, reason, now))
                .collect();
            Decision::Offer { release, artifacts, rollout, reason }
        }
        (None, Some((reason, release))) => Decision::Nothing { reason, about: Some(release) },
        (None, None) => {
            let heard_of = |release: &ReleaseView| release.fits(device) && !is_hidden(device, release, now);
            let runs_one = product.releases().iter().any(heard_of);
            let reason = if runs_one { Reason::UpToDate } else { Reason::NoRelease };
            Decision::Nothing { reason, about: None }
        }
    }
}

/// How far one release came.
enum Passed<'a> {
    /// Through every gate.
    All {
        /// The rollout that brings it.
        rollout: &'a Rollout,
        /// Why the device is entitled.
        reason: Reason,
        /// Whether somebody asked for it now.
        asked: bool,
    },
    /// To the gate that gives this reason.
    Stopped(Reason),
    /// Through every gate, with nothing to install. An offer of nothing would never end.
    Empty,
}

/// Asks every gate about one release.
fn gates<'a>(
    device: &DeviceView,
    product: &'a ProductView,
    release: &'a ReleaseView,
    hop: Option<&Hop<'a>>,
    now: Time,
    trace: &mut impl Trace,
) -> Passed<'a> {
    let mut verdict = epochs::admits(device, product, release, hop, now, trace);
    let hop = hop.filter(|hop| std::ptr::eq(hop.floor, release));
    if let Some(hop) = hop
        && !verdict.pass
        && entitlement::steps_over(verdict.reason)
    {
        trace.step(&release.release.version, Gate::Path, true, Reason::EpochPath, || hop.evidence());
        verdict = Verdict { pass: true, reason: Reason::EpochPath };
    }
    if !verdict.pass {
        return Passed::Stopped(verdict.reason);
    }
    let (rollout, reason) = epochs::rollout(device, product, release, hop, now);
    trace.step(&release.release.version, Gate::Rollout, rollout.is_some(), reason, || {
        rollout.map_or_else(
            || rollouts::evidence(device, product, release, reason, now),
            |rollout| Evidence::Rollout { rollout: rollout.name.clone() },
        )
    });
    let Some(rollout) = rollout else { return Passed::Stopped(reason) };
    let failed = device.failed_attempts(release.release.id);
    if failed >= MAX_FAILED_ATTEMPTS {
        trace.step(&release.release.version, Gate::Attempt, false, Reason::AttemptFailed, || Evidence::Attempts {
            failed,
        });
        return Passed::Stopped(Reason::AttemptFailed);
    }
    let images = |artifact: &Artifact| is_offered(device, product, release, artifact, verdict.reason, now);
    if release.artifacts.iter().any(images) {
        Passed::All { rollout, reason: verdict.reason, asked: reason == Reason::UpdateNow }
    } else {
        Passed::Empty
    }
}

/// Whether a release can be the reason of an answer: not one that nobody shall hear of, nor one that was withdrawn, whatever else would
/// stand between it and the device.
fn is_spoken_of(device: &DeviceView, release: &ReleaseView, now: Time) -> bool {
    !is_hidden(device, release, now) && release.release.withdrawn_at.is_none_or(|at| now < at)
}

/// Whether a refusal is no answer to the device's owner: a version for other hardware, another channel or an older one says
/// nothing to them, and of one that is not out nobody shall hear.
const fn is_silent(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::HardwareMismatch
            | Reason::ChannelNotFollowed
            | Reason::NotNewer
            | Reason::Withdrawn
            | Reason::NotPublished
            | Reason::Embargoed
    )
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_epochs;
