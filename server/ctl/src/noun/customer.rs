//! Customers.

use clap::Subcommand;
use sluice_catalog::Time;
use sluice_catalog::customer::{Customer, Partner};
use sluice_catalog::text::Slug;
use sluice_catalog::wire::admin::{CustomerCreate, CustomerDetail, ParentSet, PartnerSet};

use crate::args::Paging;
use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::list;
use crate::output::{made, or_dash, table, when};

#[derive(Subcommand)]
pub enum Command {
    /// Enter a customer.
    Create {
        /// A short name.
        name: Slug,
        /// What people read [default: the name].
        #[arg(long)]
        title: Option<String>,
        /// The customer that it stands beneath.
        #[arg(long)]
        parent: Option<Slug>,
    },
    /// Show a customer with who acts for it and for whom it acts.
    Show {
        /// Its name.
        name: Slug,
    },
    /// Put a customer beneath another, whose people then read what is its own.
    Parent {
        /// Its name.
        name: Slug,
        /// The customer above it [default: none: it stands on its own].
        parent: Option<Slug>,
    },
    /// Let another customer act for one: its people read, and with their role change, what is that one's.
    Partner {
        /// For whom.
        name: Slug,
        /// Who acts.
        partner: Slug,
        /// From then on [default: now].
        #[arg(long)]
        from: Option<Time>,
        /// Until then [default: until it is ended].
        #[arg(long)]
        until: Option<Time>,
    },
    /// End that another customer acts for one.
    PartnerEnd {
        /// For whom.
        name: Slug,
        /// Who acts.
        partner: Slug,
    },
    /// List customers.
    List(Paging),
}

impl Command {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let all = path(&["customers"]);
        match self {
            Self::Create { name, title, parent } => {
                let answer = session.client.post::<Customer>(&all, &CustomerCreate { name, title, parent })?;
                session
                    .out
                    .result(&answer.value, |customer| made(answer.created, &format!("customer {}", customer.name)))
            }
            Self::List(paging) => {
                let header = ["NAME", "TITLE", "PARENT", "CREATED"];
                list(session, &all, &[], &paging, &header, |customer: &Customer| {
                    vec![
                        customer.name.to_string(),
                        customer.title.clone(),
                        or_dash(customer.parent.as_ref()),
                        when(customer.created_at),
                    ]
                })
            }
            Self::Show { name } => {
                let detail: CustomerDetail = session.client.get(&path(&["customers", name.as_str()]), &[])?;
                session.out.result(&detail, text)
            }
            Self::Parent { name, parent } => {
                let path = path(&["customers", name.as_str(), "parent"]);
                let customer = session.client.put::<Customer>(&path, &ParentSet { parent })?.value;
                session.out.result(&customer, |customer| match &customer.parent {
                    Some(parent) => format!("{} stands beneath {parent}", customer.name),
                    None => format!("{} stands on its own", customer.name),
                })
            }
            Self::Partner { name, partner, from, until } => {
                let path = path(&["customers", name.as_str(), "partners", partner.as_str()]);
                let set = session.client.put::<Partner>(&path, &PartnerSet { from, until })?.value;
                session.out.result(&set, |set| {
                    format!("{} acts for {} from {} to {}", set.partner, set.customer, when(set.from), when(set.until))
                })
            }
            Self::PartnerEnd { name, partner } => {
                session.client.delete(&path(&["customers", name.as_str(), "partners", partner.as_str()]))?;
                let done = serde_json::json!({"customer": name, "partner": partner});
                session.out.result(&done, |_| format!("{partner} does not act for {name} any more"))
            }
        }
    }
}

fn text(detail: &CustomerDetail) -> String {
    let Customer { name, title, parent, .. } = &detail.customer;
    let beneath = parent.as_ref().map(|parent| format!(", beneath {parent}")).unwrap_or_default();
    let mut text = format!("{name} ({title}){beneath}");
    let all = detail.partners.iter().chain(&detail.acts_for);
    let rows: Vec<_> = all
        .map(|one| vec![one.partner.to_string(), one.customer.to_string(), when(one.from), when(one.until)])
        .collect();
    if !rows.is_empty() {
        text.push_str("\n\n");
        text.push_str(&table(&["ACTS", "FOR", "FROM", "TO"], rows));
    }
    text
}
