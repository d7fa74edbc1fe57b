//! Numbers of the whole installation.

use super::{Result, Sql, Store};

impl Store {
    /// Products, releases not withdrawn, devices, jobs waiting or running, jobs parked.
    pub async fn counts(&self) -> Result<(i64, i64, i64, i64, i64)> {
        Sql::new(
            "SELECT CAST((SELECT COUNT(*) FROM product) AS BIGINT),
                    CAST((SELECT COUNT(*) FROM release WHERE withdrawn_at IS NULL) AS BIGINT),
                    CAST((SELECT COUNT(*) FROM device) AS BIGINT),
                    CAST((SELECT COUNT(*) FROM job WHERE state IN ('waiting', 'running')) AS BIGINT),
                    CAST((SELECT COUNT(*) FROM job WHERE state = 'parked') AS BIGINT)",
        )
        .one(self)
        .await
    }
}
