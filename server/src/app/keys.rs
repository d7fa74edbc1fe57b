//! The online keys in use: which of those in the folder sign follows from the published roots.

use std::sync::Arc;

use sluice_catalog::Kind;
use sluice_catalog::principal::Permission;
use sluice_catalog::wire::admin::OnlineKeys;
use sluice_signer::{Envelope, NamedKeys, OnlineRole, Signature};

use super::{Actor, App};
use crate::error::{Error, Result};
use crate::keys::{MissingKey, News, OnlineKey, TokenDown, end_branches};

impl From<MissingKey> for Error {
    /// Devices see this, too: what to do about it stands in the log.
    fn from(missing: MissingKey) -> Self {
        Self {
            kind: Kind::Unavailable,
            detail: format!(
                "this server does not have the {} key that the published root names; its log says what to do",
                missing.role.name()
            ),
            cause: Some(missing.into()),
        }
    }
}

impl Error {
    /// A key's token is away. Devices see this, too; the log told when it began.
    fn token_down(role: OnlineRole, down: TokenDown) -> Self {
        Self {
            kind: Kind::Unavailable,
            detail: format!("the server's {} key does not sign at the moment; try again later", role.name()),
            cause: Some(down.into()),
        }
    }
}

impl App {
    /// The key with which to sign now.
    pub fn key(&self, role: OnlineRole) -> Result<Arc<OnlineKey>> {
        Ok(self.keys.current(role, self.live.documents().named())?)
    }

    /// The key that signs for devices of an epoch: of one that has ended, as long as its branch lives.
    pub fn key_of_epoch(&self, role: OnlineRole, epoch: Option<u32>) -> Result<Arc<OnlineKey>> {
        let documents = self.live.documents_full();
        match epoch.and_then(|epoch| documents.named().of_epoch(u64::from(epoch))) {
            Some(named) => Ok(self.keys.current(role, &named)?),
            None => self.key(role),
        }
    }

    /// Signs a document with a key of a role: every signature of the server is made here. A token signs elsewhere meanwhile;
    /// no transaction should be open, and no more is waited than a few seconds.
    pub async fn sign(&self, role: OnlineRole, key: &Arc<OnlineKey>, mut document: Envelope) -> Result<Vec<u8>> {
        let sig = self.signature(role, key, document.payload()).await?;
        document.attach(Signature { keyid: key.public().keyid().to_owned(), sig });
        Ok(document.to_bytes())
    }

    async fn signature(&self, role: OnlineRole, key: &Arc<OnlineKey>, message: Vec<u8>) -> Result<Vec<u8>> {
        let (signed, news) = key.sign(message, &self.runtime, self.now()).await;
        let role_name = role.name();
        match (news, &signed) {
            (Some(News::Fails), Err(down)) => {
                tracing::error!(role = role_name, "{down}; until it does, what the {role_name} key signs is not made");
            }
            (Some(News::Signs), _) => tracing::info!(role = role_name, "the token of the {role_name} key signs again"),
            _ => {}
        }
        signed.map_err(|down| {
            self.metrics.token_error(role_name);
            Error::token_down(role, down)
        })
    }

    /// Refuses keys of new roots that are in a token which does not sign: the publication would stop the server.
    pub(super) async fn new_keys_sign(&self, new: &NamedKeys) -> Result<()> {
        let named = self.live.documents_full();
        for role in OnlineRole::ALL {
            if named.named().now.get(&role) == new.now.get(&role) {
                continue;
            }
            let Ok(key) = self.keys.current(role, new) else { continue };
            // No document begins so.
            self.signature(role, &key, b"does this key sign?".to_vec()).await?;
        }
        Ok(())
    }

    /// Refuses when a key that the published roots name is not here.
    pub fn has_keys(&self) -> Result<()> {
        self.keys.missing(self.live.documents().named()).map_or(Ok(()), |missing| Err(missing.into()))
    }

    /// The public keys, and those that are to follow them.
    pub fn online_keys(&self, actor: &Actor) -> Result<OnlineKeys> {
        actor.need(Permission::Read)?;
        // A successor is made by another process.
        self.keys.reread().map_err(Error::internal)?;
        self.keys.export(self.live.documents().named()).map_err(Error::internal)
    }

    /// Goes along with the published roots: looks for a key that they name and that was not here yet, and lets go of those
    /// that have had their time.
    pub fn follow_roots(&self) {
        let documents = self.live.documents_full();
        let mut named = documents.named().clone();
        // The keys of a branch stay as long as some device could take what they sign.
        end_branches(&mut named, self.now());
        let named = &named;
        let lacks = self.keys.missing(named).is_some() || !self.keys.missing_of_branches(named).is_empty();
        if lacks && let Err(error) = self.keys.reread() {
            tracing::error!("the keys folder could not be read: {error:#}");
        }
        for role in OnlineRole::ALL {
            let missing = self.keys.current(role, named).err();
            if self.metrics.key_missing(role.name(), missing.is_some())
                && let (OnlineRole::Entitlement, Some(missing)) = (role, missing)
            {
                // The others stop something at once, which says so itself.
                tracing::warn!("{missing}; until then no entitlement certificate is signed, and devices keep theirs");
            }
        }
        match self.keys.retire(named) {
            Ok(gone) if gone.is_empty() => {}
            Ok(gone) => tracing::info!("keys that no root names any more were put away: {}", gone.join(", ")),
            Err(error) => tracing::warn!("a key that is not used any more is still in the keys folder: {error:#}"),
        }
    }
}
