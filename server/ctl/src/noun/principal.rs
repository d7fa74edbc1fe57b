//! People and machines that administer.

use clap::Subcommand;
use sluice_catalog::principal::{Principal, PrincipalKind, Role};
use sluice_catalog::text::Slug;
use sluice_catalog::wire::admin::PrincipalCreate;

use crate::args::{Paging, one_of};
use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::list;
use crate::output::{made, when};

/// Names of the roles.
const ROLES: &[&str] = &["administrator", "release_engineer", "rollout_admin", "support", "auditor"];

#[derive(Subcommand)]
pub enum Command {
    /// Enter a person or a machine. `token create` makes a token for it.
    Create {
        /// Its name, as the audit log shows it.
        name: Slug,
        /// What it is for.
        #[arg(long, value_parser = one_of::<Role>(ROLES))]
        role: Role,
        /// Someone who can be asked, or a pipeline.
        #[arg(long, default_value = "person", value_parser = one_of::<PrincipalKind>(&["person", "machine"]))]
        kind: PrincipalKind,
        /// Bind it to this customer, for good: it reads that customer's things, may do for it what its role may do for its owner, and is
        /// refused everything else.
        #[arg(long)]
        customer: Option<Slug>,
    },
    /// List people and machines.
    List(Paging),
    /// Disable one: every token of it is dead at once.
    Disable {
        /// Its name.
        name: Slug,
    },
}

impl Command {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Create { name, role, kind, customer } => {
                let request = PrincipalCreate { name, kind, role, customer };
                let answer = session.client.post::<Principal>(&path(&["principals"]), &request)?;
                session.out.result(&answer.value, |principal| {
                    let of = principal.customer.as_ref().map(|customer| format!(" for {customer}")).unwrap_or_default();
                    made(
                        answer.created,
                        &format!("{} {} ({}){of}", kind.as_str(), principal.name, principal.role.as_str()),
                    )
                })
            }
            Self::List(paging) => list(
                session,
                &path(&["principals"]),
                &[],
                &paging,
                &["NAME", "KIND", "ROLE", "CUSTOMER", "CREATED", "DISABLED"],
                |principal: &Principal| {
                    vec![
                        principal.name.to_string(),
                        principal.kind.as_str().to_owned(),
                        principal.role.as_str().to_owned(),
                        principal.customer.as_ref().map(ToString::to_string).unwrap_or_default(),
                        when(principal.created_at),
                        when(principal.disabled_at),
                    ]
                },
            ),
            Self::Disable { name } => {
                let path = path(&["principals", name.as_str(), "disable"]);
                let principal: Principal = session.client.post(&path, &serde_json::json!({}))?.value;
                session.out.result(&principal, |principal| {
                    format!("{} is disabled since {}", principal.name, when(principal.disabled_at))
                })
            }
        }
    }
}
