//! `entitlement`: what the device may install by the certificate that it keeps, without the server. It tells and changes nothing.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use sluice_catalog::cover::{Cover, CoverRule, Origin, Windows};
use sluice_catalog::device::{DeviceState, Installed as Runs};
use sluice_catalog::offline::{Certified, ImageFacts, Offline};
use sluice_catalog::product::Channel;
use sluice_catalog::text::{Component, TrainName, Version};
use sluice_catalog::{Digest, Reason, TextSet, Time};
use sluice_signer::limits::NEWEST_EPOCH;
use sluice_signer::{
    Certificate, CertifiedState, DirectorTrust, Limits, ReleaseCustom, RepositoryState, RepositoryTarget,
    TrustedRepository, VerifyError,
};

use crate::agent::{clock, damaged, read_key};
use crate::boot::BootControl;
use crate::config::Config;
use crate::entitlement::Kept;
use crate::error::AgentError;
use crate::installed::Installed;
use crate::poll::DirectorState;
use crate::state::{StateDir, read_bounded, read_json};

/// What the certificate says, and what follows from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entitlement {
    /// Whether there is a certificate that holds now.
    pub holds: bool,
    /// Why none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// What it says, also when it holds no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Says>,
    /// Versions of which signed documents are at hand, newest first; empty when no certificate holds.
    pub versions: Vec<Allowed>,
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Says {
    /// Where the device stood.
    pub state: CertifiedState,
    /// When it was signed.
    pub issued: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// From then on it counts as replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced_at: Option<Timestamp>,
    /// Security fixes of this train need no cover.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirmed_train: Option<String>,
    /// What covers it.
    pub contracts: Vec<Covers>,
}

/// One contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Covers {
    /// Its number.
    pub contract: String,
    /// Its plan.
    pub plan: String,
    /// How the plan decides.
    pub rule: String,
    /// Days of grace after each window.
    pub grace_days: u64,
    /// Codes with the channel up to which each is granted.
    pub codes: BTreeMap<String, String>,
    /// Windows: covered from the first moment until the second.
    pub windows: Vec<(Timestamp, Timestamp)>,
}

/// Whether one version may be installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Allowed {
    /// The version.
    pub version: Version,
    /// Whether it may.
    pub allowed: bool,
    /// Why.
    pub reason: Reason,
    /// The same in words.
    pub sentence: &'static str,
    /// When the answer becomes another one while the certificate lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// Whether the moment of publication, which a contract asks for, is unknown here.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub undated: bool,
}

/// Reads what is kept. With a document from elsewhere, such as a memory stick, its versions are judged instead of the kept ones; the
/// holders of the product must have signed it.
pub fn entitlement(
    state: &StateDir,
    boot: &dyn BootControl,
    system: Timestamp,
    document: Option<&Path>,
) -> Result<Entitlement, AgentError> {
    entitlement_knowing(NEWEST_EPOCH, state, boot, system, document)
}

/// The same as a program whose verifier knows this signing epoch.
pub fn entitlement_knowing(
    newest_epoch: u64,
    state: &StateDir,
    boot: &dyn BootControl,
    system: Timestamp,
    document: Option<&Path>,
) -> Result<Entitlement, AgentError> {
    let (config, limits) = (Config::load(state)?, Limits { newest_epoch, ..Limits::default() });
    let missing = || AgentError::NotProvisioned { path: state.root().to_owned() };
    let director_path = state.director_metadata();
    let kept: DirectorState = read_json(&director_path)?.ok_or_else(missing)?;
    let director = DirectorTrust::from_root(kept.root.as_bytes(), &limits).map_err(damaged(&director_path))?;
    let image_path = state.image_metadata();
    let image: RepositoryState = read_json(&image_path)?.ok_or_else(missing)?;
    let repository = TrustedRepository::from_state(&image, &limits).map_err(damaged(&image_path))?;
    let now = clock(system, kept.attested_time, &director, &repository);
    let images = match document {
        Some(path) => from_file(&repository, config.product.as_str(), path, limits.targets_bytes)?,
        None => repository.images_of(config.product.as_str()),
    };

    let key = read_key(state)?.public().ed25519_bytes().map(hex::encode).unwrap_or_default();
    let none = |trouble: String, certificate| Entitlement {
        holds: false,
        trouble: Some(trouble),
        certificate,
        versions: Vec::new(),
    };
    let Some(stored) = Kept::load(state)? else {
        return Ok(none("no certificate is kept; the agent fetches one when it polls".to_owned(), None));
    };
    let certificate = match director.signed_certificate(stored.certificate.as_bytes()) {
        Ok(certificate) => certificate,
        Err(error) => return Ok(none(format!("{error}; the agent fetches another when it polls"), None)),
    };
    let own = (config.product.as_str(), config.serial.as_str(), key.as_str());
    let bound = (certificate.product.as_str(), certificate.serial.as_str(), certificate.device_key.as_str());
    if own != bound {
        return Ok(none("the certificate is another device's".to_owned(), None));
    }
    let says = Some(says(&certificate));
    if let Err(error) = director.check_root_expiry(now) {
        return Ok(none(error.to_string(), says));
    }
    if certificate.expires <= now {
        let expired = VerifyError::Expired { role: "entitlement".to_owned(), expires: certificate.expires, now };
        return Ok(none(format!("{expired}; the agent fetches another when it polls"), says));
    }
    let facts = images.values().filter_map(|(target, custom)| facts(target, custom)).collect();
    let who = (&config.product, &config.serial, &config.hw_id);
    let offline = Offline::new(certified(&certificate), who, runs(state, boot)?, facts);
    Ok(Entitlement { holds: true, trouble: None, certificate: says, versions: judged(&offline, &certificate, now) })
}

