//! Keys with which people approve rollouts: made on the approver's own machine, enrolled by an administrator.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use ed25519_dalek::SigningKey;
use rand::TryRng as _;
use sluice_catalog::text::Slug;
use sluice_catalog::wire::admin::Page;
use sluice_catalog::wire::rollout::{ApproverEnrol, ApproverKey};

use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::output::{made, table, when};
use crate::secret;

/// Beside the configuration file.
const KEY_FILE: &str = "approver.key";
/// What the file begins with, so that no other secret is taken for it.
const KEY_PREFIX: &str = "sluice-approver-key-1 ";

/// Where an approver's key is.
#[derive(Args)]
pub struct KeyFile {
    /// The key's file; `approver.key` beside the configuration unless given.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl KeyFile {
    fn path(&self, config: &Path) -> PathBuf {
        self.key.clone().unwrap_or_else(|| config.with_file_name(KEY_FILE))
    }

    /// Reads the key.
    pub fn read(&self, config: &Path) -> Result<SigningKey, Failure> {
        let path = self.path(config);
        let mut text = String::new();
        let hint = || format!("{}: make a key with `sluicectl approver new`", path.display());
        File::open(&path).with_context(hint)?.take(1024).read_to_string(&mut text).with_context(hint)?;
        let mut seed = [0; 32];
        let hex = text.trim().strip_prefix(KEY_PREFIX);
        hex.and_then(|hex| hex::decode_to_slice(hex, &mut seed).ok())
            .ok_or_else(|| Failure::Usage(format!("{}: no approver's key", path.display())))?;
        Ok(SigningKey::from_bytes(&seed))
    }
}

#[derive(Subcommand)]
pub enum Command {
    /// Make your own key. It stays on this machine; an administrator enrols what is printed.
    New(KeyFile),
    /// Enrol the key of a person, as they gave it to you. Nobody enrols their own.
    Enrol {
        /// The person.
        name: Slug,
        /// The public key, 64 hexadecimal digits.
        public_key: String,
    },
    /// List keys.
    List,
    /// Take a key away: its approvals of whatever has not started count no more.
    Revoke {
        /// The public key.
        public_key: String,
    },
}

impl Command {
    pub fn run(self, session: &Session, config: &Path) -> Result<(), Failure> {
        match self {
            Self::New(file) => {
                let path = file.path(config);
                if path.exists() {
                    return Err(Failure::Usage(format!("{}: there is a key already", path.display())));
                }
                let mut seed = [0; 32];
                rand::rngs::SysRng.try_fill_bytes(&mut seed).context("the system gives no randomness")?;
                let key = SigningKey::from_bytes(&seed);
                if let Some(folder) = path.parent() {
                    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
                }
                secret::replace(&path, &format!("{KEY_PREFIX}{}\n", hex::encode(seed)))?;
                let public = hex::encode(key.verifying_key().as_bytes());
                session.out.result(&serde_json::json!({"public_key": public, "file": path}), |_| public.clone())?;
                session.out.note(&format!(
                    "{} is yours alone. An administrator enrols the key above: `sluicectl approver enrol YOU {public}`",
                    path.display()
                ));
                Ok(())
            }
            Self::Enrol { name, public_key } => {
                let path = path(&["principals", name.as_str(), "approver-keys"]);
                let answer = session.client.post::<ApproverKey>(&path, &ApproverEnrol { public_key })?;
                session.out.result(&answer.value, |key| {
                    made(answer.created, &format!("key {} of {}", key.public_key, key.principal))
                })
            }
            Self::List => {
                let page: Page<ApproverKey> = session.client.get(&path(&["approvers"]), &[])?;
                session.out.result(&page, |page| {
                    let row = |key: &ApproverKey| {
                        vec![
                            key.principal.to_string(),
                            key.public_key.clone(),
                            when(key.created_at),
                            when(key.revoked_at),
                        ]
                    };
                    table(&["NAME", "KEY", "ENROLLED", "REVOKED"], page.items.iter().map(row))
                })
            }
            Self::Revoke { public_key } => {
                session.client.delete(&path(&["approvers", &public_key]))?;
                let text = format!("key {public_key} approves nothing any more");
                session.out.result(&serde_json::json!({"revoked": public_key}), |_| text.clone())
            }
        }
    }
}
