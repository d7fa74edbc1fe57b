//! Entitlement without the server: what a certificate says of a device, and what follows from it for a release whose signed
//! facts are at hand. It is decided by [`entitled`], the function that the server asks, over what the certificate knows.
//!
//! So both agree as long as nothing changed, but for what a certificate leaves to the server: embargoes, countries, withdrawals,
//! the owner's holds and pins, rollouts, and whatever is beyond the limits below. Where it leaves something out it says less.

use std::collections::BTreeMap;

use crate::cover::{Cover, CoverRule, Origin, Windows};
use crate::decide::{DeviceView, ProductView, ReleaseView, Verdict, entitled, is_out};
use crate::device::{DecoderProfile, Device, DeviceState, Installed};
use crate::id::{ArtifactId, CohortId, DeviceId, ProductId, ReleaseId};
use crate::product::{Channel, Product, Visibility};
use crate::release::{Artifact, Release, ReleaseKind};
use crate::text::{Code, Component, HardwareId, ProductName, Serial, TrainName, Version};
use crate::{Digest, Reason, TextSet, Time};

/// Contracts of one certificate: those that cover longest are kept.
pub const MAX_COVERS: usize = 16;
/// Windows of one contract: the newest are kept.
pub const MAX_WINDOWS: usize = 64;
/// Codes of one contract.
pub const MAX_CODES: usize = 64;
/// Versions of which it is said when they were published: the newest are kept.
pub const MAX_PUBLISHED: usize = 64;
/// Moments at which an answer may change that are looked at: each window of each contract has four.
const MAX_EDGES: usize = 4 * MAX_COVERS * MAX_WINDOWS;
/// Releases that a device looks at: the targets of one role.
pub const MAX_KNOWN: usize = 20_000;

/// What a certificate says, but for whom it is and how long it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// `Active`, `Replaced`, `Blocked` or `Retired`.
    pub state: DeviceState,
    /// When the device counts as replaced, when that is to come.
    pub replaced_at: Option<Time>,
    /// The last train that it was known to run.
    pub confirmed_train: Option<TrainName>,
    /// What covers it, sorted, in whole seconds.
    pub covers: Vec<Cover>,
    /// When versions were published here. Empty unless a cover looks at it.
    pub published: BTreeMap<Version, Time>,
}

/// What a device's certificate says. `None` for one that waits to be accepted: nothing is known of it yet.
pub fn certify(device: &DeviceView, product: &ProductView, now: Time) -> Option<Certified> {
    let state = match device.device.state_at(now) {
        DeviceState::Pending => return None,
        DeviceState::Active | DeviceState::RmaPending => DeviceState::Active,
        state @ (DeviceState::Replaced | DeviceState::Blocked | DeviceState::Retired) => state,
    };
    let in_service = matches!(state, DeviceState::Active | DeviceState::Replaced);
    let mut covers: Vec<Cover> = device.covers.iter().filter(|_| in_service).map(whole).collect();
    if covers.len() > MAX_COVERS {
        covers.sort_by_key(|cover| std::cmp::Reverse((cover.rule == CoverRule::Open, cover.windows.end())));
        covers.truncate(MAX_COVERS);
    }
    // In the order in which the server reads them: of two that refuse alike the first gives the reason.
    covers.sort_by(|one, other| one.contract.cmp(&other.contract));
    let published = if covers.iter().any(|cover| cover.rule == CoverRule::ReleaseDate) {
        let out = product.releases().iter().filter(|release| is_out(device, release, now)).take(MAX_PUBLISHED);
        out.map(|release| (release.release.version.clone(), whole_second(release.release.published_at))).collect()
    } else {
        BTreeMap::new()
    };
    Some(Certified {
        state,
        replaced_at: device.device.fence_at.filter(|_| state == DeviceState::Active).map(whole_second),
        confirmed_train: device.device.confirmed_train.clone().filter(|_| in_service),
        covers,
        published,
    })
}

