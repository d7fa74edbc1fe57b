//! Building patches: for the versions that the fleet really runs, most devices first, before a rollout opens. Every patch
//! is applied once here before it is offered, and one that does not pay is never offered.

use std::io::Cursor;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use sluice_catalog::decide::{ProductView, ReleaseView};
use sluice_catalog::device::DecoderProfile;
use sluice_catalog::id::{PatchId, ProductId};
use sluice_catalog::patch::{Patch, PatchState};
use sluice_catalog::release::Artifact;
use sluice_catalog::rollout::RolloutState;
use sluice_catalog::text::Component;
use sluice_catalog::{Digest, Time};
use sluice_delta::{ApplyBudget, ApplyOptions, DiffOptions, Profile};

use super::{Claim, Ended, blocking, full, new_job};
use crate::app::App;
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::store::Tx;

/// The job's kind.
pub const KIND: &str = "patch";
/// Versions in the field for which patches to one image are built, those of most devices first.
const MAX_SOURCES: u32 = 64;
/// Memory that a patch may ask of a device: that of the agent's default configuration.
const BUDGET: ApplyBudget = ApplyBudget { ram: 64 << 20, scratch: 0 };

#[derive(Deserialize)]
struct Payload {
    from: Digest,
    to: Digest,
    profile: DecoderProfile,
}

/// The keys of all patch jobs that make an image begin so.
pub fn key_prefix(to: Digest) -> String {
    format!("patch:{to}:")
}

async fn enqueue(
    app: &App,
    tx: &mut Tx,
    from: Digest,
    to: Digest,
    profile: DecoderProfile,
    devices: i64,
    now: Time,
) -> Result<()> {
    if profile == DecoderProfile::Raw || from == to || tx.patch_exists(from, to, profile).await? {
        return Ok(());
    }
    let key = format!("{}{from}:{}", key_prefix(to), profile.as_str());
    // A pair that failed for good is not tried again by itself.
    if tx.job_parked(&key).await? {
        return Ok(());
    }
    let payload = json!({"from": from, "to": to, "profile": profile});
    Ok(tx.job_add(&new_job(app, KIND, key, payload, devices, now)).await?)
}

/// Enqueues patches to one image of the version with this order from the older versions in the field.
pub async fn enqueue_artifact(
    app: &App,
    tx: &mut Tx,
    product: ProductId,
    order: i64,
    artifact: &Artifact,
    now: Time,
) -> Result<()> {
    let Some(view) = app.live.products().get(product).cloned() else { return Ok(()) };
    for (from, profile, devices) in tx.field_images(product, artifact.component.as_str(), MAX_SOURCES).await? {
        let source = view.release_of_image(&artifact.component, from);
        if source.is_some_and(|source| source.release.order < order) {
            enqueue(app, tx, from, artifact.sha256, profile, devices, now).await?;
        }
    }
    Ok(())
}

/// Enqueues patches to every image of a release from the versions in the field.
pub async fn enqueue_to(app: &App, tx: &mut Tx, product: &ProductView, release: &ReleaseView) -> Result<()> {
    let now = app.now();
    for artifact in &release.artifacts {
        enqueue_artifact(app, tx, product.product.id, release.release.order, artifact, now).await?;
    }
    Ok(())
}

/// Enqueues patches from an image that a device was just seen with: to the newest release and to those that a rollout
/// brings.
pub async fn enqueue_from(
    app: &App,
    tx: &mut Tx,
    product: ProductId,
    component: &Component,
    from: Digest,
    profile: DecoderProfile,
) -> Result<()> {
    let now = app.now();
    let Some(view) = app.live.products().get(product).cloned() else { return Ok(()) };
    let Some(source) = view.release_of_image(component, from) else { return Ok(()) };
    let brought = |release: &ReleaseView| {
        view.rollouts.iter().any(|rollout| {
            rollout.release_id == release.release.id
                && !matches!(rollout.state, RolloutState::Draft | RolloutState::Halted)
        })
    };
    for (index, release) in view.releases().iter().enumerate() {
        if release.release.order <= source.release.order || (index > 0 && !brought(release)) {
            continue;
        }
        for artifact in release.artifacts.iter().filter(|artifact| artifact.component == *component) {
            enqueue(app, tx, from, artifact.sha256, profile, 1, now).await?;
        }
    }
    Ok(())
}

