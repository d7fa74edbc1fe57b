//! Systems that keep contracts elsewhere, and what each told last.

use sluice_catalog::contract::{KeptBy, Revision};
use sluice_catalog::facts::Known;
use sluice_catalog::id::ContractId;
use sluice_catalog::source::{Heard, Silence};
use sluice_catalog::text::Slug;
use sluice_catalog::{Digest, Time};

use super::sql::list;
use super::{MAX_PARAMETERS, On, Result, Sql, Store, Tx};

/// What a source told of a contract last.
#[derive(Clone, Debug)]
pub struct Told {
    /// The source and its revision.
    pub by: KeptBy,
    /// A digest of what it told.
    pub content: Option<Digest>,
}

#[derive(sqlx::FromRow)]
struct KeptRow {
    source: Slug,
    revised_at: Option<Time>,
    revision: Option<i64>,
    told: Option<Vec<u8>>,
}

async fn told<'a>(on: impl Into<On<'a>>, contract: ContractId) -> Result<Option<Told>> {
    let row: Option<KeptRow> = Sql::new(
        "SELECT source, revised_at, revision, told FROM contract_kept WHERE contract_id = $1 AND superseded_at IS NULL",
    )
    .bind(contract)
    .optional(on)
    .await?;
    Ok(row.map(|row| {
        let revision = row.revised_at.map(Revision::At).or(row.revision.map(Revision::Number));
        let content = row.told.and_then(|told| Digest::try_from(told).ok());
        Told { by: KeptBy { source: row.source, revision }, content }
    }))
}

const HEARD: &str = "SELECT s.name, s.announced_at, h.at, h.stale_after_ms, h.before_at, h.back_at FROM contract_source s \
                     JOIN source_heard h ON h.source = s.name AND h.superseded_at IS NULL";

#[derive(sqlx::FromRow)]
struct HeardRow {
    name: Slug,
    announced_at: Time,
    at: Time,
    stale_after_ms: Option<i64>,
    before_at: Option<Time>,
    back_at: Option<Time>,
}

impl HeardRow {
    /// With the silence that is over, as it is for a contract of which nothing was told since.
    fn heard(self) -> Heard {
        let silence = self.before_at.zip(self.back_at).map(|(before, back)| Silence { before, back });
        Heard { source: self.name, at: self.at, stale_after_ms: self.stale_after_ms, silence }
    }
}

#[derive(sqlx::FromRow)]
struct KnownHeard {
    contract_id: ContractId,
    source: Slug,
    at: Time,
    stale_after_ms: Option<i64>,
    before_at: Option<Time>,
    back_at: Option<Time>,
    recorded_at: Time,
    superseded_at: Option<Time>,
    kept_at: Time,
    kept_until: Option<Time>,
}

/// The sources that kept contracts, and when each was heard of: as it is now, or as it ever was.
pub(super) async fn contract_sources(
    on: &mut On<'_>,
    contracts: &[ContractId],
    all: bool,
) -> Result<Vec<(ContractId, Known<Heard>)>> {
    let now = if all { "" } else { "AND k.superseded_at IS NULL AND h.superseded_at IS NULL" };
    let rows: Vec<KnownHeard> = Sql::built(format!(
        "SELECT k.contract_id, h.source, h.at, h.stale_after_ms, h.before_at, h.back_at, h.recorded_at, h.superseded_at,
                k.recorded_at AS kept_at, k.superseded_at AS kept_until
         FROM contract_kept k JOIN source_heard h ON h.source = k.source WHERE k.contract_id IN ({}) {now}
         ORDER BY k.recorded_at, h.recorded_at",
        list(1, contracts.len())
    ))
    .bind_all(contracts.iter().copied())
    .all(on)
    .await?;
    let known = |row: KnownHeard| {
        // What was told during a silence that was not told to its end is known from then on.
        let silence = row.before_at.zip(row.back_at).filter(|(_, back)| row.kept_at < *back);
        let silence = silence.map(|(before, back)| Silence { before: before.max(row.kept_at), back });
        let heard = Heard { source: row.source, at: row.at, stale_after_ms: row.stale_after_ms, silence };
        let heard = Known { fact: heard, recorded_at: row.recorded_at, superseded_at: row.superseded_at };
        let kept = Known { fact: (), recorded_at: row.kept_at, superseded_at: row.kept_until };
        Some((row.contract_id, kept.with(&heard, |(), heard| heard.clone())?))
    };
    Ok(rows.into_iter().filter_map(known).collect())
}

