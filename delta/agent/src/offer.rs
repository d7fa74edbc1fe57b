//! From a verified answer to a plan: what both repositories say and this device's own policy allows.

use std::collections::BTreeMap;

use sluice_catalog::Digest;
use sluice_catalog::text::Component;
use sluice_signer::{DirectorTarget, InstallPolicy, Installed as Running, ReleaseCustom, agree};

use crate::agent::Agent;
use crate::error::{AgentError, shown};
use crate::installed::SlotImage;
use crate::poll::Answer;
use crate::slot::Slot;

/// What to install.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The component.
    pub component: Component,
    /// The director's entry: encodings and their digests.
    pub target: DirectorTarget,
    /// What runs.
    pub from: SlotImage,
    /// What offline keys signed.
    pub to: SlotImage,
    /// The slot to be written.
    pub slot: Slot,
    /// Where to fetch blobs.
    pub urls: BTreeMap<Digest, String>,
    /// The number to report under.
    pub attempt: Option<i32>,
}

impl Agent<'_> {
    /// Refreshes the image repository and holds the offer against it. `None` when every image offered runs already. An
    /// offer with several images is taken one component at a time, in the order of their paths.
    pub(crate) fn plan(&mut self, answer: &Answer) -> Result<Option<Plan>, AgentError> {
        if answer.document.targets.is_empty() {
            return Ok(None);
        }
        self.refresh_repository()?;
        for target in answer.document.targets.values() {
            if let Some(plan) = self.plan_target(answer, target)? {
                return Ok(Some(plan));
            }
        }
        Ok(None)
    }

    fn plan_target(&mut self, answer: &Answer, target: &DirectorTarget) -> Result<Option<Plan>, AgentError> {
        let found = self.find_target(&target.path)?;
        let release = found
            .target
            .release(&found.role, &self.limits)
            .map_err(|source| AgentError::Refused { what: "release", source: Box::new(source) })?;
        // A release that was signed in advance may name a version that the product's own role signed.
        if found.embargo_of.is_some() && release.as_ref().is_some_and(|release| release.min_installed.is_some()) {
            self.load_product()?;
        }
        // Without a release `agree` below says why; the component is only needed to ask it.
        let named = release.map(|release| release.component).unwrap_or_default();
        let Some(component) = self.config.components.iter().find(|component| component.as_str() == named).cloned()
        else {
            let text = format!("{} is for component {}, which this device does not have", target.path, shown(&named));
            return Err(AgentError::OfferRefused(text));
        };
        let active = self.active_slot(&component)?;
        let slots = self.installed.component(&self.state, &component)?;
        let from = slots.slot(active).cloned().ok_or_else(|| AgentError::Corrupt {
            path: self.state.installed(),
            reason: format!("nothing is recorded for the running slot {active} of {component}"),
        })?;
        let floor = slots.security_floor;
        let known_orders = self.repository.version_orders(self.config.product.as_str(), component.as_str());
        // A provisioned image has no recorded order; signed metadata may know its version. An unknown one counts as the
        // oldest, so that a minimum is never passed by ignorance.
        let order = from.order.or_else(|| known_orders.get(from.version.as_str()).copied()).unwrap_or(0);
        let policy = InstallPolicy {
            product: self.config.product.to_string(),
            component: component.to_string(),
            hw_id: self.config.hw_id.to_string(),
            security_counter_floor: u64::from(floor),
            channels: self.config.channels.clone(),
            installed: Some(Running { version: from.version.to_string(), order }),
            known_orders,
        };
        let release =
            agree(target, &found, &policy, &self.limits).map_err(|error| AgentError::Disagreed(Box::new(error)))?;
        if from.sha256 == Digest(target.sha256) {
            return Ok(None);
        }
        if target.length > self.config.max_image_bytes {
            let text = format!("{} bytes, a slot takes {}", target.length, self.config.max_image_bytes);
            return Err(AgentError::OfferRefused(text));
        }
        let to = slot_image(target, &release)?;
        Ok(Some(Plan {
            component,
            target: target.clone(),
            from,
            to,
            slot: active.other(),
            urls: answer.urls.clone(),
            attempt: answer.attempt,
        }))
    }
}

fn slot_image(target: &DirectorTarget, release: &ReleaseCustom) -> Result<SlotImage, AgentError> {
    let version =
        release.version.parse().map_err(|error| AgentError::OfferRefused(format!("signed version: {error}")))?;
    let security_counter = u32::try_from(release.security_counter).map_err(|_| {
        AgentError::OfferRefused(format!("security counter {} is over the limit of 2^32 - 1", release.security_counter))
    })?;
    Ok(SlotImage {
        version,
        sha256: Digest(target.sha256),
        length: target.length,
        order: Some(release.order),
        security_counter,
    })
}
