//! One device, one version, now.

use clap::Args;
use sluice_catalog::Time;
use sluice_catalog::policy::MAX_POLICY_REASON;
use sluice_catalog::text::Version;
use sluice_catalog::wire::rollout::{UpdateNow, UpdateNowSet};

use crate::cli::Session;
use crate::failure::Failure;
use crate::noun::device::Name;
use crate::noun::short_text;
use crate::output::when;

/// Ask for a version on a device at once. It still gets only what it is entitled to and what nobody stopped or holds.
#[derive(Args)]
pub struct UpdateNowArgs {
    #[command(flatten)]
    name: Name,
    /// The version; the newest that can reach the device unless given.
    #[arg(long, value_name = "VERSION")]
    release: Option<Version>,
    /// Why, for the audit log and for whoever asks why the device has it.
    #[arg(long, value_parser = short_text(MAX_POLICY_REASON), required_unless_present = "cancel")]
    reason: Option<String>,
    /// Until when it counts [default: 7 days].
    #[arg(long, value_name = "TIME")]
    expires: Option<Time>,
    /// Take back what was asked for.
    #[arg(long, conflicts_with_all = ["release", "reason", "expires"])]
    cancel: bool,
}

impl UpdateNowArgs {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let path = self.name.path(&["update-now"]);
        let Some(reason) = self.reason.filter(|_| !self.cancel) else {
            session.client.delete(&path)?;
            return session.out.result(&serde_json::json!({}), |_| "nothing is asked for any more".to_owned());
        };
        let request = UpdateNow { version: self.release, reason, expires: self.expires };
        let set: UpdateNowSet = session.client.put(&path, &request)?.value;
        session.out.result(&set, |set| {
            let (what, until) = (format!("{}/{} to {}", set.product, set.serial, set.version), when(set.until));
            if set.offered {
                format!("{what}: offered at its next poll, until {until}")
            } else {
                format!("{what}: asked for until {until}, but now {}: {}", set.answer, set.sentence)
            }
        })
    }
}
