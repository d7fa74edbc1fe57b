//! Registration codes, of which only hashes are kept, and whose a device was since when.

use sluice_catalog::id::{CustomerId, DeviceId, FactId};
use sluice_catalog::text::{ProductName, Serial, Slug};
use sluice_catalog::{Digest, Time};

use super::{On, Result, Sql, Store, Tx};

/// Codes of one device that are good at once: a device that shows a new one every minute keeps no row for each.
const MAX_CODES: i64 = 10;
/// Products and contracts under which one serial is looked up.
const MAX_FOUND: i64 = 100;

/// A registration code.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct CodeRow {
    /// Made by the program.
    pub id: FactId,
    /// Whose possession it proves.
    pub device_id: DeviceId,
    /// `printed` or `shown`.
    pub kind: String,
    /// When it ends.
    pub expires_at: Time,
    /// When a registration spent it.
    pub used_at: Option<Time>,
    /// When it was revoked.
    pub revoked_at: Option<Time>,
}

impl CodeRow {
    /// Whether it proves anything at a moment. A code that was spent still does, but registers nobody.
    pub fn is_good(&self, now: Time) -> bool {
        self.revoked_at.is_none() && now < self.expires_at
    }
}

async fn by_hash<'a>(on: impl Into<On<'a>>, hash: Digest) -> Result<Option<CodeRow>> {
    Sql::new("SELECT id, device_id, kind, expires_at, used_at, revoked_at FROM registration_code WHERE hash = $1")
        .bind(hash)
        .optional(on)
        .await
}

impl Store {
    /// The code with this hash.
    pub async fn registration_code(&self, hash: Digest) -> Result<Option<CodeRow>> {
        by_hash(self, hash).await
    }

    /// Products under which a serial is known, as a device or by a contract.
    pub async fn serial_products(&self, serial: &Serial) -> Result<Vec<ProductName>> {
        let rows: Vec<(ProductName,)> = Sql::new(
            "SELECT p.name FROM device d JOIN product p ON p.id = d.product_id WHERE d.serial = $1
             UNION SELECT product FROM covered_item WHERE serial = $1 AND superseded_at IS NULL
             ORDER BY 1 LIMIT $2",
        )
        .bind(serial)
        .bind(MAX_FOUND)
        .all(self)
        .await?;
        Ok(rows.into_iter().map(|(name,)| name).collect())
    }

    /// Whose a contract is.
    pub async fn contract_customer(&self, number: &sluice_catalog::text::ContractNumber) -> Result<Option<Slug>> {
        let row: Option<(Slug,)> =
            Sql::new("SELECT u.name FROM contract c JOIN customer u ON u.id = c.customer_id WHERE c.number = $1")
                .bind(number)
                .optional(self)
                .await?;
        Ok(row.map(|(name,)| name))
    }
}

impl Tx {
    /// Keeps a code; beyond the most that are good at once the oldest of its kind is revoked.
    pub async fn registration_code_add(
        &mut self,
        id: FactId,
        device: DeviceId,
        hash: Digest,
        kind: &str,
        (now, expires_at): (Time, Time),
    ) -> Result<()> {
        Sql::new(
            "INSERT INTO registration_code (id, device_id, hash, kind, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(id)
        .bind(device)
        .bind(hash)
        .bind(kind)
        .bind(now)
        .bind(expires_at)
        .execute(&mut *self)
        .await?;
        Sql::new("DELETE FROM registration_code WHERE device_id = $1 AND (expires_at <= $2 OR revoked_at IS NOT NULL)")
            .bind(device)
            .bind(now)
            .execute(&mut *self)
            .await?;
        Sql::new(
            "UPDATE registration_code SET revoked_at = $1 WHERE device_id = $2 AND kind = $3 AND id NOT IN (
                 SELECT id FROM registration_code WHERE device_id = $2 AND kind = $3 ORDER BY id DESC LIMIT $4)",
        )
        .bind(now)
        .bind(device)
        .bind(kind)
        .bind(MAX_CODES)
        .execute(self)
        .await
        .map(|_| ())
    }

    /// The code with this hash.
    pub async fn registration_code(&mut self, hash: Digest) -> Result<Option<CodeRow>> {
        by_hash(self, hash).await
    }

    /// Spends a code; false when it was spent already.
    pub async fn registration_code_use(&mut self, id: FactId, at: Time) -> Result<bool> {
        let rows = Sql::new("UPDATE registration_code SET used_at = $1 WHERE id = $2 AND used_at IS NULL")
            .bind(at)
            .bind(id)
            .execute(self)
            .await?;
        Ok(rows == 1)
    }

    /// Revokes every code of a device: who had it before it changed hands proves nothing any more.
    pub async fn registration_codes_revoke(&mut self, device: DeviceId, at: Time) -> Result<()> {
        Sql::new("UPDATE registration_code SET revoked_at = $1 WHERE device_id = $2 AND revoked_at IS NULL")
            .bind(at)
            .bind(device)
            .execute(self)
            .await
            .map(|_| ())
    }

    /// Gives a device to a customer, or to nobody; the registration before ends. What its former owner called it goes with it.
    pub async fn device_owner(
        &mut self,
        device: DeviceId,
        registration: Option<(FactId, CustomerId, &str)>,
        keep_place: bool,
        actor: &str,
        at: Time,
    ) -> Result<()> {
        Sql::new("UPDATE registration SET ended_at = $1 WHERE device_id = $2 AND ended_at IS NULL")
            .bind(at)
            .bind(device)
            .execute(&mut *self)
            .await?;
        if let Some((id, customer, how)) = registration {
            Sql::new(
                "INSERT INTO registration (id, device_id, customer_id, how, actor, at) VALUES ($1, $2, $3, $4, $5, $6)",
            )
            .bind(id)
            .bind(device)
            .bind(customer)
            .bind(how)
            .bind(actor)
            .bind(at)
            .execute(&mut *self)
            .await?;
        }
        let place = if keep_place { "" } else { "site = NULL, tags = '[]'," };
        Sql::built(format!(
            "UPDATE device SET customer_id = $1, {place} revision = revision + 1, changed_at = $2 WHERE id = $3"
        ))
        .bind(registration.map(|(_, customer, _)| customer))
        .bind(at)
        .bind(device)
        .execute(self)
        .await
        .map(|_| ())
    }
}
