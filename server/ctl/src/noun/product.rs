//! Product lines.

use clap::Subcommand;
use sluice_catalog::product::{Product, Visibility};
use sluice_catalog::text::{Family, Pid, ProductName};
use sluice_catalog::wire::admin::ProductCreate;

use crate::args::{Paging, one_of};
use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::list;
use crate::output::{fields, made, or_dash, when};

#[derive(Subcommand)]
pub enum Command {
    /// Enter a product line. Its releases are signed for by the TUF role of the same name.
    Create {
        /// Its name, a-z 0-9 and -.
        name: ProductName,
        /// Whether anyone may read its metadata and images, or only those with a token.
        #[arg(long, default_value = "gated", value_parser = one_of::<Visibility>(&["public", "gated"]))]
        visibility: Visibility,
        /// What people read [default: the name].
        #[arg(long)]
        title: Option<String>,
        /// The family that plan grants name [default: the name].
        #[arg(long)]
        family: Option<Family>,
        /// The product id that Lens-style clients ask by.
        #[arg(long)]
        pid: Option<Pid>,
    },
    /// List product lines.
    List(Paging),
    /// Show one product line.
    Show {
        /// Its name.
        name: ProductName,
    },
}

impl Command {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Create { name, visibility, title, family, pid } => {
                let request = ProductCreate { name, title, family, pid, visibility };
                let answer = session.client.post::<Product>(&path(&["products"]), &request)?;
                session.out.result(&answer.value, |product| {
                    made(answer.created, &format!("product {} ({})", product.name, product.visibility.as_str()))
                })
            }
            Self::List(paging) => list(
                session,
                &path(&["products"]),
                &[],
                &paging,
                &["NAME", "TITLE", "FAMILY", "PID", "VISIBILITY", "CREATED"],
                |product: &Product| {
                    vec![
                        product.name.to_string(),
                        product.title.clone(),
                        product.family.to_string(),
                        or_dash(product.pid.as_ref()),
                        product.visibility.as_str().to_owned(),
                        when(product.created_at),
                    ]
                },
            ),
            Self::Show { name } => {
                let product: Product = session.client.get(&path(&["products", name.as_str()]), &[])?;
                session.out.result(&product, |product| {
                    fields(&[
                        ("name", product.name.to_string()),
                        ("title", product.title.clone()),
                        ("family", product.family.to_string()),
                        ("pid", or_dash(product.pid.as_ref())),
                        ("visibility", product.visibility.as_str().to_owned()),
                        ("created", when(product.created_at)),
                        ("id", product.id.to_string()),
                    ])
                })
            }
        }
    }
}
