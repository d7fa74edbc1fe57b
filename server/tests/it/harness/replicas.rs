//! Several servers without surfaces on one database, each of which looks at it when it is told to.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sluice_catalog::wire::publish::{PublishDocument, PublishRepository};
use sluice_server::app::{Actor, App};
use sluice_server::clock::{Clock, Dice};
use sluice_server::config::Settings;
use sluice_server::error::Error;
use sluice_server::keys::Keys;
use sluice_server::setup;
use sluice_server::store::Repository;
use sluice_signer::publish::Repository as Signed;
use sluice_signer::{NamedKeys, NewDocument};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::ceremony::bytes_of;
use super::process::Process;
use super::{Ceremony, Database, Engine};

/// Replicas on one database and one folder of keys, without timers: each looks when it is told to.
pub struct Replicas {
    pub runtime: Runtime,
    pub data: TempDir,
    pub database: Database,
    pub ceremony: Ceremony,
}

impl Replicas {
    /// With both roots and an empty top document, published when this clock says so.
    pub fn new(engine: Engine, clock: &Clock) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (data, database) = (tempfile::tempdir().unwrap(), Database::new(engine));
        let keys = Keys::load(&data.path().join("keys"), true, Dice).unwrap();
        let now = jiff::Timestamp::from_second(clock.now().as_s()).unwrap();
        let ceremony = Ceremony { online: keys.online(&NamedKeys::default()).unwrap(), now, epoch: 1 };
        let replicas = Self { runtime, data, database, ceremony };
        let app = replicas.start(clock);
        let documents =
            [replicas.ceremony.image_root(1), replicas.ceremony.director_root(1), replicas.ceremony.top(1, &[])];
        replicas.publish(&app, &documents).unwrap();
        replicas
    }

    pub fn publish(&self, app: &App, documents: &[PublishDocument]) -> Result<(), Error> {
        let new = documents.iter().map(|document| NewDocument {
            repository: match document.repository {
                PublishRepository::Image => Signed::Image,
                PublishRepository::Director => Signed::Director,
            },
            role: document.role.clone(),
            version: document.version,
            bytes: bytes_of(document),
        });
        self.runtime.block_on(app.publish(&Actor::Server, new.collect())).map(drop)
    }

    pub fn keys(&self) -> PathBuf {
        self.data.path().join("keys")
    }

    pub fn start(&self, clock: &Clock) -> Arc<App> {
        self.start_in(self.data.path(), clock).unwrap()
    }

    /// One whose data folder, with the keys, is another one.
    pub fn start_in(&self, data: &Path, clock: &Clock) -> anyhow::Result<Arc<App>> {
        let settings = Settings { database: self.database.url(), ..Settings::default() };
        let settings = settings.resolve(data).unwrap();
        self.runtime.block_on(setup::app(&settings, data, clock.clone()))
    }

    pub fn tick(&self, app: &App) -> bool {
        self.runtime.block_on(app.publisher_tick()).unwrap()
    }

    /// The newest versions of timestamp and snapshot.
    pub fn versions(&self, app: &App) -> (i64, i64) {
        let documents = self.runtime.block_on(app.store.document_latest(Repository::Image)).unwrap();
        let version = |role: &str| documents.iter().find(|document| document.role == role).unwrap().version;
        (version("timestamp"), version("snapshot"))
    }

    /// A data folder for one more process, which uses the keys of all.
    pub fn folder(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let settings = format!("keys = {:?}\nworker_threads = 0\n", self.keys().to_str().unwrap());
        std::fs::write(folder.path().join("sluice.toml"), settings).unwrap();
        folder
    }

    pub fn process(&self, folder: &Path, failpoint: &str) -> Process {
        Process::spawn(folder, &self.database.url(), failpoint)
    }
}
