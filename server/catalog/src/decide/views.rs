//! What the decision looks at: immutable views that the server keeps in memory.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::cover::Cover;
use crate::device::{Device, Installed};
use crate::facts::Known;
use crate::id::{ReleaseId, RolloutId};
use crate::policy::Policy;
use crate::pool::FullPool;
use crate::product::Product;
use crate::release::{Artifact, Embargo, Release, ReleaseFact, ReleaseKind};
use crate::rollout::Rollout;
use crate::text::{Component, Slug, Version};
use crate::{Digest, TextSet, Time};

/// A release with its images and its train's date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseView {
    /// The release.
    pub release: Release,
    /// Its images.
    pub artifacts: Vec<Artifact>,
    /// When its train became generally available.
    pub train_ga: Time,
    /// From when on its train gets no further fixes, if that was said. No gate asks for it.
    pub support_end: Option<Time>,
    /// Who sees it before others, and until when.
    pub embargo: Option<Embargo>,
    /// Countries to which it is not delivered (ISO 3166-1, two capital letters).
    pub blocked_countries: TextSet,
}

impl ReleaseView {
    /// A release that is under no embargo and blocked nowhere.
    pub fn new(release: Release, artifacts: Vec<Artifact>, train_ga: Time) -> Self {
        Self { release, artifacts, train_ga, support_end: None, embargo: None, blocked_countries: TextSet::default() }
    }

    /// Takes in what the server says of it.
    pub fn say(&mut self, fact: ReleaseFact) {
        match fact {
            ReleaseFact::Embargo(embargo) => self.embargo = Some(embargo),
            ReleaseFact::Blocked { countries } => self.blocked_countries = countries,
        }
    }

    /// Whether it has an image for the device's hardware.
    pub fn fits(&self, device: &DeviceView) -> bool {
        self.artifacts.iter().any(|artifact| artifact.runs_on(device))
    }
}

impl Artifact {
    /// Whether it is for the device's hardware.
    pub fn runs_on(&self, device: &DeviceView) -> bool {
        self.hw_ids.contains(device.device.hw_id.as_str())
    }
}

/// A product with everything that can be chosen from. It is made once for each change of the product and then only read:
/// look-ups that a decision makes for every release are prepared in [`ProductView::new`], so that a decision takes time in
/// proportion to the releases and not to their square.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProductView {
    /// The product.
    pub product: Product,
    /// Its releases, greatest order first. Positions in the indexes below are positions here.
    releases: Vec<ReleaseView>,
    /// Rollouts of its releases.
    pub rollouts: Vec<Rollout>,
    /// Whether somebody stopped all rollouts.
    pub stopped: bool,
    /// Image digests with the releases that have them; sorted, so that of one digest the newest release comes first.
    images: Vec<(Digest, usize)>,
    /// Every component that any release has an image for, sorted.
    components: Vec<Component>,
    /// Versions with their releases, sorted.
    versions: Vec<(Version, usize)>,
    /// Versions that are stepping stones to a security fix of their train for any device, also over several steps; sorted.
    stones: Vec<Version>,
    /// The newest signing epoch of a release.
    newest_epoch: i32,
}

impl ProductView {
    /// A view of `releases`, which are put in order here.
    pub fn new(product: Product, mut releases: Vec<ReleaseView>, rollouts: Vec<Rollout>) -> Self {
        releases.sort_by_key(|release| Reverse(release.release.order));
        let numbered = || releases.iter().enumerate();
        let mut images: Vec<(Digest, usize)> = numbered()
            .flat_map(|(at, release)| release.artifacts.iter().map(move |artifact| (artifact.sha256, at)))
            .collect();
        images.sort_unstable();
        images.dedup();
        let mut versions: Vec<(Version, usize)> =
            numbered().map(|(at, release)| (release.release.version.clone(), at)).collect();
        versions.sort_unstable();
        let mut components: Vec<Component> =
            releases.iter().flat_map(|release| &release.artifacts).map(|artifact| artifact.component.clone()).collect();
        components.sort_unstable();
        components.dedup();
        let stones = stones(&releases, &versions);
        let newest_epoch = releases.iter().map(|release| release.release.signing_epoch).max().unwrap_or(1);
        Self { product, releases, rollouts, stopped: false, images, components, versions, stones, newest_epoch }
    }

    /// The product by what was known at a moment: releases that were out, with what was said of them, and rollouts as they were.
    #[must_use]
    pub fn known_at(&self, facts: &[(ReleaseId, Known<ReleaseFact>)], rollouts: Vec<Rollout>, known_at: Time) -> Self {
        let out = self.releases.iter().filter(|release| release.release.published_at <= known_at);
        let known = out.cloned().map(|mut release| {
            release.release.withdrawn_at = release.release.withdrawn_at.filter(|at| *at <= known_at);
            release.embargo = None;
            release.blocked_countries = TextSet::default();
            let id = release.release.id;
            let said = facts.iter().filter(|(of, fact)| *of == id && fact.at(known_at));
            said.for_each(|(_, known)| release.say(known.fact.clone()));
            release
        });
        Self::new(self.product.clone(), known.collect(), rollouts)
    }

