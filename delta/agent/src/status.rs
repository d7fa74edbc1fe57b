//! `status` and `verify`: what the device runs and whether its slots are what the records say. Neither changes anything.

use serde::Serialize;
use sluice_catalog::Digest;
use sluice_catalog::id::DeviceId;
use sluice_catalog::text::{Component, HardwareId, ProductName, Serial, Version};

use crate::attempt::{Encoding, Phase};
use crate::boot::BootControl;
use crate::config::Config;
use crate::error::AgentError;
use crate::identity::Identity;
use crate::installed::Installed;
use crate::journal::Journal;
use crate::outbox;
use crate::slot::{self, Slot};
use crate::soak::{self, SoakStatus};
use crate::state::{StateDir, read_json};

/// What `status` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The server.
    pub server: String,
    /// The product line.
    pub product: ProductName,
    /// The serial number.
    pub serial: Serial,
    /// The hardware id.
    pub hw_id: HardwareId,
    /// The id that the server gave; none before enrolment.
    pub device_id: Option<DeviceId>,
    /// What runs.
    pub components: Vec<ComponentStatus>,
    /// The attempt under way, or the last one.
    pub last_attempt: Option<AttemptStatus>,
    /// Reports that wait.
    pub outbox: usize,
}

/// What runs in a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComponentStatus {
    /// The component.
    pub component: Component,
    /// The running slot.
    pub slot: Slot,
    /// Its version.
    pub version: Option<Version>,
    /// Its recorded digest.
    pub sha256: Option<Digest>,
    /// The version in the other slot, when that is verified.
    pub other: Option<Version>,
    /// The floor against rollback.
    pub security_floor: u32,
}

/// An attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttemptStatus {
    /// Its number.
    pub attempt: Option<i32>,
    /// How far it came.
    pub phase: Phase,
    /// From this version.
    pub from: Version,
    /// To this version.
    pub to: Version,
    /// How the image was carried.
    pub encoding: Option<Encoding>,
    /// Bytes downloaded.
    pub bytes: u64,
    /// What happened.
    pub detail: Option<String>,
    /// How far the new image has soaked, while it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soak: Option<SoakStatus>,
}

/// A slot held against its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SlotCheck {
    /// The component.
    pub component: Component,
    /// The slot.
    pub slot: Slot,
    /// Whether it runs.
    pub active: bool,
    /// The recorded version.
    pub version: Version,
    /// The recorded digest.
    pub expected: Digest,
    /// The digest of what is there; none when the file is gone.
    pub found: Option<Digest>,
    /// Whether both are the same.
    pub ok: bool,
}

/// Reads the state without changing it.
pub fn status(state: &StateDir, boot: &dyn BootControl) -> Result<Status, AgentError> {
    let config = Config::load(state)?;
    let installed = Installed::load(state)?;
    let identity: Option<Identity> = read_json(&state.identity())?;
    let mut components = Vec::new();
    for (component, slots) in &installed.components {
        let slot = boot.active(component).map_err(AgentError::io(&state.slots()))?;
        let running = slots.slot(slot);
        components.push(ComponentStatus {
            component: component.clone(),
            slot,
            version: running.map(|image| image.version.clone()),
            sha256: running.map(|image| image.sha256),
            other: slots.slot(slot.other()).map(|image| image.version.clone()),
            security_floor: slots.security_floor,
        });
    }
    let last = Journal::peek(&state.journal())?;
    let soak = last.as_ref().and_then(|attempt| soak::status(state, &config, attempt));
    let last_attempt = last.map(|attempt| AttemptStatus {
        attempt: attempt.number,
        phase: attempt.phase,
        from: attempt.from.version,
        to: attempt.to.version,
        encoding: attempt.encoding,
        bytes: attempt.bytes,
        detail: attempt.detail.or(attempt.fallback),
        soak,
    });
    Ok(Status {
        server: config.server,
        product: config.product,
        serial: config.serial,
        hw_id: config.hw_id,
        device_id: identity.map(|identity| identity.device_id),
        components,
        last_attempt,
        outbox: outbox::count(state)?,
    })
}

/// Hashes every slot of which `installed.json` says what it holds.
pub fn verify(state: &StateDir, boot: &dyn BootControl) -> Result<Vec<SlotCheck>, AgentError> {
    let installed = Installed::load(state)?;
    let mut checks = Vec::new();
    for (component, slots) in &installed.components {
        let active = boot.active(component).map_err(AgentError::io(&state.slots()))?;
        for slot in [Slot::A, Slot::B] {
            let Some(image) = slots.slot(slot) else {
                if slot == active {
                    return Err(AgentError::Corrupt {
                        path: state.installed(),
                        reason: format!("nothing is recorded for the running slot {slot} of {component}"),
                    });
                }
                continue;
            };
            let found = slot::digest(&slot::path(&state.slots(), component, slot))?;
            checks.push(SlotCheck {
                component: component.clone(),
                slot,
                active: slot == active,
                version: image.version.clone(),
                expected: image.sha256,
                found: found.map(|(_, digest)| digest),
                ok: found == Some((image.length, image.sha256)),
            });
        }
    }
    Ok(checks)
}
