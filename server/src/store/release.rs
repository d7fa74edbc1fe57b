//! Releases and artifacts.

use sluice_catalog::device::DecoderProfile;
use sluice_catalog::facts::Known;
use sluice_catalog::id::{FactId, ProductId, ReleaseId};
use sluice_catalog::release::{Artifact, Release, ReleaseFact};
use sluice_catalog::text::Version;
use sluice_catalog::{Digest, Time};

use super::sql::json;
use super::{On, Result, Sql, Store, StoreError, Tx};

const COLUMNS: &str = "id, product_id, version, ord, kind, train, requires, channel, advisories, notes_header, \
                       notes_body, published_at, withdrawn_at, signing_epoch";
const ARTIFACT_COLUMNS: &str = "id, release_id, component, hw_ids, requires, path, sha256, length, \
                                security_counter, min_installed, min_installed_ord";

/// Something said of a release.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct ReleaseFactRow {
    /// The release.
    pub release_id: ReleaseId,
    /// What: JSON of a [`ReleaseFact`].
    pub value: String,
    /// Since when the server knows.
    pub recorded_at: Time,
    /// Until when it held it for true.
    pub superseded_at: Option<Time>,
}

impl ReleaseFactRow {
    /// As a fact.
    pub fn known(&self) -> Result<Known<ReleaseFact>> {
        let fact = serde_json::from_str(&self.value)
            .map_err(|error| StoreError::Corrupt(format!("release_fact of {}: {error}", self.release_id)))?;
        Ok(Known { fact, recorded_at: self.recorded_at, superseded_at: self.superseded_at })
    }
}

async fn by_version<'a>(on: impl Into<On<'a>>, product: ProductId, version: &Version) -> Result<Option<Release>> {
    Sql::built(format!("SELECT {COLUMNS} FROM release WHERE product_id = $1 AND version = $2"))
        .bind(product)
        .bind(version)
        .optional(on)
        .await
}

impl Store {
    /// Every release, newest first within its product.
    pub async fn release_all(&self) -> Result<Vec<Release>> {
        Sql::built(format!("SELECT {COLUMNS} FROM release ORDER BY product_id, ord DESC")).all(self).await
    }

    /// What this server says of releases, beside what was signed: as it holds now, or everything it ever held.
    pub async fn release_facts(&self, all: bool) -> Result<Vec<ReleaseFactRow>> {
        let now = if all { "" } else { "WHERE superseded_at IS NULL" };
        Sql::built(format!(
            "SELECT release_id, value, recorded_at, superseded_at FROM release_fact {now} ORDER BY recorded_at, id"
        ))
        .all(self)
        .await
    }

    /// Every artifact.
    pub async fn artifact_all(&self) -> Result<Vec<Artifact>> {
        Sql::built(format!("SELECT {ARTIFACT_COLUMNS} FROM artifact")).all(self).await
    }
}

impl Tx {
    /// A release by version.
    pub async fn release_by_version(&mut self, product: ProductId, version: &Version) -> Result<Option<Release>> {
        by_version(self, product, version).await
    }

    /// The release with an order.
    pub async fn release_by_order(&mut self, product: ProductId, order: i64) -> Result<Option<Release>> {
        Sql::built(format!("SELECT {COLUMNS} FROM release WHERE product_id = $1 AND ord = $2"))
            .bind(product)
            .bind(order)
            .optional(self)
            .await
    }

    /// Takes in a release.
    pub async fn release_add(&mut self, release: &Release) -> Result<()> {
        Sql::new(
            "INSERT INTO release (id, product_id, version, ord, kind, train, requires, channel, advisories,
                                  notes_header, notes_body, published_at, signing_epoch)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        )
        .bind(release.id)
        .bind(release.product_id)
        .bind(&release.version)
        .bind(release.order)
        .bind(release.kind)
        .bind(&release.train)
        .bind(&release.requires)
        .bind(release.channel)
        .bind(&release.advisories)
        .bind(&release.notes_header)
        .bind(&release.notes_body)
        .bind(release.published_at)
        .bind(release.signing_epoch)
        .execute(self)
        .await
        .map(|_| ())
    }

    /// Takes in an artifact.
    pub async fn artifact_add(&mut self, artifact: &Artifact) -> Result<()> {
        Sql::new(
            "INSERT INTO artifact (id, release_id, component, hw_ids, requires, path, sha256, length,
                                   security_counter, min_installed, min_installed_ord)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(artifact.id)
        .bind(artifact.release_id)
        .bind(&artifact.component)
        .bind(&artifact.hw_ids)
        .bind(&artifact.requires)
        .bind(&artifact.path)
        .bind(artifact.sha256)
        .bind(artifact.length)
        .bind(artifact.security_counter)
        .bind(artifact.min_installed.as_ref())
        .bind(artifact.min_installed_order)
        .execute(self)
        .await
        .map(|_| ())
    }

    /// Says something of a release in place of what was said of the same kind; nothing in its place when `value` is absent.
    pub async fn release_fact_set(
        &mut self,
        id: FactId,
        release: ReleaseId,
        kind: &str,
        value: Option<&ReleaseFact>,
        at: Time,
    ) -> Result<()> {
        Sql::new(
            "UPDATE release_fact SET superseded_at = $1 WHERE release_id = $2 AND kind = $3 AND superseded_at IS NULL",
        )
        .bind(at)
        .bind(release)
        .bind(kind)
        .execute(&mut *self)
        .await?;
        let Some(value) = value else { return Ok(()) };
        Sql::new("INSERT INTO release_fact (id, release_id, kind, value, recorded_at) VALUES ($1, $2, $3, $4, $5)")
            .bind(id)
            .bind(release)
            .bind(kind)
            .bind(json(value)?)
            .bind(at)
            .execute(self)
            .await
            .map(|_| ())
    }

    /// Withdraws a release; false when it was already.
    pub async fn release_withdraw(&mut self, id: ReleaseId, at: Time) -> Result<bool> {
        let rows = Sql::new("UPDATE release SET withdrawn_at = $1 WHERE id = $2 AND withdrawn_at IS NULL")
            .bind(at)
            .bind(id)
            .execute(self)
            .await?;
        Ok(rows == 1)
    }

    /// Known images of a product's component that devices run, with what those devices decode, those of most devices
    /// first: the versions in the field, at most `limit`.
    pub async fn field_images(
        &mut self,
        product: ProductId,
        component: &str,
        limit: u32,
    ) -> Result<Vec<(Digest, DecoderProfile, i64)>> {
        let rows: Vec<(Vec<u8>, DecoderProfile, i64)> = Sql::new(
            "SELECT i.sha256, d.profile, CAST(COUNT(*) AS BIGINT) AS devices
             FROM installed i JOIN device d ON d.id = i.device_id
             WHERE d.product_id = $1 AND i.component = $2
               AND EXISTS (SELECT 1 FROM artifact a JOIN release r ON r.id = a.release_id
                           WHERE a.sha256 = i.sha256 AND r.product_id = $1 AND a.component = $2)
             GROUP BY i.sha256, d.profile ORDER BY devices DESC, i.sha256, d.profile LIMIT $3",
        )
        .bind(product)
        .bind(component)
        .bind(i64::from(limit))
        .all(self)
        .await?;
        Ok(rows
            .into_iter()
            .filter_map(|(sha256, profile, devices)| Some((Digest::try_from(sha256).ok()?, profile, devices)))
            .collect())
    }
}
