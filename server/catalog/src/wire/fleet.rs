//! Answers about many devices at once: a line of JSON for each, and one at the end that sums up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::device::DeviceState;
use crate::text::{HardwareId, ProductName, Serial, Slug, Version};
use crate::{Problem, Reason, Time};

/// Pairs of versions that are counted; further ones are in the other counts alone.
pub const MAX_MOVES: usize = 1_000;

/// One line of an answer about many devices. The last one is a summary or a problem: an answer that ends with neither was cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "line")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum FleetLine {
    /// What is decided for a device.
    Device(FleetDevice),
    /// What becomes of a device's access.
    Shift(DeviceShift),
    /// The end of an answer about decisions.
    Summary(FleetSummary),
    /// The end of an answer about access.
    Shifts(ShiftSummary),
    /// Something went wrong on the way: what came before holds, the rest is missing.
    Problem(Problem),
}

/// What is decided for one device of a fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FleetDevice {
    /// Its serial.
    pub serial: Serial,
    /// Whose it is.
    #[serde(default)]
    pub customer: Option<Slug>,
    /// Where it stands.
    #[serde(default)]
    pub site: Option<Slug>,
    /// Its hardware.
    pub hw_id: HardwareId,
    /// Its state.
    pub state: DeviceState,
    /// What it runs in its first component.
    #[serde(default)]
    pub runs: Option<Version>,
    /// Whether it is offered the version.
    pub pass: bool,
    /// Why, or why not.
    pub reason: Reason,
    /// The version asked about, the one offered, or the one the reason is about.
    #[serde(default)]
    pub version: Option<Version>,
    /// The newest version that it is entitled to.
    #[serde(default)]
    pub newest_entitled: Option<Version>,
    /// When the answer changes by itself.
    #[serde(default)]
    pub changes_at: Option<Time>,
}

/// Decisions of a fleet, counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FleetSummary {
    /// The product.
    pub product: ProductName,
    /// The version asked about; what each device gets, when absent.
    #[serde(default)]
    pub version: Option<Version>,
    /// The moment asked about.
    pub at: Time,
    /// Devices that were looked at.
    pub devices: u64,
    /// Those that are offered the version.
    pub pass: u64,
    /// Devices by reason.
    pub reasons: BTreeMap<String, u64>,
}

/// How a device's access changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceShift {
    /// Its product.
    pub product: ProductName,
    /// Its serial.
    pub serial: Serial,
    /// Whose it is.
    #[serde(default)]
    pub customer: Option<Slug>,
    /// The newest version that it was entitled to.
    #[serde(default)]
    pub before: Option<Version>,
    /// The newest version that it is entitled to afterwards.
    #[serde(default)]
    pub after: Option<Version>,
    /// Codes that no contract in force grants it any more.
    #[serde(default)]
    pub codes_lost: Vec<String>,
    /// Codes that one grants it then.
    #[serde(default)]
    pub codes_gained: Vec<String>,
    /// Whether it loses a version or a code.
    pub loss: bool,
}

/// Changes of access, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ShiftSummary {
    /// Devices that were looked at.
    pub devices: u64,
    /// Those of them that some contract covers before.
    pub covered: u64,
    /// Devices that lose a version or a code.
    pub losses: u64,
    /// Devices that lose none at once, and one within 60 days that they would have kept.
    #[serde(default)]
    pub losses_ahead: u64,
    /// Devices that gain one and lose none.
    pub gains: u64,
    /// Devices by the newest version before and after, those that change alone.
    pub moves: Vec<VersionMove>,
    /// Whether the time allowed was over before every device was looked at: the counts are then those of a part.
    #[serde(default)]
    pub cut: bool,
}

/// How many devices go from one newest version to another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VersionMove {
    /// Their product.
    pub product: ProductName,
    /// The newest version that they were entitled to.
    #[serde(default)]
    pub before: Option<Version>,
    /// The newest version afterwards.
    #[serde(default)]
    pub after: Option<Version>,
    /// How many.
    pub devices: u64,
}

impl ShiftSummary {
    /// Counts a device that was looked at, and how it changes if it does.
    pub fn count(&mut self, covered: bool, shift: Option<&DeviceShift>) {
        self.devices += 1;
        self.covered += u64::from(covered);
        let Some(shift) = shift else { return };
        if shift.loss {
            self.losses += 1;
        } else {
            self.gains += 1;
        }
        if shift.before != shift.after {
            let DeviceShift { product, before, after, .. } = shift.clone();
            self.add_move(VersionMove { product, before, after, devices: 1 });
        }
    }

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.devices += other.devices;
        self.covered += other.covered;
        self.losses += other.losses;
        self.losses_ahead += other.losses_ahead;
        self.gains += other.gains;
        self.cut |= other.cut;
        other.moves.iter().cloned().for_each(|one| self.add_move(one));
    }

    fn add_move(&mut self, one: VersionMove) {
        let same = |there: &VersionMove| {
            (&there.product, &there.before, &there.after) == (&one.product, &one.before, &one.after)
        };
        let found = self.moves.iter().position(same);
        if let Some(there) = found.and_then(|at| self.moves.get_mut(at)) {
            there.devices += one.devices;
        } else if self.moves.len() < MAX_MOVES {
            self.moves.push(one);
        }
    }
}
