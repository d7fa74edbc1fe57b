//! `init`: gives a device its identity, its first image, and the two roots it trusts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sluice_catalog::device::DecoderProfile;
use sluice_catalog::text::{Component, HardwareId, ProductName, Serial, Version};
use sluice_signer::{DirectorTrust, Limits, SigningKey, TrustedRepository, VerifyError, key_file};

use crate::boot::{BootControl, FileBoot};
use crate::config::{CheckOptions, Config, DEFAULT_MAX_IMAGE_BYTES, DEFAULT_RAM_BUDGET, NetworkOptions, PollOptions};
use crate::error::AgentError;
use crate::host::Host;
use crate::http::{Http, Request};
use crate::installed::{ComponentSlots, Installed, SlotImage};
use crate::poll::DirectorState;
use crate::slot::{self, Slot};
use crate::state::{StateDir, read_bounded, write_atomic, write_json};

/// Where the first root documents come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// Files that came with the device: nobody on the network can replace them.
    Files {
        /// Root of the image repository.
        image: PathBuf,
        /// Root of the director.
        director: PathBuf,
    },
    /// Whatever the server says the first time. Whoever answers then owns the device; for trials.
    FirstUse,
}

/// What a device is provisioned with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provision {
    /// The server.
    pub server: String,
    /// The product line.
    pub product: ProductName,
    /// The serial number.
    pub serial: Serial,
    /// The hardware id.
    pub hw_id: HardwareId,
    /// The component of the first image.
    pub component: Component,
    /// The image that the device runs.
    pub image: PathBuf,
    /// Its version.
    pub version: Version,
    /// Its security counter, the first floor.
    pub security_counter: u32,
    /// Channels that the device accepts.
    pub channels: BTreeSet<String>,
    /// What it can decode.
    pub profile: DecoderProfile,
    /// Memory given to patching, bytes.
    pub ram_budget: Option<u32>,
    /// Its check of a new image.
    pub boot_check: Vec<String>,
    /// How that is run, and for how long its word must hold.
    pub check: CheckOptions,
    /// Private certificate authority of the server.
    pub tls_ca: Option<PathBuf>,
    /// The trusted roots.
    pub roots: Roots,
}

/// Provisions a state directory. `agent.toml` is written last: a directory without it is not provisioned, and `init` may be
/// run again.
pub fn provision(state: &StateDir, wanted: &Provision, host: &Host<'_>) -> Result<Config, AgentError> {
    if state.config().exists() {
        return Err(AgentError::AlreadyProvisioned { path: state.config() });
    }
    let config = Config {
        server: wanted.server.trim_end_matches('/').to_owned(),
        product: wanted.product.clone(),
        serial: wanted.serial.clone(),
        hw_id: wanted.hw_id.clone(),
        components: BTreeSet::from([wanted.component.clone()]),
        channels: wanted.channels.clone(),
        profile: wanted.profile,
        ram_budget: wanted.ram_budget.unwrap_or(DEFAULT_RAM_BUDGET),
        max_image_bytes: DEFAULT_MAX_IMAGE_BYTES,
        tls_ca: wanted.tls_ca.clone(),
        boot_check: wanted.boot_check.clone(),
        check: wanted.check,
        poll: PollOptions::default(),
        network: NetworkOptions::default(),
    };
    config.check()?;
    let limits = Limits::default();
    let (image_root, director_root) = match &wanted.roots {
        Roots::Files { image, director } => (read_root(image, &limits)?, read_root(director, &limits)?),
        Roots::FirstUse => {
            let http = Http::new(&config)?;
            (
                fetch_root(&http, host, "/metadata/1.root.json", &limits)?,
                fetch_root(&http, host, "/director/1.root.json", &limits)?,
            )
        }
    };
    let refused = |what| move |source: VerifyError| AgentError::Refused { what, source: Box::new(source) };
    let repository = TrustedRepository::from_root(&image_root, &limits).map_err(refused("image root"))?;
    let director = DirectorTrust::from_root(&director_root, &limits).map_err(refused("director root"))?;

    state.create()?;
    let _lock = state.lock()?;
    let key = SigningKey::from_seed(&(host.random)())
        .and_then(|key| key_file::to_pem(&key).map_err(|_| sluice_signer::KeyError::Malformed { field: "seed" }))
        .map_err(|error| AgentError::Corrupt { path: state.key(), reason: error.to_string() })?;
    write_atomic(&state.key(), key.as_bytes())?;

    let target = slot::path(&state.slots(), &wanted.component, Slot::A);
    copy_image(&wanted.image, &target)?;
    let Some((length, sha256)) = slot::digest(&target)? else {
        return Err(AgentError::Corrupt { path: target, reason: "the image was not written".to_owned() });
    };
    let image = SlotImage {
        version: wanted.version.clone(),
        sha256,
        length,
        order: None,
        security_counter: wanted.security_counter,
    };
    let slots = ComponentSlots { security_floor: wanted.security_counter, a: Some(image), b: None };
    let installed = Installed { components: [(wanted.component.clone(), slots)].into() };
    installed.save(state)?;
    let boot = FileBoot::new(state.slots());
    let pointed = boot.switch(&wanted.component, Slot::A).and_then(|()| boot.confirm(&wanted.component));
    pointed.map_err(AgentError::io(&state.slots()))?;

    write_json(&state.image_metadata(), &repository.state())?;
    let kept = DirectorState {
        root: String::from_utf8_lossy(director.root_bytes()).into_owned(),
        last_version: 0,
        attested_time: None,
        branch: None,
        held: None,
    };
    write_json(&state.director_metadata(), &kept)?;
    config.save(state)?;
    Ok(config)
}

fn read_root(path: &Path, limits: &Limits) -> Result<Vec<u8>, AgentError> {
    read_bounded(path, limits.root_bytes)?.ok_or_else(|| AgentError::Io {
        path: path.to_owned(),
        source: std::io::Error::from(std::io::ErrorKind::NotFound),
    })
}

fn fetch_root(http: &Http, host: &Host<'_>, path: &str, limits: &Limits) -> Result<Vec<u8>, AgentError> {
    let what = "first root";
    let request = Request { what, path, bearer: None, if_none_match: None, post: None, limit: limits.root_bytes };
    let reply = http.call(host, &request)?;
    if reply.status == 200 { Ok(reply.body) } else { Err(reply.denied(what)) }
}

fn copy_image(from: &Path, to: &Path) -> Result<(), AgentError> {
    let length = std::fs::metadata(from).map_err(AgentError::io(from))?.len();
    if length == 0 || length > DEFAULT_MAX_IMAGE_BYTES {
        let reason = format!("{} has {length} bytes, 1 to {DEFAULT_MAX_IMAGE_BYTES} allowed", from.display());
        return Err(AgentError::Setting { field: "image", reason });
    }
    std::fs::copy(from, to).map_err(AgentError::io(to))?;
    slot::open_for_writing(to)?.sync_all().map_err(AgentError::io(to))
}
