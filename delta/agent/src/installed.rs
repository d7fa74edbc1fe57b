//! `installed.json`: what each slot holds and the floor against rollback. Which of the two slots runs is the boot
//! pointer's word alone, so a switch has one commit point.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sluice_catalog::Digest;
use sluice_catalog::text::{Component, Version};

use crate::error::AgentError;
use crate::slot::Slot;
use crate::state::{StateDir, read_json, write_json};

/// The whole record.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    /// By component.
    pub components: BTreeMap<Component, ComponentSlots>,
}

/// The two slots of a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentSlots {
    /// Lowest security counter that may be installed. Raised only after an image proved healthy.
    pub security_floor: u32,
    /// What slot a holds, when that is known and verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub a: Option<SlotImage>,
    /// What slot b holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub b: Option<SlotImage>,
}

/// A verified image in a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotImage {
    /// Version text.
    pub version: Version,
    /// SHA-256 of the image.
    pub sha256: Digest,
    /// Length of the image, bytes.
    pub length: u64,
    /// Its place in the order of versions, when offline-signed metadata said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<u64>,
    /// Its signed security counter.
    pub security_counter: u32,
}

impl ComponentSlots {
    /// What a slot holds.
    pub const fn slot(&self, slot: Slot) -> Option<&SlotImage> {
        match slot {
            Slot::A => self.a.as_ref(),
            Slot::B => self.b.as_ref(),
        }
    }

    /// Records or forgets what a slot holds.
    pub fn set(&mut self, slot: Slot, image: Option<SlotImage>) {
        match slot {
            Slot::A => self.a = image,
            Slot::B => self.b = image,
        }
    }
}

impl Installed {
    /// Reads the record.
    pub fn load(state: &StateDir) -> Result<Self, AgentError> {
        read_json(&state.installed())?.ok_or_else(|| AgentError::NotProvisioned { path: state.root().to_owned() })
    }

    /// Replaces the record.
    pub fn save(&self, state: &StateDir) -> Result<(), AgentError> {
        write_json(&state.installed(), self)
    }

    /// The slots of a component.
    pub fn component(&self, state: &StateDir, component: &Component) -> Result<&ComponentSlots, AgentError> {
        self.components.get(component).ok_or_else(|| AgentError::Corrupt {
            path: state.installed(),
            reason: format!("component {component} is in agent.toml but not here"),
        })
    }

    /// The slots of a component, to change.
    pub fn component_mut(
        &mut self,
        state: &StateDir,
        component: &Component,
    ) -> Result<&mut ComponentSlots, AgentError> {
        self.components.get_mut(component).ok_or_else(|| AgentError::Corrupt {
            path: state.installed(),
            reason: format!("component {component} is in agent.toml but not here"),
        })
    }
}
