//! Published releases. They are made by `sluice-sign`; here they are looked at and withdrawn.

use clap::Subcommand;
use sluice_catalog::text::{Code, ProductName, Version};
use sluice_catalog::wire::admin::ReleaseDetail;
use sluice_catalog::wire::entitlement::{BlockedSet, EmbargoSet};
use sluice_catalog::{TextSet, Time};

use crate::args::Paging;
use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::list;
use crate::output::{fields, joined, or_dash, table, when};

#[derive(Subcommand)]
pub enum Command {
    /// List the releases of a product, newest first.
    List {
        /// The product.
        product: ProductName,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show one release with its images and notes.
    Show {
        /// The product.
        product: ProductName,
        /// The version.
        version: Version,
    },
    /// Keep a release for some until a moment; or, with --lift, no longer.
    Embargo {
        /// The product.
        product: ProductName,
        /// The version.
        version: Version,
        /// When it ends.
        #[arg(long, value_name = "TIME", required_unless_present = "lift", conflicts_with = "lift")]
        until: Option<Time>,
        /// A code that a device must be covered for to have it early; may be repeated. Without any nobody has it early.
        #[arg(long = "code")]
        codes: Vec<Code>,
        /// Lift it.
        #[arg(long)]
        lift: bool,
    },
    /// Say to which countries a release is not delivered, in place of what was said before.
    Block {
        /// The product.
        product: ProductName,
        /// The version.
        version: Version,
        /// A country, two capital letters (ISO 3166-1); may be repeated. Without any the block is lifted.
        #[arg(long = "country")]
        countries: Vec<String>,
    },
    /// Stop offering a release, for good. Devices that run it keep it.
    Withdraw {
        /// The product.
        product: ProductName,
        /// The version.
        version: Version,
    },
}

impl Command {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Embargo { product, version, until, codes, lift } => {
                let path = path(&["products", product.as_str(), "releases", version.as_str(), "embargo"]);
                match until {
                    Some(until) if !lift => session.client.put_only(&path, &EmbargoSet { codes, until })?,
                    _ => session.client.delete(&path)?,
                }
                let until =
                    until.map_or_else(|| "under no embargo".to_owned(), |until| format!("under embargo until {until}"));
                session.out.result(&serde_json::json!({"version": version, "embargo": until}), |_| {
                    format!("{product} {version} is {until}")
                })
            }
            Self::Block { product, version, countries } => {
                let path = path(&["products", product.as_str(), "releases", version.as_str(), "blocked-countries"]);
                let countries: TextSet = countries.into_iter().collect();
                session.client.put_only(&path, &BlockedSet { countries: countries.clone() })?;
                session.out.result(&serde_json::json!({"version": version, "blocked": countries}), |_| {
                    format!("{product} {version} is blocked in: {}", joined(countries.iter()))
                })
            }
            Self::List { product, paging } => list(
                session,
                &path(&["products", product.as_str(), "releases"]),
                &[],
                &paging,
                &["VERSION", "KIND", "TRAIN", "TRAIN GA", "CHANNEL", "REQUIRES", "PUBLISHED", "WITHDRAWN"],
                |detail: &ReleaseDetail| {
                    let release = &detail.release;
                    vec![
                        release.version.to_string(),
                        release.kind.as_str().to_owned(),
                        release.train.to_string(),
                        detail.train_ga.date(),
                        release.channel.as_str().to_owned(),
                        joined(release.requires.iter()),
                        when(release.published_at),
                        when(release.withdrawn_at),
                    ]
                },
            ),
            Self::Show { product, version } => {
                let path = path(&["products", product.as_str(), "releases", version.as_str()]);
                let detail: ReleaseDetail = session.client.get(&path, &[])?;
                session.out.result(&detail, text)
            }
            Self::Withdraw { product, version } => {
                let path = path(&["products", product.as_str(), "releases", version.as_str(), "withdraw"]);
                let detail: ReleaseDetail = session.client.post(&path, &serde_json::json!({}))?.value;
                session.out.result(&detail, |detail| {
                    let (version, at) = (&detail.release.version, when(detail.release.withdrawn_at));
                    format!("{} {version} is withdrawn since {at}; devices that run it keep it", detail.product)
                })
            }
        }
    }
}

fn text(detail: &ReleaseDetail) -> String {
    let release = &detail.release;
    let mut text = fields(&[
        ("product", detail.product.to_string()),
        ("version", release.version.to_string()),
        ("order", release.order.to_string()),
        ("kind", release.kind.as_str().to_owned()),
        ("train", format!("{} (GA {})", release.train, detail.train_ga.date())),
        ("channel", release.channel.as_str().to_owned()),
        ("requires", joined(release.requires.iter())),
        ("advisories", joined(release.advisories.iter())),
        ("published", when(release.published_at)),
        ("withdrawn", when(release.withdrawn_at)),
        ("notes", release.notes_header.clone()),
    ]);
    text.push('\n');
    text.push_str(&table(
        &["COMPONENT", "HARDWARE", "BYTES", "SHA-256", "COUNTER", "FROM AT LEAST"],
        detail.artifacts.iter().map(|artifact| {
            vec![
                artifact.component.to_string(),
                joined(artifact.hw_ids.iter()),
                artifact.length.to_string(),
                artifact.sha256.to_string(),
                artifact.security_counter.to_string(),
                or_dash(artifact.min_installed.as_ref()),
            ]
        }),
    ));
    text
}