    /// The same product without some of its releases.
    #[must_use]
    pub fn without(&self, gone: impl Fn(&ReleaseView) -> bool) -> Self {
        let releases = self.releases.iter().filter(|release| !gone(release)).cloned().collect();
        Self { stopped: self.stopped, ..Self::new(self.product.clone(), releases, self.rollouts.clone()) }
    }

    /// Its releases, greatest order first.
    pub fn releases(&self) -> &[ReleaseView] {
        &self.releases
    }

    /// The newest signing epoch of a release.
    pub const fn newest_epoch(&self) -> i32 {
        self.newest_epoch
    }

    /// The release whose image this is.
    pub fn release_of_image(&self, component: &Component, sha256: Digest) -> Option<&ReleaseView> {
        let first = self.images.partition_point(|(digest, _)| *digest < sha256);
        let same = self.images.get(first..).unwrap_or_default().iter().take_while(|(digest, _)| *digest == sha256);
        same.filter_map(|(_, at)| self.releases.get(*at)).find(|release| {
            release.artifacts.iter().any(|artifact| artifact.component == *component && artifact.sha256 == sha256)
        })
    }

    /// The release of a version.
    pub fn release_of_version(&self, version: &Version) -> Option<&ReleaseView> {
        let at = self.versions.binary_search_by(|(known, _)| known.cmp(version)).ok()?;
        self.versions.get(at).and_then(|(_, release)| self.releases.get(*release))
    }

    /// Whether this version is a stepping stone to a security fix for any device: one on its train names it as the oldest version it
    /// installs over, or another stone on its train does. Whether such a fix is out for one device, and on its hardware, is asked of
    /// these few versions alone.
    pub fn is_stone(&self, version: &Version) -> bool {
        self.stones.binary_search(version).is_ok()
    }
}

/// Every version on the way to a security fix inside its train; sorted. Each is looked at once, whatever fix it was reached from.
fn stones(releases: &[ReleaseView], versions: &[(Version, usize)]) -> Vec<Version> {
    let of_version = |version: &Version| {
        let at = versions.binary_search_by(|(known, _)| known.cmp(version)).ok()?;
        versions.get(at).map(|(_, release)| *release)
    };
    let mut stones = BTreeSet::new();
    let mut ahead: Vec<usize> = Vec::new();
    for (at, release) in releases.iter().enumerate().filter(|(_, fix)| fix.release.kind == ReleaseKind::Security) {
        ahead.push(at);
        while let Some(over) = ahead.pop().and_then(|at| releases.get(at)) {
            for floor in over.artifacts.iter().filter_map(|artifact| artifact.min_installed.as_ref()) {
                let stone = of_version(floor).and_then(|at| releases.get(at).map(|stone| (at, stone)));
                let Some((at, _)) = stone.filter(|(_, stone)| stone.release.train == release.release.train) else {
                    continue;
                };
                if stones.insert(floor.clone()) {
                    ahead.push(at);
                }
            }
        }
    }
    stones.into_iter().collect()
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
    /// What its owner wants: policies that concern it.
    pub policies: Vec<Policy>,
    /// Where it stands (ISO 3166-1, two capital letters), when its site says so.
    pub country: Option<String>,
    /// The time zone of its site, when its site says so.
    pub time_zone: Option<String>,
    /// Pools that would have it and are full.
    pub full_pools: Vec<FullPool>,
    /// Releases it tried and failed, with how often.
    pub failed: Vec<(ReleaseId, u32)>,
    /// When it was last heard of, if ever; [`Time::FOREVER`] of one that is asking now.
    pub last_seen: Option<Time>,
    /// The rollout whose offer it has and has not ended yet.
    pub under_way: Option<RolloutId>,
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

    /// The order at and below which no release is newer in any component: the oldest of what runs. 0 while any component of the
    /// product is missing or unknown.
    pub fn oldest_running(&self, product: &ProductView) -> i64 {
        product.components.iter().map(|component| self.running_order(product, component)).min().unwrap_or(0)
    }

    /// The order of what it runs in a component: by image digest, else by the version it claims, else 0, so that
    /// anything published is newer than the unknown.
    pub fn running_order(&self, product: &ProductView, component: &Component) -> i64 {
        let Some(installed) = self.installed(component) else { return 0 };
        product
            .release_of_image(component, installed.sha256)
            .or_else(|| product.release_of_version(&installed.version))
            .map_or(0, |release| release.release.order)
    }
}
