//! Trains: the versions of a product that share a general-availability date.

use clap::Subcommand;
use sluice_catalog::Time;
use sluice_catalog::product::Train;
use sluice_catalog::text::{ProductName, TrainName};
use sluice_catalog::wire::admin::SupportEndSet;

use crate::args::Paging;
use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::list;
use crate::output::when;

#[derive(Subcommand)]
pub enum Command {
    /// List a product's trains.
    List {
        /// The product.
        product: ProductName,
        #[command(flatten)]
        paging: Paging,
    },
    /// Say from when on a train gets no further fixes. It is told to whoever asks why, and takes nothing from any device.
    SupportEnd {
        /// The product.
        product: ProductName,
        /// The train.
        train: TrainName,
        /// The first day, or moment, without support.
        #[arg(required_unless_present = "unknown")]
        end: Option<Time>,
        /// Nobody knows when it ends.
        #[arg(long, conflicts_with = "end")]
        unknown: bool,
    },
}

impl Command {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List { product, paging } => {
                let path = path(&["products", product.as_str(), "trains"]);
                list(session, &path, &[], &paging, &["TRAIN", "AVAILABLE", "SUPPORT ENDS"], |train: &Train| {
                    vec![train.name.to_string(), when(train.ga_at), when(train.support_end)]
                })
            }
            Self::SupportEnd { product, train, end, unknown: _ } => {
                let path = path(&["products", product.as_str(), "trains", train.as_str(), "support-end"]);
                let train: Train = session.client.put(&path, &SupportEndSet { support_end: end })?.value;
                session.out.result(&train, |train| match train.support_end {
                    Some(end) => format!("support of {product} {} ends on {end}", train.name),
                    None => format!("nobody knows when support of {product} {} ends", train.name),
                })
            }
        }
    }
}
