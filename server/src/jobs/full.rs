//! The compressed full image: what a device without a patch downloads, and the yardstick for patches.

use std::io::Write as _;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use sluice_catalog::patch::{Full, FullEncoding};
use sluice_catalog::release::Artifact;
use sluice_catalog::{Digest, Time};

use super::{Claim, Ended, blocking, new_job};
use crate::app::App;
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::store::Tx;

/// The job's kind.
pub const KIND: &str = "full";
/// Longest image that jobs hold in memory.
pub const MAX_IMAGE_LEN: u64 = 2 << 30;
/// Zstandard level: a release is compressed once and downloaded by a fleet.
const LEVEL: i32 = 19;
/// log2 of the window: what a decoder must hold in memory, 8 MiB (RFC 8878 recommends that decoders accept it).
const WINDOW_LOG: u32 = 23;

#[derive(Deserialize)]
struct Payload {
    image: Digest,
}

/// Enqueues the encoding of a new artifact, before its patches.
pub async fn enqueue(app: &App, tx: &mut Tx, artifact: &Artifact, now: Time) -> Result<()> {
    if tx.full_exists(artifact.sha256).await? {
        return Ok(());
    }
    let key = format!("full:{}", artifact.sha256);
    Ok(tx.job_add(&new_job(app, KIND, key, json!({"image": artifact.sha256}), i64::MAX, now)).await?)
}

/// Compresses the image, unless that was done.
pub async fn run(app: &Arc<App>, claim: &Claim) -> Result<Ended> {
    failpoint("job.full.after_claim");
    let Payload { image } = claim.payload()?;
    let full = match app.store.full_of(image).await?.into_iter().next() {
        Some(full) => full,
        None => encode(app, image).await?,
    };
    failpoint("job.full.after_blob");
    let now = app.now();
    let mut tx = app.store.begin().await?;
    tx.full_add(&full).await?;
    tx.generation_raise("patches").await?;
    if !claim.done(&mut tx, now).await? {
        return Ok(Ended::Lost);
    }
    failpoint("job.full.before_commit");
    tx.commit().await?;
    app.refresh().await?;
    Ok(Ended::Here)
}

/// Makes and stores the encoding. When compression does not help, the raw image is the encoding.
pub async fn encode(app: &Arc<App>, image: Digest) -> Result<Full> {
    let bytes = app.blobs.read_all(image, MAX_IMAGE_LEN).await?;
    let raw_len = bytes.len();
    let coded = blocking(move || compress(&bytes).map_err(Error::internal)).await?;
    if coded.len() >= raw_len {
        let length = i64::try_from(raw_len).map_err(Error::internal)?;
        return Ok(Full { of_sha256: image, encoding: FullEncoding::Raw, sha256: image, length });
    }
    let length = i64::try_from(coded.len()).map_err(Error::internal)?;
    let sha256 = app.blobs.put_bytes(coded).await?;
    Ok(Full { of_sha256: image, encoding: FullEncoding::Zstd, sha256, length })
}

fn compress(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), LEVEL)?;
    encoder.window_log(WINDOW_LOG)?;
    encoder.long_distance_matching(true)?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(Some(bytes.len() as u64))?;
    encoder.write_all(bytes)?;
    encoder.finish()
}
