//! Keys of approvers, and what they approved.

use sluice_catalog::id::{PrincipalId, RolloutId};
use sluice_catalog::text::Slug;
use sluice_catalog::wire::rollout::ApproverKey;
use sluice_catalog::{Digest, Time};

use super::{On, Result, Sql, Store, Tx};

/// Most keys that are listed: more people than approve anywhere.
const MAX_KEYS: i64 = 1_000;

/// An approval with what decides whether it counts.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct ApprovalRow {
    /// Who.
    pub name: Slug,
    /// When.
    pub at: Time,
    /// When the account was disabled, if it was.
    pub disabled_at: Option<Time>,
    /// When the key was taken away, if it was.
    pub revoked_at: Option<Time>,
}

async fn of_plan<'a>(on: impl Into<On<'a>>, rollout: RolloutId, digest: Digest) -> Result<Vec<ApprovalRow>> {
    Sql::new(
        "SELECT p.name, a.at, p.disabled_at, k.revoked_at FROM rollout_approval a
         JOIN principal p ON p.id = a.principal_id JOIN approver_key k ON k.public_key = a.public_key
         WHERE a.rollout_id = $1 AND a.digest = $2 ORDER BY a.at, p.name",
    )
    .bind(rollout)
    .bind(digest)
    .all(on)
    .await
}

impl Store {
    /// Approvals of one plan of a rollout.
    pub async fn approval_list(&self, rollout: RolloutId, digest: Digest) -> Result<Vec<ApprovalRow>> {
        of_plan(self, rollout, digest).await
    }

    /// Every approver's key, by name.
    pub async fn approver_list(&self) -> Result<Vec<ApproverKey>> {
        let rows: Vec<(Slug, Vec<u8>, Time, Option<Time>)> = Sql::new(
            "SELECT p.name, k.public_key, k.created_at, k.revoked_at FROM approver_key k
             JOIN principal p ON p.id = k.principal_id ORDER BY p.name, k.created_at LIMIT $1",
        )
        .bind(MAX_KEYS)
        .all(self)
        .await?;
        let key = |(principal, key, created_at, revoked_at): (Slug, Vec<u8>, Time, Option<Time>)| ApproverKey {
            principal,
            public_key: hex::encode(key),
            created_at,
            revoked_at,
        };
        Ok(rows.into_iter().map(key).collect())
    }
}

impl Tx {
    /// Approvals of one plan of a rollout.
    pub async fn approval_list(&mut self, rollout: RolloutId, digest: Digest) -> Result<Vec<ApprovalRow>> {
        of_plan(self, rollout, digest).await
    }

    /// Keeps an approval; the same again changes nothing, one by another key takes its place.
    pub async fn approval_add(
        &mut self,
        rollout: RolloutId,
        principal: PrincipalId,
        digest: Digest,
        public_key: &[u8],
        signature: &[u8],
        at: Time,
    ) -> Result<bool> {
        let rows = Sql::new(
            "INSERT INTO rollout_approval (rollout_id, principal_id, digest, public_key, signature, at)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (rollout_id, principal_id, digest)
             DO UPDATE SET public_key = excluded.public_key, signature = excluded.signature, at = excluded.at
             WHERE rollout_approval.public_key <> excluded.public_key",
        )
        .bind(rollout)
        .bind(principal)
        .bind(digest)
        .bind(public_key.to_vec())
        .bind(signature.to_vec())
        .bind(at)
        .execute(self)
        .await?;
        Ok(rows == 1)
    }

    /// Whose key it is, and when it was taken away.
    pub async fn approver_key(&mut self, public_key: &[u8]) -> Result<Option<(PrincipalId, Option<Time>)>> {
        Sql::new("SELECT principal_id, revoked_at FROM approver_key WHERE public_key = $1")
            .bind(public_key.to_vec())
            .optional(self)
            .await
    }

    /// Enrols a key.
    pub async fn approver_add(&mut self, principal: PrincipalId, public_key: &[u8], at: Time) -> Result<()> {
        Sql::new("INSERT INTO approver_key (public_key, principal_id, created_at) VALUES ($1, $2, $3)")
            .bind(public_key.to_vec())
            .bind(principal)
            .bind(at)
            .execute(self)
            .await
            .map(|_| ())
    }

    /// Takes a key away; false when it was already, or is none.
    pub async fn approver_revoke(&mut self, public_key: &[u8], at: Time) -> Result<bool> {
        let rows = Sql::new("UPDATE approver_key SET revoked_at = $1 WHERE public_key = $2 AND revoked_at IS NULL")
            .bind(at)
            .bind(public_key.to_vec())
            .execute(self)
            .await?;
        Ok(rows == 1)
    }
}
