//! The answer to "why?", at any moment: the outcome, every gate's answer, and what would change it.

use serde::{Deserialize, Serialize};

use super::trace::{Evidence, Remedy, Step};
use super::{
    DeviceView, Gate, Outcome, ProductView, ReleaseView, decide, entitled, epochs, next_change, outcome, texts,
};
use crate::pool::FullPool;
use crate::text::{Code, ContractNumber, ProductName, TrainName, Version};
use crate::{Reason, Time};

/// The newest version a device is entitled to, whether it runs it, and whether or not a rollout has reached it.
pub fn newest_entitled<'a>(device: &DeviceView, product: &'a ProductView, now: Time) -> Option<&'a ReleaseView> {
    product.releases().iter().find(|release| entitled(device, product, release, now, &mut ()).pass)
}

/// The answer to "why?".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Why {
    /// The product.
    pub product: ProductName,
    /// The moment asked about.
    pub at: Time,
    /// By what was known then; what is known now, when absent.
    #[serde(default)]
    pub known_at: Option<Time>,
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
    /// Its train.
    #[serde(default)]
    pub newest_train: Option<TrainName>,
    /// When that train's support ends or ended, if it was said: from then on no further fixes of it are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_support_end: Option<Time>,
    /// When the answer changes by itself, if it does.
    pub changes_at: Option<Time>,
    /// What would let the device have the version that the reason is about.
    #[serde(default)]
    pub remedies: Vec<Remedy>,
    /// The same in words.
    #[serde(default)]
    pub advice: Vec<String>,
    /// Contracts that cover the device at that moment, when there is more than one: the better one counts.
    #[serde(default)]
    pub overlaps: Vec<ContractNumber>,
    /// Of a device whose verifier is older than the documents of what it is on the way to: the versions that it installs one after
    /// the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<Version>,
    /// Every gate's answer, newest version first.
    pub steps: Vec<Step>,
}

/// Explains the decision for a device at a moment; about one version only, when one is named. The views hold what was known at
/// the time that is asked about.
pub fn why(device: &DeviceView, product: &ProductView, only: Option<&Version>, at: Time) -> Why {
    let mut steps = Vec::new();
    decide(device, product, at, &mut steps);
    if let Some(only) = only {
        steps.retain(|step| step.version == *only);
    }
    let release = only.and_then(|only| product.release_of_version(only));
    // The same without a trace, which costs nothing to ask again at every boundary ahead.
    let ask = |moment| outcome(device, product, release, moment);
    let is_asked = |about: &ReleaseView| only.is_none_or(|only| about.release.version == *only);
    let offers = |said: &Outcome<'_>| said.offered && said.about.is_some_and(is_asked);
    let said = ask(at);
    let (offered, reason) = (offers(&said), said.reason);
    let version = only.or_else(|| said.about.map(|about| &about.release.version)).cloned();
    let newest = newest_entitled(device, product, at);
    let changes_at = next_change(device, product, at, Time::FOREVER, ask);
    let denying = version.as_ref().filter(|_| !offered).and_then(|about| {
        let mut of_version = steps.iter().filter(|step| step.version == *about && !step.pass);
        of_version.rfind(|step| step.reason == reason)
    });
    let mut remedies = denying.map(|step| remedies(device, product, step)).unwrap_or_default();
    if denying
        .is_some_and(|step| matches!(step.gate, Gate::Grant | Gate::Cover) || step.reason == Reason::TrainUnproven)
    {
        let pool = |pool: &FullPool| Remedy::Pool {
            contract: pool.contract.clone(),
            place: pool.place.clone(),
            quantity: pool.quantity,
        };
        remedies.extend(device.full_pools.iter().map(pool));
    }
    if let (Some(until), false) = (changes_at, offered)
        && offers(&ask(until))
    {
        remedies.insert(0, Remedy::Wait { until });
    }
    remedies.dedup();
    let covering = device.covers.iter().filter(|cover| cover.windows.at(at).is_some());
    let overlaps: Vec<ContractNumber> = covering.map(|cover| cover.contract.clone()).collect();
    Why {
        product: product.product.name.clone(),
        at,
        known_at: None,
        offered,
        version,
        reason,
        sentence: reason.sentence().to_owned(),
        newest_entitled: newest.map(|release| release.release.version.clone()),
        newest_train: newest.map(|release| release.release.train.clone()),
        newest_support_end: newest.and_then(|release| release.support_end),
        changes_at,
        advice: remedies.iter().map(texts::remedy).collect(),
        remedies,
        overlaps: if overlaps.len() > 1 { overlaps } else { Vec::new() },
        path: epochs::path(device, product, at),
        steps,
    }
}

/// What would make the gate that said no say yes.
fn remedies(device: &DeviceView, product: &ProductView, step: &Step) -> Vec<Remedy> {
    let required = || {
        let release = product.release_of_version(&step.version);
        release.map(|release| release.release.requires.iter().map(str::to_owned).collect()).unwrap_or_default()
    };
    let contract = match &step.evidence {
        Evidence::Cover { contract, code, reference, .. } => Some((contract.clone(), code, *reference)),
        _ => None,
    };
    match (step.reason, contract) {
        (Reason::NoContract | Reason::TrainUnproven, _) => vec![Remedy::Cover { codes: required() }],
        (Reason::CodeNotGranted | Reason::ChannelCeiling, Some((contract, code, _))) => match code.parse::<Code>() {
            Ok(code) => vec![Remedy::Plan { contract, code }],
            Err(_) => Vec::new(),
        },
        (Reason::TrainGaNotCovered | Reason::ReleaseDateNotCovered, Some((contract, _, at))) => {
            vec![Remedy::CoverAt { contract, at }]
        }
        (Reason::NotLive | Reason::FallbackNotEarned, Some((contract, ..))) => vec![Remedy::Renew { contract }],
        (Reason::NotPublished | Reason::Embargoed, _) => match step.evidence {
            Evidence::Moment { at } => vec![Remedy::Wait { until: at }],
            _ => Vec::new(),
        },
        (Reason::HeldByPolicy | Reason::PinnedByPolicy, _) => match &step.evidence {
            Evidence::Policy { scope, owner, .. } => {
                vec![Remedy::ChangePolicy { scope: *scope, owner: owner.clone() }]
            }
            _ => Vec::new(),
        },
        (Reason::FloorNotMet, _) => match &step.evidence {
            Evidence::Floor { version } => vec![Remedy::InstallFirst { version: version.clone() }],
            _ => Vec::new(),
        },
        (Reason::EpochNotReached, _) => match &step.evidence {
            Evidence::Epoch { first: Some(version), .. } => vec![Remedy::InstallFirst { version: version.clone() }],
            _ => Vec::new(),
        },
        (Reason::ChannelNotFollowed, _) => vec![Remedy::FollowChannel],
        (Reason::DevicePending | Reason::DeviceBlocked | Reason::DeviceRetired, _) => vec![Remedy::DeviceState],
        (Reason::AttemptFailed, _) => vec![Remedy::Failure],
        _ if step.gate == Gate::Rollout => vec![Remedy::Rollout],
        _ if device.covers.is_empty() && step.gate == Gate::Grant => vec![Remedy::Cover { codes: required() }],
        _ => Vec::new(),
    }
}