impl Store {
    /// Sources after a name, in the order of names.
    pub async fn source_list(&self, after: &str, limit: u32) -> Result<Vec<Heard>> {
        let rows: Vec<HeardRow> = Sql::built(format!("{HEARD} WHERE s.name > $1 ORDER BY s.name LIMIT $2"))
            .bind(after)
            .bind(i64::from(limit))
            .all(self)
            .await?;
        Ok(rows.into_iter().map(HeardRow::heard).collect())
    }

    /// What the source of a contract told last.
    pub async fn contract_told(&self, contract: ContractId) -> Result<Option<Told>> {
        told(self, contract).await
    }
}

impl Tx {
    /// What the source of a contract told last.
    pub async fn contract_told(&mut self, contract: ContractId) -> Result<Option<Told>> {
        told(self, contract).await
    }

    /// Keeps what a source told of a contract; what it told before is superseded when it is another source, else it goes on.
    pub async fn contract_told_put(&mut self, contract: ContractId, told: &Told, at: Time) -> Result<()> {
        let (revised_at, revision) = match told.by.revision {
            Some(Revision::At(at)) => (Some(at), None),
            Some(Revision::Number(number)) => (None, Some(number)),
            None => (None, None),
        };
        let content = told.content.map(|digest| digest.0.to_vec());
        let updated = Sql::new(
            "UPDATE contract_kept SET revised_at = $1, revision = $2, told = $3
             WHERE contract_id = $4 AND source = $5 AND superseded_at IS NULL",
        )
        .bind(revised_at)
        .bind(revision)
        .bind(content.clone())
        .bind(contract)
        .bind(&told.by.source)
        .execute(&mut *self)
        .await?;
        if updated > 0 {
            return Ok(());
        }
        Sql::new("UPDATE contract_kept SET superseded_at = $1 WHERE contract_id = $2 AND superseded_at IS NULL")
            .bind(at)
            .bind(contract)
            .execute(&mut *self)
            .await?;
        Sql::new(
            "INSERT INTO contract_kept (contract_id, source, revised_at, revision, told, recorded_at)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(contract)
        .bind(&told.by.source)
        .bind(revised_at)
        .bind(revision)
        .bind(content)
        .bind(at)
        .execute(self)
        .await
        .map(|_| ())
    }

    /// Locks a source until the transaction ends.
    pub async fn source_lock(&mut self, name: &Slug) -> Result<()> {
        Sql::new("UPDATE contract_source SET created_at = created_at WHERE name = $1")
            .bind(name)
            .execute(self)
            .await
            .map(|_| ())
    }

    /// Enters a source that was not known before; false when it was.
    pub async fn source_add(&mut self, name: &Slug, at: Time) -> Result<bool> {
        let rows = Sql::new(
            "INSERT INTO contract_source (name, created_at, announced_at) VALUES ($1, $2, $2) ON CONFLICT (name) DO NOTHING",
        )
        .bind(name)
        .bind(at)
        .execute(&mut *self)
        .await?;
        if rows == 1 {
            self.heard_add(&Heard { source: name.clone(), at, stale_after_ms: None, silence: None }, at).await?;
        }
        Ok(rows == 1)
    }

    /// When a source was last heard of, and what copies in memory know of that.
    pub async fn source_get(&mut self, name: &Slug) -> Result<Option<(Heard, Time)>> {
        let row: Option<HeardRow> = Sql::built(format!("{HEARD} WHERE s.name = $1")).bind(name).optional(self).await?;
        Ok(row.map(|row| {
            let announced_at = row.announced_at;
            (row.heard(), announced_at)
        }))
    }

    /// Goes on with the time in which a source is heard of.
    pub async fn heard_on(&mut self, name: &Slug, at: Time) -> Result<()> {
        Sql::new("UPDATE source_heard SET at = $1 WHERE source = $2 AND superseded_at IS NULL AND at < $1")
            .bind(at)
            .bind(name)
            .execute(self)
            .await
            .map(|_| ())
    }

    /// Begins another time, after a silence or under another setting.
    pub async fn heard_anew(&mut self, heard: &Heard, at: Time) -> Result<()> {
        Sql::new("UPDATE source_heard SET superseded_at = $1 WHERE source = $2 AND superseded_at IS NULL")
            .bind(at)
            .bind(&heard.source)
            .execute(&mut *self)
            .await?;
        self.heard_add(heard, at).await
    }

    async fn heard_add(&mut self, heard: &Heard, at: Time) -> Result<()> {
        Sql::new(
            "INSERT INTO source_heard (source, stale_after_ms, at, recorded_at, before_at, back_at)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(&heard.source)
        .bind(heard.stale_after_ms)
        .bind(heard.at)
        .bind(at)
        .bind(heard.silence.map(|silence| silence.before))
        .bind(heard.silence.map(|silence| silence.back))
        .execute(self)
        .await
        .map(|_| ())
    }

    /// Tells copies in memory, on every replica, when a source was last heard of.
    pub async fn source_announce(&mut self, name: &Slug, at: Time) -> Result<()> {
        Sql::new("UPDATE contract_source SET announced_at = $1 WHERE name = $2")
            .bind(at)
            .bind(name)
            .execute(&mut *self)
            .await?;
        self.generation_raise("devices").await
    }

    /// Notes that a source told these contracts, for the first time since it came back; those of which that is true. What it told in a row
    /// goes on as one.
    pub async fn contracts_told(
        &mut self,
        contracts: &[ContractId],
        source: &Slug,
        at: Time,
    ) -> Result<Vec<ContractId>> {
        let mut told = Vec::new();
        for chunk in contracts.chunks(MAX_PARAMETERS / 2) {
            let rows: Vec<(ContractId,)> = Sql::built(format!(
                "SELECT k.contract_id FROM contract_kept k JOIN source_heard h ON h.source = k.source AND h.superseded_at IS NULL
                 WHERE k.superseded_at IS NULL AND k.source = $1 AND h.back_at > k.recorded_at AND k.contract_id IN ({})",
                list(2, chunk.len())
            ))
            .bind(source)
            .bind_all(chunk.iter().copied())
            .all(&mut *self)
            .await?;
            let ids: Vec<ContractId> = rows.into_iter().map(|(id,)| id).collect();
            if ids.is_empty() {
                continue;
            }
            Sql::built(format!(
                "UPDATE contract_kept SET superseded_at = $1 WHERE superseded_at IS NULL AND contract_id IN ({})",
                list(2, ids.len())
            ))
            .bind(at)
            .bind_all(ids.iter().copied())
            .execute(&mut *self)
            .await?;
            Sql::built(format!(
                "INSERT INTO contract_kept (contract_id, source, revised_at, revision, told, recorded_at)
                 SELECT contract_id, source, revised_at, revision, told, CAST($1 AS BIGINT) FROM contract_kept
                 WHERE superseded_at = $1 AND contract_id IN ({})",
                list(2, ids.len())
            ))
            .bind(at)
            .bind_all(ids.iter().copied())
            .execute(&mut *self)
            .await?;
            told.extend(ids);
        }
        Ok(told)
    }

    /// Marks contracts as kept by a source, but for those that one keeps already.
    pub async fn contracts_kept(&mut self, contracts: &[ContractId], source: &Slug, at: Time) -> Result<()> {
        for chunk in contracts.chunks(MAX_PARAMETERS / 2) {
            let mut sql = Sql::built(format!(
                "INSERT INTO contract_kept (contract_id, source, recorded_at)
                 SELECT c.id, CAST($1 AS TEXT), CAST($2 AS BIGINT) FROM contract c WHERE c.id IN ({})
                 AND NOT EXISTS (SELECT 1 FROM contract_kept k WHERE k.contract_id = c.id AND k.superseded_at IS NULL)",
                list(3, chunk.len())
            ))
            .bind(source)
            .bind(at);
            for id in chunk {
                sql = sql.bind(*id);
            }
            sql.execute(&mut *self).await?;
        }
        Ok(())
    }
}