fn whole_second(at: Time) -> Time {
    Time::from_ms(at.as_s() * 1000)
}

/// A cover in whole seconds, no moment longer than it was, and within the limits.
fn whole(cover: &Cover) -> Cover {
    let mut codes: BTreeMap<&Code, Channel> = BTreeMap::new();
    for (code, ceiling) in &cover.codes {
        let highest = codes.entry(code).or_insert(*ceiling);
        *highest = (*highest).max(*ceiling);
    }
    let mut windows: Vec<(Time, Time)> =
        cover.windows.iter().map(|(from, to)| (whole_second(from.plus_ms(999)), whole_second(to))).collect();
    windows.drain(..windows.len().saturating_sub(MAX_WINDOWS));
    Cover {
        codes: codes.into_iter().take(MAX_CODES).map(|(code, ceiling)| (code.clone(), ceiling)).collect(),
        windows: Windows::new(windows),
        // Offline nobody hears of a source: what counts on while one is silent is the server's to say.
        origin: Origin::default(),
        ..cover.clone()
    }
}

/// The signed facts of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFacts {
    /// The part of the device that it is for.
    pub component: Component,
    /// The version.
    pub version: Version,
    /// Its place among versions.
    pub order: i64,
    /// Why it exists.
    pub kind: ReleaseKind,
    /// The train.
    pub train: TrainName,
    /// When that became generally available.
    pub train_ga: Time,
    /// The least finished channel that it is meant for.
    pub channel: Channel,
    /// Codes that it requires.
    pub requires: TextSet,
    /// Hardware that it runs on.
    pub hw_ids: TextSet,
    /// SHA-256 of the image.
    pub sha256: Digest,
    /// The oldest version that it may be installed over.
    pub min_installed: Option<Version>,
}

/// A device that asks its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offline {
    device: DeviceView,
    product: ProductView,
    published: BTreeMap<Version, Time>,
}

impl Offline {
    /// From a certificate, what the device is and runs, and the images that signed documents tell of: the first [`MAX_KNOWN`].
    pub fn new(
        certified: Certified,
        (product, serial, hw_id): (&ProductName, &Serial, &HardwareId),
        installed: Vec<Installed>,
        images: Vec<ImageFacts>,
    ) -> Self {
        let Certified { state, replaced_at, confirmed_train, covers, published } = certified;
        let nobody = uuid::Uuid::nil();
        let device = Device {
            id: DeviceId(nobody),
            product_id: ProductId(nobody),
            serial: serial.clone(),
            hw_id: hw_id.clone(),
            mac: None,
            customer_id: None,
            site: None,
            tags: TextSet::default(),
            state,
            fence_at: replaced_at,
            public_key: None,
            epoch: 0,
            signing_epoch: 1,
            cohort_id: CohortId(nobody),
            channel: Channel::Beta,
            confirmed_train,
            attempt_seq: 0,
            profile: DecoderProfile::Raw,
            ram_budget: 0,
            scratch_budget: 0,
            patches_off: false,
            created_at: Time::EPOCH,
        };
        let device = DeviceView {
            device,
            customer: None,
            installed,
            covers,
            policies: vec![],
            country: None,
            time_zone: None,
            full_pools: vec![],
            failed: vec![],
            last_seen: None,
            under_way: None,
        };
        let product = ProductView::new(blank(product), releases(images, &published), vec![]);
        Self { device, product, published }
    }

    /// The versions of the signed documents, newest first.
    pub fn versions(&self) -> impl Iterator<Item = &Version> {
        self.product.releases().iter().map(|release| &release.release.version)
    }

