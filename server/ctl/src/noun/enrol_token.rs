//! Tokens with which devices enrol: one for a single device, or one for a production batch.

use std::path::PathBuf;

use clap::Subcommand;
use sluice_catalog::Time;
use sluice_catalog::device::EnrolToken;
use sluice_catalog::id::EnrolTokenId;
use sluice_catalog::text::{ProductName, Slug};
use sluice_catalog::wire::admin::{EnrolTokenCreate, EnrolTokenCreated, MAX_TITLE_LEN};

use crate::args::Paging;
use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::{list, short_text};
use crate::output::when;
use crate::secret::Reserved;

/// Most devices that one token admits.
const USES_MAX: i64 = 1_000_000;

#[derive(Subcommand)]
pub enum Command {
    /// Make an enrolment token. Its secret is shown this once.
    Create {
        /// The product its devices belong to.
        #[arg(long)]
        product: ProductName,
        /// How many devices it admits.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=USES_MAX))]
        uses: u32,
        /// The customer its devices go to.
        #[arg(long)]
        customer: Option<Slug>,
        /// What people call it.
        #[arg(long, default_value = "", hide_default_value = true, value_parser = short_text(MAX_TITLE_LEN))]
        label: String,
        /// When it ends [default: in 30 days].
        #[arg(long, value_name = "TIME")]
        expires: Option<Time>,
        /// Write the secret to this new file instead of showing it.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// List enrolment tokens, without their secrets.
    List(Paging),
    /// Revoke an enrolment token. Devices that enrolled with it stay.
    Revoke {
        /// Its id.
        id: EnrolTokenId,
    },
}

impl Command {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Create { product, uses, customer, label, expires, out } => {
                let reserved = out.as_deref().map(Reserved::new).transpose()?;
                let request = EnrolTokenCreate { product, customer, label, uses, expires_at: expires };
                let made: EnrolTokenCreated = session.client.post(&path(&["enrol-tokens"]), &request)?.value;
                match reserved {
                    Some(reserved) => {
                        let file = reserved.fill(&made.token)?;
                        session.out.result(&made.enrol_token, |token| {
                            format!("{}: admits {} until {}", file.display(), token.remaining, when(token.expires_at))
                        })
                    }
                    None => session.out.result(&made, |made| {
                        session.out.note("This secret is shown only now:");
                        made.token.clone()
                    }),
                }
            }
            Self::List(paging) => list(
                session,
                &path(&["enrol-tokens"]),
                &[],
                &paging,
                &["ID", "LABEL", "REMAINING", "CREATED", "EXPIRES", "REVOKED"],
                |token: &EnrolToken| {
                    vec![
                        token.id.to_string(),
                        token.label.clone(),
                        token.remaining.to_string(),
                        when(token.created_at),
                        when(token.expires_at),
                        when(token.revoked_at),
                    ]
                },
            ),
            Self::Revoke { id } => {
                session.client.delete(&path(&["enrol-tokens", &id.to_string()]))?;
                session
                    .out
                    .result(&serde_json::json!({ "revoked": id }), |_| format!("enrolment token {id} is revoked"))
            }
        }
    }
}
