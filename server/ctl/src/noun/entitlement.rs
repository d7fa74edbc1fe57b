//! What becomes of devices' access as time goes by.

use clap::Subcommand;
use sluice_catalog::Time;
use sluice_catalog::text::ProductName;

use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::fleet::{self, Which};

#[derive(Subcommand)]
pub enum Command {
    /// Tell which devices of a product lose or gain versions and codes until a moment, when nobody does anything.
    Forecast {
        /// The product.
        product: ProductName,
        /// From this moment on [default: now].
        #[arg(long, value_name = "TIME")]
        from: Option<Time>,
        /// Until this moment.
        #[arg(long, value_name = "TIME")]
        to: Time,
        #[command(flatten)]
        which: Which,
    },
}

impl Command {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let Self::Forecast { product, from, to, which } = self;
        let own = vec![("from", from.map(|from| from.to_string())), ("to", Some(to.to_string()))];
        let path = path(&["products", product.as_str(), "forecast"]);
        fleet::forecast(session, &path, &[own, which.query()].concat())
    }
}
