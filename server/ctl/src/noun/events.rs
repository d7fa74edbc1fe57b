//! Events: what is to be told, read once or followed.

use std::io::Write as _;
use std::thread;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluice_catalog::text::Slug;
use sluice_catalog::wire::admin::MAX_PAGE;
use sluice_catalog::wire::event::MAX_WAIT_S;

use crate::args::Paging;
use crate::cli::Session;
use crate::client::{Query, path};
use crate::failure::Failure;
use crate::noun::list;
use crate::output::printable;

/// Wait before a server that is away is asked again, while its events are followed.
const AGAIN: Duration = Duration::from_secs(5);
/// Longest data shown on a line, characters; `--json` has all of it.
const MAX_SHOWN: usize = 160;

#[derive(Args)]
pub struct Events {
    /// Of this kind only, such as cover_ends.
    #[arg(long)]
    kind: Option<String>,
    /// Of this customer only.
    #[arg(long)]
    customer: Option<Slug>,
    /// Go on: print events as they come, one a line, until interrupted.
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    paging: Paging,
}

/// An event. Its data stays as it is: a newer server may tell of what this program does not know.
#[derive(Serialize, Deserialize)]
struct Told {
    seq: i64,
    kind: String,
    subject: String,
    customer: Option<String>,
    at: String,
    created_at: String,
    data: Value,
}

impl Events {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let query = [("kind", self.kind.clone()), ("customer", self.customer.as_ref().map(ToString::to_string))];
        if self.follow {
            return self.follow(session, &query);
        }
        list(
            session,
            &path(&["events"]),
            &query,
            &self.paging,
            &["SEQ", "AT", "KIND", "CUSTOMER", "SUBJECT", "DATA"],
            |told: &Told| {
                let customer = told.customer.clone().unwrap_or_default();
                vec![
                    told.seq.to_string(),
                    told.at.clone(),
                    told.kind.clone(),
                    customer,
                    told.subject.clone(),
                    short(told),
                ]
            },
        )
    }

    fn follow(&self, session: &Session, query: Query) -> Result<(), Failure> {
        let mut after = self.paging.after.clone();
        let mut query = query.to_vec();
        query.push(("wait", Some(MAX_WAIT_S.to_string())));
        loop {
            match session.client.page::<Told>(&path(&["events"]), &query, after.as_deref(), MAX_PAGE) {
                Ok(page) => {
                    let mut out = std::io::stdout().lock();
                    for told in page.items {
                        if session.out.json {
                            serde_json::to_writer(&mut out, &told).map_err(std::io::Error::from)?;
                            writeln!(out)?;
                        } else {
                            let line =
                                format!("{} {} {} {} {}", told.seq, told.at, told.kind, told.subject, short(&told));
                            writeln!(out, "{}", printable(&line))?;
                        }
                        after = Some(told.seq.to_string());
                    }
                    out.flush()?;
                }
                Err(failure) if failure.is_transient() => {
                    session.out.note(&format!("{failure}; asking again"));
                    thread::sleep(AGAIN);
                }
                Err(failure) => return Err(failure),
            }
        }
    }
}

fn short(told: &Told) -> String {
    let text = told.data.to_string();
    if text.chars().count() <= MAX_SHOWN {
        return text;
    }
    text.chars().take(MAX_SHOWN).chain(['…']).collect()
}
