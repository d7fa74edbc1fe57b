//! Patches and full encodings.

use sluice_catalog::Digest;
use sluice_catalog::device::DecoderProfile;
use sluice_catalog::id::ReleaseId;
use sluice_catalog::patch::{Full, Patch, PatchState};

use super::{Result, Sql, Store, Tx};

const COLUMNS: &str =
    "id, from_sha256, to_sha256, profile, state, sha256, length, head_length, head_sha256, ram, scratch, created_at";

impl Store {
    /// Every patch that may be offered.
    pub async fn patch_ready(&self) -> Result<Vec<Patch>> {
        Sql::built(format!("SELECT {COLUMNS} FROM patch WHERE state = 'ready' ORDER BY to_sha256, from_sha256"))
            .all(self)
            .await
    }

    /// Every full encoding.
    pub async fn full_all(&self) -> Result<Vec<Full>> {
        Sql::new("SELECT of_sha256, encoding, sha256, length FROM full_encoding").all(self).await
    }

    /// The full encodings of an image.
    pub async fn full_of(&self, image: Digest) -> Result<Vec<Full>> {
        Sql::new("SELECT of_sha256, encoding, sha256, length FROM full_encoding WHERE of_sha256 = $1")
            .bind(image)
            .all(self)
            .await
    }

    /// Patches to a release's images, counted by state.
    pub async fn patch_counts(&self, release: ReleaseId) -> Result<Vec<(PatchState, i64)>> {
        Sql::new(
            "SELECT p.state, CAST(COUNT(*) AS BIGINT) FROM patch p
             WHERE p.to_sha256 IN (SELECT a.sha256 FROM artifact a WHERE a.release_id = $1) GROUP BY p.state",
        )
        .bind(release)
        .all(self)
        .await
    }

    /// Digests of a release's images.
    pub async fn release_images(&self, release: ReleaseId) -> Result<Vec<Digest>> {
        let rows: Vec<(Vec<u8>,)> =
            Sql::new("SELECT sha256 FROM artifact WHERE release_id = $1 ORDER BY path").bind(release).all(self).await?;
        Ok(rows.into_iter().filter_map(|(sha256,)| Digest::try_from(sha256).ok()).collect())
    }
}

impl Tx {
    /// Whether a patch between two images stands, worth offering or not.
    pub async fn patch_exists(&mut self, from: Digest, to: Digest, profile: DecoderProfile) -> Result<bool> {
        let row: Option<(i64,)> =
            Sql::new("SELECT length FROM patch WHERE from_sha256 = $1 AND to_sha256 = $2 AND profile = $3")
                .bind(from)
                .bind(to)
                .bind(profile)
                .optional(self)
                .await?;
        Ok(row.is_some())
    }

    /// Keeps a patch. A second one between the same images for the same profile changes nothing.
    pub async fn patch_add(&mut self, patch: &Patch) -> Result<()> {
        Sql::new(
            "INSERT INTO patch (id, from_sha256, to_sha256, profile, state, sha256, length, head_length, head_sha256,
                                ram, scratch, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             ON CONFLICT (from_sha256, to_sha256, profile) DO NOTHING",
        )
        .bind(patch.id)
        .bind(patch.from_sha256)
        .bind(patch.to_sha256)
        .bind(patch.profile)
        .bind(patch.state)
        .bind(patch.sha256)
        .bind(patch.length)
        .bind(patch.head_length)
        .bind(patch.head_sha256)
        .bind(patch.ram)
        .bind(patch.scratch)
        .bind(patch.created_at)
        .execute(self)
        .await
        .map(|_| ())
    }

    /// Withdraws a patch from every offer.
    pub async fn patch_quarantine(&mut self, from: Digest, to: Digest) -> Result<()> {
        Sql::new("UPDATE patch SET state = 'quarantined' WHERE from_sha256 = $1 AND to_sha256 = $2")
            .bind(from)
            .bind(to)
            .execute(self)
            .await
            .map(|_| ())
    }

    /// Whether an image's full encoding stands.
    pub async fn full_exists(&mut self, image: Digest) -> Result<bool> {
        let row: Option<(i64,)> = Sql::new("SELECT length FROM full_encoding WHERE of_sha256 = $1 LIMIT 1")
            .bind(image)
            .optional(self)
            .await?;
        Ok(row.is_some())
    }

    /// Keeps a full encoding.
    pub async fn full_add(&mut self, full: &Full) -> Result<()> {
        Sql::new(
            "INSERT INTO full_encoding (of_sha256, encoding, sha256, length) VALUES ($1, $2, $3, $4)
             ON CONFLICT (of_sha256, encoding) DO NOTHING",
        )
        .bind(full.of_sha256)
        .bind(full.encoding)
        .bind(full.sha256)
        .bind(full.length)
        .execute(self)
        .await
        .map(|_| ())
    }
}
