//! Bearer tokens of principals.

use std::path::PathBuf;

use clap::Subcommand;
use sluice_catalog::id::TokenId;
use sluice_catalog::principal::Permission;
use sluice_catalog::text::Slug;
use sluice_catalog::wire::admin::{MAX_TITLE_LEN, TokenCreate, TokenCreated};
use sluice_catalog::{TextSet, Time};

use crate::args::one_of;
use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::short_text;
use crate::secret::Reserved;

/// Names of the permissions.
const PERMISSIONS: &[&str] =
    &["read", "publish", "products", "devices", "contracts", "rollouts", "principals", "embargo"];

#[derive(Subcommand)]
pub enum Command {
    /// Make a token. Its secret is shown this once.
    Create {
        /// Whose it is.
        principal: Slug,
        /// What people call it.
        #[arg(long, default_value = "", hide_default_value = true, value_parser = short_text(MAX_TITLE_LEN))]
        label: String,
        /// Limit it to this permission of the principal's role; may be repeated [default: all of them].
        #[arg(long = "scope", value_parser = one_of::<Permission>(PERMISSIONS))]
        scopes: Vec<Permission>,
        /// When it ends [default: never].
        #[arg(long, value_name = "TIME")]
        expires: Option<Time>,
        /// Write the secret to this new file instead of showing it.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Revoke a token, at once.
    Revoke {
        /// Its id.
        id: TokenId,
    },
}

impl Command {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Create { principal, label, scopes, expires, out } => {
                let reserved = out.as_deref().map(Reserved::new).transpose()?;
                let scopes: TextSet = scopes.into_iter().map(Permission::as_str).collect();
                let request = TokenCreate { label, scopes, expires_at: expires };
                let path = path(&["principals", principal.as_str(), "tokens"]);
                let made: TokenCreated = session.client.post(&path, &request)?.value;
                match reserved {
                    Some(reserved) => {
                        let file = reserved.fill(&made.token)?;
                        let shown = serde_json::json!({ "principal": made.principal, "token_id": made.token_id });
                        session
                            .out
                            .result(&shown, |_| format!("{}: token {} of {principal}", file.display(), made.token_id))
                    }
                    None => session.out.result(&made, |made| {
                        session.out.note(&format!("Token {} of {principal}; shown only now:", made.token_id));
                        made.token.clone()
                    }),
                }
            }
            Self::Revoke { id } => {
                session.client.delete(&path(&["tokens", &id.to_string()]))?;
                session.out.result(&serde_json::json!({ "revoked": id }), |_| format!("token {id} is revoked"))
            }
        }
    }
}
