//! The rollout gate: has any rollout of this release reached this device?

use super::{DeviceView, ProductView, ReleaseView};
use crate::Reason;
use crate::rollout::{Rollout, RolloutState, Selector, bucket, in_stage};

/// The percentage that reaches every device.
const ALL: u8 = 100;

/// Whether the audience holds the device.
fn selects(selector: &Selector, device: &DeviceView) -> bool {
    let one_of = |set: &crate::TextSet, text: Option<&str>| set.is_empty() || text.is_some_and(|t| set.contains(t));
    let d = &device.device;
    one_of(&selector.serials, Some(d.serial.as_str()))
        && one_of(&selector.customers, device.customer.as_ref().map(AsRef::as_ref))
        && one_of(&selector.sites, d.site.as_ref().map(AsRef::as_ref))
        && one_of(&selector.hw_ids, Some(d.hw_id.as_str()))
        && (selector.tags.is_empty() || selector.tags.iter().any(|tag| d.tags.contains(tag)))
}

/// The rollout that brings the release to the device now (heaviest first), or why none does: of several reasons the one
/// nearest to a yes.
pub fn rollout_gate<'a>(
    device: &DeviceView,
    product: &'a ProductView,
    release: &ReleaseView,
) -> (Option<&'a Rollout>, Reason) {
    let mut best: Option<&Rollout> = None;
    let mut nearest = (0, Reason::NoRollout);
    for rollout in product.rollouts.iter().filter(|rollout| rollout.release_id == release.release.id) {
        let answer = match rollout.state {
            _ if !selects(&rollout.selector, device) => (1, Reason::NotInAudience),
            RolloutState::Halted => (2, Reason::RolloutHalted),
            RolloutState::Draft | RolloutState::Preparing => (3, Reason::RolloutNotStarted),
            RolloutState::Paused => (4, Reason::RolloutPaused),
            RolloutState::Running | RolloutState::Done => {
                let percent = rollout.stages.percent(rollout.stage);
                // Everyone is in the last stage, whatever the bucket: most rollouts that poll after poll asks are done.
                if percent >= ALL || in_stage(bucket(&rollout.salt, device.device.cohort_id), percent) {
                    if best.is_none_or(|chosen| rollout.weight > chosen.weight) {
                        best = Some(rollout);
                    }
                    continue;
                }
                (5, Reason::StageWait)
            }
        };
        if answer.0 > nearest.0 {
            nearest = answer;
        }
    }
    match best {
        Some(rollout) => (Some(rollout), Reason::InStage),
        None => (None, nearest.1),
    }
}
