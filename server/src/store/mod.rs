//! The database: SQLite or PostgreSQL behind one text of SQL.
//!
//! Queries are written once, with `$1` parameters, in the portable subset of both; [`Sql`] binds them and runs them on
//! whichever engine is configured. Migrations are paired files. Writers on SQLite share one connection and begin with
//! `BEGIN IMMEDIATE`, so that a writer waits instead of failing half-way. Nothing outside this module knows SQL.

mod approval;
mod attempt;
mod audience;
mod audit;
mod bind;
mod branch;
mod contract;
mod controls;
mod customer;
mod device;
mod document;
mod enrol;
mod erasure;
mod facts;
mod fleet;
mod held;
mod history;
mod import;
mod job;
mod lease;
mod loss;
mod notice;
mod outbox;
mod patch;
mod policy;
mod pool;
mod principal;
mod product;
mod progress;
mod registration;
mod release;
mod rollout;
mod series;
mod source;
mod sql;
mod status;
mod swap;
mod update;

pub use approval::ApprovalRow;
pub use attempt::Said;
pub use audience::Named;
pub use bind::Bind;
pub use branch::BranchDocument;
pub use contract::{NewItem, NewWindow};
pub use controls::Controls;
pub use device::{DeviceChoice, DeviceRow};
pub use document::{Document, Repository};
pub use erasure::Redacting;
pub use facts::{FactKind, MAX_ITEMS, contract_facts};
pub use fleet::{DeviceFilter, device_page, devices_of, failed_of, installed_of, places_of, policies_of, under_way_of};
pub use held::HeldRow;
pub use history::{DecisionRow, DeviceMoment};
pub use import::ContractHead;
pub use job::NewJob;
pub use notice::{ContractStory, NoticeItem};
pub use outbox::NewEvent;
pub use policy::PolicyRow;
pub use pool::{MemberRow, PoolRow};
pub use progress::Reaching;
pub use registration::CodeRow;
pub use release::ReleaseFactRow;
pub use rollout::Because;
pub use source::Told;
pub use sql::{On, Row, Sql};
pub use swap::{ItemRow, SwapRow};
pub use update::updates_of;

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{PgPool, Postgres, Sqlite, SqlitePool, Transaction};

/// Most parameters in one statement: SQLite takes 32,766.
pub const MAX_PARAMETERS: usize = 32_000;
/// Connections to PostgreSQL, and readers of SQLite.
const MAX_CONNECTIONS: u32 = 16;
/// How long a request waits for a connection before it is told to come back.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long SQLite waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// What the database said.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection, a time-out, or the server is stopping: the same request may go through later.
    #[error("the database is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// A unique key is taken.
    #[error("a unique key is taken")]
    Duplicate(#[source] sqlx::Error),
    /// Anything else: a fault of ours.
    #[error("the database refused")]
    Database(#[source] sqlx::Error),
    /// A stored value that this version cannot read.
    #[error("{0}")]
    Corrupt(String),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(db) if db.is_unique_violation() => Self::Duplicate(error),
            // PostgreSQL: too many connections, shutting down, serialisation or deadlock; SQLite: busy.
            sqlx::Error::Database(db)
                if db.code().is_some_and(|code| {
                    matches!(&*code, "53300" | "57P01" | "57P02" | "57P03" | "40001" | "40P01" | "5" | "517")
                }) =>
            {
                Self::Unavailable(error)
            }
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                Self::Unavailable(error)
            }
            _ => Self::Database(error),
        }
    }
}

/// The result of a query.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

#[derive(Clone, Debug)]
enum Engine {
    Sqlite { read: SqlitePool, write: SqlitePool },
    Postgres(PgPool),
}

/// The database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    engine: Engine,
}

/// A write transaction: rolled back unless committed.
pub struct Tx {
    inner: TxInner,
}

