//! What is signed, given to the server, and not announced yet.

use clap::Subcommand;
use sluice_catalog::wire::publish::Held;

use crate::args::Paging;
use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::list;
use crate::output::{or_dash, when};

#[derive(Subcommand)]
pub enum Command {
    /// List documents that wait for their moment, the next first.
    List,
    /// Drop what waits of an embargo role: it is not published then.
    Drop {
        /// The role.
        role: String,
    },
}

impl Command {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List => {
                // A role has one at most: they are never more than a page.
                let paging = Paging { limit: crate::args::LIST_MAX, after: None };
                let header = ["ROLE", "VERSION", "PRODUCT", "RELEASES", "SHOWN FROM", "GIVEN BY", "REFUSED"];
                list(session, &path(&["held"]), &[], &paging, &header, |held: &Held| {
                    vec![
                        held.role.clone(),
                        held.version.to_string(),
                        held.product.clone(),
                        held.releases.join(" "),
                        when(held.not_before),
                        held.held_by.clone(),
                        or_dash(held.refused.as_ref()),
                    ]
                })
            }
            Self::Drop { role } => {
                session.client.delete(&path(&["held", &role]))?;
                session
                    .out
                    .result(&serde_json::json!({ "dropped": role }), |_| format!("{role}: nothing waits any more"))
            }
        }
    }
}
