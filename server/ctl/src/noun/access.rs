//! Getting in: the first administrator, logging in, and who one is.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use sluice_catalog::principal::Principal;
use sluice_catalog::text::Slug;
use sluice_catalog::wire::admin::{BootstrapRequest, TokenCreated};

use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::output::{fields, when};
use crate::secret;
use crate::settings::{ConfigFile, Settings};

/// Makes the first administrator. The bootstrap token, which the server wrote on its first start, can do nothing else:
/// give it as --token-file.
#[derive(Args)]
pub struct Bootstrap {
    /// The administrator's name, as the audit log shows it.
    #[arg(long)]
    name: Slug,
}

/// Remembers a server and a token. Without --token-file it asks for the token.
#[derive(Args)]
pub struct Login {}

/// What was remembered: never the token itself.
#[derive(Serialize)]
struct LoggedIn {
    principal: Principal,
    server: String,
    config: PathBuf,
}

impl Bootstrap {
    pub fn run(&self, settings: &Settings) -> Result<(), Failure> {
        let bootstrap_token = settings.typed_token.clone().ok_or_else(|| {
            Failure::Usage("give the server's bootstrap token: --token-file DATA/bootstrap-token".into())
        })?;
        let client = settings.client_with(Some(bootstrap_token))?;
        // The folder is made first: the new token is answered once, and must find its place.
        if let Some(folder) = settings.config_path.parent() {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let request = BootstrapRequest { name: self.name.clone() };
        let made: TokenCreated = client.post(&path(&["bootstrap"]), &request)?.value;
        remember(settings, made.principal, made.token)
    }
}

impl Login {
    #[expect(clippy::unused_self, reason = "every command has the same shape")]
    pub fn run(&self, settings: &Settings) -> Result<(), Failure> {
        let server = settings.server()?;
        let token = match &settings.typed_token {
            Some(token) => token.clone(),
            None if std::io::stdin().is_terminal() => {
                let typed = rpassword::prompt_password(format!("Token for {server}: ")).context("reading the token")?;
                secret::parse_token(&typed).map_err(|rule| Failure::Usage(rule.to_owned()))?
            }
            None => {
                return Err(Failure::Usage("no terminal to ask for the token at: give --token-file FILE".into()));
            }
        };
        let principal: Principal = settings.client_with(Some(token.clone()))?.get(&path(&["me"]), &[])?;
        remember(settings, principal, token)
    }
}

fn remember(settings: &Settings, principal: Principal, token: String) -> Result<(), Failure> {
    let server = settings.server()?.to_owned();
    let config = ConfigFile { server: server.clone(), token, ca_file: settings.ca_file.clone() };
    config.write(&settings.config_path)?;
    let logged_in = LoggedIn { principal, server, config: settings.config_path.clone() };
    settings.output.result(&logged_in, |logged_in| {
        let (name, role) = (&logged_in.principal.name, logged_in.principal.role.as_str());
        format!("Logged in at {} as {name} ({role}); remembered in {}.", logged_in.server, logged_in.config.display())
    })
}

/// Whom the token belongs to.
pub fn whoami(session: &Session) -> Result<(), Failure> {
    let principal: Principal = session.client.get(&path(&["me"]), &[])?;
    session.out.result(&principal, |principal| {
        fields(&[
            ("name", principal.name.to_string()),
            ("kind", principal.kind.as_str().to_owned()),
            ("role", principal.role.as_str().to_owned()),
            ("created", when(principal.created_at)),
        ])
    })
}
