//! The real application in this process, on a free port.

use std::path::PathBuf;
use std::sync::Arc;

use sluice_catalog::Time;
use sluice_server::app::App;
use sluice_server::clock::Clock;
use sluice_server::config::Settings;
use sluice_server::store::{DeviceChoice, Repository};
use sluice_server::{jobs, serve, setup};
use sluice_signer::limits::NEWEST_EPOCH;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::http::Client;
use super::s3::S3;
use super::{Database, Engine};

/// Jobs that one call of [`TestServer::run_jobs`] runs at most: a job that never ends is found.
const MAX_JOBS: usize = 500;
/// Looks at the timestamp, 50 ms apart, before a test says that nobody signs it.
const MAX_LOOKS: usize = 200;

/// Where blobs are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Local,
    S3,
}

/// A running server. Jobs run when the test says so.
pub struct TestServer {
    pub app: Arc<App>,
    pub clock: Clock,
    pub url: String,
    data: TempDir,
    handle: actix_web::dev::ServerHandle,
    serving: Option<tokio::task::JoinHandle<()>>,
    // In this order: the runtime ends before the S3 server's folder and the database go.
    runtime: Runtime,
    s3: Option<S3>,
    database: Option<Database>,
}

impl TestServer {
    /// On this database and a local folder.
    pub fn start(engine: Engine) -> Self {
        Self::start_on(engine, Place::Local)
    }

    pub fn start_on(engine: Engine, place: Place) -> Self {
        Self::start_with(Database::new(engine), place, tempfile::tempdir().unwrap(), Clock::default())
    }

    /// On what another server has left behind.
    pub fn start_with(database: Database, place: Place, data: TempDir, clock: Clock) -> Self {
        Self::start_knowing(NEWEST_EPOCH, database, place, data, clock)
    }

    /// Behind a proxy that says who asks, with so many questions a minute from one address.
    pub fn start_trusting(engine: Engine, header: &str, asks_per_minute: u32) -> Self {
        let more = Settings { client_address_header: Some(header.to_owned()), asks_per_minute, ..Settings::default() };
        let data = tempfile::tempdir().unwrap();
        Self::start_set(more, Database::new(engine), Place::Local, data, Clock::default())
    }

    /// On which every rollout must ask for so many approvals.
    pub fn start_approving(engine: Engine, min_approvals: u8) -> Self {
        let more = Settings { min_approvals, ..Settings::default() };
        let data = tempfile::tempdir().unwrap();
        Self::start_set(more, Database::new(engine), Place::Local, data, Clock::default())
    }

    /// The same on what another server has left behind.
    pub fn start_approving_with(min_approvals: u8, database: Database, data: TempDir, clock: Clock) -> Self {
        Self::start_set(Settings { min_approvals, ..Settings::default() }, database, Place::Local, data, clock)
    }

    /// One more server on the same database, without surfaces and timers: it looks when it is told to.
    pub fn replica(&self) -> Arc<App> {
        let settings = Settings { database: self.database_url(), ..Settings::default() };
        let settings = settings.resolve(self.folder()).unwrap();
        self.block_on(setup::app(&settings, self.folder(), self.clock.clone())).unwrap()
    }

    /// The same as a later program, whose verifier knows this signing epoch.
    pub fn start_knowing(newest_epoch: u64, database: Database, place: Place, data: TempDir, clock: Clock) -> Self {
        Self::start_set(Settings { newest_epoch, ..Settings::default() }, database, place, data, clock)
    }

    fn start_set(settings: Settings, database: Database, place: Place, data: TempDir, clock: Clock) -> Self {
        // What a failed request does not tell its client stands in the log, which a failed test shows.
        let _ = tracing_subscriber::fmt().with_max_level(tracing::Level::ERROR).with_test_writer().try_init();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let s3 = (place == Place::S3).then(|| S3::start(&runtime));
        let settings = Settings {
            listen: "127.0.0.1:0".into(),
            database: database.url(),
            blobs: if s3.is_some() { S3::place() } else { "blobs".into() },
            ..settings
        };
        let settings = settings.resolve(data.path()).unwrap();
        let options = s3.as_ref().map(S3::options);
        let options = options.as_ref().map_or(&[][..], |options| &options[..]);
        let app = runtime.block_on(setup::app_with(&settings, data.path(), clock.clone(), options)).unwrap();
        let running = {
            let _inside = runtime.enter();
            serve::start(&app, &settings, false).unwrap()
        };
        let (url, handle) = (running.url.clone(), running.handle());
        let serving = runtime.spawn(async move { running.run_until_stopped().await.unwrap() });
        Self { app, clock, url, data, handle, serving: Some(serving), runtime, s3, database: Some(database) }
    }

    /// A client without a token.
    pub fn client(&self) -> Client {
        Client::new(&self.url)
    }

    pub fn bootstrap_token(&self) -> String {
        std::fs::read_to_string(self.data.path().join("bootstrap-token")).unwrap()
    }

    /// Its data folder.
    pub fn folder(&self) -> &std::path::Path {
        self.data.path()
    }

