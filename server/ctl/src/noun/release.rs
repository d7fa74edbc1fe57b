//! Published releases. They are made by `sluice-sign`; here they are looked at and withdrawn.

use clap::Subcommand;
use sluice_catalog::text::{ProductName, Version};
use sluice_catalog::wire::admin::ReleaseDetail;

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
