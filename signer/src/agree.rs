//! A device installs only what both repositories say, and only what its own offline policy allows.

use crate::director::DirectorTarget;
use crate::limits::Limits;
use crate::release::ReleaseCustom;
use crate::repository::Found;
use std::collections::{BTreeMap, BTreeSet};

/// The version that a component runs, as the device knows it from the release it installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Version text.
    pub version: String,
    /// Its place in the order of versions.
    pub order: u64,
}

/// What the device requires, all of it from its own storage and from offline-signed documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallPolicy {
    /// Product line of the device.
    pub product: String,
    /// Component that the image is for.
    pub component: String,
    /// Hardware id of the device.
    pub hw_id: String,
    /// Lowest security counter accepted. It is raised only after an image booted and confirmed itself.
    pub security_counter_floor: u64,
    /// Channels that the device follows.
    pub channels: BTreeSet<String>,
    /// What runs now; `None` when the slot is empty.
    pub installed: Option<Installed>,
    /// Order numbers of the component's signed versions, from
    /// [`version_orders`](crate::TrustedRepository::version_orders).
    pub known_orders: BTreeMap<String, u64>,
}

/// The rule by which a device refuses an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgreeError {
    /// The repositories speak of different paths.
    #[error("director names {director}, the image repository {repository}")]
    Path {
        /// The director's path.
        director: String,
        /// The image repository's path.
        repository: String,
    },
    /// The lengths differ.
    #[error("{path}: director says {director} bytes, the image repository {repository}")]
    Length {
        /// The target path.
        path: String,
        /// The director's length.
        director: u64,
        /// The image repository's length.
        repository: u64,
    },
    /// The digests differ.
    #[error("{path}: director says SHA-256 {director}, the image repository {repository}")]
    Hash {
        /// The target path.
        path: String,
        /// The director's digest.
        director: String,
        /// The image repository's digest.
        repository: String,
    },
    /// The target is no firmware image.
    #[error("{path}: the image repository signed no release for it")]
    NotARelease {
        /// The target path.
        path: String,
    },
    /// Signed by a role that is none of the product's, or under another path than its own.
    #[error("{path}: states product {product:?}, and role {role:?} signed it there")]
    Signer {
        /// The target path.
        path: String,
        /// The product that the image states.
        product: String,
        /// The role that signed it.
        role: String,
    },
    /// The release's signed block is malformed.
    #[error(transparent)]
    Custom(#[from] crate::VerifyError),
    /// An image of another product line.
    #[error("{path}: made for product {found}, this device is {expected}")]
    Product {
        /// The target path.
        path: String,
        /// The device's product.
        expected: String,
        /// The release's product.
        found: String,
    },
    /// An image for another component.
    #[error("{path}: made for component {found}, asked was {expected}")]
    Component {
        /// The target path.
        path: String,
        /// The component to be updated.
        expected: String,
        /// The release's component.
        found: String,
    },
    /// The director takes this device for other hardware.
    #[error("{path}: director says hardware {found}, this device is {expected}")]
    DirectorHardware {
        /// The target path.
        path: String,
        /// The device's hardware id.
        expected: String,
        /// The hardware id that the director gave.
        found: String,
    },
    /// The image does not run on this hardware.
    #[error("{path}: runs on {found}, this device is {expected}")]
    Hardware {
        /// The target path.
        path: String,
        /// The device's hardware id.
        expected: String,
        /// The hardware ids signed, joined by commas.
        found: String,
    },
    /// The image is below the device's anti-rollback floor.
    #[error("{path}: security counter {found} is below this device's floor of {floor}")]
    SecurityCounter {
        /// The target path.
        path: String,
        /// The device's floor.
        floor: u64,
        /// The image's counter.
        found: u64,
    },
    /// None of the device's channels carries the release.
    #[error("{path}: in channels {found}, this device follows {expected}")]
    Channel {
        /// The target path.
        path: String,
        /// The device's channels, joined by commas.
        expected: String,
        /// The release's channels, joined by commas.
        found: String,
    },
    /// The running version is too old to go there in one step.
    #[error("{path}: needs version {needed} or later to be installed, installed is {installed}")]
    MinInstalled {
        /// The target path.
        path: String,
        /// The signed minimum.
        needed: String,
        /// The version that runs.
        installed: String,
    },
    /// The signed minimum is no version that the metadata knows, so it cannot be compared.
    #[error("{path}: needs version {needed} or later, which no signed document orders")]
    MinInstalledUnknown {
        /// The target path.
        path: String,
        /// The signed minimum.
        needed: String,
    },
}