fn from_file(
    repository: &TrustedRepository,
    product: &str,
    path: &Path,
    limit: u64,
) -> Result<sluice_signer::known::Images, AgentError> {
    let no_such = || AgentError::Setting { field: "--document", reason: format!("{}: no such file", path.display()) };
    let bytes = read_bounded(path, limit)?.ok_or_else(no_such)?;
    let refused = |source| AgentError::Refused { what: "the document", source: Box::new(source) };
    repository.images_in(product, &bytes).map_err(refused)
}

fn says(certificate: &Certificate) -> Says {
    let covers = certificate.covers.iter().map(|cover| Covers {
        contract: cover.contract.clone(),
        plan: cover.plan.clone(),
        rule: cover.rule.clone(),
        grace_days: cover.grace_days,
        codes: cover.codes.clone(),
        windows: cover.windows.clone(),
    });
    Says {
        state: certificate.state,
        issued: certificate.issued,
        expires: certificate.expires,
        replaced_at: certificate.replaced_at,
        confirmed_train: certificate.confirmed_train.clone(),
        contracts: covers.collect(),
    }
}

fn time(at: Timestamp) -> Time {
    Time::from_ms(at.as_millisecond())
}

/// What is decided by. A rule, a channel or a name that this program does not know grants nothing.
pub fn certified(certificate: &Certificate) -> Certified {
    let cover = |cover: &sluice_signer::CertifiedCover| {
        let windows = cover.windows.iter().map(|&(from, to)| (time(from), time(to))).collect();
        Some(Cover {
            contract: cover.contract.parse().ok()?,
            plan: cover.plan.parse().ok()?,
            rule: cover.rule.parse::<CoverRule>().ok()?,
            grace_days: i32::try_from(cover.grace_days).ok()?,
            codes: cover
                .codes
                .iter()
                .filter_map(|(code, channel)| Some((code.parse().ok()?, channel.parse::<Channel>().ok()?)))
                .collect(),
            windows: Windows::new(windows),
            origin: Origin::default(),
        })
    };
    let published = certificate.published.iter();
    Certified {
        state: match certificate.state {
            CertifiedState::Active => DeviceState::Active,
            CertifiedState::Replaced => DeviceState::Replaced,
            CertifiedState::Blocked => DeviceState::Blocked,
            CertifiedState::Retired => DeviceState::Retired,
        },
        replaced_at: certificate.replaced_at.map(time),
        confirmed_train: certificate.confirmed_train.as_ref().and_then(|train| train.parse::<TrainName>().ok()),
        covers: certificate.covers.iter().filter_map(cover).collect(),
        published: published.filter_map(|(version, at)| Some((version.parse().ok()?, time(*at)))).collect(),
    }
}

/// The signed facts of an image; `None` for one with names that the server does not take either.
fn facts(target: &RepositoryTarget, custom: &ReleaseCustom) -> Option<ImageFacts> {
    Some(ImageFacts {
        component: custom.component.parse().ok()?,
        version: custom.version.parse().ok()?,
        order: i64::try_from(custom.order).ok()?,
        kind: custom.kind.to_string().parse().ok()?,
        train: custom.train.parse().ok()?,
        train_ga: Time::from_date(&custom.train_ga.to_string()).ok()?,
        channel: Channel::of_all(custom.channels.iter().map(String::as_str)).ok()?,
        requires: custom.requires.iter().collect::<TextSet>(),
        hw_ids: custom.hw_ids.iter().collect::<TextSet>(),
        sha256: Digest(target.sha256),
        min_installed: match &custom.min_installed {
            Some(version) => Some(version.parse().ok()?),
            None => None,
        },
    })
}

fn runs(state: &StateDir, boot: &dyn BootControl) -> Result<Vec<Runs>, AgentError> {
    let mut runs = Vec::new();
    for (component, slots) in Installed::load(state)?.components {
        let slot = boot.active(&component).map_err(AgentError::io(&state.slots()))?;
        let Some(image) = slots.slot(slot) else { continue };
        runs.push(Runs {
            component: Component::clone(&component),
            version: image.version.clone(),
            sha256: image.sha256,
            security_counter: i64::from(slots.security_floor),
        });
    }
    Ok(runs)
}

fn judged(offline: &Offline, certificate: &Certificate, now: Timestamp) -> Vec<Allowed> {
    let (now, end) = (time(now), time(certificate.expires));
    let one = |version: &Version| {
        let verdict = offline.may_install(version, now)?;
        Some(Allowed {
            version: version.clone(),
            allowed: verdict.pass,
            reason: verdict.reason,
            sentence: verdict.reason.sentence(),
            until: offline.next_change(version, now, end),
            undated: !verdict.pass && !offline.is_dated(version),
        })
    };
    offline.versions().filter_map(one).collect()
}
