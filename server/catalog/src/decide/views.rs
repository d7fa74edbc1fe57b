//! What the decision looks at: immutable views that the server keeps in memory.

use crate::Time;
use crate::contract::Cover;
use crate::device::{Device, Installed};
use crate::id::ReleaseId;
use crate::product::Product;
use crate::release::{Artifact, Release};
use crate::rollout::Rollout;
use crate::text::{Component, Slug};

/// A release with its images and its train's date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseView {
    /// The release.
    pub release: Release,
    /// Its images.
    pub artifacts: Vec<Artifact>,
    /// When its train became generally available.
    pub train_ga: Time,
}

impl ReleaseView {
    /// Whether it has an image for the device's hardware.
    pub fn fits(&self, device: &DeviceView) -> bool {
        self.artifacts.iter().any(|artifact| artifact.hw_ids.contains(device.device.hw_id.as_str()))
    }
}

/// A product with everything that can be chosen from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProductView {
    /// The product.
    pub product: Product,
    /// Its releases, greatest order first.
    pub releases: Vec<ReleaseView>,
    /// Rollouts of its releases.
    pub rollouts: Vec<Rollout>,
}

impl ProductView {
    /// The release whose image this is.
    pub fn release_of_image(&self, component: &Component, sha256: crate::Digest) -> Option<&ReleaseView> {
        self.releases.iter().find(|release| {
            release.artifacts.iter().any(|artifact| artifact.component == *component && artifact.sha256 == sha256)
        })
    }
}

/// A device with what it runs, its cover and its failures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceView {
    /// The device.
    pub device: Device,
    /// Its owner's name, for selectors.
    pub customer: Option<Slug>,
    /// What it runs, by component.
    pub installed: Vec<Installed>,
    /// Contracts that cover it.
    pub covers: Vec<Cover>,
    /// Releases it tried and failed, with how often.
    pub failed: Vec<(ReleaseId, u32)>,
}

impl DeviceView {
    /// What it runs in a component.
    pub fn installed(&self, component: &Component) -> Option<&Installed> {
        self.installed.iter().find(|installed| installed.component == *component)
    }

    /// How often it failed at a release.
    pub fn failed_attempts(&self, release: ReleaseId) -> u32 {
        self.failed.iter().find(|(id, _)| *id == release).map_or(0, |(_, count)| *count)
    }

    /// The order of what it runs in a component: by image digest, else by the version it claims, else 0, so that
    /// anything published is newer than the unknown.
    pub fn running_order(&self, product: &ProductView, component: &Component) -> i64 {
        let Some(installed) = self.installed(component) else { return 0 };
        product
            .release_of_image(component, installed.sha256)
            .or_else(|| product.releases.iter().find(|release| release.release.version == installed.version))
            .map_or(0, |release| release.release.order)
    }
}