enum TxInner {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl Store {
    /// Opens `sqlite:PATH` (made when missing) or `postgres://…`. Does not migrate.
    pub async fn open(url: &str) -> Result<Self> {
        let engine = if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let options = PgConnectOptions::from_str(url)?.application_name("sluice-server");
            let pool = PgPoolOptions::new()
                .max_connections(MAX_CONNECTIONS)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .connect_with(options)
                .await?;
            Engine::Postgres(pool)
        } else {
            let options = SqliteConnectOptions::from_str(url)?
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                // Durable before answered: a commit survives a power cut, not only a crash of the process.
                .synchronous(SqliteSynchronous::Full)
                .foreign_keys(true)
                .busy_timeout(BUSY_TIMEOUT);
            let write = SqlitePoolOptions::new()
                .max_connections(1)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .connect_with(options.clone())
                .await?;
            let read = SqlitePoolOptions::new()
                .max_connections(MAX_CONNECTIONS)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .connect_with(options)
                .await?;
            Engine::Sqlite { read, write }
        };
        Ok(Self { engine })
    }

    /// Brings the schema up to date. Safe to run from several processes at once.
    pub async fn migrate(&self) -> Result<(), sqlx::migrate::MigrateError> {
        match &self.engine {
            Engine::Sqlite { write, .. } => sqlx::migrate!("migrations/sqlite").run(write).await,
            Engine::Postgres(pool) => sqlx::migrate!("migrations/postgres").run(pool).await,
        }
    }

    /// `sqlite` or `postgres`.
    pub const fn engine_name(&self) -> &'static str {
        match self.engine {
            Engine::Sqlite { .. } => "sqlite",
            Engine::Postgres(_) => "postgres",
        }
    }

    /// Begins a write transaction.
    pub async fn begin(&self) -> Result<Tx> {
        let inner = match &self.engine {
            Engine::Sqlite { write, .. } => TxInner::Sqlite(write.begin_with("BEGIN IMMEDIATE").await?),
            Engine::Postgres(pool) => TxInner::Postgres(pool.begin().await?),
        };
        Ok(Tx { inner })
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        Sql::new("SELECT 1").bind_nothing().execute(self).await.map(|_| ())
    }

    /// Closes every connection, after those in use are given back.
    pub async fn close(&self) {
        match &self.engine {
            Engine::Sqlite { read, write } => {
                read.close().await;
                write.close().await;
            }
            Engine::Postgres(pool) => pool.close().await,
        }
    }

    /// The text that makes a claiming `SELECT` skip rows that another worker is claiming.
    const fn skip_locked(&self) -> &'static str {
        match self.engine {
            // One writer at a time: nobody else can be claiming.
            Engine::Sqlite { .. } => "",
            Engine::Postgres(_) => " FOR UPDATE SKIP LOCKED",
        }
    }

    /// The generation of each noun: a snapshot in memory reloads when its noun's differs.
    pub async fn generations(&self) -> Result<Vec<(String, i64)>> {
        Sql::new("SELECT noun, value FROM generation").all(self).await
    }
}

impl Tx {
    /// Makes the changes durable.
    pub async fn commit(self) -> Result<()> {
        match self.inner {
            TxInner::Sqlite(tx) => tx.commit().await?,
            TxInner::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }

    /// Raises a noun's generation, so that every replica reloads its snapshot.
    pub async fn generation_raise(&mut self, noun: &'static str) -> Result<()> {
        Sql::new("UPDATE generation SET value = value + 1 WHERE noun = $1").bind(noun).execute(self).await.map(|_| ())
    }

    /// A setting of the installation.
    pub async fn meta_get(&mut self, key: &'static str) -> Result<Option<String>> {
        let row: Option<(String,)> = Sql::new("SELECT value FROM meta WHERE key = $1").bind(key).optional(self).await?;
        Ok(row.map(|(value,)| value))
    }

    /// Keeps a setting of the installation.
    pub async fn meta_put(&mut self, key: &'static str, value: &str) -> Result<()> {
        Sql::new("INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
            .bind(key)
            .bind(value)
            .execute(self)
            .await
            .map(|_| ())
    }
}
