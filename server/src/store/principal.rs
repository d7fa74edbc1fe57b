//! Principals and their tokens.

use sluice_catalog::id::{PrincipalId, TokenId};
use sluice_catalog::principal::{Principal, Token};
use sluice_catalog::text::Slug;
use sluice_catalog::{Digest, Time};

use super::{On, Result, Sql, Store, Tx};

const COLUMNS: &str = "id, name, kind, role, customer_id, \
                       (SELECT c.name FROM customer c WHERE c.id = principal.customer_id) AS customer, created_at, disabled_at";
const TOKEN_COLUMNS: &str = "id, principal_id, label, scopes, created_at, expires_at, revoked_at";

async fn by_name<'a>(on: impl Into<On<'a>>, name: &Slug) -> Result<Option<Principal>> {
    Sql::built(format!("SELECT {COLUMNS} FROM principal WHERE name = $1")).bind(name).optional(on).await
}

impl Store {
    /// Principals after a name, in the order of names.
    pub async fn principal_list(&self, after: &str, limit: u32) -> Result<Vec<Principal>> {
        Sql::built(format!("SELECT {COLUMNS} FROM principal WHERE name > $1 ORDER BY name LIMIT $2"))
            .bind(after)
            .bind(i64::from(limit))
            .all(self)
            .await
    }

    /// The token with this secret's SHA-256, and its principal.
    pub async fn token_by_hash(&self, hash: Digest) -> Result<Option<(Token, Principal)>> {
        let token: Option<Token> =
            Sql::built(format!("SELECT {TOKEN_COLUMNS} FROM token WHERE hash = $1")).bind(hash).optional(self).await?;
        let Some(token) = token else { return Ok(None) };
        let principal: Principal = Sql::built(format!("SELECT {COLUMNS} FROM principal WHERE id = $1"))
            .bind(token.principal_id)
            .one(self)
            .await?;
        Ok(Some((token, principal)))
    }

    /// Whether any principal was ever made: then the bootstrap token is spent.
    pub async fn principal_exists(&self) -> Result<bool> {
        let row: Option<(String,)> = Sql::new("SELECT name FROM principal LIMIT 1").optional(self).await?;
        Ok(row.is_some())
    }
}

impl Tx {
    /// How many principals there are.
    pub async fn principal_count(&mut self) -> Result<i64> {
        let (count,): (i64,) = Sql::new("SELECT CAST(COUNT(*) AS BIGINT) FROM principal").one(self).await?;
        Ok(count)
    }

    /// A principal by name.
    pub async fn principal_by_name(&mut self, name: &Slug) -> Result<Option<Principal>> {
        by_name(self, name).await
    }

    /// Makes a principal.
    pub async fn principal_add(&mut self, principal: &Principal) -> Result<()> {
        Sql::new(
            "INSERT INTO principal (id, name, kind, role, customer_id, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(principal.id)
        .bind(&principal.name)
        .bind(principal.kind)
        .bind(principal.role)
        .bind(principal.customer_id)
        .bind(principal.created_at)
        .execute(self)
        .await
        .map(|_| ())
    }

    /// Disables a principal; false when it was already.
    pub async fn principal_disable(&mut self, id: PrincipalId, at: Time) -> Result<bool> {
        let rows = Sql::new("UPDATE principal SET disabled_at = $1 WHERE id = $2 AND disabled_at IS NULL")
            .bind(at)
            .bind(id)
            .execute(self)
            .await?;
        Ok(rows == 1)
    }

    /// Makes a token, of which only the hash is kept.
    pub async fn token_add(&mut self, token: &Token, hash: Digest) -> Result<()> {
        Sql::new(
            "INSERT INTO token (id, principal_id, hash, label, scopes, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(token.id)
        .bind(token.principal_id)
        .bind(hash)
        .bind(&token.label)
        .bind(&token.scopes)
        .bind(token.created_at)
        .bind(token.expires_at)
        .execute(self)
        .await
        .map(|_| ())
    }

    /// A token by id.
    pub async fn token_by_id(&mut self, id: TokenId) -> Result<Option<Token>> {
        Sql::built(format!("SELECT {TOKEN_COLUMNS} FROM token WHERE id = $1")).bind(id).optional(self).await
    }

    /// Revokes a token; false when it was already.
    pub async fn token_revoke(&mut self, id: TokenId, at: Time) -> Result<bool> {
        let rows = Sql::new("UPDATE token SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL")
            .bind(at)
            .bind(id)
            .execute(self)
            .await?;
        Ok(rows == 1)
    }
}
