//! A rollout's figures as time went by: a table, CSV for a spreadsheet, or JSON.

use std::io::{Write as _, stdout};

use clap::Args;
use sluice_catalog::Time;
use sluice_catalog::text::Slug;
use sluice_catalog::wire::live::SeriesPoint;

use crate::args::Paging;
use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::list;

/// The columns.
const COLUMNS: [&str; 18] = [
    "at",
    "state",
    "stage",
    "reach_percent",
    "offered",
    "begun",
    "downloading",
    "verified",
    "applied",
    "booted",
    "healthy",
    "lost",
    "rejected",
    "failed",
    "rolled_back",
    "silent",
    "sent_bytes",
    "saved_bytes",
];

#[derive(Args)]
pub struct Series {
    /// The rollout.
    name: Slug,
    /// From this moment on [default: from the beginning].
    #[arg(long, value_name = "TIME")]
    from: Option<Time>,
    /// Before this moment [default: until now].
    #[arg(long, value_name = "TIME")]
    to: Option<Time>,
    /// Print comma-separated values.
    #[arg(long)]
    csv: bool,
    #[command(flatten)]
    paging: Paging,
}

impl Series {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let path = path(&["rollouts", self.name.as_str(), "series"]);
        let time = |time: Option<Time>| time.map(|time| time.to_string());
        let query = [("from", time(self.from)), ("to", time(self.to))];
        if self.csv && !session.out.json {
            let points = session.client.list::<SeriesPoint>(&path, &query, &self.paging)?;
            let mut out = csv::Writer::from_writer(stdout().lock());
            let told = |error: csv::Error| Failure::Local(error.into());
            out.write_record(COLUMNS).map_err(told)?;
            for point in &points.items {
                out.write_record(row(point)).map_err(told)?;
            }
            out.flush()?;
            return Ok(stdout().flush()?);
        }
        let header = COLUMNS.map(str::to_uppercase);
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        list(session, &path, &query, &self.paging, &header, row)
    }
}

fn row(point: &SeriesPoint) -> Vec<String> {
    let devices = &point.devices;
    let mut row = vec![
        point.at.to_string(),
        point.state.as_str().to_owned(),
        point.stage.to_string(),
        format!("{}.{:02}", point.reach / 100, point.reach % 100),
    ];
    let counts = [
        devices.offered,
        devices.begun,
        devices.downloading,
        devices.verified,
        devices.applied,
        devices.booted,
        devices.healthy,
        devices.lost,
        devices.rejected,
        devices.failed,
        devices.rolled_back,
        devices.silent,
        point.bytes.sent,
        point.bytes.saved,
    ];
    row.extend(counts.map(|count| count.to_string()));
    row
}
