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
        let on: On<'_> = $on.into();
        match on {
            On::Store(store) => match &store.engine {
                Engine::Sqlite { read, .. } => {
                    let (text, values) = $self.for_sqlite().parts();
                    let $query = (text, values, read);
                    $do
                }
                Engine::Postgres(pool) => {
                    let (text, values) = $self.parts();
                    let $query = (text, values, pool);
                    $do
                }
            },
            On::Tx(tx) => match &mut tx.inner {
                TxInner::Sqlite(tx) => {
                    let (text, values) = $self.for_sqlite().parts();
                    let $query = (text, values, &mut **tx);
                    $do
                }
                TxInner::Postgres(tx) => {
                    let (text, values) = $self.parts();
                    let $query = (text, values, &mut **tx);
                    $do
                }
            },
        }
    }};
}

/// Parameters from which on SQLite gets them without their numbers.
const MANY: usize = 32;

impl Sql {
    /// What sqlx takes.
    fn parts(self) -> (sqlx::SqlStr, SqlxValues) {
        let text = match self.text {
            Text::Static(text) => sqlx::SqlSafeStr::into_sql_str(text),
            Text::Built(text) => sqlx::SqlSafeStr::into_sql_str(AssertSqlSafe(text)),
        };
        (text, SqlxValues(Values(self.values)))
    }

    /// To SQLite `$1` is a name. It is looked for among all names when it is written and again when it is bound, so the time grows with
    /// the square: nineteen of twenty parts of a large import were spent on that. Of many parameters each gets a `?` of its own.
    fn for_sqlite(self) -> Self {
        if self.values.len() < MANY {
            return self;
        }
        let text = match &self.text {
            Text::Static(text) => text,
            Text::Built(text) => text.as_str(),
        };
        match without_numbers(text, &self.values) {
            Some((text, values)) => Self { text: Text::Built(text), values },
            None => self,
        }
    }

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

/// The query with a `?` at each `$n` outside of literals, and the values in the order of these places: one that stands twice is there
/// twice. Nothing when a number is of no value, which the database then refuses by itself.
fn without_numbers(text: &str, values: &[Value]) -> Option<(String, Vec<Value>)> {
    let mut written = String::with_capacity(text.len());
    let mut in_order = Vec::with_capacity(values.len());
    // Every second piece is inside of a literal; a quotation mark in one is written twice and opens it again.
    for (piece, plain) in text.split('\'').enumerate() {
        if piece > 0 {
            written.push('\'');
        }
        if piece % 2 == 1 {
            written.push_str(plain);
            continue;
        }
        let mut parts = plain.split('$');
        written.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let digits = part.len() - part.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
            let (number, rest) = part.split_at(digits);
            let place: usize = number.parse().ok()?;
            in_order.push(values.get(place.checked_sub(1)?)?.clone());
            written.push('?');
            written.push_str(rest);
        }
    }
    Some((written, in_order))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: i64) -> Vec<Value> {
        (1..=count).map(Value::from).collect()
    }

    #[test]
    fn every_place_gets_its_own_value_and_literals_stay() {
        let (text, in_order) =
            without_numbers("SELECT 'it''s $2', $2 FROM a WHERE b IN ($1, $12) AND c = $2", &values(12)).unwrap();
        assert_eq!(text, "SELECT 'it''s $2', ? FROM a WHERE b IN (?, ?) AND c = ?");
        assert_eq!(in_order, [2i64, 1, 12, 2].map(Value::from));
    }

    #[test]
    fn rows_of_a_bulk_insert_keep_their_order() {
        let (text, in_order) = without_numbers(&format!("VALUES {}", places(20, 3)), &values(60)).unwrap();
        assert_eq!((text.matches('?').count(), text.contains('$')), (60, false));
        assert_eq!(in_order, values(60));
    }

    #[test]
    fn a_number_without_a_value_is_left_to_the_database() {
        for text in ["$3", "$0", "$", "$x", "$99999999999999999999999"] {
            assert_eq!(without_numbers(text, &values(2)), None, "{text}");
        }
    }
}
