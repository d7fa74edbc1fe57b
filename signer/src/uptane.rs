//! Uptane's full verification of a director and an image repository, whoever runs them: what the director wants each ECU of a
//! vehicle to install, and whether the image repository says the same (Uptane standard 2.1, section 5.4.4.2).
//!
//! Devices of ours compare more than this, by [`agree`](mod@crate::agree); this is for the repositories of others.

use crate::error::{VerifyError, quote};
use crate::fields::Fields;
use crate::json::Json;
use crate::repository::Found;
use crate::targets::{RepositoryTarget, TargetsMetadata};
use std::collections::{BTreeMap, BTreeSet};

/// What the director wants on one ECU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The ECU's id.
    pub ecu: String,
    /// The hardware that the director takes it for.
    pub hw_id: String,
    /// The image, as the director describes it.
    pub target: RepositoryTarget,
    /// The release counter that the director gives, if it does.
    pub counter: Option<u64>,
}

/// Why the two repositories, or the director and the vehicle, do not agree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UptaneError {
    /// A field that says for whom an image is has the wrong shape.
    #[error(transparent)]
    Field(#[from] VerifyError),
    /// A director must not delegate: its targets are for one vehicle.
    #[error("director: its targets delegate to {role}; a director must not delegate")]
    Delegates {
        /// The first delegated role.
        role: String,
    },
    /// An image for nobody.
    #[error("director: {path} is for no ECU")]
    NoEcu {
        /// The target path.
        path: String,
    },
    /// Two images for one ECU.
    #[error("director: ECU {ecu} is listed twice, for {first} and for {second}")]
    EcuTwice {
        /// The ECU's id.
        ecu: String,
        /// The path of one image.
        first: String,
        /// The path of the other.
        second: String,
    },
    /// The vehicle has no such ECU.
    #[error("director: {path} is for ECU {ecu}, which this vehicle does not have")]
    UnknownEcu {
        /// The target path.
        path: String,
        /// The ECU's id, shortened.
        ecu: String,
    },
    /// The director takes the ECU for other hardware.
    #[error("director: {path} is for hardware {found}, ECU {ecu} is {expected}")]
    DirectorHardware {
        /// The target path.
        path: String,
        /// The ECU's id.
        ecu: String,
        /// Its hardware.
        expected: String,
        /// The hardware that the director gave, shortened.
        found: String,
    },
    /// The image does not run on the hardware.
    #[error("image repository: {path} is for hardware {found}, ECU {ecu} is {expected}")]
    ImageHardware {
        /// The target path.
        path: String,
        /// The ECU's id.
        ecu: String,
        /// Its hardware.
        expected: String,
        /// The signed hardware ids, joined by commas and shortened.
        found: String,
    },
    /// The image repository does not list the target.
    #[error("image repository: no role that may speak for it lists {path}, which the director wants on ECU {ecu}")]
    NotInImageRepository {
        /// The target path.
        path: String,
        /// The ECU's id.
        ecu: String,
    },
    /// The two repositories give different lengths.
    #[error("{path}: director says {director} bytes, image repository {image}")]
    Length {
        /// The target path.
        path: String,
        /// Length according to the director.
        director: u64,
        /// Length according to the image repository.
        image: u64,
    },
    /// The two repositories give different digests.
    #[error("{path}: director says SHA-256 {director}, image repository {image}")]
    Hash {
        /// The target path.
        path: String,
        /// Digest according to the director.
        director: String,
        /// Digest according to the image repository.
        image: String,
    },
    /// The two repositories give different release counters.
    #[error("{path}: director says release counter {director}, image repository {image}")]
    Counter {
        /// The target path.
        path: String,
        /// The counter according to the director.
        director: u64,
        /// The counter according to the image repository, or `none`.
        image: String,
    },
    /// The director wants an ECU to go back.
    #[error("{path}: release counter {found} is lower than {trusted}, which ECU {ecu} was given before")]
    CounterRollback {
        /// The target path.
        path: String,
        /// The ECU's id.
        ecu: String,
        /// The counter given before.
        trusted: u64,
        /// The counter found.
        found: u64,
    },
}

/// What the director wants on each ECU of the vehicle, whose hardware `vehicle` has by ECU id. `before` is the director's
/// document that was trusted before this one.
pub fn assignments(
    director: &TargetsMetadata,
    vehicle: &BTreeMap<String, String>,
    before: Option<&TargetsMetadata>,
) -> Result<BTreeMap<String, Assignment>, UptaneError> {
    if let Some(delegation) = director.delegations.first() {
        return Err(UptaneError::Delegates { role: quote(&delegation.name) });
    }
    let mut assignments: BTreeMap<String, Assignment> = BTreeMap::new();
    for target in director.targets.values() {
        let path = || target.path.clone();
        let ecus = ecus(target)?;
        if ecus.is_empty() {
            return Err(UptaneError::NoEcu { path: path() });
        }
        for assignment in ecus {
            let Some(expected) = vehicle.get(&assignment.ecu) else {
                return Err(UptaneError::UnknownEcu { path: path(), ecu: quote(&assignment.ecu) });
            };
            if *expected != assignment.hw_id {
                return Err(UptaneError::DirectorHardware {
                    path: path(),
                    ecu: assignment.ecu,
                    expected: expected.clone(),
                    found: quote(&assignment.hw_id),
                });
            }
            if let Some(other) = assignments.get(&assignment.ecu) {
                let (first, second) = (other.target.path.clone(), path());
                return Err(UptaneError::EcuTwice { ecu: assignment.ecu, first, second });
            }
            assignments.insert(assignment.ecu.clone(), assignment);
        }
    }
    if let Some(before) = before {
        check_counters(before, &assignments)?;
    }
    Ok(assignments)
}

