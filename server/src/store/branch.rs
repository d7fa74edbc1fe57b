//! Branches: the documents of a signing epoch that ended, and the snapshots and timestamps that go on being signed over them.

use sluice_catalog::Time;

use super::{Document, On, Repository, Result, Sql, Store, Tx};

/// A document of a branch, with the epoch.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct BranchDocument {
    /// The epoch that ended.
    pub signing_epoch: i32,
    /// The document.
    #[sqlx(flatten)]
    pub document: Document,
}

async fn roles<'a>(on: impl Into<On<'a>>) -> Result<Vec<BranchDocument>> {
    Sql::new(
        "SELECT b.signing_epoch, d.repository, d.role, d.version, d.body
         FROM branch_role b JOIN document d
           ON d.repository = b.repository AND d.role = b.role AND d.version = b.version
         ORDER BY b.signing_epoch, d.repository, d.role",
    )
    .all(on)
    .await
}

async fn signed<'a>(on: impl Into<On<'a>>) -> Result<Vec<BranchDocument>> {
    Sql::new(
        "SELECT d.signing_epoch, 'image' AS repository, d.role, d.version, d.body FROM branch_document d
         WHERE d.version = (SELECT MAX(e.version) FROM branch_document e
                            WHERE e.signing_epoch = d.signing_epoch AND e.role = d.role)
         ORDER BY d.signing_epoch, d.role",
    )
    .all(on)
    .await
}

impl Store {
    /// What every branch is made of: its last roots, and the targets documents as they stood.
    pub async fn branch_roles(&self) -> Result<Vec<BranchDocument>> {
        roles(self).await
    }

    /// The newest snapshot and timestamp of every branch.
    pub async fn branch_signed(&self) -> Result<Vec<BranchDocument>> {
        signed(self).await
    }

    /// A snapshot or timestamp of a branch.
    pub async fn branch_document(&self, epoch: i32, role: &str, version: i64) -> Result<Option<Document>> {
        Sql::new(
            "SELECT 'image' AS repository, role, version, body FROM branch_document
             WHERE signing_epoch = $1 AND role = $2 AND version = $3",
        )
        .bind(epoch)
        .bind(role)
        .bind(version)
        .optional(self)
        .await
    }
}

impl Tx {
    /// See [`Store::branch_roles`].
    pub async fn branch_roles(&mut self) -> Result<Vec<BranchDocument>> {
        roles(self).await
    }

    /// See [`Store::branch_signed`].
    pub async fn branch_signed(&mut self) -> Result<Vec<BranchDocument>> {
        signed(self).await
    }

    /// Makes a document part of a branch.
    pub async fn branch_role_add(
        &mut self,
        epoch: i32,
        repository: Repository,
        role: &str,
        version: i64,
    ) -> Result<()> {
        Sql::new("INSERT INTO branch_role (signing_epoch, repository, role, version) VALUES ($1, $2, $3, $4)")
            .bind(epoch)
            .bind(repository.as_str())
            .bind(role)
            .bind(version)
            .execute(self)
            .await
            .map(|_| ())
    }

    /// Keeps a snapshot or timestamp of a branch.
    pub async fn branch_document_add(
        &mut self,
        epoch: i32,
        role: &str,
        version: i64,
        body: &[u8],
        at: Time,
    ) -> Result<()> {
        Sql::new(
            "INSERT INTO branch_document (signing_epoch, role, version, body, published_at) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(epoch)
        .bind(role)
        .bind(version)
        .bind(body)
        .bind(at)
        .execute(self)
        .await
        .map(|_| ())
    }
}
