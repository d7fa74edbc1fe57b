//! The audit log: entries are added inside the transaction of the change, and never changed.

use sluice_catalog::audit::{AuditEntry, chain_hash};
use sluice_catalog::{Digest, Time};

use super::{Result, Sql, Store, StoreError, Tx};

impl Tx {
    /// Adds an entry at the end of the chain. The head row is locked until the transaction ends, so entries of
    /// concurrent changes queue instead of forking the chain.
    pub async fn audit_add(
        &mut self,
        at: Time,
        actor: &str,
        action: &'static str,
        subject: &str,
        detail: &serde_json::Value,
    ) -> Result<()> {
        let detail = detail.to_string();
        let (seq, prev): (i64, Vec<u8>) =
            Sql::new("UPDATE audit_head SET seq = seq + 1 WHERE id = 1 RETURNING seq, hash").one(&mut *self).await?;
        let prev = Digest::try_from(prev).map_err(|_| StoreError::Corrupt("audit_head.hash".into()))?;
        let hash = chain_hash(prev, seq, at, actor, action, subject, &detail);
        Sql::new(
            "INSERT INTO audit_entry (seq, at, actor, action, subject, detail, prev_hash, hash)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(seq)
        .bind(at)
        .bind(actor)
        .bind(action)
        .bind(subject)
        .bind(detail)
        .bind(prev)
        .bind(hash)
        .execute(&mut *self)
        .await?;
        Sql::new("UPDATE audit_head SET hash = $1 WHERE id = 1").bind(hash).execute(self).await?;
        Ok(())
    }
}

impl Store {
    /// Entries after a sequence number, oldest first.
    pub async fn audit_list(&self, after: i64, limit: u32) -> Result<Vec<AuditEntry>> {
        Sql::new(
            "SELECT seq, at, actor, action, subject, detail, prev_hash, hash FROM audit_entry
             WHERE seq > $1 ORDER BY seq LIMIT $2",
        )
        .bind(after)
        .bind(i64::from(limit))
        .all(self)
        .await
    }
}
