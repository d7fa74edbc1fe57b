//! Swaps (RMA): a broken device is replaced by another, which takes over its cover.

use clap::Subcommand;
use sluice_catalog::swap::{MAX_OVERLAP_DAYS, Swap};
use sluice_catalog::text::{HardwareId, ProductName, Serial, Slug};
use sluice_catalog::wire::entitlement::SwapCreate;

use crate::args::Paging;
use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::list;
use crate::output::{fields, made, when};

#[derive(Subcommand)]
pub enum Command {
    /// Replace a device. The same number again is no error and changes nothing.
    Create {
        /// The number of the return.
        rma: Slug,
        /// The product of both.
        product: ProductName,
        /// The serial that is replaced.
        old: Serial,
        /// The serial that replaces it; it need not be known yet.
        new: Serial,
        /// The new one's hardware [default: that of the old one].
        #[arg(long)]
        hw_id: Option<HardwareId>,
        /// Days in which both work [default: 30].
        #[arg(long, value_parser = clap::value_parser!(u16).range(0..=i64::from(MAX_OVERLAP_DAYS)))]
        overlap_days: Option<u16>,
    },
    /// Give the old device back what it had. Possible while the overlap lasts.
    Undo {
        /// The number of the return.
        rma: Slug,
    },
    /// Show a swap.
    Show {
        /// The number of the return.
        rma: Slug,
    },
    /// List swaps.
    List(Paging),
}

impl Command {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Create { rma, product, old, new, hw_id, overlap_days } => {
                let request = SwapCreate { rma, product, old, new, hw_id, overlap_days };
                let answer = session.client.post::<Swap>(&path(&["swaps"]), &request)?;
                session.out.result(&answer.value, |swap| {
                    made(answer.created, &format!("swap {}", swap.rma)) + "\n\n" + &text(swap)
                })
            }
            Self::Undo { rma } => {
                let swap =
                    session.client.post::<Swap>(&path(&["swaps", rma.as_str(), "undo"]), &serde_json::json!({}))?;
                session.out.result(&swap.value, text)
            }
            Self::Show { rma } => {
                let swap: Swap = session.client.get(&path(&["swaps", rma.as_str()]), &[])?;
                session.out.result(&swap, text)
            }
            Self::List(paging) => list(
                session,
                &path(&["swaps"]),
                &[],
                &paging,
                &["RMA", "PRODUCT", "OLD", "NEW", "AT", "OVERLAP ENDS", "UNDONE"],
                |swap: &Swap| {
                    vec![
                        swap.rma.to_string(),
                        swap.product.to_string(),
                        swap.old.to_string(),
                        swap.new.to_string(),
                        when(swap.at),
                        when(swap.fence_at),
                        when(swap.undone_at),
                    ]
                },
            ),
        }
    }
}

fn text(swap: &Swap) -> String {
    fields(&[
        ("rma", swap.rma.to_string()),
        ("product", swap.product.to_string()),
        ("old", swap.old.to_string()),
        ("new", swap.new.to_string()),
        ("at", when(swap.at)),
        ("by", swap.actor.clone()),
        ("overlap ends", when(swap.fence_at)),
        ("undone", when(swap.undone_at)),
    ])
}