    pub fn database_url(&self) -> String {
        self.database.as_ref().expect("a database until it stops").url()
    }

    /// The file of a blob.
    pub fn blob_file(&self, digest: sluice_catalog::Digest) -> PathBuf {
        let root = self.s3.as_ref().map_or_else(|| self.data.path().join("blobs"), S3::blobs);
        let name = digest.to_string();
        root.join("sha256").join(&name[..2]).join(name)
    }

    /// Files in the blob store, finished or not.
    pub fn blob_files(&self) -> Vec<String> {
        fn walk(folder: &std::path::Path, found: &mut Vec<String>) {
            let Ok(entries) = std::fs::read_dir(folder) else { return };
            for entry in entries {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found);
                } else {
                    found.push(path.file_name().unwrap().to_string_lossy().into_owned());
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.s3.as_ref().map_or_else(|| self.data.path().join("blobs"), S3::blobs), &mut found);
        found.sort();
        found
    }

    pub fn now(&self) -> Time {
        self.clock.now()
    }

    pub fn timestamp(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_second(self.now().as_s()).unwrap()
    }

    /// Moves the server's clock and lets it look at the database, as its timer does.
    pub fn advance_s(&self, seconds: i64) {
        self.clock.advance_ms(seconds * 1000);
        self.block_on(async { self.app.refresh().await.unwrap() });
    }

    /// Moves the clock to where the timestamp is due, and has it signed again. The server's own publisher looks now and then, too:
    /// whichever of the two signs, the version rises.
    pub fn advance_until_signed_s(&self, seconds: i64) {
        let version = || {
            let documents = self.block_on(self.app.store.document_latest(Repository::Image)).unwrap();
            documents.iter().find(|document| document.role == "timestamp").unwrap().version
        };
        let before = version();
        self.advance_s(seconds);
        for _ in 0..MAX_LOOKS {
            self.block_on(self.app.publisher_tick()).unwrap();
            if version() > before {
                self.block_on(self.app.refresh()).unwrap();
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("version {before} of the timestamp stands {seconds} s later");
    }

    pub fn block_on<F: Future>(&self, work: F) -> F::Output {
        self.runtime.block_on(work)
    }

    /// Runs jobs until none is due. Jobs that wait for a moment get it.
    pub fn run_jobs(&self) {
        self.block_on(async {
            for _ in 0..MAX_JOBS {
                if !jobs::step(&self.app, "test").await.unwrap() {
                    let (.., pending, _) = self.app.store.counts().await.unwrap();
                    if pending == 0 {
                        return;
                    }
                    self.clock.advance_ms(1000);
                }
            }
            panic!("jobs do not end: {:?}", self.app.store.job_list(None, None, 50).await.unwrap());
        });
    }

    /// Everything that a refused request must leave alone.
    pub fn state(&self) -> serde_json::Value {
        self.block_on(async {
            let store = &self.app.store;
            let mut documents = Vec::new();
            for repository in [Repository::Image, Repository::Director] {
                for document in store.document_latest(repository).await.unwrap() {
                    documents.push((document.repository, document.role, document.version));
                }
            }
            let mut devices = Vec::new();
            for device in store.device_list(&DeviceChoice::default(), None, 500).await.unwrap() {
                let attempts = store.attempt_list(device.id, 20).await.unwrap();
                devices.push((store.installed_list(device.id).await.unwrap(), attempts, device));
            }
            let mut contracts = Vec::new();
            for contract in store.contract_list(None, "", 500).await.unwrap() {
                let windows = store.window_list(contract.id, 500).await.unwrap();
                contracts.push((windows, store.item_list(contract.id, 500).await.unwrap(), contract));
            }
            serde_json::json!({
                "documents": documents,
                "audit": store.audit_list(0, 10_000).await.unwrap().len(),
                "products": store.product_all().await.unwrap(),
                "releases": store.release_all().await.unwrap(),
                "rollouts": store.rollout_all().await.unwrap(),
                "devices": devices,
                "contracts": contracts,
                "principals": store.principal_list("", 500).await.unwrap(),
                "enrol_tokens": store.enrol_token_list(None, 500).await.unwrap(),
                "jobs": store.job_list(None, None, 500).await.unwrap(),
                "blobs": self.blob_files(),
            })
        })
    }

    /// Runs something that is refused, and checks that it changed nothing.
    #[track_caller]
    pub fn unchanged<T>(&self, request: impl FnOnce() -> T) -> T {
        let before = self.state();
        let answer = request();
        assert_eq!(before, self.state(), "a refused request changed something");
        answer
    }

    /// Stops gracefully; what it leaves behind, for the next server.
    pub fn stop(mut self) -> (Database, TempDir) {
        self.end();
        let database = self.database.take().expect("a database until it stops");
        (database, std::mem::replace(&mut self.data, tempfile::tempdir().unwrap()))
    }

    fn end(&mut self) {
        if let Some(serving) = self.serving.take() {
            let stopped = self.runtime.block_on(async {
                self.handle.stop(false).await;
                serving.await
            });
            assert!(stopped.is_ok() || std::thread::panicking(), "the server did not end well");
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.end();
    }
}
