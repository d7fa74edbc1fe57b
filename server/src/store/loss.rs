//! What changes of contracts took away, by day.

use sluice_catalog::Time;
use sluice_catalog::text::Slug;
use sluice_catalog::time::DAY_MS;

use super::{Result, Sql, Tx};

impl Tx {
    /// Adds to what a source's changes took away on the day of a moment (UTC); how much that is now. Its row is locked, so of two changes
    /// at once the second knows of the first.
    pub async fn losses_add(&mut self, source: &str, at: Time, losses: u64) -> Result<u64> {
        let (total,): (i64,) = Sql::new(
            "INSERT INTO cover_loss (source, day, losses) VALUES ($1, $2, $3)
             ON CONFLICT (source, day) DO UPDATE SET losses = cover_loss.losses + excluded.losses RETURNING losses",
        )
        .bind(source)
        .bind(at.as_ms().div_euclid(DAY_MS))
        .bind(i64::try_from(losses).unwrap_or(i64::MAX))
        .one(self)
        .await?;
        Ok(u64::try_from(total).unwrap_or(0))
    }

    /// Devices under contracts that count, those of a source or all; counted up to a number.
    pub async fn covered_devices(&mut self, source: Option<&Slug>, limit: u64) -> Result<u64> {
        let kept = if source.is_some() {
            "AND EXISTS (SELECT 1 FROM contract_kept k WHERE k.contract_id = c.id AND k.superseded_at IS NULL AND k.source = $2)"
        } else {
            ""
        };
        let mut sql = Sql::built(format!(
            "SELECT CAST(COUNT(*) AS BIGINT) FROM (
                 SELECT DISTINCT i.product, i.serial FROM covered_item i JOIN contract c ON c.id = i.contract_id
                 WHERE i.superseded_at IS NULL AND c.state = 'active' {kept} LIMIT $1) AS covered"
        ))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX));
        if let Some(source) = source {
            sql = sql.bind(source);
        }
        let (count,): (i64,) = sql.one(self).await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }
}