/// Builds, tries and keeps a patch.
pub async fn run(app: &Arc<App>, claim: &Claim) -> Result<Ended> {
    failpoint("job.patch.after_claim");
    let Payload { from, to, profile } = claim.payload()?;
    let yardstick = match app.store.full_of(to).await?.into_iter().map(|full| full.length).min() {
        Some(length) => length,
        None => full::encode(app, to).await?.length,
    };
    let old = app.blobs.read_all(from, full::MAX_IMAGE_LEN).await?;
    let new = app.blobs.read_all(to, full::MAX_IMAGE_LEN).await?;
    let engine = match profile {
        DecoderProfile::Fast => Profile::Fast,
        DecoderProfile::Default => Profile::Default,
        DecoderProfile::Small => Profile::Small,
        DecoderProfile::Mcu => Profile::Mcu,
        DecoderProfile::Raw => return Err(Error::internal(anyhow::anyhow!("profile raw takes no patches"))),
    };
    let (started, memory) = (app.now(), app.rules.patch_memory);
    let built = blocking(move || build(&old, &new, engine, memory)).await?;
    failpoint("job.patch.after_build");
    let length = i64::try_from(built.bytes.len()).map_err(Error::internal)?;
    let worth = length.saturating_mul(100) <= yardstick.saturating_mul(i64::from(app.rules.patch_max_percent));
    let (head_length, head_sha256) = (i64::from(built.head_len), Digest(built.head_sha256()));
    let (ram, scratch) = (built.head.ram, built.head.scratch);
    let sha256 = if worth {
        app.blobs.put_bytes(built.bytes).await?
    } else {
        blocking(move || Ok(Digest::of(&built.bytes))).await?
    };
    failpoint("job.patch.after_blob");
    let now = app.now();
    let patch = Patch {
        id: PatchId::new(now, app.dice.id()),
        from_sha256: from,
        to_sha256: to,
        profile,
        state: if worth { PatchState::Ready } else { PatchState::NotWorth },
        sha256,
        length,
        head_length,
        head_sha256,
        ram: i64::try_from(ram).map_err(Error::internal)?,
        scratch: i64::try_from(scratch).map_err(Error::internal)?,
        created_at: now,
    };
    let mut tx = app.store.begin().await?;
    tx.patch_add(&patch).await?;
    tx.generation_raise("patches").await?;
    if !claim.done(&mut tx, now).await? {
        return Ok(Ended::Lost);
    }
    failpoint("job.patch.before_commit");
    tx.commit().await?;
    failpoint("job.patch.after_commit");
    app.refresh().await?;
    tracing::info!(
        from = %from.short(), to = %to.short(), profile = profile.as_str(), bytes = length, full = yardstick,
        ms = now.as_ms() - started.as_ms(), worth, "patch {} to {} built: {length} bytes", from.short(), to.short()
    );
    Ok(Ended::Here)
}

/// Builds a patch and applies it once: what a device would make of it must be the new image.
fn build(old: &[u8], new: &[u8], profile: Profile, memory: u64) -> Result<sluice_delta::Patch> {
    let options = DiffOptions {
        profile,
        inside: profile.unfolds(),
        budget: BUDGET,
        memory: Some(memory),
        ..DiffOptions::default()
    };
    let patch = sluice_delta::diff(old, new, &options, &|_| ControlFlow::Continue(())).map_err(Error::internal)?;
    let made = try_apply(old, &patch.bytes, patch.head_len, patch.head_sha256(), new.len())?;
    if made != Digest::of(new) {
        return Err(Error::internal(anyhow::anyhow!("the patch makes another image than it should")));
    }
    Ok(patch)
}

/// The digest of what a patch makes of an image, applied as a device applies it.
pub fn try_apply(old: &[u8], patch: &[u8], head_len: u32, head_sha256: [u8; 32], new_len: usize) -> Result<Digest> {
    let mut made = Vec::with_capacity(new_len);
    let options =
        ApplyOptions { budget: BUDGET, expected_head: Some((head_len, head_sha256)), ..ApplyOptions::default() };
    sluice_delta::apply(Cursor::new(old), patch, &mut made, &options).map_err(Error::internal)?;
    Ok(Digest::of(&made))
}
