//! Figures of rollouts as time goes by: written once for each slot, thinned out as they grow old.

use sluice_catalog::Time;
use sluice_catalog::id::RolloutId;
use sluice_catalog::wire::live::SeriesPoint;

use super::{Result, Sql, Store, StoreError, Tx};

/// Milliseconds of an hour: of older points one for each is kept.
const HOUR_MS: i64 = 3_600_000;

fn point((slot, json): (i64, String)) -> Result<SeriesPoint> {
    let corrupt = |error: serde_json::Error| StoreError::Corrupt(format!("a point of rollout_series: {error}"));
    let stored: SeriesPoint = serde_json::from_str(&json).map_err(corrupt)?;
    Ok(SeriesPoint { at: Time::from_ms(slot), ..stored })
}

impl Store {
    /// A rollout's points between two moments, the earliest first.
    pub async fn series_list(&self, id: RolloutId, from: Time, before: Time, limit: u32) -> Result<Vec<SeriesPoint>> {
        let rows: Vec<(i64, String)> = Sql::new(
            "SELECT slot, point FROM rollout_series WHERE rollout_id = $1 AND slot >= $2 AND slot < $3 ORDER BY slot LIMIT $4",
        )
        .bind(id)
        .bind(from)
        .bind(before)
        .bind(i64::from(limit))
        .all(self)
        .await?;
        rows.into_iter().map(point).collect()
    }

    /// A rollout's latest point until a moment.
    pub async fn series_last(&self, id: RolloutId, until: Time) -> Result<Option<SeriesPoint>> {
        let row: Option<(i64, String)> = Sql::new(
            "SELECT slot, point FROM rollout_series WHERE rollout_id = $1 AND slot <= $2 ORDER BY slot DESC LIMIT 1",
        )
        .bind(id)
        .bind(until)
        .optional(self)
        .await?;
        row.map(point).transpose()
    }
}

impl Tx {
    /// Keeps a point; false when another server has kept one of this slot.
    pub async fn series_add(&mut self, id: RolloutId, point: &SeriesPoint) -> Result<bool> {
        let json = super::sql::json(point)?;
        let rows = Sql::new(
            "INSERT INTO rollout_series (rollout_id, slot, point) VALUES ($1, $2, $3) ON CONFLICT (rollout_id, slot) DO NOTHING",
        )
        .bind(id)
        .bind(point.at)
        .bind(json)
        .execute(self)
        .await?;
        Ok(rows == 1)
    }

    /// Leaves the first point of each hour that is older than `hourly`, and none that is older than `gone`.
    pub async fn series_thin(&mut self, id: RolloutId, hourly: Time, gone: Time) -> Result<()> {
        Sql::new(
            "DELETE FROM rollout_series WHERE rollout_id = $1 AND (slot < $2 OR (slot < $3 AND EXISTS (
                 SELECT 1 FROM rollout_series b WHERE b.rollout_id = rollout_series.rollout_id
                   AND b.slot >= rollout_series.slot / $4 * $4 AND b.slot < rollout_series.slot)))",
        )
        .bind(id)
        .bind(gone)
        .bind(hourly)
        .bind(HOUR_MS)
        .execute(self)
        .await
        .map(drop)
    }
}
