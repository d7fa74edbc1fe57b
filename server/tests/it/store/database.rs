//! A database for each test: a file for SQLite, a clone of a migrated template for PostgreSQL.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use sluice_server::store::Store;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;

/// Variable with the URL of a superuser of an empty server.
const URL_VARIABLE: &str = "SLUICE_TEST_POSTGRES";

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// An empty, migrated database that is gone when this is dropped.
#[derive(Debug)]
pub enum Database {
    Sqlite { folder: TempDir },
    Postgres { name: String },
}

impl Database {
    pub fn new(engine: Engine) -> Self {
        match engine {
            Engine::Sqlite => Self::Sqlite { folder: tempfile::tempdir().unwrap() },
            Engine::Postgres => {
                static COUNT: AtomicU32 = AtomicU32::new(0);
                let template = template();
                let name = format!("{template}_{}", COUNT.fetch_add(1, Ordering::Relaxed));
                administer(&format!("CREATE DATABASE {name} TEMPLATE {template}"));
                Self::Postgres { name }
            }
        }
    }

    /// As `--database` takes it.
    pub fn url(&self) -> String {
        match self {
            Self::Sqlite { folder } => format!("sqlite:{}", folder.path().join("sluice.db").display()),
            Self::Postgres { name } => url_of(name),
        }
    }

    /// The database, opened and migrated.
    pub async fn store(&self) -> Store {
        let store = Store::open(&self.url()).await.unwrap();
        store.migrate().await.unwrap();
        store
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Self::Postgres { name } = self {
            administer(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        }
    }
}

/// The server's URL with another database.
fn url_of(database: &str) -> String {
    let given = std::env::var(URL_VARIABLE)
        .unwrap_or_else(|_| panic!("{URL_VARIABLE} is not set: run `cargo xtask test`, which starts PostgreSQL"));
    let mut url = url::Url::parse(&given).unwrap();
    url.set_path(database);
    url.to_string()
}

/// The migrated template of this process, made by whichever test comes first.
fn template() -> &'static str {
    static TEMPLATE: OnceLock<String> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let name = format!("sluice_test_{}", std::process::id());
        administer(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        administer(&format!("CREATE DATABASE {name}"));
        block_on(async {
            let store = Store::open(&url_of(&name)).await.unwrap();
            store.migrate().await.unwrap();
            // A template with a connection cannot be cloned.
            store.close().await;
        });
        name
    })
}

/// Runs one statement on the server's own database.
fn administer(statement: &str) {
    block_on(async {
        let mut connection = PgConnection::connect(&url_of("postgres")).await.unwrap();
        connection
            .execute(AssertSqlSafe(statement.to_owned()))
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
        connection.close().await.unwrap();
    });
}

/// Runs on a thread of its own: the caller may be inside a runtime.
fn block_on<T: Send>(work: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        scope
            .spawn(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work))
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
