//! `agent.toml`: who the device is, which server it asks, and what it accepts.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sluice_catalog::device::DecoderProfile;
use sluice_catalog::text::{Component, HardwareId, ProductName, Serial};

use crate::error::AgentError;
use crate::state::{StateDir, read_bounded, write_atomic};

/// Longest `agent.toml`, bytes: it is written by hand or by `init`.
const MAX_CONFIG_BYTES: u64 = 64 << 10;
/// Longest image accepted unless the file says otherwise, bytes: a wrong or hostile offer cannot fill the storage.
pub const DEFAULT_MAX_IMAGE_BYTES: u64 = 1 << 30;
/// Memory given to patching unless the file says otherwise, bytes: what a Linux-class device can spare while it works.
pub const DEFAULT_RAM_BUDGET: u32 = 64 << 20;
/// Most channels a device may follow.
const MAX_CHANNELS: usize = 16;

/// The configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The server: scheme, host and port, no path.
    pub server: String,
    /// The product line.
    pub product: ProductName,
    /// The serial number.
    pub serial: Serial,
    /// The hardware id; an image that does not name it is refused.
    pub hw_id: HardwareId,
    /// Components with slots of their own.
    pub components: BTreeSet<Component>,
    /// Channels accepted; an image in none of them is refused.
    pub channels: BTreeSet<String>,
    /// What the device can decode.
    #[serde(default = "default_profile")]
    pub profile: DecoderProfile,
    /// Memory given to patching, bytes.
    #[serde(default = "default_ram_budget")]
    pub ram_budget: u32,
    /// Longest image accepted, bytes: the size of a slot.
    #[serde(default = "default_max_image_bytes")]
    pub max_image_bytes: u64,
    /// Certificates (PEM) to trust instead of the public ones, for a server with a private authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_ca: Option<PathBuf>,
    /// A program with arguments that says whether the new image is healthy (exit status 0). Without one, an image whose
    /// slot still has the signed digest is healthy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boot_check: Vec<String>,
    /// How that program is run, and for how long its word must hold. Not written while it says what it says by default: the agent of the
    /// other slot may be one that does not know it.
    #[serde(default, skip_serializing_if = "CheckOptions::is_default")]
    pub check: CheckOptions,
    /// When to poll.
    #[serde(default)]
    pub poll: PollOptions,
    /// How slow a server may be.
    #[serde(default)]
    pub network: NetworkOptions,
}

/// How a new image is checked before the device calls itself healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckOptions {
    /// Seconds that one run of the check may take.
    pub timeout_s: u32,
    /// Seconds for which a new image must run and go on passing its check before it is healthy; 0: one check is enough.
    pub soak_s: u32,
    /// Seconds between two checks meanwhile.
    pub interval_s: u32,
    /// Starts of the machine during the soak after which the image counts as one that does not come up. 0 never does.
    pub max_restarts: u32,
    /// Whether the end of the check's output goes to the server with a report of a failure.
    pub report_log: bool,
}

/// Longest soak, seconds: 30 days, half of what a server waits for at most.
pub const MAX_SOAK_S: u32 = 30 * 86_400;
/// Longest run of a check, seconds.
pub const MAX_CHECK_TIMEOUT_S: u32 = 3600;
/// Bounds of the time between two checks, seconds.
pub const CHECK_INTERVAL_S: std::ops::RangeInclusive<u32> = 5..=86_400;

impl Default for CheckOptions {
    fn default() -> Self {
        Self { timeout_s: 120, soak_s: 0, interval_s: 60, max_restarts: 5, report_log: true }
    }
}

impl CheckOptions {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How slow a server may be before the device gives an answer up. Without such a bound one that sends a byte now and then would
/// hold the device for ever, and keep it from the updates that another server or a later round would bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkOptions {
    /// Seconds that any answer may take, whatever its length.
    pub patience_s: u32,
    /// Bytes a second that an answer must bring besides.
    pub min_bytes_per_s: u32,
}

impl Default for NetworkOptions {
    fn default() -> Self {
        // The slowest links that such devices have bring twice this.
        Self { patience_s: 60, min_bytes_per_s: 1024 }
    }
}

impl NetworkOptions {
    /// Seconds in which so many bytes must have come.
    pub(crate) fn seconds_for(self, bytes: u64) -> u64 {
        u64::from(self.patience_s).saturating_add(bytes / u64::from(self.min_bytes_per_s).max(1))
    }
}

/// When to poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PollOptions {
    /// Never sooner than this after the last poll, seconds: a server's mistake cannot make a fleet hammer it.
    pub min_s: u32,
    /// Never later than this, seconds: a server's mistake cannot silence a device for years.
    pub max_s: u32,
    /// Up to this share of the interval is added at random, percent: a fleet that lost power together must not come
    /// back in one second.
    pub jitter_percent: u8,
    /// Polls in a row that may go unanswered after a switch before the device takes the new image for the cause and goes
    /// back. 0 never goes back for that reason.
    pub max_unanswered: u32,
}

impl Default for PollOptions {
    fn default() -> Self {
        Self { min_s: 30, max_s: 86_400, jitter_percent: 10, max_unanswered: 12 }
    }
}

const fn default_profile() -> DecoderProfile {
    DecoderProfile::Small
}

const fn default_ram_budget() -> u32 {
    DEFAULT_RAM_BUDGET
}

const fn default_max_image_bytes() -> u64 {
    DEFAULT_MAX_IMAGE_BYTES
}

