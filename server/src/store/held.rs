//! Documents of embargo roles that wait for their moment. They are in no table that anything is shown from.

use sluice_catalog::Time;

use super::{On, Result, Sql, Store, Tx};

const COLUMNS: &str = "role, version, product, not_before, body, held_at, held_by, refused";

/// A document that waits.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct HeldRow {
    /// Its embargo role.
    pub role: String,
    /// Its version.
    pub version: i64,
    /// The product for which the role signs in advance.
    pub product: String,
    /// The moment that is signed in it.
    pub not_before: Time,
    /// The exact bytes.
    pub body: Vec<u8>,
    /// When it was given to the server.
    pub held_at: Time,
    /// By whom.
    pub held_by: String,
    /// Why it was not published when its moment had come.
    pub refused: Option<String>,
}

async fn all<'a>(on: impl Into<On<'a>>) -> Result<Vec<HeldRow>> {
    Sql::built(format!("SELECT {COLUMNS} FROM held ORDER BY not_before, role")).all(on).await
}

impl Store {
    /// Everything that waits, the next first. A role has one at most, so the top targets document bounds them.
    pub async fn held_all(&self) -> Result<Vec<HeldRow>> {
        all(self).await
    }

    /// What waits and is due.
    pub async fn held_due(&self, now: Time) -> Result<Vec<HeldRow>> {
        Sql::built(format!(
            "SELECT {COLUMNS} FROM held WHERE refused IS NULL AND not_before <= $1 ORDER BY not_before, role"
        ))
        .bind(now)
        .all(self)
        .await
    }

    /// The next moment of those that wait.
    pub async fn held_next(&self) -> Result<Option<Time>> {
        let row: Option<(Time,)> =
            Sql::new("SELECT not_before FROM held WHERE refused IS NULL ORDER BY not_before LIMIT 1")
                .bind_nothing()
                .optional(self)
                .await?;
        Ok(row.map(|(at,)| at))
    }
}

impl Tx {
    /// Everything that waits.
    pub async fn held_all(&mut self) -> Result<Vec<HeldRow>> {
        all(self).await
    }

    /// Lets a document wait, in place of any other of its role.
    pub async fn held_put(&mut self, row: &HeldRow) -> Result<()> {
        self.held_remove(&row.role).await?;
        Sql::new(
            "INSERT INTO held (role, version, product, not_before, body, held_at, held_by, refused)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(&row.role)
        .bind(row.version)
        .bind(&row.product)
        .bind(row.not_before)
        .bind(row.body.as_slice())
        .bind(row.held_at)
        .bind(&row.held_by)
        .bind(row.refused.as_ref())
        .execute(self)
        .await
        .map(|_| ())
    }

    /// Lets a role's document wait no more; false when there was none.
    pub async fn held_remove(&mut self, role: &str) -> Result<bool> {
        Ok(Sql::new("DELETE FROM held WHERE role = $1").bind(role).execute(self).await? == 1)
    }

    /// Notes why a document was not published; false when another one took its place.
    pub async fn held_refuse(&mut self, role: &str, version: i64, reason: &str) -> Result<bool> {
        let rows = Sql::new("UPDATE held SET refused = $1 WHERE role = $2 AND version = $3 AND refused IS NULL")
            .bind(reason)
            .bind(role)
            .bind(version)
            .execute(self)
            .await?;
        Ok(rows == 1)
    }
}
