//! Erasure: what is known of a device's owner goes, and a pseudonym takes the place of its serial wherever it stands.

use sluice_catalog::audit::AuditEntry;
use sluice_catalog::device::Device;
use sluice_catalog::erasure::{Altered, ERASE_DEVICE, Redaction};
use sluice_catalog::id::{DeviceId, FactId, RolloutId};
use sluice_catalog::swap::Moved;
use sluice_catalog::text::Slug;
use sluice_catalog::{TextSet, Time};

use super::sql::json;
use super::{Result, Sql, StoreError, Tx};

/// The setting that holds the key of pseudonyms.
const KEY: &str = "pseudonym_key";
/// Rows read and rewritten at once: holds the memory of an erasure.
const PAGE: i64 = 500;

fn corrupt(what: &'static str) -> impl Fn(serde_json::Error) -> StoreError {
    move |error| StoreError::Corrupt(format!("{what}: {error}"))
}

impl Redacting<'_> {
    fn like(&self) -> String {
        // No `%` or backslash is in a serial, and `_` finds too much at worst: what is found is read again.
        format!("%{}%", self.redaction.serial)
    }
}

/// A device that is being erased.
#[derive(Clone, Copy, Debug)]
pub struct Redacting<'a> {
    /// The device, as it was or as it is erased already.
    pub device: &'a Device,
    /// What is replaced by what.
    pub redaction: Redaction<'a>,
    /// When.
    pub at: Time,
}

impl Tx {
    /// The installation's key of pseudonyms: the one handed in when there is none.
    pub async fn pseudonym_key(&mut self, new: &str) -> Result<String> {
        // Two first erasures at once must not make two keys.
        Sql::new("INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING")
            .bind(KEY)
            .bind(new)
            .execute(&mut *self)
            .await?;
        self.meta_get(KEY).await?.ok_or_else(|| StoreError::Corrupt(format!("meta.{KEY} is missing")))
    }

