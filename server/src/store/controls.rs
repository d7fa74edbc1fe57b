//! Controls: devices of a rollout's audience that it has not reached, beside those that it has.

use sluice_catalog::Time;
use sluice_catalog::decide::ProductView;
use sluice_catalog::rollout::Rollout;

use super::audience::Condition;
use super::{Result, Sql, Store};

/// Controls of one hardware.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Controls {
    /// Their hardware id.
    pub hardware: String,
    /// How many.
    pub controls: i64,
    /// Those of them that are not heard of now.
    pub silent: i64,
}

impl Store {
    /// Devices of the rollout's audience that did not begin anything of it and were heard of since it started, and how many of them
    /// were not heard of since `mature_before`.
    pub async fn attempt_controls(
        &self,
        rollout: &Rollout,
        product: &ProductView,
        (now, mature_before): (Time, Time),
    ) -> Result<Vec<Controls>> {
        let audience = Condition::of_controls(&rollout.selector, product, 4, now);
        Sql::built(format!(
            "SELECT d.hw_id AS hardware, CAST(COUNT(*) AS BIGINT) AS controls,
                    CAST(SUM(CASE WHEN d.last_seen_at < $1 THEN 1 ELSE 0 END) AS BIGINT) AS silent
             FROM device d LEFT JOIN customer c ON c.id = d.customer_id
             WHERE d.product_id = $2 AND d.state IN ('active', 'rma_pending') AND {}
               AND d.last_seen_at >= (SELECT COALESCE(MIN(at), 0) FROM rollout_transition
                                      WHERE rollout_id = $3 AND state = 'running')
               AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.device_id = d.id AND a.rollout_id = $3
                                                         AND a.began_at IS NOT NULL)
             GROUP BY d.hw_id",
            audience.text
        ))
        .bind(mature_before)
        .bind(product.product.id)
        .bind(rollout.id)
        .bind_all(audience.values)
        .all(self)
        .await
    }
}