impl AgreeError {
    /// A stable word for reports and logs.
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::Path { .. } => "path",
            Self::Length { .. } => "length",
            Self::Hash { .. } => "hash",
            Self::NotARelease { .. } => "not_a_release",
            Self::Signer { .. } => "signer",
            Self::Custom(_) => "custom",
            Self::Product { .. } => "product",
            Self::Component { .. } => "component",
            Self::DirectorHardware { .. } => "director_hardware",
            Self::Hardware { .. } => "hardware",
            Self::SecurityCounter { .. } => "security_counter",
            Self::Channel { .. } => "channel",
            Self::MinInstalled { .. } => "min_installed",
            Self::MinInstalledUnknown { .. } => "min_installed_unknown",
        }
    }
}

/// Compares what the director offers with what offline keys signed, and both with the device's policy. Returns the
/// release to install.
pub fn agree(
    director: &DirectorTarget,
    repository: &Found,
    policy: &InstallPolicy,
    limits: &Limits,
) -> Result<ReleaseCustom, AgreeError> {
    let target = &repository.target;
    let path = || target.path.clone();
    if director.path != target.path {
        return Err(AgreeError::Path { director: director.path.clone(), repository: path() });
    }
    if director.length != target.length {
        return Err(AgreeError::Length { path: path(), director: director.length, repository: target.length });
    }
    if director.sha256 != target.sha256 {
        return Err(AgreeError::Hash {
            path: path(),
            director: hex::encode(director.sha256),
            repository: hex::encode(target.sha256),
        });
    }
    let Some(release) = target.release(&repository.role, limits)? else {
        return Err(AgreeError::NotARelease { path: path() });
    };
    // Documents do not name their role, and a delegation may reach farther than it should: an image of a product comes from the
    // product's own role, or from one that its delegation makes an embargo role of the product, under the product's own path, whatever
    // it says of itself.
    let own = format!("{}/{}/", release.product, release.version);
    let of_product =
        repository.role == release.product || repository.embargo_of.as_deref() == Some(release.product.as_str());
    if !of_product || !target.path.starts_with(&own) {
        return Err(AgreeError::Signer { path: path(), product: release.product, role: repository.role.clone() });
    }
    if director.hw_id != policy.hw_id {
        return Err(AgreeError::DirectorHardware {
            path: path(),
            expected: policy.hw_id.clone(),
            found: director.hw_id.clone(),
        });
    }
    check_policy(&target.path, &release, policy)?;
    Ok(release)
}

fn check_policy(path: &str, release: &ReleaseCustom, policy: &InstallPolicy) -> Result<(), AgreeError> {
    let path = || path.to_owned();
    if release.product != policy.product {
        return Err(AgreeError::Product {
            path: path(),
            expected: policy.product.clone(),
            found: release.product.clone(),
        });
    }
    if release.component != policy.component {
        return Err(AgreeError::Component {
            path: path(),
            expected: policy.component.clone(),
            found: release.component.clone(),
        });
    }
    if !release.hw_ids.contains(&policy.hw_id) {
        return Err(AgreeError::Hardware {
            path: path(),
            expected: policy.hw_id.clone(),
            found: join(&release.hw_ids),
        });
    }
    if release.security_counter < policy.security_counter_floor {
        return Err(AgreeError::SecurityCounter {
            path: path(),
            floor: policy.security_counter_floor,
            found: release.security_counter,
        });
    }
    if release.channels.is_disjoint(&policy.channels) {
        return Err(AgreeError::Channel {
            path: path(),
            expected: join(&policy.channels),
            found: join(&release.channels),
        });
    }
    check_min_installed(path(), release, policy)
}

fn check_min_installed(path: String, release: &ReleaseCustom, policy: &InstallPolicy) -> Result<(), AgreeError> {
    let (Some(needed), Some(installed)) = (&release.min_installed, &policy.installed) else { return Ok(()) };
    if *needed == installed.version {
        return Ok(());
    }
    match policy.known_orders.get(needed) {
        None => Err(AgreeError::MinInstalledUnknown { path, needed: needed.clone() }),
        Some(order) if installed.order < *order => {
            Err(AgreeError::MinInstalled { path, needed: needed.clone(), installed: installed.version.clone() })
        }
        Some(_) => Ok(()),
    }
}

fn join(set: &BTreeSet<String>) -> String {
    set.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}