impl Config {
    /// Reads and checks `agent.toml`.
    pub fn load(state: &StateDir) -> Result<Self, AgentError> {
        let path = state.config();
        let Some(bytes) = read_bounded(&path, MAX_CONFIG_BYTES)? else {
            return Err(AgentError::NotProvisioned { path: state.root().to_owned() });
        };
        let corrupt = |reason: String| AgentError::Corrupt { path: path.clone(), reason };
        let text = String::from_utf8(bytes).map_err(|error| corrupt(error.to_string()))?;
        let config: Self = toml::from_str(&text).map_err(|error| corrupt(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// Writes `agent.toml`.
    pub fn save(&self, state: &StateDir) -> Result<(), AgentError> {
        self.check()?;
        let path = state.config();
        let text = toml::to_string_pretty(self)
            .map_err(|error| AgentError::Corrupt { path: path.clone(), reason: error.to_string() })?;
        write_atomic(&path, text.as_bytes())
    }

    /// Holds every field against its rule.
    pub fn check(&self) -> Result<(), AgentError> {
        let refuse = |field, reason: &str| Err(AgentError::Setting { field, reason: reason.to_owned() });
        let host = self.server.strip_prefix("https://").or_else(|| self.server.strip_prefix("http://"));
        if !host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', ' '])) {
            return refuse("server", "must be http:// or https:// with host and port, without a path");
        }
        if self.components.is_empty() || self.components.len() > sluice_catalog::wire::device::MAX_COMPONENTS {
            return refuse("components", "1 to 16 components");
        }
        if self.channels.is_empty() || self.channels.len() > MAX_CHANNELS {
            return refuse("channels", "1 to 16 channels");
        }
        if self.max_image_bytes == 0 || self.max_image_bytes > sluice_delta::MAX_IMAGE_LEN {
            return refuse("max_image_bytes", "1 byte to 64 GiB");
        }
        if self.check.timeout_s == 0 || self.check.timeout_s > MAX_CHECK_TIMEOUT_S {
            return refuse("check.timeout_s", "1 to 3600");
        }
        if self.check.soak_s > MAX_SOAK_S {
            return refuse("check.soak_s", "at most 2592000, which is 30 days");
        }
        if !CHECK_INTERVAL_S.contains(&self.check.interval_s) {
            return refuse("check.interval_s", "5 to 86400");
        }
        if self.boot_check.iter().any(|text| text.contains('\0')) {
            return refuse("boot_check", "no NUL characters");
        }
        if self.boot_check.first().is_some_and(String::is_empty) {
            return refuse("boot_check", "a program, then its arguments");
        }
        if self.poll.min_s == 0 || self.poll.min_s > self.poll.max_s {
            return refuse("poll.min_s", "1 or more, and at most poll.max_s");
        }
        if self.poll.jitter_percent > 100 {
            return refuse("poll.jitter_percent", "at most 100");
        }
        if self.network.patience_s == 0 || self.network.min_bytes_per_s == 0 {
            return refuse("network", "patience_s and min_bytes_per_s of 1 or more");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(server: &str) -> Config {
        Config {
            server: server.to_owned(),
            product: "acme-cam".parse().unwrap(),
            serial: "SN-1".parse().unwrap(),
            hw_id: "cam-r3".parse().unwrap(),
            components: BTreeSet::from(["main".parse().unwrap()]),
            channels: BTreeSet::from(["stable".to_owned()]),
            profile: DecoderProfile::Default,
            ram_budget: DEFAULT_RAM_BUDGET,
            max_image_bytes: DEFAULT_MAX_IMAGE_BYTES,
            tls_ca: None,
            boot_check: Vec::new(),
            check: CheckOptions::default(),
            poll: PollOptions::default(),
            network: NetworkOptions::default(),
        }
    }

    #[test]
    fn the_file_reads_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path());
        let written = config("https://updates.example:8443");
        written.save(&state).unwrap();
        assert_eq!(Config::load(&state).unwrap(), written);
    }

    #[test]
    fn a_server_is_an_origin_and_nothing_more() {
        for good in ["http://127.0.0.1:8080", "https://updates.example"] {
            assert!(config(good).check().is_ok(), "{good}");
        }
        for bad in ["", "updates.example", "ftp://x", "https://", "https://x/y", "https://user@x", "http://x?y"] {
            assert!(config(bad).check().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_older_agents_do_not_know_is_written_only_when_it_says_something() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path());
        let mut written = config("http://x");
        written.save(&state).unwrap();
        assert!(!std::fs::read_to_string(state.config()).unwrap().contains("[check]"));
        written.check.soak_s = 600;
        written.save(&state).unwrap();
        assert_eq!(Config::load(&state).unwrap(), written);
    }

    #[test]
    fn settings_out_of_range_are_named_with_their_limits() {
        let error = |change: fn(&mut Config)| {
            let mut config = config("http://x");
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert_eq!(error(|it| it.check.timeout_s = 0), "check.timeout_s: 1 to 3600");
        assert_eq!(error(|it| it.check.soak_s = MAX_SOAK_S + 1), "check.soak_s: at most 2592000, which is 30 days");
        assert_eq!(error(|it| it.check.interval_s = 4), "check.interval_s: 5 to 86400");
        assert_eq!(error(|it| it.boot_check = vec![String::new()]), "boot_check: a program, then its arguments");
        assert_eq!(error(|it| it.boot_check = vec!["a\0".to_owned()]), "boot_check: no NUL characters");
    }

    #[test]
    fn unknown_settings_are_refused_not_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path());
        config("http://x").save(&state).unwrap();
        let text = std::fs::read_to_string(state.config()).unwrap();
        std::fs::write(state.config(), format!("chanels = [\"beta\"]\n{text}")).unwrap();
        assert!(Config::load(&state).unwrap_err().to_string().contains("chanels"));
    }
}
