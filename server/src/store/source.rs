//! Systems that keep contracts elsewhere, and what each told last.

use sluice_catalog::contract::{KeptBy, Revision};
use sluice_catalog::id::ContractId;
use sluice_catalog::text::Slug;
use sluice_catalog::{Digest, Time};

use super::{On, Result, Sql, Store, Tx};

/// What a source told of a contract last.
#[derive(Clone, Debug)]
pub struct Told {
    /// The source and its revision.
    pub by: KeptBy,
    /// A digest of what it told.
    pub content: Option<Digest>,
}

#[derive(sqlx::FromRow)]
struct KeptRow {
    source: Slug,
    revised_at: Option<Time>,
    revision: Option<i64>,
    told: Option<Vec<u8>>,
}

async fn told<'a>(on: impl Into<On<'a>>, contract: ContractId) -> Result<Option<Told>> {
    let row: Option<KeptRow> = Sql::new(
        "SELECT source, revised_at, revision, told FROM contract_kept WHERE contract_id = $1 AND superseded_at IS NULL",
    )
    .bind(contract)
    .optional(on)
    .await?;
    Ok(row.map(|row| {
        let revision = row.revised_at.map(Revision::At).or(row.revision.map(Revision::Number));
        let content = row.told.and_then(|told| Digest::try_from(told).ok());
        Told { by: KeptBy { source: row.source, revision }, content }
    }))
}

impl Store {
    /// What the source of a contract told last.
    pub async fn contract_told(&self, contract: ContractId) -> Result<Option<Told>> {
        told(self, contract).await
    }
}

impl Tx {
    /// What the source of a contract told last.
    pub async fn contract_told(&mut self, contract: ContractId) -> Result<Option<Told>> {
        told(self, contract).await
    }

    /// Keeps what a source told of a contract; what it told before is superseded when it is another source, else it goes on.
    pub async fn contract_told_put(&mut self, contract: ContractId, told: &Told, at: Time) -> Result<()> {
        let (revised_at, revision) = match told.by.revision {
            Some(Revision::At(at)) => (Some(at), None),
            Some(Revision::Number(number)) => (None, Some(number)),
            None => (None, None),
        };
        let content = told.content.map(|digest| digest.0.to_vec());
        let updated = Sql::new(
            "UPDATE contract_kept SET revised_at = $1, revision = $2, told = $3
             WHERE contract_id = $4 AND source = $5 AND superseded_at IS NULL",
        )
        .bind(revised_at)
        .bind(revision)
        .bind(content.clone())
        .bind(contract)
        .bind(&told.by.source)
        .execute(&mut *self)
        .await?;
        if updated > 0 {
            return Ok(());
        }
        Sql::new("UPDATE contract_kept SET superseded_at = $1 WHERE contract_id = $2 AND superseded_at IS NULL")
            .bind(at)
            .bind(contract)
            .execute(&mut *self)
            .await?;
        Sql::new(
            "INSERT INTO contract_kept (contract_id, source, revised_at, revision, told, recorded_at)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(contract)
        .bind(&told.by.source)
        .bind(revised_at)
        .bind(revision)
        .bind(content)
        .bind(at)
        .execute(self)
        .await
        .map(|_| ())
    }

    /// Locks a source until the transaction ends.
    pub async fn source_lock(&mut self, name: &Slug) -> Result<()> {
        Sql::new("UPDATE contract_source SET created_at = created_at WHERE name = $1")
            .bind(name)
            .execute(self)
            .await
            .map(|_| ())
    }

    /// Enters a source that was not known before.
    pub async fn source_add(&mut self, name: &Slug, at: Time) -> Result<()> {
        Sql::new("INSERT INTO contract_source (name, created_at) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
            .bind(name)
            .bind(at)
            .execute(self)
            .await
            .map(|_| ())
    }
}
