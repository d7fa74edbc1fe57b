//! Sites: where a customer's devices stand.

use clap::Subcommand;
use sluice_catalog::policy::Site;
use sluice_catalog::text::Slug;
use sluice_catalog::wire::entitlement::SiteSet;

use crate::args::Paging;
use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::list;
use crate::output::{made, or_dash, when};

#[derive(Subcommand)]
pub enum Command {
    /// Say where a site is, in place of what was said before.
    Set {
        /// Whose.
        customer: Slug,
        /// Its name, as devices name it.
        name: Slug,
        /// The country, two capital letters (ISO 3166-1).
        #[arg(long)]
        country: Option<String>,
        /// The time zone by its IANA name, such as Europe/Amsterdam.
        #[arg(long)]
        time_zone: Option<String>,
    },
    /// List a customer's sites.
    List {
        /// Whose.
        customer: Slug,
        #[command(flatten)]
        paging: Paging,
    },
}

impl Command {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Set { customer, name, country, time_zone } => {
                let path = path(&["customers", customer.as_str(), "sites", name.as_str()]);
                let answer = session.client.put::<Site>(&path, &SiteSet { country, time_zone })?;
                session
                    .out
                    .result(&answer.value, |site| made(answer.created, &format!("site {customer}/{}", site.name)))
            }
            Self::List { customer, paging } => {
                let path = path(&["customers", customer.as_str(), "sites"]);
                list(session, &path, &[], &paging, &["NAME", "COUNTRY", "TIME ZONE", "RECORDED"], |site: &Site| {
                    vec![
                        site.name.to_string(),
                        or_dash(site.country.as_ref()),
                        or_dash(site.time_zone.as_ref()),
                        when(site.recorded_at),
                    ]
                })
            }
        }
    }
}
