//! Background jobs.

use clap::Subcommand;
use sluice_catalog::job::{Job, JobState};

use crate::args::{Paging, one_of};
use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::list;
use crate::output::when;

#[derive(Subcommand)]
pub enum Command {
    /// List jobs.
    List {
        /// In this state only.
        #[arg(long, value_parser = one_of::<JobState>(&["waiting", "running", "done", "parked"]))]
        state: Option<JobState>,
        #[command(flatten)]
        paging: Paging,
    },
}

impl Command {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let Self::List { state, paging } = self;
        list(
            session,
            &path(&["jobs"]),
            &[("state", state.map(|state| state.as_str().to_owned()))],
            &paging,
            &["KIND", "KEY", "STATE", "FAILURES", "NOT BEFORE", "LAST ERROR"],
            |job: &Job| {
                vec![
                    job.kind.clone(),
                    job.key.clone(),
                    job.state.as_str().to_owned(),
                    job.attempts.to_string(),
                    when(job.run_at),
                    job.last_error.clone().unwrap_or_default(),
                ]
            },
        )
    }
}
