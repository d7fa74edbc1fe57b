//! The online keys in use: which of those in the folder sign follows from the published roots.

use std::sync::Arc;

use sluice_catalog::Kind;
use sluice_catalog::principal::Permission;
use sluice_catalog::wire::admin::OnlineKeys;
use sluice_signer::{OnlineRole, SigningKey};

use super::{Actor, App};
use crate::error::{Error, Result};
use crate::keys::MissingKey;

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

impl App {
    /// The key with which to sign now.
    pub fn key(&self, role: OnlineRole) -> Result<Arc<SigningKey>> {
        Ok(self.keys.current(role, self.live.documents().named())?)
    }

    /// The key that signs for devices of an epoch: of one that has ended, as long as its branch lives.
    pub fn key_of_epoch(&self, role: OnlineRole, epoch: Option<u32>) -> Result<Arc<SigningKey>> {
        let documents = self.live.documents_full();
        match epoch.and_then(|epoch| documents.named().of_epoch(u64::from(epoch))) {
            Some(named) => Ok(self.keys.current(role, &named)?),
            None => self.key(role),
        }
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
        if let Ok(now) = jiff::Timestamp::from_second(self.now().as_s()) {
            named.end_branches(now);
        }
        let named = &named;
        if self.keys.missing(named).is_some()
            && let Err(error) = self.keys.reread()
        {
            tracing::error!("the keys folder could not be read: {error:#}");
        }
        match self.keys.retire(named) {
            Ok(gone) if gone.is_empty() => {}
            Ok(gone) => tracing::info!("keys that no root names any more were put away: {}", gone.join(", ")),
            Err(error) => tracing::warn!("a key that is not used any more is still in the keys folder: {error:#}"),
        }
    }
}
