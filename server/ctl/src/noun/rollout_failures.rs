//! Which devices failed at a rollout, and what they say of it.

use clap::Args;
use sluice_catalog::rollout::Failure as Code;
use sluice_catalog::text::Slug;
use sluice_catalog::wire::admin::Page;
use sluice_catalog::wire::failure::RolloutFailure;

use crate::args::{Paging, one_of};
use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::output::{log_lines, printable, when};

/// Names of the codes.
const CODES: &[&str] = &[
    "metadata_rejected",
    "policy_rejected",
    "download_failed",
    "delta_mismatch",
    "digest_mismatch",
    "out_of_space",
    "unhealthy",
    "boot_failed",
    "check_failed",
    "check_timeout",
    "check_missing",
    "no_answer",
    "other",
];

#[derive(Args)]
pub struct Failures {
    /// The rollout.
    name: Slug,
    /// With this code only.
    #[arg(long, value_name = "CODE", value_parser = one_of::<Code>(CODES))]
    failure: Option<Code>,
    #[command(flatten)]
    paging: Paging,
}

impl Failures {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let path = path(&["rollouts", self.name.as_str(), "failures"]);
        let query = [("failure", self.failure.map(|code| code.as_str().to_owned()))];
        let page: Page<RolloutFailure> = session.client.list(&path, &query, &self.paging)?;
        session.out.result(&page, |page| {
            if page.items.is_empty() { "no failures".to_owned() } else { page.items.iter().map(text).collect() }
        })?;
        if page.next.is_some() {
            session.out.note(&format!("There may be more than these {}: raise --limit.", page.items.len()));
        }
        Ok(())
    }
}

fn text(failure: &RolloutFailure) -> String {
    let code = failure.failure.map_or("no code", Code::as_str);
    let (at, serial, hardware) = (when(failure.changed_at), &failure.serial, &failure.hw_id);
    let state = failure.state.as_str();
    let detail = failure.detail.as_deref().map(|detail| format!(": {}", printable(detail))).unwrap_or_default();
    let log = failure.log.as_deref().map(log_lines).unwrap_or_default();
    format!("{at}  {serial} ({hardware}) attempt {}  {state}, {code}{detail}\n{log}", failure.seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_can_be_asked_for() {
        assert_eq!(CODES, Code::ALL.map(Code::as_str));
    }
}
