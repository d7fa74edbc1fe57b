//! Entitlement certificates: who gets one, and when key E signs.

use std::sync::Arc;

use sluice_catalog::{Kind, Time};
use sluice_signer::OnlineRole;

use super::App;
use crate::error::{Error, Result};
use crate::poll::CachedDevice;
use crate::poll::certificate::{Draft, SignedCertificate};

/// What a device is told when nobody can say what covers it: what it has stands, whatever became of its contracts.
const KEEP: &str =
    "what covers the device cannot be read at the moment: keep the certificate that you have, and ask again later";

/// Contracts that cannot be read are no lack of cover, and nothing that a device did.
pub fn keep(error: Error) -> Error {
    match error.kind {
        Kind::Internal | Kind::Unavailable => {
            Error { kind: Kind::Unavailable, detail: KEEP.into(), cause: error.cause }
        }
        _ => error,
    }
}

impl App {
    /// What a device's certificate would say now; `None` while it waits to be accepted, and before a root names key E.
    pub fn certificate_draft(&self, device: &CachedDevice, epoch: Option<u32>, now: Time) -> Result<Option<Draft>> {
        let products = self.live.products();
        let product = products.get(device.view.device.product_id).ok_or_else(|| Error::new(Kind::Unavailable, KEEP))?;
        let documents = self.live.documents();
        let newest = documents.named();
        if !newest.now.contains_key(&OnlineRole::Entitlement) {
            return Ok(None);
        }
        let root = (epoch.map_or(newest.epoch, u64::from), documents.director_repo_id());
        let key = self.key_of_epoch(OnlineRole::Entitlement, epoch)?;
        Draft::new(device, product, root, key.public(), self.rules.certificate_days, now)
    }

    /// A device's certificate; `None` when the one that it holds says the same and has more than a third of its life left.
    pub async fn certificate(
        &self,
        device: &CachedDevice,
        held: Option<&str>,
    ) -> Result<Option<Arc<SignedCertificate>>> {
        let now = self.now();
        // What may be stale must not be certified for a month.
        if !self.live.is_fresh(now) {
            return Err(Error::new(Kind::Unavailable, KEEP));
        }
        let epoch = self.branch_of(&device.view.device, now)?;
        let draft = self.certificate_draft(device, epoch, now)?.ok_or_else(|| {
            if self.live.documents().named().now.contains_key(&OnlineRole::Entitlement) {
                Error::new(Kind::WrongState, "there is no certificate for a device that waits to be accepted")
            } else {
                Error::new(Kind::Unavailable, "no director root names a key for certificates yet; ask again later")
            }
        })?;
        if held.is_some_and(|held| draft.confirms(held)) {
            self.metrics.certificate("unchanged");
            return Ok(None);
        }
        // A device that lost its own, or says so, costs no signature each time.
        let id = device.view.device.id;
        if let Some(signed) = self.devices.certificates.get(&id).filter(|signed| draft.confirms(&signed.etag)) {
            self.metrics.certificate("again");
            return Ok(Some(signed));
        }
        let key = self.key_of_epoch(OnlineRole::Entitlement, epoch)?;
        let body = self.sign(OnlineRole::Entitlement, &key, draft.document()?).await?;
        let signed = Arc::new(SignedCertificate { body, etag: draft.etag() });
        self.devices.certificates.insert(id, Arc::clone(&signed));
        self.metrics.certificate("signed");
        Ok(Some(signed))
    }
}
