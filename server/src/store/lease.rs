//! Leases: one replica of many does a thing for as long as it renews, and another takes over when it no longer does. A
//! lease saves work; what it guards must be safe without it, because a holder's clock may be wrong.

use sluice_catalog::{Period, Time};

use super::{Result, Sql, Store, Tx};

/// Clocks of replicas differ by less.
const CLOCKS_DIFFER: Period = Period::minutes(1);

impl Store {
    /// Takes a lease that is free or lapsed, or prolongs the holder's own. Whether the holder has it now. One that lasts longer than this
    /// one could was taken by a clock that was wrong, and is not waited for.
    pub async fn lease_take(&self, name: &'static str, holder: &str, now: Time, until: Time) -> Result<bool> {
        let mut tx = self.begin().await?;
        let rows = Sql::new(
            "INSERT INTO lease (name, holder, lease_until) VALUES ($1, $2, $3)
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, lease_until = excluded.lease_until
             WHERE lease.holder = excluded.holder OR lease.lease_until < $4 OR lease.lease_until > $5",
        )
        .bind(name)
        .bind(holder)
        .bind(until)
        .bind(now)
        .bind(until.plus(CLOCKS_DIFFER))
        .execute(&mut tx)
        .await?;
        tx.commit().await?;
        Ok(rows == 1)
    }

    /// Gives a lease back before it ends, so that another replica need not wait.
    pub async fn lease_give(&self, name: &'static str, holder: &str) -> Result<()> {
        let mut tx = self.begin().await?;
        Sql::new("DELETE FROM lease WHERE name = $1 AND holder = $2").bind(name).bind(holder).execute(&mut tx).await?;
        tx.commit().await
    }

    /// Who has a lease, and until when; lapsed ones too.
    pub async fn lease_get(&self, name: &'static str) -> Result<Option<(String, Time)>> {
        Sql::new("SELECT holder, lease_until FROM lease WHERE name = $1").bind(name).optional(self).await
    }
}

impl Tx {
    /// Whether the holder still has the lease.
    pub async fn lease_held(&mut self, name: &'static str, holder: &str, now: Time) -> Result<bool> {
        let row: Option<(String,)> =
            Sql::new("SELECT holder FROM lease WHERE name = $1 AND holder = $2 AND lease_until >= $3")
                .bind(name)
                .bind(holder)
                .bind(now)
                .optional(self)
                .await?;
        Ok(row.is_some())
    }
}
