//! A product with thousands of releases, a rollout for each of the newer ones, and a device with a contract: what the
//! decision goes through at every poll.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use jiff::SignedDuration;
use sluice_catalog::cover::{Cover, CoverRule, Origin, Windows};
use sluice_catalog::decide::{DeviceView, ProductView, ReleaseView};
use sluice_catalog::device::{DecoderProfile, Device, DeviceState, Installed};
use sluice_catalog::id::{ArtifactId, CohortId, DeviceId, ProductId, ReleaseId, RolloutId};
use sluice_catalog::product::{Channel, Product, Visibility};
use sluice_catalog::release::{Artifact, Release, ReleaseKind};
use sluice_catalog::rollout::{Rollout, RolloutState, Rules, Selector, Stage, Stages};
use sluice_catalog::{Digest, TextSet, Time};
use sluice_signer::{
    Delta, DirectorDocument, DirectorTarget, DirectorTrust, FullEncoding, FullImage, Limits, OnlineKeys, SigningKey,
};

use crate::documents;

/// Releases of the product: ten years of one release every two days.
pub const RELEASES: u32 = 2_000;
/// Releases with a rollout, the newest ones.
pub const ROLLOUTS: u32 = 50;
/// Releases of one train.
const PER_TRAIN: u32 = 50;
/// Every so many releases one closes a vulnerability.
const SECURITY_EVERY: u32 = 10;
const HARDWARE: &str = "cam-r3";
const CODE: &str = "FW.CAM.MAJOR";

/// The moment at which everything is decided: after all releases.
pub fn now() -> Time {
    day(RELEASES * 2 + 1)
}

fn day(day: u32) -> Time {
    Time::EPOCH.plus_days(i64::from(day))
}

/// Ten bytes that make an id of a number.
fn number(n: u32) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[6..].copy_from_slice(&n.to_be_bytes());
    bytes
}

fn digest(order: u32) -> Digest {
    Digest::of(&order.to_be_bytes())
}

fn train(order: u32) -> String {
    format!("{}.0", order / PER_TRAIN)
}

fn release_id(order: u32) -> ReleaseId {
    ReleaseId::new(day(order * 2), number(RELEASES + order))
}

fn release(order: u32) -> Result<ReleaseView> {
    release_of(1, order)
}

fn release_of(product: u32, order: u32) -> Result<ReleaseView> {
    let id = ReleaseId::new(day(order * 2), number(product * RELEASES + order));
    let security = order.is_multiple_of(SECURITY_EVERY);
    let hardware: TextSet = ["cam-r2", HARDWARE, "cam-r4"].into_iter().collect();
    Ok(ReleaseView::new(
        Release {
            id,
            product_id: ProductId::new(day(0), number(product)),
            version: format!("{}.{}", order / PER_TRAIN, order % PER_TRAIN).parse()?,
            order: i64::from(order),
            kind: if security { ReleaseKind::Security } else { ReleaseKind::Feature },
            train: train(order).parse()?,
            requires: std::iter::once(CODE).collect(),
            channel: Channel::Stable,
            advisories: TextSet::default(),
            notes_header: String::new(),
            notes_body: String::new(),
            published_at: day(order * 2),
            withdrawn_at: None,
            signing_epoch: 1,
        },
        vec![Artifact {
            id: ArtifactId::new(day(order * 2), number(order)),
            release_id: id,
            component: "main".parse()?,
            hw_ids: hardware,
            requires: TextSet::default(),
            path: format!("bench-cam/{order}/main.bin"),
            sha256: if product == 1 { digest(order) } else { digest(product * RELEASES + order) },
            length: 1 << 20,
            security_counter: 1,
            min_installed: None,
            min_installed_order: None,
        }],
        day(order / PER_TRAIN * PER_TRAIN * 2),
    ))
}

/// The product: releases newest first, rollouts of the newest open to so many percent.
pub fn product(percent: u8) -> Result<ProductView> {
    let rollout = |order: u32| -> Result<Rollout> {
        Ok(Rollout {
            id: RolloutId::new(day(order * 2), number(order)),
            release_id: release_id(order),
            name: format!("rollout-{order}").parse()?,
            author: String::new(),
            state: RolloutState::Running,
            salt: format!("{order:016x}"),
            weight: 0,
            stages: Stages(vec![Stage::of(percent)]),
            stage: 0,
            opened_at: day(order * 2),
            stage_since: day(order * 2),
            reached: 0,
            ran_ms: 0,
            judged_at: None,
            excluded: TextSet::default(),
            rules: Rules::default(),
            selector: Selector::default(),
            created_at: day(order * 2),
        })
    };
    let product = Product {
        id: ProductId::new(day(0), number(1)),
        name: "bench-cam".parse()?,
        title: "Camera".into(),
        family: "cameras".parse()?,
        pid: None,
        visibility: Visibility::Gated,
        created_at: day(0),
    };
    let releases = (1..=RELEASES).rev().map(release).collect::<Result<_>>()?;
    let rollouts = (RELEASES - ROLLOUTS + 1..=RELEASES).map(rollout).collect::<Result<_>>()?;
    Ok(ProductView::new(product, releases, rollouts))
}

/// One of many products, with so many releases and a rollout of the newest to everyone.
pub fn product_of(product: u32, releases: u32) -> Result<ProductView> {
    // The first number is that of the long product above.
    let product = product + 2;
    let of_all = self::product(100)?;
    // Not from one on: the newest shall be no security fix, which needs no cover.
    let views = (2..=releases + 1).rev().map(|order| release_of(product, order)).collect::<Result<Vec<_>>>()?;
    let newest = views.first().context("a product without releases")?.release.id;
    let rollout = of_all.rollouts.first().context("a product without rollouts")?;
    let rollout = Rollout { release_id: newest, ..rollout.clone() };
    let line = Product {
        id: ProductId::new(day(0), number(product)),
        name: format!("bench-{product}").parse()?,
        ..of_all.product.clone()
    };
    Ok(ProductView::new(line, views, vec![rollout]))
}