fn check_counters(before: &TargetsMetadata, now: &BTreeMap<String, Assignment>) -> Result<(), UptaneError> {
    // What was trusted before and cannot be read now says nothing.
    for old in before.targets.values().filter_map(|target| ecus(target).ok()).flatten() {
        let Some(new) = now.get(&old.ecu) else { continue };
        if let (Some(trusted), Some(found)) = (old.counter, new.counter)
            && found < trusted
        {
            let (path, ecu) = (new.target.path.clone(), new.ecu.clone());
            return Err(UptaneError::CounterRollback { path, ecu, trusted, found });
        }
    }
    Ok(())
}

/// Whether the image repository says the same of an image as the director does; `None` when no role lists it.
pub fn confirm(assignment: &Assignment, image: Option<&Found>) -> Result<(), UptaneError> {
    let (director, ecu) = (&assignment.target, &assignment.ecu);
    let path = || director.path.clone();
    let Some(Found { target: image, role, .. }) = image else {
        return Err(UptaneError::NotInImageRepository { path: path(), ecu: ecu.clone() });
    };
    if director.length != image.length {
        return Err(UptaneError::Length { path: path(), director: director.length, image: image.length });
    }
    if director.sha256 != image.sha256 {
        let (director, image) = (hex::encode(director.sha256), hex::encode(image.sha256));
        return Err(UptaneError::Hash { path: path(), director, image });
    }
    let Some(custom) = custom(role, image)? else { return Ok(()) };
    if let Some(hw_ids) = hardware(&custom)?
        && !hw_ids.contains(&assignment.hw_id)
    {
        return Err(UptaneError::ImageHardware {
            path: path(),
            ecu: ecu.clone(),
            expected: assignment.hw_id.clone(),
            found: quote(&hw_ids.into_iter().collect::<Vec<_>>().join(", ")),
        });
    }
    let found = counter(&custom)?;
    if let Some(director) = assignment.counter
        && found != Some(director)
    {
        let image = found.map_or_else(|| "none".to_owned(), |counter| counter.to_string());
        return Err(UptaneError::Counter { path: path(), director, image });
    }
    Ok(())
}

/// ECUs of one image: more are no vehicle.
const MAX_ECUS: usize = 1_024;
/// Hardware ids of one image.
const MAX_HARDWARE_IDS: usize = 1_024;

fn ecus(target: &RepositoryTarget) -> Result<Vec<Assignment>, VerifyError> {
    let Some(custom) = custom("director", target)? else { return Ok(Vec::new()) };
    // The public vectors' word, and ours.
    let (list, hw_id) = match custom.opt_object("ecuIdentifiers")? {
        Some(list) => (list, "hardwareId"),
        None => match custom.opt_object("ecu")? {
            Some(list) => (list, "hw_id"),
            None => return Ok(Vec::new()),
        },
    };
    list.count("", list.members().len(), MAX_ECUS)?;
    let read = |ecu: &String| {
        let entry = list.object(ecu)?;
        Ok(Assignment {
            ecu: ecu.clone(),
            hw_id: entry.name(hw_id)?,
            target: target.clone(),
            counter: counter(&entry)?.or(counter(&custom)?),
        })
    };
    list.members().keys().map(read).collect()
}

fn custom<'a>(role: &'a str, target: &'a RepositoryTarget) -> Result<Option<Fields<'a>>, VerifyError> {
    match &target.custom {
        None | Some(Json::Null) => Ok(None),
        Some(custom) => Fields::of(role, &format!("targets.{}.custom", target.path), custom).map(Some),
    }
}

fn hardware(custom: &Fields<'_>) -> Result<Option<BTreeSet<String>>, VerifyError> {
    for name in ["hardwareIds", "hw_ids"] {
        if custom.opt(name).is_some() {
            return custom.names(name, MAX_HARDWARE_IDS).map(Some);
        }
    }
    custom.opt_name("hardwareId").map(|one| one.map(|one| BTreeSet::from([one])))
}

fn counter(fields: &Fields<'_>) -> Result<Option<u64>, VerifyError> {
    for name in ["releaseCounter", "security_counter"] {
        if fields.opt(name).is_some() {
            return fields.uint(name).map(Some);
        }
    }
    Ok(None)
}