    /// Erases a device's own rows and those that name its serial, but for the audit log. Whether anything was there to erase: done
    /// again it only finds what somebody wrote at the same moment as the first time.
    pub async fn device_erase(&mut self, erasing: &Redacting<'_>) -> Result<bool> {
        let id = erasing.device.id;
        let mut found = Sql::new(
            "UPDATE device SET serial = $1, customer_id = NULL, site = NULL, mac = NULL, tags = '[]', public_key = NULL, epoch = epoch + 1,
                               revision = revision + 1, changed_at = $2 WHERE id = $3 AND serial <> $1",
        )
        .bind(erasing.redaction.pseudonym)
        .bind(erasing.at)
        .bind(id)
        .execute(&mut *self)
        .await?;
        for text in [
            "DELETE FROM registration WHERE device_id = $1",
            "DELETE FROM device_update WHERE device_id = $1",
            "DELETE FROM registration_code WHERE device_id = $1",
            "UPDATE attempt SET detail = NULL, log = NULL WHERE device_id = $1 AND (detail IS NOT NULL OR log IS NOT NULL)",
        ] {
            found += Sql::new(text).bind(id).execute(&mut *self).await?;
        }
        found += Sql::new("UPDATE covered_item SET serial = $1 WHERE product = $2 AND serial = $3")
            .bind(erasing.redaction.pseudonym)
            .bind(erasing.redaction.product)
            .bind(erasing.redaction.serial)
            .execute(&mut *self)
            .await?;
        // A policy for a serial of any product is this device's unless another product has the serial, too.
        found += Sql::new(
            "UPDATE policy SET target = $1 WHERE scope = 'device' AND target = $2 AND (product_id = $3 OR (product_id IS NULL
                 AND NOT EXISTS (SELECT 1 FROM device WHERE serial = $2)))",
        )
        .bind(erasing.redaction.pseudonym)
        .bind(erasing.redaction.serial)
        .bind(erasing.device.product_id)
        .execute(&mut *self)
        .await?;
        found += self.history_erase(erasing).await?;
        found += self.swaps_erase(erasing).await?;
        found += self.texts_erase(erasing).await?;
        found += self.outbox_erase(erasing).await?;
        Ok(found > 0)
    }

    async fn history_erase(&mut self, erasing: &Redacting<'_>) -> Result<u64> {
        let (id, mut after, mut found) = (erasing.device.id, i64::MIN, 0);
        loop {
            let rows: Vec<(i64, String, String)> = Sql::new(
                "SELECT seq, cause, device FROM device_history WHERE device_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",
            )
            .bind(id)
            .bind(after)
            .bind(PAGE)
            .all(&mut *self)
            .await?;
            let Some((last, ..)) = rows.last() else { break };
            after = *last;
            for (seq, cause, device) in &rows {
                let was: Device = serde_json::from_str(device).map_err(corrupt("device_history"))?;
                let new = Device {
                    serial: erasing.redaction.pseudonym.clone(),
                    customer_id: None,
                    site: None,
                    mac: None,
                    tags: TextSet::default(),
                    public_key: None,
                    ..was.clone()
                };
                let new_cause = erasing.redaction.sentence(cause);
                if new == was && new_cause.is_none() {
                    continue;
                }
                found +=
                    Sql::new("UPDATE device_history SET cause = $1, device = $2 WHERE device_id = $3 AND seq = $4")
                        .bind(new_cause.as_ref().unwrap_or(cause))
                        .bind(json(&new)?)
                        .bind(id)
                        .bind(*seq)
                        .execute(&mut *self)
                        .await?;
            }
        }
        // Those that it replaced, or that replaced it, say so in theirs.
        let rows: Vec<(DeviceId, i64, String)> = Sql::new(
            "SELECT device_id, seq, cause FROM device_history WHERE cause LIKE $1 AND device_id IN (
                 SELECT new_id FROM swap WHERE old_id = $2 UNION SELECT old_id FROM swap WHERE new_id = $2)",
        )
        .bind(erasing.like())
        .bind(id)
        .all(&mut *self)
        .await?;
        for (device, seq, cause) in rows {
            if let Some(cause) = erasing.redaction.sentence(&cause) {
                found += Sql::new("UPDATE device_history SET cause = $1 WHERE device_id = $2 AND seq = $3")
                    .bind(cause)
                    .bind(device)
                    .bind(seq)
                    .execute(&mut *self)
                    .await?;
            }
        }
        Ok(found)
    }

    async fn swaps_erase(&mut self, erasing: &Redacting<'_>) -> Result<u64> {
        let id = erasing.device.id;
        let rows: Vec<(Slug, DeviceId, String)> =
            Sql::new("SELECT number, old_id, moved FROM swap WHERE old_id = $1 OR new_id = $1")
                .bind(id)
                .all(&mut *self)
                .await?;
        let mut found = 0;
        for (number, old, text) in rows {
            let was: Moved = serde_json::from_str(&text).map_err(corrupt("swap"))?;
            let mut moved = was.clone();
            let before = if old == id { Some(&mut moved.old) } else { moved.new.as_mut() };
            if let Some(before) = before {
                (before.customer_id, before.site, before.tags) = (None, None, TextSet::default());
            }
            if moved != was {
                found += Sql::new("UPDATE swap SET moved = $1 WHERE number = $2")
                    .bind(json(&moved)?)
                    .bind(&number)
                    .execute(&mut *self)
                    .await?;
            }
        }
        Ok(found)
    }

    /// Selectors of the product's rollouts, and what people wrote as the cause of something.
    async fn texts_erase(&mut self, erasing: &Redacting<'_>) -> Result<u64> {
        let mut found = 0;
        let rows: Vec<(RolloutId, String)> = Sql::new(
            "SELECT o.id, o.selector FROM rollout o JOIN release r ON r.id = o.release_id
             WHERE r.product_id = $1 AND o.selector LIKE $2",
        )
        .bind(erasing.device.product_id)
        .bind(erasing.like())
        .all(&mut *self)
        .await?;
        for (id, selector) in rows {
            if let Some(selector) = erasing.redaction.json(&selector) {
                found += Sql::new("UPDATE rollout SET selector = $1 WHERE id = $2")
                    .bind(selector)
                    .bind(id)
                    .execute(&mut *self)
                    .await?;
            }
        }
        let rows: Vec<(RolloutId, i64, String)> =
            Sql::new("SELECT rollout_id, CAST(seq AS BIGINT), cause FROM rollout_transition WHERE cause LIKE $1")
                .bind(erasing.like())
                .all(&mut *self)
                .await?;
        for (id, seq, cause) in rows {
            if let Some(cause) = erasing.redaction.text(&cause) {
                found += Sql::new("UPDATE rollout_transition SET cause = $1 WHERE rollout_id = $2 AND seq = $3")
                    .bind(cause)
                    .bind(id)
                    .bind(seq)
                    .execute(&mut *self)
                    .await?;
            }
        }
        let rows: Vec<(FactId, String)> =
            Sql::new("SELECT id, reason FROM policy WHERE reason LIKE $1").bind(erasing.like()).all(&mut *self).await?;
        for (id, reason) in rows {
            if let Some(reason) = erasing.redaction.text(&reason) {
                found += Sql::new("UPDATE policy SET reason = $1 WHERE id = $2")
                    .bind(reason)
                    .bind(id)
                    .execute(&mut *self)
                    .await?;
            }
        }
        Ok(found)
    }

    async fn outbox_erase(&mut self, erasing: &Redacting<'_>) -> Result<u64> {
        let subject = format!("device:{}/{}", erasing.redaction.product, erasing.redaction.pseudonym);
        let (mut after, mut found) = (0, 0);
        loop {
            let rows: Vec<(i64, String, String, String)> = Sql::new(
                "SELECT seq, key, subject, data FROM outbox WHERE seq > $1 AND (subject LIKE $2 OR data LIKE $2 OR key LIKE $2)
                 ORDER BY seq LIMIT $3",
            )
            .bind(after)
            .bind(erasing.like())
            .bind(PAGE)
            .all(&mut *self)
            .await?;
            let Some((last, ..)) = rows.last() else { break };
            after = *last;
            for (seq, key, about, data) in &rows {
                let new = (erasing.redaction.text(key), erasing.redaction.text(about), erasing.redaction.json(data));
                if new == (None, None, None) {
                    continue;
                }
                found += Sql::new("UPDATE outbox SET key = $1, subject = $2, data = $3 WHERE seq = $4")
                    .bind(new.0.as_ref().unwrap_or(key))
                    .bind(new.1.as_ref().unwrap_or(about))
                    .bind(new.2.as_ref().unwrap_or(data))
                    .bind(*seq)
                    .execute(&mut *self)
                    .await?;
            }
        }
        found += Sql::new("UPDATE outbox SET customer_id = NULL WHERE subject = $1 AND customer_id IS NOT NULL")
            .bind(subject)
            .execute(self)
            .await?;
        Ok(found)
    }

    /// Rewrites the audit entries that name a device, under the hashes that they have; at most `limit`, else an error of the caller's
    /// making: nothing. The head is locked from here on, so that no entry is written meanwhile.
    pub async fn audit_redact(&mut self, erasing: &Redacting<'_>, limit: usize) -> Result<Option<Vec<Altered>>> {
        Sql::new("UPDATE audit_head SET seq = seq WHERE id = 1").bind_nothing().execute(&mut *self).await?;
        let (mut after, mut altered) = (0, Vec::new());
        loop {
            let rows: Vec<AuditEntry> = Sql::new(
                "SELECT seq, at, actor, action, subject, detail, prev_hash, hash FROM audit_entry
                 WHERE seq > $1 AND action <> $2 AND (subject LIKE $3 OR detail LIKE $3) ORDER BY seq LIMIT $4",
            )
            .bind(after)
            .bind(ERASE_DEVICE)
            .bind(erasing.like())
            .bind(PAGE)
            .all(&mut *self)
            .await?;
            let Some(last) = rows.last() else { return Ok(Some(altered)) };
            after = last.seq;
            for new in rows.iter().filter_map(|entry| erasing.redaction.entry(entry)) {
                if altered.len() == limit {
                    return Ok(None);
                }
                Sql::new("UPDATE audit_entry SET actor = $1, subject = $2, detail = $3 WHERE seq = $4")
                    .bind(&new.actor)
                    .bind(&new.subject)
                    .bind(&new.detail)
                    .bind(new.seq)
                    .execute(&mut *self)
                    .await?;
                altered.push(Altered { seq: new.seq, digest: new.content_hash() });
            }
        }
    }
}
