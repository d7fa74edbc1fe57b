//! Customers.

use clap::Subcommand;
use sluice_catalog::customer::Customer;
use sluice_catalog::text::Slug;
use sluice_catalog::wire::admin::CustomerCreate;

use crate::args::Paging;
use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::list;
use crate::output::{made, when};

#[derive(Subcommand)]
pub enum Command {
    /// Enter a customer.
    Create {
        /// A short name.
        name: Slug,
        /// What people read [default: the name].
        #[arg(long)]
        title: Option<String>,
    },
    /// List customers.
    List(Paging),
}

impl Command {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let path = path(&["customers"]);
        match self {
            Self::Create { name, title } => {
                let answer = session.client.post::<Customer>(&path, &CustomerCreate { name, title })?;
                session
                    .out
                    .result(&answer.value, |customer| made(answer.created, &format!("customer {}", customer.name)))
            }
            Self::List(paging) => {
                list(session, &path, &[], &paging, &["NAME", "TITLE", "CREATED"], |customer: &Customer| {
                    vec![customer.name.to_string(), customer.title.clone(), when(customer.created_at)]
                })
            }
        }
    }
}
