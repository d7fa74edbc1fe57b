//! A device reported a wrong image from a patch. The server applies the patch again itself; it is withdrawn when that
//! fails, or when three devices have reported the release. One hostile report withdraws nothing.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use sluice_catalog::Digest;
use sluice_catalog::device::Device;
use sluice_catalog::id::ReleaseId;

use super::{Claim, Ended, blocking, full, new_job, patch};
use crate::app::App;
use crate::error::Result;
use crate::store::Tx;

/// The job's kind.
pub const KIND: &str = "recheck";
/// Devices whose reports withdraw a patch although it is right here.
const MAX_REPORTS: i64 = 3;

#[derive(Deserialize)]
struct Payload {
    from: Digest,
    to: Digest,
    release: ReleaseId,
}

/// Enqueues the check of every patch that this device can have got for the release.
pub async fn enqueue(app: &App, tx: &mut Tx, device: &Device, release: ReleaseId) -> Result<()> {
    let now = app.now();
    let installed = tx.installed_list(device.id).await?;
    let Some((_, view)) = app.live.products().release(release).map(|(p, r)| (p.product.id, r.clone())) else {
        return Ok(());
    };
    for artifact in &view.artifacts {
        let Some(from) = installed.iter().find(|one| one.component == artifact.component).map(|one| one.sha256) else {
            continue;
        };
        let key = format!("recheck:{}:{from}", artifact.sha256);
        let payload = json!({"from": from, "to": artifact.sha256, "release": release});
        tx.job_add(&new_job(app, KIND, key, payload, 1_000_000, now)).await?;
    }
    Ok(())
}

/// Applies the patches between two images again.
pub async fn run(app: &Arc<App>, claim: &Claim) -> Result<Ended> {
    let Payload { from, to, release } = claim.payload()?;
    let patches: Vec<_> =
        app.store.patch_ready().await?.into_iter().filter(|p| p.from_sha256 == from && p.to_sha256 == to).collect();
    let mut wrong = None;
    if !patches.is_empty() {
        let old = Arc::new(app.blobs.read_all(from, full::MAX_IMAGE_LEN).await?);
        for one in &patches {
            let made = match app.blobs.read_all(one.sha256, full::MAX_IMAGE_LEN).await {
                Err(error) => Err(error),
                Ok(bytes) => {
                    let old = Arc::clone(&old);
                    let (head_len, head) = (u32::try_from(one.head_length).unwrap_or(0), one.head_sha256.0);
                    blocking(move || patch::try_apply(&old, &bytes, head_len, head, 0)).await
                }
            };
            match made {
                Ok(made) if made == to => {}
                Ok(made) => wrong = Some(format!("makes {made}")),
                Err(error) => wrong = Some(super::describe(&error)),
            }
        }
    }
    let now = app.now();
    let mut tx = app.store.begin().await?;
    let reports = tx.mismatch_devices(release).await?;
    let cause = wrong.or_else(|| (reports >= MAX_REPORTS).then(|| format!("{reports} devices reported a wrong image")));
    if let (Some(cause), false) = (&cause, patches.is_empty()) {
        tx.patch_quarantine(from, to).await?;
        tx.generation_raise("patches").await?;
        let subject = format!("patch:{from}:{to}");
        tx.audit_add(now, "server", "patch.quarantine", &subject, &json!({"cause": cause})).await?;
        tracing::error!(%from, %to, cause, "patch {} to {} is withdrawn: {cause}", from.short(), to.short());
    }
    if !claim.done(&mut tx, now).await? {
        return Ok(Ended::Lost);
    }
    tx.commit().await?;
    app.refresh().await?;
    Ok(Ended::Here)
}
