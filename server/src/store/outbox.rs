//! The outbox: what is to be told, in one sequence. Who writes locks its head, so that numbers are committed in their order and a
//! reader that goes on after a number misses nothing.

use std::fmt::Write as _;

use sluice_catalog::Time;
use sluice_catalog::id::CustomerId;
use sluice_catalog::text::Slug;
use sluice_catalog::wire::event::{Event, EventData};

use super::sql::{json, places};
use super::{Result, Sql, Store, StoreError, Tx};

/// Events dropped in one transaction when they are old enough: more would hold the database for seconds.
const MAX_PRUNED: i64 = 10_000;
/// Keys asked for in one query.
const MAX_KEYS: usize = 500;

/// An event to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// Kind, subject and moment: written once.
    pub key: String,
    /// What it is about.
    pub subject: String,
    /// Whose it is.
    pub customer_id: Option<CustomerId>,
    /// The moment it tells of.
    pub at: Time,
    /// What happened.
    pub data: EventData,
}

impl NewEvent {
    /// An event, told once for its kind, subject and the moment that `boundary` names.
    pub fn new(
        subject: String,
        boundary: impl std::fmt::Display,
        customer_id: Option<CustomerId>,
        at: Time,
        data: EventData,
    ) -> Self {
        Self { key: format!("{}|{subject}|{boundary}", data.kind()), subject, customer_id, at, data }
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    seq: i64,
    kind: String,
    subject: String,
    customer: Option<Slug>,
    at: Time,
    data: String,
    created_at: Time,
}

impl Row {
    fn event(self) -> Result<Event> {
        let corrupt = |error: serde_json::Error| StoreError::Corrupt(format!("outbox {}: {error}", self.seq));
        let data: serde_json::Value = serde_json::from_str(&self.data).map_err(corrupt)?;
        let data: EventData =
            serde_json::from_value(serde_json::json!({"kind": self.kind, "data": data})).map_err(corrupt)?;
        let Self { seq, subject, customer, at, created_at, .. } = self;
        Ok(Event { seq, subject, customer, at, created_at, data })
    }
}

impl Store {
    /// Events after a number, of one kind or customer or of all.
    pub async fn outbox_list(
        &self,
        after: i64,
        kind: Option<&str>,
        customer: Option<CustomerId>,
        limit: u32,
    ) -> Result<Vec<Event>> {
        let mut text = "SELECT o.seq, o.kind, o.subject, c.name AS customer, o.at, o.data, o.created_at
                        FROM outbox o LEFT JOIN customer c ON c.id = o.customer_id WHERE o.seq > $1"
            .to_owned();
        let mut place = 2;
        for (column, given) in [("o.kind", kind.is_some()), ("o.customer_id", customer.is_some())] {
            if given {
                let _ = write!(text, " AND {column} = ${place}");
                place += 1;
            }
        }
        let _ = write!(text, " ORDER BY o.seq LIMIT ${place}");
        let mut sql = Sql::built(text).bind(after);
        if let Some(kind) = kind {
            sql = sql.bind(kind);
        }
        if let Some(customer) = customer {
            sql = sql.bind(customer);
        }
        let rows: Vec<Row> = sql.bind(i64::from(limit)).all(self).await?;
        rows.into_iter().map(Row::event).collect()
    }

    /// The newest number.
    pub async fn outbox_newest(&self) -> Result<i64> {
        let (seq,): (i64,) = Sql::new("SELECT seq FROM outbox_head WHERE id = 1").bind_nothing().one(self).await?;
        Ok(seq)
    }

    /// Which of these keys are written.
    pub async fn outbox_there(&self, keys: &[String]) -> Result<Vec<String>> {
        let mut there = Vec::new();
        for chunk in keys.chunks(MAX_KEYS) {
            let mut sql = Sql::built(format!("SELECT key FROM outbox WHERE key IN {}", places(1, chunk.len())));
            for key in chunk {
                sql = sql.bind(key);
            }
            let rows: Vec<(String,)> = sql.all(self).await?;
            there.extend(rows.into_iter().map(|(key,)| key));
        }
        Ok(there)
    }
}

impl Tx {
    /// Writes events in their order; those whose key is there already change nothing. How many were new. The last thing that a
    /// transaction does: the head is locked from here on.
    pub async fn outbox_add(&mut self, events: &[NewEvent], now: Time) -> Result<u64> {
        if events.is_empty() {
            return Ok(0);
        }
        let (head,): (i64,) = Sql::new("UPDATE outbox_head SET seq = seq WHERE id = 1 RETURNING seq")
            .bind_nothing()
            .one(&mut *self)
            .await?;
        let mut seq = head;
        for event in events {
            let data = serde_json::to_value(&event.data).map_err(|error| StoreError::Corrupt(error.to_string()))?;
            let rows = Sql::new(
                "INSERT INTO outbox (seq, key, kind, subject, customer_id, at, data, created_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (key) DO NOTHING",
            )
            .bind(seq + 1)
            .bind(&event.key)
            .bind(event.data.kind())
            .bind(&event.subject)
            .bind(event.customer_id)
            .bind(event.at)
            .bind(json(data.get("data").unwrap_or(&serde_json::Value::Null))?)
            .bind(now)
            .execute(&mut *self)
            .await?;
            seq += i64::from(rows == 1);
        }
        Sql::new("UPDATE outbox_head SET seq = $1 WHERE id = 1").bind(seq).execute(self).await?;
        Ok(u64::try_from(seq - head).unwrap_or(0))
    }

    /// Drops events that were written before a moment; how many.
    pub async fn outbox_prune(&mut self, before: Time) -> Result<u64> {
        Sql::new("DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox WHERE created_at < $1 ORDER BY seq LIMIT $2)")
            .bind(before)
            .bind(MAX_PRUNED)
            .execute(self)
            .await
    }
}