/// A device of such a product. A fourth of the fleet runs the newest release, a fourth is one behind and covered, a fourth one behind
/// and never covered, and a fourth far behind with two contracts of which one has lapsed.
pub fn device_of(product: u32, device: u32, releases: u32) -> Result<DeviceView> {
    let kind = device % 4;
    let runs = match kind {
        0 => releases + 1,
        1 | 2 => releases.max(2),
        _ => 2,
    };
    let mut view = self::device(runs)?;
    view.device.id = DeviceId::new(day(1), number(device));
    view.device.product_id = ProductId::new(day(0), number(product + 2));
    view.device.serial = format!("SN-{device:07}").parse()?;
    view.device.cohort_id = CohortId::new(day(1), number(device));
    if let Some(installed) = view.installed.first_mut() {
        installed.sha256 = digest((product + 2) * RELEASES + runs);
    }
    match kind {
        2 => view.covers.clear(),
        3 => {
            let lapsed = Cover { windows: Windows::new(vec![(day(0), day(1))]), ..view.covers[0].clone() };
            view.covers.insert(0, lapsed);
        }
        _ => {}
    }
    Ok(view)
}

/// A device that runs the release of this order, under a contract that covers everything until then.
pub fn device(runs: u32) -> Result<DeviceView> {
    Ok(DeviceView {
        device: Device {
            id: DeviceId::new(day(0), number(7)),
            product_id: ProductId::new(day(0), number(1)),
            serial: "SN7".parse()?,
            hw_id: HARDWARE.parse()?,
            mac: None,
            customer_id: None,
            site: None,
            tags: TextSet::default(),
            state: DeviceState::Active,
            fence_at: None,
            public_key: None,
            epoch: 1,
            signing_epoch: 1,
            cohort_id: CohortId::new(day(0), number(7)),
            channel: Channel::Stable,
            confirmed_train: Some(train(runs).parse()?),
            attempt_seq: 0,
            profile: DecoderProfile::Default,
            ram_budget: 64 << 20,
            scratch_budget: 0,
            patches_off: false,
            created_at: day(0),
        },
        customer: None,
        installed: vec![Installed {
            component: "main".parse()?,
            version: format!("{}.{}", runs / PER_TRAIN, runs % PER_TRAIN).parse()?,
            sha256: digest(runs),
            security_counter: 1,
        }],
        covers: vec![Cover {
            contract: "C-1".parse()?,
            plan: "plus".parse()?,
            rule: CoverRule::TrainGa,
            grace_days: 14,
            codes: vec![(CODE.parse()?, Channel::Stable)],
            windows: Windows::new(vec![(day(0), day(RELEASES * 2 + 400))]),
            origin: Origin::default(),
        }],
        policies: vec![],
        country: None,
        time_zone: None,
        full_pools: Vec::new(),
        failed: vec![],
        last_seen: None,
        under_way: None,
    })
}

/// A director's offer with a patch, as a poll answers it, with the key that signs it and the root that a device trusts.
pub struct Offer {
    /// The document.
    pub document: DirectorDocument,
    /// Key D.
    pub key: SigningKey,
    /// What a device was provisioned with.
    pub trust: DirectorTrust,
    /// The moment of the answer.
    pub now: jiff::Timestamp,
}

/// Makes the offer.
pub fn offer() -> Result<Offer> {
    let now: jiff::Timestamp = "2026-06-01T12:00:00Z".parse()?;
    let key = documents::key("director")?;
    let online = OnlineKeys {
        snapshot: documents::key("snapshot")?.public().clone(),
        timestamp: documents::key("timestamp")?.public().clone(),
        director: key.public().clone(),
        entitlement: documents::key("entitlement")?.public().clone(),
        next: std::collections::BTreeMap::new(),
    };
    let product = documents::Product { name: "bench-cam".to_owned(), hw_id: HARDWARE.to_owned(), images: Vec::new() };
    let signed = documents::sign(&product, &online, now)?;
    let trust = DirectorTrust::from_root(&signed.director_root, &Limits::default())?;
    let target = DirectorTarget {
        path: "bench-cam/39.49/main.bin".to_owned(),
        length: 1 << 20,
        sha256: digest(1).0,
        hw_id: HARDWARE.to_owned(),
        delta: Some(Delta {
            from_sha256: digest(2).0,
            format: "sluice-1".to_owned(),
            length: 40_960,
            sha256: digest(3).0,
            head_length: 200,
            head_sha256: digest(4).0,
            ram: 1 << 20,
            scratch: 0,
        }),
        full: FullImage { encoding: FullEncoding::Zstd, length: 400_000, sha256: digest(5).0 },
    };
    let document = DirectorDocument {
        device_id: DeviceId::new(day(0), number(7)).to_string(),
        nonce: Some("0".repeat(32)),
        server_time: now,
        version: u64::try_from(now.as_second()).context("a time after 1970")?,
        expires: now + SignedDuration::from_mins(60),
        rollout_id: Some(RolloutId::new(day(0), number(1)).to_string()),
        reason: "COVERED_TRAIN_GA".to_owned(),
        targets: BTreeMap::from([(target.path.clone(), target)]),
        repo_id: trust.root().repo_id.clone(),
    };
    Ok(Offer { document, key, trust, now })
}
