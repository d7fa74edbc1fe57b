//! One query, either engine.

use sea_query::{Value, Values};
use sea_query_sqlx::SqlxValues;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, FromRow};

use super::{Bind, Engine, Result, Store, Tx, TxInner};

/// A row type that both engines fill: `#[derive(sqlx::FromRow)]` makes one.
pub trait Row: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

impl<T> Row for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

/// Where a query runs: on a connection of its own, or inside a transaction.
pub enum On<'a> {
    /// A reader's connection.
    Store(&'a Store),
    /// A write transaction.
    Tx(&'a mut Tx),
}

impl<'a> From<&'a Store> for On<'a> {
    fn from(store: &'a Store) -> Self {
        Self::Store(store)
    }
}

impl<'a> From<&'a mut Tx> for On<'a> {
    fn from(tx: &'a mut Tx) -> Self {
        Self::Tx(tx)
    }
}

/// The same place again, for one query of several.
impl<'a> From<&'a mut On<'_>> for On<'a> {
    fn from(on: &'a mut On<'_>) -> Self {
        match on {
            On::Store(store) => On::Store(store),
            On::Tx(tx) => On::Tx(tx),
        }
    }
}

/// A query with its parameters.
#[derive(Debug)]
pub struct Sql {
    text: Text,
    values: Vec<Value>,
}

#[derive(Debug)]
enum Text {
    Static(&'static str),
    /// Put together from static pieces or by sea-query: never from what an outsider sent.
    Built(String),
}

macro_rules! run {
    ($self:ident, $on:ident, $query:ident => $do:expr) => {{
        let values = SqlxValues(Values($self.values));
        let on: On<'_> = $on.into();
        macro_rules! text {
            () => {
                match $self.text {
                    Text::Static(text) => sqlx::SqlSafeStr::into_sql_str(text),
                    Text::Built(text) => sqlx::SqlSafeStr::into_sql_str(AssertSqlSafe(text)),
                }
            };
        }
        match on {
            On::Store(store) => match &store.engine {
                Engine::Sqlite { read, .. } => {
                    let $query = (text!(), values, read);
                    $do
                }
                Engine::Postgres(pool) => {
                    let $query = (text!(), values, pool);
                    $do
                }
            },
            On::Tx(tx) => match &mut tx.inner {
                TxInner::Sqlite(tx) => {
                    let $query = (text!(), values, &mut **tx);
                    $do
                }
                TxInner::Postgres(tx) => {
                    let $query = (text!(), values, &mut **tx);
                    $do
                }
            },
        }
    }};
}

impl Sql {
    /// A query written in the program.
    pub const fn new(text: &'static str) -> Self {
        Self { text: Text::Static(text), values: Vec::new() }
    }

    /// A query put together by the program from its own pieces; every value goes through [`Sql::bind`].
    pub const fn built(text: String) -> Self {
        Self { text: Text::Built(text), values: Vec::new() }
    }

    /// The next parameter.
    #[must_use]
    pub fn bind(mut self, value: impl Bind) -> Self {
        self.values.push(value.bind());
        self
    }

    /// The next parameters, one for each place of a [`list`].
    #[must_use]
    pub fn bind_all<T: Bind>(mut self, values: impl IntoIterator<Item = T>) -> Self {
        self.values.extend(values.into_iter().map(Bind::bind));
        self
    }

    /// No parameters at all.
    #[must_use]
    pub const fn bind_nothing(self) -> Self {
        self
    }

    /// Every row. Callers bound their queries by `LIMIT` or by a key that is limited elsewhere.
    pub async fn all<'a, T: Row>(self, on: impl Into<On<'a>>) -> Result<Vec<T>> {
        Ok(run!(self, on, q => sqlx::query_as_with::<_, T, _>(q.0, q.1).fetch_all(q.2).await?))
    }

    /// The one row.
    pub async fn one<'a, T: Row>(self, on: impl Into<On<'a>>) -> Result<T> {
        Ok(run!(self, on, q => sqlx::query_as_with::<_, T, _>(q.0, q.1).fetch_one(q.2).await?))
    }

    /// The one row, if it is there.
    pub async fn optional<'a, T: Row>(self, on: impl Into<On<'a>>) -> Result<Option<T>> {
        Ok(run!(self, on, q => sqlx::query_as_with::<_, T, _>(q.0, q.1).fetch_optional(q.2).await?))
    }

    /// Runs it; the number of rows changed. On SQLite only inside a transaction: readers' connections never write.
    pub async fn execute<'a>(self, on: impl Into<On<'a>>) -> Result<u64> {
        Ok(run!(self, on, q => sqlx::query_with(q.0, q.1).execute(q.2).await?.rows_affected()))
    }
}

/// A value as the JSON text of a column.
pub fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| super::StoreError::Corrupt(error.to_string()))
}

/// `($1, $2, $3), ($4, …)`: places for bulk inserts of rows with this many columns.
pub fn places(rows: usize, columns: usize) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(rows * columns * 5);
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..columns {
            let _ = write!(text, "{}${}", if column == 0 { "" } else { ", " }, row * columns + column + 1);
        }
        text.push(')');
    }
    text
}

/// `$n, $n+1, …` for so many parameters.
pub fn list(first: usize, count: usize) -> String {
    (first..first + count).map(|place| format!("${place}")).collect::<Vec<_>>().join(", ")
}
