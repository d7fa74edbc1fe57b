//! The installation as a whole: its numbers and its public online keys.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use sluice_catalog::wire::admin::{OnlineKeys, Status};

use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::output::{fields, table};

/// Exports the public online keys as JSON, for `sluice-sign root init --online-keys`.
#[derive(Args)]
pub struct OnlineKeysArgs {
    /// Write them to this file instead of standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl OnlineKeysArgs {
    pub fn run(&self, session: &Session) -> Result<(), Failure> {
        let keys: OnlineKeys = session.client.get(&path(&["online-keys"]), &[])?;
        let text = serde_json::to_string_pretty(&keys)?;
        match &self.out {
            Some(out) => {
                fs::write(out, text + "\n").with_context(|| out.display().to_string())?;
                session.out.note(&format!("{}: public keys S, T, D and E", out.display()));
                Ok(())
            }
            None => session.out.result(&keys, |_| text),
        }
    }
}

/// The numbers of the whole installation.
pub fn status(session: &Session) -> Result<(), Failure> {
    let status: Status = session.client.get(&path(&["status"]), &[])?;
    session.out.result(&status, |status| {
        let numbers = fields(&[
            ("version", status.version.clone()),
            ("database", status.database.clone()),
            ("blobs", status.blobs.clone()),
            ("products", status.products.to_string()),
            ("releases", status.releases.to_string()),
            ("devices", status.devices.to_string()),
            ("jobs pending", status.jobs_pending.to_string()),
            ("jobs parked", status.jobs_parked.to_string()),
        ]);
        if status.expiries.is_empty() {
            return numbers;
        }
        let rows = status.expiries.iter().map(|role| {
            let next = role.next_step.clone().unwrap_or_default();
            vec![
                role.role.clone(),
                role.version.to_string(),
                role.expires_at.to_string(),
                role.days_left.to_string(),
                next,
            ]
        });
        format!("{numbers}\n{}", table(&["role", "version", "expires", "days left", "next"], rows))
    })
}
