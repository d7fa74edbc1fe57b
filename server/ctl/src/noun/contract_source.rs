//! Systems that keep contracts elsewhere: when each was last heard of.

use clap::Subcommand;
use sluice_catalog::source::{ContractSource, DEFAULT_STALE_HOURS, MAX_STALE_HOURS, SourceSet};
use sluice_catalog::text::Slug;

use crate::args::Paging;
use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::list;
use crate::output::{fields, when};

#[derive(Subcommand)]
pub enum Command {
    /// List the systems with when each was last heard of.
    List(Paging),
    /// Say that a system lives and that nothing changed there.
    Touch {
        /// Its name.
        name: Slug,
    },
    /// Say how long a system may be silent before windows that were open count on. Off until it is set.
    Set {
        /// Its name.
        name: Slug,
        /// Hours of silence.
        #[arg(long, value_name = "HOURS", default_value_t = DEFAULT_STALE_HOURS, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_STALE_HOURS)))]
        stale_after: u32,
        /// However long.
        #[arg(long, conflicts_with = "stale_after")]
        off: bool,
    },
}

impl Command {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List(paging) => list(
                session,
                &path(&["contract-sources"]),
                &[],
                &paging,
                &["NAME", "HEARD", "AGE", "STALE AFTER", "STALE"],
                |source: &ContractSource| {
                    let stale = if source.stale { "yes" } else { "no" };
                    vec![
                        source.name.to_string(),
                        when(source.heard_at),
                        age(source.age_s),
                        stale_after(source),
                        stale.to_owned(),
                    ]
                },
            ),
            Self::Touch { name } => {
                let path = path(&["contract-sources", name.as_str()]);
                let source = session.client.post::<ContractSource>(&path, &serde_json::json!({}))?.value;
                session.out.result(&source, text)
            }
            Self::Set { name, stale_after, off } => {
                let path = path(&["contract-sources", name.as_str()]);
                let set = SourceSet { stale_after_hours: (!off).then_some(stale_after) };
                let source = session.client.put::<ContractSource>(&path, &set)?.value;
                session.out.result(&source, text)
            }
        }
    }
}

fn age(seconds: i64) -> String {
    match seconds {
        ..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn stale_after(source: &ContractSource) -> String {
    source.stale_after_hours.map_or_else(|| "off".to_owned(), |hours| format!("{hours} h"))
}

fn text(source: &ContractSource) -> String {
    fields(&[
        ("name", source.name.to_string()),
        ("last heard of", when(source.heard_at)),
        ("stale after", stale_after(source)),
        ("stale", if source.stale { "yes: windows that were open then count on" } else { "no" }.to_owned()),
    ])
}
