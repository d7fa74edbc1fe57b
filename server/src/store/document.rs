//! Signed documents, byte for byte as they were signed.

use sluice_catalog::Time;

use sluice_signer::{Limits, NamedKeys};

use super::{On, Result, Sql, Store, StoreError, Tx};

/// Which repository a document belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Repository {
    /// Signed images.
    Image,
    /// Per-device answers.
    Director,
}

impl Repository {
    /// The stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Director => "director",
        }
    }
}

/// A document.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Document {
    /// `image` or `director`.
    pub repository: String,
    /// `root`, `targets`, `snapshot`, `timestamp`, or a delegated role.
    pub role: String,
    /// From 1.
    pub version: i64,
    /// The exact bytes.
    pub body: Vec<u8>,
}

async fn latest<'a>(on: impl Into<On<'a>>, repository: Repository) -> Result<Vec<Document>> {
    Sql::new(
        "SELECT d.repository, d.role, d.version, d.body FROM document d
         WHERE d.repository = $1
           AND d.version = (SELECT MAX(e.version) FROM document e WHERE e.repository = d.repository AND e.role = d.role)
         ORDER BY d.role",
    )
    .bind(repository.as_str())
    .all(on)
    .await
}

async fn chain<'a>(on: impl Into<On<'a>>, repository: Repository, role: &str) -> Result<Vec<Document>> {
    Sql::new(
        "SELECT repository, role, version, body FROM document WHERE repository = $1 AND role = $2 ORDER BY version",
    )
    .bind(repository.as_str())
    .bind(role)
    .all(on)
    .await
}

impl Store {
    /// Every root of a repository up to a version, from the first on.
    pub async fn root_chain(&self, repository: Repository, newest: i64) -> Result<Vec<Vec<u8>>> {
        let roots = chain(self, repository, "root").await?;
        Ok(roots.into_iter().filter(|root| root.version <= newest).map(|root| root.body).collect())
    }

    /// Which online keys the published roots name.
    pub async fn named_keys(&self) -> Result<NamedKeys> {
        let image = self.root_chain(Repository::Image, i64::MAX).await?;
        let director = self.root_chain(Repository::Director, i64::MAX).await?;
        NamedKeys::of(&image, &director, &Limits::default()).map_err(|error| StoreError::Corrupt(error.to_string()))
    }

    /// The newest version of every role.
    pub async fn document_latest(&self, repository: Repository) -> Result<Vec<Document>> {
        latest(self, repository).await
    }

    /// One document.
    pub async fn document_get(&self, repository: Repository, role: &str, version: i64) -> Result<Option<Document>> {
        Sql::new(
            "SELECT repository, role, version, body FROM document WHERE repository = $1 AND role = $2 AND version = $3",
        )
        .bind(repository.as_str())
        .bind(role)
        .bind(version)
        .optional(self)
        .await
    }
}

impl Tx {
    /// The newest version of every role.
    pub async fn document_latest(&mut self, repository: Repository) -> Result<Vec<Document>> {
        latest(self, repository).await
    }

    /// Every version of a role, oldest first.
    pub async fn document_chain(&mut self, repository: Repository, role: &str) -> Result<Vec<Document>> {
        chain(self, repository, role).await
    }

    /// Keeps a document. A second one with the same repository, role and version is refused as a duplicate.
    pub async fn document_add(
        &mut self,
        repository: Repository,
        role: &str,
        version: i64,
        body: &[u8],
        at: Time,
    ) -> Result<()> {
        Sql::new("INSERT INTO document (repository, role, version, body, published_at) VALUES ($1, $2, $3, $4, $5)")
            .bind(repository.as_str())
            .bind(role)
            .bind(version)
            .bind(body)
            .bind(at)
            .execute(self)
            .await
            .map(|_| ())
    }
}