    /// Whether a version may be installed at a moment by what the certificate says; `None` when no document tells of it.
    pub fn may_install(&self, version: &Version, at: Time) -> Option<Verdict> {
        let release = self.product.release_of_version(version)?;
        if !release.fits(&self.device) {
            return Some(Verdict { pass: false, reason: Reason::HardwareMismatch });
        }
        if self.is_dated(version) {
            return Some(entitled(&self.device, &self.product, release, at, &mut ()));
        }
        // Nobody says when it was published, so no cover that looks at that grants anything.
        let mut device = self.device.clone();
        for cover in device.covers.iter_mut().filter(|cover| cover.rule == CoverRule::ReleaseDate) {
            cover.codes.clear();
        }
        Some(entitled(&device, &self.product, release, at, &mut ()))
    }

    /// Whether it is known when a version was published, or no cover asks for it.
    pub fn is_dated(&self, version: &Version) -> bool {
        self.published.contains_key(version)
            || self.device.covers.iter().all(|cover| cover.rule != CoverRule::ReleaseDate)
    }

    /// The first moment after `at` and before `end` at which the answer about a version is another one.
    pub fn next_change(&self, version: &Version, at: Time, end: Time) -> Option<Time> {
        let now = self.may_install(version, at)?.pass;
        let train_ga = self.product.release_of_version(version)?.train_ga;
        let mut from = at;
        for _ in 0..MAX_EDGES {
            let edges = self.device.covers.iter().flat_map(|cover| cover.boundaries(train_ga));
            let next = edges.chain(self.device.device.fence_at).filter(|&edge| edge > from).min();
            from = next.filter(|&edge| edge < end)?;
            if self.may_install(version, from)?.pass != now {
                return Some(from);
            }
        }
        None
    }
}

fn blank(name: &ProductName) -> Product {
    Product {
        id: ProductId(uuid::Uuid::nil()),
        name: name.clone(),
        title: String::new(),
        // Which family a plan is for was decided when the certificate was made.
        family: name.into(),
        pid: None,
        visibility: Visibility::Public,
        created_at: Time::EPOCH,
    }
}

/// Releases made of their images. What every image requires is the release's, the rest stays with its image.
fn releases(images: Vec<ImageFacts>, published: &BTreeMap<Version, Time>) -> Vec<ReleaseView> {
    let mut versions: BTreeMap<Version, Vec<ImageFacts>> = BTreeMap::new();
    for image in images.into_iter().take(MAX_KNOWN) {
        versions.entry(image.version.clone()).or_default().push(image);
    }
    let orders: BTreeMap<Version, i64> = versions
        .iter()
        .filter_map(|(version, images)| images.first().map(|image| (version.clone(), image.order)))
        .collect();
    let nobody = uuid::Uuid::nil();
    let mut made = Vec::new();
    for (version, images) in versions {
        let Some(first) = images.first() else { continue };
        let requires = TextSet::common(images.iter().map(|image| &image.requires));
        let release = Release {
            id: ReleaseId(nobody),
            product_id: ProductId(nobody),
            order: first.order,
            kind: first.kind,
            train: first.train.clone(),
            channel: first.channel,
            advisories: TextSet::default(),
            notes_header: String::new(),
            notes_body: String::new(),
            published_at: published.get(&version).copied().unwrap_or(Time::EPOCH),
            withdrawn_at: None,
            signing_epoch: 1,
            requires: requires.clone(),
            version,
        };
        let artifact = |image: &ImageFacts| Artifact {
            id: ArtifactId(nobody),
            release_id: ReleaseId(nobody),
            component: image.component.clone(),
            hw_ids: image.hw_ids.clone(),
            requires: image.requires.iter().filter(|code| !requires.contains(code)).collect(),
            path: String::new(),
            sha256: image.sha256,
            length: 0,
            security_counter: 0,
            min_installed_order: image.min_installed.as_ref().and_then(|floor| orders.get(floor).copied()),
            min_installed: image.min_installed.clone(),
        };
        let artifacts = images.iter().map(artifact).collect();
        made.push(ReleaseView::new(release, artifacts, first.train_ga));
    }
    made
}
