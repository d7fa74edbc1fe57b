//! Enrolment tokens.

use sluice_catalog::device::EnrolToken;
use sluice_catalog::id::EnrolTokenId;
use sluice_catalog::{Digest, Time};

use super::{Result, Sql, Store, Tx};

const COLUMNS: &str = "id, label, product_id, customer_id, remaining, created_at, expires_at, revoked_at";

impl Store {
    /// Enrolment tokens after an id, in the order they were made.
    pub async fn enrol_token_list(&self, after: Option<EnrolTokenId>, limit: u32) -> Result<Vec<EnrolToken>> {
        Sql::built(format!("SELECT {COLUMNS} FROM enrol_token WHERE id > $1 ORDER BY id LIMIT $2"))
            .bind(after.unwrap_or(EnrolTokenId(uuid::Uuid::nil())))
            .bind(i64::from(limit))
            .all(self)
            .await
    }
}

impl Tx {
    /// Makes an enrolment token, of which only the hash is kept.
    pub async fn enrol_token_add(&mut self, token: &EnrolToken, hash: Digest) -> Result<()> {
        Sql::new(
            "INSERT INTO enrol_token (id, hash, label, product_id, customer_id, remaining, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(token.id)
        .bind(hash)
        .bind(&token.label)
        .bind(token.product_id)
        .bind(token.customer_id)
        .bind(token.remaining)
        .bind(token.created_at)
        .bind(token.expires_at)
        .execute(self)
        .await
        .map(|_| ())
    }

    /// The enrolment token with this secret's hash.
    pub async fn enrol_token_by_hash(&mut self, hash: Digest) -> Result<Option<EnrolToken>> {
        Sql::built(format!("SELECT {COLUMNS} FROM enrol_token WHERE hash = $1")).bind(hash).optional(self).await
    }

    /// Uses a token once; false when it is spent, revoked or over.
    pub async fn enrol_token_use(&mut self, id: EnrolTokenId, at: Time) -> Result<bool> {
        let rows = Sql::new(
            "UPDATE enrol_token SET remaining = remaining - 1
             WHERE id = $1 AND remaining > 0 AND revoked_at IS NULL AND expires_at > $2",
        )
        .bind(id)
        .bind(at)
        .execute(self)
        .await?;
        Ok(rows == 1)
    }

    /// Revokes a token; false when there is none or it was already.
    pub async fn enrol_token_revoke(&mut self, id: EnrolTokenId, at: Time) -> Result<bool> {
        let rows = Sql::new("UPDATE enrol_token SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL")
            .bind(at)
            .bind(id)
            .execute(self)
            .await?;
        Ok(rows == 1)
    }
}
